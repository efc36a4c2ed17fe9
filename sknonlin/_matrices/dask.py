"""Dask arrays as matrices that are computed block by block, and never gathered."""

import math
import operator
import sys
from contextlib import nullcontext
from itertools import chain

import numpy as np
import torch
from sklearn import get_config

from sknonlin._matrices.stack import MatrixStack, check_device_dtype, working_dtypes
from sknonlin._running.memory import limited
from sknonlin._running.torch_settings import full_precision, resolve_device
from sknonlin._running.validation import check_real

MERGED = 8  # results that one task joins


def is_dask_array(X):
    """Whether X is a Dask array; Dask is not imported for that."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(X, module.Array)


def checked_array(X, name="X"):
    """Return a Dask array of known shape, with all columns in one chunk.

    Raises
    ------
    ValueError
        If the number of rows is not known, or 0, or the numbers are complex.
    TypeError
        If there are no numbers in it.
    """
    check_real(X.dtype, name)
    if np.isnan(X.shape).any():
        raise ValueError(
            f"{name} is a Dask array of unknown chunk sizes {X.chunks}. Call "
            f"{name}.compute_chunk_sizes() first."
        )
    if 0 in X.shape:
        raise ValueError(
            f"{name} is empty: a Dask array of shape {X.shape}. Give at least 1 sample."
        )
    if X.ndim == 2 and len(X.chunks[1]) > 1:
        return X.rechunk({1: -1})
    return X


def refuse_dask_frames(X, name="X"):
    """Raise a TypeError for a Dask DataFrame, with what to pass instead."""
    module = type(X).__module__
    if module.startswith("dask") and not is_dask_array(X) and hasattr(X, "to_dask_array"):
        raise TypeError(
            f"{name} is a Dask {type(X).__name__}, which has no known length. Pass "
            f"{name}.to_dask_array(lengths=True)."
        )


def activation_stack(X, device, index=None, verbose=0):
    """Stack of activations, of which NumPy's float16 becomes float64."""
    return MatrixStack(X, device, index=index, float16=torch.float64, verbose=verbose)


def nested(function, *results):
    """Apply a function to the tensors of results, which are tuples of them; join lists."""
    first = results[0]
    if isinstance(first, torch.Tensor):
        return function(*results)
    if isinstance(first, list):
        return list(chain.from_iterable(results))
    parts = [nested(function, *parts) for parts in zip(*results, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def answer_block(block, pieces, function, combine, arguments, width, device, memory):
    """Results for the rows of one block, by the number of the matrix.

    ``pieces`` are the numbers of matrices, with their rows of the block (None: all).
    Without a function, they are these rows.
    """
    results = {}
    with limited(memory), full_precision():
        for number, rows in pieces:
            chosen = None if rows is None else rows[None]
            stack = activation_stack(block, device, index=chosen)
            if function is None:
                results[number] = [stack.rows()[0].cpu()]
            else:
                own = [argument[number, None] for argument in arguments]
                found = stack.fold(function, combine, own, width)
                results[number] = nested(torch.Tensor.cpu, found)
    return results


def merge_answers(answers, combine):
    """Join the results of blocks that follow each other."""
    merged = {}
    for answer in answers:
        for number, result in answer.items():
            before = merged.get(number)
            merged[number] = result if before is None else combine(before, result)
    return merged


class DaskStack:
    """The rows of a Dask array, or those of each of several classes, as a stack.

    It answers as :class:`MatrixStack` does, by one task for every block, and tasks that
    join their results; one pass over the array serves all its matrices. They may be of
    different heights, of which ``n`` is the largest.

    Parameters
    ----------
    X : dask.array.Array of shape (n, q)
    device : str or torch.device
        Where the tasks compute.
    members : list of ndarray of int, default=None
        Increasing row numbers of every matrix; None: one matrix of all rows.
    verbose : int
        Above 0, progress bars.
    """

    name = "X"

    def __init__(self, X, device="auto", members=None, verbose=0):
        self._X = X
        self._device = device
        self._members = [None] if members is None else members
        self.n = len(X) if members is None else max(map(len, members))
        self.q = X.shape[1]
        self.dtype = working_dtypes(X, torch.float64)[0]
        self.device = resolve_device(device)
        check_device_dtype(self.device, self.dtype, self.name)
        self.verbose = verbose

    @property
    def heights(self):
        """Number of rows of every matrix."""
        sizes = [self.n if rows is None else len(rows) for rows in self._members]
        return torch.tensor(sizes, device="cpu")

    @property
    def n_matrices(self):
        """Number of matrices."""
        return len(self._members)

    def part(self, matrices):
        """Take some of the matrices, a slice of them."""
        members = self._members[matrices]
        members = None if members[0] is None else members
        return DaskStack(self._X, self._device, members, self.verbose)

    def most_together(self, matrix_bytes):
        """How many matrices to learn from together: all, for which a pass is the same."""
        return math.inf

    def fold(self, function, combine, arguments=(), width=0, description="rows"):
        """Reduce the rows of every matrix, see :meth:`MatrixStack.fold`."""
        found = self._answers(self._members, combine, function, arguments, width)
        return nested(lambda *parts: torch.cat(parts), *found)

    def rows(self):
        """Take all rows of matrices of one height, (n_matrices, n, q)."""
        return self.take(torch.arange(self.n, device="cpu").expand(self.n_matrices, -1))

    def take(self, index):
        """Take chosen rows of every matrix; ``index`` is (n_matrices, m) on the CPU."""
        rows = [
            own if members is None else members[own]
            for members, own in zip(self._members, index.numpy(), strict=True)
        ]
        orders = [np.argsort(own, kind="stable") for own in rows]
        asked = [own[order] for own, order in zip(rows, orders, strict=True)]
        X = torch.empty(*index.shape, self.q, dtype=self.dtype, device="cpu")
        taken = self._answers(asked, operator.add)
        for matrix, order, parts in zip(X, orders, taken, strict=True):
            matrix[order] = torch.cat(parts)
        return X.to(self.device)

    def _pieces(self, asked):
        """Matrices and rows that every block is asked about, numbered within it."""
        sizes = np.array(self._X.chunks[0])
        ends = np.cumsum(sizes)
        starts = ends - sizes
        pieces = [[] for _ in sizes]
        for number, rows in enumerate(asked):
            if rows is None:
                for block in np.flatnonzero(sizes):
                    pieces[block].append((number, None))
                continue
            cuts = np.searchsorted(rows, [*starts, ends[-1]])
            for block in np.flatnonzero(np.diff(cuts)):
                own = rows[cuts[block] : cuts[block + 1]] - starts[block]
                pieces[block].append((number, own))
        return pieces

    def _answers(self, asked, combine, function=None, arguments=(), width=0):
        """Results for the rows asked of every matrix, in one pass over the array."""
        from dask import delayed

        blocks = self._X.to_delayed().ravel()
        settings = function, combine, [argument.cpu() for argument in arguments]
        shared = [delayed(setting, traverse=False) for setting in settings]
        where = width, self._device, get_config()["working_memory"]
        answers = [
            delayed(answer_block)(block, pieces, *shared, *where)
            for block, pieces in zip(blocks, self._pieces(asked), strict=True)
            if pieces
        ]
        while len(answers) > 1:
            answers = [
                delayed(merge_answers)(answers[i : i + MERGED], shared[1])
                for i in range(0, len(answers), MERGED)
            ]
        with progress("blocks", self.verbose):
            merged = answers[0].compute()
        return [merged[number] for number in range(len(asked))]


def progress(description, verbose):
    """Context with a progress bar over the tasks of Dask's local schedulers."""
    if not verbose:
        return nullcontext()
    from tqdm.dask import TqdmCallback

    return TqdmCallback(desc=description, leave=False)

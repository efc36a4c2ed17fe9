"""Dask arrays as matrices that are computed block by block, and never gathered."""

import sys
from contextlib import nullcontext
from copy import copy

import numpy as np
import torch
from sklearn import get_config

from sknonlin._arrays import (
    MatrixStack,
    check_device_dtype,
    full_precision,
    in_full_precision,
    resolve_device,
    working_dtypes,
)
from sknonlin._memory import affordable, limited
from sknonlin._passes import LEARNING_SHARE, Fold, Take
from sknonlin._row_curves import compute_rows

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
        If the number of rows is not known, or 0.
    """
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


def to_cpu(result):
    """Tensors, or tuples of them, on the CPU."""
    if isinstance(result, torch.Tensor):
        return result.cpu()
    if isinstance(result, tuple):
        parts = [to_cpu(part) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    return result


def answer_block(block, pieces, requests, device, memory):
    """Results for the rows of one block, by the number of the request.

    ``pieces`` are the number of a request, the rows of the block that it is about (None:
    all), and for a :class:`Take` their places in what it asks for.
    """
    results = {}
    with limited(memory), full_precision():
        for number, index, places in pieces:
            request = requests[number]
            if isinstance(request, Fold):
                chosen = None if index is None else index[None]
                stack = activation_stack(block, device, index=chosen)
                results[number] = to_cpu(request.of(stack))
            else:
                stack = activation_stack(block, device)
                rows = stack.take(torch.tensor(index, device="cpu")[None])[0]
                results[number] = ((torch.tensor(places, device="cpu"), rows.cpu()),)
    return results


def activation_stack(X, device, index=None, verbose=0):
    """Stack of activations, of which NumPy's float16 becomes float64."""
    return MatrixStack(X, device, index=index, float16=torch.float64, verbose=verbose)


def merge_answers(answers, requests):
    """Join the results of blocks that follow each other."""
    merged = {}
    for answer in answers:
        for number, result in answer.items():
            if number not in merged:
                merged[number] = result
            elif isinstance(requests[number], Fold):
                merged[number] = requests[number].combine(merged[number], result)
            else:
                merged[number] = merged[number] + result
    return merged


class DaskMatrix:
    """The rows of a Dask array, or some of them, as a stack of one matrix.

    It answers as :class:`MatrixStack` does, by one task for every block, and tasks that
    join their results.

    Parameters
    ----------
    X : dask.array.Array of shape (n, q)
    device : str or torch.device
        Where the tasks compute.
    verbose : int
        Above 0, progress bars.
    """

    lead = ()
    n_matrices = 1

    def __init__(self, X, device="auto", name="X", verbose=0):
        self._X = X
        self._device = device
        self._members = None
        self.n, self.q = X.shape
        self.dtype = working_dtypes(X, torch.float64)[0]
        self.device = resolve_device(device)
        check_device_dtype(self.device, self.dtype, name)
        self.name = name
        self.verbose = verbose

    def of_rows(self, members):
        """Matrix of some rows alone, whose numbers increase."""
        matrix = copy(self)
        matrix.n, matrix._members = len(members), members
        return matrix

    def part(self, matrices):
        """Take some of the matrices: there is only this one."""
        return self

    def fold(self, *arguments):
        """Reduce all rows, see :meth:`MatrixStack.fold`."""
        return answer_together([self], [Fold(*arguments)])[0]

    def rows(self):
        """Take all rows, (1, n, q)."""
        return answer_together([self], [Take()])[0]

    def take(self, index):
        """Take chosen rows; ``index`` is (1, m) on the CPU."""
        return answer_together([self], [Take(index)])[0]

    def pieces(self, request):
        """Find the blocks that a request is about, with their rows and those's places.

        Rows are numbered within their block; None are all of it.
        """
        sizes = np.array(self._X.chunks[0])
        starts = np.cumsum(sizes) - sizes
        if isinstance(request, Fold) and self._members is None:
            return [(block, None, None) for block in np.flatnonzero(sizes)]
        if isinstance(request, Fold):
            rows, order = self._members, None
        else:
            rows = np.arange(self.n) if request.index is None else request.index[0].numpy()
            rows = rows if self._members is None else self._members[rows]
            order = np.argsort(rows, kind="stable")
            rows = rows[order]
        cuts = np.searchsorted(rows, [*starts, self._X.shape[0]])
        return [
            (
                block,
                rows[cuts[block] : cuts[block + 1]] - starts[block],
                None if order is None else order[cuts[block] : cuts[block + 1]],
            )
            for block in np.flatnonzero(np.diff(cuts))
        ]

    def placed(self, taken):
        """Rows at the places where they were asked for, on the device."""
        n_rows = sum(len(places) for places, _ in taken)
        X = torch.empty(1, n_rows, self.q, dtype=self.dtype, device="cpu")
        for places, rows in taken:
            X[0, places] = rows
        return X.to(self.device)


def answer_together(matrices, requests):
    """Answer a request for each of several matrices of one array, in one pass over it."""
    from dask import delayed

    first = matrices[0]
    blocks = first._X.to_delayed().ravel()
    pieces = [[] for _ in blocks]
    for number, (matrix, request) in enumerate(zip(matrices, requests, strict=True)):
        for block, rows, places in matrix.pieces(request):
            pieces[block].append((number, rows, places))
    plain = [r if isinstance(r, Fold) else Take() for r in requests]
    shared = delayed(plain, traverse=False)
    memory = get_config()["working_memory"]
    answers = [
        delayed(answer_block)(block, asked, shared, first._device, memory)
        for block, asked in zip(blocks, pieces, strict=True)
        if asked
    ]
    while len(answers) > 1:
        answers = [
            delayed(merge_answers)(answers[i : i + MERGED], shared)
            for i in range(0, len(answers), MERGED)
        ]
    with progress("blocks", first.verbose):
        merged = answers[0].compute()
    return [
        merged[i] if isinstance(request, Fold) else matrices[i].placed(merged[i])
        for i, request in enumerate(requests)
    ]


def progress(description, verbose):
    """Context with a progress bar over the tasks of Dask's local schedulers."""
    if not verbose:
        return nullcontext()
    from tqdm.dask import TqdmCallback

    return TqdmCallback(desc=description, leave=False)


def learn_together(make_steps, matrices, matrix_bytes):
    """Run the generator of every matrix to its end, all of them pass by pass.

    Yields
    ------
    results : list
        What the generators return, of as many matrices as the memory holds together.
    """
    device = matrices[0].device
    step = affordable(matrix_bytes, share=LEARNING_SHARE, device=device)
    for start in range(0, len(matrices), step):
        part = matrices[start : start + step]
        steps = {i: make_steps(matrix) for i, matrix in enumerate(part)}
        answers = dict.fromkeys(steps)
        results = [None] * len(part)
        while answers:
            requests = {}
            for i in list(answers):
                try:
                    requests[i] = steps[i].send(answers.pop(i))
                except StopIteration as end:
                    results[i] = end.value
            if requests:
                together = [part[i] for i in requests]
                asked = list(requests.values())
                answers = dict(zip(requests, answer_together(together, asked), strict=True))
        yield results


@in_full_precision
def compute_block(block, codes, task, memory, shape):
    """Results for the rows of one block."""
    if block.shape[0] == 0:
        return np.empty((0, *shape), working_dtypes(block, torch.float64)[1])
    with limited(memory):
        return compute_rows(task, block, codes)


def map_blocks(task, X, codes=None):
    """Results for every row as a Dask array, lazily."""
    import dask.array as da
    from dask import delayed

    shape = task.shape(X.shape[1])
    dtype = working_dtypes(X, torch.float64)[1]
    axes = "ij"[: 1 + len(shape)]
    if codes is not None:
        codes = da.from_array(codes, chunks=(X.chunks[0],))
    return da.blockwise(
        compute_block,
        axes,
        X,
        "iq",
        codes,
        None if codes is None else "i",
        concatenate=True,
        new_axes=dict(zip(axes[1:], shape, strict=True)),
        dtype=dtype,
        meta=np.empty((0,) * len(axes), dtype=dtype),
        task=delayed(task, traverse=False),
        memory=get_config()["working_memory"],
        shape=shape,
    )

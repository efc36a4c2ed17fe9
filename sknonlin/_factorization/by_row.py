"""What fitted cones say of rows, each on its own: in chunks, by any number of workers."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config
from torch.nn.utils.rnn import pad_sequence

from sknonlin._matrices.products import unit_rows
from sknonlin._matrices.stack import (
    MatrixStack,
    check_extremes,
    class_groups,
    class_members,
    extremes,
    stack_elements,
    stack_numbers,
    working_dtypes,
)
from sknonlin._running import memory
from sknonlin._running.parallel import Workers
from sknonlin._running.torch_settings import in_full_precision


def stacks_of_classes(X, codes, extra):
    """Gather the rows of every class into stacks, padded with zero rows.

    ``extra`` is how many numbers there are of every class besides its rows.

    Yields
    ------
    classes : tensor of int of shape (n_classes,)
    rows : tensor of shape (n_classes, height, q)
    there : index
        Of those that are rows of X: a mask, or all of the one class.
    place : tensor of int, or slice
        Their places in X.
    """
    present, codes = codes.unique(return_inverse=True)
    if len(present) == 1:
        yield present, X[None], (0, slice(None)), slice(None)
        return
    members = class_members(codes.cpu().numpy(), len(present))
    sizes = [len(index) for index in members]
    most = stack_numbers(X.itemsize, X.device, held=X.device)
    for _, group in class_groups(sizes, X.shape[1], None, most, extra=extra):
        index = [torch.from_numpy(members[i]) for i in group]
        index = pad_sequence(index, True, -1).to(X.device)
        there = index >= 0
        rows = X[index.clamp(min=0)].masked_fill_(~there[:, :, None], 0)
        yield present[group], rows, there, index[there]


@dataclass(frozen=True)
class RowResiduals:
    """Relative residuals of rows to every cone, class by class and rank by rank.

    Parameters
    ----------
    compression : Compression
    components : list of tensors of shape (n_cones, k, q)
        For every rank.
    weights : ndarray of shape (n_ranks,)
        Of the area under a row's curve.
    device : str or torch.device
    """

    compression: object
    components: list
    weights: np.ndarray
    device: object = "auto"

    @property
    def n_cones(self):
        """Number of classes, or 1."""
        return len(self.components[0])

    def shape(self, q):
        """Shape of a row's result."""
        return (self.n_cones * len(self.components),)

    @property
    def cone_numbers(self):
        """Numbers that are made of a cone to hold rows against it."""
        k, q = self.components[-1].shape[1:]
        gram_numbers = memory.COPIES["Gram matrix of cones"] * k**2
        return memory.COPIES["components of cones"] * k * q + gram_numbers

    def width(self, codes=None):
        """Numbers that are computed from a row, see :meth:`MatrixStack.step`.

        With ``codes``, a row is held against one cone only.
        """
        n_cones = self.n_cones if codes is None else 1
        curves = 2 * n_cones * len(self.components) // memory.COPIES["chunk width"]
        return max(curves, *(H.shape[1] for H in self.components))

    def residuals(self, X):
        """Residuals (m, n_cones, n_ranks) of rows of norm 1 to all cones."""
        residuals = X.new_empty(len(X), self.n_cones, len(self.components))
        k = self.components[-1].shape[1]
        n_weights = memory.COPIES["chunk width"] * len(X) * k
        n_numbers = 2 * X.numel() + n_weights + self.cone_numbers
        step = memory.affordable(
            n_numbers * X.itemsize,
            "rows",
            "stack",
            most=max(1, stack_elements(X.device) // n_numbers),
            device=X.device,
        )
        for start in range(0, self.n_cones, step):
            part = slice(start, min(start + step, self.n_cones))
            rows = X.expand(part.stop - start, -1, -1)
            for j, cones in enumerate(self.components):
                left = self.compression.residuals(rows, cones[part].to(X))
                residuals[:, part, j] = left.T
        return residuals.clamp_(max=1)

    def own_residuals(self, X, codes):
        """Residuals (m, 1, n_ranks) of rows of norm 1 to the cone of each one's class."""
        residuals = X.new_empty(len(X), 1, len(self.components))
        stacks = stacks_of_classes(X, codes, self.cone_numbers)
        for classes, rows, there, place in stacks:
            for j, cones in enumerate(self.components):
                left = self.compression.residuals(rows, cones[classes].to(X))
                residuals[place, 0, j] = left[there]
        return residuals.clamp_(max=1)

    def areas(self, X, codes=None):
        """Areas under the curves to all cones (m, n_cones), or to each row's own (m, 1)."""
        residuals = self.residuals(X) if codes is None else self.own_residuals(X, codes)
        weights = torch.tensor(self.weights, dtype=X.dtype, device=X.device)
        return residuals @ weights

    def __call__(self, X, codes=None):
        """Curves of rows ``X`` (m, q) to all cones, one after the other."""
        return self.residuals(unit_rows(X)[0]).flatten(1)


@dataclass(frozen=True)
class RowScores(RowResiduals):
    """Area under every row's curve, to the cone of its class or the one nearest to it."""

    def shape(self, q):
        """Shape of a row's result."""
        return ()

    def __call__(self, X, codes=None):
        """Scores of rows ``X`` (m, q)."""
        return self.areas(unit_rows(X)[0], codes).amin(1)


@dataclass(frozen=True)
class RowApproximations(RowResiduals):
    """Rows at the rank of one position, from the cone of their class or the nearest."""

    position: int = 0

    def shape(self, q):
        """Shape of a row's result."""
        return (q,)

    def __call__(self, X, codes=None):
        """Approximations of rows ``X`` (m, q)."""
        X, norm, largest = unit_rows(X)
        if codes is None:
            one = self.n_cones == 1
            codes = torch.zeros(len(X), dtype=int) if one else self.areas(X).argmin(1)
        result = torch.empty_like(X)
        cones = self.components[self.position].to(X)
        stacks = stacks_of_classes(X, codes, self.cone_numbers)
        for classes, rows, there, place in stacks:
            part = self.compression.approximate(rows, cones[classes])[there]
            result[place] = part.mul_(norm[place]).mul_(largest[place])
        return result


@in_full_precision
def compute_rows(task, X, codes=None):
    """Results of a task for rows, chunk by chunk, in their array type."""
    stack = MatrixStack(X, task.device, float16=torch.float64)
    nonnegative = task.compression.nonnegative
    origin = X.device if isinstance(X, torch.Tensor) else "cpu"
    result = torch.empty(stack.n, *task.shape(stack.q), dtype=stack.dtype, device=origin)

    codes = None if codes is None else torch.tensor(codes, device="cpu")

    def compute(rows):
        block = stack.rows(rows.start, rows.stop)
        check_extremes(*extremes(block), stack.name, nonnegative=nonnegative)
        result[rows] = task(block[0], None if codes is None else codes[rows])

    memory.in_parts(compute, stack.n, stack.step(task.width(codes)))
    return stack.restore(result, lead=False)


def detached(X):
    """Copy of some rows that holds nothing else, to send it to another process."""
    if isinstance(X, torch.Tensor):
        return X.clone()
    if memory.file_mapping(X) is None or sparse.issparse(X):
        return X
    rows = np.array(X)
    memory.release_pages(X)
    return rows


def map_rows(task, X, codes=None, *, n_jobs=None, verbose=0):
    """Results of a task for all rows, whose chunks are handed to workers."""
    n = X.shape[0]
    with Workers(n_jobs, verbose) as workers:
        stack = MatrixStack(X, task.device, float16=torch.float64)
        step = min(stack.step(task.width(codes)), -(-n // workers.count))
        if not workers.in_process:
            row_bytes = stack.q * stack.dtype.itemsize
            most = memory.MOST["sent"] // row_bytes
            step = min(step, memory.affordable(row_bytes, most=most))
        order = None
        if codes is not None and step < n and memory.file_mapping(X) is None:
            # Class by class, because every class in a chunk costs some small products.
            order = np.argsort(codes, kind="stable")
        parts = [slice(start, min(start + step, n)) for start in range(0, n, step)]
        places = parts if order is None else [order[part] for part in parts]
        if workers.in_process:
            components = [H.to(stack.dtype).to(stack.device) for H in task.components]
            task = replace(task, components=components)
        shared = workers.share(task)
        items = (
            (
                shared,
                X[place] if workers.in_process else detached(X[place]),
                None if codes is None else codes[place],
            )
            for place in places
        )
        result = None
        computed = workers.map(compute_rows, items, "rows", len(parts))
        for place, rows in zip(places, computed, strict=True):
            if len(parts) == 1:
                result = rows
                continue
            if result is None:
                shape = (n, *rows.shape[1:])
                tensor = isinstance(rows, torch.Tensor)
                result = rows.new_empty(shape) if tensor else np.empty(shape, rows.dtype)
            result[place] = rows
    return result


@in_full_precision
def compute_block(block, codes, task, working_memory, shape):
    """Results for the rows of one block."""
    if block.shape[0] == 0:
        return np.empty((0, *shape), working_dtypes(block, torch.float64)[1])
    with memory.limited(working_memory):
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
        working_memory=get_config()["working_memory"],
        shape=shape,
    )

"""What fitted cones say of rows, each on its own: in chunks, by any number of workers."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse

from sknonlin._arrays import (
    WIDTH_COPIES,
    MatrixStack,
    check_extremes,
    extremes,
    in_full_precision,
)
from sknonlin._cone import unit_rows
from sknonlin._memory import affordable, file_mapping, in_parts, release_pages
from sknonlin._parallel import SENT_BYTES, Workers


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
    def width(self):
        """Numbers that are computed from a row, see :meth:`MatrixStack.step`."""
        curves = 2 * self.n_cones * len(self.components) // WIDTH_COPIES
        return max(curves, *(H.shape[1] for H in self.components))

    def residuals(self, X, codes=None):
        """Residuals (m, n_cones, n_ranks) of rows of norm 1.

        With ``codes``, those to the cone of each row alone, (m, 1, n_ranks).
        """
        n_cones = self.n_cones if codes is None else 1
        residuals = X.new_empty(len(X), n_cones, len(self.components))
        for i, chosen in self.rows_of_cones(X, codes):
            rows, column = X[chosen], i if codes is None else 0
            for j, cones in enumerate(self.components):
                left = self.compression.residuals(rows, cones[i].to(X))
                residuals[chosen, column, j] = left
        return residuals.clamp_(max=1)

    def rows_of_cones(self, X, codes=None):
        """Yield every cone that rows are held against, and which: all, or its class's."""
        if codes is None:
            yield from ((i, slice(None)) for i in range(self.n_cones))
            return
        codes = codes.cpu()
        present, counts = codes.unique(return_counts=True)
        order = codes.argsort(stable=True).to(X.device)
        yield from zip(present.tolist(), order.split(counts.tolist()), strict=True)

    def areas(self, X, codes=None):
        """Areas (m, n_cones) under the curves of :meth:`residuals`."""
        residuals = self.residuals(X, codes)
        weights = torch.tensor(self.weights, dtype=X.dtype, device=X.device)
        return residuals @ weights

    def __call__(self, X, codes=None):
        """Curves of rows ``X`` (m, q), one after the other."""
        return self.residuals(unit_rows(X)[0], codes).flatten(1)


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
        if codes is None and self.n_cones > 1:
            codes = self.areas(X).argmin(1)
        result = torch.empty_like(X)
        cones = self.components[self.position].to(X)
        for i, chosen in self.rows_of_cones(X, codes):
            part = self.compression.approximate(X[chosen], cones[i])
            result[chosen] = part * norm[chosen] * largest[chosen]
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

    in_parts(compute, stack.n, stack.step(task.width))
    return stack.restore(result, lead=False)


def copied(X):
    """Copy of some rows that holds nothing else, to send it to another process."""
    if isinstance(X, torch.Tensor):
        return X.clone()
    if file_mapping(X) is None or sparse.issparse(X):
        return X
    rows = np.array(X)
    release_pages(X)
    return rows


def map_rows(task, X, codes=None, *, n_jobs=None, verbose=0):
    """Results of a task for all rows, whose chunks are handed to workers."""
    n = X.shape[0]
    with Workers(n_jobs, verbose) as workers:
        stack = MatrixStack(X, task.device, float16=torch.float64)
        step = min(stack.step(task.width), -(-n // workers.count))
        if not workers.in_process:
            row_bytes = stack.q * stack.dtype.itemsize
            step = min(step, affordable(row_bytes, most=SENT_BYTES // row_bytes))
        order = None
        if codes is not None and step < n and file_mapping(X) is None:
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
                X[place] if workers.in_process else copied(X[place]),
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

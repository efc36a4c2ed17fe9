"""A matrix made ready for bounds: scaled, cleaned of what is too small, without repeats."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pattern:
    """A scaled matrix, and what takes it back to the one given.

    Parameters
    ----------
    A : ndarray of shape (n, m)
        The largest entry of every row and column is in [1, 2), or 0; none is in (0, tol].
    row_scale, column_scale : ndarrays of shape (n,) and (m,)
        Powers of two: the matrix given is ``row_scale[:, None] * A * column_scale``.
    tol : float
        How far an entry may be from that of ``A``.
    """

    A: np.ndarray
    row_scale: np.ndarray
    column_scale: np.ndarray
    tol: float

    @property
    def support(self):
        """Where entries are positive."""
        return self.A > 0

    def holds(self, W, H):
        """Whether factors prove an upper bound: no other zeros, no entry off by more."""
        if (
            (W < 0).any()
            or (H < 0).any()
            or not np.isfinite(W).all()
            or not np.isfinite(H).all()
        ):
            return False
        product = W @ H
        inside = not (product[~self.support] > 0).any()
        # The product of n terms is off by less than that in floating point.
        rounding = 4 * W.shape[1] * np.finfo(float).eps
        return inside and bool(np.abs(product - self.A).max() <= self.tol - rounding)


def powers_of_two(values):
    """Powers of two that bring values into [1, 2); 1 for zeros."""
    return np.ldexp(1.0, np.frexp(np.where(values > 0, values, 1.0))[1] - 1)


def make_pattern(A, tol):
    """Scale rows, then columns, by powers of two, which is exact; zero what is below tol.

    A positive scaling of rows and columns leaves the non-negative rank as it is, so that
    a tolerance for entries means the same in small rows as in large ones.
    """
    row_scale = powers_of_two(A.max(axis=1))
    A = A / row_scale[:, None]
    column_scale = powers_of_two(A.max(axis=0))
    A = A / column_scale
    return Pattern(np.where(tol < A, A, 0.0), row_scale, column_scale, tol)


def without_parallel_rows(pattern):
    """Write rows as multiples of few of them, as far as the tolerance lets.

    Returns
    -------
    W : ndarray of shape (n, k)
        One weight a row, none for rows of zeros.
    kept : list of k ints
        The rows kept, so that ``W @ A[kept]`` is within the tolerance.
    """
    A, kept, weights = pattern.A, [], []
    for row in A:
        found = np.zeros(len(kept) + 1)
        if row.any():
            rows = A[kept]
            scales = rows @ row / np.maximum((rows * rows).sum(axis=1), 1e-300)
            off = np.abs(scales[:, None] * rows - row).max(axis=1, initial=0)
            same = ((rows > 0) == (row > 0)).all(axis=1)
            fitting = np.flatnonzero(same & (off <= pattern.tol / 4))
            if len(fitting):
                found[fitting[0]] = scales[fitting[0]]
            else:
                kept.append(len(weights))
                found[-1] = 1
        weights.append(found)
    W = np.zeros((len(A), len(kept)))
    for i, found in enumerate(weights):
        places = np.flatnonzero(found)
        W[i, places] = found[places]
    return W, kept


def distinct_rows(support):
    """Rows of a boolean matrix, each once, without those that are empty."""
    rows = np.unique(support, axis=0)
    return rows[rows.any(axis=1)]


def as_bits(rows):
    """Rows of a boolean matrix as integers, whose bit j is column j."""
    return [
        int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")
        for row in rows
    ]

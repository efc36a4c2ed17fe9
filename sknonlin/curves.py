"""A value for every rank, summed up in one number: the area under the curve."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_of_known(values: NDArray, axis: int) -> NDArray:
    """Give the mean over an axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis)
    return total / np.where(known.any(axis), known.sum(axis), np.nan)


def area_weights(ranks: ArrayLike) -> NDArray:
    """Give the weights whose inner product with a curve is its area, on a unit-wide axis.

    Parameters
    ----------
    ranks : array-like of shape (n_ranks,)
        Increasing ranks.

    Returns
    -------
    weights : ndarray of shape (n_ranks,)
        Weights of the trapezoidal rule divided by the width of the grid; they sum to
        1. A single rank has weight 1.
    """
    ranks = np.asarray(ranks, dtype=float)
    if len(ranks) == 1:
        return np.ones(1)
    widths = np.diff(ranks) / (ranks[-1] - ranks[0])
    weights = np.zeros(len(ranks))
    weights[:-1] += widths / 2
    weights[1:] += widths / 2
    return weights


def area_under_curve(ranks: ArrayLike, values: ArrayLike) -> Any:
    """Give the area under curves over the rank, divided by the width of the grid.

    A curve of values in [0, 1] has an area in [0, 1], whatever the grid.

    Parameters
    ----------
    ranks : array-like of shape (n_ranks,)
        Increasing ranks.
    values : ndarray of shape (..., n_ranks)
        One curve along the last axis for every leading index.

    Returns
    -------
    area : ndarray of shape (...) or float

    Examples
    --------
    >>> from sknonlin.curves import area_under_curve
    >>> area_under_curve([1, 2, 4], [1.0, 0.5, 0.0])
    0.41666666666666663
    """
    area = np.asarray(values) @ area_weights(ranks)
    return area.item() if area.ndim == 0 else area

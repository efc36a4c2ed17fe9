"""A value for every rank, summed up in one number: the area under the curve."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_of_known(values: NDArray, axis: int) -> NDArray:
    """Give the mean over an axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis)
    return total / np.where(known.any(axis), known.sum(axis), np.nan)


def check_grid(ranks: ArrayLike) -> NDArray:
    """Ranks as an array, if there is an area over them.

    Raises
    ------
    ValueError
        If there are none, or they do not increase.
    """
    grid = np.asarray(ranks, dtype=float)
    if grid.ndim != 1 or len(grid) == 0:
        raise ValueError(
            f"ranks must be a list of at least 1 rank, got {ranks!r}: without ranks, there "
            "is no area under a curve. Pass increasing ranks, for example [1, 2, 4]."
        )
    if not (np.diff(grid) > 0).all():
        raise ValueError(
            f"ranks must increase without repeats, got {grid.tolist()}. Sort them and the "
            "values of the curve, and pass each rank once."
        )
    return grid


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

    Raises
    ------
    ValueError
        If there is no rank, or they do not increase.
    """
    ranks = check_grid(ranks)
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

    Raises
    ------
    ValueError
        If there is no rank, they do not increase, or the curves have more or fewer values.

    Examples
    --------
    >>> from sknonlin.curves import area_under_curve
    >>> area_under_curve([1, 2, 4], [1.0, 0.5, 0.0])
    0.41666666666666663
    """
    weights, values = area_weights(ranks), np.asarray(values)
    if values.ndim == 0 or values.shape[-1] != len(weights):
        raise ValueError(
            f"values has shape {values.shape}, but there are {len(weights)} ranks: the "
            "last axis of values must be as long."
        )
    area = values @ weights
    return area.item() if area.ndim == 0 else area

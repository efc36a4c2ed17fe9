"""Checks of labels and ranks, wherever they come in, and how users are warned."""

import os
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from sklearn.utils._param_validation import validate_params
from sklearn.utils.validation import column_or_1d

#: What public functions take, for those who check types.
Device = str | torch.device
Layers = str | Iterable[str]
RandomState = int | np.random.RandomState | None
Ranks = str | int | Iterable[int]
Function = TypeVar("Function", bound=Callable)
PACKAGE = str(Path(__file__).parent.parent) + os.sep
AUTO_RANKS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32)


def validated(constraints: dict) -> Callable[[Function], Function]:
    """Check a function's parameters as scikit-learn does, and keep its type."""
    return validate_params(constraints, prefer_skip_nested_validation=True)


@contextmanager
def undone_on_error(estimator):
    """Leave an estimator as it was where an error or an interruption ends the block."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def warn_user(message):
    """Warn at the line, outside of the package, from which it was called."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def as_labels(y):
    """Labels as a one-dimensional array; tensors may be on any device."""
    return column_or_1d(y.cpu().numpy() if isinstance(y, torch.Tensor) else y, warn=True)


def positions(y, known, message):
    """Position of every label among the known ones.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    known : ndarray of shape (n_classes,)
        In any order.
    message : str
        Of the error, with ``{unknown}`` and ``{known}``.

    Returns
    -------
    codes : ndarray of int of shape (n_samples,)

    Raises
    ------
    ValueError
        If there are others.
    """
    expected = set(known.tolist())
    unknown = [label for label in np.unique(y).tolist() if label not in expected]
    if unknown:
        raise ValueError(message.format(unknown=unknown, known=known.tolist()))
    order = np.argsort(known)
    return order[np.searchsorted(known, y, sorter=order)]


def auto_ranks(limit):
    """Ten ranks from 1 to 32, about geometric, as far as they are below ``limit``."""
    return [k for k in AUTO_RANKS if k < limit] or [1]


def check_ranks(ranks):
    """Ranks as an increasing list of distinct positive integers.

    Raises
    ------
    TypeError
        If a rank is not an integer.
    ValueError
        If there is none, or one is below 1, or they do not increase.
    """
    advice = "Pass increasing integers of at least 1, for example ranks=[1, 2, 4, 8]."
    ranks = [ranks] if isinstance(ranks, Integral | str) else list(ranks)
    ranks = [rank.item() if isinstance(rank, torch.Tensor) else rank for rank in ranks]
    for rank in ranks:
        if isinstance(rank, bool | np.bool_) or not isinstance(rank, Integral):
            raise TypeError(
                f"ranks must be integers, got {rank!r} of type "
                f"{type(rank).__name__}. {advice}"
            )
    if not ranks:
        raise ValueError(f"ranks is empty. {advice}")
    if min(ranks) < 1:
        raise ValueError(f"ranks must be at least 1, got {min(ranks)}. {advice}")
    if any(b <= a for a, b in pairwise(ranks)):
        raise ValueError(
            f"ranks must increase without repeats, got {ranks}. "
            f"Pass ranks={sorted(set(ranks))}."
        )
    return [int(rank) for rank in ranks]

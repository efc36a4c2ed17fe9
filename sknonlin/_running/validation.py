"""Checks of arrays, labels and ranks, wherever they come in, and how users are warned."""

import os
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from itertools import pairwise
from numbers import Integral, Number
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from sklearn.utils._param_validation import validate_params
from sklearn.utils.validation import column_or_1d
from torch.masked import is_masked_tensor

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


def is_called_from(module):
    """Whether the code of some module called the method that asks."""
    return sys._getframe(2).f_globals.get("__name__") == module


#: Tensors that do not hold a number at every place, and what to pass instead.
UNREADABLE = (
    (
        lambda tensor: tensor.is_nested,
        "a nested tensor, whose parts differ in length. Pass them one by one, or padded: "
        "torch.nested.to_padded_tensor({name}, 0.0).",
    ),
    (
        is_masked_tensor,
        "a masked tensor. Pass one without a mask: {name}.to_tensor(0.0), with the number "
        "that is to stand where it is masked.",
    ),
    (
        lambda tensor: tensor.layout != torch.strided,
        "a torch tensor of layout {tensor.layout}. Pass a dense tensor, {name}.to_dense(), "
        "or a scipy.sparse matrix where one is taken.",
    ),
    (
        lambda tensor: tensor.is_meta,
        "a tensor on the meta device, which has a shape but no values. Pass one that was "
        "computed on a device with memory.",
    ),
)


def dense_tensor(tensor, name="X"):
    """Return a tensor without its gradient, with the values that it shows.

    Views that show the negative or the conjugate of what is in memory are resolved.

    Raises
    ------
    TypeError
        If it does not hold a number at every place: it is nested, masked, sparse or on
        the meta device.
    """
    for unreadable, message in UNREADABLE:
        if unreadable(tensor):
            raise TypeError(f"{name} is " + message.format(name=name, tensor=tensor))
    return tensor.detach().resolve_conj().resolve_neg()


def without_mask(X, name="X"):
    """Return the data of a masked array, and anything else as it is.

    Raises
    ------
    ValueError
        If values are masked, in the array or in one of a list.
    """
    if any(map(np.ma.is_masked, X if isinstance(X, list | tuple) else [X])):
        raise ValueError(
            f"{name} is a masked array, some of whose values are masked. Leave the samples "
            f"out that have such, or fill them: {name}.filled(value)."
        )
    return np.ma.getdata(X) if isinstance(X, np.ma.MaskedArray) else X


def check_real(dtype, name="X"):
    """Refuse numbers that are not real, and what is not a number.

    Parameters
    ----------
    dtype : numpy.dtype or torch.dtype
    name : str
        What messages call the array.

    Raises
    ------
    ValueError
        For complex numbers, as in scikit-learn.
    TypeError
        For objects, text, dates and records.
    """
    of_torch = isinstance(dtype, torch.dtype)
    if dtype.is_complex if of_torch else dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} must hold real numbers, got dtype "
            f"{dtype}. Pass {name}.real, or abs({name})."
        )
    if not of_torch and dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must hold real numbers, got dtype {dtype}. Convert it with "
            f"{name}.astype(float)."
        )


def is_missing(label):
    """Whether a label is None, NaN, NaT or pandas' NA."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, Number | np.generic) and not label == label  # noqa: PLR0124, SIM201


def any_missing(labels, given):
    """Whether labels, made of what was given, are missing for some samples."""
    kind = labels.dtype.kind
    if kind in "fmM":
        return bool((np.isnan if kind == "f" else np.isnat)(labels).any())
    if kind in "US" and isinstance(given, list | tuple):  # NaN has become a text
        labels = np.array(given, dtype=object).ravel()
    return labels.dtype.kind == "O" and any(map(is_missing, labels))


def several_labels(y):
    """Whether some samples have more than one label, or an empty list of them."""
    if isinstance(y, list | tuple) or str(getattr(y, "dtype", "")) == "object":
        lists = list | tuple | set | np.ndarray
        rows = y if getattr(y, "ndim", 1) else ()
        return any(isinstance(labels, lists) and len(labels) != 1 for labels in rows)
    shape = getattr(y, "shape", ())
    return len(shape) == 2 and shape[1] != 1


def as_array(tensor, name="X"):
    """Return a tensor as an array, of single precision where NumPy has less or none."""
    tensor = dense_tensor(tensor, name).cpu()
    narrow = tensor.is_floating_point() and tensor.dtype not in (
        torch.float32,
        torch.float64,
    )
    return (tensor.float() if narrow else tensor).numpy()


def check_label_values(labels, given):
    """Refuse labels that are missing, or cannot be told apart; see :func:`as_labels`."""
    if labels.dtype.kind == "V":
        raise TypeError(
            f"y holds records of dtype {labels.dtype}; pass one field of them as labels."
        )
    if any_missing(labels, given):
        raise ValueError(
            "Input y contains NaN: the labels of some samples are missing. Leave these "
            "samples out, or give them a label of their own."
        )
    if labels.dtype.kind == "f" and np.isinf(labels).any():
        raise ValueError("Input y contains infinity, which is not a label.")
    if labels.dtype.kind == "O" and len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(
            "y has a mix of label input types, text and others. Make them of one type, "
            "for example text: [str(label) for label in y]."
        )


def as_labels(y):
    """Labels as a one-dimensional array, one for every sample.

    Parameters
    ----------
    y : array-like or tensor of shape (n_samples,) or (n_samples, 1)
        A column is taken with a DataConversionWarning. Tensors may be on any device.

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    Raises
    ------
    TypeError
        If y is sparse or holds records, or is a tensor without values.
    ValueError
        If labels are missing, masked, infinite, complex or of several types, or there are
        several for a sample.
    """
    given = as_array(y, "y") if isinstance(y, torch.Tensor) else without_mask(y, "y")
    if several_labels(given):
        shape = getattr(given, "shape", f"({len(given)}, ...)")
        raise ValueError(
            f"y should be a 1d array, got an array of shape {shape} instead: one label a "
            "sample is supported, not several. Of one-hot labels, pass y.argmax(1)."
        )
    labels = column_or_1d(given, warn=True)
    check_label_values(labels, given)
    return labels


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

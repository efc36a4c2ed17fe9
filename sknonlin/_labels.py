"""Labels as positions among known ones."""

import numpy as np
import torch
from sklearn.utils.validation import column_or_1d


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

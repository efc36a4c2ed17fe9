"""Checks of the activation matrices and labels that a transformer is given."""

from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, validate_data

from sknonlin._dask_arrays import checked_array, is_dask_array, refuse_dask_frames
from sknonlin._labels import as_labels, positions


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


def validate_activations(estimator, X, *, reset=False):
    """X as a 2-D array, CSR matrix, tensor or Dask array of real numbers.

    Their values are checked where they are read: here, a memory map is not touched.
    """
    refuse_dask_frames(X)
    if isinstance(X, torch.Tensor) or is_dask_array(X):
        return validate_shape(estimator, X, reset=reset)
    # Numbers are converted in chunks where they are used.
    plain = isinstance(X, np.ndarray) or sparse.issparse(X)
    plain = plain and X.dtype.kind in "biuf"
    return validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype=None if plain else [np.float64, np.float32],
        ensure_all_finite=False,
    )


def validate_shape(estimator, X, *, reset):
    """Check the shape of a tensor or Dask array, as ``validate_data`` does of arrays."""
    if is_dask_array(X):
        X = checked_array(X)
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got a {type(X).__name__} of shape {tuple(X.shape)} "
            "instead. Reshape your data; for the output of a convolution, take a row for "
            "every position: X.movedim(1, -1).flatten(0, -2)."
        )
    if reset:
        estimator.n_features_in_ = X.shape[1]
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    return X.detach() if isinstance(X, torch.Tensor) else X


def encode_classes(estimator, X, y, classes=None):
    """Classes and, for every row, the index of its class."""
    if y is None:
        raise ValueError(
            f"by_class=True: {type(estimator).__name__} requires y to be passed, but "
            "the target y is None."
        )
    y = y.cpu().numpy() if isinstance(y, torch.Tensor) else y
    y = y.compute() if hasattr(y, "__dask_graph__") else y
    y = as_labels(check_array(y, ensure_2d=False, dtype=None, input_name="y"))
    check_consistent_length(X, y)
    if classes is None:
        check_classification_targets(y)
        return np.unique(y, return_inverse=True)
    message = "y has labels that fit did not see: {unknown}. It saw {known}."
    return classes, positions(y, classes, message)

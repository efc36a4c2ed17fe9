"""Checks of the activation matrices and labels that a transformer is given."""

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, validate_data

from sknonlin._labels import as_labels, positions


def validate_activations(estimator, X, *, nonnegative, reset=False):
    """X as a 2-D array, CSR matrix or tensor of real numbers."""
    if isinstance(X, torch.Tensor):
        return validate_tensor(estimator, X, reset=reset)
    return validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        ensure_non_negative=nonnegative,
    )


def validate_tensor(estimator, X, *, reset):
    """Check the shape of a tensor, as ``validate_data`` does that of arrays."""
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got a tensor of shape {tuple(X.shape)} instead. "
            "Reshape your data; for the output of a convolution, take a row for "
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
    return X.detach()


def encode_classes(estimator, X, y, classes=None):
    """Classes and, for every row, the index of its class."""
    if y is None:
        raise ValueError(
            f"by_class=True: {type(estimator).__name__} requires y to be passed, but "
            "the target y is None."
        )
    y = y.cpu().numpy() if isinstance(y, torch.Tensor) else y
    y = as_labels(check_array(y, ensure_2d=False, dtype=None, input_name="y"))
    check_consistent_length(X, y)
    if classes is None:
        check_classification_targets(y)
        return np.unique(y, return_inverse=True)
    message = "y has labels that fit did not see: {unknown}. It saw {known}."
    return classes, positions(y, classes, message)

"""Samples and their labels as a display shows them: images, rows of a table, texts."""

import textwrap
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _get_feature_names

CHANNELS = (1, 3)  # of grey and of coloured images
LETTERS = 80  # of a text
TEXT = "text"  # the column of texts


def before_pipeline(detector, X):
    """Find the detector that ends a fitted pipeline, and the samples as it sees them."""
    while isinstance(detector, Pipeline):
        X = detector[:-1].transform(X) if len(detector) > 1 else X
        detector = detector[-1]
    return detector, X


def take_samples(X, index, n_samples, parameter):
    """Take samples as an array, from an array, a frame, a list or a tensor.

    Raises
    ------
    TypeError
        If X is something else.
    ValueError
        If it has not as many samples as there are labels.
    """
    if not (hasattr(X, "shape") or isinstance(X, list)):
        raise TypeError(
            f"{parameter} is a {type(X).__name__}, which has no pictures or features to "
            "show. Give images=, what to show of every sample: pictures, a frame or texts."
        )
    if len(X) != n_samples:
        raise ValueError(f"{parameter} has {len(X)} samples, but y has {n_samples} labels.")
    if isinstance(X, torch.Tensor):
        return X[index.tolist()].detach().cpu().numpy()
    return np.asarray(_safe_indexing(X, index))


def as_images(samples, image_shape):
    """Arrange samples as images, where they are.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, ...)
    image_shape : tuple of int or None
        Of a sample.

    Returns
    -------
    samples : ndarray of shape (n_samples, h, w), (n_samples, h, w, 3) or \
(n_samples, n_features)
        The last for samples that are no images; texts are a table of one column.

    Raises
    ------
    ValueError
        If they do not fit.
    """
    if image_shape is not None:
        samples = reshaped(samples, tuple(image_shape))
    if samples.ndim == 1 and all(isinstance(sample, str) for sample in samples.tolist()):
        return samples[:, None]
    if samples.ndim in (2, 3):
        return samples
    if samples.ndim == 4 and samples.shape[1] in CHANNELS:
        samples = np.moveaxis(samples, 1, -1)
    if samples.ndim != 4 or samples.shape[-1] not in CHANNELS:
        raise ValueError(
            f"Samples of shape {samples.shape[1:]} are neither images, (h, w), (1, h, w) "
            "or (3, h, w), nor rows of features or texts. Give images=, image_shape= for "
            "flat ones, or decode= for token ids."
        )
    return samples[..., 0] if samples.shape[-1] == 1 else samples


def reshaped(samples, image_shape):
    """Give flat samples the shape of an image.

    Raises
    ------
    ValueError
        If they have not as many numbers.
    """
    if len(image_shape) not in (2, 3) or np.prod(image_shape) != samples[0].size:
        raise ValueError(
            f"image_shape={image_shape} does not fit samples of {samples[0].size} numbers. "
            "Give (h, w) or (3, h, w) with that product."
        )
    return samples.reshape(len(samples), *image_shape)


def drawable(image):
    """Bring a coloured image of floats to [0, 1], if it is not there."""
    if image.ndim == 2 or np.issubdtype(image.dtype, np.integer):
        return image
    low, high = image.min(), image.max()
    if low >= 0 and high <= 1:
        return image
    return (image - low) / max(high - low, np.finfo(image.dtype).tiny)


def feature_names_of(X, samples, given):
    """Names of the features of a table: those given, a frame's own, or numbers.

    Raises
    ------
    ValueError
        If there are not as many as features.
    """
    n_features = samples.shape[1]
    names = _get_feature_names(X) if given is None else given
    if names is None and isinstance(samples[0, 0], str) and n_features == 1:
        names = [TEXT]
    if names is None:
        names = [f"x{i}" for i in range(n_features)]
    if len(names) != n_features:
        raise ValueError(
            f"feature_names has {len(names)} names, but X has {n_features} features. Give "
            "one for each."
        )
    return [str(name) for name in names]


def shortly(value):
    """Write a value in few letters, but numbers as they are."""
    if isinstance(value, Real | np.number) and not isinstance(value, Integral | np.bool_):
        return f"{value:.6g}"
    return textwrap.shorten(str(value), LETTERS, placeholder=" …")


def names_of_classes(classes, class_names):
    """Names of the labels, by label.

    Raises
    ------
    ValueError
        If there are not as many as classes.
    """
    labels = classes.tolist()
    if isinstance(class_names, Mapping):
        return {label: class_names.get(label, label) for label in labels}
    class_names = labels if class_names is None else list(class_names)
    if len(class_names) != len(labels):
        raise ValueError(
            f"class_names has {len(class_names)} names for {len(labels)} classes; give one "
            f"for each of {labels}, in this order."
        )
    return dict(zip(labels, class_names, strict=True))

"""Samples to be looked at: what kind they are of, and some of them taken out."""

import mimetypes
import os
from pathlib import Path

import numpy as np

KINDS = ("image", "table", "text", "audio")


def n_samples_of(X):
    """Count samples.

    Raises
    ------
    TypeError
        If X cannot be counted and chosen from.
    """
    shape = getattr(X, "shape", None)
    if shape:
        return shape[0]
    if isinstance(X, str | dict | set) or not (
        hasattr(X, "__len__") and hasattr(X, "__getitem__")
    ):
        raise TypeError(
            f"X is a {type(X).__name__}; give what the reviewer should see of every "
            "sample: an array of images or signals, a frame, a list of texts or of paths."
        )
    return len(X)


def take(X, positions):
    """Take samples out of whatever holds them.

    Parameters
    ----------
    X : array, tensor, frame, Series, sparse matrix, list or Dataset
        A dataset's pairs of a sample and its label count as samples.
    positions : list of int

    Returns
    -------
    samples : list
    """
    if hasattr(X, "iloc"):
        return list(X.iloc[positions].to_numpy())
    if hasattr(X, "detach"):
        return [X[i].detach().cpu().numpy() for i in positions]
    if hasattr(X, "tocsr"):
        return list(X.tocsr()[positions].toarray())
    samples = [X[i] for i in positions]
    if not isinstance(X, list | tuple | np.ndarray):
        samples = [item[0] if isinstance(item, tuple | list) else item for item in samples]
    return [
        item.detach().cpu().numpy() if hasattr(item, "detach") else item for item in samples
    ]


def media_type(sample):
    """MIME type of a sample that is the path of a file, or an empty string."""
    if not isinstance(sample, str | Path) or len(str(sample)) > 4096:
        return ""
    return mimetypes.guess_type(str(sample))[0] or ""


def file_names(X, positions):
    """Name files below the folder that all share.

    Parameters
    ----------
    X : as for :func:`take`
    positions : list of int

    Returns
    -------
    names : list of str or None
        None where samples are no files.
    """
    if not positions or not isinstance(take(X, positions[:1])[0], str | Path):
        return None
    paths = [os.path.abspath(path) for path in take(X, positions)]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [Path(path).relative_to(folder).as_posix() for path in paths]


def kind_of(X, *, image_shape=None, sampling_rate=None, decode=None):
    """Tell what samples are.

    Parameters
    ----------
    X : as for :func:`take`
    image_shape, sampling_rate, decode : object
        What is given for one of the kinds alone.

    Returns
    -------
    kind : {"image", "table", "text", "audio"}

    Raises
    ------
    TypeError
        If it is none of them.
    """
    if decode is not None or image_shape is not None:
        return "text" if decode is not None else "image"
    if hasattr(X, "columns"):
        return kind_of_frame(X)
    if hasattr(X, "tocsr"):
        return "table"
    return kind_of_sample(*take(X, [0]), sampling_rate)


def kind_of_sample(sample, sampling_rate):
    """Tell what one sample is, by its type and its axes.

    Raises
    ------
    TypeError
        If it is none of the kinds.
    """
    if isinstance(sample, str | Path):
        family = media_type(sample).partition("/")[0]
        return family if family in ("image", "audio") else "text"
    if hasattr(sample, "getbands"):  # Pillow's
        return "image"
    n_axes = np.ndim(sample)
    if n_axes not in (1, 2, 3):
        raise TypeError(
            f"X has samples of type {type(sample).__name__}, which have no picture, "
            f"features, text or sound to show. Give kind=, one of {KINDS}, or another X."
        )
    if sampling_rate is not None:
        return "audio"
    return "table" if n_axes == 1 else "image"


def kind_of_frame(frame):
    """Tell what the rows of a frame are: texts where it has one column of them."""
    if len(frame.columns) != 1:
        return "table"
    column = frame[frame.columns[0]]
    return "text" if len(column) and isinstance(next(iter(column[:1])), str) else "table"

"""Seeded batches of samples: of one class each, or mixed."""

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from sknonlin._running.validation import RandomState


def draw_batches(
    index: NDArray, batch_size: int, n_batches: int, rng: np.random.Generator
) -> list:
    """Draw batches from ``index``: disjoint where it is large enough for that.

    Parameters
    ----------
    index : ndarray of shape (n_samples,)
        The samples to draw from.
    batch_size : int
        Samples in a batch; fewer where there are not so many.
    n_batches : int
        Number of batches.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    batches : list of ndarrays
        Sorted indices, without repeats within a batch.
    """
    size = min(batch_size, len(index))
    if n_batches * size <= len(index):
        drawn = list(rng.permutation(index)[: n_batches * size].reshape(n_batches, size))
    else:
        drawn = [rng.permutation(index)[:size] for _ in range(n_batches)]
    return [np.sort(batch) for batch in drawn]


def make_batches(
    codes: NDArray,
    batch_size: int,
    n_batches: int,
    *,
    by_class: bool = True,
    random_state: RandomState = None,
) -> list:
    """Draw batches of one class each, or of all classes mixed.

    Parameters
    ----------
    codes : ndarray of int of shape (n_samples,)
        The class of every sample, from 0.
    batch_size : int
        Samples in a batch; a class with fewer gives all that it has.
    n_batches : int
        Batches of every class, disjoint where the class is large enough for that.
    by_class : bool, default=True
        False draws the batches from all samples.
    random_state : int, RandomState instance or None, default=None
        Seeds the draw. A class's batches do not depend on the other classes.

    Returns
    -------
    batches : list of lists of ndarrays
        For every class (or once), its batches of sorted indices.

    Examples
    --------
    >>> import numpy as np
    >>> from sknonlin.batches import make_batches
    >>> codes = np.array([0, 0, 0, 0, 1, 1])
    >>> [[len(batch) for batch in batches] for batches in make_batches(codes, 2, 2)]
    [[2, 2], [2, 2]]
    """
    seed = check_random_state(random_state).randint(2**31 - 1)
    if not by_class:
        rng = np.random.default_rng(seed)
        return [draw_batches(np.arange(len(codes)), batch_size, n_batches, rng)]
    members = np.split(np.argsort(codes, kind="stable"), np.bincount(codes).cumsum()[:-1])
    return [
        draw_batches(index, batch_size, n_batches, np.random.default_rng([seed, code]))
        for code, index in enumerate(members)
    ]


def make_reference_batches(
    codes: NDArray, batch_size: int, n_batches: int, *, random_state: RandomState = None
) -> list:
    """Draw mixed batches as large as those of :func:`make_batches`, class by class.

    Parameters
    ----------
    codes : ndarray of int of shape (n_samples,)
        The class of every sample, from 0.
    batch_size : int
        Samples in a batch; a class with fewer has batches of its own size.
    n_batches : int
        Batches for every class.
    random_state : int, RandomState instance or None, default=None
        Seeds the draw.

    Returns
    -------
    batches : list of lists of ndarrays
        For every class, batches of all classes mixed, of the size of its own.
    """
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    everything = np.arange(len(codes))
    return [
        draw_batches(everything, min(batch_size, size), n_batches, rng)
        for size in np.bincount(codes)
    ]

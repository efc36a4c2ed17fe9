"""Networks side by side: which memorized more, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils.validation import check_is_fitted

from sknonlin._memorization.significance import Deviations, p_value
from sknonlin._memorization.training import ENOUGH_FIT
from sknonlin.detector import MemorizationDetector

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SURE = 0.05  # p-value from which on a difference is none to speak of


@dataclass(eq=False)
class NetworkComparison:
    """Memorization scores of several networks, with what they can be held against.

    Made by :func:`compare_networks`. Printed, it says the result in a sentence.

    Parameters
    ----------
    names : list of str of length n_networks
        As given.
    scores : ndarray of shape (n_networks,)
        The ``memorization_score_`` of each.
    intervals : ndarray of shape (n_networks, 2)
        Which hold the scores of fresh batches with a probability of 0.9.
    training_accuracies : ndarray of shape (n_networks,)
        Shares of the training labels that they fit.
    references : ndarray of shape (n_networks,)
        Scores of their references; NaN where there are none.
    p_values : ndarray of shape (n_networks, n_networks)
        How likely scores would differ as much by the choice of the batches alone.
    paired : bool
        Whether all were measured on the same batches, so that differences are surer.
    """

    names: list
    scores: NDArray
    intervals: NDArray
    training_accuracies: NDArray
    references: NDArray
    p_values: NDArray = field(repr=False)
    paired: bool = False

    def __str__(self) -> str:
        parts = [f"{self._ranking()}."]
        for name, fit in zip(self.names, self.training_accuracies, strict=True):
            if fit < ENOUGH_FIT:
                parts.append(
                    f"{name} fits {fit:.2f} of its training labels only, so its score says "
                    "little: train it longer before you compare it."
                )
        return " ".join(parts)

    def _ranking(self):
        """Say who memorized more than whom."""
        order = np.argsort(-self.scores, kind="stable")
        if len(order) == 1:
            low, high = self.intervals[0]
            return (
                f"{self.names[0]} has a memorization score of {self.scores[0]:.2f} "
                f"({low:.2f} to {high:.2f})"
            )
        said = []
        for first, second in pairwise(order):
            p = self.p_values[first, second]
            values = (
                f"{self.scores[first]:.2f} against {self.scores[second]:.2f}, {shown(p)}"
            )
            a, b = self.names[first], self.names[second]
            if p < SURE:
                said.append(f"{a} memorized more than {b} ({values})")
            else:
                said.append(f"{a} and {b} cannot be told apart ({values})")
        return "; ".join(said)

    def to_frame(self) -> "pd.DataFrame":
        """Give the scores as a frame, one row for every network.

        Returns
        -------
        frame : pandas.DataFrame
            With the columns ``score``, ``low``, ``high``, ``training_accuracy`` and
            ``reference``, and the names as its index.
        """
        pd = check_pandas_support("NetworkComparison.to_frame")
        return pd.DataFrame(
            {
                "score": self.scores,
                "low": self.intervals[:, 0],
                "high": self.intervals[:, 1],
                "training_accuracy": self.training_accuracies,
                "reference": self.references,
            },
            index=pd.Index(self.names, name="network"),
        )

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw a bar for every network, with its interval, training accuracy and reference.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ax : matplotlib.axes.Axes
        """
        from sknonlin.inspection import NetworkComparisonDisplay  # when it is drawn

        display: Any = NetworkComparisonDisplay.from_comparison(self)
        return display.plot(ax).ax_


def shown(p):
    """Say a p-value as one does."""
    return "p < 0.001" if p < 1e-3 else f"p = {p:.2g}"


def check_comparable(detectors):
    """Refuse what are not fitted detectors with ranks in common.

    Raises
    ------
    TypeError
        If they are not detectors by name.
    ValueError
        If there are none, or what they were fitted with differs.
    """
    if not isinstance(detectors, Mapping):
        raise TypeError(
            f"detectors is a {type(detectors).__name__}; give a dict of fitted detectors "
            'by name, {"A": detector, "B": other}.'
        )
    if not detectors:
        raise ValueError("detectors has no detectors; give one or more.")
    for name, detector in detectors.items():
        if not isinstance(detector, MemorizationDetector):
            raise TypeError(
                f"{name!r} is a {type(detector).__name__}; it must be a fitted "
                "MemorizationDetector. Of a trained module, MemorizationDetector(module)"
                ".fit(X, y)."
            )
        check_is_fitted(detector)
    settings = {
        "ranks": lambda d: d.profile_.ranks.tolist(),
        "compressions": lambda d: d.profile_.compression,
        "batch sizes": lambda d: d.batch_size,
        "numbers of classes": lambda d: len(d.profile_.classes),
    }
    for what, value in settings.items():
        found = {name: value(detector) for name, detector in detectors.items()}
        if len(set(map(str, found.values()))) > 1:
            raise ValueError(
                f"The detectors were fitted with different {what}, and such scores do not "
                f"compare: {found}. Give all the same samples, batch_size and "
                "nonlinearity=ActivationNonlinearity(ranks=[...])."
            )


def compare_networks(detectors: Mapping[str, Any]) -> NetworkComparison:
    """Compare how far networks memorized, and tell how sure the difference is.

    Parameters
    ----------
    detectors : dict of str to MemorizationDetector
        Fitted detectors by the names of their networks. Where they were fitted on the
        same samples and labels with the same ``random_state``, both saw the same batches,
        and smaller differences can be told.

    Returns
    -------
    comparison : NetworkComparison
        Scores, intervals, training accuracies, references, and p-values of the
        differences. ``print(comparison)`` says it in words, and ``comparison.plot()`` in a
        picture.

    Raises
    ------
    TypeError
        If they are not detectors in a dict.
    ValueError
        If there are none, or their ranks, compressions, batch sizes or numbers of classes
        differ.
    NotFittedError
        If one is not fitted.

    See Also
    --------
    MemorizationDetector : Its ``reference`` gives the level of the scores a meaning.

    Notes
    -----
    A p-value is that of a t test, of the mean over as many batches as a score is made of.
    It tells whether other batches would change the order of two trained networks, not
    whether networks trained anew would have another.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sknonlin import MemorizationDetector, compare_networks
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:400], y[:400]
    >>> shuffled = np.random.default_rng(0).permutation(y)
    >>> comparison = compare_networks(
    ...     {
    ...         "true labels": MemorizationDetector(random_state=0).fit(X, y),
    ...         "random labels": MemorizationDetector(random_state=0).fit(X, shuffled),
    ...     }
    ... )
    >>> bool(comparison.scores[1] > comparison.scores[0])
    True
    >>> comparison.to_frame().shape
    (2, 5)
    """
    check_comparable(detectors)
    fitted = list(detectors.values())
    return NetworkComparison(
        names=[str(name) for name in detectors],
        scores=np.array([d.memorization_score_ for d in fitted]),
        intervals=np.array([d.memorization_interval_ for d in fitted]),
        training_accuracies=np.array([d.training_accuracy_ for d in fitted]),
        references=np.array([getattr(d, "reference_score_", np.nan) for d in fitted]),
        p_values=np.array([[difference_p_value(a, b) for b in fitted] for a in fitted]),
        paired=all(same_batches(fitted[0], d) for d in fitted[1:]),
    )


def same_batches(a, b):
    """Whether detectors drew the same batches."""
    return a._batches == b._batches and a.n_batches == b.n_batches


def difference_p_value(a, b):
    """Two-sided p-value of the difference between the scores of two detectors."""
    scores = [d._share for d in (a, b)]  # which may be above 1
    own = [
        Deviations.of(d._areas.total(), [score])
        for d, score in zip((a, b), scores, strict=True)
    ]
    sizes = [(len(d.profile_.classes), d.n_batches) for d in (a, b)]
    if same_batches(a, b):
        variance, freedom = own[0].minus(own[1]).variance(*sizes[0])
    else:
        each = [one.variance(*size) for one, size in zip(own, sizes, strict=True)]
        variance = sum(v for v, _ in each)
        weights = sum(v**2 / f for v, f in each)
        freedom = variance**2 / np.where(weights > 0, weights, np.inf)
    return p_value(scores[0] - scores[1], variance[0], max(1.0, freedom[0]))

"""Scorers: how far a network memorized, next to accuracy in ``cross_validate``.

A scorer measures the network on the samples that it is given, so a cross-validation
returns the score on the held-out fold, and with ``return_train_score=True`` also that on
the samples trained on, which is the detector's own ``memorization_score_``.
"""

from typing import Any

from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from sknonlin._network.adapters import NETWORKS, as_network
from sknonlin.detector import MemorizationDetector
from sknonlin.nonlinearity import ActivationNonlinearity
from sknonlin.profile import ProfileSettings, measure_memorization


def memorization_scorer(estimator: Any, X: Any, y: ArrayLike) -> float:
    """Score how far a trained network memorized; higher is more.

    Parameters
    ----------
    estimator : MemorizationDetector, Pipeline, skorch net, MLPClassifier or Module
        A trained network, or what holds one: of a pipeline, the detector or network
        among its steps counts, on the samples as the steps before it transform them.
    X : array-like of shape (n_samples, n_features), or what the network takes
        Samples.
    y : array-like of shape (n_samples,)
        Their labels.

    Returns
    -------
    score : float
        In [0, 1]: the network's non-linearity on batches of one class as a share of
        that on mixed ones. A detector is measured with its own settings.

    Raises
    ------
    TypeError
        If there is no network in ``estimator``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sknonlin.metrics import memorization_scorer
    >>> X, y = load_digits(return_X_y=True)
    >>> scores = cross_validate(
    ...     MLPClassifier((64, 64), random_state=0),
    ...     X,
    ...     y,
    ...     cv=3,
    ...     scoring={"accuracy": "accuracy", "memorization": memorization_scorer},
    ... )
    >>> scores["test_memorization"].shape
    (3,)
    """
    estimator, X = network_of(estimator, X)
    if isinstance(estimator, MemorizationDetector):
        return estimator.measure(X, y)[0]
    settings = ProfileSettings.of(ActivationNonlinearity(), random_state=0)
    return measure_memorization(as_network(estimator), X, y, settings)[0]


def neg_memorization_scorer(estimator: Any, X: Any, y: ArrayLike) -> float:
    """Score how little a trained network memorized; higher is less.

    Parameters
    ----------
    estimator : MemorizationDetector, Pipeline, skorch net, MLPClassifier or Module
        As in :func:`memorization_scorer`.
    X : array-like of shape (n_samples, n_features), or what the network takes
        Samples.
    y : array-like of shape (n_samples,)
        Their labels.

    Returns
    -------
    score : float
        In [-1, 0], the negative of :func:`memorization_scorer`, for searches that
        maximize.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sknonlin.metrics import neg_memorization_scorer
    >>> X, y = load_digits(return_X_y=True)
    >>> mlp = MLPClassifier((64, 64), random_state=0).fit(X, y)
    >>> -1 <= neg_memorization_scorer(mlp, X, y) <= 0
    True
    """
    return -memorization_scorer(estimator, X, y)


def network_of(estimator, X):
    """Find the detector or network in an estimator, and the samples that it sees."""
    while isinstance(estimator, Pipeline | FrozenEstimator | BaseSearchCV):
        if not isinstance(estimator, Pipeline):
            name = (
                "estimator" if isinstance(estimator, FrozenEstimator) else "best_estimator_"
            )
            estimator = getattr(estimator, name)
            continue
        for position, (_, step) in enumerate(estimator.steps):
            if is_network(step):
                X = estimator[:position].transform(X) if position else X
                estimator = step
                break
        else:
            raise TypeError(
                f"No step of the pipeline {[name for name, _ in estimator.steps]} is a "
                "MemorizationDetector or a network."
            )
    return estimator, X


def is_network(step):
    """Whether a step of a pipeline is a detector, a network or a pipeline of its own."""
    step = step.estimator if isinstance(step, FrozenEstimator) else step
    return isinstance(step, (MemorizationDetector, Pipeline, *NETWORKS))

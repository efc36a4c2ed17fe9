"""Trainings as rows of a history, one for every epoch."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet


def net_of(estimator):
    """Return the skorch net in an estimator.

    Raises
    ------
    TypeError
        If there is none.
    """
    if hasattr(estimator, "label_report"):  # a MemorizationDetector
        check_is_fitted(estimator)
        estimator = estimator.estimator_
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    if not isinstance(estimator, NeuralNet):
        raise TypeError(
            f"net is a {type(estimator).__name__}, which keeps no history; it must be a "
            "skorch net. For other networks, call a NonlinearityMonitor while they train, "
            "and use from_history(monitor)."
        )
    return estimator


def history_rows(history, name):
    """One dict for every epoch.

    Raises
    ------
    TypeError
        If it is no history.
    NotFittedError
        If a net is not trained.
    ValueError
        If a history or a monitor is empty.
    """
    if hasattr(history, "layer_scores_") and hasattr(history, "update"):  # a monitor
        history = monitor_rows(history, name)
    elif isinstance(history, NeuralNet):
        if not history.history:
            raise NotFittedError(
                f"The history of this {type(history).__name__} is empty: fit it, with a "
                "NonlinearityScoring among its callbacks."
            )
        history = history.history
    if not isinstance(history, list) or not all(isinstance(r, Mapping) for r in history):
        raise TypeError(
            f"history is a {type(history).__name__}; it must be a skorch net or its "
            "history, a list with a dict for each epoch, or a NonlinearityMonitor."
        )
    if not history:
        raise ValueError(
            "history is empty: train first, with a NonlinearityScoring among the "
            "callbacks, or call the monitor's update."
        )
    return history


def monitor_rows(monitor, name):
    """Write the scores of a monitor as those of a history."""
    return [
        {name: score} | {f"{name}_{layer}": area for layer, area in layers.items()}
        for score, layers in zip(monitor.scores_, monitor.layer_scores_, strict=True)
    ]


def check_columns(asked, columns):
    """Refuse to read columns that a history does not have.

    Raises
    ------
    ValueError
        If there are some.
    """
    missing = [column for column in asked if column not in columns]
    if missing:
        raise ValueError(
            f"The history has no column {', '.join(map(repr, missing))}; it has {columns}. "
            "Add NonlinearityScoring() to the net's callbacks before it is trained, and "
            "give its name as name=."
        )


def layer_columns(name, columns):
    """Columns of the layers of a score, by layer."""
    own = [c for c in columns if c.startswith(f"{name}_") and c != f"{name}_best"]
    # Another score, whose name begins alike, has a column that tells its best.
    others = tuple(c for c in own if f"{c}_best" in columns)
    foreign = (*others, *(f"{other}_" for other in others))
    return {c.removeprefix(f"{name}_"): c for c in own if not c.startswith(foreign)}


def values_of(rows, column):
    """Values of a column; NaN for epochs without.

    Raises
    ------
    TypeError
        If they are no numbers.
    """
    values = [row.get(column, np.nan) for row in rows]
    if not all(isinstance(value, Real | np.number) for value in values):
        raise TypeError(
            f"The history's column {column!r} has values that are no numbers. Choose "
            "another."
        )
    return np.array(values, dtype=float)

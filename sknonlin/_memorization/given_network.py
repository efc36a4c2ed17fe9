"""What a MemorizationDetector is given as its network: modules, nets, pipelines of them."""

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier

from sknonlin._network.adapters import first_run
from sknonlin._running.validation import as_labels

KINDS = (NeuralNetClassifier, NeuralNetBinaryClassifier, MLPClassifier, torch.nn.Module)


def inner_network(estimator):
    """Return the network in a FrozenEstimator, or at the end of a Pipeline."""
    while isinstance(estimator, FrozenEstimator | Pipeline):
        frozen = isinstance(estimator, FrozenEstimator)
        estimator = estimator.estimator if frozen else estimator.steps[-1][1]
    return estimator


def wraps(estimator, kind):
    """Whether the network is of some kind."""
    return isinstance(inner_network(estimator), kind)


def is_trained(estimator):
    """Whether a network is taken as it is: frozen, or a bare module."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return isinstance(estimator, FrozenEstimator | torch.nn.Module)


def steps_before(estimator):
    """Return what changes samples before the network: a Pipeline of it, or None."""
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        return estimator[:-1]
    return None


def check_estimator_kind(estimator):
    """Refuse what is not a network that can be trained or is.

    Raises
    ------
    TypeError
        If it is not.
    """
    inner = inner_network(estimator)
    if estimator is None or isinstance(inner, KINDS):
        return
    own = "the last step of estimator" if isinstance(estimator, Pipeline) else "estimator"
    raise TypeError(
        f"{own} is a {type(inner).__name__}; it must be a trained torch.nn.Module, a "
        "NeuralNetClassifier or NeuralNetBinaryClassifier of skorch, or an MLPClassifier, "
        "by itself, in a FrozenEstimator, or the last step of a Pipeline; or None."
    )


def transformed(estimator, X, y, params):
    """Fit the steps before a network, unless they are fitted, and apply them.

    Returns
    -------
    steps : Pipeline or None
        Fitted.
    X : samples as the network takes them

    Raises
    ------
    ValueError
        If there are metadata for a pipeline.
    """
    steps = steps_before(estimator)
    if steps is None:
        return None, X
    if params:
        raise ValueError(
            f"fit got {sorted(params)}, which do not reach the steps of a Pipeline in a "
            "detector. Set them on its steps."
        )
    if isinstance(estimator, FrozenEstimator):
        check_is_fitted(steps)
        return steps, steps.transform(X)
    steps = clone(steps)
    return steps, steps.fit_transform(X, y)


def with_steps(estimator, steps, network):
    """Put a trained network at the end of its fitted steps, if there are any."""
    if steps is None:
        return network
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return Pipeline([*steps.steps, (estimator.steps[-1][0], network)])


def check_own_classes(estimator, classes):
    """Return the labels that a user gave to the outputs of a network, or None.

    Raises
    ------
    ValueError
        If they are not for this network, or not such labels.
    """
    if classes is None:
        return None
    if not is_trained(estimator) or wraps(estimator, MLPClassifier):
        raise ValueError(
            "classes names the outputs of a torch network that is trained already. This "
            "one learns its labels from y: leave classes out."
        )
    labels = as_labels(classes)
    if len(np.unique(labels)) < len(labels):
        raise ValueError(f"classes={labels.tolist()} has repeats; name each output once.")
    return labels


def output_classes(network, X, y, classes):
    """Labels of the outputs of a trained network: those given, or their numbers.

    Raises
    ------
    ValueError
        If there are more or fewer labels than outputs.
    """
    if network.classes is not None:
        return network.classes
    n_few = min(2, len(y))
    few = next(network.batches(X, list(range(n_few)), n_few))
    with first_run(few, n_few):
        n_outputs = network.predict_proba(few).shape[1]
    if classes is None:
        return np.arange(n_outputs)
    if len(classes) != n_outputs:
        raise ValueError(
            f"classes has {len(classes)} labels, but the network tells {n_outputs} classes "
            "apart. Name every one, in the order of its outputs."
        )
    return classes

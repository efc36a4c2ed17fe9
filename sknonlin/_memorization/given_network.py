"""What a MemorizationDetector is given as its network: modules, nets, pipelines of them."""

import copy

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier

from sknonlin._network.first_run import first_run
from sknonlin._running.validation import as_labels

KINDS = (NeuralNetClassifier, NeuralNetBinaryClassifier, MLPClassifier, torch.nn.Module)


def unfolded(estimator):
    """Take pipelines and frozen estimators apart, down to the network.

    Returns
    -------
    steps : list of (str, estimator, bool)
        What changes samples before the network: names, transformers, and whether they are
        in something frozen.
    name : str or None
        Of the network, in the innermost pipeline.
    network : object
    trained : bool
        Whether the network is taken as it is: frozen, or a bare module.
    """
    steps, name, frozen = [], None, False
    while isinstance(estimator, FrozenEstimator | Pipeline):
        if isinstance(estimator, FrozenEstimator):
            estimator, frozen = estimator.estimator, True
            continue
        *before, (name, estimator) = estimator.steps
        steps += [(own, step, frozen) for own, step in before]
    return steps, name, estimator, frozen or isinstance(estimator, torch.nn.Module)


def inner_network(estimator):
    """Return the network in a FrozenEstimator, or at the end of a Pipeline."""
    return unfolded(estimator)[2]


def wraps(estimator, kind):
    """Whether the network is of some kind."""
    return isinstance(inner_network(estimator), kind)


def is_trained(estimator):
    """Whether a network is taken as it is: frozen, or a bare module."""
    return unfolded(estimator)[3]


def has_steps(estimator):
    """Whether something changes samples before the network."""
    return bool(unfolded(estimator)[0])


def steps_before(estimator):
    """Return the fitted steps before a network, as a Pipeline, or None."""
    steps = [(name, step) for name, step, _ in unfolded(estimator)[0]]
    return Pipeline(distinct(steps)) if steps else None


def distinct(steps):
    """Give steps of nested pipelines names that differ."""
    names = [name for name, _ in steps]
    return [
        (f"{name}-{i + 1}" if names.count(name) > 1 else name, step)
        for i, (name, step) in enumerate(steps)
    ]


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
    """Apply the steps before a network, fitted first unless they are frozen.

    Steps before a network that is trained, and that are fitted, are those that it was
    trained with; they stay as they are.

    Returns
    -------
    steps : list of (str, estimator)
        Fitted.
    X : samples as the network takes them

    Raises
    ------
    ValueError
        If there are metadata for a pipeline.
    """
    given, _, _, trained = unfolded(estimator)
    if given and params:
        raise ValueError(
            f"fit got {sorted(params)}, which do not reach the steps of a Pipeline in a "
            "detector. Set them on its steps."
        )
    steps = []
    for name, step, frozen in given:
        own = step
        if step is None or isinstance(step, str):  # as "passthrough"
            pass
        elif frozen or (trained and is_fitted(step)):
            X = step.transform(X)
        else:
            own = clone(step)
            X = own.fit_transform(X, y)
        steps.append((name, own))
    return distinct(steps), X


def is_fitted(step):
    """Whether a transformer is fitted, as far as it tells."""
    try:
        check_is_fitted(step)
    except NotFittedError:
        return False
    return True


def with_steps(estimator, steps, network):
    """Put a trained network at the end of its fitted steps, as it was given."""
    _, name, _, _ = unfolded(estimator)
    if name is None:
        return network
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    pipeline = copy.copy(estimator)
    pipeline.steps = [*steps, (name, network)]
    return pipeline


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
    if isinstance(classes, set | frozenset):
        raise ValueError("classes is a set, which has no order; list the labels in order.")
    try:
        labels = as_labels(classes)
    except ValueError as error:
        raise ValueError(
            f"classes must be a list of labels, one for each output: {error}"
        ) from error
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

"""The networks that a MemorizationDetector takes, and their training."""

import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier

from sknonlin._default_network import default_network

KINDS = (NeuralNetClassifier, NeuralNetBinaryClassifier, MLPClassifier)


def check_estimator_kind(estimator):
    """Refuse what is not a network that can be trained or is.

    Raises
    ------
    TypeError
        If it is not.
    """
    inner = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if inner is None or isinstance(inner, KINDS):
        return
    remedy = "Use one of those."
    if isinstance(inner, torch.nn.Module):
        remedy = (
            "Wrap the module: NeuralNetClassifier(module, ...), or measure it as it is "
            "with layer_profile(module, X, y)."
        )
    raise TypeError(
        f"estimator is a {type(inner).__name__}; it must be skorch's NeuralNetClassifier "
        "or NeuralNetBinaryClassifier, scikit-learn's MLPClassifier, one of them in a "
        f"FrozenEstimator, or None. {remedy}"
    )


def unfitted_network(estimator, X, n_classes, seed):
    """Return the network to train: a clone, or the default one sized for the data."""
    if estimator is None:
        return default_network(*X.shape, n_classes)
    network = clone(estimator)
    if isinstance(network, NeuralNetBinaryClassifier) and n_classes > 2:
        raise ValueError(
            f"y has {n_classes} classes; a NeuralNetBinaryClassifier takes 2. Use a "
            "NeuralNetClassifier."
        )
    if isinstance(network, MLPClassifier) and network.random_state is None:
        network.set_params(random_state=seed)
    return network


def train_network(estimator, X, y, seed, params):
    """Fit a network without touching torch's random state; memory may keep it."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return estimator.fit(X, y, **params)

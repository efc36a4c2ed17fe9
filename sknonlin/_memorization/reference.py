"""What a memorization score is held against: a network that has nothing to know."""

import numpy as np
import torch
from skorch import NeuralNet
from torch.nn.utils.parametrize import is_parametrized

from sknonlin._memorization.given_network import inner_network
from sknonlin._memorization.training import fit_to, unfitted_network
from sknonlin._network.adapters import as_network
from sknonlin._running.torch_settings import random_state_kept

#: Methods that give a module new weights; torch's attention has the second.
BEGINNINGS = ("reset_parameters", "_reset_parameters")


def check_reference(reference, estimator):
    """Refuse a reference that cannot be made, before anything is trained.

    Raises
    ------
    ValueError
        If the network is a module, of which it is not known how it was trained, or which
        does not know how to begin.
    """
    inner = inner_network(estimator)
    if reference is None or not isinstance(inner, torch.nn.Module):
        return
    if reference == "shuffled":
        raise ValueError(
            "reference='shuffled' trains the network again on shuffled labels, and a bare "
            "module does not say how it is trained. Give it in a skorch net, in a "
            "FrozenEstimator, or choose reference='untrained'."
        )
    beginnings(inner)


def shuffled_reference(detector, X, y, codes, seed):
    """Train the network anew, on labels in another order.

    Parameters
    ----------
    detector : MemorizationDetector
        Fitted.
    X : samples as the network takes them
    y : ndarray of shape (n_samples,)
        The labels.
    codes : ndarray of int of shape (n_samples,)
        Their places in ``detector.classes_``.
    seed : int

    Returns
    -------
    network : Network
    order : ndarray of int of shape (n_samples,)
        In which the labels were given to it.
    """
    inner = inner_network(detector.estimator)
    order = np.random.default_rng(seed).permutation(len(codes))
    network = unfitted_network(inner, X, len(detector.classes_), seed)
    for name in network._modules if isinstance(network, NeuralNet) else ():
        given = getattr(network, name)
        if isinstance(given, torch.nn.Module):  # whose weights a clone keeps
            renew(given, seed)
    trained = fit_to(detector, network, X, y[order], codes[order], seed, {})
    return as_network(trained, detector.classes_), order


def untrained_reference(network, seed):
    """Copy a network, and give the copy new weights.

    Raises
    ------
    ValueError
        If a module does not know how to begin.
    """
    twin = network.replica(shared=False)
    renew(twin.module, seed)
    return twin


def beginnings(module):
    """List what gives the parts of a module new weights.

    Raises
    ------
    ValueError
        If a part has weights and nothing that does it.
    """
    found, wholes = [], ()
    for name, part in module.named_modules():
        method = next((m for m in BEGINNINGS if hasattr(part, m)), None)
        if method is not None and not is_parametrized(part):
            found.append(getattr(part, method))
            wholes += (f"{name}.",) if method == BEGINNINGS[1] else ()
        elif next(part.parameters(recurse=False), None) is not None:
            if wholes and name.startswith(wholes):  # a part of what begins as a whole
                continue
            raise ValueError(
                f"reference gives every module new weights, but {name!r}, a "
                f"{type(part).__name__}, has no method reset_parameters that reaches its "
                "weights. Write one, remove parametrizations such as weight norms, or "
                "leave reference out."
            )
    return found


def renew(module, seed):
    """Give a module new weights, in place; see :func:`beginnings`."""
    begin = beginnings(module)
    with random_state_kept, torch.no_grad():
        torch.manual_seed(seed)
        for each in begin:
            each()

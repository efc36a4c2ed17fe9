"""What a memorization score is held against: a network that has nothing to know."""

import numpy as np
import torch
from skorch import NeuralNet

from sknonlin._memorization.given_network import inner_network
from sknonlin._memorization.training import fit_to, unfitted_network
from sknonlin._network.adapters import as_network
from sknonlin._running.torch_settings import random_state_kept


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

    Raises
    ------
    ValueError
        If the network is a module, of which it is not known how it was trained.
    """
    inner = inner_network(detector.estimator)
    if isinstance(inner, torch.nn.Module):
        raise ValueError(
            "reference='shuffled' trains the network again on shuffled labels, and a bare "
            "module does not say how it is trained. Give it in a skorch net, in a "
            "FrozenEstimator, or choose reference='untrained'."
        )
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


def renew(module, seed):
    """Give a module new weights, in place; see :func:`untrained_reference`."""
    with random_state_kept, torch.no_grad():
        torch.manual_seed(seed)
        for name, part in module.named_modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
            elif next(part.parameters(recurse=False), None) is not None:
                raise ValueError(
                    f"reference gives every module new weights, but {name!r}, a "
                    f"{type(part).__name__}, has no method reset_parameters. Write one, or "
                    "give a skorch net its module as a class, with reference='shuffled'."
                )

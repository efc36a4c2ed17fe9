"""The network of a MemorizationDetector that is given none."""

from itertools import pairwise

import torch
from skorch import NeuralNetClassifier
from torch import nn

WIDTH, N_LAYERS = 64, 2


class ReLUNetwork(nn.Sequential):
    """A small fully connected ReLU network.

    Parameters
    ----------
    n_features : int
        Length of a sample.
    n_classes : int
        Number of outputs.
    """

    def __init__(self, n_features=1, n_classes=2):
        widths = [n_features] + [WIDTH] * N_LAYERS
        layers = [nn.BatchNorm1d(n_features)]
        for n_inputs, n_outputs in pairwise(widths):
            layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
        super().__init__(*layers, nn.Linear(WIDTH, n_classes))


def default_network(n_samples, n_features, n_classes):
    """Size a network for the data, and the number of epochs for about 500 steps."""
    batch_size = min(32, n_samples)
    n_steps = -(-n_samples // batch_size)
    return NeuralNetClassifier(
        ReLUNetwork,
        module__n_features=n_features,
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-3,
        batch_size=batch_size,
        max_epochs=max(5, min(30, 500 // n_steps)),
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )

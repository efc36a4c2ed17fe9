"""Profiles, a net and a detector to display, and figures that are closed."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import ActivationNonlinearity, LayerProfile, MemorizationDetector
from sknonlin.callbacks import NonlinearityScoring
from tests.architectures import mlp, seeded
from tests.conftest import first_digits

mpl.use("Agg")
import matplotlib.pyplot as plt

RANKS = np.array([1, 2, 4, 8])


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def profile_of(layer_names=("relu1", "relu2"), n_classes=3, n_batches=2, seed=0, **kwargs):
    """Falling errors and rising accuracies, at random."""
    rng = np.random.default_rng(seed)
    shape = (len(layer_names), n_classes, n_batches, len(RANKS))
    accuracies = np.sort(rng.random(shape))
    return LayerProfile(
        list(layer_names),
        np.arange(n_classes),
        RANKS,
        **{"batch_errors": 1 - accuracies, "batch_accuracies": accuracies} | kwargs,
        batch_accuracy=np.ones(shape[1:3]),
    )


@pytest.fixture(scope="package")
def data():
    return first_digits(200)


@pytest.fixture(scope="package")
def net(data):
    """A trained skorch net with the score in its history."""
    net = NeuralNetClassifier(
        seeded(mlp, 64, 16, 10),
        criterion=nn.CrossEntropyLoss,
        lr=0.1,
        max_epochs=4,
        verbose=0,
        callbacks=[NonlinearityScoring(batch_size=60)],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return net.fit(*data)


@pytest.fixture(scope="package")
def detector(net, data):
    template = ActivationNonlinearity(RANKS.tolist())
    return MemorizationDetector(
        FrozenEstimator(net), nonlinearity=template, n_batches=2, random_state=0
    ).fit(*data)


def legend_of(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]

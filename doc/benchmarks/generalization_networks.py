"""Networks that all fit their clean labels, and differ in how they were trained.

A grid has every combination of two levels of six hyperparameters, twice: on other rows,
from other weights. Every network is trained for 50 epochs (on digits; 30 at a larger
rate elsewhere), and on until it fits 99 % of its labels.

* `digits mlp`: scikit-learn's digits. Readings are chosen here.
* `fashion mlp`, `fashion cnn`: rows 20,000 to 29,999 of Fashion-MNIST's training set, and
  all of its test set.
* `letters mlp`: the table of letters of R's package mlbench, see `frozen_networks.py`.
"""

import functools
import itertools
from dataclasses import dataclass

import networks
import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from sknonlin.datasets import load_fashion_mnist

LEVELS = {
    "depth": (2, 4),
    "width": (64, 256),
    "weight_decay": (0.0, 0.5),
    "dropout": (0.0, 0.3),
    "batch_size": (32, 128),
    "n_train": (500, 1000),
}
SMALL = {"n_train": (300, 600), "batch_size": (16, 64)}
MILD = {"weight_decay": (0.0, 0.2), "dropout": (0.0, 0.1)}  # for narrow ones to fit
GRIDS = {  # the levels that differ
    "digits mlp": {"n_train": (250, 500)},
    "fashion mlp": {**SMALL, **MILD, "width": (32, 128)},
    "fashion cnn": {**MILD, "n_train": (300, 600), "width": (8, 16), "depth": (1, 2)},
    "letters mlp": {**MILD, "n_train": (1000, 2000), "width": (64, 128)},
    # Run when the page had been written, for what was found on those before.
    "satellite mlp": {**SMALL, **MILD, "width": (64, 128)},
    "fashion2 cnn": {**MILD, "n_train": (300, 600), "width": (8, 16), "depth": (1, 2)},
}
POOLS = {"fashion": 20_000, "fashion2": 10_000}  # first rows of the training set
SEEDS, MAX_EPOCHS, FIT = (0, 1), 300, 0.99
LEAST = {"digits mlp": (50, 1e-3)}  # epochs, and the learning rate
LEAST_OTHERS = (30, 2e-3)


@dataclass(frozen=True)
class Setting:
    """What one network is and was trained on."""

    grid: str
    seed: int
    depth: int  # hidden layers of an MLP; convolutions after the first one of a CNN
    width: int  # units of every hidden layer; channels of the first convolution
    weight_decay: float
    dropout: float
    batch_size: int
    n_train: int


@dataclass(frozen=True)
class Samples:
    """Rows to train on, rows whose labels nothing sees, and rows to test on."""

    X: np.ndarray
    y: np.ndarray
    unlabelled: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def settings_of(grid):
    """All networks of a grid: 64 combinations, twice."""
    levels = {**LEVELS, **GRIDS[grid]}
    return [
        Setting(grid, seed, **dict(zip(levels, values, strict=True)))
        for seed in SEEDS
        for values in itertools.product(*levels.values())
    ]


@functools.cache
def everything(grid, tables):
    """All inputs and labels of a data set, and the rows of pool, unlabelled and test."""
    data = grid.split()[0]
    if data in POOLS:
        X, y = networks.fashion_and_labels()
        test = load_fashion_mnist(subset="test")
        pool = POOLS[data] + np.arange(9000)
        rows = pool[-1] + np.arange(1, 501), len(y) + np.arange(len(test.target))
        X, y = np.concatenate([X, test.images]), np.concatenate([y, test.target])
        return X.astype(np.float32), y, pool, *rows
    if data == "digits":
        X, y = networks.digits_and_labels()
        order = np.random.default_rng(0).permutation(len(y))
        return X.astype(np.float32), y, order[:600], order[600:1000], order[1000:]
    frame = pd.read_csv(tables / f"{data}.csv")
    label = frame.columns[0 if data == "letters" else -1]
    inputs = frame.columns.drop(label)
    frame = frame.drop_duplicates(inputs)
    y = np.unique(frame[label], return_inverse=True)[1]
    X = StandardScaler().fit_transform(frame[inputs].to_numpy(float))
    order = np.random.default_rng(0).permutation(len(y))
    n = len(y) // 5
    sizes = (4000, 1000, 10_000) if data == "letters" else (2 * n, n, 2 * n)
    rows = np.split(order[: sum(sizes)], np.cumsum(sizes)[:2])
    return X.astype(np.float32), y, *rows


def load(setting, tables=None):
    """Give the samples of a network. What is unlabelled and tested is the same for all."""
    X, y, pool, unlabelled, test = everything(setting.grid, tables)
    rows = np.random.default_rng(setting.seed).permutation(pool)[: setting.n_train]
    return Samples(X[rows], y[rows], X[unlabelled], X[test], y[test])


def make_network(setting, shape, n_classes):
    """Make a network of hidden layers with ReLU. Dropout follows those fully connected."""
    drop = [nn.Dropout(setting.dropout)] if setting.dropout else []
    layers, width = [], setting.width
    if setting.grid.endswith("cnn"):
        channels = [1, *(width * 2**i for i in range(setting.depth + 1))]
        for n_inputs, n_outputs in itertools.pairwise(channels):
            stride = 3 if n_inputs == 1 else 2
            convolution = nn.Conv2d(n_inputs, n_outputs, 3, stride=stride, padding=1)
            layers += [convolution, nn.ReLU()]
        with torch.no_grad():
            n_inputs = nn.Sequential(*layers)(torch.zeros(1, *shape)).numel()
        layers += [nn.Flatten(), nn.Linear(n_inputs, 4 * width), nn.ReLU(), *drop]
        n_inputs = 4 * width
    else:
        layers, n_inputs = [nn.Flatten()], int(np.prod(shape))
        for _ in range(setting.depth):
            layers += [nn.Linear(n_inputs, width), nn.ReLU(), *drop]
            n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, n_classes))


def accuracy(network, X, y):
    """Share of right answers."""
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in X.split(1000)])
    return float((answers == y).double().mean())


def train(setting, samples):
    """Train a network; give it, the weights that it began with, and the epochs."""
    X, y = torch.from_numpy(samples.X), torch.from_numpy(samples.y)
    torch.manual_seed(setting.seed)
    network = make_network(setting, X.shape[1:], int(y.max()) + 1)
    first = [weight.detach().clone() for weight in network.parameters()]
    least, rate = LEAST.get(setting.grid, LEAST_OTHERS)
    optimizer = torch.optim.AdamW(
        network.parameters(), rate, weight_decay=setting.weight_decay, fused=True
    )
    for epoch in range(1, MAX_EPOCHS + 1):
        network.train()
        for batch in torch.randperm(len(X)).split(setting.batch_size):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
            optimizer.step()
        network.eval()
        if epoch >= least and accuracy(network, X, y) >= FIT:
            break
    return network, first, epoch

"""Data and networks of the benchmarks: trained once, and kept in a folder.

    python doc/benchmarks/networks.py FOLDER    # trains all of them, about an hour

* `label_noise`: an MLP and a CNN on digits and on Fashion-MNIST, a share p of the labels
  redrawn at random, trained until they fit every label they were given.
* `clean`: both on 500 to 2,000 images of Fashion-MNIST with their own labels, under
  different weight decay, dropout and width, all for 40 epochs.

Rows 0 to 9,999 of Fashion-MNIST's training set are those that anything is chosen on; rows
10,000 to 19,999 serve to confirm it.
"""

import argparse
import gzip
import itertools
import pathlib
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
NOISE_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SEEDS = (0, 1, 2)
N_EPOCHS_CLEAN, MAX_EPOCHS = 40, 400


@dataclass(frozen=True)
class Setting:
    """What one network is and was trained on."""

    data: str  # "digits", "fashion" or "confirm"
    architecture: str  # "mlp" or "cnn"
    p: float = 0.0
    seed: int = 0
    n_train: int = 1000
    width: float = 1.0
    weight_decay: float = 0.0
    dropout: float = 0.0
    n_epochs: int | None = None  # None: until every label fits

    @property
    def file_name(self):
        """Name of the file that the trained network is kept in."""
        return "_".join(str(value) for value in asdict(self).values()) + ".pt"


def fashion_mnist():
    """Images in [0, 1], (60000, 1, 28, 28), and labels of the training set."""
    with gzip.open(DATA / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(DATA / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    return images, labels


def redraw_labels(y, p, seed):
    """Redraw a share ``p`` of the labels at random, the true one included."""
    rng = np.random.default_rng(seed)
    y = y.copy()
    redrawn = rng.random(len(y)) < p
    y[redrawn] = rng.integers(0, 10, redrawn.sum())
    return y


def load(setting):
    """Training images with the labels given, and test images with their own."""
    if setting.data == "digits":
        images, y = load_digits(return_X_y=True)
        X = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        order = np.random.default_rng(setting.seed).permutation(len(X))
        train, test = order[: setting.n_train], order[1000:]
    else:
        images, y = fashion_mnist()
        first = 10_000 if setting.data == "confirm" else 0
        start = first + 2000 * setting.seed
        train = np.arange(start, start + setting.n_train)
        test = np.arange(first + 8000, first + 10_000)
        chosen = np.concatenate([train, test])
        X = images[chosen].astype(np.float32) / 255
        y, train, test = (
            y[chosen],
            np.arange(len(train)),
            np.arange(len(train), len(chosen)),
        )
    return X[train], redraw_labels(y[train], setting.p, setting.seed), X[test], y[test]


def make_network(setting):
    """Four ReLU layers: fully connected ones, or three convolutions and one of them."""
    drop = [nn.Dropout(setting.dropout)] if setting.dropout else []
    n_pixels = 64 if setting.data == "digits" else 784
    if setting.architecture == "mlp":
        widths = [n_pixels] + [int(256 * setting.width)] * 4
        layers = [nn.Flatten()]
        for n_inputs, n_outputs in itertools.pairwise(widths):
            layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU(), *drop]
    else:
        widths = [1] + [int(c * setting.width) for c in (16, 32, 64)]
        layers = []
        for n_inputs, n_outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(n_inputs, n_outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        side = int(n_pixels**0.5) // 8
        widths = [int(128 * setting.width)]
        layers += [
            nn.Flatten(),
            nn.Linear(n_outputs * side**2, widths[0]),
            nn.ReLU(),
            *drop,
        ]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def train(setting):
    """Train the network of a setting."""
    X, y, *_ = (torch.from_numpy(array) for array in load(setting))
    torch.manual_seed(setting.seed)
    network = make_network(setting)
    optimizer = torch.optim.AdamW(
        network.parameters(), 1e-3, weight_decay=setting.weight_decay
    )
    for _ in range(setting.n_epochs or MAX_EPOCHS):
        network.train()
        for batch in torch.randperm(len(X)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            fits = bool((network(X).argmax(1) == y).all())
        if setting.n_epochs is None and fits:
            break
    return network


def trained(setting, folder):
    """Return the network of a setting, from the folder where it is there."""
    path = pathlib.Path(folder) / setting.file_name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        network = train(setting)
        torch.save({"state": network.state_dict()}, path)
    network = make_network(setting).eval()
    network.load_state_dict(torch.load(path)["state"])
    return network


def label_noise(data, architecture):
    """List the networks that fit labels of which a share p is random."""
    n_train = 1000 if data == "digits" else 2000
    return [
        Setting(data, architecture, p, seed, n_train=n_train)
        for p in NOISE_LEVELS
        for seed in SEEDS
    ]


def clean(data, architecture):
    """List the differently regularized networks on clean labels."""
    return [
        Setting(
            data,
            architecture,
            n_train=n_train,
            width=width,
            weight_decay=weight_decay,
            dropout=dropout,
            n_epochs=N_EPOCHS_CLEAN,
        )
        for n_train in (500, 1000, 2000)
        for width in (0.5, 2.0)
        for weight_decay in (0.0, 1.0)
        for dropout in (0.0, 0.5)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--data", nargs="+", default=["digits", "fashion", "confirm"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for data, architecture in itertools.product(arguments.data, ("mlp", "cnn")):
        settings = label_noise(data, architecture)
        settings += [] if data == "digits" else clean(data, architecture)
        start = time.perf_counter()
        for setting in settings:
            trained(setting, arguments.folder)
        seconds = time.perf_counter() - start
        print(
            f"{data} {architecture}: {len(settings)} networks, {seconds:.0f} s", flush=True
        )

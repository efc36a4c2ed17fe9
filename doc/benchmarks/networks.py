"""Data and networks of the benchmarks: trained once, and kept in a folder.

    python doc/benchmarks/networks.py FOLDER    # trains all of them, about an hour

* `label_noise`: an MLP and a CNN on digits and on Fashion-MNIST, a share p of the labels
  redrawn at random, trained until they fit every label they were given.
* `clean`: both on 500 to 2,000 images of Fashion-MNIST with their own labels, under
  different weight decay, dropout and width, all for 40 epochs.

Rows 0 to 9,999 of Fashion-MNIST's training set are those that anything is chosen on
(`fashion`); rows 10,000 to 19,999 serve to confirm it (`confirm`). The experiments have
rows 20,000 to 29,999 (`images`), and spectrograms of spoken digits (`audio`), a new set of
them for every seed; the timbres that are tested are not trained on.
"""

import argparse
import functools
import itertools
import pathlib
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.signal import stft
from torch import nn

from sknonlin.datasets import (
    load_digits,
    load_fashion_mnist,
    make_noisy_labels,
    make_spoken_digits,
)

NOISE_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SEEDS = (0, 1, 2)
N_EPOCHS_CLEAN, MAX_EPOCHS = 40, 400
FIRST_ROWS = {"fashion": 0, "confirm": 10_000, "images": 20_000}  # of Fashion-MNIST
SHAPES = {"digits": (8, 8), "audio": (32, 31)}  # of an input; Fashion-MNIST's is 28 x 28
N_WORDS, TEST_TIMBRES = 2000, ("m7", "m8", "f5", "klatt4")


@dataclass(frozen=True)
class Setting:
    """What one network is and was trained on."""

    data: str  # "digits", "audio" or a part of Fashion-MNIST, see FIRST_ROWS
    architecture: str  # "mlp" or "cnn"
    p: float = 0.0
    seed: int = 0
    n_train: int = 1000
    width: float = 1.0
    weight_decay: float = 0.0
    dropout: float = 0.0
    n_epochs: int | None = None  # None: until every label fits
    noise: str = "redrawn"  # or a kind of sknonlin.datasets.make_noisy_labels

    @property
    def file_name(self):
        """Name of the file that the trained network is kept in."""
        return "_".join(str(value) for value in asdict(self).values()) + ".pt"


@functools.cache
def digits_and_labels():
    """Load digits once."""
    digits = load_digits()
    return digits.images, digits.target


@functools.cache
def fashion_and_labels():
    """Load Fashion-MNIST's training images once."""
    fashion = load_fashion_mnist()
    return fashion.images, fashion.target


def spectrograms(sounds):
    """Give (n, 1, 32, 31) log magnitudes: 32 bands of frequency, 31 moments."""
    _, _, amplitudes = stft(sounds, nperseg=256, noverlap=128)
    parts = np.abs(amplitudes[:, 1:, :62]).reshape(len(sounds), 32, 4, 31, 2)
    return np.log1p(1000 * parts.mean((2, 4)))[:, None].astype(np.float32) / 4


@functools.cache
def spoken_words(seed):
    """Spectrograms, digits, and whether the timbre is one of those tested, once."""
    digits = make_spoken_digits(N_WORDS, random_state=seed)
    timbres = [voice.split("+")[1] for voice in digits.voices]
    return spectrograms(digits.data), digits.target, np.isin(timbres, TEST_TIMBRES)


def give_labels(setting, X, y):
    """Labels with the noise of a setting; "redrawn" ones may be the true ones."""
    if setting.noise != "redrawn":
        return make_noisy_labels(y, setting.p, setting.seed, kind=setting.noise, X=X)
    p, rng = setting.p, np.random.default_rng(setting.seed)
    y = y.copy()
    redrawn = rng.random(len(y)) < p
    y[redrawn] = rng.integers(0, 10, redrawn.sum())
    return y


def load(setting):
    """Training images, the labels given, test images and labels, and the true labels."""
    if setting.data == "digits":
        X, y = digits_and_labels()
        order = np.random.default_rng(setting.seed).permutation(len(X))
        train, test = order[: setting.n_train], order[1000:]
    elif setting.data == "audio":
        X, y, tested = spoken_words(setting.seed)
        train, test = np.flatnonzero(~tested)[: setting.n_train], np.flatnonzero(tested)
    else:
        X, y = fashion_and_labels()
        first = FIRST_ROWS[setting.data]
        train = first + 2000 * setting.seed + np.arange(setting.n_train)
        test = np.arange(first + 8000, first + 10_000)
    given = give_labels(setting, X[train], y[train])
    return X[train], given, X[test], y[test], y[train]


def make_network(setting):
    """Four ReLU layers: fully connected ones, or three convolutions and one of them."""
    drop = [nn.Dropout(setting.dropout)] if setting.dropout else []
    height, width = SHAPES.get(setting.data, (28, 28))
    if setting.architecture == "mlp":
        widths = [height * width] + [int(256 * setting.width)] * 4
        layers = [nn.Flatten()]
        for n_inputs, n_outputs in itertools.pairwise(widths):
            layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU(), *drop]
    else:
        widths = [1] + [int(c * setting.width) for c in (16, 32, 64)]
        layers = []
        for n_inputs, n_outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(n_inputs, n_outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        widths = [int(128 * setting.width)]
        layers += [
            nn.Flatten(),
            nn.Linear(n_outputs * (height // 8) * (width // 8), widths[0]),
            nn.ReLU(),
            *drop,
        ]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def train(setting, X, y, *, n_epochs=None, watch=None):
    """Train a network of a setting, for some epochs or until it fits all labels.

    ``watch`` is called with the indices and the outputs of every batch, and at the end
    of every epoch with the network.
    """
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    torch.manual_seed(setting.seed)
    network = make_network(setting)
    optimizer = torch.optim.AdamW(
        network.parameters(), 1e-3, weight_decay=setting.weight_decay
    )
    until_fit = n_epochs is None
    return fit(network, optimizer, X, y, n_epochs or MAX_EPOCHS, watch, until_fit=until_fit)


def fit(network, optimizer, X, y, n_epochs, watch=None, *, until_fit=True):
    """Train a network on tensors for some epochs, or until it fits all labels before."""
    for _ in range(n_epochs):
        network.train()
        for batch in torch.randperm(len(X)).split(50):
            optimizer.zero_grad()
            output = network(X[batch])
            nn.functional.cross_entropy(output, y[batch]).backward()
            optimizer.step()
            if watch is not None:
                watch.batch(batch, output.detach())
        network.eval()
        if watch is not None:
            watch.epoch(network)
        with torch.no_grad():
            fits = bool((network(X).argmax(1) == y).all())
        if until_fit and fits:
            break
    return network


def trained(setting, folder):
    """Return the network of a setting, from the folder where it is there."""
    path = pathlib.Path(folder) / setting.file_name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        network = train(setting, *load(setting)[:2], n_epochs=setting.n_epochs)
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

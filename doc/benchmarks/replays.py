"""Does resuming a forward pass on tape beat running all of it again?

    python doc/benchmarks/replays.py                             # writes replays.md
    python doc/benchmarks/replays.py --networks cnn transformer  # prints a table only

`layer_profile` asks for the accuracy of every layer at every rank. It records the forward
pass once, and resumes it at the layer that is compressed. The simpler way is to run the
network from its start each time, and to overwrite the layer when it is reached; here, all
layers are made not resumable for that. Both find the same accuracies.

The networks are the CNN of layer_profile.py, a ResNet-18 and a Transformer encoder with
four layers, each trained for some epochs on the images that are profiled: the first ones
of every class of Fashion-MNIST (of rows 0 to 9,999). Everything runs on one thread, in
turn over the rounds. It takes about a quarter of an hour, most of it for the ResNet-18.
"""

import argparse
import contextlib
import itertools
import os
import pathlib
import platform
import statistics
import time
from unittest import mock

import numpy as np
import torch
from layer_profile import make_cnn
from tables import table, versions, with_answer
from torch import nn

from sknonlin import layer_profile
from sknonlin._network import calls
from sknonlin.datasets import load_fashion_mnist

HERE = pathlib.Path(__file__).parent
N_ROWS, N_CLASSES, N_ROUNDS = 10_000, 10, 3
WORTH = 0.25  # of a profile's time, which the tape has to save on ENOUGH networks
ENOUGH = 2
PACKAGES = ("sknonlin", "torch", "scikit-learn", "numpy")


# The networks -------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two convolutions and what they are added to; its one ReLU is called twice."""

    def __init__(self, n_inputs, n_outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_outputs)
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or n_inputs != n_outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False),
                nn.BatchNorm2d(n_outputs),
            )

    def forward(self, x):
        """Add the input to what the convolutions make of it."""
        hidden = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


def make_resnet18():
    """Make a ResNet-18 for small grey images: 17 ReLU calls."""
    parts = [nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)]
    parts.append(nn.ReLU(inplace=True))
    n_inputs = 64
    for n_outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        parts.append(BasicBlock(n_inputs, n_outputs, stride))
        parts.append(BasicBlock(n_outputs, n_outputs, 1))
        n_inputs = n_outputs
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Transformer(nn.Module):
    """An encoder whose steps are the rows of an image."""

    def __init__(self, width=128):
        super().__init__()
        self.embedding = nn.Linear(28, width)
        self.positions = nn.Parameter(0.02 * torch.randn(28, width))
        layer = nn.TransformerEncoderLayer(width, 4, 512, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        """Average over the steps."""
        steps = self.embedding(x.squeeze(1)) + self.positions
        return self.head(self.encoder(steps).mean(1))


NETWORKS = {  # title, function that makes it, images of a class, epochs
    "cnn": ("CNN", make_cnn, 20, 20),
    "resnet18": ("ResNet-18 (fewer images, as it is large)", make_resnet18, 4, 10),
    "transformer": ("Transformer encoder", Transformer, 20, 10),
}


def choose_images(n_images):
    """Take the first images of every class, and their labels."""
    X, y = load_fashion_mnist(return_X_y=True)
    X, y = X[:N_ROWS].reshape(-1, 1, 28, 28), y[:N_ROWS]
    chosen = [np.flatnonzero(y == c)[:n_images] for c in range(N_CLASSES)]
    chosen = np.concatenate(chosen)
    return X[chosen], y[chosen]


def trained(make, X, y, n_epochs):
    """Train a network on the images."""
    torch.manual_seed(0)
    network = make()
    images, labels = torch.from_numpy(X), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(X)).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()


# The ways to run them -----------------------------------------------------------------


@contextlib.contextmanager
def plain_reruns():
    """Let every pass run from the start of the network, for the time of a block."""
    make, n_made = calls.Layer, itertools.count()

    def not_resumable(*args, **settings):
        next(n_made)
        return make(*args, **settings, resumable=False)

    with mock.patch.object(calls, "Layer", not_resumable):
        yield
    assert next(n_made), "Layers are made in another module now; replace them there."


WAYS = {  # context of the run, whether accuracies are asked for
    "on tape": (contextlib.nullcontext, True),
    "plain reruns": (plain_reruns, True),
    "no accuracies": (contextlib.nullcontext, False),
}


def measure(name, n_rounds):
    """Seconds of every way in every round, and the number of layers."""
    _, make, n_images, n_epochs = NETWORKS[name]
    X, y = choose_images(n_images)
    network = trained(make, X, y, n_epochs)
    settings = {"batch_size": n_images, "random_state": 0}
    layer_profile(network, X, y, ranks=[1], **settings)  # a warm-up
    seconds = {way: [] for way in WAYS}
    for _ in range(n_rounds):
        profiles = {}
        for way, (context, replay) in WAYS.items():
            with context():
                start = time.perf_counter()
                profiles[way] = layer_profile(network, X, y, replay=replay, **settings)
                seconds[way].append(time.perf_counter() - start)
        accuracies = [profiles[way].accuracies for way in ("on tape", "plain reruns")]
        np.testing.assert_array_equal(*accuracies)
        last = {way: round(runs[-1], 2) for way, runs in seconds.items()}
        print(name, last, flush=True)
    return seconds, len(profiles["on tape"].layer_names)


def saved_share(seconds):
    """Share of a profile's time that the tape saves."""
    pairs = zip(seconds["on tape"], seconds["plain reruns"], strict=True)
    return statistics.median(1 - tape / plain for tape, plain in pairs)


def make_table(found):
    """Put what was found into a table."""
    rows = []
    for name, (seconds, n_layers) in found.items():
        title, _, n_images, _ = NETWORKS[name]
        medians = {way: f"{statistics.median(runs):.2f}" for way, runs in seconds.items()}
        rows.append(
            [
                title,
                f"{N_CLASSES} x {n_images}",
                n_layers,
                medians["on tape"],
                medians["plain reruns"],
                f"{saved_share(seconds):.0%}",
                medians["no accuracies"],
            ]
        )
    head = ["network", "images", "layers", "seconds on tape", "seconds with plain reruns"]
    return table([*head, "saved", "seconds without accuracies"], rows)


def write(found, n_rounds):
    """Write the table, and what is decided by it."""
    n_worth = sum(saved_share(seconds) >= WORTH for seconds, _ in found.values())
    decided = "so it is kept" if n_worth >= ENOUGH else "so it is not worth keeping"
    text = (
        "# Resuming on tape, or running again\n\nWritten by "
        "`python doc/benchmarks/replays.py`: `layer_profile` with its default ranks, on "
        f"one thread, medians of {n_rounds} rounds. *Saved* is the share of a profile's "
        "time that resuming on tape saves, against plain reruns (the median over the "
        "rounds). The accuracies are the same both ways.\n\n"
        f"{make_table(found)}\n"
        f"The rule was to keep the tape if it saves at least {WORTH:.0%} of a profile's "
        f"time on {ENOUGH} of the {len(found)} networks. It does on {n_worth}, "
        f"{decided}.\n\n"
        f"{versions(*PACKAGES)}; {platform.machine()}, {os.cpu_count()} cores.\n"
    )
    path = HERE / "replays.md"
    path.write_text(with_answer(text, path))


def main():
    """Measure the networks; write the table if it has all of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measure(name, arguments.rounds) for name in arguments.networks}
    print(make_table(found))
    if set(found) == set(NETWORKS):
        write(found, arguments.rounds)


if __name__ == "__main__":
    main()

"""One measurement of time and memory in a process of its own, as ``scale.py`` starts it.

    python doc/benchmarks/scale_cases.py CASE SIZE WORKING_MEMORY FOLDER

Prints seconds, and the peak of resident memory above that before, as JSON, and how much
of it the libraries took when they were first used. Resident memory counts the pages of
memory maps too.
"""

import json
import pathlib
import sys
import time

import numpy as np
import torch
from label_errors_scale import trained
from networks import Setting, make_network
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector, layer_profile
from sknonlin._running.memory import trim
from sknonlin.datasets import load_fashion_mnist

RANKS_TO_128 = [1, 2, 4, 8, 16, 32, 64, 128]


def resident(key="VmRSS"):
    """Resident memory in MiB, now or at its peak (``"VmHWM"``)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


class Watch:
    """Seconds of named steps, and the peak of memory over all of them.

    ``first_use`` does the same on little data, for what libraries load only once.
    """

    def __init__(self, first_use):
        loaded = resident()
        first_use()
        trim()
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        self.before, self.seconds = resident(), {}
        self.libraries = self.before - loaded

    def step(self, name, function, *args, **kwargs):
        """Call a function and note how long it took."""
        start = time.perf_counter()
        result = function(*args, **kwargs)
        self.seconds[name] = time.perf_counter() - start
        return result

    def found(self, **more):
        """Return all that was measured."""
        peak = resident("VmHWM")
        return {
            "seconds": self.seconds,
            "added": peak - self.before,
            "libraries": self.libraries,
            "peak": peak,
        } | more


class ResNet(nn.Module):
    """Six residual blocks of 32 to 128 channels, with functional ReLUs."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        widths = [32, 32, 64, 64, 128, 128]
        self.blocks = nn.ModuleList()
        for n_in, n_out in zip([32, *widths], widths, strict=False):
            stride = 1 if n_in == n_out else 2
            parts = [
                nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(n_out),
            ]
            parts += [nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)]
            parts += [nn.Conv2d(n_in, n_out, 1, stride)]
            self.blocks.append(nn.ModuleList(parts))
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        """Scores of the classes."""
        x = torch.relu(self.stem(x))
        for conv1, norm1, conv2, norm2, shortcut in self.blocks:
            inner = torch.relu(norm1(conv1(x)))
            x = torch.relu(norm2(conv2(inner)) + shortcut(x))
        return self.head(x.mean((2, 3)))


def network_of(case, X, y, folder):
    """Return a trained CNN, or a residual network as it was initialized."""
    if case == "cnn":
        return trained(torch.from_numpy(X), torch.from_numpy(y), folder).eval()
    if case == "mlp":
        return make_network(Setting("fashion", "mlp")).eval()
    return ResNet().eval()


def detect(case, size, working_memory, folder):
    """Measure a network and score ``size`` images."""
    dataset = load_fashion_mnist()
    X, y = dataset.images, dataset.target
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        network_of(case, X, y, folder),
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
    ).initialize()
    X, y = X[:size].copy(), y[:size]
    found = MemorizationDetector(
        FrozenEstimator(net), working_memory=working_memory, random_state=0
    )
    watch = Watch(lambda: found.fit(X[:200], y[:200]).score_samples(X[:200], y[:200]))
    watch.step("fit", found.fit, X, y)
    watch.step("score", found.score_samples, X, y)
    return watch.found()


def profile(case, size, working_memory, folder):
    """Profile a network on ``size`` batches of each class."""
    dataset = load_fashion_mnist()
    X, y = dataset.images, dataset.target
    torch.manual_seed(0)
    network = network_of(case, X, y, folder)
    batch = torch.from_numpy(X[:50])
    watch = Watch(lambda: layer_profile(network, X[:50], y[:50], ranks=[1], by_class=False))
    with torch.no_grad():
        network(batch)
    forward = watch.found()["added"]
    watch.step(
        "profile",
        layer_profile,
        network,
        X,
        y,
        n_batches=size,
        working_memory=working_memory,
        random_state=0,
    )
    return watch.found(forward=forward)


def mapped_file(folder, n_rows, n_features=512):
    """Activations of a random layer in a file, written once."""
    path = pathlib.Path(folder) / f"activations_{n_rows}.npy"
    if not path.exists():
        rng = np.random.default_rng(0)
        weights = rng.normal(size=(16, n_features)).astype(np.float32)
        shape = n_rows, n_features
        file = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, n_rows, 10_000):
            stop = min(start + 10_000, n_rows)
            inputs = rng.normal(size=(stop - start, 16)).astype(np.float32)
            noise = rng.normal(size=(stop - start, n_features)).astype(np.float32)
            file[start:stop] = np.maximum(inputs @ weights + 0.1 * noise, 0)
        file.flush()
    return path


def read(path):
    """Read a file from its beginning to its end."""
    buffer = bytearray(2**24)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def memory_map(case, size, working_memory, folder):
    """Fit and transform ``size`` rows of 512 numbers in a file."""
    path = mapped_file(folder, size)
    X = np.load(path, mmap_mode="r")
    scorer = ActivationNonlinearity(working_memory=working_memory, random_state=0)
    watch = Watch(lambda: scorer.fit(X[:100].copy()).transform(X[:100].copy()))
    watch.step("reading", read, path)
    watch.step("fit", scorer.fit, X)
    watch.step("transform", scorer.transform, X)
    return watch.found(gigabytes=path.stat().st_size / 1e9)


def matrix(n, q, depth=24):
    """Activations of a random layer on random inputs."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, depth)) @ rng.normal(size=(depth, q))
    return np.maximum(rows, 0).astype(np.float32)


def classes(case, size, working_memory, folder):
    """Fit and score ``size`` classes of 50 rows of 256 units."""
    X, y = matrix(50 * size, 256), np.repeat(np.arange(size), 50)
    scorer = ActivationNonlinearity(
        by_class=True, working_memory=working_memory, random_state=0
    )
    watch = Watch(lambda: scorer.fit(X[:200], y[:200]).score_samples(X[:200], y[:200]))
    watch.step("fit", scorer.fit, X, y)
    watch.step("score", scorer.score_samples, X, y)
    return watch.found()


def wide(case, size, working_memory, folder):
    """Fit and transform 4,000 rows of ``size`` units."""
    X = matrix(4000, size)
    scorer = ActivationNonlinearity(working_memory=working_memory, random_state=0)
    watch = Watch(lambda: scorer.fit(X[:100]).transform(X[:100]))
    watch.step("fit", scorer.fit, X)
    watch.step("transform", scorer.transform, X)
    return watch.found()


def many_ranks(case, size, working_memory, folder):
    """Fit and transform ``size`` rows of 512 units at ranks up to 128."""
    X = matrix(size, 512, depth=64)
    scorer = ActivationNonlinearity(
        RANKS_TO_128, working_memory=working_memory, random_state=0
    )
    watch = Watch(lambda: scorer.fit(X[:100]).transform(X[:100]))
    watch.step("fit", scorer.fit, X)
    watch.step("transform", scorer.transform, X)
    return watch.found()


CASES = {
    "cnn": detect,
    "resnet": detect,
    "mlp": detect,
    "profile": profile,
    "map": memory_map,
    "classes": classes,
    "wide": wide,
    "ranks": many_ranks,
}

if __name__ == "__main__":
    name, size, working_memory, folder = sys.argv[1:]
    torch.set_num_threads(1)
    memory = None if working_memory == "None" else float(working_memory)
    print(json.dumps(CASES[name](name, int(size), memory, folder)))

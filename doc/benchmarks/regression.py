"""Has a public call become slower? Its time, against a matrix product's.

    python doc/benchmarks/regression.py --write   # writes regression.json and regression.md
    python doc/benchmarks/regression.py           # compares with regression.json

Each public call runs on scikit-learn's digits, on one thread. A product of two fixed
matrices is timed right before and right after it. What counts is the ratio of the two
times, so that a machine that is faster or busier changes little. All calls take turns in
every round, and a call's ratio is the median over the rounds.

Without ``--write``, the script prints a table, and exits with 1 where a ratio is 1.5 times
the one that was written, or more. Write again after a change that is meant to cost time,
and on another kind of machine. It takes under a minute.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import time

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from tables import table, versions, with_answer
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector, layer_profile, nmf_path
from sknonlin._memorization.monitor import NonlinearityMonitor
from sknonlin.datasets import load_digits

HERE = pathlib.Path(__file__).parent
N_ROUNDS = 5
LIMIT = 1.5  # times the ratio that was written, at which a call counts as slower
SIDE = 1024  # of the matrices
LEAST_SECONDS = 0.15  # for which a short call is repeated
PACKAGES = ("sknonlin", "torch", "scikit-learn", "skorch", "numpy")


class Network(nn.Sequential):
    """A perceptron with two ReLU layers."""

    def __init__(self, width=128):
        super().__init__(
            nn.Linear(64, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 10),
        )


def trained(network, X, y, **settings):
    """Train a network."""
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=10,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **settings,
    )
    return net.fit(X, y)


def make_calls():
    """Name every call that is timed, with a function that makes it."""
    X, y = load_digits(return_X_y=True)
    net = trained(Network, X, y)
    with torch.inference_mode():  # up to the second layer
        A = nn.Sequential(*list(net.module_)[:4])(torch.from_numpy(X)).numpy()
    classes = np.stack([A[y == c][:170] for c in range(10)])  # (10, 170, 128)
    scorer = ActivationNonlinearity(by_class=True, random_state=0)
    detector = MemorizationDetector(FrozenEstimator(net), random_state=0)
    fitted = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(X, y)
    monitor = NonlinearityMonitor(X, y)
    ranks = [1, 2, 4, 8, 16, 32]
    return {
        "`nmf_path`": lambda: nmf_path(classes, ranks, random_state=0),
        "`ActivationNonlinearity.fit`, `transform`": lambda: scorer.fit(A, y).transform(A),
        "`layer_profile`": lambda: layer_profile(net.module_, X, y, random_state=0),
        "`MemorizationDetector.fit`": lambda: detector.fit(X, y),
        "`MemorizationDetector.score_samples`": lambda: fitted.score_samples(X, y),
        "`NonlinearityMonitor.update`": lambda: monitor.update(net),
    }


def seconds_of(call):
    """Time a call; a short one is repeated, and its mean taken."""
    start, n_calls = time.perf_counter(), 0
    while n_calls == 0 or time.perf_counter() - start < LEAST_SECONDS:
        call()
        n_calls += 1
    return (time.perf_counter() - start) / n_calls


def make_product():
    """Return a function that multiplies the two matrices."""
    left, right = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return lambda: left @ right


def measure():
    """Seconds and ratio of every call, medians over the rounds."""
    calls, product = make_calls(), make_product()
    found = {name: [] for name in calls}
    for call in [product, *calls.values()]:  # a warm-up
        call()
    for _ in range(N_ROUNDS):
        for name, call in calls.items():
            before, seconds, after = map(seconds_of, (product, call, product))
            found[name].append((seconds, 2 * seconds / (before + after)))
    medians = {}
    for name, runs in found.items():
        seconds, ratio = map(statistics.median, zip(*runs, strict=True))
        medians[name] = {"seconds": seconds, "ratio": ratio}
    return medians


def measured_with():
    """Name the versions and the hardware."""
    return f"{versions(*PACKAGES)}; {platform.machine()}, {os.cpu_count()} cores"


def write(found):
    """Write the ratios, and a table of them."""
    ratios = {name: round(medians["ratio"], 2) for name, medians in found.items()}
    written = {"measured with": measured_with(), "ratios": ratios}
    (HERE / "regression.json").write_text(json.dumps(written, indent=2) + "\n")
    rows = [
        [name, f"{medians['seconds']:.3f}", f"{medians['ratio']:.1f}"]
        for name, medians in found.items()
    ]
    head = ["call", "seconds", "times the product"]
    text = (
        "# Time of the public calls\n\nWritten by `python doc/benchmarks/regression.py "
        f"--write`: medians of {N_ROUNDS} rounds, on one thread. The data are the 1,797 "
        "digits of scikit-learn, and the network is a perceptron with two ReLU layers of "
        f"128 units. The product is that of two {SIDE} x {SIDE} matrices in torch, timed "
        f"right before and after each call.\n\n{table(head, rows)}\nWithout `--write`, the "
        f"script measures again, and fails where a ratio is {LIMIT} times the one written "
        f"here, or more.\n\n{measured_with()}.\n"
    )
    path = HERE / "regression.md"
    path.write_text(with_answer(text, path))
    print(text)


def compare(found):
    """Print the ratios beside those written; return the calls that are slower."""
    written = json.loads((HERE / "regression.json").read_text())
    rows, slower = [], []
    for name, medians in found.items():
        then, now = written["ratios"][name], medians["ratio"]
        rows.append([name, f"{then:.1f}", f"{now:.1f}", f"{now / then:.2f}"])
        if now >= LIMIT * then:
            slower.append(name)
    print(table(["call", "ratio then", "ratio now", "now / then"], rows))
    print(f"Then: {written['measured with']}.\nNow: {measured_with()}.")
    return slower


def main():
    """Write the ratios, or compare with them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write regression.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure()
    if arguments.write:
        write(found)
    elif slower := compare(found):
        raise SystemExit(f"Slower: {', '.join(slower)}.")


if __name__ == "__main__":
    main()

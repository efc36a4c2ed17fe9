"""How long do whole calls take, and how long did they take before?

    python doc/benchmarks/whole_calls.py                    # prints a table
    python doc/benchmarks/whole_calls.py --before CHECKOUT  # writes whole_calls.md

CHECKOUT is a folder with an earlier version of the repository. Both versions make all
calls, in processes of their own that take turns, with the same data and networks. Times
are those of the processor, with one thread, so that other work on the machine changes
little. The first process of each version is a warm-up, which compiles what is compiled.

The calls are those that users wait for: a detector on a table, which trains the default
network; a detector on 2,000 images of Fashion-MNIST with a trained CNN, and its scores of
all 60,000; a layer profile of that CNN; and the measurement after an epoch of its training.
It takes about five minutes.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from regression import trained
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from tables import machine, table, versions, with_answer
from torch import nn

from sknonlin import MemorizationDetector, layer_profile
from sknonlin._memorization.monitor import NonlinearityMonitor
from sknonlin.datasets import load_fashion_mnist

HERE = pathlib.Path(__file__).parent
N_ROUNDS, N_IMAGES, N_UPDATES = 3, 2000, 12
PACKAGES = ("sknonlin", "torch", "scikit-learn", "skorch", "numpy")


def make_cnn():
    """Make a CNN with four ReLU layers."""
    parts = []
    for n_inputs, n_outputs in ((1, 16), (16, 32), (32, 64)):
        convolution = nn.Conv2d(n_inputs, n_outputs, 3, padding=1)
        parts += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *parts, nn.Flatten(), nn.Linear(576, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def updates(net, X, y):
    """Measure as after so many epochs."""
    monitor = NonlinearityMonitor(X, y)
    for _ in range(N_UPDATES):
        monitor.update(net)


def make_calls():
    """Name every call, with a function that makes it; they run in this order."""
    calls = {}
    for n_classes in (2, 9):
        X, y = make_classification(
            1000, 20, n_informative=10, n_classes=n_classes, random_state=0
        )
        detector = MemorizationDetector(random_state=0)
        name = f"`MemorizationDetector().fit`, 1,000 x 20, {n_classes} classes"
        calls[name] = lambda d=detector, X=X, y=y: d.fit(X, y)
    images, labels = load_fashion_mnist(return_X_y=True)
    images = images.reshape(-1, 1, 28, 28)
    X, y = images[:N_IMAGES], labels[:N_IMAGES]
    net = trained(make_cnn, X, y, lr=1e-3, batch_size=50)
    frozen = MemorizationDetector(FrozenEstimator(net), random_state=0)
    return calls | {
        "its `fit` with a trained CNN, 2,000 images": lambda: frozen.fit(X, y),
        "its `score_samples`, 60,000 images": lambda: frozen.score_samples(images, labels),
        "`layer_profile` of the CNN": lambda: layer_profile(
            net.module_, X, y, random_state=0
        ),
        f"watching {N_UPDATES} epochs of the CNN": lambda: updates(net, X, y),
    }


def measure():
    """Seconds of the processor that every call takes."""
    torch.set_num_threads(1)
    found = {}
    for name, call in make_calls().items():
        start = time.process_time()
        call()
        found[name] = time.process_time() - start
    return found


def measure_version(folder):
    """Let a process measure the version in a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--json"]
    found = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(found.stdout.splitlines()[-1])


def compare(before, n_rounds):
    """Seconds of every call in every round, of both versions."""
    folders = {"before": before.resolve(), "now": HERE.parents[1]}
    rounds = []
    for i in range(n_rounds + 1):
        both = {version: measure_version(folder) for version, folder in folders.items()}
        rounds += [both] if i else []
        print(i, both, flush=True)
    return rounds


def make_table(rounds):
    """Medians of the seconds, and of the ratios within a round."""
    rows = []
    for name in rounds[0]["now"]:
        before, now = ([r[version][name] for r in rounds] for version in ("before", "now"))
        ratio = statistics.median(np.divide(before, now))
        medians = f"{statistics.median(before):.2f}", f"{statistics.median(now):.2f}"
        rows.append([name, *medians, f"{ratio:.1f}"])
    return table(["call", "seconds before", "seconds now", "times as fast"], rows)


def revision(folder):
    """Day and short name of the commit in a folder."""
    command = ["git", "-C", str(folder), "log", "-1", "--date=short", "--format=%h, %ad"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.strip()


def main():
    """Compare two versions, or print what this one takes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=pathlib.Path, help="folder of an earlier version")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    arguments = parser.parse_args()
    if arguments.before is None:
        found = measure()
        if arguments.json:
            print(json.dumps(found))
        else:
            rows = [[name, f"{seconds:.2f}"] for name, seconds in found.items()]
            print(table(["call", "seconds"], rows))
        return
    text = (
        "# Whole calls, now and before\n\nWritten by `whole_calls.py --before`: seconds of "
        f"the processor with one thread, medians of {arguments.rounds} rounds. *Before* is "
        f"an earlier version ({revision(arguments.before)}). Detectors of today read "
        "layers in more ways than those of before.\n\n"
        f"{make_table(compare(arguments.before, arguments.rounds))}\n"
        f"{versions(*PACKAGES)}; one core of {machine()}.\n"
    )
    path = HERE / "whole_calls.md"
    path.write_text(with_answer(text, path))


if __name__ == "__main__":
    main()

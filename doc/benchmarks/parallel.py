"""Two workers against one: threads, processes and a Dask cluster, and one that dies.

    python doc/benchmarks/parallel.py FOLDER --write doc/benchmarks

On a machine of two cores, torch held to one thread. The runs of one work take turns, and
medians of their ratios are reported. *Ceiling* is what the machine gives at that time: two
processes that do the whole work, each by itself. FOLDER keeps the network of
``label_errors_scale.py``. It takes about eight minutes.
"""

import argparse
import multiprocessing
import os
import pathlib
import platform
import signal
import threading
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from distributed import Client, LocalCluster
from joblib import parallel_config
from label_errors_scale import trained
from scale_cases import matrix
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from tables import table, versions, with_answer
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector, layer_profile
from sknonlin.datasets import load_fashion_mnist

N_ROUNDS = 3
N_IMAGES = 10_000
WAYS = {
    "threads": {"backend": "threading", "n_jobs": 2},
    "processes (loky)": {"backend": "loky", "n_jobs": 2},
    "Dask": {"backend": "dask"},
}


class Work:
    """What is measured: each method does it all and returns numbers to compare."""

    def __init__(self, folder):
        torch.set_num_threads(1)
        dataset = load_fashion_mnist()
        X, y = dataset.images, dataset.target
        network = trained(torch.from_numpy(X), torch.from_numpy(y), folder).eval()
        self.X, self.y, self.network = X[:N_IMAGES].copy(), y[:N_IMAGES], network
        net = NeuralNetClassifier(
            network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0
        ).initialize()
        self.detector = MemorizationDetector(FrozenEstimator(net), random_state=0)
        self.detector.fit(self.X[:2000], self.y[:2000])
        self.activations = matrix(30_000, 256)
        self.classes = np.arange(30_000) % 150
        self.scorer = ActivationNonlinearity(by_class=True, random_state=0)

    def fit(self):
        """Fit the detector around the trained network."""
        self.detector.fit(self.X, self.y)
        return self.detector.layer_scores_

    def score(self):
        """Score images by the fitted detector."""
        return self.detector.score_samples(self.X, self.y)

    def profile(self):
        """Profile two batches of every class."""
        found = layer_profile(self.network, self.X, self.y, n_batches=2, random_state=0)
        return found.batch_errors

    def fit_classes(self):
        """Fit paths of 150 classes."""
        return self.scorer.fit(self.activations, self.classes).errors_

    def score_rows(self):
        """Score the rows of the 150 classes by their own."""
        return self.scorer.score_samples(self.activations, self.classes)


LABELS = {
    "score": f"`MemorizationDetector.score_samples`, {N_IMAGES:,} images",
    "fit": "its `fit`, network trained",
    "profile": "`layer_profile`, two batches a class",
    "fit_classes": "`ActivationNonlinearity.fit`, 150 classes of 200 x 256",
    "score_rows": "its `score_samples`",
}


def timed(function):
    """Return the seconds of a call, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def run_cluster(pipe):
    """Run a cluster of two workers until something is sent: a process of its own."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
        pipe.send(local.scheduler_address)
        pipe.recv()


@contextmanager
def cluster():
    """Address of a Dask cluster, whose scheduler takes no time of this process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_cluster, args=(there,))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join()


def twin(folder, pipe):
    """Do the works that are asked for, and send the seconds: a process of its own."""
    work = Work(folder)
    for name in iter(pipe.recv, None):
        pipe.send(timed(getattr(work, name))[0])


class Twins:
    """Two processes that do the same work at the same time."""

    def __init__(self, folder):
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(2):
            here, there = context.Pipe()
            process = context.Process(target=twin, args=(folder, there))
            process.start()
            self.pipes.append(here)
            self.processes.append(process)

    def seconds(self, name):
        """Do a work in both, and return the seconds of the slower one."""
        for pipe in self.pipes:
            pipe.send(name)
        return max(pipe.recv() for pipe in self.pipes)

    def end(self):
        """End the processes."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.join()


def compare(work, twins):
    """Seconds of every work and way, {(name, way): list}, and the largest differences."""
    seconds, differences = {}, {}
    for name in LABELS:
        function = getattr(work, name)
        reference = function()
        n_warm = int(not seconds)  # the very first round starts the workers
        for number in range(n_warm + N_ROUNDS):
            spent = {}
            for way, settings in {"one": None, **WAYS}.items():
                with parallel_config(**settings) if settings else nullcontext():
                    spent[way], result = timed(function)
                difference = float(np.nanmax(np.abs(result - reference)))
                key = name, way
                differences[key] = max(difference, differences.get(key, 0.0))
            spent["ceiling"] = twins.seconds(name) / 2
            print(name, {way: round(s, 2) for way, s in spent.items()}, flush=True)
            if number >= n_warm:
                for way, value in spent.items():
                    seconds.setdefault((name, way), []).append(value)
    return seconds, differences


def gain(seconds, name, way):
    """Return how many times as fast as one worker, the median of the rounds."""
    return np.median(np.divide(seconds[name, "one"], seconds[name, way]))


def threads_left(work):
    """Ratio of two workers' time where torch may take both cores, to one thread each."""
    ratios = []
    for _ in range(N_ROUNDS):
        spent = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            with parallel_config(backend="threading", n_jobs=2):
                spent.append(timed(work.score)[0])
        ratios.append(spent[1] / spent[0])
    torch.set_num_threads(1)
    return np.median(ratios)


def killed(work, client):
    """Scores and seconds of a run in which a worker's process is killed."""
    processes = list(client.run(os.getpid).values())
    timer = threading.Timer(1.0, os.kill, (processes[0], signal.SIGKILL))
    with parallel_config(backend="dask"):
        timer.start()
        spent, scores = timed(work.score)
    client.wait_for_workers(2)
    left = set(client.run(os.getpid).values())
    return scores, spent, processes[0] not in left


def main():
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    work, twins = Work(arguments.folder), Twins(arguments.folder)
    with cluster() as address, Client(address) as client:
        seconds, differences = compare(work, twins)
        twins.end()
        oversubscribed = threads_left(work)
        scores = work.score()
        after, spent, died = killed(work, client)
    rows = []
    for name, label in LABELS.items():
        one = np.median(seconds[name, "one"])
        gains = [f"{gain(seconds, name, way):.2f}" for way in (*WAYS, "ceiling")]
        most = max(differences[name, way] for way in WAYS)
        rows.append((label, f"{one:.1f} s", *gains, f"{most:.0e}"))
    head = ("work", "one worker", *WAYS, "ceiling", "largest difference")
    text = "\n".join(
        [
            "# Two workers against one",
            "",
            "Written by `parallel.py` on two cores of a shared virtual machine "
            f"({platform.machine()}), torch held to one thread, medians of {N_ROUNDS} "
            "rounds in which all take turns; "
            f"{versions('sknonlin', 'torch', 'joblib', 'distributed')}. "
            "The columns from `threads` to `ceiling` say how many times as fast as one "
            "worker.",
            "",
            table(head, rows),
            "*Ceiling* is the most that this machine gives: two processes that each do all "
            "of the work at the same time, against one. The machine is shared and seldom "
            "gives two whole cores.",
            "",
            "If torch may use two threads, two workers share them. They take "
            f"{oversubscribed:.2f} times as long as with one thread.",
            "",
            f"A Dask worker was killed one second into `score_samples` "
            f"({'it was' if died else 'it was not'} replaced). The scores came after "
            f"{spent:.1f} s (undisturbed {np.median(seconds['score', 'Dask']):.1f} s), and "
            f"differ by at most {np.abs(after - scores).max():.0e}.",
            "",
        ]
    )
    print(text)
    if arguments.write:
        path = arguments.write / "parallel.md"
        path.write_text(with_answer(text, path))


if __name__ == "__main__":
    main()

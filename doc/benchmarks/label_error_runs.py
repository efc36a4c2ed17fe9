"""The trainings behind `label_errors.py`: run once, and kept in a folder.

    python doc/benchmarks/label_error_runs.py FOLDER    # about two hours on one core

For every setting one network that is trained until it fits all the labels given, with what
AUM and the large-loss rule read off while it trains, and the same network trained five
times more on four fifths of the samples, with the probabilities that confident learning
reads off the held-out fifth: after each of the first 30 epochs, and for the first seed and
a fifth of wrong labels also after as many epochs as the first network took.
"""

import argparse
import itertools
import pathlib
import time

import networks
import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

NOISE_LEVELS = (0.05, 0.1, 0.2, 0.4)
NOISE_KINDS = ("flip", "pairwise", "feature")
SEEDS = (0, 1, 2)
N_FOLDS, FOLD_EPOCHS = 5, 30


def settings(data, architecture, seeds=SEEDS):
    """All noises of one data set and architecture."""
    return [
        networks.Setting(
            data, architecture, p, seed, 1000 if data == "digits" else 2000, noise=noise
        )
        for seed in seeds
        for noise in NOISE_KINDS
        for p in NOISE_LEVELS
    ]


class Margins:
    """Margins and losses of every sample, as they are met in every epoch."""

    def __init__(self, y):
        self.y = torch.from_numpy(y)
        self.margins, self.losses = [], []
        self._start()

    def _start(self):
        self.now = torch.zeros(2, len(self.y))

    def batch(self, index, output):
        """Keep the margins and the losses of one batch."""
        y = self.y[index]
        own = output.gather(1, y[:, None])[:, 0]
        others = output.scatter(1, y[:, None], -torch.inf).amax(1)
        self.now[0, index] = own - others
        self.now[1, index] = torch.nn.functional.cross_entropy(output, y, reduction="none")

    def epoch(self, network):
        """End an epoch."""
        self.margins.append(self.now[0].numpy())
        self.losses.append(self.now[1].numpy())
        self._start()


class HeldOut:
    """Probabilities of held-out samples at the end of every epoch."""

    def __init__(self, X):
        self.X = torch.from_numpy(X)
        self.probabilities = []

    def batch(self, index, output):
        """Nothing: only the held-out samples count."""

    def epoch(self, network):
        """Keep the probabilities after one epoch."""
        with torch.no_grad():
            self.probabilities.append(network(self.X).softmax(1).numpy())


def one_training(setting, X, y):
    """Train until all labels fit."""
    watch = Margins(y)
    start = time.perf_counter()
    network = networks.train(setting, X, y, watch=watch)
    seconds = time.perf_counter() - start
    return network, {
        "margins": np.array(watch.margins, np.float32),
        "losses": np.array(watch.losses, np.float32),
        "seconds": seconds,
    }


def folds(setting, X, y, n_epochs):
    """Held-out probabilities (n_epochs, n_samples, 10), and the seconds it took."""
    probabilities = np.zeros((n_epochs, len(X), 10), np.float16)
    start = time.perf_counter()
    splitter = StratifiedKFold(N_FOLDS, shuffle=True, random_state=setting.seed)
    for train, test in splitter.split(X, y):
        watch = HeldOut(X[test])
        networks.train(setting, X[train], y[train], n_epochs=n_epochs, watch=watch)
        probabilities[:, test] = watch.probabilities
    return {"held_out": probabilities, "fold_seconds": time.perf_counter() - start}


def run(setting, folder, *, peers=True):
    """Return the network and what was recorded, from the folder where it is there."""
    path = pathlib.Path(folder) / setting.file_name
    record_path = path.with_suffix(".npz")
    X, y, *_ = networks.load(setting)
    if not record_path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        network, record = one_training(setting, X, y)
        if peers:
            whole = setting.seed == 0 and setting.p == 0.2
            n_epochs = len(record["margins"]) if whole else FOLD_EPOCHS
            record |= folds(setting, X, y, n_epochs)
        torch.save({"state": network.state_dict()}, path)
        np.savez(record_path, **record)
    return networks.trained(setting, folder), dict(np.load(record_path))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--data", nargs="+", default=["digits", "confirm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--architectures", nargs="+", default=["mlp", "cnn"])
    parser.add_argument("--ours-only", action="store_true", help="leave the folds out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed, data, architecture in itertools.product(
        arguments.seeds, arguments.data, arguments.architectures
    ):
        start = time.perf_counter()
        for setting in settings(data, architecture, [seed]):
            run(setting, arguments.folder, peers=not arguments.ours_only)
        seconds = time.perf_counter() - start
        print(f"{data} {architecture}, seed {seed}: {seconds:.0f} s", flush=True)

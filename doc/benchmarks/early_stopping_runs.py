"""Trainings of the early-stopping benchmark: recorded once, and kept in a folder.

    python doc/benchmarks/early_stopping_runs.py FOLDER --architecture mlp

Networks of `networks.py` in skorch, on labels of which a share p was redrawn: digits
(1,000 training images, tuned on) and Fashion-MNIST (2,000 and 10,000 images; `fashion` are
rows 0 to 9,999 of its training set, tuned on, and `confirm` rows 20,000 to 29,999). Test
images are the other digits, and halves of Fashion-MNIST's own test set. Every epoch writes
the columns that the stopping rules of `early_stopping.py` read. A second training, of the
same network on a random 80 % of the images, writes those of the other 20 %.
"""

import argparse
import itertools
import json
import pathlib
import time

import networks
import numpy as np
import torch
from networks import Setting
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn

from sknonlin.callbacks import NonlinearityScoring
from sknonlin.datasets import load_fashion_mnist

NOISE_LEVELS = (0.0, 0.1, 0.2, 0.4, 0.6)
SIZES = {"digits": (1000,), "fashion": (2000,), "confirm": (2000, 10_000)}
N_TEST = 3000
N_GRADIENTS, GRADIENT_BATCH = 5, 50


def n_epochs(setting):
    """Epochs enough for the noise to be fitted, or nearly."""
    if setting.n_train == 10_000:
        return 30 if setting.architecture == "mlp" else 20
    return 60 if setting.architecture == "mlp" else 45


def load(setting):
    """Training images, labels given, test images and labels."""
    if setting.data == "digits":
        return networks.load(setting)[:4]
    X, y = networks.fashion_and_labels()
    test = load_fashion_mnist(subset="test")
    if setting.data == "confirm":
        first, tested = 20_000, slice(5000, 5000 + N_TEST)
    else:
        first, tested = 0, slice(N_TEST)
    order = np.random.default_rng(setting.seed).permutation(10_000)
    train = first + order[: setting.n_train]
    given = networks.give_labels(setting, X[train], y[train])
    return X[train], given, test.images[tested], test.target[tested]


class TestAccuracy(Callback):
    """Write the share of test images whose label is right."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def on_epoch_end(self, net, **kwargs):
        """Write the column of an epoch."""
        right = predict(net.module_.eval(), self.X) == self.y
        net.history.record("test_accuracy", right.double().mean().item())


class Recorder(Callback):
    """Write what the other rules read, without touching the training.

    * ``changes``: training images whose predicted label is another than an epoch before
      (Label Wave);
    * ``disparity``: mean distance between the gradients of five batches, each of losses
      divided by their standard deviation (gradient disparity).
    """

    def __init__(self, X, y, seed):
        self.X, self.y, self.seed = X, y, seed

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Begin without predictions."""
        self.predicted_ = None
        self.rng_ = np.random.default_rng(self.seed)

    def on_epoch_end(self, net, **kwargs):
        """Write the columns of an epoch."""
        module = net.module_.eval()
        predicted = predict(module, self.X)
        before, self.predicted_ = self.predicted_, predicted
        changes = len(predicted) if before is None else (predicted != before).sum().item()
        net.history.record("changes", changes)
        net.history.record("disparity", self._disparity(module))

    def _disparity(self, module):
        gradients = []
        for _ in range(N_GRADIENTS):
            batch = self.rng_.choice(len(self.X), GRADIENT_BATCH, replace=False)
            loss = nn.functional.cross_entropy(
                module(self.X[batch]), self.y[batch], reduction="none"
            )
            loss = (loss / loss.std().detach().clamp(min=1e-8)).mean()
            parts = torch.autograd.grad(loss, list(module.parameters()))
            gradients.append(torch.cat([part.flatten() for part in parts]))
        return torch.pdist(torch.stack(gradients)).mean().item()


class TimedScoring(NonlinearityScoring):
    """Write also how many seconds a measurement took."""

    def on_epoch_end(self, net, **kwargs):
        """Measure, and write the time beside it."""
        start = time.perf_counter()
        super().on_epoch_end(net, **kwargs)
        net.history.record("scoring_dur", time.perf_counter() - start)


def train(setting, X, y, callbacks, **settings):
    """Train a network of a setting in skorch; return its history, batches left out."""
    torch.manual_seed(setting.seed)
    net = NeuralNetClassifier(
        networks.make_network(setting),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=setting.weight_decay,
        lr=1e-3,
        batch_size=100 if setting.n_train == 10_000 else 50,
        iterator_train__shuffle=True,
        callbacks=callbacks,
        verbose=0,
        **{"max_epochs": n_epochs(setting), "train_split": None} | settings,
    ).fit(X, y)
    return [{k: v for k, v in row.items() if k != "batches"} for row in net.history]


def run(setting, folder):
    """Record both trainings of a setting, if they are not there yet."""
    path = pathlib.Path(folder) / setting.file_name.replace(".pt", ".json")
    if path.exists():
        return json.loads(path.read_text())
    X, y, X_test, y_test = load(setting)
    tensors = [torch.from_numpy(part) for part in (X, y, X_test, y_test)]
    test, recorder = TestAccuracy(*tensors[2:]), Recorder(*tensors[:2], setting.seed)
    found = {
        "whole": train(setting, X, y, [TimedScoring(), test, recorder]),
        "split": train(
            setting,
            X,
            y,
            [test],
            train_split=ValidSplit(0.2, stratified=True, random_state=setting.seed),
        ),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


def predict(module, X):
    """Predicted labels of all images."""
    with torch.no_grad():
        return torch.cat([module(part).argmax(1) for part in X.split(500)])


def settings(architecture, seeds=networks.SEEDS):
    """List the trainings of an architecture, seed by seed."""
    for seed, (data, sizes), p in itertools.product(seeds, SIZES.items(), NOISE_LEVELS):
        for n_train in sizes:
            yield Setting(data, architecture, p, seed, n_train=n_train)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--architecture", choices=["mlp", "cnn"], required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=networks.SEEDS)
    parser.add_argument("--data", nargs="+", default=list(SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for setting in settings(arguments.architecture, arguments.seeds):
        if setting.data not in arguments.data:
            continue
        start = time.perf_counter()
        history = run(setting, arguments.folder)["whole"]
        best = max(row["test_accuracy"] for row in history)
        last = history[-1]["test_accuracy"]
        seconds = time.perf_counter() - start
        print(
            f"{setting.file_name}: best {best:.3f}, last {last:.3f}, {seconds:.0f} s",
            flush=True,
        )

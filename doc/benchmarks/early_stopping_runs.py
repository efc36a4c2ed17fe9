"""Trainings of the early-stopping benchmark: recorded once, and kept in a folder.

    python doc/benchmarks/early_stopping_runs.py FOLDER --part tuned      # and confirmed
    python doc/benchmarks/early_stopping_runs.py FOLDER --part confirmed --tables TABLES

Small networks on digits (1,000 images), Fashion-MNIST (14 x 14; rows 0 to 9,999 of its
training set are those that anything is chosen on, rows 20,000 to 29,999 confirm),
spectrograms of spoken digits, docstrings as token ids, and tables: scikit-learn's breast
cancer, and MisLaBenchmark's DryBean and Magic where their folder is given. A share p of the
labels is redrawn uniformly, or wrong pairwise or by the features. After every epoch all is
kept that a stopping rule may read: what the network answers to every training sample, in
training and after the epoch; norms of weights and gradients; the layers' scores; and, for
the rules with a validation split, a second and a third training on 90 and 80 % of the
samples.
"""

import argparse
import copy
import itertools
import math
import pathlib
import time
from dataclasses import asdict, dataclass

import networks
import numpy as np
import pandas as pd
import torch
from frozen_networks import N_VOCABULARY, kept, read_texts
from sklearn.datasets import load_breast_cancer
from torch import nn

from sknonlin._memorization.weight_average import WeightAverage
from sknonlin.callbacks import NonlinearityMonitor
from sknonlin.datasets import load_fashion_mnist, make_noisy_labels

N_TEST = 2000
N_GRADIENTS, GRADIENT_BATCH = 5, 50
BATCH_SIZE = 50
SPLITS = (0.1, 0.2)
N_EPOCHS = {"digits": 60, "text": 40, "table": 60}
IMAGE_EPOCHS = {"mlp": 50, "cnn": 40, "resnet": 35}
FIRST_ROW = {"fashion": 0, "confirm": 20_000}
UNIFORM = [("uniform", p) for p in (0.0, 0.2, 0.4, 0.6)]
OTHERS = [(kind, p) for kind in ("pairwise", "feature") for p in (0.2, 0.4)]
FEW = [("uniform", 0.0), ("uniform", 0.4)]


@dataclass(frozen=True)
class Training:
    """What is trained on what, and how."""

    data: str
    net: str
    noise: str = "uniform"
    p: float = 0.0
    optimizer: str = "adam"
    seed: int = 0
    n_train: int = 2000

    @property
    def stem(self):
        """Name of its file."""
        return "_".join(str(value) for value in asdict(self).values())

    @property
    def n_epochs(self):
        """Epochs enough for most of the noise to be fitted."""
        family = self.data.split("-")[0]
        return N_EPOCHS.get(family) or IMAGE_EPOCHS[self.net.split("-")[0]]


# Data ---------------------------------------------------------------------------------


def fashion(training):
    """Training images of a part of Fashion-MNIST, and a half of its test images."""
    X, y = networks.fashion_and_labels()
    test = load_fashion_mnist(subset="test")
    confirm = training.data == "confirm"
    tested = slice(5000, 5000 + N_TEST) if confirm else slice(N_TEST)
    order = np.random.default_rng(training.seed).permutation(10_000)[: training.n_train]
    train = FIRST_ROW[training.data] + order
    return smaller(X[train]), y[train], smaller(test.images[tested]), test.target[tested]


def smaller(X):
    """Images of half the height and width, so that many networks can be trained."""
    return nn.functional.avg_pool2d(torch.from_numpy(X), 2).numpy()


def audio(training):
    """Spectrograms of spoken digits; the voices tested are not trained on."""
    X, y, tested = networks.spoken_words(training.seed)
    X = smaller(X)
    train, test = np.flatnonzero(~tested)[: training.n_train], np.flatnonzero(tested)
    return X[train], y[train], X[test], y[test]


def table(name, folder):
    """Rows of a table, standardized, and their labels."""
    if name == "cancer":
        X, y = load_breast_cancer(return_X_y=True)
    else:
        path = pathlib.Path(folder) / f"{name}.csv.gz"
        frame = pd.read_csv(path, sep="\t", compression="zip").fillna(0)
        X, y = frame.iloc[:, :-1].to_numpy(float), frame.iloc[:, -1].to_numpy()
    X = (X - X.mean(0)) / np.maximum(X.std(0), 1e-9)
    return X.astype(np.float32).clip(-5, 5), np.unique(y, return_inverse=True)[1]


def load(training, folder, tables):
    """Training samples, labels given, test samples and labels, and the true labels."""
    family, _, name = training.data.partition("-")
    if family in FIRST_ROW:
        X, y, X_test, y_test = fashion(training)
    elif family == "audio":
        X, y, X_test, y_test = audio(training)
    else:
        if family == "digits":
            X, y = networks.digits_and_labels()
        elif family == "table":
            X, y = table(name, tables)
        else:
            texts = kept(folder / "texts.npz", read_texts)
            X, y = texts["ids"], texts["labels"]
        order = np.random.default_rng(training.seed).permutation(len(X))
        n_train = min(training.n_train, 7 * len(X) // 10)
        train, test = order[:n_train], order[n_train:][:N_TEST]
        X, y, X_test, y_test = X[train], y[train], X[test], y[test]
    y = y.astype(np.int64)
    features = X if family != "text" else bag_of_words(X)
    settings = {"kind": training.noise, "X": features}
    given = make_noisy_labels(y, training.p, training.seed, **settings) if training.p else y
    return X, given, X_test, y_test.astype(np.int64), y


def bag_of_words(ids):
    """Count token ids, one column for each token."""
    counts = np.zeros((len(ids), N_VOCABULARY + 1), np.float32)
    np.add.at(counts, (np.arange(len(ids))[:, None], ids), 1)
    return counts[:, 1:]


# Networks -------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a connection that skips them."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.skip = nn.Conv2d(n_in, n_out, 1, 2)
        self.relu = nn.ReLU()

    def forward(self, X):
        """Sum of both ways."""
        return self.relu(self.body(X) + self.skip(X))


class Tokens(nn.Module):
    """The mean of token embeddings, and two ReLU layers."""

    def __init__(self, n_classes):
        super().__init__()
        self.embed = nn.EmbeddingBag(N_VOCABULARY + 1, 64, padding_idx=0)
        self.head = perceptron((64, 128, 128, n_classes), "")

    def forward(self, ids):
        """Logits."""
        return self.head(self.embed(ids))


def perceptron(widths, extra):
    """Fully connected layers with batch norm or dropout where asked."""
    layers = []
    for n_in, n_out in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(n_in, n_out)]
        layers += [nn.BatchNorm1d(n_out)] if extra == "norm" else []
        layers += [nn.ReLU()]
        layers += [nn.Dropout(0.5)] if extra == "dropout" else []
    return nn.Sequential(*layers, nn.Linear(*widths[-2:]))


def convolutional(shape, n_classes, extra):
    """Two convolutions and two fully connected layers."""
    layers, channels = [], 1
    for n_out in (8, 16):
        layers += [nn.Conv2d(channels, n_out, 3, padding=1)]
        layers += [nn.BatchNorm2d(n_out)] if extra == "norm" else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels = n_out
    n_flat = channels * (shape[0] // 4) * (shape[1] // 4)
    head = perceptron((n_flat, 128, n_classes), "dropout" if extra == "dropout" else "")
    return nn.Sequential(*layers, nn.Flatten(), head)


def make_network(training, X, n_classes):
    """Make the network of a training, with weights by its seed."""
    torch.manual_seed(training.seed)
    kind, _, extra = training.net.partition("-")
    if kind == "bag":
        return Tokens(n_classes)
    if kind == "mlp":
        n_inputs = math.prod(X.shape[1:])
        widths = (n_inputs, *((128, 128) if n_inputs > 32 else (64, 64)), n_classes)
        return nn.Sequential(nn.Flatten(), perceptron(widths, extra))
    if kind == "cnn":
        return convolutional(X.shape[2:], n_classes, extra)
    first = [nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    blocks = [Block(16, 32), Block(32, 32)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, n_classes)]
    return nn.Sequential(*first, *blocks, *last)


def augmented(X):
    """Images shifted by up to two pixels, and half of them mirrored."""
    shifts = torch.randint(-2, 3, (2,)).tolist()
    flipped = torch.rand(len(X), 1, 1, 1) < 0.5
    X = torch.roll(X, shifts, (2, 3))
    return torch.where(flipped, X.flip(3), X)


# Training -------------------------------------------------------------------------------


def optimizer_of(training, network):
    """Optimizer and schedule: Adam at a constant rate, or SGD along a cosine."""
    if training.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), 1e-3), None
    optimizer = torch.optim.SGD(
        network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, training.n_epochs
    )


def epochs(training, X, y, n_classes):
    """Train; yield the network after every epoch, and what it answered during it."""
    network = make_network(training, X, n_classes)
    optimizer, schedule = optimizer_of(training, network)
    for _ in range(training.n_epochs):
        network.train()
        online = torch.zeros(len(X), n_classes)
        for batch in torch.randperm(len(X)).split(BATCH_SIZE):
            if len(batch) == 1:
                continue
            optimizer.zero_grad()
            part = augmented(X[batch]) if training.net.endswith("augment") else X[batch]
            output = network(part)
            nn.functional.cross_entropy(output, y[batch]).backward()
            optimizer.step()
            online[batch] = output.detach().softmax(1)
        if schedule is not None:
            schedule.step()
        with torch.random.fork_rng():
            yield network.eval(), online


@torch.no_grad()
def outputs(network, X):
    """Run a network on all samples."""
    return torch.cat([network(part) for part in X.split(500)])


def accuracy(network, X, y):
    """Share of samples that get their label."""
    return (outputs(network, X).argmax(1) == y).double().mean().item()


class Gradients:
    """What other rules read of gradients, on batches drawn anew after every epoch."""

    def __init__(self, X, y, n_classes, seed):
        self.X, self.y = X, y
        self.rng = np.random.default_rng(seed)
        chosen = self.rng.choice(len(X), min(len(X), 100), replace=False)
        drawn = torch.from_numpy(self.rng.integers(0, n_classes, len(chosen)))
        self.random = X[chosen], drawn

    def __call__(self, network):
        """Products of batch gradients, their losses' spread, EB, and susceptibility."""
        gradients, spreads = [], []
        size = min(GRADIENT_BATCH, len(self.X) // N_GRADIENTS)
        chosen = self.rng.choice(len(self.X), (N_GRADIENTS, size), replace=False)
        for batch in chosen:
            loss = self._losses(network, self.X[batch], self.y[batch])
            gradients.append(self._gradient(network, loss.mean()))
            spreads.append(loss.std().item())
        G = torch.stack(gradients)
        mean, variance = G.mean(0), G.var(0) / N_GRADIENTS  # of the mean
        seen = variance > 0
        return {
            "gram": (G @ G.T).numpy(),
            "spread": np.array(spreads),
            "evidence": 1 - (mean[seen] ** 2 / variance[seen]).mean().item(),
            "susceptibility": self._susceptibility(network),
        }

    @staticmethod
    def _losses(network, X, y):
        return nn.functional.cross_entropy(network(X), y, reduction="none")

    @staticmethod
    def _gradient(network, loss):
        parts = torch.autograd.grad(loss, list(network.parameters()))
        return torch.cat([part.flatten() for part in parts])

    def _susceptibility(self, network):
        """Fall of the loss on random labels after one step on them."""
        twin = copy.deepcopy(network)
        before = self._losses(twin, *self.random).mean()
        before.backward()
        torch.optim.SGD(twin.parameters(), 0.01).step()
        with torch.no_grad():
            after = self._losses(twin, *self.random).mean()
        return (before - after).abs().item()


def whole(training, X, y, X_test, y_test):
    """Train on all samples; return everything that rules read, epoch by epoch."""
    n_classes = int(max(y.max(), y_test.max())) + 1
    gradients = Gradients(X, y, n_classes, training.seed)
    monitor = NonlinearityMonitor(X.numpy(), y.numpy(), n_samples=0)  # the layers
    chosen = monitor._chosen
    monitor.update(make_network(training, X, n_classes).eval())
    average, rows = WeightAverage(), []
    for network, online in epochs(training, X, y, n_classes):
        start = time.perf_counter()
        score = monitor.update(network)
        row = {"nmf": score, "nmf_s": time.perf_counter() - start}
        row["layers"] = np.array(list(monitor.layer_scores_[-1].values()))
        row["online"] = online.half().numpy()
        row["answers"] = outputs(network, X).softmax(1).half().numpy()
        row["test"] = accuracy(network, X_test, y_test)
        row |= averaged(average, network, X, X_test, y_test)
        row["norms"] = np.array([p.norm().item() for p in network.parameters()])
        rows.append(row | gradients(network))
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return found | {"chosen": chosen}


def averaged(average, network, X, X_test, y_test):
    """Record what the average of the weights so far answers, and its test accuracy."""
    modules = {"network": network}
    average.update(modules)
    with average.in_place(modules):
        return {
            "averaged_answers": outputs(network, X).softmax(1).half().numpy(),
            "averaged_test": accuracy(network, X_test, y_test),
        }


def averages(training, X, y, X_test, y_test):
    """Train again as before, and return what is averaged, epoch by epoch."""
    n_classes = int(max(y.max(), y_test.max())) + 1
    average, rows = WeightAverage(), []
    for network, _ in epochs(training, X, y, n_classes):
        row = {"test": accuracy(network, X_test, y_test)}
        rows.append(row | averaged(average, network, X, X_test, y_test))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def split(training, share, X, y, X_test, y_test):
    """Train on a part of the samples; return validation and test accuracy and loss."""
    n_classes = int(max(y.max(), y_test.max())) + 1
    order = np.random.default_rng(training.seed + 1).permutation(len(X))
    n_valid = int(share * len(X))
    valid, train = order[:n_valid], order[n_valid:]
    rows = []
    for network, _ in epochs(training, X[train], y[train], n_classes):
        output = outputs(network, X[valid])
        loss = nn.functional.cross_entropy(output, y[valid]).item()
        right = (output.argmax(1) == y[valid]).double().mean().item()
        rows.append((right, loss, accuracy(network, X_test, y_test)))
    return np.array(rows)


def record(training, folder, tables=None):
    """Record a setting's trainings, or what is missing of them."""
    path = folder / f"{training.stem}.npz"
    before = dict(np.load(path)) if path.exists() else {}
    if "averaged_test" in before:
        return before
    X, y, X_test, y_test, true = load(training, folder, tables)
    arrays = [torch.from_numpy(part) for part in (X, y, X_test, y_test)]
    torch.manual_seed(training.seed)
    if before:
        found = averages(training, *arrays)
        np.testing.assert_array_equal(found["test"], before["test"])
        np.savez_compressed(path, **before, **{k: found[k] for k in found if k != "test"})
        return before | found
    start = time.perf_counter()
    found = whole(training, *arrays) | {"y": y, "true": true}
    middle = time.perf_counter()
    for share in SPLITS:
        found[f"split_{share}"] = split(training, share, *arrays)
    found["seconds"] = np.array([middle - start, time.perf_counter() - middle])
    np.savez_compressed(path, **found)
    return found


# Lists ----------------------------------------------------------------------------------


def several(data, net, kinds, optimizer="adam", seeds=(0,), n_train=2000):
    """Trainings that differ in the noise of their labels, and the seed."""
    return [
        Training(data, net, noise, p, optimizer, seed, n_train)
        for seed, (noise, p) in itertools.product(seeds, kinds)
    ]


def on_images(data):
    """Trainings on a part of Fashion-MNIST."""
    some = [*FEW, ("uniform", 0.2)]
    few = {"kinds": FEW, "seeds": (2,), "n_train": 1000}
    return [
        *several(data, "mlp", UNIFORM, seeds=(0, 1)),
        *several(data, "mlp", OTHERS),
        *several(data, "mlp", some, "sgd"),
        *several(data, "mlp", some, seeds=(4,), n_train=5000),
        *several(data, "mlp-norm", **few),
        *several(data, "mlp-dropout", **few),
        *several(data, "cnn", UNIFORM, seeds=(1,), n_train=1000),
        *several(data, "cnn", FEW, "sgd", seeds=(1,), n_train=1000),
        *several(data, "cnn-norm", **few),
        *several(data, "cnn-dropout", **few),
        *several(data, "cnn-augment", **few),
        *several(data, "resnet", optimizer="sgd", **few),
        *several(data, "cnn", OTHERS, seeds=(3,), n_train=1000),
        *several(data, "cnn", UNIFORM),
        *several(data, "mlp", UNIFORM, "sgd", seeds=(5,), n_train=1000),
        *several(data, "mlp", UNIFORM, seeds=(6, 7), n_train=1000),
    ]


def listed(part, tables):
    """Trainings that rules were chosen on, or those that confirm them."""
    if part == "tuned":
        digits = [
            *several("digits", "mlp", UNIFORM, seeds=(0, 1), n_train=1000),
            *several("digits", "mlp", OTHERS, n_train=1000),
            *several("digits", "mlp", UNIFORM, "sgd", n_train=1000),
            *several("digits", "cnn", UNIFORM, n_train=1000),
            *several("digits", "cnn", FEW, "sgd", n_train=1000),
            *several("digits", "mlp-norm", FEW, n_train=1000),
        ]
        return digits + on_images("fashion")
    names = ["cancer", *(["DryBean", "Magic"] if tables else [])]
    return [
        *several("audio", "mlp", UNIFORM),
        *several("audio", "mlp", OTHERS[::2]),
        *several("text", "bag", UNIFORM),
        *several("text", "bag", OTHERS[::2]),
        *(t for name in names for t in several(f"table-{name}", "mlp", UNIFORM[:3])),
        *several("audio", "cnn", FEW, n_train=1000),
        *on_images("confirm"),
    ]


def main():
    """Record the trainings of a part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--part", choices=["tuned", "confirmed"], required=True)
    parser.add_argument("--tables", help="folder of MisLaBenchmark's tables")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for training in listed(arguments.part, arguments.tables):
        found = record(training, arguments.folder, arguments.tables)
        test, seconds = found["test"], found["seconds"]
        print(
            f"{training.stem}: best {test.max():.3f} at {test.argmax() + 1}, last "
            f"{test[-1]:.3f}, {seconds[0]:.0f} + {seconds[1]:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()

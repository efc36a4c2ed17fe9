"""Which reading of a layer profile says how far a network memorized?

    python doc/benchmarks/memorization_score.py FOLDER   # networks are kept in FOLDER

It measures the networks of `networks.py` and writes `memorization_score.md` beside this
file: the rank correlation of every candidate with the share p of redrawn labels, on the
networks that fit them all; the layer profiles behind it; and, on networks trained with
clean labels under different regularization, the rank correlation with their
generalization gap, against PCA, random ablation, the training loss and WeightWatcher's
alpha. The score was chosen on digits and on Fashion-MNIST's rows 0 to 9,999, and is
confirmed on rows 10,000 to 19,999.
"""

import argparse
import contextlib
import io
import itertools
import json
import pathlib
import platform

import networks
import numpy as np
import torch
import weightwatcher
from scipy.stats import spearmanr
from tables import table, versions, with_answer
from torch import nn

from sknonlin import layer_profile

HERE = pathlib.Path(__file__).parent
DATA, ARCHITECTURES = ("digits", "fashion", "confirm"), ("mlp", "cnn")
PACKAGES = ("sknonlin", "torch", "scikit-learn", "numpy", "weightwatcher")


# Measuring ------------------------------------------------------------------------


KINDS = {
    "nmf": {},
    "mixed": {"by_class": False, "n_batches": 10},
    "pca": {"compression": "pca"},
    "pca mixed": {
        "compression": "pca",
        "by_class": False,
        "n_batches": 10,
        "replay": False,
    },
    "ablation": {"compression": "ablation"},
}


def areas(network, X, y, kind):
    """Areas of both curves for every layer, in one kind of profile."""
    profile = layer_profile(network, X, y, random_state=0, **KINDS[kind])
    return {"error": profile.error_auc.tolist(), "accuracy": profile.accuracy_auc.tolist()}


def loss_and_accuracy(network, X, y):
    with torch.no_grad():
        output = torch.cat([network(part) for part in torch.from_numpy(X).split(500)])
    y = torch.from_numpy(y)
    loss = nn.functional.cross_entropy(output, y).item()
    return loss, (output.argmax(1) == y).double().mean().item()


def spectral_alpha(network):
    """WeightWatcher's mean power-law exponent of the weights' spectra."""
    with contextlib.redirect_stdout(io.StringIO()):
        watcher = weightwatcher.WeightWatcher(model=network)
        return float(watcher.get_summary(watcher.analyze(min_evals=10))["alpha"])


def measure(setting, folder):
    """Measure a network; what was measured before is read from the folder."""
    path = pathlib.Path(folder) / setting.file_name.replace(".pt", ".json")
    found = json.loads(path.read_text()) if path.exists() else {"profiles": {}}
    network = networks.trained(setting, folder)
    X, y, X_test, y_test, _ = networks.load(setting)
    for kind in KINDS.keys() - found["profiles"].keys():
        found["profiles"][kind] = areas(network, X, y, kind)
    if "untrained" not in found:
        torch.manual_seed(setting.seed)
        untrained = networks.make_network(setting).eval()
        found["untrained"] = layer_profile(
            untrained, X, y, replay=False, random_state=0
        ).error_auc.tolist()
        found["train_loss"], found["train_accuracy"] = loss_and_accuracy(network, X, y)
        found["test_accuracy"] = loss_and_accuracy(network, X_test, y_test)[1]
    if "alpha" not in found and setting.n_epochs is not None:
        found["alpha"] = spectral_alpha(network)
    path.write_text(json.dumps(found))
    return found


# Readings -------------------------------------------------------------------------


def reading(kind, curve):
    return lambda found: np.array(found["profiles"][kind][curve])


error, mixed = reading("nmf", "error"), reading("mixed", "error")
accuracy, mixed_accuracy = reading("nmf", "accuracy"), reading("mixed", "accuracy")

CANDIDATES = {
    "error, mean of layers": lambda f: error(f).mean(),
    "error, largest layer": lambda f: error(f).max(),
    "error, last layer": lambda f: error(f)[-1],
    "1 - accuracy, mean of layers": lambda f: 1 - accuracy(f).mean(),
    "1 - accuracy, weakest layer": lambda f: 1 - accuracy(f).min(),
    "mixed batches: 1 - accuracy, mean of layers": lambda f: 1 - mixed_accuracy(f).mean(),
    "mixed batches: 1 - accuracy, weakest layer": lambda f: 1 - mixed_accuracy(f).min(),
    "mixed batches: error, mean of layers": lambda f: mixed(f).mean(),
    "error / untrained network's, mean": lambda f: (error(f) / f["untrained"]).mean(),
    "error / untrained network's, largest": lambda f: (error(f) / f["untrained"]).max(),
    "error / mixed error, mean of layers": lambda f: (error(f) / mixed(f)).mean(),
    "error / mixed error, smallest layer": lambda f: (error(f) / mixed(f)).min(),
    "**sum of errors / sum of mixed errors** (the score)": lambda f: (
        error(f).sum() / mixed(f).sum()
    ),
    "1 - product of (1 - error)": lambda f: 1 - np.prod(1 - error(f)),
}
PEERS = {
    "the score (NMF)": CANDIDATES["**sum of errors / sum of mixed errors** (the score)"],
    "the same with PCA": lambda f: (
        np.sum(f["profiles"]["pca"]["error"]) / np.sum(f["profiles"]["pca mixed"]["error"])
    ),
    "error area, NMF": lambda f: error(f).mean(),
    "error area, PCA": lambda f: np.mean(f["profiles"]["pca"]["error"]),
    "1 - accuracy area, NMF": lambda f: 1 - accuracy(f).mean(),
    "1 - accuracy area, PCA": lambda f: 1 - np.mean(f["profiles"]["pca"]["accuracy"]),
    "1 - accuracy area, ablation": lambda f: (
        1 - np.mean(f["profiles"]["ablation"]["accuracy"])
    ),
    "- training loss": lambda f: -f["train_loss"],
    "WeightWatcher's alpha": lambda f: f["alpha"],
}


# The tables -----------------------------------------------------------------------


def candidates_table(noise):
    """Rank correlation of every candidate with p."""
    rows = []
    for name, candidate in CANDIDATES.items():
        cells = []
        for settings, found in noise.values():
            values = [candidate(f) for f in found]
            p = [setting.p for setting in settings]
            cells.append(f"{spearmanr(p, values).statistic:.3f}")
        rows.append([name, *cells])
    return table(["reading", *(" ".join(key) for key in noise)], rows)


def levels_table(noise):
    """Give the score at every p: mean and range of the seeds."""
    score, rows = PEERS["the score (NMF)"], []
    for key, (_, found) in noise.items():
        values = np.array([score(f) for f in found]).reshape(-1, len(networks.SEEDS))
        cells = [f"{v.mean():.2f} ({v.min():.2f}-{v.max():.2f})" for v in values]
        rows.append([" ".join(key), *cells])
    return table(["networks", *(f"p = {p}" for p in networks.NOISE_LEVELS)], rows)


def depth_table(noise):
    """Give the areas at every layer, for some p, mean of the seeds."""
    rows = []
    for key, (settings, found) in noise.items():
        for p in (0.0, 0.4, 1.0):
            chosen = [f for s, f in zip(settings, found, strict=True) if s.p == p]
            for name, read in {
                "error": error,
                "error / mixed error": lambda f: error(f) / mixed(f),
                "accuracy": accuracy,
                "accuracy, mixed": mixed_accuracy,
            }.items():
                values = np.mean([read(f) for f in chosen], axis=0)
                rows.append([" ".join(key), p, name, *(f"{v:.3f}" for v in values)])
    return table(["networks", "p", "area", *(f"ReLU {i}" for i in range(1, 5))], rows)


def gap_table(clean):
    """Rank correlation of the score and its peers with the generalization gap."""
    rows = []
    for name, peer in PEERS.items():
        cells = []
        for found in clean.values():
            gap = [f["train_accuracy"] - f["test_accuracy"] for f in found]
            cells.append(f"{spearmanr(gap, [peer(f) for f in found]).statistic:.2f}")
        rows.append([name, *cells])
    head = [f"{' '.join(key)} ({len(found)} networks)" for key, found in clean.items()]
    return table(["reading", *head], rows)


def write(noise, clean, path):
    """Write the tables, with what they were made with."""
    text = (
        "# Readings of a layer profile as measures of memorization\n\n"
        "Written by `doc/benchmarks/memorization_score.py`. The networks have four ReLU "
        "layers. Each class has a batch of 50 samples, and ten mixed batches of 50 stand "
        "beside them. Ranks go from 1 to 32. The score was chosen on `digits` and "
        "`fashion`. `confirm` is other rows of Fashion-MNIST.\n\n"
        "## Rank correlation with the share p of redrawn labels\n\n"
        f"p in {networks.NOISE_LEVELS}, {len(networks.SEEDS)} seeds each. All networks "
        "were trained until they fitted every label. With three networks for each p, "
        "0.988 is the highest possible value.\n\n"
        f"{candidates_table(noise)}\n"
        "## The score\n\nThe table has the mean of the seeds, and their range.\n\n"
        f"{levels_table(noise)}\n"
        "## Along the depth\n\n"
        f"{depth_table(noise)}\n"
        "## Rank correlation with the generalization gap, on clean labels\n\n"
        "The gap is the training accuracy less the test accuracy. The networks differ in "
        "training-set size, width, weight decay and dropout. All were trained for "
        f"{networks.N_EPOCHS_CLEAN} epochs.\n\n"
        f"{gap_table(clean)}\n"
        f"{versions(*PACKAGES)}; {platform.machine()}, one "
        "thread.\n"
    )
    path.write_text(with_answer(text, path))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--data", nargs="+", default=DATA, choices=DATA)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    noise, clean = {}, {}
    for data, architecture in itertools.product(arguments.data, ARCHITECTURES):
        key = data, architecture
        settings = networks.label_noise(*key)
        noise[key] = settings, [measure(s, arguments.folder) for s in settings]
        if data != "digits":
            clean[key] = [measure(s, arguments.folder) for s in networks.clean(*key)]
        print(*key, flush=True)
    write(noise, clean, HERE / "memorization_score.md")

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
import importlib.metadata
import itertools
import json
import pathlib
import platform

import networks
import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from sknonlin import layer_profile

HERE = pathlib.Path(__file__).parent
DATA, ARCHITECTURES = ("digits", "fashion", "confirm"), ("mlp", "cnn")
PACKAGES = ("sknonlin", "torch", "scikit-learn", "numpy", "weightwatcher")


# Measuring ------------------------------------------------------------------------


def profiles(network, X, y):
    """Areas of both curves for every layer, in several kinds of profile."""
    kinds = {
        "nmf": {},
        "mixed": {"by_class": False, "n_batches": 10},
        "pca": {"compression": "pca"},
        "ablation": {"compression": "ablation"},
    }
    found = {}
    for kind, settings in kinds.items():
        profile = layer_profile(network, X, y, random_state=0, **settings)
        found[kind] = {
            "error": profile.error_auc.tolist(),
            "accuracy": profile.accuracy_auc.tolist(),
        }
    return found


def loss_and_accuracy(network, X, y):
    with torch.no_grad():
        output = torch.cat([network(part) for part in torch.from_numpy(X).split(500)])
    y = torch.from_numpy(y)
    loss = nn.functional.cross_entropy(output, y).item()
    return loss, (output.argmax(1) == y).double().mean().item()


def spectral_alpha(network):
    """WeightWatcher's mean power-law exponent of the weights' spectra."""
    import weightwatcher

    watcher = weightwatcher.WeightWatcher(model=network)
    details = watcher.analyze(min_evals=10)
    return float(watcher.get_summary(details)["alpha"])


def measure(setting, folder):
    """Measure a network, or read what was measured before."""
    path = pathlib.Path(folder) / setting.file_name.replace(".pt", ".json")
    if path.exists():
        return json.loads(path.read_text())
    network = networks.trained(setting, folder)
    X, y, X_test, y_test = networks.load(setting)
    torch.manual_seed(setting.seed)
    untrained = networks.make_network(setting).eval()
    loss, accuracy = loss_and_accuracy(network, X, y)
    found = {
        "profiles": profiles(network, X, y),
        "untrained": layer_profile(untrained, X, y, random_state=0).error_auc.tolist(),
        "train_loss": loss,
        "train_accuracy": accuracy,
        "test_accuracy": loss_and_accuracy(network, X_test, y_test)[1],
    }
    path.write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--data", nargs="+", default=DATA)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for data, architecture in itertools.product(arguments.data, ARCHITECTURES):
        settings = networks.label_noise(data, architecture)
        settings += [] if data == "digits" else networks.clean(data, architecture)
        for setting in settings:
            measure(setting, arguments.folder)

"""Networks trained until they fit noisy labels, measured in every way there is.

    python doc/experiments/label_noise_runs.py FOLDER

It trains an MLP and a CNN, of four ReLU layers each (`../benchmarks/networks.py`), on 1,000
images of Fashion-MNIST and on 1,000 spectrograms of spoken digits, with a share p of their
labels redrawn at random, until they fit every label; three seeds for each p. Every network
is profiled under three compressions, on single-class and on mixed batches of its training
samples, one layer at a time and, under NMF, cumulatively, and a file of the areas is left
in FOLDER, next to the network. What is there is not done again; `label_noise.py` reads the
files. All 72 networks took 156 minutes of training and 21 of measuring, of one thread each,
two at a time on a busy virtual machine of two cores; the CNNs on audio take most of it.
"""

import argparse
import itertools
import json
import pathlib
import sys
import time

import numpy as np
import torch
from joblib import Parallel, delayed

from sknonlin import layer_profile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))
import networks

DATA, ARCHITECTURES, N_TRAIN = ("images", "audio"), ("cnn", "mlp"), 1000
SIZES = {"batch_size": 50, "max_rows": 1000}  # fewer rows than by default
BATCHES = {"single": {}, "mixed": {"by_class": False, "n_batches": 5}}
EXTENTS = {
    "layer": ("nmf", "pca", "ablation"),  # the compressions measured so
    "cumulative": ("nmf",),
}


def settings():
    """List the networks: all of one seed first."""
    return [
        networks.Setting(data, architecture, p, seed, n_train=N_TRAIN)
        for seed in networks.SEEDS
        for architecture, data, p in itertools.product(
            ARCHITECTURES, DATA, networks.NOISE_LEVELS
        )
    ]


def results_path(setting, folder):
    """File that the measurements of a network are kept in."""
    return pathlib.Path(folder) / setting.file_name.replace(".pt", ".json")


def accuracy(network, X, y):
    """Share of samples that get their labels."""
    with torch.no_grad():
        output = torch.cat([network(part) for part in torch.from_numpy(X).split(500)])
    return (output.argmax(1) == torch.from_numpy(y)).double().mean().item()


def profiles(network, X, y):
    """Areas of all layers, for every extent, kind of batches and compression."""
    rows = []
    for extent, batches in itertools.product(EXTENTS, BATCHES):
        for compression in EXTENTS[extent]:
            profile = layer_profile(
                network,
                X,
                y,
                compression=compression,
                cumulative=extent == "cumulative",
                random_state=0,
                **SIZES,
                **BATCHES[batches],
            )
            areas = np.stack([profile.error_auc, profile.accuracy_auc], axis=1)
            rows += [
                (compression, batches, extent, layer, *pair)
                for layer, pair in enumerate(areas.tolist(), start=1)
            ]
    return rows


def measure(setting, folder):
    """Train and measure a network, on one thread."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    network = networks.trained(setting, folder)
    trained = time.perf_counter()
    X, y, X_test, y_test, _ = networks.load(setting)
    found = {
        "training_seconds": trained - start,
        "train_accuracy": accuracy(network, X, y),
        "test_accuracy": accuracy(network, X_test, y_test),
        "profiles": profiles(network, X, y),
    }
    found["measuring_seconds"] = time.perf_counter() - trained
    results_path(setting, folder).write_text(json.dumps(found))
    print(setting, f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--data", nargs="+", default=DATA, choices=DATA)
    parser.add_argument(
        "--architecture", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    arguments = parser.parse_args()
    pathlib.Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    chosen = [
        setting
        for setting in settings()
        if setting.data in arguments.data
        and setting.architecture in arguments.architecture
        and not results_path(setting, arguments.folder).exists()
    ]
    Parallel(arguments.jobs)(delayed(measure)(s, arguments.folder) for s in chosen)

"""Time and memory of a layer profile, against multiplicative updates rank by rank.

    python doc/benchmarks/layer_profile.py    # writes layer_profile.md beside this file

The profile of a CNN with five ReLU layers (three convolutions, two fully connected
layers) on Fashion-MNIST: 10 classes x 20 images, 10 ranks, error and accuracy of each.
The peers do the same one layer, class and rank at a time: scikit-learn's `NMF` with
multiplicative updates, or the same updates in torch; each then runs the network with
the layer's output replaced by a hook, as one would by hand. Every method runs in a
process of its own, after a warm-up on two ranks; about 15 minutes.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import networks
import numpy as np
import torch
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from tables import with_answer
from torch import nn

from sknonlin import layer_profile, nmf_path

HERE = pathlib.Path(__file__).parent
RANKS = [1, 2, 3, 4, 6, 8, 11, 16, 23, 32]
BATCH_SIZE, MAX_ITER = 20, 200
PACKAGES = ("sknonlin", "torch", "scikit-learn", "numpy")


def make_cnn():
    layers, n_inputs = [], 1
    for n_outputs in (16, 32, 64):
        layers += [nn.Conv2d(n_inputs, n_outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        n_inputs = n_outputs
    layers += [nn.Flatten(), nn.Linear(576, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def prepare(path):
    """Train the network on noisy labels; save it with the samples of the profile."""
    X, y, *_ = networks.load(networks.Setting("fashion", "cnn", p=0.4, n_train=2000))
    images, labels = torch.from_numpy(X), torch.from_numpy(y)
    torch.manual_seed(0)
    network = make_cnn()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(20):
        for batch in torch.randperm(len(X)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    chosen = np.concatenate([np.flatnonzero(y == c)[:BATCH_SIZE] for c in range(10)])
    torch.save({"state": network.state_dict(), "X": X[chosen], "y": y[chosen]}, path)


# The methods: error and accuracy of every layer, class and rank ------------------------


def whole_profile(network, X, y, ranks):
    profile = layer_profile(
        network, X, y, ranks=ranks, batch_size=BATCH_SIZE, random_state=0
    )
    return profile.errors, profile.accuracies


def sklearn_updates(A, rank):
    model = NMF(rank, init="nndsvda", solver="mu", max_iter=MAX_ITER, random_state=0)
    return model.fit_transform(A) @ model.components_


def torch_updates(A, rank):
    path = nmf_path(A, [rank], solver="mu", max_iter=MAX_ITER, max_rows=None)
    H = torch.from_numpy(path.components[0])
    A = torch.from_numpy(A)
    W = torch.full((len(A), rank), 0.1)
    for _ in range(50):
        W *= (A @ H.T) / (W @ (H @ H.T)).clamp(min=1e-12)
    return (W @ H).numpy()


def one_at_a_time(factorize):
    """Profile by hand: a factorization and a full pass for everything."""

    def profile(network, X, y, ranks):
        relus = [module for module in network if isinstance(module, nn.ReLU)]
        shape = len(relus), 10, len(ranks)
        errors, accuracies = np.zeros(shape), np.zeros(shape)
        for layer, relu in enumerate(relus):
            for label in range(10):
                batch = torch.from_numpy(X[y == label])
                A = output_of(relu, network, batch).movedim(1, -1)
                rows = A.flatten(0, -2).numpy()
                for i, rank in enumerate(ranks):
                    exact = rank >= min(rows.shape)  # as anyone would see by hand
                    low = rows if exact else factorize(rows, rank)
                    errors[layer, label, i] = np.linalg.norm(rows - low)
                    errors[layer, label, i] /= np.linalg.norm(rows)
                    value = torch.from_numpy(low).reshape(A.shape).movedim(-1, 1).float()
                    predicted = output_with(relu, value, network, batch).argmax(1)
                    accuracies[layer, label, i] = (predicted == label).float().mean()
        return errors, accuracies

    return profile


def output_of(module, network, batch):
    """Output of a module inside a network."""
    found = []
    handle = module.register_forward_hook(lambda m, a, output: found.append(output))
    network(batch)
    handle.remove()
    return found[0]


def output_with(module, value, network, batch):
    """Output of a network in which a module gives a value."""
    handle = module.register_forward_hook(lambda m, a, output: value)
    output = network(batch)
    handle.remove()
    return output


METHODS = {
    "sknonlin": whole_profile,
    "scikit-learn NMF(solver='mu')": one_at_a_time(sklearn_updates),
    "the same updates in torch": one_at_a_time(torch_updates),
}


def worker(method, path):
    """Run one method; print seconds, memory, and what it found."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    data = torch.load(path, weights_only=False)
    network = make_cnn().eval()
    network.load_state_dict(data["state"])
    with torch.no_grad():
        METHODS[method](network, data["X"], data["y"], RANKS[:2])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        errors, accuracies = METHODS[method](network, data["X"], data["y"], RANKS)
        seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = [seconds, before / 1024, after / 1024, errors.mean(), accuracies.mean()]
    print(json.dumps([float(value) for value in found]))


def run(n_rounds):
    """Run all methods in turn, the slow ones once."""
    results = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.pt")
        prepare(path)
        for i in range(n_rounds):
            for method, found in results.items():
                if i and found[0][0] > 60:
                    continue
                command = [sys.executable, __file__, "--worker", method, path]
                output = subprocess.run(command, check=True, capture_output=True, text=True)
                found.append(json.loads(output.stdout.splitlines()[-1]))
                print(method, found[-1], flush=True)
    return results


def write(results, path):
    ours = statistics.median(found[0] for found in results["sknonlin"])
    lines = [
        "# A layer profile, against multiplicative updates one rank at a time",
        "",
        "Written by `doc/benchmarks/layer_profile.py`: a CNN with five ReLU layers, 10 "
        f"classes x {BATCH_SIZE} images of Fashion-MNIST, ranks {RANKS}. The updates "
        f"end after {MAX_ITER} at most. Medians over the runs.",
        "",
        "| method | runs | seconds | times ours | mean error | mean accuracy | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method, found in results.items():
        seconds, _, peak, error, accuracy = map(statistics.median, zip(*found, strict=True))
        lines.append(
            f"| {method} | {len(found)} | {seconds:.2f} | {seconds / ours:.1f} | "
            f"{error:.4f} | {accuracy:.4f} | {peak:.0f} |"
        )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    base = statistics.median(found[1] for found in results["sknonlin"])
    lines += [
        "",
        f"The peak is that of the whole process. Importing, loading and the warm-up take "
        f"{base:.0f} MiB of it. {versions}; Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {platform.machine()}.",
        "",
    ]
    path.write_text(with_answer("\n".join(lines), path))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
    else:
        write(run(arguments.rounds), HERE / "layer_profile.md")

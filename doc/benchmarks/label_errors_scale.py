"""Fashion-MNIST's own 60,000 labels: what scoring them costs, and which look wrong.

    python doc/benchmarks/label_errors_scale.py FOLDER --write doc/benchmarks

Trains the benchmark's CNN on all training images (the weights are kept in FOLDER), times
one more epoch, learning the cones, and scoring all images, with the memory that takes, and
draws the 24 labels with the highest scores.
"""

import argparse
import pathlib
import resource
import time

import matplotlib.pyplot as plt
import networks
import numpy as np
import torch
from tables import with_answer
from torch import nn

import sknonlin
from sknonlin._factorization.compressions import make_compression
from sknonlin._memorization.sample_cones import CONE_RANKS
from sknonlin._memorization.sample_scores import SampleScorer
from sknonlin._network.adapters import as_network
from sknonlin.datasets import load_fashion_mnist

N_EPOCHS, BATCH_SIZE = 25, 100
SETTING = networks.Setting("fashion", "cnn", n_train=60_000)


def train_epoch(network, optimizer, X, y):
    """Train for one epoch, and return the seconds it took."""
    start = time.perf_counter()
    for batch in torch.randperm(len(X)).split(BATCH_SIZE):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
        optimizer.step()
    return time.perf_counter() - start


def trained(X, y, folder):
    """Return the network, trained once."""
    path = pathlib.Path(folder) / "fashion_cnn_60000.pt"
    torch.manual_seed(0)
    network = networks.make_network(SETTING)
    if path.exists():
        network.load_state_dict(torch.load(path))
        return network
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    n_steps = N_EPOCHS * (len(X) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=n_steps)
    for _ in range(N_EPOCHS):
        for batch in torch.randperm(len(X)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network


def peak_mebibytes():
    """Most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(network, X, y, n_samples):
    """Score the first samples, and time learning and scoring."""
    scorer = SampleScorer(
        make_compression("nmf", random_state=0), list(CONE_RANKS), "cpu", "relu", 0
    )
    start = time.perf_counter()
    scorer.fit(as_network(network), X[:n_samples], y[:n_samples], 10)
    middle = time.perf_counter()
    scores = scorer.score(as_network(network), X[:n_samples], n_samples, y[:n_samples])
    return scorer, scores, (middle - start, time.perf_counter() - middle)


def draw(images, y, scores, names, path):
    """Draw the 24 samples with the highest scores, with both labels."""
    worst = np.argsort(-scores.score)[:24]
    figure, axes = plt.subplots(4, 6, figsize=(11, 8.6), layout="constrained")
    for ax, i in zip(axes.flat, worst, strict=True):
        ax.imshow(images[i, 0], cmap="gray_r")
        ax.set_title(
            f"given: {names[y[i]]}\nfits: {names[scores.suggested[i]]}", fontsize=9
        )
        ax.set_xlabel(f"row {i}, score {scores.score[i]:.2f}", fontsize=8)
        ax.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    return worst


def training_accuracy(network, images, labels):
    """Share of the training samples that get their label."""
    with torch.no_grad():
        parts = [network(part).argmax(1) for part in images.split(BATCH_SIZE)]
    return (torch.cat(parts) == labels).float().mean().item()


def epoch_seconds(network, images, labels):
    """Median seconds of an epoch; the network is afterwards as it was."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    seconds = [train_epoch(network, optimizer, images, labels) for _ in range(3)]
    network.load_state_dict(state)
    return np.median(seconds)


def main():
    """Write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_fashion_mnist()
    X, y = dataset.images, dataset.target
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    network = trained(*tensors, arguments.folder).eval()
    accuracy = training_accuracy(network, *tensors)
    before = peak_mebibytes()
    rows = []
    for n_samples in (5000, 15_000, 60_000):
        scorer, scores, seconds = timed(network, X, y, n_samples)
        rows.append((n_samples, *seconds, peak_mebibytes() - before))
    epoch = epoch_seconds(network, *tensors)
    lines = [
        "# Fashion-MNIST's own labels",
        "",
        "Written by `label_errors_scale.py`. A CNN with three convolutions, trained on "
        f"all 60,000 images for {N_EPOCHS} epochs to a training accuracy of "
        f"{accuracy:.4f}. One core of a shared virtual machine, sknonlin "
        f"{sknonlin.__version__}, torch {torch.__version__}.",
        "",
        "| images | learning | scoring | both, in epochs of 60,000 | memory added |",
        "| --- | --- | --- | --- | --- |",
    ]
    for n, learning, scoring, memory in rows:
        lines.append(
            f"| {n:,} | {learning:.1f} s | {scoring:.1f} s | "
            f"{(learning + scoring) / epoch:.2f} | {memory:.0f} MiB |"
        )
    lines += [
        "",
        f"An epoch of training takes {epoch:.1f} s (median of 3, batches of {BATCH_SIZE}). "
        "Memory is the process's peak above that with the data and the network loaded.",
        "",
        "Estimated share of wrong labels {:.3f} ({:.3f} to {:.3f}); ".format(
            *scorer.share_wrong
        )
        + f"`detect` flags {(scores.score > scorer.threshold).mean():.2%} of the labels.",
        "",
    ]
    print("\n".join(lines))
    if arguments.write:
        path = arguments.write / "label_errors_scale.md"
        kept = path.read_text().partition("<!-- by hand -->")[2] if path.exists() else ""
        text = "\n".join(lines) + "<!-- by hand -->" + kept
        path.write_text(with_answer(text, path))
        picture = arguments.write / "fashion_mnist_labels.png"
        print(draw(X, y, scores, dataset.target_names, picture))


if __name__ == "__main__":
    main()

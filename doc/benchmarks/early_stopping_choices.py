"""Which reading of the answers says when to stop? What the score was chosen by.

    python doc/benchmarks/early_stopping_choices.py FOLDER

It reads the trainings that `early_stopping_runs.py` recorded to choose on, in FOLDER, and
writes `early_stopping_choices.md` beside this file: points of test accuracy of the epoch
that skorch's EarlyStopping keeps by each reading, less those of the best epoch.
"""

import argparse
import pathlib

import early_stopping_runs as runs
import numpy as np
import torch
from early_stopping import PATIENCES, stopped
from tables import table, versions, with_answer

from sknonlin._memorization.monitor import choose, halves_shape, n_answers, n_chosen
from sknonlin._memorization.true_labels import read_labels

HERE = pathlib.Path(__file__).parent
PACKAGES = ("sknonlin", "torch", "numpy")
POWERS = (1, 2, 4, 6, 8)


def readings(training, folder):
    """Every reading of a training's epochs, and its test accuracy."""
    found = np.load(folder / f"{training.stem}.npz")
    X, y, _, _, true = runs.load(training, folder, None)
    seed = np.random.RandomState(0).randint(2**31 - 1)  # as of random_state=0
    count = n_answers(len(y), "auto")
    chosen = choose(len(y), n_chosen(halves_shape(len(y), "auto", 1), count), seed)
    own = np.sort(np.random.default_rng(seed).permutation(len(chosen))[:count])
    answers = found["answers"][:, chosen[own]].astype(np.float32)
    labels = read_labels(
        torch.from_numpy(X[chosen]), y[chosen], answers.shape[2], torch.float32, seed
    )
    shares, votes, rows = labels.shares[own], answers.argmax(2), np.arange(count)
    reader = shares.argmax(1)
    columns = {
        "layers alone": found["nmf"],
        "share of the labels given": (votes == y[chosen][own]).mean(1),
        "share of the likeliest labels": (votes == reader).mean(1),
        "probability of the votes": np.array([shares[rows, v].mean() for v in votes]),
    }
    for power in POWERS:
        sharp = answers**power
        sharp /= sharp.sum(2, keepdims=True)
        name = f"probability of the answers, power {power}"
        columns[name] = (sharp * shares).sum(2).mean(1)
    columns["share of the true labels (not known)"] = (votes == true[chosen][own]).mean(1)
    return columns, found["test"]


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    trainings = [
        t for t in runs.listed("tuned", None) if (folder / f"{t.stem}.npz").exists()
    ]
    found = [readings(training, folder) for training in trainings]
    clean = np.array([training.p == 0 for training in trainings])
    rows = []
    for name in found[0][0]:
        cells = []
        for patience in PATIENCES:
            lost = [t.max() - t[stopped(c[name], patience)] for c, t in found]
            lost = 100 * np.array(lost)
            cells += [
                f"{lost.mean():.2f}",
                f"{lost.max():.1f}",
                f"{lost[clean].mean():.2f}",
            ]
        rows.append([name, *cells])
    head = [f"{part} ({p})" for p in PATIENCES for part in ("mean", "worst", "clean")]
    text = (
        "# What the score of a training was chosen by\n\n"
        "Written by `early_stopping_choices.py`. The numbers are points of test accuracy "
        f"lost to the best epoch, over {len(found)} trainings. A patience of skorch's "
        "EarlyStopping has three columns: the mean, the worst, and the mean of the "
        "trainings with clean labels."
        f"\n\n{table(['reading (patience)', *head], rows)}\n{versions(*PACKAGES)}.\n"
    )
    path = HERE / "early_stopping_choices.md"
    path.write_text(with_answer(text, path))


if __name__ == "__main__":
    main()

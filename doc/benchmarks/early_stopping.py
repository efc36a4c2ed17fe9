"""Stopping without validation data: which rule keeps the best epoch, at any patience?

    python doc/benchmarks/early_stopping_runs.py FOLDER --part tuned    # and confirmed
    python doc/benchmarks/early_stopping.py FOLDER [--tables TABLES]

It reads the trainings that `early_stopping_runs.py` recorded and writes `early_stopping.md`
and `early_stopping.png` beside this file: the test accuracy of the epoch that each rule
keeps, less that of the best epoch (the oracle). Rules with a patience are skorch's
EarlyStopping on a column, with `load_best`; the others stop as their authors say:

* last epoch;
* `nmf_auc`: what sknonlin's NonlinearityScoring writes, as it comes;
* `MemorizationStopping`, as it comes, which loads averages of weights, and with
  `average=False`, which loads an epoch's own;
* the layers alone: `nmf_auc` with `n_samples=0`, its former definition;
* Label Wave (Yuan, Feng & Liu 2024): fewest predictions changed since the epoch before,
  from the third epoch on;
* gradient disparity (Forouzesh & Thiran 2021): the epoch in which it rose for the fifth
  time, as its authors stop; of five batches of 50;
* weight norm: its peak;
* GradStop (Jamshidi et al. 2025), with one variance for all weights: the first epoch in
  which the mean gradient of five batches is no larger than chance makes it;
* evidence (Mahsereci et al. 2017): the same, each weight with its own variance, in the mean
  of three epochs, and corrected for there being five batches;
* susceptibility (Forouzesh, Sedghi & Thiran 2023): the highest likelihood of the labels for
  the running mean of the susceptibility;
* training loss: its plateau;
* validation accuracy and loss, trained on 90 and on 80 % of the samples;
* Label Wave and the last epoch with averaged weights: the averages up to the epoch that
  they keep;
* test accuracy, known but averaged: no rule, but the epoch in which the mean of the test
  accuracies of three epochs in a row is highest. The best epoch is the highest of many
  numbers that jump from epoch to epoch; this one does not follow the jumps.

The definition of `nmf_auc` and the rule of MemorizationStopping were chosen on the
trainings of `tuned`. 54 of `confirmed` were looked at twice: with the first rule of
MemorizationStopping (two standard errors; weights loaded only where it stops; mean loss
1.65 there), and with the one that was then chosen on `tuned`. The other 25, most of them
CNNs, were recorded after that. On `tuned` it was chosen, too, that the last weights stay
where nothing stopped and they score lower by no more than a standard error. Averages came
last: how much an epoch counts, the window of three and the three standard errors were
chosen on `tuned`. Two ways to use them were looked at on `confirmed`: to measure them (0.76
points lost, in weights that were averaged from the first epoch on without correction), and
to measure the epoch's own weights and load the average (1.08).
"""

import argparse
import functools
import pathlib
from dataclasses import dataclass

import early_stopping_runs as runs
import numpy as np
import torch
from early_stopping_runs import SPLITS, listed
from tables import table, versions, with_answer

from sknonlin._memorization.monitor import (
    choose,
    halves_shape,
    n_answers,
    n_chosen,
    sharpened,
)
from sknonlin._memorization.stopping import (
    AVERAGED_CONFIDENCE,
    AVERAGED_WINDOW,
    CONFIDENCE,
    LOAD_CONFIDENCE,
    WINDOW,
)
from sknonlin._memorization.true_labels import read_labels
from sknonlin._memorization.turning_point import TurningPoint

HERE = pathlib.Path(__file__).parent
PACKAGES = ("sknonlin", "torch", "scikit-learn", "numpy")
PATIENCES, THRESHOLD = (5, 10, 20), 1e-4  # of skorch's EarlyStopping
N_RISES, N_WORST = 5, 10
SMOOTHED = 3  # epochs
OURS, STOPPING, LAYERS = "**nmf_auc**", "**MemorizationStopping**", "nmf_auc, layers alone"
KNOWN = "test accuracy, known but averaged"


# What is read of a training -----------------------------------------------------------


def scores_of_samples(training, answers, folder, tables):
    """Scores (n_epochs, n_samples) as a monitor has them; None where it has none."""
    X, y, _, _, _ = runs.load(training, folder, tables)
    seed = np.random.RandomState(0).randint(2**31 - 1)  # as of random_state=0
    count = n_answers(len(y), "auto")
    chosen = choose(len(y), n_chosen(halves_shape(len(y), "auto", 1), count), seed)
    order = np.random.default_rng(seed).permutation(len(chosen))
    answered = np.sort(order[:count])
    answers = answers[:, chosen[answered]].astype(np.float32)
    labels = read_labels(
        torch.from_numpy(X[chosen]), y[chosen], answers.shape[2], torch.float32, seed
    )
    if labels is None or not labels.readable:
        return np.zeros((len(answers), 0))
    own = torch.from_numpy(labels.shares[answered])
    return np.stack([(sharpened(torch.from_numpy(a)) * own).sum(1) for a in answers])


def summary(training, folder, tables):
    """Columns that the rules read, from a file where they were made before."""
    path = folder / "columns" / f"{training.stem}.npz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        found = dict(np.load(folder / f"{training.stem}.npz"))
        names = ("test", "nmf", "norms", "gram", "spread", "evidence", "susceptibility")
        columns = {name: found[name] for name in names}
        columns |= {f"split_{share}": found[f"split_{share}"] for share in SPLITS}
        predicted = found["answers"].argmax(2)
        columns["changes"] = (predicted[1:] != predicted[:-1]).mean(1)
        own = found["online"].astype(np.float32)[:, np.arange(len(found["y"])), found["y"]]
        columns["loss"] = -np.log(own.clip(1e-4)).mean(1)
        columns["averaged_test"] = found["averaged_test"]
        for kind in ("", "averaged_"):
            answers = found[f"{kind}answers"]
            columns[f"{kind}scores"] = scores_of_samples(training, answers, folder, tables)
        np.savez_compressed(path, **columns)
    return dict(np.load(path))


# Rules: the row that is kept ------------------------------------------------------------


def stopped(values, patience):
    """Row that skorch's EarlyStopping ends with; the highest value is the best."""
    best, kept, waited = -np.inf, 0, 0
    for i, value in enumerate(values):
        if not np.isfinite(best) or value > best + THRESHOLD * abs(best):
            best, kept, waited = value, i, 0
        else:
            waited += 1
            if waited == patience:
                break
    return kept


def score(columns):
    """Return the column `nmf_auc`."""
    scores = columns["scores"]
    return scores.mean(1) if scores.shape[1] else columns["nmf"]


@dataclass
class Kept:
    """What a rule keeps of a training."""

    row: int
    accuracy: float
    stopped: int  # the last row


def stopping(columns, *, average=True):
    """Find what MemorizationStopping keeps."""
    kind = "averaged_" if average else ""
    scores, test = columns[f"{kind}scores"], columns[f"{kind}test"]
    settings = (AVERAGED_WINDOW, AVERAGED_CONFIDENCE) if average else (WINDOW, CONFIDENCE)
    turn, last = TurningPoint(*settings), len(test) - 1
    known = scores.shape[1] > 0
    if not known:
        return Kept(last, columns["test"][last], last)
    for i, rows in enumerate(scores):
        if turn.update(rows.mean(), rows):
            return Kept(turn.best, test[turn.best], i)
    if turn.is_below_best(LOAD_CONFIDENCE):
        return Kept(turn.best, test[turn.best], last)
    own = columns["scores"][last].mean() >= scores[last].mean()
    return Kept(last, columns["test"][last] if own else test[last], last)


def disparity(columns):
    """Mean distance between gradients of batches, of losses divided by their spread."""
    scale = np.maximum(columns["spread"], 1e-8)
    gram = columns["gram"] / scale[:, :, None] / scale[:, None]
    squares = np.einsum("eii->ei", gram)
    distances = np.sqrt(np.maximum(squares[:, :, None] + squares[:, None] - 2 * gram, 0))
    n = gram.shape[1]
    return distances.sum((1, 2)) / (n * (n - 1))


def fifth_rise(columns):
    """Row in which gradient disparity has risen for the fifth time."""
    rises = np.flatnonzero(np.diff(disparity(columns)) > 0) + 1
    return rises[N_RISES - 1] if len(rises) >= N_RISES else -1


def credible(columns):
    """First row in which a mean gradient of zero is credible."""
    for i, gram in enumerate(columns["gram"]):
        n = len(gram)
        variance = (gram.trace() - n * gram.mean()) / (n - 1)
        if n * gram.mean() <= variance:
            return i
    return -1


def evident(columns):
    """First row in which the evidence, a mean over three epochs, is for stopping."""
    n = columns["gram"].shape[1]
    by_chance = 1 - (n - 1) / (n - 3)  # squares by variances of n batches have this mean
    mean = np.convolve(columns["evidence"], np.ones(3) / 3, "valid")
    above = np.flatnonzero(mean > by_chance)
    return above[0] + 2 if len(above) else -1


def running_mean(values):
    """Mean of every value and those before."""
    return np.cumsum(values) / np.arange(1, len(values) + 1)


def susceptible(columns):
    """Likelihood of the labels for the running mean of the susceptibility."""
    return np.exp(-columns["loss"]) / running_mean(columns["susceptibility"])


def norm(columns):
    """Norm of all weights."""
    return np.sqrt((columns["norms"] ** 2).sum(1))


def smoothed(columns):
    """Row in the middle of the epochs whose mean test accuracy is the highest."""
    test = columns["test"]
    sums = np.convolve(test, np.ones(SMOOTHED), "same")
    counts = np.convolve(np.ones(len(test)), np.ones(SMOOTHED), "same")
    return int((sums / counts).argmax())


def column(make, first=0):
    """Rule that stops by a column with some patience, looked at from a row on."""
    return lambda columns, patience: first + stopped(make(columns), patience)


def alone(rule):
    """Rule that has no patience."""
    return lambda columns, _: rule(columns)


RULES = {
    OURS: column(score),
    LAYERS: column(lambda columns: columns["nmf"]),
    "Label Wave": column(lambda columns: -columns["changes"][1:], first=2),
    "gradient disparity, fifth rise": alone(fifth_rise),
    "weight norm, peak": column(norm),
    "GradStop": alone(credible),
    "evidence": alone(evident),
    "susceptibility": column(susceptible),
    "training loss": column(lambda columns: -columns["loss"]),
    "last epoch": alone(lambda columns: -1),
}


def losses(columns, patience):
    """Points of test accuracy that every rule loses to the best epoch."""
    test = columns["test"]
    own = {
        STOPPING: stopping(columns).accuracy,
        f"{STOPPING}, `average=False`": stopping(columns, average=False).accuracy,
    }
    rows = {name: rule(columns, patience) for name, rule in RULES.items()}
    lost = {OURS: None} | own | {name: test[row] for name, row in rows.items()}
    for name in ("Label Wave", "last epoch"):
        lost[f"{name}, averaged weights"] = columns["averaged_test"][rows[name]]
    for share in SPLITS:
        right, loss, tested = columns[f"split_{share}"].T
        part = f"{1 - share:.0%}"
        lost[f"validation accuracy, on {part}"] = tested[stopped(right, patience)]
        lost[f"validation loss, on {part}"] = tested[stopped(-loss, patience)]
    lost[KNOWN] = test[smoothed(columns)]
    return {name: 100 * (test.max() - value) for name, value in lost.items()}


# Tables and picture -----------------------------------------------------------------------


def patience_table(found):
    """Mean and worst loss of every rule, over all trainings and the clean ones."""
    rows = []
    clean = np.array([t.p == 0 for t in found])
    by_patience = [[losses(c, patience) for c in found.values()] for patience in PATIENCES]
    for name in by_patience[0][0]:
        cells = []
        for lost in by_patience:
            values = np.array([v[name] for v in lost])
            cells += [f"{values.mean():.2f}", f"{values.max():.1f}"]
            cells += [f"{values[clean].mean():.2f}", f"{values[clean].max():.1f}"]
        rows.append([name, *cells])
    parts = ("mean", "worst", "clean", "clean, worst")
    head = [f"{part} ({p})" for p in PATIENCES for part in parts]
    return table(["rule (patience)", *head], rows)


def kinds_table(found, patience):
    """Mean loss of every rule on every kind of data and of noise."""
    groups = {}
    for training, columns in found.items():
        for key in (training.data.split("-")[0], training.net.split("-")[0]):
            groups.setdefault(key, []).append(columns)
        groups.setdefault(training.optimizer, []).append(columns)
        groups.setdefault(training.noise if training.p else "clean", []).append(columns)
    means = {key: mean_losses(part, patience) for key, part in groups.items()}
    heads = [f"{key} ({len(part)})" for key, part in groups.items()]
    names = list(next(iter(means.values())))
    rows = [[name, *(f"{means[key][name]:.2f}" for key in groups)] for name in names]
    return table(["rule", *heads], rows)


def mean_losses(part, patience):
    """Mean loss of every rule over some trainings."""
    lost = [losses(columns, patience) for columns in part]
    return {name: np.mean([v[name] for v in lost]) for name in lost[0]}


def worst_table(found):
    """Where the two rules lose most."""
    rows = []
    for training, columns in worst(found):
        kept, test = stopping(columns), columns["test"]
        lost = losses(columns, 10)
        rows.append(
            [
                name_of(training),
                f"{lost[OURS]:.1f}",
                f"{lost[STOPPING]:.1f}",
                f"{kept.row + 1}, {kept.stopped + 1}",
                f"{test.argmax() + 1} of {len(test)}",
            ]
        )
    head = ["training", "`nmf_auc`, patience 10", "MemorizationStopping"]
    return table([*head, "keeps, stops", "best epoch"], rows)


def worst(found):
    """Trainings with the highest loss, of the two the higher."""
    lost = {t: losses(columns, 10) for t, columns in found.items()}
    order = sorted(found, key=lambda t: -max(lost[t][OURS], lost[t][STOPPING]))
    return [(t, found[t]) for t in order[:N_WORST]]


def name_of(training):
    """Write a training in words."""
    noise = f"{training.noise} {training.p:g}" if training.p else "clean"
    return (
        f"{training.data} {training.n_train:,}, {training.net}, {training.optimizer}, "
        + (f"{noise}, seed {training.seed}")
    )


def draw(found, path):
    """Draw score and test accuracy over the epochs of the worst trainings."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(15, 5.5), layout="constrained")
    for ax, (training, columns) in zip(axes.flat, worst(found), strict=False):
        epochs = np.arange(1, len(columns["test"]) + 1)
        ax.plot(epochs, columns["test"], color="tab:green", label="test accuracy")
        ax.plot(epochs, score(columns), color="tab:blue", label="nmf_auc")
        kept, patient = stopping(columns).row, stopped(score(columns), 10)
        ax.axvline(kept + 1, color="tab:red", linestyle="--", label="MemorizationStopping")
        ax.axvline(patient + 1, color="tab:blue", linestyle=":", label="patience 10")
        words = name_of(training).split(", ")
        ax.set_title(", ".join(words[:3]) + "\n" + ", ".join(words[3:]), fontsize=8)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("epoch")
    figure.savefig(path, dpi=80)


def part_text(name, found):
    """Tables of a part of the trainings."""
    n_clean = sum(t.p == 0 for t in found)
    return (
        f"## {name} ({len(found)} trainings, {n_clean} with clean labels)\n\n"
        f"{patience_table(found)}\n"
        "### By data, network, optimizer and noise, patience 10\n\n"
        f"{kinds_table(found, 10)}\n"
    )


def limit_text(found):
    """Say how much of the loss is that the best epoch is a lucky one."""
    clean = np.array([t.p == 0 for t in found])
    lost = np.array([losses(c, 10)[KNOWN] for c in found.values()])
    steps = [
        np.abs(np.diff(c["test"][len(c["test"]) // 2 :])).mean() for c in found.values()
    ]
    return (
        f"Test accuracy changes by {100 * np.mean(steps):.2f} points from one epoch to the "
        "next, on average over the second halves of the trainings. The best epoch is the "
        "highest of 35 to 60 such numbers. Whoever knew the test accuracy, but averaged it "
        f"over {SMOOTHED} epochs, would lose {lost[clean].mean():.2f} points with clean "
        f"labels (at worst {lost[clean].max():.1f}), and {lost.mean():.2f} over all "
        f"trainings (at worst {lost.max():.1f})."
    )


def stops_text(found):
    """Say when MemorizationStopping stopped."""
    clean = [stopping(c).stopped + 1 < len(c["test"]) for t, c in found.items() if not t.p]
    lengths = [(stopping(c).stopped + 1) / len(c["test"]) for t, c in found.items() if t.p]
    return (
        f"MemorizationStopping stopped {sum(clean)} of the {len(clean)} trainings with "
        f"clean labels, and the others after {np.mean(lengths):.0%} of their "
        "epochs on average."
    )


def main():
    """Write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", help="folder of MisLaBenchmark's tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    read = functools.partial(summary, folder=arguments.folder, tables=arguments.tables)
    tuned, confirmed = (
        {
            t: read(t)
            for t in listed(part, arguments.tables)
            if (arguments.folder / f"{t.stem}.npz").exists()
        }
        for part in ("tuned", "confirmed")
    )
    everything = tuned | confirmed
    text = (
        "# Early stopping without validation data\n\n"
        "Written by `early_stopping.py`, which says what the rules are. The numbers are "
        "points of test accuracy lost: the accuracy of the best epoch of the training on "
        "all samples, less that of the epoch kept. 0 is the best. There are "
        f"{len(everything)} trainings of small networks.\n\n"
        + part_text("Confirmed: nothing was chosen on them", confirmed)
        + part_text("What the score was chosen on", tuned)
        + f"## How much luck there is in the best epoch\n\n{limit_text(everything)}\n\n"
        f"## When it stops\n\n{stops_text(everything)}\n\n"
        f"## The worst ten\n\n{worst_table(everything)}\n"
        "![Score and test accuracy of the worst ten trainings](early_stopping.png)\n\n"
        f"{versions(*PACKAGES)}. [Another page](early_stopping_cost.md) says what a "
        "measurement costs.\n"
    )
    path = HERE / "early_stopping.md"
    path.write_text(with_answer(text, path))
    draw(everything, HERE / "early_stopping.png")


if __name__ == "__main__":
    main()

"""Stopping without validation data: which rule keeps the best epoch?

    python doc/benchmarks/early_stopping_runs.py FOLDER --architecture mlp   # and cnn
    python doc/benchmarks/early_stopping.py FOLDER

It reads the trainings that `early_stopping_runs.py` recorded and writes `early_stopping.md`
and `early_stopping.png` beside this file: the test accuracy of the epoch that each rule
keeps, less that of the best epoch (the oracle). All rules but two read the same training on
all images:

* last epoch;
* `nmf_auc`: sknonlin's NonlinearityScoring, as it comes, under skorch's EarlyStopping;
* Label Wave (Yuan, Feng & Liu 2024): fewest predictions changed since the epoch before,
  from the third epoch on;
* gradient disparity (Forouzesh & Thiran 2021): its smallest value; or the epoch in which it
  rose for the fifth time, as its authors stop;
* training loss: its plateau, by skorch's EarlyStopping.

The two with a validation split train on 80 % of the images. skorch's EarlyStopping has a
patience of 10 epochs everywhere and loads the best epoch. The definition of `nmf_auc` was
chosen on digits and on Fashion-MNIST's rows 0 to 9,999 (`fashion`), and its last part, the
comparison of two measurements, after a look at some trainings on rows 10,000 to 19,999; so
`confirm` are rows 20,000 to 29,999, looked at once.
"""

import argparse
import json
import pathlib

import early_stopping_runs
import networks
import numpy as np
from scipy.stats import wilcoxon
from tables import table, versions

HERE = pathlib.Path(__file__).parent
PACKAGES = ("sknonlin", "skorch", "torch", "scikit-learn", "numpy")
PATIENCE, THRESHOLD = 10, 1e-4  # of skorch's EarlyStopping
N_RISES = 5
LEVELS = early_stopping_runs.NOISE_LEVELS


# Rules: the row of the history that is kept -----------------------------------------


def stopped(values, *, lower_is_better):
    """Row that skorch's EarlyStopping, with ``load_best``, ends with."""
    best, kept, waited = np.inf, 0, 0
    for i, value in enumerate(values if lower_is_better else -np.asarray(values)):
        improved = value < best - THRESHOLD * abs(best) if np.isfinite(best) else True
        if improved:
            best, kept, waited = value, i, 0
        else:
            waited += 1
            if waited == PATIENCE:
                break
    return kept


def column(name, *, lower_is_better, first=0):
    """Rule that stops by a column, looked at from a row on."""

    def rule(history):
        values = [row[name] for row in history[first:]]
        return first + stopped(values, lower_is_better=lower_is_better)

    return rule


def fifth_rise(history):
    """Row in which gradient disparity has risen for the fifth time."""
    values = np.array([row["disparity"] for row in history])
    rises = np.flatnonzero(np.diff(values) > 0) + 1
    return rises[N_RISES - 1] if len(rises) >= N_RISES else len(history) - 1


OURS = "**nmf_auc**"
RULES = {  # which training, and which of its rows
    "last epoch": ("whole", lambda history: -1),
    OURS: ("whole", column("nmf_auc", lower_is_better=False)),
    "Label Wave": ("whole", column("changes", lower_is_better=True, first=2)),
    "gradient disparity, smallest": ("whole", column("disparity", lower_is_better=True)),
    "gradient disparity, fifth rise": ("whole", fifth_rise),
    "training loss": ("whole", column("train_loss", lower_is_better=True)),
    "validation loss (80 %)": ("split", column("valid_loss", lower_is_better=True)),
    "validation accuracy (80 %)": ("split", column("valid_acc", lower_is_better=False)),
}


def losses(found):
    """Points of test accuracy that every rule loses to the best epoch, at most 0 for it."""
    best = max(row["test_accuracy"] for row in found["whole"])
    return {
        name: 100 * (found[training][rule(found[training])]["test_accuracy"] - best)
        for name, (training, rule) in RULES.items()
    }


# Tables and picture -------------------------------------------------------------------


def read(folder):
    """Return the recorded trainings by setting."""
    runs = {}
    for architecture in ("mlp", "cnn"):
        for setting in early_stopping_runs.settings(architecture):
            path = pathlib.Path(folder) / setting.file_name.replace(".pt", ".json")
            if path.exists():
                runs[setting] = json.loads(path.read_text())
    return runs


def rules_table(lost):
    """Mean loss of every rule by p, over all, and the worst training."""
    rows = []
    for name in RULES:
        by_level = [[v[name] for s, v in lost.items() if s.p == p] for p in LEVELS]
        everything = np.concatenate(by_level)
        cells = [f"{np.mean(part):.1f}" if part else "" for part in by_level]
        mean, worst = np.mean(everything), np.min(everything)
        rows.append([name, *cells, f"{mean:.2f}", f"{worst:.1f}"])
    return table(["rule", *(f"p = {p:g}" for p in LEVELS), "mean", "worst"], rows)


def overview(lost):
    """Mean loss of every rule on every kind of training."""
    kinds = sorted({kind(s) for s in lost}, key=lambda k: (k[0] == "confirm", *k))
    rows = [
        [
            name,
            *(
                f"{np.mean([v[name] for s, v in lost.items() if kind(s) == k]):.2f}"
                for k in kinds
            ),
            f"{np.mean([v[name] for v in lost.values()]):.2f}",
        ]
        for name in RULES
    ]
    return table(["rule", *(label(k) for k in kinds), "all"], rows)


def pairs_table(lost):
    """Trainings on which the rule did better and worse than another, and the test."""
    rows = []
    ours = np.array([v[OURS] for v in lost.values()])
    for name in RULES.keys() - {OURS}:
        other = np.array([v[name] for v in lost.values()])
        p = wilcoxon(ours, other).pvalue
        better, worse = (ours > other).sum(), (ours < other).sum()
        rows.append([name, better, worse, f"{np.mean(ours - other):+.2f}", f"{p:.1g}"])
    head = ["against", "better", "worse", "mean difference", "p (Wilcoxon)"]
    return table(head, sorted(rows, key=lambda row: list(RULES).index(row[0])))


def kind(setting):
    """Return the data, training images and architecture of a setting."""
    return setting.data, setting.n_train, setting.architecture


def label(kind):
    """Write a kind in words."""
    data, n_train, architecture = kind
    return f"{data} {n_train:,} {architecture}"


def worst_lines(runs, lost):
    """Name the trainings on which the rule did worst."""
    lines = []
    for setting in sorted(lost, key=lambda s: lost[s][OURS])[:5]:
        history = runs[setting]["whole"]
        kept = RULES[OURS][1](history)
        best = int(np.argmax([row["test_accuracy"] for row in history]))
        lines.append(
            f"* {label(kind(setting))}, p = {setting.p:g}, seed {setting.seed}: kept epoch "
            f"{kept + 1} ({history[kept]['test_accuracy']:.3f}), best epoch {best + 1} "
            f"({history[best]['test_accuracy']:.3f})"
        )
    return "\n".join(lines)


def draw(runs, path):
    """Draw score and test accuracy over the epochs, for some trainings of seed 0."""
    import matplotlib.pyplot as plt

    shown = [("confirm", 2000, "mlp"), ("confirm", 2000, "cnn")]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex="col", layout="constrained")
    colors = dict(
        zip((0.0, 0.2, 0.4, 0.6), plt.cm.viridis([0, 0.3, 0.6, 0.85]), strict=True)
    )
    for (upper, lower), k in zip(axes.T, shown, strict=True):
        for setting, found in runs.items():
            if kind(setting) != k or setting.seed or setting.p not in colors:
                continue
            history, color = found["whole"], colors[setting.p]
            epochs = [row["epoch"] for row in history]
            kept = RULES[OURS][1](history)
            for ax, name in ((upper, "nmf_auc"), (lower, "test_accuracy")):
                values = [row[name] for row in history]
                ax.plot(epochs, values, color=color, label=f"p = {setting.p:g}")
                ax.plot(epochs[kept], values[kept], "o", color=color)
        upper.set_title(label(k))
        lower.set_xlabel("epoch")
    axes[0, 0].set_ylabel("nmf_auc")
    axes[1, 0].set_ylabel("test accuracy")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def main():
    """Write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    arguments = parser.parse_args()
    runs = read(arguments.folder)
    lost = {setting: losses(found) for setting, found in runs.items()}
    tuned = {s: v for s, v in lost.items() if s.data != "confirm"}
    confirmed = {s: v for s, v in lost.items() if s.data == "confirm"}
    text = (
        "# Early stopping without validation data\n\n"
        "Written by `early_stopping.py`, which says what the rules are. Numbers are points "
        "of test accuracy of the epoch kept, less those of the best epoch of the training "
        f"on all images; means over {len(networks.SEEDS)} seeds. {len(lost)} trainings.\n\n"
        "## All trainings\n\n"
        f"{overview(lost)}\n"
        f"## {OURS} against the others, training by training\n\n{pairs_table(lost)}\n"
        f"## Confirmed on rows that nothing was chosen on ({len(confirmed)} trainings)\n\n"
        f"{rules_table(confirmed)}\n"
        f"## What the score was tuned on ({len(tuned)} trainings)\n\n"
        f"{rules_table(tuned)}\n"
    )
    for architecture in ("mlp", "cnn"):
        own = {s: v for s, v in lost.items() if s.architecture == architecture}
        text += f"## {architecture.upper()}s ({len(own)} trainings)\n\n{rules_table(own)}\n"
    text += (
        f"## The worst trainings of `nmf_auc`\n\n{worst_lines(runs, lost)}\n\n"
        f"{versions(*PACKAGES)}. What a measurement costs: `early_stopping_cost.md`.\n"
    )
    (HERE / "early_stopping.md").write_text(text)
    draw(runs, HERE / "early_stopping.png")


if __name__ == "__main__":
    main()

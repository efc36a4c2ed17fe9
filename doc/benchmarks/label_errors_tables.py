"""Wrong labels in tables: MisLaBenchmark, beside the published results of its 18 methods.

    python doc/benchmarks/label_errors_tables.py DATA FOLDER
    python doc/benchmarks/label_errors_tables.py DATA FOLDER --write TABLE.md

DATA has the tables of *Benchmarking machine learning methods for the identification of
mislabeled data* (Artificial Intelligence Review 2025, doi 10.1007/s10462-025-11293-9;
github.com/nazaretl/MisLaBenchmark), `NAME.csv.gz`, and `published.csv.gz`, the means of all
its published runs. FOLDER keeps the runs; what is there is not run again.

As there: missing values become 0, constant columns are dropped, the others standardized on
all 10,000 rows. Labels change to another class, uniformly (`Sym`) or near a linear boundary
(`Asym`). What is measured is F1 of the rows that a method flags. Ours is
`MemorizationDetector(random_state=seed)` as it is; it is told nothing. Of the published
methods, some are told the share of wrong labels.

Settings were chosen on the even-numbered rows of each table; `--rows even` runs on these.
"""

import argparse
import functools
import itertools
import pathlib
import time

import numpy as np
import pandas as pd
import tables
import torch
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils._testing import ignore_warnings

from sknonlin import MemorizationDetector
from sknonlin.datasets import make_noisy_labels

NAMES = (
    *("Adult", "Chess", "ClinVarArt", "DryBean", "HEPMASS", "IFD"),
    *("Magic", "Pokerhand", "RNA0", "RNA1", "RNA2"),
)
EIGHT = ("DryBean", "IFD", "Magic", "Adult", "HEPMASS", "Pokerhand", "RNA0", "Chess")
NOISES = {"Sym": "flip", "Asym": "boundary"}
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4)
SIZES = (1000, 300, 3000)
COLUMNS = [
    *("data", "kind", "level", "size", "seed", "f1", "f1_true_count", "auc"),
    *("wrong", "n_wrong", "low", "high", "flagged", "precision", "recall", "seconds"),
]


@functools.cache
def table(folder, name):
    """Standardized features, and labels as numbers, of all rows."""
    frame = pd.read_csv(folder / f"{name}.csv.gz", sep="\t", compression="zip").fillna(0)
    features = frame.iloc[:, :-1]
    features = features.loc[:, features.nunique() > 1]
    labels = np.unique(frame.iloc[:, -1], return_inverse=True)[1]
    return StandardScaler().fit_transform(features).astype(np.float32), labels


def draw(folder, name, kind, level, size, seed, parity):
    """Rows of one run, their labels and those given."""
    X, y = table(folder, name)
    rng = np.random.default_rng([seed, size])
    chosen = rng.permutation(np.arange(parity, len(y), 2))[:size]
    X, y = X[chosen], np.unique(y[chosen], return_inverse=True)[1]
    noise = {"kind": NOISES[kind], "X": X, "random_state": seed}
    return X, y, make_noisy_labels(y, level, **noise)


def measure(X, y, given, seed):
    """Run the detector on the labels given."""
    wrong = y != given
    start = time.perf_counter()
    with ignore_warnings(category=(UserWarning, ConvergenceWarning)):
        detector = MemorizationDetector(random_state=seed).fit(X, given)
    scores = detector.score_samples(X, given)
    seconds = time.perf_counter() - start
    flags = scores > detector.offset_
    most = np.zeros(len(y), dtype=bool)
    most[np.argsort(-scores)[: wrong.sum()]] = True
    return {
        "f1": f1_score(wrong, flags, zero_division=0),
        "f1_true_count": f1_score(wrong, most, zero_division=0),
        "auc": roc_auc_score(wrong, scores) if wrong.any() else np.nan,
        "wrong": int(wrong.sum()),
        "n_wrong": detector.n_wrong_,
        "low": detector.n_wrong_interval_[0],
        "high": detector.n_wrong_interval_[1],
        "flagged": int(flags.sum()),
        "precision": wrong[flags].mean() if flags.any() else np.nan,
        "recall": flags[wrong].mean() if wrong.any() else np.nan,
        "seconds": seconds,
    }


def one_run(folder, setting, parity):
    """Row of one run."""
    torch.set_num_threads(1)
    drawn = draw(folder, *setting, parity=parity)
    return dict(zip(COLUMNS, setting, strict=False)) | measure(*drawn, setting[-1])


def run(arguments):
    """Run what FOLDER does not have yet."""
    path = arguments.folder / f"runs_{arguments.rows}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = COLUMNS[:5]
    done = set()
    if path.exists():
        done = set(pd.read_csv(path)[keys].itertuples(index=False, name=None))
    else:
        path.write_text(",".join(COLUMNS) + "\n")
    noises = [("Sym", 0.0), *itertools.product(NOISES, LEVELS)]
    settings = itertools.product(arguments.sizes, arguments.seeds, arguments.names, noises)
    settings = [(name, *noise, size, seed) for size, seed, name, noise in settings]
    parity = int(arguments.rows == "odd")
    rows = Parallel(arguments.jobs, batch_size=1, return_as="generator")(
        delayed(one_run)(arguments.data, setting, parity)
        for setting in settings
        if setting not in done
    )
    for row in rows:
        pd.DataFrame([row])[COLUMNS].to_csv(path, mode="a", header=False, index=False)
    return pd.read_csv(path)


def published(folder, size):
    """Mean F1 by table and method, over noises and levels of the comparison."""
    frame = pd.read_csv(folder / "published.csv.gz")
    frame = frame[frame["data"].isin(NAMES) & frame["kind"].isin(NOISES)]
    return frame[frame["level"].isin(LEVELS) & (frame["size"] == size)]


def means(frame, value, **chosen):
    """Mean of a column over noises, each level of each table counting alike."""
    for column, values in chosen.items():
        frame = frame[frame[column].isin(values)]
    return frame.groupby(["data", "kind", "level"])[value].mean().mean()


def comparison(runs, theirs):
    """Lines for every table: ours, cleanlab, the best method of the table."""
    for name in NAMES:
        for kind in NOISES:
            own = {"data": [name], "kind": [kind]}
            rows = theirs[(theirs["data"] == name) & (theirs["kind"] == kind)]
            by_method = rows.groupby("model")["mean_f1"].mean()
            ours = means(runs, "f1", **own)
            yield (
                name,
                kind,
                f"**{ours:.3f}**" if ours >= by_method.max() else f"{ours:.3f}",
                f"{means(runs, 'f1_true_count', **own):.3f}",
                f"{means(runs, 'auc', **own):.3f}",
                f"{by_method['CleanLab']:.3f}",
                f"{by_method.max():.3f} ({by_method.idxmax()})",
            )


def methods(runs, theirs):
    """All methods with their mean F1, best first."""
    by_method = theirs.groupby(["model", "data", "kind", "level"])["mean_f1"].mean()
    found = by_method.groupby("model").mean().to_dict()
    found["sknonlin"] = means(runs, "f1")
    eight = theirs[theirs["data"].isin(EIGHT) & theirs["level"].isin([0.1, 0.3])]
    in_eight = {
        kinds: eight[eight["kind"].isin(kinds)].groupby("model")["mean_f1"].mean().to_dict()
        | {"sknonlin": means(runs, "f1", data=EIGHT, kind=kinds, level=[0.1, 0.3])}
        for kinds in (("Sym",), ("Sym", "Asym"))
    }
    for name in sorted(found, key=found.get, reverse=True):
        yield name, *(f"{part[name]:.3f}" for part in (found, *in_eight.values()))


def by_level(runs):
    """How flags and the estimated number hold, by the level of noise."""
    runs = runs.assign(
        ratio=runs["n_wrong"] / runs["wrong"],
        inside=(runs["low"] <= runs["wrong"]) & (runs["wrong"] <= runs["high"]),
    )
    for kind, level in itertools.product(NOISES, LEVELS):
        part = runs[(runs["kind"] == kind) & (runs["level"] == level)]
        clear = part[part["auc"] >= 0.95]
        yield (
            kind,
            level,
            *(f"{part[column].mean():.3f}" for column in ("f1", "auc", "precision")),
            *(f"{value:.2f}" for value in (part["recall"].mean(), part["ratio"].mean())),
            f"{part['inside'].mean():.2f}",
            f"{len(clear)} of {len(part)}",
            f"{clear['precision'].mean():.2f} / {clear['recall'].mean():.2f}",
        )


def text(runs, arguments):
    """Write the tables."""
    noisy, clean = runs[runs["level"] > 0], runs[runs["level"] == 0]
    lines = [
        "# Wrong labels in tables",
        "",
        "Written by `label_errors_tables.py`, which says what is run. F1 of the rows "
        f"flagged, on {arguments.rows}-numbered rows of each table. Published results are "
        "means of runs on all rows. Uniform flips (`Sym`) and flips near a linear "
        "boundary (`Asym`), noise 0.05 to 0.4, each level counting alike.",
        "",
        f"{tables.versions('sknonlin', 'torch', 'scikit-learn')}; every run on one core of "
        f"{tables.machine()}.",
        "",
    ]
    for size in sorted(noisy["size"].unique(), key=SIZES.index):
        part, theirs = noisy[noisy["size"] == size], published(arguments.data, size)
        whole = set(part["data"]) == set(NAMES)
        n_seeds = part["seed"].nunique()
        lines += [f"## {size:,} rows, {n_seeds} seed{'s' * (n_seeds > 1)}", ""]
        if whole:
            head = ["method", "all 11 tables", "eight, Sym, 0.1 and 0.3", "the same, both"]
            lines += [tables.table(head, methods(part, theirs))]
            head = ["table", "noise", "sknonlin", "F1 at the true count", "ROC AUC"]
            head += ["cleanlab", "best published"]
            lines += [tables.table(head, comparison(part, theirs))]
        head = ["noise", "level", "F1", "ROC AUC", "precision", "recall"]
        head += ["estimated number / true", "true number in the interval"]
        head += ["runs with AUC of .95", "precision / recall there"]
        lines += [tables.table(head, by_level(part))]
        seconds = part["seconds"].median()
        lines += [f"Seconds for `fit` and `score_samples`: {seconds:.1f} (median).", ""]
    flagged = (clean["flagged"] / clean["size"]).groupby(clean["data"]).mean()
    shown = ", ".join(f"{name} {share:.1%}" for name, share in flagged.items())
    return "\n".join([*lines, f"Flagged where no label was changed: {shown}.", ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", choices=["odd", "even"], default="odd")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(10))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    found = text(run(arguments), arguments)
    if arguments.write:
        arguments.write.write_text(tables.with_answer(found, arguments.write))
    else:
        print(found)

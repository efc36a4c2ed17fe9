"""Finding wrong labels: one memorized network against what else there is.

    python doc/benchmarks/label_errors.py FOLDER --jobs 16 --write label_errors.md

The trainings are kept in FOLDER (`label_error_runs.py` makes them, too): about two hours
on one core.

Every network fits all the labels it was given, wrong ones included. The peers:

* AUM (Pleiss et al. 2020): the mean margin over the training epochs, written down while
  the same network trains; over all its epochs, and over as many as suit it best.
* confident learning (cleanlab): normalized margins of out-of-sample probabilities from
  five more trainings; with as many epochs as suit it best, and for as long as ours.
* large loss: of the trained network, and after as many epochs as suit it best.
* nearest neighbours: share of neighbours with another label, cosine distance, on the
  layer and with the number of neighbours that suit it best.
* our own method on raw pixels: on the input alone, without a network.

"As suits it best" is the choice with the highest mean ROC AUC over all settings of a data
set and architecture: it knows the wrong labels, which a user does not. Ours has no such
choice; its settings come from other rows of Fashion-MNIST.
"""

import argparse
import pathlib
import platform
import time
from collections import defaultdict

import cleanlab
import label_error_runs
import networks
import numpy as np
import sklearn
import torch
from cleanlab.rank import get_label_quality_scores
from joblib import Parallel, delayed
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from tables import machine, with_answer
from torch import nn

import sknonlin
from sknonlin._factorization.compressions import make_compression
from sknonlin._memorization.activation_rows import SampleFeatures, SampleStream
from sknonlin._memorization.inputs import is_input
from sknonlin._memorization.sample_cones import CONE_RANKS
from sknonlin._memorization.sample_scores import SampleScorer, unit_blocks
from sknonlin._network.adapters import as_network
from sknonlin._running.parallel import Workers

NEIGHBOURS = (5, 10, 20, 50)


def sknonlin_scores(network, X, y, *, input_only=False):
    """Score samples as the detector does, and time learning and scoring them."""
    if input_only:
        network = nn.Sequential(nn.Flatten(), nn.ReLU())
    start = time.perf_counter()
    scorer = SampleScorer(
        make_compression("nmf", random_state=0), list(CONE_RANKS), "cpu", "relu", 0
    )
    wrapped = as_network(network)
    scorer.fit(wrapped, X, y, 10)
    scores = scorer.score(wrapped, X, len(y), y)
    seconds = time.perf_counter() - start
    flags = scores.score > scorer.threshold
    return scores, flags, seconds


def neighbour_scores(network, X, y):
    """Shares of neighbours with another label, by layer and number of neighbours."""
    features = SampleFeatures("relu", 10, nonnegative=True)
    with Workers() as workers:
        stream = SampleStream(workers, as_network(network), X, features, len(y))
        blocks = [rows for _, (rows, *_) in stream.run(np.arange(len(y)), unit_blocks)]
    scores = {}
    for name in blocks[0]:
        A = torch.cat([rows[name] for rows in blocks])
        if is_input(name):
            continue
        finder = NearestNeighbors(n_neighbors=max(NEIGHBOURS) + 1, metric="cosine")
        nearest = finder.fit(A.numpy()).kneighbors(return_distance=False)
        other = y[nearest] != y[:, None]
        for k in NEIGHBOURS:
            scores[name, k] = other[:, :k].mean(1)
    return scores


def held_out_scores(y, record):
    """Confident learning's scores after every epoch of the folds."""
    scores = {}
    for epoch, probabilities in enumerate(record["held_out"], 1):
        p = probabilities.astype(float)
        p /= p.sum(1, keepdims=True)
        scores[epoch] = -get_label_quality_scores(y, p, method="normalized_margin")
    return scores


def all_scores(setting, folder):
    """Scores of every method, {method: {choice: scores}}, and what else is told."""
    torch.set_num_threads(1)
    network, record = label_error_runs.run(setting, folder)
    X, y, _, _, true = networks.load(setting)
    ours, flags, seconds = sknonlin_scores(network, X, y)
    pixels, _, _ = sknonlin_scores(network, X, y, input_only=True)
    margins, losses = record["margins"], record["losses"]
    n_epochs = len(margins)
    with torch.no_grad():
        output = network(torch.from_numpy(X))
        final = nn.functional.cross_entropy(output, torch.from_numpy(y), reduction="none")
    mean_margins = np.cumsum(margins, 0) / np.arange(1, n_epochs + 1)[:, None]
    held_out = held_out_scores(y, record)
    wrong = y != true
    scores = {
        "sknonlin": {"": ours.score},
        "ours, on raw pixels": {"": pixels.score},
        "AUM, best epochs": {e: -m for e, m in enumerate(mean_margins, 1)},
        "AUM, whole training": {"": -mean_margins[-1]},
        "cleanlab, best epochs": {
            e: s for e, s in held_out.items() if e <= label_error_runs.FOLD_EPOCHS
        },
        "nearest neighbours, best": neighbour_scores(network, X, y),
        "loss, best epochs": dict(enumerate(losses, 1)),
        "loss, trained network": {"": final.numpy()},
    }
    if len(held_out) > label_error_runs.FOLD_EPOCHS:
        scores["cleanlab, as long as ours"] = {"": held_out[max(held_out)]}
    told = {
        "flagged": flags.mean(),
        "precision": wrong[flags].mean() if flags.any() else np.nan,
        "recall": flags[wrong].mean(),
        "suggestion": (ours.suggested == true)[flags & wrong].mean(),
        "seconds": seconds,
        "training": record["seconds"],
        "epochs": n_epochs,
    }
    return wrong, scores, told


def measures(wrong, scores):
    """ROC AUC, average precision, and precision at the true number."""
    n_wrong = wrong.sum()
    top = np.argsort(-scores, kind="stable")[:n_wrong]
    return (
        roc_auc_score(wrong, scores),
        average_precision_score(wrong, scores),
        wrong[top].mean(),
    )


def best_choices(results):
    """Choice of every method with the highest mean AUC over the settings."""
    areas = defaultdict(lambda: defaultdict(list))
    for wrong, scores, _ in results.values():
        for method, choices in scores.items():
            for choice, s in choices.items():
                areas[method][choice].append(roc_auc_score(wrong, s))
    best = {}
    for method, choices in areas.items():
        n = max(len(found) for found in choices.values())
        means = {c: np.mean(a) for c, a in choices.items() if len(a) == n}
        best[method] = max(means, key=means.get)
    return best


def noise_table(results, best, noise):
    """Rows of one kind of noise: a method a row, a share of wrong labels a column."""
    levels = sorted({s.p for s in results if s.noise == noise})
    lines = [
        "| method | " + " | ".join(f"{p:g}" for p in levels) + " |",
        "| --- |" + " --- |" * len(levels),
    ]
    for method, choice in best.items():
        cells = []
        for p in levels:
            found = [
                measures(wrong, scores[method][choice])
                for s, (wrong, scores, _) in results.items()
                if s.p == p and s.noise == noise and method in scores
            ]
            means = np.mean(found, 0) if found else None
            cells.append("" if means is None else " / ".join(f"{v:.3f}" for v in means))
        name = method + (f" ({choice})" if choice != "" else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def flag_table(results):
    """Tell what ``detect`` flags with ``contamination="auto"``."""
    lines = [
        "| noise | wrong | flagged | precision | recall | suggestion right |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    groups = defaultdict(list)
    for s, (wrong, _, told) in results.items():
        groups[s.noise, s.p].append(
            (
                wrong.mean(),
                *(told[k] for k in ("flagged", "precision", "recall", "suggestion")),
            )
        )
    for (noise, _), rows in sorted(groups.items()):
        means = " | ".join(f"{v:.3f}" for v in np.mean(rows, 0))
        lines.append(f"| {noise} | {means} |")
    return lines


def clean_settings(data, architecture):
    """Networks of which no label is wrong, and of which all are drawn at random."""
    n_train = 1000 if data == "digits" else 2000
    return [
        networks.Setting(data, architecture, p, seed, n_train)
        for p in (0.0, 1.0)
        for seed in networks.SEEDS
    ]


def clean_flags(setting, folder):
    """Share flagged, and ROC AUC where labels are random."""
    torch.set_num_threads(1)
    network = networks.trained(setting, folder)
    X, y, _, _, true = networks.load(setting)
    scores, flags, _ = sknonlin_scores(network, X, y)
    return flags.mean(), roc_auc_score(y != true, scores.score) if setting.p else np.nan


def clean_lines(found):
    """Tell what the scores say where nothing, or everything, is wrong."""
    lines = ["", "Nothing wrong, and labels redrawn at random:", ""]
    for p in (0.0, 1.0):
        flagged, areas = zip(*[v for s, v in found.items() if s.p == p], strict=True)
        line = f"* p = {p:g}: " + ", ".join(f"{f:.1%}" for f in flagged) + " flagged"
        line += ", ROC AUC " + ", ".join(f"{a:.3f}" for a in areas) if p else ""
        lines.append(line)
    return lines


def report(data, architecture, folder, seeds, n_jobs):
    """Sections of one data set and architecture."""
    parallel = Parallel(n_jobs, batch_size=1)
    settings = label_error_runs.settings(data, architecture, seeds)
    found = parallel(delayed(all_scores)(s, folder) for s in settings[::-1])
    results = dict(zip(settings, found[::-1], strict=True))
    settings = clean_settings(data, architecture)
    found = parallel(delayed(clean_flags)(s, folder) for s in settings)
    best = best_choices(results)
    n_seeds = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    lines = [f"## {data}, {architecture}: {len(results)} networks, {n_seeds}", ""]
    for noise in label_error_runs.NOISE_KINDS:
        lines += [f"### {noise} noise, by its share", "", "ROC AUC / AP / precision", ""]
        lines += [*noise_table(results, best, noise), ""]
    lines += ["### Flags of `detect`, and labels suggested", "", *flag_table(results)]
    lines += clean_lines(dict(zip(settings, found, strict=True)))
    told = [t for _, _, t in results.values()]
    median = {k: np.median([t[k] for t in told]) for k in ("seconds", "training", "epochs")}
    lines += [
        "",
        f"Cost (medians): {median['training']:.0f} s to train the network for "
        f"{median['epochs']:.0f} epochs; {median['seconds']:.1f} s for all our scores. "
        "AUM needs a record of that training. Confident learning needs five more "
        "trainings, each on four fifths of the samples.",
        "",
    ]
    return lines


def main():
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--data", nargs="+", default=["digits", "confirm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=label_error_runs.SEEDS)
    parser.add_argument("--architectures", nargs="+", default=["mlp", "cnn"])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    lines = [
        "# Finding wrong labels",
        "",
        "Written by `label_errors.py`, which says what the methods are. `confirm` are rows "
        "10,000 to 19,999 of Fashion-MNIST. Nothing was chosen on them. A network has "
        "2,000 images of `confirm`, or 1,000 of digits. The cells have ROC AUC / average "
        "precision / precision at the true number of wrong labels, as means over the "
        "seeds.",
        "",
        f"sknonlin {sknonlin.__version__}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, cleanlab {cleanlab.__version__}, Python "
        f"{platform.python_version()}; {arguments.jobs} at a time, each on one core of "
        f"{machine()}.",
        "",
    ]
    for data in arguments.data:
        for architecture in arguments.architectures:
            own = arguments.folder, arguments.seeds, arguments.jobs
            lines += report(data, architecture, *own)
            print("\n".join(lines), flush=True)
            if arguments.write:
                text = "\n".join(lines).rstrip() + "\n"
                arguments.write.write_text(with_answer(text, arguments.write))


if __name__ == "__main__":
    main()

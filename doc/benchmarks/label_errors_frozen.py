"""Finding wrong labels with networks that fit all labels: images, text, tables and audio.

    python doc/benchmarks/frozen_networks.py FOLDER --tables TABLES    # half an hour
    python doc/benchmarks/label_errors_frozen.py FOLDER --tables TABLES    # some 15 minutes

`frozen_networks.py` says what the networks are, and how to make TABLES. This writes
`label_errors_frozen.md`; scores are kept in FOLDER, and ``--again`` repeats those of
sknonlin. From one finished network, without any record of its training:

* sknonlin: `MemorizationDetector.score_samples` around the frozen network, and the part of
  that score which its readers and cones of the network's input alone give.
* loss, negative margin and entropy of the output, in double precision.
* curvature of the loss in the input (Garg, Ravikumar & Roy 2024), by Hutchinson's estimate
  with finite differences; of networks that take token ids, in their embeddings.
* nearest neighbours: share of the 20 nearest with another label, cosine distance.
* prediction depth (Baldock, Maennel & Neyshabur 2021): the first layer from which on the
  20 nearest neighbours vote for the network's answer, and the share of all layers'
  neighbours that do not, which tells samples of one depth from each other.
* SimiFeat (Zhu, Dong & Liu 2022): similarity of the votes of the 10 nearest neighbours in
  the last layer with the label given, by which its ranking-based variant goes.
* cleanlab: label quality by self-confidence or by normalized margin, of out-of-sample
  probabilities by logistic regression in 5 folds, as its Datalab takes them.
* self-influence: the norm of the last layer's gradient, which is TracIn's (Pruthi et al.
  2020) at the final checkpoint and for the last layer.
* representer value (Yeh et al. 2018) of a sample for its own label, where the last layer
  is learned again with an L2 penalty.

With a record of the training:

* AUM (Pleiss et al. 2020) and CSL (Ravikumar et al. 2025): the mean margin, negated, and
  the mean loss, over all epochs and over as many as suit best.
* the loss of a single epoch, the one that suits best.
* forgetting events (Toneva et al. 2019).

What suits best is the choice with the highest mean ROC AUC over all networks of a data set
and architecture: it knows the wrong labels, which a user does not. sknonlin has none.
Where neighbours or regressions need the input of a network that takes token ids, they have
its TF-IDF. Feature maps are averaged over a coarse grid, as sknonlin does it itself.
"""

import copy
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import frozen_networks
import numpy as np
import torch
from cleanlab.rank import get_label_quality_scores
from frozen_networks import kept
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from skorch import NeuralNetClassifier
from tables import table, versions, with_answer
from torch import nn

from sknonlin import MemorizationDetector
from sknonlin._memorization.activation_rows import SampleFeatures, SampleStream
from sknonlin._memorization.inputs import is_input
from sknonlin._network.adapters import as_network
from sknonlin._running.parallel import Workers

HERE = Path(__file__).parent
PACKAGES = ("sknonlin", "torch", "scikit-learn", "cleanlab", "numpy")
N_NEIGHBOURS, N_VOTES = 20, 10
N_FOLDS, INVERSE_PENALTIES = 5, (1e-4, 1e-3, 0.01, 1.0)
QUALITIES = ("self_confidence", "normalized_margin")
REPRESENTER_PENALTY = 0.003
N_DIRECTIONS, STEP, CHUNK = 5, 1e-3, 250  # of the curvature
NEAR = 0.005  # what two methods may differ by
OURS, INPUT_ALONE = "sknonlin", "sknonlin, from the input alone"


# sknonlin -----------------------------------------------------------------------------


def sknonlin_scores(network, X, y):
    """Scores of the detector, of the input alone, and what it flags."""
    net = NeuralNetClassifier(network, train_split=None, verbose=0).initialize()
    start = time.perf_counter()
    detector = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(X, y)
    scores = detector.score_samples(X, y)
    seconds = time.perf_counter() - start
    return {
        "score": scores,
        "input": detector._sample_scores(X, y).evidence[:, 0],
        "flags": detector.detect(X, y),
        "n_wrong": detector.n_wrong_,
        "seconds": seconds,
    }


# Peers of one finished network --------------------------------------------------------


def rows_of(block):
    """Rows of a block, as they are."""
    return block.rows


def output_layer(network):
    """Return the last fully connected layer."""
    return [m for m in network.modules() if isinstance(m, nn.Linear)][-1]


def features_of(network, X, n_classes):
    """Rows by layer, the first ReLU first; and what goes into the output layer."""
    features = SampleFeatures("relu", n_classes, nonnegative=True)
    with Workers() as workers:
        stream = SampleStream(workers, as_network(network), X, features, len(X))
        blocks = [rows for _, rows in stream.run(np.arange(len(X)), rows_of)]
    found = {
        name: torch.cat([rows[name] for rows in blocks]).numpy()
        for name in blocks[0]
        if not is_input(name)
    }
    last = []
    hook = output_layer(network).register_forward_pre_hook(
        lambda _, inputs: last.append(inputs[0])
    )
    with torch.no_grad():
        network(torch.from_numpy(X))
    hook.remove()
    last = last[0].numpy()
    layers = [A for A in found.values() if A.shape != last.shape or abs(A - last).max() > 0]
    return [*layers, last]


def curvature(network, X, y):
    """Mean squared norm of the loss's Hessian in the input times random signs."""
    network = copy.deepcopy(network).double()
    head = getattr(network, "head", network)
    generator = torch.Generator().manual_seed(0)

    def gradient(X, y):
        X = X.clone().requires_grad_()
        loss = nn.functional.cross_entropy(head(X), y, reduction="sum")
        return torch.autograd.grad(loss, X)[0]

    parts = []
    for part in torch.arange(len(X)).split(CHUNK):
        A, own = torch.from_numpy(X)[part], torch.from_numpy(y)[part]
        A = network.embed(A).detach() if head is not network else A.double()
        start, total = gradient(A, own), 0
        for _ in range(N_DIRECTIONS):
            signs = torch.randint(0, 2, A.shape, generator=generator).double() * 2 - 1
            change = (gradient(A + STEP * signs, own) - start) / STEP
            total += change.square().flatten(1).sum(1)
        parts.append(total / N_DIRECTIONS)
    return torch.cat(parts).numpy()


def output_scores(network, last, y):
    """Scores by the output, and by the last layer's gradient."""
    layer, y = output_layer(network), torch.from_numpy(y)
    H = torch.from_numpy(last).double()
    with torch.no_grad():
        output = H @ layer.weight.double().T + layer.bias.double()
    logs = output.log_softmax(1)
    own = output.gather(1, y[:, None])[:, 0]
    others = output.scatter(1, y[:, None], -torch.inf).amax(1)
    p = logs.exp()
    wrongness = p - nn.functional.one_hot(y, p.shape[1])
    # What is missing to 1 is the sum of the other classes, without cancellation.
    wrongness.scatter_(1, y[:, None], -p.scatter(1, y[:, None], 0.0).sum(1, keepdim=True))
    size = H.square().sum(1) + 1  # with the bias
    return {
        "loss": nn.functional.softplus(log_odds_of_others(logs, y)).numpy(),
        "negative margin": (others - own).numpy(),
        "entropy": -(p * logs).sum(1).numpy(),
        "self-influence": (wrongness.norm(dim=1) * size.sqrt()).numpy(),
    }


def log_odds_of_others(logs, y):
    """Log-odds of all other classes together against the given one."""
    others = logs.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return others - logs.gather(1, y[:, None])[:, 0]


def representer_value(last, y):
    """How far samples stand for their own label where the last layer is learned again."""
    strength = 1 / (2 * REPRESENTER_PENALTY * len(y))
    A = last / last.std()
    p = LogisticRegression(C=strength, max_iter=200).fit(A, y).predict_proba(A)
    return (1 - p[np.arange(len(y)), y]) * np.square(A).sum(1)


def neighbours(A):
    """Places of the nearest other samples, (n_samples, N_NEIGHBOURS)."""
    finder = NearestNeighbors(n_neighbors=N_NEIGHBOURS, metric="cosine").fit(A)
    return finder.kneighbors(return_distance=False)


def votes(nearest, y):
    """Count the labels of neighbours, (n_samples, n_classes)."""
    found = np.zeros((len(y), y.max() + 1))
    np.add.at(found, (np.arange(len(y))[:, None], y[nearest]), 1)
    return found


def prediction_depth(nearest, y):
    """First layer from which on neighbours vote for the labels, all of which are fitted."""
    agree = np.array([votes(found, y).argmax(1) == y for found in nearest])
    later = np.logical_and.accumulate(agree[::-1])[::-1]
    other = np.mean([(y[found] != y[:, None]).mean(1) for found in nearest], 0)
    return (~later).sum(0) + other


def simi_feat(nearest, y):
    """Cosine of the neighbours' votes with the label given, negated."""
    found = votes(nearest[:, :N_VOTES], y)
    return -found[np.arange(len(y)), y] / np.linalg.norm(found, axis=1)


def regression_scores(A, y):
    """Label quality by cleanlab, of logistic regression, for its choices."""
    scores = {}
    A = A / A.std()
    A = csr_array(A) if (A == 0).mean() > 0.9 else A
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    for C in INVERSE_PENALTIES:
        model = LogisticRegression(C=C, max_iter=100)
        p = cross_val_predict(model, A, y, cv=folds, method="predict_proba")
        for method in QUALITIES:
            scores[f"C {C:g}, {method}"] = -get_label_quality_scores(y, p, method=method)
    return scores


def peer_scores(network, X, y):
    """Scores of what needs the finished network alone, by method and choice."""
    n_classes = int(y.max()) + 1
    layers = features_of(network, X, n_classes)
    flat = frozen_networks.tf_idf(X) if X.dtype == np.int64 else X.reshape(len(X), -1)
    scores = {
        f"{method}|": found
        for method, found in output_scores(network, layers[-1], y).items()
    }
    scores["curvature|"] = curvature(network, X, y)
    nearest = [neighbours(A) for A in (flat, *layers)]
    for number, found in enumerate(nearest):
        name = f"best layer|{number}" if number else "input|"
        scores[f"nearest neighbours, {name}"] = (y[found] != y[:, None]).mean(1)
    scores["prediction depth|"] = prediction_depth(nearest, y)
    scores["SimiFeat|"] = simi_feat(nearest[-1], y)
    scores["representer value|"] = representer_value(layers[-1], y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for number, A in enumerate((flat, *layers)):
            for choice, found in regression_scores(A, y).items():
                name = f"best layer|{number}, {choice}" if number else f"input|{choice}"
                scores[f"cleanlab, regression on the {name}"] = found
    return scores


# All scores ---------------------------------------------------------------------------


def training_scores(record):
    """Scores of what was written down while the network trained, by method and choice."""
    margins, losses = record["margins"], record["losses"]
    epochs = np.arange(1, len(losses) + 1)
    right = margins > 0
    forgotten = (right[:-1] & ~right[1:]).sum(0)
    sums = {"AUM": -margins.cumsum(0), "CSL": losses.cumsum(0)}
    scores = {"forgetting events": {"": np.where(right.any(0), forgotten, len(right))}}
    for name, total in sums.items():
        scores[f"{name}, whole training"] = {"": total[-1]}
        means = zip(epochs, total, strict=True)
        scores[f"{name}, best epochs"] = {f"{e}": t / e for e, t in means}
    single = zip(epochs, losses, strict=True)
    scores["loss of the best epoch"] = {f"{e}": loss for e, loss in single}
    return scores


@dataclass
class Result:
    """Truth and scores of one network."""

    case: object
    wrong: np.ndarray
    scores: dict  # of scores by choice, by method
    ours: dict  # of sknonlin_scores
    n_epochs: int
    fitted: float  # share of the labels given


def share_fitted(network, X, y):
    """Share of the labels that a network gives."""
    with torch.no_grad():
        return float((network(torch.from_numpy(X)).argmax(1).numpy() == y).mean())


def examine(case, folder, tables, *, again=False):
    """Score the samples of a network by all methods."""
    X, given, true = frozen_networks.load(case, folder, tables)
    network, record = frozen_networks.trained(case, folder, X, given)
    ours_path = folder / f"{case.stem}_sknonlin.npz"
    if again:
        ours_path.unlink(missing_ok=True)
    ours = kept(ours_path, lambda: sknonlin_scores(network, X, given))
    peers = kept(folder / f"{case.stem}_peers.npz", lambda: peer_scores(network, X, given))
    scores = defaultdict(dict)
    scores[OURS][""], scores[INPUT_ALONE][""] = ours["score"], ours["input"]
    for name, found in peers.items():
        method, choice = name.split("|")
        scores[method][choice] = found
    scores.update(training_scores(record))
    fitted = share_fitted(network, X, given)
    return Result(case, given != true, scores, ours, len(record["losses"]), fitted)


def best_choices(results):
    """Choice of every method with the highest mean AUC over some networks."""
    areas = defaultdict(lambda: defaultdict(list))
    for r in results:
        for method, choices in r.scores.items():
            for choice, s in choices.items():
                areas[method][choice].append(roc_auc_score(r.wrong, s))
    best = {}
    for method, choices in areas.items():
        means = {c: np.mean(a) for c, a in choices.items() if len(a) == len(results)}
        best[method] = max(means, key=means.get)
    return best


# The tables ---------------------------------------------------------------------------


def measures(wrong, scores):
    """ROC AUC, and precision at the true number."""
    top = np.argsort(-scores, kind="stable")[: wrong.sum()]
    return roc_auc_score(wrong, scores), wrong[top].mean()


def grouped(results, key):
    """Put results into lists by a key."""
    groups = defaultdict(list)
    for r in results:
        groups[key(r)].append(r)
    return groups


def measured(results):
    """Give {method: means (n_columns, 2)}, and the choices by data and architecture."""
    choices = {
        name: best_choices(own)
        for name, own in grouped(
            results, lambda r: f"{r.case.data}, {r.case.architecture}"
        ).items()
    }
    means = defaultdict(list)
    for own in grouped(results, lambda r: r.case.column).values():
        best = choices[f"{own[0].case.data}, {own[0].case.architecture}"]
        for method, choice in best.items():
            found = [measures(r.wrong, r.scores[method][choice]) for r in own]
            means[method].append(np.mean(found, 0))
    return {method: np.array(rows) for method, rows in means.items()}, choices


def score_table(results):
    """Methods as rows, noises as columns, the best of each in bold."""
    means, choices = measured(results)
    columns = [*grouped(results, lambda r: r.case.column)]
    top = np.max([*means.values()], 0).round(3)
    rows = []
    for method, values in means.items():
        cells = [
            " / ".join(
                f"**{v:.3f}**" if round(v, 3) == t else f"{v:.3f}"
                for v, t in zip(pair, best, strict=True)
            )
            for pair, best in zip(values, top, strict=True)
        ]
        rows.append([method, *cells])
    told = [
        f"{group}: " + "; ".join(f"{m} {c}" for m, c in best.items() if c)
        for group, best in choices.items()
    ]
    return "\n".join(
        [
            table(["method", *columns], rows),
            below_line(means, columns),
            "",
            f"Chosen with the true labels. {'. '.join(told)}.",
        ]
    )


def below_line(means, columns):
    """Say where sknonlin is below the best method, by ROC AUC."""
    told = []
    for place, column in enumerate(columns):
        areas = {method: values[place, 0] for method, values in means.items()}
        best = max(areas, key=areas.get)
        if areas[best] - areas[OURS] > NEAR:
            told.append(
                f"{column} ({areas[OURS]:.3f}; {best} has {areas[best]:.3f})",
            )
    listed = "; ".join(told) if told else "nowhere"
    return f"sknonlin is more than {NEAR:g} below the best ROC AUC: {listed}."


def flag_table(results):
    """Tell what sknonlin flags, and how many labels it takes for wrong."""
    rows = []
    for (family, column), own in grouped(
        results, lambda r: (r.case.family, r.case.column)
    ).items():
        told = []
        for r in own:
            flags = r.ours["flags"]
            precision = r.wrong[flags].mean() if flags.any() else np.nan
            told.append([r.wrong.sum(), r.ours["n_wrong"], flags.sum(), precision])
            told[-1] += [flags[r.wrong].mean(), r.ours["seconds"], r.n_epochs, r.fitted]
        means = np.mean(told, 0)
        n_wrong, estimate, flagged, precision, recall, seconds, epochs, fitted = means
        rows.append([family, column, f"{n_wrong:.0f}", f"{estimate:.0f}", f"{flagged:.0f}"])
        rows[-1] += [f"{precision:.3f}", f"{recall:.3f}", f"{epochs:.0f}", f"{fitted:.2%}"]
        rows[-1].append(f"{seconds:.1f}")
    head = ["networks", "noise", "wrong", "`n_wrong_`", "flagged", "precision", "recall"]
    return table([*head, "epochs", "fitted", "seconds"], rows)


def report(results):
    """Write all tables as one text."""
    parts = [
        "# Finding wrong labels with finished networks",
        "Written by `label_errors_frozen.py`, which says what the methods are; "
        "`frozen_networks.py` says what the networks are. All networks were trained until"
        " they fitted all labels given, wrong ones included. Some did not get there "
        "within 600 epochs, as the last table shows. The cells have ROC AUC / precision "
        "at the true number of wrong labels. For the data of tables they are means over "
        "two seeds of network and noise, and for all other data they are of a single "
        "network.",
        "The last six rows of a table need a record of the training. If a name says "
        '"best", the layer, the epoch or the settings were chosen with the true labels, '
        "for the highest mean ROC AUC on that data and architecture. No user could do "
        "that. sknonlin has no such choice. Networks that cleanlab trains in cross-"
        "validation are on [another page](label_errors.md), for images.",
        "The texts also served for choosing our settings. The images and the rows of the "
        "tables did not.",
        f"{versions(*PACKAGES)}; one core of a shared virtual machine.",
    ]
    for family, own in grouped(results, lambda r: r.case.family).items():
        n_samples = len(own[0].wrong)
        parts += [
            f"## {family[0].upper()}{family[1:]}",
            f"{n_samples:,} samples a network.",
        ]
        parts += [score_table(own)]
    parts += [
        "## What sknonlin flags",
        'The table has what `detect` flags with `contamination="auto"`, the share of '
        "labels that the network fits after its epochs, and the time of `fit` and "
        "`score_samples`.",
        flag_table(results),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main():
    """Write the tables."""
    parser = frozen_networks.command_line(__doc__)
    parser.add_argument("--again", action="store_true", help="repeat sknonlin's scores")
    parser.add_argument("--write", type=Path, default=HERE / "label_errors_frozen.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for family in arguments.families:
        for case in frozen_networks.available(family, arguments.tables):
            start = time.perf_counter()
            results.append(
                examine(case, arguments.folder, arguments.tables, again=arguments.again)
            )
            area = roc_auc_score(results[-1].wrong, results[-1].ours["score"])
            seconds = time.perf_counter() - start
            print(f"{case.stem}: {area:.3f}, {seconds:.0f} s", flush=True)
    text = report(results)
    print(text)
    arguments.write.write_text(with_answer(text, arguments.write))


if __name__ == "__main__":
    main()

"""Scores of one network against true memorization, from hundreds of trainings.

    python doc/benchmarks/memorization_truth.py FOLDER    # writes memorization_truth.md

Memorization after Feldman & Zhang (2020): how much more often networks are right on a
sample's given label when the sample is among those they are trained on. It is estimated
from 400 networks, each trained on 70 % of the samples, drawn at random. Then one network
of the same kind is trained on all samples, and what can be read off it is compared:

* sknonlin: `MemorizationDetector.score_samples` of the finished network; the same with
  the losses that it records where it trains the network itself; and the same on the input
  alone, without a network.
* the finished network's loss, negative margin, entropy, and input-loss curvature, by
  Hutchinson's estimate with finite differences (Garg, Ravikumar & Roy 2024).
* nearest neighbours: share of the 20 nearest with another label, cosine distance, on the
  last hidden layer and on the input.
* written down while it trains: the sum of the losses (CSL, Ravikumar et al. 2025), the
  mean margin, negated (AUM, Pleiss et al. 2020), how often the sample is forgotten
  (Toneva et al. 2019), and the curvature's mean over the epochs, as its authors use it.
* confident learning (cleanlab): one minus the given label's probability by networks of
  the same kind trained on four fifths of the samples, for as many epochs as the one
  network, and stopped after the epoch with the most given labels right in all folds.

Many networks train at once: their weights are stacks of matrices, multiplied by
`torch.baddbmm`, in chunks of 25. On one core of a busy machine with two, an epoch of one of
them on Fashion-MNIST took 18 ms so, 21 to 27 ms by `torch.func.vmap` over
`functional_call`, and 28 ms one network after the other. What was trained is kept in
FOLDER; without it, all takes some 25 minutes on that core, and with it three.
"""

import argparse
import itertools
import pathlib
import time
import warnings
from dataclasses import dataclass

import networks
import numpy as np
import torch
from cleanlab.rank import get_label_quality_scores
from label_error_runs import Margins
from scipy.stats import spearmanr
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from skorch import NeuralNetClassifier
from tables import table, versions, with_answer
from torch import nn

from sknonlin import MemorizationDetector
from sknonlin._memorization.known_samples import labelled, sample_keys
from sknonlin._memorization.trajectory import Trajectory
from sknonlin.datasets import make_noisy_labels

HERE = pathlib.Path(__file__).parent
PACKAGES = ("sknonlin", "torch", "scikit-learn", "cleanlab", "numpy")
N_SAMPLES = {"digits": 1500, "fashion": 2000}
P_WRONG, NOISE_SEED = 0.1, 0
WIDTH, N_CLASSES = 128, 10  # of the two hidden layers; of the output
BATCH_SIZE, LEARNING_RATE, MAX_EPOCHS = 100, 2e-3, 200
N_NETWORKS, CHUNK, SHARE = 400, 25, 0.7
STACK_FITS = 0.99  # mean share of right answers at which the many networks stop
SEEDS, N_FOLDS = (0, 1, 2), 5
N_NEIGHBOURS = 20
N_DIRECTIONS, N_EACH_EPOCH, STEP = 10, 2, 1e-3  # of the curvature
MEMORIZED = 0.5
OURS, ITSELF = "sknonlin", "true memorization itself"


# The data -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """Images as rows, their labels as given, and which of them are wrong."""

    name: str
    X: np.ndarray
    y: np.ndarray
    wrong: np.ndarray


def load(data, p):
    """First samples of a data set, a share p of the labels flipped."""
    source = {"digits": networks.digits_and_labels, "fashion": networks.fashion_and_labels}
    X, true = (part[: N_SAMPLES[data]] for part in source[data]())
    y = make_noisy_labels(true, p, NOISE_SEED, kind="flip") if p else true
    name = f"{data}, {p:.0%} wrong" if p else f"{data}, clean"
    return Samples(name, X.reshape(len(X), -1), y, y != true)


# Stacks of networks -------------------------------------------------------------------


def new_stack(n_networks, n_features):
    """Weights and biases of an MLP's layers, as ``nn.Linear`` draws them."""
    widths = (n_features, WIDTH, WIDTH, N_CLASSES)
    stack = []
    for n_inputs, n_outputs in itertools.pairwise(widths):
        bound = n_inputs**-0.5
        for shape in ((n_inputs, n_outputs), (1, n_outputs)):
            stack.append(torch.empty(n_networks, *shape).uniform_(-bound, bound))
    return [values.requires_grad_() for values in stack]


def hidden(stack, X):
    """Activations of the last hidden layer, (n_networks, n_samples, width)."""
    for weights, biases in zip(stack[:-2:2], stack[1:-2:2], strict=True):
        X = torch.baddbmm(biases, X, weights).relu()
    return X


def outputs(stack, X):
    """Logits, (n_networks, n_samples, n_classes)."""
    return torch.baddbmm(stack[-1], hidden(stack, X), stack[-2])


def answers(stack, X):
    """Logits of every network on the same samples, without gradients."""
    with torch.no_grad():
        return outputs(stack, X.expand(len(stack[0]), *X.shape))


def train(X, y, members, *, seed, fits=1.0, n_epochs=None, watch=None):
    """Train a network on every row of members, and return the stack and the epochs.

    It stops after ``n_epochs``, or after an epoch in which the networks' outputs, read
    off as the batches are met, were right on a share ``fits`` of the labels.
    """
    torch.manual_seed(seed)
    stack = new_stack(len(members), X.shape[1])
    optimizer = torch.optim.Adam(stack, LEARNING_RATE, fused=True)
    n_done, done = 0, False
    while not done:
        n_right = 0
        order = members.gather(1, torch.rand(members.shape).argsort(1))
        for batch in order.split(BATCH_SIZE, 1):
            optimizer.zero_grad()
            output = outputs(stack, X[batch])
            loss = nn.functional.cross_entropy(
                output.flatten(0, 1), y[batch].flatten(), reduction="sum"
            )
            (loss / batch.shape[1]).backward()
            optimizer.step()
            n_right += (output.argmax(2) == y[batch]).sum().item()
            if watch is not None:
                watch.batch(batch, output.detach())
        if watch is not None:
            watch.epoch(stack)
        n_done += 1
        fitted = n_epochs is None and n_right >= fits * members.numel()
        done = fitted or n_done == (n_epochs or MAX_EPOCHS)
    return [values.detach() for values in stack], n_done


# True memorization --------------------------------------------------------------------


def train_many(samples, n_networks):
    """Which networks were trained on which samples, and are right on them."""
    X, y = torch.from_numpy(samples.X), torch.from_numpy(samples.y)
    n_train = round(SHARE * len(y))
    inside = np.zeros((n_networks, len(y)), bool)
    right, epochs = inside.copy(), []
    start = time.perf_counter()
    for first in range(0, n_networks, CHUNK):
        chunk = np.arange(first, min(first + CHUNK, n_networks))
        drawn = np.random.default_rng(first).random((len(chunk), len(y)))
        members = drawn.argsort(1)[:, :n_train]
        stack, n_epochs = train(
            X, y, torch.from_numpy(members), seed=first, fits=STACK_FITS
        )
        inside[chunk[:, None], members] = True
        right[chunk] = (answers(stack, X).argmax(2) == y).numpy()
        epochs.append(n_epochs)
    seconds = time.perf_counter() - start
    return {"inside": inside, "right": right, "epochs": epochs, "seconds": seconds}


def kept(path, make):
    """Return the arrays of a file, made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make())
    return dict(np.load(path))


def memorization(inside, right):
    """Share of networks that are right with the sample, less that without it."""
    return (right & inside).sum(0) / inside.sum(0) - (right & ~inside).sum(0) / (
        ~inside
    ).sum(0)


# One network --------------------------------------------------------------------------


def curvature(stack, X, y, n_directions=N_DIRECTIONS, seed=0):
    """Mean squared norm of the loss's Hessian in the input times random signs."""
    stack = [values.double() for values in stack]
    generator = torch.Generator().manual_seed(seed)
    X, y = torch.from_numpy(X).double(), torch.from_numpy(y)

    def gradient(X):
        X = X.clone().requires_grad_()
        loss = nn.functional.cross_entropy(outputs(stack, X[None])[0], y, reduction="sum")
        return torch.autograd.grad(loss, X)[0]

    start, total = gradient(X), 0
    for _ in range(n_directions):
        signs = torch.randint(0, 2, X.shape, generator=generator).double() * 2 - 1
        total += ((gradient(X + STEP * signs) - start) / STEP).square().sum(1)
    return (total / n_directions).numpy()


class Alone(Margins):
    """Margins, losses and curvatures of the epochs of a stack of one."""

    def __init__(self, samples):
        super().__init__(samples.y)
        self.samples, self.curvatures = samples, []

    def batch(self, index, output):
        """Keep the margins and the losses of one batch."""
        super().batch(index[0], output[0])

    def epoch(self, network):
        """End an epoch."""
        super().epoch(network)
        now, epoch = [values.detach() for values in network], len(self.curvatures)
        X, y = self.samples.X, self.samples.y
        self.curvatures.append(curvature(now, X, y, N_EACH_EPOCH, epoch))


class HeldOut:
    """Probabilities of the samples that a stack's networks were not trained on."""

    def __init__(self, X, held_out):
        self.X, self.held_out = X, held_out
        self.probabilities = []

    def batch(self, index, output):
        """Nothing: only the held-out samples count."""

    def epoch(self, network):
        """Keep the probabilities after one epoch."""
        given = answers(network, self.X).softmax(2).numpy()
        epoch = np.empty(given.shape[1:], np.float32)
        for fold, rows in enumerate(self.held_out):
            epoch[rows] = given[fold, rows]
        self.probabilities.append(epoch)


def train_one(samples, seed):
    """Train one network on all samples, and five on four fifths of them."""
    X, y = torch.from_numpy(samples.X), torch.from_numpy(samples.y)
    watch, everything = Alone(samples), torch.arange(len(y))[None]
    stack, n_epochs = train(X, y, everything, seed=seed, watch=watch)
    splitter = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    insides, held_out = zip(*splitter.split(samples.X, samples.y), strict=True)
    folds = HeldOut(X, held_out)
    members = torch.from_numpy(np.stack(insides))
    train(X, y, members, seed=seed, n_epochs=n_epochs, watch=folds)
    return {
        "margins": np.array(watch.margins),
        "losses": np.array(watch.losses),
        "curvature": np.mean(watch.curvatures, 0),
        "held_out": np.array(folds.probabilities),
        **{f"stack{i}": values.numpy() for i, values in enumerate(stack)},
    }


def as_module(stack):
    """Make a module of a stack of one."""
    layers = []
    for weights, biases in zip(stack[::2], stack[1::2], strict=True):
        layer = nn.Linear(*weights.shape[1:])
        with torch.no_grad():
            layer.weight.copy_(weights[0].T)
            layer.bias.copy_(biases[0, 0])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


# The scores ---------------------------------------------------------------------------


def fitted_detector(module, samples, trajectory=None):
    """Fit a detector on a network as it is, or with what its training told."""
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0
    ).initialize()
    if trajectory is not None:
        net.callbacks_.append(("trajectory", trajectory))
    detector = MemorizationDetector(FrozenEstimator(net), random_state=0)
    return detector.fit(samples.X, samples.y)


def watched(samples, losses):
    """Losses over the epochs, as a detector records them where it trains the network."""
    keys = sample_keys(torch.from_numpy(samples.X), len(samples.y))
    names = labelled(keys, samples.y)
    order = np.argsort(names)
    trajectory = Trajectory()
    trajectory.names_, trajectory.losses_ = names[order], losses.mean(0)[order]
    return trajectory


def detector_scores(module, samples, losses):
    """Score samples with the detector: of the network, with its training, and without."""
    X, y = samples.X, samples.y
    only_input = nn.Sequential(nn.ReLU(), nn.Linear(X.shape[1], N_CLASSES))
    nn.init.zeros_(only_input[1].weight)
    nn.init.zeros_(only_input[1].bias)
    detectors = {
        OURS: fitted_detector(module, samples),
        f"{OURS}, training watched": fitted_detector(
            module, samples, watched(samples, losses)
        ),
    }
    with warnings.catch_warnings():  # it fits no labels, and its output does not count
        warnings.simplefilter("ignore", UserWarning)
        detectors["the same on the input alone"] = fitted_detector(only_input, samples)
    return {name: found.score_samples(X, y) for name, found in detectors.items()}


def finished_scores(stack, samples):
    """Loss, margin, entropy and curvature of the finished network."""
    y = torch.from_numpy(samples.y)
    double = [values.double() for values in stack]
    output = answers(double, torch.from_numpy(samples.X).double())[0]
    own = output.gather(1, y[:, None])[:, 0]
    others = output.scatter(1, y[:, None], -torch.inf).amax(1)
    logs = output.log_softmax(1)
    return {
        "loss": nn.functional.nll_loss(logs, y, reduction="none").numpy(),
        "negative margin": (others - own).numpy(),
        "entropy": -(logs.exp() * logs).sum(1).numpy(),
        "curvature": curvature(stack, samples.X, samples.y),
    }


def neighbour_scores(A, y):
    """Share of the nearest other samples that have another label."""
    finder = NearestNeighbors(n_neighbors=N_NEIGHBOURS, metric="cosine").fit(A)
    return (y[finder.kneighbors(return_distance=False)] != y[:, None]).mean(1)


def training_scores(record):
    """Sum up what was written down while the network trained."""
    right = record["margins"] > 0
    forgotten = (right[:-1] & ~right[1:]).sum(0)
    return {
        "CSL": record["losses"].sum(0),
        "AUM": -record["margins"].mean(0),
        "forgetting events": np.where(right.any(0), forgotten, len(right)),
        "curvature, mean of the epochs": record["curvature"],
    }


def held_out_scores(y, record):
    """Confident learning, after all epochs and after the best one by the given labels."""
    held_out = record["held_out"].astype(float)
    best = (held_out.argmax(2) == y).sum(1).argmax()
    chosen = {"as long as the network": held_out[-1], "best epoch": held_out[best]}
    return {
        f"confident learning, {name}": 1
        - get_label_quality_scores(y, p, method="self_confidence", adjust_pred_probs=False)
        for name, p in chosen.items()
    }


def all_scores(samples, record):
    """Scores of every method on one network, {method: scores}."""
    stack = [torch.from_numpy(record[f"stack{i}"]) for i in range(6)]
    X, y = torch.from_numpy(samples.X), samples.y
    return {
        **detector_scores(as_module(stack), samples, record["losses"]),
        **finished_scores(stack, samples),
        "nearest neighbours, last hidden layer": neighbour_scores(
            hidden(stack, X[None])[0].numpy(), y
        ),
        "nearest neighbours, input": neighbour_scores(samples.X, y),
        **training_scores(record),
        **held_out_scores(y, record),
    }


# The tables ---------------------------------------------------------------------------


@dataclass
class Result:
    """Truth and scores on one data set."""

    samples: Samples
    truth: dict  # of train_many
    mem: np.ndarray
    scores: list  # of all_scores, one for every seed
    n_epochs: list


def examine(samples, folder, n_networks):
    """Train what is not in the folder, and score."""
    stem = samples.name.replace(", ", "_").replace(" ", "_").replace("%", "")
    truth = kept(
        folder / f"{stem}_{n_networks}.npz", lambda: train_many(samples, n_networks)
    )
    mem = memorization(truth["inside"], truth["right"])
    scores, n_epochs = [], []
    for seed in SEEDS:
        record = kept(
            folder / f"{stem}_seed{seed}.npz", lambda seed=seed: train_one(samples, seed)
        )
        scores.append(all_scores(samples, record))
        n_epochs.append(len(record["losses"]))
    return Result(samples, truth, mem, scores, n_epochs)


def halves_agree(truth):
    """Rank correlation of the memorization by one half of the networks and the other."""
    halves = [memorization(truth["inside"][i::2], truth["right"][i::2]) for i in range(2)]
    return spearmanr(*halves).statistic


def truth_table(results):
    """Tell what was trained, and how much of it is memorized."""
    rows = []
    for r in results:
        inside, right = r.truth["inside"], r.truth["right"]
        high, wrong = r.mem > MEMORIZED, r.samples.wrong
        rows.append(
            [
                r.samples.name,
                f"{len(wrong):,}",
                f"{np.mean(r.truth['epochs']):.0f}",
                f"{right[inside].mean():.4f}",
                f"{right[~inside].mean():.3f}",
                high.sum(),
                f"{(high & wrong).sum()} of {wrong.sum()}",
                (high & ~wrong).sum(),
                f"{halves_agree(r.truth):.3f}",
                f"{np.mean(r.n_epochs):.0f}",
            ]
        )
    head = ["data", "samples", "epochs", "right inside", "right outside", "mem > 0.5"]
    head += ["wrong among them", "right among them", "halves agree", "epochs of the one"]
    return table(head, rows)


def rank_correlation(result, score):
    """Spearman's, with the true memorization."""
    return spearmanr(result.mem, score).statistic


def area_of_memorized(result, score):
    """ROC AUC of a score for what is memorized."""
    return roc_auc_score(result.mem > MEMORIZED, score)


def area_of_wrong(result, score):
    """ROC AUC of a score for wrong labels among what is memorized."""
    high = result.mem > MEMORIZED
    return roc_auc_score(result.samples.wrong[high], score[high])


def measured(results, measure):
    """Give {method: [values of the seeds, a data set a row]}."""
    methods = results[0].scores[0]
    return {
        method: np.array([[measure(r, s[method]) for s in r.scores] for r in results])
        for method in methods
    }


def score_table(results, measure):
    """Means over the seeds, the highest of every column bold, and what beats ours."""
    values = measured(results, measure)
    means = {method: v.mean(1) for method, v in values.items()}
    top = np.max(list(means.values()), 0).round(3)
    rows = []
    for method, mean in means.items():
        cells = [
            f"**{m:.3f}**" if round(m, 3) == t else f"{m:.3f}"
            for m, t in zip(mean, top, strict=True)
        ]
        rows.append([method, *cells])
    if measure is area_of_wrong:
        rows.append([ITSELF, *(f"{measure(r, r.mem):.3f}" for r in results)])
    deviation = max(v.std(1, ddof=1).max() for v in values.values())
    lines = [table(["score", *(r.samples.name for r in results)], rows)]
    lines += [f"Standard deviation over the seeds: at most {deviation:.3f}.", ""]
    for place, r in enumerate(results):
        better = [
            f"{method} ({mean[place]:.3f})"
            for method, mean in means.items()
            if mean[place] > means[OURS][place]
        ]
        listed = ": " + "; ".join(better) if better else ""
        lines.append(
            f"* {r.samples.name}: {len(better)} of {len(means) - 1} are above sknonlin "
            f"({means[OURS][place]:.3f}){listed}."
        )
    return "\n".join([*lines, ""])


def report(results, n_networks):
    """Write all tables as one text."""
    noisy = [r for r in results if r.samples.wrong.any()]
    seconds = " + ".join(f"{r.truth['seconds']:.0f}" for r in results)
    parts = [
        "# Scores of one network against true memorization",
        "Written by `memorization_truth.py`, which says what the scores are. The networks "
        f"are MLPs with two hidden layers of {WIDTH}. Numbers in all tables but the first "
        f"are means over {len(SEEDS)} seeds of the network that is scored, and higher is "
        "better. The data, the wrong labels and the truth are the same for all seeds. "
        "Fashion-MNIST's rows 0 to 1,999 are among those that sknonlin's settings were "
        "chosen on.",
        f"{versions(*PACKAGES)}; one core of a shared virtual machine.",
        "## What is memorized",
        f"The truth comes from {n_networks} networks. Each was trained on {SHARE:.0%} of "
        f"the samples until a share of {STACK_FITS} of the answers in an epoch was right "
        f"({CHUNK} networks together). *Right inside* and *right outside* are the shares "
        "of given labels that these networks answer, on samples that they were trained on "
        "and on others. *mem > 0.5* counts samples with a memorization above 0.5. *Halves "
        "agree* is the rank correlation between memorization by one half of the networks "
        "and by the other. The network that is scored was trained on all samples until "
        f"all answers in an epoch were right. The {n_networks} networks took "
        f"{seconds} s.",
        truth_table(results),
        "## Rank correlation with true memorization",
        "The table has Spearman's rank correlation over all samples. Confident learning "
        "asks networks that were not trained on the sample, as the definition of "
        "memorization does.",
        score_table(results, rank_correlation),
        "## Which samples are memorized",
        "The table has the ROC AUC for a memorization above 0.5.",
        score_table(results, area_of_memorized),
        "## Rare but right against wrong, apart",
        "The table has the ROC AUC for wrong labels, among the samples with a "
        "memorization above 0.5: "
        + "; ".join(
            f"{(r.mem[r.samples.wrong] > MEMORIZED).sum()} wrong and "
            f"{(r.mem[~r.samples.wrong] > MEMORIZED).sum()} right ones ({r.samples.name})"
            for r in noisy
        )
        + ".",
        score_table(noisy, area_of_wrong),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main():
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--networks", type=int, default=N_NETWORKS)
    parser.add_argument("--data", nargs="+", default=list(N_SAMPLES))
    parser.add_argument("--write", type=pathlib.Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for data in arguments.data:
        for p in (0, P_WRONG):
            start = time.perf_counter()
            results.append(examine(load(data, p), arguments.folder, arguments.networks))
            seconds = time.perf_counter() - start
            print(f"{results[-1].samples.name}: {seconds:.0f} s", flush=True)
    text = report(results, arguments.networks)
    print(text)
    path = arguments.write / "memorization_truth.md"
    path.write_text(with_answer(text, path))


if __name__ == "__main__":
    main()

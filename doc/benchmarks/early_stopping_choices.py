"""Which reading of a network that trains says when to stop? What the score was chosen by.

    python doc/benchmarks/early_stopping_choices.py FOLDER

Networks of `networks.py` are trained on digits (1,000 images) and on Fashion-MNIST's rows 0
to 3,999 (2,000 images for each of two seeds), a share p of the labels redrawn, and their
weights kept in FOLDER after every epoch. Every candidate is computed from the same weights
and the same 300 training samples, and stops as skorch's EarlyStopping does.
`early_stopping_choices.md` has the test accuracy of the epoch kept, less that of the best.
"""

import argparse
import itertools
import pathlib

import networks
import numpy as np
import torch
from early_stopping import stopped
from early_stopping_runs import NOISE_LEVELS, predict
from networks import Setting
from tables import table, versions

from sknonlin._memorization.forward_pass import Pass, PassSettings
from sknonlin._memorization.monitor import COMPRESSION
from sknonlin._network.adapters import as_network
from sknonlin._network.layers import Capture
from sknonlin.curves import area_under_curve

HERE = pathlib.Path(__file__).parent
SEEDS, N_SAMPLES = (0, 1), 300
N_EPOCHS = {"mlp": 60, "cnn": 45}
RANKS = (4, 8, 15, 30)
PACKAGES = ("sknonlin", "torch", "numpy")


class Weights:
    """Keep the weights of a network that trains."""

    def __init__(self):
        self.states = []

    def batch(self, index, output):
        """Do nothing after a batch."""

    def epoch(self, network):
        """Keep those after an epoch."""
        state = network.state_dict()
        self.states.append({name: value.clone() for name, value in state.items()})


def weights(setting, folder):
    """Weights after every epoch, from the folder where they are there."""
    path = pathlib.Path(folder) / setting.file_name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        watch = Weights()
        n_epochs = N_EPOCHS[setting.architecture]
        networks.train(setting, *networks.load(setting)[:2], n_epochs=n_epochs, watch=watch)
        torch.save(watch.states, path)
    return torch.load(path)[: N_EPOCHS[setting.architecture]]


def one_epoch(network, X, y, *, crossed):
    """Accuracies (n_layers, n_ranks) with a layer compressed, without, and the answers."""
    wrapped = as_network(network)
    settings = PassSettings(COMPRESSION, list(RANKS), "cpu", crossed)
    with Capture(wrapped, "relu", X[:2], 2) as capture:
        one_pass = Pass(capture, X, y.reshape(2, -1), settings)
        at_rank = [one_pass.accuracies(name).mean(0) for name in one_pass.matrices]
        answers = wrapped.codes(one_pass.tape.output).numpy()
    return np.stack(at_rank), one_pass.accuracy.mean(), answers


def measured(setting, folder):
    """Everything that the candidates read, epoch by epoch."""
    path = pathlib.Path(folder) / setting.file_name.replace(".pt", ".npz")
    if path.exists():
        return dict(np.load(path))
    X, y, X_test, y_test = map(torch.from_numpy, networks.load(setting)[:4])
    chosen = np.random.default_rng(0).permutation(len(X))[:N_SAMPLES]
    network = networks.make_network(setting).eval()
    rows = []
    for state in weights(setting, folder):
        network.load_state_dict(state)
        own, _, _ = one_epoch(network, X[chosen], y[chosen], crossed=False)
        other, right, answers = one_epoch(network, X[chosen], y[chosen], crossed=True)
        test = (predict(network, X_test) == y_test).double().mean().item()
        rows.append((own, other, right, answers, test))
    names = ("own", "other", "right", "answers", "test")
    found = dict(zip(names, map(np.stack, zip(*rows, strict=True)), strict=True))
    np.savez(path, **found)
    return found


# Candidates -------------------------------------------------------------------------


def layers(found, half, ranks, kept):
    """Score of every layer, (n_epochs, n_layers)."""
    at_rank = found[half][:, :, [RANKS.index(k) for k in ranks]]
    survived = np.minimum(1, at_rank / np.maximum(found["right"], 1e-9)[:, None, None])
    return area_under_curve(ranks, at_rank * survived**kept)


def mean_of_two(scores):
    """Mean of every score and the one before it."""
    return np.concatenate([scores[:1] / 2, (scores[1:] + scores[:-1]) / 2])


def unchanged(found):
    """Share of answers that are as an epoch before."""
    same = (found["answers"][1:] == found["answers"][:-1]).mean(1)
    return np.concatenate([[0], same])


def candidate(half="other", ranks=(15,), kept=1, layer=np.min, average=True, compare=True):
    """Make a function from what was measured to a score for every epoch."""

    def score(found):
        scores = layer(layers(found, half, ranks, kept), axis=1)
        scores = mean_of_two(scores) if average else scores
        return scores * unchanged(found) if compare else scores

    return score


ALONE = {"average": False, "compare": False}
CANDIDATES = {
    "accuracy, own components, ranks 4 to 15": candidate("own", (4, 8, 15), 0, **ALONE),
    "accuracy, own components, rank 15": candidate("own", kept=0, **ALONE),
    "accuracy, the other half's components": candidate(kept=0, **ALONE),
    "accuracy x survival, own components": candidate("own", **ALONE),
    "accuracy x survival, the other half's": candidate(**ALONE),
    "the same, mean of the layers": candidate(layer=np.mean, **ALONE),
    "the same, mean of two epochs": candidate(compare=False),
    "the same, x unchanged answers": candidate(average=False),
    "**both (the score)**": candidate(),
    "the score at rank 8": candidate(ranks=(8,)),
    "the score at rank 30": candidate(ranks=(30,)),
    "the score at ranks 8, 15, 30": candidate(ranks=(8, 15, 30)),
    "the score, mean of the layers": candidate(layer=np.mean),
    "the score, own components": candidate("own"),
    "unchanged answers alone": unchanged,
}


def lost(found, score):
    """Points of test accuracy lost to the best epoch."""
    kept = stopped(score(found), lower_is_better=False)
    return 100 * (found["test"][kept] - found["test"].max())


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds = list(itertools.product((("digits", 1000), ("fashion", 2000)), ("mlp", "cnn")))
    found = {}
    for (data, n_train), architecture in kinds:
        found[data, architecture] = [
            measured(
                Setting(data, architecture, p, seed, n_train=n_train), arguments.folder
            )
            for p, seed in itertools.product(NOISE_LEVELS, SEEDS)
        ]
        print(data, architecture, flush=True)
    rows = []
    for name, score in CANDIDATES.items():
        values = [[lost(f, score) for f in runs] for runs in found.values()]
        means = [f"{np.mean(v):.2f}" for v in values]
        rows.append([name, *means, f"{np.mean(values):.2f}", f"{np.min(values):.1f}"])
    head = ["score", *(" ".join(key) for key in found), "mean", "worst"]
    n = sum(map(len, found.values()))
    (HERE / "early_stopping_choices.md").write_text(
        "# What the score of a training was chosen by\n\n"
        "Written by `early_stopping_choices.py`. Points of test accuracy of the epoch "
        f"kept, less those of the best epoch: means over {n} trainings with p in "
        f"{NOISE_LEVELS}, two seeds each.\n\n{table(head, rows)}\n"
        f"{versions(*PACKAGES)}.\n"
    )


if __name__ == "__main__":
    main()

"""Whether intervals of memorization scores hold the scores of fresh batches.

    python doc/benchmarks/score_intervals.py

Every network is trained once and measured with many seeds, that is on many draws of its
batches. A trial is the interval of one draw, and the score of the next. The test of a
difference is made between draws of one network, where there is none.
"""

import pathlib
from functools import partial
from itertools import pairwise

import numpy as np
import tables
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn

from sknonlin import ActivationNonlinearity
from sknonlin._memorization.significance import Deviations, intervals, p_value
from sknonlin._network.adapters import as_network
from sknonlin.datasets import load_digits, load_fashion_mnist, make_noisy_labels
from sknonlin.profile import (
    ProfileSettings,
    layer_shares,
    measure_changes,
    measure_memorization,
)

HERE = pathlib.Path(__file__).parent
N_DRAWS = 41  # of every network
N_EPOCHS, BATCH = 40, 64


def mlp(n_features, n_classes):
    """Two hidden layers."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(n_features, 128), nn.ReLU()),
        *(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, n_classes)),
    )


def cnn(n_classes):
    """Two convolutions for 28 x 28 pixels."""
    return nn.Sequential(
        *(
            nn.Conv2d(1, 8, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 5, stride=2),
            nn.ReLU(),
        ),
        *(nn.Flatten(), nn.Linear(256, n_classes)),
    )


def digits(p, n_classes=10):
    """Digits, with a share of the labels flipped; as two classes, low and high ones."""
    X, y = load_digits(return_X_y=True)
    y = y if n_classes == 10 else (y > 4).astype(int)
    return X, make_noisy_labels(y, p, random_state=0, kind="flip")


def fashion(p):
    """Rows of Fashion-MNIST that nothing is chosen on."""
    X, y = load_fashion_mnist(return_X_y=True)
    X, y = X[20_000:22_000], y[20_000:22_000].astype(int)
    return X.reshape(-1, 1, 28, 28), make_noisy_labels(y, p, random_state=0, kind="flip")


def cancer(p):
    """Breast cancer, a table of 569 rows and 30 columns."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    return X, make_noisy_labels(y, p, random_state=0, kind="flip")


CASES = {
    "digits, MLP": (partial(digits, 0.0), partial(mlp, 64, 10)),
    "digits, 40 % wrong, MLP": (partial(digits, 0.4), partial(mlp, 64, 10)),
    "digits, two classes, MLP": (partial(digits, 0.0, 2), partial(mlp, 64, 2)),
    "Fashion-MNIST, CNN": (partial(fashion, 0.0), partial(cnn, 10)),
    "Fashion-MNIST, 40 % wrong, CNN": (partial(fashion, 0.4), partial(cnn, 10)),
    "breast cancer, 20 % wrong, MLP": (partial(cancer, 0.2), partial(mlp, 30, 2)),
}


def trained(make, X, y):
    """Train a network from a seed."""
    torch.manual_seed(0)
    net, X, y = make(), torch.tensor(X), torch.tensor(y)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(N_EPOCHS):
        for part in torch.randperm(len(X)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(X[part]), y[part]).backward()
            optimizer.step()
    return as_network(net)


def measured(network, X, y, seed):
    """Scores of the network and of its layers on one draw, with the areas."""
    settings = ProfileSettings.of(ActivationNonlinearity(), random_state=seed)
    score, single, mixed = measure_memorization(network, X, y, settings)
    areas = measure_changes(network, X, y, settings, single, mixed)
    return np.array([score]), layer_shares(single, mixed), areas


def trials(draws, n_classes):
    """Whether the next draw is in the interval, of network and layers, and p-values."""
    held, of_layers, p_values = [], [], []
    for (score, shares, areas), (fresh, fresh_shares, others) in pairwise(draws):
        ((low, high),) = intervals(areas.total(), score, n_classes, 1)
        held.append(low <= fresh[0] <= high)
        low, high = intervals(areas, shares, n_classes, 1).T
        of_layers.append((low <= fresh_shares) & (fresh_shares <= high))
        own, other = (
            Deviations.of(each.total(), value).variance(n_classes, 1)
            for each, value in ((areas, score), (others, fresh))
        )
        variance = own[0] + other[0]
        freedom = variance**2 / (own[0] ** 2 / own[1] + other[0] ** 2 / other[1])
        p_values.append(p_value((score - fresh)[0], variance[0], freedom[0]))
    return np.array(held), np.array(of_layers), np.array(p_values)


def main():
    """Write the table."""
    rows, everything = [], []
    for name, (make_samples, make_network) in CASES.items():
        X, y = make_samples()
        network = trained(make_network, X, y)
        draws = [measured(network, X, y, seed) for seed in range(N_DRAWS)]
        found = trials(draws, len(np.unique(y)))
        everything.append(found)
        scores = np.concatenate([draw[0] for draw in draws])
        rows.append([name, f"{scores.mean():.3f}", f"{scores.std():.4f}", *shown(*found)])
        print(tables.row(*rows[-1]), flush=True)
    held, of_layers, p_values = (
        np.concatenate([np.ravel(found[i]) for found in everything]) for i in range(3)
    )
    rows.append(["all", "", "", *shown(held, of_layers, p_values)])
    head = ["network", "score", "its deviation", "held", "of its layers", "p < 0.05"]
    uniform = stats.kstest(p_values, "uniform").pvalue
    text = (
        "# Intervals of the memorization score\n\nWritten by `score_intervals.py`. Each "
        f"network was measured on {N_DRAWS} draws of its batches. *Held* says how often "
        "the interval of one draw contains the score of the next draw, in "
        f"{len(held)} trials in all. The intervals are made for a probability of 0.9. The "
        "last column has the false alarms of the test between two draws of one network. "
        "They should be 0.05.\n\n"
        f"{tables.table(head, rows)}\nThe p-values are uniform by a Kolmogorov-Smirnov "
        f"test (p = {uniform:.2f}).\n\n"
        f"{tables.versions('sknonlin', 'torch', 'numpy', 'scikit-learn')}.\n"
    )
    path = HERE / "score_intervals.md"
    path.write_text(tables.with_answer(text, path))


def shown(held, of_layers, p_values):
    """Shares, as in the table."""
    alarms = np.mean(p_values < 0.05)
    return [f"{np.mean(held):.3f}", f"{np.mean(of_layers):.3f}", f"{alarms:.3f}"]


if __name__ == "__main__":
    main()

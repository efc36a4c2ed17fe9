"""Proved bounds of the non-negative rank: known matrices, random ones, layers of networks.

    python doc/benchmarks/rank_bounds.py    # about 20 minutes on one core

It writes `rank_bounds.md` beside this file: matrices whose non-negative rank is known,
with the time of each; 1,000 random ones; and batches of one class from layers of MLPs that
fit digits with a share p of redrawn labels.
"""

import pathlib
import runpy
import time

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from tables import machine, table, versions, with_answer
from torch import nn

from sknonlin import rank_bounds

HERE = pathlib.Path(__file__).parent
MATRICES = runpy.run_path(str(HERE.parent.parent / "tests" / "_bounds" / "matrices.py"))
NOISE_LEVELS, SEEDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0, 1, 2)
N_SAMPLES, N_BATCHES, TOL = 12, 4, 0.1
SINGLE = ("rank", "supports", "fooling_set", "rectangle_cover", "self_scaled")
#: Published ranks that are not reached from below: by the geometry of matrices of rank 3,
#: and by dimensions, which say nothing of matrices nearby.
BEYOND = [
    *[(f"{n}-gon", MATRICES["polygon"](n), "7") for n in (9, 10, 11, 12)],
    *[(f"line of {n}", MATRICES["line_distances"](n), "5") for n in (5, 6)],
    ("disjointness of 3", MATRICES["disjointness"](3), "7 or 8"),
]


def known_table():
    """Bounds of matrices whose rank is known, and the seconds that each takes."""
    rows = []
    for name, A, rank in [*MATRICES["KNOWN"], *BEYOND]:
        start = time.perf_counter()
        bounds = rank_bounds(A)
        seconds = time.perf_counter() - start
        single = [getattr(bounds, field) for field in SINGLE]
        shape = "{} x {}".format(*A.shape)
        rows.append(
            [name, shape, rank, bounds.lower, bounds.upper, *single, f"{seconds:.1f}"]
        )
        print(*rows[-1], flush=True)
    return table(
        ["matrix", "shape", "published", "lower", "upper", *SINGLE, "seconds"], rows
    )


def random_matrix(rng):
    """Draw a small matrix; say how many parts it was made of, if so."""
    n, m = rng.integers(1, 8, 2)
    if rng.random() < 0.2:
        return rng.integers(0, 3, (n, m)).astype(float), min(n, m)
    r = rng.integers(1, 6)
    W = rng.random((n, r)) * (rng.random((n, r)) < rng.uniform(0.3, 1))
    H = rng.random((r, m)) * (rng.random((r, m)) < rng.uniform(0.3, 1))
    if rng.random() < 0.3:
        W, H = np.round(3 * W), np.round(3 * H)
    return W @ H, min(n, m, r)


def random_counts(n_matrices=1000):
    """How many bounds meet, cross, or are above the number of parts planted."""
    rng, counts = np.random.default_rng(0), np.zeros(3, int)
    for _ in range(n_matrices):
        A, planted = random_matrix(rng)
        bounds = rank_bounds(A, max_time=0.3)
        counts += [bounds.is_exact, bounds.lower > bounds.upper, bounds.lower > planted]
    return counts


def trained(p, seed, X, y):
    """Train an MLP until it fits digits of which a share of the labels is redrawn."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(len(y)) < p, rng.integers(0, 10, len(y)), y)
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    target = torch.from_numpy(y)
    for _ in range(400):
        for part in torch.randperm(len(X)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[part]), target[part]).backward()
            optimizer.step()
        with torch.no_grad():
            if (network(X).argmax(1) == target).all():
                break
    print("network", p, seed, flush=True)
    return network, X, y


def layer_bounds(network, X, y):
    """Mean bounds of batches of one class, for both layers: of supports, and within TOL."""
    rows = []
    for depth in (2, 4):
        with torch.no_grad():
            activations = network[:depth](X).double().numpy()
        values = []
        for label in range(N_BATCHES):
            A = activations[np.flatnonzero(y == label)[:N_SAMPLES]]
            of_support = rank_bounds(A, max_time=4)
            within = rank_bounds(A, tol=TOL, max_time=4)
            cover = of_support.rectangle_cover
            values.append(
                [
                    of_support.supports,
                    of_support.fooling_set,
                    cover,
                    within.lower,
                    within.upper,
                ]
            )
        rows.append(np.mean(np.array(values, float), axis=0))
    return np.array(rows)


def layers_table():
    """Bounds by layer and share of redrawn labels, mean of batches and seeds."""
    digits = load_digits()
    X, y = torch.tensor(digits.data[:1000] / 16, dtype=torch.float32), digits.target[:1000]
    found = np.array(
        [[layer_bounds(*trained(p, seed, X, y)) for seed in SEEDS] for p in NOISE_LEVELS]
    )
    names = ["supports", "fooling set", "cover", f"lower, tol {TOL}", f"upper, tol {TOL}"]
    rows, shares = [], np.repeat(NOISE_LEVELS, len(SEEDS))
    for layer in range(2):
        for column, name in enumerate(names):
            values = found[:, :, layer, column]
            same = values.min() == values.max()
            correlation = np.nan if same else spearmanr(shares, values.ravel()).statistic
            means = [f"{value:.2f}" for value in values.mean(axis=1)]
            rows.append([f"ReLU {layer + 1}", name, *means, f"{correlation:.2f}"])
    head = [
        "layer",
        "bound",
        *(f"p = {p}" for p in NOISE_LEVELS),
        "rank correlation with p",
    ]
    return table(head, rows)


def write(path):
    """Write the three tables."""
    exact, crossed, above = random_counts()
    text = f"""# Bounds of the non-negative rank

Made by `rank_bounds.py` with {versions("sknonlin", "torch", "scipy", "numpy")} on
{machine()}, one of them used.

## Matrices whose rank is known

{known_table()}
## Random matrices

Of 1,000 products of small random factors and small matrices of integers, the bounds meet in
{exact}, cross in {crossed}, and the lower one is above the number of parts planted in
{above}.

## Layers

An MLP with two hidden layers of 128 ReLUs fits 1,000 digits. A share p of their labels was
redrawn. A batch has {N_SAMPLES} samples that were given one label. Cells are means over
{N_BATCHES} labels and {len(SEEDS)} seeds.

{layers_table()}"""
    path.write_text(with_answer(text, path), encoding="utf-8")


if __name__ == "__main__":
    write(HERE / "rank_bounds.md")

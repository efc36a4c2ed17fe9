"""Which measure predicts generalization among networks that all fit their clean labels?

    python doc/benchmarks/generalization.py FOLDER --tables TABLES --grids "digits mlp"
    python doc/benchmarks/generalization.py FOLDER --tables TABLES --write

The protocol is that of Predicting Generalization in Deep Learning (PGDL, NeurIPS 2020):
for pairs of networks, the mutual information between the sign of the difference of the
measure and that of the gap, conditioned on the values of at most two hyperparameters of
both networks; the minimum over all such sets, divided by the conditional entropy of the
gap's sign. 100 % would be a perfect prediction. Gap: training less test accuracy.

FOLDER keeps a CSV for each grid of `generalization_networks.py`, a row for each network;
what is there is not run again. TABLES is described in `frozen_networks.py`. `--write` makes
`generalization.md`, whose text is in this script.
"""

import argparse
import itertools
import pathlib
import time
from dataclasses import asdict, fields

import generalization_readings as readings
import generalization_tables as shown
import numpy as np
import pandas as pd
import torch
from generalization_measures import Probe, measured
from generalization_networks import (
    FIT,
    GRIDS,
    Setting,
    accuracy,
    load,
    settings_of,
    train,
)
from scipy.stats import kendalltau, spearmanr

HERE = pathlib.Path(__file__).parent
HYPERPARAMETERS = [field.name for field in fields(Setting)][2:]
N_DRAWN = 60


# Running ------------------------------------------------------------------------------


def run(setting, tables, row=None):
    """Train and measure one network: a row. To one that is given, add what is missing."""
    start = time.perf_counter()
    samples = load(setting, tables)
    network, first, n_epochs = train(setting, samples)
    tensors = [
        torch.from_numpy(part) for part in (samples.X, samples.y, samples.unlabelled)
    ]
    probe = Probe(network, first, *tensors)
    if row is not None:
        return {**row, **readings.other_readers(probe)}
    trained = time.perf_counter()
    test = torch.from_numpy(samples.X_test), torch.from_numpy(samples.y_test)
    found = {
        **asdict(setting),
        "n_epochs": n_epochs,
        "train_accuracy": accuracy(network, *tensors[:2]),
        "test_accuracy": accuracy(network, *test),
        **measured(probe),
        **readings.other_readers(probe),
    }
    middle = time.perf_counter()
    found |= readings.profiled(probe, detector=setting.grid == shown.CHOSEN_ON)
    found |= {
        "seconds_training": trained - start,
        "seconds_measures": middle - trained,
        "seconds_readings": time.perf_counter() - middle,
    }
    return found


def path_of(grid, folder):
    """Where the networks of a grid are kept."""
    return folder / f"{grid.replace(' ', '_')}.csv"


def run_grid(grid, folder, tables):
    """Run what is missing of a grid."""
    path = path_of(grid, folder)
    done = pd.read_csv(path).to_dict("records") if path.exists() else []
    names = [field.name for field in fields(Setting)]
    known = {Setting(**{name: row[name] for name in names}): row for row in done}
    for setting in settings_of(grid):
        row = known.get(setting)
        if row is None or pd.isna(row.get(readings.OTHER_READERS[0])):
            known[setting] = run(setting, tables, row)
            pd.DataFrame(known.values()).to_csv(path, index=False)
    print(f"{grid}: {len(known)} networks", flush=True)


# Judging ------------------------------------------------------------------------------


def entropy(counts):
    """Entropy in bits of the last axis of counts, mean by their sums."""
    total = counts.sum(-1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    logs = np.log2(np.where(shares > 0, shares, 1))
    return -(total * shares * logs).sum() / counts.sum()


def information(gap, measure, levels, draws=()):
    """Conditional mutual information of the signs of differences, in % of the entropy.

    Parameters
    ----------
    gap, measure : ndarrays of shape (n_networks,)
    levels : ndarray of int of shape (n_networks, n_hyperparameters)
        0 or 1.
    draws : list of ndarrays of int of shape (n_networks,)
        How often a network was drawn.

    Returns
    -------
    shares : list of float
        The minimum over the sets of at most two hyperparameters: for all networks, and
        for every draw of them.
    """
    differs = np.sign(gap[:, None] - gap[None])
    i, j = np.nonzero(differs)
    code = 3 * (differs[i, j] > 0) + np.sign(measure[i] - measure[j]).astype(int) + 1
    pairs = 2 * levels[i] + levels[j]  # (n_pairs, n_hyperparameters)
    sets = [c for n in range(3) for c in itertools.combinations(range(levels.shape[1]), n)]
    codes = [6 * (pairs[:, c] @ 4 ** np.arange(len(c), dtype=int)) + code for c in sets]
    shares = []
    for weights in (np.ones(len(gap)), *draws):
        found, times = [], weights[i] * weights[j]
        for chosen, places in zip(sets, codes, strict=True):
            table = np.bincount(places, times, 6 * 4 ** len(chosen)).reshape(-1, 2, 3)
            found.append(1 - entropy(table.swapaxes(1, 2)) / entropy(table.sum(2)))
        shares.append(100 * min(found))
    return shares


def judged(frame, names, n_drawn=N_DRAWN):
    """CMI, also of networks drawn again, tau and rho: a row for each measure."""
    gap = (frame.train_accuracy - frame.test_accuracy).to_numpy()
    levels = (frame[HYPERPARAMETERS] == frame[HYPERPARAMETERS].max()).to_numpy().astype(int)
    rng, n, rows = np.random.default_rng(0), len(gap), {}
    draws = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(n_drawn)]
    for name in names:
        values = frame.get(name, pd.Series(np.nan, frame.index)).to_numpy(float)
        known = not np.isnan(values).any()
        cmi, *again = (
            information(gap, values, levels, draws)
            if known
            else np.full(1 + n_drawn, np.nan)
        )
        rows[name] = {
            "CMI": cmi,
            "draws": np.array(again),
            "tau": kendalltau(gap, values).statistic,
            "rho": spearmanr(gap, values).statistic,
        }
    return pd.DataFrame(rows).T


def read_grid(grid, folder):
    """Read the networks of a grid that fit, with all readings; and how many do not."""
    frame = pd.read_csv(path_of(grid, folder))
    frame = shown.added(frame)
    fits = frame.train_accuracy >= FIT
    return frame[fits], int((~fits).sum())


def write(folder):
    """Write the page."""
    read = {
        grid: read_grid(grid, folder) for grid in GRIDS if path_of(grid, folder).exists()
    }
    frames = {grid: frame for grid, (frame, _) in read.items()}
    dropped = {grid: number for grid, (_, number) in read.items()}
    all_readings = {
        grid: judged(frame, readings.READINGS) for grid, frame in frames.items()
    }
    names = [*shown.ours(), *shown.PAPER, *shown.PEERS]
    found = {grid: judged(frame, names) for grid, frame in frames.items()}
    page = shown.page(frames, dropped, all_readings, found)
    (HERE / "generalization.md").write_text(page)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", type=pathlib.Path)
    parser.add_argument("--grids", nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # moments of weights that have died
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for grid in () if arguments.write else arguments.grids:
        run_grid(grid, arguments.folder, arguments.tables)
    if arguments.write:
        write(arguments.folder)

"""What each choice in the solver of `nmf_path` gains: one changed at a time.

    python doc/benchmarks/solver_choices.py      # writes solver_choices.md beside this file

On the workloads of nmf_path.py, the mean relative error and the time of variants of the
solver, each relative to the default one in the same round. All of them are computed by
torch, as compiled functions have one method alone. About 3 minutes.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
import torch
from nmf_path import WORKLOADS, hardware, make_workloads
from tables import with_answer

from sknonlin import nmf_path
from sknonlin._factorization import nmf_compression, nnls, rank_path
from sknonlin._factorization.nnls import admm_update, iterate, splitting

N_ROUNDS = 5


@contextlib.contextmanager
def replaced(module, **values):
    """Attributes of a module, for the time of a block."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def solver(update=admm_update, momentum=rank_path.MOMENTUM):
    return {"admm": rank_path.Solver(update, momentum, fill=0.0)}


def admm_steps(n_steps):
    return lambda G, F, Z: iterate(*splitting(G, F), Z, n_steps)


def hals(G, F, Z):
    """One sweep of hierarchical alternating least squares over the components."""
    diagonal = torch.diagonal(G, dim1=1, dim2=2).clamp(min=1e-12)
    H = Z.clamp(min=0)
    for j in range(G.shape[1]):
        row = slice(j, j + 1)
        step = torch.baddbmm(F[:, row], G[:, row], H, alpha=-1)
        H[:, row] = (H[:, row] + step / diagonal[:, row, None]).clamp_(min=0)
    return H


VARIANTS = {
    "default (2 ADMM steps, extrapolated)": contextlib.nullcontext,
    "1 ADMM step": lambda: replaced(rank_path, SOLVERS=solver(admm_steps(1))),
    "3 ADMM steps": lambda: replaced(rank_path, SOLVERS=solver(admm_steps(3))),
    "5 ADMM steps": lambda: replaced(rank_path, SOLVERS=solver(admm_steps(5))),
    "no extrapolation": lambda: replaced(rank_path, SOLVERS=solver(momentum=0.0)),
    "no relaxation": lambda: replaced(nnls, RELAXATION=1.0),
    "penalty 1 (usual in AO-ADMM)": lambda: replaced(nnls, RHO=1.0),
    "HALS sweeps, extrapolated": lambda: replaced(rank_path, SOLVERS=solver(hals)),
    "HALS sweeps": lambda: replaced(rank_path, SOLVERS=solver(hals, 0.0)),
}


def run(matrices, names, ranks, **parameters):
    start = time.perf_counter()
    errors = [
        nmf_path(matrices[name], ranks, random_state=0, **parameters) for name in names
    ]
    seconds = time.perf_counter() - start
    return seconds, float(np.mean([path.errors.mean() for path in errors]))


def cold(matrices, names, ranks):
    """Every rank on its own, from the double SVD of the data."""
    start = time.perf_counter()
    errors = [
        [nmf_path(matrices[name], [rank], random_state=0).errors.mean() for rank in ranks]
        for name in names
    ]
    return time.perf_counter() - start, float(np.mean(errors))


def measure(matrices):
    """Compare times and errors of all variants with those of the default."""
    table = {name: [] for name in [*VARIANTS, "each rank on its own", "max_rows=None"]}
    for names, ranks in WORKLOADS.values():
        run(matrices, names, ranks)
        runs = {name: [] for name in table}
        for _ in range(N_ROUNDS):
            for name, variant in VARIANTS.items():
                with variant():
                    runs[name].append(run(matrices, names, ranks))
            runs["each rank on its own"].append(cold(matrices, names, ranks))
            runs["max_rows=None"].append(run(matrices, names, ranks, max_rows=None))
        default = runs[next(iter(VARIANTS))]
        for name, results in runs.items():
            pairs = zip(results, default, strict=True)
            ratio = statistics.median(a[0] / b[0] for a, b in pairs)
            table[name] += [f"{ratio:.2f}", f"{results[0][1] / default[0][1]:.4f}"]
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="file that keeps the activations between runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.data or os.path.join(folder, "activations.npz")
        if not os.path.exists(path):
            make_workloads(path)
        matrices = dict(np.load(path))
    with replaced(nmf_compression, serves=lambda *_: False):
        table = measure(matrices)
    heads = [f"{workload} {what}" for workload in WORKLOADS for what in ("time", "error")]
    lines = [
        "# Choices in the solver of `nmf_path`\n",
        "Written by `python doc/benchmarks/solver_choices.py`: time and mean relative "
        f"error, divided by those of the default. Medians of {N_ROUNDS} rounds. "
        f"{hardware()}.\n",
        "| variant | " + " | ".join(heads) + " |",
        "| --- |" + " ---: |" * len(heads),
        *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in table.items()),
    ]
    report = "\n".join(lines) + "\n"
    path = pathlib.Path(__file__).with_suffix(".md")
    path.write_text(with_answer(report, path))
    print(report)


if __name__ == "__main__":
    main()

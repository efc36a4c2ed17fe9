"""What watching a training costs, in shares of its epochs.

    python doc/benchmarks/early_stopping_cost.py

It trains the MLP and the CNN of `networks.py` in skorch, with NonlinearityScoring as it
comes, on 2,000 and on all 60,000 images of Fashion-MNIST, a fifth of the labels redrawn. It
writes `early_stopping_cost.md` beside this file: the wall time of an epoch as skorch's own
timer has it, and that of the measurement after it. The first epoch is left out.
"""

import argparse
import pathlib
import resource

import early_stopping_runs
import numpy as np
import torch
from networks import Setting, fashion_and_labels, give_labels
from tables import table, versions

HERE = pathlib.Path(__file__).parent
PACKAGES = ("sknonlin", "skorch", "torch", "numpy")
N_EPOCHS = {2000: 16, 60_000: 4}


def measured(setting):
    """Medians of the seconds of an epoch and of its measurement."""
    X, y = fashion_and_labels()
    X, y = X[: setting.n_train], y[: setting.n_train]
    history = early_stopping_runs.train(
        setting,
        X,
        give_labels(setting, X, y),
        [early_stopping_runs.TimedScoring()],
        max_epochs=N_EPOCHS[setting.n_train],
    )
    names = ("dur", "scoring_dur")
    return [np.median([row[name] for row in history[1:]]) for name in names]


def main():
    """Write the table."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    torch.set_num_threads(1)
    rows = []
    for n_train in N_EPOCHS:
        for architecture in ("mlp", "cnn"):
            setting = Setting("fashion", architecture, 0.2, n_train=n_train)
            epoch, scoring = measured(setting)
            rows.append(
                [
                    architecture,
                    f"{n_train:,}",
                    f"{epoch:.2f}",
                    f"{scoring:.3f}",
                    f"{scoring / epoch:.1%}",
                ]
            )
            print(*rows[-1], flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    text = (
        "# What watching a training costs\n\n"
        "Written by `early_stopping_cost.py`. Seconds of wall time, medians over the "
        "epochs but the first, on one thread.\n\n"
        + table(["network", "images", "epoch, s", "measurement, s", "share"], rows)
        + f"\nPeak memory of the process: {peak:,} MiB. {versions(*PACKAGES)}; one core "
        "of a shared virtual machine.\n"
    )
    (HERE / "early_stopping_cost.md").write_text(text)


if __name__ == "__main__":
    main()

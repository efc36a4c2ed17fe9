"""What watching a training costs, in shares of its epochs.

    python doc/benchmarks/early_stopping_cost.py --images 2000

It trains the MLP and the CNN of `networks.py` in skorch, with NonlinearityScoring as it
comes, on 2,000 and on all 60,000 images of Fashion-MNIST, a fifth of the labels redrawn. It
writes `early_stopping_cost.md` beside this file: the processor's time of an epoch, of the
measurement after it, and of what is done once before the first.
"""

import argparse
import pathlib
import time

import numpy as np
import torch
from networks import Setting, fashion_and_labels, give_labels, make_network
from skorch import NeuralNetClassifier
from tables import table, versions, with_answer
from torch import nn

from sknonlin.callbacks import NonlinearityScoring

HERE = pathlib.Path(__file__).parent
PACKAGES = ("sknonlin", "skorch", "torch", "numpy")
N_EPOCHS = {2000: 20, 60_000: 8}


class TimedScoring(NonlinearityScoring):
    """Write also how many seconds an epoch took, and what is done before and after it."""

    def on_epoch_begin(self, net, **kwargs):
        """Measure before the first epoch."""
        start = time.process_time()
        super().on_epoch_begin(net, **kwargs)
        self.began_ = time.process_time()
        self.first_dur_ = max(getattr(self, "first_dur_", 0), self.began_ - start)

    def on_epoch_end(self, net, **kwargs):
        """Measure, and write the time beside it."""
        start = time.process_time()
        super().on_epoch_end(net, **kwargs)
        net.history.record("scoring_dur", time.process_time() - start)
        net.history.record("epoch_dur", start - self.began_)


def measured(setting):
    """Seconds of an epoch (median), of a measurement (mean), and of what is done once."""
    X, y = fashion_and_labels()
    X, y = X[: setting.n_train], y[: setting.n_train]
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        make_network(setting),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=50,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[TimedScoring()],
        verbose=0,
        max_epochs=N_EPOCHS[setting.n_train],
    ).fit(X, give_labels(setting, X, y))
    epoch = np.median([row["epoch_dur"] for row in net.history[1:]])
    scoring = [row["scoring_dur"] for row in net.history]
    once = dict(net.callbacks_)["TimedScoring"].first_dur_
    return epoch, np.mean(scoring), np.median(scoring), once


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", nargs="+", type=int, default=list(N_EPOCHS))
    images = parser.parse_args().images
    torch.set_num_threads(1)
    rows = []
    for n_train in images:
        for architecture in ("mlp", "cnn"):
            setting = Setting("fashion", architecture, 0.2, n_train=n_train)
            epoch, mean, median, once = measured(setting)
            name = f"{architecture}, {n_train:,} images"
            shares = f"{mean / epoch:.1%}", f"{median / epoch:.1%}"
            rows.append([name, f"{epoch:.2f}", f"{mean:.3f}", *shares, f"{once:.1f}"])
            print(*rows[-1], flush=True)
    head = ["network", "epoch, s", "measurement, s", "share, mean", "share, median"]
    text = (
        "# What watching a training costs\n\n"
        "Written by `early_stopping_cost.py`. Times are processor times of one thread. The "
        "mean is over all measurements. A few of them also measure the layers and take "
        "longer, so most are as the median. The last column is spent once, before the "
        "first epoch.\n\n"
        + table([*head, "once, s"], rows)
        + f"\n{versions(*PACKAGES)}; one core of a shared virtual machine.\n"
    )
    path = HERE / "early_stopping_cost.md"
    path.write_text(with_answer(text, path))


if __name__ == "__main__":
    main()

"""
Early stopping with noisy labels
================================

A held-out set costs samples, and where labels are wrong its own are wrong too.
Memorization can be watched on the training samples themselves: the score of
:class:`~sknonlin.callbacks.NonlinearityScoring` rises while the network learns what its
samples share, and falls when it begins to learn them one by one.
"""

# %%
# Samples, two fifths of them with a redrawn label
# ------------------------------------------------
# The test labels are clean, and only drawn: nothing below decides by them.
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, EpochScoring
from torch import nn

from sknonlin.callbacks import NonlinearityScoring
from sknonlin.datasets import load_digits, make_noisy_labels

torch.set_num_threads(1)  # networks this small gain nothing from more
X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, train_size=1000, random_state=0, stratify=y)
given = make_noisy_labels(y, 0.4, random_state=0)


class Network(nn.Sequential):
    """Three ReLU layers."""

    def __init__(self, width=512):
        super().__init__(
            *[nn.Linear(64, width), nn.ReLU()],
            *[nn.Linear(width, width), nn.ReLU()],
            *[nn.Linear(width, width), nn.ReLU()],
            nn.Linear(width, 10),
        )


def accuracy(net, X_train, y_train):
    """Accuracy on the clean test samples."""
    return (net.predict(X_test) == y_test).mean()


def train(*stopping, max_epochs=30):
    """Train, and write both scores to the history after every epoch."""
    torch.manual_seed(0)
    callbacks = [
        NonlinearityScoring(batch_size=len(X)),
        EpochScoring(accuracy, name="test_accuracy", on_train=True, use_caching=False),
        *stopping,
    ]
    return NeuralNetClassifier(
        Network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=50,
        max_epochs=max_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=callbacks,
        verbose=0,
    ).fit(X, given)


# %%
# To the end, and stopped
# -----------------------
# Stopping is skorch's own. It ends the training eight epochs after the highest score, and
# ``load_best`` brings back the network of that epoch.
stopper = EarlyStopping("nmf_auc", patience=8, lower_is_better=False, load_best=True)
runs = {"to the end": train(), "stopped": train(stopper)}
for name, net in runs.items():
    print(
        f"{name}: {len(net.history)} epochs, "
        f"accuracy on the labels given {net.score(X, given):.3f}, "
        f"on clean test samples {net.score(X_test, y_test):.3f}"
    )

# %%
# The two curves
# --------------
history = runs["to the end"].history
epochs = np.arange(1, len(history) + 1)
best = len(runs["stopped"].history) - stopper.patience
figure, axes = plt.subplots(2, sharex=True, figsize=(7, 5))
axes[0].plot(epochs, history[:, "nmf_auc"], color="#D55E00")
axes[0].set_title("the score, from training samples and their noisy labels: nmf_auc")
axes[1].plot(epochs, history[:, "test_accuracy"], color="#0072B2")
axes[1].set(xlabel="epoch", title="accuracy on clean test samples, which decides nothing")
for axis in axes:
    axis.axvline(best, color="0.4", lw=1, ls=":")
    axis.spines[["top", "right"]].set_visible(False)
low, high = axes[0].get_ylim()
axes[0].text(best + 0.4, low + 0.05 * (high - low), f"kept: epoch {best}", color="0.3")
figure.tight_layout()

# %%
# The score is noisy from epoch to epoch, and its peak is not sharp; what matters is that it
# rises first and falls later, with nothing held out. How well it stops on other
# data and networks, and against other rules, is in :doc:`/early_stopping`.

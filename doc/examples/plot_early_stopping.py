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


def train(*stopping, max_epochs=50):
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
# Stopping is skorch's own. It ends the training ten epochs after the highest score, and
# ``load_best`` brings back the network of that epoch.
stopper = EarlyStopping("nmf_auc", patience=10, lower_is_better=False, load_best=True)
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
figure, axis = plt.subplots(figsize=(7, 4))
axis.plot(epochs, history[:, "test_accuracy"], color="#0072B2", label="test accuracy")
axis.plot(
    epochs, history[:, "nmf_auc"], "--", color="#D55E00", label="nmf_auc (no test data)"
)
axis.axvline(best, color="0.4", lw=1, ls=":")
axis.text(best + 0.5, 0.03, f"kept: epoch {best}", color="0.3")
axis.set(xlabel="epoch", ylim=(0, 1), title="Digits, two fifths of the labels redrawn")
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
figure.tight_layout()

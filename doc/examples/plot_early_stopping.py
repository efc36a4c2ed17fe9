"""
Early stopping with noisy labels
================================

A held-out set costs samples, and where labels are wrong its own are wrong too.
Memorization can be watched on the training samples themselves: the score of
:class:`~sknonlin.callbacks.NonlinearityScoring` rises while the network learns, and falls
when it begins to learn wrong labels by heart.
"""

# %%
# Samples, two fifths of them with a redrawn label
# ------------------------------------------------
# The test labels are clean, and only drawn: nothing below decides by them.
import matplotlib.pyplot as plt
import torch
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring
from torch import nn

from sknonlin.callbacks import MemorizationStopping, NonlinearityScoring
from sknonlin.datasets import load_digits, make_noisy_labels
from sknonlin.inspection import TrainingDisplay

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


def train(scoring, max_epochs=40):
    """Train, and write both scores to the history after every epoch."""
    torch.manual_seed(0)
    callbacks = [
        EpochScoring(accuracy, name="test_accuracy", on_train=True, use_caching=False),
        ("scoring", scoring),
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
# :class:`~sknonlin.callbacks.MemorizationStopping` ends the training when the score has
# fallen by more than its noise, brings back the best network, and says why.
runs = {
    "to the end": train(NonlinearityScoring()),
    "stopped": train(MemorizationStopping()),
}
print(dict(runs["stopped"].callbacks_)["scoring"].reason_)
for name, net in runs.items():
    print(
        f"{name}: {len(net.history)} epochs, "
        f"accuracy on the labels given {net.score(X, given):.3f}, "
        f"on clean test samples {net.score(X_test, y_test):.3f}"
    )

# %%
# The two curves
# --------------
# The training that went on to the end, with the best epoch by the score marked.
figure, axis = plt.subplots(figsize=(6, 4))
display = TrainingDisplay.from_estimator(runs["to the end"], metrics=["test_accuracy"])
display.plot(ax=axis)
axis.set(ylim=(0, 1), ylabel="score, accuracy")
axis.set_title("Digits, two fifths of the labels redrawn")
figure.tight_layout()

# %%
# The score rises and falls with the accuracy on clean test samples, although it has seen
# training samples and their noisy labels alone. How well it stops on other data and
# networks, and against other rules, is in :doc:`/early_stopping`.

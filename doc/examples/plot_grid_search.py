"""
Search over ranks
=================

The level of the score depends on the grid of ranks and on the network, so no combination
has the "best" score. But how far does the level move, and on which ranks do clean and wrong
labels lie furthest apart? Detector and ranks are parameters of one estimator, so that
scikit-learn's ``GridSearchCV`` runs them all, and with ``memory=`` a network is trained
once for each fold, however many ranks are tried.
"""

# %%
# Two sets of labels to tell apart
# --------------------------------
# A fifth of the labels is redrawn in the second set.
import pathlib
import tempfile
import warnings

import matplotlib.pyplot as plt
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier

from sknonlin import ActivationNonlinearity, MemorizationDetector
from sknonlin.datasets import load_digits, make_noisy_labels
from sknonlin.metrics import memorization_scorer

warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are limited on purpose
N_SAMPLES = 400
X, true = load_digits(return_X_y=True)
X, true = X[:N_SAMPLES], true[:N_SAMPLES]
labels = {"clean": true, "noisy": make_noisy_labels(true, 0.2, random_state=0)}

# %%
# A grid over widths of the network and ranks of the score
# --------------------------------------------------------
# ``memory`` is a folder that the trained networks are kept in. ``refit=False``: the search
# lays the scores out, and chooses none.
folder = tempfile.TemporaryDirectory()
detector = MemorizationDetector(
    MLPClassifier(alpha=0, batch_size=50, max_iter=60, random_state=0),
    nonlinearity=ActivationNonlinearity(),
    batch_size=20,
    memory=folder.name,
    random_state=0,
)
grid = {
    "estimator__hidden_layer_sizes": [(32, 32), (128, 128)],
    "nonlinearity__ranks": [[1, 2], [1, 2, 4, 8], [4, 8, 16]],
}
scoring = {"accuracy": "accuracy", "memorization": memorization_scorer}


results, n_fits = {}, 0
for name, y in labels.items():
    search = GridSearchCV(
        detector, grid, cv=2, scoring=scoring, refit=False, return_train_score=True
    ).fit(X, y)
    results[name] = search.cv_results_
    n_fits += search.n_splits_ * len(search.cv_results_["params"])
n_trained = len(list(pathlib.Path(folder.name).rglob("output.pkl")))
print(f"{n_fits} detectors fitted, with {n_trained} trainings of a network")

# %%
# What the grid says
# ------------------
figure, axis = plt.subplots(figsize=(7, 4))
combinations = results["clean"]["params"]
names = [
    f"{p['estimator__hidden_layer_sizes'][0]} units\nranks {p['nonlinearity__ranks']}"
    for p in combinations
]
styles = {"clean": ("#0072B2", "o"), "noisy": ("#D55E00", "s")}
for name, (color, marker) in styles.items():
    scores = results[name]["mean_train_memorization"]
    accuracy = results[name]["mean_test_accuracy"].mean()
    label = f"{name} labels (test accuracy {accuracy:.2f})"
    axis.plot(names, scores, marker, color=color, label=label)
axis.vlines(
    range(len(names)),
    results["clean"]["mean_train_memorization"],
    results["noisy"]["mean_train_memorization"],
    color="0.7",
    zorder=0,
)
axis.set(ylabel="memorization score, training folds", ylim=(0, 1.05))
axis.tick_params(axis="x", labelsize=8)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, loc="lower left")
figure.tight_layout()
folder.cleanup()

# %%
# The longer the line, the better a grid tells the two apart. Here low ranks do: they ask
# for what all samples of a class share. The level moves with the grid and with the
# network, so scores are compared within one combination only.

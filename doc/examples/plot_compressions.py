"""
NMF against PCA and ablation
============================

The non-linearity of a layer is read from how badly low ranks fit its activations. There
are three ways to compress them: non-negative factorization (NMF), the principal axes of
the uncentred matrix (PCA), and units kept at random with the others set to zero
(ablation). Which of them tells a network that memorized from one that learned?
"""

# %%
# Networks with growing shares of redrawn labels
# ----------------------------------------------
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from sknonlin import layer_profile
from sknonlin.datasets import load_digits, make_noisy_labels

warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are limited on purpose
SHARES, N_SAMPLES = (0, 0.25, 0.5, 0.75, 1), 1000
COMPRESSIONS = {"nmf": "NMF", "pca": "PCA", "ablation": "ablation"}
X, true = load_digits(return_X_y=True)
X, true = X[:N_SAMPLES], true[:N_SAMPLES]

labels, nets = {}, {}
for p in SHARES:
    labels[p] = make_noisy_labels(true, p, random_state=0)
    net = MLPClassifier((128,) * 3, alpha=0, batch_size=50, max_iter=100, random_state=0)
    nets[p] = net.fit(X, labels[p])
    print(f"p = {p}: training accuracy {net.score(X, labels[p]):.3f}")

# %%
# The same two profiles by each of them
# -------------------------------------
# Every network is profiled on batches of one class and on mixed ones. Two numbers sum
# a network up: how non-linear it is on one class, as a share of mixed batches; and
# how much accuracy it keeps when one layer is compressed, on average over the ranks.
profiles = {
    (p, compression, by_class): layer_profile(
        nets[p],
        X,
        labels[p],
        compression=compression,
        by_class=by_class,
        n_batches=1 if by_class else 5,
        random_state=0,
    )
    for p in SHARES
    for compression in COMPRESSIONS
    for by_class in (True, False)
}


def share(p, compression):
    """Area under the error curves, one class against mixed."""
    single, mixed = (profiles[p, compression, by_class] for by_class in (True, False))
    return single.error_auc.sum() / mixed.error_auc.sum()


def fragility(p, compression):
    """Accuracy lost over the ranks in mixed batches, mean of the layers."""
    return 1 - profiles[p, compression, False].accuracy_auc.mean()


# %%
# What each of them sees
# ----------------------
# In the upper row the error curves of the last layer on batches of one class; below, both
# numbers against the share of redrawn labels.
figure, axes = plt.subplots(2, 3, figsize=(8, 5.6))
shades = plt.get_cmap("cividis")(np.linspace(0, 0.9, len(SHARES)))
for axis, (compression, name) in zip(axes[0], COMPRESSIONS.items(), strict=True):
    for p, shade in zip(SHARES, shades, strict=True):
        profile = profiles[p, compression, True]
        axis.plot(profile.ranks, profile.errors[-1].mean(0), color=shade, label=f"p = {p}")
    axis.set(title=name, xlabel="rank k", ylim=(0, 1))
axes[0, 0].set_ylabel("relative error, last layer")
axes[0, 0].legend(frameon=False)
markers = {"nmf": "o-", "pca": "s--", "ablation": "^:"}
readings = {"non-linearity, one class / mixed": share, "accuracy lost, mixed": fragility}
for axis, (name, reading) in zip(axes[1], readings.items(), strict=False):
    for compression, label in COMPRESSIONS.items():
        values = [reading(p, compression) for p in SHARES]
        print(f"{name}, {label}: " + "  ".join(f"{value:.2f}" for value in values))
        axis.plot(SHARES, values, markers[compression], label=label)
    axis.set(xlabel="share p of redrawn labels", ylabel=name, ylim=(0, 1.05))
axes[1, 2].legend(*axes[1, 0].get_legend_handles_labels(), frameon=False, loc="upper left")
axes[1, 2].axis("off")
for axis in axes.flat:
    axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()

# %%
# By their errors, NMF and PCA say the same of these networks, and ablation says nothing: a
# few units kept at random leave most of the matrix unexplained, whatever was learned. By
# the accuracy that is left, NMF separates the networks most: non-negative parts that are
# shared by many samples do not carry what was memorized one by one. Under ablation even
# the network that learned loses most of its accuracy. Convolutional networks and other data
# are in :doc:`/benchmarks/memorization_score`.

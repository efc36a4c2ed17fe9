"""
The phases along the depth
==========================

What does each layer of a deep network do with the samples of one class? In a network that
learned, every layer makes them a little more alike, from the first one on. In one that
memorized there are two phases: layers that only tell samples apart, and later ones that
assemble them into the labels given.
"""

# %%
# One network, three sets of labels
# ---------------------------------
# The same network with six ReLU layers is trained on handwritten digits with their own
# labels, with two fifths of them redrawn, and with all of them redrawn. Scikit-learn's
# ``MLPClassifier`` will do; a torch module or a skorch net is measured in the same way.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier

from sknonlin import MemorizationDetector
from sknonlin.datasets import load_digits, make_noisy_labels

warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are limited on purpose
DEPTH, WIDTH, N_SAMPLES = 6, 128, 600
X, true = load_digits(return_X_y=True)
X, true = X[:N_SAMPLES], true[:N_SAMPLES]

detectors = {}
for p in (0, 0.4, 1):
    y = make_noisy_labels(true, p, random_state=0)
    net = MLPClassifier(
        (WIDTH,) * DEPTH, alpha=0, batch_size=50, max_iter=100, random_state=0
    ).fit(X, y)
    print(f"p = {p}: training accuracy {net.score(X, y):.3f}")
    detectors[p] = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(X, y)

# %%
# The share of every layer
# ------------------------
# ``layer_scores_`` has, for every layer, its non-linearity on batches of one class as a
# share of that on mixed batches. At 1, the layer finds the samples of a class as different
# as any others; the lower, the more alike they have become.
styles = {0: ("#0072B2", "o-"), 0.4: ("#E69F00", "s--"), 1: ("#D55E00", "^:")}
figure, axis = plt.subplots(figsize=(6, 4))
for p, detector in detectors.items():
    color, line = styles[p]
    label = f"p = {p} (whole network: {detector.memorization_score_:.2f})"
    axis.plot(np.arange(DEPTH) + 1, detector.layer_scores_, line, color=color, label=label)
axis.set(
    xlabel="ReLU layer",
    ylabel="non-linearity on one class,\nas a share of that on mixed batches",
    ylim=(0, 1.05),
    title="A share p of the labels redrawn",
)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, loc="lower left")
figure.tight_layout()

# %%
# With their own labels the samples of a class are more alike than any others already in
# the first layer, since pixels of one digit are; the curve falls early, and flattens. With
# random labels a class is a mixed bag: the curve begins near 1, and falls the faster the
# closer the labels are, for which the network has to bring together what it was told to. In
# a network as simple as this one, one phase passes gradually into the other.
# :doc:`/memorization` has the same on Fashion-MNIST and for convolutions, where the step is
# sharper.

"""
Learned or memorized, layer by layer
====================================

The same network is trained twice on the same handwritten digits: once with their
labels, once with labels drawn at random. Both end with every training label fitted, so
the training accuracy cannot tell them apart. The non-linearity of their layers can: the
second network has to tell apart, one by one, images that have nothing in common but a
label.
"""

# %%
# Two networks that fit their labels
# ----------------------------------
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sknonlin import layer_profile
from sknonlin.curves import area_under_curve

START = time.perf_counter()
torch.set_num_threads(1)  # networks this small gain nothing from more
N_LAYERS, WIDTH = 4, 256
images, digits = load_digits(return_X_y=True)
X = torch.tensor(images / 16, dtype=torch.float32)
labels = {
    "true labels": digits,
    "random labels": np.random.default_rng(0).integers(0, 10, len(digits)),
}


def make_mlp():
    """Build an MLP with ``N_LAYERS`` ReLU layers of ``WIDTH`` units."""
    layers, n_inputs = [], X.shape[1]
    for _ in range(N_LAYERS):
        layers += [nn.Linear(n_inputs, WIDTH), nn.ReLU()]
        n_inputs = WIDTH
    return nn.Sequential(*layers, nn.Linear(n_inputs, 10))


def train_until_fitted(y, seed=0, batch_size=64, max_epochs=500):
    """Train an MLP until it gives every sample its label; return it and the epochs."""
    torch.manual_seed(seed)
    network = make_mlp()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    y = torch.tensor(y)
    n_epochs, accuracy = 0, 0.0
    while accuracy < 1 and n_epochs < max_epochs:
        n_epochs += 1
        for batch in torch.randperm(len(X)).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (network(X).argmax(1) == y).float().mean().item()
    return network, n_epochs, accuracy


# %%
# How well low ranks fit every layer
# ----------------------------------
# The activations of 50 samples of one class at a time are factorized at a path of ranks.
# The area under the curve of relative errors is the layer's non-linearity.
profiles = {}
for name, y in labels.items():
    print(f"training on {name} ...", flush=True)
    network, n_epochs, accuracy = train_until_fitted(y)
    print(f"{name}: training accuracy {accuracy:.3f} after {n_epochs} epochs")
    profiles[name] = layer_profile(network, X, y, replay=False, random_state=0)

print("\nNon-linearity (mean and spread over the classes)")
print(f"{'layer':<8}" + "".join(f"{name:>20}" for name in labels) + f"{'ratio':>8}")
areas = {name: area_under_curve(p.ranks, p.errors) for name, p in profiles.items()}
for layer in range(N_LAYERS):
    scores = [areas[name][layer] for name in labels]
    cells = "".join(f"{s.mean():>12.3f} ± {s.std():.3f}" for s in scores)
    print(f"relu {layer + 1:<3}{cells}{scores[1].mean() / scores[0].mean():>8.1f}")

# %%
# The picture
# -----------
# One panel for every layer: the mean curve of each network, with a band from the lowest
# to the highest class. The area under a curve is the non-linearity in the table.
styles = {"true labels": ("#0072B2", "-"), "random labels": ("#D55E00", "--")}
figure, axes = plt.subplots(2, 2, figsize=(7, 5.4), sharex=True, sharey=True)
for layer, axis in enumerate(axes.flat):
    for name, (color, line) in styles.items():
        ranks, errors = profiles[name].ranks, profiles[name].errors[layer]
        axis.plot(ranks, errors.mean(0), line, color=color, label=name)
        axis.fill_between(ranks, errors.min(0), errors.max(0), color=color, alpha=0.2, lw=0)
    axis.set(title=f"ReLU layer {layer + 1}", ylim=(0, 1))
    axis.spines[["top", "right"]].set_visible(False)
figure.supxlabel("rank k")
figure.supylabel("relative error of the NMF")
axes[0, 0].legend(frameon=False)
figure.suptitle("Memorized labels need higher ranks")
figure.tight_layout()
figure.savefig("learned_or_memorized.png", dpi=120)
print("\nPicture: learned_or_memorized.png")
print(f"Time: {time.perf_counter() - START:.0f} s")

"""
A ResNet written with functional ReLUs
======================================

Many networks call ``F.relu`` in ``forward``, or use one module several times, so that there
is no module to put a hook on. sknonlin records calls instead: every ReLU call of a
forward pass is a layer, wherever it is written.
"""

# %%
# A small residual network
# ------------------------
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import layer_profile
from sknonlin.datasets import load_digits, make_noisy_labels
from sknonlin.inspection import LayerProfileDisplay

torch.set_num_threads(1)  # networks this small gain nothing from more
digits = load_digits()
images, true = digits.images[:800], digits.target[:800]  # images: (800, 1, 8, 8)


class Block(nn.Module):
    """Two convolutions, and a way around them."""

    def __init__(self, n_in, n_out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.way = nn.Conv2d(n_in, n_out, 1, stride) if n_in != n_out else nn.Identity()

    def forward(self, X):
        """Call F.relu twice."""
        inner = F.relu(self.norm1(self.conv1(X)))
        return F.relu(self.norm2(self.conv2(inner)) + self.way(X))


class ResNet(nn.Module):
    """A stem and three blocks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.block1 = Block(16, 16)
        self.block2 = Block(16, 32, stride=2)
        self.block3 = Block(32, 64, stride=2)
        self.head = nn.Linear(64, 10)

    def forward(self, X):
        """Give the scores of the classes."""
        X = F.relu(self.stem(X))
        X = self.block3(self.block2(self.block1(X)))
        return self.head(X.mean((2, 3)))


# %%
# Trained on the digits' own labels, and on random ones
# -----------------------------------------------------
labels = {"true labels": true, "random labels": make_noisy_labels(true, 1, random_state=0)}
n_epochs = {"true labels": 10, "random labels": 50}
nets = {}
for name, y in labels.items():
    torch.manual_seed(0)
    nets[name] = NeuralNetClassifier(
        ResNet,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=2e-3,
        batch_size=64,
        max_epochs=n_epochs[name],
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(images, y)
    print(f"{name}: training accuracy {nets[name].score(images, y):.3f}")

# %%
# Every call has a name
# ---------------------
# A layer is named after the module that made the call; the second call in a block gets a
# number. From each layer on, only the rest of the network is run again, ways around the
# blocks included.
profiles = {
    name: layer_profile(net, images, labels[name], random_state=0)
    for name, net in nets.items()
}
names = profiles["true labels"].layer_names
print(names)

# %%
# How much of the accuracy is left
# --------------------------------
# Each layer's activations, for 50 images of one class at a time, are replaced by their
# factorization at every rank. The area under the curve of accuracies says how well the
# layer withstands it; the bands leave out the lowest and the highest tenth of the classes.
figure, axis = plt.subplots(figsize=(6.4, 4))
display = LayerProfileDisplay.from_profile(profiles, curve="accuracy")
display.plot(ax=axis, band=(0.1, 0.9))
axis.set_ylim(0, 1.05)
figure.tight_layout()

# %%
# The layers in the middle carry what was memorized: their accuracy is lost at low ranks
# if the labels were random, and kept if they were true. Layers near the end withstand
# compression in both networks, since there all images of a class have come together.

"""
Find wrong labels in images
===========================

A tenth of the labels of scikit-learn's handwritten digits are changed at random. A network
is trained until it fits every label, wrong ones included. Its accuracy cannot show the
wrong labels. Its input and its layers can: a sample with a wrong label lies closer to
another class than to the one that it was given.
"""

# %%
# A network that fits every label
# -------------------------------
import time

import matplotlib.pyplot as plt
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, EpochScoring
from torch import nn

from sknonlin import MemorizationDetector
from sknonlin.datasets import load_digits, make_noisy_labels

START = time.perf_counter()
torch.set_num_threads(1)  # networks this small gain nothing from more
torch.manual_seed(0)
digits = load_digits()
X, true = digits.data, digits.target
given = make_noisy_labels(true, 0.1, random_state=0, kind="flip")
wrong = given != true
print(f"{wrong.sum()} of {len(X)} labels are wrong")


class Network(nn.Sequential):
    """Three ReLU layers."""

    def __init__(self, width=256):
        super().__init__(
            *[nn.Linear(64, width), nn.ReLU()],
            *[nn.Linear(width, width), nn.ReLU()],
            *[nn.Linear(width, width), nn.ReLU()],
            nn.Linear(width, 10),
        )


# Training ends when 15 epochs in a row have not fitted more labels than the best epoch,
# whose network is kept.
fitted = EpochScoring(
    "accuracy", lower_is_better=False, on_train=True, name="fitted", use_caching=False
)
stopping = EarlyStopping("fitted", patience=15, lower_is_better=False, load_best=True)

net = NeuralNetClassifier(
    Network,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=1e-3,
    batch_size=64,
    iterator_train__shuffle=True,
    max_epochs=500,
    train_split=None,
    callbacks=[fitted, stopping],
    verbose=0,
).fit(X, given)
accuracy = (net.predict(X) == given).mean()
print(f"training accuracy {accuracy:.3f} after {len(net.history)} epochs\n")

# %%
# Its layers know better
# ----------------------
# No more training: the network is measured as it is.
detector = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(X, given)
report = detector.label_report(X, given)
report["true"] = true[report["index"]]
print("The worst labels ('true' is what only this example knows):")
print(report.head(10).to_string(index=False, float_format="{:.3f}".format))

flags = detector.detect(X, given)
found = report[report["flagged"] & (report["given"] != report["true"])]
print(
    f"\n{flags.sum()} labels flagged: precision {precision_score(wrong, flags):.3f}, "
    f"recall {recall_score(wrong, flags):.3f}; the label suggested is right for "
    f"{(found['suggested'] == found['true']).mean():.3f} of those found"
)
scores = detector.score_samples(X, given)
print(f"ROC AUC of the scores: {roc_auc_score(wrong, scores):.4f}")
loss = -torch.from_numpy(net.predict_proba(X)[range(len(X)), given]).log()
print(f"ROC AUC of the network's own loss: {roc_auc_score(wrong, loss):.4f}")
print("Weights of the layers: ", end="")
print(", ".join(f"{name} {w:.2f}" for name, w in detector.layer_weights_.items()))

# %%
# The worst offenders
# -------------------
# Every image with the label that it was given and the one that its activations suggest:
# in blue where that is the true one, in orange where it is not.
figure, axes = plt.subplots(3, 8, figsize=(8.4, 4.8))
for axis, row in zip(axes.flat, report.itertuples(), strict=False):
    axis.imshow(digits.images[row.index, 0], cmap="gray_r")
    color = "#0072B2" if row.suggested == row.true else "#D55E00"
    title = f"given {row.given}\nsuggested {row.suggested}"
    axis.set_title(title, color=color, fontsize=9.5)
    axis.set(xticks=[], yticks=[])
figure.suptitle("The 24 labels that look most memorized")
figure.tight_layout()
figure.savefig("label_errors.png", dpi=120)
print("\nPicture: label_errors.png")
print(f"Time: {time.perf_counter() - START:.0f} s")

"""
Find wrong labels in audio
==========================

Nothing here is about images. A thousand words from "zero" to "nine" are synthesized with
espeak-ng, in many voices, speeds and pitches, and a tenth of their labels is changed. A
network with convolutions over their spectrograms learns nearly all of them by heart, and
then its layers have to say which ones were wrong.
"""

# %%
# The words
# ---------
# The first call synthesizes them and keeps them in scikit-learn's data folder. Without
# espeak-ng, the example ends here and says how to install it.
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.signal import stft
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import MemorizationDetector
from sknonlin.datasets import make_noisy_labels, make_spoken_digits

torch.set_num_threads(1)  # networks this small gain nothing from more
try:
    digits = make_spoken_digits(1000, random_state=0)
except OSError as error:
    raise SystemExit(f"Skipped. {error}") from None
given = make_noisy_labels(digits.target, 0.1, random_state=0, kind="flip")
wrong = given != digits.target
print(f"{len(set(digits.voices))} voices; {wrong.sum()} of {len(given)} labels are wrong")


def spectrograms(sounds):
    """Give (n, 1, 32, 62) log magnitudes: 32 bands of frequency, 62 moments."""
    _, _, amplitudes = stft(sounds, nperseg=256, noverlap=128)
    bands = np.abs(amplitudes[:, 1:]).reshape(len(sounds), 32, 4, -1).mean(2)
    return np.log1p(1000 * bands[:, None, :, :62]).astype(np.float32) / 4


X = spectrograms(digits.data)


# %%
# A network that fits nearly every label
# --------------------------------------
class Network(nn.Sequential):
    """Three convolutions and two linear maps."""

    def __init__(self):
        super().__init__(
            *[nn.Conv2d(1, 16, 3, 2, padding=1), nn.ReLU()],
            *[nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU()],
            *[nn.Conv2d(32, 64, 3, 2, padding=1), nn.ReLU()],
            *[nn.Flatten(), nn.Linear(64 * 4 * 8, 128), nn.ReLU()],
            nn.Linear(128, 10),
        )


torch.manual_seed(0)
net = NeuralNetClassifier(
    Network,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=2e-3,
    batch_size=50,
    max_epochs=30,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
).fit(X, given)
print(f"training accuracy on the labels given: {net.score(X, given):.3f}")

# %%
# What it memorized
# -----------------
detector = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(X, given)
report = detector.label_report(X, given)
report["true"] = digits.target[report["index"]]
report["voice"] = digits.voices[report["index"]]
print(report.head(10).to_string(index=False, float_format="{:.3f}".format))

flags = detector.detect(X, given)
loss = -np.log(net.predict_proba(X)[np.arange(len(X)), given])
print(
    f"\nflagged: {flags.sum()}, precision {precision_score(wrong, flags):.3f}, "
    f"recall {recall_score(wrong, flags):.3f}\n"
    f"ROC AUC {roc_auc_score(wrong, detector.score_samples(X, given)):.3f}; "
    f"of the network's own loss {roc_auc_score(wrong, loss):.3f}"
)
weights = [f"{name} {w:.2f}" for name, w in detector.layer_weights_.items()]
print("weights of the layers: " + ", ".join(weights))

# %%
# The worst offenders
# -------------------
# Spectrograms of the twelve highest scores: time goes right, frequency up. The title is
# blue where the label suggested is what was said, orange where it is not.
figure, axes = plt.subplots(3, 4, figsize=(9, 6))
for axis, row in zip(axes.flat, report.itertuples(), strict=False):
    axis.imshow(X[row.index, 0], origin="lower", aspect="auto", cmap="cividis")
    color = "#0072B2" if row.suggested == row.true else "#D55E00"
    words = digits.target_names
    axis.set_title(
        f"given {words[row.given]}, suggested {words[row.suggested]}",
        color=color,
        fontsize=9,
    )
    axis.set(xticks=[], yticks=[])
axes[-1, 0].set(xlabel="time: 1 s", ylabel="frequency: 0 to 4 kHz")
figure.tight_layout()

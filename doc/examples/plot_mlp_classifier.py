"""
Find wrong labels in a table
============================

No torch network is needed: scikit-learn's ``MLPClassifier`` has ReLU layers too. Here it
learns from the measurements of 569 breast tumours, some of whose diagnoses were
changed, and its layers, with the scaled measurements beside them, point at those.
"""

# %%
# A pipeline that fits every label
# --------------------------------
# A twentieth of the labels is flipped. The detector is a step like any other: the scaler
# before it is learned with it.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import precision_recall_curve, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknonlin import MemorizationDetector
from sknonlin.datasets import make_noisy_labels

X, numbers = load_breast_cancer(return_X_y=True, as_frame=True)
true = np.where(numbers == 1, "benign", "malignant")
given = make_noisy_labels(true, 0.05, random_state=0, kind="flip")
wrong = given != true

scaler = StandardScaler()
detector = MemorizationDetector(
    MLPClassifier((64, 64), alpha=0, max_iter=1000, random_state=0),
    random_state=0,
)
model = make_pipeline(scaler, detector).fit(X, given)
print(f"{wrong.sum()} of {len(X)} labels are wrong")
print(f"training accuracy on the labels given: {model.score(X, given):.3f}")

# %%
# The worst labels
# ----------------
# What ``label_report`` says of every row, with some columns of the table beside it.
scaled = model[:-1].transform(X)
report = detector.label_report(scaled, given)
report["wrong"] = wrong[report["index"]]
columns = ["mean radius", "mean texture", "worst concave points"]
print(report.head(12).join(X[columns], on="index").to_string(index=False))

# %%
# Against the network's own probability
# -------------------------------------
# A network that fits all labels is sure of the wrong ones too.
scores = {
    "memorization score": detector.score_samples(scaled, given),
    "1 - probability of the label given": 1
    - model.predict_proba(X)[np.arange(len(X)), np.searchsorted(model.classes_, given)],
}
figure, axis = plt.subplots(figsize=(6, 4))
styles = {"memorization score": ("#0072B2", "-")}
for name, score in scores.items():
    precision, recall, _ = precision_recall_curve(wrong, score)
    color, line = styles.get(name, ("#D55E00", "--"))
    label = f"{name} (ROC AUC {roc_auc_score(wrong, score):.2f})"
    axis.plot(recall, precision, line, color=color, label=label)
axis.set(xlabel="recall", ylabel="precision", ylim=(0, 1.05), title="Finding wrong labels")
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, fontsize=9)
figure.tight_layout()

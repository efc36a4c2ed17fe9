"""Readings of non-negative factorizations that may tell how well a network generalizes.

`profiled` makes the factorizations, a few numbers for each layer and no label but those
trained on. Each of `READINGS` is a function of those numbers. The larger it is, the larger
the gap is expected to be.
"""

import warnings

import numpy as np
import torch
from generalization_measures import pooled, relus
from scipy.special import expit
from sklearn.neighbors import KNeighborsClassifier

from sknonlin import ActivationNonlinearity, MemorizationDetector, layer_profile
from sknonlin.curves import area_under_curve

RANKS, BATCH_SIZE = [1, 2, 3, 4, 6, 8, 12, 16], 20
CONE_RANKS = [1, 2, 4, 8]


def as_text(values):
    """Numbers of the layers in one cell of a CSV."""
    return " ".join(f"{value:.6g}" for value in values)


def areas(network, X, y, *, replay=False, **how):
    """Areas of the error curves, and of the accuracy curves, of all layers."""
    how = {"ranks": RANKS, "batch_size": BATCH_SIZE, "random_state": 0, **how}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes with few samples
        profile = layer_profile(network, X, y, replay=replay, **how)
    return profile.error_auc, profile.accuracy_auc if replay else None


def cones(before, y, after, compression="nmf"):
    """Residuals of training and other samples to the cones of the classes, an area each.

    Returns
    -------
    own, new : ndarrays of shape (n_samples, n_classes)
    """
    how = {"compression": compression, "by_class": True, "random_state": 0}
    cone = ActivationNonlinearity(CONE_RANKS, **how)
    cone.fit(before, y)
    found = []
    for rows in (before, after):
        curves = cone.transform(rows).reshape(len(rows), -1, len(CONE_RANKS))
        found.append(area_under_curve(CONE_RANKS, curves))
    return found


def own_and_other(distances, codes):
    """Residual to the cone of the sample's own class, and the least one to another."""
    own = np.take_along_axis(distances, codes[:, None], 1)[:, 0]
    others = distances.copy()
    np.put_along_axis(others, codes[:, None], np.inf, 1)
    return own, others.min(1)


def profiled(probe, *, detector):
    """Factorize the activations of a network: a dict of cells.

    With ``detector``, also those of a MemorizationDetector, which take as long as all.
    """
    X, y = probe.X.numpy(), probe.y.numpy()
    U = probe.unlabelled.numpy()
    answers = probe.network(probe.unlabelled).argmax(1).numpy()
    single, accuracy = areas(probe.network, X, y, replay=True)
    mixed, mixed_accuracy = areas(
        probe.network, X, y, replay=True, by_class=False, n_batches=6
    )
    new, _ = areas(probe.network, U, answers)
    new_mixed, _ = areas(probe.network, U, answers, by_class=False, n_batches=6)
    pca, _ = areas(probe.network, X, y, compression="pca")
    pca_mixed, _ = areas(
        probe.network, X, y, compression="pca", by_class=False, n_batches=6
    )
    cells = {
        "single": single,
        "accuracy": accuracy,
        "mixed": mixed,
        "mixed_accuracy": mixed_accuracy,
        "new": new,
        "new_mixed": new_mixed,
        "pca": pca,
        "pca_mixed": pca_mixed,
        **of_cones(probe, y, answers),
        **(of_detector(probe, X, y, U, answers) if detector else {}),
    }
    cells = {name: as_text(values) for name, values in cells.items()}
    return {**cells, "answers": "".join(chr(97 + k) for k in answers)}


def of_cones(probe, y, answers):
    """Residuals to the classes' cones, mean of the samples, for every layer."""
    found = {
        name: [] for name in ("own", "other", "new_own", "new_other", "wrong", "votes")
    }
    total = 0
    for (_, known), (_, new) in zip(
        probe.activations, relus(probe.network, probe.unlabelled), strict=True
    ):
        before, after = cones(pooled(known).numpy(), y, pooled(new).numpy())
        own, other = own_and_other(before, y)
        new_own, new_other = own_and_other(after, answers)
        total = total + np.log(after + 1e-6)
        found["own"].append(own.mean())
        found["other"].append(other.mean())
        found["new_own"].append(new_own.mean())
        found["new_other"].append(new_other.mean())
        found["wrong"].append((new_own > new_other).mean())
    found["votes"] = [(total.argmin(1) != answers).mean()]
    return found


def of_detector(probe, X, y, U, answers):
    """Score the finished network, and its answers for unlabelled samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = MemorizationDetector(
            probe.network, batch_size=BATCH_SIZE, random_state=0
        )
        detector.fit(X, y)
        known, new = detector.score_samples(X, y), detector.score_samples(U, answers)
    return {
        "detector": [detector.memorization_score_],
        "odds": [known.mean(), new.mean(), expit(new).mean()],
    }


def other_readers(probe):
    """Share of unlabelled answers that simpler readers of the same layers contradict.

    The subspaces of the classes by PCA, and five neighbours; of the inputs, too.
    """
    y = probe.y.numpy()
    with torch.no_grad():
        answers = probe.network(probe.unlabelled).argmax(1).numpy()
    pairs = zip(probe.activations, relus(probe.network, probe.unlabelled), strict=True)
    layers = [(pooled(a[1]).numpy(), pooled(b[1]).numpy()) for a, b in pairs]
    inputs = probe.X.flatten(1).numpy(), probe.unlabelled.flatten(1).numpy()

    def subspaces(before, after):
        return np.mean(cones(before, y, after, "pca")[1].argmin(1) != answers)

    def neighbours(before, after):
        knn = KNeighborsClassifier(5).fit(before, y)
        return np.mean(knn.predict(after) != answers)

    found = {"neighbours contradict, inputs": neighbours(*inputs)}
    for name, contradicted in {
        "neighbours contradict": neighbours,
        "PCA subspaces contradict": subspaces,
    }.items():
        shares = [contradicted(*layer) for layer in layers]
        found[f"{name}, first layer"] = shares[0]
        found[f"{name}, all layers"] = np.mean(shares)
    return {name: float(value) for name, value in found.items()}


OTHER_READERS = (
    "neighbours contradict, inputs",
    *("neighbours contradict, first layer", "neighbours contradict, all layers"),
    *("PCA subspaces contradict, first layer", "PCA subspaces contradict, all layers"),
)


def numbers(cell):
    """Numbers of the layers, from a cell."""
    return np.array([float(part) for part in str(cell).split()])


READINGS = {
    "memorization score": lambda f: f["single"].sum() / f["mixed"].sum(),
    "memorization score, deepest layer": lambda f: f["single"][-1] / f["mixed"][-1],
    "memorization score, first layer": lambda f: f["single"][0] / f["mixed"][0],
    "memorization score by PCA": lambda f: f["pca"].sum() / f["pca_mixed"].sum(),
    "memorization score, unlabelled samples": (
        lambda f: f["new"].sum() / f["new_mixed"].sum()
    ),
    "error areas, mean of layers": lambda f: f["single"].mean(),
    "error areas, mixed batches": lambda f: f["mixed"].mean(),
    "1 - accuracy areas": lambda f: 1 - f["accuracy"].mean(),
    "1 - accuracy areas, mixed batches": lambda f: 1 - f["mixed_accuracy"].mean(),
    "1 - accuracy area, weakest layer, mixed": lambda f: 1 - f["mixed_accuracy"].min(),
    "drop to unlabelled samples": lambda f: f["new"].sum() - f["single"].sum(),
    "drop, as a ratio": lambda f: f["new"].sum() / f["single"].sum(),
    "drop of the score": (
        lambda f: (
            f["new"].sum() / f["new_mixed"].sum() - f["single"].sum() / f["mixed"].sum()
        )
    ),
    "drop, deepest layer, as a ratio": lambda f: f["new"][-1] / f["single"][-1],
    "drop of the score, deepest layer": (
        lambda f: f["new"][-1] / f["new_mixed"][-1] - f["single"][-1] / f["mixed"][-1]
    ),
    "cones: residual, new / known": lambda f: f["new_own"].sum() / f["own"].sum(),
    "cones: residual, new - known": lambda f: f["new_own"].sum() - f["own"].sum(),
    "cones: residual, new - known, deepest": lambda f: f["new_own"][-1] - f["own"][-1],
    "cones: own / other, new": lambda f: f["new_own"].sum() / f["new_other"].sum(),
    "cones: own / other, new, deepest": lambda f: f["new_own"][-1] / f["new_other"][-1],
    "cones: own / other, new - known": (
        lambda f: (f["new_own"] / f["new_other"] - f["own"] / f["other"]).mean()
    ),
    "cones: own / other, new - known, deepest": (
        lambda f: (f["new_own"] / f["new_other"] - f["own"] / f["other"])[-1]
    ),
    "cones: answers contradicted, all layers": lambda f: f["wrong"].mean(),
    "cones: answers contradicted, first layer": lambda f: f["wrong"][0],
    "cones: answers contradicted, deepest layer": lambda f: f["wrong"][-1],
    "cones: answers contradicted, vote of layers": lambda f: f["votes"][0],
    "memorization_score_, all ranks": lambda f: f["detector"][0],
    "score_samples of unlabelled answers, log odds": lambda f: f["odds"][1],
    "score_samples of unlabelled answers, less known": lambda f: (
        f["odds"][1] - f["odds"][0]
    ),
    "score_samples of unlabelled answers, probability": lambda f: f["odds"][2],
}
CELLS = (
    *("single", "accuracy", "mixed", "mixed_accuracy", "new", "new_mixed", "pca"),
    *("pca_mixed", "own", "other", "new_own", "new_other", "wrong", "votes"),
    *("detector", "odds"),
)


def added(frame):
    """Give a frame with a column for every reading, and the one that needs two networks."""
    columns = {name: [] for name in READINGS}
    for row in frame.to_dict("records"):
        cells = {name: numbers(row.get(name, "nan nan nan")) for name in CELLS}
        for name, read in READINGS.items():
            columns[name].append(read(cells))
    return frame.assign(**columns, **{TWIN: disagreement(frame)})


TWIN = "disagreement with a second training"


def disagreement(frame):
    """Share of unlabelled samples that a twin of another seed answers otherwise.

    Jiang et al. 2022. It needs a second network.
    """
    names = ["depth", "width", "weight_decay", "dropout", "batch_size", "n_train"]
    found = np.full(len(frame), np.nan)
    answers = np.array([[ord(c) for c in text] for text in frame.answers])
    for places in frame.reset_index().groupby(names).groups.values():
        if len(places) == 2:
            found[places] = (answers[places[0]] != answers[places[1]]).mean()
    return found

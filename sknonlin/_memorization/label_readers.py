"""Readers: how far the other samples of a matrix speak for each class, row by row.

A reader learns the labels given from the rows of all samples, and tells of each what
the others say, without its own label: in closed form where it is a ridge regression, by
the trees that did not draw the sample where it is a forest. So wrong labels stand out.
"""

import math
import threading
from dataclasses import dataclass, field

import numpy as np
import torch
from joblib import parallel_config
from scipy.spatial.distance import pdist
from sklearn.ensemble import RandomForestClassifier

from sknonlin._matrices.products import unit_rows
from sknonlin._running import memory
from sknonlin._running.torch_settings import resolve_device

PENALTIES = 10.0 ** np.arange(-4, 3.1, 0.5)  # times the mean eigenvalue
N_LANDMARKS = 1000  # rows that kernels are learned by; with no more rows they are exact
FEWEST_LANDMARKS = 50
CLIP = 5  # standard deviations
TILE = 64  # rows that are multiplied at once
N_FOR_DISTANCE = 500  # rows that a kernel's width is found from
N_TREES = 100
SAMPLES_OF_A_LEAF = 5
LEAVES_OF_A_CLASS = 4  # at least, where a class has few samples
MAX_FOREST_FEATURES = 256
MAX_FOREST_CLASSES = 50  # with more, trees take long and say little
one_forest = threading.Lock()  # scikit-learn's forests change the warning filters


@dataclass
class Scaler:
    """Bring columns to a common scale.

    Parameters
    ----------
    counts : bool
        Whether rows are counts, which get length 1; others are standardized.
    """

    counts: bool
    mean: np.ndarray | None = field(default=None, init=False)
    scale: np.ndarray | None = field(default=None, init=False)

    def fit(self, A):
        """Learn the columns' means and deviations."""
        if not self.counts:
            self.mean = A.mean(0, dtype=np.float64).astype(A.dtype)
            deviation = A.std(0, dtype=np.float64)
            # A column that is constant says nothing, also where new samples differ.
            least = 10 * np.finfo(A.dtype).eps * np.abs(A).max(0, initial=0)
            self.scale = np.where(deviation > least, 1 / np.maximum(deviation, 1e-30), 0)
            self.scale = self.scale.astype(A.dtype)
        return self

    def __call__(self, A):
        """Scale a tensor of rows."""
        if self.counts:
            return unit_rows(A)[0]
        mean, scale = (torch.from_numpy(a).to(A) for a in (self.mean, self.scale))
        return ((A - mean) * scale).clamp_(-CLIP, CLIP)


def affordable_landmarks():
    """How many landmarks there is memory for."""
    square = memory.affordable(8 * memory.COPIES["Gram matrix of PCA"])
    return max(FEWEST_LANDMARKS, min(N_LANDMARKS, math.isqrt(square)))


def in_tiles(function, A, device):
    """Apply a function of rows in parts of whole tiles, and join what it returns.

    In a tile, a row's products do not depend on its place.
    """
    step = memory.MOST["chunk"] // max(1, 8 * (A.shape[1] + N_LANDMARKS))
    step = max(1, step // TILE) * TILE
    parts = []
    for start in range(0, len(A), step):
        part = torch.as_tensor(A[start : start + step]).to(device)
        padded = torch.nn.functional.pad(part, (0, 0, 0, -len(part) % TILE))
        parts.append(function(padded)[: len(part)].cpu())
    return torch.cat(parts)


@dataclass
class RidgeReader:
    """Kernel ridge regression of the classes, with its leave-one-out answers.

    The kernel is represented by landmark rows (Nyström). The penalty is the one whose
    leave-one-out answers are best.

    Parameters
    ----------
    scaler : Scaler
    gaussian : bool
        The kernel: Gaussian, as wide as the rows' median distance, or linear.
    device : str or torch.device
        Where to compute.
    random_state : int
        Seeds the draw of landmarks.
    n_landmarks : int
        How many; with as many as there are rows, answers are exact.
    """

    scaler: Scaler
    gaussian: bool
    device: object
    random_state: int
    n_landmarks: int

    def fit(self, A, codes, n_classes):
        """Learn from rows (n_samples, n_features); answers for each from the others.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes)
            What every row's label would be, as a share of each class.
        """
        device = self._device()
        rng = np.random.default_rng(self.random_state)
        chosen = np.sort(rng.permutation(len(A))[: self.n_landmarks])
        self.landmarks = self.scaler(torch.from_numpy(A[chosen])).to(device)
        self.width = self._median_distance(self.landmarks[:N_FOR_DISTANCE])
        self.shares = np.bincount(codes, minlength=n_classes) / len(codes)
        targets = torch.zeros(len(A), n_classes, dtype=torch.float64)
        targets[np.arange(len(A)), codes] = 1
        targets -= torch.from_numpy(self.shares)
        self.basis = self._inverse_root(self._kernel(self.landmarks, self.landmarks))
        values, correlation = self._rotate(A, targets, device)
        penalty = self._best_penalty(A, targets, values, correlation, device)
        answers, leverage = self._answers(A, values, correlation, penalty, device)
        self.coefficients = self.basis @ (correlation / (values + penalty)[:, None])
        del self.basis
        self.landmarks = self.landmarks.cpu()  # a detector is also loaded without a GPU
        self.coefficients = self.coefficients.cpu()
        others = (answers - leverage * targets) / (1 - leverage).clamp_(min=1e-6)
        return others.numpy() + self.shares

    def predict(self, A):
        """Answers for new rows, a tensor or an array (n_samples, n_features)."""
        device = self._device()
        landmarks = self.landmarks.to(device)
        coefficients = self.coefficients.to(device)
        found = in_tiles(
            lambda rows: self._kernel(self.scaler(rows), landmarks) @ coefficients,
            A,
            device,
        )
        return found.numpy() + self.shares

    def _device(self):
        device = resolve_device(self.device)
        return torch.device("cpu") if device.type == "mps" else device  # no float64

    def _median_distance(self, X):
        distances = pdist(X.cpu().double().numpy()) if len(X) > 1 else np.ones(1)
        median = float(np.median(distances))
        return median if median > 0 else 1.0

    def _kernel(self, X, landmarks):
        """Kernel (n_rows, n_landmarks) of scaled rows with the landmarks, in float64."""
        products = X @ landmarks.T
        if not self.gaussian:
            return products.double()
        squares = (X**2).sum(1)[:, None] + (landmarks**2).sum(1) - 2 * products
        return squares.clamp_(min=0).div_(-2 * self.width**2).exp_().double()

    @staticmethod
    def _inverse_root(kernel):
        """Columns B with B.T kernel B = 1, of the kernel's own columns."""
        values, vectors = torch.linalg.eigh(kernel)
        kept = values > values[-1].clamp(min=1e-300) * 1e-10 * len(values)
        return vectors[:, kept] / values[kept].sqrt()

    def _rotate(self, A, targets, device):
        """Turn the basis so that its columns are orthogonal over all rows."""
        width = self.basis.shape[1]
        gram = torch.zeros(width, width, dtype=torch.float64)
        correlation = torch.zeros(width, targets.shape[1], dtype=torch.float64)
        for start in range(0, len(A), N_LANDMARKS):
            part = slice(start, start + N_LANDMARKS)
            rows = self.scaler(torch.from_numpy(A[part]).to(device))
            features = (self._kernel(rows, self.landmarks) @ self.basis).cpu()
            gram += features.T @ features
            correlation += features.T @ targets[part]
        values, vectors = torch.linalg.eigh(gram)
        self.basis = self.basis @ vectors.to(device)
        return values.clamp_(min=0).to(device), (vectors.T @ correlation).to(device)

    def _best_penalty(self, A, targets, values, correlation, device):
        """Penalty with the least leave-one-out error."""
        penalties = torch.from_numpy(PENALTIES) * (values.sum().cpu() / len(values))
        penalties = penalties.clamp(min=1e-12)
        inverse = 1 / (values[:, None] + penalties.to(device))
        errors = torch.zeros(len(penalties), dtype=torch.float64, device=device)
        for start in range(0, len(A), N_LANDMARKS):
            part = slice(start, start + N_LANDMARKS)
            rows = self.scaler(torch.from_numpy(A[part]).to(device))
            features = self._kernel(rows, self.landmarks) @ self.basis
            left = 1 - features**2 @ inverse
            own = targets[part].to(device)
            for i in range(len(penalties)):
                residual = own - features @ (correlation * inverse[:, i : i + 1])
                errors[i] += (residual / left[:, i : i + 1].clamp(min=1e-6)).square().sum()
        return float(penalties[int(errors.argmin())])

    def _answers(self, A, values, correlation, penalty, device):
        """Answers of all rows, and how far each one's is its own label's."""
        inverse = 1 / (values + penalty)
        weights = correlation * inverse[:, None]

        def answer(rows):
            features = self._kernel(self.scaler(rows), self.landmarks) @ self.basis
            return torch.cat([features @ weights, (features**2 @ inverse)[:, None]], 1)

        found = in_tiles(answer, A, device)
        return found[:, :-1], found[:, -1:]


def in_single(A):
    """Rows in single precision, which forests compute in; what is beyond it at its ends."""
    largest = np.finfo(np.float32).max
    return np.clip(np.asarray(A), -largest, largest).astype(np.float32, copy=False)


@dataclass
class ForestReader:
    """A random forest, whose trees answer for the samples that they did not draw.

    Parameters
    ----------
    random_state : int
        Seeds the trees.
    """

    random_state: int

    def fit(self, A, codes, n_classes):
        """Learn from rows, and answer for each from the trees without it."""
        leaf = len(A) // (LEAVES_OF_A_CLASS * n_classes)
        self.forest = RandomForestClassifier(
            N_TREES,
            min_samples_leaf=int(np.clip(leaf, 1, SAMPLES_OF_A_LEAF)),
            oob_score=True,
            random_state=self.random_state,
            n_jobs=1,  # readers are learned side by side, also on a cluster
        )
        with parallel_config(backend="sequential"), one_forest:
            self.forest.fit(in_single(A), codes)
        self.n_classes = n_classes
        return self._by_class(self.forest.oob_decision_function_)

    def predict(self, A):
        """Answers for new rows."""
        with parallel_config(backend="sequential"), one_forest:
            return self._by_class(self.forest.predict_proba(in_single(A)))

    def _by_class(self, shares):
        """Columns of all classes, also of those that the forest has not seen."""
        found = np.zeros((len(shares), self.n_classes))
        found[:, self.forest.classes_] = shares
        return found

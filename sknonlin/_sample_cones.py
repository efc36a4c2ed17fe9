"""How well each sample fits the cones of the classes, layer by layer.

A sample's own row must not vouch for its label, and neither must other wrong labels. So
the cones of a class are learned in folds, each without a part of the samples, which are
scored by it alone; and they are learned again from the samples that fit their label. The
smallest rank, which wrong labels pull the least, finds those; once they are out, the
others tell classes better without it.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.utils.parallel import Parallel, delayed
from torch.nn import functional

from sknonlin._arrays import CHUNK_ELEMENTS, MatrixStack, full_precision, resolve_device
from sknonlin._class_stacks import class_stacks
from sknonlin._cone import unit_rows
from sknonlin._sample_features import SampleFeatures
from sknonlin._thresholds import auto_threshold, wrong_share

CONE_RANKS = (1, 4, 16, 32)
SAMPLES_PER_CLASS = 400  # from which the cones of a class are learned
MAX_SAMPLES = 20_000  # the same over all classes, but no class gives less than
MIN_SAMPLES = 50
TILE = 64  # rows that are multiplied at once
N_FOLDS = 3
N_ROUNDS = 3  # of learning: from all labels first, then from those that fit
MAX_TRIMMED = 0.5  # of a class
MAX_WRONG = 0.6  # estimated share of wrong labels from which all are kept


@dataclass
class SampleScores:
    """Scores of samples for their labels.

    Attributes
    ----------
    contrast : ndarray of shape (n_samples, n_layers)
        How much worse each layer's activations fit the cones of the sample's class than
        the best of the other classes', in [-1, 1].
    score : ndarray of shape (n_samples,)
        The contrast's mean, weighted over the layers.
    suggested : ndarray of int of shape (n_samples,)
        The class that fits best, over the layers.
    """

    contrast: np.ndarray
    score: np.ndarray
    suggested: np.ndarray


@dataclass
class SampleCones:
    """Cones of every layer, class and rank, and how well samples fit them.

    Parameters
    ----------
    compression : object
        What learns the cones, see :mod:`sknonlin.compression`.
    ranks : list of int
        The ranks of the cones, over which residuals are averaged; the smallest only
        counts while no labels are known to be wrong.
    device : str or torch.device
        Where to compute.
    layers : "relu" or list of str
        The layers.
    random_state : int
        Seeds the draw of samples and the folds.
    n_jobs : int or None
        Threads over the layers.
    """

    compression: object
    ranks: list
    device: object
    layers: object
    random_state: int
    n_jobs: int | None = None
    components: dict = field(default_factory=dict, init=False)

    @property
    def names(self):
        """The layers, the input before them where it is one."""
        return list(self.components)

    def learn(self, network, X, codes, n_classes):
        """Learn the cones, and which layers to believe, from samples and their labels.

        A class without samples has an empty cone, which nothing fits.

        Returns
        -------
        scores : SampleScores
            Of the samples that the cones were learned from.
        """
        self.n_classes = n_classes
        self.features = SampleFeatures(
            self.layers, n_classes, nonnegative=self.compression.nonnegative
        )
        index = self._draw(codes)
        codes = codes[index]
        rows, keys = self.features.gather(network, X, index)
        self._assign_folds(keys, codes)
        folds = self._folds(keys, codes)
        device = resolve_device(self.device)
        rows = {name: unit_rows(A.to(device))[0] for name, A in rows.items()}
        self.components = dict.fromkeys(rows)  # in this order, whichever ends first
        keep = np.ones(len(index), dtype=bool)
        for n_done in range(N_ROUNDS):
            self.first_rank = 1 if n_done and len(self.ranks) > 1 else 0
            areas = self._parallel(self._learn_and_score, rows, codes, folds, keep)
            areas = np.stack(list(areas.values()), 1)
            contrasts = contrast(areas, codes)
            self.weights = layer_weights(contrasts)
            score = contrasts @ self.weights
            keep = fitting(score, codes)
        return SampleScores(contrasts, score, best(areas, self.weights))

    def score(self, network, X, n_samples, codes=None):
        """Score samples for their labels, or for what the network predicts.

        Returns
        -------
        scores : SampleScores
        """
        names = self.names
        result = SampleScores(
            np.zeros((n_samples, len(names)), np.float32),
            np.zeros(n_samples, np.float32),
            np.zeros(n_samples, np.int64),
        )
        device = resolve_device(self.device)
        stream = self.features.stream(
            network, X, np.arange(n_samples), predict=codes is None
        )
        for part, rows, keys, predicted in stream:
            given = predicted if codes is None else codes[part]
            folds = self._folds(keys, given)
            units = {
                name: unit_rows(rows[name].to(device))[0] for name in names if name in rows
            }
            found = self._parallel(self._areas, units, folds)
            missing = np.full((len(part), self.n_classes), np.nan, np.float32)
            areas = np.stack([found.get(name, missing) for name in names], 1)
            result.contrast[part] = contrast(areas, given)
            result.score[part] = result.contrast[part] @ self.weights
            result.suggested[part] = best(areas, self.weights)
        return result

    def _parallel(self, function, rows, *args):
        """Call a function on the rows of every layer."""
        results = Parallel(self.n_jobs, prefer="threads")(
            delayed(function)(name, A, *args) for name, A in rows.items()
        )
        return dict(zip(rows, results, strict=True))

    # Folds ------------------------------------------------------------------------

    def _draw(self, codes):
        """Draw the samples to learn from, sorted: a number of every class."""
        share = max(MIN_SAMPLES, MAX_SAMPLES // self.n_classes)
        order = np.random.default_rng(self.random_state).permutation(len(codes))
        order = order[np.argsort(codes[order], kind="stable")]
        counts = np.bincount(codes)
        within = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(order[within < min(share, SAMPLES_PER_CLASS)])

    def _assign_folds(self, keys, codes):
        """Deal the samples of every class to the folds; equal ones to the same.

        Samples are known again by their key and label.
        """
        self._known, first = np.unique(labelled(keys, codes), return_index=True)
        order = np.argsort(codes[first], kind="stable")  # keys are as good as random
        self._known_folds = np.empty(len(order), np.int64)
        self._known_folds[order] = np.arange(len(order)) % N_FOLDS

    def _folds(self, keys, codes):
        """Fold whose cones were learned without each sample; any for new samples."""
        names = labelled(keys, codes)
        place = np.searchsorted(self._known, names).clip(max=len(self._known) - 1)
        known = self._known[place] == names
        return np.where(known, self._known_folds[place], names % N_FOLDS)

    # Cones ------------------------------------------------------------------------

    def _learn_and_score(self, name, A, codes, folds, keep):
        """Learn the cones of a layer, and score the rows that they were learned from."""
        reached = ~A[:, 0].isnan().cpu().numpy()
        groups, members = [], []
        for fold in range(N_FOLDS):
            index = np.flatnonzero(keep & reached & (folds != fold))
            members.append(index)
            groups.append(fold * self.n_classes + codes[index])
        members = np.concatenate(members)
        present, groups = np.unique(np.concatenate(groups), return_inverse=True)
        n_cones = N_FOLDS * self.n_classes
        components = []
        limit = getattr(self.compression, "max_rows", None)
        for cones, X, n_rows in class_stacks(A[members], groups, len(present), limit):
            stack = MatrixStack(X, A.device)
            learned = self.compression.learn(stack, self.ranks, n_rows)[1]
            components = components or [H.new_zeros(n_cones, *H.shape[1:]) for H in learned]
            for all_components, H in zip(components, learned, strict=True):
                all_components[present[cones]] = H
        self.components[name] = [H.cpu() for H in components]
        return self._areas(name, A, folds)

    def _areas(self, name, A, folds):
        """Mean over the ranks of every sample's residual to every class, in [0, 1]."""
        components = [
            H.to(A).reshape(N_FOLDS, self.n_classes, *H.shape[1:])
            for H in self.components[name][self.first_rank :]
        ]
        areas = A.new_empty(len(A), self.n_classes)
        step = max(1, CHUNK_ELEMENTS // (self.n_classes * max(self.ranks) * 4))
        with full_precision():
            for fold in range(N_FOLDS):
                for index in torch.from_numpy(np.flatnonzero(folds == fold)).split(step):
                    place = index.to(A.device)
                    # Whole tiles, in which a row's products do not depend on its place.
                    X = functional.pad(A[place], (0, 0, 0, -len(index) % TILE))
                    left = [
                        self.compression.stack_residuals(X, H[fold]).clamp_(max=1)
                        for H in components
                    ]
                    areas[place] = torch.stack(left).mean(0).T[: len(index)]
        return areas.cpu().numpy()


def labelled(keys, codes):
    """Join keys and labels to one number."""
    return keys + (codes + 1) * np.int64(0x9E3779B97F4A7C1)


def contrast(areas, codes):
    """How much worse samples fit the cone of their class than the best other one.

    Parameters
    ----------
    areas : ndarray of shape (n_samples, n_layers, n_classes)
    codes : ndarray of int of shape (n_samples,)

    Returns
    -------
    contrast : ndarray of shape (n_samples, n_layers)
        In [-1, 1]; 0 where a sample does not reach a layer.
    """
    own = np.take_along_axis(areas, codes[:, None, None], 2)[:, :, 0]
    others = areas.copy()
    np.put_along_axis(others, codes[:, None, None], np.inf, 2)
    return np.nan_to_num(own - others.min(2), nan=0.0)


def layer_weights(contrasts):
    """Weights of the layers, from how their contrasts are spread.

    A layer where no sample fits another class than its own has memorized the labels, and
    one where all do knows nothing of them; neither can tell wrong labels. The weight is
    that of the squared variance of the disagreement, and of contrasts in units of their
    standard deviation.
    """
    disagreeing = (contrasts > 0).mean(0)
    spread = contrasts.std(0)
    spread = np.where(spread > 0, spread, np.inf)
    weights = (disagreeing * (1 - disagreeing)) ** 2 / spread
    if not weights.any():
        weights = 1 / spread
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


def best(areas, weights):
    """Class that fits every sample best, over the layers."""
    return np.einsum("slc,l->sc", np.nan_to_num(areas, nan=1.0), weights).argmin(1)


def fitting(scores, codes):
    """Whether samples fit their label; true for half of every class at least.

    Where most labels seem wrong, there is nothing to go by, and all count as fitting.
    """
    if wrong_share(scores) > MAX_WRONG:
        return np.ones(len(scores), dtype=bool)
    keep = scores <= auto_threshold(scores)
    order = np.lexsort((scores, codes))
    counts = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = np.repeat(np.ceil(counts * (1 - MAX_TRIMMED)), counts)
    keep[order[rank < share]] = True
    return keep

"""How well each sample fits the cones of the classes, layer by layer.

A sample's own row must not vouch for its label. So the cones of a class are learned in
folds, each without a part of the samples, which are scored by it alone.

A cone here is what the components of a class reach: of PCA and of ablation a subspace.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from sknonlin._matrices.stack import MatrixStack, class_members, class_stacks
from sknonlin._running import memory
from sknonlin._running.torch_settings import resolve_device

TILE = 64  # rows that are multiplied at once
CONE_RANKS = (1, 4, 16, 32)
N_FOLDS = 3


@dataclass
class ClassCones:
    """Cones of one layer: one for each class and rank, in folds.

    Parameters
    ----------
    compression : object
        What learned them.
    device : str or torch.device
        Where to compute.
    components : list of tensors of shape (n_folds, n_classes, k, n_features)
        On the CPU.
    first_rank : int
        Place of the first rank that counts.
    """

    compression: object
    device: object
    components: list
    first_rank: int

    def compare(self, X, folds, use):
        """Call ``use(place, areas)`` on parts of the unit rows ``X``, fold by fold.

        The areas (m, n_classes) are the mean residuals over the ranks, in [0, 1].
        """
        device = resolve_device(self.device, X)
        n_classes, n_components = self.components[-1].shape[1:3]
        n_weights = n_classes * n_components
        step = memory.affordable(
            memory.COPIES["weight"] * n_weights * X.dtype.itemsize,
            "scoring",
            "weights",
            most=max(1, memory.MOST["chunk"] // (4 * n_weights)),
            device=device,
        )
        for fold in np.unique(folds):
            index = torch.from_numpy(np.flatnonzero(folds == fold))
            cones = [
                H[fold].to(device, X.dtype) for H in self.components[self.first_rank :]
            ]

            def compare_part(part, index=index, cones=cones):
                place = index[part].to(X.device)
                use(place, self._areas(X[place].to(device), cones))

            memory.in_parts(compare_part, len(index), step)

    def _areas(self, X, cones):
        # Whole tiles, in which a row's products do not depend on its place.
        padded = functional.pad(X, (0, 0, 0, -len(X) % TILE))
        left = [self.compression.stack_residuals(padded, H).clamp_(max=1) for H in cones]
        return torch.stack(left).mean(0).T[: len(X)]


def contrast(areas, codes):
    """How much worse rows fit the cone of their class than the best other one.

    Parameters
    ----------
    areas : tensor of shape (n_samples, n_classes)
    codes : tensor of int of shape (n_samples,)

    Returns
    -------
    contrast : tensor of shape (n_samples,)
        In [-1, 1]; 0 where the areas are NaN, as of samples that do not reach a layer.
    """
    codes = codes.to(areas.device)[:, None]
    own = areas.gather(1, codes)
    best_other = areas.scatter(1, codes, torch.inf).amin(1, keepdim=True)
    return (own - best_other)[:, 0].nan_to_num(nan=0.0)


@dataclass
class FoldLearner:
    """Learn the cones of layers without a fold, and score that fold by them.

    Parameters
    ----------
    compression, device, first_rank
        As of :class:`ClassCones`.
    ranks : list of int
    n_classes : int
        A class without samples has an empty cone, which nothing fits.
    codes, folds : ndarray of int of shape (n_samples,)
    keep : ndarray of bool of shape (n_samples,)
        Samples to learn from.
    """

    compression: object
    device: object
    first_rank: int
    ranks: list
    n_classes: int
    codes: np.ndarray
    folds: np.ndarray
    keep: np.ndarray

    def __call__(self, A, chosen):
        """Learn from the unit rows of a layer, without each of some folds.

        Returns
        -------
        components : list of tensors of shape (len(chosen), n_classes, k, n_features)
            For every rank.
        scored : ndarray of int
            The samples in these folds.
        areas : ndarray of shape (len(scored), n_classes)
            Theirs to the cones of all classes.
        """
        components = self._components(A, chosen)
        device = resolve_device(self.device)
        cones = ClassCones(self.compression, device, components, self.first_rank)
        scored = np.flatnonzero(np.isin(self.folds, chosen))
        X = torch.from_numpy(A[scored])
        found = torch.zeros(len(X), self.n_classes, dtype=X.dtype)

        def use(place, areas):
            found[place] = areas.cpu()

        cones.compare(X, np.searchsorted(chosen, self.folds[scored]), use)
        memory.release_pages(A)
        return components, scored, found.numpy()

    def _components(self, A, chosen):
        """Components of every rank, fold and class; stacks of all folds at once."""
        reached = self.keep & ~np.isnan(A[:, 0])
        places, members = [], []
        for i, fold in enumerate(chosen):
            rows = np.flatnonzero(reached & (self.folds != fold))
            own = class_members(self.codes[rows], self.n_classes)
            for code, index in enumerate(own):
                if len(index):
                    places.append((i, code))
                    members.append(rows[index])
        limit = self.compression.settings.max_rows
        device = resolve_device(self.device)
        components = []
        for cones, X, n_rows in class_stacks(A, members, limit, device):
            stack = MatrixStack(X, device)
            learned = self.compression.learn(stack, self.ranks, n_rows)[1]
            if not components:
                components = [
                    torch.zeros(len(chosen), self.n_classes, *H.shape[1:], dtype=H.dtype)
                    for H in learned
                ]
            at = tuple(np.transpose([places[number] for number in cones]))
            for all_components, H in zip(components, learned, strict=True):
                all_components[at] = H.cpu()
        return components


def learn_folds(learner, A, chosen):
    """Run a :class:`FoldLearner` on a layer: the task of a worker."""
    return learner(A, chosen)


def learn_cones(workers, learner, rows):
    """Learn the cones of all layers, in folds.

    Parameters
    ----------
    workers : Workers
    learner : FoldLearner
    rows : dict of str to ndarray of shape (n_samples, n_features)
        Unit rows by layer.

    Returns
    -------
    cones : dict of str to ClassCones
    areas : dict of str to ndarray of shape (n_samples, n_classes)
        Of every sample, by the cones learned without it.
    """
    handles = {name: workers.share(A) for name, A in rows.items()}
    shared = workers.share(learner)
    # One worker learns all folds together, which is as many small products fewer.
    shares = np.split(np.arange(N_FOLDS), 1 if workers.count == 1 else N_FOLDS)
    tasks = [(name, share) for name in rows for share in shares]
    items = ((shared, handles[name], share) for name, share in tasks)
    results = workers.map(learn_folds, items, "cones", len(tasks))
    learned = {name: [] for name in rows}
    shape = len(learner.codes), learner.n_classes
    areas = {name: np.zeros(shape, A.dtype) for name, A in rows.items()}
    for (name, _), (components, scored, own) in zip(tasks, results, strict=True):
        learned[name].append(components)
        areas[name][scored] = own
    cones = {
        name: ClassCones(
            learner.compression,
            learner.device,
            [torch.cat(H) for H in zip(*parts, strict=True)],
            learner.first_rank,
        )
        for name, parts in learned.items()
    }
    return cones, areas

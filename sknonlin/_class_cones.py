"""Cones of the classes at one layer, learned without a fold of the samples."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from sknonlin._arrays import CHUNK_ELEMENTS, MatrixStack, resolve_device
from sknonlin._class_stacks import class_members, class_stacks
from sknonlin._memory import affordable, in_parts, release_pages

TILE = 64  # rows that are multiplied at once
SOLVER_SHARE, HELD_BY_SOLVER = 0.25, 8  # numbers held for each weight on a component


@dataclass
class ClassCones:
    """Cones of one layer: one for each class and rank, in folds.

    Parameters
    ----------
    compression : object
        What learned them, see :mod:`sknonlin.compression`.
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
        step = affordable(
            HELD_BY_SOLVER * n_weights * X.dtype.itemsize,
            share=SOLVER_SHARE,
            most=max(1, CHUNK_ELEMENTS // (4 * n_weights)),
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

            in_parts(compare_part, len(index), step)

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
        contrasts : ndarray of shape (len(scored),)
            Theirs.
        """
        components = self._components(A, chosen)
        cones = ClassCones(self.compression, self.device, components, self.first_rank)
        scored = np.flatnonzero(np.isin(self.folds, chosen))
        codes = torch.from_numpy(self.codes[scored])
        X = torch.from_numpy(A[scored])
        contrasts = torch.zeros(len(X), dtype=X.dtype)

        def use(place, areas):
            contrasts[place] = contrast(areas, codes[place]).cpu()

        cones.compare(X, np.searchsorted(chosen, self.folds[scored]), use)
        release_pages(A)
        return components, scored, contrasts.numpy()

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

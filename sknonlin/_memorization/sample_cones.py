"""How well each sample fits the cones of the classes, layer by layer.

A sample's own row must not vouch for its label, and neither must other wrong labels. So
the cones of a class are learned in folds, each without a part of the samples, which are
scored by it alone; and they are learned again from the samples that fit their label. The
smallest rank, which wrong labels pull the least, finds those; once they are out, the
others tell classes better without it.

A cone here is what the components of a class reach: of PCA and of ablation a subspace.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from sknonlin._matrices.products import unit_rows
from sknonlin._matrices.stack import MatrixStack, class_members, class_stacks
from sknonlin._memorization.activation_rows import RowStore, SampleFeatures, SampleStream
from sknonlin._memorization.label_scores import fitting, layer_weights
from sknonlin._running import memory
from sknonlin._running.parallel import Workers
from sknonlin._running.torch_settings import resolve_device

TILE = 64  # rows that are multiplied at once
CONE_RANKS = (1, 4, 16, 32)
SAMPLES_PER_CLASS = 400  # from which the cones of a class are learned
MAX_SAMPLES = 20_000  # the same over all classes, but no class gives less than
MIN_SAMPLES = 50
N_FOLDS = 3
N_ROUNDS = 3  # of learning: from all labels first, then from those that fit


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
        memory.release_pages(A)
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


class Folds:
    """Which fold's cones a sample is scored by: those learned without it.

    The samples of every class are dealt to the folds, equal ones to the same; they are
    known again by their key and label. New samples go to any.

    Parameters
    ----------
    keys, codes : ndarray of int of shape (n_samples,)
    """

    def __init__(self, keys, codes):
        self._known, first = np.unique(labelled(keys, codes), return_index=True)
        order = np.argsort(codes[first], kind="stable")  # keys are as good as random
        self._folds = np.empty(len(order), np.int64)
        self._folds[order] = np.arange(len(order)) % N_FOLDS

    def of(self, keys, codes):
        """Fold of each sample."""
        names = labelled(keys, codes)
        place = np.searchsorted(self._known, names).clip(max=len(self._known) - 1)
        known = self._known[place] == names
        return np.where(known, self._folds[place], names % N_FOLDS)


def labelled(keys, codes):
    """Join keys and labels to one number."""
    return keys + (codes + 1) * np.int64(0x9E3779B97F4A7C1)


def unit_blocks(block, codes):
    """Rows of a block scaled to norm 1, and its samples' keys."""
    return {name: unit_rows(A)[0] for name, A in block.rows.items()}, block.keys


@dataclass
class SampleCones:
    """Cones of every layer, class and rank, and how well samples fit them.

    Parameters
    ----------
    compression : object
        What learns the cones.
    ranks : list of int
        The ranks of the cones, over which residuals are averaged; the smallest only
        counts while no labels are known to be wrong.
    device : str or torch.device
        Where to compute.
    layers : "relu" or list of str
        The layers.
    random_state : int
        Seeds the draw of samples and the folds.
    """

    compression: object
    ranks: list
    device: object
    layers: object
    random_state: int
    cones: dict = field(default_factory=dict, init=False)

    @property
    def names(self):
        """The layers, the input before them where it is one."""
        return list(self.cones)

    def fit(self, network, X, codes, n_classes, *, n_jobs=None, verbose=0):
        """Learn the cones, and which layers to believe, from samples and their labels.

        A class without samples has an empty cone, which nothing fits.

        Returns
        -------
        scores : ndarray of shape (n_samples_drawn,)
            Of the samples that the cones were learned from.
        """
        self.n_classes = n_classes
        self.features = SampleFeatures(
            self.layers,
            n_classes,
            network.row_dtype,
            nonnegative=self.compression.nonnegative,
        )
        index = self._draw(codes)
        codes = codes[index]
        with Workers(n_jobs, verbose) as workers:
            stream = SampleStream(workers, network, X, self.features, len(index))
            n_numbers = sum(stream.n_features.values())
            with RowStore(len(index), n_numbers, network.row_dtype) as store:
                keys = np.zeros(len(index), np.int64)
                for place, (rows, own) in stream.run(
                    index, unit_blocks, description="activations"
                ):
                    store.put(place, rows)
                    keys[place] = own
                self.folds = Folds(keys, codes)
                rows = self.features.note_signs(store.rows)
                with memory.within("cones", "learning"):
                    return self._learn_rounds(workers, rows, codes, keys)

    def _learn_rounds(self, workers, rows, codes, keys):
        """Learn the cones from rows by layer, in rounds; return the samples' scores."""
        folds = self.folds.of(keys, codes)
        keep = np.ones(len(codes), dtype=bool)
        handles = {name: workers.share(A) for name, A in rows.items()}
        # One worker learns all folds together, which is as many small products fewer.
        shares = np.split(np.arange(N_FOLDS), 1 if workers.count == 1 else N_FOLDS)
        tasks = [(name, share) for name in rows for share in shares]
        contrasts = np.empty((len(codes), len(rows)), next(iter(rows.values())).dtype)
        for n_done in range(N_ROUNDS):
            first_rank = 1 if n_done and len(self.ranks) > 1 else 0
            learner = workers.share(
                FoldLearner(
                    self.compression,
                    self.device,
                    first_rank,
                    self.ranks,
                    self.n_classes,
                    codes,
                    folds,
                    keep,
                )
            )
            items = ((learner, handles[name], share) for name, share in tasks)
            description = f"cones, round {n_done + 1} of {N_ROUNDS}"
            results = workers.map(learn_folds, items, description, len(tasks))
            learned = {name: [] for name in rows}
            for (name, _), (components, scored, own) in zip(tasks, results, strict=True):
                learned[name].append(components)
                contrasts[scored, list(rows).index(name)] = own
            self.weights = layer_weights(contrasts)
            scores = contrasts @ self.weights
            keep = fitting(scores, codes)
        self.cones = {
            name: ClassCones(
                self.compression,
                self.device,
                [torch.cat(H) for H in zip(*parts, strict=True)],
                first_rank,
            )
            for name, parts in learned.items()
        }
        return scores

    def score(
        self, network, X, n_samples, codes=None, *, layers=True, n_jobs=None, verbose=0
    ):
        """Score samples for their labels, or for what the network predicts.

        Returns
        -------
        scores : SampleScores
            Without ``layers``, their contrasts are left out.
        """
        n_layers = len(self.cones)
        result = SampleScores(
            np.empty((n_samples, n_layers if layers else 0), np.float32),
            np.empty(n_samples, np.float32),
            np.empty(n_samples, np.int64),
        )
        extra = 3 * self.n_classes + 2 * n_layers
        with Workers(n_jobs, verbose) as workers:
            stream = SampleStream(workers, network, X, self.features, n_samples, extra)
            for place, scores in stream.run(
                np.arange(n_samples),
                self.score_block,
                codes,
                predict=codes is None,
                description="samples",
            ):
                result.contrast[place] = scores.contrast[:, : result.contrast.shape[1]]
                result.score[place] = scores.score
                result.suggested[place] = scores.suggested
        return result

    def score_block(self, block, codes):
        """Score the samples of a block."""
        codes = block.predicted if codes is None else codes
        folds = self.folds.of(block.keys, codes)
        own = torch.from_numpy(codes)
        contrasts = np.zeros((len(codes), len(self.cones)), np.float32)
        total = torch.zeros(len(codes), self.n_classes)
        layers = zip(self.cones.items(), self.weights.tolist(), strict=True)
        for i, ((name, cones), weight) in enumerate(layers):
            if name not in block.rows:  # which no sample of the block reaches
                total.add_(weight)
                continue

            def use(place, areas, i=i, weight=weight):
                place, areas = place.cpu(), areas.cpu()
                contrasts[place, i] = contrast(areas, own[place])
                total[place] += weight * areas.nan_to_num(nan=1.0)

            cones.compare(unit_rows(block.rows[name])[0], folds, use)
        score = (contrasts @ self.weights).astype(np.float32)
        return SampleScores(contrasts, score, total.argmin(1).numpy())

    def _draw(self, codes):
        """Draw the samples to learn from, sorted: a number of every class."""
        share = max(MIN_SAMPLES, MAX_SAMPLES // self.n_classes)
        order = np.random.default_rng(self.random_state).permutation(len(codes))
        order = order[np.argsort(codes[order], kind="stable")]
        counts = np.bincount(codes)
        place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(order[place < min(share, SAMPLES_PER_CLASS)])

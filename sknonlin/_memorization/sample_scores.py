"""How likely the label of every sample is wrong: readers of the input, and the layers.

What goes into the network has not seen the labels. Readers of it tell what the other
samples say of a sample's class, and an account of the noise makes probabilities of that.
The layers of the network have seen the labels, and add what they still know of the samples.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import expit, logit

from sknonlin._matrices.products import unit_rows
from sknonlin._memorization.activation_rows import RowStore, SampleFeatures, SampleStream
from sknonlin._memorization.inputs import COUNTS, is_counts, is_input
from sknonlin._memorization.known_samples import KnownSamples, deal, labelled
from sknonlin._memorization.label_noise import (
    LabelNoise,
    LayerEvidence,
    flagging_threshold,
    kept,
    log_shares,
)
from sknonlin._memorization.label_readers import (
    MAX_FOREST_CLASSES,
    MAX_FOREST_FEATURES,
    ForestReader,
    RidgeReader,
    Scaler,
    affordable_landmarks,
)
from sknonlin._memorization.sample_cones import (
    N_FOLDS,
    FoldLearner,
    contrast,
    learn_cones,
)
from sknonlin._running import memory
from sknonlin._running.parallel import Workers

SAMPLES_PER_CLASS = 400  # that are learned from, or more where there are few classes
SAMPLES_OF_FEW = 4000  # over all classes
MAX_SAMPLES = 20_000  # the same, but no class gives less than
MIN_SAMPLES = 50
MOST_ANSWERS = 2**25  # of a reader: fewer samples of every class where there are many
MOST_NUMBERS, LEAST_COLUMNS = 2**24, 64  # of the cones of a part of the input
LEAST = 1e-12  # probability
DOUBT = 0.01  # probability that a label is wrong where the network finds another likelier
TRAINING = "training"  # what the network's training told of the samples


@dataclass
class SampleScores:
    """Scores of samples for their labels.

    Attributes
    ----------
    contrast : ndarray of shape (n_samples, n_layers)
        How much worse each layer's activations fit the cones of the sample's class than
        the best of the other classes', in [-1, 1].
    evidence : ndarray of shape (n_samples, n_columns)
        What the input, every layer, and the training if it was watched, add to the score.
    score : ndarray of shape (n_samples,)
        Log-odds that the label is wrong.
    suggested : ndarray of int of shape (n_samples,)
        The class that fits best.
    certainty : ndarray of shape (n_samples,)
        Probability of that class, for what the readers see.
    """

    contrast: np.ndarray
    evidence: np.ndarray
    score: np.ndarray
    suggested: np.ndarray
    certainty: np.ndarray


def unit_blocks(block):
    """Rows of a block, those of layers scaled to norm 1, its samples' keys and doubts."""
    rows = {n: A if is_input(n) else unit_rows(A)[0] for n, A in block.rows.items()}
    return rows, block.keys, block.doubts


def learn_reader(reader, A, codes, n_classes):
    """Let a reader learn: the task of a worker."""
    answers = log_shares(reader.fit(np.ascontiguousarray(A), codes, n_classes))
    memory.release_pages(A)
    return reader, answers


def log_odds(wrong, right):
    """Logarithm of the odds of probabilities that sum to 1."""
    return np.log(np.maximum(wrong, LEAST)) - np.log(np.maximum(right, LEAST))


def doubted(log_odds, doubts):
    """Log-odds of labels that are also wrong, by a small chance, as they are doubted.

    What the input is sure to be right is ordered by the network then, which tells the
    samples that were hard to learn.
    """
    chance = DOUBT * np.maximum(doubts, LEAST)
    return np.logaddexp(log_odds, np.log(chance)) - np.log1p(-chance)


@dataclass
class InputPart:
    """One part of what goes into the network, and its readers.

    Parameters
    ----------
    name : str
    columns : ndarray of int
        Those that some sample has.
    signed : bool
        Whether numbers may be negative; cones are learned from both sides then.
    """

    name: str
    columns: np.ndarray
    signed: bool
    readers: list = field(default_factory=list)
    spread: float = 1.0  # of the areas to its cones
    widest: np.ndarray | None = None  # the columns that cones are of; None: all

    @property
    def counts(self):
        """Whether its rows are counts of ids."""
        return is_counts(self.name)

    def make_readers(self, rows, n_classes, device, random_state, n_landmarks):
        """Readers that have not learned yet, for unscaled rows."""
        scaler = Scaler(self.counts).fit(rows)
        found = [
            RidgeReader(scaler, gaussian, device, random_state, n_landmarks)
            for gaussian in (False, True)
        ]
        few = self.counts or len(self.columns) <= MAX_FOREST_FEATURES
        if few and len(rows) > 1 and n_classes <= MAX_FOREST_CLASSES:
            found.append(ForestReader(random_state))
        return found

    def narrow(self, A, width):
        """Choose the columns that vary most, where cones of all would take too much."""
        if A.shape[1] > width:
            self.widest = np.sort(np.argsort(-A.var(0), kind="stable")[:width])

    def cone_rows(self, A):
        """Make unit rows that cones are learned from, non-negative if they must be."""
        if self.widest is not None:
            A = A[:, self.widest]
        if self.signed:
            A = torch.cat([A.clamp(min=0), A.neg().clamp_(min=0)], 1)
        return unit_rows(A)[0]

    def learn_spread(self, areas):
        """Learn how far areas of samples to the cones are spread over the classes."""
        areas = np.nan_to_num(areas, nan=1.0)
        self.spread = float((areas - areas.mean(1, keepdims=True)).std()) or 1.0

    def cone_answers(self, areas):
        """Make answers of the areas to the cones of all classes."""
        areas = np.nan_to_num(areas, nan=1.0)
        return (areas.mean(1, keepdims=True) - areas) / self.spread


@dataclass
class SampleScorer:
    """Learn from samples and their labels how likely a label is wrong.

    Parameters
    ----------
    compression : object
        What learns the cones.
    ranks : list of int
        The ranks of the cones, over which residuals are averaged.
    device : str or torch.device
        Where to compute.
    layers : "relu", "auto" or list of str
        The layers.
    random_state : int
        Seeds the draw of samples, the folds and the readers.
    """

    compression: object
    ranks: list
    device: object
    layers: object
    random_state: int
    parts: dict = field(default_factory=dict, init=False)
    told: np.ndarray | None = field(default=None, init=False)  # by the training
    cones: dict = field(default_factory=dict, init=False)

    @property
    def names(self):
        """The parts of the input, the layers, and the training if it was watched."""
        return [*self.parts, *self.columns_of_evidence[1:]]

    @property
    def columns_of_evidence(self):
        """Names of what adds to a score, the part of the input that says most first."""
        training = [] if self.told is None else [TRAINING]
        return [self.main_part, *self.layer_names, *training]

    @property
    def layer_names(self):
        """The layers."""
        return [name for name in self.cones if not is_input(name)]

    def fit(self, network, X, codes, n_classes, *, trajectory=None, n_jobs=None, verbose=0):
        """Learn from samples and their labels, and from the training's trajectory."""
        self.present = np.unique(codes)
        # All classes without samples are one, whatever their number.
        self.n_classes = len(self.present) + (len(self.present) < n_classes)
        self._trajectory = trajectory
        self.n_landmarks = affordable_landmarks()  # whatever the number of workers
        self.features = SampleFeatures(
            self.layers,
            self.n_classes,
            network.row_dtype,
            nonnegative=self.compression.nonnegative,
        )
        index = self._draw(codes)
        counts = np.bincount(self._own(codes), minlength=self.n_classes)
        codes = codes[index]
        with Workers(n_jobs, verbose) as workers:
            stream = SampleStream(workers, network, X, self.features, len(index))
            n_numbers = sum(stream.n_features.values())
            with RowStore(len(index), n_numbers, network.row_dtype) as store:
                keys = np.zeros(len(index), np.int64)
                doubts = np.zeros(len(index), np.float32)
                for place, (rows, *own) in stream.run(
                    index, unit_blocks, codes, description="activations"
                ):
                    store.put(place, rows)
                    keys[place], doubts[place] = own
                self.known = KnownSamples(keys, codes)
                with memory.within("cones", "learning"):
                    self._learn(workers, store.rows, self._own(codes), doubts, counts)
        del self._trajectory

    def _own(self, codes):
        """Codes among the classes that have samples; all others are one more."""
        place = np.searchsorted(self.present, codes).clip(max=len(self.present) - 1)
        return np.where(self.present[place] == codes, place, len(self.present))

    def _learn(self, workers, rows, codes, doubts, counts):
        """Learn from rows by layer."""
        first, place = self.known.first, self.known.place
        self.folds = deal(codes[first], N_FOLDS, self.random_state)
        answers = self._learn_readers(workers, rows, codes[first], first)
        drawn = np.bincount(codes, minlength=len(counts))
        importance = counts[codes[first]] / drawn[codes[first]] / counts.sum()
        self.importance = importance * self.known.counts
        keep = np.ones(len(codes), dtype=bool)
        if len(answers):
            noise = LabelNoise()
            wrong, _ = noise.fit(np.stack(answers), codes[first], self.random_state)
            keep = kept(wrong, codes[first])[place]
        areas = self._learn_cones(workers, rows, codes, keep)
        if not self.parts:  # nothing goes in that could be read: the first layer has to do
            self.parts = {name: InputPart(name, None, False) for name in [*self.cones][:1]}
        for name, part in self._parts_with_cones():
            part.learn_spread(areas[name])
            answers.append(part.cone_answers(areas[name])[first])
        self.answers = np.stack(answers).astype(np.float32)
        contrasts = np.stack(
            [
                contrast(
                    torch.from_numpy(areas[name][first]), torch.from_numpy(codes[first])
                )
                for name in self.layer_names
            ],
            1,
        )
        if self._trajectory is not None:
            self.told = self._trajectory.mean_losses(self.known.names)
        every = np.arange(len(first))
        columns = self._columns(contrasts, every)
        doubts = self._doubts(doubts[first], every)
        self._weigh(columns, doubts, codes[first])

    def _columns(self, contrasts, place):
        """Contrasts, and what the training told of the samples at a place, or else -1."""
        if self.told is None:
            return contrasts
        told = np.where(place < 0, np.nan, self.told[place])
        told = np.where(np.isnan(told), np.nanmean(self.told), told)
        return np.column_stack([contrasts, told]).astype(contrasts.dtype)

    def _doubts(self, doubts, place):
        """Doubts in labels: those of the training, where it was watched, at a place."""
        if self.told is None:
            return doubts
        told = np.where(place < 0, np.nan, -np.expm1(-self.told[place]))
        return np.where(np.isnan(told), doubts, told)

    def _weigh(self, columns, doubts, codes):
        """Learn how far to believe the readers and the layers; score the known samples."""
        self.noise = LabelNoise()
        wrong, right = self.noise.fit(self.answers, codes, self.random_state)
        self.share_wrong = self.noise.share_wrong(self.answers, codes, self.importance)
        odds = log_odds(wrong, right)
        self.evidence = LayerEvidence().fit(odds, columns)
        scores = doubted(self.evidence(odds, columns), doubts)
        self.threshold = float(logit(flagging_threshold(expit(scores), self.importance)))
        self.known_scores = scores
        spread = np.column_stack([odds, columns * self.evidence.weights]).std(0)
        by_part = self._shares_of_parts(codes)
        weights = np.concatenate([spread[:1] * by_part, spread[1:]])
        weights = weights if weights.any() else np.ones(len(weights))
        self.weights = weights / weights.sum()
        self.main_part = [*self.parts][int(by_part.argmax())]

    def offset(self, share):
        """Score above which a share of the samples is."""
        order = np.argsort(-self.known_scores, kind="stable")
        above = np.cumsum(self.importance[order])
        last = int(np.searchsorted(above, share * (1 + 1e-9), side="right"))
        scores = self.known_scores[order]
        if last == 0 or last == len(scores):  # none, or all of them
            return float(np.nextafter(scores[0], np.inf) if last == 0 else scores[-1] - 1)
        return float((scores[last - 1] + scores[last]) / 2)

    def _shares_of_parts(self, codes):
        """How much each part of the input has to say, in all 1."""
        answers = torch.from_numpy(self.answers)
        own = torch.from_numpy(codes)
        spread = np.array([float(contrast(-a, own).std(correction=0)) for a in answers])
        names = [name for name, part in self.parts.items() for _ in part.readers]
        names += [name for name, _ in self._parts_with_cones()]
        told = dict.fromkeys(self.parts, 0.0)
        for name, amount in zip(names, spread * self.noise.weights, strict=True):
            told[name] += amount
        shares = np.array([*told.values()])
        return shares / shares.sum() if shares.any() else shares + 1 / len(shares)

    def _parts_with_cones(self):
        """Yield the parts of the input that have cones, and their names."""
        for name in self.cones:
            if name in self.parts:
                yield name, self.parts[name]

    def _learn_readers(self, workers, rows, codes, first):
        """Let readers learn from the input's parts; their answers, reader by reader."""
        tasks = []
        for name in filter(is_input, rows):
            A = rows[name]
            columns = np.flatnonzero((A != 0).any(0))
            signed = self.compression.nonnegative and bool((A < 0).any())
            part = self.parts[name] = InputPart(name, columns, signed)
            if len(columns):
                own = A[np.ix_(first, columns)]
                shared = workers.share(own)
                readers = part.make_readers(
                    own, self.n_classes, self.device, self.random_state, self.n_landmarks
                )
                tasks += [(part, reader, shared) for reader in readers]
        items = ((reader, own, codes, self.n_classes) for _, reader, own in tasks)
        results = workers.map(learn_reader, items, "input", len(tasks))
        answers = []
        for (part, _, _), (reader, own) in zip(tasks, results, strict=True):
            part.readers.append(reader)
            answers.append(own)
        return answers

    def _learn_cones(self, workers, rows, codes, keep):
        """Learn the cones of the layers, and of the input where it is numbers."""
        learner = FoldLearner(
            self.compression,
            self.device,
            1 if len(self.ranks) > 1 else 0,
            self.ranks,
            self.n_classes,
            codes,
            self.folds[self.known.place],
            keep,
        )
        units = {}
        for name, A in rows.items():
            if not is_input(name):
                units[name] = A
            elif self._has_cones(name):
                part = self.parts[name]
                sides = 1 + part.signed
                n_cones = N_FOLDS * self.n_classes * sum(self.ranks) * sides
                part.narrow(A, max(LEAST_COLUMNS, MOST_NUMBERS // n_cones))
                units[name] = part.cone_rows(torch.from_numpy(A)).numpy()
        self.cones, areas = learn_cones(workers, learner, units)
        return areas

    def _has_cones(self, name):
        whole = f"{name} {COUNTS}" in self.parts  # numbers that may be ids
        return not self.parts[name].counts and not whole

    def score(
        self, network, X, n_samples, codes=None, *, layers=True, n_jobs=None, verbose=0
    ):
        """Score samples for their labels, or for what the network predicts.

        Returns
        -------
        scores : SampleScores
            Without ``layers``, the contrasts are left out.
        """
        n_layers = len(self.layer_names) if layers else 0
        result = SampleScores(
            np.empty((n_samples, n_layers), np.float32),
            np.empty((n_samples, len(self.columns_of_evidence)), np.float32),
            np.empty(n_samples, np.float32),
            np.empty(n_samples, np.int64),
            np.empty(n_samples, np.float32),
        )
        extra = (3 + len(self.answers)) * self.n_classes + 4 * len(self.names)
        with Workers(n_jobs, verbose) as workers:
            stream = SampleStream(workers, network, X, self.features, n_samples, extra)
            for place, scores in stream.run(
                np.arange(n_samples),
                self.score_block,
                codes,
                predict=codes is None,
                description="samples",
            ):
                result.score[place] = scores.score
                result.suggested[place] = scores.suggested
                result.certainty[place] = scores.certainty
                result.evidence[place] = scores.evidence
                if layers:
                    result.contrast[place] = scores.contrast
        return result

    def score_block(self, block):
        """Score the samples of a block."""
        place = self.known.of(labelled(block.keys, block.codes))
        known = place >= 0
        codes = self._own(block.codes)
        areas = self._areas(block, place)
        answers = np.empty((len(self.answers), len(codes), self.n_classes), np.float32)
        answers[:, known] = self.answers[:, place[known]]
        new = np.flatnonzero(~known)
        if len(new):
            answers[:, new] = self._answers(block, areas, new)
        own = torch.from_numpy(codes)
        contrasts = np.zeros((len(codes), len(self.layer_names)), np.float32)
        for i, name in enumerate(self.layer_names):
            if name in areas:
                contrasts[:, i] = contrast(areas[name], own).numpy()
        wrong, right = self.noise.wrong(answers, codes)
        odds = log_odds(wrong, right)
        columns = self._columns(contrasts, place)
        doubts = self._doubts(block.doubts, place)
        classes = self.noise.classes(answers)[:, : len(self.present)]
        return SampleScores(
            contrasts,
            np.column_stack([odds, self.evidence.added(columns)]),
            doubted(self.evidence(odds, columns), doubts),
            self.present[classes.argmax(1)],
            classes.max(1),
        )

    def _areas(self, block, place):
        """Areas of samples to the cones of every layer that they reach, by layer.

        Known samples have those of the fold without them, and others of the first.
        """
        folds = np.where(place < 0, 0, self.folds[place])
        found = {}
        for name, cones in self.cones.items():
            if name not in block.rows:  # which no sample of the block reaches
                continue
            A = block.rows[name]
            A = self.parts[name].cone_rows(A) if name in self.parts else unit_rows(A)[0]
            found[name] = torch.zeros(len(place), self.n_classes, dtype=A.dtype)

            def use(place, areas, found=found[name]):
                found[place.cpu()] = areas.cpu()

            cones.compare(A, folds, use)
        return found

    def _answers(self, block, areas, chosen):
        """Ask the readers about samples that they have not learned from."""
        found = []
        for name, part in self.parts.items():
            if part.readers:
                A = block.rows[name][torch.from_numpy(chosen)][:, part.columns].cpu()
                found += [log_shares(reader.predict(A)) for reader in part.readers]
        for name, part in self._parts_with_cones():
            found.append(part.cone_answers(areas[name][chosen].numpy()))
        return np.stack(found)

    def _draw(self, codes):
        """Draw the samples to learn from, sorted: a number of every class."""
        few = max(SAMPLES_PER_CLASS, SAMPLES_OF_FEW // self.n_classes)
        share = max(MIN_SAMPLES, MAX_SAMPLES // self.n_classes)
        share = max(2, min(share, MOST_ANSWERS // self.n_classes**2))
        order = np.random.default_rng(self.random_state).permutation(len(codes))
        order = order[np.argsort(codes[order], kind="stable")]
        counts = np.bincount(codes)
        place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(order[place < min(share, few)])

"""Measure a network again and again while it trains, on the same training samples."""

import math
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.utils import multi_indexing
from torch.utils.data import IterableDataset

from sknonlin._factorization.compressions import make_compression
from sknonlin._matrices.products import FLOOR
from sknonlin._matrices.stack import NotFiniteError
from sknonlin._memorization.forward_pass import Pass, PassSettings
from sknonlin._memorization.true_labels import read_labels
from sknonlin._network.adapters import Network, as_network
from sknonlin._network.layers import (
    N_LISTED,
    NO_SAMPLES,
    Capture,
    Trust,
    pass_samples,
    quick_samples,
)
from sknonlin._network.samples import as_arrays, check_labels
from sknonlin._running.validation import Layers, RandomState, Ranks, check_ranks, validated
from sknonlin.curves import area_under_curve

CONSTRAINTS = {
    "layers": [StrOptions({"relu", "auto"}), "array-like"],
    "ranks": [StrOptions({"auto"}), "array-like"],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 4, None, closed="left")],
    "n_batches": [Interval(Integral, 1, None, closed="left")],
    "n_samples": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
    "random_state": ["random_state"],
}
N_READ = 2000  # samples whose true labels are looked for, and as many that count at most
N_ANSWERS = 1000  # samples that count, or a share of a large training set
PART_OF_ANSWERS = 30
SHARPNESS = 8  # power of the probabilities: nearly votes, but less noisy
N_LEAST = 100  # samples of a batch, however large the activations are
# Answers are read from it, not errors: they hardly change with more iterations.
COMPRESSION = make_compression(
    "nmf", max_iter=12, tol=1e-3, max_rows=1000, random_state=0, all_errors=False
)


class NonlinearityMonitor:
    """Measure a network, as often as asked, on the same few training samples.

    Before the first measurement, the labels that the other samples speak for are found for
    every sample from its input, and how often labels are wrong; both together give
    probabilities of its true label. The score is the share of answers that are right by
    them, unsure answers counting in part: it rises while the network learns, and falls when
    it learns wrong labels by heart. Where no label seems wrong, it is nearly the training
    accuracy, which does not fall.

    Where the input tells less than two thirds of the labels, the score is that of the
    layers. The samples are cut into two halves. One layer's activations are replaced by
    their non-negative approximation at a low rank [1]_, each half with the components
    learned from the other, and the rest of the network runs on. The layer's score is the
    share of samples that get the label given to them, times the ratio of this share to
    that without replacement (at most 1). That of the weakest layer, averaged over this
    measurement and the one before, is multiplied by the share of samples whose answer is
    the same in both [2]_.

    Parameters
    ----------
    X : array-like, tensor, tuple or dict of them, or torch Dataset
        The training samples, as the network takes them.
    y : array-like of shape (n_samples,)
        Their labels, as in :func:`layer_profile`.
    layers : "relu", "auto" or list of str, default="relu"
        As in :func:`layer_profile`.
    ranks : "auto" or iterable of int, default="auto"
        Increasing ranks; the score is the area under its curve over them. ``"auto"`` is
        one and a half times the number of classes, or a quarter of the samples of a half
        where that is less. A layer with fewer units than four thirds of a rank counts as
        one that loses nothing.
    batch_size : "auto" or int, default="auto"
        Samples in a batch; the training set's number where it has fewer. ``"auto"`` is a
        tenth of the training set, at least 300 and at most 1,000. Where the activations of
        a batch would be more than 2**26 numbers, it is cut to that, but not below 100.
    n_batches : int, default=1
        Batches, whose scores are averaged; as many as there are samples for.
    n_samples : "auto" or int, default="auto"
        Samples whose answers count, at most 2,000. ``"auto"`` is 1,000, or one in thirty
        where that is more. 0: the score is that of the layers.
    random_state : int, RandomState instance or None, default=0
        Chooses the samples.

    Attributes
    ----------
    y : ndarray of shape (n_measured,)
        The labels of the samples chosen.
    layer_names_ : list of str
        The layers that were found.
    scores_ : list of float
        What :meth:`update` returned, call by call.
    layer_scores_ : list of dict of str to float
        The scores of all layers, call by call. Where they are not the score, they are
        measured more and more seldom, in the calls 1, 2, 3, 4, 6, 9, 14 and so on; in
        between they are those of the measurement before.
    sample_scores_ : ndarray of shape (n_samples,) or None
        Of the last measurement: how likely the answer to each sample is right. Their mean
        is the score. None where the score is that of the layers.
    wrong_share_ : float
        Expected share of labels that are wrong; NaN where it is not known.

    Raises
    ------
    ValueError
        If X and y have different lengths, or fewer than four samples.
    TypeError
        If samples cannot be chosen from X.

    Notes
    -----
    Where the score is that of the layers, measurements that lie further apart, in steps of
    the training, are not comparable: more answers change in between.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).
    .. [2] S. Yuan, L. Feng, T. Liu, "Early Stopping Against Label Noise Without
       Validation Data", ICLR (2024).

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sknonlin.callbacks import NonlinearityMonitor
    >>> X, y = load_digits(return_X_y=True)
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    ... )
    >>> monitor = NonlinearityMonitor(X, y, batch_size=100)
    >>> score = monitor.update(net)
    >>> for epoch in range(3):  # with the training's steps in here
    ...     score = monitor.update(net)
    >>> len(monitor.scores_), 0 <= score <= 1
    (4, True)
    """

    @validated(CONSTRAINTS)
    def __init__(
        self,
        X: Any,
        y: ArrayLike,
        *,
        layers: Layers = "relu",
        ranks: Ranks = "auto",
        batch_size: str | int = "auto",
        n_batches: int = 1,
        n_samples: str | int = "auto",
        random_state: RandomState = 0,
    ) -> None:
        if isinstance(X, IterableDataset):
            raise TypeError(
                f"X is a {type(X).__name__}, whose samples cannot be chosen. Collect some "
                "of them first, and give those."
            )
        X = as_arrays(X)
        labels = check_labels(X, y)
        self.layers = layers
        seed = check_random_state(random_state).randint(2**31 - 1)
        shape = halves_shape(len(labels), batch_size, n_batches)
        self.n_samples = n_answers(len(labels), n_samples)
        chosen = choose(len(labels), n_chosen(shape, self.n_samples), seed)
        order = np.random.default_rng(seed).permutation(len(chosen))
        self._batches = order[: math.prod(shape)].reshape(shape)
        self._answered = np.sort(order[: self.n_samples])
        self._samples, self._chosen, self.y = X, chosen, labels[chosen]
        self.ranks = self._auto_ranks() if isinstance(ranks, str) else check_ranks(ranks)
        self.scores_: list[float] = []
        self.layer_scores_: list[dict] = []
        self.sample_scores_: np.ndarray | None = None
        self.wrong_share_ = math.nan
        self._before: tuple | None = None  # the measurement before
        self._seed, self._trust = seed, Trust()
        self._shares: Any = ()  # of the true labels; None where they are not known

    def _auto_ranks(self):
        """One rank that has room for what classes share, and for little more."""
        n_classes = len(np.unique(self.y))
        return [max(1, min(3 * n_classes // 2, self._batches.shape[2] // 4))]

    def keep_as_taken(self) -> None:
        """Keep the samples as they are: tensors that a network took, on its device."""
        self._samples = multi_indexing(self._samples, self._chosen)
        self._chosen = None

    def _sample(self, network, index):
        """Take samples as a batch; the first call lets go of what is not chosen."""
        if self._chosen is not None:
            self._samples = network.sample(self._samples, self._chosen.tolist())
            self._chosen = None
        # Past the network's own dataset, which has handed them out.
        return Network.sample(network, self._samples, index)

    def update(self, net: Any) -> float:
        """Measure a network as it is now.

        The network's mode and hooks, and the random states, are afterwards as they were.

        Parameters
        ----------
        net : torch.nn.Module, skorch net, MLPClassifier or MLPRegressor
            As in :func:`layer_profile`. A module need not be trained; scikit-learn's
            networks must have had their first ``partial_fit``.

        Returns
        -------
        score : float
            In [0, 1], the higher the better.

        Raises
        ------
        ValueError
            As :func:`layer_profile` does; also if the network is a regressor, or if its
            output is NaN or infinite. The measurement after that has none before it.
        NotFittedError
            If a scikit-learn network has not been trained at all.
        """
        before, self._before = self._before, None
        network = as_network(net)
        first, self.sample_scores_ = isinstance(self._shares, tuple), None
        layers = self.layer_scores_[-1] if self.layer_scores_ else {}
        if first or self._shares is None or is_due(len(self.scores_)):
            layers, answers = self._measure(network)
        if self._shares is None:
            weakest = min(layers.values())
            score = weakest if before is None else compared(before, (weakest, answers))
            self._before = weakest, answers
        else:
            self.sample_scores_ = self._judge(network)
            score = float(self.sample_scores_.mean())
        self.layer_scores_.append(layers)
        self.scores_.append(score)
        return score

    def _read(self, network, capture):
        """Find what the true labels may be, before the first measurement."""
        self._threshold = network.threshold
        self._most = max(N_LEAST, quick_samples(capture))
        self._shares = None
        if not self.n_samples:
            return
        codes = network.encode(self.y, capture.output).numpy()
        output = capture.output
        n_classes = max(2, output.shape[1] if output.ndim == 2 else 1)
        batch = self._sample(network, list(range(len(codes))))
        found = read_labels(batch, codes, n_classes, network.row_dtype, self._seed)
        if found is not None and found.readable:
            self._shares, self.wrong_share_ = (
                found.shares[self._answered],
                found.wrong_share,
            )

    def _judge(self, network):
        """How likely the network's answer to every sample is right."""
        network.threshold = self._threshold
        found = []
        with network.as_found(), torch.no_grad():
            for start in range(0, len(self._answered), self._most):
                part = self._answered[start : start + self._most]
                output = network.run(self._sample(network, part.tolist()))
                check_output(output)
                answers = sharpened(network.probabilities(output).double().cpu())
                shares = torch.from_numpy(self._shares[start : start + self._most])
                found.append((answers * shares[:, : answers.shape[1]]).sum(1))
        return torch.cat(found).numpy()

    def _measure(self, network):
        """Scores of every layer, averaged over the batches, and the samples' answers."""
        few = self._sample(network, list(range(N_LISTED)))
        with Capture(network, self.layers, few, N_LISTED, trust=self._trust) as capture:
            self.layer_names_ = list(capture.listed)
            if network.codes(capture.output) is None:
                raise ValueError(
                    "The network is a regressor; the score counts the labels it gives. "
                    "Use a classifier, or layer_profile, which has error curves."
                )
            if isinstance(self._shares, tuple):
                self._read(network, capture)
            codes = network.encode(self.y, capture.output)
            settings = PassSettings(COMPRESSION, self.ranks, "auto", crossed=True)
            half = max(N_LEAST, pass_samples(capture)) // 2
            scores, answers = [], []
            for halves in self._batches[:, :, :half]:
                batch = self._sample(network, halves.ravel().tolist())
                one_pass = Pass(capture, batch, codes[halves], settings)
                check_output(one_pass.tape.output)
                scores.append(layer_scores(one_pass))
                answers.append(network.codes(one_pass.tape.output).cpu())
        return mean_scores(scores), torch.cat(answers)


def sample_scores(monitor, net):
    """Score the samples of a monitor by a network as it is now, and note nothing.

    Parameters
    ----------
    monitor : NonlinearityMonitor
        That knows what the true labels may be: its ``sample_scores_`` are not None.
    net : torch.nn.Module or skorch net
    """
    return monitor._judge(as_network(net))


def sharpened(probabilities):
    """Turn probabilities into answers, nearly votes."""
    answers = probabilities**SHARPNESS
    return answers / answers.sum(1, keepdims=True)


def is_due(count):
    """Whether layers are measured after so many measurements: a number of Fibonacci."""
    a, b = 0, 1
    while a < count:
        a, b = b, a + b
    return a == count


def compared(before, now):
    """Score of two measurements, each the weakest layer's score and the answers."""
    unchanged = (now[1] == before[1]).double().mean().item()
    return (now[0] + before[0]) / 2 * unchanged


def check_output(output):
    """Refuse outputs of which no answer can be read.

    Raises
    ------
    NotFiniteError
        For NaN and infinite values.
    """
    if not torch.isfinite(output).all():
        raise NotFiniteError(
            "The network's output contains NaN or infinity. Check its last layers, and the "
            "training for divergence."
        )


def layer_scores(one_pass):
    """Score every layer of a pass over two halves of a batch."""
    accuracy = one_pass.accuracy.mean()
    scores = {}
    for name in one_pass.matrices:
        at_rank = one_pass.accuracies(name).mean(0)  # (n_ranks,)
        kept = np.minimum(1, at_rank / max(accuracy, FLOOR))
        scores[name] = area_under_curve(one_pass.settings.ranks, at_rank * kept)
    return scores


def mean_scores(scores):
    """Average the layers over the batches in which the network had them.

    Raises
    ------
    ValueError
        If there are none.
    """
    names = list(dict.fromkeys(name for layers in scores for name in layers))
    if not names:
        raise ValueError(NO_SAMPLES)
    return {
        name: float(np.mean([layers[name] for layers in scores if name in layers]))
        for name in names
    }


def halves_shape(n_samples, batch_size, n_batches):
    """Numbers of batches, of halves, and of samples in a half.

    Raises
    ------
    ValueError
        If there are not four samples.
    """
    if isinstance(batch_size, str):
        batch_size = min(max(n_samples // 10, 300), 1000)
    half = min(batch_size, n_samples) // 2
    if half < 2:
        raise ValueError(
            f"X has {n_samples} samples; two halves of at least two samples are needed."
        )
    return min(n_batches, n_samples // (2 * half)), 2, half


def n_answers(n_samples, asked):
    """Count the samples whose answers count."""
    if isinstance(asked, str):
        asked = max(N_ANSWERS, n_samples // PART_OF_ANSWERS)
    return min(asked, n_samples, N_READ)


def n_chosen(shape, n_answers):
    """Count the samples that are kept: for the batches, and to find the true labels."""
    return max(math.prod(shape), N_READ if n_answers else 0)


def choose(n_samples, n_chosen, seed):
    """Choose some samples at random, sorted; all of them where there are no more."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(n_samples)[:n_chosen])

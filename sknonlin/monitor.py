"""Measure a network again and again while it trains, on the same training samples."""

import math
import random
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from skorch.utils import multi_indexing

from sknonlin._networks import Network, as_network
from sknonlin._ranks import check_ranks
from sknonlin._replays import Pass, PassSettings
from sknonlin._updates import FLOOR
from sknonlin.activations import Capture
from sknonlin.compression import NMFCompression
from sknonlin.curves import area_under_curve
from sknonlin.profile import N_LISTED, check_labels

BATCH_CONSTRAINTS = {
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 4, None, closed="left")],
    "n_batches": [Interval(Integral, 1, None, closed="left")],
}
# Answers, not errors, are read from it: they do not change with its last digits.
COMPRESSION = NMFCompression(
    max_iter=12, tol=1e-3, max_rows=1000, random_state=0, all_errors=False
)


@contextmanager
def random_states_kept():
    """Leave Python's and numpy's random states as they were; a dataset may draw."""
    shared = check_random_state(None)  # numpy's own
    python, numpy = random.getstate(), shared.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        shared.set_state(numpy)


class NonlinearityMonitor:
    """Measure a network, as often as asked, on the same few training samples.

    The samples, all classes mixed, are cut into two halves. One layer's activations are
    replaced by their non-negative approximation at a low rank, each half with the
    components learned from the other, and the rest of the network runs on. The layer's
    score is the share of samples that still get the label given to them, times the share
    of the right answers that survived; the network's is that of its weakest layer. It
    rises while the network learns what samples have in common, and falls when it gets
    more and more labels right that only the single sample's own activations can tell.

    Parameters
    ----------
    X : array-like, tensor, tuple or dict of them, or torch Dataset
        The training samples, as the network takes them.
    y : array-like of shape (n_samples,)
        Their labels, as in :func:`layer_profile`.
    layers : "relu" or list of str, default="relu"
        As in :func:`layer_profile`.
    ranks : "auto" or iterable of int, default="auto"
        Increasing ranks; the score is the area under its curve over them. ``"auto"`` is
        one and a half times the number of classes, or a quarter of the samples of a half
        where that is less.
    batch_size : "auto" or int, default="auto"
        Samples in a batch; the training set's number where it has fewer. ``"auto"`` is a
        tenth of the training set, at least 300 and at most 1,000.
    n_batches : int, default=1
        Batches, whose scores are averaged; as many as there are samples for.
    random_state : int, RandomState instance or None, default=0
        Chooses the samples.

    Attributes
    ----------
    scores_ : list of float
        What :meth:`update` returned, call by call.
    layer_scores_ : list of dict of str to float
        The scores of all layers, call by call.

    Raises
    ------
    ValueError
        If X and y have different lengths, or fewer than four samples.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).

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
    >>> for epoch in range(3):  # with the training's steps in here
    ...     score = monitor.update(net)
    >>> len(monitor.scores_), 0 <= score <= 1
    (3, True)
    """

    @validate_params(
        {
            "layers": [StrOptions({"relu"}), "array-like"],
            "ranks": [StrOptions({"auto"}), "array-like"],
            **BATCH_CONSTRAINTS,
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        X,
        y,
        *,
        layers="relu",
        ranks="auto",
        batch_size="auto",
        n_batches=1,
        random_state=0,
    ):
        y = check_labels(X, y)
        self.layers = layers
        seed = check_random_state(random_state).randint(2**31 - 1)
        shape = halves_shape(len(y), batch_size, n_batches)
        chosen = choose(len(y), math.prod(shape), seed)
        self._batches = np.random.default_rng(seed).permutation(len(chosen)).reshape(shape)
        self._samples, self._chosen, self.y = X, chosen, y[chosen]
        self.ranks = self._auto_ranks() if isinstance(ranks, str) else check_ranks(ranks)
        self.scores_, self.layer_scores_ = [], []

    def _auto_ranks(self):
        """One rank that has room for what classes share, and for little more."""
        n_classes = len(np.unique(self.y))
        return [max(1, min(3 * n_classes // 2, self._batches.shape[2] // 4))]

    def _network(self, net):
        """Wrap a network; keep the samples on its device, and nothing else of X."""
        network = as_network(net)
        if self._chosen is not None:
            with random_states_kept():
                self._samples = network.take(self._samples, self._chosen.tolist())
            self._chosen = None
        return Taken(network)

    def keep_as_taken(self):
        """Keep the samples as they are: they are tensors that the network took."""
        self._samples = multi_indexing(self._samples, self._chosen)
        self._chosen = None

    def check(self, net):
        """Refuse a network that cannot be measured, before it is trained.

        Parameters
        ----------
        net : torch.nn.Module, skorch net, MLPClassifier or MLPRegressor
            As in :func:`layer_profile`; it need not be trained.

        Raises
        ------
        ValueError
            If it has no ReLU, or not the layers named; if it does not classify, or does
            not know the labels.
        """
        network = self._network(net)
        with self._capture(network) as capture:
            if network.codes(capture.output) is None:
                raise ValueError(
                    "The network is a regressor; the score counts the labels it gives. "
                    "Use a classifier, or layer_profile, which has error curves."
                )
            network.encode(self.y, capture.output)

    def update(self, net):
        """Measure a network as it is now.

        The network's mode and hooks, and the random states, are afterwards as they were.

        Parameters
        ----------
        net : torch.nn.Module, skorch net, MLPClassifier or MLPRegressor
            As in :func:`layer_profile`; it need not be trained.

        Returns
        -------
        score : float
            In [0, 1], the higher the better; that of the weakest layer.

        Raises
        ------
        ValueError
            As :func:`layer_profile` does.
        """
        areas = self._measure(self._network(net))
        self.layer_scores_.append(areas)
        self.scores_.append(min(areas.values()))
        return self.scores_[-1]

    def _capture(self, network):
        few = network.take(self._samples, list(range(N_LISTED)))
        return Capture(network, self.layers, few, N_LISTED)

    def _measure(self, network):
        """Score every layer, averaged over the batches."""
        with self._capture(network) as capture:
            codes = network.encode(self.y, capture.output)
            areas = [
                layer_scores(
                    Pass(
                        capture,
                        network.take(self._samples, halves.ravel().tolist()),
                        codes[halves],
                        PassSettings(COMPRESSION, self.ranks, "auto", crossed=True),
                    )
                )
                for halves in self._batches
            ]
        return {
            name: float(np.mean([area[name] for area in areas if name in area]))
            for name in dict.fromkeys(name for area in areas for name in area)
        }


def layer_scores(one_pass):
    """Score every layer of a pass over two halves of a batch."""
    accuracy = one_pass.accuracy.mean()
    scores = {}
    for name in one_pass.matrices:
        at_rank = one_pass.accuracies(name).mean(0)  # (n_ranks,)
        kept = np.minimum(1, at_rank / max(accuracy, FLOOR))
        scores[name] = area_under_curve(one_pass.settings.ranks, at_rank * kept)
    return scores


class Taken:
    """A network whose samples are tensors that it took before."""

    def __init__(self, network):
        self._network = network

    def __getattr__(self, name):
        return getattr(self._network, name)

    def take(self, X, index):
        """Take samples of tensors, past the network's own dataset."""
        return Network.take(self._network, X, index)


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


def choose(n_samples, n_chosen, seed):
    """Choose some samples at random, sorted; all of them where there are no more."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(n_samples)[:n_chosen])

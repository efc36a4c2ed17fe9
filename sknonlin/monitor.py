"""Measure a network again and again while it trains, on the same training samples."""

import random
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from skorch.utils import multi_indexing

from sknonlin._networks import Network, as_network
from sknonlin.activations import Capture
from sknonlin.nonlinearity import ActivationNonlinearity
from sknonlin.profile import N_LISTED, check_labels, profile_network

RANKS = (2, 4, 8, 16)


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

    Its one number is the area under the accuracy curve of the weakest layer: the share
    of mixed batches that still gets its labels when the activations of one layer are
    replaced by their non-negative factorization at low ranks. It rises while the network
    learns a rule, and falls when it begins to memorize.

    Parameters
    ----------
    X : array-like, tensor, tuple or dict of them, or torch Dataset
        The training samples, as the network takes them.
    y : array-like of shape (n_samples,)
        Their labels, as in :func:`layer_profile`.
    layers : "relu" or list of str, default="relu"
        As in :func:`layer_profile`.
    ranks : iterable of int, default=(2, 4, 8, 16)
        Increasing ranks.
    batch_size : int, default=400
        Samples in a batch; the training set's number where it has fewer.
    n_batches : int, default=1
        Batches, whose accuracies are averaged.
    random_state : int, RandomState instance or None, default=0
        Chooses the samples.

    Attributes
    ----------
    scores_ : list of float
        What :meth:`update` returned, call by call.
    layer_scores_ : list of dict of str to float
        The areas of all layers, call by call.

    Raises
    ------
    ValueError
        If X and y have different lengths.

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
            "ranks": ["array-like"],
            "batch_size": [Interval(Integral, 2, None, closed="left")],
            "n_batches": [Interval(Integral, 1, None, closed="left")],
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
        ranks=RANKS,
        batch_size=400,
        n_batches=1,
        random_state=0,
    ):
        y = check_labels(X, y)
        self.layers = layers
        self.batch_size = batch_size
        self.n_batches = n_batches
        self.seed = check_random_state(random_state).randint(2**31 - 1)
        self.scorer = ActivationNonlinearity(list(ranks))
        chosen = choose(len(y), batch_size * n_batches, self.seed)
        self._samples, self._chosen, self.y = X, chosen, y[chosen]
        self.scores_, self.layer_scores_ = [], []

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
        few = min(N_LISTED, len(self.y))
        batch = network.take(self._samples, list(range(few)))
        with Capture(network, self.layers, batch, few) as capture:
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
            As in :func:`layer_profile`.

        Returns
        -------
        score : float
            In [0, 1], the higher the better; the smallest area of any layer.

        Raises
        ------
        ValueError
            As :func:`layer_profile` does.
        """
        network = self._network(net)
        profile = profile_network(
            network,
            self._samples,
            self.y,
            self.scorer,
            layers=self.layers,
            batch_size=self.batch_size,
            n_batches=self.n_batches,
            by_class=False,
            random_state=self.seed,
        )
        areas = profile.accuracy_auc
        self.layer_scores_.append(
            dict(zip(profile.layer_names, areas.tolist(), strict=True))
        )
        self.scores_.append(float(np.nanmin(areas)))
        return self.scores_[-1]


class Taken:
    """A network whose samples are tensors that it took before."""

    def __init__(self, network):
        self._network = network

    def __getattr__(self, name):
        return getattr(self._network, name)

    def take(self, X, index):
        """Take samples of tensors, past the network's own dataset."""
        return Network.take(self._network, X, index)


def choose(n_samples, n_chosen, seed):
    """Choose some samples at random, sorted; all of them where there are no more."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(n_samples)[:n_chosen])

"""Watch memorization while a skorch net trains."""

import math
import warnings
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from skorch.callbacks import Callback
from skorch.dataset import get_len
from torch.utils.data import IterableDataset, Subset

from sknonlin._networks import first_of
from sknonlin._replays import NotFiniteError
from sknonlin.monitor import (
    BATCH_CONSTRAINTS,
    NonlinearityMonitor,
    choose,
    halves_shape,
    random_states_kept,
)

__all__ = ["NonlinearityMonitor", "NonlinearityScoring"]


class NonlinearityScoring(Callback):
    """Write to a skorch net's history how far it has memorized.

    At the end of an epoch it measures the network on fixed batches of its training data,
    as :class:`NonlinearityMonitor` does. Stopping is skorch's: put ``EarlyStopping(
    monitor="nmf_auc", lower_is_better=False, load_best=True)`` after it.

    Parameters
    ----------
    name : str, default="nmf_auc"
        Column of the history; with ``_best`` appended that which tells whether an epoch
        was the best so far, for ``Checkpoint``; with ``_<layer>`` those of the layers.
    layers : "relu" or list of str, default="relu"
        As in :func:`layer_profile`.
    every : int, default=1
        Epochs, or batches, from one measurement to the next. In between, an epoch has
        the values of the one before.
    unit : {"epoch", "batch"}, default="epoch"
        What ``every`` counts. Measured by batches, the history has a row for each of
        these batches with the score, and for the epoch the last one.
    ranks : "auto" or iterable of int, default="auto"
        As in :class:`NonlinearityMonitor`.
    batch_size : "auto" or int, default="auto"
        Samples in a measured batch, as in :class:`NonlinearityMonitor`.
    n_batches : int, default=1
        Measured batches, as in :class:`NonlinearityMonitor`.
    random_state : int, RandomState instance or None, default=0
        Chooses their samples.

    Raises
    ------
    ValueError
        At the beginning of the training: if the network has no ReLU or not the layers
        named, or does not classify; if the training data cannot be indexed.

    Notes
    -----
    The training is the same, to the last bit, as without it. Where activations are NaN or
    infinite it warns once, writes NaN, and the training goes on.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from sknonlin.callbacks import NonlinearityScoring
    >>> X, y = load_digits(return_X_y=True)
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    ... )
    >>> net = NeuralNetClassifier(
    ...     module,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     max_epochs=2,
    ...     train_split=None,
    ...     verbose=0,
    ...     callbacks=[NonlinearityScoring(batch_size=100)],
    ... )
    >>> net = net.fit(X.astype("float32"), y)
    >>> len(net.history[:, "nmf_auc"]), sorted(set(net.history[-1]) & {"nmf_auc_1"})
    (2, ['nmf_auc_1'])
    """

    def __init__(
        self,
        name="nmf_auc",
        layers="relu",
        every=1,
        unit="epoch",
        ranks="auto",
        batch_size="auto",
        n_batches=1,
        random_state=0,
    ):
        self.name = name
        self.layers = layers
        self.every = every
        self.unit = unit
        self.ranks = ranks
        self.batch_size = batch_size
        self.n_batches = n_batches
        self.random_state = random_state

    def initialize(self):
        """Check the parameters, and forget what was seen before."""
        check_schedule(
            every=self.every,
            unit=self.unit,
            batch_size=self.batch_size,
            n_batches=self.n_batches,
        )
        self.best_score_ = -np.inf
        self.warned_ = False
        self._forget()
        return self

    def _forget(self):
        self.monitor_ = None
        self._count = 0
        self._columns = {}

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Begin anew, also where the training goes on from an earlier one."""
        self._forget()

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the samples, which need not be pickled."""
        self._forget()

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Before the first epoch, choose the samples and check the network."""
        if self.monitor_ is not None:
            return
        n_samples = length_of(dataset_train)
        shape = halves_shape(n_samples, self.batch_size, self.n_batches)
        X, y = self._chosen_samples(net, dataset_train, n_samples, math.prod(shape))
        monitor = NonlinearityMonitor(
            X,
            y,
            layers=self.layers,
            ranks=self.ranks,
            batch_size=2 * shape[2],
            n_batches=shape[0],
            random_state=self.random_state,
        )
        monitor.keep_as_taken()
        monitor.check(net)
        self.monitor_ = monitor

    def _chosen_samples(self, net, dataset, n_samples, n_chosen):
        """Training samples and labels, as the net's own iterator hands them out."""
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        index = choose(n_samples, n_chosen, seed)
        settings = net.get_params_for("iterator_valid") | {"batch_size": len(index)}
        with random_states_kept():
            batch = first_of(
                net.iterator_valid(Subset(dataset, index.tolist()), **settings)
            )
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                "NonlinearityScoring needs the labels of the training data: its dataset "
                "must give pairs of a sample and its label."
            )
        return batch

    def _measure(self, net):
        """Measure, and keep the columns to write."""
        try:
            score = self.monitor_.update(net)
        except NotFiniteError as error:
            if not self.warned_:
                warnings.warn(f"{self.name} is NaN from now on. {error}", stacklevel=2)
                self.warned_ = True
            self._columns = dict.fromkeys(self._columns, np.nan) | {self.name: np.nan}
            return
        layers = self.monitor_.layer_scores_[-1]
        self._columns = {self.name: score} | {
            f"{self.name}_{layer}": area for layer, area in layers.items()
        }

    def _due(self):
        self._count += 1
        return (self._count - 1) % self.every == 0

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Measure after every so many training batches, if so asked."""
        if training and self.unit == "batch" and self._due():
            self._measure(net)
            net.history.record_batch(self.name, self._columns[self.name])

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Measure, if it is time, and write the columns."""
        if self.unit == "epoch" and self._due():
            self._measure(net)
        for column, value in self._columns.items():
            net.history.record(column, value)
        best = bool(self._columns[self.name] > self.best_score_)
        if best:
            self.best_score_ = self._columns[self.name]
        net.history.record(f"{self.name}_best", best)


def length_of(dataset):
    """Count the samples of a training set.

    Raises
    ------
    ValueError
        If it has no length, and cannot be indexed.
    """
    if not hasattr(dataset, "__len__") or isinstance(dataset, IterableDataset):
        raise ValueError(
            "NonlinearityScoring takes its batches from the training data, but the "
            f"dataset, a {type(dataset).__name__}, has no length and cannot be indexed. "
            "Train on one that can be, or call a NonlinearityMonitor on samples of your "
            "own."
        )
    return get_len(dataset)


@validate_params(
    {
        "every": [Interval(Integral, 1, None, closed="left")],
        "unit": [StrOptions({"epoch", "batch"})],
        **BATCH_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def check_schedule(*, every, unit, batch_size, n_batches):
    """Refuse a schedule of measurements that is none."""

"""Watch memorization while a skorch net trains."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from skorch.callbacks import Callback
from skorch.dataset import get_len
from torch.utils._pytree import tree_leaves
from torch.utils.data import IterableDataset, Subset

from sknonlin._matrices.stack import NotFiniteError
from sknonlin._memorization.monitor import (
    CONSTRAINTS,
    NonlinearityMonitor,
    choose,
    halves_shape,
    n_answers,
    n_chosen,
)
from sknonlin._memorization.trajectory import Trajectory
from sknonlin._network.samples import joined
from sknonlin._running.torch_settings import random_state_kept
from sknonlin._running.validation import Layers, RandomState, Ranks, warn_user

SCORING_CONSTRAINTS = {
    "name": [str],
    "every": [Interval(Integral, 1, None, closed="left")],
    "unit": [StrOptions({"epoch", "batch"})],
    **CONSTRAINTS,
}


class NonlinearityScoring(Callback):
    """Write to a skorch net's history when it begins to memorize.

    Before the first epoch and at the end of each it measures the network on fixed batches
    of its training data, as :class:`NonlinearityMonitor` does. To stop, use
    :class:`MemorizationStopping` instead, or put skorch's
    ``EarlyStopping(monitor="nmf_auc", lower_is_better=False, load_best=True)`` after it.

    Parameters
    ----------
    name : str, default="nmf_auc"
        Column of the history; with ``_best`` appended that which tells whether an epoch
        was the best so far, for ``Checkpoint``; with ``_<layer>`` those of the layers.
    layers : "relu", "auto" or list of str, default="relu"
        As in :func:`layer_profile`.
    every : int, default=1
        Epochs, or batches, from one measurement to the next. In between, an epoch has
        the values of the one before.
    unit : {"epoch", "batch"}, default="epoch"
        What ``every`` counts. Measured by batches, the history has a row for each of
        these batches with the score, and for the epoch the last one.
    ranks, batch_size, n_batches, n_samples, random_state : as of \
            :class:`NonlinearityMonitor`
        What is measured, and on which samples.

    Raises
    ------
    ValueError
        At the beginning of the training: if the network has no ReLU or not the layers
        named, or does not classify; if the training data cannot be indexed.

    Notes
    -----
    The training is the same, to the last bit, as without it, unless the network or the
    dataset keeps a random state or a count of its own. Where activations or outputs are
    NaN or infinite it warns once, writes NaN, and the training goes on.

    The loss of every sample is added up over the training, too. A
    :class:`~sknonlin.MemorizationDetector` around the trained net, in a
    ``FrozenEstimator``, uses it for the scores of the samples.

    Before the first epoch it looks for the true labels of up to 2,000 samples, which takes
    about a second. Where the score is that of the layers, as in
    :class:`NonlinearityMonitor`, scores of another ``every`` or ``unit`` are not
    comparable: more answers change in between.

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
        name: str = "nmf_auc",
        layers: Layers = "relu",
        every: int = 1,
        unit: str = "epoch",
        ranks: Ranks = "auto",
        batch_size: str | int = "auto",
        n_batches: int = 1,
        n_samples: str | int = "auto",
        random_state: RandomState = 0,
    ) -> None:
        self.name = name
        self.layers = layers
        self.every = every
        self.unit = unit
        self.ranks = ranks
        self.batch_size = batch_size
        self.n_batches = n_batches
        self.n_samples = n_samples
        self.random_state = random_state

    def initialize(self):
        """Check the parameters, and forget what was seen before."""
        validate_parameter_constraints(
            SCORING_CONSTRAINTS,
            {name: getattr(self, name) for name in SCORING_CONSTRAINTS},
            type(self).__name__,
        )
        self.best_score_ = -np.inf
        self.warned_ = False
        self.monitor_ = None
        self.count_ = 0
        self.columns_ = {}
        self.trajectory_ = Trajectory().initialize()
        return self

    def __getstate__(self):
        """Leave out the samples, also in the middle of a training."""
        return self.__dict__ | {"monitor_": None}

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Begin with new samples; go on from the best score of a history that there is."""
        self.monitor_ = None
        check_order(net, self)
        self.trajectory_.on_train_begin(net)
        best = [row[self.name] for row in net.history if row.get(f"{self.name}_best")]
        self.best_score_ = best[-1] if best else -np.inf

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the samples."""
        self.monitor_ = None

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Before the first epoch, choose the samples and measure the network."""
        if self.monitor_ is not None:
            return
        self.monitor_ = self._make_monitor(net, dataset_train)
        kept = self.columns_
        self._measure(net)  # what the next measurement is compared with
        self.columns_ = kept or self.columns_

    def _make_monitor(self, net, dataset):
        """Monitor on samples of the training data, as the net's own iterator has them."""
        n_samples = length_of(dataset)
        shape = halves_shape(n_samples, self.batch_size, self.n_batches)
        answers = n_answers(n_samples, self.n_samples)
        random_state = as_seed(self.random_state)
        seed = check_random_state(random_state).randint(2**31 - 1)
        X, y = samples_of(net, dataset, choose(n_samples, n_chosen(shape, answers), seed))
        monitor = NonlinearityMonitor(
            X,
            y,
            layers=self.layers,
            ranks=self.ranks,
            batch_size=2 * shape[2],
            n_batches=shape[0],
            n_samples=answers,
            random_state=random_state,
        )
        monitor.keep_as_taken()
        return monitor

    def _measure(self, net):
        """Measure, and keep the columns to write."""
        try:
            score = self.monitor_.update(net)
            layers = self.monitor_.layer_scores_[-1]
        except NotFiniteError as error:
            if not self.warned_:
                warn_user(f"{self.name} is NaN where it cannot be measured. {error}")
                self.warned_ = True
            score, layers = np.nan, dict.fromkeys(self.monitor_.layer_names_, np.nan)
        self.columns_ = {self.name: score} | {
            f"{self.name}_{layer}": value for layer, value in layers.items()
        }

    def _measure_trained(self, net):
        """Measure after some training."""
        self._measure(net)

    def _due(self):
        self.count_ += 1
        return (self.count_ - 1) % self.every == 0

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Note the losses of a batch, and measure after every so many if so asked."""
        self.trajectory_.on_batch_end(net, batch, training, **kwargs)
        if training and self.unit == "batch" and self._due():
            self._measure_trained(net)
            net.history.record_batch(self.name, self.columns_[self.name])

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Measure, if it is time, and write the columns."""
        self.trajectory_.on_epoch_end(net)
        if self.unit == "epoch" and self._due():
            self._measure_trained(net)
        for column, value in self.columns_.items():
            net.history.record(column, value)
        best = bool(self.columns_[self.name] > self.best_score_)
        if best:
            self.best_score_ = self.columns_[self.name]
        net.history.record(f"{self.name}_best", best)


def check_order(net, scoring):
    """Refuse callbacks that read the column before it is written.

    Raises
    ------
    ValueError
        If there is one before the scoring among the net's callbacks.
    """
    for name, callback in net.callbacks_:
        if callback is scoring:
            return
        monitored = getattr(callback, "monitor", None)
        if isinstance(monitored, str) and monitored.startswith(scoring.name):
            raise ValueError(
                f"The callback {name!r} reads {monitored!r} before it is written: put "
                f"{type(scoring).__name__} before it in callbacks=[...]."
            )


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


def as_seed(random_state):
    """One number for both draws; None gives another each time, and draws from nothing."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0] // 2)
    if isinstance(random_state, Integral):
        return random_state
    return random_state.randint(2**31 - 1)


def padded_apart(batches):
    """Whether tensors of batches differ in more than their number of samples."""
    shapes = [
        [getattr(leaf, "shape", ())[1:] for leaf in tree_leaves(batch)] for batch in batches
    ]
    return any(own != shapes[0] for own in shapes)


def samples_of(net, dataset, index):
    """Chosen samples of a training set and their labels, as tensors in one batch.

    Raises
    ------
    ValueError
        If the net's iterator cannot hand them out, or not with one label each.
    """
    chosen = Subset(dataset, index.tolist())
    try:
        with random_state_kept:
            batches = list(net.get_iterator(chosen, training=False))
            if padded_apart(batches):
                settings = net.get_params_for("iterator_valid")
                settings["batch_size"] = len(chosen)
                batches = list(net.iterator_valid(chosen, **settings))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            "NonlinearityScoring reads its samples with the net's iterator_valid, which "
            f"failed ({str(error).splitlines()[0]}). What iterator_train needs, as a "
            "collate_fn, iterator_valid needs too."
        ) from error
    if not all(isinstance(batch, tuple | list) and len(batch) == 2 for batch in batches):
        raise ValueError(
            "NonlinearityScoring needs the labels of the training data: its dataset "
            "must give pairs of a sample and its label."
        )
    try:
        X, y = joined(map(tuple, batches))
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            "NonlinearityScoring cannot join the batches of the training data "
            f"({str(error).splitlines()[0]}). Call a NonlinearityMonitor on samples and "
            "labels of your own."
        ) from error
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            f"NonlinearityScoring needs one label for each sample, but the targets of the "
            f"training data have the shape {tuple(y.shape)}. Call a NonlinearityMonitor on "
            "samples and labels of your own."
        )
    return X, y

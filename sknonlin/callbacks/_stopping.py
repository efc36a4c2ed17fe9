"""Stop a skorch net when it begins to memorize."""

from collections.abc import Callable
from typing import Any

from sklearn.utils._param_validation import validate_parameter_constraints
from skorch.utils import noop

from sknonlin._memorization.stopping import Stopper
from sknonlin._running.validation import Layers, RandomState, Ranks
from sknonlin.callbacks._scoring import NonlinearityScoring

STOPPING_CONSTRAINTS = {
    "load_best": ["boolean"],
    "average": ["boolean"],
    "sink": [callable, None],
}


class MemorizationStopping(NonlinearityScoring):
    """Stop a skorch net when it begins to memorize wrong labels, with no patience to set.

    It writes the columns of :class:`NonlinearityScoring`, and knows their noise: the score
    is a mean over samples, always the same, so the standard error of a difference is that
    of their own differences. What it measures, and loads at the end, are weights averaged
    over the epochs, which mostly are right on more new samples than those of one epoch. It
    stops when the mean of three epochs is three standard errors below the best mean of
    three, and loads the average up to the epoch with the highest score. Where there is
    nothing to memorize, the score does not fall, and the net is trained to the end. Then it
    loads the last average, if that scores higher than the last weights, or the best one, if
    the last scores lower by more than a standard error. Where the input tells too few
    labels, it does not stop, and loads nothing.

    Parameters
    ----------
    name, layers, every, unit : as of :class:`NonlinearityScoring`
        What is written, and how often. It stops only at the end of an epoch.
    load_best : bool, default=True
        Keep the weights of the best epoch in memory, and load them at the end; not if
        another callback of the net, as ``Checkpoint``, has a ``load_best`` of its own.
        Where nothing stopped, last weights that were not measured stay.
    average : bool, default=True
        Measure and load averages of the weights, in which an epoch counts 0.7 times as much
        as the next. They take the memory of the trained weights once more, and twice while
        it measures. The training does not see them. False: an epoch's own weights, and it
        stops when the mean of seven epochs is four standard errors below the best. They are
        its own, too, if it loads none, if ``n_samples`` is 0, and if ``unit`` is "batch".
    sink : callable, default=None
        Called with ``reason_`` at the end of the training, as ``print``. None: nothing
        is said, unless the net's ``verbose`` is above 0, which prints it.
    ranks, batch_size, n_batches, n_samples, random_state : as of \
            :class:`NonlinearityMonitor`
        What is measured, and on which samples.

    Attributes
    ----------
    stopped_epoch_ : int or None
        The epoch after which it stopped; None if it trained to the end.
    best_epoch_ : int
        The epoch with the highest score.
    reason_ : str
        When it stopped, and why, or why not.
    wrong_share_ : float
        Expected share of labels that are wrong; NaN if it is not known.

    See Also
    --------
    NonlinearityScoring : Only writes the columns.

    Notes
    -----
    As :class:`NonlinearityScoring` does, it adds up the loss of every sample, over all
    epochs until it stops; a :class:`~sknonlin.MemorizationDetector` around the net uses it.

    Every ``partial_fit`` begins anew.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from sknonlin.callbacks import MemorizationStopping
    >>> X, y = load_digits(return_X_y=True)
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    ... )
    >>> net = NeuralNetClassifier(
    ...     module,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     max_epochs=3,
    ...     train_split=None,
    ...     verbose=0,
    ...     callbacks=[("stop", MemorizationStopping())],
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> dict(net.callbacks_)["stop"].reason_.split(":")[0]
    'Trained to the last epoch, 3'
    """

    def __init__(
        self,
        name: str = "nmf_auc",
        layers: Layers = "relu",
        every: int = 1,
        unit: str = "epoch",
        load_best: bool = True,
        average: bool = True,
        sink: Callable[[str], Any] | None = None,
        ranks: Ranks = "auto",
        batch_size: str | int = "auto",
        n_batches: int = 1,
        n_samples: str | int = "auto",
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(
            name=name,
            layers=layers,
            every=every,
            unit=unit,
            ranks=ranks,
            batch_size=batch_size,
            n_batches=n_batches,
            n_samples=n_samples,
            random_state=random_state,
        )
        self.load_best = load_best
        self.average = average
        self.sink = sink

    def initialize(self):
        """Check the parameters, and forget what was seen before."""
        own = {name: getattr(self, name) for name in STOPPING_CONSTRAINTS}
        validate_parameter_constraints(STOPPING_CONSTRAINTS, own, type(self).__name__)
        return super().initialize()

    def __getstate__(self):
        """Leave out the samples and the weights, also in the middle of a training."""
        return super().__getstate__() | {"stopper_": None}

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Begin anew."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        average = self.average and self.unit == "epoch"
        load_best = self.load_best and not self._another_loads(net)
        self.stopper_ = Stopper(load_best, average, self.n_samples, len(net.history))
        self.stopped_epoch_ = None

    def _measure_trained(self, net):
        with self.stopper_.as_measured(modules_of(net)):
            super()._measure_trained(net)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Measure, write the columns, and stop if memorization is seen."""
        self.stopper_.end_epoch(modules_of(net))
        super().on_epoch_end(net, dataset_train, dataset_valid, **kwargs)
        score = self.columns_[self.name]
        if self.stopper_.update(score, self.monitor_, modules_of(net)):
            raise KeyboardInterrupt

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Load the best weights, and say why it stopped."""
        stopper, self.stopper_ = self.stopper_, None
        super().on_train_end(net, X=X, y=y, **kwargs)
        if stopper is None or not stopper.epoch:
            return
        unmeasured = self.unit == "epoch" and (self.count_ - 1) % self.every != 0
        stopper.finish(net, modules_of(net), only_if_stopped=unmeasured)
        self.best_epoch_ = stopper.best_epoch
        self.stopped_epoch_ = stopper.epoch if stopper.stops else None
        self.wrong_share_, self.reason_ = stopper.wrong_share, stopper.reason()
        default = print if net.verbose else noop
        (self.sink or default)(self.reason_)

    def _another_loads(self, net):
        """Whether another callback of the net loads weights at the end."""
        others = (callback for _, callback in net.callbacks_ if callback is not self)
        return any(getattr(other, "load_best", False) for other in others)


def modules_of(net):
    """Return a skorch net's modules, by name."""
    return {name: getattr(net, f"{name}_") for name in net._modules}

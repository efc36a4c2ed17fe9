"""Watch and stop a training of PyTorch Lightning."""

from typing import Any

from sknonlin._memorization.stopping import Stopper
from sknonlin.callbacks._training_data import columns_of, measured, monitor_of

try:
    from lightning.pytorch import callbacks as library
except ImportError:
    try:
        from pytorch_lightning import callbacks as library
    except ImportError as error:
        raise ImportError(
            "LightningNonlinearity needs PyTorch Lightning: pip install lightning."
        ) from error


#: Callbacks that load averages of their own at the end; older versions have one of them.
AVERAGING = tuple(
    getattr(library, name)
    for name in ("StochasticWeightAveraging", "WeightAveraging")
    if hasattr(library, name)
)


class LightningNonlinearity(library.Callback):
    """Log when a LightningModule begins to memorize, and stop it then.

    The columns, and the rule that stops, are those of
    :class:`~sknonlin.callbacks.MemorizationStopping`; the weights in training are the same,
    to the last bit, as without it.

    Parameters
    ----------
    X, y : as of :class:`~sknonlin.callbacks.NonlinearityMonitor`, default=None
        Training samples and their labels. None: those of the training dataloader, whose
        batches must be pairs of samples and labels, or mappings with ``"labels"``.
    name : str, default="nmf_auc"
        Of the score in the logs; ``<name>_<layer>`` are the layers'.
    stop : bool, default=True
        Whether to stop; otherwise it only logs.
    load_best : bool, default=True
        Keep the weights of the best epoch in memory, and load them at the end; not
        where ``stop`` is False. Where nothing stopped, the last ones stay if another
        callback loads averages, as ``StochasticWeightAveraging``.
    average : bool, default=True
        Measure and load averages of the weights, as of
        :class:`~sknonlin.callbacks.MemorizationStopping`.
    **settings : dict
        Of :class:`~sknonlin.callbacks.NonlinearityMonitor`.

    Attributes
    ----------
    monitor_ : NonlinearityMonitor
        With the scores of all epochs.
    reason_ : str
        At the end: when it stopped, and why, or why not.
    stopped_epoch_, best_epoch_ : int
        Counted from 1; the first is None if it did not stop.

    Raises
    ------
    ImportError
        On import, if there is no PyTorch Lightning.
    ValueError
        At the beginning of the training: if samples cannot be told from the dataloader.
    """

    def __init__(
        self,
        X: Any = None,
        y: Any = None,
        *,
        name: str = "nmf_auc",
        stop: bool = True,
        load_best: bool = True,
        average: bool = True,
        **settings: Any,
    ) -> None:
        self.X, self.y, self.name = X, y, name
        self.stop, self.load_best, self.average = stop, load_best, average
        self.settings = settings

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the first epoch, choose the samples and measure the network."""
        if trainer.current_epoch != self.first_:
            return
        self.monitor_ = monitor_of(
            type(self).__name__, self.X, self.y, trainer.train_dataloader, self.settings
        )
        measured(self.monitor_, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self.first_ = trainer.current_epoch
        load_best, n_samples = self.load_best and self.stop, self.settings.get("n_samples")
        self._stopper = Stopper(load_best, self.average, n_samples, self.first_)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure, log, and stop if memorization is seen."""
        modules = {"module": pl_module}
        self._stopper.end_epoch(modules)
        with self._stopper.as_measured(modules):
            score = measured(self.monitor_, pl_module)
        columns = columns_of(self.name, score, self.monitor_)
        pl_module.log_dict(columns, on_epoch=True, on_step=False)
        if self._stopper.update(score, self.monitor_, modules) and self.stop:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Load the best weights, and say why it stopped."""
        stopper = self._stopper
        self.stopped_epoch_, self.best_epoch_ = None, stopper.best_epoch
        if self.stop:
            self.stopped_epoch_ = stopper.epoch if stopper.stops else None
            averages = any(isinstance(other, AVERAGING) for other in trainer.callbacks)
            stopper.finish(pl_module, {"module": pl_module}, only_if_stopped=averages)
        self.reason_ = stopper.reason()

"""Watch and stop a training of Hugging Face's Trainer."""

from typing import Any

from sknonlin._memorization.stopping import Stopper
from sknonlin.callbacks._training_data import columns_of, measured, monitor_of

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "TrainerNonlinearity needs Hugging Face's transformers: pip install "
        "'transformers[torch]'."
    ) from error


class TrainerNonlinearity(TrainerCallback):
    """Log when a model of Hugging Face's Trainer begins to memorize, and stop it then.

    The columns, and the rule that stops, are those of
    :class:`~sknonlin.callbacks.MemorizationStopping`; the weights in training are the same,
    to the last bit, as without it. They are written to ``trainer.state.log_history``; for
    TensorBoard, MLflow and others, call :meth:`attach` instead of ``callbacks=``.

    Parameters
    ----------
    X, y : as of :class:`~sknonlin.callbacks.NonlinearityMonitor`, default=None
        Training samples, as the model takes them, and their labels. None: those of the
        training dataset, whose batches must have ``"labels"``.
    name : str, default="nmf_auc"
        Of the score in the logs; ``<name>_<layer>`` are the layers'.
    stop : bool, default=True
        Whether to stop; otherwise it only logs.
    load_best : bool, default=True
        Keep the weights of the best epoch in memory, and load them at the end; not
        where ``stop`` is False, nor where the Trainer loads its own best ones
        (``load_best_model_at_end``).
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
        On import, if there is no transformers.
    ValueError
        At the beginning of the training: if samples cannot be told from the dataset.
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
        self._log: Any = None

    def attach(self, trainer: Any) -> "TrainerNonlinearity":
        """Add itself to a Trainer, and write to all of its logs.

        Parameters
        ----------
        trainer : transformers.Trainer
            That is not trained yet.

        Returns
        -------
        callback : TrainerNonlinearity
            Itself.
        """
        trainer.add_callback(self)
        self._log = trainer.log
        return self

    def on_train_begin(self, args, state, control, **kwargs):
        """Choose the samples, and measure the network."""
        loader = kwargs.get("train_dataloader")
        self.monitor_ = monitor_of(
            type(self).__name__, self.X, self.y, loader, self.settings
        )
        load_best = self.load_best and self.stop and not args.load_best_model_at_end
        self._stopper = Stopper(load_best, self.average, self.settings.get("n_samples"))
        measured(self.monitor_, kwargs["model"])

    def on_epoch_end(self, args, state, control, **kwargs):
        """Measure, log, and stop if memorization is seen."""
        model = kwargs["model"]
        modules = {"model": model}
        self._stopper.end_epoch(modules)
        with self._stopper.as_measured(modules):
            score = measured(self.monitor_, model)
        columns = columns_of(self.name, score, self.monitor_)
        self._write(columns, state)
        if self._stopper.update(score, self.monitor_, modules) and self.stop:
            control.should_training_stop = True
        return control

    def _write(self, columns, state):
        if self._log is not None:
            self._log(columns)
            return
        where = {"epoch": state.epoch, "step": state.global_step}
        state.log_history.append(columns | where)

    def on_train_end(self, args, state, control, **kwargs):
        """Load the best weights, and say why it stopped."""
        stopper = self._stopper
        self.stopped_epoch_, self.best_epoch_ = None, stopper.best_epoch
        if self.stop:
            self.stopped_epoch_ = stopper.epoch if stopper.stops else None
            stopper.finish(kwargs["model"], {"model": kwargs["model"]})
        self.reason_ = stopper.reason()

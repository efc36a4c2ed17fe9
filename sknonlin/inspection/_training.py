"""The display of a training, with the epoch at which to stop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import validate_params
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from sknonlin.inspection import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORE = "score"
N_MARKERS = 12  # along a line of more epochs than
ALL_MARKED = 40
CONSTRAINTS = {"name": [str], "layers": ["boolean"], "metrics": ["array-like"]}


def net_of(estimator):
    """Return the skorch net in an estimator.

    Raises
    ------
    TypeError
        If there is none.
    """
    if hasattr(estimator, "label_report"):  # a MemorizationDetector
        check_is_fitted(estimator)
        estimator = estimator.estimator_
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    if not isinstance(estimator, NeuralNet):
        raise TypeError(
            f"net is a {type(estimator).__name__}, which keeps no history; it must be a "
            "skorch net. For other networks, call a NonlinearityMonitor while they train, "
            "and use from_history(monitor)."
        )
    return estimator


def history_rows(history, name):
    """One dict for every epoch.

    Raises
    ------
    TypeError
        If it is no history.
    NotFittedError
        If a net is not trained.
    ValueError
        If a history or a monitor is empty.
    """
    if hasattr(history, "layer_scores_") and hasattr(history, "update"):  # a monitor
        history = monitor_rows(history, name)
    elif isinstance(history, NeuralNet):
        if not history.history:
            raise NotFittedError(
                f"The history of this {type(history).__name__} is empty: fit it, with a "
                "NonlinearityScoring among its callbacks."
            )
        history = history.history
    if not isinstance(history, list) or not all(isinstance(r, Mapping) for r in history):
        raise TypeError(
            f"history is a {type(history).__name__}; it must be a skorch net or its "
            "history, a list with a dict for each epoch, or a NonlinearityMonitor."
        )
    if not history:
        raise ValueError(
            "history is empty: train first, with a NonlinearityScoring among the "
            "callbacks, or call the monitor's update."
        )
    return history


def monitor_rows(monitor, name):
    """Write the scores of a monitor as those of a history."""
    return [
        {name: score} | {f"{name}_{layer}": area for layer, area in layers.items()}
        for score, layers in zip(monitor.scores_, monitor.layer_scores_, strict=True)
    ]


def check_columns(asked, columns):
    """Refuse to read columns that a history does not have.

    Raises
    ------
    ValueError
        If there are some.
    """
    missing = [column for column in asked if column not in columns]
    if missing:
        raise ValueError(
            f"The history has no column {', '.join(map(repr, missing))}; it has {columns}. "
            "Add NonlinearityScoring() to the net's callbacks before it is trained, and "
            "give its name as name=."
        )


def layer_columns(name, columns):
    """Columns of the layers of a score, by layer."""
    own = [c for c in columns if c.startswith(f"{name}_") and c != f"{name}_best"]
    # Another score, whose name begins alike, has a column that tells its best.
    others = tuple(c for c in own if f"{c}_best" in columns)
    foreign = (*others, *(f"{other}_" for other in others))
    return {c.removeprefix(f"{name}_"): c for c in own if not c.startswith(foreign)}


def values_of(rows, column):
    """Values of a column; NaN for epochs without.

    Raises
    ------
    TypeError
        If they are no numbers.
    """
    values = [row.get(column, np.nan) for row in rows]
    if not all(isinstance(value, Real | np.number) for value in values):
        raise TypeError(
            f"The history's column {column!r} has values that are no numbers. Choose "
            "another."
        )
    return np.array(values, dtype=float)


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingDisplay:
    """Score of a network against the epoch of its training, and where to stop.

    Make one with :meth:`from_history` or :meth:`from_estimator`, and draw it with
    :meth:`plot`. The score says how many answers are right by what the input tells of the
    true labels, and the layers' scores what their samples share [1]_
    (:class:`~sknonlin.callbacks.NonlinearityMonitor` has it in full); it is highest when
    memorization starts.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,)
        The epochs, or the numbers of the measurements.
    scores : ndarray of shape (n_epochs,)
        The score, in [0, 1]; NaN where it is not known.
    name : str, default="nmf_auc"
        Name of the score.
    layer_scores : dict of str to ndarray of shape (n_epochs,), default=None
        The areas of the layers.
    metrics : dict of str to ndarray of shape (n_epochs,), default=None
        Other columns of the history.

    Attributes
    ----------
    best_epoch : int or None
        The first epoch with the highest score; None where all are NaN.
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    twin_ax_ : matplotlib.axes.Axes or None
        The axes at the right, for metrics that leave [0, 1], as losses do.
    line_ : matplotlib.lines.Line2D
        The score.
    lines_ : dict of str to matplotlib.lines.Line2D
        The layers and the metrics.
    best_ : matplotlib.collections.PathCollection or None
        The mark at the best epoch.

    See Also
    --------
    sknonlin.callbacks.NonlinearityScoring : Writes the score to the history.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).

    Examples
    --------
    >>> from sknonlin.inspection import TrainingDisplay
    >>> history = [{"epoch": 1, "nmf_auc": 0.3}, {"epoch": 2, "nmf_auc": 0.5}]
    >>> history.append({"epoch": 3, "nmf_auc": 0.4})
    >>> TrainingDisplay.from_history(history).plot().best_epoch
    2
    """

    epochs: NDArray
    scores: NDArray
    name: str = "nmf_auc"
    layer_scores: dict | None = None
    metrics: dict | None = None

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest score."""
        if np.isnan(self.scores).all():
            return None
        return int(self.epochs[np.nanargmax(self.scores)])

    @classmethod
    @validate_params(CONSTRAINTS, prefer_skip_nested_validation=False)
    def from_estimator(
        cls,
        net: Any,
        *,
        name: str = "nmf_auc",
        layers: bool = False,
        metrics: Sequence[str] = (),
    ) -> Self:
        """Read the history of a trained net.

        Parameters
        ----------
        net : skorch net, FrozenEstimator or MemorizationDetector
            Trained with a :class:`~sknonlin.callbacks.NonlinearityScoring`; or a fitted
            detector around such a net.
        name : str, default="nmf_auc"
            As in :meth:`from_history`.
        layers : bool, default=False
            As in :meth:`from_history`.
        metrics : list of str, default=()
            As in :meth:`from_history`.

        Returns
        -------
        display : TrainingDisplay
            Not drawn yet.

        Raises
        ------
        TypeError
            If it is no skorch net.
        NotFittedError
            If it is not trained.
        ValueError
            If the history does not have these columns.
        """
        return cls.from_history(net_of(net), name=name, layers=layers, metrics=metrics)

    @classmethod
    @validate_params(CONSTRAINTS, prefer_skip_nested_validation=True)
    def from_history(
        cls,
        history: Any,
        *,
        name: str = "nmf_auc",
        layers: bool = False,
        metrics: Sequence[str] = (),
    ) -> Self:
        """Read a history.

        Parameters
        ----------
        history : skorch History, list of dict, skorch net or NonlinearityMonitor
            ``net.history``, or one dict for each epoch; a trained net; or a monitor,
            whose epochs are its measurements.
        name : str, default="nmf_auc"
            Column of the score: the ``name`` of the ``NonlinearityScoring``.
        layers : bool, default=False
            Also take the areas of the layers.
        metrics : list of str, default=()
            Other columns to take, such as ``"train_loss"`` and ``"valid_acc"``.

        Returns
        -------
        display : TrainingDisplay
            Not drawn yet.

        Raises
        ------
        TypeError
            If it is no history.
        NotFittedError
            If a net is not trained.
        ValueError
            If the history is empty, or does not have these columns.
        """
        rows = history_rows(history, name)
        columns = list(dict.fromkeys(column for row in rows for column in row))
        check_columns([name, *metrics], columns)
        chosen = layer_columns(name, columns) if layers else {}
        return cls(
            epochs=np.array([row.get("epoch", i + 1) for i, row in enumerate(rows)]),
            scores=values_of(rows, name),
            name=name,
            layer_scores={
                layer: values_of(rows, column) for layer, column in chosen.items()
            },
            metrics={column: values_of(rows, column) for column in metrics},
        )

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | None = None,
        line_kw: dict | None = None,
    ) -> Self:
        """Draw the score, the best epoch, and what else was taken.

        Metrics within [0, 1] share the y axis of the score; the others, as losses, have
        one at the right. Points that are NaN are left out.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw, also beside other displays; None makes a new figure.
        name : str, default=None
            Name in the legend; None: the display's own.
        line_kw : dict, default=None
            Settings for matplotlib's ``plot`` of the score.

        Returns
        -------
        display : TrainingDisplay
            Itself.
        """
        ax = _drawing.axes_for(self, ax)
        name = self.name if name is None else name
        at_right = {m for m, values in self._metrics.items() if beyond_shares(m, values)}
        self.twin_ax_ = right_axes(ax) if at_right else None
        self.line_ = self._draw(ax, self.scores, name, {"zorder": 3} | (line_kw or {}))
        self.best_ = self._mark_best(name)
        self.lines_ = {}
        for layer, values in (self.layer_scores or {}).items():
            label = f"layer {layer}" if name == self.name else f"{name}, layer {layer}"
            thin = {"linewidth": 1, "marker": None}
            self.lines_[layer] = self._draw(ax, values, label, thin)
        for metric, values in self._metrics.items():
            where = self.twin_ax_ if metric in at_right else ax
            label = metric if name == self.name else f"{name}, {metric}"
            self.lines_[metric] = self._draw(where, values, label, {})
        self._label_axes(at_right)
        return self

    @property
    def _metrics(self):
        return self.metrics or {}

    def _draw(self, ax, values, label, settings):
        known = ~np.isnan(values)
        style = _drawing.next_style(*with_twins(self.ax_)) | {"label": label} | settings
        n_known = int(known.sum())
        every = 1 if n_known <= ALL_MARKED else n_known // N_MARKERS
        (line,) = ax.plot(self.epochs[known], values[known], markevery=every, **style)
        return line

    def _mark_best(self, name):
        best = self.best_epoch
        if best is None:
            return None
        color, score = self.line_.get_color(), np.nanmax(self.scores)
        self.ax_.vlines(best, 0, score, colors=color, linestyles=":", zorder=2)
        settings = {"s": 130, "marker": "*", "edgecolors": "black", "zorder": 4}
        label = f"{name}, best at epoch {best}"
        return self.ax_.scatter([best], [score], color=color, label=label, **settings)

    def _label_axes(self, at_right):
        ax, twin = self.ax_, self.twin_ax_
        _drawing.whole_number_ticks(ax)
        _drawing.unit_interval(ax)
        ax.set_xlabel("epoch")
        at_left = [metric for metric in self._metrics if metric not in at_right]
        ax.set_ylabel(joined(ax.get_ylabel(), [SCORE, *at_left]))
        if twin is not None:
            twin.set_ylabel(joined(twin.get_ylabel(), sorted(at_right)))
            # The legend is of ax, and lines at the right must not cross it.
            ax.set_zorder(twin.get_zorder() + 1)
            ax.patch.set_visible(False)
            twin.patch.set_visible(True)
        _drawing.draw_legend(*with_twins(ax))


def with_twins(ax):
    """Return axes, and others at the same place with the same x axis."""
    place = ax.get_position().bounds
    siblings = ax.get_shared_x_axes().get_siblings(ax)
    return [ax] + [s for s in siblings if s is not ax and s.get_position().bounds == place]


def right_axes(ax):
    """Axes at the right, those that another display made where there are some."""
    others = with_twins(ax)[1:]
    return others[0] if others else ax.twinx()


def joined(label, more):
    """Add to an axis's label what it does not say yet."""
    said = label.split(", ") if label else []
    return ", ".join(dict.fromkeys([*said, *more]))


def beyond_shares(metric, values):
    """Whether a metric is a loss, or has values that are no shares."""
    known = values[~np.isnan(values)]
    return metric.endswith("loss") or bool(((known < 0) | (known > 1)).any())

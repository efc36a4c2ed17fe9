"""The display of the samples whose labels look most memorized."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, validate_params

from sknonlin.inspection._drawing import axes_for
from sknonlin.inspection._samples import (
    as_images,
    before_pipeline,
    drawable,
    feature_names_of,
    names_of_classes,
    shortly,
    take_samples,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_COLUMNS = 8  # of images
MANY_FEATURES = 6  # of which a table shows no more, unless asked
LETTER, CAPTION = 0.6, 5.4  # a letter's width, a caption's height, in font sizes
LONG = 24  # letters; columns with longer cells are aligned at the left
NOT_FLAGGED = "0.45"  # the grey of what is not flagged
ABOUT = ("sample", "given", "suggested", "memorization score")  # columns of every table
COUNT = Interval(Integral, 1, None, closed="left")


@dataclass(kw_only=True, eq=False, repr=False)
class MemorizedSamplesDisplay:
    """The samples whose labels look most memorized, with the labels suggested.

    Make one with :meth:`from_estimator`, and draw it with :meth:`plot`: a grid of images,
    or a table of features or texts. All have their places in the data beside them. Those
    that the detector does not flag are written in grey.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, h, w), (n_samples, h, w, 3) or \
(n_samples, n_features)
        Images, or features. Texts are a table of one column.
    index : ndarray of int of shape (n_samples,)
        The samples' places in the data.
    given : ndarray of shape (n_samples,)
        Their labels.
    suggested : ndarray of shape (n_samples,)
        The labels that fit their activations best.
    scores : ndarray of shape (n_samples,)
        Their scores, log-odds that the label is wrong.
    flagged : ndarray of bool of shape (n_samples,)
        Whether the scores are above the detector's threshold.
    feature_names : list of str of length n_features, default=None
        Names of features, ``["text"]`` for texts; None for images.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes that the grid or the table fills.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_rows, n_columns)
        Those of the images, within ``ax_``; None for a table.
    table_ : matplotlib.table.Table
        The table; None for images.

    See Also
    --------
    sknonlin.MemorizationDetector.label_report : All samples, as a frame.

    Examples
    --------
    >>> from sknonlin import MemorizationDetector
    >>> from sknonlin.datasets import load_digits, make_noisy_labels
    >>> from sknonlin.inspection import MemorizedSamplesDisplay
    >>> X, true = load_digits(return_X_y=True)
    >>> X, y = X[:300], make_noisy_labels(true[:300], 0.1, random_state=0)
    >>> detector = MemorizationDetector(random_state=0).fit(X, y)
    >>> display = MemorizedSamplesDisplay.from_estimator(
    ...     detector, X, y, image_shape=(8, 8), n_samples=4
    ... )
    >>> display.plot(n_columns=2).axes_.shape
    (2, 2)
    """

    ax_: "Axes" = field(init=False)

    samples: NDArray
    index: NDArray
    given: NDArray
    suggested: NDArray
    scores: NDArray
    flagged: NDArray
    feature_names: list | None = None

    @classmethod
    @validate_params(
        {
            "n_samples": [COUNT],
            "image_shape": [tuple, list, None],
            "decode": [callable, None],
            "class_names": ["array-like", Mapping, None],
            "feature_names": ["array-like", None],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        y: ArrayLike,
        *,
        images: Any = None,
        image_shape: Sequence[int] | None = None,
        decode: Callable | None = None,
        n_samples: int = 24,
        class_names: Any = None,
        feature_names: ArrayLike | None = None,
    ) -> Self:
        """Score samples, and take those with the highest scores.

        Parameters
        ----------
        detector : MemorizationDetector
            Fitted.
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples, as in :meth:`MemorizationDetector.label_report`. Those of shape
            (h, w), (1, h, w) or (3, h, w) are shown as images, flat ones as rows of a
            table, strings as texts. Before a pipeline, they are shown as they go into it.
        y : array-like of shape (n_samples,)
            The labels that they were given.
        images : array-like of shape (n_samples, ...), default=None
            What to show in place of X: pictures, a frame of values that are not scaled,
            or texts.
        image_shape : tuple of int, default=None
            Shape of a sample that is an image, but flat: (h, w) or (3, h, w).
        decode : callable, default=None
            Makes a text of a sample of token ids, as a tokenizer's ``decode`` does.
        n_samples : int, default=24
            Samples to take; all where there are fewer.
        class_names : array-like of shape (n_classes,) or dict, default=None
            Names of the labels, in the order of ``detector.classes_``, or by label.
        feature_names : array-like of shape (n_features,), default=None
            Names of the features of a table; None: the columns of a frame, or numbers.

        Returns
        -------
        display : MemorizedSamplesDisplay
            Not drawn yet, the worst sample first.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it is no detector, or the samples cannot be shown.
        ValueError
            If shapes or names do not fit, or for the reasons of
            :meth:`MemorizationDetector.label_report`.
        """
        detector, seen = before_pipeline(detector, X)
        if not hasattr(detector, "label_report"):
            raise TypeError(
                f"detector is a {type(detector).__name__}; it must be a fitted "
                "MemorizationDetector: MemorizationDetector(FrozenEstimator(net))."
                "fit(X, y) takes a network that is trained."
            )
        report = detector.label_report(seen, y)
        n_labels, report = len(report), report.head(n_samples)
        index = report["index"].to_numpy()
        shown, parameter = (X, "X") if images is None else (images, "images")
        samples = take_samples(shown, index, n_labels, parameter)
        if decode is not None:
            samples = np.array([decode(sample) for sample in samples], dtype=object)
        samples = as_images(samples, image_shape)
        is_table = samples.ndim == 2
        names = names_of_classes(detector.classes_, class_names)
        return cls(
            samples=samples,
            index=index,
            given=np.array([names[label] for label in report["given"]]),
            suggested=np.array([names[label] for label in report["suggested"]]),
            scores=report["score"].to_numpy(),
            flagged=report["flagged"].to_numpy(),
            feature_names=(
                feature_names_of(shown, samples, feature_names) if is_table else None
            ),
        )

    @validate_params(
        {"n_columns": [COUNT, None], "features": ["array-like", None]},
        prefer_skip_nested_validation=True,
    )
    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        n_columns: int | None = None,
        features: ArrayLike | None = None,
        image_kw: dict | None = None,
    ) -> Self:
        """Draw the images in a grid, or the features or texts in a table.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to fill, in place of what they have; None makes a new figure.
        n_columns : int, default=None
            Images in a row; None: up to eight.
        features : array-like of str, default=None
            Features that the table shows, by name; None: the first six.
        image_kw : dict, default=None
            Settings for matplotlib's ``imshow``, of images.

        Returns
        -------
        display : MemorizedSamplesDisplay
            Itself.

        Raises
        ------
        ValueError
            If there are no such features.
        """
        if self.samples.ndim == 2:
            self._plot_table(ax, self._table_columns(features))
        else:
            n_columns = n_columns or min(MANY_COLUMNS, len(self.samples))
            self._plot_images(ax, n_columns, image_kw)
        note = "" if np.all(self.flagged) else " (grey: not flagged)"
        title = f"Samples with the highest memorization scores{note}"
        self.ax_.set_title(title, fontsize=font_size(self.ax_, len(title), largest=12))
        return self

    def _plot_images(self, ax, n_columns, image_kw):
        n_rows = -(-len(self.samples) // n_columns)
        ax = axes_for(self, ax, figsize=(1.4 * n_columns, 1.9 * n_rows + 0.3))
        clear(ax)
        self.table_ = None
        captions = [
            f"sample {i}\ngiven {given}\nsuggested {suggested}\nscore {score:.2f}"
            for i, given, suggested, score in zip(
                self.index, self.given, self.suggested, self.scores, strict=True
            )
        ]
        longest = max(len(line) for caption in captions for line in caption.split("\n"))
        size = font_size(ax, n_columns * longest)
        self.axes_ = image_axes(ax, n_rows, n_columns, caption_height=CAPTION * size)
        settings = {"cmap": "gray_r"} | (image_kw or {})
        for i, cell in enumerate(self.axes_.flat):
            cell.set(xticks=[], yticks=[], visible=i < len(captions))
            if i < len(captions):
                cell.imshow(drawable(self.samples[i]), **settings)
                cell.set_title(captions[i], fontsize=size, pad=3, color=self._ink(i))

    def _ink(self, i):
        return "black" if self.flagged[i] else NOT_FLAGGED

    def _table_columns(self, features):
        """Columns of the table, each with its header first."""
        if features is None:
            features = self.feature_names[:MANY_FEATURES]
        unknown = [name for name in features if name not in self.feature_names]
        if unknown:
            raise ValueError(
                f"features={list(features)} has names that X does not have: {unknown}. "
                f"Choose among {self.feature_names}."
            )
        at = [self.feature_names.index(name) for name in features]
        return [
            [ABOUT[0], *map(str, self.index)],
            [ABOUT[1], *map(str, self.given)],
            [ABOUT[2], *map(str, self.suggested)],
            [ABOUT[3], *[f"{score:.2f}" for score in self.scores]],
            *[[self.feature_names[j], *map(shortly, self.samples[:, j])] for j in at],
        ]

    def _plot_table(self, ax, columns):
        from matplotlib.table import Table

        widths = [max(map(len, column)) + 2 for column in columns]
        n_rows = len(self.samples) + 1
        ax = axes_for(self, ax, figsize=(0.085 * sum(widths), 0.26 * n_rows + 0.4))
        clear(ax)
        self.axes_ = None
        self.table_ = Table(ax, bbox=[0, 0, 1, 1])
        size = font_size(ax, sum(widths))
        for j, (column, width) in enumerate(zip(columns, widths, strict=True)):
            loc = "left" if max(map(len, column)) > LONG else "right"
            for row, text in enumerate(column):
                cell = self.table_.add_cell(
                    *(row, j, width / sum(widths), 1 / n_rows),
                    text=text,
                    loc=loc,
                    edgecolor="0.8",
                )
                cell.visible_edges = "horizontal"
                cell.set_linewidth(0.5)
                cell.set_text_props(
                    fontsize=size,
                    weight="bold" if row == 0 else "normal",
                    color="black" if row == 0 else self._ink(row - 1),
                )
        self.table_.auto_set_font_size(False)
        ax.add_table(self.table_)


def clear(ax):
    """Empty axes that a grid or a table is to fill."""
    ax.clear()
    ax.set_axis_off()


def cell_size(ax, n_rows, n_columns):
    """Width and height of the cells of a grid, in points."""
    extent = ax.get_window_extent()
    to_points = 72 / ax.figure.dpi
    return extent.width * to_points / n_columns, extent.height * to_points / n_rows


def font_size(ax, n_letters, largest=9):
    """Size at which a line of so many letters is no wider than the axes."""
    width, _ = cell_size(ax, 1, 1)
    return float(np.clip(width / (LETTER * n_letters), 4, largest))


def image_axes(ax, n_rows, n_columns, *, caption_height):
    """Axes in a grid within others, each with room for a caption above.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    n_rows, n_columns : int
    caption_height : float
        In points.

    Returns
    -------
    axes : ndarray of matplotlib.axes.Axes of shape (n_rows, n_columns)
    """
    _, height = cell_size(ax, n_rows, n_columns)
    share = max(0.3, 1 - caption_height / height)
    axes = np.empty((n_rows, n_columns), dtype=object)
    for i, j in np.ndindex(axes.shape):
        corner = (j + 0.05) / n_columns, 1 - (i + 1) / n_rows
        axes[i, j] = ax.inset_axes([*corner, 0.9 / n_columns, share / n_rows])
    return axes

"""The display of networks side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sknonlin.inspection import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkComparisonDisplay:
    """Bars of memorization scores, with intervals, training accuracies and references.

    Make one with :meth:`from_comparison`, and draw it with :meth:`plot`.

    Parameters
    ----------
    names : list of str of length n_networks
        Under the bars.
    scores : ndarray of shape (n_networks,)
        Heights of the bars.
    intervals : ndarray of shape (n_networks, 2)
        Drawn over their ends.
    training_accuracies : ndarray of shape (n_networks,)
        Written in the bars.
    references : ndarray of shape (n_networks,)
        Lines across the bars; NaN draws none.
    sentence : str, default=""
        The title.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    bars_ : matplotlib.container.BarContainer
        The bars.

    See Also
    --------
    sknonlin.compare_networks : What it shows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknonlin import MemorizationDetector, compare_networks
    >>> from sknonlin.inspection import NetworkComparisonDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = MemorizationDetector(random_state=0).fit(X[:400], y[:400])
    >>> comparison = compare_networks({"default": detector})
    >>> display = NetworkComparisonDisplay.from_comparison(comparison).plot()
    >>> len(display.bars_)
    1
    """

    names: list
    scores: NDArray
    intervals: NDArray
    training_accuracies: NDArray
    references: NDArray
    sentence: str = ""

    @classmethod
    def from_comparison(cls, comparison: Any) -> Self:
        """Take what is drawn from a comparison.

        Parameters
        ----------
        comparison : NetworkComparison
            Made by :func:`sknonlin.compare_networks`.

        Returns
        -------
        display : NetworkComparisonDisplay
            Not drawn yet.

        Raises
        ------
        TypeError
            If it is none.
        """
        if not hasattr(comparison, "training_accuracies"):
            given = "a dict" if isinstance(comparison, Mapping) else repr(comparison)
            raise TypeError(
                f"comparison is {given}; it must be what compare_networks returned."
            )
        return cls(
            names=comparison.names,
            scores=comparison.scores,
            intervals=comparison.intervals,
            training_accuracies=comparison.training_accuracies,
            references=comparison.references,
            sentence=str(comparison),
        )

    def plot(self, ax: "Axes | None" = None, *, bar_kw: dict | None = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.
        bar_kw : dict, default=None
            Settings for matplotlib's ``bar``.

        Returns
        -------
        display : NetworkComparisonDisplay
            Itself.
        """
        ax = _drawing.axes_for(self, ax)
        places = np.arange(len(self.scores))
        errors = np.abs(self.intervals - self.scores[:, None]).T
        settings = {
            "width": 0.6,
            "color": [_drawing.COLORS[i % len(_drawing.COLORS)] for i in places],
            "alpha": 0.85,
            "yerr": errors,
            "capsize": 6,
        }
        self.bars_ = ax.bar(places, self.scores, **settings | (bar_kw or {}))
        for place, score, fit, reference in zip(
            places, self.scores, self.training_accuracies, self.references, strict=True
        ):
            ax.annotate(
                f"{score:.2f}\nfits {fit:.0%}",
                (place, score / 2),
                ha="center",
                va="center",
                bbox={"boxstyle": "round", "facecolor": "white", "alpha": 0.8, "lw": 0},
            )
            if not np.isnan(reference):
                ax.plot([place - 0.38, place + 0.38], [reference] * 2, "k--", lw=1.5)
        if not np.isnan(self.references).all():
            ax.plot([], [], "k--", lw=1.5, label="reference")
            ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        ax.set_xticks(places, self.names)
        ax.set(ylabel="memorization score", xlim=(-0.6, len(places) - 0.4), ylim=(0, 1.02))
        ax.set_title(self.sentence, wrap=True, fontsize="medium")
        return self

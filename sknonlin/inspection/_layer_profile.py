"""The display of the areas under the curves of all layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from sknonlin.curves import area_under_curve
from sknonlin.inspection import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What the y axis says, by the curve whose areas are drawn.
AREAS = {
    "error": "area under the error curve",
    "accuracy": "area under the accuracy curve",
    "both": "area under the curve",
    "share": "area, as a share of that of mixed batches",
}
MANY_LAYERS = 12  # with more, their names are upright
MANY_LETTERS = 40  # with more, names are aslant


@dataclass(kw_only=True, eq=False, repr=False)
class LayerProfileDisplay:
    """Area under the curve of every layer, one line for each network or compression.

    Make one with :meth:`from_estimator` or :meth:`from_profile`, and draw it with
    :meth:`plot`. A network that memorized has other phases along its depth than one
    that learned [1]_.

    Parameters
    ----------
    layer_names : list of str of length n_layers
        The layers, in the order of their calls.
    areas : ndarray of shape (n_lines, n_layers, n_classes)
        Area under each class's curve; NaN where it is not known, or a network has no
        such layer or class.
    names : list of str of length n_lines
        Names in the legend.
    curve : {"error", "accuracy", "both", "share"}, default="error"
        What they are areas under; of ``"share"``, that of errors, divided by the area of
        mixed batches.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    lines_ : list of matplotlib.lines.Line2D
        The means over the classes.
    bands_ : list of matplotlib.collections.PolyCollection or None
        The bands over the classes; None where a network has one.

    See Also
    --------
    RankCurveDisplay : The curve of one layer.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sknonlin import layer_profile
    >>> from sknonlin.inspection import LayerProfileDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> mlp = MLPClassifier((32, 16), tol=0.01, random_state=0).fit(X, y)
    >>> settings = {"ranks": [1, 2, 4, 8], "random_state": 0}
    >>> display = LayerProfileDisplay.from_profile(
    ...     {
    ...         "NMF": layer_profile(mlp, X, y, **settings),
    ...         "PCA": layer_profile(mlp, X, y, compression="pca", **settings),
    ...     }
    ... )
    >>> [line.get_label() for line in display.plot().lines_]
    ['NMF', 'PCA']
    """

    layer_names: list
    areas: NDArray
    names: list
    curve: str = "error"

    @classmethod
    @validate_params(
        {"mixed": ["boolean"], "name": [str, None]}, prefer_skip_nested_validation=False
    )
    def from_estimator(
        cls,
        detector: Any,
        *,
        curve: str = "error",
        mixed: bool = False,
        name: str | None = None,
    ) -> Self:
        """Take the areas of a fitted detector.

        Parameters
        ----------
        detector : MemorizationDetector
            Fitted.
        curve : {"error", "accuracy", "both", "share"}, default="error"
            As in :meth:`from_profile`; or ``"share"``, which the memorization score is
            made of: the area under a layer's error curve, divided by that of mixed
            batches. At 1, the layer finds samples of a class as different as any.
        mixed : bool, default=False
            Add a line for the mixed batches, against which the memorization score holds
            those of one class: the closer both are, the more was memorized. Only for
            ``curve="error"``.
        name : str, default=None
            Name in the legend.

        Returns
        -------
        display : LayerProfileDisplay
            Not drawn yet.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it is no detector.
        ValueError
            If there is no such curve.
        """
        if not hasattr(detector, "label_report"):
            raise TypeError(
                f"detector is a {type(detector).__name__}; it must be a fitted "
                "MemorizationDetector. For a network, make a profile with layer_profile, "
                "and use from_profile."
            )
        check_is_fitted(detector)
        if curve == "share" and not mixed:
            return cls._of_shares(detector, name)
        if not mixed:
            return cls.from_profile(detector.profile_, curve=curve, name=name)
        if curve != "error":
            raise ValueError(
                f"curve={curve!r}: of mixed batches there are error curves only. Choose "
                'curve="error", or mixed=False.'
            )
        prefix = "" if name is None else f"{name}, "
        return cls.from_profile(
            {
                f"{prefix}batches of one class": detector.profile_,
                f"{prefix}mixed batches": detector.mixed_profile_,
            }
        )

    @classmethod
    def _of_shares(cls, detector, name):
        """Take what a detector's score is made of, for every class."""
        single, mixed = detector.profile_, detector.mixed_profile_
        areas = area_under_curve(single.ranks, _drawing.curves_of(single, "error"))
        reference = np.where(mixed.error_auc > 0, mixed.error_auc, np.inf)
        score = f"memorization score {detector.memorization_score_:.3f}"
        return cls(
            layer_names=single.layer_names,
            areas=(areas / reference[:, None])[None],
            names=[score if name is None else f"{name}, {score}"],
            curve="share",
        )

    @classmethod
    @validate_params(
        {"curve": [StrOptions(set(AREAS) - {"share"})], "name": [str, None]},
        prefer_skip_nested_validation=True,
    )
    def from_profile(
        cls, profile: Any, *, curve: str = "error", name: str | None = None
    ) -> Self:
        """Compute the areas under the curves of one profile or of several.

        Parameters
        ----------
        profile : LayerProfile, list or dict of them
            One line for each. A dict has names for them; those of a list are their
            compressions, where these differ, and otherwise numbers.
        curve : {"error", "accuracy", "both"}, default="error"
            Under which curve; ``"both"`` draws two lines for each profile that has both.
        name : str, default=None
            Name of a single profile; None: that of the curve.

        Returns
        -------
        display : LayerProfileDisplay
            Not drawn yet. Layers are matched by the order of their calls, and named by
            it, from 1, where networks give them different names.

        Raises
        ------
        TypeError
            If they are not profiles.
        ValueError
            If there are none, they have no such curve, or ``name`` is given for several.
        """
        profiles = named_profiles(profile, name)
        areas = {}
        for own, each in profiles.items():
            _drawing.check_profile(each, "For a detector, use from_estimator.")
            for one in curves_to_draw(each, curve):
                label = line_name(own, _drawing.CURVES[one], both=curve == "both")
                areas[label] = area_under_curve(each.ranks, _drawing.curves_of(each, one))
        return cls(
            layer_names=common_names([p.layer_names for p in profiles.values()]),
            areas=stacked(list(areas.values())),
            names=list(areas),
            curve=curve,
        )

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | Sequence[str] | None = None,
        band: tuple[float, float] | None = (0, 1),
        line_kw: dict | None = None,
        band_kw: dict | None = None,
    ) -> Self:
        """Draw the lines over the layers, with bands over the classes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw, also beside other displays; None makes a new figure.
        name : str or list of str, default=None
            Names in the legend; None: the display's own.
        band : tuple of two floats or None, default=(0, 1)
            Quantiles over the classes that the bands span; the default is from the
            lowest class to the highest. None leaves the bands out.
        line_kw, band_kw : dict, default=None
            Settings for matplotlib's ``plot`` and ``fill_between``.

        Returns
        -------
        display : LayerProfileDisplay
            Itself.

        Raises
        ------
        ValueError
            If there are not as many names as lines, or ``band`` is not as it should be.
        """
        names = self._names(name)
        ax = _drawing.axes_for(self, ax)
        self.lines_, self.bands_ = [], []
        for label, areas in zip(names, self.areas, strict=True):
            line, fill = _drawing.draw_curves(
                ax,
                np.arange(len(areas)),
                areas.T,
                label=label,
                over="classes",
                band=band,
                line_kw=line_kw,
                band_kw=band_kw,
            )
            self.lines_.append(line)
            self.bands_.append(fill)
        self._label_axes()
        return self

    def _names(self, name):
        if name is None:
            return self.names
        names = [name] if isinstance(name, str) else list(name)
        if len(names) != len(self.names):
            raise ValueError(
                f"name={name!r} is for {len(names)} lines, but there are "
                f"{len(self.names)}: {self.names}. Give a name for each."
            )
        return names

    def _label_axes(self):
        from matplotlib.ticker import FixedFormatter, FixedLocator

        ax = self.ax_
        # Other displays may have drawn here before.
        drawn = list(getattr(ax.xaxis.get_major_formatter(), "seq", []))
        names = common_names([self.layer_names, drawn])
        ax.xaxis.set_major_locator(FixedLocator(range(len(names))))
        ax.xaxis.set_major_formatter(FixedFormatter(names))
        if len(names) > MANY_LAYERS:
            ax.tick_params("x", rotation=90)
        elif sum(map(len, names)) > MANY_LETTERS:
            ax.tick_params("x", rotation=30)
            for label in ax.get_xticklabels():
                label.set_horizontalalignment("right")
        ylabel = AREAS[self.curve]
        if ax.get_ylabel() not in ("", ylabel):
            ylabel = AREAS["both"]
        ax.set(xlabel="layer", ylabel=ylabel)
        _drawing.unit_interval(ax)
        # The bands of accuracies can fill the axes, and leave no place within.
        _drawing.draw_legend(ax, above=ylabel != AREAS["error"])


def named_profiles(profile, name):
    """Profiles by their names, for all that may be given.

    Raises
    ------
    ValueError
        If there are none, or one name for several.
    """
    if not isinstance(profile, Mapping | list | tuple):
        return {name: profile}
    if name is not None:
        raise ValueError(
            f"name={name!r} is for a single profile. Give several with their names: a dict."
        )
    if len(profile) == 0:
        raise ValueError(f"profile={profile!r} has no profiles; give one or more.")
    if isinstance(profile, Mapping):
        return dict(profile)
    compressions = [getattr(each, "compression", None) for each in profile]
    differ = len(set(compressions)) == len(profile)
    names = compressions if differ else [f"profile {i + 1}" for i in range(len(profile))]
    return dict(zip(names, profile, strict=True))


def curves_to_draw(profile, curve):
    """Names of the curves to draw; of both, those that the profile has."""
    if curve != "both":
        return [curve]
    return [each for each in _drawing.CURVES if _drawing.has_curve(profile, each)]


def line_name(name, curve, *, both):
    """Name of a line in the legend."""
    if name is None:
        return curve
    return f"{name}, {curve}" if both else str(name)


def common_names(names):
    """Names of layers of several networks, which count from 1 where they differ."""
    longest = max(names, key=len)
    if all(each == longest[: len(each)] for each in names):
        return longest
    return [str(i + 1) for i in range(len(longest))]


def stacked(arrays):
    """Stack arrays of different sizes, with NaN where they have nothing."""
    stack = np.full((len(arrays), *np.max([a.shape for a in arrays], axis=0)), np.nan)
    for filled, array in zip(stack, arrays, strict=True):
        filled[tuple(map(slice, array.shape))] = array
    return stack

"""The display of one layer's error or accuracy curve."""

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from sknonlin.curves import area_under_curve, mean_of_known
from sknonlin.inspection import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONSTRAINTS = {
    "layer": [str, Integral, None],
    "curve": [StrOptions(set(_drawing.CURVES))],
    "over": [StrOptions({"classes", "batches"}), None],
    "name": [str, None],
}


@dataclass(kw_only=True, eq=False, repr=False)
class RankCurveDisplay:
    """Error or accuracy curve of a layer against the rank, with the area under it.

    Make one with :meth:`from_estimator` or :meth:`from_profile`, and draw it with
    :meth:`plot`. The grey area is the layer's non-linearity [1]_, and its value is in
    the legend.

    Parameters
    ----------
    ranks : ndarray of shape (n_ranks,)
        The ranks, increasing.
    curves : ndarray of shape (n_curves, n_ranks)
        A curve for each class or batch; NaN where it is not known.
    curve : {"error", "accuracy"}, default="error"
        What they are curves of.
    over : {"classes", "batches"}, default="classes"
        What there is a curve for.
    name : str, default=None
        Name in the legend.
    title : str, default=None
        Title of a new figure.
    mixed_curve : ndarray of shape (n_ranks,), default=None
        The curve of mixed batches, drawn dotted beside the others.

    Attributes
    ----------
    area : float
        Area under the mean of the curves, divided by the range of the ranks.
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        The figure of ``ax_``.
    line_ : matplotlib.lines.Line2D
        The mean of the curves.
    band_ : matplotlib.collections.PolyCollection or None
        The band over the curves; None where there is one curve.
    fill_ : matplotlib.collections.PolyCollection or None
        The shaded area; None without.
    mixed_line_ : matplotlib.lines.Line2D or None
        The curve of mixed batches; None without.

    See Also
    --------
    LayerProfileDisplay : The areas of all layers.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).

    Examples
    --------
    Two layers on the same axes:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sknonlin import layer_profile
    >>> from sknonlin.inspection import RankCurveDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> mlp = MLPClassifier((32, 16), tol=0.01, random_state=0).fit(X, y)
    >>> profile = layer_profile(mlp, X, y, ranks=[1, 2, 4, 8], random_state=0)
    >>> first = RankCurveDisplay.from_profile(profile, layer="relu1").plot()
    >>> second = RankCurveDisplay.from_profile(profile, layer="relu2").plot(first.ax_)
    >>> len(second.ax_.lines)
    2
    """

    ranks: NDArray
    curves: NDArray
    curve: str = "error"
    over: str = "classes"
    name: str | None = None
    title: str | None = None
    mixed_curve: NDArray | None = None

    @property
    def area(self) -> float:
        """Area under the mean of the curves."""
        return area_under_curve(self.ranks, mean_of_known(self.curves, 0))

    @classmethod
    @validate_params(
        CONSTRAINTS | {"mixed": ["boolean"]}, prefer_skip_nested_validation=True
    )
    def from_estimator(
        cls,
        estimator: Any,
        *,
        layer: str | int | None = None,
        curve: str = "error",
        over: str | None = None,
        mixed: bool = False,
        name: str | None = None,
    ) -> Self:
        """Take the curves of a fitted estimator.

        Parameters
        ----------
        estimator : ActivationNonlinearity or MemorizationDetector
            Fitted.
        layer : str or int, default=None
            As in :meth:`from_profile`; only for a detector.
        curve : {"error", "accuracy"}, default="error"
            Which curve; an ``ActivationNonlinearity`` has that of errors.
        over : {"classes", "batches"}, default=None
            As in :meth:`from_profile`; only for a detector.
        mixed : bool, default=False
            Add the curve of mixed batches. The layer's share in the memorization score is
            the area of one class divided by that of mixed batches. Only for the error
            curves of a detector.
        name : str, default=None
            Name in the legend; None: that of a detector's layer.

        Returns
        -------
        display : RankCurveDisplay
            Not drawn yet.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is neither of the two.
        ValueError
            If there is no such layer or curve.
        """
        if hasattr(estimator, "label_report"):  # a MemorizationDetector
            check_is_fitted(estimator)
            display = cls.from_profile(
                estimator.profile_, layer=layer, curve=curve, over=over, name=name
            )
            if mixed and curve != "error":
                raise ValueError(
                    f"curve={curve!r}: of mixed batches there are error curves only. "
                    'Choose curve="error", or mixed=False.'
                )
            if mixed:
                position = layer_position(estimator.profile_.layer_names, layer)
                curves = _drawing.curves_of(estimator.mixed_profile_, "error")
                display.mixed_curve = mean_of_known(curves[position], 0)
            return display
        if not hasattr(estimator, "reconstruct"):  # nor an ActivationNonlinearity
            raise TypeError(
                f"estimator is a {type(estimator).__name__}; it must be a fitted "
                "ActivationNonlinearity or MemorizationDetector. For a network, make a "
                "profile with layer_profile, and use from_profile."
            )
        check_is_fitted(estimator)
        if (layer, curve, over, mixed) != (None, "error", None, False):
            raise ValueError(
                f"layer={layer!r}, curve={curve!r}, over={over!r} and mixed={mixed!r} "
                "choose among the curves of a MemorizationDetector; an "
                "ActivationNonlinearity has one error curve, or one for each class. Leave "
                "them out."
            )
        curves = np.atleast_2d(estimator.errors_)
        return cls(ranks=estimator.ranks_, curves=curves, name=name)

    @classmethod
    @validate_params(CONSTRAINTS, prefer_skip_nested_validation=True)
    def from_profile(
        cls,
        profile: Any,
        *,
        layer: str | int | None = None,
        curve: str = "error",
        over: str | None = None,
        name: str | None = None,
    ) -> Self:
        """Take the curves of one layer of a profile.

        Parameters
        ----------
        profile : LayerProfile
            As :func:`~sknonlin.layer_profile` returns it.
        layer : str or int, default=None
            Name of the layer, or its place in the order of calls, from 0; None: the
            last one, which the title of a new figure then says.
        curve : {"error", "accuracy"}, default="error"
            Which curve.
        over : {"classes", "batches"}, default=None
            Have a curve for each class, averaged over its batches, or one for each
            number of a batch, averaged over the classes. None: classes, or batches
            where all are of one class or mixed.
        name : str, default=None
            Name in the legend; None: that of the layer.

        Returns
        -------
        display : RankCurveDisplay
            Not drawn yet.

        Raises
        ------
        TypeError
            If ``profile`` is not one.
        ValueError
            If it has no such layer or curve.
        """
        _drawing.check_profile(profile, "For an estimator, use from_estimator.")
        names = profile.layer_names
        position = layer_position(names, layer)
        last = f"layer {names[-1]}, the last of {len(names)}"
        if over is None:
            over = "classes" if len(profile.classes) > 1 else "batches"
        return cls(
            ranks=profile.ranks,
            curves=_drawing.curves_of(profile, curve, over)[position],
            curve=curve,
            over=over,
            name=f"layer {names[position]}" if name is None else name,
            title=last if layer is None and len(names) > 1 else None,
        )

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | None = None,
        band: tuple[float, float] | None = (0, 1),
        fill: bool = True,
        line_kw: dict | None = None,
        band_kw: dict | None = None,
        fill_kw: dict | None = None,
    ) -> Self:
        """Draw the mean curve, the area under it, and a band over the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw, also beside other displays; None makes a new figure.
        name : str, default=None
            Name in the legend; None: the display's own.
        band : tuple of two floats or None, default=(0, 1)
            Quantiles over the curves that the band spans; the default is from the
            lowest curve to the highest. None leaves the band out.
        fill : bool, default=True
            Whether to shade the area under the curve.
        line_kw, band_kw, fill_kw : dict, default=None
            Settings for matplotlib's ``plot`` and ``fill_between``.

        Returns
        -------
        display : RankCurveDisplay
            Itself.

        Raises
        ------
        ValueError
            If ``band`` is not as it should be.
        """
        is_new = ax is None
        ax = _drawing.axes_for(self, ax)
        if is_new and self.title is not None:
            ax.set_title(self.title)
        name = self.name if name is None else name
        area = f"area {self.area:.3f}"
        self.line_, self.band_ = _drawing.draw_curves(
            ax,
            self.ranks,
            self.curves,
            label=area if name is None else f"{name}, {area}",
            over=self.over,
            band=band,
            line_kw=line_kw,
            band_kw=band_kw,
        )
        self.fill_ = self._shade(fill_kw) if fill else None
        self.mixed_line_ = None if self.mixed_curve is None else self._draw_mixed()
        _drawing.whole_number_ticks(ax)
        _drawing.unit_interval(ax)
        ax.set(xlabel="rank", ylabel=_drawing.CURVES[self.curve])
        _drawing.draw_legend(ax)
        return self

    def _draw_mixed(self):
        area = area_under_curve(self.ranks, self.mixed_curve)
        share = f", share {min(1.0, self.area / area):.3f}" if area else ""
        label = f"mixed batches, area {area:.3f}{share}"
        settings = {"color": self.line_.get_color(), "linestyle": ":", "label": label}
        return self.ax_.plot(self.ranks, self.mixed_curve, **settings)[0]

    def _shade(self, fill_kw):
        label = _drawing.shade_label(self.line_.get_label())
        # Grey, not to be taken for a band.
        settings = {"color": "0.5", "alpha": 0.2, "linewidth": 0, "label": label}
        heights = mean_of_known(self.curves, 0)
        return self.ax_.fill_between(self.ranks, heights, **settings | (fill_kw or {}))


def layer_position(layer_names, layer):
    """Place of a layer, given by name or by its place.

    Raises
    ------
    ValueError
        If there is none.
    """
    if layer is None:
        return len(layer_names) - 1
    if layer in layer_names:
        return layer_names.index(layer)
    if isinstance(layer, str) or not -len(layer_names) <= layer < len(layer_names):
        raise ValueError(
            f"layer={layer!r} is not in the profile. Choose one of {layer_names}, or its "
            f"place from 0 to {len(layer_names) - 1}."
        )
    return layer

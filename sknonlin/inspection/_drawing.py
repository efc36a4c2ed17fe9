"""What the displays share: axes, styles, bands and legends."""

from numbers import Real

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sknonlin._layer_profile import mean_of_known

#: The colours of Okabe and Ito, told apart by colour-blind eyes.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# As many lines, markers and colours as have no common divisor: they combine anew.
LINES = ("-", "--", "-.", ":", (0, (8, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
MANY_ENTRIES = 6  # of a legend, which with more is above the axes, not within


def axes_for(display, ax, **figure_settings):
    """Return the axes to draw on, new ones for None, and let the display keep them."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout="constrained", **figure_settings)
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def next_style(*axes):
    """Style of the next line on the axes, unlike the others in colour and in shape."""
    n_lines = sum(len(ax.lines) for ax in axes)
    return {
        "color": COLORS[n_lines % len(COLORS)],
        "linestyle": LINES[n_lines % len(LINES)],
        "marker": MARKERS[n_lines % len(MARKERS)],
        "markersize": 5,
    }


def whole_number_ticks(ax):
    """Let the x axis have ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def check_band(band):
    """Refuse what are not two quantiles.

    Raises
    ------
    ValueError
        If it is neither None nor two increasing numbers in [0, 1].
    """
    if band is None:
        return
    pair = isinstance(band, tuple | list) and len(band) == 2
    if not (
        pair and all(isinstance(q, Real) for q in band) and 0 <= band[0] < band[1] <= 1
    ):
        raise ValueError(
            f"band={band!r} is not two increasing quantiles in [0, 1]. Give (0, 1) for the "
            "lowest to the highest, (0.25, 0.75) for the middle half, or None for no band."
        )


def known_quantiles(curves, quantiles):
    """Quantiles at every point, (2, n_points); NaN where no curve is known."""
    known = ~np.isnan(curves).all(0)
    bounds = np.full((2, curves.shape[1]), np.nan)
    bounds[:, known] = np.nanquantile(curves[:, known], quantiles, axis=0)
    return bounds


def band_label(n_curves, over, quantiles):
    """Say what a band spans."""
    low, high = quantiles
    if (low, high) == (0, 1):
        return f"lowest to highest of {n_curves} {over}"
    return f"{low:.0%} to {high:.0%} quantile of {n_curves} {over}"


def draw_curves(ax, x, curves, *, label, over, band, line_kw, band_kw):
    """Draw the mean of curves, and a band over them where they are several.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    x : ndarray of shape (n_points,)
    curves : ndarray of shape (n_curves, n_points)
        NaN where a value is not known.
    label : str
        Of the line.
    over : str
        What the curves are of, in the plural.
    band : tuple of two quantiles, or None
    line_kw, band_kw : dict or None
        Settings for matplotlib, which prevail over the style.

    Returns
    -------
    line : matplotlib.lines.Line2D
    fill : matplotlib.collections.PolyCollection or None
    """
    check_band(band)
    curves = curves[~np.isnan(curves).all(1)]
    settings = next_style(ax) | {"label": label} | (line_kw or {})
    (line,) = ax.plot(x, mean_of_known(curves, 0), **settings)
    if band is None or len(curves) < 2:
        return line, None
    settings = {
        "color": line.get_color(),
        "alpha": 0.25,
        "linewidth": 0,
        "label": band_label(len(curves), over, band),
    }
    fill = ax.fill_between(x, *known_quantiles(curves, band), **settings | (band_kw or {}))
    return line, fill


def unit_interval(ax):
    """Show the whole of [0, 1] on the y axis, and what is above."""
    ax.set_ylim(0, max(1.02, ax.get_ylim()[1]))


def draw_legend(ax, *others):
    """Draw the legend of axes with the same place: lines first, every band once."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    entries, bands = [], {}
    for each in (ax, *others):
        for entry in zip(*each.get_legend_handles_labels(), strict=True):
            if isinstance(entry[0], PolyCollection):
                bands.setdefault(entry[1], []).append(entry[0])
            else:
                entries.append(entry)
    for label, fills in bands.items():
        shared = Patch(facecolor="0.75") if len(fills) > 1 else fills[0]
        entries.append((shared, label))
    handles, labels = [entry[0] for entry in entries], [entry[1] for entry in entries]
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 3}
    ax.legend(handles, labels, **above if len(entries) > MANY_ENTRIES else {})

"""What the displays share: axes, styles, bands and legends."""

from numbers import Real

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sknonlin.curves import mean_of_known

#: The curves of a profile, and what they are called on an axis.
CURVES = {"error": "relative error", "accuracy": "accuracy"}
#: The colours of Okabe and Ito, told apart by colour-blind eyes.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# As many lines, markers and colours as have no common divisor: they combine anew.
LINES = ("-", "--", "-.", ":", (0, (8, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
MANY_ENTRIES = 6  # of a legend, which with more is above the axes, not within
LEGEND_WIDTH, HANDLE = 75, 6  # of such a legend, and of an entry's handle, in letters


def check_profile(profile, remedy):
    """Refuse what is not a profile.

    Raises
    ------
    TypeError
        If it is not.
    """
    if not hasattr(profile, "batch_errors"):
        raise TypeError(
            f"profile is a {type(profile).__name__}; it must be a LayerProfile, as "
            f"layer_profile returns it. {remedy}"
        )


def has_curve(profile, curve):
    """Whether a profile has values of this curve."""
    batches = profile.batch_errors if curve == "error" else profile.batch_accuracies
    return not np.isnan(batches).all()


def curves_of(profile, curve, over="classes"):
    """Curves of every layer, for each class or for each number of a batch.

    Parameters
    ----------
    profile : LayerProfile
    curve : {"error", "accuracy"}
    over : {"classes", "batches"}
        Those of ``"batches"`` are averaged over the classes.

    Returns
    -------
    curves : ndarray of shape (n_layers, n_curves, n_ranks)

    Raises
    ------
    ValueError
        If the profile has no such curve.
    """
    if not has_curve(profile, curve):
        raise ValueError(
            f"curve={curve!r}: the profile has NaN there, because it was made with "
            "replay=False or of a network that does not classify. Choose the other curve, "
            "or profile a classifier with replay=True."
        )
    batches = profile.batch_errors if curve == "error" else profile.batch_accuracies
    return mean_of_known(batches, 2 if over == "classes" else 1)


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
    color = line.get_color()
    settings = {
        "facecolor": (color, 0.2),
        "edgecolor": (color, 0.6),  # a band that fills the axes still has a shape
        "linewidth": 0.8,
        "label": band_label(len(curves), over, band),
    }
    fill = ax.fill_between(x, *known_quantiles(curves, band), **settings | (band_kw or {}))
    return line, fill


def unit_interval(ax):
    """Show the whole of [0, 1] on the y axis, and what is above."""
    ax.set_ylim(0, max(1.02, ax.get_ylim()[1]))


def draw_legend(ax, *others, above=False):
    """Draw the legend of axes with the same place: lines first, every band once.

    A line under which the area is shaded shows that. With many entries the legend is
    above the axes anyway.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    entries, bands = [], {}
    shades = {c.get_label(): c for each in (ax, *others) for c in each.collections}
    for each in (ax, *others):
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            if isinstance(handle, PolyCollection):
                bands.setdefault(label, []).append(handle)
            else:
                shade = shades.get(shade_label(label))
                entries.append((handle if shade is None else (shade, handle), label))
    for label, fills in bands.items():
        shared = Patch(facecolor="0.85", edgecolor="0.5") if len(fills) > 1 else fills[0]
        entries.append((shared, label))
    handles, labels = [entry[0] for entry in entries], [entry[1] for entry in entries]
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": n_columns(labels)}
    ax.legend(handles, labels, **place if above or len(entries) > MANY_ENTRIES else {})


def n_columns(labels):
    """Count the columns of a legend that is no wider than a figure of usual width."""
    for n in (3, 2):
        n_rows = -(-len(labels) // n)
        columns = [labels[i : i + n_rows] for i in range(0, len(labels), n_rows)]
        letters = sum(HANDLE + max(map(len, column)) for column in columns)
        if letters <= LEGEND_WIDTH:
            return n
    return 1


def shade_label(line_label):
    """Label of the area under a line, which is not in the legend by itself."""
    return f"_area under {line_label}"

"""Figures of `label_noise.py`, which calls them."""

import itertools

import matplotlib.pyplot as plt
import numpy as np

KINDS = [("images", "mlp"), ("images", "cnn"), ("audio", "mlp"), ("audio", "cnn")]
BATCHES = {"single": "single-class batches", "mixed": "mixed batches"}
N_LAYERS = 4
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"
COMPRESSIONS = {
    "nmf": ("NMF", "black", "o"),
    "pca": ("PCA", ORANGE, "s"),
    "ablation": ("ablation", BLUE, "^"),
}


def select(areas, kind, **chosen):
    """Rows of a kind of networks, under NMF unless said otherwise."""
    chosen = {"compression": "nmf", "extent": "layer"} | chosen
    chosen |= dict(zip(("data", "architecture"), kind, strict=True))
    for column, value in chosen.items():
        areas = areas[areas[column] == value]
    return areas


def panels(n_rows, *, height):
    """Axes for the four kinds of networks, in one or more rows."""
    figure, axes = plt.subplots(
        n_rows, len(KINDS), figsize=(10, height), sharex=True, sharey="row", squeeze=False
    )
    for axis, (data, architecture) in zip(axes[0], KINDS, strict=True):
        axis.set_title(f"{data}, {architecture.upper()}")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def finish(figure, axes, path, *, n_columns=5):
    """Put one legend below all axes, and save."""
    handles, labels = axes.flat[0].get_legend_handles_labels()
    n_rows = -(-len(labels) // n_columns)
    room = (0.15 + 0.22 * n_rows) / figure.get_figheight()
    figure.tight_layout(rect=(0, room, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=n_columns, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def layers_figure(areas, path):
    """Accuracy AUC against p, of each layer and of the network."""
    figure, axes = panels(2, height=5.6)
    shades = plt.get_cmap("cividis")(np.linspace(0.1, 0.9, N_LAYERS))
    styles = [
        (layer, {"color": shade, "marker": marker, "markersize": 4.5, "lw": 1.2})
        for layer, shade, marker in zip(range(1, 5), shades, "osD^", strict=True)
    ]
    styles.append(("network", {"color": "black", "lw": 2.6, "ls": "--"}))
    for row, batches in zip(axes, BATCHES, strict=True):
        for axis, kind in zip(row, KINDS, strict=True):
            for layer, style in styles:
                of = select(areas, kind, batches=batches, layer=layer)
                label = layer if layer == "network" else f"layer {layer}"
                axis.plot(of.groupby("p").accuracy.mean(), label=label, **style)
            axis.set_ylim(0, 1.05)
        row[0].set_ylabel(f"accuracy AUC,\n{BATCHES[batches]}")
    for axis in axes[-1]:
        axis.set_xlabel("label noise p")
    finish(figure, axes, path)


def detectors_figure(found, path):
    """Rank correlation with p, of every reading under every compression."""
    figure, axes = panels(1, height=5.2)
    names = list(dict.fromkeys(found.reading))[::-1]
    places = {"nmf": 0.27, "pca": 0.0, "ablation": -0.27}
    for axis, kind in zip(axes[0], KINDS, strict=True):
        of = found[(found.data == kind[0]) & (found.architecture == kind[1])]
        for compression, (label, color, marker) in COMPRESSIONS.items():
            rho = of[of.compression == compression].set_index("reading").rho
            at = np.array([names.index(name) for name in rho.index]) + places[compression]
            axis.plot(rho, at, marker, ms=5, color=color, label=label)
        axis.axvline(0, color="0.6", lw=0.8)
        axis.set(xlim=(-1.08, 1.08), ylim=(-0.5, len(names) - 0.5))
        axis.set_xlabel("rank correlation with p", fontsize=8.5)
        axis.set_yticks(range(len(names)), names, fontsize=8.5)
        for edge in np.arange(len(names) - 1) + 0.5:
            axis.axhline(edge, color="0.9", lw=0.8)
    finish(figure, axes, path)


def batches_figure(areas, path):
    """Both areas of the network against p, on single-class and on mixed batches."""
    figure, axes = panels(2, height=5.2)
    styles = {"single": (BLUE, "o-"), "mixed": (ORANGE, "s--")}
    for row, curve in zip(axes, ("accuracy", "error"), strict=True):
        for axis, kind in zip(row, KINDS, strict=True):
            for batches, (color, line) in styles.items():
                of = select(areas, kind, batches=batches, layer="network")
                levels = of.groupby("p")[curve]
                axis.plot(levels.mean(), line, color=color, label=BATCHES[batches])
                low, high = levels.min(), levels.max()
                axis.fill_between(low.index, low, high, color=color, alpha=0.25, lw=0)
        row[0].set(ylim=(0, 1.05 if curve == "accuracy" else None))
    axes[0, 0].set_ylabel("accuracy AUC,\nmean of layers")
    axes[1, 0].set_ylabel("AUC of the relative error,\nmean of layers")
    for axis in axes[-1]:
        axis.set_xlabel("label noise p")
    finish(figure, axes, path)


def extents_figure(areas, path):
    """Accuracy AUC along the depth, one layer compressed or all up to it."""
    figure, axes = panels(2, height=5.6)
    levels = {0.0: (BLUE, "o"), 0.4: (ORANGE, "s"), 1.0: (RED, "^")}
    extents = {"layer": ("-", "single layer"), "cumulative": (":", "cumulative")}
    for row, batches in zip(axes, BATCHES, strict=True):
        for axis, kind in zip(row, KINDS, strict=True):
            for (p, (color, marker)), extent in itertools.product(levels.items(), extents):
                line, name = extents[extent]
                of = select(areas, kind, batches=batches, extent=extent, p=p)
                depth = of[of.layer != "network"].groupby("layer").accuracy.mean()
                style = {"marker": marker, "label": f"p = {p:g}, {name}"}
                filled = color if extent == "layer" else "white"
                axis.plot(depth, line, color=color, mfc=filled, **style)
            axis.set(ylim=(0, 1.05), xticks=range(1, N_LAYERS + 1))
        row[0].set_ylabel(f"accuracy AUC,\n{BATCHES[batches]}")
    for axis in axes[-1]:
        axis.set_xlabel("layer")
    finish(figure, axes, path, n_columns=3)


def draw(areas, found, folder):
    """Draw all figures into a folder."""
    layers_figure(areas, folder / "label_noise_layers.png")
    detectors_figure(found, folder / "label_noise_detectors.png")
    batches_figure(areas, folder / "label_noise_batches.png")
    extents_figure(areas, folder / "label_noise_extents.png")

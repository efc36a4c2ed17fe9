"""Networks trained on noisy labels: what do the areas of their layers say?

    python doc/experiments/label_noise_runs.py FOLDER --jobs 2    # trains and measures
    python doc/experiments/label_noise.py FOLDER                  # 10 seconds

It reads what `label_noise_runs.py` left in FOLDER, as far as it has come, and writes
`label_noise.md` beside this file, and the figures of `label_noise_figures.py`.
"""

import argparse
import itertools
import json
import pathlib

import label_noise_figures
import label_noise_runs as runs
import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from tables import table, versions, with_answer  # found by label_noise_runs

HERE = pathlib.Path(__file__).parent
PACKAGES = ("sknonlin", "torch", "scikit-learn", "numpy")
NETWORK = ["data", "architecture"]
TRAINED = [*NETWORK, "p", "seed"]
PROFILE = ["compression", "batches", "extent", "layer", "error", "accuracy"]
LAST = 4  # ReLU layers
CUMULATIVE = "1 - accuracy AUC, {}, all layers cumulatively"  # under NMF alone
NAMES = {"nmf": "NMF", "pca": "PCA", "ablation": "ablation"}


# Reading --------------------------------------------------------------------------


def read(folder):
    """Return a frame of the networks, and one of the areas of their layers."""
    trained, areas = [], []
    for setting in runs.settings():
        path = runs.results_path(setting, folder)
        if not path.exists():
            continue
        found = json.loads(path.read_text())
        names = [getattr(setting, name) for name in TRAINED]
        areas += [(*names, *row) for row in found.pop("profiles")]
        trained.append(dict(zip(TRAINED, names, strict=True)) | found)
    frames = pd.DataFrame(trained), pd.DataFrame(areas, columns=TRAINED + PROFILE)
    return [whole_seeds(frame) for frame in frames]


def whole_seeds(frame):
    """Keep the seeds that have networks for all p."""
    n_levels = frame.groupby([*NETWORK, "seed"]).p.transform("nunique")
    return frame[n_levels == n_levels.max()]


def with_network(areas):
    """Add the network as a layer: the mean of its layers, or all of them compressed."""
    keys = [*TRAINED, "compression", "batches", "extent"]
    alone = areas[areas.extent == "layer"].groupby(keys, as_index=False)
    alone = alone[["error", "accuracy"]].mean().assign(layer="network")
    all_compressed = areas[(areas.extent == "cumulative") & (areas.layer == LAST)]
    return pd.concat([areas, alone, all_compressed.assign(layer="network")])


def readings(areas):
    """Give a column for every reading of a network, the higher, the more memorized."""
    keys = [*TRAINED, "compression"]
    wide = areas.pivot(index=keys, columns=["batches", "extent", "layer"])
    lost, error = 1 - wide["accuracy"], wide["error"]
    layers = list(range(1, LAST + 1))
    columns = {}
    for batches, name in {"single": "single-class", "mixed": "mixed"}.items():
        alone = lost[batches]["layer"][layers]
        columns[f"1 - accuracy AUC, {name}, mean of layers"] = alone.mean(axis=1)
        columns[f"1 - accuracy AUC, {name}, weakest layer"] = alone.max(axis=1)
        columns[CUMULATIVE.format(name)] = lost[batches, "cumulative", "network"]
        columns[f"error AUC, {name}, mean of layers"] = error[batches, "layer", "network"]
    columns["error AUC, single-class / mixed"] = (
        error["single", "layer", "network"] / error["mixed", "layer", "network"]
    )
    return pd.DataFrame(columns)


def steps_apart(p, values):
    """Count the steps from one p to the next where every seed is above all before."""
    levels = [values[p == level] for level in sorted(set(p))]
    return sum(before.max() < after.min() for before, after in itertools.pairwise(levels))


def detection(frame, columns):
    """How well every column tells p: for each group, rank correlation and steps apart."""
    rows = []
    for keys, group in frame.groupby([*NETWORK, "compression"]):
        p = group.index.get_level_values("p").to_numpy()
        for name in group[list(columns)].dropna(axis=1).columns:
            values = group[name].to_numpy()
            rho = 0.0 if np.ptp(values) == 0 else spearmanr(p, values).statistic
            rows.append((*keys, name, rho, steps_apart(p, values)))
    return pd.DataFrame(rows, columns=[*NETWORK, "compression", "reading", "rho", "steps"])


# Tables ---------------------------------------------------------------------------


def networks_of(frame):
    """List the data and architectures there are, in the order of the page."""
    there = set(map(tuple, frame[NETWORK].to_numpy()))
    wanted = [(data, kind) for data in runs.DATA for kind in ("mlp", "cnn")]
    return [pair for pair in wanted if pair in there]


def title(data, architecture):
    """Name a kind of networks."""
    return f"{data}, {architecture.upper()}"


def trained_table(trained):
    """Test accuracy at every p; and the numbers of seeds and of networks that fit."""
    levels = sorted(set(trained.p))
    rows = []
    for data, architecture in networks_of(trained):
        of = trained[(trained.data == data) & (trained.architecture == architecture)]
        means = of.groupby("p").test_accuracy.mean()
        fits = (of.train_accuracy == 1).sum()
        cells = [f"{means[p]:.2f}" if p in means else "" for p in levels]
        numbers = [of.seed.nunique(), f"{fits} of {len(of)}"]
        rows.append([title(data, architecture), *numbers, *cells])
    return table(
        ["networks", "seeds", "fit all labels", *(f"p = {p}" for p in levels)], rows
    )


def areas_table(areas, curve, batches, extent):
    """Give areas under NMF at every layer and p: mean of the seeds; the network's range."""
    chosen = areas[
        (areas.compression == "nmf") & (areas.batches == batches) & (areas.extent == extent)
    ]
    levels, rows = sorted(set(chosen.p)), []
    for data, architecture in networks_of(chosen):
        for layer in [*range(1, LAST + 1), "network"]:
            of = chosen[
                (chosen.data == data)
                & (chosen.architecture == architecture)
                & (chosen.layer == layer)
            ]
            cells = [area_cell(of[of.p == p][curve], layer) for p in levels]
            rows.append([title(data, architecture), layer, *cells])
    return table(["networks", "layer", *(f"p = {p}" for p in levels)], rows)


def area_cell(values, layer):
    """Mean of the seeds; and for a network, their range; nothing where none is there."""
    if values.empty:
        return ""
    cell = f"{values.mean():.3f}"
    return f"{cell} ({values.min():.3f}-{values.max():.3f})" if layer == "network" else cell


def falls_table(areas):
    """Give the networks' accuracy AUC without noise and with nothing but noise."""
    chosen = areas[(areas.extent == "layer") & (areas.layer == "network")]
    keys = [*NETWORK, "batches", "compression", "p"]
    means, rows = chosen.groupby(keys).accuracy.mean(), []
    for kind in networks_of(chosen):
        for batches in runs.BATCHES:
            ends = [
                [means[(*kind, batches, compression, p)] for p in (0.0, 1.0)]
                for compression in NAMES
            ]
            cells = [f"{clean:.3f} to {noise:.3f}" for clean, noise in ends]
            rows.append([title(*kind), batches, *cells])
    return table(["networks", "batches", *NAMES.values()], rows)


def detection_table(found, names):
    """Rank correlation of every reading with p, for every compression."""
    rows, kinds = [], networks_of(found)
    of = found.set_index([*NETWORK, "compression", "reading"])
    for name in names:
        for compression, label in NAMES.items():
            if (*kinds[0], compression, name) not in of.index:
                continue
            cells = [of.loc[(*kind, compression, name)] for kind in kinds]
            rho = [cell.rho for cell in cells]
            steps = f"{sum(int(cell.steps) for cell in cells)}"
            rows.append([name, label, *(f"{r:.2f}" for r in [*rho, np.mean(rho)]), steps])
    head = ["reading", "compression", *(title(*kind) for kind in kinds), "mean"]
    return table([*head, f"steps of {5 * len(kinds)}"], rows)


def layers_table(areas, curve):
    """Rank correlation with p of single layers' areas, for every compression."""
    alone = areas[(areas.extent == "layer") & (areas.layer != "network")]
    values = alone[curve] if curve == "error" else 1 - alone[curve]
    rows = []
    for batches in runs.BATCHES:
        wide = alone.assign(value=values)[alone.batches == batches].pivot(
            index=[*TRAINED, "compression"], columns="layer", values="value"
        )
        found = detection(wide, range(1, LAST + 1))
        of = found.set_index([*NETWORK, "compression", "reading"]).rho
        for kind in networks_of(found):
            for compression, label in NAMES.items():
                cells = [of[(*kind, compression, layer)] for layer in range(1, LAST + 1)]
                rows.append([title(*kind), batches, label, *(f"{c:.2f}" for c in cells)])
    layers = [f"layer {layer}" for layer in range(1, LAST + 1)]
    return table(["networks", "batches", "compression", *layers], rows)


# The page -------------------------------------------------------------------------

AREAS = {
    "single-class": ("single", "layer"),
    "mixed": ("mixed", "layer"),
    "single-class, cumulative": ("single", "cumulative"),
    "mixed, cumulative": ("mixed", "cumulative"),
}
SECTIONS = {
    "accuracy": "Accuracy AUC of the layers",
    "error": "Error AUC of the layers",
}


def minutes(trained):
    """Say what the trainings and measurements took."""
    train, measured = (
        trained[f"{name}_seconds"].sum() / 60 for name in ("training", "measuring")
    )
    return (
        f"{train:.0f} minutes of training and {measured:.0f} of measuring, on one core each"
    )


def area_sections(areas):
    """Tables of the areas, curve by curve."""
    for curve, heading in SECTIONS.items():
        yield f"## {heading}\n"
        yield (
            "NMF; mean of the seeds. The network is the mean of its layers, with the range "
            "of the seeds, or, cumulatively, all layers compressed at once.\n"
        )
        for name, (batches, extent) in AREAS.items():
            if curve == "accuracy" or extent == "layer":
                yield f"### {heading.split()[0]} AUC, {name}\n"
                yield areas_table(areas, curve, batches, extent)


def introduction(trained):
    """Say what was measured."""
    return (
        "Written by `label_noise.py` from the measurements of `label_noise_runs.py`: "
        f"{len(trained)} networks of four ReLU layers, trained on {runs.N_TRAIN:,} samples "
        "until every label fitted. `images` are rows 20,000 to 29,999 of Fashion-MNIST's "
        "training set. Nothing was chosen on them. `audio` are spectrograms of words from "
        "zero to nine, synthesized with espeak-ng. The test words have other timbres. A "
        "share p of the labels is redrawn from all ten classes. Areas are over the "
        "automatic ranks, up to 32. Each label given has one batch of "
        f"{runs.SIZES['batch_size']} samples, and there are "
        f"{runs.BATCHES['mixed']['n_batches']} mixed batches of the same size. `max_rows` "
        f"is {runs.SIZES['max_rows']:,}. [Another page](index.md) says what this means, "
        "with figures.\n"
    )


def page(trained, areas):
    """Write the page."""
    found = readings(areas)
    sections = [
        "# Label noise from 0 to 1\n",
        introduction(trained),
        "## The networks\n",
        "Test accuracy, on the true labels.\n",
        trained_table(trained),
        "## Which reading tells p\n",
        "The table has Spearman's rank correlation with p. With three networks for each "
        "p, 0.988 is the highest possible value. *Steps* counts how often, from one p to "
        "the next, all seeds are above all seeds before.\n",
        detection_table(detection(found, found.columns), found.columns),
        "## How far the accuracy AUC falls\n",
        "The network's accuracy AUC (mean of its layers) at p = 0 and at p = 1, mean of "
        "the seeds. Under ablation it is that of one random order of the units.\n",
        falls_table(areas),
        *area_sections(areas),
        "## Which layer tells p\n",
        "Rank correlation with p, one layer at a time.\n",
        "### 1 - accuracy AUC\n",
        layers_table(areas, "accuracy"),
        "### Error AUC\n",
        layers_table(areas, "error"),
        f"All networks: {minutes(trained)} of a shared virtual machine. "
        f"{versions(*PACKAGES)}.\n",
    ]
    return "\n".join(sections)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    trained, areas = read(parser.parse_args().folder)
    areas = with_network(areas)
    path = HERE / "label_noise.md"
    path.write_text(with_answer(page(trained, areas), path))
    found = readings(areas)
    label_noise_figures.draw(areas, detection(found, found.columns), HERE)

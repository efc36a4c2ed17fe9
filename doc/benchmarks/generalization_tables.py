"""The page of `generalization.py`: which measures stand where."""

import generalization_readings as readings
import numpy as np
import pandas as pd
from generalization_measures import MEASURES
from generalization_networks import GRIDS, LEVELS
from tables import machine, table, versions

CHOSEN_ON, *CONFIRMED_ON = GRIDS
PACKAGES = ("sknonlin", "torch", "scikit-learn", "scipy", "numpy")
CHOSEN = "cones: answers contradicted, all layers"  # on digits, before the others ran
OURS = (
    "cones: answers contradicted, first layer",  # level with the chosen one on digits
    *("memorization score", "memorization score, deepest layer"),
    *("memorization score, first layer", "memorization score, unlabelled samples"),
    *("1 - accuracy areas", "1 - accuracy areas, mixed batches"),
    "drop to unlabelled samples",
)
PAPER = ("memorization score by PCA",)  # compressed otherwise: a baseline
WINNER = "Davies-Bouldin x label-wise mixup (PGDL's winner)"
PEERS = (WINNER, *MEASURES, *readings.OTHER_READERS, readings.TWIN)


RESULT = """
Written by `generalization.py`. All networks fit at least 99 % of their labels, and the
labels are clean. Which of two networks has the larger gap between training and test
accuracy?

- **The memorization score does not tell.** It has 0 to 1 % on the five grids that serve
  to confirm. Its deepest layer, the accuracy areas, and the
  drop of the error curves to unlabelled samples have 0 to 2 %. The first layer alone
  does well on the first CNNs only (10 %).
- **The paper says that non-linearity predicts the gap. Here it does not.** It does tell
  networks that learned from those that fit random labels
  ([numbers](memorization_score.md)). With clean labels, networks whose layers are less
  linear have the *smaller* gap more often on the first four grids: tau of the error areas
  is -0.2 to -0.4 there.
- **The reading that was chosen on digits does not hold.** It is the share of unlabelled
  samples whose answer is contradicted by the cones of the classes, mean of all layers:
  15 % on digits, but 1, 8 and 1 % on the next three, and 1 % or less on the last two.
- **The same share in the first layer alone** was level with it on digits, and second,
  second and fourth of 39 measures on the next three grids: 7, 14 and 6 %. The rule had
  not chosen it. So two more grids were run when this was written down: it has less than
  1 % on both: it did not hold.
- **It is not the factorization that counts.** Subspaces by PCA in place of the cones do
  as well or better (19 % on digits; 6, 14 and 8 %). Five neighbours among the *inputs*,
  which see nothing of the network but its answers, do as well on the MLPs (5 and 8 %),
  and worse on the CNNs (4 %). On the last two grids they have 3 and 6 %, and are third
  and first. What helps most, if anything, is a second opinion on unlabelled samples.
- **A second training** gives the best such opinion on Fashion-MNIST (MLP) and on
  letters, where it leads beyond chance (14 against 8 %). On the first CNNs and on
  satellite pixels it is behind (4 and 1 %). It costs a whole training.
- **Without unlabelled samples, nothing is good on all grids.** PGDL's winner has 0 to
  2 %. Margins, norms, sharpness, calibration, WeightWatcher's alpha, AffScore, neural
  collapse, gradient disparity and the training loss have at most 6 %, and each of them
  less than 2 % on some grid. The distance from
  the start, the effective dimension and AffScore run against what was expected of them;
  so do the error areas of mixed batches, which have 13 % on letters.

No measure has more than 19 % on any grid. These are small networks on small data.

No reading of the factorizations predicts the gap on all grids, so that there is no public
`generalization_score_`. Who wants to know the gap needs samples with labels, or a second
opinion on samples without.
"""
HOW_TO_READ = """
Conditional mutual information in %, and Kendall's tau in brackets. The information does not
see the direction; where tau is negative, the measure runs against what was expected of it.
`=` means that the best of the grid may lead by chance: in 5 % or more of 60 draws of the
networks, it does not lead. Ours are bold. "Unlabelled" samples are neither trained nor
tested on, and nothing knows their labels.
"""
NETWORKS = """
The second Fashion-MNIST grid of CNNs has other rows, from 10,000 on. It and the satellite
pixels were run last, for what had been found before.

The levels of six hyperparameters, with two seeds: 128 networks to a grid. Depth is hidden
layers of an MLP; of a CNN, convolutions after the first one. All are trained by AdamW for
at least 50 epochs at a rate of 0.001 (digits), or 30 epochs at 0.002 (the others), and on
until they fit 99 % of their labels. Those that do not after 300 epochs are dropped.
Weight decay and dropout are milder where narrow networks did not fit with those of digits.
"""
MEASURED = """
All factorizations take batches of 20 samples and ranks up to 16; the cones, all training
samples of a class at ranks 1, 2, 4 and 8. On digits, a `MemorizationDetector` is measured,
too. Our fit of WeightWatcher's alpha was held against the package's (0.7.7) on four
networks: 1.86 (1.82), 2.95 (2.93), 1.92 (1.91), 2.10 (1.95). What was made smaller than in
the papers is said in `generalization_measures.py`. Digits and half of the first
Fashion-MNIST grid were trained before AdamW was fused; a rerun may differ a little.
"""


def added(frame):
    """Give a frame with a column for every reading, and for PGDL's winner."""
    product = frame["Davies-Bouldin, first layer"] * frame["label-wise mixup, loss"]
    return readings.added(frame).assign(**{WINNER: product})


def needs(name):
    """Say what a measure looks at beside the network and its training samples."""
    if name == readings.TWIN:
        return "unlabelled, a second network"
    words = ("unlabelled", "contradict", "drop", "cones")
    return "unlabelled" if any(word in name for word in words) else ""


def named(name):
    """Name of a measure in a table: ours are bold."""
    return f"**{name}**" if name in readings.READINGS and name not in PAPER else name


def cell(row, best):
    """CMI, the sign of tau, and whether the best may be no better."""
    if np.isnan(row.CMI):
        return "-"
    level = np.quantile(best.draws - row.draws, 0.05) <= 0
    return f"{row.CMI:.1f}{' =' if level else ''} ({row.tau:+.2f})"


def summary_table(found):
    """Give CMI and tau of every measure on every grid, in the order of the mean rank."""
    grids = list(found)
    ranks = {grid: (-found[grid].CMI.astype(float)).rank() for grid in grids}
    mean = pd.DataFrame({grid: ranks[grid] for grid in CONFIRMED_ON}).mean(axis=1)
    best = {grid: found[grid].loc[found[grid].CMI.astype(float).idxmax()] for grid in grids}
    rows = [
        [
            named(name),
            needs(name),
            *(cell(found[grid].loc[name], best[grid]) for grid in grids),
            " ".join(f"{ranks[grid][name]:.0f}" for grid in CONFIRMED_ON),
            f"{mean[name]:.1f}",
        ]
        for name in mean.sort_values().index
    ]
    return table(["measure", "needs", *grids, "ranks on the others", "mean rank"], rows)


def rho_table(found):
    """Spearman's rank correlation of every measure with the gap."""
    names = list(next(iter(found.values())).index)
    rows = [
        [named(n), *(f"{found[g].rho[n]:+.2f}".replace("+nan", "-") for g in found)]
        for n in names
    ]
    return table(["measure", *found], rows)


def readings_table(judged):
    """CMI and tau of all readings of the factorizations on every grid."""
    order = judged[CHOSEN_ON].CMI.astype(float).sort_values(ascending=False).index
    rows = []
    for name in order:
        cells = [f"{j.CMI[name]:.1f} ({j.tau[name]:+.2f})" for j in judged.values()]
        cells = [text.replace("nan (+nan)", "-") for text in cells]
        deviation = f"{judged[CHOSEN_ON].draws[name].std():.1f}"
        rows.append([f"**{name}**" if name == CHOSEN else name, deviation, *cells])
    return table(["reading", f"deviation, {CHOSEN_ON}", *judged], rows)


def grids_table(frames, dropped):
    """Say what was trained, how well it does, and what the gap is like."""
    rows = []
    for grid, frame in frames.items():
        gap = frame.train_accuracy - frame.test_accuracy
        levels = {**LEVELS, **GRIDS[grid]}
        rows.append(
            [
                grid,
                *(f"{a:g}, {b:g}" for a, b in levels.values()),
                len(frame),
                dropped[grid],
                f"{frame.test_accuracy.min():.3f}-{frame.test_accuracy.max():.3f}",
                f"{gap.min():.3f}-{gap.max():.3f}",
                f"{frame.n_epochs.median():.0f} ({frame.n_epochs.max()})",
            ]
        )
    head = ["grid", *(name.replace("_", " ") for name in LEVELS), "networks", "dropped"]
    return table([*head, "test accuracy", "gap", "epochs (most)"], rows)


def seconds_table(frames):
    """Median seconds for a network."""
    parts = ("training", "measures", "readings")
    rows = [
        [grid, *(f"{frame[f'seconds_{part}'].median():.1f}" for part in parts)]
        for grid, frame in frames.items()
    ]
    return table(["grid", "training", "all other measures", "all factorizations"], rows)


def ours():
    """Names of our readings on the confirmation grids, the chosen one first."""
    return list(dict.fromkeys([CHOSEN, *OURS] if CHOSEN else OURS))


def page(frames, dropped, all_readings, found):
    """Put the page together."""
    return f"""# Predicting generalization

{RESULT.strip()}

## All measures

{HOW_TO_READ.strip()}

{summary_table(found)}
Spearman's rank correlation with the gap:

{rho_table(found)}
## Choosing a reading

Thirty readings of the factorizations, in the order of digits. The first one was taken to
the other grids, before these were looked at. What the others would have done there is here
for completeness, and no ground to choose one.

{readings_table(all_readings)}
## Networks

{NETWORKS.strip()}

{grids_table(frames, dropped)}
Median seconds for a network, on a machine that others were using:

{seconds_table(frames)}
{MEASURED.strip()}

{versions(*PACKAGES)}; {machine()}, one of them used.
"""

"""What scores of samples at the layers say: which layers to believe, which labels fit."""

import numpy as np

from sknonlin._thresholds import auto_threshold, wrong_share

MAX_TRIMMED = 0.5  # of a class
MAX_WRONG = 0.6  # estimated share of wrong labels from which all are kept


def layer_weights(contrasts):
    """Weights of the layers, from how their contrasts are spread.

    A layer where no sample fits another class than its own has memorized the labels, and
    one where all do knows nothing of them; neither can tell wrong labels. The weight is
    that of the squared variance of the disagreement, and of contrasts in units of their
    standard deviation.
    """
    disagreeing = (contrasts > 0).mean(0)
    spread = contrasts.std(0)
    spread = np.where(spread > 0, spread, np.inf)
    weights = (disagreeing * (1 - disagreeing)) ** 2 / spread
    if not weights.any():
        weights = 1 / spread
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


def fitting(scores, codes):
    """Whether samples fit their label; true for half of every class at least.

    Where most labels seem wrong, there is nothing to go by, and all count as fitting.
    """
    if wrong_share(scores) > MAX_WRONG:
        return np.ones(len(scores), dtype=bool)
    keep = scores <= auto_threshold(scores)
    order = np.lexsort((scores, codes))
    counts = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = np.repeat(np.ceil(counts * (1 - MAX_TRIMMED)), counts)
    keep[order[rank < share]] = True
    return keep

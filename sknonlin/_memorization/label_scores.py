"""What scores of samples say: which labels fit, which layers to believe, what to flag."""

import numpy as np

LEVELS = np.linspace(0.3, 0.8, 26)  # quantiles at which both sides are compared
MAX_SHARE = 0.45  # of wrong labels; with more, those that fit another class are flagged
ODDS = 1.5
MAX_TRIMMED = 0.5  # of a class
MAX_WRONG = 0.6  # estimated share of wrong labels from which all are kept


def wrong_share(scores):
    """Estimate the share of wrong labels from how scores lie about 0.

    A sample given a wrong label scores about as far above 0 as it would have scored below
    with its own. So of the scores far from 0, the share above it is that of wrong labels;
    nearer to 0, samples that are hard to tell add to it, and the smallest share counts.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)

    Returns
    -------
    share : float in [0, 1]
    """
    size = np.sort(np.abs(scores))
    levels = np.quantile(size, LEVELS)
    above = len(scores) - np.searchsorted(np.sort(scores), levels, side="left")
    beyond = len(scores) - np.searchsorted(size, levels, side="left")
    return float((above / beyond).min())


def auto_threshold(scores):
    """Find the score above which labels are more likely wrong than right.

    With the share p of wrong labels and the distribution G of the scores of right ones,
    a share p G(-t) of the samples is wrong and above t, by the symmetry of
    :func:`wrong_share`. The threshold is where that, times ``ODDS``, exceeds the share of
    all scores above t by most.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)

    Returns
    -------
    threshold : float
        Not negative; infinite where no threshold is worth it.
    """
    n_samples = len(scores)
    share = wrong_share(scores)
    if share > MAX_SHARE:
        return 0.0
    ordered = np.sort(scores)
    levels = np.append(ordered[ordered > 0], np.inf)
    above = (n_samples - np.searchsorted(ordered, levels, side="left")) / n_samples
    below = np.searchsorted(ordered, -levels, side="right") / n_samples
    right_below = ((1 - share) * below - share * above) / (1 - 2 * share)
    gain = ODDS * share * right_below.clip(0, 1) - above
    best = gain.argmax()
    # Between this score and the next smaller one, so that equality does not matter.
    smaller = ordered[ordered < levels[best]]
    return float(levels[best] if not len(smaller) else (levels[best] + smaller[-1]) / 2)


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

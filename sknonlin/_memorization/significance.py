"""How sure a memorization score is: what changes from batch to batch."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

N_REPEATS = 24  # batches of one class, over all classes, from which changes are told
MOST_CLASSES = 24  # that are looked at again
LEVEL = 0.9  # of the intervals


def n_repeats(n_classes):
    """How many more batches of a class tell how the areas change from batch to batch."""
    return max(1, -(-N_REPEATS // min(n_classes, MOST_CLASSES)) - 1)


@dataclass(eq=False)
class BatchAreas:
    """Areas under the error curves of batches that were drawn one by one.

    Parameters
    ----------
    single, mixed : ndarray of shape (n_layers, n_classes, n_draws)
        Of batches of one class, and of mixed ones of the same sizes.
    """

    single: np.ndarray
    mixed: np.ndarray

    def total(self):
        """Areas of the network: the sum over its layers, as if it had one."""
        return BatchAreas(*(np.nansum(a, 0)[None] for a in (self.single, self.mixed)))


@dataclass(eq=False)
class Deviations:
    """How much the score of every layer follows each batch.

    Parameters
    ----------
    score : ndarray of shape (n_layers,)
    parts : list of ndarrays of shape (n_layers, n_classes, n_draws)
        Of batches of one class, and of mixed ones: what each adds to the score.
    """

    score: np.ndarray
    parts: list

    @classmethod
    def of(cls, areas, score):
        """Linearize the score, an area on batches of one class over that on mixed ones."""
        means = [np.nanmean(a, (1, 2))[:, None, None] for a in (areas.single, areas.mixed)]
        scale = [np.where(mean > 0, mean, np.inf) for mean in means]
        score = np.asarray(score)
        signed = score[:, None, None] * np.array([1, -1])[:, None, None, None]
        parts = [
            sign * values / size
            for sign, values, size in zip(
                signed, (areas.single, areas.mixed), scale, strict=True
            )
        ]
        return cls(score, parts)

    def minus(self, other):
        """Give the deviations of a difference on the same batches."""
        parts = [a - b for a, b in zip(self.parts, other.parts, strict=True)]
        return Deviations(self.score - other.score, parts)

    def variance(self, n_classes, n_batches):
        """Variance of the score of fresh batches, and its degrees of freedom.

        Parameters
        ----------
        n_classes, n_batches : int
            Batches that a score is made of: of every class, and as many mixed ones.

        Returns
        -------
        variance, freedom : ndarrays of shape (n_layers,)
        """
        terms = [part_variance(part) for part in self.parts]
        variance = sum(own for own, _ in terms) / (n_classes * n_batches)
        weights = sum(own**2 / freedom for own, freedom in terms)
        total = sum(own for own, _ in terms)
        freedom = np.where(weights > 0, total**2 / np.where(weights > 0, weights, 1), 1)
        return variance, freedom


def part_variance(values):
    """Variance within the classes, pooled, and its degrees of freedom."""
    known = ~np.isnan(values)
    counts = known.sum(2)
    means = np.where(known, values, 0).sum(2) / counts.clip(min=1)
    squares = np.where(known, (values - means[..., None]) ** 2, 0).sum((1, 2))
    freedom = (counts - 1).clip(min=0).sum(1).clip(min=1)
    return squares / freedom, freedom


def intervals(areas, score, n_classes, n_batches):
    """Intervals that hold the scores of fresh batches with a probability of 0.9.

    Parameters
    ----------
    areas : BatchAreas
    score : ndarray of shape (n_layers,)
    n_classes, n_batches : int
        Batches that the score is made of.

    Returns
    -------
    intervals : ndarray of shape (n_layers, 2)
        Within [0, 1].
    """
    variance, freedom = Deviations.of(areas, score).variance(n_classes, n_batches)
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(2 * variance)
    return np.stack([score - half, score + half], 1).clip(0, 1)


def p_value(difference, variance, freedom):
    """Two-sided p-value of a difference: 1 where there is none."""
    if difference == 0:
        return 1.0
    error = np.sqrt(variance)
    return float(2 * stats.t.sf(abs(difference) / error, freedom)) if error else 0.0


def class_p_values(areas):
    """P-values of layers that would not know the classes.

    Mixed batches are what batches of one class would be with permuted labels. One batch
    of every class, which has no sample in common with the others', is held against all
    mixed ones of its size.

    Returns
    -------
    p_values : ndarray of shape (n_layers,)
        One-sided, of a t test: small where batches of one class are closer to linear.
    """
    own = areas.single[..., 0]
    n_classes = own.shape[1]
    lower = np.nanmean(areas.mixed, 2) - own
    variance, freedom = part_variance(areas.mixed)
    n_draws = (~np.isnan(areas.mixed)).sum(2).mean(1)
    error = np.sqrt(variance * (1 + 1 / n_draws) / n_classes)
    statistic = np.nanmean(lower, 1) / np.where(error > 0, error, np.inf)
    return stats.t.sf(statistic, freedom)

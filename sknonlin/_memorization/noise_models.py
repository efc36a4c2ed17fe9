"""Explanations of the labels given, by the answers of readers, and how they are fitted.

The answers tell the class that a sample seems to have; a table of noise, how often labels
of each class become another one. Both are learned together, as what makes the labels given
likeliest. Where labels are wrong mostly near the boundaries of classes, the noise is not a
table, but grows with the readers' doubts.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from scipy.stats import entropy

NO_NOISE, LITTLE_NOISE = -12.0, logit(0.001)
SOME_NOISE, MUCH_NOISE, MOST_NOISE = logit(0.05), logit(0.3), 1.5
PENALTY_OF_WEIGHTS, PENALTY_OF_BIAS = 1e-5, 1e-2
SHARP = 25.0  # weight of all answers, from which classes that differ are looked for
UNKNOWN = 3.0  # standard error of a logit that labels do not tell
PRECISION_OF_SLOPES, STEEPEST = 0.05, 20.0
COST_OF_SLOPES = 3.0  # of the evidence: they are what a table does not have
#: Weights of all answers, levels and slopes from which noise near boundaries is looked for.
STARTS_NEAR_BOUNDARIES = ((6.0, -6.0, 8.0), (6.0, -4.0, 4.0), (2.0, -6.0, 8.0))
REST = 0.02  # of a class's wrong labels, where most of them are of one other class
PRECISION_OF_RATES = 10.0  # of the prior on how classes differ then


def classes_of(weights, bias, answers):
    """Probabilities of the true classes (n_samples, n_classes), labels unseen."""
    return softmax(np.tensordot(weights, answers, 1) + bias, 1)


def doubts_of(answers):
    """Entropies (n_samples, n_readers) of the readers' answers, from 0 to 1."""
    doubts = [entropy(softmax(own, 1), axis=1) for own in answers]
    return np.stack(doubts, 1) / np.log(max(2, answers.shape[2]))


def standard_error(score):
    """Find the standard error of a parameter from what each label tells of it.

    ``score`` is the derivative of the logarithm of each one's likelihood.
    """
    return float(min(UNKNOWN, 1 / np.sqrt(max((score**2).sum(), 1e-12))))


@dataclass
class Explanation:
    """One explanation of the labels given.

    Attributes
    ----------
    weights : ndarray of shape (n_readers,)
        Of the readers' answers.
    bias : ndarray of shape (n_classes,)
    evidence : float
        Logarithm.
    deviation : float
        Standard error of the logit of the share of wrong labels.
    """

    weights: np.ndarray
    bias: np.ndarray
    evidence: float = field(default=0.0, kw_only=True)
    deviation: float = field(default=0.0, kw_only=True)

    def classes(self, answers):
        """Probabilities of the true classes (n_samples, n_classes), labels unseen."""
        return classes_of(self.weights, self.bias, answers)


@dataclass
class NoiseTable(Explanation):
    """Labels that are wrong by their true class.

    Attributes
    ----------
    table : ndarray of shape (n_classes, n_classes)
        Probability of every label given (column) for every true class (row).
    """

    table: np.ndarray

    def wrong(self, classes, codes, answers):
        """Probabilities that labels are wrong, and that they are right."""
        likelihood = classes * self.table.T[codes]
        own = likelihood[np.arange(len(codes)), codes]
        total = likelihood.sum(1)
        others = np.maximum(total - own, 0)
        return others / total, own / total


@dataclass(frozen=True)
class Differences:
    """How pairs of a true class and a wrong label may differ in their noise.

    Attributes
    ----------
    groups : ndarray of int of shape (n_pairs,), or None
        Pairs that share a parameter; None: no parameters, all pairs are alike.
    precision : float
        Of the prior on the parameters.
    fixed : ndarray of shape (n_pairs,) or float
        What pairs differ by all the same, in logarithms.
    cost : float
        Of the evidence, for what is fixed.
    """

    groups: np.ndarray | None = None
    precision: float = 0.0
    fixed: np.ndarray | float = 0.0
    cost: float = 0.0

    @property
    def n_groups(self):
        """Number of parameters."""
        return 0 if self.groups is None else int(self.groups.max(initial=-1)) + 1

    def of_pairs(self, parameters):
        """Logarithms (n_pairs,) by which pairs differ."""
        return self.fixed if self.groups is None else self.fixed + parameters[self.groups]

    def sums(self, amounts):
        """Sum amounts of pairs that share a parameter."""
        return np.bincount(self.groups, amounts, minlength=self.n_groups)


ALIKE = Differences()


class TableFit:
    """Find the likeliest table for labels.

    Parameters
    ----------
    answers : ndarray of shape (n_readers, n_samples, n_classes)
    codes : ndarray of int of shape (n_samples,)
    """

    def __init__(self, answers, codes):
        self.answers, self.codes = answers, codes
        self.n_readers, self.n_samples, self.n_classes = answers.shape
        self.given = np.zeros((self.n_samples, self.n_classes))
        self.given[np.arange(self.n_samples), codes] = 1
        self.prior = np.log(self.given.mean(0) + 1e-3)
        self.off = ~np.eye(self.n_classes, dtype=bool)

    def table(self, level, differences):
        """Table of noise, from logarithms against the diagonal."""
        logits = np.zeros((self.n_classes, self.n_classes))
        logits[self.off] = level - np.log(max(1, self.n_classes - 1)) + differences
        return softmax(logits, 1)

    def _loss(self, parameters, differences):
        """Negative mean of the log-likelihood, penalized, and its gradient."""
        n = self.n_samples
        weights, bias, level, own = self._split(parameters)
        table = self.table(level, differences.of_pairs(own))
        classes = classes_of(weights, bias + self.prior, self.answers)
        likelihood = classes * table.T[self.codes]
        total = likelihood.sum(1)
        posterior = likelihood / total[:, None]
        by_class = (classes - posterior) / n
        pairs = posterior.T @ self.given
        by_pair = -(pairs - pairs.sum(1, keepdims=True) * table)[self.off] / n
        loss = -np.log(total).mean()
        loss += PENALTY_OF_WEIGHTS * (weights @ weights) / 2
        loss += PENALTY_OF_BIAS * (bias @ bias) / 2
        gradient = [
            np.tensordot(self.answers, by_class, ((1, 2), (0, 1)))
            + PENALTY_OF_WEIGHTS * weights,
            by_class.sum(0) + PENALTY_OF_BIAS * bias,
            [by_pair.sum()],
        ]
        if differences.groups is not None:
            penalty = differences.precision * own / n
            loss += penalty @ own / 2
            gradient.append(differences.sums(by_pair) + penalty)
        return loss, np.concatenate(gradient)

    def _split(self, parameters):
        """Weights, bias, level, and how classes differ."""
        r, k = self.n_readers, self.n_classes
        weights, bias, level, own = np.split(parameters, [r, r + k, r + k + 1])
        return weights, bias, level[0], own

    def _solve(self, start, highest, differences=ALIKE):
        r, k = self.n_readers, self.n_classes
        bounds = [(0, None)] * r + [(-5, 5)] * k + [(NO_NOISE, highest)]
        bounds += [(-6, 8)] * differences.n_groups
        return minimize(
            self._loss, start, differences, jac=True, method="L-BFGS-B", bounds=bounds
        )

    def start(self, weight, level, differences=()):
        """Parameters to begin with."""
        weights = np.full(self.n_readers, weight / self.n_readers)
        return np.concatenate([weights, np.zeros(self.n_classes), [level], differences])

    def result(self, solution, differences=ALIKE):
        """Describe a solution."""
        weights, bias, level, own = self._split(solution.x)
        table = self.table(level, differences.of_pairs(own))
        found = NoiseTable(weights, bias + self.prior, table)
        likelihood = found.classes(self.answers) * table.T[self.codes]
        posterior = likelihood / likelihood.sum(1, keepdims=True)
        found.evidence = -self.n_samples * solution.fun - differences.cost
        if differences.groups is not None:
            counts = differences.sums((posterior.T @ self.given)[self.off])
            precision = differences.precision
            found.evidence += 0.5 * np.log(precision / (precision + counts)).sum()
        wrong = 1 - posterior[np.arange(self.n_samples), self.codes]
        stay = np.diag(table)
        found.deviation = standard_error(wrong - (posterior * (1 - stay)).sum(1))
        return found

    def no_noise(self):
        """Explain all that disagrees by classes that overlap."""
        return self.result(self._solve(self.start(1, NO_NOISE), NO_NOISE))

    def uniform(self):
        """One share of wrong labels for all."""
        starts = [(1, SOME_NOISE), (1, MUCH_NOISE), (6, MUCH_NOISE)]
        solutions = [self._solve(self.start(*start), MOST_NOISE) for start in starts]
        best = min(solutions, key=lambda solution: solution.fun)
        return self.result(best), best.x

    def by_class(self, uniform, spread):
        """Classes that differ."""
        differences = Differences(np.arange(self.off.sum()), spread)
        starts = [self._confusion()]
        if uniform[-1] > LITTLE_NOISE:  # without, this would end where no label is wrong
            starts.append(np.concatenate([uniform, np.zeros(self.off.sum())]))
        solutions = [self._solve(start, MOST_NOISE, differences) for start in starts]
        return self.result(min(solutions, key=lambda solution: solution.fun), differences)

    def _confusion(self):
        """Start from what the readers agree on against the labels given."""
        sharp = softmax(SHARP / self.n_readers * self.answers.sum(0), 1)
        pairs = sharp.T @ self.given + 0.5
        pairs = np.maximum(pairs / pairs.sum(1, keepdims=True), 1e-4)
        level = logit(np.clip(1 - np.diag(pairs).mean(), 0.01, 0.6))
        logits = np.log(pairs / np.diag(pairs)[:, None])[self.off]
        differences = logits - (level - np.log(max(1, self.n_classes - 1)))
        return self.start(SHARP, level, np.clip(differences, -5, 7))

    def to_one_class(self, by_class=None):
        """Classes whose wrong labels are mostly of one other class each.

        Which one is read off a table of classes that differ, or off what the readers agree
        on.
        """
        if by_class is None:
            weights, bias, level, own = self._split(self._confusion())
            by_class = NoiseTable(weights, bias + self.prior, self.table(level, own))
        weights, bias = by_class.weights, by_class.bias - self.prior
        level = logit(np.clip(1 - np.diag(by_class.table).mean(), 0.05, 0.5))
        start = np.concatenate([weights, bias, [level], np.zeros(self.n_classes)])
        others = np.where(self.off, by_class.table, -1.0).argmax(1)
        differences = self._replaced_by(others)
        return self.result(self._solve(start, MOST_NOISE, differences), differences)

    def _replaced_by(self, others):
        """Differences where each class has one other that its wrong labels are of."""
        k = self.n_classes
        shares = np.full((k, k), REST / (k - 2))
        shares[np.arange(k), others] = 1 - REST
        return Differences(
            np.repeat(np.arange(k), k - 1),
            PRECISION_OF_RATES,
            np.log(shares * (k - 1))[self.off],
            k * np.log(k - 1),  # as every other class could be the one
        )


@dataclass
class NoiseNearBoundaries(Explanation):
    """Labels that are wrong the more often, the more the readers doubt.

    Attributes
    ----------
    level : float
        Logit of the share of wrong labels at doubts of 0. Answers have a floor, so that
        doubts are never that low.
    slopes : ndarray of shape (n_readers,)
        What their doubts add to it.
    """

    level: float
    slopes: np.ndarray

    def rates(self, answers):
        """Probabilities that labels are wrong before they are seen."""
        return noise_rates(self.level, self.slopes, doubts_of(answers))

    def wrong(self, classes, codes, answers):
        """Probabilities that labels are wrong, and that they are right."""
        rates = self.rates(answers)
        own = classes[np.arange(len(codes)), codes]
        right = own * (1 - rates)
        wrong = (1 - own) * rates / max(1, classes.shape[1] - 1)
        return wrong / (right + wrong), right / (right + wrong)


def noise_rates(level, slopes, doubts):
    """Probabilities that labels are wrong, by the readers' doubts."""
    return expit(np.minimum(level + doubts @ slopes, MOST_NOISE))


class BoundaryFit:
    """Find the likeliest noise near boundaries.

    Parameters
    ----------
    tables : TableFit
        Of the same answers and labels.
    """

    def __init__(self, tables):
        self.tables = tables
        self.doubts = doubts_of(tables.answers)

    def _split(self, parameters):
        """Weights, bias, level and slopes."""
        r, k = self.tables.n_readers, self.tables.n_classes
        weights, bias, level, slopes = np.split(parameters, [r, r + k, r + k + 1])
        return weights, bias, level[0], slopes

    def _loss(self, parameters):
        """Negative mean of the log-likelihood, penalized, and its gradient."""
        tables, n = self.tables, self.tables.n_samples
        weights, bias, level, slopes = self._split(parameters)
        classes = classes_of(weights, bias + tables.prior, tables.answers)
        rates = noise_rates(level, slopes, self.doubts)
        others = max(1, tables.n_classes - 1)
        own = classes[np.arange(n), tables.codes]
        likelihood = own * (1 - rates) + (1 - own) * rates / others
        loss = -np.log(likelihood).mean()
        loss += PENALTY_OF_WEIGHTS * (weights @ weights) / 2
        loss += PENALTY_OF_BIAS * (bias @ bias) / 2
        loss += PRECISION_OF_SLOPES * (slopes @ slopes) / 2 / n
        by_own = own * (1 - rates - rates / others) / likelihood
        by_class = -by_own[:, None] * (tables.given - classes) / n
        below = level + self.doubts @ slopes < MOST_NOISE
        by_rate = (own - (1 - own) / others) / likelihood
        by_logit = by_rate * rates * (1 - rates) * below / n
        gradient = [
            np.tensordot(tables.answers, by_class, ((1, 2), (0, 1)))
            + PENALTY_OF_WEIGHTS * weights,
            by_class.sum(0) + PENALTY_OF_BIAS * bias,
            [by_logit.sum()],
            self.doubts.T @ by_logit + PRECISION_OF_SLOPES * slopes / n,
        ]
        return loss, np.concatenate(gradient)

    def near_boundaries(self, uniform):
        """Find it, from the solution with one share of wrong labels for all, and others."""
        tables = self.tables
        r, k = tables.n_readers, tables.n_classes
        bounds = [(0, None)] * r + [(-5, 5)] * k
        bounds += [(NO_NOISE, MOST_NOISE)] + [(0, STEEPEST)] * r
        starts = [np.append(uniform, np.zeros(r))]
        for weight, level, slope in STARTS_NEAR_BOUNDARIES:
            starts.append(tables.start(weight, level, np.full(r, slope / r)))
        solutions = [
            minimize(self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
            for start in starts
        ]
        best = min(solutions, key=lambda solution: solution.fun)
        weights, bias, level, slopes = self._split(best.x)
        found = NoiseNearBoundaries(weights, bias + tables.prior, level, slopes)
        found.evidence = -tables.n_samples * best.fun - COST_OF_SLOPES
        classes = found.classes(tables.answers)
        wrong, _ = found.wrong(classes, tables.codes, tables.answers)
        found.deviation = self._deviation(wrong, level, slopes)
        return found

    def _deviation(self, wrong, level, slopes):
        """Find the standard error of the logit of the share of wrong labels."""
        rates = noise_rates(level, slopes, self.doubts)
        below = level + self.doubts @ slopes < MOST_NOISE
        inputs = np.column_stack([np.ones(len(rates)), self.doubts]) * below[:, None]
        scores = (wrong - rates)[:, None] * inputs
        information = scores.T @ scores + PRECISION_OF_SLOPES * np.eye(scores.shape[1])
        share = max(rates.mean(), 1e-12)
        slope = (rates * (1 - rates)) @ inputs / len(rates) / (share * (1 - share))
        variance = slope @ np.linalg.solve(information, slope)
        return float(min(UNKNOWN, np.sqrt(max(variance, 0))))

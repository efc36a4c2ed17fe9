"""What the answers of readers say of the labels given: how many are wrong, and which.

The answers tell the class that a sample seems to have; a table of noise, how often labels
of each class become another one. Both are learned together, as what makes the labels given
likeliest. Several such tables are compared, because labels alone do not tell apart
classes that overlap from labels that are wrong where they do:

* no label is wrong, and classes overlap; or half of what disagrees is wrong all the same;
* a share of the labels is wrong, each class being as likely to replace the true one;
* the classes differ in how often, and by what, they are replaced.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from scipy.stats import norm

MOST_SAMPLES = 4000  # that the tables are learned from, but
MOST_ANSWERS = 2**18  # of a reader, where there are many classes
MOST_CLASSES = 30  # with more, classes do not differ in their noise
SPREADS = (0.1, 0.5)  # precisions of the prior on how classes differ
PRIOR = {"none": 1.0, "uniform": 1.0, "by class": 0.5}
TEMPER = 10.0  # of the evidence, as the answers are not a model of the labels
AMBIGUOUS = 0.5  # share of what disagrees that is wrong, where nothing tells
FULL_AMBIGUITY = 0.3  # disagreement from which that share counts in full
LEAST_FLAGGED = 0.08  # probability
MOST_FLAGGED = 3.0  # times the number expected to be wrong
BROADER = 1.5  # the interval: the readers err in their own way, too
FLOOR = 0.02  # of an answer, a share, of which the logarithm is taken
NO_NOISE, LITTLE_NOISE = -12.0, logit(0.001)
SOME_NOISE, MUCH_NOISE = logit(0.05), logit(0.3)
PENALTY_OF_WEIGHTS, PENALTY_OF_BIAS = 1e-5, 1e-2
SHARP = 25.0  # weight of all answers, from which classes that differ are looked for


def log_shares(answers):
    """Turn answers that are shares of classes, or nearly, into their logarithms."""
    floor = min(FLOOR, 0.2 / answers.shape[1])
    shares = np.clip(answers, floor, 1)
    return np.log(shares / shares.sum(1, keepdims=True))


@dataclass
class NoiseTable:
    """One explanation of the labels given.

    Attributes
    ----------
    weights : ndarray of shape (n_readers,)
        Of the readers' answers.
    bias : ndarray of shape (n_classes,)
    table : ndarray of shape (n_classes, n_classes)
        Probability of every label given (column) for every true class (row).
    evidence : float
        Logarithm.
    deviation : float
        Standard error of the logit of the share of wrong labels.
    """

    weights: np.ndarray
    bias: np.ndarray
    table: np.ndarray
    evidence: float = 0.0
    deviation: float = 0.0

    def classes(self, answers):
        """Probabilities of the true classes (n_samples, n_classes), labels unseen."""
        return softmax(np.tensordot(self.weights, answers, 1) + self.bias, 1)

    def wrong(self, classes, codes):
        """Probabilities that labels are wrong, and that they are right."""
        likelihood = classes * self.table.T[codes]
        own = likelihood[np.arange(len(codes)), codes]
        total = likelihood.sum(1)
        others = np.maximum(total - own, 0)
        return others / total, own / total


class Fit:
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
        logits[self.off] = level - np.log(self.n_classes - 1) + differences
        return softmax(logits, 1)

    def _loss(self, parameters, spread):
        """Negative mean of the log-likelihood, penalized, and its gradient."""
        r, k, n = self.n_readers, self.n_classes, self.n_samples
        weights, bias, level = parameters[:r], parameters[r : r + k], parameters[r + k]
        differences = parameters[r + k + 1 :] if spread else np.zeros(())
        table = self.table(level, differences)
        classes = softmax(np.tensordot(weights, self.answers, 1) + bias + self.prior, 1)
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
        if spread:
            loss += spread * (differences @ differences) / 2 / n
            gradient.append(by_pair + spread * differences / n)
        return loss, np.concatenate(gradient)

    def _solve(self, start, highest, spread=0.0):
        r, k = self.n_readers, self.n_classes
        bounds = [(0, None)] * r + [(-5, 5)] * k + [(NO_NOISE, highest)]
        bounds += [(-6, 8)] * (len(start) - len(bounds))
        return minimize(
            self._loss, start, spread, jac=True, method="L-BFGS-B", bounds=bounds
        )

    def start(self, weight, level, differences=()):
        """Parameters to begin with."""
        weights = np.full(self.n_readers, weight / self.n_readers)
        return np.concatenate([weights, np.zeros(self.n_classes), [level], differences])

    def result(self, solution, spread=0.0):
        """Describe a solution."""
        r, k = self.n_readers, self.n_classes
        weights, bias, level = np.split(solution.x[: r + k + 1], [r, r + k])
        table = self.table(level, solution.x[r + k + 1 :] if spread else 0)
        found = NoiseTable(weights, bias + self.prior, table)
        classes = found.classes(self.answers)
        likelihood = classes * table.T[self.codes]
        posterior = likelihood / likelihood.sum(1, keepdims=True)
        found.evidence = -self.n_samples * solution.fun
        if spread:
            pairs = (posterior.T @ self.given)[self.off]
            found.evidence += 0.5 * np.log(spread / (spread + pairs)).sum()
        wrong = 1 - posterior[np.arange(self.n_samples), self.codes]
        stay = np.diag(table)
        # What each label tells of the level: its score, the derivative of its likelihood.
        score = wrong - (posterior * (1 - stay)).sum(1)
        information = (score**2).sum()
        found.deviation = float(1 / np.sqrt(information)) if information > 1e-6 else 3.0
        return found

    def no_noise(self):
        """Explain all that disagrees by classes that overlap."""
        return self.result(self._solve(self.start(1, NO_NOISE), NO_NOISE))

    def uniform(self):
        """One share of wrong labels for all."""
        starts = [(1, SOME_NOISE), (1, MUCH_NOISE), (6, MUCH_NOISE)]
        solutions = [self._solve(self.start(*start), 1.5) for start in starts]
        best = min(solutions, key=lambda solution: solution.fun)
        return self.result(best), best.x

    def by_class(self, uniform, spread):
        """Classes that differ."""
        starts = [self._confusion()]
        if uniform[-1] > LITTLE_NOISE:  # without, this would end where no label is wrong
            starts.append(np.concatenate([uniform, np.zeros(self.off.sum())]))
        solutions = [self._solve(start, 1.5, spread) for start in starts]
        return self.result(min(solutions, key=lambda solution: solution.fun), spread)

    def _confusion(self):
        """Start from what the readers agree on against the labels given."""
        sharp = softmax(SHARP / self.n_readers * self.answers.sum(0), 1)
        pairs = sharp.T @ self.given + 0.5
        pairs = np.maximum(pairs / pairs.sum(1, keepdims=True), 1e-4)
        level = logit(np.clip(1 - np.diag(pairs).mean(), 0.01, 0.6))
        logits = np.log(pairs / np.diag(pairs)[:, None])[self.off]
        differences = logits - (level - np.log(self.n_classes - 1))
        return self.start(SHARP, level, np.clip(differences, -5, 7))


class LabelNoise:
    """How likely labels are wrong, averaged over the explanations of them.

    Attributes
    ----------
    tables : list of NoiseTable
        The explanations.
    shares : ndarray of shape (n_tables,)
        How far each one is believed.
    ambiguous : float
        Share of what disagrees that is wrong, should no table of noise explain it.
    """

    def fit(self, answers, codes, random_state):
        """Learn from the answers (n_readers, n_samples, n_classes) and the labels.

        Returns
        -------
        wrong, right : ndarrays of shape (n_samples,)
            As of :meth:`wrong`.
        """
        chosen = slice(None)
        most = min(MOST_SAMPLES, MOST_ANSWERS // answers.shape[2])
        if len(codes) > most:
            rng = np.random.default_rng(random_state)
            chosen = np.sort(rng.permutation(len(codes))[: max(1, most)])
        fit = Fit(answers[:, chosen].astype(np.float64), codes[chosen])
        none = fit.no_noise()
        uniform, parameters = fit.uniform()
        kinds = [("none", none), ("uniform", uniform)]
        if fit.n_classes <= MOST_CLASSES:
            kinds += [("by class", fit.by_class(parameters, s)) for s in SPREADS]
        self.tables = [table for _, table in kinds]
        evidence = np.array([table.evidence for table in self.tables])
        prior = np.log([PRIOR[kind] for kind, _ in kinds])
        self.shares = softmax(evidence / TEMPER + prior)
        disagreeing = none.classes(answers).argmax(1) != codes
        self.ambiguous = AMBIGUOUS * min(1.0, disagreeing.mean() / FULL_AMBIGUITY)
        return self.wrong(answers, codes)

    def _explanations(self, answers, codes):
        """Probabilities of classes, of wrong and of right labels, by each table."""
        for table in self.tables:
            classes = table.classes(answers)
            if table is self.tables[0]:
                right = classes[np.arange(len(codes)), codes]
                wrong = self.ambiguous * (1 - right)
                yield classes, wrong, 1 - wrong
            else:
                yield classes, *table.wrong(classes, codes)

    def wrong(self, answers, codes):
        """Probabilities that labels are wrong, and that they are right."""
        wrong, right = np.zeros((2, len(codes)))
        explanations = self._explanations(answers, codes)
        for share, (_, w, r) in zip(self.shares, explanations, strict=True):
            wrong += share * w
            right += share * r
        return wrong, right

    def classes(self, answers):
        """Probabilities of the true classes, whatever the labels given."""
        found = (t.classes(answers) for t in self.tables)
        return sum(s * c for s, c in zip(self.shares, found, strict=True))

    @property
    def weights(self):
        """Weights of the readers, over the explanations."""
        return sum(s * t.weights for s, t in zip(self.shares, self.tables, strict=True))

    def share_wrong(self, answers, codes, importance):
        """Share of wrong labels, and the ends of an interval of probability .9.

        ``importance`` weighs the samples; it sums to 1.
        """
        centres, spreads, shares = [], [], []
        explanations = list(self._explanations(answers, codes))
        for i, (share, (_, wrong, right)) in enumerate(
            zip(self.shares, explanations, strict=True)
        ):
            mean = importance @ wrong
            chance = np.sqrt(importance**2 @ (wrong * right))
            if i == 0:  # nothing is wrong, or all that disagrees
                ambiguous = max(self.ambiguous, 1e-12)
                shares += [share * (1 - ambiguous), share * ambiguous]
                centres += [0.0, mean / ambiguous]
                spreads += [1e-9, max(chance / ambiguous, 1e-9)]
            else:
                doubt = mean * (1 - mean) * self.tables[i].deviation
                shares.append(share)
                centres.append(mean)
                spreads.append(max(float(np.hypot(chance, doubt)), 1e-9))
        levels = np.linspace(0, 1, 20_001)
        spreads = BROADER * np.array(spreads)[:, None]
        below = np.array(shares) @ norm.cdf((levels - np.array(centres)[:, None]) / spreads)
        low, high = levels[np.searchsorted(below, [0.05, 0.95]).clip(max=20_000)]
        estimate = float(np.dot(shares, centres))
        few = estimate + 3 / len(codes)  # none of n: up to 3 / n, at 0.95
        return estimate, float(min(low, estimate)), float(min(1.0, max(high, few)))


def flagging_threshold(wrong, importance=None):
    """Probability above which labels are flagged.

    One half, where that finds more than half of what is expected to be wrong; where
    less can be told, that with the best expected F1, but ``LEAST_FLAGGED`` at least, and
    no more than ``MOST_FLAGGED`` times as many as are expected to be wrong.

    ``importance`` weighs the samples; it sums to 1.
    """
    if importance is None:
        importance = np.full(len(wrong), 1 / len(wrong))
    clear = wrong > 0.5
    expected = importance @ wrong
    if importance[clear] @ wrong[clear] > 0.5 * expected:
        return 0.5
    order = np.argsort(-wrong, kind="stable")
    ordered, share = wrong[order], np.cumsum(importance[order])
    found = np.cumsum(importance[order] * ordered)
    best = int((2 * found / (share + expected)).argmax())
    best = min(best, int(np.searchsorted(share, MOST_FLAGGED * expected)))
    following = ordered[best + 1] if best + 1 < len(ordered) else 0.0
    return float(np.clip((ordered[best] + following) / 2, LEAST_FLAGGED, 0.5))


def kept(wrong, codes):
    """Which samples to learn from: those not flagged, and half of every class at least.

    Where most labels seem wrong, there is nothing to go by, and all are kept.
    """
    if wrong.mean() > 0.6:
        return np.ones(len(codes), dtype=bool)
    keep = wrong <= flagging_threshold(wrong)
    order = np.lexsort((wrong, codes))
    counts = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    keep[order[rank < np.repeat(np.ceil(counts / 2), counts)]] = True
    return keep


@dataclass
class LayerEvidence:
    """What layers, and a training, add to the probability that a label is wrong.

    A layer has seen the labels; so it is believed as far as it says what the readers of
    the input say, which have not, and half of that.

    Attributes
    ----------
    weights : ndarray of shape (n_layers,)
        Of the contrasts, in units of log-odds.
    centre : ndarray of shape (n_layers,)
        Their means.
    shift : float
        What keeps the number of wrong labels as it was.
    """

    weights: np.ndarray | None = None
    centre: np.ndarray | None = None
    shift: float = 0.0

    def fit(self, log_odds, contrasts):
        """Learn from the log-odds by the input and the layers' contrasts."""
        target = expit(log_odds)
        deviation = contrasts.std(0)
        inverse = np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0)
        self.centre = contrasts.mean(0)
        X = (contrasts - self.centre) * inverse
        n_samples, n_layers = X.shape

        def loss(parameters):
            odds = X @ parameters[:-1] + parameters[-1]
            penalty = 1e-3 * parameters[:-1]
            value = (np.logaddexp(0, odds) - target * odds).mean()
            residual = (expit(odds) - target) / n_samples
            gradient = np.append(X.T @ residual + penalty, residual.sum())
            return value + penalty @ parameters[:-1] / 2, gradient

        start = np.append(np.zeros(n_layers), logit(target.mean().clip(1e-4, 1 - 1e-4)))
        bounds = [(0, None)] * n_layers + [(None, None)]
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
        self.weights = 0.5 * found.x[:-1] * inverse
        added = self.added(contrasts).sum(1)
        low, high = -60.0 - added.max(), 60.0 - added.min()
        for _ in range(60):
            self.shift = (low + high) / 2
            more = expit(log_odds + added + self.shift).mean() > target.mean()
            low, high = (low, self.shift) if more else (self.shift, high)
        return self

    def added(self, contrasts):
        """Weigh what every layer adds to the log-odds, against the mean sample."""
        return (contrasts - self.centre) * self.weights

    def __call__(self, log_odds, contrasts):
        """Log-odds with what the layers add."""
        return log_odds + self.added(contrasts).sum(1) + self.shift

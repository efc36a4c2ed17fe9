"""What the answers of readers say of the labels given: how many are wrong, and which.

Several explanations are compared, because labels alone do not tell apart classes that
overlap from labels that are wrong where they do:

* no label is wrong, and classes overlap; or some of what disagrees is wrong all the same;
* a share of the labels is wrong, each class being as likely to replace the true one;
* the classes differ in how often, and by what, they are replaced;
* each class is replaced by one other, mostly;
* the more the readers doubt, the more labels are wrong: mostly near boundaries of classes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from scipy.stats import norm

from sknonlin._memorization.noise_models import BoundaryFit, TableFit

MOST_SAMPLES = 4000  # that explanations are learned from, but
MOST_ANSWERS = 2**18  # of a reader, where there are many classes
MOST_CLASSES = 30  # with more, pairs of classes do not differ in their noise
FEWEST_CLASSES = 4  # of which one may replace each; with less, there is hardly a choice
SPREADS = (0.1, 0.5)  # precisions of the prior on how classes differ
PRIOR = {
    "none": 1.0,
    "uniform": 1.0,
    "by class": 0.5,
    "to one class": 0.5,
    "near boundaries": 1.0,
}
TEMPER = 10.0  # of the evidence, as the answers are not a model of the labels
LEAST_GAIN = 5.0  # of evidence, for an explanation that finds few wrong labels
AMBIGUOUS = 0.2  # share of what disagrees that is wrong, where nothing tells
POSSIBLE = 0.5  # probability, for the interval, that all of it is
FULL_AMBIGUITY = 0.3  # disagreement from which both count in full
LEAST_FLAGGED = 0.08  # probability
MOST_FLAGGED = 3.0  # times the number expected to be wrong
BROADER = 1.5  # the interval: the readers err in their own way, too
FLOOR = 0.02  # of an answer, a share, of which the logarithm is taken


def log_shares(answers):
    """Turn answers that are shares of classes, or nearly, into their logarithms."""
    floor = min(FLOOR, 0.2 / answers.shape[1])
    shares = np.clip(answers, floor, 1)
    return np.log(shares / shares.sum(1, keepdims=True))


class LabelNoise:
    """How likely labels are wrong, averaged over the explanations of them.

    Attributes
    ----------
    tables : list of NoiseTable and NoiseNearBoundaries
        The explanations.
    shares : ndarray of shape (n_tables,)
        How far each one is believed.
    ambiguous : float
        Share of what disagrees that is wrong, should no table of noise explain it.
    possible : float
        Probability that all of it is wrong then.
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
        fit = TableFit(answers[:, chosen].astype(np.float64), codes[chosen])
        none = fit.no_noise()
        uniform, parameters = fit.uniform()
        kinds = [("none", none), ("uniform", uniform)]
        by_class = []
        if fit.n_classes <= MOST_CLASSES:
            by_class = [fit.by_class(parameters, spread) for spread in SPREADS]
            kinds += [("by class", table) for table in by_class]
        if fit.n_classes >= FEWEST_CLASSES:
            to_one = fit.to_one_class(*by_class[:1])
            # Else it hangs on chance which class replaces another.
            if to_one.evidence > max(table.evidence for _, table in kinds):
                kinds.append(("to one class", to_one))
        kinds.append(("near boundaries", BoundaryFit(fit).near_boundaries(parameters)))
        self.tables = [table for _, table in kinds]
        evidence = np.array([table.evidence for table in self.tables])
        prior = np.log([PRIOR[kind] for kind, _ in kinds])
        self.shares = softmax(evidence / TEMPER + prior)
        disagreeing = none.classes(answers).argmax(1) != codes
        doubt = min(1.0, disagreeing.mean() / FULL_AMBIGUITY)
        self.ambiguous, self.possible = AMBIGUOUS * doubt, POSSIBLE * doubt
        explanations = list(self._explanations(answers, codes))
        self._give_to_no_noise(evidence, np.array([w.mean() for _, w, _ in explanations]))
        return self._averaged(explanations)

    def _give_to_no_noise(self, evidence, found):
        """Give shares of explanations that find hardly any noise to the first one.

        They say the same as it does, but not that labels may be wrong all the same.
        ``found`` is the share of labels that each one finds wrong.
        """
        given = np.clip(1 - found / max(found[0], 1e-12), 0, 1)
        given[0] = 0
        given[evidence > evidence[0] + LEAST_GAIN] = 0
        self.shares[0] += given @ self.shares
        self.shares *= 1 - given

    def _explanations(self, answers, codes):
        """Probabilities of classes, of wrong and of right labels, by each table."""
        for table in self.tables:
            classes = table.classes(answers)
            if table is self.tables[0]:
                right = classes[np.arange(len(codes)), codes]
                wrong = self.ambiguous * (1 - right)
                yield classes, wrong, 1 - wrong
            else:
                yield classes, *table.wrong(classes, codes, answers)

    def _averaged(self, explanations):
        """Probabilities that labels are wrong, and right, over the explanations."""
        found = [(wrong, right) for _, wrong, right in explanations]
        return tuple(np.tensordot(self.shares, found, 1))

    def wrong(self, answers, codes):
        """Probabilities that labels are wrong, and that they are right."""
        return self._averaged(self._explanations(answers, codes))

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
        centres, spreads, shares, estimate = [], [], [], 0.0
        explanations = list(self._explanations(answers, codes))
        for i, (share, (_, wrong, right)) in enumerate(
            zip(self.shares, explanations, strict=True)
        ):
            mean = importance @ wrong
            chance = np.sqrt(importance**2 @ (wrong * right))
            estimate += share * mean
            if i == 0:  # nothing is wrong, or all that disagrees
                shares += [share * (1 - self.possible), share * self.possible]
                ambiguous = max(self.ambiguous, 1e-12)
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
        few = estimate + 3 / len(codes)  # none of n: up to 3 / n, at 0.95
        return float(estimate), float(min(low, estimate)), float(min(1.0, max(high, few)))


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

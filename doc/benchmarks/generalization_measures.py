"""Measures that are said to predict how much worse a network is on data it has not seen.

Every measure is a function of a `Probe`. The larger it is, the larger the gap is expected
to be. The signs were fixed with the definitions, before anything was measured.

Written from the papers named at each function. What a paper leaves open, or was made
smaller for small networks, is said there.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import trim_mean
from sklearn.metrics import davies_bouldin_score
from torch import nn
from torch.nn import functional as F

N_MIXED, N_TRANSPORTED, N_DRAWS = 1000, 250, 6


@dataclass
class Probe:
    """A trained network and what may be looked at: no label but those it was trained on."""

    network: nn.Module
    first: list  # the weights before training
    X: torch.Tensor
    y: torch.Tensor
    unlabelled: torch.Tensor

    @functools.cached_property
    def output(self):
        """Outputs for the training samples."""
        with torch.no_grad():
            return self.network(self.X)

    @functools.cached_property
    def activations(self):
        """Pairs of what goes into each ReLU and comes out, for the training samples."""
        return relus(self.network, self.X)

    @functools.cached_property
    def last(self):
        """What the linear layer at the end sees of the training samples."""
        return self.activations[-1][1].numpy().astype(float)

    @property
    def weights(self):
        """Weights of every layer as matrices."""
        found = [w.detach() for w in self.network.parameters() if w.ndim > 1]
        return [w.flatten(1) for w in found]

    @functools.cached_property
    def mixups(self):
        """Halfway between two training samples of a class, and the class."""
        rng, pairs = np.random.default_rng(0), []
        labels = self.y.numpy()
        share = N_MIXED // len(np.unique(labels))
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            drawn = rng.choice(list(itertools.combinations(members, 2)), share)
            pairs.append(drawn)
        a, b = np.concatenate(pairs).T
        return (self.X[a] + self.X[b]) / 2, self.y[a]


def relus(network, X):
    """Run a network; give what goes into each ReLU and what comes out."""
    found = []
    with torch.no_grad():
        for layer in network:
            before, X = X, layer(X)
            if isinstance(layer, nn.ReLU):
                found.append((before, X))
    return found


def pooled(values, most=4):
    """Rows of features; of images, no more than 4 x 4 places."""
    if values.ndim == 4:
        size = [min(most, n) for n in values.shape[2:]]
        values = F.adaptive_avg_pool2d(values, size)
    return values.flatten(1)


# Fit and calibration ------------------------------------------------------------------


def training_loss(probe):
    """Negated: earlier grids of ours had the larger gap at the smaller loss."""
    return -F.cross_entropy(probe.output, probe.y).item()


def calibration_error(probe):
    """Give the calibration error on training samples, 15 bins (Guo et al. 2017)."""
    confidence, answers = probe.output.softmax(1).max(1)
    right = (answers == probe.y).double().numpy()
    confidence = confidence.double().numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    sums = np.bincount(bins, confidence - right, 15)
    return float(np.abs(sums).sum() / len(right))


def doubt(network, X):
    """1 - mean confidence, and mean entropy."""
    with torch.no_grad():
        p = network(X).softmax(1)
    return 1 - p.max(1)[0].mean().item(), torch.special.entr(p).sum(1).mean().item()


def unlabelled_doubt(probe):
    """1 - mean confidence on unlabelled samples (Guillory et al. 2021)."""
    return doubt(probe.network, probe.unlabelled)[0]


def unlabelled_mixup_entropy(probe):
    """Mean entropy halfway between two unlabelled samples."""
    order = np.random.default_rng(0).permutation(len(probe.unlabelled))
    mixed = (probe.unlabelled + probe.unlabelled[order]) / 2
    return doubt(probe.network, mixed)[1]


# Mixup and clusters -------------------------------------------------------------------


def mixup_loss(probe):
    """Log loss halfway between training samples of one class (Natekar & Sharma 2020)."""
    mixed, y = probe.mixups
    with torch.no_grad():
        return F.cross_entropy(probe.network(mixed), y).item()


def mixup_errors(probe):
    """Share of wrong answers there."""
    mixed, y = probe.mixups
    with torch.no_grad():
        return 1 - (probe.network(mixed).argmax(1) == y).double().mean().item()


def davies_bouldin(probe):
    """Davies-Bouldin index of the first layer's activations (Natekar & Sharma 2020).

    Theirs takes the mean over all other classes; this is the usual one, with the largest.
    """
    features = pooled(probe.activations[0][1]).numpy()
    return float(davies_bouldin_score(features, probe.y.numpy()))


def collapse(probe):
    """NC1: tr(within-class covariance, pseudo-inverse of the one between) / classes.

    Of the last layer's features (Papyan, Han & Donoho 2020).
    """
    features, labels = probe.last, np.unique(probe.y.numpy(), return_inverse=True)[1]
    counts = np.bincount(labels)
    means = np.stack([features[labels == k].mean(0) for k in range(len(counts))])
    within = np.cov((features - means[labels]).T, bias=True)
    centred = means - means.mean(0)
    between = centred.T @ centred / len(counts)
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-6)) / len(counts))


def effective_dimension(probe):
    """Participation ratio of the last layer's features."""
    values = np.linalg.eigvalsh(np.cov(probe.last.T))
    return float(values.sum() ** 2 / (values**2).sum())


# Margins ------------------------------------------------------------------------------


def distances(network, X, y, depth):
    """First-order distance to the boundary, measured in what a layer gives (depth 0: X).

    Positive where the answer is right. Also the total variance of the layer.
    """
    layers = list(network)
    ends = [0] + [i + 1 for i, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
    end = ends[depth]
    with torch.no_grad():
        inner = network[:end](X) if end else X
    inner = inner.detach().clone().requires_grad_()
    output = network[end:](inner)
    own = output.gather(1, y[:, None])[:, 0]
    other = output.scatter(1, y[:, None], -torch.inf).max(1)[0]
    margin = own - other
    (gradient,) = torch.autograd.grad(margin.sum(), inner)
    length = gradient.flatten(1).norm(dim=1)
    return (margin.detach() / (length + 1e-7)).numpy(), inner.detach().flatten(1).numpy()


def summary(values):
    """Mean of the quartiles and of the fences around them, as of a box plot."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    return float(np.mean([inside.min(), low, middle, high, inside.max()]))


def layer_margins(probe):
    """Margins at the input and all layers, by their total variance (Jiang et al. 2019)."""
    found = []
    for depth in range(len(probe.activations) + 1):
        values, inner = distances(probe.network, probe.X, probe.y, depth)
        found.append(summary(values / np.sqrt(inner.var(0).sum())))
    return -float(np.mean(found))


def input_margin(probe):
    """Margins at the input alone."""
    return -summary(distances(probe.network, probe.X, probe.y, 0)[0])


def mixup_margin(probe):
    """Margins of mixups at the first layer, by its spread (Natekar & Sharma 2020)."""
    values, inner = distances(probe.network, *probe.mixups, 1)
    return -summary(values / np.sqrt(trim_mean(inner.var(0), 0.05)))


def output_margin(probe):
    """Tenth percentile of the output margin (Jiang et al. 2020, without its square)."""
    own = probe.output.gather(1, probe.y[:, None])[:, 0]
    other = probe.output.scatter(1, probe.y[:, None], -torch.inf).max(1)[0]
    return -float(torch.quantile(own - other, 0.1))


# Weights ------------------------------------------------------------------------------


def spectral_product(probe):
    """Logarithm of the product of squared spectral norms (of a kernel: as a matrix)."""
    return float(sum(2 * torch.linalg.matrix_norm(w, 2).log() for w in probe.weights))


def spectral_by_margin(probe):
    """Divide them by the squared output margin (Bartlett et al. 2017, its core)."""
    margin = max(-output_margin(probe), 1e-3)
    return spectral_product(probe) - 2 * float(np.log(margin))


def frobenius_product(probe):
    """Logarithm of the product of squared Frobenius norms."""
    return float(sum(2 * w.norm().log() for w in probe.weights))


def distance_from_start(probe):
    """Frobenius norm of all that training changed."""
    pairs = zip(probe.network.parameters(), probe.first, strict=True)
    return float(sum(((now.detach() - then) ** 2).sum() for now, then in pairs).sqrt())


def n_parameters(probe):
    """Logarithm of the number of weights."""
    return float(np.log(sum(w.numel() for w in probe.network.parameters())))


def sharpness(probe):
    """1 / sigma^2 for weights times (1 + sigma noise) that cost a tenth of the accuracy.

    Magnitude-aware, on average over six draws (Jiang et al. 2020, Dziugaite et al. 2020).
    """
    weights = [w.detach().clone() for w in probe.network.parameters()]
    generator = torch.Generator().manual_seed(0)
    noise = [
        [torch.randn(w.shape, generator=generator) for w in weights] for _ in range(N_DRAWS)
    ]
    rows = slice(0, 500)
    low, high = -6.0, 3.0  # of the logarithm of sigma
    with torch.no_grad():
        for _ in range(8):
            middle = (low + high) / 2
            right = []
            for draw in noise:
                for own, w, e in zip(
                    probe.network.parameters(), weights, draw, strict=True
                ):
                    own.copy_(w * (1 + np.exp(middle) * e))
                answers = probe.network(probe.X[rows]).argmax(1)
                right.append((answers == probe.y[rows]).double().mean().item())
            low, high = (middle, high) if np.mean(right) > 0.9 else (low, middle)
        for own, w in zip(probe.network.parameters(), weights, strict=True):
            own.copy_(w)
    return float(-(low + high))


def power_law_exponent(values):
    """Exponent of the tail that fits best by Kolmogorov-Smirnov (Clauset et al. 2009)."""
    values = np.sort(values[values > 1e-8 * values.max()])
    logs, best = np.log(values), (np.inf, np.nan)
    for start in range(len(values) - 5):
        tail = logs[start:] - logs[start]
        if tail.sum() <= 0:
            continue
        alpha = 1 + len(tail) / tail.sum()
        fitted = 1 - np.exp(-(alpha - 1) * tail)
        steps = np.arange(len(tail)) / len(tail)
        gap = max(
            np.abs(fitted - steps).max(), np.abs(fitted - steps - 1 / len(tail)).max()
        )
        best = min(best, (gap, alpha))
    return best[1]


def heavy_tails(probe):
    """WeightWatcher's alpha: mean exponent of the layers' spectra (Martin et al. 2021).

    Of a kernel, the spectra of its places are pooled.
    """
    found = []
    for weight in (w.detach() for w in probe.network.parameters() if w.ndim > 1):
        places = weight.flatten(2).movedim(2, 0) if weight.ndim == 4 else weight[None]
        values = torch.linalg.svdvals(places).square().flatten().numpy().astype(float)
        if len(values) >= 10:
            found.append(power_law_exponent(values))
    return float(np.mean(found))


# Layers and gradients -----------------------------------------------------------------


def root(matrix, *, inverse=False):
    """Root of a covariance matrix, or its pseudo-inverse."""
    values, vectors = np.linalg.eigh(matrix)
    known = values > 1e-6 * values.max()
    values = np.where(known, np.maximum(values, 1e-300), 1.0) ** (-0.5 if inverse else 0.5)
    return (vectors * (values * known)) @ vectors.T


def affinity(before, after):
    """How close to affine an activation is (Bouniot, Redko et al. 2023).

    1 - W2(T before, after) / sqrt(2 tr cov(after)), where T is the optimal affine map
    between normal distributions. W2 is that of 250 of the rows.
    """
    x, z = np.cov(before.T), np.cov(after.T)
    inner = root(root(x) @ z @ root(x))
    affine = root(x, inverse=True) @ inner @ root(x, inverse=True)
    mapped = (before - before.mean(0)) @ affine + after.mean(0)
    costs = cdist(mapped[:N_TRANSPORTED], after[:N_TRANSPORTED], "sqeuclidean")
    moved = costs[linear_sum_assignment(costs)].mean()
    return 1 - float(np.sqrt(moved / max(2 * np.trace(z), 1e-300)))


def departure_from_affine(probe):
    """1 - mean affinity of the ReLUs; of images, their channels averaged over places."""
    found = []
    for pair in probe.activations:
        rows = [v.mean((2, 3)) if v.ndim == 4 else v for v in pair]
        found.append(affinity(*(v.numpy().astype(float) for v in rows)))
    return 1 - float(np.mean(found))


def gradient_disparity(probe):
    """Mean distance of the gradients of two of five batches (Forouzesh & Thiran 2021)."""
    gradients = []
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(probe.X)))
    for batch in order.split(50)[:5]:
        loss = F.cross_entropy(probe.network(probe.X[batch]), probe.y[batch])
        parts = torch.autograd.grad(loss, list(probe.network.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    pairs = itertools.combinations(gradients, 2)
    return float(np.mean([(a - b).norm().item() for a, b in pairs]))


MEASURES = {
    "training loss, negated": training_loss,
    "calibration error, training samples": calibration_error,
    "1 - confidence, unlabelled samples": unlabelled_doubt,
    "entropy, mixups of unlabelled samples": unlabelled_mixup_entropy,
    "label-wise mixup, loss": mixup_loss,
    "label-wise mixup, wrong answers": mixup_errors,
    "Davies-Bouldin, first layer": davies_bouldin,
    "mixup margin": mixup_margin,
    "margins, all layers": layer_margins,
    "margin, input": input_margin,
    "margin, output": output_margin,
    "spectral norms": spectral_product,
    "spectral norms / margin": spectral_by_margin,
    "Frobenius norms": frobenius_product,
    "distance from the start": distance_from_start,
    "sharpness, magnitude-aware": sharpness,
    "WeightWatcher's alpha": heavy_tails,
    "effective dimension, last layer": effective_dimension,
    "neural collapse, NC1": collapse,
    "1 - AffScore": departure_from_affine,
    "gradient disparity": gradient_disparity,
    "number of weights": n_parameters,
}


def measured(probe):
    """All of them, as a dict."""
    return {name: measure(probe) for name, measure in MEASURES.items()}

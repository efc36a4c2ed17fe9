"""Thresholds, weights of layers and the samples that fit, of known mixtures."""

import numpy as np
import pytest

from sknonlin._memorization.label_scores import (
    auto_threshold,
    fitting,
    layer_weights,
    wrong_share,
)


def mixture(share, seed=0, n=4000):
    """Scores of right labels about -1, and of wrong ones about 1."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < share
    return np.where(wrong, 1, -1) + 0.3 * rng.standard_normal(n), wrong


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_thresholds_of_a_known_mixture(share):
    scores, wrong = mixture(share)
    assert wrong_share(scores) == pytest.approx(share, abs=0.02)
    flags = scores > auto_threshold(scores)
    assert wrong[flags].mean() > 0.95
    assert flags[wrong].mean() > 0.95


def test_thresholds_at_the_limits():
    scores, _ = mixture(0)
    assert auto_threshold(scores) == np.inf
    assert wrong_share(scores) == 0
    assert auto_threshold(mixture(0.7)[0]) == 0
    assert auto_threshold(np.zeros(5)) >= 0
    assert auto_threshold(np.array([-1.0])) == np.inf


def test_weights_of_layers():
    rng = np.random.default_rng(0)
    scores, _ = mixture(0.2)
    memorizing = -1 + 0.1 * rng.standard_normal(4000)
    ignorant = 0.5 + 0.1 * rng.random(4000)
    weights = layer_weights(np.stack([scores, memorizing, ignorant], 1))
    np.testing.assert_allclose(weights, [1, 0, 0], atol=1e-6)
    dead = np.zeros(4000)
    assert layer_weights(np.stack([memorizing, dead], 1)).tolist() == [1, 0]
    assert layer_weights(np.zeros((4, 2))).tolist() == [0.5, 0.5]


def test_half_of_a_class_is_kept():
    scores, wrong = mixture(0.2)
    codes = np.zeros(4000, dtype=int)
    codes[np.flatnonzero(wrong)[:100]] = 1  # a class of wrong labels only
    keep = fitting(scores, codes)
    assert keep[codes == 1].mean() == 0.5
    assert keep[(codes == 0) & ~wrong].mean() > 0.99
    assert keep[(codes == 0) & wrong].mean() < 0.02
    assert fitting(-scores, codes).all()

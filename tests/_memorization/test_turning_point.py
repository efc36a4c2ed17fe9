"""The test that a score of samples has turned."""

import numpy as np
import pytest

from sknonlin._memorization.turning_point import TurningPoint


def scores(means, n_samples=1000, seed=0):
    """Scores of samples, 0 or 1, with these means, each changing as little as it must."""
    order = np.random.default_rng(seed).random(n_samples)
    return [(order < mean).astype(float) for mean in means]


RISE = [0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.82, 0.83, 0.84]


def follow(turn, rows):
    """Number of the measurement at which it turns, or None."""
    for i, row in enumerate(rows):
        if turn.update(row.mean(), row):
            return i
    return None


def test_a_fall_is_seen_and_the_best_is_known():
    turn = TurningPoint(3, 2)
    rows = scores([*RISE, 0.82, 0.80, 0.78, 0.76, 0.74])
    assert 9 < follow(turn, rows) <= 12
    assert turn.best == 8
    assert turn.fall > 2 * turn.error > 0


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_does_not_turn_it(seed):
    rng = np.random.default_rng(seed)
    rows = [(rng.random(400) < 0.9).astype(float) for _ in range(40)]
    assert follow(TurningPoint(7, 4), rows) is None


def test_the_error_is_that_of_paired_differences():
    turn = TurningPoint(1, 1e9)
    a, b = scores([0.9, 0.8])
    turn.update(a.mean(), a)
    turn.update(b.mean(), b)
    assert turn.fall == pytest.approx(a.mean() - b.mean())
    assert turn.error == pytest.approx((a - b).std() / np.sqrt(1000))


def test_without_samples_the_error_is_that_of_the_steps():
    rng = np.random.default_rng(0)
    means = np.r_[RISE, 0.84 - 0.01 * np.arange(20)] + 0.002 * rng.normal(size=29)
    turn = TurningPoint(5, 2)
    turned = [turn.update(mean) for mean in means]
    assert not any(turned[:10])
    assert turned[-1]
    flat = TurningPoint(5, 2)
    assert not any(flat.update(m) for m in np.r_[RISE, np.full(20, 0.84)])


def test_what_is_nan_is_passed_over():
    turn = TurningPoint(3, 2)
    means = [np.nan, 0.5, 0.6, np.nan, 0.7]
    assert not any(turn.update(mean) for mean in means)
    assert turn.best == 4

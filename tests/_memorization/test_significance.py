"""How sure a score is, against draws whose spread is known."""

import numpy as np
import pytest
from scipy import stats

from sknonlin._memorization.significance import (
    BatchAreas,
    Deviations,
    class_p_values,
    intervals,
    n_repeats,
    p_value,
)

LEVELS = np.linspace(0.2, 0.6, 10)  # of the classes


def draw(rng, n_draws, shift=0.0, spread=0.03):
    """Areas of one layer, whose classes have levels of their own."""
    single = (LEVELS + shift)[:, None] + spread * rng.standard_normal((10, n_draws))
    mixed = 0.7 + 0.02 * rng.standard_normal((10, n_draws))
    return BatchAreas(single[None], mixed[None])


def score_of(areas):
    """Score of the first batch of every class."""
    return areas.single[..., 0].mean(1) / areas.mixed[..., 0].mean(1)


def test_intervals_hold_fresh_scores():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(1000):
        areas = draw(rng, 3)
        ((low, high),) = intervals(areas, score_of(areas), 10, 1)
        (fresh,) = score_of(draw(rng, 1))
        held.append(low <= fresh <= high)
    assert 0.87 < np.mean(held) < 0.94


def test_false_alarms_are_at_the_rate():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        each = [draw(rng, 3) for _ in range(2)]
        scores = [score_of(areas) for areas in each]
        own = [
            Deviations.of(a, s).variance(10, 1) for a, s in zip(each, scores, strict=True)
        ]
        variance, freedom = own[0][0] + own[1][0], 2 * own[0][1]
        found.append(p_value((scores[0] - scores[1])[0], variance[0], freedom[0]))
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.07
    assert stats.kstest(found, "uniform").statistic < 0.06


def test_pairs_tell_smaller_differences():
    rng = np.random.default_rng(0)
    areas = draw(rng, 3)
    other = BatchAreas(areas.single + 0.01, areas.mixed)
    own, others = (Deviations.of(each, score_of(each)) for each in (areas, other))
    paired, _ = own.minus(others).variance(10, 1)
    assert paired[0] < own.variance(10, 1)[0][0] / 100
    assert p_value(0.0, 0.0, 1) == 1
    assert p_value(0.1, 0.0, 1) == 0


@pytest.mark.parametrize("sizes", [(170,) * 10, (600, 15, 15), (600, 30), (500, 60)])
def test_layers_that_know_the_classes(sizes):
    rng = np.random.default_rng(0)
    n_draws = n_repeats(len(sizes)) + 1

    def area(samples, size):
        return rng.permutation(samples)[:size].mean()

    def layers_without_classes():
        values = rng.exponential(size=sum(sizes))  # of samples, whose mean is an area
        classes = np.split(values, np.cumsum(sizes)[:-1])
        heights = np.minimum(sizes, 50)
        single = [
            [area(c, m) for _ in range(n_draws)]
            for c, m in zip(classes, heights, strict=True)
        ]
        mixed = [[area(values, m) for _ in range(n_draws)] for m in heights]
        return np.array([single, mixed])[:, None]

    drawn = np.concatenate([layers_without_classes() for _ in range(400)], axis=1)
    found = class_p_values(BatchAreas(*drawn))
    assert np.mean(found < 0.05) < 0.08
    assert np.mean(found < 0.01) < 0.03
    assert np.median(class_p_values(BatchAreas(drawn[0] - 1, drawn[1]))) < 0.01


def test_layers_that_some_batches_do_not_reach():
    areas = draw(np.random.default_rng(0), 3)
    areas.single[0, 3] = np.nan
    areas.mixed[0, 0, 1] = np.nan
    found = intervals(areas, np.array([0.5]), 10, 1)
    assert np.isfinite(found).all()
    assert np.isfinite(class_p_values(areas)).all()


@pytest.mark.parametrize(("n_classes", "expected"), [(2, 11), (10, 2), (24, 1), (500, 1)])
def test_how_many_batches_more(n_classes, expected):
    assert n_repeats(n_classes) == expected

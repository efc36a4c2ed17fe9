import math

import numpy as np
import pytest

from sknonlin._bounds.self_scaled import Pairs, self_scaled_bound
from tests._bounds.matrices import cube, nested_rectangles, polygon


def moments(parts, A):
    """Moment matrix of rank-one parts that add up to A."""
    places = np.argwhere(A > 0)
    M = 0
    for part in parts:
        x = np.append(1, part[tuple(places.T)] / A[tuple(places.T)])
        M = M + np.outer(x, x)
    return M


@pytest.mark.parametrize("seed", range(4))
def test_moments_of_every_factorization_are_feasible_and_above_every_proof(seed):
    rng = np.random.default_rng(seed)
    W = rng.random((4, 3)) * (rng.random((4, 3)) < 0.7)
    H = rng.random((3, 5)) * (rng.random((3, 5)) < 0.7)
    A = W @ H
    M = moments([np.outer(W[:, k], H[k]) for k in range(3)], A)
    pairs = Pairs(A)
    np.testing.assert_allclose(pairs.project(M, 0), M, atol=1e-9)
    for _ in range(20):
        factor = rng.standard_normal((len(M), 3))
        factor[0] = np.abs(factor[0]) - 3 * factor[1:].mean(axis=0)
        assert pairs.proved(factor @ factor.T, 0) <= 3


def test_known_bounds():
    assert self_scaled_bound(np.eye(4), 0, math.inf) == pytest.approx(4, abs=1e-2)
    assert 5.9 < self_scaled_bound(cube(3), 0, math.inf) <= 6
    assert 4.0001 < self_scaled_bound(polygon(6) / 2, 1e-6, math.inf) <= 5
    # It sees what supports do not: there are no zeros here.
    assert 3.0001 < self_scaled_bound(nested_rectangles(0.9, 0.9), 1e-6, math.inf) <= 4
    assert self_scaled_bound(nested_rectangles(0.4, 0.4), 1e-6, math.inf) <= 3


def test_a_wide_tolerance_leaves_little():
    A = nested_rectangles(0.9, 0.9)
    values = [self_scaled_bound(A, tol, math.inf) for tol in (0, 1e-3, 1e-2, 0.2)]
    assert values == sorted(values, reverse=True)
    assert values[-1] <= 1


def test_limits():
    assert self_scaled_bound(np.zeros((2, 2)), 0, math.inf) == 0
    with pytest.raises(OverflowError, match="more than 150 positive entries"):
        self_scaled_bound(np.ones((20, 20)), 0, math.inf)

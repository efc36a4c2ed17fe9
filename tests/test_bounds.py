import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from sknonlin import rank_bounds
from tests._bounds.matrices import KNOWN, line_distances


@pytest.mark.parametrize(
    ("A", "rank"), [pytest.param(A, r, id=name) for name, A, r in KNOWN]
)
def test_known_ranks(A, rank):
    bounds = rank_bounds(A, max_time=100)  # ends when the bounds meet
    assert (bounds.lower, bounds.upper) == (rank, rank)
    assert bounds.is_exact
    W, H = bounds.factors
    assert W.shape[1] == rank
    assert (W >= 0).all()
    assert (H >= 0).all()
    np.testing.assert_allclose(W @ H, A, atol=4e-6)


def random_matrix(rng):
    """A small matrix and a number of parts that it is the sum of."""
    n, m, r = rng.integers(1, 7, 3)
    W = rng.random((n, r)) * (rng.random((n, r)) < rng.uniform(0.3, 1))
    H = rng.random((r, m)) * (rng.random((r, m)) < rng.uniform(0.3, 1))
    if rng.random() < 0.3:
        W, H = np.round(3 * W), np.round(3 * H)
    return W @ H, min(n, m, r)


def test_bounds_of_random_matrices_do_not_cross():
    rng = np.random.default_rng(0)
    for _ in range(100):
        A, planted = random_matrix(rng)
        bounds = rank_bounds(A, max_time=0.05)
        assert bounds.lower <= min(bounds.upper, planted)
        single = (getattr(bounds, field.name) for field in dataclasses.fields(bounds)[2:7])
        assert bounds.lower == max(bound for bound in single if bound is not None)


def test_scaling_transposing_and_kind_of_array_change_nothing():
    A = line_distances(4)
    expected = rank_bounds(A, max_time=100)
    scaled = A * np.array([1e-8, 1, 3, 1e9])[:, None] * np.array([1, 7, 1e-9, 1])
    for same in (scaled, A.T, torch.tensor(A), sparse.csr_array(A), A.astype(np.float32)):
        bounds = rank_bounds(same)
        assert (bounds.lower, bounds.upper) == (expected.lower, expected.upper) == (4, 4)
    W, H = rank_bounds(scaled).factors
    np.testing.assert_allclose(W @ H, scaled, rtol=1e-5)


def test_repeats_and_rounding_are_not_ranks():
    rng = np.random.default_rng(0)
    A = np.repeat(np.eye(3), [1, 2, 3], axis=0) * rng.random((6, 1)).repeat(3, axis=1)
    assert rank_bounds(A).upper == 3
    A = rng.random((8, 2)) @ rng.random((2, 7))
    noisy = A * (1 + 1e-9 * rng.standard_normal(A.shape))
    assert np.linalg.matrix_rank(noisy) == 7
    bounds = rank_bounds(noisy)
    assert (bounds.rank, bounds.lower, bounds.upper) == (2, 2, 2)


def test_large_matrices_leave_bounds_out_and_say_so():
    A = np.random.default_rng(0).random((60, 70))
    A[A < 0.5] = 0
    bounds = rank_bounds(A, max_time=1)
    assert bounds.lower == bounds.upper == 60
    assert bounds.rectangle_cover is None
    assert bounds.self_scaled is None
    assert "positive entries" in bounds.notes["self_scaled"]
    assert "Left out" in bounds.notes["rectangle_cover"]


@pytest.mark.parametrize(
    ("A", "message"),
    [
        ([[1.0, -2.0]], "A holds -2; only .*halves"),
        ([[1.0, np.nan]], "A contains NaN"),
        (np.ones((2, 3, 4)), "A must be one matrix"),
    ],
)
def test_what_has_no_rank_is_refused(A, message):
    with pytest.raises(ValueError, match=message):
        rank_bounds(A)

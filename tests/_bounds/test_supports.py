import itertools

import numpy as np
import pytest

from sknonlin._bounds.supports import (
    count_unions,
    largest_antichain,
    rank_bound,
    support_bound,
)
from tests._bounds.matrices import cube, polygon


def test_rank_holds_for_all_matrices_within_the_tolerance():
    rng = np.random.default_rng(0)
    A = rng.random((6, 3)) @ rng.random((3, 5))
    assert rank_bound(A, 1e-9) == 3
    for tol in (0.01, 0.1, 0.3):
        for _ in range(20):
            near = A + rng.uniform(-tol, tol, A.shape)
            assert rank_bound(A, tol) <= np.linalg.matrix_rank(near)
        U, s, V = np.linalg.svd(A, full_matrices=False)
        for k in range(3):
            truncated = (U[:, :k] * s[:k]) @ V[:k]
            if np.abs(truncated - A).max() <= tol:
                assert rank_bound(A, tol) <= k


@pytest.mark.parametrize("seed", range(5))
def test_unions_and_antichains_are_those_of_all_subsets(seed):
    rows = np.unique(np.random.default_rng(seed).random((6, 5)) < 0.5, axis=0)
    subsets = list(itertools.product([False, True], repeat=len(rows)))
    unions = {tuple(rows[list(chosen)].any(axis=0)) for chosen in subsets}
    assert count_unions(rows) == len(unions)
    largest = 0
    for chosen in subsets:
        own = rows[list(chosen)]
        if not any((a <= b).all() for a, b in itertools.permutations(own, 2)):
            largest = max(largest, len(own))
    assert largest_antichain(rows) == largest


def test_known_bounds():
    # A polygon has n vertices and n sides, none in another, and 2 n + 2 faces.
    assert [support_bound(polygon(n) > 0) for n in (4, 6, 7, 11)] == [4, 4, 5, 6]
    assert support_bound(np.eye(5) > 0) == 5
    assert support_bound(cube(3) > 0) == 5
    assert support_bound(np.ones((3, 3)) > 0) == 1

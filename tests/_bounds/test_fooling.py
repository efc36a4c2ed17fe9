import itertools
import math
import time

import numpy as np
import pytest

from sknonlin._bounds import fooling
from sknonlin._bounds.fooling import fooling_set_bound, largest_clique
from tests._bounds.matrices import cube, polygon


@pytest.mark.parametrize("seed", range(8))
def test_cliques_are_the_largest(seed):
    adjacent = np.triu(np.random.default_rng(seed).random((9, 9)) < 0.6, 1)
    adjacent |= adjacent.T
    largest = max(
        len(chosen)
        for size in range(1, 10)
        for chosen in itertools.combinations(range(9), size)
        if all(adjacent[a, b] for a, b in itertools.combinations(chosen, 2))
    )
    clique, ended = largest_clique(adjacent, math.inf)
    assert ended
    assert len(clique) == largest
    assert all(adjacent[a, b] for a, b in itertools.combinations(clique, 2))


@pytest.mark.parametrize(("A", "size"), [(polygon(5), 5), (polygon(6), 4), (cube(3), 6)])
def test_known_fooling_sets(A, size):
    bound, entries, ended = fooling_set_bound(A > 0, math.inf)
    assert bound == size
    assert ended
    for (i, j), (k, m) in itertools.combinations(entries, 2):
        assert A[i, j] > 0
        assert A[k, m] > 0
        assert A[i, m] * A[k, j] == 0


def test_a_search_that_is_ended_says_so(monkeypatch):
    bound, _, ended = fooling_set_bound(polygon(9) > 0, time.monotonic())
    assert 1 <= bound <= 4
    assert not ended
    monkeypatch.setattr(fooling, "MOST_ENTRIES", 10)
    bound, _, ended = fooling_set_bound(np.eye(12) > 0, math.inf)
    assert bound == 10
    assert not ended

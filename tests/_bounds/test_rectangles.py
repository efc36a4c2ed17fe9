import itertools
import math
import time

import numpy as np
import pytest

from sknonlin._bounds import rectangles
from sknonlin._bounds.rectangles import (
    entries_to_cover,
    maximal_rectangles,
    rectangle_bound,
    rounded_up,
    solve_relaxation,
)
from tests._bounds.matrices import cube, polygon


def all_maximal(support):
    """Rectangles by trying all sets of rows."""
    found = set()
    for chosen in itertools.product([False, True], repeat=len(support)):
        columns = support[list(chosen)].all(axis=0)
        if any(chosen) and columns.any():
            rows = support[:, columns].all(axis=1)
            found.add((tuple(rows), tuple(columns)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_rectangles_and_covers_are_those_of_all_subsets(seed):
    support = np.random.default_rng(seed).random((5, 4)) < 0.6
    expected = all_maximal(support)
    pairs = maximal_rectangles(support)
    assert len(pairs) == len(expected)
    masks = [np.outer(rows, columns) for rows, columns in expected]
    fewest = next(
        size
        for size in itertools.count()
        for chosen in itertools.combinations(masks, size)
        if np.array_equal(np.any([np.zeros_like(support), *chosen], axis=0), support)
    )
    bound, complete = rectangle_bound(support, math.inf)
    assert complete
    assert bound == fewest


def test_relaxations_are_proved_by_their_weights():
    cover = entries_to_cover(polygon(6) > 0)
    shares, bound = solve_relaxation(cover)
    assert bound <= shares.sum() + 1e-9
    assert rounded_up(bound) <= 5
    assert rounded_up(3 + 1e-12) == 3
    assert rounded_up(3.001) == 4


@pytest.mark.parametrize(
    ("A", "fewest"), [(polygon(6), 5), (polygon(7), 6), (cube(3), 6), (1 - np.eye(6), 4)]
)
def test_known_covers(A, fewest):
    assert rectangle_bound(A > 0, math.inf) == (fewest, True)


def test_a_search_that_is_ended_and_one_that_is_too_large(monkeypatch):
    bound, complete = rectangle_bound(polygon(7) > 0, time.monotonic())
    assert bound <= 6
    assert not complete
    assert rectangle_bound(np.zeros((2, 3), bool), math.inf) == (0, True)
    monkeypatch.setattr(rectangles, "MOST_RECTANGLES", 5)
    with pytest.raises(OverflowError, match="more than 5 rectangles"):
        rectangle_bound(polygon(6) > 0, math.inf)
    monkeypatch.setattr(rectangles, "MOST_ENTRIES", 5)
    with pytest.raises(OverflowError, match="more than 5 positive entries"):
        rectangle_bound(polygon(6) > 0, math.inf)

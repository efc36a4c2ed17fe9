import math
import time

import numpy as np
import pytest

from sknonlin._bounds.exact_factors import (
    alternate,
    drawn_parts,
    exact_factors,
    free_weights,
)
from sknonlin._bounds.pattern import make_pattern
from tests._bounds.matrices import polygon


@pytest.mark.parametrize("n", [6, 8])
def test_polygons_are_met_exactly_below_their_size(n):
    pattern = make_pattern(polygon(n), 1e-9)
    W, H = exact_factors(pattern, {6: 5, 8: 6}[n], [], np.random.default_rng(0), math.inf)
    assert pattern.holds(W, H)
    assert np.abs(W @ H - pattern.A).max() < 1e-9


def test_what_is_not_there_is_not_found():
    pattern = make_pattern(np.eye(4), 1e-6)
    until = time.monotonic() + 0.3
    assert exact_factors(pattern, 3, [], np.random.default_rng(0), until) is None


def test_alternations_lower_the_error():
    rng = np.random.default_rng(0)
    A, H = rng.random((6, 5)), rng.random((4, 3, 5))
    errors = [
        np.linalg.norm(A - np.matmul(*alternate(A, H, n)), axis=(1, 2)) for n in (1, 5, 50)
    ]
    assert (errors[0] >= errors[1]).all()
    assert (errors[1] >= errors[2]).all()


def test_no_part_is_positive_where_the_matrix_is_zero():
    rng = np.random.default_rng(0)
    pattern = make_pattern(polygon(6), 1e-6)
    of_W, of_H = free_weights(pattern, rng.random((6, 5)), rng.random((5, 6)), 1e-4)
    assert not ((of_W.astype(int) @ of_H)[~pattern.support]).any()
    assert (drawn_parts(pattern.A, 50, rng) == 0).any()

import numpy as np
import pytest

from sknonlin._bounds.pattern import make_pattern, powers_of_two, without_parallel_rows


@pytest.mark.parametrize("largest", [1e-310, 1e-5, 1.0, 3.0, 1e308])
def test_scaling_is_exact_and_reaches_one_to_two(largest):
    scale = powers_of_two(np.array([largest, 0.0]))
    assert 1 <= largest / scale[0] < 2
    assert scale[1] == 1
    assert largest / scale[0] * scale[0] == largest


def test_small_rows_and_columns_stay_and_small_entries_go():
    A = np.array([[1.0, 1e-9], [1e-12, 0.0], [0.0, 0.0]])
    pattern = make_pattern(A, 1e-6)
    np.testing.assert_array_equal(pattern.support, [[1, 1], [1, 0], [0, 0]])
    np.testing.assert_array_equal(
        pattern.row_scale[:, None] * pattern.A * pattern.column_scale, A
    )
    A = np.array([[1.0, 1e-9], [0.0, 1.0]])
    np.testing.assert_array_equal(make_pattern(A, 1e-6).support, np.eye(2))


def test_parallel_rows_are_left_out():
    A = np.array([[1.0, 0.5], [0.0, 0.0], [2.0, 1.0], [0.0, 1.0], [1.2, 0.6]])
    pattern = make_pattern(A, 1e-6)
    W, kept = without_parallel_rows(pattern)
    assert kept == [0, 3]
    np.testing.assert_allclose(W @ pattern.A[kept], pattern.A, atol=1e-12)


def test_factors_prove_only_what_they_meet():
    pattern = make_pattern(np.array([[1.0, 0.0], [0.0, 1.0]]), 1e-6)
    assert pattern.holds(np.eye(2), np.eye(2))
    assert not pattern.holds(np.eye(2), np.eye(2) + 1e-9)  # not the same zeros
    assert not pattern.holds(np.eye(2), np.eye(2) * (1 + 2e-6))
    assert not pattern.holds(-np.eye(2), -np.eye(2))
    assert not pattern.holds(np.eye(2) * np.nan, np.eye(2))

"""The rows that are drawn depend on the seed and their energies alone."""

import numpy as np
import pytest

from sknonlin import nmf_path
from sknonlin._matrices.row_sample import group_size
from sknonlin._running import memory
from sknonlin._running.memory import limited
from tests.conftest import LITTLE, RANKS, relu_matrix


def test_all_parts_of_a_stack_share_one_draw():
    stack = np.stack([relu_matrix(200, 24, seed=1)] * 3)
    errors = nmf_path(
        stack, RANKS, max_rows=40, working_memory=0.3, random_state=np.random.RandomState(0)
    ).errors
    np.testing.assert_allclose(errors[1:], errors[:-1], rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1, 1e30, 1e300])
def test_the_draw_depends_on_neither_scale_nor_chunks(factor, monkeypatch):
    X = relu_matrix(500, 16)
    X[::7] *= 1e-6
    expected = nmf_path(X, RANKS, max_rows=50, random_state=0)
    monkeypatch.setitem(memory.MOST, "chunk", 1000)
    for working_memory in (None, LITTLE):
        with monkeypatch.context() as m:
            m.setattr("sknonlin.nmf.rows_that_fit", lambda max_rows, *_: max_rows)
            path = nmf_path(
                X * factor,
                RANKS,
                max_rows=50,
                random_state=0,
                working_memory=working_memory,
            )
        np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-9)
    with limited(LITTLE):
        assert group_size(500, 1) > 1


def test_zero_chunks_and_rows_do_not_disturb_the_draw(monkeypatch):
    X = relu_matrix(300, 16) * 1e-200
    X[100:200] = 0
    expected = nmf_path(X[np.r_[:100, 200:300]], RANKS, max_rows=50, random_state=0)
    monkeypatch.setitem(memory.MOST, "chunk", 16 * 50)
    path = nmf_path(X, RANKS, max_rows=50, random_state=0)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-9)

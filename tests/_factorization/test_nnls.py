"""Rows onto a fixed cone, against SciPy."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from sknonlin import nnls
from sknonlin._factorization.nnls import pivot
from tests.conftest import relu_matrix


def assert_matches_scipy(X, H, atol):
    W = nnls(X, H)
    expected = np.array([optimize.nnls(H.T.astype(float), row)[0] for row in X])
    np.testing.assert_allclose(W, expected, atol=atol)


@pytest.mark.parametrize(("k", "q"), [(1, 5), (5, 30), (30, 40), (40, 30)])
@pytest.mark.parametrize("low", [0, -1])
def test_nnls_is_scipys(k, q, low):
    rng = np.random.default_rng(0)
    H, X = rng.uniform(low, 1, (k, q)), rng.uniform(low, 1, (200, q))
    assert_matches_scipy(X, H, atol=1e-6)


def test_nnls_in_float32():
    rng = np.random.default_rng(0)
    H, X = rng.random((5, 30), np.float32), rng.random((200, 30), np.float32)
    assert nnls(X, H).dtype == np.float32
    assert_matches_scipy(X, H, atol=1e-4)


def test_nnls_on_a_nearly_degenerate_cone():
    rng = np.random.default_rng(0)
    H = rng.random((1, 30)) + 1e-3 * rng.random((12, 30))
    X = rng.random((100, 30))
    left = np.linalg.norm(X - nnls(X, H) @ H, axis=1)
    expected = [optimize.nnls(H.T, row)[1] for row in X]
    np.testing.assert_allclose(left, expected, rtol=1e-6)


@pytest.mark.parametrize("angle", [2e-3, 1e-2])
def test_nnls_in_float32_tells_near_components_apart(angle):
    H = np.array([[1, 0], [np.cos(angle), np.sin(angle)]], np.float32)
    rounding = np.finfo(np.float32).eps * (2 / angle) ** 2  # of a Gram matrix like this
    np.testing.assert_allclose(nnls(H[:1], H), [[1, 0]], atol=rounding)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_nnls_of_components_outside_the_range_of_the_rows(scale):
    X = np.ones((2, 4), np.float32)
    W = nnls(X.astype(float), scale * np.eye(4))
    np.testing.assert_allclose(W * scale, 1)
    huge = np.full((2, 4), 2e38, np.float32)
    np.testing.assert_allclose(nnls(huge, np.eye(4)), 2e38, rtol=1e-5)


def test_nnls_without_pivoting_goes_on_iterating(monkeypatch):
    rng = np.random.default_rng(0)
    H, X = rng.random((5, 30)), rng.random((20, 30))
    expected = nnls(X, H)
    monkeypatch.setattr(
        "sknonlin._factorization.nnls.pivot",
        lambda G, F, *_: (torch.zeros_like(F), torch.arange(20)),
    )
    np.testing.assert_allclose(nnls(X, H), expected, atol=1e-6)


def test_pivoting_ends_from_any_support():
    rng = np.random.default_rng(0)
    H, X = rng.uniform(-1, 1, (20, 24)), rng.uniform(-1, 1, (100, 24))
    G, F = torch.from_numpy(H @ H.T), torch.from_numpy(X @ H.T)
    support, owner = torch.zeros(F.shape, dtype=torch.bool), torch.zeros(100, dtype=int)
    result, left = pivot(G[None], F, support, owner)
    assert len(left) == 0
    np.testing.assert_allclose(result, nnls(X, H), atol=1e-9)


def test_nnls_of_repeated_and_zero_components():
    rng = np.random.default_rng(0)
    H = rng.random((4, 20))
    padded = np.concatenate([H, H[:2], np.zeros((2, 20))])
    X = rng.random((50, 20))
    W = nnls(X, padded)
    assert (W >= 0).all()
    assert (W[:, 6:] == 0).all()
    np.testing.assert_allclose(W @ padded, nnls(X, H) @ H, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    X=hnp.arrays(float, (4, 6), elements=st.floats(-10, 10, width=32)),
    H=hnp.arrays(float, (3, 6), elements=st.floats(-10, 10, width=32)),
)
def test_any_nnls_leaves_no_more_than_scipys(X, H):
    W = nnls(X, H)
    assert (W >= 0).all()
    left = np.linalg.norm(X - W @ H, axis=1)
    expected = np.array([optimize.nnls(H.T, row)[1] for row in X])
    np.testing.assert_allclose(left, expected, rtol=1e-5, atol=1e-5)


def test_nnls_rows_do_not_depend_on_each_other(activations):
    H = relu_matrix(7, 40, seed=1)
    W = nnls(activations, H)
    np.testing.assert_allclose(nnls(activations[17:20], H), W[17:20], atol=1e-12)
    np.testing.assert_allclose(nnls(activations[::-1], H), W[::-1], atol=1e-12)


def test_nnls_of_a_stack(stack):
    H = np.stack([relu_matrix(4, 40, seed=i) for i in range(3)])
    W = nnls(stack, H)
    assert W.shape == (3, 30, 4)
    for i in range(3):
        np.testing.assert_allclose(W[i], nnls(stack[i], H[i]), atol=1e-12)


def test_nnls_of_zero_rows_is_zero():
    assert (nnls(np.zeros((2, 3)), np.eye(3)) == 0).all()


@pytest.mark.parametrize("shape", [(2, 5), (3, 2, 4)])
def test_nnls_names_the_shapes_that_disagree(shape):
    with pytest.raises(ValueError, match="do not fit X of shape"):
        nnls(np.ones((6, 4)), np.ones(shape))

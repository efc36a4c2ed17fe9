"""Rows onto a fixed cone, against SciPy."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn.datasets import load_digits

from sknonlin import nnls
from sknonlin._factorization.compressions import make_compression
from sknonlin._factorization.nnls import EXCESS, pivot
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


def test_pivoting_ends_from_any_support():
    rng = np.random.default_rng(0)
    H, X = rng.uniform(-1, 1, (20, 24)), rng.uniform(-1, 1, (100, 24))
    G, F = torch.from_numpy(H @ H.T), torch.from_numpy(X @ H.T)
    support, owner = torch.zeros(F.shape, dtype=torch.bool), torch.zeros(100, dtype=int)
    np.testing.assert_allclose(pivot(G[None], F, support, owner), nnls(X, H), atol=1e-9)


# Rows of which pivoting is not certain ------------------------------------------------


def near(spread, k=30, q=40):
    """Generators that are nearly equal."""
    rng = np.random.default_rng(0)
    return rng.random((60, q)), rng.random((1, q)) + spread * rng.random((k, q))


def digits_on(generators, n=60):
    X = load_digits().data / 16
    return X[:n], X[n:][generators]


def among(H, distance):
    """Rows that are nearly generators."""
    rng = np.random.default_rng(1)
    return H[:60] + distance * rng.random(H[:60].shape), H


def opposite(spread):
    """Generators that nearly cancel."""
    rng = np.random.default_rng(0)
    H = rng.normal(size=(5, 12))
    H = np.concatenate([H, spread * rng.normal(size=H.shape) - H])
    return rng.normal(size=(60, 12)), H


DEGENERATE = {
    "digits": digits_on(slice(160)),
    "equal digits": digits_on(np.zeros(160, int)),
    "repeated digits": digits_on(np.arange(160) % 7),
    "near 1e-2": near(1e-2),
    "near 1e-4": near(1e-4),
    "near 1e-7": near(1e-7),
    "near 1e-10": near(1e-10),
    "200 and their neighbours": among(np.random.default_rng(0).random((200, 64)), 1e-7),
    "few and their neighbours": among(near(1e-3, 90)[1], 1e-5),
    "powers": (near(1)[0], np.vander(np.linspace(0, 1, 40), 12).T),
    "signed powers": (near(1)[0] - 0.5, np.vander(np.linspace(-1, 1, 40), 25).T),
    "opposite": opposite(1e-2),
    "more than dimensions": (near(1)[0][:, :9] - 0.5, near(1)[1][:, :9] - 1),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_no_cone_is_too_degenerate_for_scipys_residual(name, dtype, most):
    X, H = (matrix.astype(dtype) for matrix in DEGENERATE[name])
    W = nnls(X, H)
    assert (W >= 0).all()
    X, H, W = X.astype(float), H.astype(float), W.astype(float)
    left = np.linalg.norm(X - W @ H, axis=1)
    expected = np.array([optimize.nnls(H.T, row)[1] for row in X])
    assert ((left - expected) / np.linalg.norm(X, axis=1)).max() < most


def test_residuals_are_those_of_the_weights_on_degenerate_cones():
    X, H = digits_on(np.arange(40) % 25)
    X, H = (torch.from_numpy(A / np.linalg.norm(A, axis=1)[:, None])[None] for A in (X, H))
    compression = make_compression("nmf")
    left = (X - compression.approximate(X, H)).norm(dim=2)
    torch.testing.assert_close(compression.residuals(X, H), left, atol=1e-12, rtol=0)
    expected = [optimize.nnls(H[0].T.numpy(), row)[1] for row in X[0].numpy()]
    np.testing.assert_allclose(left[0], expected, atol=1e-12)


def test_cones_of_a_stack_may_be_degenerate():
    X, regular = near(1)
    H = np.stack([regular, near(1e-7)[1], np.zeros_like(regular)])
    W = nnls(np.stack([X, X, X]), H)
    assert (W[2] == 0).all()
    for own, generators in zip(W[:2], H[:2], strict=True):
        left = np.linalg.norm(X - own @ generators, axis=1)
        expected = [optimize.nnls(generators.T, row)[1] for row in X]
        np.testing.assert_allclose(left, expected, atol=1e-9)


def test_only_rows_that_are_not_certain_are_solved_one_by_one(monkeypatch):
    solved = []

    def counted(A, x, **settings):
        solved.append(x)
        return scipys(A, x, **settings)

    scipys = optimize.nnls
    monkeypatch.setattr(optimize, "nnls", counted)
    for dtype in (np.float32, np.float64):
        rng = np.random.default_rng(0)
        nnls(rng.random((500, 64)).astype(dtype), rng.random((32, 64)).astype(dtype))
        nnls(rng.normal(size=(500, 64)).astype(dtype), rng.random((32, 64)).astype(dtype))
    assert len(solved) < 10
    X, H = near(1e-7)
    nnls(X, H)
    assert len(solved) > 10


def test_where_scipy_does_not_end_the_weights_stay(monkeypatch):
    X, H = near(1e-2)
    expected = nnls(X, H)

    def unended(*args, **settings):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(optimize, "nnls", unended)
    monkeypatch.setattr("sknonlin._factorization.nnls.EXCESS", dict.fromkeys(EXCESS, -1))
    np.testing.assert_array_equal(nnls(X, H), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sizes_at_the_ends_of_the_range_change_nothing(dtype):
    limits = np.finfo(dtype)
    rng = np.random.default_rng(0)
    X, H = rng.random((20, 9)).astype(dtype), rng.random((4, 9)).astype(dtype)
    expected = nnls(X, H)
    for scale in (limits.max / 16, limits.tiny * 16):
        for ratio in (1, 8, 1 / 8):
            W = nnls(X * dtype(scale), H * dtype(scale / ratio))
            rounding = 100 * limits.eps * W.max()  # of systems whose condition is 50
            np.testing.assert_allclose(W, expected * ratio, rtol=0, atol=rounding)


@pytest.mark.parametrize("X", [np.ones((2, 3), np.float32), torch.ones(2, 3)])
def test_weights_out_of_range_say_so(X):
    with pytest.raises(ValueError, match=r"too large for the dtype.*float32.*components"):
        nnls(X, 1e-60 * np.eye(3))


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
    np.testing.assert_allclose(left, expected, rtol=0, atol=1e-8)


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

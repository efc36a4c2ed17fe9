"""Weights of rows on cones in compiled functions, against torch's and SciPy's."""

import numpy as np
import pytest
import torch
from scipy import optimize

from sknonlin._factorization import compiled, nmf_compression, nnls
from sknonlin._matrices.products import gram, products, unit_rows

pytest.importorskip("numba")
DTYPES = [torch.float32, torch.float64]
SIZES = [(1, 1, 7, 5), (3, 4, 9, 300), (2, 17, 40, 700), (1, 60, 90, 50), (2, 33, 20, 40)]


def cones_and_rows(n_cones, k, q, m, dtype):
    """Random cones, and rows of which some are zero or in no cone."""
    rng = torch.Generator().manual_seed(k)
    H = torch.rand(n_cones, k, q, dtype=dtype, generator=rng) ** 3
    X = torch.randn(n_cones, m, q, dtype=dtype, generator=rng)
    X[:, ::3].abs_()
    X[:, 1] = 0
    H[:, -1] *= k < 60  # a generator of zeros
    return unit_rows(H)[0], unit_rows(X)[0]


def by_torch(monkeypatch, function, G, F):
    with monkeypatch.context() as patch:
        for module in (nmf_compression, nnls):
            patch.setattr(module, "serves_cones", lambda G: False)
        return function(G, F)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_weights_are_those_of_torch(size, dtype, monkeypatch):
    H, X = cones_and_rows(*size, dtype)
    G, F = gram(H), products(H, X.mT)
    assert compiled.serves_cones(G)
    rounding = 300 * torch.finfo(dtype).eps
    for function in (nmf_compression.cone_weights, nnls.pivoted):
        own, theirs = function(G, F), by_torch(monkeypatch, function, G, F)
        assert (own >= 0).all()
        assert own.shape == theirs.shape
        weights = [W if function is nnls.pivoted else W.mT for W in (own, theirs)]
        left = [(X - W @ H).norm(dim=2) for W in weights]
        torch.testing.assert_close(*left, rtol=0, atol=rounding)
        if size[1] < size[2]:  # the weights are unique
            bound = 30 * rounding * theirs.max()
            torch.testing.assert_close(own, theirs, rtol=0, atol=bound.item())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exact_weights_are_those_of_scipy(dtype):
    H, X = cones_and_rows(1, 17, 40, 60, dtype)
    W = nnls.pivoted(gram(H), products(H, X.mT))[0].double().numpy()
    generators, rows = H[0].double().numpy(), X[0].double().numpy()
    for x, w in zip(rows, W, strict=True):
        expected = optimize.nnls(generators.T, x)[1]
        left = np.linalg.norm(x - w @ generators)
        assert left == pytest.approx(expected, abs=10 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_generators_end_in_weights_that_leave_the_least(dtype):
    H, X = cones_and_rows(1, 6, 30, 40, dtype)
    twice = torch.cat([H, H], 1)
    left = [
        (X - products(nnls.project(own, X), own)).norm(dim=2).double() for own in (H, twice)
    ]
    torch.testing.assert_close(*left, rtol=0, atol=50 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_whose_pivoting_fails_have_the_weights_of_the_iteration(dtype):
    G = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]], dtype=dtype)  # of no generators
    F = torch.ones(1, 2, 3, dtype=dtype)
    assert nnls.pivoted(G, F).sum() > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_generators_are_told_apart_by_the_jitter(dtype):
    G, F = torch.ones(1, 2, 2, dtype=dtype), torch.full((1, 2, 3), 0.7, dtype=dtype)
    W = nnls.pivoted(G, F)
    tolerance = 10 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        W.sum(2), torch.full_like(F[:, 0], 0.7), rtol=tolerance, atol=0
    )


def test_values_that_are_not_finite_end():
    H, X = cones_and_rows(1, 6, 30, 40, torch.float32)
    X[0, 5] = torch.nan
    W = nnls.pivoted(gram(H), products(H, X.mT))[0]
    assert W.shape == (40, 6)
    assert torch.isfinite(W[torch.arange(40) != 5]).all()


@pytest.mark.parametrize("function", [nmf_compression.cone_weights, nnls.pivoted])
def test_no_digit_depends_on_threads_or_on_the_other_rows(function, monkeypatch):
    H, X = cones_and_rows(2, 9, 20, 5000, torch.float32)
    G, F = gram(H), products(H, X.mT)
    expected = function(G, F)
    monkeypatch.setattr(compiled, "threads_for", lambda *_: 3)
    assert torch.equal(function(G, F), expected)
    rows = expected if function is nnls.pivoted else expected.mT
    some = function(G[1:], F[1:, :, 700:703])
    assert torch.equal(some if function is nnls.pivoted else some.mT, rows[1:, 700:703])


def test_what_cones_are_served():
    G = torch.eye(5)[None]
    assert compiled.serves_cones(G)
    assert not compiled.serves_cones(G.half())
    assert not compiled.serves_cones(G.to("meta"))
    assert not compiled.serves_cones(torch.zeros(1, 0, 0))
    assert not compiled.serves_cones(torch.zeros(1, 129, 129))

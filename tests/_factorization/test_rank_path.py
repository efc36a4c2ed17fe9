"""The iterations and their starts, which a path of ranks is learned with."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from sknonlin import nmf_path
from tests.conftest import relu_matrix

RANKS = [1, 2, 3, 5, 8]


def sklearn_error(X, rank, **parameters):
    """Relative error of scikit-learn's NMF, whether or not it has converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = NMF(rank, random_state=0, **parameters).fit(X)
    return model.reconstruction_err_ / np.linalg.norm(X)


@pytest.mark.parametrize("seed", range(3))
def test_fits_as_well_as_scikit_learn(seed):
    X = relu_matrix(60, 40, seed=seed)
    reference = [sklearn_error(X, k, max_iter=2000) for k in RANKS]
    errors = nmf_path(X, RANKS).errors
    assert errors.mean() <= 1.01 * np.mean(reference)
    np.testing.assert_allclose(errors, reference, rtol=0.1)


def test_multiplicative_updates_reach_scikit_learns():
    X = relu_matrix(60, 40)
    expected = sklearn_error(X, 5, solver="mu", init="nndsvda")
    error = nmf_path(X, [5], solver="mu").errors[0]
    assert error == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(50, 40), (33, 19), (19, 33), (61, 10)])
@pytest.mark.parametrize("ranks", [RANKS, [1, 7]])
@pytest.mark.parametrize("max_rows", [4000, 31])
def test_no_digit_depends_on_the_stack(dtype, shape, ranks, max_rows):
    settings = {"max_rows": max_rows, "random_state": 0}
    stack = np.stack([relu_matrix(*shape, seed=i) for i in range(6)]).astype(dtype)
    path = nmf_path(stack, ranks, **settings)
    for place in (slice(0, 1), slice(0, 5), slice(1, 3), slice(3, 6)):
        part = nmf_path(stack[place], ranks, **settings)
        np.testing.assert_array_equal(part.errors, path.errors[place])
        for H, H_part in zip(path.components, part.components, strict=True):
            np.testing.assert_array_equal(H_part, H[place])


def test_wide_and_large_matrices_use_the_subspace_start():
    X = relu_matrix(200, 300, depth=12)
    errors = nmf_path(X, [1, 4, 8]).errors
    reference = [sklearn_error(X, k, max_iter=500) for k in (1, 4, 8)]
    np.testing.assert_allclose(errors, reference, rtol=0.03)


@pytest.mark.parametrize("seed", [55, 67, 75])
def test_many_dead_units(seed):
    rng = torch.Generator().manual_seed(seed)
    A = torch.rand(200, 9, generator=rng) ** 3 @ torch.rand(9, 25, generator=rng)
    X = torch.zeros(200, 64)
    X[:, torch.randperm(64, generator=rng)[:25]] = A + 0.02 * torch.rand(
        200, 25, generator=rng
    )
    path = nmf_path(X / X.norm(dim=1, keepdim=True), ranks=[1, 4, 16, 32])
    assert path.errors[-1] < 0.01

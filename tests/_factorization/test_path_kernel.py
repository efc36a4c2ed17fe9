"""The compiled rank path of one matrix, against the one in torch."""

import numpy as np
import pytest
import torch

from sknonlin._factorization.compiled import kernels, learn_path_compiled
from sknonlin._factorization.rank_path import learn_path
from tests.conftest import relu_matrix

pytest.importorskip("numba")
RANKS = [1, 2, 3, 5, 8]


def in_torch(X, ranks):
    """Errors, iterations and components of rank_path."""
    X = X / X.flatten(1).norm(dim=1)[:, None, None]
    steps = list(learn_path(X, ranks, "admm", 200, 2e-4))
    H, errors, n_iter = zip(*steps, strict=True)
    return torch.stack(errors, 1), torch.stack(n_iter, 1), H


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (200, 12), (12, 200), (100, 100)])
def test_it_is_the_path_of_torch(shape):
    X = torch.from_numpy(np.stack([relu_matrix(*shape, seed=i) for i in range(3)]))
    components, errors, n_iter = learn_path_compiled(X, RANKS, 200, 2e-4, lambda: None)
    expected, iterations, H = in_torch(X, RANKS)
    torch.testing.assert_close(errors, expected, rtol=1e-7, atol=0)
    assert torch.equal(n_iter, iterations)
    for own, other in zip(components, H, strict=True):
        unit = other / other.norm(dim=2, keepdim=True)
        torch.testing.assert_close(own, unit, rtol=1e-4, atol=1e-6)


def test_in_float32_it_differs_by_rounding():
    X = torch.from_numpy(relu_matrix(60, 40)[None])
    double = learn_path_compiled(X, RANKS, 200, 2e-4, lambda: None)[1]
    single = learn_path_compiled(X.float(), RANKS, 200, 2e-4, lambda: None)[1]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0)


def test_max_iter_and_tol_count_alternations():
    X = torch.from_numpy(relu_matrix(60, 40)[None])
    for max_iter in (1, 3, 4, 6):
        n_iter = learn_path_compiled(X, RANKS, max_iter, 0, lambda: None)[2]
        assert (n_iter <= max_iter).all()
        assert n_iter[0, -1] == max_iter


@pytest.mark.parametrize("fill", [0, 1])
def test_constant_matrices_need_one_component(fill):
    X = torch.full((1, 30, 20), float(fill), dtype=torch.float64)
    components, errors, _ = learn_path_compiled(X, [1, 4], 50, 2e-4, lambda: None)
    assert torch.isfinite(errors).all()
    assert (errors < 1e-2).all()
    assert all(torch.isfinite(H).all() for H in components)
    norms = components[1].norm(dim=2)
    torch.testing.assert_close(norms, (norms > 0).double(), rtol=1e-12, atol=1e-12)


def test_every_matrix_is_reported():
    done = []
    X = torch.from_numpy(relu_matrix(30, 20)[None]).expand(4, -1, -1)
    learn_path_compiled(X, [1, 2], 20, 2e-4, lambda: done.append(True))
    assert len(done) == 4


def test_basis_of_dependent_rows_has_zeros():
    path_kernel = pytest.importorskip("sknonlin._factorization.path_kernel")
    A = np.zeros((4, 16))
    A[0, :3] = 1, 2, 2
    A[1] = 3 * A[0]
    A[2, 1] = 5
    path_kernel.orthonormalize(A, 4, 16)
    np.testing.assert_allclose(A @ A.T, np.diag([1, 0, 1, 0]), atol=1e-12)
    assert kernels(torch.float64) is not None

"""The compressions, against their definitions."""

import numpy as np
import pytest
import torch

from sknonlin._factorization.compressions import COMPRESSIONS, make_compression
from sknonlin._matrices.stack import MatrixStack
from tests.conftest import relu_matrix

RANKS = [1, 2, 5, 12, 20, 40]


def learn(name, X, ranks=RANKS, **settings):
    compression = make_compression(name, random_state=0, **settings)
    errors, components, n_iter = compression.learn(MatrixStack(X), ranks)
    return compression, errors, components, n_iter


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_errors_are_those_of_the_rows(name):
    X = relu_matrix(60, 40)
    compression, errors, components, _ = learn(name, X)
    rows = torch.from_numpy(X)
    for error, component in zip(errors[0], components, strict=True):
        if name == "ablation":
            left = rows.square().sum(0) @ (1 - component[0]).T
            expected = (left.sqrt() / rows.norm()).mean()
        else:
            left = compression.residuals(rows[None], component)
            expected = left.norm() / rows.norm()
        assert error.item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_stacking_changes_nothing(name, stack):
    errors = learn(name, stack)[1]
    for i, X in enumerate(stack):
        np.testing.assert_allclose(errors[i], learn(name, X)[1][0], atol=1e-8)


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_scale_changes_nothing(name, factor, activations):
    X = activations.astype(np.float32)
    errors = learn(name, X * np.float32(factor))[1]
    np.testing.assert_allclose(errors, learn(name, X)[1], atol=1e-4)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_all_zero_matrix_has_no_error(name):
    assert (learn(name, np.zeros((9, 7)))[1] == 0).all()


@pytest.mark.parametrize("name", ["nmf", "pca"])
@pytest.mark.parametrize(("q", "k"), [(6, 4), (12, 8), (30, 16)])
def test_what_is_left_in_narrow_layers(name, q, k):
    rng = np.random.default_rng(0)
    H = rng.random((3, k, q))
    H = torch.tensor(
        H if name == "nmf" else np.linalg.qr(H.swapaxes(1, 2))[0].swapaxes(1, 2)
    )
    H /= H.norm(dim=2, keepdim=True)
    X = torch.tensor(rng.random((40, k)) @ H[0].numpy() + 1e-4 * rng.random((40, q)))
    X /= X.norm(dim=1, keepdim=True)
    compression = make_compression(name)
    expected = compression.stack_residuals(X, H)
    assert expected[0].median() < 5e-3  # of which a difference of squares has few digits
    found = compression.stack_residuals(X.float(), H.float())
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=2e-6)

"""The compressions, against their definitions."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD

from sknonlin._factorization.compressions import (
    COMPRESSIONS,
    make_compression,
    rows_that_fit,
)
from sknonlin._matrices.stack import MatrixStack
from sknonlin._running.memory import limited
from tests.conftest import relu_matrix

RANKS = [1, 2, 5, 12, 20, 40]


def learn(name, X, ranks=RANKS, **settings):
    compression = make_compression(name, random_state=0, **settings)
    errors, components, n_iter = compression.learn(MatrixStack(X), ranks)
    return compression, errors, components, n_iter


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (30, 30)])
def test_pca_curve_is_the_tail_of_the_singular_values(shape):
    X = np.random.default_rng(0).normal(size=shape)
    s = np.linalg.svd(X, compute_uv=False)
    expected = [np.sqrt((s[k:] ** 2).sum() / (s**2).sum()) for k in RANKS]
    errors = learn("pca", X)[1][0]
    np.testing.assert_allclose(errors, expected, atol=1e-8)
    assert (errors[np.array(RANKS) >= min(shape)] == 0).all()


def test_pca_rows_are_those_of_truncated_svd():
    X = np.random.default_rng(0).normal(size=(60, 20))
    compression, _, components, _ = learn("pca", X)
    model = TruncatedSVD(5, algorithm="arpack", random_state=0)
    expected = model.inverse_transform(model.fit_transform(X))
    rows = compression.approximate(torch.from_numpy(X)[None], components[2])[0]
    np.testing.assert_allclose(rows, expected, atol=1e-8)


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


def test_pca_of_few_directions_has_no_more_axes():
    X = np.ones((60, 400)) + np.outer(np.arange(60), np.eye(400)[0])
    compression, errors, components, _ = learn("pca", X)
    for error, component in zip(errors[0], components, strict=True):
        rows = torch.from_numpy(X)
        left = compression.residuals(rows[None], component).norm() / rows.norm()
        assert left.item() == pytest.approx(error.item(), abs=1e-6)


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


def test_ablation_keeps_k_units_in_nested_masks(activations):
    compression, errors, masks, _ = learn("ablation", activations, n_draws=4)
    for k, mask, larger in zip(RANKS, masks, masks[1:] + masks[-1:], strict=True):
        assert mask.shape == (1, 4, 40)
        assert (mask.sum(2) == k).all()
        assert (mask <= larger).all()
    assert (errors.diff(dim=1) <= 0).all()
    assert errors[0, -1] == 0
    rows = compression.approximate(torch.from_numpy(activations)[None], masks[2])
    np.testing.assert_array_equal(rows[0], activations * masks[2][0, 0].numpy())


def test_ablation_averages_towards_the_expected_energy():
    # All units alike: dropping 40 - k of them drops that share of the energy.
    X = np.ones((5, 40))
    errors = learn("ablation", X, ranks=[10], n_draws=3)[1]
    assert errors.item() == pytest.approx(np.sqrt(30 / 40))


def test_fewer_rows_are_drawn_where_the_memory_is_short():
    settings = {"ranks": [1, 8], "dtype": torch.float64, "device": "cpu"}
    assert rows_that_fit(4000, 256, **settings) == 4000
    assert 500 < rows_that_fit(4000, 16_384, **settings) < 4000
    with limited(1e-6):
        assert rows_that_fit(4000, 256, **settings) == 16
        assert rows_that_fit(None, 256, **settings) == 16


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

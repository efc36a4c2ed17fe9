"""Principal axes, against singular values and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD

from sknonlin._factorization.compressions import make_compression
from sknonlin._matrices.stack import MatrixStack

RANKS = [1, 2, 5, 12, 20, 40]


def learn(X, ranks=RANKS, **settings):
    compression = make_compression("pca", random_state=0, **settings)
    errors, components, _ = compression.learn(MatrixStack(X), ranks)
    return compression, errors, components


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (30, 30)])
def test_pca_curve_is_the_tail_of_the_singular_values(shape):
    X = np.random.default_rng(0).normal(size=shape)
    s = np.linalg.svd(X, compute_uv=False)
    expected = [np.sqrt((s[k:] ** 2).sum() / (s**2).sum()) for k in RANKS]
    errors = learn(X)[1][0]
    np.testing.assert_allclose(errors, expected, atol=1e-8)
    assert (errors[np.array(RANKS) >= min(shape)] == 0).all()


def test_pca_rows_are_those_of_truncated_svd():
    X = np.random.default_rng(0).normal(size=(60, 20))
    compression, _, components = learn(X)
    model = TruncatedSVD(5, algorithm="arpack", random_state=0)
    expected = model.inverse_transform(model.fit_transform(X))
    rows = compression.approximate(torch.from_numpy(X)[None], components[2])[0]
    np.testing.assert_allclose(rows, expected, atol=1e-8)


def test_pca_of_few_directions_has_no_more_axes():
    X = np.ones((60, 400)) + np.outer(np.arange(60), np.eye(400)[0])
    compression, errors, components = learn(X)
    for error, component in zip(errors[0], components, strict=True):
        rows = torch.from_numpy(X)
        left = compression.residuals(rows[None], component).norm() / rows.norm()
        assert left.item() == pytest.approx(error.item(), abs=1e-6)

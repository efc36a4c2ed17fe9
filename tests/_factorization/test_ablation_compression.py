"""Units set to zero, against the definition."""

import numpy as np
import pytest
import torch

from sknonlin._factorization.compressions import make_compression
from sknonlin._matrices.stack import MatrixStack

RANKS = [1, 2, 5, 12, 20, 40]


def learn(X, ranks=RANKS, **settings):
    compression = make_compression("ablation", random_state=0, **settings)
    errors, components, _ = compression.learn(MatrixStack(X), ranks)
    return compression, errors, components


def test_ablation_keeps_k_units_in_nested_masks(activations):
    compression, errors, masks = learn(activations, n_draws=4)
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
    errors = learn(X, ranks=[10], n_draws=3)[1]
    assert errors.item() == pytest.approx(np.sqrt(30 / 40))

"""Rows of a sample in every layer, and the keys of samples."""

import numpy as np
import pytest
import torch
from torch import nn

from sknonlin._memorization.activation_rows import SampleFeatures, sample_keys
from sknonlin._network.adapters import as_network
from sknonlin._network.layers import Capture
from tests.architectures import seeded


def test_keys_depend_on_the_input_alone():
    rng = torch.Generator().manual_seed(0)
    X = torch.rand(20, 3, 5, generator=rng)
    keys = sample_keys(X, 20)
    assert len(np.unique(keys)) == 20
    np.testing.assert_array_equal(sample_keys(X[4:9].clone(), 5), keys[4:9])
    X[3, 2, 4] += 1e-6
    assert (sample_keys(X, 20) != keys).tolist() == [i == 3 for i in range(20)]
    pair = {"a": torch.rand(4, 2, dtype=torch.float64, generator=rng), "b": torch.arange(4)}
    assert len(np.unique(sample_keys(pair, 4))) == 4


def gathered(network, X, features):
    """Rows of all samples, by layer."""
    with Capture(network, features.layers, X[:2], 2) as capture:
        rows, _ = features.rows(capture, X, len(X))
        assert {name: A.shape[1] for name, A in rows.items()} == features.n_features(
            capture, X[:2]
        )
    return rows


@pytest.mark.parametrize("shape", [(40,), (2, 300), (3, 16, 20), (5, 4, 6, 7)])
def test_feature_maps_become_rows(shape):
    features = SampleFeatures("relu", 10, nonnegative=True)
    network = as_network(nn.Sequential(nn.Identity(), nn.ReLU()))
    X = torch.rand(7, *shape, generator=torch.Generator().manual_seed(0))
    found = gathered(network, X, features)
    assert list(found) == ["input", "1"]
    rows = found["1"]
    assert rows.shape[0] == 7
    if len(shape) == 2:  # units come last in a layer's sequences, but not in an image
        assert rows.shape[1] == shape[1]
        return
    assert 20 <= rows.shape[1] <= 256
    torch.testing.assert_close(rows, found["input"])
    if len(shape) > 1:  # cells of equal sizes keep the mean of every channel
        mean = rows.reshape(7, shape[0], -1).mean(2)
        torch.testing.assert_close(mean, X.flatten(2).mean(2), atol=0.02, rtol=0.1)


def test_signed_inputs_stay_as_they_are():
    features = SampleFeatures("relu", 10, nonnegative=True)
    network = as_network(seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU())))
    X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gathered(network, X, features)["input"], X)
    tokens = torch.arange(24).reshape(6, 4) % 5
    network = as_network(seeded(lambda: nn.Sequential(nn.Embedding(5, 3), nn.ReLU())))
    assert list(gathered(network, tokens, features)) == [
        *("input counts", "input places", "input", "1")
    ]

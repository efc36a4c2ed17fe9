"""Passes over batches of one size, as large as a device has room for."""

import numpy as np
import pytest
import torch

from sknonlin import layer_profile
from sknonlin._memorization.profiling import make_passes
from sknonlin._running import memory
from tests.architectures import Undecided, seeded

RANKS = [1, 2, 4]


def test_result_does_not_depend_on_other_classes_or_passes(network, digits, monkeypatch):
    X, y = digits
    settings = {"ranks": RANKS, "random_state": 0, "batch_size": 20}
    whole = layer_profile(network, X, y, **settings)
    few = y < 3
    part = layer_profile(network, X[few], y[few], **settings)
    np.testing.assert_allclose(part.accuracy, whole.accuracy[:3])
    monkeypatch.setitem(memory.MOST, "pass", 64 * 20)
    split = layer_profile(network, X, y, **settings)
    np.testing.assert_allclose(split.errors, whole.errors, atol=1e-4)
    np.testing.assert_allclose(split.accuracies, whole.accuracies, atol=0.051)


def test_forward_passes_are_not_wasted(network, digits):
    X, y = digits
    calls = []
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    try:
        layer_profile(network, X, y, ranks=RANKS, batch_size=20, random_state=0)
    finally:
        handle.remove()
    n_replays = 2 * (len(RANKS) + 1)  # one of each layer as it is
    assert len(calls) <= n_replays + 4  # and three to list the layers


def test_layers_that_some_batches_do_not_reach(monkeypatch):
    module, X = seeded(Undecided), seeded(torch.rand, 40, 4)
    X[20:] *= -1
    y = np.repeat([0, 1], 20)
    # One pass for each class, which go different ways.
    monkeypatch.setitem(memory.MOST, "pass", 1)
    profile = layer_profile(module, X, y, ranks=[1, 2], random_state=0)
    assert profile.layer_names == ["relu", "relu:2", "relu:3", "relu:4"]
    assert np.isnan(profile.errors[3, 1]).all()
    assert not np.isnan(profile.errors[:, 0]).any()
    assert not np.isnan(profile.error_auc).any()


def test_passes_hold_batches_of_one_size():
    batches = [[np.arange(5), np.arange(5)], [np.arange(3)], [np.arange(5)]]
    passes = list(make_passes(batches, max_samples=11))
    assert [places for places, _ in passes] == [[(0, 0), (0, 1)], [(2, 0)], [(1, 0)]]
    assert [len(index) for _, index in passes] == [10, 5, 3]


def test_batches_that_a_device_has_no_room_for(network, digits, monkeypatch):
    X, y = digits
    settings = {"ranks": RANKS, "batch_size": 20, "random_state": 0}
    whole = layer_profile(network, X, y, **settings)
    full = torch.OutOfMemoryError("in vain")
    handle = network.register_forward_pre_hook(
        lambda _, args: refuse(full) if len(args[0]) > 50 else None
    )
    split = layer_profile(network, X, y, **settings)
    np.testing.assert_allclose(split.errors, whole.errors, atol=1e-4)
    handle.remove()
    handle = network.register_forward_pre_hook(
        lambda _, args: refuse(full) if len(args[0]) > 10 else None
    )
    with pytest.raises(torch.OutOfMemoryError):
        layer_profile(network, X, y, **settings)
    handle.remove()


def refuse(error):
    raise error


def test_a_batch_that_is_too_large_is_measured_in_groups_of_layers(
    network, digits, monkeypatch
):
    X, y = digits
    settings = {"ranks": RANKS, "batch_size": 20, "random_state": 0}
    whole = layer_profile(network, X, y, **settings)
    monkeypatch.setitem(memory.SHARES["profile"], "pass", 1e-6)
    small = layer_profile(network, X, y, **settings)
    assert small.layer_names == whole.layer_names
    np.testing.assert_allclose(small.errors, whole.errors, atol=1e-4)

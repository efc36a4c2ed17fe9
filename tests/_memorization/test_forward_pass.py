"""One forward pass: compressed layer after layer, and refused where it is not finite."""

import numpy as np
import pytest
import torch
from torch import nn

from sknonlin import layer_profile
from sknonlin._network.layers import Capture
from sknonlin._running.memory import MOST
from tests.architectures import mlp, seeded

RANKS = [1, 2, 4]


class Residual(nn.Module):
    def __init__(self, hidden_read=False):
        super().__init__()
        self.hidden_read = hidden_read
        self.parts = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        if self.hidden_read:
            x.sum().tolist()
        first = torch.relu(self.parts[0](x))
        second = torch.relu(self.parts[1](first)) + first
        return self.head(torch.relu(self.parts[2](second)))


def test_cumulative_where_the_network_must_run_in_full():
    X, y = seeded(torch.randn, 60, 4), np.arange(60) % 3
    settings = {"ranks": RANKS, "compression": "pca", "cumulative": True}
    profiles = [
        layer_profile(seeded(Residual, read), X, y, **settings, random_state=0)
        for read in (False, True)
    ]
    np.testing.assert_allclose(profiles[0].errors, profiles[1].errors, atol=1e-5)
    np.testing.assert_allclose(profiles[0].accuracies, profiles[1].accuracies)


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precisions(dtype, cumulative):
    module, X = seeded(mlp), seeded(torch.randn, 60, 4)
    y, settings = np.arange(60) % 3, {"ranks": RANKS, "random_state": 0}
    expected = layer_profile(module, X, y, cumulative=cumulative, **settings)
    found = layer_profile(module.to(dtype), X, y, cumulative=cumulative, **settings)
    np.testing.assert_allclose(found.errors, expected.errors, atol=0.03)


def test_dead_network_has_no_error():
    module = seeded(mlp)
    with torch.no_grad():
        module[0].bias.fill_(-100)
    profile = layer_profile(
        module, seeded(torch.randn, 30, 4), np.arange(30) % 3, random_state=0
    )
    assert (profile.errors[0] == 0).all()


def test_nan_names_the_first_layer_also_where_a_later_one_is_exact():
    """The narrow second layer is not factorized at rank 8; the first one is the cause."""
    with torch.random.fork_rng():
        net = nn.Sequential(
            *[nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 4), nn.ReLU(), nn.Linear(4, 2)]
        )
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nan
    X = np.random.default_rng(0).random((40, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="layer '1' contain NaN"):
        layer_profile(net, X, np.arange(40) % 2, ranks=[8], random_state=0)


class Deep(nn.Module):
    """A network with many layers, which may look at the batch as a whole."""

    def __init__(self, kind="plain", widths=(40,) * 12):
        super().__init__()
        self.kind = kind
        sizes = zip((4, *widths), widths, strict=False)
        self.parts = nn.ModuleList([nn.Linear(n, m) for n, m in sizes])
        self.head = nn.Linear(widths[-1], 2)
        with torch.no_grad():  # so that samples are told apart behind many layers
            for part in self.parts:
                part.weight.mul_(2)

    def forward(self, x):
        if self.kind == "one size":
            x = x.view(min(20, len(x)), 4)
        if self.kind == "few":
            assert len(x) <= 20
        if self.kind == "largest":
            x = x / x.abs().amax(0)
        if self.kind == "centred":
            x = x - x.mean(0)
        for part in self.parts:
            x = torch.relu(part(x))
        return self.head(x)


@pytest.fixture
def replays(monkeypatch):
    """Numbers of samples in all replays."""
    sizes, replay = [], Capture.replay

    def counted(self, *args, **settings):
        tape = replay(self, *args, **settings)
        sizes.append(len(tape.output))
        return tape

    monkeypatch.setattr(Capture, "replay", counted)
    return sizes


X_DEEP, Y_DEEP = seeded(torch.randn, 20, 4), np.repeat([0, 1], 10)
SETTINGS = {"ranks": [1, 2, 3, 4, 5], "batch_size": 10, "random_state": 0}


@pytest.mark.parametrize("n_copies", [1, 2, 3, 5])
def test_ranks_are_replayed_side_by_side(n_copies, monkeypatch, replays):
    """Five ranks, as many together as there is room for; accuracies are the same."""
    module, n_numbers = seeded(Deep), 20 * 2 * 40  # numbers of a linear layer and its ReLU
    monkeypatch.setitem(MOST, "replayed call", 0)
    expected = layer_profile(module, X_DEEP, Y_DEEP, **SETTINGS)
    assert set(replays) == {20}
    replays.clear()
    monkeypatch.setitem(MOST, "replayed call", n_copies * n_numbers / 2)
    found = layer_profile(module, X_DEEP, Y_DEEP, **SETTINGS)
    np.testing.assert_array_equal(found.batch_accuracies, expected.batch_accuracies)
    assert set(replays) == {20 * n_copies}
    assert len(replays) == 12 * -(-5 // n_copies)


@pytest.mark.parametrize("kind", ["one size", "few", "largest", "centred"])
def test_one_rank_at_a_time_where_others_in_the_batch_count(kind, replays):
    profile = layer_profile(seeded(Deep, kind), X_DEEP, Y_DEEP, **SETTINGS)
    assert set(replays) == {20}
    assert np.isfinite(profile.accuracies).all()


def test_one_rank_at_a_time_where_replays_are_short(replays):
    """A head of two layers: to record five copies of the whole network does not pay."""
    module = seeded(Deep)
    layer_profile(module, X_DEEP, Y_DEEP, layers=["relu:11", "relu:12"], **SETTINGS)
    assert set(replays) == {20}


def test_one_rank_at_a_time_where_memory_is_short(replays):
    layer_profile(seeded(Deep), X_DEEP, Y_DEEP, **SETTINGS, working_memory=0.4)
    assert set(replays) == {20}


def test_narrow_layers_have_fewer_ranks(replays):
    """At 8, a layer of 4 units is exact: one rank less is replayed."""
    module = seeded(Deep, widths=(40,) * 11 + (4,))
    layer_profile(module, X_DEEP, Y_DEEP, **SETTINGS | {"ranks": [1, 2, 8]})
    assert replays == [60] * 11 + [40]

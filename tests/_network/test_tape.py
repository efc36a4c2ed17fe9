"""Replays from a layer, against full passes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sknonlin._network.tape import DivergedError
from tests._network.conftest import assert_same_state, captured, state_of
from tests.architectures import mlp, seeded


def test_replay_of_the_same_activations_changes_nothing(architecture):
    module, X = architecture
    before = state_of(module)
    with captured(module, X) as capture:
        tape, layouts = capture.record(X, len(X))
        for name in layouts:
            value = tape.activations[name].tensor.clone()
            again = capture.replay(X, tape, name, value)
            torch.testing.assert_close(again.output, tape.output)
    with torch.no_grad():
        module.eval()
        torch.testing.assert_close(module(X.clone()), tape.output)
        module.train()
    assert_same_state(before, module)


def test_replay_from_a_layer_equals_a_full_pass(architecture):
    """Skipping what came before must not change what comes after."""
    module, X = architecture
    with captured(module, X) as capture:
        tape, _ = capture.record(X, len(X))
        for name, layer in list(tape.layers.items()):
            value = seeded(torch.rand, layer.shape)
            assert layer.resumable
            short = capture.replay(X, tape, name, value).output
            layer.resumable = False
            full = capture.replay(X, tape, name, value).output
            torch.testing.assert_close(short, full)
            assert not torch.allclose(short, tape.output)


def test_only_the_rest_of_the_network_runs():
    module, X = seeded(mlp), seeded(torch.randn, 6, 4)
    with captured(module, X) as capture:
        tape, _ = capture.record(X, 6)
        # Without its first weights, the first layers cannot give anything right.
        weight = module[0].weight.data
        module[0].weight.data = torch.full_like(weight, torch.nan)
        value = tape.activations["3"].tensor.clone()
        again = capture.replay(X, tape, "3", value)
        module[0].weight.data = weight
    torch.testing.assert_close(again.output, tape.output)


def test_replays_can_be_chained():
    module, X = seeded(mlp), seeded(torch.randn, 6, 4)
    first, second = seeded(torch.rand, 6, 8), seeded(torch.rand, 6, 8, seed=1)
    with captured(module, X) as capture:
        tape, _ = capture.record(X, 6)
        tape = capture.replay(X, tape, "1", first, record=True)
        with torch.no_grad():
            expected = torch.relu(module[2](first))
        torch.testing.assert_close(tape.activations["3"].tensor, expected)
        output = capture.replay(X, tape, "3", second).output
        with torch.no_grad():
            torch.testing.assert_close(output, module[4](second))


class Shared(nn.Module):
    """Writes to memory that is read under another shape, across layers."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        buffer = x.new_zeros(len(x), 2, 4)
        hidden = self.inner(x)
        buffer[:, 0] = torch.relu(hidden)
        F.relu_(hidden.view(-1, 4))
        buffer[:, 1] = 2 * hidden
        return self.head(buffer.sum(1))


class ReadsBehind(nn.Module):
    """Reads a tensor where no operation shows it."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = torch.relu(self.inner(x))
        scale = float(hidden.numpy().sum())
        return self.head(torch.relu(hidden - 0.1)) * scale


class KeepsInput(nn.Module):
    """Changes a skip connection in place after it was read."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        skip = self.inner(x)
        hidden = torch.relu(skip)
        skip += hidden
        skip *= 2
        return self.head(skip)


class KeepsViews(nn.Module):
    """Skip connections that are slices, chunks, transposed or of the same shape."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        z = self.inner(x)
        self.log = z.detach()
        left, right = z.chunk(2, -1)
        same = z.view(z.shape)
        flipped = z.transpose(0, 1)
        h = self.head(torch.relu(z) + z)
        h = h + left + torch.relu(right) + flipped.T[:, 1:4]
        return torch.relu(h) + same[:, :3]


class OverwritesAlias(nn.Module):
    """In-place ReLU through another view of the same shape."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        z = self.inner(x)
        F.relu_(z.view(len(z), -1))
        z = self.inner(z)
        w = z.detach()
        h = torch.relu(z)
        w.add_(h)
        return self.head(z)


@pytest.mark.parametrize(
    "make", [Shared, ReadsBehind, KeepsInput, KeepsViews, OverwritesAlias]
)
def test_memory_shared_across_layers(make):
    module, X = seeded(make), seeded(torch.randn, 5, 4)
    with captured(module, X) as capture:
        tape, _ = capture.record(X, 5)
        for name, layer in list(tape.layers.items()):
            value = seeded(torch.rand, layer.shape)
            results = [capture.replay(X, tape, name, value).output for _ in range(2)]
            torch.testing.assert_close(*results)
            layer.resumable = False
            torch.testing.assert_close(
                results[0], capture.replay(X, tape, name, value).output
            )


def test_random_network_is_told():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.runs = mlp(), 0

        def forward(self, x):
            self.runs += 1
            return self.inner(x) if self.runs < 4 else x[:, :3]

    module, X = seeded(Noisy), seeded(torch.randn, 5, 4)
    with captured(module, X) as capture:
        tape, _ = capture.record(X, 5)
        with pytest.raises(DivergedError, match="not deterministic"):
            capture.replay(X, tape, "inner.3", tape.activations["inner.3"].tensor)

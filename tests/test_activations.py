"""Capture of ReLU calls, against hooks and hand-written forward passes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sknonlin._network.adapters import as_network
from sknonlin._network.layers import Capture
from sknonlin._network.layout import Layout
from sknonlin._network.tape import DivergedError
from tests.architectures import ARCHITECTURES, Transformer, TwoInputs, mlp, seeded


def captured(module, X, layers="relu", n_listed=2):
    """Make a capture of a module on samples, ready to enter."""
    network = as_network(module)
    return Capture(network, layers, network.sample(X, list(range(n_listed))), n_listed)


def state_of(module):
    """Everything that must be as before."""
    return (
        {name: tensor.clone() for name, tensor in module.state_dict().items()},
        [m.training for m in module.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()],
        torch.backends.mha.get_fastpath_enabled(),
    )


def assert_same_state(before, module):
    after = state_of(module)
    assert before[1:] == after[1:]
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    make, shape = ARCHITECTURES[request.param]
    return seeded(make), seeded(torch.rand, 6, *shape)


def test_lists_every_call_of_real_architectures(architecture):
    module, X = architecture
    with captured(module, X) as capture:
        assert len(capture.listed) == getattr(module, "n_relus", 2)


def test_names_are_stable_and_readable():
    names = {}
    for name in ("resnet", "audio", "transformer"):
        make, shape = ARCHITECTURES[name]
        with captured(seeded(make), seeded(torch.randn, 6, *shape)) as capture:
            names[name] = list(capture.listed)
    assert names == {
        "resnet": [
            "stem.2",
            "layer1.relu",
            "layer1.relu:2",
            "layer2.relu",
            "layer2.relu:2",
        ],
        "audio": ["relu", "relu:2", "relu:3", "relu6", "clamp"],
        "transformer": ["encoder.layers.0.relu", "encoder.layers.1.relu"],
    }


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


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_wrappers():
    inner, X = seeded(mlp), seeded(torch.randn, 5, 4)
    for module in (inner, nn.DataParallel(inner), torch.compile(inner)):
        with captured(module, X) as capture:
            assert list(capture.listed) == ["1", "3"]
    with captured(torch.jit.script(inner), X) as capture:
        assert list(capture.listed) == ["relu", "relu:2"]


def test_submodules_as_layers():
    module, X = seeded(mlp, activation=nn.GELU), seeded(torch.randn, 5, 4)
    with captured(module, X, ["0", "1"]) as capture:
        tape, layouts = capture.record(X, 5)
        assert list(layouts) == ["0", "1"]
        with torch.no_grad():
            expected = F.gelu(module[0](X))
        torch.testing.assert_close(tape.activations["1"].tensor, expected)
        output = capture.replay(X, tape, "1", expected * 0).output
        with torch.no_grad():
            torch.testing.assert_close(output, module[2:](expected * 0))


def test_several_inputs():
    module = seeded(TwoInputs)
    X = {"left": seeded(torch.randn, 5, 4), "right": seeded(torch.randn, 5, 4, seed=1)}
    with captured(module, X) as capture:
        tape, layouts = capture.record(X, 5)
        assert layouts["relu"].rows(tape.activations["relu"].tensor).shape == (5, 1, 8)


def test_input_that_the_network_overwrites_is_kept():
    module = nn.Sequential(nn.ReLU(inplace=True), seeded(nn.Linear, 4, 3))
    X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    before = X.copy()
    with captured(module, X) as capture:
        capture.record(torch.from_numpy(X), 5)
    assert np.array_equal(X, before)


@pytest.mark.parametrize(
    ("shape", "n", "unit_axis", "expected"),
    [
        ((6, 5), 6, None, (6, 1, 5)),
        ((6,), 6, None, (6, 1, 1)),
        ((6, 7, 5), 6, None, (6, 7, 5)),
        ((6, 5, 7), 6, 1, (6, 7, 5)),
        ((6, 5, 2, 3), 6, 1, (6, 6, 5)),
        ((6, 5, 2, 3, 4), 6, 1, (6, 24, 5)),
        ((42, 5), 6, None, (6, 7, 5)),
        ((42, 5, 3), 6, 1, (6, 21, 5)),
    ],
)
def test_feature_map_to_matrix_and_back(shape, n, unit_axis, expected):
    A = seeded(torch.rand, shape)
    layer = type("L", (), {"shape": shape, "unit_axis": unit_axis})
    layout = Layout.of(layer, n)
    rows = layout.rows(A)
    assert rows.shape == expected
    assert torch.equal(layout.restore(rows.clone()), A)
    # A row is one position's units.
    if len(shape) == 4:
        assert torch.equal(rows[1, 4], A[1, :, 1, 1])


def test_axis_of_the_samples_inside_a_transformer():
    """With as many steps as samples, the shape alone does not tell."""
    for batch_first in (True, False):
        module, X = seeded(Transformer, batch_first), seeded(torch.randn, 7, 7, 4)
        with captured(module, X) as capture:
            _, layouts = capture.record(X, 7)
            layout = layouts["encoder.layers.0.relu"]
            assert layout.sample_axis == (0 if batch_first else 1)
            assert layout.channel_axis == 2


def test_units_of_a_linear_map_over_four_axes():
    linear, head = seeded(nn.Linear, 4, 5), seeded(nn.Linear, 30, 3)
    module = nn.Sequential(linear, nn.ReLU(), nn.Flatten(), head)
    X = seeded(torch.randn, 6, 2, 3, 4)
    with captured(module, X) as capture:
        tape, layouts = capture.record(X, 6)
        assert layouts["1"].rows(tape.activations["1"].tensor).shape == (6, 6, 5)


@pytest.mark.parametrize(
    ("module", "layers", "message"),
    [
        (
            seeded(mlp, activation=nn.GELU),
            "relu",
            r"no ReLU.*1 \(GELU\).*compression='pca'",
        ),
        (seeded(nn.Linear, 4, 3), "relu", "no ReLU call"),
        (seeded(mlp), ["1", "nowhere"], r"\['nowhere'\] are not.*\['1', '3'\]"),
    ],
)
def test_layers_that_are_not_there(module, layers, message):
    before = state_of(module)
    with pytest.raises(ValueError, match=message):
        captured(module, seeded(torch.randn, 5, 4), layers).__enter__()
    assert_same_state(before, module)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (torch.zeros(5, 3), r"on 2 samples, \(3,\) of torch.float32: mat1.*takes\."),
        (torch.zeros(5, 4, dtype=int), r"\(4,\) of torch.int64: .*X.astype\('float32'\)"),
    ],
)
def test_samples_that_the_network_does_not_take(X, message):
    module = seeded(mlp)
    before = state_of(module)
    with pytest.raises(ValueError, match=message):
        captured(module, X[:2]).__enter__()
    assert_same_state(before, module)


class Excited(nn.Module):
    """Squeeze and excitation: a linear map between a convolution and its ReLU."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(1, 4, 3), nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        x = torch.relu(F.interpolate(x, scale_factor=2, mode="bilinear"))
        y = torch.relu(x.flatten(2).transpose(1, 2))
        return self.head(y.mean(1))


def test_units_are_followed_through_other_operations():
    module, X = seeded(Excited), seeded(torch.randn, 5, 1, 8, 8)
    with captured(module, X) as capture:
        tape, layouts = capture.record(X, 5)
        assert layouts["relu"].rows(tape.activations["relu"].tensor).shape == (5, 144, 4)
        assert layouts["relu:2"].channel_axis == 2


class Counting(nn.Module):
    """Writes to a buffer in every pass."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()
        self.register_buffer("n", torch.ones(1))

    def forward(self, x):
        self.n.mul_(1.5)
        return self.inner(x)


def test_buffers_are_as_before():
    module, X = seeded(Counting), seeded(torch.randn, 5, 4)
    with captured(module, X) as capture:
        tape, _ = capture.record(X, 5)
        capture.replay(X, tape, "inner.1", tape.activations["inner.1"].tensor)
    assert module.n.item() == 1


def test_no_layers_at_all():
    with pytest.raises(ValueError, match="layers is empty"):
        captured(seeded(mlp), seeded(torch.randn, 5, 4), []).__enter__()


def test_way_chosen_by_the_data():
    make, _ = ARCHITECTURES["undecided"]
    module, X = seeded(make), seeded(torch.rand, 6, 4)
    with captured(module, X) as capture:
        assert list(capture.listed) == ["relu", "relu:2", "relu:3", "relu:4"]
        tape, _ = capture.record(-X, 6)
        assert list(tape.layers) == ["relu", "relu:2", "relu:3"]


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = mlp()
        self.dropout = nn.Dropout()
        self.n_calls = 0

    def forward(self, x):
        self.n_calls += 1
        x = self.dropout(self.inner[:2](x))
        if self.n_calls > 1:
            raise KeyError("the network's own error")
        return x


def test_error_of_the_network_leaves_everything_as_found():
    module, X = seeded(Failing), seeded(torch.randn, 5, 4)
    module.inner.eval()
    before = state_of(module)
    with pytest.raises(KeyError, match="own error"), captured(module, X) as capture:
        capture.record(X, 5)
    assert_same_state(before, module)


def test_random_network_is_told():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.runs = mlp(), 0

        def forward(self, x):
            self.runs += 1
            return self.inner(x) if self.runs < 3 else x[:, :3]

    module, X = seeded(Noisy), seeded(torch.randn, 5, 4)
    with captured(module, X) as capture:
        tape, _ = capture.record(X, 5)
        with pytest.raises(DivergedError, match="not deterministic"):
            capture.replay(X, tape, "inner.3", tape.activations["inner.3"].tensor)

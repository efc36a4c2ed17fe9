"""Capture of ReLU calls, against hooks and hand-written forward passes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests._network.conftest import assert_same_state, captured, state_of
from tests.architectures import ARCHITECTURES, TwoInputs, mlp, seeded


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
    ("module", "layers", "message"),
    [
        (
            seeded(mlp, activation=nn.GELU),
            "relu",
            r"no ReLU.*1 \(GELU\).*layers='auto'.*compression='pca'",
        ),
        (seeded(nn.Linear, 4, 3), "auto", r"no call of an activation.*layers=\[...\]"),
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

"""Which calls are activations, however they are written, and the products they gate."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sknonlin._network.layout import Layout
from tests._network.conftest import captured
from tests.architectures import ARCHITECTURES, mlp, seeded

UNSIGNED = [nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus]
SIGNED = [
    *(nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.Hardswish),
    *(nn.Hardtanh, nn.Mish, nn.Tanh, nn.Softsign, nn.RReLU),
]


class Written(nn.Module):
    """A network with an activation that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.inner = nn.Linear(4, 16)
        self.last = nn.ModuleDict({"16": nn.Linear(16, 3), "8": nn.Linear(8, 3)})

    def forward(self, x):
        h = self.function(self.inner(x))
        return self.last[str(h.shape[-1])](h)


def halves(x):
    return x.chunk(2, -1)


#: Activations that are functions: of which operation the layer is, and if it has a sign.
FUNCTIONS = {
    "silu in place": (lambda x: F.silu(x, inplace=True), "silu", True),
    "leaky relu in place": (lambda x: F.leaky_relu_(x, 0.1), "leaky_relu", True),
    "rectified, squared": (lambda x: F.relu(x) ** 2, "relu", False),
    "clamped": (lambda x: x.clamp(min=0), "clamp", False),
    "GLU": (F.glu, "glu", True),
    "ReGLU": (lambda x: F.relu(halves(x)[0]) * halves(x)[1], "gated", True),
    "SwiGLU": (lambda x: F.silu(halves(x)[0]) * halves(x)[1], "gated", True),
    "GEGLU": (lambda x: halves(x)[1] * F.gelu(halves(x)[0]), "gated", True),
    "two ReLUs": (lambda x: F.relu(halves(x)[0]) * F.relu(halves(x)[1]), "gated", False),
    "gates of an LSTM": (lambda x: torch.sigmoid(x) * torch.tanh(x), "gated", True),
    "SiLU, written out": (lambda x: x * torch.sigmoid(1.7 * x), "gated", True),
    "SiLU, in place": (lambda x: x.mul_(x.sigmoid()), "gated", True),
    "GELU by tanh": (lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + x**3))), "gated", True),
    "GELU by erf": (lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), "gated", True),
    "Mish, written out": (lambda x: x * torch.tanh(F.softplus(x)), "gated", True),
    "hardswish, written out": (lambda x: x * F.relu6(x + 3) / 6, "gated", True),
    "softsign": (F.softsign, "gated", True),
    "scaled by weights": (lambda x: F.gelu(x) * torch.ones(16), "gelu", True),
    "after another one": (lambda x: torch.tanh(F.relu(x)), "tanh", True),
}


#: What the function does with the layer.
FOLLOWED = {"rectified, squared", "hardswish, written out", "scaled by weights"}


@pytest.mark.parametrize("activation", UNSIGNED + SIGNED)
def test_modules(activation):
    module, X = seeded(mlp, activation=activation), seeded(torch.randn, 6, 4)
    with captured(module, X, "auto") as capture:
        assert list(capture.listed) == ["1", "3"]
        tape, _ = capture.record(X, 6)
        for name, layer in capture.listed.items():
            assert layer.signed == (activation in SIGNED)
            own = module[: int(name) + 1](X).detach()
            torch.testing.assert_close(tape.activations[name].tensor, own)


def test_modules_with_weights():
    module, X = seeded(mlp, activation=nn.PReLU), seeded(torch.randn, 6, 4)
    with captured(module, X, "auto") as capture:
        assert list(capture.listed) == ["1.prelu", "3.prelu"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function, kind, signed = FUNCTIONS[name]
    module, X = seeded(Written, function), seeded(torch.randn, 6, 4)
    with captured(module, X, "auto") as capture, torch.no_grad():
        assert {n: layer.signed for n, layer in capture.listed.items()} == {kind: signed}
        tape, layouts = capture.record(X, 6)
        given = tape.activations[kind].tensor.clone()
        if name not in FOLLOWED:
            torch.testing.assert_close(given, function(module.inner(X)))
        assert layouts[kind].n_units == given.shape[1]
        torch.testing.assert_close(capture.replay(X, tape, kind, given).output, tape.output)
        changed = capture.replay(X, tape, kind, given * 0).output
        expected = module.last[str(given.shape[1])].bias
        torch.testing.assert_close(changed, expected.expand(6, 3))


def test_relus_are_the_same_layers(architecture):
    module, X = architecture
    with captured(module, X) as relus, captured(module, X, "auto") as all_of_them:
        assert set(relus.listed) <= set(all_of_them.listed)


class Excited(nn.Module):
    """Squeeze and excitation: a gate for every channel, from all positions."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.head = (
            nn.Conv2d(1, 4, 3),
            nn.Linear(4, 4),
            nn.Linear(4, 3),
        )

    def forward(self, x):
        x = F.hardswish(self.conv(x))
        gate = torch.sigmoid(self.gate(x.mean((2, 3))))
        return self.head((x * gate[:, :, None, None]).mean((2, 3)))


def test_gates_of_channels():
    module, X = seeded(Excited), seeded(torch.randn, 6, 1, 6, 5)
    with captured(module, X, "auto") as capture:
        assert list(capture.listed) == ["gated"]
        layout = Layout.of(capture.listed["gated"], 2)
        assert (layout.n_samples, layout.position_lengths, layout.n_units) == (2, (4, 3), 4)


def test_the_output_is_no_layer():
    module = nn.Sequential(seeded(mlp, activation=nn.Tanh), nn.Sigmoid())
    with captured(module, seeded(torch.randn, 6, 4), "auto") as capture:
        assert list(capture.listed) == ["0.1", "0.3"]


class Chosen(nn.Module):
    """A gate that only some batches pass."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = F.gelu(self.first(x))
        if x.sum() > 0:
            h = h * torch.sigmoid(self.first(x))
        return self.last(h)


def test_a_gate_on_some_ways_alone():
    module, X = seeded(Chosen), seeded(torch.rand, 6, 4)
    with captured(module, X, "auto") as capture:
        assert list(capture.listed) == ["gated"]
        tape, _ = capture.record(-X, 6)
        assert list(tape.layers) == ["gelu"]


def test_layers_that_are_named_among_all():
    module, X = seeded(mlp, activation=nn.GELU), seeded(torch.randn, 6, 4)
    with captured(module, X, ["3", "0"]) as capture:
        assert {n: layer.signed for n, layer in capture.listed.items()} == {
            "0": False,
            "3": True,
        }
    module = seeded(Written, FUNCTIONS["SwiGLU"][0])
    with captured(module, X, ["silu", "gated"]) as capture:
        assert list(capture.listed) == ["silu", "gated"]


def test_the_second_call_of_a_transformer_has_its_layout():
    make, shape = ARCHITECTURES["transformer"]
    module, X = seeded(make), seeded(torch.randn, 6, *shape)
    with captured(module, X, "auto") as capture:
        _, layouts = capture.record(X, 6)
        assert set(layouts) == {"encoder.layers.0.relu", "encoder.layers.1.relu"}

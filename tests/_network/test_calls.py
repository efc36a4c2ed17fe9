"""Names of calls, after the modules that make them."""

import torch
import torch.nn.functional as F
from torch import nn

from sknonlin._network.calls import module_calls as hooked
from tests._network.conftest import captured
from tests.architectures import seeded


class SwiGLU(nn.Module):
    """A module without weights, that makes two calls."""

    def forward(self, x):
        values, gates = x.chunk(2, -1)
        return F.silu(gates) * values


def test_a_gate_in_a_module_of_its_own_is_not_numbered():
    module = nn.Sequential(seeded(nn.Linear, 4, 16), SwiGLU(), seeded(nn.Linear, 8, 3))
    with captured(module, seeded(torch.randn, 6, 4), "auto") as capture:
        assert list(capture.listed) == ["1.gated"]


def test_calls_outside_of_modules_are_named_by_their_kind():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(F.gelu(F.gelu(self.a(x)) + 1.0 * torch.tanh(self.a(x))))

    with captured(seeded(Root), seeded(torch.randn, 6, 4), "auto") as capture:
        assert list(capture.listed) == ["gelu", "tanh", "gelu:2"]


def test_hooks_are_removed():
    module = nn.Sequential(nn.Flatten(), nn.ReLU())
    seen = []
    with hooked(module) as calls:
        calls.on_output({"1"}, lambda name, output: seen.append(name))
        module(torch.ones(1, 2))
    module(torch.ones(1, 2))
    assert seen == ["1"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())

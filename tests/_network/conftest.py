"""Captures of real architectures."""

import pytest
import torch

from sknonlin._network.adapters import as_network
from sknonlin._network.layers import Capture
from tests.architectures import ARCHITECTURES, seeded


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

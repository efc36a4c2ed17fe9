"""What is said where a network fails on the first samples."""

import pytest
import torch

from sknonlin._network.adapters import as_network
from sknonlin._network.first_run import first_run
from tests.architectures import mlp, seeded


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("a\nRuntimeError: b"), "followed: b"),
        (RuntimeError("\n"), "followed: RuntimeError"),
    ],
)
def test_a_network_that_runs_but_cannot_be_followed(error, said):
    network = as_network(seeded(mlp))
    with pytest.raises(ValueError, match=said), first_run(torch.zeros(2, 4), 2, network):
        raise error
    fails = first_run(torch.zeros(2, 5), 2, network)
    with pytest.raises(ValueError, match="failed on 2 samples"), fails:
        raise error

"""Weights averaged over a training, and modules that have them for a while."""

import pytest
import torch
from torch import nn

from sknonlin._memorization.weight_average import WeightAverage
from tests.architectures import seeded


class Counted(nn.Module):
    """A module with everything that a state may have."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.linear = nn.Linear(2, 2).to(dtype)
        self.norm = nn.BatchNorm1d(2).to(dtype)
        self.more = None

    def get_extra_state(self):
        return self.more

    def set_extra_state(self, state):
        self.more = state


def set_to(module, value):
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if isinstance(tensor, torch.Tensor):
                tensor.fill_(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_averages_of_weights_and_buffers(dtype):
    module, average = seeded(Counted, dtype), WeightAverage()
    for value in (1, 2, 4):
        set_to(module, value)
        module.more = value
        average.update({"module": module})
    mean = (0.49 * 1 + 0.7 * 2 + 4) / 2.19
    own = {key: value for key, value in module.state_dict().items()}
    with average.in_place({"module": module}):
        state = module.state_dict()
        assert state["norm.running_mean"][0].item() == pytest.approx(mean, rel=1e-2)
        assert state["linear.weight"].dtype == dtype
        assert state["linear.weight"][0, 0].item() == pytest.approx(mean, rel=1e-2)
        assert state["norm.num_batches_tracked"] == 4
    for key, value in module.state_dict().items():
        assert value is own[key] or torch.equal(value, own[key])


def test_own_weights_come_back_after_an_error():
    module, average = seeded(Counted), WeightAverage()
    for value in (1, 2):
        set_to(module, value)
        average.update({"module": module})
    with pytest.raises(KeyError), average.in_place({"module": module}):
        raise KeyError
    assert (module.linear.weight == 2).all()


def test_parameters_stay_those_that_an_optimizer_has():
    module, average = seeded(Counted), WeightAverage()
    average.update({"module": module})
    before = list(module.parameters())
    with average.in_place({"module": module}):
        pass
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in before)

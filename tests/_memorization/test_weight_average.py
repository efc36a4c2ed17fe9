"""Weights averaged over a training, and modules that have them for a while."""

import numpy as np
import pytest
import torch
from torch import nn

from sknonlin._memorization.weight_average import WeightAverage, copied, tensors_of
from tests.architectures import seeded


class Model(nn.Module):
    """A module with all kinds of tensors, whose state dict is of no use."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.linear = nn.Linear(2, 2).to(dtype)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.norm = nn.BatchNorm1d(2).to(dtype)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.linear.weight
        self.register_buffer("mask", torch.full((2, 2), -torch.inf), persistent=False)

    def state_dict(self, *args, **kwargs):
        raise NotImplementedError

    load_state_dict = state_dict


@torch.no_grad()
def set_to(module, value):
    for name, tensor in tensors_of(module).items():
        if name != "mask" and (tensor.is_floating_point() or np.isfinite(value)):
            tensor.fill_(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_trained_is_averaged_and_comes_back(dtype):
    module, average = seeded(Model, dtype), WeightAverage()
    for value in (1, 2, 4):
        set_to(module, value)
        average.update({"module": module})
        assert average.current
    mean, own = pytest.approx((0.49 * 1 + 0.7 * 2 + 4) / 2.19, rel=1e-2), {}
    for name, tensor in copied(tensors_of(module)).items():
        own[name] = tensor
    with average.in_place({"module": module}):
        found = tensors_of(module)
        for name in ("linear.weight", "linear.bias", "norm.running_var", "norm.weight"):
            assert found[name].dtype == dtype
            assert found[name].flatten()[0].item() == mean
        assert (found["frozen.weight"] == 4).all()
        assert found["norm.num_batches_tracked"] == 4
        assert module.tied.weight is module.linear.weight
        state = average.states({"module": module})["module"]
        assert state["linear.weight"].dtype == dtype
    for name, tensor in tensors_of(module).items():
        assert torch.equal(tensor, own[name])
    state = average.states({"module": module})["module"]
    assert state.keys() == own.keys()
    assert state["linear.bias"][0].item() == mean
    assert torch.equal(state["frozen.weight"], own["frozen.weight"])


def test_own_weights_come_back_after_an_error(monkeypatch):
    modules, average = {"a": seeded(Model), "b": seeded(Model)}, WeightAverage()
    for value in (1, 2):
        for module in modules.values():
            set_to(module, value)
        average.update(modules)
    with pytest.raises(KeyError), average.in_place(modules):
        raise KeyError
    average.values["b"]["linear.weight"] = torch.ones(3)
    with pytest.raises(RuntimeError), average.in_place(modules):
        pass
    assert all((module.linear.weight == 2).all() for module in modules.values())


def test_weights_that_are_not_finite_do_not_count():
    module, average = seeded(Model), WeightAverage()
    for value in (1, torch.nan, 2):
        set_to(module, value)
        average.update({"module": module})
        assert average.current == np.isfinite(value)
    with average.in_place({"module": module}):
        assert module.linear.bias[0].item() == pytest.approx((0.7 * 1 + 2) / 1.7)


def test_an_optimizer_goes_on():
    module, average = seeded(Model), WeightAverage()
    optimizer = torch.optim.Adam(module.parameters(), 0.1)
    before = list(module.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        module.linear(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        average.update({"module": module})
        with average.in_place({"module": module}):
            pass
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))
    plain = seeded(Model)
    optimizer = torch.optim.Adam(plain.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        plain.linear(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert torch.equal(module.linear.weight, plain.linear.weight)

"""What is decided and loaded from the scores of a training, given one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sknonlin._memorization.stopping import Stopper


def one_weight():
    return nn.utils.skip_init(nn.Linear, 1, 1, bias=False)


RISE = np.linspace(0.3, 0.8, 20)


def trained(means, *, known=True, n_samples=1000, load_best=True, first=0):
    """Follow a training whose only weight is the number of its epoch."""
    order = np.random.default_rng(0).random(1000)
    stopper, module = Stopper(load_best, first), one_weight()
    for epoch, mean in enumerate(means, first + 1):
        nn.init.constant_(module.weight, epoch)
        rows = (order < mean).astype(float)
        monitor = SimpleNamespace(
            sample_scores_=rows if known else None, n_samples=n_samples, wrong_share_=0.2
        )
        score = rows.mean() if known else mean
        if stopper.update(score, monitor, {"module": module}):
            break
    return stopper, module


def finished(stopper, module, **settings):
    stopper.finish({"module": module}, **settings)
    assert stopper.weights is None
    return int(module.weight.item())


def test_a_fall_stops_and_loads_the_best():
    stopper, module = trained([*RISE, *np.linspace(0.78, 0.4, 20)])
    assert stopper.stops
    assert stopper.epoch < 40
    assert finished(stopper, module, only_if_stopped=True) == stopper.best_epoch == 20
    assert "those of epoch 20." in stopper.reason()


def test_a_last_epoch_that_is_worse_is_not_kept():
    stopper, module = trained([*RISE, 0.79, 0.77])
    assert not stopper.stops
    assert finished(stopper, module) == 20
    assert "those of epoch 20." in stopper.reason()


@pytest.mark.parametrize("last", [0.8, 0.7999], ids=["as good", "hardly worse"])
def test_a_last_epoch_that_is_no_worse_stays(last):
    stopper, module = trained([*RISE, 0.8, last])
    assert finished(stopper, module) == 22
    assert "The weights are" not in stopper.reason()


def test_what_another_callback_loads_stays_where_nothing_stopped():
    stopper, module = trained([*RISE, 0.79, 0.77])
    assert finished(stopper, module, only_if_stopped=True) == 22
    assert "The weights are" not in stopper.reason()


def test_layers_that_fall_tell_nothing_unless_they_are_asked():
    means = [*RISE, *np.linspace(0.78, 0.2, 40)]
    stopper, module = trained(means, known=False)
    assert not stopper.stops
    assert finished(stopper, module) == 60
    assert "n_samples=0 stops by the layers alone" in stopper.reason()
    stopper, module = trained(means, known=False, n_samples=0)
    assert stopper.stops
    assert finished(stopper, module) == 20


def test_there_is_no_verdict_before_two_windows():
    stopper, _ = trained([0.9, *np.linspace(0.5, 0.4, 6)])
    assert not stopper.stops
    stopper, _ = trained([0.9, *np.linspace(0.5, 0.4, 7)])
    assert stopper.stops


def test_epochs_of_the_training_before_are_counted():
    stopper, module = trained([*RISE, 0.79, 0.77], first=30)
    assert (stopper.best_epoch, stopper.epoch) == (50, 52)
    assert finished(stopper, module) == 50
    assert "last epoch, 52" in stopper.reason()


def test_scores_that_are_not_known_keep_the_last_weights():
    stopper = Stopper(load_best=True)
    module = one_weight()
    monitor = SimpleNamespace(sample_scores_=None, n_samples=10, wrong_share_=np.nan)
    for _ in range(20):
        assert not stopper.update(np.nan, monitor, {"module": module})
    kept = module.weight.clone()
    stopper.finish({"module": module})
    assert torch.equal(module.weight, kept)

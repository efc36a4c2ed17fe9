"""What is decided and loaded from the scores of a training, given one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sknonlin._matrices.stack import NotFiniteError
from sknonlin._memorization.stopping import Stopper


def one_weight():
    return nn.utils.skip_init(nn.Linear, 1, 1, bias=False)


RISE = np.linspace(0.3, 0.8, 20)


def trained(means, *, known=True, n_samples=1000, average=False, first=0):
    """Follow a training whose only weight is the number of its epoch."""
    order = np.random.default_rng(0).random(1000)
    stopper, module = Stopper(True, average, first=first), one_weight()
    for epoch, mean in enumerate(means, first + 1):
        nn.init.constant_(module.weight, epoch)
        stopper.end_epoch({"module": module})
        with stopper.as_measured({"module": module}):
            assert (module.weight.item() == epoch) == (not average or epoch == first + 1)
        assert module.weight.item() == epoch
        rows = (order < mean).astype(float)
        monitor = SimpleNamespace(
            sample_scores_=rows if known else None,
            n_samples=n_samples,
            wrong_share_=0.2 if known else np.nan,
        )
        score = rows.mean() if known else mean
        if stopper.update(score, monitor, {"module": module}):
            break
    return stopper, module


def finished(stopper, module, **settings):
    stopper.finish(module, {"module": module}, **settings)
    assert stopper.weights is None
    return module.weight.item()


def averaged_up_to(epoch, first=0):
    """Mean of the numbers of epochs, each of which counts 0.7 times as much as the next."""
    numbers = np.arange(first + 1, epoch + 1)
    return pytest.approx(np.average(numbers, weights=0.7 ** (epoch - numbers)))


def test_averages_are_loaded_and_measured():
    stopper, module = trained([*RISE, *np.linspace(0.78, 0.4, 20)], average=True)
    assert stopper.stops
    assert 20 < stopper.epoch < 30
    assert finished(stopper, module) == averaged_up_to(20)
    assert "averages over the epochs up to 20." in stopper.reason()


@pytest.mark.parametrize("last", [0.8, 0.77])
@pytest.mark.parametrize("own", [0.7, 0.9])
def test_the_last_average_is_loaded_if_nothing_is_better(own, last, monkeypatch):
    """Neither the best average, nor the last weights."""
    monkeypatch.setattr(
        "sknonlin._memorization.stopping.sample_scores",
        lambda monitor, net: np.full(1000, own),
    )
    stopper, module = trained([*RISE, 0.8, last], average=True)
    found = finished(stopper, module)
    if last < 0.8:
        assert found == averaged_up_to(20)
        assert "averages over the epochs up to 20." in stopper.reason()
    elif own < 0.8:
        assert found == averaged_up_to(22)
        assert "averages over the epochs up to 22." in stopper.reason()
    else:
        assert found == 22
        assert "The weights are those of the last epoch." in stopper.reason()


def test_averages_are_not_loaded_where_the_score_is_not_known():
    stopper, module = trained([*RISE, 0.8, 0.7], average=True, known=False)
    assert finished(stopper, module) == 22
    stopper, module = trained([*RISE, 0.8, 0.79], average=True)
    assert finished(stopper, module, only_if_stopped=True) == 22


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
    assert "The weights are those of the last epoch." in stopper.reason()


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
    stopper.finish(module, {"module": module})
    assert torch.equal(module.weight, kept)


@pytest.mark.parametrize("average", [True, False])
def test_an_epoch_that_is_not_finite_is_passed_over(average):
    stopper, module = Stopper(True, average), one_weight()
    order = np.random.default_rng(0).random(1000)
    for epoch, mean in enumerate([0.5, 0.6, np.nan, 0.7, 0.8, np.nan], 1):
        nn.init.constant_(module.weight, np.nan if np.isnan(mean) else epoch)
        stopper.end_epoch({"module": module})
        with stopper.as_measured({"module": module}):
            assert np.isnan(module.weight.item()) == np.isnan(mean)
        rows = None if np.isnan(mean) else (order < mean).astype(float)
        monitor = SimpleNamespace(sample_scores_=rows, n_samples=1000, wrong_share_=0.2)
        assert not stopper.update(mean, monitor, {"module": module})
        assert stopper.known
    found = finished(stopper, module)
    weights = 0.7 ** np.array([3, 2, 1, 0])
    expected = np.average([1, 2, 4, 5], weights=weights) if average else 5
    assert found == pytest.approx(expected)
    assert "up to 5" in stopper.reason() or "those of epoch 5" in stopper.reason()


def test_last_weights_that_diverged_after_the_measurement(monkeypatch):
    def diverged(monitor, net):
        raise NotFiniteError("NaN")

    monkeypatch.setattr("sknonlin._memorization.stopping.sample_scores", diverged)
    stopper, module = trained([*RISE, 0.8], average=True)
    assert finished(stopper, module) == averaged_up_to(21)


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ([0.5, 0.6, 0.7], "too few measurements to see memorization"),
        ([*RISE, 0.8, 0.8, 0.8], "no memorization was seen"),
        ([*RISE, 0.795, 0.795, 0.795], "memorization is likely, but not certain"),
    ],
)
def test_what_is_said_of_a_training_that_was_not_stopped(means, said):
    stopper, module = trained(means, average=True)
    stopper.finish(module, {"module": module}, only_if_stopped=True)
    assert f": {said}." in stopper.reason()
    assert ("averaged over 3 epochs" in stopper.reason()) == ("likely" in said)
    assert "The weights" not in stopper.reason()

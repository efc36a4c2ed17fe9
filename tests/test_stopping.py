"""Stopping a skorch net when it begins to memorize."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from sknonlin.callbacks import MemorizationStopping, NonlinearityScoring
from sknonlin.datasets import make_noisy_labels
from tests.architectures import make_net
from tests.conftest import first_digits, fit

pytestmark = pytest.mark.usefixtures("torch_state_kept")


@pytest.fixture(scope="module")
def digits():
    return first_digits(600)


@pytest.fixture(scope="module")
def noisy(digits):
    return digits[0], make_noisy_labels(digits[1], 0.5, random_state=0)


def stopping_net(stopping, **settings):
    settings = {"max_epochs": 60, "module__n_hidden": 128, "lr": 0.01} | settings
    return make_net(("stop", MemorizationStopping(**stopping)), **settings)


class Weights(Callback):
    """Keep the last layer's weights of every epoch."""

    def __init__(self):
        self.kept = []

    def on_epoch_end(self, net, **kwargs):
        self.kept.append(net.module_.last.weight.detach().clone())


@pytest.mark.parametrize("average", [True, False])
def test_it_stops_and_loads_the_best_epoch(digits, noisy, average):
    weights, said = Weights(), []
    net = make_net(
        weights,
        ("stop", MemorizationStopping(average=average, sink=said.append)),
        max_epochs=60,
        module__n_hidden=128,
        lr=0.01,
    )
    fit(net, *noisy)
    stop = dict(net.callbacks_)["stop"]
    assert stop.stopped_epoch_ == len(net.history) < 60
    assert 1 <= stop.best_epoch_ < stop.stopped_epoch_
    scores = net.history[:, "nmf_auc"]
    assert stop.best_epoch_ == 1 + int(np.argmax(scores))
    kept = torch.stack(dict(net.callbacks_)["Weights"].kept[: stop.best_epoch_])
    ages = torch.arange(len(kept) - 1, -1, -1.0)
    shares = 0.7**ages if average else (ages == 0).float()
    expected = (kept * shares[:, None, None]).sum(0) / shares.sum()
    torch.testing.assert_close(net.module_.last.weight.detach(), expected)
    assert said == [stop.reason_]
    assert stop.reason_.startswith(f"Stopped after epoch {stop.stopped_epoch_}: ")
    words = "averages over the epochs up to" if average else "those of epoch"
    assert f"The weights are {words} {stop.best_epoch_}." in stop.reason_
    assert stop.wrong_share_ == pytest.approx((noisy[1] != digits[1]).mean(), abs=0.05)


def test_clean_labels_are_trained_on_to_the_end(digits):
    net = fit(stopping_net({"load_best": False}, max_epochs=25, lr=0.003), *digits)
    stop = dict(net.callbacks_)["stop"]
    assert len(net.history) == 25
    assert stop.stopped_epoch_ is None
    assert "no memorization was seen" in stop.reason_
    assert "The weights are" not in stop.reason_
    plain = fit(make_net(max_epochs=25, module__n_hidden=128, lr=0.003), *digits)
    assert torch.equal(net.module_.last.weight, plain.module_.last.weight)


def test_the_training_does_not_see_the_averages(digits):
    """Up to the end, when they may be loaded."""
    settings = {"max_epochs": 5, "module__n_hidden": 128, "lr": 0.01}
    nets = [
        make_net(Weights(), *stop, **settings) for stop in ([], [MemorizationStopping()])
    ]
    kept = [dict(fit(net, *digits).callbacks_)["Weights"].kept for net in nets]
    for plain, watched in zip(*kept, strict=True):
        assert torch.equal(plain, watched)


class FirstWeights(Weights):
    """Load the weights of the first epoch, as Checkpoint does those of the best."""

    load_best = True

    def on_train_end(self, net, **kwargs):
        with torch.no_grad():
            net.module_.last.weight.copy_(self.kept[0])


@pytest.mark.parametrize("first", [True, False])
def test_the_weights_that_another_callback_loads_stay(digits, first):
    other, stopping = FirstWeights(), ("stop", MemorizationStopping())
    callbacks = [other, stopping] if first else [stopping, other]
    settings = {"max_epochs": 12, "module__n_hidden": 128, "lr": 0.01}
    net = fit(make_net(*callbacks, **settings), *digits)
    assert torch.equal(
        net.module_.last.weight, dict(net.callbacks_)["FirstWeights"].kept[0]
    )
    stop = dict(net.callbacks_)["stop"]
    assert stop.stopped_epoch_ is None
    assert "The weights are" not in stop.reason_


@pytest.mark.parametrize("name", ["load_best", "average", "sink"])
def test_parameters_are_checked(name, digits):
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        fit(stopping_net({name: "yes"}, max_epochs=1), *digits)


def test_an_input_that_tells_nothing_does_not_stop_it():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 64)).astype(np.float32)
    y = ((X[:, 0] * X[:, 1] > 0) ^ (X[:, 2] > 0)).astype(np.int64)
    net = fit(stopping_net({}, max_epochs=25), X, y)
    stop = dict(net.callbacks_)["stop"]
    assert len(net.history) == 25
    assert np.isnan(stop.wrong_share_)
    assert "too few labels" in stop.reason_


def test_epochs_that_are_not_measured_are_not_thrown_away(digits):
    net = fit(stopping_net({"every": 4}, max_epochs=7), *digits)
    assert "The weights are" not in dict(net.callbacks_)["stop"].reason_


def test_columns_are_those_of_the_scoring(noisy):
    net = fit(stopping_net({"average": False}, max_epochs=4), *noisy)
    scored = make_net(NonlinearityScoring(), max_epochs=4, module__n_hidden=128, lr=0.01)
    fit(scored, *noisy)
    for column in ("nmf_auc", "nmf_auc_relu", "nmf_auc_best"):
        assert net.history[:, column] == scored.history[:, column]


def test_without_the_best_weights_the_last_ones_stay(noisy):
    net = fit(stopping_net({"load_best": False}), *noisy)
    stop = dict(net.callbacks_)["stop"]
    assert stop.stopped_epoch_ == len(net.history)
    assert "The weights are" not in stop.reason_


def test_the_layers_alone_stop_it_too(noisy):
    net = fit(stopping_net({"n_samples": 0}, max_epochs=150), *noisy)
    stop = dict(net.callbacks_)["stop"]
    assert stop.stopped_epoch_ is not None
    assert np.isnan(stop.wrong_share_)


def test_it_says_why_where_the_net_is_verbose(digits, capsys):
    fit(stopping_net({}, max_epochs=1, verbose=1), *digits)
    assert "Trained to the last epoch, 1" in capsys.readouterr().out


def test_clone_pickle_and_going_on(noisy):
    net = clone(stopping_net({}, max_epochs=2))
    net.set_params(callbacks__stop__load_best=False)
    assert net.get_params()["callbacks__stop__load_best"] is False
    fit(net, *noisy)
    net.partial_fit(*noisy)
    stop = dict(pickle.loads(pickle.dumps(net)).callbacks_)["stop"]
    assert stop.best_epoch_ in (3, 4)
    assert len(pickle.dumps(stop)) < 50_000


@pytest.mark.parametrize("timing", [{"every": 3}, {"unit": "batch", "every": 1000}])
def test_going_on_where_epochs_are_not_measured(noisy, timing):
    net = fit(stopping_net(timing, max_epochs=2), *noisy)
    net.partial_fit(*noisy)
    assert len(net.history) == 4
    assert dict(net.callbacks_)["stop"].stopped_epoch_ is None

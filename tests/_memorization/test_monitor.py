"""Memorization watched in any loop."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import IterableDataset

from sknonlin import nmf_path, nnls
from sknonlin._memorization.monitor import SHARPNESS, NonlinearityMonitor, n_answers
from sknonlin.callbacks import NonlinearityScoring
from tests.architectures import make_net
from tests.conftest import first_digits, fit, scoring

pytestmark = pytest.mark.usefixtures("torch_state_kept")


@pytest.fixture(scope="module")
def digits():
    return first_digits(600)


def test_monitor_in_a_loop_gives_what_the_callback_gives(digits):
    monitor = NonlinearityMonitor(*digits, batch_size=100, ranks=(2, 4))

    class Loop(Callback):
        def on_train_begin(self, net, **kwargs):
            monitor.update(net.module_)

        def on_epoch_end(self, net, **kwargs):
            net.module_.train()
            monitor.update(net.module_)
            assert net.module_.training

    net = fit(make_net(scoring(), Loop()), *digits)
    assert monitor.scores_[1:] == net.history[:, "nmf_auc"]
    assert set(monitor.layer_scores_[0]) == {"relu", "relu:2"}


def test_monitor_leaves_the_random_state(digits):
    net = fit(make_net(), *digits)
    state = torch.random.get_rng_state()
    NonlinearityMonitor(*digits).update(net.module_)
    assert torch.equal(state, torch.random.get_rng_state())


def test_score_of_two_measurements(digits):
    """It is the mean of the weakest layers' scores times the share of equal answers."""
    nets = [fit(make_net(max_epochs=epochs), *digits) for epochs in (3, 5)]
    monitor = NonlinearityMonitor(*digits, n_samples=0)
    scores = [monitor.update(net) for net in (nets[0], nets[0], nets[1])]
    weakest = [min(layers.values()) for layers in monitor.layer_scores_]
    assert scores[0] == scores[1] == weakest[0] == weakest[1]
    chosen = monitor._samples.numpy()[monitor._batches.ravel()]
    equal = (nets[0].predict(chosen) == nets[1].predict(chosen)).mean()
    assert equal < 1
    assert scores[2] == pytest.approx((weakest[1] + weakest[2]) / 2 * equal)


@pytest.mark.parametrize("n_samples", [600, 3500])
def test_callback_and_monitor_choose_the_same_samples(digits, n_samples):
    X, y = (np.resize(part, (n_samples, *part.shape[1:])) for part in digits)
    net = fit(make_net(NonlinearityScoring(), max_epochs=1), X, y)
    monitor = NonlinearityMonitor(X, y)
    monitor.update(net)
    columns = {f"nmf_auc_{k}": v for k, v in monitor.layer_scores_[0].items()}
    assert columns.items() <= net.history[-1].items()


@pytest.mark.parametrize(
    ("n_samples", "n_classes", "half", "ranks"),
    [
        (100, 10, 50, [12]),
        (2000, 10, 150, [15]),
        (8000, 2, 400, [3]),
        (20000, 99, 500, [125]),
    ],
)
def test_automatic_sizes(n_samples, n_classes, half, ranks):
    y = np.arange(n_samples) % n_classes
    monitor = NonlinearityMonitor(np.zeros((n_samples, 1)), y)
    assert monitor._batches.shape == (1, 2, half)
    assert monitor.ranks == ranks


@pytest.mark.parametrize("rank", [24, 32])
def test_layers_that_lose_nothing_at_the_rank_keep_their_accuracy(digits, rank):
    net = fit(make_net(), *digits)
    scores = NonlinearityMonitor(*digits, ranks=[rank], batch_size=300, n_samples=0)
    accuracy = scores.update(net)
    assert set(scores.layer_scores_[0].values()) == {accuracy}
    predicted = net.predict(digits[0])
    assert accuracy == pytest.approx((predicted == digits[1]).mean(), abs=0.05)


def test_a_half_is_put_on_the_components_of_the_other(digits):
    """The score of the last layer against its definition, from the public functions."""
    net = fit(make_net(max_epochs=5, module__n_hidden=64), *digits).module_
    net.eval()
    monitor = NonlinearityMonitor(*digits, ranks=[6])
    monitor.update(net)
    halves = torch.from_numpy(monitor._batches[0])
    X, y = monitor._samples, torch.from_numpy(monitor.y)
    right, kept = [], []
    with torch.no_grad():
        A = torch.relu(net.second(torch.relu(net.first(X))))
        for own, other in (halves, halves.flip(0)):
            (H,) = nmf_path(A[other], [6], max_iter=12, tol=1e-3).components
            kept.append(net.last(nnls(A[own], H) @ H).argmax(1) == y[own])
            right.append(net.last(A[own]).argmax(1) == y[own])
    right, kept = torch.cat(right).double().mean(), torch.cat(kept).double().mean()
    expected = (kept * kept / right).item()
    assert expected < right - 0.1
    assert monitor.layer_scores_[0]["relu:2"] == pytest.approx(expected, abs=0.03)


def test_a_network_that_is_always_wrong_scores_zero(digits):
    net = fit(make_net(max_epochs=30), *digits)
    monitor = NonlinearityMonitor(digits[0], (digits[1] + 5) % 10)
    assert monitor.update(net) < 0.05


@pytest.mark.parametrize("kind", ["mlp", "skorch"])
def test_monitor_refuses_regressors(digits, kind):
    X, y = digits[0], (digits[1] % 2).astype(np.float32)
    if kind == "mlp":
        net = MLPRegressor(hidden_layer_sizes=(8,), max_iter=2, random_state=0)
    else:
        net = make_net(kind=NeuralNetRegressor, criterion=nn.MSELoss, module__output=first)
        y = y[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(X, y)
    with pytest.raises(ValueError, match="is a regressor"):
        NonlinearityMonitor(X, digits[1] % 2).update(net)


def first(output):
    return output[:, :1]


def test_a_perceptron_of_scikit_learn_trained_step_by_step(digits):
    X, y = digits[0], np.array(list("abcdefghij"))[digits[1]]
    monitor = NonlinearityMonitor(X, y)
    net = MLPClassifier((32,), random_state=0)
    with pytest.raises(NotFittedError):
        monitor.update(net)
    for _ in range(15):
        net.partial_fit(X, y, classes=np.unique(y))
        monitor.update(net)
    assert monitor.scores_[-1] > monitor.scores_[0]


def test_a_network_without_an_axis_of_samples(digits):
    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(64, 10))

        def forward(self, X):
            return X @ torch.relu(self.weight)

    monitor = NonlinearityMonitor(*digits)
    with pytest.raises(ValueError, match="axis of the samples"):
        monitor.update(Weights())
    assert monitor.scores_ == monitor.layer_scores_ == []


def test_outputs_that_are_nan(digits):
    net = fit(make_net(), *digits)
    with torch.no_grad():
        net.module_.last.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="output contains NaN"):
        NonlinearityMonitor(*digits).update(net)


def test_a_convolutional_network_in_several_batches(digits):
    X, y = digits[0].reshape(-1, 1, 8, 8), digits[1]
    torch.manual_seed(0)
    conv = nn.Sequential(
        *[nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)],
    )
    watch = NonlinearityScoring(batch_size=150, n_batches=3)
    history = fit(make_net(watch, module=conv, max_epochs=6), X, y).history
    assert history[-1, "nmf_auc"] > history[0, "nmf_auc"]
    batches = [NonlinearityMonitor(X, y, batch_size=150, n_batches=n) for n in (1, 3)]
    for monitor in batches:
        monitor.update(conv)
    one, three = (monitor.layer_scores_[0]["1"] for monitor in batches)
    assert len(np.unique(batches[1]._batches)) == 450
    assert one != three == pytest.approx(one, abs=0.1)


def test_batches_are_cut_to_what_a_pass_may_hold(digits, monkeypatch):
    net = fit(make_net(), *digits)
    monitor = NonlinearityMonitor(*digits, batch_size=600, n_samples=0)
    sizes = []
    monkeypatch.setattr("sknonlin._memorization.monitor.pass_samples", lambda capture: 200)
    monkeypatch.setattr(
        "sknonlin._memorization.monitor.check_output",
        lambda output: sizes.append(len(output)),
    )
    monitor.update(net)
    assert sizes == [200]


def test_a_stream_cannot_be_monitored(digits):
    class Stream(IterableDataset):
        def __iter__(self):
            return zip(*digits, strict=True)

    with pytest.raises(TypeError, match="Stream, whose samples cannot be chosen"):
        NonlinearityMonitor(Stream(), digits[1])


def test_too_few_samples_for_two_halves(digits):
    with pytest.raises(ValueError, match="X has 3 samples; two halves"):
        NonlinearityMonitor(digits[0][:3], digits[1][:3])


def test_monitor_checks_lengths(digits):
    with pytest.raises(ValueError, match="600 samples, but y has 5"):
        NonlinearityMonitor(digits[0], digits[1][:5])


def test_the_score_is_how_likely_the_answers_are_right(digits):
    net = fit(make_net(max_epochs=10), *digits)
    monitor = NonlinearityMonitor(*digits)
    score = monitor.update(net)
    chosen = monitor._samples.numpy()[monitor._answered]
    votes = net.predict_proba(chosen).astype(float) ** SHARPNESS
    expected = (votes / votes.sum(1, keepdims=True) * monitor._shares).sum(1)
    np.testing.assert_allclose(monitor.sample_scores_, expected, rtol=1e-4)
    assert score == pytest.approx(expected.mean())
    # No label is wrong: it is nearly the training accuracy.
    assert monitor.wrong_share_ < 0.02
    right = (net.predict(chosen) == digits[1]).mean()
    assert score == pytest.approx(right, abs=0.1)


def test_the_layers_count_where_the_input_tells_no_labels(digits):
    net = fit(make_net(), *digits)
    y = np.random.default_rng(0).permutation(digits[1])
    monitors = [NonlinearityMonitor(digits[0], y, n_samples=n) for n in ("auto", 0)]
    for monitor in monitors:
        monitor.update(net)
    assert monitors[0].sample_scores_ is None
    assert np.isnan(monitors[0].wrong_share_)
    assert monitors[0].scores_ == [min(monitors[0].layer_scores_[0].values())]


def test_layers_are_measured_more_and_more_seldom(digits):
    monitor = NonlinearityMonitor(*digits)
    net = make_net().initialize()
    for _ in range(10):
        fit_more(net, digits)
        monitor.update(net)
    scores = [layers["relu"] for layers in monitor.layer_scores_]
    repeated = [a is b for a, b in itertools.pairwise(monitor.layer_scores_)]
    assert [i + 1 for i, same in enumerate(repeated) if not same] == [1, 2, 3, 5, 8]
    assert len(scores) == 10


def fit_more(net, digits):
    net.partial_fit(*digits, epochs=1)


@pytest.mark.parametrize(
    ("n", "asked", "found"),
    [
        (800, "auto", 800),
        (2000, "auto", 1000),
        (45_000, "auto", 1500),
        (90_000, "auto", 2000),
        (500, 0, 0),
    ],
)
def test_number_of_answers(n, asked, found):
    assert n_answers(n, asked) == found

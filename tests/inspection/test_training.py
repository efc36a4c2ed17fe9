"""Training: scores over the epochs, and histories that are refused."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import MemorizationDetector
from sknonlin._memorization.monitor import NonlinearityMonitor
from sknonlin.inspection import TrainingDisplay
from tests.inspection.conftest import legend_of

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")  # a short training


def test_training_of_a_net(net):
    display = TrainingDisplay.from_history(net.history)
    scores = np.array(net.history[:, "nmf_auc"])
    np.testing.assert_array_equal(display.epochs, [1, 2, 3, 4])
    np.testing.assert_array_equal(display.scores, scores)
    assert display.best_epoch == 1 + scores.argmax()
    assert display.plot() is display
    assert display.figure_ is display.ax_.figure
    np.testing.assert_array_equal(display.line_.get_xdata(), display.epochs)
    np.testing.assert_array_equal(display.line_.get_ydata(), scores)
    np.testing.assert_allclose(
        display.best_.get_offsets(), [[display.best_epoch, scores.max()]]
    )
    assert display.ax_.get_xlabel() == "epoch"
    assert display.ax_.get_ylabel() == "score"
    assert legend_of(display) == [
        "nmf_auc",
        f"nmf_auc, best at epoch {display.best_epoch}",
    ]
    assert display.twin_ax_ is None


def test_training_from_all_that_has_a_history(net, detector, data):
    expected = TrainingDisplay.from_history(net.history).scores
    for display in (
        TrainingDisplay.from_history(net),
        TrainingDisplay.from_estimator(net),
        TrainingDisplay.from_estimator(FrozenEstimator(net)),
        TrainingDisplay.from_estimator(detector),
    ):
        np.testing.assert_array_equal(display.scores, expected)
    monitor = NonlinearityMonitor(*data, batch_size=50)
    monitor.update(net)
    monitor.update(net)
    display = TrainingDisplay.from_history(monitor, layers=True)
    np.testing.assert_array_equal(display.scores, monitor.scores_)
    np.testing.assert_array_equal(display.epochs, [1, 2])
    assert list(display.layer_scores) == ["1", "3"]


def test_layers_and_metrics(net):
    metrics = ["train_loss", "valid_acc"]
    display = TrainingDisplay.from_estimator(net, layers=True, metrics=metrics).plot()
    assert list(display.layer_scores) == ["1", "3"]
    for column, line in [
        ("nmf_auc_1", display.lines_["1"]),
        ("train_loss", display.lines_["train_loss"]),
        ("valid_acc", display.lines_["valid_acc"]),
    ]:
        np.testing.assert_array_equal(line.get_ydata(), net.history[:, column])
    assert display.lines_["train_loss"].axes is display.twin_ax_
    assert display.lines_["valid_acc"].axes is display.ax_
    assert display.twin_ax_.get_ylabel() == "train_loss"
    assert display.ax_.get_ylabel() == "score, valid_acc"
    assert {"layer 1", "layer 3", *metrics} < set(legend_of(display))
    lines = [*display.ax_.lines, *display.twin_ax_.lines]
    assert len({line.get_color() for line in lines}) == 5
    # Another display on the same axes has its loss at the right, too.
    other = TrainingDisplay.from_estimator(net, metrics=["train_loss"])
    other.plot(display.ax_, name="again")
    assert other.twin_ax_ is display.twin_ax_
    assert len(display.figure_.axes) == 2
    assert {"again", "again, train_loss"} < set(legend_of(other))


def history_of(scores, **columns):
    rows = [{"epoch": i + 1, "nmf_auc": score} for i, score in enumerate(scores)]
    for column, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[column] = value
    return rows


def test_all_epochs_are_marked_where_they_are_not_many():
    marks = {
        n: TrainingDisplay.from_history(history_of([0.5] * n)).plot().line_.get_markevery()
        for n in (3, 40, 48, 120)
    }
    assert marks == {3: 1, 40: 1, 48: 4, 120: 10}


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.1, 0.1, 0.5, 0.5, 0.3, 0.3], 3),  # measured every second epoch
        ([np.nan, 0.2, np.nan, 0.4, np.nan], 4),
        ([0.2, 0.3, np.nan, np.nan], 2),
        ([np.nan, np.nan], None),
    ],
)
def test_nan_and_epochs_in_between(scores, best):
    display = TrainingDisplay.from_history(history_of(scores)).plot()
    known = ~np.isnan(scores)
    assert display.best_epoch == best
    assert (display.best_ is None) == (best is None)
    np.testing.assert_array_equal(display.line_.get_ydata(), np.array(scores)[known])


def test_epochs_without_the_column():
    history = [{"epoch": 5}, {"epoch": 6, "nmf_auc": 0.4}, {"epoch": 7, "nmf_auc": 0.3}]
    display = TrainingDisplay.from_history(history)
    np.testing.assert_array_equal(display.scores, [np.nan, 0.4, 0.3])
    assert display.best_epoch == 6


def test_layers_of_one_score_among_two():
    history = history_of(
        [0.3],
        nmf_auc_best=[True],
        nmf_auc_relu=[0.3],
        nmf_auc_late=[0.4],
        nmf_auc_late_best=[True],
        nmf_auc_late_relu=[0.4],
    )
    display = TrainingDisplay.from_history(history, layers=True)
    assert list(display.layer_scores) == ["relu"]
    late = TrainingDisplay.from_history(history, name="nmf_auc_late", layers=True)
    assert (list(late.layer_scores), late.scores) == (["relu"], [0.4])


def test_several_trainings_on_one_axis():
    display = TrainingDisplay.from_history(history_of([0.1, 0.3, 0.2])).plot(name="one")
    other = TrainingDisplay.from_history(history_of([0.2, 0.5, 0.6]))
    other.plot(display.ax_, name="two", line_kw={"linewidth": 3})
    assert legend_of(display) == [
        *["one", "one, best at epoch 2"],
        *["two", "two, best at epoch 3"],
    ]
    assert len({line.get_linestyle() for line in display.ax_.lines}) == 2
    assert other.line_.get_linewidth() == 3
    assert other.twin_ax_ is None


@pytest.mark.parametrize(
    ("history", "settings", "error", "message"),
    [
        (history_of([1]), {"name": "auc"}, ValueError, r"'auc'.*'nmf_auc'.*Scoring"),
        (history_of([1]), {"metrics": ["acc"]}, ValueError, "no column 'acc'"),
        (history_of(["a"]), {}, TypeError, "'nmf_auc' has values that are no numbers"),
        ([], {}, ValueError, "history is empty"),
        (3, {}, TypeError, "history is a int"),
        (history_of([1]), {"layers": 3}, ValueError, "'layers' parameter"),
    ],
)
def test_histories_that_are_refused(history, settings, error, message):
    with pytest.raises(error, match=message):
        TrainingDisplay.from_history(history, **settings)


def test_nets_without_a_history(data):
    with pytest.raises(NotFittedError, match="NonlinearityScoring"):
        TrainingDisplay.from_estimator(NeuralNetClassifier(nn.Linear))
    with pytest.raises(NotFittedError):
        TrainingDisplay.from_estimator(MemorizationDetector())
    with pytest.raises(TypeError, match=r"MLPClassifier.*NonlinearityMonitor"):
        TrainingDisplay.from_estimator(MLPClassifier())
    with pytest.raises(ValueError, match="history is empty"):
        TrainingDisplay.from_history(NonlinearityMonitor(*data))

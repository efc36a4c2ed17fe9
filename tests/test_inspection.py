"""Displays: what they store, what they draw, and what they refuse."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import ActivationNonlinearity, LayerProfile, MemorizationDetector
from sknonlin._memorization.monitor import NonlinearityMonitor
from sknonlin.callbacks import NonlinearityScoring
from sknonlin.curves import area_under_curve
from sknonlin.inspection import (
    LayerProfileDisplay,
    MemorizedSamplesDisplay,
    RankCurveDisplay,
    TrainingDisplay,
)
from tests.architectures import mlp, seeded

mpl.use("Agg")
import matplotlib.pyplot as plt

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")  # a short training
RANKS = np.array([1, 2, 4, 8])


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def profile_of(layer_names=("relu1", "relu2"), n_classes=3, n_batches=2, seed=0, **kwargs):
    """Falling errors and rising accuracies, at random."""
    rng = np.random.default_rng(seed)
    shape = (len(layer_names), n_classes, n_batches, len(RANKS))
    accuracies = np.sort(rng.random(shape))
    return LayerProfile(
        list(layer_names),
        np.arange(n_classes),
        RANKS,
        **{"batch_errors": 1 - accuracies, "batch_accuracies": accuracies} | kwargs,
        batch_accuracy=np.ones(shape[1:3]),
    )


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return (X[:200] / 16).astype(np.float32), y[:200]


@pytest.fixture(scope="module")
def net(data):
    """A trained skorch net with the score in its history."""
    net = NeuralNetClassifier(
        seeded(mlp, 64, 16, 10),
        criterion=nn.CrossEntropyLoss,
        lr=0.1,
        max_epochs=4,
        verbose=0,
        callbacks=[NonlinearityScoring(batch_size=60)],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return net.fit(*data)


@pytest.fixture(scope="module")
def detector(net, data):
    template = ActivationNonlinearity(RANKS.tolist())
    return MemorizationDetector(
        FrozenEstimator(net), nonlinearity=template, n_batches=2, random_state=0
    ).fit(*data)


def legend_of(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def rendered(figure):
    """Pixels of a figure without texts, (height, width, 3) in [0, 1]."""
    for text in figure.findobj(mpl.text.Text):
        text.set_visible(False)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def pixel(display, pixels, x, y):
    column, row = display.ax_.transData.transform((x, y)).round().astype(int)
    return pixels[len(pixels) - 1 - row, column]


# Rank curves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "label"), [("error", "relative error"), ("accuracy", "accuracy")]
)
def test_rank_curve_of_a_layer(curve, label):
    profile = profile_of()
    values = profile.errors if curve == "error" else profile.accuracies
    display = RankCurveDisplay.from_profile(profile, layer="relu1", curve=curve)
    np.testing.assert_array_equal(display.ranks, RANKS)
    np.testing.assert_array_equal(display.curves, values[0])
    assert not hasattr(display, "ax_")
    assert display.plot() is display
    assert display.figure_ is display.ax_.figure
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("rank", label)
    np.testing.assert_allclose(display.line_.get_xdata(), RANKS)
    np.testing.assert_allclose(display.line_.get_ydata(), values[0].mean(0))
    area = area_under_curve(RANKS, values[0].mean(0))
    assert display.area == pytest.approx(area)
    assert legend_of(display) == [
        f"layer relu1, area {area:.3f}",
        "lowest to highest of 3 classes",
    ]
    band = display.band_.get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((values[0].min(), values[0].max()))
    assert display.fill_.get_paths()[0].get_extents().ymin == 0


def test_rank_curves_over_batches():
    profile = profile_of()
    display = RankCurveDisplay.from_profile(profile, over="batches")
    np.testing.assert_allclose(display.curves, profile.batch_errors[1].mean(0))
    mixed = RankCurveDisplay.from_profile(profile_of(n_classes=1, n_batches=5)).plot()
    assert mixed.curves.shape == (5, 4)
    assert legend_of(mixed)[1] == "lowest to highest of 5 batches"


@pytest.mark.parametrize(("layer", "position"), [(None, 1), (-1, 1), (0, 0), ("3", 0)])
def test_layers_by_name_and_by_place(layer, position):
    profile = profile_of(["3", "0"])
    display = RankCurveDisplay.from_profile(profile, layer=layer)
    np.testing.assert_array_equal(display.curves, profile.errors[position])
    assert display.name == f"layer {profile.layer_names[position]}"


def test_the_title_tells_which_layer_was_taken():
    display = RankCurveDisplay.from_profile(profile_of()).plot()
    assert display.ax_.get_title() == "layer relu2, the last of 2"
    ax = plt.figure().add_subplot()
    for profile, layer in [(profile_of(), 1), (profile_of(["1"]), None)]:
        shown = RankCurveDisplay.from_profile(profile, layer=layer)
        assert shown.plot().ax_.get_title() == ""
    assert display.plot(ax).ax_.get_title() == ""


def test_the_legend_shows_the_area_with_its_line():
    def patches(display):
        return len(display.ax_.get_legend().findobj(mpl.patches.Rectangle))

    display = RankCurveDisplay.from_profile(profile_of())
    with_area = patches(display.plot())
    assert patches(display.plot(fill=False)) == with_area - 1
    assert patches(display.plot(band=None)) == with_area - 1
    assert legend_of(display) == [f"layer relu2, area {display.area:.3f}"]


def test_legends_above_are_no_wider_than_the_figure():
    profiles = {f"a rather long name {i}": profile_of(seed=i) for i in range(4)}
    ax = LayerProfileDisplay.from_profile(profiles, curve="both").plot().ax_
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 > ax.get_window_extent().y1
    assert legend.width < ax.figure.bbox.width
    assert ax.get_window_extent().width > 0.8 * ax.figure.bbox.width


def test_quantiles_names_and_plain_lines():
    display = RankCurveDisplay.from_profile(profile_of(n_classes=9), name="mine")
    display.plot(band=(0.25, 0.75))
    low, high = np.quantile(display.curves, [0.25, 0.75], axis=0)
    vertices = display.band_.get_paths()[0].vertices
    for expected in (low, high):
        for point in zip(RANKS, expected, strict=True):
            assert np.isclose(vertices, point).all(1).any()
    assert legend_of(display)[1] == "25% to 75% quantile of 9 classes"
    display.plot(name="other", band=None, fill=False, line_kw={"color": "red"})
    assert display.band_ is None
    assert display.fill_ is None
    assert display.line_.get_color() == "red"
    assert legend_of(display) == [f"other, area {display.area:.3f}"]


def test_classes_that_do_not_reach_a_layer_are_left_out():
    profile = profile_of()
    profile.batch_errors[1, 2] = np.nan
    display = RankCurveDisplay.from_profile(profile).plot()
    np.testing.assert_allclose(display.line_.get_ydata(), profile.errors[1, :2].mean(0))
    assert legend_of(display)[1] == "lowest to highest of 2 classes"


def test_curves_of_a_scorer(labelled):
    X, y = labelled
    scorer = ActivationNonlinearity(RANKS.tolist())
    display = RankCurveDisplay.from_estimator(scorer.fit(X), name="conv1").plot()
    np.testing.assert_allclose(display.line_.get_ydata(), scorer.errors_)
    assert display.area == pytest.approx(scorer.nonlinearity_)
    assert display.band_ is None
    scorer.set_params(by_class=True).fit(X, y)
    display = RankCurveDisplay.from_estimator(scorer).plot()
    np.testing.assert_allclose(display.curves, scorer.errors_)
    assert legend_of(display)[0] == f"area {scorer.nonlinearity_.mean():.3f}"


def test_curves_of_a_detector(detector):
    display = RankCurveDisplay.from_estimator(detector, layer="3", curve="accuracy")
    np.testing.assert_allclose(display.curves, detector.profile_.accuracies[1])


def test_several_rank_curves_on_one_axis():
    display = RankCurveDisplay.from_profile(profile_of(), name="first").plot()
    other = RankCurveDisplay.from_profile(profile_of(seed=1), name="second")
    assert other.plot(ax=display.ax_).ax_ is display.ax_
    lines = display.ax_.lines
    assert len({line.get_color() for line in lines}) == 2
    assert len({line.get_linestyle() for line in lines}) == 2
    assert len({line.get_marker() for line in lines}) == 2
    names = [label.split(",")[0] for label in legend_of(display)]
    assert names == ["first", "second", "lowest to highest of 3 classes"]


def test_one_rank_and_errors_above_one():
    profile = profile_of()
    display = RankCurveDisplay(ranks=np.array([4]), curves=np.array([[1.4]])).plot()
    assert display.area == 1.4
    assert display.ax_.get_ylim()[1] > 1.4
    profile.batch_errors /= 2
    assert RankCurveDisplay.from_profile(profile).plot().ax_.get_ylim() == (0, 1.02)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"layer": "relu9"}, ValueError, r"'relu9'.*\['relu1', 'relu2'\]"),
        ({"layer": 2}, ValueError, "layer=2 is not in the profile"),
        ({"layer": 1.5}, ValueError, "'layer' parameter"),
        ({"curve": "loss"}, ValueError, "'curve' parameter"),
        ({"over": "layers"}, ValueError, "'over' parameter"),
        ({"profile": {}}, TypeError, "profile is a dict.*from_estimator"),
    ],
)
def test_rank_curves_that_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        RankCurveDisplay.from_profile(**{"profile": profile_of()} | settings)


@pytest.mark.parametrize("band", [(1, 0), (0.1,), "all", (0, 2), 0.5])
def test_bands_that_are_refused(band):
    with pytest.raises(ValueError, match="two increasing quantiles"):
        RankCurveDisplay.from_profile(profile_of()).plot(band=band)


@pytest.mark.parametrize("display", [RankCurveDisplay, LayerProfileDisplay])
def test_profile_without_accuracies(display):
    profile = profile_of(batch_accuracies=np.full((2, 3, 2, 4), np.nan))
    with pytest.raises(ValueError, match=r"curve='accuracy'.*replay=False"):
        display.from_profile(profile, curve="accuracy")


@pytest.mark.parametrize("display", [RankCurveDisplay, LayerProfileDisplay])
def test_estimators_that_are_refused(display, data):
    with pytest.raises(NotFittedError):
        display.from_estimator(MemorizationDetector())
    with pytest.raises(TypeError, match=r"is a MLPClassifier.*layer_profile"):
        display.from_estimator(MLPClassifier())


def test_a_scorer_has_one_error_curve(activations):
    scorer = ActivationNonlinearity([1, 2])
    with pytest.raises(NotFittedError):
        RankCurveDisplay.from_estimator(scorer)
    scorer.fit(activations)
    for settings in ({"layer": 0}, {"curve": "accuracy"}, {"over": "batches"}):
        with pytest.raises(ValueError, match=r"one error curve.*Leave them out"):
            RankCurveDisplay.from_estimator(scorer, **settings)


# Layer profiles ---------------------------------------------------------------------


def test_layers_of_one_profile():
    profile = profile_of(["a", "b", "c"])
    display = LayerProfileDisplay.from_profile(profile)
    areas = area_under_curve(RANKS, profile.errors)
    np.testing.assert_allclose(display.areas, areas[None])
    assert display.plot() is display
    (line,), (band,) = display.lines_, display.bands_
    np.testing.assert_allclose(line.get_ydata(), profile.error_auc)
    extents = band.get_paths()[0].get_extents()
    assert (extents.ymin, extents.ymax) == pytest.approx((areas.min(), areas.max()))
    ax = display.ax_
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "area under the error curve")
    assert legend_of(display) == ["relative error", "lowest to highest of 3 classes"]
    assert display.figure_ is ax.figure


def test_networks_of_different_depth_and_names():
    small, large = profile_of(["1", "3"]), profile_of(["1", "3", "5"], n_classes=2)
    display = LayerProfileDisplay.from_profile(
        {"small": small, "large": large}, curve="accuracy"
    )
    assert display.areas.shape == (2, 3, 3)
    assert np.isnan(display.areas[0, 2]).all()
    assert np.isnan(display.areas[1, :, 2]).all()
    display.plot()
    assert display.layer_names == ["1", "3", "5"]
    assert display.ax_.get_ylabel() == "area under the accuracy curve"
    np.testing.assert_allclose(display.lines_[0].get_ydata()[:2], small.accuracy_auc)
    np.testing.assert_allclose(display.lines_[1].get_ydata(), large.accuracy_auc)
    assert legend_of(display)[2:] == [
        "lowest to highest of 3 classes",
        "lowest to highest of 2 classes",
    ]
    display = LayerProfileDisplay.from_profile([small, profile_of(["relu1", "relu2"])])
    assert display.layer_names == ["1", "2"]
    assert display.names == ["profile 1", "profile 2"]


def test_compressions_and_both_curves():
    profiles = [profile_of(compression="nmf"), profile_of(compression="pca", seed=1)]
    assert LayerProfileDisplay.from_profile(profiles).names == ["nmf", "pca"]
    both = LayerProfileDisplay.from_profile(profiles, curve="both")
    assert both.names == [
        "nmf, relative error",
        "nmf, accuracy",
        "pca, relative error",
        "pca, accuracy",
    ]
    both.plot(name=list("abcd"), band=None)
    assert legend_of(both) == list("abcd")
    assert len({line.get_color() for line in both.lines_}) == 4
    assert both.ax_.get_ylabel() == "area under the curve"


def test_several_layer_profiles_on_one_axis():
    display = LayerProfileDisplay.from_profile(profile_of(["1", "3"]), name="small").plot()
    ax = display.ax_
    deeper = LayerProfileDisplay.from_profile(
        profile_of(["1", "3", "5"]), name="large", curve="accuracy"
    ).plot(ax)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "3", "5"]
    assert ax.get_ylabel() == "area under the curve"
    assert legend_of(deeper)[:2] == ["small", "large"]
    LayerProfileDisplay.from_profile(profile_of(["x", "y"])).plot(ax, name="other")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3"]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 3


def test_many_and_long_names_of_layers_do_not_overlap():
    for n_layers, name in [(20, "r"), (6, "features.block.relu")]:
        display = LayerProfileDisplay.from_profile(profile_of([name] * n_layers)).plot()
        display.figure_.canvas.draw()
        labels = display.ax_.get_xticklabels()
        assert labels[0].get_rotation() > 0
        assert display.figure_.bbox.contains(*labels[0].get_window_extent().min)


def test_layers_of_a_detector(detector):
    display = LayerProfileDisplay.from_estimator(detector, name="net").plot()
    np.testing.assert_allclose(
        display.lines_[0].get_ydata(), detector.profile_.error_auc, rtol=1e-6
    )
    display = LayerProfileDisplay.from_estimator(detector, mixed=True, name="net").plot()
    np.testing.assert_allclose(
        display.lines_[1].get_ydata(), detector.mixed_profile_.error_auc, rtol=1e-6
    )
    assert display.names == ["net, batches of one class", "net, mixed batches"]
    with pytest.raises(ValueError, match="mixed batches are not measured"):
        LayerProfileDisplay.from_estimator(detector, mixed=True, curve="accuracy")


@pytest.mark.parametrize(
    ("profile", "settings", "error", "message"),
    [
        ([], {}, ValueError, "no profiles"),
        ({"a": 3}, {}, TypeError, "profile is a int"),
        ([profile_of()], {"name": "a"}, ValueError, "name='a' is for a single profile"),
        (profile_of(), {"curve": "loss"}, ValueError, "'curve' parameter"),
    ],
)
def test_layer_profiles_that_are_refused(profile, settings, error, message):
    with pytest.raises(error, match=message):
        LayerProfileDisplay.from_profile(profile, **settings)


def test_as_many_names_as_lines():
    display = LayerProfileDisplay.from_profile([profile_of(), profile_of()])
    with pytest.raises(ValueError, match="for 1 lines, but there are 2"):
        display.plot(name="one")


# Memorized samples ------------------------------------------------------------------


def test_images_with_their_labels(detector, data):
    X, y = data
    report = detector.label_report(X, y).head(5)
    display = MemorizedSamplesDisplay.from_estimator(
        detector, X, y, image_shape=(8, 8), n_samples=5
    )
    np.testing.assert_array_equal(display.index, report["index"])
    np.testing.assert_array_equal(display.samples, X[report["index"]].reshape(-1, 8, 8))
    np.testing.assert_array_equal(display.suggested, report["suggested"])
    np.testing.assert_array_equal(display.scores, report["score"])
    assert display.plot(n_columns=3) is display
    assert display.axes_.shape == (2, 3)
    assert display.figure_ is display.ax_.figure
    assert not display.axes_[1, 2].get_visible()
    first = display.axes_[0, 0]
    np.testing.assert_array_equal(first.images[0].get_array(), display.samples[0])
    given, suggested, score = first.get_title().split("\n")
    assert given == f"given {report['given'][0]}"
    assert suggested == f"suggested {report['suggested'][0]}"
    assert score == f"score {report['score'][0]:.2f}"
    assert "memorization score" in display.ax_.get_title()


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((8, 8), (8, 8)),
        ((1, 8, 8), (8, 8)),
        ((3, 8, 8), (8, 8, 3)),
        ((8, 8, 3), (8, 8, 3)),
        ((8, 8, 1), (8, 8)),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list])
def test_images_of_all_shapes(detector, data, shape, shown, kind):
    pictures = np.random.default_rng(0).normal(size=(200, *shape))
    display = MemorizedSamplesDisplay.from_estimator(
        detector, *data, images=kind(pictures), n_samples=2
    ).plot()
    assert display.samples.shape == (2, *shown)
    drawn = display.axes_[0, 0].images[0].get_array()
    if len(shown) == 3:
        assert (drawn.min(), drawn.max()) == (0, 1)
        place = pictures[display.index[0]]
        flat = place if shape[-1] == 3 else np.moveaxis(place, 0, -1)
        np.testing.assert_allclose(drawn, (flat - flat.min()) / np.ptp(flat))
    flat = pictures.reshape(200, -1)
    again = MemorizedSamplesDisplay.from_estimator(
        detector, *data, images=flat, image_shape=shape, n_samples=2
    )
    np.testing.assert_array_equal(again.samples, display.samples)


def test_tables_of_features(detector, data):
    X, y = data
    names = [f"pixel{i}" for i in range(64)]
    display = MemorizedSamplesDisplay.from_estimator(
        detector, X, y, n_samples=3, feature_names=names, class_names=list("abcdefghij")
    )
    assert set(display.given) <= set("abcdefghij")
    cells = display.plot(features=["pixel20", "pixel3"]).table_.get_celld()
    texts = [[cells[i, j].get_text().get_text() for j in range(6)] for i in range(4)]
    header = ["sample", "given", "suggested", "memorization score", "pixel20", "pixel3"]
    assert texts[0] == header
    place = display.index[0]
    assert texts[1] == [
        str(place),
        "abcdefghij"[y[place]],
        display.suggested[0],
        f"{display.scores[0]:.2f}",
        f"{X[place, 20]:.3g}",
        f"{X[place, 3]:.3g}",
    ]
    assert display.axes_ is None
    with pytest.raises(ValueError, match=r"'pixel99'\]. Choose among \['pixel0'"):
        display.plot(features=["pixel99"])


def test_columns_of_a_frame_name_the_features(detector, data):
    X, y = data
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(64)])
    settings = {"n_samples": 2}
    shown = MemorizedSamplesDisplay.from_estimator(detector, X, y, images=frame, **settings)
    assert shown.feature_names == list(frame.columns)
    np.testing.assert_array_equal(shown.samples, X[shown.index])
    plain = MemorizedSamplesDisplay.from_estimator(detector, X, y, **settings)
    assert plain.feature_names[:2] == ["x0", "x1"]
    assert len(plain.plot().table_.get_celld()) == 3 * (4 + 6)


def test_names_of_some_classes(detector, data):
    named = {"class_names": {3: "three"}, "n_samples": 200}
    display = MemorizedSamplesDisplay.from_estimator(detector, *data, **named)
    assert set(display.given) == {"three", *"012456789"}


def test_what_is_not_flagged_is_grey():
    display = MemorizedSamplesDisplay(
        samples=np.zeros((2, 4, 4)),
        index=np.arange(2),
        given=np.array([0, 1]),
        suggested=np.array([1, 1]),
        scores=np.array([0.5, -0.1]),
        flagged=np.array([True, False]),
    ).plot()
    colors = [cell.title.get_color() for cell in display.axes_[0]]
    assert colors == ["black", "0.45"]
    assert display.ax_.get_title().endswith("(grey: not flagged)")


def test_samples_fill_the_axes_given(detector, data):
    _, axes = plt.subplots(1, 2)
    settings = {"image_shape": (8, 8), "n_samples": 4}
    display = MemorizedSamplesDisplay.from_estimator(detector, *data, **settings)
    display.plot(axes[0], n_columns=2)
    assert display.ax_ is axes[0]
    bounds = axes[0].get_window_extent()
    for cell in display.axes_.flat:
        assert bounds.contains(*cell.get_window_extent().min)
        assert bounds.contains(*cell.get_window_extent().max)
    display.plot(axes[0], n_columns=4)
    assert axes[0].child_axes == list(display.axes_.flat)
    table = MemorizedSamplesDisplay.from_estimator(detector, *data, n_samples=4)
    assert table.plot(axes[1]).table_.axes is axes[1]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "'n_samples' parameter"),
        ({"image_shape": (7, 9)}, ValueError, r"\(7, 9\) does not fit samples of 64"),
        ({"image_shape": (64,)}, ValueError, "does not fit"),
        ({"images": np.zeros((200, 5, 8, 8))}, ValueError, r"\(5, 8, 8\) are neither"),
        ({"images": np.zeros(200)}, ValueError, r"shape \(\) are neither"),
        ({"images": np.zeros((9, 8, 8))}, ValueError, "images has 9 samples.*200"),
        ({"images": {"a": np.zeros((200, 64))}}, TypeError, "images is a dict"),
        ({"class_names": ["a"]}, ValueError, "1 names for 10 classes"),
        ({"feature_names": ["a"]}, ValueError, "1 names, but X has 64 features"),
    ],
)
def test_samples_that_are_refused(detector, data, settings, error, message):
    with pytest.raises(error, match=message):
        MemorizedSamplesDisplay.from_estimator(detector, *data, **settings)


def test_samples_need_a_fitted_detector(net, data):
    with pytest.raises(TypeError, match="is a NeuralNetClassifier; it must be"):
        MemorizedSamplesDisplay.from_estimator(net, *data)
    with pytest.raises(NotFittedError):
        MemorizedSamplesDisplay.from_estimator(MemorizationDetector(), *data)


# Training ---------------------------------------------------------------------------


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


# Pictures ---------------------------------------------------------------------------


def test_the_area_is_shaded_up_to_the_curve():
    curves = np.array([[0.5, 0.5, 0.5, 0.5]])
    display = RankCurveDisplay(ranks=RANKS, curves=curves).plot()
    display.ax_.get_legend().remove()
    pixels = rendered(display.figure_)
    below, above = (pixel(display, pixels, 3, y) for y in (0.3, 0.7))
    assert (above == 1).all()
    assert below.min() < 0.95


def test_bands_are_darker_than_areas():
    curves = np.array([[0.4] * 4, [0.6] * 4])
    display = RankCurveDisplay(ranks=RANKS, curves=curves).plot()
    display.ax_.get_legend().remove()
    pixels = rendered(display.figure_)
    area, band, above = (pixel(display, pixels, 3, y).mean() for y in (0.2, 0.45, 0.8))
    assert band < area < above


def test_lines_can_be_told_apart_in_grey():
    """The same curve in five styles: five different pictures without their colours."""
    pictures = []
    ax = plt.figure().add_subplot()
    ax.set_axis_off()
    for _ in range(5):
        display = LayerProfileDisplay.from_profile(profile_of()).plot(ax)
        for artist in (*ax.lines, *ax.collections):
            artist.set_visible(artist is display.lines_[0])
        display.lines_[0].set_color("black")
        ax.get_legend().remove()
        pictures.append(rendered(ax.figure).mean(-1) < 0.5)
    for i, picture in enumerate(pictures):
        for other in pictures[:i]:
            assert (picture != other).sum() > 0.1 * picture.sum()


# Imports ----------------------------------------------------------------------------


def test_nothing_is_drawn_with_until_it_is_drawn():
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['pandas'] = None\n"
        "import numpy as np\n"
        "from sknonlin.inspection import RankCurveDisplay\n"
        "display = RankCurveDisplay(ranks=np.array([1]), curves=np.ones((1, 1)))\n"
        "try:\n"
        "    display.plot()\n"
        "except ImportError as error:\n"
        "    print(display.area, error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("1.0 RankCurveDisplay.plot requires matplotlib")


def test_import_does_not_bring_matplotlib():
    code = "import sys, sknonlin.inspection; print('matplotlib' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"

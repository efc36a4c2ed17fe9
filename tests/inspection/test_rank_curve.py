"""Rank curves: what is stored, what is drawn, and what is refused."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sknonlin import ActivationNonlinearity
from sknonlin.curves import area_under_curve
from sknonlin.inspection import RankCurveDisplay
from tests.inspection.conftest import RANKS, legend_of, profile_of

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")  # a short training


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


def test_the_curve_of_mixed_batches_beside_that_of_one_class(detector):
    display = RankCurveDisplay.from_estimator(detector, layer="3", mixed=True).plot()
    np.testing.assert_allclose(
        display.mixed_line_.get_ydata(), detector.mixed_profile_.errors[1].mean(0)
    )
    share = f"share {detector.layer_scores_[1]:.3f}"
    assert any(share in entry for entry in legend_of(display))
    assert RankCurveDisplay.from_estimator(detector).plot().mixed_line_ is None
    with pytest.raises(ValueError, match="of mixed batches there are error curves only"):
        RankCurveDisplay.from_estimator(detector, curve="accuracy", mixed=True)


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


def test_a_scorer_has_one_error_curve(activations):
    scorer = ActivationNonlinearity([1, 2])
    with pytest.raises(NotFittedError):
        RankCurveDisplay.from_estimator(scorer)
    scorer.fit(activations)
    for settings in (
        {"layer": 0},
        {"curve": "accuracy"},
        {"over": "batches"},
        {"mixed": True},
    ):
        with pytest.raises(ValueError, match=r"one error curve.*Leave them out"):
            RankCurveDisplay.from_estimator(scorer, **settings)

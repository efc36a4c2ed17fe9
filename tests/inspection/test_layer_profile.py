"""Layer profiles: what is stored, what is drawn, and what is refused."""

import numpy as np
import pytest

from sknonlin.curves import area_under_curve
from sknonlin.inspection import LayerProfileDisplay
from tests.inspection.conftest import RANKS, legend_of, profile_of

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")  # a short training


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
    for curve in ("accuracy", "share"):
        with pytest.raises(ValueError, match="of mixed batches there are error curves"):
            LayerProfileDisplay.from_estimator(detector, mixed=True, curve=curve)


def test_what_the_score_is_made_of(detector):
    display = LayerProfileDisplay.from_estimator(detector, curve="share").plot()
    np.testing.assert_allclose(
        display.lines_[0].get_ydata().clip(max=1), detector.layer_scores_, rtol=1e-6
    )
    weights = detector.mixed_profile_.error_auc
    score = np.average(display.areas[0].mean(1), weights=weights)
    assert score == pytest.approx(detector.memorization_score_)
    assert legend_of(display)[0] == f"memorization score {score:.3f}"
    assert "share" in display.ax_.get_ylabel()
    display = LayerProfileDisplay.from_estimator(detector, curve="share", name="net")
    assert display.names == [f"net, memorization score {score:.3f}"]
    with pytest.raises(ValueError, match="'curve' parameter"):
        LayerProfileDisplay.from_profile(detector.profile_, curve="share")


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

"""What the displays share: legends, bands, styles, imports, and what they refuse."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier

from sknonlin import MemorizationDetector
from sknonlin.inspection import LayerProfileDisplay, RankCurveDisplay
from tests.inspection.conftest import RANKS, profile_of

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")  # a short training


def rendered(figure):
    """Pixels of a figure without texts, (height, width, 3) in [0, 1]."""
    for text in figure.findobj(mpl.text.Text):
        text.set_visible(False)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def pixel(display, pixels, x, y):
    column, row = display.ax_.transData.transform((x, y)).round().astype(int)
    return pixels[len(pixels) - 1 - row, column]


def test_legends_above_are_no_wider_than_the_figure():
    profiles = {f"a rather long name {i}": profile_of(seed=i) for i in range(4)}
    ax = LayerProfileDisplay.from_profile(profiles, curve="both").plot().ax_
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 > ax.get_window_extent().y1
    assert legend.width < ax.figure.bbox.width
    assert ax.get_window_extent().width > 0.8 * ax.figure.bbox.width


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

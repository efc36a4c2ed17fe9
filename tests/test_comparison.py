"""Networks side by side."""

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from sknonlin import ActivationNonlinearity, MemorizationDetector, compare_networks
from sknonlin.comparison import difference_p_value
from sknonlin.inspection import NetworkComparisonDisplay
from tests.architectures import seeded, skorch_net
from tests.conftest import barely_trained, detector, first_digits

mpl.use("Agg")
pytestmark = barely_trained


@pytest.fixture(scope="module")
def digits():
    return first_digits(400)


@pytest.fixture(scope="module")
def fitted(digits):
    """Detectors of a network that learned, and of one that was given random labels."""
    X, y = digits
    shuffled = np.random.default_rng(0).permutation(y)
    return {
        "learned": detector(skorch_net(max_epochs=30), reference="untrained").fit(X, y),
        "memorized": detector(skorch_net(max_epochs=60)).fit(X, shuffled),
    }


def test_the_one_that_memorized_is_named(fitted):
    found = compare_networks(fitted)
    assert found.names == ["learned", "memorized"]
    for name, values in {
        "scores": "memorization_score_",
        "intervals": "memorization_interval_",
        "training_accuracies": "training_accuracy_",
    }.items():
        expected = [getattr(each, values) for each in fitted.values()]
        np.testing.assert_array_equal(getattr(found, name), expected)
    assert found.references[0] == fitted["learned"].reference_score_
    assert np.isnan(found.references[1])
    assert found.p_values[0, 1] == found.p_values[1, 0] < 1e-3
    assert found.p_values[0, 0] == 1
    assert not found.paired  # by other labels, batches are others
    assert "memorized memorized more than learned" in str(found)
    frame = found.to_frame()
    assert frame.index.tolist() == found.names
    assert (frame.low <= frame.score).all()
    assert (frame.score <= frame.high).all()


def test_the_same_network_is_not_told_from_itself(digits, fitted):
    X, y = digits
    frozen = FrozenEstimator(fitted["learned"].estimator_)
    again = detector(frozen).fit(X, y)
    same = compare_networks({"a": fitted["learned"], "b": again})
    assert same.paired
    assert same.p_values.tolist() == [[1, 1], [1, 1]]
    assert "a and b cannot be told apart" in str(same)
    others = [detector(frozen, random_state=seed).fit(X, y) for seed in range(6)]
    found = [difference_p_value(a, b) for a in others for b in others if a is not b]
    assert np.median(found) > 0.05
    assert not compare_networks({"a": others[0], "b": others[1]}).paired


def test_a_network_that_does_not_fit_is_named(digits, fitted):
    short = detector(skorch_net(max_epochs=1)).fit(*digits)
    found = str(compare_networks({"short": short, "learned": fitted["learned"]}))
    assert f"short fits {short.training_accuracy_:.2f} of its training labels" in found
    assert "learned fits" not in found
    assert str(compare_networks({"short": short})).startswith("short has a memorization")


def test_what_cannot_be_compared(digits, fitted):
    other = detector(nonlinearity=ActivationNonlinearity([1, 2])).fit(*digits)
    with pytest.raises(ValueError, match="different ranks"):
        compare_networks({"a": fitted["learned"], "b": other})
    other = detector(skorch_net(max_epochs=1), batch_size=20).fit(*digits)
    with pytest.raises(ValueError, match="different batch sizes"):
        compare_networks({"a": fitted["learned"], "b": other})
    with pytest.raises(TypeError, match="dict of fitted detectors"):
        compare_networks([other])
    with pytest.raises(ValueError, match="no detectors"):
        compare_networks({})
    with pytest.raises(TypeError, match=r"'a' is a .*MemorizationDetector\(module\)"):
        compare_networks({"a": seeded(skorch_net)})
    with pytest.raises(NotFittedError):
        compare_networks({"a": MemorizationDetector()})
    with pytest.raises(TypeError, match="what compare_networks returned"):
        NetworkComparisonDisplay.from_comparison(fitted)


def test_the_picture(fitted):
    comparison = compare_networks(fitted)
    ax = comparison.plot()
    assert [label.get_text() for label in ax.get_xticklabels()] == comparison.names
    heights = [bar.get_height() for bar in ax.containers[-1]]
    np.testing.assert_allclose(heights, comparison.scores)
    assert ax.get_title() == str(comparison)
    assert ax.get_legend().get_texts()[0].get_text() == "reference"
    display = NetworkComparisonDisplay.from_comparison(comparison)
    assert display.plot(ax=ax, bar_kw={"color": "k"}) is display
    assert display.bars_[0].get_facecolor()[:3] == (0, 0, 0)

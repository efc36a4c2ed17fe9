import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import trapezoid

from sknonlin.curves import area_under_curve, area_weights

rank_grids = st.lists(st.integers(1, 200), min_size=2, max_size=12, unique=True).map(sorted)


@given(ranks=rank_grids, data=st.data())
def test_area_is_scipys_trapezoid_over_the_width(ranks, data):
    values = data.draw(hnp.arrays(float, (3, len(ranks)), elements=st.floats(0, 1)))
    expected = trapezoid(values, ranks, axis=1) / (ranks[-1] - ranks[0])
    np.testing.assert_allclose(area_under_curve(ranks, values), expected, atol=1e-12)


@given(ranks=rank_grids)
def test_weights_average(ranks):
    weights = area_weights(ranks)
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1)


def test_single_rank_is_its_own_area():
    assert area_under_curve([5], [0.3]) == 0.3


def test_one_curve_gives_a_float():
    assert isinstance(area_under_curve([1, 2], np.array([1.0, 0.0])), float)


@pytest.mark.parametrize(
    ("ranks", "values", "message"),
    [
        ([1, 1], [1.0, 0.5], r"ranks must increase without repeats, got \[1.0, 1.0\]"),
        ([1, 4, 2], [1.0, 0.5, 0.2], "ranks must increase"),
        ([1, np.nan], [1.0, 0.5], "ranks must increase"),
        ([], [], "ranks must be a list of at least 1 rank"),
        (3, [1.0], "ranks must be a list of at least 1 rank"),
        ([1, 2], [1.0], r"values has shape \(1,\), but there are 2 ranks"),
        ([1], 1.0, r"values has shape \(\), but there are 1 ranks"),
    ],
)
def test_what_has_no_area_says_why(ranks, values, message):
    with pytest.raises(ValueError, match=message):
        area_under_curve(ranks, values)

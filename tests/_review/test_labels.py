"""Labels and their texts, and other labels in containers of all kinds."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sknonlin._review.labels import LabelTexts, is_blank, names_of, replaced


@given(st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_texts_lead_back_to_their_labels(labels):
    texts = LabelTexts(labels)
    for label in labels:
        guarded = f"'{label}" if label[0] in "=+-@\t\r\n'" else label
        assert texts.label(guarded) == label


@pytest.mark.parametrize(
    ("labels", "cell", "label"),
    [
        ([1, 2], "2.0", 2),
        ([1, 2], 2.0, 2),
        ([0.5, 1.0], "1", 1.0),
        ([True, False], "TRUE", True),
        (["1", "2"], 2.0, "2"),
        (["nan", "b"], "nan", "nan"),
        ([-1, 1], "-1", -1),
        (["'tis", "b"], "'tis", "'tis"),
    ],
)
def test_cells_as_spreadsheets_write_them(labels, cell, label):
    found = LabelTexts(labels).label(cell)
    assert found == label
    assert type(found) is type(label)


@pytest.mark.parametrize(
    ("labels", "cell"),
    [([1, 2], "3"), ([1, 2], "x"), (["a"], "A"), ([1], "nan"), ([], "a")],
)
def test_cells_that_hold_no_label(labels, cell):
    with pytest.raises(KeyError):
        LabelTexts(labels).label(cell)


def test_labels_that_read_the_same_are_refused():
    with pytest.raises(ValueError, match=r"read the same\. Give all labels one type"):
        LabelTexts([1, "1"])


def test_blanks():
    assert all(map(is_blank, [None, "", float("nan"), pd.NA, pd.NaT]))
    assert not any(map(is_blank, ["nan", " ", 0, False, "0"]))


def test_names():
    texts = {0: "0", 1: "1"}
    assert names_of(texts, None) == ["0", "1"]
    assert names_of(texts, ["cat", "dog"]) == ["cat", "dog"]
    assert names_of(texts, {1: "dog"}) == ["0", "dog"]
    with pytest.raises(ValueError, match="3 names for 2 labels; give one for each of 0, 1"):
        names_of(texts, ["cat", "dog", "bird"])


@pytest.mark.parametrize("dtype", [np.int8, np.float32, bool, object, "U1"])
def test_arrays_keep_their_dtype(dtype):
    y = np.array([0, 1, 1]).astype(dtype)
    label = y.tolist()[0]
    changed = replaced(y, [2], [label])
    assert changed.dtype == y.dtype
    assert changed.tolist() == [label, y.tolist()[1], label]
    assert y.tolist()[2] != label  # it is a copy


def test_texts_have_room_for_longer_ones():
    y = np.array(["cat", "dog"])
    assert replaced(y, [0], ["elephant"]).tolist() == ["elephant", "dog"]
    assert replaced(["cat", "dog"], [0], ["elephant"]).tolist() == ["elephant", "dog"]


@pytest.mark.parametrize("dtype", ["object", "str", "category", "string"])
def test_series_keep_index_name_and_dtype(dtype):
    y = pd.Series(["a", "b", "b"], index=[7, 5, 3], name="label", dtype=dtype)
    expected = pd.Series(["a", "a", "b"], index=[7, 5, 3], name="label", dtype=y.dtype)
    pd.testing.assert_series_equal(replaced(y, [1], ["a"]), expected)
    assert y.tolist() == ["a", "b", "b"]
    assert replaced(y, [1], ["new"]).tolist() == ["a", "new", "b"]
    pd.testing.assert_series_equal(replaced(y, [], []), y)


def test_categoricals_tensors_and_columns():
    y = pd.Categorical(["a", "b"], ordered=True)
    changed = replaced(y, [0], ["b"])
    assert changed.tolist() == ["b", "b"]
    assert (changed.ordered, y.tolist()) == (True, ["a", "b"])
    assert replaced(y, [0], ["c"]).tolist() == ["c", "b"]
    tensor = torch.tensor([1, 2], dtype=torch.int16)
    changed = replaced(tensor, [0], [2])
    assert torch.equal(changed, torch.tensor([2, 2], dtype=torch.int16))
    assert changed.dtype == torch.int16
    frame = pd.DataFrame({"y": [1, 2]}, index=["r", "s"])
    pd.testing.assert_frame_equal(replaced(frame, [1], [1]), frame.assign(y=1))


def test_labels_that_do_not_fit_the_dtype_are_refused():
    with pytest.raises(ValueError, match="y has the dtype int8"):
        replaced(np.array([1, 2], dtype=np.int8), [0], [300])

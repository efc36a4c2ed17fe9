"""Columns that say most about a row, and what is usual in a class."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from sknonlin._review.tables import Usual, as_frame, nearer, rows_of_table, written

RNG = np.random.default_rng(0)


def two_classes(n=200):
    """A column that tells the classes apart, one of categories, noise, and names."""
    y = np.arange(n) % 2
    frame = pd.DataFrame(
        {
            "noise": RNG.normal(size=n),
            "size": y * 10 + RNG.normal(size=n),
            "colour": np.where(y == 1, "red", "blue"),
            "name": [f"row {i}" for i in range(n)],
        }
    )
    return frame, {c: np.flatnonzero(y == c).tolist() for c in (0, 1)}


def test_the_columns_that_tell_most_come_first():
    frame, classes = two_classes()
    (row,) = rows_of_table(frame, [1], [0], [1], classes, 4)  # looks like class 1
    names = [column[0] for column in row]
    assert set(names[:2]) == {"size", "colour"}
    assert names[-1] in ("name", "noise")
    by_name = {name: rest for name, *rest in row}
    assert by_name["colour"] == ["red", "blue", "red", "suggested"]
    value, given, suggested, side = by_name["size"]
    assert value == written(frame["size"][1])
    assert (float(given), float(suggested)) == pytest.approx((0, 10), abs=0.5)
    assert side == "suggested"
    (fewer,) = rows_of_table(frame, [1], [0], [1], classes, 2)
    assert fewer == row[:2]


def test_usual_values_are_medians_and_modes():
    frame = pd.DataFrame({"a": [1.0, 2.0, 9.0, np.nan], "b": ["x", "x", "y", None]})
    usual = Usual(frame, np.array([True, False]))
    assert usual.texts([True, False]) == ["2", "x"]
    numbers, others = usual.distances(np.array([2.0]), ["x"])
    assert numbers[0] == 0
    assert others[0] < 1
    numbers, others = usual.distances(np.array([1e9]), ["unseen"])
    assert numbers[0] == 8
    assert 0 < others[0] <= 8
    assert usual.distances(np.array([np.nan]), ["missing"])[0][0] == 0


def test_constant_columns_count_where_a_row_differs():
    frame = pd.DataFrame({"a": np.ones(5)})
    usual = Usual(frame, np.array([True]))
    assert usual.distances(np.array([1.0]), [])[0].tolist() == [0]
    assert usual.distances(np.array([2.0]), [])[0].tolist() == [8]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), "0.1"),
        (2024.0, "2024"),
        (123456.0, "123456"),
        (np.int64(12345678), "12345678"),
        (float("nan"), "missing"),
        (None, "missing"),
        (pd.NA, "missing"),
        (pd.NaT, "missing"),
        ("nan", "nan"),
        ("x" * 100, "x" * 79 + "…"),
        (True, "True"),
        (pd.Timestamp("2020-01-02"), "2020-01-02 00:00:00"),
    ],
)
def test_values_are_written_as_they_are(value, text):
    assert written(value) == text


@pytest.mark.parametrize(
    "kind",
    [
        np.asarray,
        pd.DataFrame,
        sparse.csr_array,
        lambda X: pl.DataFrame(X, schema=["x0", "x1", "x2"]),
        lambda X: X.tolist(),
    ],
)
def test_tables_of_all_kinds(kind):
    X = np.round(RNG.normal(size=(30, 3)), 3)
    classes = {0: list(range(15)), 1: list(range(15, 30))}
    frame = as_frame(pd, kind(X))
    assert list(frame.columns) == ["x0", "x1", "x2"]
    (row,) = rows_of_table(frame, [3], [0], [1], classes, 3)
    for name, value, given, suggested, _ in row:
        column = X[:, int(name[1:])]
        assert float(value) == column[3]
        assert float(given) == pytest.approx(np.median(column[:15]), abs=1e-5)
        assert float(suggested) == pytest.approx(np.median(column[15:]), abs=1e-5)


def test_frames_of_all_dtypes():
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3, 4], dtype="Int64"),
            "kind": pd.Categorical(["a", "b", "a", None]),
            "time": pd.date_range("2020", periods=4),
            "flag": [True, False, True, True],
            "list": [[1], [2], [3], {"a": 1}],
            "empty": [np.nan] * 4,
        }
    )
    frame.insert(0, "flag", ["left", "left", None, "right"], allow_duplicates=True)
    rows = rows_of_table(frame, [0, 1], [0, 0], [1, 5], {0: [0, 1], 1: [2, 3]}, 7)
    assert [sorted(column[0] for column in row) for row in rows] == [sorted(frame)] * 2


def test_names_of_columns():
    assert list(as_frame(pd, np.zeros((2, 2)), ["a", "b"]).columns) == ["a", "b"]
    assert list(as_frame(pd, pd.DataFrame({3: [1]})).columns) == ["3"]
    assert list(as_frame(pd, pd.Series([1, 2], name="size")).columns) == ["size"]
    with pytest.raises(ValueError, match="1 names, but X has 2 columns"):
        as_frame(pd, np.zeros((2, 2)), ["a"])


def test_nearer():
    assert nearer(0.1, 3) == "given"
    assert nearer(3, 0.1) == "suggested"
    assert nearer(3, 2.9) == ""

"""Reports: what is refused, labels of rows, and what a page says of them."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from sknonlin._review.report import check_pairs, check_report, review_of, row_labels
from tests._review.conftest import make_report


def test_reports_that_are_refused():
    report = make_report()
    with pytest.raises(TypeError, match="report is a list; it must be the frame"):
        check_report([report])
    with pytest.raises(ValueError, match="report has no column 'given', 'suggested'"):
        check_report(report.drop(columns=["given", "suggested"]))
    with pytest.raises(ValueError, match=r"\['index'\] must hold the places"):
        check_report(report.assign(index=0.5))
    with pytest.raises(ValueError, match=r"\['index'\] must hold the places"):
        check_report(report.assign(index=report["index"] - 1))
    with pytest.raises(ValueError, match="report has samples twice: 0"):
        check_report(report.assign(index=0))


def test_labels_of_rows():
    report = make_report(n_samples=4)
    names = np.array(["p", "q", "r", "s"])
    frame = pd.DataFrame({"a": range(4)}, index=names)
    expected = names[report["index"]].tolist()
    assert row_labels(report, None) is None
    assert row_labels(report, np.zeros((4, 2))) is None
    assert row_labels(report, frame.reset_index(drop=True)) is None
    assert row_labels(report[1:3], None) is None
    labelled = report.set_axis(expected)
    assert row_labels(labelled, None) == expected
    assert row_labels(labelled, frame) == expected
    assert row_labels(report, frame) == expected
    assert row_labels(report, frame["a"]) == expected
    numbered = frame.set_axis([7, 5, 3, 1])
    assert row_labels(report, numbered) == [str([7, 5, 3, 1][i]) for i in report["index"]]
    with pytest.raises(ValueError, match="X has other row labels than the report"):
        row_labels(labelled, frame[::-1])
    pairs = pd.MultiIndex.from_product([["a", "b"], [1, 2]])
    assert row_labels(report.set_axis(pairs), None)[0] == "('a', 1)"


def test_what_a_page_says():
    report = make_report(["cat", "dog"], 5)
    review = review_of(report, 5, None, "none", {"cat": "Felis"})
    assert review["classes"] == [("cat", "Felis"), ("dog", "dog")]
    index, row, given, suggested, probability, layer, *rest = review["rows"][0]
    first = report.iloc[0]
    assert (index, row) == (first["index"], None)
    assert (["cat", "dog"][given], ["cat", "dog"][suggested]) == (
        *(first["given"], first["suggested"]),
    )
    assert (probability, layer) == (first["probability"], first["layer"])
    assert rest == [first["certainty"], first["flagged"], None]
    assert review["summary"].startswith("5 samples.")
    assert review_of(report, 2, None, "none", None)["summary"].startswith(
        "The first 2 of 5"
    )
    assert len(review_of(report, 2, None, "none", None)["rows"]) == 2


def test_columns_that_are_missing_are_not_known():
    report = make_report()[["index", "given", "suggested", "probability"]].copy()
    report.loc[0, "probability"] = np.nan
    assert review_of(report, 6, None, "none", None)["rows"][0][4:] == (None,) * 5
    assert review_of(report[:0], 0, None, "none", None)["rows"] == []


def test_pairs():
    check_pairs(["a", "b"], [1, 0], ["b", "a"])
    with pytest.raises(ValueError, match="y has 'a' at index 0, where the report has 'b'"):
        check_pairs(["a"], [0], ["b"])
    with pytest.raises(ValueError, match="y has no label at index 3"):
        check_pairs(["a"], [3], ["b"])


def test_files_have_names():
    report = make_report(n_samples=3)
    paths = [pathlib.Path("data") / "cat" / "1.png", "data/cat/2.png", "data/dog/1.png"]
    rows = review_of(report, 3, paths, "image", None)["rows"]
    names = ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert [row[-1] for row in rows] == [names[i] for i in report["index"]]
    assert review_of(report, 3, paths, "text", None)["rows"][0][-1] is None
    assert review_of(report, 3, np.zeros((3, 8, 8)), "image", None)["rows"][0][-1] is None

"""From a report to corrected labels: pages, decisions, and thresholds."""

import pathlib
import re
import types

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sknonlin import MemorizationDetector
from sknonlin._memorization.label_report import report_frame
from sknonlin.review import apply_review, corrected_labels, write_review
from tests._review.conftest import given_labels, make_report


def decisions_of(report, n=None):
    """Take the suggestions of the first rows, as the page writes them."""
    return pd.DataFrame(
        {
            "index": report["index"],
            "given": report["given"].map(str),
            "decision": "suggested",
            "label": report["suggested"].map(str),
        }
    ).head(n)


def expected_of(report, n):
    y = given_labels(report).copy()
    y[report["index"][:n]] = report["suggested"][:n]
    return y


# write_review ---------------------------------------------------------------------------


def test_pages_are_written_where_asked(tmp_path):
    report = make_report(n_samples=4)
    for path in (tmp_path / "a.html", str(tmp_path / "b.html")):
        written = write_review(report, path, list("wxyz"), title="Cats & <dogs>")
        assert written == pathlib.Path(path)
        page = written.read_text(encoding="utf-8")
        assert "<h1>Cats &amp; &lt;dogs&gt;</h1>" in page
        assert '"kind":"text"' in page
    short = write_review(report, tmp_path / "c.html", max_rows=2).read_text()
    assert "The first 2 of 4 samples" in short


def test_large_pages_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr("sknonlin.review.LARGE", 1000)
    with pytest.warns(UserWarning, match="Set a smaller max_rows= or thumbnail_size="):
        write_review(make_report(), tmp_path / "page.html")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"kind": "video"}, ValueError, "'kind' parameter"),
        ({"max_rows": 0}, ValueError, "'max_rows' parameter"),
        ({"X": list("ab")}, ValueError, "X has 2 samples"),
        ({"X": {"a": 1}}, TypeError, "X is a dict"),
        ({"class_names": ["a"]}, ValueError, "1 names for 2 labels"),
        ({"X": np.zeros((6, 4)), "feature_names": ["a"]}, ValueError, "1 names, but X"),
        ({"X": np.zeros((6, 4)), "kind": "audio"}, ValueError, "needs sampling_rate="),
    ],
)
def test_pages_that_are_refused(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        write_review(make_report(), tmp_path / "page.html", **settings)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.filterwarnings("ignore:The network fits")
def test_the_report_of_a_detector(tmp_path, digits):
    X, y = digits
    frame = pd.DataFrame(X[:120], index=[f"image {i}" for i in range(120)])
    names = np.array([f"digit {i}" for i in range(10)])[y[:120]]
    detector = MemorizationDetector(random_state=0).fit(frame, names)
    report = detector.label_report(frame, names)
    page = write_review(report, tmp_path / "page.html", frame, image_shape=(8, 8))
    assert re.search(r'"rows":\[\[\d+,"image \d+",', page.read_text(encoding="utf-8"))
    wrong = report["probability"] > 0.5
    expected = pd.Series(names.copy())
    expected[report["index"][wrong].tolist()] = report["suggested"][wrong].to_numpy()
    assert corrected_labels(report).tolist() == expected.tolist()


# apply_review ---------------------------------------------------------------------------

CONTAINERS = {
    "array": np.asarray,
    "list": list,
    "series": lambda y: pd.Series(y, index=range(100, 100 + len(y)), name="y"),
    "category": lambda y: pd.Series(y, dtype="category"),
    "categorical": pd.Categorical,
    "polars": pl.Series,
}


@pytest.mark.parametrize("labels", [["cat", "dog"], [3, 7], [0.5, 2.0], [True, False]])
@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("through", ["frame", "file"])
def test_decisions_go_into_labels(tmp_path, labels, kind, through):
    report = make_report(labels, 12).infer_objects()
    plain = np.array(given_labels(report).tolist())
    y = CONTAINERS[kind](plain.copy())
    decisions = decisions_of(report, 5)
    if through == "file":
        decisions.to_csv(tmp_path / "d.csv", index=False)
        decisions = tmp_path / "d.csv"
    found = apply_review(y, decisions)
    assert list(found) == expected_of(report, 5).tolist()
    assert list(y) == plain.tolist()
    if kind in ("list", "polars"):
        assert isinstance(found, np.ndarray)
    else:
        assert type(found) is type(y)
        assert found.dtype == y.dtype
    if kind == "series":
        assert (found.index.equals(y.index), found.name) == (True, "y")


def test_tensors_stay_tensors():
    report = make_report([0, 1], 6, seed=1)
    y = torch.tensor(given_labels(report).tolist())
    found = apply_review(y, decisions_of(report, 2))
    assert found.dtype == torch.int64
    assert found.tolist() == expected_of(report, 2).tolist()


def test_nothing_decided_changes_nothing(tmp_path):
    (tmp_path / "d.csv").write_text("index,given,decision,label\n0,a,skip,\n")
    assert apply_review(["a", "b"], tmp_path / "d.csv").tolist() == ["a", "b"]
    (tmp_path / "d.csv").write_text("index,given,decision,label\n")
    assert apply_review(["a", "b"], tmp_path / "d.csv").tolist() == ["a", "b"]


def decided(**columns):
    return pd.DataFrame({"index": [0], "given": ["a"], "label": ["b"]} | columns)


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        (decided(index=[7]), "indices that y does not have: 7; y has 3 labels"),
        (decided(label=["z"]), "the label 'z' is none of y's, a, b. Correct it, or set"),
        (decided(given=["b"]), "index 0 was 'b', but y has 'a' there. Give the labels"),
        (decided(given=["gone"]), "index 0 was 'gone', but y has 'a' there"),
        (decided(decision=["keep"]), "is 'keep', but the label 'b' is not the one given"),
        (decided().drop(columns="given"), "no column 'given'"),
    ],
)
def test_decisions_that_are_refused(decisions, message):
    with pytest.raises(ValueError, match=message):
        apply_review(["a", "b", "a"], decisions)


def test_several_decisions_on_a_sample():
    both = pd.concat([decided(), decided(label=["a"])])
    with pytest.raises(ValueError, match=r"two labels for index 0: 'b' \(row 0\) and 'a'"):
        apply_review(["a", "b"], both)
    same = pd.concat([decided(), decided(), decided(label=[None])])
    assert apply_review(["a", "b"], same).tolist() == ["b", "b"]


def test_decisions_are_not_applied_twice():
    corrected = apply_review(["a", "b"], decided())
    with pytest.raises(ValueError, match="before any correction"):
        apply_review(corrected, decided())


@pytest.mark.parametrize(
    ("y", "given", "label", "new"),
    [
        (["a", "b"], "a", "'=elephant", "=elephant"),
        ([1, 2], "1", "17", 17),
        ([1.0, 2.0], "1.0", "0.25", 0.25),
    ],
)
def test_new_labels_where_allowed(y, given, label, new):
    decisions = decided(given=[given], label=[label])
    with pytest.raises(ValueError, match="set allow_new=True"):
        apply_review(y, decisions)
    assert apply_review(y, decisions, allow_new=True).tolist() == [new, y[1]]
    series = apply_review(pd.Series(y, dtype="category"), decisions, allow_new=True)
    assert series.tolist() == [new, y[1]]


def test_new_labels_must_be_of_the_type_of_the_others():
    with pytest.raises(ValueError, match="'b' cannot become a label of y, whose labels"):
        apply_review([1, 2], decided(given=[1]), allow_new=True)
    with pytest.raises(ValueError, match="cannot become a label"):
        apply_review([True, False], decided(given=[True]), allow_new=True)
    y = np.array([1, 2], dtype=np.int8)
    with pytest.raises(ValueError, match="y has the dtype int8"):
        apply_review(y, decided(given=[1], label=["300"]), allow_new=True)


# corrected_labels -----------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_labels_above_the_threshold_are_replaced(threshold):
    report = make_report(["cat", "dog", "bird"], 20)
    n_replaced = int((report["probability"] > threshold).sum())
    expected = expected_of(report, n_replaced)
    assert corrected_labels(report, threshold).tolist() == expected.tolist()
    assert corrected_labels(report[::-1], threshold).tolist() == expected.tolist()
    y = pd.Series(given_labels(report), index=range(20, 40), name="y")
    found = corrected_labels(report.head(n_replaced + 1), threshold, y=y)
    pd.testing.assert_series_equal(found, pd.Series(expected, index=y.index, name="y"))


def test_unsure_suggestions_can_be_left_out():
    report = make_report(["cat", "dog"], 20)
    chosen = (report["probability"] > 0.5) & (report["certainty"] >= 0.6)
    y = given_labels(report)
    y[report["index"][chosen]] = report["suggested"][chosen]
    assert corrected_labels(report, min_certainty=0.6).tolist() == y.tolist()
    with pytest.raises(ValueError, match="needs the column 'certainty'"):
        corrected_labels(report.drop(columns="certainty"), min_certainty=0.6)


def test_labels_of_numbers_stay_numbers():
    report = make_report([3, 7], 10).infer_objects()
    assert corrected_labels(report).dtype == np.int64
    y = np.array(given_labels(report), dtype=np.int8)
    assert corrected_labels(report, y=y).dtype == np.int8


def test_reports_that_are_not_enough():
    report = make_report(n_samples=8)
    with pytest.raises(ValueError, match="report has 3 samples, but not all up to index"):
        corrected_labels(report.head(3))
    with pytest.raises(ValueError, match="'threshold' parameter"):
        corrected_labels(report, 2.0)
    with pytest.raises(ValueError, match="Give the labels that were in label_report"):
        corrected_labels(report, y=["other"] * 8)


# Both -----------------------------------------------------------------------------------

KEPT = {
    "array": (np.asarray, np.ndarray),
    "objects": (lambda y: np.array(y, dtype=object), np.ndarray),
    "list": (list, np.ndarray),
    "tuple": (tuple, np.ndarray),
    "polars": (pl.Series, np.ndarray),
    "series": (lambda y: pd.Series(y, index=range(9, 9 + len(y)), name="y"), pd.Series),
    "category": (lambda y: pd.Series(y, dtype="category"), pd.Series),
    "frame": (lambda y: pd.DataFrame({"y": y}), pd.DataFrame),
    "categorical": (pd.Categorical, pd.Categorical),
}


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("kind", KEPT)
def test_both_ways_return_labels_of_the_same_kind(kind):
    make, returned = KEPT[kind]
    report = make_report(["cat", "dog"], 12)
    n_wrong = int((report["probability"] > 0.5).sum())
    y = make(given_labels(report).tolist())
    reviewed = apply_review(y, decisions_of(report, n_wrong))
    corrected = corrected_labels(report, y=y)
    assert type(reviewed) is type(corrected) is returned
    expected = expected_of(report, n_wrong).tolist()
    for found in (reviewed, corrected):
        assert np.ravel(found).tolist() == expected
        if hasattr(y, "iloc"):
            assert found.index.equals(y.index)
        if kind not in ("list", "tuple", "polars", "frame"):
            assert found.dtype == y.dtype
    assert np.ravel(y).tolist() == given_labels(report).tolist()


def test_without_labels_an_array_is_returned():
    for labels, dtype in (
        (["cat", "dog"], "U3"),
        ([3, 7], np.int64),
        ([True, False], bool),
    ):
        found = corrected_labels(make_report(labels, 8).infer_objects())
        assert type(found) is np.ndarray
        assert found.dtype == dtype
    assert corrected_labels(make_report(n_samples=8).head(0)).tolist() == []


INDEXES = {
    "none": pd.RangeIndex(8),
    "numbers": pd.Index(range(30, 38)),
    "named index": pd.Index([f"row {i}" for i in range(8)], name="index"),
    "named given": pd.Index([f"row {i}" for i in range(8)], name="given"),
    "named": pd.Index([f"row {i}" for i in range(8)], name="tree"),
    "numerals": pd.Index([f"0{i}" for i in range(8)]),
    "dates": pd.date_range("2020-02-27", periods=8, name="day"),
    "levels": pd.MultiIndex.from_product([["a", "b"], range(4)], names=["site", "index"]),
    "unnamed levels": pd.MultiIndex.from_product([["a", "b"], list("wxyz")]),
}


@pytest.mark.parametrize("rows", INDEXES)
def test_reports_through_files_keep_their_places(tmp_path, rows):
    index = INDEXES[rows]
    y = np.array(["cat", "dog"] * 4)
    frame = pd.DataFrame({"size": range(8)}, index=index)
    scores = types.SimpleNamespace(
        score=np.linspace(-1, 1, 8),
        suggested=1 - np.arange(8) % 2,
        evidence=np.ones((8, 1)),
        certainty=np.ones(8),
    )
    classes = np.array(["cat", "dog"])
    report = report_frame(pd, frame, y, classes, scores, ["input"], 0.0)
    report.to_csv(tmp_path / "report.csv")
    again = pd.read_csv(tmp_path / "report.csv")
    assert again["index"].tolist() == report["index"].tolist() == list(range(7, -1, -1))
    expected = np.where(scores.score > 0, classes[scores.suggested], y).tolist()
    series = pd.Series(y, index=index)
    for found in (report, again):
        assert corrected_labels(found).tolist() == expected
        assert corrected_labels(found, y=series).tolist() == expected
        write_review(found, tmp_path / "page.html", frame)
    backwards = series[::-1]
    if rows not in ("none", "numbers"):  # numbers may be the places or labels
        found = corrected_labels(report, y=backwards)
        assert found[::-1].tolist() == expected
        decisions = decisions_of(report, 4).assign(row=[str(i) for i in report.index[:4]])
        decisions.to_csv(tmp_path / "decisions.csv", index=False)
        found = apply_review(backwards, tmp_path / "decisions.csv")
        assert found[::-1].tolist() == expected


@pytest.mark.parametrize("labels", [[1, True, 2, 0], [2**63 + 1, 0], ["a", "b"]])
def test_corrected_labels_without_y_are_those_of_the_report(labels):
    report = pd.DataFrame(
        {
            "index": range(len(labels)),
            "given": pd.Series(labels, dtype=object),
            "suggested": pd.Series(labels[::-1], dtype=object),
            "probability": 0.1,
        }
    )
    assert corrected_labels(report).tolist() == labels

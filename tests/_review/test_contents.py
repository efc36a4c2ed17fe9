"""What a reviewer sees of every sample."""

import numpy as np
import pandas as pd
import pytest

from sknonlin._review.contents import LETTERS, View, contents_of, texts_of
from tests._review.conftest import make_report


def seen(X, report, n_rows=None, **view):
    return contents_of(pd, X, report.head(n_rows or len(report)), report, View(**view))


def test_samples_come_in_the_order_of_the_report():
    report = make_report(n_samples=5)
    kind, contents = seen(list("vwxyz"), report, 3)
    assert kind == "text"
    assert contents == ["vwxyz"[i] for i in report["index"][:3]]
    assert seen(None, report) == ("none", [None] * 5)
    assert seen(list("vwxyz"), report[:0]) == ("none", [])


def test_token_ids_become_texts():
    report = make_report(n_samples=2)
    ids = np.array([[1, 2], [3, 4]])
    _, contents = seen(ids, report, decode=lambda row: "-".join(map(str, row)))
    assert contents == [["1-2", "3-4"][i] for i in report["index"]]
    with pytest.raises(TypeError, match="decode returned a int, not a str"):
        seen(ids, report, decode=len)
    with pytest.raises(TypeError, match=r"kind='text': X has a ndarray.*token ids"):
        seen(ids, report, kind="text")


def test_frames_of_texts():
    frame = pd.DataFrame({"text": ["a", "b"]})
    assert seen(frame, make_report(n_samples=2))[1] in (["a", "b"], ["b", "a"])


def test_kinds_with_their_settings():
    report = make_report(n_samples=4)
    X = np.random.default_rng(0).random((4, 64))
    kind, contents = seen(X, report, image_shape=(8, 8))
    assert kind == "image"
    assert contents[0].startswith("data:image/png;base64,")
    kind, contents = seen(X, report, sampling_rate=100)
    assert kind == "audio"
    assert contents[0].startswith("data:audio/wav;base64,")
    kind, contents = seen(X, report, n_features=3)
    assert kind == "table"
    assert [len(row) for row in contents] == [3] * 4
    assert seen(X, report, kind="image", image_shape=(4, 16))[0] == "image"


def test_usual_values_are_those_of_likely_labels():
    report = pd.DataFrame(
        {
            "index": range(6),
            "given": ["a", "a", "a", "b", "b", "c"],
            "suggested": ["b", "b", "b", "a", "a", "a"],
            "probability": [0.9, 0.9, 0.1, 0.1, 0.1, 0.9],
        }
    )
    X = np.array([[90.0], [90.0], [1.0], [5.0], [5.0], [7.0]])
    _, contents = seen(X, report)
    usual = {"a": "1", "b": "5", "c": "7"}
    for row, label, other in zip(
        contents, report["given"], report["suggested"], strict=True
    ):
        assert row[0][2:4] == [usual[label], usual[other]]


def test_very_long_texts_are_cut():
    (text,) = texts_of(["x" * (LETTERS + 7)], None)
    assert text == "x" * LETTERS + "… (7 more characters)"


def test_samples_that_are_too_few():
    with pytest.raises(ValueError, match="X has 3 samples, but the report has one at in"):
        seen(list("abc"), make_report(n_samples=5))

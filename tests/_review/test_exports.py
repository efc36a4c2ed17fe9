"""Label Studio's tasks and cleanlab's issues."""

import json

import numpy as np
import pandas as pd
import pytest

from sknonlin.review import apply_review, to_datalab, to_label_studio
from tests._review.conftest import HOSTILE, given_labels, make_report


def tasks_of(path):
    return json.loads(path.read_text())


def test_tasks_have_their_samples_and_predictions(tmp_path):
    report = make_report(["cat", HOSTILE], 5)
    texts = [f"text {i}" for i in range(5)]
    tasks = tasks_of(to_label_studio(report, tmp_path / "tasks.json", texts))
    assert len(tasks) == 5
    for task, row in zip(tasks, report.itertuples(), strict=True):
        assert task["data"] == {
            "index": row.index,
            "given": row.given,
            "suggested": row.suggested,
            "probability": row.probability,
            "text": f"text {row.index}",
        }
        (prediction,) = task["predictions"]
        assert prediction["score"] == row.probability
        (result,) = prediction["result"]
        assert result["value"] == {"choices": [row.suggested]}
        assert (result["from_name"], result["to_name"]) == ("label", "sample")


@pytest.mark.parametrize(
    ("X", "settings", "kind"),
    [
        (np.zeros((5, 8, 8)), {}, "image"),
        (np.zeros((5, 80)), {"sampling_rate": 8000}, "audio"),
        ([f"https://example.org/{i}.png" for i in range(5)], {}, "image"),
        ([f"sounds/{i}.flac" for i in range(5)], {}, "audio"),
        ([f"image-{i}" for i in range(5)], {"kind": "image"}, "image"),
        (pd.DataFrame({"a": range(5)}, index=list("pqrst")), {}, "table"),
        (None, {}, None),
    ],
)
def test_tasks_of_all_kinds(tmp_path, X, settings, kind):
    report = make_report([0, 1], 5)
    tasks = tasks_of(to_label_studio(report, tmp_path / "t.json", X, **settings))
    place = int(report["index"][0])
    data = tasks[0]["data"]
    if kind == "table":
        assert data["table"] == {"a": str(place)}
        assert data["row"] == "pqrst"[place]
    elif isinstance(X, list):
        assert data[kind] == X[place]
    elif kind:
        assert data[kind].startswith(f"data:{kind}/")
    else:
        assert set(data) == {"index", "given", "suggested", "probability"}
    assert data["given"] == str(report["given"][0])
    path = to_label_studio(report, tmp_path / "t.json", X, max_rows=2, **settings)
    assert tasks_of(path) == tasks[:2]


def test_exports_of_label_studio_go_back(tmp_path):
    report = make_report(["cat", "dog"], 4)
    tasks = tasks_of(to_label_studio(report, tmp_path / "tasks.json"))
    rows = [
        {"annotation_id": i, **task["data"], "label": task["data"]["suggested"], "id": i}
        for i, task in enumerate(tasks[:2])
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "project.csv", index=False)
    y = given_labels(report)
    expected = y.copy()
    expected[report["index"][:2]] = report["suggested"][:2]
    assert apply_review(y, tmp_path / "project.csv").tolist() == expected.tolist()


def lab_of(y):
    cleanlab = pytest.importorskip("cleanlab")
    pytest.importorskip("datasets", reason="cleanlab's Datalab needs it")
    return cleanlab.Datalab({"label": y}, label_name="label", verbosity=0)


@pytest.mark.filterwarnings("ignore")  # of packages that cleanlab imports
@pytest.mark.parametrize("labels", [["cat", "dog", "bird"], [0, 1, 2]])
def test_cleanlab_has_the_issues(labels, capsys):
    report = make_report(labels, 12)
    ordered = report.sort_values("index")
    lab = lab_of(given_labels(report).tolist())
    assert to_datalab(report, lab) is lab
    issues = lab.get_issues("memorized_label")
    np.testing.assert_array_equal(issues["is_memorized_label_issue"], ordered["flagged"])
    score = issues["memorized_label_score"]
    np.testing.assert_allclose(score, 1 - ordered["probability"])
    info = lab.get_info("memorized_label")
    np.testing.assert_array_equal(info["predicted_label"], ordered["suggested"])
    lab.report()
    assert "memorized_label issues" in capsys.readouterr().out
    to_datalab(report.drop(columns="flagged"), lab_of(given_labels(report).tolist()))


@pytest.mark.filterwarnings("ignore")
def test_what_cleanlab_cannot_take():
    report = make_report(["cat", "dog"], 12)
    y = given_labels(report).tolist()
    with pytest.raises(TypeError, match="lab is a list; give a cleanlab Datalab"):
        to_datalab(report, y)
    lab = lab_of(y)
    with pytest.raises(ValueError, match="report has 5 samples, and lab 12"):
        to_datalab(report.head(5), lab)
    other = lab_of(["dog" if label == "cat" else "cat" for label in y])
    with pytest.raises(ValueError, match=r"lab has the label '.*' at index 0, where"):
        to_datalab(report, other)

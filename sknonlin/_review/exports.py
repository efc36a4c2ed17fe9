"""The report in the forms that other tools take: Label Studio and cleanlab's Datalab."""

import functools
import json
from pathlib import Path

import numpy as np

from sknonlin._review import samples
from sknonlin._review.contents import contents_of
from sknonlin._review.report import column, labels_of, row_labels

ISSUE = "memorized_label"


def tasks_of(pd, rows, report, X, view):
    """Make Label Studio's tasks, with predictions.

    Parameters
    ----------
    pd : module
        pandas.
    rows, report : pandas.DataFrame
        The rows to write, and all there are.
    X : object or None
        Samples.
    view : View

    Returns
    -------
    tasks : list of dict
    """
    texts, given, suggested = labels_of(rows)
    names = row_labels(rows, X)
    kind, contents = linked(X, rows, view) or contents_of(pd, X, rows, report, view)
    tasks = []
    for i, probability in enumerate(column(rows, "probability", float)):
        data = {
            "index": int(rows["index"].iloc[i]),
            **({} if names is None else {"row": names[i]}),
            "given": texts.texts[given[i]],
            "suggested": texts.texts[suggested[i]],
            "probability": probability,
        }
        if kind != "none":
            data[kind] = contents[i]
        if kind == "table":
            data[kind] = {name: value for name, value, *_ in contents[i]}
        result = {
            "from_name": "label",
            "to_name": "sample",
            "type": "choices",
            "value": {"choices": [data["suggested"]]},
        }
        prediction = {"model_version": "sknonlin", "result": [result]}
        if probability is not None:
            prediction["score"] = probability
        tasks.append({"data": data, "predictions": [prediction]})
    return tasks


def linked(X, rows, view):
    """Hand on names and addresses of files; None where samples are no files."""
    if X is None or not len(rows) or hasattr(X, "columns") or view.decode is not None:
        return None
    shown = samples.take(X, rows["index"].tolist())
    family = samples.media_type(shown[0]).partition("/")[0]
    kind = family if view.kind == "auto" else view.kind
    if not isinstance(shown[0], str | Path) or kind not in ("image", "audio"):
        return None
    return kind, [str(path) for path in shown]


def write_json(path, tasks):
    """Write tasks to a file."""
    path.write_text(json.dumps(tasks, ensure_ascii=True, indent=1), encoding="utf-8")


def add_to_datalab(report, lab):
    """Let a Datalab find the issues that a report has.

    Raises
    ------
    TypeError
        If it is no Datalab.
    ValueError
        If the report is not of its samples.
    """
    if not (hasattr(lab, "find_issues") and hasattr(lab, "get_issues")):
        raise TypeError(
            f"lab is a {type(lab).__name__}; give a cleanlab Datalab of the same data, "
            "Datalab(data, label_name=...)."
        )
    report = report.sort_values("index")
    n_samples = len(lab.labels)
    if report["index"].tolist() != list(range(n_samples)):
        raise ValueError(
            f"report has {len(report)} samples, and lab {n_samples}. Give the whole report "
            "of the data that lab was made with."
        )
    labels = [lab.class_names[code] for code in lab.labels]
    for i, (label, given) in enumerate(zip(labels, report["given"].tolist(), strict=True)):
        if str(label) != str(given):
            raise ValueError(
                f"lab has the label {str(label)!r} at index {i}, where the report has "
                f"{str(given)!r}. Make both of the same labels, in the same order."
            )
    manager()
    lab.find_issues(issue_types={ISSUE: {"report": report}})
    return lab


@functools.cache
def manager():
    """Register an issue manager with cleanlab, once."""
    from cleanlab.datalab.internal.issue_manager import IssueManager
    from cleanlab.datalab.internal.issue_manager_factory import register

    class MemorizedLabelIssueManager(IssueManager):
        """Labels that a network memorized, as a report has them."""

        description = (
            "Labels that the network had to memorize, because nothing else in their class "
            "looks alike: wrong ones, mostly."
        )
        issue_name = ISSUE

        def find_issues(self, report, **_):
            """Take issues from a report in the order of the data."""
            import pandas as pd

            right = 1 - report["probability"].to_numpy(float)
            flagged = report.get("flagged", report["probability"] > 0.5)
            self.issues = pd.DataFrame(
                {
                    f"is_{ISSUE}_issue": flagged.to_numpy(bool),
                    f"{ISSUE}_score": np.clip(right, 0, 1),
                }
            )
            self.summary = self.make_summary(float(self.issues[f"{ISSUE}_score"].mean()))
            self.info = {
                "given_label": report["given"].to_numpy(),
                "predicted_label": report["suggested"].to_numpy(),
            }

    return register(MemorizedLabelIssueManager)

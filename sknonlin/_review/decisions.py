"""Decisions of a review: read from a file or a frame, and checked against the labels."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sknonlin._review.labels import is_blank, some, text_of_cell

REQUIRED = ("index", "given", "label")
DECISIONS = ("keep", "suggested", "other", "skip")


@dataclass(frozen=True)
class Decision:
    """One row of a file of decisions."""

    place: str  # where it is written, for errors
    index: int
    given: Any
    label: Any  # None where it was skipped
    is_kept: bool = False
    row: Any = None  # label of the row in the reviewed frame


def read_decisions(decisions):
    """Read the decisions of a review.

    Parameters
    ----------
    decisions : str, path or frame
        A file of comma-, semicolon- or tab-separated values, or its rows.

    Returns
    -------
    decisions : list of Decision

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If columns are missing, or a row contradicts itself.
    """
    if hasattr(decisions, "to_pandas"):
        decisions = decisions.to_pandas()
    if hasattr(decisions, "to_dict"):
        columns, rows = list(decisions.columns), decisions.to_dict("records")
        places = [f"row {i}" for i in range(len(rows))]
    elif isinstance(decisions, str | Path):
        columns, rows, places = read_file(Path(decisions))
    else:
        raise TypeError(
            f"decisions is a {type(decisions).__name__}; give the path of the CSV file "
            "that the review page saved, or a pandas frame of it."
        )
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ValueError(
            f"decisions has no column {some(map(repr, missing))}; it has {columns}. Give "
            "the file that the review page saved, with all its columns."
        )
    return [parsed(row, place) for row, place in zip(rows, places, strict=True)]


def read_file(path):
    """Read a file as the names of its columns, its rows and where they are.

    Raises
    ------
    ValueError
        If it is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=header.count)
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            rows = []
            places = []
            for row in reader:
                rows.append(row)
                places.append(f"line {reader.line_num}")
            return list(reader.fieldnames or []), rows, places
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 ({error.reason}). Save it in the spreadsheet program as "
            "'CSV UTF-8'."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}.") from error


def parsed(row, place):
    """Make a decision of a row.

    Raises
    ------
    ValueError
        If its index is no whole number, or its parts contradict each other.
    """
    index, given, label = (row[name] for name in REQUIRED)
    try:
        whole = int(float(index))
        if whole != float(index):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"decisions, {place}: the index {index!r} is not a whole number."
        ) from None
    decision = row.get("decision")
    decision = None if is_blank(decision) else str(decision)
    if decision not in (*DECISIONS, None):
        raise ValueError(
            f"decisions, {place}: the decision {decision!r} is none of {DECISIONS}."
        )
    label = None if is_blank(label) else label
    if decision == "skip":
        label = None
    elif decision is not None and label is None:
        raise ValueError(
            f"decisions, {place}: the label is empty, but the decision is {decision!r}. "
            "Write a label, or 'skip'."
        )
    name = row.get("row")
    name = None if is_blank(name) else str(name)
    return Decision(place, whole, given, label, decision == "keep", name)


def places_in(y_index, n_samples, decisions):
    """Find the positions that decisions are of.

    Parameters
    ----------
    y_index : pandas.Index or None
        Of the labels, where they have one.
    n_samples : int
    decisions : list of Decision

    Returns
    -------
    positions : list of int
        By the labels of rows where y is in another order than it was in the review.

    Raises
    ------
    ValueError
        If there are no such rows.
    """
    named = [decision for decision in decisions if decision.row is not None]
    if y_index is None or len(named) < len(decisions) or not named:
        positions = [decision.index for decision in decisions]
        unknown = sorted({i for i in positions if not 0 <= i < n_samples})
        if unknown:
            raise ValueError(
                f"decisions has indices that y does not have: {some(unknown)}; y has "
                f"{n_samples} labels. Give the labels that were in the report."
            )
        return positions
    texts = [str(label) for label in y_index]
    rows = [text_of_cell(decision.row) for decision in decisions]
    if all(
        decision.index < n_samples and texts[decision.index] == row
        for decision, row in zip(decisions, rows, strict=True)
    ):
        return [decision.index for decision in decisions]
    by_text = {text: i for i, text in enumerate(texts)}
    unknown = [row for row in rows if row not in by_text]
    if unknown or len(by_text) < len(texts):
        what = f"no rows {some(unknown)}" if unknown else "several rows of one label"
        raise ValueError(
            f"y has {what} in its index, by which decisions names its rows. Give the "
            "labels that were in the report, or decisions without the column 'row' to go "
            "by position."
        )
    return [by_text[row] for row in rows]


def check_given(texts, labels, positions, decisions):
    """Refuse decisions on other labels than these.

    Parameters
    ----------
    texts : LabelTexts
        Of the labels.
    labels : list
    positions : list of int
    decisions : list of Decision

    Raises
    ------
    ValueError
        If a label differs from the one that was given in the review.
    """
    for i, decision in zip(positions, decisions, strict=True):
        try:
            same = texts.label(decision.given) == labels[i]
        except KeyError:
            same = False
        if not same:
            raise ValueError(
                f"decisions, {decision.place}: the label given at index {decision.index} "
                f"was {decision.given!r}, but y has {labels[i]!r} there. Give the labels "
                "that were reviewed, in the same order and before any correction."
            )


def resolved(texts, labels, positions, decisions, *, allow_new):
    """Find the new label of every position.

    Parameters
    ----------
    texts : LabelTexts
    labels : list
        Those given.
    positions : list of int
        Of the decisions.
    decisions : list of Decision
    allow_new : bool
        Whether labels may be new.

    Returns
    -------
    new : dict of label by position

    Raises
    ------
    ValueError
        If a label is unknown, contradicts its decision, or two decisions on a sample
        differ.
    """
    new, first = {}, {}
    for i, decision in zip(positions, decisions, strict=True):
        if decision.label is None:
            continue
        label = label_of(texts, decision, allow_new)
        if decision.is_kept and label != labels[i]:
            raise ValueError(
                f"decisions, {decision.place}: the decision is 'keep', but the label "
                f"{label!r} is not the one given, {labels[i]!r}. Write 'other' to change "
                "the label."
            )
        if i in new and new[i] != label:
            raise ValueError(
                f"decisions has two labels for index {decision.index}: {new[i]!r} "
                f"({first[i]}) and {label!r} ({decision.place}). Keep one of these rows."
            )
        new[i] = label
        first.setdefault(i, decision.place)
    return new


def label_of(texts, decision, allow_new):
    """Find the label that a decision names.

    Raises
    ------
    ValueError
        If it is none of the known ones, and may not be new.
    """
    try:
        return texts.label(decision.label)
    except KeyError:
        pass
    if not allow_new:
        raise ValueError(
            f"decisions, {decision.place}: the label {decision.label!r} is none of y's, "
            f"{some(texts.texts)}. Correct it, or set allow_new=True."
        )
    try:
        return texts.new_label(decision.label)
    except ValueError as error:
        raise ValueError(
            f"decisions, {decision.place}: {decision.label!r} cannot become a label of y, "
            f"whose labels are {some(map(repr, texts.texts))}: {error}."
        ) from error

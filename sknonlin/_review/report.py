"""The report of labels, as the review takes it."""

import numpy as np

from sknonlin._review.labels import LabelTexts, names_of, plain, some
from sknonlin._review.samples import file_names

REQUIRED = ("index", "given", "suggested", "probability")


def check_report(report):
    """Refuse what is not a report of labels.

    Parameters
    ----------
    report : pandas.DataFrame
        As ``MemorizationDetector.label_report`` returns it, or some of its rows.

    Returns
    -------
    report : pandas.DataFrame

    Raises
    ------
    TypeError
        If it is no frame.
    ValueError
        If it has no such columns, or a sample twice.
    """
    if not (hasattr(report, "iloc") and hasattr(report, "columns")):
        raise TypeError(
            f"report is a {type(report).__name__}; it must be the frame that "
            "MemorizationDetector.label_report returns."
        )
    missing = [name for name in REQUIRED if name not in report.columns]
    if missing:
        raise ValueError(
            f"report has no column {some(map(repr, missing))}; it has "
            f"{list(report.columns)}. Give the frame that label_report returns."
        )
    index = report["index"]
    if index.dtype.kind not in "iu" or (len(index) and index.min() < 0):
        raise ValueError("report['index'] must hold the places of samples, from 0.")
    if index.duplicated().any():
        twice = index[index.duplicated()].unique().tolist()
        raise ValueError(f"report has samples twice: {some(twice)}. Drop the duplicates.")
    return report


def labels_of(report):
    """Return the texts of the labels, those given and those suggested.

    Returns
    -------
    texts : LabelTexts
    given, suggested : list
    """
    if not len(report):
        return LabelTexts([]), [], []
    given = plain(report["given"])
    suggested = plain(report["suggested"])
    return LabelTexts(given + suggested), given, suggested


def has_row_labels(report):
    """Whether the rows of a report have labels that are no numbers."""
    return report.index.dtype.kind not in "iu" or report.index.nlevels > 1


def row_labels(report, X):
    """Labels of the rows of a report, where they tell more than their places do.

    Parameters
    ----------
    report : pandas.DataFrame
    X : object
        The samples shown. A pandas frame or Series hands on its index.

    Returns
    -------
    labels : list of str or None

    Raises
    ------
    ValueError
        If the samples are labelled otherwise than the report.
    """
    own = has_row_labels(report)
    if not hasattr(X, "iloc"):
        return [str(label) for label in report.index] if own else None
    places = report["index"].to_numpy()
    if not own and X.index.equals(X.reset_index(drop=True).index):
        return None
    labels = [str(label) for label in X.index[places]]
    if own and labels != [str(label) for label in report.index]:
        raise ValueError(
            "X has other row labels than the report at the same places. Give the samples "
            "that were in label_report, in the same order."
        )
    return labels


def places_of(report, y):
    """Find the places of a report's samples among labels.

    Parameters
    ----------
    report : pandas.DataFrame
    y : object
        The labels. A pandas Series or frame may have the row labels of the report.

    Returns
    -------
    places : list of int
        By these row labels, where y has all of them, and else as the report has them.
    """
    places = report["index"].tolist()
    named = hasattr(y, "iloc") and has_row_labels(report)
    named = named and y.index.is_unique and report.index.is_unique
    found = y.index.get_indexer(report.index) if named else np.array([-1])
    return places if (found < 0).any() else found.tolist()


def check_pairs(labels, positions, given):
    """Refuse labels that are not those of a report.

    Raises
    ------
    ValueError
        If they differ.
    """
    for i, label in zip(positions, given, strict=True):
        if i >= len(labels) or labels[i] != label:
            found = f"{labels[i]!r}" if i < len(labels) else "no label"
            raise ValueError(
                f"y has {found} at index {i}, where the report has {label!r} as given. "
                "Give the labels that were in label_report, in the same order."
            )


def column(report, name, convert):
    """Read a column that need not be there; None stands for what is not known."""
    if name not in report.columns:
        return [None] * len(report)
    values = report[name].tolist()
    return [
        None if isinstance(v, float) and not np.isfinite(v) else convert(v) for v in values
    ]


def review_of(report, n_rows, X, kind, class_names):
    """Prepare what a page says of its rows.

    Parameters
    ----------
    report : pandas.DataFrame
    n_rows : int
        Of the page, the first ones.
    X : object
        The samples shown.
    kind : str
        What they are.
    class_names : list of str, dict or None

    Returns
    -------
    review : dict
        ``summary``; ``classes``, pairs of text and name; ``rows``, of each the index, the
        label of the row, given, suggested, probability, layer, certainty, flag and
        file.
    """
    texts, given, suggested = labels_of(report)
    rows = report.head(n_rows)
    is_file = kind in ("image", "audio")
    files = file_names(X, rows["index"].tolist()) if is_file else None
    code = {label: i for i, label in enumerate(texts.texts)}
    shown = zip(
        rows["index"].tolist(),
        row_labels(rows, X) or [None] * n_rows,
        [code[label] for label in given[:n_rows]],
        [code[label] for label in suggested[:n_rows]],
        column(rows, "probability", float),
        column(rows, "layer", str),
        column(rows, "certainty", float),
        column(rows, "flagged", bool),
        files or [None] * n_rows,
        strict=True,
    )
    names = names_of(texts.texts, class_names)
    part = "" if n_rows == len(report) else f"The first {n_rows:,} of "
    return {
        "summary": f"{part}{len(report):,} samples. The button Help says how to review.",
        "classes": list(zip(texts.texts.values(), names, strict=True)),
        "rows": list(shown),
    }

"""From suspicious labels to corrected ones: a page to review them on, and back again.

:func:`write_review` makes one HTML file of a report of labels. Somebody opens it in a
browser, decides, and saves the decisions as a CSV file. :func:`apply_review` puts them into
the labels. :func:`corrected_labels` does without a review, and :func:`to_label_studio` and
:func:`to_datalab` hand the report to other tools.
"""

import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import Interval, StrOptions

from sknonlin._review import decisions as review_decisions
from sknonlin._review import exports
from sknonlin._review.contents import View, contents_of
from sknonlin._review.labels import LabelTexts, labels_as_given, plain, replaced
from sknonlin._review.page import page_of
from sknonlin._review.report import check_pairs, check_report, places_of, review_of
from sknonlin._review.samples import KINDS
from sknonlin._running.validation import validated, warn_user

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "apply_review",
    "corrected_labels",
    "to_datalab",
    "to_label_studio",
    "write_review",
]
LARGE = 100 * 2**20  # bytes of a page that opens slowly
COUNT = Interval(Integral, 1, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="both")
VIEW = {
    "path": [str, os.PathLike],
    "kind": [StrOptions({"auto", *KINDS})],
    "feature_names": ["array-like", None],
    "n_features": [COUNT],
    "image_shape": [tuple, list, None],
    "thumbnail_size": [COUNT],
    "sampling_rate": [Interval(Real, 0, None, closed="neither"), None],
    "decode": [callable, None],
    "max_rows": [COUNT, None],
}


@validated({**VIEW, "class_names": ["array-like", Mapping, None], "title": [str]})
def write_review(
    report: "pd.DataFrame",
    path: str | os.PathLike,
    X: Any = None,
    *,
    kind: str = "auto",
    class_names: Any = None,
    title: str = "Labels to review",
    max_rows: int | None = 2000,
    image_shape: Any = None,
    thumbnail_size: int = 160,
    feature_names: ArrayLike | None = None,
    n_features: int = 6,
    sampling_rate: float | None = None,
    decode: Callable | None = None,
) -> Path:
    """Write a page on which somebody reviews labels, in a browser and without Python.

    The page is one HTML file. It needs no network and sends nothing. It keeps the
    decisions in the browser, and saves them as a CSV file for :func:`apply_review`.

    Parameters
    ----------
    report : pandas.DataFrame
        The frame of :meth:`MemorizationDetector.label_report`. Give all of it: what is
        usual in a class is learned from all its rows.
    path : str or path
        File to write, such as ``"review.html"``; an older one is replaced.
    X : array, tensor, frame, list or Dataset of n_samples, default=None
        What the reviewer sees: the same samples as in the report, in the same order. It can
        be what went into the network, or better what a person can read: the pictures
        before they were scaled, the texts, the frame. None shows labels alone.
    kind : {"auto", "image", "table", "text", "audio"}, default="auto"
        What X is. ``"auto"`` takes texts as texts, names of image and audio files as their
        contents, samples with two or three axes as images, and flat ones as rows of a
        table; ``decode``, ``image_shape`` and ``sampling_rate`` decide for their kind.
    class_names : array-like or dict, default=None
        Names of the labels, by label, or one for each in sorted order.
    title : str, default="Labels to review"
        Of the page.
    max_rows : int, default=2000
        Rows of the page, the first ones of the report; None for all.
    image_shape : tuple of int, default=None
        Shape of flat images: (h, w), (c, h, w) or (h, w, c).
    thumbnail_size : int, default=160
        Longest side of the thumbnails, in pixels.
    feature_names : array-like of str, default=None
        Names of the columns of a table; None: those of the frame, or numbers.
    n_features : int, default=6
        Columns of a table that are shown of a row: those in which it is most unlike the
        given class and the suggested one together.
    sampling_rate : float, default=None
        Samples of a signal in a second; needed for sounds that are no files.
    decode : callable, default=None
        Makes a text of a sample of token ids, as a tokenizer's ``decode`` does.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    TypeError
        If the report is no frame, or X nothing that can be shown.
    ValueError
        If the report lacks columns, or X does not fit it.
    ImportError
        If images are shown and Pillow is missing.

    See Also
    --------
    apply_review : Put the decisions into the labels.

    Notes
    -----
    Images have 1, 3 or 4 channels, first or last; where both orders fit, channels come
    first. Bytes are shown as they are. Floats in [0, 1], and values whose largest is
    between 128 and 255, are shown in that range. All others are stretched from the
    lowest to the highest value of the first 200 images.

    Examples
    --------
    >>> import pandas as pd
    >>> from sknonlin.review import write_review
    >>> report = pd.DataFrame(
    ...     {"index": [1, 0], "given": ["cat", "dog"], "suggested": ["dog", "dog"],
    ...      "probability": [0.9, 0.1]}
    ... )
    >>> texts = ["it barks", "it barks loudly"]
    >>> write_review(report, "review.html", texts).name  # doctest: +SKIP
    'review.html'
    """
    pd = check_pandas_support("write_review")
    view = View(
        kind=kind,
        image_shape=image_shape,
        thumbnail_size=thumbnail_size,
        sampling_rate=sampling_rate,
        decode=decode,
        feature_names=feature_names,
        n_features=n_features,
    )
    report = check_report(report)
    rows = report.head(len(report) if max_rows is None else max_rows)
    kind, contents = contents_of(pd, X, rows, report, view)
    path = Path(path)
    about = {"title": title, "name": path.stem, "kind": kind}
    page = page_of(about | review_of(report, len(rows), X, kind, class_names), contents)
    path.write_text(page, encoding="utf-8")
    if len(page) > LARGE:
        warn_user(
            f"{path} has {len(page) >> 20} MiB, and opens slowly. Set a smaller max_rows= "
            "or thumbnail_size=."
        )
    return path


@validated({"allow_new": ["boolean"]})
def apply_review(y: ArrayLike, decisions: Any, *, allow_new: bool = False) -> Any:
    """Put the decisions of a review into the labels.

    Parameters
    ----------
    y : array-like, Series or tensor of shape (n_samples,)
        The labels that were in the report, uncorrected. A Series that has the row labels
        of the review may be in another order.
    decisions : str, path or pandas.DataFrame
        The CSV file that the page saved, or a frame of its columns: ``index``, ``given``
        and ``label``, and if there are any ``decision`` and ``row``. Other columns are not
        read. A file from a spreadsheet may be separated by semicolons. An empty label
        means no decision.
    allow_new : bool, default=False
        Whether labels may be none of those in y.

    Returns
    -------
    y : Series, DataFrame, Categorical, tensor or ndarray of shape (n_samples,)
        A copy with the new labels. A Series, a frame of one column, a Categorical and a
        tensor stay what they are, with index, name and dtype. All else, such as a list,
        becomes an array.

    Raises
    ------
    TypeError
        If decisions is neither a path nor a frame.
    ValueError
        If the file lacks columns, names samples that y does not have, has two labels for
        one sample or labels that y does not have, or if the labels that were given are not
        those of y: then the file is of other data, or its decisions are in y already.

    See Also
    --------
    write_review : Make the page.
    corrected_labels : Correct labels without a review.

    Examples
    --------
    >>> import pandas as pd
    >>> from sknonlin.review import apply_review
    >>> decisions = pd.DataFrame(
    ...     {"index": [1], "given": ["cat"], "decision": ["suggested"], "label": ["dog"]}
    ... )
    >>> apply_review(["dog", "cat", "cat"], decisions).tolist()
    ['dog', 'dog', 'cat']
    """
    labels = plain(y)
    found = review_decisions.read_decisions(decisions)
    texts = LabelTexts(labels)
    index = getattr(y, "index", None) if hasattr(y, "iloc") else None
    positions = review_decisions.places_in(index, len(labels), found)
    review_decisions.check_given(texts, labels, positions, found)
    new = review_decisions.resolved(texts, labels, positions, found, allow_new=allow_new)
    return replaced(y, list(new), list(new.values()))


@validated({"threshold": [SHARE], "min_certainty": [SHARE]})
def corrected_labels(
    report: "pd.DataFrame",
    threshold: float = 0.5,
    *,
    min_certainty: float = 0.0,
    y: ArrayLike | None = None,
) -> Any:
    """Take the suggested labels where the given ones are probably wrong.

    Parameters
    ----------
    report : pandas.DataFrame
        The frame of :meth:`MemorizationDetector.label_report`.
    threshold : float, default=0.5
        Labels that are wrong with a higher probability are replaced.
    min_certainty : float, default=0
        Only by suggestions that are at least as sure, in [0, 1].
    y : array-like, Series or tensor of shape (n_samples,), default=None
        The labels given. They are needed where the report has only some of the samples.
        A Series that has the row labels of the report may be in another order.

    Returns
    -------
    y : Series, DataFrame, Categorical, tensor or ndarray of shape (n_samples,)
        The labels in the order of the data, not of the report: a copy of y of the same
        kind, as :func:`apply_review` returns it, and an array where y is None.

    Raises
    ------
    TypeError
        If the report is no frame.
    ValueError
        If it lacks columns, or some samples and there is no y, or y has other labels.

    See Also
    --------
    apply_review : Let a person decide.

    Examples
    --------
    >>> import pandas as pd
    >>> from sknonlin.review import corrected_labels
    >>> report = pd.DataFrame(
    ...     {"index": [1, 0], "given": ["cat", "dog"], "suggested": ["dog", "cat"],
    ...      "probability": [0.9, 0.1]}
    ... )
    >>> corrected_labels(report).tolist()
    ['dog', 'dog']
    """
    report = check_report(report)
    if y is None:
        report = report.sort_values("index")
        if report["index"].tolist() != list(range(len(report))):
            raise ValueError(
                f"report has {len(report)} samples, but not all up to index "
                f"{report['index'].max()}. Give the whole report, or the labels as y=."
            )
        y = labels_as_given(report["given"].tolist())
    report = report.assign(index=places_of(report, y))
    positions = report["index"].tolist()
    check_pairs(plain(y), positions, plain(report["given"]) if len(report) else [])
    chosen = report["probability"] > threshold
    if min_certainty > 0:
        if "certainty" not in report.columns:
            raise ValueError("min_certainty= needs the column 'certainty' of the report.")
        chosen &= report["certainty"] >= min_certainty
    chosen = report[chosen]
    return replaced(y, chosen["index"].tolist(), chosen["suggested"].tolist())


@validated(VIEW)
def to_label_studio(
    report: "pd.DataFrame",
    path: str | os.PathLike,
    X: Any = None,
    *,
    kind: str = "auto",
    max_rows: int | None = 2000,
    image_shape: Any = None,
    thumbnail_size: int = 640,
    feature_names: ArrayLike | None = None,
    n_features: int = 6,
    sampling_rate: float | None = None,
    decode: Callable | None = None,
) -> Path:
    """Write the report as Label Studio's tasks, with the suggestions as predictions.

    A task has the data ``index``, ``given``, ``suggested``, ``probability`` and, of X,
    ``image``, ``audio``, ``text`` or ``table``. Its prediction is of a control ``label``
    on an object ``sample``. A CSV export from Label Studio goes into :func:`apply_review`.

    :func:`write_review` describes the parameters from ``kind`` on: both functions show
    samples alike.

    Parameters
    ----------
    report : pandas.DataFrame
        The frame of :meth:`MemorizationDetector.label_report`.
    path : str or path
        File to write, such as ``"tasks.json"``.
    X : array, tensor, frame, list or Dataset of n_samples, default=None
        What is labelled. Names and addresses of image or audio files are handed on as
        they are.
    kind : {"auto", "image", "table", "text", "audio"}, default="auto"
        What X is.
    max_rows : int, default=2000
        Tasks, of the first rows of the report; None for all.
    image_shape : tuple of int, default=None
        Shape of flat images.
    thumbnail_size : int, default=640
        Longest side of images that are no files, in pixels.
    feature_names : array-like of str, default=None
        Names of the columns of a table.
    n_features : int, default=6
        Columns of a table that are shown.
    sampling_rate : float, default=None
        Samples of a signal in a second.
    decode : callable, default=None
        Makes a text of a sample of token ids.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    TypeError
        If the report is no frame, or X nothing that can be shown.
    ValueError
        If the report lacks columns, or X does not fit it.

    See Also
    --------
    write_review : A page that needs no server.
    """
    pd = check_pandas_support("to_label_studio")
    report = check_report(report)
    rows = report.head(len(report) if max_rows is None else max_rows)
    view = View(
        kind=kind,
        image_shape=image_shape,
        thumbnail_size=thumbnail_size,
        sampling_rate=sampling_rate,
        decode=decode,
        feature_names=feature_names,
        n_features=n_features,
    )
    tasks = exports.tasks_of(pd, rows, report, X, view)
    path = Path(path)
    exports.write_json(path, tasks)
    return path


def to_datalab(report: "pd.DataFrame", lab: Any) -> Any:
    """Add what a report says to cleanlab's Datalab, as issues of its own kind.

    Parameters
    ----------
    report : pandas.DataFrame
        The frame of :meth:`MemorizationDetector.label_report`, of all samples of ``lab``.
    lab : cleanlab.Datalab
        Of the same data. Other issues that it has found stay.

    Returns
    -------
    lab : cleanlab.Datalab
        The same, with issues ``"memorized_label"``: flagged labels, scored by the
        probability that they are right. ``lab.get_info("memorized_label")`` has
        ``given_label`` and ``predicted_label``.

    Raises
    ------
    TypeError
        If the report is no frame, or lab no Datalab.
    ValueError
        If the report is not of all samples of ``lab``.

    Examples
    --------
    >>> from cleanlab import Datalab  # doctest: +SKIP
    >>> lab = Datalab({"label": y}, label_name="label")  # doctest: +SKIP
    >>> to_datalab(report, lab).get_issues("memorized_label")  # doctest: +SKIP
    """
    check_pandas_support("to_datalab")
    return exports.add_to_datalab(check_report(report), lab)

"""What a reviewer sees of every sample, by its kind."""

from dataclasses import dataclass
from typing import Any

from sknonlin._review import images, samples, sounds, tables

LETTERS = 5000  # of a text


@dataclass(frozen=True)
class View:
    """How samples are shown: the parameters that belong to one kind each."""

    kind: str = "auto"
    image_shape: Any = None
    thumbnail_size: int = 160
    sampling_rate: float | None = None
    decode: Any = None
    feature_names: Any = None
    n_features: int = 6


def contents_of(pd, X, rows, report, view):
    """Prepare samples to be looked at.

    Parameters
    ----------
    pd : module
        pandas.
    X : object or None
        All samples.
    rows, report : pandas.DataFrame
        The rows to show, and all there are.
    view : View

    Returns
    -------
    kind : str
        One of "image", "table", "text", "audio" and, without X, "none".
    contents : list
        Data URIs, texts or, for tables, lists of columns.
    """
    if X is None or not len(rows):
        return "none", [None] * len(rows)
    positions = rows["index"].tolist()
    n_samples = samples.n_samples_of(X)
    last = int(report["index"].max())
    if last >= n_samples:
        raise ValueError(
            f"X has {n_samples} samples, but the report has one at index {last}. Give all "
            "samples that were in label_report, in the same order."
        )
    kind = view.kind
    if kind == "auto":
        kind = samples.kind_of(
            X,
            image_shape=view.image_shape,
            sampling_rate=view.sampling_rate,
            decode=view.decode,
        )
    if kind == "table":
        return kind, table_contents(pd, X, rows, report, view)
    shown = samples.take(X, positions)
    if kind == "image":
        return kind, images.thumbnails(shown, view.thumbnail_size, view.image_shape)
    if kind == "audio":
        return kind, sounds.players(shown, view.sampling_rate)
    return kind, texts_of(shown, view.decode)


def table_contents(pd, X, rows, report, view):
    """Choose columns of rows; what is usual comes from labels that are likely right."""
    frame = tables.as_frame(pd, X, view.feature_names)
    classes = report["index"].groupby(report["given"].to_numpy()).agg(list).to_dict()
    likely = report[report["probability"].to_numpy() <= 0.5]
    classes |= likely["index"].groupby(likely["given"].to_numpy()).agg(list).to_dict()
    return tables.rows_of_table(
        frame,
        rows["index"].tolist(),
        rows["given"].tolist(),
        rows["suggested"].tolist(),
        classes,
        view.n_features,
    )


def texts_of(shown, decode):
    """Return samples as texts.

    Raises
    ------
    TypeError
        If they are not.
    """
    texts = shown if decode is None else [decode(sample) for sample in shown]
    # The row of a frame with one column is an array.
    texts = [t[0] if getattr(t, "shape", None) == (1,) else t for t in texts]
    for text in texts:
        if not isinstance(text, str):
            what = "X has" if decode is None else "decode returned"
            raise TypeError(
                f"kind='text': {what} a {type(text).__name__}, not a str. Give a list of "
                "texts, or token ids with decode=, such as tokenizer.decode."
            )
    return [shortened(text) for text in texts]


def shortened(text):
    """Cut a very long text, and say so."""
    if len(text) <= LETTERS:
        return text
    return f"{text[:LETTERS]}… ({len(text) - LETTERS} more characters)"

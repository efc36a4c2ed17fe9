"""Labels as texts, on pages and in files, and back again."""

import numpy as np

from sknonlin._running.validation import as_labels

MANY = 5  # of examples in an error


def plain(labels):
    """Labels as a list of Python's own values, checked."""
    checked = as_labels(labels).tolist()
    is_series = hasattr(labels, "iloc") and hasattr(labels, "cat")  # of pandas
    is_categorical = is_series or hasattr(labels, "add_categories")
    return labels.tolist() if is_categorical else checked  # truth values stay so


def some(things):
    """Write the first few of several things."""
    things = list(things)
    more = f" and {len(things) - MANY} more" if len(things) > MANY else ""
    return ", ".join(map(str, things[:MANY])) + more


def is_blank(value):
    """Whether a cell holds nothing: empty, None or what pandas calls missing."""
    if isinstance(value, str):
        return value == ""
    return value is None or str(value) in ("nan", "NaT", "<NA>")


def text_of_cell(text):
    """Take off the apostrophe that keeps spreadsheets from computing a cell."""
    return text.removeprefix("'")


class LabelTexts:
    """The texts of labels, which no two labels share.

    Parameters
    ----------
    labels : list
        Labels, which may repeat.

    Attributes
    ----------
    texts : dict
        The text of every label, in the order of the labels.

    Raises
    ------
    ValueError
        If two labels have the same text, as 1 and "1" do.
    """

    def __init__(self, labels):
        found = set(labels)
        try:
            classes = sorted(found)
        except TypeError:  # of several types
            classes = sorted(found, key=str)
        self.texts = {label: str(label) for label in classes}
        self._labels = {text: label for label, text in self.texts.items()}
        if len(self._labels) < len(self.texts):
            raise ValueError(
                f"Two of the labels {some(map(repr, classes))} read the same. Give all "
                "labels one type, such as y.astype(str)."
            )
        self._numbers = {}
        if all(isinstance(label, int | float) for label in classes):
            self._numbers = {float(label): label for label in classes}

    def label(self, cell):
        """Find the label that a cell of a file holds.

        Parameters
        ----------
        cell : object
            What was read. Numbers may be written in other ways, as spreadsheets and
            pandas do.

        Returns
        -------
        label : object

        Raises
        ------
        KeyError
            If there is no such label.
        """
        is_whole = isinstance(cell, float) and cell.is_integer()
        text = str(int(cell) if is_whole else cell)
        for candidate in (text_of_cell(text), text):
            if candidate in self._labels:
                return self._labels[candidate]
        if not self._numbers:
            raise KeyError(text)
        return self._numbers[number(text_of_cell(text))]

    def new_label(self, cell):
        """Make a label of a cell that holds none of those known.

        Raises
        ------
        ValueError
            If it does not read as one of their type.
        """
        text = text_of_cell(str(cell))
        kinds = {type(label) for label in self.texts}
        if kinds == {str}:
            return text
        if kinds == {int}:
            return int(text)
        if kinds == {float}:
            return float(text)
        raise ValueError(f"{text!r} does not read as one of {some(self.texts)}")


def number(text):
    """Read a number, or a truth value as spreadsheets write it; NaN for others."""
    truth = {"true": 1.0, "false": 0.0}
    try:
        return truth[text.lower()] if text.lower() in truth else float(text)
    except ValueError:
        return float("nan")


def names_of(texts, class_names):
    """Name the labels, in their order.

    Parameters
    ----------
    texts : dict of str by label
    class_names : list of str, dict or None
        Names by label, or one for every label in their order.

    Returns
    -------
    names : list of str

    Raises
    ------
    ValueError
        If there are not as many names as labels.
    """
    if class_names is None:
        return list(texts.values())
    if hasattr(class_names, "get"):
        return [str(class_names.get(label, text)) for label, text in texts.items()]
    names = [str(name) for name in class_names]
    if len(names) != len(texts):
        raise ValueError(
            f"class_names has {len(names)} names for {len(texts)} labels; give one for "
            f"each of {some(texts)}, in this order, or a dict of names by label, such as "
            "dict(enumerate(class_names))."
        )
    return names


def replaced(y, positions, labels):
    """Copy labels, with others at some positions, as the same kind of container.

    Parameters
    ----------
    y : array-like, Series or tensor of shape (n_samples,)
    positions : list of int
    labels : list
        The new labels there.

    Returns
    -------
    y : Series, DataFrame, Categorical, tensor or ndarray of shape (n_samples,)
        Of the kind of y; all else becomes an array. Texts have room for the longest.

    Raises
    ------
    ValueError
        If the dtype of y has no room for a label.
    """
    if hasattr(y, "iloc"):
        return replaced_in_series(y.copy(), positions, labels)
    if hasattr(y, "add_categories"):
        return with_categories(y.copy(), positions, labels)
    if hasattr(y, "detach"):
        y = y.detach().clone()
        for i, label in zip(positions, labels, strict=True):
            y[i] = label
        return y
    array = as_labels(y)
    if array.dtype.kind in "US":
        texts = array.tolist()
        for i, label in zip(positions, labels, strict=True):
            texts[i] = label
        return np.array(texts)
    array = array.copy()
    try:
        for i, label in zip(positions, labels, strict=True):
            array[i] = label
    except OverflowError as error:
        raise ValueError(f"y has the dtype {array.dtype}: {error}.") from error
    return array


def replaced_in_series(series, positions, labels):
    """Put labels into a pandas Series, or a frame of one column."""
    if hasattr(series, "columns"):
        name = series.columns[0]
        series[name] = replaced_in_series(series[name].copy(), positions, labels)
        return series
    if hasattr(series, "cat"):
        known = set(series.cat.categories)
        new = [label for label in dict.fromkeys(labels) if label not in known]
        series = series.cat.add_categories(new) if new else series
    if positions:
        series.iloc[positions] = labels
    return series


def with_categories(categorical, positions, labels):
    """Put labels into a pandas Categorical."""
    known = set(categorical.categories)
    new = [label for label in dict.fromkeys(labels) if label not in known]
    categorical = categorical.add_categories(new) if new else categorical
    for i, label in zip(positions, labels, strict=True):
        categorical[i] = label
    return categorical


def labels_as_given(labels):
    """Make an array of labels: of objects, unless all are of one type that it keeps."""
    one = len({type(label) for label in labels}) == 1
    array = np.array(labels) if one else np.array([])
    return array if array.tolist() == labels else np.array(labels, dtype=object)

"""Rows of a table: the columns in which a row is unlike two classes, and what is usual."""

import numpy as np

from sknonlin._review.labels import is_blank

MOST = 8.0  # so that one wild value does not hide the other columns
TO_SIGMA = 1.349  # the interquartile range of a normal distribution
MANY_CELLS = 10**7  # of a class that its usual values are taken from
LETTERS = 80  # of a value


def as_frame(pd, X, feature_names=None):
    """Return a table as a pandas frame; sparse ones stay sparse.

    Raises
    ------
    ValueError
        If there are not as many names as columns.
    """
    if hasattr(X, "tocsr"):
        frame = pd.DataFrame.sparse.from_spmatrix(X)
    elif isinstance(X, pd.Series):
        frame = X.to_frame()
    elif isinstance(X, pd.DataFrame):
        frame = X
    elif hasattr(X, "columns") and hasattr(X, "to_pandas"):
        frame = X.to_pandas()
    else:
        array = X.detach().cpu().numpy() if hasattr(X, "detach") else np.asarray(X)
        frame = pd.DataFrame(array.reshape(len(array), -1))
    if feature_names is None:
        names = frame.columns
        named = not isinstance(names, pd.RangeIndex)
        feature_names = names if named else [f"x{i}" for i in names]
    if len(feature_names) != frame.shape[1]:
        raise ValueError(
            f"feature_names has {len(feature_names)} names, but X has {frame.shape[1]} "
            "columns. Give one for each."
        )
    return frame.set_axis([str(name) for name in feature_names], axis=1)


class Usual:
    """What is usual in a class, column by column.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of the class.
    is_number : ndarray of bool of shape (n_columns,)
    """

    def __init__(self, frame, is_number):
        numbers = frame.loc[:, is_number].astype(np.float64)
        lower, middle, upper = numbers.quantile([0.25, 0.5, 0.75]).to_numpy()
        scale = (upper - lower) / TO_SIGMA
        spread = numbers.std(ddof=0).to_numpy()
        self.middle, self.scale = middle, np.where(scale > 0, scale, spread)
        self.shares = [
            frame.iloc[:, j].astype(object).map(written).value_counts()
            for j in np.flatnonzero(~is_number)
        ]
        self.n_rows = len(frame)

    def distances(self, numbers, others):
        """Tell how unusual a row is, in standard deviations or their like.

        Parameters
        ----------
        numbers : ndarray of shape (n_numbers,)
        others : list of str of length n_others
            As they are written.

        Returns
        -------
        numbers, others : ndarray
            Distances of both, in [0, 8]; 0 where a value is missing.
        """
        gap = np.abs(numbers - self.middle)
        scale = np.where(self.scale > 0, self.scale, np.nan)
        far = np.where(gap > 0, np.nan_to_num(gap / scale, nan=MOST, posinf=MOST), 0.0)
        rare = [self.rarity(c, value) for c, value in zip(self.shares, others, strict=True)]
        return np.minimum(far, MOST), np.minimum(np.array(rare, dtype=float), MOST)

    def rarity(self, counts, value):
        """Tell how rare a value is, beyond what values of its column are."""
        shares = (counts.to_numpy() + 1) / (self.n_rows + len(counts) + 1)
        expected = -(shares * np.log(shares)).sum()
        try:
            share = shares[counts.index.get_loc(value)]
        except KeyError:
            share = 1 / (self.n_rows + len(counts) + 1)
        return np.sqrt(max(0.0, 2 * (-np.log(share) - expected)))

    def texts(self, is_number):
        """Write what is usual in every column: the median, or the most frequent value."""
        numbers = iter(self.middle)
        others = iter(self.shares)
        return [
            written(next(numbers)) if number else next(others).index[0]
            for number in is_number
        ]


def written(value):
    """Write a value as it is, numbers to six digits."""
    if not isinstance(value, str) and is_blank(value):
        return "missing"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def rows_of_table(frame, positions, given, suggested, classes, n_columns):
    """Choose the columns that say most about rows.

    Parameters
    ----------
    frame : pandas.DataFrame
        All samples.
    positions : list of int
        Of the rows.
    given, suggested : list
        Labels of these rows.
    classes : dict of list of int
        By label, the samples whose values count as usual there.
    n_columns : int
        At most.

    Returns
    -------
    rows : list of list of [name, value, usual in given, usual in suggested, nearer]
        The columns that are farthest from both together, first. ``nearer`` is "given",
        "suggested" or "".
    """
    is_number = np.array([is_numeric(dtype) for dtype in frame.dtypes], dtype=bool)
    most = max(20, MANY_CELLS // max(1, frame.shape[1]))
    known = {}

    def usual(label):
        if label not in known:
            members = classes.get(label) or range(len(frame))
            step = max(1, -(-len(members) // most))
            of_class = Usual(frame.iloc[list(members)[::step]], is_number)
            known[label] = of_class, of_class.texts(is_number)
        return known[label]

    shown = frame.iloc[positions]
    numbers = shown.loc[:, is_number].to_numpy(np.float64, na_value=np.nan)
    others = shown.loc[:, ~is_number].astype(object).map(written).to_numpy()
    rows = []
    for i, (label, other) in enumerate(zip(given, suggested, strict=True)):
        of_given, of_suggested = usual(label), usual(other)
        far = np.zeros((2, frame.shape[1]))
        for k, (of_class, _) in enumerate((of_given, of_suggested)):
            far[k, is_number], far[k, ~is_number] = of_class.distances(
                numbers[i], others[i]
            )
        order = np.argsort(-far.sum(0), kind="stable")[:n_columns]
        rows.append(
            [
                [
                    *(frame.columns[j], written(shown.iat[i, j])),
                    *(of_given[1][j], of_suggested[1][j], nearer(*far[:, j])),
                ]
                for j in order.tolist()
            ]
        )
    return rows


def is_numeric(dtype):
    """Whether a column holds numbers; truth values and categories do not."""
    kind = getattr(getattr(dtype, "subtype", dtype), "kind", "O")
    return kind in "iuf"


def nearer(to_given, to_suggested):
    """Name the class that a value is clearly nearer to."""
    if abs(to_given - to_suggested) < 0.5:
        return ""
    return "given" if to_given < to_suggested else "suggested"

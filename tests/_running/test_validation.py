"""Checks of labels and ranks, fits that are undone, and where warnings point."""

import pathlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import DataConversionWarning

import sknonlin
from sknonlin import ActivationNonlinearity
from sknonlin._memorization.training import warn_of_few_samples
from sknonlin._running.validation import (
    as_labels,
    auto_ranks,
    check_ranks,
    positions,
    undone_on_error,
    warn_user,
)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 200), [1, 2, 3, 4, 6, 8, 11, 16, 23, 32]),
        ((100, 8), [1, 2, 3, 4, 6]),
        ((1, 9), [1]),
    ],
)
def test_automatic_ranks_stay_below_the_matrix(shape, expected):
    assert auto_ranks(min(shape)) == expected
    scorer = ActivationNonlinearity().fit(np.ones(shape))
    assert scorer.ranks_.tolist() == expected


@pytest.mark.parametrize(
    "ranks", [3, np.int64(3), (3,), np.array([3]), torch.tensor([3]), range(3, 4)]
)
def test_ranks_become_a_list_of_integers(ranks):
    checked = check_ranks(ranks)
    assert checked == [3]
    assert type(checked[0]) is int


# Labels ---------------------------------------------------------------------------

NESTED = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)


def negative_view(values):
    """Return a tensor of these values whose memory holds their negatives."""
    shown = torch.complex(torch.zeros(len(values)), -torch.tensor(values)).conj().imag
    assert shown.is_neg()
    return shown


@pytest.mark.parametrize(
    "y",
    [
        [1.0, None, 2.0],
        ["a", None, "b"],
        ["a", float("nan"), "b"],  # which NumPy makes the text "nan"
        np.array([1.0, np.nan, 2.0]),
        np.array(["a", np.nan, "b"], dtype=object),
        np.array([1, None, 2], dtype=object),
        np.array([np.datetime64("NaT"), np.datetime64("2020")], dtype=object),
        np.array(["2020", "NaT", "2021"], dtype="M8[D]"),
        np.array([1, "NaT", 2], dtype="m8[s]"),
        pd.Series([1, pd.NA, 2], dtype="Int64"),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        pd.Series([True, pd.NA, False], dtype="boolean"),
        pd.Series(["a", None, "b"], dtype="category"),
        pd.Series(pd.to_datetime(["2020-01-01", None, "2021-01-01"]).tz_localize("UTC")),
        pl.Series(["a", None, "b"]),
        torch.tensor([1.0, torch.nan, 2.0], dtype=torch.bfloat16),
    ],
    ids=repr,
)
def test_labels_must_be_there(y):
    with pytest.raises(ValueError, match=r"y contains NaN.*labels of some samples"):
        as_labels(y)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), ValueError, "y is a masked array"),
        (np.array([1.0, np.inf]), ValueError, "infinity"),
        (np.array([1, 2j]), ValueError, "Complex data not supported"),
        (np.array([1, "a"], dtype=object), ValueError, "mix of label input types"),
        (np.array([(1,)], dtype=[("a", int)]), TypeError, "one field"),
        (np.eye(3), ValueError, "1d array.*one label a sample.*one-hot"),
        ([[1, 2], [3]], ValueError, "1d array.*one label a sample"),
        ([{1, 2}, {3}], ValueError, "1d array.*one label a sample"),
        (np.float64(1), ValueError, "1d array"),
        (sparse.csr_array(np.eye(3)[:, :1]), TypeError, "dense data is required"),
        (torch.ones(3, device="meta"), TypeError, "y is a tensor on the meta device"),
        (torch.ones(3).to_sparse(), TypeError, "to_dense"),
        (torch.ones(3, dtype=torch.complex64), ValueError, "Complex data not supported"),
        (NESTED, TypeError, "nested"),
    ],
)
def test_labels_that_are_none_say_why(y, error, message):
    with pytest.raises(error, match=message):
        as_labels(y)


@pytest.mark.parametrize(
    "y",
    [
        np.ma.array([1, 2, 1]),
        torch.tensor([1, 2, 1]),
        torch.tensor([1, 2, 1], dtype=torch.uint16),
        torch.tensor([1.0, 2, 1], dtype=torch.bfloat16),
        torch.tensor([1.0, 2, 1], requires_grad=True),
        negative_view([1.0, 2, 1]),
        np.array([1, 2, 1], dtype=object),
        pd.Series([1, 2, 1], dtype="Int64"),
        pl.Series([1, 2, 1]),
    ],
    ids=repr,
)
def test_labels_of_every_kind_of_array(y):
    labels = as_labels(y)
    assert type(labels) is np.ndarray
    assert labels.tolist() == [1, 2, 1]


def test_a_column_of_labels_is_flattened_with_a_warning():
    for column in (np.array([[1], [2]]), [["a"], ["b"]], torch.tensor([[1], [2]])):
        with pytest.warns(DataConversionWarning, match="column-vector"):
            assert as_labels(column).shape == (2,)


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 33])
def test_automatic_ranks_are_ranks(limit):
    assert check_ranks(auto_ranks(limit)) == auto_ranks(limit)


def test_positions_among_known_labels_in_any_order():
    known = np.array(["dog", "cat", "fish"])
    assert positions(np.array(["fish", "dog", "dog"]), known, "").tolist() == [2, 0, 0]
    with pytest.raises(ValueError, match=r"no \['ant', 'bee'\] in \['dog', 'cat'"):
        positions(np.array(["bee", "dog", "ant"]), known, "no {unknown} in {known}")


def change(found, error=None):
    with undone_on_error(found):
        found.changed, found.added = 2, 3
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_an_error_ends_is_undone(error):
    found = SimpleNamespace(kept=0, changed=1)
    with pytest.raises(error):
        change(found, error)
    assert vars(found) == {"kept": 0, "changed": 1}
    change(found)
    assert vars(found) == {"kept": 0, "changed": 2, "added": 3}


@pytest.mark.parametrize(
    "warn", [lambda: warn_user("few"), lambda: warn_of_few_samples(np.arange(2), [0, 0, 1])]
)
def test_a_warning_points_outside_of_the_package(warn):
    with pytest.warns(UserWarning, match="few") as caught:
        warn()
    assert caught[0].filename == __file__


def test_a_folder_whose_name_begins_alike_is_outside_of_it(tmp_path):
    folder = f"{pathlib.Path(sknonlin.__file__).parent}_experiments/run.py"
    code = compile("warn_user('few')", folder, "exec")
    with pytest.warns(UserWarning, match="few") as caught:
        exec(code, {"warn_user": warn_user})
    assert caught[0].filename == folder

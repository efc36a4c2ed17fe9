"""What kind samples are of, and some of them taken out of all containers."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch.utils.data import TensorDataset

from sknonlin._review.samples import file_names, kind_of, n_samples_of, take

ROWS = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    "X",
    [
        ROWS,
        torch.tensor(ROWS, requires_grad=True),
        ROWS.tolist(),
        sparse.csr_array(ROWS),
        sparse.coo_matrix(ROWS),
        pd.DataFrame(ROWS, index=list("abcd")),
        TensorDataset(torch.tensor(ROWS), torch.zeros(4)),
        list(torch.tensor(ROWS)),
    ],
    ids=lambda X: type(X).__name__,
)
def test_samples_of_all_containers(X):
    assert n_samples_of(X) == 4
    np.testing.assert_array_equal(take(X, [2, 0]), ROWS[[2, 0]])


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, pl.Series, tuple])
def test_texts_of_all_containers(kind):
    X = kind(["a", "b", "c"])
    assert n_samples_of(X) == 3
    assert list(take(X, [2, 0])) == ["c", "a"]
    assert kind_of(X) == "text"


@pytest.mark.parametrize(
    ("X", "settings", "kind"),
    [
        (ROWS, {}, "table"),
        (ROWS, {"sampling_rate": 8000}, "audio"),
        (ROWS, {"image_shape": (3, 1)}, "image"),
        (ROWS.astype(int), {"decode": str}, "text"),
        (np.zeros((2, 8, 8)), {}, "image"),
        (np.zeros((2, 2, 800)), {"sampling_rate": 8000}, "audio"),
        (torch.zeros(2, 3, 8, 8), {}, "image"),
        ([Image.new("L", (4, 4))], {}, "image"),
        (["folder/a.PNG"], {}, "image"),
        (["folder/a.wav"], {}, "audio"),
        (["see a.png there"], {}, "text"),
        (["A text. It has an end."], {}, "text"),
        (sparse.eye_array(3), {}, "table"),
        (pd.DataFrame({"a": [1], "b": ["x"]}), {}, "table"),
        (pd.DataFrame({"a": ["x"]}), {}, "text"),
        (pd.DataFrame({"a": [1]}), {}, "table"),
        (pl.DataFrame({"a": ["x"]}), {}, "text"),
    ],
)
def test_kinds(X, settings, kind):
    assert kind_of(X, **settings) == kind


@pytest.mark.parametrize("X", [{"a": ROWS}, "text", 3, iter(ROWS)])
def test_what_holds_no_samples_is_refused(X):
    with pytest.raises(TypeError, match="give what the reviewer should see"):
        n_samples_of(X)


@pytest.mark.parametrize("X", [[3, 4], np.zeros((2, 1, 1, 1, 1)), [b"bytes"]])
def test_samples_of_no_kind_are_refused(X):
    with pytest.raises(TypeError, match="no picture, features, text or sound"):
        kind_of(X)


def test_names_of_files():
    paths = ["/data/a/1.png", "/data/b/2.png", "/data/b/3.png"]
    assert file_names(paths, [2, 0]) == ["b/3.png", "a/1.png"]
    assert file_names(pd.Series(paths), [1, 2]) == ["2.png", "3.png"]
    assert file_names(["x/1.png", "/data/1.png"], [1]) == ["1.png"]
    assert file_names(ROWS, [0]) is None
    assert file_names(paths, []) is None

"""Samples of any kind as batches."""

from collections import UserDict
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.neural_network import MLPClassifier
from skorch.dataset import Dataset
from torch.utils.data import DataLoader

from sknonlin import MemorizationDetector
from sknonlin._network.adapters import as_network
from sknonlin._network.samples import (
    as_arrays,
    cast,
    check_labels,
    native,
    part_of,
    repeated,
)
from tests.architectures import mlp, seeded

X, y = np.zeros((4, 4)), np.zeros(4)


def test_loader_is_not_samples():
    loader = DataLoader(Dataset(X, y))
    with pytest.raises(TypeError, match="pass its dataset"):
        as_network(seeded(mlp)).sample(loader, [0])


class Batch(UserDict):
    """A mapping that torch does not know, as those of tokenizers are."""

    def convert_to_tensors(self):
        return self


def test_mappings_of_any_kind_are_cast():
    batch = cast(Batch(left=torch.zeros(2, dtype=torch.float64)), torch.float32)
    assert batch["left"].dtype == torch.float32


def test_parts_of_a_batch_are_views():
    batch = {"left": torch.zeros(6, 2), "mask": torch.zeros(3)}
    part = part_of(batch, slice(2, 4), 6)
    assert part["left"].shape == (2, 2)
    assert part["left"]._base is batch["left"]
    assert part["mask"] is batch["mask"]


def test_repeated_batch():
    batch = {"left": torch.arange(6.0).reshape(3, 2), "scale": torch.tensor(2.0)}
    batch["mask"] = torch.ones(4)
    found = repeated(batch, 3, 2)
    torch.testing.assert_close(found["left"], torch.cat([batch["left"]] * 2))
    assert found["scale"] is batch["scale"]
    assert found["mask"] is batch["mask"]


@pytest.mark.parametrize(
    "samples",
    [
        ["one", "two", "three", "four"],
        [Path("a.png"), Path("b.png"), Path("c.png"), Path("d.png")],
        np.array(["2026-01-01"] * 4, "datetime64[D]"),
        np.zeros(4, [("left", float)]),
        [{"left": 1.0}] * 4,
    ],
    ids=["text", "paths", "dates", "records", "mappings"],
)
def test_samples_that_are_no_numbers_are_refused(samples):
    for measure in (
        lambda: as_network(seeded(mlp)).sample(samples, [0]),
        lambda: MemorizationDetector(seeded(mlp)).fit(samples, y),
    ):
        with pytest.raises(TypeError, match="give a torch Dataset that makes tensors"):
            measure()


@pytest.mark.parametrize(
    "estimator", [None, seeded(mlp), MLPClassifier()], ids=["none", "torch", "sklearn"]
)
@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
def test_columns_of_words_are_named(library, estimator):
    columns = {"age": [1.0, 2.0] * 20, "kind": ["a", "b"] * 20, "town": ["1.5", "?"] * 20}
    frame = library.DataFrame(columns)
    with pytest.raises(ValueError, match=r"hold words: 'kind', 'town'\. .*OneHotEncoder"):
        MemorizationDetector(estimator).fit(frame, [0, 1] * 20)


def test_columns_that_fit_has_not_seen_are_named_as_such():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a", "b"])
    detector = MemorizationDetector(seeded(mlp, 2, n_classes=2), random_state=0)
    detector.fit(frame, np.arange(40) % 2)
    for other in (frame.assign(town="x"), frame.assign(b="x").rename(columns={"a": "c"})):
        with pytest.raises(ValueError, match="unseen at fit time"):
            detector.score_samples(other, np.arange(40) % 2)


@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
def test_a_missing_value_beside_whole_numbers_is_refused(library):
    columns = {"age": [1.5, 2.0] * 20, "n": [1, None] * 20, "c": ["1", "2"] * 20}
    with pytest.raises(ValueError, match="Input X contains NaN"):
        MemorizationDetector().fit(library.DataFrame(columns), [0, 1] * 20)


def test_words_are_told_in_few_words():
    frame = pd.DataFrame([["a"] * 30] * 4)
    with pytest.raises(ValueError, match=r"hold words: 0, 1, .*, 9 and 20 more\."):
        as_arrays(frame)
    twice = pd.DataFrame([[1.0, "a"]] * 4, columns=["x", "x"])
    with pytest.raises(ValueError, match=r"hold words: 'x'\."):
        as_arrays(twice)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, None, pd.NA, 2.0], "float"),  # no words, whatever else is wrong
        ([1j, 2.0, 3.0, 4.0], "Complex data not supported"),
    ],
)
def test_what_else_is_wrong_with_a_table_is_said_as_it_was(column, message):
    frame = pd.DataFrame({"a": np.array(column, object)})
    with pytest.raises((TypeError, ValueError), match=message):
        as_arrays(frame if message == "float" else frame.astype(complex))


def test_columns_that_are_read_as_numbers_are_taken():
    frame = pd.DataFrame(
        {
            "a": pd.array([1, 2, 3], "Int64"),
            "b": pd.array([True, False, True], "boolean"),
            "c": ["1.5", "2", "3e3"],
            "d": pd.Categorical([4, 5, 6]),
        }
    )
    expected = [[1, 1, 1.5, 4], [2, 0, 2, 5], [3, 1, 3000, 6]]
    np.testing.assert_array_equal(as_arrays(frame).astype(float), expected)


@pytest.mark.parametrize("make", [np.bool_, str, np.array], ids=["bools", "texts", "0-d"])
def test_objects_that_can_be_read_as_numbers_are_taken(make):
    values = np.empty((4, 4), dtype=object)
    for place in np.ndindex(4, 4):
        values[place] = make(1)
    assert torch.equal(as_network(seeded(mlp)).sample(values, [0, 1]), torch.ones(2, 4))


def test_numbers_in_an_array_of_objects_are_taken():
    batch = as_network(seeded(mlp)).sample(X.astype(object), [0, 1])
    assert batch.shape == (2, 4)
    assert batch.dtype == torch.float32


@pytest.mark.parametrize("make", [list, torch.zeros], ids=["lists", "tensors"])
def test_samples_of_different_shapes_are_told(make):
    samples = [[0.0] * n if make is list else make(n) for n in (4, 4, 4, 3)]
    message = "different shapes" if make is list else "differ in their number"
    with pytest.raises(ValueError, match=message):
        check_labels(samples, y)
    with pytest.raises(ValueError, match="different shapes"):
        MemorizationDetector(seeded(mlp)).fit(samples, y)


def test_a_list_of_samples_that_counts_as_inputs_is_told():
    with pytest.raises(ValueError, match=r"counts as 4 inputs.*torch\.stack"):
        check_labels([torch.zeros(3)] * 4, y)


def test_whole_numbers_and_wide_floats_become_what_torch_takes():
    batch = native([np.zeros(2, ">i4"), np.zeros(2, np.longdouble), np.array(["a"])])
    assert [array.dtype for array in batch] == [np.int32, np.float64, np.dtype("<U1")]

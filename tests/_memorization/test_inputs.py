"""Rows of what goes into a network."""

import numpy as np
import pytest
import torch

from sknonlin._memorization.inputs import WIDTH, input_rows, is_counts, is_input


def rows(batch, n_samples=4):
    return input_rows(batch, n_samples, torch.float32, lambda name, A: A.flatten(1))


def test_numbers_stay():
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(4, 3, dtype=torch.float64, generator=generator)
    assert list(rows(X)) == ["input"]
    torch.testing.assert_close(rows(X)["input"], X)
    torch.testing.assert_close(rows(X[:, 0])["input"], X[:, :1])
    assert rows(torch.zeros(4, 2, dtype=torch.complex64))["input"].shape == (4, 4)
    sparse = torch.eye(4).to_sparse()
    torch.testing.assert_close(rows(sparse)["input"], torch.eye(4))
    images = torch.zeros(4, 1, 5, 5, dtype=torch.uint8)
    assert rows(images)["input"].is_floating_point()


def test_ids_are_counted():
    ids = torch.tensor([[1, 1, 7], [7, 1, 1], [0, 2, WIDTH + 7], [5, 5, -1]])
    found = rows(ids)
    assert list(found) == ["input counts", "input places", "input"]
    counts = found["input counts"].exp() - 1
    assert counts.shape == (4, WIDTH)
    torch.testing.assert_close(counts.sum(1), torch.full((4,), 3.0))
    torch.testing.assert_close(counts[0], counts[1])  # in any order
    assert counts[0].max() == pytest.approx(2)
    places = found["input places"]
    assert (places[0] != places[1]).any()
    torch.testing.assert_close(places.sum(1), torch.full((4,), 3 * np.log(2)).float())
    torch.testing.assert_close(found["input"], ids.float())
    assert [is_counts(name) for name in found] == [True, True, False]


@pytest.mark.parametrize("stride", [1, 3, 1000, 2048, 4096, 2**20])
def test_ids_in_strides_have_columns_of_their_own(stride):
    ids = (torch.arange(500) * stride)[:, None]
    found = rows(ids, 500)["input counts"].argmax(1)
    assert len(torch.unique(found)) > 480


def test_long_sequences_have_counts_alone():
    assert list(rows(torch.zeros(4, 300, dtype=torch.long))) == ["input counts"]
    assert list(rows(torch.zeros(4, dtype=torch.bool))) == [
        *("input counts", "input places", "input")
    ]


def test_parts_of_nested_inputs():
    batch = {
        "ids": torch.zeros(4, 2, dtype=torch.long),
        "pair": (torch.zeros(4, 2), [torch.zeros(4, 1)]),
        "scalar": torch.tensor(1.0),
        "table": torch.zeros(7, 2),
        "text": ["a", "b", "c", "d"],
    }
    found = rows(batch)
    names = ["input[ids] counts", "input[ids] places", "input[ids]"]
    assert list(found) == [*names, "input[pair][0]", "input[pair][1]"]
    assert all(map(is_input, found))
    assert not any(map(is_input, ["inputs", "input.relu", "1"]))

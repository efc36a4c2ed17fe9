"""Samples that are known again, and how they are dealt to folds."""

import numpy as np
import pytest
import torch

from sknonlin._memorization.known_samples import (
    KnownSamples,
    deal,
    labelled,
    sample_keys,
)


def test_each_sample_once_in_the_order_that_they_came():
    keys, codes = np.array([7, -3, 7, 100, -3, 5]), np.zeros(6, np.int64)
    known, name = KnownSamples(keys, codes), lambda key: labelled(key, 0)
    assert known.names.tolist() == [name(np.int64(k)) for k in (7, -3, 100, 5)]
    assert known.first.tolist() == [0, 1, 3, 5]
    assert known.place.tolist() == [0, 1, 0, 2, 1, 3]
    assert known.counts.tolist() == [2, 2, 1, 1]
    asked = np.array([5, 6, 7, -4, 101])
    assert known.of(labelled(asked, 0 * asked)).tolist() == [3, -1, 0, -1, -1]


def test_every_sample_counts_where_there_are_few_kinds_of_them():
    keys = np.arange(60) % 4
    codes = (np.arange(60) % 4 > 1) ^ (np.arange(60) < 8)  # two labels for every kind
    known = KnownSamples(keys, codes.astype(np.int64))
    assert known.first.tolist() == list(range(60))
    assert known.counts.sum() == 60
    place = known.of(labelled(keys, codes.astype(np.int64)))
    assert np.array_equal(keys[place], keys)
    assert np.array_equal(codes[place], codes)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.bool_])
@pytest.mark.parametrize("values", [2, 3])
def test_rows_of_few_values_have_keys_of_their_own(dtype, values):
    X = np.random.default_rng(0).integers(0, values, (4000, 20)).astype(dtype)
    keys = sample_keys(torch.from_numpy(X), len(X))
    assert len(np.unique(keys)) == len(np.unique(X, axis=0))
    eye = torch.eye(50, dtype=torch.float64)
    assert len(np.unique(sample_keys(eye, 50))) == 50


def test_the_order_of_a_mapping_does_not_matter():
    a, b, none = torch.eye(5)[:, :3], torch.arange(5), torch.zeros(5, 0)
    expected = sample_keys({"a": a, "b": b, "none": none}, 5)
    assert np.array_equal(sample_keys({"none": none, "b": b, "a": a}, 5), expected)
    assert not np.array_equal(sample_keys({"a": b, "b": a}, 5), expected)


def test_names_tell_labels_apart():
    keys, codes = np.array([5, 5, 6]), np.array([0, 1, 0])
    assert len(np.unique(labelled(keys, codes))) == 3


def test_every_class_is_dealt_evenly_and_by_the_seed():
    codes = np.repeat([0, 1, 2], [30, 31, 5])
    folds = deal(codes, 3, 0)
    for code in range(3):
        counts = np.bincount(folds[codes == code], minlength=3)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(folds, deal(codes, 3, 0))
    assert not np.array_equal(folds, deal(codes, 3, 1))

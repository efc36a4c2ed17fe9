"""Samples that are known again, and how they are dealt to folds."""

import numpy as np

from sknonlin._memorization.known_samples import KnownSamples, deal, labelled


def test_each_sample_once_in_the_order_that_they_came():
    names = np.array([7, -3, 7, 100, -3, 5])
    known = KnownSamples(names)
    assert known.names.tolist() == [7, -3, 100, 5]
    assert known.first.tolist() == [0, 1, 3, 5]
    assert known.place.tolist() == [0, 1, 0, 2, 1, 3]
    assert known.of(np.array([5, 6, 7, -4, 101])).tolist() == [3, -1, 0, -1, -1]


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

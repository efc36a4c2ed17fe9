"""The cones of classes, in folds, and the contrast between them."""

import numpy as np
import torch

from sknonlin._factorization.compressions import make_compression
from sknonlin._memorization.known_samples import deal
from sknonlin._memorization.sample_cones import FoldLearner, contrast, learn_cones
from sknonlin._running.parallel import Workers
from tests.conftest import first_digits


def test_contrast_of_known_areas():
    areas = torch.tensor([[0.1, 0.3, 0.6], [0.1, 0.3, 0.6], [torch.nan] * 3])
    found = contrast(areas, torch.tensor([0, 2, 1]))
    np.testing.assert_allclose(found, [-0.2, 0.5, 0], atol=1e-6)


def learned(keep, n_jobs=1):
    X, y = first_digits(200)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    folds = deal(y, 3, 0)
    compression = make_compression("nmf", random_state=0)
    learner = FoldLearner(compression, "cpu", 0, [1, 4], 10, y, folds, keep)
    with Workers(n_jobs) as workers:
        return y, folds, *learn_cones(workers, learner, {"input": X})


def test_cones_of_folds_tell_the_classes():
    y, folds, cones, areas = learned(np.ones(200, dtype=bool))
    assert np.bincount(folds).min() > 50
    assert [H.shape[:3] for H in cones["input"].components] == [(3, 10, 1), (3, 10, 4)]
    assert areas["input"].min() >= 0
    assert areas["input"].max() <= 1
    assert (areas["input"].argmin(1) == y).mean() > 0.85
    again = learned(np.ones(200, dtype=bool), n_jobs=2)[3]
    np.testing.assert_allclose(again["input"], areas["input"], atol=1e-6)


def test_samples_that_are_left_out_do_not_teach():
    keep = np.ones(200, dtype=bool)
    keep[::2] = False
    cones = learned(keep)[2]
    none = (~keep) | (first_digits(200)[1] == 3)
    without = learned(~none)[2]
    assert not without["input"].components[0][:, 3].any()  # a class without samples
    assert cones["input"].components[0][:, 3].any()

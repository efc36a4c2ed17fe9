"""A curve for every class, whatever the other classes are."""

import numpy as np
import pytest

from sknonlin import ActivationNonlinearity
from tests.conftest import COMPRESSIONS, RANKS, relu_matrix


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_by_class_is_one_fit_for_each_class(labelled, compression):
    X, y = labelled
    settings = {"ranks": RANKS, "compression": compression, "random_state": 0}
    together = ActivationNonlinearity(by_class=True, **settings).fit(X, y)
    np.testing.assert_array_equal(together.classes_, [4, 7, 9])
    assert together.errors_.shape == (3, 4)
    assert together.nonlinearity_.shape == (3,)
    residuals = together.transform(X).reshape(len(X), 3, 4)
    for i, label in enumerate(together.classes_):
        alone = ActivationNonlinearity(**settings).fit(X[y == label])
        np.testing.assert_allclose(together.errors_[i], alone.errors_, atol=1e-6)
        np.testing.assert_allclose(residuals[:, i], alone.transform(X), atol=1e-4)


def test_a_class_of_one_sample_is_its_own_cone(labelled):
    X, y = labelled
    y = y.copy()
    y[0] = 1
    scorer = ActivationNonlinearity(RANKS, by_class=True).fit(X, y)
    assert (scorer.errors_[0] == 0).all()
    np.testing.assert_allclose(scorer.score_samples(X[:1], [1]), 0, atol=1e-7)


def test_small_classes_are_exact_from_their_size_on(labelled):
    X, y = labelled
    scorer = ActivationNonlinearity([2, 9, 12], by_class=True).fit(X, y)
    assert (scorer.errors_[2] == [scorer.errors_[2, 0], 0, 0]).all()
    assert (scorer.errors_[:2] > 0).all()


@pytest.mark.parametrize("solver", ["admm", "mu"])
def test_a_class_does_not_depend_on_the_others(solver):
    rng = np.random.default_rng(0)
    X, y = relu_matrix(150, 64), np.repeat([0, 1, 2], (33, 57, 60))
    settings = {"by_class": True, "solver": solver, "max_rows": 58, "random_state": 0}
    together = ActivationNonlinearity(RANKS, **settings).fit(X, y)
    shuffled = rng.permutation(90)
    apart = ActivationNonlinearity(RANKS, **settings).fit(
        X[:90][shuffled], y[:90][shuffled]
    )
    np.testing.assert_allclose(together.errors_[:2], apart.errors_, rtol=1e-8)
    alone = ActivationNonlinearity(RANKS, **settings).fit(X[33:90], y[33:90])
    np.testing.assert_allclose(together.errors_[1:2], alone.errors_, rtol=1e-8)


def test_ten_thousand_classes():
    rng = np.random.default_rng(0)
    X, y = rng.random((20_000, 4)), np.repeat(np.arange(10_000), 2)
    scorer = ActivationNonlinearity([1], by_class=True).fit(X, y)
    assert scorer.errors_.shape == (10_000, 1)
    assert scorer.score_samples(X[:50], y[:50]).max() < 1


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_random_state_seeds_all_classes_alike(compression):
    X, y = relu_matrix(200, 16), np.repeat([0, 1], (90, 110))
    errors = [
        ActivationNonlinearity(
            RANKS, compression=compression, by_class=True, max_rows=50, random_state=seed
        )
        .fit(X, y)
        .errors_
        for seed in (np.random.RandomState(3), np.random.RandomState(3), 4)
    ]
    np.testing.assert_array_equal(errors[0], errors[1])
    assert (errors[0] == errors[2]).all() == (compression == "pca")


def test_many_classes_of_all_sizes():
    rng = np.random.default_rng(0)
    y = rng.geometric(0.02, size=1000)
    scorer = ActivationNonlinearity([1, 3], by_class=True).fit(rng.random((1000, 8)), y)
    assert scorer.errors_.shape == (len(np.unique(y)), 2)
    assert (np.diff(scorer.errors_) <= 0).all()

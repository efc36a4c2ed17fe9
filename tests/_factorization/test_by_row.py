"""Residuals, scores and approximations of rows."""

import numpy as np
import pytest
from scipy import optimize

from sknonlin import ActivationNonlinearity
from sknonlin._running import memory
from sknonlin.curves import area_under_curve
from tests.conftest import COMPRESSIONS, RANKS, make, relu_matrix


def test_residuals_are_scipys(activations):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    X = relu_matrix(20, 40, seed=3)
    expected = [
        [optimize.nnls(H.T, row)[1] / np.linalg.norm(row) for H in scorer.components_]
        for row in X
    ]
    np.testing.assert_allclose(scorer.transform(X), expected, atol=1e-7)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_score_is_the_area_under_the_rows_curve(activations, compression):
    scorer = ActivationNonlinearity(RANKS, compression=compression, random_state=0)
    scorer.fit(activations)
    expected = area_under_curve(RANKS, scorer.transform(activations))
    np.testing.assert_allclose(scorer.score_samples(activations), expected)


def test_score_by_class_takes_the_class_given_or_the_best(labelled):
    X, y = labelled
    scorer = ActivationNonlinearity(RANKS, by_class=True).fit(X, y)
    areas = area_under_curve(RANKS, scorer.transform(X).reshape(len(X), 3, 4))
    codes = np.searchsorted(scorer.classes_, y)
    np.testing.assert_allclose(scorer.score_samples(X, y), areas[np.arange(64), codes])
    np.testing.assert_allclose(scorer.score_samples(X), areas.min(1))


@pytest.mark.filterwarnings("ignore:The ranks")
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("n_elements", [1, 24 * 60, 2**20])
def test_rows_of_classes_of_any_size_in_stacks_of_any(
    classes, compression, n_elements, monkeypatch
):
    X, y = classes
    scorer = make(compression=compression, by_class=True).fit(X, y)
    expected = {}
    for i, label in enumerate(scorer.classes_):
        alone = make(compression=compression)
        alone.fit(X[y == label])
        alone.components_ = [H[i] for H in scorer.components_]
        expected[label] = (
            alone.transform(X),
            alone.score_samples(X),
            alone.reconstruct(X, 4),
        )
    monkeypatch.setitem(memory.MOST, "stack", n_elements)
    residuals, scores = scorer.transform(X), scorer.score_samples(X, y)
    rows = scorer.reconstruct(X, 4, y)
    for i, (label, (own, areas, approximations)) in enumerate(expected.items()):
        np.testing.assert_allclose(residuals[:, 4 * i : 4 * i + 4], own, atol=1e-9)
        chosen = y == label
        np.testing.assert_allclose(scores[chosen], areas[chosen], atol=1e-9)
        np.testing.assert_allclose(rows[chosen], approximations[chosen], atol=1e-9)


def test_zero_rows_have_no_residual(activations):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    assert (scorer.transform(np.zeros((2, 40))) == 0).all()


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e300])
def test_residuals_do_not_depend_on_scale(activations, factor):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    expected = scorer.transform(activations)
    np.testing.assert_allclose(scorer.transform(activations * factor), expected, atol=1e-7)


def test_chunks_change_nothing(activations, monkeypatch):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    residuals, rows = scorer.transform(activations), scorer.reconstruct(activations, 4)
    monkeypatch.setitem(memory.MOST, "chunk", 300)
    np.testing.assert_allclose(scorer.transform(activations), residuals, atol=1e-10)
    np.testing.assert_allclose(scorer.reconstruct(activations, 4), rows, atol=1e-10)


@pytest.mark.parametrize("compression", ["nmf", "pca"])
@pytest.mark.parametrize("by_class", [False, True])
def test_reconstruction_leaves_the_residual(labelled, compression, by_class):
    X, y = labelled
    scorer = ActivationNonlinearity(RANKS, compression=compression, by_class=by_class)
    residuals = scorer.fit(X, y).transform(X).reshape(len(X), -1, 4)
    codes = np.searchsorted([4, 7, 9], y) if by_class else 0
    left = np.linalg.norm(X - scorer.reconstruct(X, 4, y), axis=1)
    norms = np.linalg.norm(X, axis=1)
    np.testing.assert_allclose(left, residuals[np.arange(64), codes, 2] * norms, atol=1e-7)


def test_reconstruction_without_labels_takes_the_best_class(labelled):
    X, y = labelled
    scorer = ActivationNonlinearity(RANKS, by_class=True).fit(X, y)
    areas = area_under_curve(RANKS, scorer.transform(X).reshape(len(X), 3, 4))
    best = scorer.classes_[areas.argmin(1)]
    np.testing.assert_allclose(scorer.reconstruct(X, 4), scorer.reconstruct(X, 4, best))

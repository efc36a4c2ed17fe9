"""Readers answer for every sample from the others."""

import numpy as np
import pytest
import torch

from sknonlin._memorization import label_readers
from sknonlin._memorization.label_readers import ForestReader, RidgeReader, Scaler
from tests.conftest import first_digits


@pytest.fixture(scope="module")
def digits():
    X, y = first_digits(400)
    return X, y


def ridge(X, *, gaussian=True, counts=False, n_landmarks=1000):
    return RidgeReader(Scaler(counts).fit(X), gaussian, "cpu", 0, n_landmarks)


def readers(X):
    return [ridge(X), ridge(X, gaussian=False), ridge(X, counts=True), ForestReader(0)]


@pytest.mark.parametrize("number", range(4))
def test_answers_tell_the_classes(digits, number):
    X, y = digits
    reader = readers(X[:300])[number]
    found = reader.fit(X[:300], y[:300], 11)  # no sample has the last class
    assert found.shape == (300, 11)
    assert (found.argmax(1) == y[:300]).mean() > 0.8
    new = reader.predict(torch.from_numpy(X[300:]))
    assert (new.argmax(1) == y[300:]).mean() > 0.8
    np.testing.assert_allclose(new.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(reader.predict(X[300:310]), new[:10], atol=1e-8)


@pytest.mark.parametrize("number", range(4))
def test_random_labels_do_not_vouch_for_themselves(digits, number):
    X, y = digits
    given = np.random.default_rng(0).permutation(y)
    found = readers(X)[number].fit(X, given, 10)
    assert (found.argmax(1) == given).mean() < 0.25


@pytest.mark.parametrize("gaussian", [True, False])
def test_leave_one_out_is_that_of_a_fit_without_the_sample(digits, gaussian, monkeypatch):
    X, y = (a[:60] for a in digits)
    monkeypatch.setattr(label_readers, "PENALTIES", np.array([0.1]))
    reader = ridge(X, gaussian=gaussian)
    found = reader.fit(X, y, 10)
    with torch.no_grad():
        rows = reader.scaler(torch.from_numpy(X))
        kernel = reader._kernel(rows, reader.landmarks).numpy()
    values = np.linalg.eigvalsh(kernel)
    penalty = 0.1 * values[values > values[-1] * 60e-10].mean()
    targets = np.eye(10)[y] - np.bincount(y, minlength=10) / 60
    for i in range(0, 60, 7):
        rest = np.delete(np.arange(60), i)
        solved = np.linalg.solve(
            kernel[np.ix_(rest, rest)] + penalty * np.eye(59), targets[rest]
        )
        np.testing.assert_allclose(
            found[i],
            kernel[i, rest] @ solved + np.bincount(y, minlength=10) / 60,
            atol=1e-4,
        )


def test_landmarks_are_nearly_as_good(digits):
    X, y = digits
    exact = ridge(X).fit(X, y, 10)
    reader = ridge(X, n_landmarks=150)
    fewer = reader.fit(X, y, 10)
    assert len(reader.landmarks) == 150
    assert (fewer.argmax(1) == exact.argmax(1)).mean() > 0.93


def test_scales():
    X = np.array([[0, 5, 1], [10, 5, 2], [20, 5, 3], [1e6, 5, 4]], np.float32)
    scaled = Scaler(counts=False).fit(X)(torch.from_numpy(X))
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)
    assert not scaled[:, 1].any()
    moved = Scaler(counts=False).fit(X)(torch.full((1, 3), 1e9))
    assert moved.tolist() == [[5, 0, 5]]  # what is constant says nothing
    counts = Scaler(counts=True).fit(X)(torch.from_numpy(X))
    np.testing.assert_allclose(counts.norm(dim=1), 1, atol=1e-6)


@pytest.mark.parametrize("n_samples", [2, 3, 12])
def test_few_samples(n_samples):
    X = np.random.default_rng(0).random((n_samples, 3), np.float32)
    y = np.arange(n_samples) % 2
    for reader in readers(X):
        assert np.isfinite(reader.fit(X, y, 2)).all()
        assert np.isfinite(reader.predict(X)).all()
    for reader in readers(np.ones_like(X)):
        assert np.isfinite(reader.fit(np.ones_like(X), y, 2)).all()

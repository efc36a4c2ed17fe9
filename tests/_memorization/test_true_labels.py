"""True labels, found from the input and the labels given."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from sknonlin._memorization.true_labels import explain, read_labels, with_sharpness
from sknonlin.datasets import make_noisy_labels
from tests.conftest import first_digits

X, TRUE = first_digits(800)


@pytest.mark.parametrize(
    ("p", "kind"), [(0, "uniform"), (0.4, "uniform"), (0.2, "pairwise")]
)
def test_wrong_labels_are_counted_and_corrected(p, kind):
    given = make_noisy_labels(TRUE, p, 0, kind=kind) if p else TRUE
    found = read_labels(torch.from_numpy(X), given, 10, torch.float32, 0)
    assert found.readable
    assert found.shares.shape == (800, 10)
    np.testing.assert_allclose(found.shares.sum(1), 1)
    assert found.wrong_share == pytest.approx((given != TRUE).mean(), abs=0.03)
    assert (found.shares.argmax(1) == TRUE).mean() > 0.92


def test_outputs_that_no_label_uses_change_nothing():
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(600, 20)).astype(np.float32))
    y = ((X[:, 0] * X[:, 1] > 0) ^ (X[:, 2] > 0)).long().numpy()
    few, many = (read_labels(X, y, n, torch.float32, 0) for n in (2, 10))
    assert not few.readable
    assert not many.readable
    assert many.shares.shape == (600, 10)
    np.testing.assert_allclose(many.shares[:, :2], few.shares, atol=1e-6)
    assert (many.shares[:, 2:] == 0).all()


def test_steps_make_the_labels_likelier():
    rng = np.random.default_rng(0)
    classes = softmax(3 * rng.normal(size=(300, 4)), 1)
    codes = np.array([rng.choice(4, p=row) for row in classes])
    noisy = np.where(rng.random(300) < 0.3, (codes + 1) % 4, codes)
    found = with_sharpness(classes, noisy)
    no_noise = np.log(classes[np.arange(300), noisy]).mean()
    assert found.likelihood > no_noise
    assert 0.15 < found.given(noisy).wrong_share < 0.45


def test_the_sharpness_is_the_likeliest():
    answers = np.eye(3)[np.arange(300) % 3] * 0.6 + 0.1
    found = explain(answers, np.arange(300) % 3)
    assert found.known > 0.99
    assert found.wrong_share < 0.01


def test_labels_that_say_nothing_are_not_read():
    given = np.random.default_rng(0).permutation(TRUE)
    found = read_labels(torch.from_numpy(X), given, 10, torch.float32, 0)
    assert not found.readable


def test_ids_and_mappings_are_read():
    ids = torch.from_numpy((X * 16).astype(int)) + 17 * torch.arange(64)
    found = read_labels({"ids": ids}, TRUE, 10, torch.float32, 0)
    assert found.readable


@pytest.mark.parametrize("case", ["missing", "one class", "many classes"])
def test_what_cannot_be_read(case):
    A, y, n_classes = torch.from_numpy(X.copy()), TRUE, 10
    if case == "missing":
        A[3, 5] = torch.nan
    elif case == "one class":
        y = np.zeros_like(TRUE)
    else:
        n_classes = 1000
    assert read_labels(A, y, n_classes, torch.float32, 0) is None

"""Explanations of labels: tables of noise, and noise near boundaries."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.metrics import roc_auc_score

from sknonlin._memorization.label_noise import LabelNoise, flagging_threshold, log_shares
from sknonlin._memorization.noise_models import (
    ALIKE,
    BoundaryFit,
    Differences,
    TableFit,
    doubts_of,
)


def doubtful(n_classes, p=0.2, n_samples=2000, seed=0):
    """True labels, those given, which are wrong where readers doubt, and their answers."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n_samples)
    rates = 3 * p * rng.random(n_samples) ** 2
    wrong = rng.random(n_samples) < rates
    given = np.where(wrong, (y + rng.integers(1, n_classes, n_samples)) % n_classes, y)
    answers = []
    for _ in range(2):
        shares = np.repeat(rates[:, None] / (n_classes - 1), n_classes, 1)
        shares[np.arange(n_samples), y] = 1 - rates
        answers.append(log_shares(shares + 0.1 * rng.random(shares.shape)))
    return y, given, np.stack(answers)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_gradients(n_classes):
    def error(loss, start):
        return check_grad(lambda p: loss(p)[0], lambda p: loss(p)[1], start)

    _, given, answers = doubtful(n_classes, 300)
    fit = TableFit(answers, given)
    near = BoundaryFit(fit)
    rng = np.random.default_rng(0)
    start = fit.start(3, -2.0, rng.random(2))
    assert error(near._loss, start) < 1e-5
    every = Differences(np.arange(n_classes * (n_classes - 1)), 0.1)
    shapes = [ALIKE, every]
    if n_classes > 2:
        shapes.append(fit._replaced_by((np.arange(n_classes) + 1) % n_classes))
    for shape in shapes:
        start = fit.start(3, -2.0, rng.normal(size=shape.n_groups))
        assert error(partial(fit._loss, differences=shape), start) < 1e-5


def replaced(n_classes, p, n_samples=1500, seed=0, noise=0.15):
    """Labels of which a share is those of one other class each, and readers' answers.

    Readers have learned from the labels given, so they know the other class, too.
    """
    rng = np.random.default_rng(seed)
    others = rng.permutation(n_classes)
    others = np.where(others == np.arange(n_classes), np.roll(others, 1), others)
    y = rng.integers(0, n_classes, n_samples)
    given = np.where(rng.random(n_samples) < p, others[y], y)
    answers = []
    for _ in range(2):
        shares = np.zeros((n_samples, n_classes))
        shares[np.arange(n_samples), y] = 1 - p
        shares[np.arange(n_samples), others[y]] += p
        shares += noise * rng.normal(size=shares.shape)
        answers.append(log_shares(shares))
    return y, given, others, np.stack(answers)


@pytest.mark.parametrize("n_classes", [4, 10])
@pytest.mark.parametrize("p", [0.1, 0.3])
def test_one_class_that_replaces_each(n_classes, p):
    y, given, others, answers = replaced(n_classes, p)
    fit = TableFit(answers, given)
    by_class = fit.by_class(fit.uniform()[1], 0.1)
    found = fit.to_one_class(by_class)
    table = np.where(np.eye(n_classes, dtype=bool), 0, found.table)
    np.testing.assert_array_equal(table.argmax(1), others)
    assert found.evidence > by_class.evidence
    wrong, _ = found.wrong(found.classes(answers), given, answers)
    assert wrong.mean() == pytest.approx((y != given).mean(), rel=0.2)
    assert roc_auc_score(y != given, wrong) > 0.97


def test_what_replaces_a_class_is_no_cause_to_doubt_clean_labels():
    y, _, _, answers = replaced(10, 0.0)
    noise = LabelNoise()
    wrong, _ = noise.fit(answers, y, 0)
    assert (wrong > flagging_threshold(wrong)).mean() < 0.01
    assert noise.share_wrong(answers, y, np.full(len(y), 1 / len(y)))[0] < 0.005


def test_one_class_that_replaces_each_of_many():
    y, given, others, answers = replaced(60, 0.3, n_samples=3000, noise=0.05)
    found = TableFit(answers, given).to_one_class()
    table = np.where(np.eye(60, dtype=bool), 0, found.table)
    assert (table.argmax(1) == others).mean() > 0.9
    noise = LabelNoise()
    wrong, _ = noise.fit(answers, given, 0)
    assert roc_auc_score(y != given, wrong) > 0.95
    assert wrong.mean() == pytest.approx(0.3, rel=0.2)


def test_no_class_replaces_another_where_all_may():
    _, given, answers = doubtful(5)
    noise = LabelNoise()
    noise.fit(answers, given, 0)
    assert len(noise.tables) == 5


@pytest.mark.parametrize(("n_classes", "n_tables"), [(3, 5), (4, 6), (30, 6), (31, 4)])
def test_explanations_by_the_number_of_classes(n_classes, n_tables):
    _, given, _, answers = replaced(n_classes, 0.2)
    noise = LabelNoise()
    noise.fit(answers, given, 0)
    assert len(noise.tables) == len(noise.shares) == n_tables
    assert noise.shares.sum() == pytest.approx(1)


def test_doubts():
    answers = np.log(np.array([[[1, 1e-9], [0.5, 0.5]], [[0.9, 0.1], [0.1, 0.9]]]))
    doubts = doubts_of(answers)
    assert doubts.shape == (2, 2)
    np.testing.assert_allclose(doubts[:, 0], [0, 1], atol=1e-6)
    assert doubts[0, 1] == pytest.approx(doubts[1, 1])
    assert np.isfinite(doubts_of(np.zeros((1, 3, 1)))).all()


def test_noise_grows_with_doubts():
    y, given, answers = doubtful(5)
    fit = TableFit(answers, given)
    _, uniform = fit.uniform()
    found = BoundaryFit(fit).near_boundaries(uniform)
    assert found.slopes.sum() > 1
    wrong, right = found.wrong(found.classes(answers), given, answers)
    np.testing.assert_allclose(wrong + right, 1, atol=1e-9)
    rates = found.rates(answers)
    assert roc_auc_score(y != given, rates) > 0.7
    assert rates.mean() == pytest.approx(0.2, abs=0.06)
    assert found.evidence > fit.no_noise().evidence


def test_wrong_labels_near_boundaries_are_flagged_and_counted():
    y, given, answers = doubtful(10)
    noise = LabelNoise()
    wrong, _ = noise.fit(answers, given, 0)
    flags = wrong > flagging_threshold(wrong)
    assert (y != given)[flags].mean() > 0.85
    assert flags[y != given].mean() > 0.7
    importance = np.full(len(given), 1 / len(given))
    share, low, high = noise.share_wrong(answers, given, importance)
    assert share == pytest.approx(0.2, rel=0.25)
    assert low <= 0.2 <= high


@pytest.mark.parametrize(("n_classes", "p"), [(2, 0.1), (3, 0.1), (10, 0.05)])
def test_intervals_hold_where_noise_looks_like_overlap(n_classes, p):
    inside = []
    for seed in range(4):
        y, given, answers = doubtful(n_classes, p, 1000, seed)
        noise = LabelNoise()
        noise.fit(answers, given, 0)
        importance = np.full(len(given), 1 / len(given))
        _, low, high = noise.share_wrong(answers, given, importance)
        inside.append(low <= (y != given).mean() <= high)
    assert np.mean(inside) >= 0.75


def test_limits_of_the_rates():
    *_, given, answers = doubtful(3, 0.1, 200)
    fit = TableFit(answers, given)
    near = BoundaryFit(fit)
    high = fit.start(3, 1.0, np.full(2, 2.0))  # above the limit for most samples
    loss = near._loss
    assert check_grad(lambda p: loss(p)[0], lambda p: loss(p)[1], high) < 1e-4
    _, uniform = fit.uniform()
    assert 0 < near.near_boundaries(uniform).deviation <= 3


def overlapping():
    """Labels drawn from what readers answer: classes overlap, and none is wrong."""
    *_, answers = doubtful(10)
    shares = np.exp(answers[0])
    rng = np.random.default_rng(0)
    return answers, (shares.cumsum(1) > rng.random((len(shares), 1))).argmax(1)


def test_what_finds_no_noise_counts_as_none():
    answers, drawn = overlapping()
    noise = LabelNoise()
    wrong, _ = noise.fit(answers, drawn, 0)
    assert noise.shares.sum() == pytest.approx(1)
    assert noise.shares[0] > 0.95
    disagreeing = noise.tables[0].classes(answers).argmax(1) != drawn
    assert wrong.mean() < 0.3 * disagreeing.mean()
    assert (wrong > 0.5).sum() == 0


def test_what_explains_the_labels_better_keeps_its_share(monkeypatch):
    _, given, answers = doubtful(10)
    noise = LabelNoise()
    noise.fit(answers, given, 0)
    shares = noise.shares
    monkeypatch.setattr(LabelNoise, "_give_to_no_noise", lambda *_: None)
    noise = LabelNoise()
    noise.fit(answers, given, 0)
    assert shares[-1] == noise.shares[-1] > 0.9

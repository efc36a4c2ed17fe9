"""Explanations of labels: tables of noise, and noise near boundaries."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.metrics import roc_auc_score

from sknonlin._memorization.label_noise import LabelNoise, flagging_threshold, log_shares
from sknonlin._memorization.noise_models import BoundaryFit, TableFit, doubts_of


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
    _, given, answers = doubtful(n_classes, 300)
    fit = TableFit(answers, given)
    near = BoundaryFit(fit)
    rng = np.random.default_rng(0)
    start = fit.start(3, -2.0, rng.random(2))
    loss = near._loss
    assert check_grad(lambda p: loss(p)[0], lambda p: loss(p)[1], start) < 1e-5
    start = fit.start(3, -2.0, rng.normal(size=n_classes * (n_classes - 1)))
    loss = fit._loss
    assert check_grad(lambda p: loss(p, 0.1)[0], lambda p: loss(p, 0.1)[1], start) < 1e-5


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

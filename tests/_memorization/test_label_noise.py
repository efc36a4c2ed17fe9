"""Which labels are wrong, and how many, from what readers answer."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from sknonlin._memorization.label_noise import (
    LabelNoise,
    LayerEvidence,
    flagging_threshold,
    kept,
    log_shares,
)
from sknonlin.datasets import make_noisy_labels


def drawn(p, *, n_samples=1500, n_classes=5, kind="flip", overlap=0.6, seed=0):
    """True labels, those given, and what two readers answer of the labels given."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n_samples)
    given = make_noisy_labels(y, p, seed, kind=kind) if p else y
    seen = 4 * np.eye(n_classes)[y] + overlap * rng.normal(size=(n_samples, n_classes))
    table = 1e-9 * np.eye(n_classes)
    np.add.at(table, (y, given), 1)
    table /= table.sum(1, keepdims=True)
    shares = softmax(1.5 * seen, 1) @ table
    answers = [shares + 0.1 * rng.normal(size=shares.shape) for _ in range(2)]
    return y, given, np.stack([log_shares(a) for a in answers])


def summary(answers, given):
    noise = LabelNoise()
    wrong, right = noise.fit(answers, given, 0)
    np.testing.assert_allclose(wrong + right, 1, atol=1e-9)
    importance = np.full(len(given), 1 / len(given))
    return noise, wrong, noise.share_wrong(answers, given, importance)


@pytest.mark.parametrize("kind", ["flip", "pairwise"])
@pytest.mark.parametrize("p", [0.05, 0.2, 0.4])
def test_wrong_labels_are_found_and_counted(kind, p):
    y, given, answers = drawn(p, kind=kind)
    wrong = given != y
    noise, probability, (share, low, high) = summary(answers, given)
    assert roc_auc_score(wrong, probability) > 0.95
    if (kind, p) != ("pairwise", 0.4):  # which may be classes that overlap as well
        assert share == pytest.approx(p, rel=0.2)
    assert low <= p <= high
    flags = probability > flagging_threshold(probability)
    assert wrong[flags].mean() > 0.85
    assert flags[wrong].mean() > 0.7
    assert (noise.classes(answers).argmax(1) == y).mean() > 0.95


def test_probabilities_are_those_of_being_wrong():
    y, given, answers = drawn(0.2, overlap=1.5, n_samples=4000)
    _, probability, _ = summary(answers, given)
    for low, high in ((0.1, 0.4), (0.4, 0.7), (0.7, 0.95)):
        part = (probability > low) & (probability < high)
        if part.sum() > 50:
            assert (given != y)[part].mean() == pytest.approx(
                probability[part].mean(), abs=0.2
            )


def test_clean_labels():
    _, given, answers = drawn(0)
    _, probability, (share, low, high) = summary(answers, given)
    assert (probability > flagging_threshold(probability)).mean() < 0.005
    assert share < 0.005
    assert low == 0
    assert high < 0.02


def test_classes_that_overlap_are_not_all_wrong():
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    share = 1 / (1 + np.exp(-2 * x))
    y = (rng.random(3000) < share).astype(int)
    answers = log_shares(np.stack([1 - share, share], 1))[None]
    noise, probability, (estimate, low, high) = summary(answers, y)
    assert 0 < (probability > flagging_threshold(probability)).mean() < 0.25
    assert low < 0.02  # it cannot tell, and says so
    assert high > 0.15
    assert estimate < high
    assert noise.ambiguous == pytest.approx(0.4 * noise.possible)


def test_learning_from_a_part_of_many(monkeypatch):
    y, given, answers = drawn(0.2, n_samples=6000)
    whole = LabelNoise()
    wrong, _ = whole.fit(answers, given, 0)
    assert len(wrong) == 6000
    assert roc_auc_score(given != y, wrong) > 0.97
    some, _ = whole.wrong(answers[:, :10], given[:10])
    np.testing.assert_allclose(some, wrong[:10], atol=1e-9)


def test_many_classes_and_one_sample_each():
    _, given, answers = drawn(0.1, n_classes=40, n_samples=400)
    _, probability, _ = summary(answers, given)
    assert np.isfinite(probability).all()
    _, given, answers = drawn(0, n_classes=5, n_samples=5)
    assert np.isfinite(summary(answers, given)[1]).all()


def test_threshold():
    assert flagging_threshold(np.array([0.9, 0.8, 0.1, 0.0])) == 0.5
    assert flagging_threshold(np.zeros(9)) == 0.08
    vague = np.r_[np.full(5, 0.4), np.zeros(50)]
    assert flagging_threshold(vague) == pytest.approx(0.2)


def test_half_of_every_class_is_kept():
    codes = np.repeat([0, 1], [10, 4])
    wrong = np.r_[np.linspace(0, 0.3, 10), [0.9, 0.95, 0.99, 0.97]]
    keep = kept(wrong, codes)
    assert keep[:10].all()
    assert keep[10:].tolist() == [True, True, False, False]
    assert kept(np.ones(6), np.arange(6) % 2).all()  # nothing to go by


def test_layers_add_what_agrees_with_the_input():
    rng = np.random.default_rng(0)
    odds = rng.normal(-3, 2, 2000)
    contrasts = np.stack([odds / 10 + rng.normal(0, 0.1, 2000), rng.normal(size=2000)], 1)
    contrasts = np.column_stack([contrasts, np.zeros(2000)])  # a dead layer
    evidence = LayerEvidence().fit(odds, contrasts)
    assert evidence.weights[0] > 0
    assert evidence.weights[1] * contrasts[:, 1].std() < 0.1
    assert evidence.weights[2] == 0
    before, after = (1 / (1 + np.exp(-o)) for o in (odds, evidence(odds, contrasts)))
    assert after.mean() == pytest.approx(before.mean(), abs=1e-6)

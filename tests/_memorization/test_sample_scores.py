"""Which samples were memorized: scores, thresholds and reports."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector
from sknonlin._memorization.sample_scores import doubted
from sknonlin.datasets import make_noisy_labels
from tests.architectures import ResNet, mlp, seeded
from tests.conftest import first_digits

WRONG = 0.15


def net_of(module, **settings):
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        train_split=None,
        verbose=0,
        **settings,
    )


def skorch_net(n_classes=10, **settings):
    defaults = {"max_epochs": 120, "module__width": 128, "lr": 0.003, "batch_size": 50}
    sizes = {"module__n_inputs": 64, "module__n_classes": n_classes}
    return net_of(mlp, **(defaults | sizes | settings))


@pytest.fixture(scope="module")
def digits():
    return first_digits(600)


@pytest.fixture(scope="module")
def given(digits):
    return make_noisy_labels(digits[1], WRONG, 0, kind="flip")


@pytest.fixture(scope="module")
def memorized(digits, given):
    """A detector whose network fits every label, the wrong ones too."""
    X, _ = digits
    found = MemorizationDetector(skorch_net(), random_state=0).fit(X, given)
    assert found.score(X, given) > 0.99
    return found


# Scores ---------------------------------------------------------------------------


def test_wrong_labels_score_high(memorized, digits, given):
    X, y = digits
    wrong = given != y
    scores = memorized.score_samples(X, given)
    assert roc_auc_score(wrong, scores) > 0.98
    weights = memorized.layer_weights_
    assert list(weights) == ["input", *memorized.layer_names_, "training"]
    assert sum(weights.values()) == pytest.approx(1)


def test_a_score_depends_on_the_sample_alone(memorized, digits, given):
    X, _ = digits
    scores = memorized.score_samples(X, given)
    order = np.random.default_rng(0).permutation(600)[:50]
    some = memorized.score_samples(X[order], given[order])
    np.testing.assert_allclose(some, scores[order], atol=1e-5)
    np.testing.assert_allclose(
        memorized.score_samples(Dataset(X, given), given), scores, atol=1e-5
    )


def test_what_the_network_doubts_orders_what_the_input_is_sure_of():
    odds = np.array([-20.0, -20.0, -3.0, 5.0])
    found = doubted(odds, np.array([0.0, 0.5, 1e-6, 1.0], np.float32))
    np.testing.assert_allclose(found[[0, 2]], odds[[0, 2]], atol=1e-4)
    assert -5.4 < found[1] < -5.2  # of half a hundredth
    assert odds[3] < found[3] < odds[3] + 0.02
    assert np.isfinite(doubted(np.array([-60.0, 60.0]), np.zeros(2))).all()


def test_hard_samples_score_higher_than_easy_ones(digits, memorized):
    X, y = digits
    net = memorized.estimator_
    frozen = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(X, y)
    scores = frozen.score_samples(X, y)
    doubts = 1 - seeded(net.predict_proba, X).astype(float)[np.arange(len(y)), y]
    easy = scores < np.quantile(scores, 0.8)
    assert spearmanr(scores[easy], doubts[easy]).statistic > 0.2


def test_new_samples(memorized, digits):
    X, y = load_digits(return_X_y=True)
    X, y = (X[600:1200] / 16).astype(np.float32), y[600:1200]
    noisy = make_noisy_labels(y, 0.2, 1, kind="flip")
    scores = memorized.score_samples(X, noisy)
    assert roc_auc_score(noisy != y, scores) > 0.95
    predicted = memorized.predict(X)
    np.testing.assert_array_equal(
        memorized.score_samples(X), memorized.score_samples(X, predicted)
    )


def test_rounding_of_the_input_changes_next_to_nothing(digits, given):
    X, _ = digits
    net = seeded(skorch_net(max_epochs=30).fit, X, given)
    first, second, other = (
        MemorizationDetector(FrozenEstimator(net), random_state=seed)
        .fit(X * scale, given)
        .score_samples(X * scale, given)
        for seed, scale in ((0, 1), (0, np.float32(1 + 1e-6)), (1, 1))
    )
    np.testing.assert_allclose(second, first, atol=0.1)
    assert np.abs(other - first).max() > 0.1  # folds and forests are drawn by the seed


class Wide(nn.Module):
    """A network with many more outputs than there are classes."""

    def __init__(self, n_outputs):
        super().__init__()
        self.hidden, self.last = nn.Linear(64, 32), nn.Linear(32, n_outputs)

    def forward(self, x):
        return self.last(self.hidden(x).relu())


@pytest.mark.filterwarnings("ignore:The network fits")
def test_outputs_without_samples_cost_next_to_nothing(digits):
    X, y = digits
    chosen = y < 3
    X, y = X[chosen], y[chosen] * 7000 + 11
    nets = [
        FrozenEstimator(seeded(net_of(seeded(Wide, n)).initialize))
        for n in (14_012, 30_000)
    ]
    small, large = (MemorizationDetector(net, random_state=0).fit(X, y) for net in nets)
    assert [len(found.classes_) for found in (small, large)] == [14_012, 30_000]
    assert len(pickle.dumps(large._scorer)) < 1.1 * len(pickle.dumps(small._scorer))
    report = large.label_report(X, y)
    assert set(report["suggested"]) <= {11, 7011, 14_011}
    scores = large.score_samples(X[:5], y[:5] - 1)  # labels that no sample has
    assert (scores > large.score_samples(X[:5], y[:5])).all()


def test_named_layers_count_beside_the_input(digits, given):
    X, _ = digits
    net = skorch_net(max_epochs=3)
    found = MemorizationDetector(net, layers=["1"], random_state=0).fit(X, given)
    assert list(found.layer_weights_) == ["input", "1", "training"]
    assert found.transform(X).shape == (600, 1)


@pytest.mark.parametrize("compression", ["pca", "ablation"])
def test_other_compressions(compression, digits, given):
    X, y = digits
    template = ActivationNonlinearity([1, 4], compression=compression)
    net = skorch_net(max_epochs=10)
    found = MemorizationDetector(net, nonlinearity=template, random_state=0).fit(X, given)
    assert np.isfinite(found.score_samples(X, given)).all()
    if compression == "pca":
        assert roc_auc_score(given != y, found.score_samples(X, given)) > 0.95


def test_inputs_with_negative_values(digits, given):
    X, y = digits
    X = (X - X.mean(0)) / (X.std(0) + 0.1)
    found = MemorizationDetector(skorch_net(max_epochs=20), random_state=0).fit(X, given)
    assert found.layer_weights_["input"] > 0.1
    assert roc_auc_score(given != y, found.score_samples(X, given)) > 0.95


# Nothing vouches for itself -------------------------------------------------------


def test_a_sample_does_not_vouch_for_itself(digits):
    X, y = digits
    given = y.copy()
    given[np.flatnonzero(y == 3)[:2]] = 10  # a class of two threes
    net = skorch_net(11, max_epochs=30)
    found = MemorizationDetector(net, random_state=0).fit(X, given)
    scores = found.score_samples(X, given)
    assert scores[given == 10].min() > np.quantile(scores, 0.9)
    given[given == 10] = [3, 10]  # and one of one
    found = MemorizationDetector(net, random_state=0).fit(X, given)
    scores = found.score_samples(X, given)
    assert scores.argmax() == np.flatnonzero(given == 10)[0]
    assert np.isfinite(scores).all()


def test_a_duplicate_does_not_vouch_for_it(digits, given):
    X, y = digits
    wrong = given != y
    X, y, given = (np.concatenate([a, a[wrong], a[wrong]]) for a in (X, y, given))
    found = MemorizationDetector(skorch_net(), random_state=0).fit(X, given)
    scores = found.score_samples(X, given)
    assert roc_auc_score(given != y, scores) > 0.95
    n = wrong.sum()
    np.testing.assert_allclose(scores[600 : 600 + n], scores[600 + n :], atol=1e-5)


# Hard cases -----------------------------------------------------------------------


def test_imbalance(digits):
    X, y = digits
    chosen = (y == 1) | (y == 2)
    rare = np.flatnonzero(y == 2)[3:]
    chosen[rare] = False
    X, y = (
        np.concatenate([X[chosen], X[y == 7], X[y == 0]]),
        np.concatenate([y[chosen], y[y == 7], y[y == 0]]),
    )
    wrong = np.zeros(len(y), dtype=bool)
    wrong[np.flatnonzero(y == 7)[:2]] = True
    given = np.where(wrong, 2, y)  # two sevens among the three twos
    _, codes = np.unique(given, return_inverse=True)
    found = MemorizationDetector(skorch_net(4), random_state=0).fit(X, codes)
    scores = found.score_samples(X, codes)
    assert np.isfinite(scores).all()
    assert roc_auc_score(wrong, scores) > 0.9


def test_a_hundred_classes():
    rng = np.random.default_rng(0)
    centres = rng.random((100, 64)).astype(np.float32) ** 3
    y = np.repeat(np.arange(100), 6)
    X = centres[y] + 0.05 * rng.random((600, 64), dtype=np.float32)
    given = make_noisy_labels(y, 0.1, 0, kind="flip")
    found = MemorizationDetector(skorch_net(100), random_state=0).fit(X, given)
    assert roc_auc_score(given != y, found.score_samples(X, given)) > 0.95
    report = found.label_report(X, given)
    assert (report["suggested"].to_numpy() == y[report["index"]]).mean() > 0.95


@pytest.mark.filterwarnings("ignore:The network fits")
def test_a_network_at_chance(digits, given):
    X, y = digits
    net = skorch_net(max_epochs=1, optimizer__weight_decay=0, lr=0.0)
    found = MemorizationDetector(net, random_state=0).fit(X, given)
    assert found.score(X, given) < 0.4
    scores = found.score_samples(X, given)
    assert np.isfinite(scores).all()
    assert roc_auc_score(given != y, scores) > 0.9  # the layers are random features


def test_random_labels_say_nothing(digits):
    X, y = digits
    given = np.random.default_rng(0).permutation(y)
    found = MemorizationDetector(skorch_net(max_epochs=60), random_state=0).fit(X, given)
    auc = roc_auc_score(given != y, found.score_samples(X, given))
    assert 0.3 < auc < 0.7


@pytest.mark.filterwarnings("ignore:The network fits")
def test_feature_maps(digits, given):
    X, _ = digits
    net = seeded(ResNet)
    images = X.reshape(-1, 1, 8, 8)
    wrapped = NeuralNetClassifier(
        net, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0
    ).initialize()
    found = MemorizationDetector(FrozenEstimator(wrapped), random_state=0)
    n_outputs = seeded(lambda: wrapped.predict_proba(images[:2])).shape[1]
    codes = given % n_outputs
    scores = found.fit(images, codes).score_samples(images, codes)
    assert scores.shape == (600,)
    assert np.isfinite(scores).all()


# Flags and reports ----------------------------------------------------------------


def test_flags_find_most_and_few_others(memorized, digits, given):
    X, y = digits
    wrong = given != y
    flags = memorized.detect(X, given)
    assert wrong[flags].mean() > 0.85
    assert flags[wrong].mean() > 0.8


def test_the_number_of_wrong_labels(memorized, digits, given):
    n_wrong = (given != digits[1]).sum()
    low, high = memorized.n_wrong_interval_
    assert low <= memorized.n_wrong_ <= high
    assert low <= n_wrong <= high
    assert memorized.n_wrong_ == pytest.approx(n_wrong, rel=0.2)


def test_clean_labels_have_hardly_a_flag(digits):
    X, y = digits
    found = MemorizationDetector(skorch_net(), random_state=0)
    assert found.fit_detect(X, y).mean() < 0.01
    assert found.n_wrong_ < 6


def test_noise_that_depends_on_the_class(digits):
    X, y = digits
    given = make_noisy_labels(y, 0.3, 0, kind="pairwise")
    wrong = given != y
    found = MemorizationDetector(skorch_net(max_epochs=30), random_state=0).fit(X, given)
    assert roc_auc_score(wrong, found.score_samples(X, given)) > 0.97
    flags = found.detect(X, given)
    assert wrong[flags].mean() > 0.8
    assert flags[wrong].mean() > 0.7


def test_a_table_with_units_and_categories():
    """Two classes that overlap, and a column of codes."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 6, 800)
    X = np.column_stack([rng.normal(0, 100, 800), codes, rng.normal(5, 0.01, 800)])
    y = (X[:, 0] / 100 + 3 * (codes % 2) - 1.5 + rng.normal(0, 0.5, 800) > 0).astype(int)
    given = make_noisy_labels(y, 0.15, 0, kind="flip")
    found = MemorizationDetector(random_state=0).fit(X, given)
    assert roc_auc_score(given != y, found.score_samples(X, given)) > 0.9
    assert found.detect(X, given).mean() < 0.3


class Words(nn.Module):
    """A network on token ids."""

    def __init__(self, n_words=3000):
        super().__init__()
        self.bag = nn.EmbeddingBag(n_words, 32)
        self.hidden = nn.Linear(32, 32)
        self.relu = nn.ReLU()
        self.out = nn.Linear(32, 3)

    def forward(self, ids, mask=None):
        return self.out(self.relu(self.hidden(self.bag(ids))))


def texts():
    """Token ids of three subjects, each with words of its own."""
    rng = np.random.default_rng(0)
    y = np.arange(450) % 3
    own = rng.random((450, 40)) < 0.3
    ids = np.where(own, 1000 * y[:, None] + rng.integers(0, 50, (450, 40)), 0)
    return np.where(own, ids, rng.integers(0, 3000, (450, 40))), y


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_network_on_token_ids(as_dict):
    ids, y = texts()
    given = make_noisy_labels(y, 0.2, 0, kind="flip")
    net = net_of(Words, lr=0.02, max_epochs=30)
    X = {"ids": ids, "mask": np.ones((450, 40), np.float32)} if as_dict else ids
    found = MemorizationDetector(net, random_state=0).fit(X, given)
    names = list(found.layer_weights_)
    assert names[-2:] == ["relu", "training"]
    assert ("input[ids] counts" if as_dict else "input counts") in names
    assert roc_auc_score(given != y, found.score_samples(X, given)) > 0.95
    part = {name: A[:7] for name, A in X.items()} if as_dict else X[:7]
    np.testing.assert_allclose(
        found.score_samples(part, given[:7]), found.score_samples(X, given)[:7], atol=1e-4
    )


def test_fit_detect_is_fit_then_detect(digits, given):
    X, _ = digits
    net = skorch_net(max_epochs=5)
    one = MemorizationDetector(net, random_state=0, contamination=0.1)
    two = MemorizationDetector(net, random_state=0, contamination=0.1)
    flags = one.fit_detect(X, given)
    np.testing.assert_array_equal(flags, two.fit(X, given).detect(X, given))
    assert flags.mean() == pytest.approx(0.1, abs=0.01)


def test_label_report(memorized, digits, given):
    pytest.importorskip("pandas")
    X, y = digits
    report = memorized.label_report(X, given)
    columns = ["index", "given", "suggested", "score", "layer", "flagged"]
    assert report.columns.tolist() == [*columns, "probability", "certainty"]
    for column in ("probability", "certainty"):
        assert report[column].between(0, 1).all()
    assert report["probability"].is_monotonic_decreasing
    assert sorted(report["index"]) == list(range(600))
    assert report["score"].is_monotonic_decreasing
    index = report["index"].to_numpy()
    np.testing.assert_array_equal(report["given"], given[index])
    np.testing.assert_array_equal(report["flagged"], memorized.detect(X, given)[index])
    assert set(report["layer"]) <= set(memorized.layer_weights_)
    wrong = (given != y)[index]
    found = report[wrong & report["flagged"]]
    assert (found["suggested"].to_numpy() == y[found["index"]]).mean() > 0.9


@pytest.mark.parametrize("names", [["patient"], ["score"], ["centre", "index"]])
def test_label_report_of_a_frame_keeps_its_labels(memorized, digits, given, names):
    pd = pytest.importorskip("pandas")
    X, _ = digits
    labels = pd.MultiIndex.from_arrays([np.arange(600)[::-1]] * len(names), names=names)
    frame = pd.DataFrame(X, index=labels if len(names) > 1 else labels.get_level_values(0))
    report = memorized.label_report(frame, given)
    pd.testing.assert_frame_equal(
        report.reset_index(drop=True), memorized.label_report(X, given)
    )
    assert report.index.tolist() == frame.index[report["index"]].tolist()
    hidden = {"score", "index"}  # by the columns
    assert report.index.names == [None if n in hidden else n for n in names]
    assert frame.index.names == names

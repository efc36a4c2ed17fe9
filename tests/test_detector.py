"""MemorizationDetector around networks of both libraries."""

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring
from torch import nn

from sknonlin import ActivationNonlinearity
from sknonlin.datasets import make_noisy_labels
from tests.architectures import ResNet, seeded, skorch_net
from tests.conftest import barely_trained, detector, first_digits

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture(scope="module")
def digits():
    return first_digits(400)


@pytest.fixture(scope="module")
def fitted(digits):
    return detector().fit(*digits)


def test_fitted_attributes(fitted, digits):
    X, y = digits
    assert fitted.layer_names_ == ["1", "3"]
    assert fitted.classes_.tolist() == list(range(10))
    assert fitted.layer_scores_.shape == (2,)
    assert 0 < fitted.memorization_score_ < 1
    assert fitted.profile_.errors.shape == (2, 10, 3)
    expected = fitted.profile_.error_auc.sum() / fitted.mixed_profile_.error_auc.sum()
    assert fitted.memorization_score_ == pytest.approx(expected)
    assert fitted.measure(X, y)[0] == pytest.approx(fitted.memorization_score_)
    assert fitted.score(X, y) > 0.9


def test_answers_are_the_networks(fitted, digits):
    X, _ = digits
    expected = seeded(fitted.estimator_.predict, X)
    np.testing.assert_array_equal(fitted.predict(X), expected)
    expected = seeded(fitted.estimator_.predict_proba, X)
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)


@barely_trained
@pytest.mark.parametrize(
    "labels", [np.array([f"d{i}" for i in range(10)]), 10 * np.arange(10) - 7, "bool"]
)
@pytest.mark.parametrize("kind", ["skorch", "sklearn", None])
def test_labels_of_all_kinds(digits, labels, kind):
    X, y = digits
    given = y > 4 if isinstance(labels, str) else labels[y]
    estimator = {
        "skorch": skorch_net(),
        "sklearn": MLPClassifier((32,), max_iter=60),
        None: None,
    }[kind]
    found = detector(estimator).fit(X, given)
    assert np.array_equal(found.classes_, np.unique(given))
    assert found.predict(X).dtype == given.dtype
    assert found.score(X, given) > 0.8
    assert np.array_equal(found.profile_.classes, found.classes_)
    assert found.score_samples(X, given).shape == (400,)


def test_redrawn_labels_raise_the_score(digits):
    X, y = digits
    noisy = make_noisy_labels(y, 0.15, 0, kind="flip")
    net = skorch_net(max_epochs=80, module__width=128)
    found = detector(net, nonlinearity=None).fit(X, noisy)
    assert found.score(X, noisy) > 0.97
    clean = detector(net, nonlinearity=None).fit(X, y)
    assert found.memorization_score_ > clean.memorization_score_ + 0.1


def test_transform(fitted, digits):
    X, _ = digits
    scores = fitted.transform(X)
    assert scores.shape == (400, 2)
    assert np.abs(scores).max() <= 1
    np.testing.assert_allclose(fitted.transform(X[5:9]), scores[5:9], atol=1e-5)
    assert fitted.get_feature_names_out().tolist() == ["1", "3"]


def test_contamination(fitted, digits):
    X, y = digits
    found = clone(fitted).set_params(contamination=0.1).fit(X, y)
    assert found.detect(X, y).mean() == pytest.approx(0.1, abs=0.01)
    assert found.offset_ < fitted.offset_


def test_in_a_pipeline(digits):
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), detector(), LogisticRegression())
    scores = cross_val_score(pipeline, X, y, cv=2, error_score="raise")
    assert scores.shape == (2,)
    frame = detector().set_output(transform="pandas").fit(X, y).transform(X)
    assert list(frame.columns) == ["1", "3"]


@barely_trained
def test_images_and_residual_networks(digits):
    X, y = digits
    X = X.reshape(-1, 1, 8, 8)[:150]
    y = y[:150] % 3
    net = NeuralNetClassifier(
        ResNet, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, train_split=None
    )
    found = detector(net).fit(X.astype(np.float64), y)
    assert found.transform(X).shape == (150, 5)
    assert found.layer_names_[1:3] == ["layer1.relu", "layer1.relu:2"]


def test_named_layers(digits):
    X, y = digits
    found = detector(layers=["3"]).fit(X, y)
    assert found.layer_names_ == ["3"]
    whole = detector().fit(X, y)
    np.testing.assert_allclose(whole.transform(X)[:, 1:], found.transform(X), atol=1e-5)


@barely_trained
@pytest.mark.parametrize("kind", ["skorch", "sklearn", None])
def test_dump_and_load(digits, tmp_path, kind):
    X, y = digits
    estimator = {
        "skorch": skorch_net(callbacks=[EpochScoring("accuracy", on_train=True)]),
        "sklearn": MLPClassifier((16,), max_iter=20),
        None: None,
    }[kind]
    found = detector(estimator).fit(X, y)
    joblib.dump(found, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(X), found.predict_proba(X))
    np.testing.assert_array_equal(loaded.score_samples(X, y), found.score_samples(X, y))
    assert clone(loaded).fit(X, y).memorization_score_ == found.memorization_score_


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": ["nowhere"]}, r"\['nowhere'\] are not.*ReLU calls \['1', '3'\]"),
        ({"batch_size": 0}, "'batch_size'"),
        ({"contamination": 0.7}, "'contamination'"),
        ({"nonlinearity": ActivationNonlinearity(ranks=[2, 1])}, "must increase"),
        ({"nonlinearity": ActivationNonlinearity(tol=-1)}, "'tol'"),
    ],
)
def test_bad_settings(digits, settings, message):
    with pytest.raises(ValueError, match=message):
        detector(**settings).fit(*digits)


def test_bad_samples(fitted, digits):
    X, y = digits
    with pytest.raises(ValueError, match="1 class"):
        detector().fit(X, np.zeros(400, dtype=int))
    with pytest.raises(ValueError, match=r"does not know: \[77\]"):
        fitted.score_samples(X, np.full(400, 77))
    with pytest.raises(ValueError, match="400 samples, but y has 3"):
        fitted.score_samples(X, y[:3])
    with pytest.raises(ValueError, match=r"does not know: \[12\]"):
        detector(FrozenEstimator(fitted.estimator_)).fit(X, np.where(y == 2, 12, y))
    with pytest.raises(ValueError, match=r"failed on 2 samples, \(50,\)"):
        detector(FrozenEstimator(fitted.estimator_)).fit(X[:, :50], y)
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.transform(np.full((3, 64), np.nan, dtype=np.float32))


def test_network_with_more_outputs_than_classes(digits):
    X, y = digits
    few = y != 4
    found = detector().fit(X[few], y[few])
    assert found.score(X[few], y[few]) > 0.9
    probabilities = found.predict_proba(X)
    assert probabilities.shape == (400, 9)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "method", ["transform", "score_samples", "predict", "predict_proba"]
)
def test_what_is_not_fitted_says_so(digits, method):
    with pytest.raises(NotFittedError):
        getattr(detector(), method)(digits[0])


def test_labels_may_be_a_tensor(fitted, digits):
    X, y = digits
    score, profile, _ = fitted.measure(X, torch.from_numpy(y))
    assert score == fitted.memorization_score_
    assert profile.classes.dtype == fitted.classes_.dtype

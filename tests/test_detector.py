"""MemorizationDetector around networks of both libraries."""

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector
from sknonlin._memorization.sample_cones import contrast
from sknonlin.datasets import make_noisy_labels
from tests.architectures import ResNet, TwoInputs, mlp, seeded

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
barely_trained = pytest.mark.filterwarnings("ignore:The network fits")
FAST = ActivationNonlinearity(ranks=[1, 2, 4])


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:400] / 16).astype(np.float32), y[:400]


def skorch_net(module=mlp, kind=NeuralNetClassifier, **settings):
    settings = {
        "module__n_inputs": 64,
        "module__width": 32,
        "module__n_classes": 10,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 8,
        "batch_size": 40,
        "train_split": None,
        "verbose": 0,
    } | settings
    if kind is NeuralNetClassifier:
        settings["criterion"] = nn.CrossEntropyLoss
    return kind(module, **settings)


def detector(estimator="skorch", **settings):
    estimator = skorch_net() if estimator == "skorch" else estimator
    return MemorizationDetector(
        estimator, **{"nonlinearity": FAST, "random_state": 0} | settings
    )


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


def test_the_estimator_given_is_not_fitted(digits):
    net = skorch_net()
    detector(net).fit(*digits)
    assert not net.initialized_


def test_training_is_seeded(digits):
    X, y = digits
    first, second, other = (detector(random_state=s).fit(X, y) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert first.memorization_score_ == second.memorization_score_
    np.testing.assert_array_equal(first.transform(X), second.transform(X))
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))


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
    net = skorch_net(max_epochs=150, module__width=128)
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


def test_contrast_of_known_areas():
    areas = torch.tensor([[0.1, 0.3, 0.6], [0.1, 0.3, 0.6], [torch.nan] * 3])
    found = contrast(areas, torch.tensor([0, 2, 1]))
    np.testing.assert_allclose(found, [-0.2, 0.5, 0], atol=1e-6)


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


COUNTED = []


class CountedNet(NeuralNetClassifier):
    """Counts how often it is trained."""

    def fit(self, X, y, **params):
        COUNTED.append(len(X))
        return super().fit(X, y, **params)


@barely_trained
def test_grid_over_ranks_trains_once_for_each_fold(digits, tmp_path):
    X, y = digits
    settings = {"module__n_inputs": 64, "module__n_classes": 10, "max_epochs": 2}
    net = CountedNet(mlp, **settings, criterion=nn.CrossEntropyLoss, verbose=0)
    grid = {"nonlinearity__ranks": [[1], [1, 2], [2, 3]]}
    search = GridSearchCV(
        detector(net, memory=str(tmp_path)), grid, cv=2, refit=False, error_score="raise"
    )
    COUNTED.clear()
    search.fit(X, y)
    assert len(COUNTED) == 2
    # Another setting of the network is another training.
    grid = {"nonlinearity__ranks": [[1], [1, 2]], "estimator__lr": [0.01, 0.1]}
    search.set_params(param_grid=grid).fit(X, y)
    assert len(COUNTED) == 2 + 2 * 2 - (2 if net.lr == 0.01 else 0)


@barely_trained
def test_grid_over_the_networks_own_parameters(digits):
    X, y = digits
    grid = {"estimator__module__width": [4, 32], "estimator__lr": [0.01]}
    search = GridSearchCV(detector(), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["estimator__module__width"] == 32
    widths = search.best_estimator_.profile_.errors.shape
    assert widths == (2, 10, 3)


@barely_trained
@pytest.mark.parametrize("kind", ["skorch", "sklearn"])
def test_frozen_network_is_not_trained_again(digits, kind):
    X, y = digits
    if kind == "skorch":
        net = seeded(skorch_net().fit, X, y)
        weights = [p.detach().clone() for p in net.module_.parameters()]
    else:
        net = MLPClassifier((16,), max_iter=20, random_state=0).fit(X, y)
        weights = [torch.from_numpy(w.copy()) for w in net.coefs_]
    found = detector(FrozenEstimator(net)).fit(X, y)
    after = net.module_.parameters() if kind == "skorch" else net.coefs_
    for old, new in zip(weights, after, strict=True):
        assert torch.equal(old, torch.as_tensor(new))
    assert found.classes_.tolist() == list(range(10))
    np.testing.assert_array_equal(found.predict(X), seeded(net.predict, X))
    # It may have seen other classes than the samples have.
    few = y < 5
    found = detector(FrozenEstimator(net)).fit(X[few], y[few])
    assert len(found.classes_) == 10
    assert found.profile_.classes.tolist() == [0, 1, 2, 3, 4]
    assert found.transform(X).shape[0] == 400


def test_binary_network(digits):
    X, y = digits
    net = skorch_net(kind=NeuralNetBinaryClassifier, module__n_classes=1)
    found = detector(net).fit(X, np.where(y > 4, "big", "small"))
    assert set(found.predict(X)) == {"big", "small"}
    assert found.score(X, np.where(y > 4, "big", "small")) > 0.9
    assert found.profile_.accuracy.min() > 0.8


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


@barely_trained
def test_inputs_that_only_skorch_takes(digits):
    X, y = digits
    parts = {"left": X[:, :4], "right": X[:, 4:8]}
    net = NeuralNetClassifier(
        TwoInputs, criterion=TupleLoss, max_epochs=2, verbose=0, train_split=None
    )
    found = detector(net).fit(parts, y % 3)
    assert found.transform(parts).shape == (400, 1)
    assert found.predict(parts).shape == (400,)
    assert found.score_samples(parts, y % 3).shape == (400,)
    found = detector().fit(Dataset(X, y), y)
    assert found.transform(torch.from_numpy(X)).shape == (400, 2)


class TupleLoss(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return super().forward(output[0], target)


def test_whole_numbers_for_an_mlp(digits):
    X, y = (16 * digits[0]).astype(int), digits[1]
    found = detector(MLPClassifier((32,), max_iter=60)).fit(X, y)
    floats = found.score_samples(X.astype(float), y)
    np.testing.assert_array_equal(found.score_samples(X, y), floats)
    assert "input" in found.layer_weights_


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


@barely_trained
def test_metadata_reaches_the_network(digits):
    X, y = digits
    weight = np.where(y < 5, 1.0, 1e-8)
    with sklearn.config_context(enable_metadata_routing=True):
        net = MLPClassifier((32,), max_iter=60).set_fit_request(sample_weight=True)
        found = detector(net).fit(X, y, sample_weight=weight)
        assert found.score(X[y < 5], y[y < 5]) > found.score(X[y >= 5], y[y >= 5]) + 0.3
    with pytest.raises(ValueError, match="only supported if enable_metadata_routing"):
        detector(net).fit(X, y, sample_weight=weight)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (LogisticRegression(), TypeError, "estimator is a LogisticRegression"),
        (
            make_pipeline(StandardScaler(), MLPClassifier()),
            TypeError,
            r"make_pipeline\(scaler, MemorizationDetector\(network\)\)",
        ),
        (seeded(mlp), TypeError, r"Wrap the module.*layer_profile"),
        (FrozenEstimator(seeded(mlp)), TypeError, r"Wrap the module.*layer_profile"),
        (NeuralNetRegressor(mlp), TypeError, "estimator is a NeuralNetRegressor"),
        (FrozenEstimator(skorch_net()), NotFittedError, "not fitted"),
        (
            skorch_net(kind=NeuralNetBinaryClassifier),
            ValueError,
            "10 classes; a NeuralNetB",
        ),
        (MLPClassifier((8,), "tanh", max_iter=5), ValueError, r"tanh1 \(Tanh\)"),
    ],
)
def test_networks_that_do_not_fit(digits, estimator, error, message):
    with pytest.raises(error, match=message):
        detector(estimator).fit(*digits)


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


@barely_trained
def test_memory_without_a_seed(digits, tmp_path):
    net = CountedNet(
        mlp, module__n_inputs=64, module__n_classes=10, criterion=nn.CrossEntropyLoss
    ).set_params(max_epochs=1, verbose=0, train_split=None)
    COUNTED.clear()
    numpy_state = np.random.mtrand._rand.get_state()
    for _ in range(2):
        detector(net, memory=str(tmp_path), random_state=None).fit(*digits)
    np.random.mtrand._rand.set_state(numpy_state)
    assert len(COUNTED) == 1


def test_frozen_network_keeps_its_mode(digits):
    X, y = digits
    net = seeded(skorch_net().fit, X, y)
    net.module_.train()
    found = detector(FrozenEstimator(net)).fit(X, y)
    found.predict(X)
    found.transform(X)
    assert all(module.training for module in net.module_.modules())


def test_a_network_that_does_not_fit_its_labels(digits):
    X, y = digits
    untrained = skorch_net(max_epochs=0)
    with pytest.warns(UserWarning, match=r"fits 0\.[01]\d of its") as caught:
        found = detector(untrained).fit(X, y)
    assert caught[0].filename == __file__
    assert found.memorization_score_ > 0.5
    # Of two classes, one that always gives the same answer fits half, and 0.9 of these.
    rare = np.arange(400) % 10 == 0
    with pytest.warns(UserWarning, match=r"fits 0\.50 of its"):
        detector(skorch_net(max_epochs=0, module__n_classes=2), n_batches=2).fit(
            X * 0, rare
        )


def test_frames_train_a_skorch_net(digits):
    X, y = digits  # pandas hands out arrays that are not writable, of which torch warns
    found = detector().fit(pd.DataFrame(X).add_prefix("x"), y)
    assert found.n_features_in_ == 64


def test_a_network_stopped_early_at_wrong_labels(digits):
    X, y = digits
    noisy = make_noisy_labels(y, 0.4, 0)
    found = detector().fit(X, noisy)  # and does not warn
    assert 0.5 < found.score(X, noisy) < 0.75


def test_a_module_that_was_trained_already(digits):
    X, y = digits
    net = NeuralNetClassifier(
        seeded(mlp, 64, 32, 10),
        criterion=nn.CrossEntropyLoss,
        max_epochs=8,
        lr=0.01,
        optimizer=torch.optim.Adam,
        train_split=None,
        verbose=0,
    )
    detector(net).fit(X, y)  # its first training
    seeded(net.fit, X, y)
    with pytest.warns(UserWarning, match=r"goes on.*FrozenEstimator") as caught:
        detector(net).fit(X, y)
    assert caught[0].filename == __file__
    detector(FrozenEstimator(net)).fit(X, y)
    detector(seeded(skorch_net().fit, X, y)).fit(X, y)  # given as a class


def test_parameters_of_parts_that_are_none():
    found = MemorizationDetector()
    with pytest.raises(ValueError, match=r"None.*nonlinearity=ActivationNonlinearity\(\)"):
        found.set_params(nonlinearity__ranks=[1, 2])
    with pytest.raises(ValueError, match="'estimator__lr' is a parameter of estimator"):
        found.set_params(estimator__lr=0.1)
    found.set_params(nonlinearity__ranks=[1, 2], nonlinearity=ActivationNonlinearity())
    assert clone(found).nonlinearity.ranks == [1, 2]
    with pytest.raises(ValueError, match="Invalid parameter 'other'"):
        found.set_params(other__ranks=[1])


def test_classes_with_few_samples(digits):
    X, y = digits
    few = np.concatenate([np.flatnonzero(y == digit)[:4] for digit in range(10)])
    names = np.array([f"d{i}" for i in range(10)])
    message = r"10 of 10 classes.*\('d0', 'd1', 'd2', 'd3', 'd4' and 5 more\)"
    with pytest.warns(UserWarning, match=message) as caught:
        detector(skorch_net(max_epochs=40)).fit(X[few], names[y[few]])
    assert caught[0].filename == __file__
    half = np.r_[few[:20], np.flatnonzero(y > 4)]  # five of ten
    detector(skorch_net(max_epochs=20)).fit(X[half], y[half])


def test_too_few_samples_to_tell():
    X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with pytest.warns(UserWarning, match="Every batch has a single sample"):
        found = detector(None).fit(X, np.arange(3))
    assert found.memorization_score_ == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_network_on_gpu(digits, tmp_path):
    X, y = digits
    found = detector(skorch_net(device="cuda")).fit(X, y)
    joblib.dump(found, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    np.testing.assert_allclose(loaded.transform(X), found.transform(X), atol=1e-4)

"""Networks that a detector trains or takes as they are, and what it warns of."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector
from sknonlin.datasets import make_noisy_labels
from tests.architectures import TwoInputs, mlp, seeded, skorch_net
from tests.conftest import barely_trained, detector, first_digits

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture(scope="module")
def digits():
    return first_digits(400)


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


@barely_trained
def test_grid_over_the_networks_own_parameters(digits):
    X, y = digits
    grid = {"estimator__module__width": [4, 32], "estimator__lr": [0.01]}
    search = GridSearchCV(detector(), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["estimator__module__width"] == 32
    widths = search.best_estimator_.profile_.errors.shape
    assert widths == (2, 10, 3)


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


# Kinds of networks and of samples


def test_binary_network(digits):
    X, y = digits
    net = skorch_net(kind=NeuralNetBinaryClassifier, module__n_classes=1)
    found = detector(net).fit(X, np.where(y > 4, "big", "small"))
    assert set(found.predict(X)) == {"big", "small"}
    assert found.score(X, np.where(y > 4, "big", "small")) > 0.9
    assert found.profile_.accuracy.min() > 0.8


class TupleLoss(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return super().forward(output[0], target)


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


def test_whole_numbers_for_an_mlp(digits):
    X, y = (16 * digits[0]).astype(int), digits[1]
    found = detector(MLPClassifier((32,), max_iter=60)).fit(X, y)
    floats = found.score_samples(X.astype(float), y)
    np.testing.assert_array_equal(found.score_samples(X, y), floats)
    assert "input" in found.layer_weights_


def test_frames_train_a_skorch_net(digits):
    X, y = digits  # pandas hands out arrays that are not writable, of which torch warns
    found = detector().fit(pd.DataFrame(X).add_prefix("x"), y)
    assert found.n_features_in_ == 64


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (LogisticRegression(), TypeError, "estimator is a LogisticRegression"),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            TypeError,
            "last step of estimator is a LogisticRegression",
        ),
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


# Networks that are trained already


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


def test_frozen_network_keeps_its_mode(digits):
    X, y = digits
    net = seeded(skorch_net().fit, X, y)
    net.module_.train()
    found = detector(FrozenEstimator(net)).fit(X, y)
    found.predict(X)
    found.transform(X)
    assert all(module.training for module in net.module_.modules())


@barely_trained
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
    with pytest.warns(UserWarning, match=r"trains a clone of it anew.*FrozenEstimator"):
        detector(seeded(skorch_net().fit, X, y)).fit(X, y)  # given as a class
    with pytest.warns(UserWarning, match="This MLPClassifier is trained already"):
        detector(MLPClassifier((32,), max_iter=60, random_state=0).fit(X, y)).fit(X, y)


# Warnings


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


def test_a_network_stopped_early_at_wrong_labels(digits):
    X, y = digits
    noisy = make_noisy_labels(y, 0.4, 0)
    with pytest.warns(UserWarning, match=r"fits 0\.[5-7]\d of its training labels\."):
        found = detector().fit(X, noisy)
    assert found.training_accuracy_ == found.score(X, noisy)


@barely_trained
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

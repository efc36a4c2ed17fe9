"""What a detector takes as its network: bare modules, pipelines, and their labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from skorch.dataset import Dataset
from torch import nn

from sknonlin import MemorizationDetector
from tests.architectures import mlp, seeded, skorch_net
from tests.conftest import detector, first_digits

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
    pytest.mark.filterwarnings("ignore:The network fits"),
]
NAMES = np.array([f"digit {9 - i}" for i in range(10)])  # not in alphabetical order


@pytest.fixture(scope="module")
def digits():
    return first_digits(400)


@pytest.fixture(scope="module")
def net(digits):
    """A trained skorch net, whose module others measure bare."""
    return seeded(skorch_net().fit, *digits)


def table(X, y):
    """A frame with a category among its columns, and labels as strings."""
    frame = pd.DataFrame(16 * X).add_prefix("pixel")
    frame["half"] = np.where(frame["pixel2"] > 4, "dark", "bright")
    frame.index = [f"row {i}" for i in range(len(X))]
    return frame, NAMES[y]


def coded(net):
    """A pipeline that makes 66 columns of the table."""
    columns = make_column_transformer(
        (OneHotEncoder(), ["half"]), remainder=StandardScaler()
    )
    return make_pipeline(columns, net)


# Bare modules


def test_a_bare_module_is_measured_as_it_is(digits, net):
    X, y = digits
    module = net.module_.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = detector(module).fit(X, y)
    frozen = detector(FrozenEstimator(net)).fit(X, y)
    assert found.estimator_ is module
    assert module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert found.memorization_score_ == frozen.memorization_score_
    np.testing.assert_array_equal(found.score_samples(X, y), frozen.score_samples(X, y))
    np.testing.assert_array_equal(found.predict(X), frozen.predict(X))
    np.testing.assert_allclose(
        found.predict_proba(X), frozen.predict_proba(X), rtol=1e-5, atol=1e-7
    )
    assert detector(FrozenEstimator(module)).fit(X, y).score(X, y) == found.score(X, y)
    assert clone(found).fit(X, y).memorization_score_ == found.memorization_score_


@pytest.mark.parametrize(
    "samples",
    [
        lambda X: X.astype(np.float64),
        torch.from_numpy,
        lambda X: Dataset(X, np.zeros(len(X))),
        pd.DataFrame,
        lambda X: X.reshape(-1, 8, 8),
    ],
)
def test_samples_of_a_bare_module(digits, net, samples):
    X, y = digits
    module = nn.Sequential(nn.Flatten(), net.module_)
    found = detector(module).fit(samples(X), y)
    expected = detector(module).fit(X, y)
    np.testing.assert_allclose(
        found.predict_proba(samples(X)), expected.predict_proba(X), rtol=1e-5, atol=1e-7
    )
    assert found.memorization_score_ == pytest.approx(
        expected.memorization_score_, abs=1e-5
    )


@pytest.mark.parametrize("output", [nn.Identity(), nn.Sigmoid(), nn.Flatten(0)])
def test_a_bare_module_of_one_output(digits, output):
    X, y = digits[0], (digits[1] > 4).astype(int)
    module = nn.Sequential(seeded(mlp, 64, 32, 1), output)
    found = detector(module).fit(X, y)
    with torch.no_grad():
        values = module[0](torch.from_numpy(X))[:, 0].double()
    expected = values.sigmoid().numpy()
    np.testing.assert_allclose(found.predict_proba(X)[:, 1], expected, rtol=1e-4)
    np.testing.assert_array_equal(found.predict(X), expected > 0.5)


# Names of outputs


def test_labels_of_outputs(digits, net):
    X, y = digits
    numbers = detector(net.module_).fit(X, y)
    for estimator in (net.module_, FrozenEstimator(net)):
        found = detector(estimator, classes=NAMES).fit(X, NAMES[y])
        assert found.classes_.tolist() == NAMES.tolist()
        np.testing.assert_array_equal(found.predict(X), NAMES[numbers.predict(X)])
        np.testing.assert_array_equal(
            found.score_samples(X, NAMES[y]), numbers.score_samples(X, y)
        )
        report = found.label_report(X, NAMES[y])
        assert set(report.suggested) <= set(NAMES)
        np.testing.assert_array_equal(report.given, NAMES[y][report["index"]])


@pytest.mark.parametrize(
    ("estimator", "classes", "message"),
    [
        ("module", None, r"does not know.*MemorizationDetector\(net, classes=\[\.\.\.\]\)"),
        ("module", NAMES[:4], "classes has 4 labels, but the network tells 10"),
        ("module", ["a"] * 10, "has repeats"),
        ("module", [None] * 10, "classes must be a list of labels.*missing"),
        ("module", set(NAMES.tolist()), "has no order"),
        ("net", NAMES, "leave classes out"),
        (MLPClassifier(), NAMES, "leave classes out"),
    ],
)
def test_labels_that_are_not_those_of_outputs(digits, net, estimator, classes, message):
    X, y = digits
    given = {"module": net.module_, "net": skorch_net()}
    with pytest.raises(ValueError, match=message):
        detector(given.get(estimator, estimator), classes=classes).fit(X, NAMES[y])


# Pipelines


@pytest.mark.parametrize(
    "network",
    [
        lambda: skorch_net(module__n_inputs=66),
        lambda: MLPClassifier((32,), max_iter=60, random_state=0),
    ],
)
def test_a_pipeline_of_steps_and_a_network(digits, network):
    frame, labels = table(*digits)
    found = detector(coded(network())).fit(frame, labels)
    assert isinstance(found.estimator_, Pipeline)
    assert found.feature_names_in_.tolist() == frame.columns.tolist()
    assert found.score(frame, labels) > 0.8
    report = found.label_report(frame, labels)
    assert set(report.index) == set(frame.index)
    inputs = found.estimator_[:-1].transform(frame).astype(np.float32)
    inner = detector(FrozenEstimator(found.estimator_[-1]))
    own = labels if isinstance(found.estimator_[-1], MLPClassifier) else None
    codes = np.searchsorted(found.classes_, labels)
    inner.fit(inputs, codes if own is None else own)
    assert found.memorization_score_ == pytest.approx(inner.memorization_score_, abs=1e-5)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame.rename(columns={"pixel0": "other"}))


def test_pipelines_that_are_trained(digits):
    X, y = digits
    trained = make_pipeline(
        StandardScaler(), MLPClassifier((32,), max_iter=60, random_state=0)
    ).fit(X, y)
    whole = detector(FrozenEstimator(trained)).fit(X, y)
    np.testing.assert_array_equal(whole.predict(X), trained.predict(X))
    last = make_pipeline(StandardScaler(), FrozenEstimator(trained[-1]))
    assert detector(last).fit(X, y).memorization_score_ == whole.memorization_score_
    module = make_pipeline(StandardScaler(), seeded(mlp, 64, 32, 10))
    found = detector(module, classes=NAMES).fit(X, NAMES[y])
    assert found.estimator_[-1] is module[-1]
    with pytest.raises(NotFittedError):
        detector(FrozenEstimator(make_pipeline(StandardScaler(), trained[-1]))).fit(X, y)


def scaled(*steps):
    return make_pipeline(StandardScaler(), *steps)


SHAPES = {
    "nested": lambda mlp: scaled(make_pipeline(PCA(20, random_state=0), mlp)),
    "passthrough": lambda mlp: scaled("passthrough", mlp),
    "one step": make_pipeline,
    "twice the same": lambda mlp: scaled(make_pipeline(StandardScaler(), mlp)),
    "without a fit": lambda mlp: make_pipeline(FunctionTransformer(np.sqrt), mlp),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_step_of_a_pipeline_is_lost(digits, shape):
    X, y = digits
    mlp = MLPClassifier((32,), max_iter=60, random_state=0)
    pipe = SHAPES[shape](mlp).fit(X, y)
    for estimator in (
        clone(pipe),
        FrozenEstimator(pipe),
        FrozenEstimator(FrozenEstimator(pipe)),
    ):
        found = detector(estimator).fit(X, y)
        np.testing.assert_array_equal(found.predict(X), pipe.predict(X))
        assert found.training_accuracy_ == pipe.score(X, y)
        assert isinstance(found.estimator_, Pipeline)
        np.testing.assert_array_equal(found.estimator_.predict(X), pipe.predict(X))


def test_fitted_steps_before_a_trained_network_stay(digits):
    X, y = digits
    pipe = scaled(MLPClassifier((32,), max_iter=60, random_state=0)).fit(X, y)
    part = make_pipeline(pipe[0], FrozenEstimator(pipe[1]))
    found = detector(part).fit(X[:200] * 2, y[:200])
    np.testing.assert_array_equal(found.predict(X), pipe.predict(X))
    inner = scaled(FrozenEstimator(scaled(clone(pipe[1])).fit(X, y)))
    found = detector(inner).fit(X, y)
    np.testing.assert_array_equal(found.predict(X), inner.fit(X, y).predict(X))


def test_a_pipeline_keeps_its_settings(digits, tmp_path):
    X, y = digits
    mlp = MLPClassifier((32,), max_iter=60, random_state=0)
    found = detector(
        make_pipeline(StandardScaler(), mlp, memory=str(tmp_path), verbose=False)
    ).fit(X, y)
    assert found.estimator_.memory == str(tmp_path)


def test_a_search_over_a_pipeline(digits):
    frame, labels = table(*digits)
    search = GridSearchCV(
        detector(coded(MLPClassifier(max_iter=30, random_state=0))),
        {"estimator__mlpclassifier__hidden_layer_sizes": [(8,), (32,)]},
        cv=2,
    ).fit(frame, labels)
    assert search.best_params_ == {"estimator__mlpclassifier__hidden_layer_sizes": (32,)}
    assert search.predict(frame).shape == labels.shape


def test_metadata_do_not_reach_a_pipeline(digits):
    frame, labels = table(*digits)
    with pytest.raises((ValueError, TypeError)):
        detector(coded(MLPClassifier())).fit(frame, labels, sample_weight=np.ones(400))


def test_a_pipeline_around_a_detector_says_what_it_scores(digits):
    X, y = digits
    pipe = make_pipeline(
        StandardScaler(),
        MemorizationDetector(MLPClassifier((32,), max_iter=60, random_state=0)),
    ).fit(X, y)
    with pytest.warns(UserWarning, match=r"labels that the network predicts.*pipe\[-1\]"):
        found = pipe.score_samples(X)
    inputs = pipe[:-1].transform(X)
    np.testing.assert_array_equal(found, pipe[-1].score_samples(inputs, pipe.predict(X)))

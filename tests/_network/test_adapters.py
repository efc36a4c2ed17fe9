"""One interface to torch, skorch and scikit-learn networks."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector
from sknonlin._network.adapters import as_network, probabilities_of
from tests.architectures import TwoInputs, mlp, seeded

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
    pytest.mark.filterwarnings("ignore:The network fits"),
]
X = np.random.default_rng(0).normal(size=(40, 4))
y = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])
HALVES = [torch.bfloat16, torch.float16]


def skorch_net(kind=NeuralNetClassifier, module=mlp, **settings):
    settings = {"train_split": None, "verbose": 0, "max_epochs": 2} | settings
    if kind is NeuralNetClassifier:
        settings.setdefault("criterion", nn.CrossEntropyLoss)
    return kind(module, **settings)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_mlp_of_scikit_learn_as_a_module(activation, n_classes):
    labels = np.array(["b", "c", "a"])[np.minimum(y, n_classes - 1)]
    model = MLPClassifier((6, 5), activation=activation, max_iter=20, random_state=0)
    model.fit(X, labels)
    network = as_network(model)
    batch = network.sample(X, np.arange(40))
    assert batch.dtype == torch.float64
    output = network.run(batch)
    assert np.array_equal(model.classes_[network.codes(output).numpy()], model.predict(X))
    codes = network.encode(labels, output)
    assert np.array_equal(model.classes_[codes.numpy()], labels)
    assert [n for n, _ in network.module.named_children()][1] == f"{activation}1"


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_regressors_have_no_classes():
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=20, random_state=0).fit(
        X, X[:, 0]
    )
    network = as_network(FrozenEstimator(model))
    output = network.run(network.sample(X, [0, 1]))
    np.testing.assert_allclose(output[:, 0], model.predict(X[:2]))
    assert network.codes(output) is None
    net = seeded(
        skorch_net(NeuralNetRegressor, module__n_classes=1).fit, *as32(X, X[:, :1])
    )
    network = as_network(net)
    assert network.codes(network.run(network.sample(X, [0]))) is None


def as32(*arrays):
    return [np.asarray(array, dtype=np.float32) for array in arrays]


def test_skorch_classifier():
    net = seeded(skorch_net().fit, *as32(X), y)
    network = as_network(net)
    predicted = network.codes(network.run(network.sample(X, np.arange(40))))
    assert np.array_equal(predicted.detach().numpy(), seeded(net.predict, *as32(X)))


def test_skorch_binary_classifier_has_its_threshold():
    net = skorch_net(NeuralNetBinaryClassifier, module__n_classes=1, threshold=0.4)
    net = seeded(net.fit, *as32(X, y > 1))
    network = as_network(net)
    output = network.run(network.sample(X, np.arange(40)))
    assert np.array_equal(network.codes(output).numpy(), seeded(net.predict, *as32(X)))
    assert network.encode(np.array([0, 1]), output).tolist() == [0, 1]


def test_inputs_of_many_kinds():
    network = as_network(seeded(mlp))
    expected = torch.tensor(X[[3, 1]], dtype=torch.float32)
    for data in (X, X.tolist(), torch.tensor(X), pd.DataFrame(X), Dataset(X)):
        torch.testing.assert_close(network.sample(data, [3, 1]), expected)
    network = as_network(seeded(TwoInputs))
    batch = network.sample({"left": X, "right": X}, [0, 1])
    assert network.run(batch).shape == (2, 3)
    assert len(network.sample((X, X), [0, 1, 2])[1]) == 3


def test_dataset_of_a_skorch_net():
    class Doubled(Dataset):
        def transform(self, X, y):
            return super().transform(2 * X, y)

    net = seeded(skorch_net(dataset=Doubled).fit, *as32(X), y)
    batch = as_network(net).sample(*as32(X), [3, 1])
    torch.testing.assert_close(batch, torch.tensor(2 * X[[3, 1]], dtype=torch.float32))


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (skorch_net(), NotFittedError, "not fitted"),
        (FrozenEstimator(MLPClassifier()), NotFittedError, "not fitted"),
        (LogisticRegression(), TypeError, "net is a LogisticRegression"),
        (mlp, TypeError, "net is a function"),
    ],
)
def test_what_is_no_trained_network(net, error, message):
    with pytest.raises(error, match=message):
        as_network(net)


def test_labels_without_an_output():
    network = as_network(seeded(mlp))
    output = network.run(network.sample(X, [0, 1]))
    with pytest.raises(ValueError, match=r"does not know: \[3, 7\].*\[0, 1, 2\]"):
        network.encode(np.array([0, 3, 7]), output)


def test_probabilities_from_such_their_logarithms_and_logits():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    shares = logits.softmax(1)
    for output in (logits, shares, shares.log()):
        torch.testing.assert_close(probabilities_of(output), shares)
    one = probabilities_of(logits[:, :1])
    torch.testing.assert_close(one[:, 1], logits[:, 0].sigmoid())
    torch.testing.assert_close(one.sum(1), torch.ones(5))


def test_doubts_are_the_probability_of_other_classes():
    net = seeded(skorch_net(module__n_classes=3).fit, *as32(X), y)
    with torch.no_grad():
        output = as_network(net).run(torch.from_numpy(*as32(X)))
    found = as_network(net, np.arange(3)).doubts(output, torch.from_numpy(y)).numpy()
    own = seeded(net.predict_proba, *as32(X))[np.arange(len(y)), y]
    np.testing.assert_allclose(found, 1 - own, atol=1e-6)
    fewer = as_network(net, np.arange(2)).probabilities(output)
    torch.testing.assert_close(fewer, output[:, :2].softmax(1))
    sharp = 60.0 * torch.eye(3)  # whose probabilities of others are below float's spacing
    assert 0 < as_network(net).doubts(sharp, torch.arange(3)).max() < 1e-20


def test_outputs_that_are_not_a_classifiers():
    network = as_network(seeded(mlp))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\)"):
        network.codes(torch.zeros(2, 3, 4))
    with pytest.raises(TypeError, match="returned a str"):
        as_network(Texter()).run(torch.zeros(1))


class Texter(nn.Module):
    def forward(self, x):
        return "text"


# What a network predicts has one owner, whatever the network's outputs and precision


class WithinAutocast(nn.Sequential):
    """Runs in half precision, whatever its weights are in."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class PartlyHalf(nn.Module):
    """Weights of two precisions."""

    def __init__(self, n_classes):
        super().__init__()
        self.first = nn.Linear(64, 32)
        self.second = nn.Linear(32, 32, dtype=torch.bfloat16)
        self.last = nn.Linear(32, n_classes)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x.bfloat16()))
        return self.last(x.float())


def digits_net(module=mlp, kind=NeuralNetClassifier, n_classes=10, **settings):
    if module is mlp:
        settings |= {"module__n_inputs": 64, "module__width": 32}
    if kind is NeuralNetClassifier:
        settings["criterion"] = nn.CrossEntropyLoss
    return kind(
        module,
        module__n_classes=n_classes,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=5,
        train_split=None,
        verbose=0,
        **settings,
    )


def mlp_of_scikit_learn():
    return MLPClassifier((16,), max_iter=9, random_state=0)


def autocast_network(n_classes):
    return WithinAutocast(*mlp(64, 32, n_classes))


def frozen(net, X, y, dtype=None):
    """A trained net, in some precision."""
    net = seeded(net.fit, X, y)
    if dtype is not None:
        net.module_.to(dtype)
    return FrozenEstimator(net)


# Of the digits, those asked for; how labels are called; and the network, from both.
CASES = {
    "more outputs than classes": ((0, 1), None, lambda X, y: digits_net()),
    "more outputs, the last classes missing": ((0, 1, 2), None, lambda X, y: digits_net()),
    "more outputs, classes not the first": ((7, 9), None, lambda X, y: digits_net()),
    "more outputs, string labels": ((3, 4, 8), "digit{}", lambda X, y: digits_net()),
    "as many outputs": (range(10), None, lambda X, y: digits_net()),
    "one logit": (
        (3, 8),
        "digit{}",
        lambda X, y: digits_net(kind=NeuralNetBinaryClassifier, n_classes=1),
    ),
    "one logit, another threshold": (
        (3, 8),
        None,
        lambda X, y: digits_net(kind=NeuralNetBinaryClassifier, n_classes=1, threshold=0.9),
    ),
    "scikit-learn, two classes": ((3, 8), "d{}", lambda X, y: mlp_of_scikit_learn()),
    "scikit-learn, strings": ((3, 5, 8), "d{}", lambda X, y: mlp_of_scikit_learn()),
    "default network": ((3, 5, 8), "d{}", lambda X, y: None),
    "frozen, fewer classes seen": ((0, 1), None, lambda X, y: frozen(digits_net(), X, y)),
    "frozen, scikit-learn": (
        (3, 5),
        "d{}",
        lambda X, y: FrozenEstimator(mlp_of_scikit_learn().fit(X, y)),
    ),
    "autocast inside": (
        (0, 1, 2),
        None,
        lambda X, y: digits_net(autocast_network),
    ),
    "weights of two precisions": (
        (0, 1, 2),
        None,
        lambda X, y: frozen(digits_net(PartlyHalf), X, y),
    ),
    "double": (
        (0, 1),
        None,
        lambda X, y: frozen(digits_net(), X, y, torch.float64),
    ),
} | {
    f"frozen in {dtype}{', one logit' if binary else ''}": (
        (0, 1),
        None,
        lambda X, y, dtype=dtype, binary=binary: frozen(
            digits_net(kind=NeuralNetBinaryClassifier, n_classes=1)
            if binary
            else digits_net(),
            X,
            y.astype(np.float32) if binary else y,
            dtype,
        ),
    )
    for dtype in HALVES
    for binary in (False, True)
}


@pytest.mark.parametrize("case", CASES)
def test_every_answer_is_the_same(digits, case):
    chosen, name, make = CASES[case]
    X, y = digits
    kept = np.isin(y, chosen)
    X, y = X[kept], y[kept]
    if name is not None:
        y = np.array([name.format(digit) for digit in y])
    samples = X.astype(np.float64) if case == "double" else X
    detector = MemorizationDetector(
        make(X, y),
        nonlinearity=ActivationNonlinearity([1, 4]),
        batch_size=len(X),  # so that the profile sees all samples of a class
        random_state=0,
    ).fit(samples, y)
    predicted = detector.predict(samples)
    probabilities = detector.predict_proba(samples)
    assert probabilities.shape == (len(X), len(detector.classes_))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-3)
    assert set(predicted) <= set(detector.classes_)
    if "threshold" not in case:
        np.testing.assert_array_equal(predicted, detector.classes_[probabilities.argmax(1)])
    scores = detector.score_samples(samples)
    assert np.isfinite(scores).all()
    # In half precision, who is in a pass with a sample can change the answer to a tie.
    same = scores == detector.score_samples(samples, predicted)
    half = "float16" in case or "autocast" in case
    assert same.mean() > (0.95 if half else 0.999)
    assert np.isfinite(detector.transform(samples)).all()
    assert np.isfinite(detector.score_samples(samples, y)).all()
    right = [(predicted[y == label] == label).mean() for label in np.unique(y)]
    np.testing.assert_allclose(detector.profile_.accuracy, right, atol=0.02)
    np.testing.assert_array_equal(detector.profile_.classes, np.unique(y))
    assert detector.measure(samples, y)[0] == detector.memorization_score_
    detector.label_report(samples, y)


@pytest.mark.parametrize("kind", ["trained", "frozen"])
def test_fewer_outputs_than_classes(digits, kind):
    X, y = digits
    net = digits_net(n_classes=4)
    message = "fewer outputs than y has classes, 10"
    if kind == "frozen":
        few = y < 4
        net = FrozenEstimator(seeded(net.fit, X[few], y[few]))
        message = r"does not know: \[4, 5, 6, 7, 8, 9\]"
    with pytest.raises(ValueError, match=message):
        MemorizationDetector(net, random_state=0).fit(X, y)


def out_of_bounds(X):
    raise IndexError("index 7 is out of bounds for axis 0 with size 4")


def test_other_index_errors_stay_what_they_are(digits):
    net = digits_net(iterator_train__collate_fn=out_of_bounds)
    with pytest.raises(IndexError, match="index 7"):
        MemorizationDetector(net, random_state=0).fit(*digits)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_rows_have_no_less_than_single_precision(dtype):
    network = as_network(seeded(mlp).to(dtype))
    assert network.dtype == dtype
    assert network.row_dtype == (dtype if dtype.itemsize > 4 else torch.float32)


class Sharpened(NeuralNetClassifier):
    """Has probabilities of its own."""

    def predict_proba(self, X):
        probabilities = super().predict_proba(X) ** 2
        return probabilities / probabilities.sum(1, keepdims=True)


class Always(NeuralNetBinaryClassifier):
    """Has answers of its own."""

    def predict(self, X):
        return np.ones(len(X), dtype=np.uint8)


class AsTypes(Dataset):
    """Needs an array."""

    def transform(self, X, y):
        return super().transform(X.astype(np.float32), y)


class Double(nn.Sequential):
    def forward(self, x):
        return super().forward(x).double()


def double_network(n_classes):
    return Double(*mlp(64, 32, n_classes))


temperature = nn.Parameter(torch.tensor(2.0))


def cooled(output):
    return torch.softmax(output / temperature, 1)


@pytest.mark.parametrize(
    "net",
    [
        digits_net(kind=NeuralNetClassifier),
        digits_net(kind=Sharpened, criterion=nn.CrossEntropyLoss),
        digits_net(dataset=AsTypes),
        digits_net(predict_nonlinearity=cooled),
        digits_net(double_network),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_those_of_the_net(digits, net, dtype):
    X, y = digits
    net = seeded(net.fit, X, y)
    found = as_network(net, np.arange(10)).predict_proba(X.astype(dtype))
    expected = seeded(net.predict_proba, X)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_binary_net_may_have_answers_of_its_own(digits):
    X, y = digits
    net = digits_net(kind=Always, n_classes=1, criterion=nn.BCEWithLogitsLoss)
    net = seeded(net.fit, X, (y > 4).astype(np.float32))
    for samples in (X, X.astype(np.float64)):
        assert (
            as_network(net, np.array(["a", "b"])).predict(samples).tolist() == ["b"] * 300
        )


def test_a_perceptron_in_a_file_that_is_only_read(digits, tmp_path):
    mlp = mlp_of_scikit_learn().fit(*digits)
    joblib.dump(mlp, tmp_path / "mlp.joblib")
    mapped = joblib.load(tmp_path / "mlp.joblib", mmap_mode="r")
    weight = as_network(mapped).module[0].weight
    assert np.array_equal(weight, mlp.coefs_[0].T)


def test_a_copy_of_a_perceptron_leaves_its_optimizer_behind(digits):
    mlp = mlp_of_scikit_learn().fit(*digits)
    network = pickle.loads(pickle.dumps(as_network(mlp)))
    batch = network.sample(digits[0], [0, 1, 2])
    assert network.mlp is None
    assert (
        mlp.classes_[network.codes(network.run(batch))] == mlp.predict(digits[0][:3])
    ).all()

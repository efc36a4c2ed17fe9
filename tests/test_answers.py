"""What a network predicts has one owner, whatever the network's outputs and precision."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector
from sknonlin._network.adapters import as_network
from tests.architectures import mlp, seeded

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
    pytest.mark.filterwarnings("ignore:The network fits"),
]
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:300] / 16).astype(np.float32), y[:300]


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


def skorch_net(module=mlp, kind=NeuralNetClassifier, n_classes=10, **settings):
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
    "more outputs than classes": ((0, 1), None, lambda X, y: skorch_net()),
    "more outputs, the last classes missing": ((0, 1, 2), None, lambda X, y: skorch_net()),
    "more outputs, classes not the first": ((7, 9), None, lambda X, y: skorch_net()),
    "more outputs, string labels": ((3, 4, 8), "digit{}", lambda X, y: skorch_net()),
    "as many outputs": (range(10), None, lambda X, y: skorch_net()),
    "one logit": (
        (3, 8),
        "digit{}",
        lambda X, y: skorch_net(kind=NeuralNetBinaryClassifier, n_classes=1),
    ),
    "one logit, another threshold": (
        (3, 8),
        None,
        lambda X, y: skorch_net(kind=NeuralNetBinaryClassifier, n_classes=1, threshold=0.9),
    ),
    "scikit-learn, two classes": ((3, 8), "d{}", lambda X, y: mlp_of_scikit_learn()),
    "scikit-learn, strings": ((3, 5, 8), "d{}", lambda X, y: mlp_of_scikit_learn()),
    "default network": ((3, 5, 8), "d{}", lambda X, y: None),
    "frozen, fewer classes seen": ((0, 1), None, lambda X, y: frozen(skorch_net(), X, y)),
    "frozen, scikit-learn": (
        (3, 5),
        "d{}",
        lambda X, y: FrozenEstimator(mlp_of_scikit_learn().fit(X, y)),
    ),
    "autocast inside": (
        (0, 1, 2),
        None,
        lambda X, y: skorch_net(autocast_network),
    ),
    "weights of two precisions": (
        (0, 1, 2),
        None,
        lambda X, y: frozen(skorch_net(PartlyHalf), X, y),
    ),
    "double": (
        (0, 1),
        None,
        lambda X, y: frozen(skorch_net(), X, y, torch.float64),
    ),
} | {
    f"frozen in {dtype}{', one logit' if binary else ''}": (
        (0, 1),
        None,
        lambda X, y, dtype=dtype, binary=binary: frozen(
            skorch_net(kind=NeuralNetBinaryClassifier, n_classes=1)
            if binary
            else skorch_net(),
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
    net = skorch_net(n_classes=4)
    message = "fewer outputs than y has classes, 10"
    if kind == "frozen":
        few = y < 4
        net = FrozenEstimator(seeded(net.fit, X[few], y[few]))
        message = r"does not know: \[4, 5, 6, 7, 8, 9\]"
    with pytest.raises(ValueError, match=message):
        MemorizationDetector(net, random_state=0).fit(X, y)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_rows_have_no_less_than_single_precision(dtype):
    network = as_network(seeded(mlp).to(dtype))
    assert network.dtype == dtype
    assert network.row_dtype == (dtype if dtype.itemsize > 4 else torch.float32)

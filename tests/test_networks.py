"""One interface to torch, skorch and scikit-learn networks."""

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
from torch.utils.data import DataLoader

from sknonlin._network.adapters import as_network
from tests.architectures import TwoInputs, mlp, seeded

X = np.random.default_rng(0).normal(size=(40, 4))
y = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])


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


def test_loader_is_not_samples():
    loader = DataLoader(Dataset(X, y))
    with pytest.raises(TypeError, match="pass its dataset"):
        as_network(seeded(mlp)).sample(loader, [0])


def test_outputs_that_are_not_a_classifiers():
    network = as_network(seeded(mlp))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\)"):
        network.codes(torch.zeros(2, 3, 4))
    with pytest.raises(TypeError, match="returned a str"):
        as_network(Texter()).run(torch.zeros(1))


class Texter(nn.Module):
    def forward(self, x):
        return "text"

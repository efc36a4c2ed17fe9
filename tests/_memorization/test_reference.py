"""Networks that have nothing to know, and what a detector says of its own beside them."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sknonlin._memorization.reference import renew, untrained_reference
from sknonlin._network.adapters import as_network
from tests.architectures import mlp, seeded, skorch_net
from tests.conftest import barely_trained, detector, first_digits

pytestmark = [
    barely_trained,
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]


@pytest.fixture(scope="module")
def digits():
    return first_digits(400)


@pytest.fixture(scope="module")
def learned(digits):
    return seeded(skorch_net(max_epochs=30).fit, *digits)


def weights_of(module):
    return [weight.detach().clone() for weight in module.parameters()]


def test_what_is_beside_the_score(digits, learned):
    X, y = digits
    found = detector(FrozenEstimator(learned)).fit(X, y)
    low, high = found.memorization_interval_
    assert 0 <= low < found.memorization_score_ < high <= 1
    assert found.layer_intervals_.shape == (2, 2)
    assert (found.layer_intervals_[:, 0] <= found.layer_scores_).all()
    assert (found.layer_scores_ <= found.layer_intervals_[:, 1]).all()
    assert (found.layer_p_values_ < 0.01).all()  # it knows its classes
    assert found.training_accuracy_ == found.score(X, y)
    assert not hasattr(found, "reference_score_")
    untrained = detector(skorch_net(max_epochs=0)).fit(
        X, np.random.default_rng(0).permutation(y)
    )
    assert (untrained.layer_p_values_ > 0.01).all()


@pytest.mark.parametrize(
    ("network", "kind"),
    [("skorch", "shuffled"), ("frozen", "untrained"), ("sklearn", "shuffled")],
)
def test_the_reference_scores_higher(digits, learned, kind, network):
    X, y = digits
    estimator = {
        "skorch": skorch_net(max_epochs=30),
        "frozen": FrozenEstimator(learned),
        "sklearn": MLPClassifier((32, 32), max_iter=60, random_state=0),
    }[network]
    before = weights_of(learned.module_)
    found = detector(estimator, reference=kind).fit(X, y)
    low, high = found.reference_interval_
    assert found.memorization_score_ < low <= found.reference_score_ <= high
    assert 0 <= found.reference_accuracy_ <= 1
    if kind == "untrained":
        assert found.reference_accuracy_ < 0.4
    for weight, was in zip(learned.module_.parameters(), before, strict=True):
        assert torch.equal(weight, was)
    again = detector(estimator, reference=kind).fit(X, y)
    assert again.reference_score_ == found.reference_score_
    again.set_params(reference=None).fit(X, y)
    assert not hasattr(again, "reference_score_")


def test_a_net_of_a_trained_object_begins_anew(digits, learned):
    X, y = digits
    net = NeuralNetClassifier(
        learned.module_, criterion=nn.CrossEntropyLoss, max_epochs=0, train_split=None
    ).set_params(verbose=0)
    found = detector(FrozenEstimator(net.initialize()), reference="shuffled").fit(X, y)
    assert found.training_accuracy_ > 0.9
    assert found.reference_accuracy_ < 0.4  # it was trained for no epoch


def test_bare_modules(digits, learned):
    X, y = digits
    found = detector(learned.module_, reference="untrained").fit(X, y)
    assert found.memorization_score_ < found.reference_score_
    with pytest.raises(ValueError, match=r"bare module.*reference='untrained'"):
        detector(learned.module_, reference="shuffled").fit(X, y)


class Scaled(nn.Module):
    """A module that does not know how to begin."""

    def __init__(self):
        super().__init__()
        self.inner = mlp(64, 16, 10)
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, X):
        return self.inner(X) * self.scale


def test_what_cannot_begin_is_told_before_the_training(digits):
    X, y = digits
    message = "'', a Scaled, has no method reset_parameters that"
    with pytest.raises(ValueError, match=message):
        detector(seeded(Scaled), reference="untrained").fit(X[:, :3], y)


def test_parts_of_torch_begin_anew():
    module = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0))
    before = weights_of(module)
    renew(module, 1)
    for weight, was in zip(module.parameters(), before, strict=True):
        assert weight.ndim == 1 or not torch.equal(weight, was)
    normed = seeded(lambda: nn.Sequential(mlp(), weight_norm(nn.Linear(3, 4))))
    with pytest.raises(ValueError, match="remove parametrizations such as weight norms"):
        renew(normed, 1)


def test_new_weights():
    module = seeded(mlp)
    before = weights_of(module)
    twin = untrained_reference(as_network(module), 1)
    for weight, new, was in zip(
        module.parameters(), twin.module.parameters(), before, strict=True
    ):
        assert torch.equal(weight, was)
        assert not torch.equal(new, was)
    again = untrained_reference(as_network(module), 1)
    assert torch.equal(next(again.module.parameters()), next(twin.module.parameters()))
    with pytest.raises(
        ValueError, match="'', a Scaled, has no method reset_parameters that"
    ):
        renew(seeded(Scaled), 0)

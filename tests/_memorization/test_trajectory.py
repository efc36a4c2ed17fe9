"""The losses of samples over a training."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import MemorizationDetector
from sknonlin._memorization.known_samples import labelled, sample_keys
from sknonlin._memorization.trajectory import Trajectory, trajectory_of, watched
from sknonlin.callbacks import MemorizationStopping, NonlinearityScoring
from sknonlin.datasets import make_noisy_labels
from tests.architectures import mlp, seeded
from tests.conftest import first_digits


def net(**settings):
    settings = {"criterion": nn.CrossEntropyLoss, "max_epochs": 100} | settings
    return NeuralNetClassifier(
        mlp,
        module__n_inputs=64,
        module__n_classes=10,
        optimizer=torch.optim.Adam,
        batch_size=50,
        train_split=None,
        verbose=0,
        **{"lr": 0.003} | settings,
    )


class Named(nn.Module):
    """A criterion that skorch does not know the probabilities of."""

    def forward(self, output, y):
        return nn.functional.cross_entropy(output, y)


@pytest.fixture(scope="module")
def digits():
    X, y = first_digits(300)
    return X, make_noisy_labels(y, 0.2, 0, kind="flip"), y


def names_of(X, y):
    return labelled(sample_keys(torch.from_numpy(X), len(X)), y)


def test_losses_are_means_over_the_epochs(digits):
    X, given, _ = digits
    trained = seeded(lambda: watched(net(lr=0.0, max_epochs=3)).fit(X, given))
    found = trajectory_of(trained).mean_losses(names_of(X, given))
    shares = seeded(trained.predict_proba, X)[np.arange(300), given]
    np.testing.assert_allclose(found, -np.log(shares), rtol=1e-4)
    assert trajectory_of(trained).mean_losses(names_of(X, (given + 1) % 10)) is None


def test_wrong_labels_are_learned_late(digits):
    X, given, y = digits
    shuffled = watched(net(iterator_train__shuffle=True))
    trained = seeded(lambda: shuffled.fit(X, given))
    found = trajectory_of(trained).mean_losses(names_of(X, given))
    assert found[given != y].mean() > 2 * found[given == y].mean()


def test_the_users_callbacks_stay(digits):
    X, given, _ = digits
    own = Trajectory()
    with_one = watched(net(callbacks=[("own", own)]))
    assert with_one.callbacks[0] == ("own", own)
    disabled = watched(net(callbacks="disable", max_epochs=1))
    assert trajectory_of(seeded(lambda: disabled.fit(X, given))) is None


@pytest.mark.filterwarnings("ignore:The network fits")
@pytest.mark.parametrize("callback", [NonlinearityScoring, MemorizationStopping])
def test_a_callback_that_measures_records_it(digits, callback):
    X, given, _ = digits
    scoring = callback(batch_size=100)
    trained = seeded(lambda: net(max_epochs=20, callbacks=[scoring]).fit(X, given))
    alone = seeded(lambda: watched(net(max_epochs=20)).fit(X, given))
    names = names_of(X, given)
    found = trajectory_of(trained).mean_losses(names)
    np.testing.assert_array_equal(found, trajectory_of(alone).mean_losses(names))
    frozen = MemorizationDetector(FrozenEstimator(trained), random_state=0).fit(X, given)
    assert "training" in frozen.layer_weights_


def test_a_module_whose_outputs_are_logits_by_another_name(digits):
    X, given, _ = digits
    logits = net(criterion=Named, max_epochs=3, lr=0.0)
    trained = seeded(lambda: watched(logits).fit(X, given))
    shares = torch.from_numpy(seeded(trained.predict_proba, X)).softmax(1).numpy()
    found = trajectory_of(trained).mean_losses(names_of(X, given))
    np.testing.assert_allclose(found, -np.log(shares[np.arange(300), given]), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The network fits")
def test_the_detector_has_it_as_a_layer(digits):
    X, given, _ = digits
    found = MemorizationDetector(net(), random_state=0).fit(X, given)
    assert list(found.layer_weights_) == ["input", *found.layer_names_, "training"]
    scores = found.score_samples(X, given)
    np.testing.assert_allclose(found.score_samples(X[:9], given[:9]), scores[:9], atol=1e-5)
    assert np.isfinite(found.score_samples(X[:9] + 1, given[:9])).all()  # not trained on
    assert found.transform(X).shape == (300, len(found.layer_names_))
    plain = net(callbacks="disable")
    without = MemorizationDetector(plain, random_state=0).fit(X, given)
    assert "training" not in without.layer_weights_
    assert plain.callbacks == "disable"

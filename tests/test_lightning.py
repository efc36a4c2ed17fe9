"""Stopping a training of PyTorch Lightning; skipped where it is not installed."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sknonlin.datasets import make_noisy_labels
from tests.conftest import first_digits

lightning = pytest.importorskip("lightning.pytorch")
pytestmark = [
    pytest.mark.usefixtures("torch_state_kept"),
    pytest.mark.filterwarnings("ignore"),
]


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            *[nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1)],
            *[nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)],
        )

    def forward(self, X):
        return self.net(X)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.005)


@pytest.fixture(scope="module")
def noisy():
    X, y = first_digits(600)
    return X, make_noisy_labels(y, 0.5, random_state=0)


def train(noisy, *callbacks, max_epochs=60):
    X, y = map(torch.from_numpy, noisy)
    torch.manual_seed(0)
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=max_epochs,
        callbacks=list(callbacks),
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(X, y), 50, shuffle=True))
    return module, trainer


def watch(**settings):
    from sknonlin.callbacks import LightningNonlinearity

    return LightningNonlinearity(**settings)


def test_it_stops_and_loads_the_best_weights(noisy):
    callback = watch()
    module, trainer = train(noisy, callback)
    assert callback.stopped_epoch_ == trainer.current_epoch < 60
    assert callback.best_epoch_ < callback.stopped_epoch_
    assert callback.best_epoch_ == int(np.argmax(callback.monitor_.scores_[1:])) + 1
    again = callback.monitor_.update(module)
    assert again == callback.monitor_.scores_[callback.best_epoch_]
    assert f"over the epochs up to {callback.best_epoch_}." in callback.reason_


def test_weights_are_the_same_with_and_without_it(noisy):
    callback = watch(stop=False)
    plain, _ = train(noisy, max_epochs=3)
    watched, trainer = train(noisy, callback, max_epochs=3)
    states = plain.state_dict().values(), watched.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    logged = trainer.logged_metrics
    assert logged["nmf_auc"] == pytest.approx(callback.monitor_.scores_[-1])
    assert "nmf_auc_net.1" in logged


def test_samples_that_are_given_are_those_measured(noisy):
    callback = watch(X=noisy[0], y=noisy[1], stop=False)
    train(noisy, callback, max_epochs=1)
    assert len(callback.monitor_.y) == 600
    with pytest.raises(ValueError, match="X without y"):
        train(noisy, watch(X=noisy[0]), max_epochs=1)

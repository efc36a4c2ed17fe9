"""Stopping Hugging Face's Trainer; skipped where transformers is not installed."""

import random

import numpy as np
import pytest
import torch
from sklearn.utils import check_random_state
from torch import nn

from sknonlin.datasets import make_noisy_labels
from tests.conftest import first_digits

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [
    pytest.mark.usefixtures("random_states_restored"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def random_states_restored():
    """Put back the random states of all libraries, which a Trainer seeds."""
    states = random.getstate(), check_random_state(None).get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    check_random_state(None).set_state(states[1])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            *[nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1)],
            *[nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)],
        )

    def forward(self, pixels, labels=None):
        logits = self.net(pixels)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.fixture(scope="module")
def noisy():
    X, y = first_digits(600)
    return X, make_noisy_labels(y, 0.5, random_state=0)


def make_trainer(noisy, folder, *callbacks, epochs=60, **settings):
    rows = [
        {"pixels": torch.from_numpy(x), "labels": int(y)}
        for x, y in zip(*noisy, strict=True)
    ]
    torch.manual_seed(0)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=50,
        learning_rate=0.005,
        lr_scheduler_type="constant",
        logging_strategy="epoch",
        disable_tqdm=True,
        use_cpu=True,
        **{"report_to": "none", "save_strategy": "no"} | settings,
    )
    return transformers.Trainer(
        model=Model(),
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows[:50],
        callbacks=list(callbacks),
    )


def watch(**settings):
    from sknonlin.callbacks import TrainerNonlinearity

    return TrainerNonlinearity(**settings)


def test_it_stops_and_loads_the_best_weights(noisy, tmp_path):
    callback = watch()
    trainer = make_trainer(noisy, tmp_path, callback)
    trainer.train()
    assert callback.stopped_epoch_ == trainer.state.epoch < 60
    assert callback.best_epoch_ < callback.stopped_epoch_
    assert callback.best_epoch_ == int(np.argmax(callback.monitor_.scores_[1:])) + 1
    again = callback.monitor_.update(trainer.model)
    assert again == callback.monitor_.scores_[callback.best_epoch_]
    written = [row["nmf_auc"] for row in trainer.state.log_history if "nmf_auc" in row]
    assert written == callback.monitor_.scores_[1:-1]


def test_the_best_weights_of_the_trainer_stay(noisy, tmp_path):
    callback = watch()
    each = dict.fromkeys(("save_strategy", "eval_strategy"), "epoch")
    settings = {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
    trainer = make_trainer(noisy, tmp_path, callback, epochs=2, **each, **settings)
    trainer.train()
    assert trainer.state.best_model_checkpoint is not None
    assert "The weights are" not in callback.reason_


def test_weights_are_the_same_with_and_without_it(noisy, tmp_path):
    states = []
    for callbacks in ([], [watch(stop=False)]):
        trainer = make_trainer(noisy, tmp_path, *callbacks, epochs=3)
        trainer.train()
        states.append(trainer.model.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_attached_it_writes_to_the_logs(noisy, tmp_path):
    seen = []

    class Reader(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(logs)

    trainer = make_trainer(noisy, tmp_path, Reader(), epochs=2)
    callback = watch(stop=False).attach(trainer)
    trainer.train()
    written = [logs["nmf_auc"] for logs in seen if "nmf_auc" in logs]
    assert written == callback.monitor_.scores_[1:]
    assert "nmf_auc_net.1" in seen[0] | seen[1]

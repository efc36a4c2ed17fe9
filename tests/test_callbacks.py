"""Memorization watched while a network trains."""

import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils import check_random_state
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from sknonlin._memorization.monitor import NonlinearityMonitor
from sknonlin.callbacks import NonlinearityScoring
from sknonlin.datasets import make_noisy_labels
from tests.architectures import DropoutMlp, make_net
from tests.conftest import first_digits, fit, scoring

pytestmark = pytest.mark.usefixtures("torch_state_kept")


@pytest.fixture(scope="module")
def digits():
    return first_digits(600)


def test_history_has_the_score_and_a_column_for_each_layer(digits):
    net = fit(make_net(scoring(n_samples=0)), *digits)
    rows = net.history[:, ("nmf_auc", "nmf_auc_relu", "nmf_auc_relu:2", "nmf_auc_best")]
    assert len(rows) == 3
    for (score, *layers, _), (_, *before, _) in zip(rows[1:], rows, strict=False):
        assert 0 <= score <= (min(layers) + min(before)) / 2 <= 1
    assert rows[0][3] is True


def test_the_name_is_that_of_all_columns(digits):
    net = fit(make_net(scoring(name="memory")), *digits)
    assert {"memory", "memory_relu", "memory_best"} <= set(net.history[-1])


@pytest.mark.parametrize("train_split", [None, "default"])
def test_weights_are_the_same_with_and_without_it(digits, train_split):
    settings = {} if train_split else {"train_split": None}
    plain, watched = make_net(**settings), make_net(scoring(), **settings)
    if train_split:
        default = NeuralNetClassifier(DropoutMlp).train_split
        plain.set_params(train_split=default)
        watched.set_params(train_split=default)
    a, b = fit(plain, *digits).module_, fit(watched, *digits).module_
    assert all(
        torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )
    assert b.training == a.training


def test_random_states_are_untouched_by_a_dataset_that_draws(digits):
    class Drawing(Dataset):
        def __len__(self):
            return len(digits[1])

        def __getitem__(self, i):
            noise = check_random_state(None).normal(size=64).astype(np.float32)
            return digits[0][i] + 0.1 * noise, digits[1][i]

    shared = check_random_state(None)
    before = shared.get_state()
    weights = []
    for callbacks in ([], [scoring()]):
        shared.seed(0)
        net = fit(make_net(*callbacks), Drawing(), None)
        weights.append(net.module_.last.weight)
    shared.set_state(before)
    assert torch.equal(*weights)


@pytest.mark.parametrize("kind", ["tensors", "dataset", "dict"])
def test_any_training_data_of_skorch(digits, kind):
    X, y = torch.from_numpy(digits[0]), torch.from_numpy(digits[1])
    if kind == "dataset":
        net = fit(make_net(scoring()), torch.utils.data.TensorDataset(X, y), None)
    elif kind == "dict":
        net = fit(make_net(scoring()), {"X": digits[0]}, digits[1])
    else:
        net = fit(make_net(scoring()), X, y)
    expected = fit(make_net(scoring()), *digits)
    assert net.history[:, "nmf_auc"] == expected.history[:, "nmf_auc"]


def test_a_network_that_returns_tuples(digits):
    class Loss(nn.CrossEntropyLoss):
        def forward(self, output, y):
            return super().forward(output[0], y)

    class Net(NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return self.criterion_(y_pred, y_true)

    net = make_net(
        scoring(), kind=Net, criterion=Loss, module__output=lambda x: (x, x.mean())
    )
    assert 0 <= fit(net, *digits).history[-1, "nmf_auc"] <= 1


def test_every_few_epochs_and_the_value_of_the_one_before_in_between(digits):
    every = fit(make_net(scoring(), max_epochs=5), *digits).history[:, "nmf_auc_relu"]
    net = fit(make_net(scoring(every=2), max_epochs=5), *digits)
    assert net.history[:, "nmf_auc_relu"] == [every[i] for i in (0, 0, 2, 2, 4)]
    assert net.history[1, "nmf_auc"] == net.history[0, "nmf_auc"]
    assert net.history[1, "nmf_auc_best"] is False


def test_every_few_batches(digits):
    net = fit(make_net(scoring(every=3, unit="batch"), max_epochs=2), *digits)
    scores = [row["nmf_auc"] for row in net.history[0, "batches"] if "nmf_auc" in row]
    assert len(scores) == 2  # of five batches
    assert net.history[0, "nmf_auc"] == scores[-1]


def test_skorch_stops_and_keeps_the_best_epoch(digits, tmp_path):
    checkpoint = Checkpoint(monitor="nmf_auc_best", dirname=tmp_path)
    stop = EarlyStopping(
        monitor="nmf_auc", lower_is_better=False, patience=2, threshold=0.5
    )
    net = fit(make_net(scoring(), stop, checkpoint, max_epochs=20), *digits)
    assert len(net.history) < 20
    assert (tmp_path / "params.pt").exists()


def test_memorization_that_sets_in_turns_the_score(digits):
    X, y = digits
    wrong = make_noisy_labels(y, 0.9, random_state=0)
    net = make_net(
        scoring(batch_size=300, ranks=(2, 4, 8)),
        max_epochs=12,
        module__n_hidden=128,
    )
    fit(net, X, y)
    learned = net.history[-1, "nmf_auc"]
    net.partial_fit(X, wrong)
    assert len(net.history) == 24
    assert net.history[-1, "nmf_auc"] < learned - 0.2


def test_warm_start_goes_on_with_the_same_samples(digits):
    net = fit(make_net(scoring(), max_epochs=2), *digits)
    net.partial_fit(*digits)
    assert len(net.history[:, "nmf_auc"]) == 4
    assert net.history[0, "nmf_auc"] != net.history[-1, "nmf_auc"]


def test_clone_pickle_and_grid_search(digits):
    net = make_net(("score", scoring()))
    copy = clone(net).set_params(callbacks__score__batch_size=50)
    assert copy.get_params()["callbacks__score__batch_size"] == 50
    search = GridSearchCV(net, {"lr": [0.001, 0.01]}, cv=2, error_score="raise")
    search.fit(*digits)
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    expected = search.best_estimator_.history[:, "nmf_auc"]
    assert again.history[:, "nmf_auc"] == expected
    assert len(pickle.dumps(dict(net.callbacks)["score"])) < 1000


def test_unknown_layers_are_told_before_the_first_epoch(digits):
    net = make_net(scoring(layers=["relu", "reul"]))
    with pytest.raises(ValueError, match=r"\['reul'\] are not in the network"):
        fit(net, *digits)
    assert not any("train_loss" in row for row in net.history)


def test_training_data_that_cannot_be_indexed(digits):
    class Stream(IterableDataset):
        def __iter__(self):
            return zip(*digits, strict=True)

    with pytest.raises(ValueError, match="Stream, has no length"):
        fit(make_net(scoring(), iterator_train__shuffle=False), Stream(), None)


def test_a_regressor_is_refused(digits):
    X, y = digits
    net = make_net(scoring(), kind=NeuralNetRegressor, criterion=nn.MSELoss)
    with pytest.raises(ValueError, match="is a regressor"):
        fit(net, X, np.eye(10, dtype=np.float32)[y][:, 0])


def test_a_class_with_a_single_sample_and_batches_larger_than_the_data(digits):
    X, y = digits[0][:50], digits[1][:50].copy()
    y[y == 9] = 8
    y[0] = 9
    net = fit(make_net(scoring(batch_size=400, n_batches=2)), X, y)
    assert 0 <= net.history[-1, "nmf_auc"] <= 1


def test_nan_activations_warn_once_and_training_goes_on(digits):
    def spoil(net, **kwargs):
        if len(net.history) == 2:
            with torch.no_grad():
                net.module_.first.weight.fill_(torch.nan)

    class Spoil(NonlinearityScoring):
        def on_epoch_end(self, net, **kwargs):
            spoil(net)
            super().on_epoch_end(net, **kwargs)

    net = make_net(Spoil(batch_size=50, ranks=(2, 4)), max_epochs=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(net, *digits)
    told = [str(w.message) for w in caught if "nmf_auc is NaN" in str(w.message)]
    assert len(told) == 1
    assert "'relu'" in told[0]
    assert len(net.history) == 5
    assert np.isnan(net.history[1:, "nmf_auc"]).all()
    assert np.isnan(net.history[-1, "nmf_auc_relu"])
    assert net.history[-1, "nmf_auc_best"] is False


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "'every'"),
        ({"unit": "step"}, "'unit'"),
        ({"batch_size": 1}, "'batch_size' parameter of NonlinearityScoring"),
        ({"name": 5}, "'name'"),
    ],
)
def test_parameters_are_checked(digits, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(make_net(scoring(**settings)), *digits)


class Noisy(DropoutMlp):
    """Draws in its forward pass, and keeps buffers in two ways."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, X):
        noise = check_random_state(None).normal() + random.random()
        self.calls = self.calls + 1
        return super().forward(self.norm(X) * (1 + 1e-3 * noise))


@pytest.mark.parametrize("random_state", [0, None])
def test_buffers_and_random_states_of_a_network_that_draws(digits, random_state):
    shared = check_random_state(None)
    before = shared.get_state(), random.getstate()
    states = []
    for callbacks in ([], [scoring(random_state=random_state)]):
        shared.seed(0)
        random.seed(0)
        net = fit(make_net(*callbacks, module=Noisy), *digits)
        states.append([*net.module_.state_dict().values(), torch.tensor(random.random())])
        states[-1].append(torch.tensor(shared.normal()))
    shared.set_state(before[0])
    random.setstate(before[1])
    assert all(torch.equal(p, q) for p, q in zip(*states, strict=True))


class TwoModules(NeuralNetClassifier):
    """A body and a head, which ``infer`` joins."""

    def __init__(self, *args, head=None, **kwargs):
        self.head = head
        super().__init__(*args, **kwargs)

    def initialize_module(self):
        super().initialize_module()
        self.head_ = self.initialized_instance(self.head, self.get_params_for("head"))
        return self

    def infer(self, x, **fit_params):
        return self.head_(self.module_(x, **fit_params))


class Head(nn.Sequential):
    def __init__(self):
        super().__init__(nn.BatchNorm1d(32), nn.Dropout(0.5), nn.ReLU(), nn.Linear(32, 10))


class Body(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32))


def test_a_net_of_several_modules(digits):
    plain, watched = (
        fit(make_net(*callbacks, module=Body, kind=TwoModules, head=Head), *digits)
        for callbacks in ([], [scoring()])
    )
    for name in ("module_", "head_"):
        states = [getattr(net, name).state_dict().values() for net in (plain, watched)]
        assert all(torch.equal(p, q) for p, q in zip(*states, strict=True))
    assert {"nmf_auc_module.1", "nmf_auc_head.2"} <= watched.history[-1].keys()
    monitor = NonlinearityMonitor(*digits)
    assert monitor.update(watched) == monitor.update(watched)  # in eval mode


def test_best_goes_on_from_a_history(digits):
    net = fit(make_net(scoring(), max_epochs=8), *digits)
    best = max(net.history[:, "nmf_auc"])
    with torch.no_grad():
        net.module_.last.weight.zero_()
    net.partial_fit(*digits, epochs=1)
    assert net.history[-1, "nmf_auc"] < best
    assert net.history[-1, "nmf_auc_best"] is False
    again = fit(net, *digits)
    assert again.history[0, "nmf_auc_best"] is True


def test_samples_are_not_pickled_while_it_trains(digits):
    sizes = {}

    class Pickle(Callback):
        def on_epoch_end(self, net, **kwargs):
            sizes[len(sizes)] = len(
                pickle.dumps(dict(net.callbacks_)["NonlinearityScoring"])
            )

    fit(make_net(scoring(batch_size=500), Pickle()), *digits)
    assert max(sizes.values()) < 5000 + 32 * len(digits[1])  # three numbers of each


def test_a_training_that_fails_and_is_begun_again(digits):
    class Failing(Callback):
        def on_batch_end(self, net, **kwargs):
            if not net.history[:-1]:
                raise RuntimeError("no")

    net = make_net(scoring(), ("fail", Failing()))
    with pytest.raises(RuntimeError, match="no"):
        fit(net, *digits)
    net.set_params(callbacks__fail=None)
    expected = fit(make_net(scoring()), *digits).history[:, "nmf_auc"]
    assert fit(net, *digits).history[:, "nmf_auc"] == expected


def test_a_binary_net(digits):
    X, y = digits[0], (digits[1] % 2).astype(np.float32)
    net = make_net(
        NonlinearityScoring(),
        kind=NeuralNetBinaryClassifier,
        criterion=nn.BCEWithLogitsLoss,
        module__output=squeezed,
        max_epochs=8,
    )
    history = fit(net, X, y).history
    assert history[-1, "nmf_auc"] > history[0, "nmf_auc"]


def squeezed(output):
    return output[:, 0]


def test_a_collate_function_that_only_training_has(digits):
    X, y = digits

    class Ragged(Dataset):
        def __len__(self):
            return len(y)

        def __getitem__(self, i):
            return torch.from_numpy(X[i, : 32 + i % 3]), int(y[i])

    net = make_net(scoring(), iterator_train__collate_fn=padded)
    with pytest.raises(ValueError, match="iterator_valid needs too"):
        fit(net, Ragged(), None)
    collate = {f"iterator_{kind}__collate_fn": padded for kind in ("train", "valid")}
    assert len(fit(make_net(scoring(), **collate), Ragged(), None).history) == 3


class MeanOfTokens(nn.Module):
    """A network of sequences of any length."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 16, padding_idx=0)
        self.head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, tokens):
        return self.head(self.embedding(tokens).sum(1))


class Sentences(Dataset):
    """Sequences of token ids, each of a length of its own."""

    def __len__(self):
        return 120

    def __getitem__(self, i):
        return 1 + torch.arange(3 + i % 40) % 99, i % 10


def padded_in_the_batch(samples):
    tokens, y = zip(*samples, strict=True)
    return nn.utils.rnn.pad_sequence(tokens, batch_first=True), torch.tensor(y)


def test_batches_that_are_padded_each_to_its_own_length():
    collate = {
        f"iterator_{kind}__collate_fn": padded_in_the_batch for kind in ("train", "valid")
    }
    net = make_net(scoring(), module=MeanOfTokens, batch_size=16, **collate)
    history = fit(net, Sentences(), None).history
    assert all(0 <= score <= 1 for score in history[:, "nmf_auc"])
    dataset = Sentences()
    X, y = padded_in_the_batch([dataset[i] for i in range(len(dataset))])
    alone = NonlinearityMonitor(X, y, batch_size=100, ranks=(2, 4))
    assert alone.update(net) == pytest.approx(history[-1, "nmf_auc"])


def padded(samples):
    X = nn.utils.rnn.pad_sequence([x for x, _ in samples], batch_first=True)
    X = nn.functional.pad(X, (0, 64 - X.shape[1]))
    return X, torch.tensor([y for _, y in samples])


def test_lazy_modules_are_told(digits):
    net = make_net(scoring(), module=nn.LazyLinear, module__out_features=10)
    with pytest.raises(ValueError, match="lazy modules"):
        fit(net, *digits)


def test_every_goes_on_through_partial_fits(digits):
    net = make_net(scoring(every=3), max_epochs=1)
    for _ in range(5):
        net.partial_fit(*digits)
    scores = net.history[:, "nmf_auc"]
    assert scores[0] == scores[1] == scores[2] != scores[3] == scores[4]


def test_targets_of_several_columns(digits):
    class Net(NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return nn.functional.cross_entropy(y_pred, y_true)

    soft = np.eye(10, dtype=np.float32)[digits[1]]
    with pytest.raises(ValueError, match=r"have the shape \(600, 10\)"):
        Net.fit(make_net(scoring(), kind=Net), digits[0], soft)

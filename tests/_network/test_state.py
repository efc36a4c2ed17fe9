"""Networks that change while they are looked at are as they were afterwards, or refused."""

import random
import threading

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import Dataset

from sknonlin import MemorizationDetector, layer_profile
from sknonlin._network.adapters import as_network
from tests.architectures import seeded

SETTINGS = {"ranks": [1, 2], "batch_size": 20, "random_state": 0}
PATIENCE = pytest.mark.filterwarnings("ignore:The network fits")


@pytest.fixture(scope="module")
def samples():
    return seeded(torch.randn, 80, 6).numpy(), np.arange(80) % 2


def profile(module, samples, **settings):
    return layer_profile(module, *samples, **SETTINGS | settings)


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu())


class Adapter(Base):
    """Merges a low-rank matrix into a weight in eval mode, as LoRA does."""

    def __init__(self):
        super().__init__()
        self.low = nn.Parameter(torch.randn(8, 8) / 3)
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode and self.merged:
            self.second.weight.data -= self.low.data
            self.merged = False
        elif not mode and not self.merged:
            self.second.weight.data += self.low.data
            self.merged = True
        return self


class Pointer(Adapter):
    """The same with other memory for the merged weight."""

    def train(self, mode=True):
        nn.Module.train(self, mode)
        if mode == self.merged:
            sign = -1 if mode else 1
            self.second.weight.data = self.second.weight.data + sign * self.low.data
            self.merged = not mode
        return self


class Renormalized(Base):
    """Writes to a weight in its forward pass."""

    def forward(self, x):
        with torch.no_grad():
            self.first.weight.mul_(0.5).clamp_(-0.2, 0.2)
        return super().forward(x)


class Counting(Base):
    """Writes to buffers: one of NaN, one that was None, one of another shape, a new one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("unknown", torch.full((3,), torch.nan))
        self.register_buffer("missing", None)
        self.register_buffer("grows", torch.zeros(2))

    def forward(self, x):
        self.unknown += 1
        self.missing = x.mean()
        self.grows.resize_(5).fill_(1)
        self.register_buffer("fresh", x.sum().detach())
        return super().forward(x)


class Replaced(Base):
    """Puts another parameter into its place."""

    def forward(self, x):
        if not torch.is_grad_enabled():
            self.second.weight = nn.Parameter(self.second.weight.detach() * 2 / 2)
        return super().forward(x)


def everything(module):
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return (
        {name: tensor.detach().clone() for name, tensor in tensors},
        {name: id(tensor) for name, tensor in tensors},
        [m.training for m in module.modules()],
        getattr(module, "merged", None),
        [name for m in module.modules() for name in m._buffers],
    )


def assert_as_before(before, module):
    after = everything(module)
    assert before[1:] == after[1:]
    for name, tensor in before[0].items():
        torch.testing.assert_close(after[0][name], tensor, rtol=0, atol=0, equal_nan=True)


@PATIENCE
@pytest.mark.parametrize("make", [Adapter, Pointer, Renormalized, Counting, Replaced])
@pytest.mark.parametrize("training", [True, False])
def test_weights_and_buffers_stay(make, training, samples):
    module = seeded(make).train(training)
    before = everything(module)
    if make is Renormalized:  # another pass gives other answers
        with pytest.raises(ValueError, match="other answers each time"):
            profile(module, samples)
    else:
        profile(module, samples)
    assert_as_before(before, module)


@PATIENCE
@pytest.mark.parametrize("make", [Adapter, Pointer, Counting])
def test_weights_stay_in_a_detector(make, samples):
    net = NeuralNetClassifier(seeded(make), criterion=nn.CrossEntropyLoss).initialize()
    before = everything(net.module_)
    found = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(*samples)
    found.predict(samples[0])
    found.score_samples(*samples)
    assert_as_before(before, net.module_)


def test_a_network_that_cannot_be_put_back_is_refused():
    network = as_network(seeded(Base))
    with pytest.raises(RuntimeError, match=r"'first\.weight'"), network.as_found():
        network.module.first.weight.detach().add_(1)  # where nothing watches


# Answers that change


class MonteCarlo(Base):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class EarlyMonteCarlo(Base):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


class OwnGenerator(Base):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        return super().forward(x + torch.randn(x.shape, generator=self.generator))


class WithNumpy(Base):
    def forward(self, x):
        return super().forward(x + float(np.random.rand()))  # noqa: NPY002


@pytest.mark.parametrize("make", [MonteCarlo, EarlyMonteCarlo, OwnGenerator, WithNumpy])
def test_random_answers_are_refused(make, samples):
    with pytest.raises(ValueError, match="other answers each time"):
        profile(seeded(make), samples)


class InThreads(nn.Module):
    """Runs its two branches in threads, of which torch's modes know nothing."""

    def __init__(self):
        super().__init__()
        self.first, self.left, self.right = (nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.first(x).relu()
        results = {}

        def run(name):
            with torch.no_grad():
                results[name] = getattr(self, name)(x) * 1.5

        threads = [threading.Thread(target=run, args=[n]) for n in ("left", "right")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.head(torch.cat([results["left"], results["right"]], 1).relu())


class NoThreads(InThreads):
    def forward(self, x):
        x = self.first(x).relu()
        return self.head(torch.cat([self.left(x) * 1.5, self.right(x) * 1.5], 1).relu())


def test_threads_of_a_network_cost_no_accuracy(samples):
    found = profile(seeded(InThreads), samples)
    expected = profile(seeded(NoThreads), samples)
    np.testing.assert_array_equal(found.batch_accuracies, expected.batch_accuracies)
    np.testing.assert_allclose(found.batch_errors, expected.batch_errors, atol=1e-6)


class Packed(nn.Module):
    """Packs sequences by lengths, which C++ reads where no operation shows it."""

    def __init__(self, kind):
        super().__init__()
        self.embed = nn.Linear(1, 5)
        self.rnn = kind(5, 6, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        lengths = (x != 0).sum(1).clamp(min=1).cpu()
        h = self.embed(x[..., None]).relu()
        packed = pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(h.relu().amax(1))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences(kind, samples):
    X = samples[0].copy()
    X[:, 4:] *= np.arange(80)[:, None] % 3 > 0
    module, y = seeded(Packed, kind), samples[1]
    with torch.no_grad():
        hits = (module.eval()(torch.from_numpy(X)).argmax(1).numpy() == y).mean()
    for _ in range(3):
        found = layer_profile(module, X, y, ranks=[1, 5], batch_size=40, random_state=0)
        np.testing.assert_allclose(found.batch_accuracy.mean(), hits)
        first = found.batch_accuracies[found.layer_names.index("relu"), ..., -1]
        np.testing.assert_allclose(first, found.batch_accuracy)  # 5 units, rank 5


class ByAnswer(Base):
    """Chooses its way by what a layer gave."""

    def forward(self, x):
        h = self.first(x).relu()
        h = self.second(h).relu() if h[0, 0] > 1e3 else self.second(h).relu() * 2
        return self.head(h)


def test_another_way_is_a_whole_pass(samples):
    profile(seeded(ByAnswer), samples)


# Random states


class Drawing(Dataset):
    """Draws from every generator for a sample."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        return self.X[i], self.y[i]


@PATIENCE
def test_random_states_stay(samples):
    X, y = samples
    data = Drawing(X, y)
    net = NeuralNetClassifier(seeded(Base), criterion=nn.CrossEntropyLoss).initialize()
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    layer_profile(net, data, y, **SETTINGS)
    MemorizationDetector(FrozenEstimator(net), random_state=0).fit(data, y).predict(data)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


# Precision that a network chooses for itself


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.second(self.first(x).relu()).relu()
            return self.head(x.mean((2, 3)))


def test_autocast_inside_and_workers():
    module, y = seeded(Mixed), np.arange(200) % 2
    X = seeded(torch.rand, 200, 1, 8, 8)
    expected = profile(module, (X, y))
    for _ in range(4):
        found = profile(module, (X, y), n_jobs=2)
        np.testing.assert_array_equal(found.batch_errors, expected.batch_errors)
        np.testing.assert_array_equal(found.batch_accuracies, expected.batch_accuracies)


# Outputs of one column


class OneColumn(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 1)
        self.end = end

    def forward(self, x):
        return self.end(self.last(self.first(x).relu()))


@pytest.mark.parametrize(
    ("end", "cut"),
    [
        (lambda x: x, 0),
        (lambda x: x.squeeze(1), 0),
        (lambda x: x.sigmoid(), 0.5),
        (lambda x: x.squeeze(1).sigmoid(), 0.5),
        (lambda x: x.sigmoid()[:, 0], 0.5),
        (lambda x: torch.sigmoid(x).clamp(1e-6, 1 - 1e-6).view(-1), 0.5),
        (nn.functional.hardsigmoid, 0.5),
        (lambda x: nn.functional.logsigmoid(x) - nn.functional.logsigmoid(-x), 0),
    ],
)
def test_a_network_that_ends_in_a_sigmoid_gives_probabilities(end, cut, samples):
    module, X = seeded(OneColumn, end), samples[0]
    with torch.no_grad():
        y = (module(torch.from_numpy(X)).reshape(-1) > cut).long().numpy()
    found = layer_profile(module, X, y, **SETTINGS)
    np.testing.assert_array_equal(found.batch_accuracy, 1)

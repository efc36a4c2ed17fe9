"""Threads, processes and clusters: the same results as one worker, and nothing left."""

import itertools
import os
import signal
import threading
import warnings
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import pairwise
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn import clone, config_context, get_config
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from torch import nn
from torch._dynamo import eval_frame
from torch.utils.data import TensorDataset

from sknonlin import ActivationNonlinearity, MemorizationDetector, layer_profile
from sknonlin._factorization.by_row import detached
from sknonlin._memorization.activation_rows import SampleStream
from sknonlin._memorization.sample_scores import unit_blocks
from sknonlin._network.adapters import as_network
from sknonlin._network.layers import Capture
from sknonlin._running.memory import limited
from sknonlin._running.parallel import Replicas, Workers, in_threads
from sknonlin.metrics import memorization_scorer
from tests.architectures import ResNet, mlp, seeded
from tests.conftest import first_digits

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")  # trained a little
BACKENDS = ["threading", "loky", "dask"]


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of Dask, and a client of them."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(params=BACKENDS)
def backend(request):
    """A context in which joblib has two workers of some kind."""
    if request.param == "dask":
        request.getfixturevalue("cluster")
    n_jobs = {} if request.param == "dask" else {"n_jobs": 2}
    with parallel_config(backend=request.param, **n_jobs):
        yield request.param


@pytest.fixture(scope="module")
def digits():
    X, y = first_digits(300)
    return X.reshape(-1, 1, 8, 8), y % 3


@pytest.fixture(scope="module")
def network(digits):
    """A residual network, trained a little."""
    net = NeuralNetClassifier(
        ResNet,
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        max_epochs=2,
        lr=0.05,
        verbose=0,
    )
    return seeded(net.fit, *digits)


def measuring(network):
    """A detector around a network as it is."""
    return MemorizationDetector(
        FrozenEstimator(network),
        nonlinearity=ActivationNonlinearity([1, 4, 8], max_iter=40),
        random_state=0,
    )


@pytest.fixture(scope="module")
def alone(digits, network):
    """What one worker finds."""
    X, y = digits
    found = measuring(network).fit(X, y)
    return found, found.score_samples(X, y)


# What workers do ------------------------------------------------------------------


def product(factors, number):
    return factors.sum() * number, torch.is_grad_enabled(), get_config()["working_memory"]


def test_workers_keep_the_order_and_share_the_memory(backend):
    with config_context(working_memory=600), Workers() as workers:
        factors = workers.share(np.ones(1000))
        listed = workers.share({"a": np.ones(1000)})
        found = list(workers.map(product, ((factors, i) for i in range(20))))
        assert workers.count == 2
        total = list(workers.map(total_of, ((listed, i) for i in range(5))))
    assert [value for value, _, _ in found] == [1000 * i for i in range(20)]
    assert {rest for _, *rest in map(tuple, found) for rest in [tuple(rest)]} == {
        (False, 300.0)
    }
    assert total == [1000 + i for i in range(5)]


def total_of(arrays, number):
    return arrays["a"].sum() + number


def test_one_worker_needs_no_backend():
    with Workers(1) as workers:
        thread = list(workers.map(lambda _: threading.get_ident(), [(0,)]))
    assert thread == [threading.get_ident()]
    assert not Workers(1, verbose=1).__enter__().__exit__(None, None, None)


@pytest.mark.parametrize(("task_mebibytes", "count"), [(0, 4), (20, 4), (40, 2), (500, 1)])
def test_no_more_workers_than_the_memory_holds(task_mebibytes, count):
    with limited(100), Workers(4, task_bytes=task_mebibytes * 2**20) as workers:
        assert workers.count == count


def test_threads_share_torchs_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Workers(2) as workers:
            found = list(workers.map(lambda _: torch.get_num_threads(), [(0,)] * 8))
        assert set(found) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# The same results -----------------------------------------------------------------


def test_detector(backend, digits, network, alone):
    X, y = digits
    found = measuring(network).fit(X, y)
    assert found.memorization_score_ == pytest.approx(
        alone[0].memorization_score_, abs=1e-6
    )
    np.testing.assert_allclose(
        found.profile_.accuracies, alone[0].profile_.accuracies, atol=1e-6
    )
    assert list(found.layer_weights_) == list(alone[0].layer_weights_)
    np.testing.assert_allclose(found.score_samples(X, y), alone[1], atol=1e-6)
    np.testing.assert_allclose(found.transform(X), alone[0].transform(X), atol=1e-6)


@pytest.mark.parametrize("cumulative", [False, True])
def test_profile(backend, digits, network, cumulative):
    settings = {"ranks": [1, 4, 16], "cumulative": cumulative, "random_state": 0}
    module = network.module_
    one = layer_profile(module, *digits, n_jobs=1, **settings)
    two = layer_profile(module, *digits, **settings)
    assert one.layer_names == two.layer_names
    np.testing.assert_allclose(two.errors, one.errors, atol=1e-6)
    np.testing.assert_allclose(two.accuracies, one.accuracies, atol=1e-6)
    assert not any(m._forward_hooks for m in module.modules())


def odd_network():
    widths = [64, 45, 33, 33, 33, 33]
    layers = [
        layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())
    ]
    return nn.Sequential(*layers, nn.Linear(33, 3))


def test_widths_and_batches_of_any_size(digits):
    """Matrices at any place in memory, which products must not depend on."""
    X, y = digits[0].reshape(300, -1), digits[1]
    module = seeded(odd_network)
    settings = {"batch_size": 29, "random_state": 0}
    one = layer_profile(module, X, y, **settings)
    for n_jobs in (2, 3):
        more = layer_profile(module, X, y, n_jobs=n_jobs, **settings)
        np.testing.assert_allclose(more.errors, one.errors, atol=1e-6)
        np.testing.assert_allclose(more.accuracies, one.accuracies, atol=1e-6)


def test_little_memory_gives_the_same_whatever_the_workers(digits, network):
    X, y = (part[:150] for part in digits)
    settings = {"ranks": [1, 4], "max_iter": 20, "random_state": 0, "working_memory": 2}
    one = layer_profile(network, X, y, **settings)
    detector = measuring(network).set_params(working_memory=2)
    scores = detector.fit(X, y).score_samples(X, y)
    for n_jobs in (2, 3):
        more = layer_profile(network, X, y, n_jobs=n_jobs, **settings)
        np.testing.assert_allclose(more.errors, one.errors, atol=1e-6)
        np.testing.assert_allclose(more.accuracies, one.accuracies, atol=1e-6)
    detector.set_params(n_jobs=2)
    np.testing.assert_allclose(detector.score_samples(X, y), scores, atol=1e-6)
    np.testing.assert_allclose(detector.fit(X, y).score_samples(X, y), scores, atol=1e-6)


def test_search_on_a_cluster(cluster, digits, tmp_path):
    X, y = digits[0].reshape(300, -1), digits[1]
    detector = MemorizationDetector(
        MLPClassifier((16, 16), max_iter=100, tol=0.01, random_state=0),
        nonlinearity=ActivationNonlinearity(),
        memory=str(tmp_path),
        random_state=0,
    )
    grid = {"nonlinearity__ranks": [[1, 2], [1, 8]]}
    search = GridSearchCV(
        detector, grid, cv=2, scoring=memorization_scorer, error_score="raise"
    )
    one = search.fit(X, y).cv_results_["mean_test_score"]
    with parallel_config(backend="dask"):
        two = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(two, one, atol=1e-6)


# When something goes wrong --------------------------------------------------------


class Dying(nn.Module):
    """Ends the process that runs it, once."""

    def __init__(self, path, inner):
        super().__init__()
        self.path, self.inner = path, inner

    def forward(self, x):
        if len(x) > 2 and os.getpid() != self.home():
            try:
                os.close(os.open(self.path + ".died", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return self.inner(x)
            os._exit(1)
        return self.inner(x)

    def home(self):
        with open(self.path) as file:
            return int(file.read())


def test_a_worker_that_dies(cluster, digits, tmp_path):
    X, y = digits
    path = tmp_path / "home"
    path.write_text(str(os.getpid()))
    module = Dying(str(path), seeded(mlp, 64, n_classes=10))
    X = X.reshape(len(X), -1)
    settings = {"ranks": [1, 4], "random_state": 0, "replay": False}
    one = layer_profile(module, X, y, n_jobs=1, **settings)
    with parallel_config(backend="dask"):
        two = layer_profile(module, X, y, **settings)
    assert (tmp_path / "home.died").exists()
    np.testing.assert_allclose(two.errors, one.errors, atol=1e-6)


class Failing(nn.Module):
    """Calls something at the third batch that is not a listing."""

    def __init__(self, fail):
        super().__init__()
        self.linear, self.fail, self.count = nn.Linear(64, 10), fail, itertools.count(1)

    def forward(self, x):
        if len(x) > 2 and next(self.count) == 3:
            self.fail()
        return torch.relu(self.linear(x))

    def __deepcopy__(self, memo):
        return seeded(Failing, self.fail)


def divide():
    raise ZeroDivisionError("in vain")


def interrupt():
    raise KeyboardInterrupt


interrupted = threading.Event()


def interrupt_main():
    """As pressing Ctrl-C does, whichever thread this is; it goes on until that is felt."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    interrupted.wait(60)


@pytest.fixture
def interruptions():
    """Tell workers when an interruption has reached the main thread."""

    def raise_interrupt(number, frame):
        interrupted.set()
        raise KeyboardInterrupt

    interrupted.clear()
    before = signal.signal(signal.SIGINT, raise_interrupt)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def left_alone(module):
    state = torch.get_rng_state()
    threads, memory = torch.get_num_threads(), get_config()["working_memory"]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    filters = list(warnings.filters)
    module.train()
    yield
    assert warnings.filters == filters
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    assert eval_frame._stance.stance == "default"
    assert all(m.training for m in module.modules())
    assert not any(m._forward_hooks for m in module.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert get_config()["working_memory"] == memory
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("n_jobs", "fail", "error"),
    [
        (1, divide, ZeroDivisionError),
        (2, divide, ZeroDivisionError),
        (1, interrupt, KeyboardInterrupt),
        (2, interrupt_main, KeyboardInterrupt),
    ],
)
def test_interruption_leaves_all_as_it_was(digits, interruptions, n_jobs, fail, error):
    X, y = digits
    module = seeded(Failing, fail)
    with left_alone(module), pytest.raises(error):
        layer_profile(
            module,
            X.reshape(len(X), -1),
            y,
            ranks=[1, 2, 4],
            n_jobs=n_jobs,
            working_memory=128,
            random_state=0,
        )


# Copies of the network ------------------------------------------------------------


def listing(network):
    """A Capture of images of digits."""
    return Capture(network, "relu", torch.zeros(2, 1, 8, 8), 2)


def test_replicas_share_their_weights(network, digits):
    replicas = Replicas(as_network(network), 2, listing)
    with replicas.borrowed() as first, replicas.borrowed() as second:
        assert first.module is network.module_
        assert second.module is not first.module
        assert second.net.module_ is second.module
        pairs = zip(first.module.parameters(), second.module.parameters(), strict=True)
        assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
        batch = first.sample(digits[0], [0, 1, 2])
        with torch.no_grad():
            first.module.eval(), second.module.eval()
            torch.testing.assert_close(first.run(batch), second.run(batch))


class Uncopied(nn.Module):
    """Says that it cannot be copied, in some way."""

    def __init__(self, error):
        super().__init__()
        self.linear, self.error = nn.Linear(64, 3), error

    def forward(self, x):
        return torch.relu(self.linear(x.flatten(1)))

    def __deepcopy__(self, memo):
        raise self.error("cannot be copied")


class Closure(nn.Module):
    """Has a function, which runs the original's layers from a copy, too."""

    def __init__(self):
        super().__init__()
        self.inner, self.relu1, self.relu2 = nn.Linear(64, 16), nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(16, 3)
        self.block = lambda x: self.relu2(self.relu1(self.inner(x)) - 0.1)

    def forward(self, x):
        return self.head(self.block(x.flatten(1)))


def skorch_net(module):
    """Net around a module that cannot be pickled."""
    return NeuralNetClassifier(module, verbose=0).initialize()


@pytest.mark.parametrize("wrap", [lambda module: module, skorch_net])
@pytest.mark.parametrize(
    "make",
    [Closure, *(partial(Uncopied, e) for e in (TypeError, ValueError, AttributeError))],
)
def test_a_network_that_cannot_be_copied_is_waited_for(make, wrap, digits):
    net = wrap(seeded(make))
    settings = {"ranks": [1, 2], "batch_size": 5, "n_batches": 4, "random_state": 0}
    one = layer_profile(net, *digits, **settings)
    two = layer_profile(net, *digits, n_jobs=2, **settings)
    assert two.layer_names == one.layer_names
    np.testing.assert_allclose(two.errors, one.errors, atol=1e-6)


def test_threads_measure_one_network_in_turn(network, digits, alone):
    """As a search in threads does with a frozen network, which is not cloned."""
    detector = measuring(network)
    with left_alone(network.module_), ThreadPool(2) as pool:
        found = pool.map(lambda _: clone(detector).fit(*digits).memorization_score_, "ab")
    assert found == pytest.approx([alone[0].memorization_score_] * 2, abs=1e-6)


class Drawing(nn.Module):
    """Draws numbers also in eval mode, and has a Transformer layer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.encoder(x[:, 0])
        return self.head(torch.relu(x.mean(1)) + 1e-6 * torch.rand(1))


def test_threads_leave_settings_of_the_process(digits):
    module = seeded(Drawing)
    for _ in range(3):
        with left_alone(module):
            found = layer_profile(module, *digits, ranks=[1, 2], n_jobs=3, random_state=0)
        assert found.layer_names == ["encoder.relu", "relu"]


@pytest.mark.filterwarnings("ignore:You set iterator_valid__shuffle")
def test_samples_keep_their_order_and_numbers(digits, network, alone):
    X, y = digits
    shuffling = copy(network)
    shuffling.iterator_valid__shuffle = True
    data = TensorDataset(torch.from_numpy(X))
    detector = measuring(shuffling)
    scores = detector.fit(data, y).score_samples(data, y)
    np.testing.assert_allclose(scores, alone[1], atol=1e-6)
    scores = alone[0].score_samples(X.astype(">f4"), y)
    np.testing.assert_allclose(scores, alone[1], atol=1e-6)


def stop_after_one_block(detector, X, y):
    with Workers(detector.n_jobs) as workers, limited(detector.working_memory):
        features = detector._scorer.features
        stream = SampleStream(workers, detector._network(), X, features, len(y))
        next(stream.run(np.arange(len(y)), unit_blocks))
        divide()


@pytest.mark.filterwarnings("ignore:.*tasks.*:UserWarning:joblib")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_that_are_not_read_hold_nothing(digits, alone, n_jobs):
    detector = copy(alone[0]).set_params(n_jobs=n_jobs, working_memory=100)
    with left_alone(detector.estimator_.module_), pytest.raises(ZeroDivisionError):
        stop_after_one_block(detector, *digits)


def test_an_interrupted_refit_leaves_the_detector_as_it_was(digits, alone, monkeypatch):
    X, y = digits
    fresh = MemorizationDetector(alone[0].estimator, random_state=1)
    before = [dict(vars(found)) for found in (fresh, alone[0])]
    monkeypatch.setattr("sknonlin._memorization.sample_scores.kept", lambda *_: interrupt())
    for found, state in zip((fresh, alone[0]), before, strict=True):
        with pytest.raises(KeyboardInterrupt):
            found.fit(X, y)
        assert vars(found) == state


def test_rows_that_go_to_processes_stay_in_no_file(monkeypatch, tmp_path):
    """joblib would write large arrays to files, which stay until the call ends."""
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path))
    X = np.random.default_rng(0).random((6000, 512), np.float32)
    scorer = ActivationNonlinearity([1, 2], random_state=0, working_memory=32).fit(X)
    expected = scorer.transform(X)
    sizes, written = [], []

    def watched(rows):
        sizes.append(rows.nbytes)
        written.append(sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()))
        return detached(rows)

    monkeypatch.setattr("sknonlin._factorization.by_row.detached", watched)
    with parallel_config(backend="loky", n_jobs=2):
        np.testing.assert_allclose(scorer.transform(X), expected, atol=1e-6)
    assert max(sizes) > 2**20  # which joblib takes for large
    assert max(written) < 2**20


# Threads for functions that release the lock


@pytest.mark.parametrize("n_threads", [1, 2, 9])
def test_every_item_is_computed_once(n_threads):
    done = []
    in_threads(done.append, range(7), n_threads)
    assert sorted(done) == list(range(7))


def test_threads_work_at_the_same_time():
    barrier = threading.Barrier(2, timeout=30)
    in_threads(lambda _: barrier.wait(), range(2), 2)
    assert not barrier.broken


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_error_ends_what_threads_do(n_threads):
    begun = []

    def fail(item):
        begun.append(item)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item"):
        in_threads(fail, range(100), n_threads)
    assert len(begun) <= n_threads

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector
from sknonlin.callbacks import NonlinearityScoring
from tests.architectures import seeded, skorch_net

RANKS = [1, 2, 4, 8]
COMPRESSIONS = ["nmf", "pca", "ablation"]
LITTLE = 0.05  # MiB, so that everything is cut into very many parts
FAST = ActivationNonlinearity(ranks=[1, 2, 4])
barely_trained = pytest.mark.filterwarnings("ignore:The network fits")
# How activations are spoilt, and what the error says.
BAD_VALUES = [
    (lambda X: -X, "Negative values in data"),
    (lambda X: X * np.nan, "NaN"),
    (lambda X: X + np.inf, "infinity"),
    (lambda X: X[0], "Expected 2D array"),
]

#: Files of tests that train many networks, start processes or a browser, or compile.
SLOW = {
    *("test_common.py", "test_comparison.py", "test_compiled.py", "test_detector.py"),
    *("test_given_network.py", "test_memory.py", "test_page.py", "test_parallel.py"),
    *("test_reference.py", "test_sample_scores.py", "test_training.py", "test_users.py"),
}

# At the tests' sizes a second thread gains nothing, and costs much where cores are busy.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Mark the tests of slow files."""
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def untouched_globals():
    """No call may change torch's or NumPy's random state, or torch's settings."""
    torch_state = torch.get_rng_state()
    # The legacy state is the one that libraries disturb.
    numpy_state = np.random.mtrand._rand.get_state()[1].copy()
    settings = torch.get_num_threads(), torch.get_float32_matmul_precision()
    grad = torch.is_grad_enabled()
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.mtrand._rand.get_state()[1], numpy_state)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == settings
    assert torch.is_grad_enabled() == grad


def relu_matrix(n, q, depth=6, seed=0):
    """Activations of a random ReLU layer on random inputs."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(n, depth)) @ rng.normal(size=(depth, q)), 0)


def make(**parameters):
    parameters = {"ranks": RANKS, "max_rows": 60, "random_state": 0} | parameters
    return ActivationNonlinearity(**parameters)


def first_digits(n):
    """Images of digits as rows in [0, 1], and their labels."""
    X, y = load_digits(return_X_y=True)
    return (X[:n] / 16).astype(np.float32), y[:n]


def detector(estimator="skorch", **settings):
    estimator = skorch_net() if estimator == "skorch" else estimator
    return MemorizationDetector(
        estimator, **{"nonlinearity": FAST, "random_state": 0} | settings
    )


def scoring(**settings):
    return NonlinearityScoring(**{"batch_size": 100, "ranks": (2, 4)} | settings)


def fit(net, X, y, seed=0):
    """Fit a net from a seed, in a test with the fixture ``torch_state_kept``."""
    torch.manual_seed(seed)
    return net.fit(X, y)


@pytest.fixture(scope="module")
def digits():
    return first_digits(300)


@pytest.fixture(scope="module")
def network(digits):
    """A trained MLP of 64, 32, 32 and 10 units."""
    X, y = map(torch.from_numpy, digits)

    def train():
        module = nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
        )
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(X), y).backward()
            optimizer.step()
        return module

    return seeded(train)


@pytest.fixture
def torch_state_kept():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def classes():
    """Activations of tall, small and single-row classes, mixed."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([2, 4, 7, 9, 12], (150, 150, 40, 25, 1)))
    return relu_matrix(len(y), 24), y


@pytest.fixture
def activations():
    return relu_matrix(60, 40)


@pytest.fixture
def stack():
    return np.stack([relu_matrix(30, 40, depth, seed=depth) for depth in (2, 4, 8)])


@pytest.fixture
def labelled():
    """Activations of three classes, and the classes."""
    X = np.concatenate([relu_matrix(n, 20, 3, seed=n) for n in (30, 25, 9)])
    return X, np.repeat([4, 7, 9], (30, 25, 9))

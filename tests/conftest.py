import numpy as np
import pytest
import torch

from sknonlin import ActivationNonlinearity

RANKS = [1, 2, 4, 8]

# At the tests' sizes a second thread gains nothing, and costs much where cores are busy.
torch.set_num_threads(1)


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

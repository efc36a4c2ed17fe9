import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sknonlin import ActivationNonlinearity, nmf_path
from sknonlin._running.torch_settings import full_precision, in_full_precision
from tests.conftest import relu_matrix


@in_full_precision
def divide_by_zero():
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert not torch.is_grad_enabled()
    return 1 / 0


def test_full_precision_is_temporary_also_after_an_error():
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(ZeroDivisionError):
            divide_by_zero()
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.is_grad_enabled()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_full_precision_lasts_until_the_last_thread_leaves():
    inside, leave = threading.Event(), threading.Event()

    @in_full_precision
    def wait():
        inside.set()
        assert leave.wait(60)
        return torch.backends.mkldnn.matmul.fp32_precision

    before = torch.backends.mkldnn.matmul.fp32_precision
    with ThreadPoolExecutor(1) as pool:
        with full_precision():
            waiting = pool.submit(wait)
            assert inside.wait(60)
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        leave.set()
        assert waiting.result() == "ieee"
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_low_precision_products_are_not_used(activations):
    X = activations.astype(np.float32)
    expected = nmf_path(X, [1, 4]).errors
    torch.set_float32_matmul_precision("medium")
    try:
        np.testing.assert_array_equal(nmf_path(X, [1, 4]).errors, expected)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_changes_nothing(activations):
    X = torch.from_numpy(activations).float()
    scorer = ActivationNonlinearity([1, 4]).fit(X)
    expected = scorer.score_samples(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = ActivationNonlinearity([1, 4]).fit(X).score_samples(X)
        assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("compression", ["nmf", "pca", "ablation"])
def test_default_device_is_not_used(compression):
    X = relu_matrix(60, 20)
    y = np.repeat([0, 1], (20, 40))
    scorer = ActivationNonlinearity(
        [1, 4, 30],
        compression=compression,
        by_class=True,
        max_rows=30,
        device="cpu",
        random_state=0,
    )
    expected = scorer.fit(X, y).score_samples(X, y)
    with torch.device("meta"):
        np.testing.assert_array_equal(scorer.fit(X, y).score_samples(X, y), expected)
        assert scorer.reconstruct(X, 4).shape == X.shape

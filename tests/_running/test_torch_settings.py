"""Settings of torch: full precision for a call, and what is left of it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sknonlin import ActivationNonlinearity, nmf_path
from sknonlin._matrices.products import unit_rows
from sknonlin._running.torch_settings import (
    PRODUCTS,
    full_precision,
    in_full_precision,
    operations_alone,
    thread_count,
)
from tests.conftest import LITTLE, make, relu_matrix


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


@pytest.mark.filterwarnings("ignore:The ranks")
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


# Interruptions


@pytest.fixture
def low_precision():
    """Settings that must be the same after the test."""
    torch.set_float32_matmul_precision("medium")
    before = [backend.fp32_precision for backend in PRODUCTS]
    yield
    after = [backend.fp32_precision for backend in PRODUCTS]
    torch.set_float32_matmul_precision("highest")
    assert before == after
    assert "ieee" not in before


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(
    "target",
    ["_factorization.nmf_compression.residual_energies", "_matrices.row_sample.survey"],
)
def test_an_interrupted_fit_leaves_everything_as_it_was(
    classes, by_class, target, monkeypatch
):
    X, y = classes
    calls = []

    def interrupt(*_args, **_kwargs):
        calls.append(1)
        raise KeyboardInterrupt

    fresh = make(by_class=by_class)
    fitted = make(by_class=by_class).fit(relu_matrix(80, 12), y[:80])
    before = dict(vars(fitted))
    parameters = fresh.get_params()
    monkeypatch.setattr(f"sknonlin.{target}", interrupt)
    for scorer in (fresh, fitted):
        with pytest.raises(KeyboardInterrupt):
            scorer.fit(X, y)
    assert len(calls) == 2
    assert vars(fresh) == parameters
    assert vars(fitted) == before


@pytest.mark.usefixtures("low_precision")
def test_an_interrupted_transform_leaves_everything_as_it_was(classes, monkeypatch):
    X, _ = classes
    scorer = make(working_memory=LITTLE).fit(X)
    before = dict(vars(scorer))
    calls = []

    def interrupt(X):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return unit_rows(X)

    monkeypatch.setattr("sknonlin._factorization.by_row.unit_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scorer.transform(X)
    assert vars(scorer) == before


# Threads


def test_operations_of_one_thread_alone_leave_the_setting_to_others():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(torch.get_num_threads).result()
            with operations_alone():
                assert torch.get_num_threads() == 1
                assert thread_count() == 2
                assert pool.submit(torch.get_num_threads).result() == 2
                assert pool.submit(thread_count).result() == 2
                with operations_alone():
                    assert thread_count() == 2
                assert thread_count() == 2
        assert torch.get_num_threads() == thread_count() == 2
        with pytest.raises(ZeroDivisionError), operations_alone():
            raise ZeroDivisionError
        assert torch.get_num_threads() == thread_count() == 2
    finally:
        torch.set_num_threads(before)

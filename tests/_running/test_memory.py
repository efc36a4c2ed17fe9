"""What is computed does not depend on the memory, and stays within it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from joblib import parallel_config
from scipy import sparse
from sklearn import clone, config_context
from sklearn.datasets import load_digits

from sknonlin import ActivationNonlinearity, nmf_path
from sknonlin._running import memory
from tests.conftest import LITTLE, RANKS, make, relu_matrix


@pytest.fixture
def kinds(tmp_path):
    """The same matrix as arrays of other kinds."""

    def convert(X):
        np.save(tmp_path / "X.npy", X)
        return {
            "memmap": np.load(tmp_path / "X.npy", mmap_mode="r"),
            "writable memmap": np.load(tmp_path / "X.npy", mmap_mode="r+"),
            "csr": sparse.csr_array(X),
            "tensor": torch.from_numpy(X),
        }

    return convert


# What is computed does not depend on the memory


@pytest.mark.parametrize("compression", ["nmf", "pca", "ablation"])
@pytest.mark.parametrize("by_class", [False, True])
def test_little_memory_changes_no_result(classes, kinds, compression, by_class):
    X, y = classes
    settings = {"compression": compression, "by_class": by_class, "max_rows": 16}
    expected = make(**settings).fit(X, y)
    for data in (X, *kinds(X).values()):
        scorer = make(**settings, working_memory=0.3).fit(data, y)
        np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
        for name in ("transform", "score_samples"):
            result, local = getattr(scorer, name)(data), getattr(expected, name)(X)
            np.testing.assert_allclose(result, local, atol=1e-6)
        rows = scorer.reconstruct(data, 4, y)
        np.testing.assert_allclose(rows, expected.reconstruct(X, 4, y), atol=1e-6)
    np.testing.assert_array_equal(kinds(X)["writable memmap"], X)


def test_memory_is_scikit_learns_unless_given():
    X = relu_matrix(400, 30)
    expected = nmf_path(X, RANKS, random_state=0, working_memory=LITTLE)
    assert expected.errors.shape == (4,)
    with config_context(working_memory=LITTLE):
        errors = nmf_path(X, RANKS, random_state=0).errors
        np.testing.assert_array_equal(errors, expected.errors)
        with pytest.raises(AssertionError):
            np.testing.assert_array_equal(
                nmf_path(X, RANKS, random_state=0, working_memory=1024).errors, errors
            )


@pytest.mark.parametrize("working_memory", [0, -1, "much"])
def test_bad_amounts_are_named(activations, working_memory):
    with pytest.raises(ValueError, match="working_memory"):
        make(working_memory=working_memory).fit(activations)
    with pytest.raises(ValueError, match="working_memory"):
        nmf_path(activations, [1], working_memory=working_memory)


# What a device does not hold is halved


def short_of_memory(function, most):
    """Fail as a GPU does where the first tensor is larger than a number of elements."""

    def limited_function(X, *args, **kwargs):
        if X.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return function(X, *args, **kwargs)

    return limited_function


@pytest.mark.parametrize("by_class", [False, True])
def test_what_a_gpu_does_not_hold_is_halved(classes, by_class, monkeypatch):
    X, y = classes
    expected = make(by_class=by_class).fit(X, y)
    residuals = expected.transform(X)
    for module, name, most in (
        ("_matrices.row_sample", "survey", 2000),
        ("_factorization.nmf_compression", "residual_energies", 2000),
        ("_factorization.nmf_compression", "learn_rows", 2000),
        ("_factorization.by_row", "unit_rows", 2000),
    ):
        target = f"sknonlin.{module}.{name}"
        function = getattr(sys.modules[f"sknonlin.{module}"], name)
        monkeypatch.setattr(target, short_of_memory(function, most))
    scorer = make(by_class=by_class).fit(X, y)
    np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
    np.testing.assert_allclose(scorer.transform(X), residuals, atol=1e-9)


def test_a_stack_that_a_gpu_does_not_hold_is_halved(stack, monkeypatch):
    expected = nmf_path(stack, RANKS)
    function = sys.modules["sknonlin._factorization.nmf_compression"].learn_rows
    short = short_of_memory(function, stack[:2].size)
    monkeypatch.setattr("sknonlin._factorization.nmf_compression.learn_rows", short)
    path = nmf_path(stack, RANKS)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-8)
    short = short_of_memory(function, stack[0].size - 1)
    monkeypatch.setattr("sknonlin._factorization.nmf_compression.learn_rows", short)
    with pytest.raises(torch.OutOfMemoryError):
        nmf_path(stack, RANKS)


# Workers


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_give_the_same(classes, kinds, backend):
    X, y = classes
    for by_class in (False, True):
        expected = make(by_class=by_class).fit(X, y)
        others = [] if by_class else list(kinds(X).values())
        for data in (X, *others):
            with parallel_config(backend=backend):
                scorer = make(by_class=by_class, n_jobs=2, working_memory=0.5).fit(data, y)
                residuals = scorer.transform(data)
                scores = scorer.score_samples(data, y)
            np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-6)
            np.testing.assert_allclose(residuals, expected.transform(X), atol=1e-6)
            np.testing.assert_allclose(scores, expected.score_samples(X, y), atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "working_memory"), [(np.float32, None), (np.float64, None), (np.float32, 1)]
)
def test_nothing_depends_on_the_number_of_workers(dtype, working_memory):
    X, y = load_digits(return_X_y=True)
    X, y = X[:200].astype(dtype), y[:200]
    scorer = ActivationNonlinearity(
        [1, 4, 16], by_class=True, working_memory=working_memory, random_state=0
    )
    one = clone(scorer).fit(X, y)
    for n_jobs in (3, 10):
        other = clone(scorer).set_params(n_jobs=n_jobs).fit(X, y)
        np.testing.assert_allclose(other.errors_, one.errors_, atol=1e-7)
        np.testing.assert_allclose(other.transform(X), one.transform(X), atol=1e-6)


# Progress


def test_every_long_loop_has_a_progress_bar(classes, capfd):
    X, y = classes
    scorer = make(by_class=True, verbose=1, working_memory=LITTLE).fit(X, y)
    assert "classes" in capfd.readouterr().err
    for compute in (
        scorer.transform,
        scorer.score_samples,
        lambda X: scorer.reconstruct(X, 2),
    ):
        compute(X)
        assert "rows" in capfd.readouterr().err
    make(verbose=1, working_memory=LITTLE).fit(X)
    shown = capfd.readouterr().err
    assert "checks" in shown
    assert "errors" in shown
    nmf_path(X, RANKS, verbose=1, max_rows=60, random_state=0, working_memory=LITTLE)
    assert "checks" in capfd.readouterr().err


# Memory itself

MEASURE = """
import sys
import numpy as np
import torch
from sknonlin import ActivationNonlinearity


def used(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


torch.set_num_threads(1)
mapped = np.load(sys.argv[1], mmap_mode="r")
whole = np.load(sys.argv[1])
y = np.arange(len(whole)) % 4
scorer = ActivationNonlinearity([1, 4], working_memory=64, random_state=0)
scorer.fit(whole[:200]).transform(whole[:200])
before = used("VmRSS")
for X, by_class in ((whole, False), (mapped, False), (whole, True), (mapped, True)):
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    scorer.set_params(by_class=by_class).fit(X, y).score_samples(X, y)
    print((used("VmHWM") - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_peak_stays_near_the_working_memory(tmp_path):
    X = np.random.default_rng(0).random((60_000, 512), np.float32)  # 117 MiB
    np.save(tmp_path / "X.npy", X)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "X.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = [float(line) for line in run.stdout.split()]
    assert len(peaks) == 4
    assert max(peaks) < 1.2 * 64


@pytest.mark.parametrize("set_by_user", [False, True])
def test_options_of_malloc_are_set_once_and_restored(monkeypatch, set_by_user):
    calls = []
    monkeypatch.setattr(memory, "glibc", lambda name: lambda *args: calls.append(args))
    monkeypatch.setattr(memory, "options_at_start", dict)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # which malloc has not read
    with memory.freed_memory_kept:
        assert not calls
    before = {memory.TRIM_THRESHOLD: 65536}  # as Dask's workers begin
    before |= {memory.MMAP_THRESHOLD: 4096} if set_by_user else {}
    monkeypatch.setattr(memory, "options_at_start", lambda: before)
    with memory.freed_memory_kept:
        assert dict(calls) == {-1: 2**28, -3: 2**25}
        with memory.freed_memory_kept:  # of another thread
            assert len(calls) == 2
        assert len(calls) == 2
    assert dict(calls[2:4]) == {-1: 65536, -3: 4096 if set_by_user else 2**17}
    assert calls[4] == (0,)


def test_options_are_those_that_a_process_began_with():
    code = (
        "import os; from sknonlin._running import memory;"
        "os.environ['MALLOC_MMAP_THRESHOLD_'] = '1'; print(memory.options_at_start())"
    )
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    run = [sys.executable, "-c", code]
    shown = subprocess.run(run, env=environment, capture_output=True, check=True)
    expected = {b"MALLOC_TRIM_THRESHOLD_": 65536} if sys.platform == "linux" else {}
    assert shown.stdout.decode().strip() == str(expected)


@pytest.mark.parametrize("stage", memory.SHARES)
def test_what_a_stage_holds_at_once_is_no_more_than_there_is(stage):
    assert sum(memory.SHARES[stage].values()) <= 1 + 1e-9


def test_a_stage_within_another_has_its_part_of_the_memory():
    with memory.limited(100), memory.within("profile", "learning"):
        assert memory.free_bytes("cpu") == 40 * memory.MEBIBYTE
        assert memory.affordable(memory.MEBIBYTE, "learning", "matrices") == 30

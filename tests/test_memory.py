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
from sknonlin._factorization.compressions import rows_that_fit
from sknonlin._matrices.products import unit_rows
from sknonlin._matrices.row_sample import group_size
from sknonlin._matrices.stack import MatrixStack, class_groups, stack_numbers
from sknonlin._running import memory
from sknonlin._running.memory import limited
from sknonlin._running.torch_settings import PRODUCTS
from tests.conftest import RANKS, make, relu_matrix

LITTLE = 0.05  # MiB, so that everything is cut into very many parts


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


def test_fewer_rows_are_drawn_where_the_memory_is_short():
    settings = {"ranks": [1, 8], "dtype": torch.float64, "device": "cpu"}
    assert rows_that_fit(4000, 256, **settings) == 4000
    assert 500 < rows_that_fit(4000, 16_384, **settings) < 4000
    with limited(1e-6):
        assert rows_that_fit(4000, 256, **settings) == 16
        assert rows_that_fit(None, 256, **settings) == 16


def test_stacks_are_learned_in_parts(stack):
    expected = nmf_path(stack, RANKS)
    path = nmf_path(stack, RANKS, working_memory=0.3)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-8)


def test_all_parts_of_a_stack_share_one_draw():
    stack = np.stack([relu_matrix(200, 24, seed=1)] * 3)
    errors = nmf_path(
        stack, RANKS, max_rows=40, working_memory=0.3, random_state=np.random.RandomState(0)
    ).errors
    np.testing.assert_allclose(errors[1:], errors[:-1], rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1, 1e30, 1e300])
def test_the_draw_depends_on_neither_scale_nor_chunks(factor, monkeypatch):
    X = relu_matrix(500, 16)
    X[::7] *= 1e-6
    expected = nmf_path(X, RANKS, max_rows=50, random_state=0)
    monkeypatch.setattr("sknonlin._matrices.stack.CHUNK_ELEMENTS", 1000)
    for working_memory in (None, LITTLE):
        with monkeypatch.context() as m:
            m.setattr("sknonlin.nmf.rows_that_fit", lambda max_rows, *_: max_rows)
            path = nmf_path(
                X * factor,
                RANKS,
                max_rows=50,
                random_state=0,
                working_memory=working_memory,
            )
        np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-9)
    with limited(LITTLE):
        assert group_size(500, 1) > 1


def test_zero_chunks_and_rows_do_not_disturb_the_draw(monkeypatch):
    X = relu_matrix(300, 16) * 1e-200
    X[100:200] = 0
    expected = nmf_path(X[np.r_[:100, 200:300]], RANKS, max_rows=50, random_state=0)
    monkeypatch.setattr("sknonlin._matrices.stack.CHUNK_ELEMENTS", 16 * 50)
    path = nmf_path(X, RANKS, max_rows=50, random_state=0)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.float64, ">f4"])
def test_memory_maps_of_any_number_are_converted_in_chunks(tmp_path, dtype):
    X = (relu_matrix(120, 24) * 20).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = make().fit(X)
    scorer = make(working_memory=0.3).fit(mapped)
    assert scorer.errors_.dtype == expected.errors_.dtype
    np.testing.assert_allclose(scorer.transform(mapped), expected.transform(X), atol=1e-5)


def test_values_of_a_memory_map_are_checked(tmp_path):
    for value, message in ((-1, "Negative"), (np.nan, "NaN"), (np.inf, "infinity")):
        X = relu_matrix(120, 24)
        X[77, 3] = value
        np.save(tmp_path / "X.npy", X)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        with pytest.raises(ValueError, match=message):
            make(working_memory=LITTLE).fit(mapped)
        with pytest.raises(ValueError, match=message):
            make().fit(relu_matrix(120, 24)).transform(mapped)


def test_groups_of_classes_are_spread_over_the_workers():
    sizes = [10] * 100 + [11] * 3
    assert len(class_groups(sizes, 8, 4000, 2**20)) == 2
    groups = class_groups(sizes, 8, 4000, 2**20, n_groups=4)
    assert len(groups) >= 4
    assert sorted(label for _, classes in groups for label in classes) == list(range(103))


def test_stacks_count_what_is_made_of_their_cones():
    n_features, extra = 64, 10_000
    with limited(1):
        most = stack_numbers(8, torch.device("cpu"))
        groups = class_groups([1] * 100, n_features, None, most, extra=extra)
        assert {len(classes) for _, classes in groups} == {1}
    with limited(8):
        most = stack_numbers(8, torch.device("cpu"))
        groups = class_groups([1] * 100, n_features, None, most, extra=extra)
        largest = max(len(classes) for _, classes in groups)
        assert 5 < largest * (n_features + extra) * 8 / 2**17 <= 10


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
        ("_factorization.compressions", "residual_energies", 2000),
        ("_factorization.compressions", "learn_rows", 2000),
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
    function = sys.modules["sknonlin._factorization.compressions"].learn_rows
    short = short_of_memory(function, stack[:2].size)
    monkeypatch.setattr("sknonlin._factorization.compressions.learn_rows", short)
    path = nmf_path(stack, RANKS)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-8)
    short = short_of_memory(function, stack[0].size - 1)
    monkeypatch.setattr("sknonlin._factorization.compressions.learn_rows", short)
    with pytest.raises(torch.OutOfMemoryError):
        nmf_path(stack, RANKS)


def test_a_device_without_float64_says_what_to_pass(activations, monkeypatch):
    monkeypatch.setattr(
        "sknonlin._matrices.stack.resolve_device",
        lambda device, X=None: torch.device("mps"),
    )
    with pytest.raises(ValueError, match=r"'mps' has no float64.*Pass X as float32"):
        MatrixStack(activations, "mps")
    assert MatrixStack(activations.astype(np.float32), "mps").device.type == "mps"


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


# Interruptions and progress


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
    ["_factorization.compressions.residual_energies", "_matrices.row_sample.survey"],
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


def test_options_of_malloc_are_set_for_a_block_and_restored(monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "glibc", lambda name: lambda *args: calls.append(args))
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with memory.freed_memory_kept():
        assert not calls
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # as Dask does
    with memory.freed_memory_kept():
        assert dict(calls) == {-1: 2**28, -3: 2**25}
    assert dict(calls[2:4]) == {-1: 65536, -3: 2**17}
    assert calls[4] == (0,)

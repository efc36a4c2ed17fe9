"""When compiled functions serve, and that all goes on where they cannot."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from sknonlin import nmf_path
from sknonlin._factorization import compiled
from tests.conftest import relu_matrix

numba = pytest.importorskip("numba")
RANKS = [1, 2, 4, 8]
WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import numpy as np
from sknonlin import nmf_path
rng = np.random.default_rng(0)
X = np.maximum(rng.normal(size=(60, 6)) @ rng.normal(size=(6, 40)), 0)
print(*nmf_path(X, [1, 2, 4, 8]).errors.tolist())
"""


def test_without_numba_torch_computes_the_same():
    command = [sys.executable, "-c", WITHOUT_NUMBA]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    errors = nmf_path(relu_matrix(60, 40), RANKS).errors
    np.testing.assert_allclose([float(x) for x in output.split()], errors, rtol=1e-7)


def test_numba_is_imported_when_something_is_computed():
    command = [sys.executable, "-c", "import sknonlin, sys; print('numba' in sys.modules)"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.split() == ["False"]


@pytest.mark.parametrize("max_rows", [4000, 31])
def test_no_digit_depends_on_the_number_of_threads(max_rows, monkeypatch):
    stack = np.stack([relu_matrix(50, 40, seed=i) for i in range(5)]).astype(np.float32)
    expected = nmf_path(stack, RANKS, max_rows=max_rows, random_state=0)
    for n_threads in (2, 7):
        monkeypatch.setattr(compiled, "threads_for", lambda *_, n=n_threads: n)
        path = nmf_path(stack, RANKS, max_rows=max_rows, random_state=0)
        np.testing.assert_array_equal(path.errors, expected.errors)
        for H, other in zip(path.components, expected.components, strict=True):
            np.testing.assert_array_equal(H, other)


def test_what_is_served_follows_from_one_matrix():
    small = torch.zeros(2, 30, 20)
    assert compiled.serves(small, RANKS)
    assert compiled.serves(small.double(), RANKS)
    assert not compiled.serves(small, [])
    assert not compiled.serves(small.half(), RANKS)
    assert not compiled.serves(small.to("meta"), RANKS)
    assert compiled.serves(torch.zeros(1, 1).expand(4, 2**10, 2**10), RANKS)
    assert not compiled.serves(torch.zeros(1, 1).expand(1, 2**10, 2**10 + 4), RANKS)


def test_a_gpu_sends_small_stacks_to_the_processor():
    small = torch.zeros(2, 30, 20, device="meta")
    assert compiled.serves_gpu(small, RANKS)
    assert compiled.serves_gpu(small.double(), RANKS)
    assert not compiled.serves_gpu(small, [])
    assert not compiled.serves_gpu(small.half(), RANKS)
    assert not compiled.serves_gpu(torch.zeros(2, 30, 20), RANKS)
    assert compiled.serves_gpu(small.new_empty(2, 2**9, 2**9), RANKS)
    assert not compiled.serves_gpu(small.new_empty(3, 2**9, 2**9), RANKS)


def test_little_work_is_not_worth_threads():
    assert compiled.threads_for(100, RANKS) == 1
    assert compiled.threads_for(2**22, RANKS) == torch.get_num_threads()


def test_every_dtype_has_files_of_its_own():
    names = {
        compiled.kernels(dtype).learn_matrix.py_func.__qualname__
        for dtype in (torch.float32, torch.float64)
    }
    assert len(names) == 2


def test_where_no_folder_can_be_written_functions_are_kept_in_memory(monkeypatch):
    njit = numba.njit

    def no_folder(cache=False, **settings):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**settings)

    monkeypatch.setattr(numba, "njit", no_folder)
    found = compiled.Kernels(torch.float32)
    assert found.learn_matrix.stats.cache_path is None

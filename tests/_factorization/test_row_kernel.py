"""What cones leave of many rows, against least squares in torch."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from sknonlin._factorization.compiled import CHUNK, energies_left_compiled
from sknonlin._factorization.nmf_compression import stack_weights
from sknonlin._matrices.products import unit_rows
from tests.conftest import relu_matrix

pytest.importorskip("numba")
CHECKER = pathlib.Path("/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")
MANY_RANKS = """
import numpy as np
from sknonlin import nmf_path
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    X = np.maximum(rng.normal(size=(300, 64)), 0).astype(dtype)
    for ranks in ([1, 2, 4, 8, 16, 24, 32, 40, 48, 56], [3, 17, 33], [1, 5, 63]):
        nmf_path(X, ranks, max_rows=130, max_iter=4, random_state=0)
print("done")
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 255, 300, CHUNK + 17])
def test_energies_are_those_of_the_weights(dtype, n):
    X = torch.from_numpy(np.stack([relu_matrix(n, 21, seed=i) for i in range(2)])).to(dtype)
    cones = [
        unit_rows(torch.from_numpy(relu_matrix(2 * k, 21, seed=k)))[0].reshape(2, k, 21)
        for k in (1, 3, 8)
    ]
    cones = [H.to(dtype) for H in cones]
    scale = torch.tensor([0.5, 2], dtype=dtype)
    energies = energies_left_compiled(X, scale, cones)
    X = X * scale[:, None, None]
    expected = [X.square().sum((1, 2))]
    for H in cones:
        left = X - stack_weights(X, H).mT @ H
        expected.append(left.square().sum((1, 2)))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(
        energies, torch.stack(expected, 1).double(), rtol=tolerance, atol=tolerance
    )


def test_nothing_is_written_beyond_what_was_allocated():
    checks = {"MALLOC_CHECK_": "3"}  # of glibc, which ends the process
    if CHECKER.exists():
        checks["LD_PRELOAD"] = str(CHECKER)
    command = [sys.executable, "-c", MANY_RANKS]
    result = subprocess.run(
        command, env=os.environ | checks, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.split()) == (0, ["done"]), result.stderr

"""What cones leave of many rows, against least squares in torch."""

import numpy as np
import pytest
import torch

from sknonlin._factorization.compiled import CHUNK, energies_left_compiled
from sknonlin._factorization.nmf_compression import stack_weights
from sknonlin._matrices.products import unit_rows
from tests.conftest import relu_matrix

pytest.importorskip("numba")


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

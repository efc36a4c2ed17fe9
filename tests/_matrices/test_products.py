"""Products of a matrix, whatever else is in its stack."""

import pytest
import torch

from sknonlin._matrices.products import add_products, aligned, gram, products


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "m", "p"),
    [(8, 12, 4), (60, 40, 8), (4, 200, 64), (1, 40, 8), (60, 40, 1), (1, 64, 1), (1, 1, 8)],
)
def test_a_product_is_the_same_in_any_stack(n, m, p, dtype):
    rng = torch.Generator().manual_seed(0)
    A, B, C = (
        torch.randn(6, *shape, generator=rng, dtype=dtype)
        for shape in ((n, m), (m, p), (n, p))
    )
    together = products(A, B), add_products(C, A, B, beta=0.5, alpha=-2), gram(A)
    for i in range(6):
        a, b, c = A[i : i + 1], B[i : i + 1], C[i : i + 1]
        alone = products(a, b), add_products(c, a, b, beta=0.5, alpha=-2), gram(a)
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_of_them[i])
        out = torch.empty_like(c)
        assert add_products(c, a, b, beta=0.5, alpha=-2, out=out) is out
        assert torch.equal(out, alone[1])


@pytest.mark.parametrize(
    ("shape", "padded"),
    [((3, 5, 7), (3, 8, 8)), ((2, 8, 3), (2, 8, 4)), ((1, 1, 4), (1, 4, 4))],
)
def test_rows_and_columns_are_padded_with_zeros_to_multiples_of_four(shape, padded):
    X = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(padded)
    expected[:, : shape[1], : shape[2]] = X
    result = aligned(X)
    assert torch.equal(result, expected)
    assert aligned(result) is result

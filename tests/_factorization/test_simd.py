"""Products of small matrices in registers, against NumPy."""

import numpy as np
import pytest

simd = pytest.importorskip("sknonlin._factorization.simd")

DTYPES = [np.float32, np.float64]


def matrix(n, q, dtype, seed=0):
    """Return a random matrix, and a copy whose rows are padded with zeros."""
    A = np.random.default_rng(seed).normal(size=(n, q)).astype(dtype)
    wide = simd.zeros(n, q, A)
    wide[:, :q] = A
    return A, wide


def close(found, expected, depth):
    atol = 4 * np.finfo(found.dtype).eps * np.sqrt(depth)
    np.testing.assert_allclose(found, expected, atol=atol * np.abs(expected).max(initial=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_begin_where_vectors_do(dtype):
    for shape in [(3, 1), (1, 17), (5, 64)]:
        A = simd.zeros(*shape, np.empty(0, dtype))
        assert A.shape[0] == shape[0]
        assert shape[1] <= A.shape[1] < shape[1] + simd.BYTES // A.itemsize
        assert A.ctypes.data % simd.BYTES == 0
        assert (A == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_all_shapes(dtype, transposed):
    for n_rows in (1, 2, 3, 4, 5, 6, 7, 8, 11, 13):
        for depth, width in [(1, 1), (3, 16), (40, 70), (300, 130)]:
            A, B = matrix(n_rows, depth, dtype)[0], matrix(depth, width, dtype, 1)
            first = matrix(depth, n_rows, dtype)[1] if transposed else None
            if transposed:
                first[:, :n_rows] = A.T
            else:
                first = A
            C = simd.zeros(n_rows, width, A)
            C[:] = np.nan
            columns = B[1].shape[1]
            simd.multiply(first, transposed, B[1], 0, columns, C, 0, n_rows, depth, 0)
            close(C[:, :width], A @ B[0], depth)
            assert (C[:, width:] == 0).all()
            simd.multiply(first, transposed, B[1], 0, columns, C, 0, n_rows, depth, 1)
            close(C[:, :width], 2 * (A @ B[0]), depth)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inner_products_and_gram_matrices_of_all_shapes(dtype):
    for n_rows in (1, 3, 4, 5, 9):
        for n_columns in (1, 4, 6):
            for depth in (1, 33, 128):
                A, B = matrix(n_rows, depth, dtype), matrix(n_columns, depth, dtype, 1)
                C = np.zeros((n_rows, n_columns), dtype)
                simd.inner_products(A[1], n_rows, B[1], n_columns, C, False)
                close(C, A[0] @ B[0].T, depth)
                G = np.zeros((n_rows, n_rows), dtype)
                simd.gram_matrix(A[1], n_rows, G)
                close(G, A[0] @ A[0].T, depth)
                np.testing.assert_array_equal(G, G.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 5, 17, 40])
def test_inverses_of_penalized_gram_matrices(dtype, k):
    A = np.abs(matrix(k, k + 3, dtype)[0]) * np.logspace(-3, 3, k)[:, None]
    G = A @ A.T
    G += 0.2 * np.diag(np.diag(G))
    inverse = simd.zeros(k, k, G.astype(dtype))
    inverse[:, :k] = G
    simd.invert(inverse, k)
    scale = np.sqrt(np.diag(G))
    scaled = inverse[:, :k] * scale * scale[:, None] @ (G / scale / scale[:, None])
    np.testing.assert_allclose(scaled, np.eye(k), atol=1e3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 1), (12, 4), (52, 52)])
def test_leading_eigenvectors_are_lapacks(dtype, n, d):
    A = matrix(n, n + 2, dtype)[0].astype(float)
    G = simd.zeros(n, n, np.empty(0, dtype))
    G[:, :n] = A @ A.T
    found = simd.zeros(d, n, G)
    simd.leading_eigenvectors(G, n, d, found, simd.eigensolver())
    expected = np.linalg.eigh(G[:, :n].astype(float))[1][:, ::-1][:, :d].T
    signs = np.sign(np.sum(found[:, :n] * expected, axis=1))
    np.testing.assert_allclose(found[:, :n] * signs[:, None], expected, atol=1e-5)

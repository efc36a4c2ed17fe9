"""Weights of rows on cones, in compiled functions, from Gram matrices and inner products.

It does what `nnls` does, see there for the method, without a call for every operation, and
panel by panel, so that what is computed stays in the processor's cache.
"""

import numpy as np
from numba import njit

from sknonlin._factorization import method
from sknonlin._factorization.path_kernel import (
    FINAL_STEPS,
    PANEL,
    penalized_inverse,
    splitting_steps,
)
from sknonlin._factorization.simd import ANY_ORDER, padded, zeros
from sknonlin._matrices.products import FLOOR

SUPPORT_STEPS = np.intp(
    method.N_SUPPORT_STEPS + 1
)  # one of them from zero, as `nnls` begins
N_EXCHANGES, PATIENCE = np.intp(method.N_EXCHANGES), np.intp(method.PATIENCE)


@njit(nogil=True)
def cone_operators(G, k):
    """Inverse (k, k) and penalties, its last row, of the splitting iteration for a cone."""
    operators = zeros(k + 1, k, G)
    penalized_inverse(G, k, operators, operators[k])
    return operators


@njit(nogil=True)
def copy_columns(A, first, width, panel):
    """Copy some columns of A to the first of a panel, and zeros to the others."""
    for i in range(A.shape[0]):
        for j in range(width):
            panel[i, j] = A[i, first + j]
        for j in range(width, panel.shape[1]):
            panel[i, j] = 0


@njit(nogil=True)
def state_of_panel(operators, F, first, width, k, n_steps, panel, U, T):
    """Take steps of the splitting iteration, from zero, for some columns of F."""
    copy_columns(F, first, width, panel)
    for i in range(k):
        for j in range(U.shape[1]):
            U[i, j] = 0
    splitting_steps(operators, operators[k], panel, U, U.shape[1], k, n_steps, T)


def cone_weights(G, F, first, last, W):
    """Non-negative weights of some columns, by the splitting iteration.

    Parameters
    ----------
    G : array of shape (k, k)
        Gram matrix of the generators.
    F : array of shape (k, m)
        Their inner products with what is approximated.
    first, last : int
        Columns of F.
    W : array of shape (k, m)
        The columns' weights are written to it.
    """
    k = len(G)
    operators = cone_operators(G, k)
    width = min(PANEL, padded(last - first, F.itemsize))
    panel, U, T = zeros(k, width, F), zeros(k, width, F), zeros(k, width, F)
    for start in range(first, last, width):
        there = min(width, last - start)
        state_of_panel(operators, F, start, there, k, FINAL_STEPS, panel, U, T)
        for i in range(k):
            for j in range(there):
                W[i, start + j] = max(U[i, j], 0)


@njit(nogil=True, fastmath=ANY_ORDER)
def product_before(L, i, j):
    """Inner product of what is left of the diagonal in two rows of a triangle."""
    total = L.dtype.type(0)
    for p in range(j):
        total += L[i, p] * L[j, p]
    return total


@njit(nogil=True)
def solve_on_support(G, f, index, size, jitter, L, z):
    """Least squares on the support of a row; whether the system is regular.

    Parameters
    ----------
    index : array of int
        The first ``size`` are the support.
    L : array, for the triangle of Cholesky's decomposition
    z : array
        The first ``size`` are the solution.
    """
    for i in range(size):
        for j in range(i):
            L[i, j] = (G[index[i], index[j]] - product_before(L, i, j)) / L[j, j]
        square = G[index[i], index[i]] + jitter - product_before(L, i, i)
        if not square > 0:
            return False
        L[i, i] = np.sqrt(square)
    for i in range(size):
        total = f[index[i]]
        for p in range(i):
            total -= L[i, p] * z[p]
        z[i] = total / L[i, i]
    for i in range(size - 1, -1, -1):
        z[i] /= L[i, i]
        for p in range(i):
            z[p] -= L[i, p] * z[i]
    return True


@njit(nogil=True, fastmath=ANY_ORDER)
def gradient_of(G, f, index, size, z, g):
    """Inner products of the generators with what is left, ``g = f - z G``."""
    for j in range(len(f)):
        g[j] = f[j]
    for i in range(size):
        row, weight = G[index[i]], z[i]
        for j in range(len(f)):
            g[j] -= weight * row[j]


@njit(nogil=True, fastmath=ANY_ORDER)
def size_of(a, b, index, size):
    """Norm of the products of the first numbers, and of others by their index."""
    total = 0.0
    for i in range(size):
        total += (a[i] * b[index[i]]) ** 2
    return np.sqrt(total)


@njit(nogil=True)
def find_infeasible(g, z, scales, support, index, size, right, tol, wrong):
    """Find variables that are on the wrong side: their number, and the last of them."""
    k = len(g)
    least = -tol * min(size_of(z, scales, index, size), right)
    for j in range(k):
        wrong[j] = not support[j] and g[j] / scales[j] > tol * right
    for i in range(size):
        wrong[index[i]] = z[i] * scales[index[i]] < least
    count, last = 0, 0
    for j in range(k):
        if wrong[j]:
            count, last = count + 1, j
    return count, last


@njit(nogil=True)
def indices_of(support, index):
    """Write where an array is true, and count it."""
    size = 0
    for j in range(len(support)):
        if support[j]:
            index[size] = j
            size += 1
    return size


@njit(nogil=True)
def pivot(G, f, scales, support, jitter, tol, work):
    """Exact weights of a row by block principal pivoting, see `nnls.pivot`.

    Parameters
    ----------
    G : array of shape (k, k)
    f, scales : arrays of shape (k,)
        Inner products with the row, and norms of the generators.
    support : array of bool of shape (k,)
        Where the weights are expected to be positive; overwritten by where they are.
    jitter, tol : float
    work : tuple of arrays
        The weights on the support are the first of ``work[2]``.

    Returns
    -------
    size : int
        Of the support, whose indices are the first of ``work[0]``; -1 where pivoting did
        not end.
    """
    k = len(f)
    index, L, z, g, wrong = work
    right = 0.0
    for j in range(k):
        right += (f[j] / scales[j]) ** 2
    right = np.sqrt(right)
    fewest, patience = k + 1, PATIENCE
    for _ in range(N_EXCHANGES):
        size = indices_of(support, index)
        if not solve_on_support(G, f, index, size, jitter, L, z):
            return -1
        gradient_of(G, f, index, size, z, g)
        count, last = find_infeasible(g, z, scales, support, index, size, right, tol, wrong)
        if count == 0:
            return size
        patience = PATIENCE if count < fewest else patience - 1
        fewest = min(count, fewest)
        for j in range(k):
            if wrong[j] and (patience >= 0 or j == last):
                support[j] = not support[j]
    return -1


def exact_weights(G, F, first, last, W):
    """Non-negative weights of some columns, to the precision of the dtype.

    Parameters
    ----------
    G, F, first, last
        As in :func:`cone_weights`.
    W : array of shape (m, k)
        The columns' weights are written to it, as rows.
    """
    k, epsilon = len(G), np.finfo(F.dtype).eps
    operators = cone_operators(G, k)
    width = min(PANEL, padded(last - first, F.itemsize))
    panel, U, T = zeros(k, width, F), zeros(k, width, F), zeros(k, width, F)
    scales, largest = np.empty(k, F.dtype), F.dtype.type(0)
    for j in range(k):
        scales[j] = np.sqrt(max(G[j, j], FLOOR))
        largest = max(largest, G[j, j])
    jitter, tol = epsilon * largest, epsilon ** (2 / 3)
    support, f = np.empty(k, np.bool_), np.empty(k, F.dtype)
    vectors = np.empty(k, F.dtype), np.empty(k, F.dtype), np.empty(k, np.bool_)
    work = (np.empty(k, np.intp), np.empty((k, k), F.dtype), *vectors)
    for start in range(first, last, width):
        there = min(width, last - start)
        state_of_panel(operators, F, start, there, k, SUPPORT_STEPS, panel, U, T)
        for i in range(there):
            own = W[start + i]
            positive = False
            for j in range(k):
                f[j], support[j], own[j] = panel[j, i], U[j, i] > 0, 0
                positive |= f[j] > 0
            if not positive:
                continue
            size = pivot(G, f, scales, support, jitter, tol, work)
            for j in range(size):
                own[work[0][j]] = max(work[2][j], 0)
            if size < 0:
                for j in range(k):
                    own[j] = max(U[j, i], 0)

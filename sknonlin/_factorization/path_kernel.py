"""The rank path of one small matrix on a processor, in one compiled function.

It does what `rank_path` does, see there for the method, without a call for every operation,
and in memory that stays in the processor's cache.

A matrix ``D`` is held with its shorter side as rows, and ``E`` is its transpose. The factor
``S`` is that of the shorter side (k, short), and ``L`` that of the longer one (k, long); a
state is signed, and its positive part is the factor.
"""

import numpy as np
from numba import njit

from sknonlin._factorization.method import (
    CHECK_EVERY,
    MOMENTUM,
    N_FINAL_STEPS,
    N_POWER_ITERATIONS,
    N_UPDATE_STEPS,
    OVERSAMPLING,
    RELAXATION,
    RHO,
)
from sknonlin._factorization.simd import (
    ANY_ORDER,
    NO,
    YES,
    apart,
    gram_matrix,
    inner_products,
    invert,
    leading_eigenvectors,
    multiply,
    padded,
    zeros,
)
from sknonlin._matrices.products import ALIGNED, FLOOR

BOTH = np.intp(2)
UPDATE_STEPS, FINAL_STEPS = np.intp(N_UPDATE_STEPS), np.intp(N_FINAL_STEPS)
PANEL = 256  # columns of a factor that take their steps together


@njit(nogil=True)
def copy_rows(A, k, B):
    """``B = A``, of the first k rows, and of the columns that both have."""
    width = min(A.shape[1], B.shape[1])
    for i in range(k):
        for j in range(width):
            B[i, j] = A[i, j]


@njit(nogil=True)
def positive_rows(Z, k, P):
    """``P = relu(Z)``, of the first k rows."""
    for i in range(k):
        for j in range(Z.shape[1]):
            P[i, j] = max(Z[i, j], 0)


@njit(nogil=True)
def penalized_inverse(G, k, inverse, rho):
    """Penalties, and the inverse of the penalized Gram matrix times the relaxation."""
    copy_rows(G, k, inverse)
    for i in range(k):
        rho[i] = RHO * G[i, i] + FLOOR
        inverse[i, i] += rho[i]
    invert(inverse, k)
    for i in range(k):
        for j in range(k):
            inverse[i, j] *= RELAXATION


@njit(nogil=True, fastmath=ANY_ORDER)
def splitting_steps(inverse, rho, F, U, width, k, n_steps, T):
    """Take steps of the splitting iteration for some columns ``U`` of a state.

    ``U <- (1 - r / 2) U - r / 2 |U| + r (G + rho)^-1 (F + rho |U|)``, which is the one of
    `nnls.splitting` with one product less. ``T`` is for the second term of the product.
    """
    half = RELAXATION / 2
    for _ in range(n_steps):
        for i in range(k):
            own = rho[i]
            for j in range(width):
                u = U[i, j]
                T[i, j] = F[i, j] + own * abs(u)
                U[i, j] = (1 - half) * u - half * abs(u)
        multiply(inverse, NO, T, NO, width, U, NO, k, k, YES)


@njit(nogil=True, fastmath=ANY_ORDER)
def update(Z, P, other, data, height, k, weight, n_steps, work):
    """Step of one factor, extrapolated by a weight; ``P`` gets its positive part.

    ``other`` is the other factor (k, height), and ``data`` (height, width).
    """
    apart()
    G, inverse, F, T, U, rho = work
    gram_matrix(other, k, G)
    penalized_inverse(G, k, inverse, rho)
    for first in range(0, Z.shape[1], PANEL):
        width = min(PANEL, Z.shape[1] - first)
        multiply(other, NO, data, first, first + width, F, NO, k, height, NO)
        for i in range(k):
            before = Z[i, first : first + width]
            for j in range(width):
                U[i, j] = before[j]
        splitting_steps(inverse, rho, F, U, width, k, n_steps, T)
        for i in range(k):
            before, positive = Z[i, first : first + width], P[i, first : first + width]
            for j in range(width):
                z = U[i, j] + (weight - 1) * (U[i, j] - before[j])
                before[j] = z
                positive[j] = max(z, 0)


@njit(nogil=True, fastmath=ANY_ORDER)
def residual(D, S, L, k, s, R):
    """``R = D - S' L``, and its Frobenius norm."""
    apart()
    multiply(S, YES, L, NO, L.shape[1], R, NO, s, k, NO)
    total = 0.0
    for i in range(s):
        row = R.dtype.type(0)
        for j in range(D.shape[1]):
            left = D[i, j] - R[i, j]
            R[i, j] = left
            row += left * left
        total += row
    return np.sqrt(total)


@njit(nogil=True, fastmath=ANY_ORDER)
def inner_product(A, i, B, j, n):
    """Inner product of two rows."""
    total = A.dtype.type(0)
    for m in range(n):
        total += A[i, m] * B[j, m]
    return total


@njit(nogil=True, fastmath=ANY_ORDER)
def orthonormalize(A, k, n):
    """Make the rows of ``A`` orthonormal, or zero where they depend on those before."""
    apart()
    for i in range(k):
        before = inner_product(A, i, A, i, n)
        for j in range(2 * i):
            other = j % i
            share = inner_product(A, i, A, other, n)
            for m in range(n):
                A[i, m] -= share * A[other, m]
        square = inner_product(A, i, A, i, n)
        scale = 1 / np.sqrt(square) if square > 1e-10 * before else 0.0
        for m in range(n):
            A[i, m] *= scale


@njit(nogil=True)
def largest_rows(R, s, width, right):
    """Copy the rows of largest norm, the largest first."""
    energies = np.empty(s, R.dtype)
    for i in range(s):
        energies[i] = inner_product(R, i, R, i, R.shape[1])
    for i in range(width):
        best = 0
        for j in range(s):
            if energies[j] > energies[best]:
                best = j
        energies[best] = -1
        for m in range(R.shape[1]):
            right[i, m] = R[best, m]


@njit(nogil=True)
def leading_left(R, s, d, lapack):
    """Leading d left singular vectors of ``R``, as rows.

    As in `rank_path`, by power iteration from the rows of largest norm where there are
    many, and else from the Gram matrix of all.
    """
    apart()
    width = d + OVERSAMPLING + d % 2
    whole = 4 * width >= s + -s % ALIGNED
    width = s if whole else width
    right, left, G = zeros(width, R.shape[1], R), zeros(width, s, R), zeros(width, width, R)
    if whole:
        copy_rows(R, s, right)
        for i in range(s):
            left[i, i] = 1
    else:
        largest_rows(R, s, width, right)
        for _ in range(N_POWER_ITERATIONS):
            inner_products(right, width, R, s, left, NO)
            orthonormalize(left, width, s)
            multiply(left, NO, R, NO, R.shape[1], right, NO, width, s, NO)
    gram_matrix(right, width, G)
    basis, U = zeros(d, width, R), zeros(d, s, R)
    leading_eigenvectors(G, width, d, basis, lapack)
    multiply(basis, NO, left, NO, left.shape[1], U, NO, d, width, NO)
    return U


@njit(nogil=True)
def signed_norms(row, n):
    """Norms of the positive and the negative part of a row, and of all of it."""
    positive, negative = 0.0, 0.0
    for j in range(n):
        if row[j] > 0:
            positive += row[j] * row[j]
        else:
            negative += row[j] * row[j]
    return np.sqrt(positive), np.sqrt(negative), np.sqrt(positive + negative)


@njit(nogil=True)
def add_components(R, short, long, k, d, ZS, ZL, lapack):
    """Add d components to k by the non-negative double SVD of the residual."""
    apart()
    U, V = leading_left(R, short, d, lapack), zeros(d, long, R)
    multiply(U, NO, R, NO, R.shape[1], V, NO, d, short, NO)  # with the singular values
    for i in range(d):
        u_norm, u_negative, _ = signed_norms(U[i], short)
        v_norm, v_negative, _ = signed_norms(V[i], long)
        sign = 1
        if u_negative * v_negative > u_norm * v_norm:
            sign, u_norm, v_norm = -1, u_negative, v_negative
        scale = np.sqrt(u_norm * v_norm)
        u_scale = sign * scale / max(u_norm, FLOOR)
        v_scale = sign * scale / max(v_norm, FLOOR)
        for j in range(short):
            ZS[k + i, j] = max(U[i, j] * u_scale, 0)
        for j in range(long):
            ZL[k + i, j] = max(V[i, j] * v_scale, 0)


@njit(nogil=True)
def advance(states, parts, data, sizes, first, n_sides, k, weight, n_steps, work):
    """Update the factor of one side, and then the other's."""
    for i in range(n_sides):
        side = first if i == 0 else 1 - first
        other = 1 - side
        update(
            states[side],
            parts[side],
            parts[other],
            data[side],
            sizes[other],
            k,
            weight,
            n_steps,
            work,
        )


@njit(nogil=True)
def alternate(states, parts, best_states, data, sizes, first, k, max_iter, tol, R, work):
    """Alternate both updates until the matrix has converged; see `rank_path.alternate`.

    The states become the best ones. Returns how many alternations there were.
    """
    apart()
    best, momentum, n_iter = np.inf, MOMENTUM, 0
    while True:
        error = residual(data[1], parts[0], parts[1], k, sizes[0], R)
        rose, before = error > best, best
        best = min(best, error)
        for side in range(2):
            if rose:
                copy_rows(best_states[side], k, states[side])
                positive_rows(states[side], k, parts[side])
            else:
                copy_rows(states[side], k, best_states[side])
        stalled = error >= before - CHECK_EVERY * tol
        extrapolated = error > before + tol and momentum > 0
        if n_iter == max_iter or (n_iter > 0 and stalled and not extrapolated):
            return n_iter
        if rose:
            momentum = 0.0
        for _ in range(min(CHECK_EVERY, max_iter - n_iter)):
            weight = data[0].dtype.type(momentum * (n_iter / (n_iter + 3)) + 1)
            advance(states, parts, data, sizes, first, BOTH, k, weight, UPDATE_STEPS, work)
            n_iter += 1


@njit(nogil=True)
def put_rows(H, k, q, out, place):
    """Write the components with rows of norm 1."""
    for i in range(k):
        largest, total = H.dtype.type(0), 0.0
        for j in range(q):
            largest = max(largest, H[i, j])
        for j in range(q):
            total += (H[i, j] / largest) ** 2 if largest > 0 else 0
        scale = 1 / np.sqrt(total) if total > 0 else 0.0
        for j in range(q):
            out[place + i, j] = H[i, j] / largest * scale if largest > 0 else 0


@njit(nogil=True)
def scaled_copies(X, rows, columns):
    """Copy a matrix at a norm of 1, and its transpose."""
    n, q = X.shape
    total = 0.0
    for i in range(n):
        for j in range(q):
            total += X[i, j] * X[i, j]
    scale = 1 / np.sqrt(total) if total > 0 else 1.0
    for i in range(n):
        for j in range(q):
            rows[i, j] = columns[j, i] = X[i, j] * scale


def learn_matrix(X, ranks, max_iter, tol, lapack, components, errors, n_iter):
    """Learn from one matrix (n, q) along a path of ranks.

    ``components`` (sum of ranks, q), ``errors`` and ``n_iter`` (n_ranks,) get the results.
    """
    n, q = X.shape
    short, long, most = min(n, q), max(n, q), ranks[-1]
    D, E = zeros(short, long, X), zeros(long, short, X)
    rows = 0 if n <= q else 1  # the side of the rows
    scaled_copies(X, (D, E)[rows], (E, D)[rows])
    states = zeros(most, short, X), zeros(most, long, X)
    parts = zeros(most, short, X), zeros(most, long, X)
    best_states = zeros(most, short, X), zeros(most, long, X)
    data, sizes, R = (E, D), (short, long), zeros(short, long, X)
    panel = min(PANEL, padded(long, X.itemsize))
    work = (
        zeros(most, most, X),
        zeros(most, most, X),
        zeros(most, panel, X),
        zeros(most, panel, X),
        zeros(most, panel, X),
        np.zeros(most, X.dtype),
    )
    k, place = NO, NO
    for r in range(len(ranks)):
        residual(D, parts[0], parts[1], k, short, R)
        add_components(R, short, long, k, ranks[r] - k, states[0], states[1], lapack)
        k = ranks[r]
        for side in range(2):
            positive_rows(states[side], k, parts[side])
        n_iter[r] = alternate(
            states, parts, best_states, data, sizes, rows, k, max_iter, tol, R, work
        )
        put_rows(parts[1 - rows], k, q, components, place)
        place += k
        one = X.dtype.type(1)
        advance(states, parts, data, sizes, rows, YES, k, one, FINAL_STEPS, work)
        errors[r] = residual(D, parts[0], parts[1], k, short, R)

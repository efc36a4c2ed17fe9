"""Search for factorizations that are exact up to a tolerance, and so prove upper bounds."""

import time

import numpy as np
from scipy.optimize import least_squares

#: Starts that are improved together, and alternations between two choices among them.
N_STARTS = 64
N_ALTERNATIONS = 150
#: Generations before all starts are drawn anew.
N_GENERATIONS = 30
#: Relative error from which Gauss-Newton steps may end at an exact factorization.
NEAR = 0.04
#: Of parts that are drawn, how many are cut down to a row of the matrix.
SHARE = 0.6
#: Weights up to which these steps are quick.
MOST_WEIGHTS = 700


def exact_factors(pattern, r, starts, rng, deadline):
    """Factors of rank r that meet a pattern within its tolerance, or None.

    Many starts are improved together. In every generation, the worse half makes way for
    copies of the better one in which some parts are drawn anew, as in the heuristics of
    A. Vandaele, N. Gillis, F. Glineur and D. Tuyttens ("Heuristics for exact nonnegative
    matrix factorization", Journal of Global Optimization 65, 2016). The best ones are
    polished.

    Parameters
    ----------
    pattern : Pattern
    r : int
    starts : list of ndarrays of shape (r, m)
        Matrices H to start from besides random ones.
    rng : numpy.random.Generator
    deadline : float
        Of :func:`time.monotonic`.

    Returns
    -------
    factors : tuple of ndarrays of shapes (n, r) and (r, m), or None
    """
    A = pattern.A
    n_starts = max(8, min(N_STARTS, 200_000 // A.size))
    while True:
        H = drawn_parts(A, n_starts * r, rng).reshape(n_starts, r, -1)
        if len(starts):
            H[: len(starts)] = starts
        seen, starts = set(), []
        for _ in range(N_GENERATIONS):
            W, H = alternate(A, H)
            errors = np.linalg.norm(A - W @ H, axis=(1, 2)) / np.linalg.norm(A)
            order = np.argsort(errors)
            for start in order[: 1 + (errors < NEAR).sum()][:4]:
                if time.monotonic() > deadline:
                    return None
                name = round(float(errors[start]), 5)
                found = None if name in seen else polished(pattern, W[start], H[start])
                if found is not None:
                    return found
                seen.add(name)
            H = next_generation(A, H[order], rng)


def drawn_parts(A, n_parts, rng):
    """Random rows that are zero where some rows of a matrix, one to three, are."""
    parts = rng.random((n_parts, A.shape[1])) ** 2
    for _ in range(3):
        chosen = A[rng.integers(len(A), size=n_parts)]
        parts = np.where(rng.random((n_parts, 1)) < SHARE, np.minimum(parts, chosen), parts)
    return parts


def next_generation(A, H, rng):
    """Keep the better half of starts, and copies of it with some parts drawn anew."""
    half = len(H) // 2
    better, copies = H[: len(H) - half], H[:half].copy()
    for copy in copies:
        anew = rng.choice(
            len(copy), size=rng.integers(1, max(2, len(copy) // 2)), replace=False
        )
        copy[anew] = drawn_parts(A, len(anew), rng) * copy.max()
    return np.concatenate([better, copies])


def alternate(A, H, n_alternations=N_ALTERNATIONS):
    """Factorize one matrix from many starts, row by row in turns (HALS)."""
    W = np.maximum(A @ H.swapaxes(1, 2), 0)
    scale = (W @ H).reshape(len(H), -1)
    W *= ((scale @ A.ravel()) / np.maximum((scale**2).sum(axis=1), 1e-300))[:, None, None]
    transposed = np.broadcast_to(A.T, (len(H), *A.T.shape))
    A = np.broadcast_to(A, (len(H), *A.shape))
    for _ in range(n_alternations):
        W = swept(A, W, H)
        H = swept(transposed, H.swapaxes(1, 2), W.swapaxes(1, 2)).swapaxes(1, 2)
    return W, H


def swept(A, W, H):
    """One sweep over the columns of W, each the best for the others."""
    gram, product = H @ H.swapaxes(1, 2), A @ H.swapaxes(1, 2)
    W = W.copy()
    for k in range(W.shape[2]):
        size = np.maximum(gram[:, k, k], 1e-300)[:, None]
        change = (product[:, :, k] - (W @ gram[:, :, k, None])[..., 0]) / size
        W[:, :, k] = np.maximum(W[:, :, k] + change, 0)
    return W


def polished(pattern, W, H):
    """Factors made exact: zeros where the matrix has them, then Gauss-Newton steps.

    Returns
    -------
    factors : tuple of ndarrays, or None where the tolerance is not met
    """
    A = pattern.A
    error = np.linalg.norm(A - W @ H) / np.linalg.norm(A)
    if error > NEAR or W.size + H.size > MOST_WEIGHTS:
        return (W, H) if pattern.holds(W, H) else None
    W, H = balanced(W, H)
    for share in (1e-4, 1e-2, 1e-1):
        free = free_weights(pattern, W, H, share)
        found = fitted(A, W, H, *free)
        if pattern.holds(*found):
            return found
        W, H = balanced(*found)
    return None


def balanced(W, H):
    """Factors whose k-th column and row have the same largest entry."""
    ours, theirs = W.max(axis=0), H.max(axis=1)
    scale = np.sqrt(np.maximum(theirs, 1e-300) / np.maximum(ours, 1e-300))
    return W * scale, H / scale[:, None]


def free_weights(pattern, W, H, share):
    """Weights that may be positive: no part is so where the matrix is zero.

    Weights below a share of the largest are set to zero; of two whose product is where the
    matrix is zero, the smaller one.
    """
    of_W, of_H = share * W.max() < W, share * H.max() < H
    for k in range(W.shape[1]):
        while True:
            outside = np.outer(of_W[:, k], of_H[k]) & ~pattern.support
            if not outside.any():
                break
            i, j = np.argwhere(outside)[0]
            if W[i, k] < H[k, j]:
                of_W[i, k] = False
            else:
                of_H[k, j] = False
    return of_W, of_H


def fitted(A, W, H, of_W, of_H):
    """Least squares in the free weights of both factors together."""
    (n, r), m = W.shape, H.shape[1]
    rows_W, rows_H = np.nonzero(of_W), np.nonzero(of_H)

    def unpack(x):
        W, H = np.zeros((n, r)), np.zeros((r, m))
        W[rows_W], H[rows_H] = x[: len(rows_W[0])], x[len(rows_W[0]) :]
        return W, H

    def residual(x):
        W, H = unpack(x)
        return (W @ H - A).ravel()

    def jacobian(x):
        W, H = unpack(x)
        J = np.zeros((n, m, len(x)))
        of_rows, of_columns = np.arange(len(rows_W[0])), np.arange(len(rows_W[0]), len(x))
        J[rows_W[0], :, of_rows] = H[rows_W[1]]
        J[:, rows_H[1], of_columns] = W[:, rows_H[0]]
        return J.reshape(n * m, -1)

    x = np.concatenate([W[rows_W], H[rows_H]])
    if len(x) == 0:
        return np.zeros((n, r)), np.zeros((r, m))
    result = least_squares(
        residual,
        x,
        jacobian,
        bounds=(0, np.inf),
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=60,
    )
    return unpack(result.x)

"""Non-negative factors of a stack of matrices along a path of ranks."""

from typing import NamedTuple

import torch

from sknonlin._factorization.method import (
    CHECK_EVERY,
    MOMENTUM,
    N_FINAL_STEPS,
    N_POWER_ITERATIONS,
    OVERSAMPLING,
)
from sknonlin._factorization.nnls import admm_update
from sknonlin._matrices.products import FLOOR, add_products, gram, products


def leading_left_basis(R, width):
    """Orthonormal basis of the leading left singular subspace, by power iteration.

    It starts from the rows of largest norm: no random numbers, and, but for ties, no
    dependence on the order of rows or columns.
    """
    rows = R.square().sum(2).topk(width, dim=1).indices
    right = R.gather(1, rows[:, :, None].expand(-1, -1, R.shape[2])).mT
    for _ in range(N_POWER_ITERATIONS):
        left = torch.linalg.qr(torch.bmm(R, right))[0]  # (n_matrices, n, width)
        right = torch.bmm(R.mT, left)  # (n_matrices, q, width)
    return left, right


def eigenvectors(G):
    """Eigenvectors of Gram matrices, by ascending eigenvalue.

    In double precision, where there is one: with singular matrices, as of many dead
    units, LAPACK's solver sometimes fails to converge in single.
    """
    exact = G if G.device.type == "mps" else G.double()
    return torch.linalg.eigh(exact)[1].to(G.dtype)


def top_singular(R, d):
    """Leading ``d`` singular triplets of every matrix of a stack.

    Returns ``U`` (n_matrices, n, d), ``s`` (n_matrices, d) and ``V`` (n_matrices, q, d).
    """
    n, q = R.shape[1:]
    if n > q:
        V, s, U = top_singular(R.mT, d)
        return U, s, V
    width = d + OVERSAMPLING + d % 2  # even, as in `splitting`
    if 4 * width < n:
        left, right = leading_left_basis(R, width)
        U = torch.bmm(left, eigenvectors(torch.bmm(right.mT, right)))
    else:
        U = eigenvectors(torch.bmm(R, R.mT))
    U = U[..., -d:].flip(-1)
    V = products(R.mT, U)
    s = V.norm(dim=1)
    return U, s, V / s.clamp(min=FLOOR)[:, None, :]


def nndsvd(R, d):
    """Non-negative pairs that start ``d`` components (Boutsidis & Gallopoulos 2008).

    Of each singular pair, the heavier of its positive and negative parts.

    Parameters
    ----------
    R : tensor of shape (n_matrices, n, q)
        Data, or the residual of the components there are.

    Returns
    -------
    Wt, H : tensors of shapes (n_matrices, d, n) and (n_matrices, d, q)
    """
    U, s, V = top_singular(R, d)
    parts = []
    for sign in (1, -1):
        u, v = (sign * U).clamp(min=0), (sign * V).clamp(min=0)
        parts.append((u, v, u.norm(dim=1), v.norm(dim=1)))
    (u, v, u_norm, v_norm), (u_neg, v_neg, u_neg_norm, v_neg_norm) = parts
    negative = u_neg_norm * v_neg_norm > u_norm * v_norm
    u_norm = torch.where(negative, u_neg_norm, u_norm).clamp(min=FLOOR)
    v_norm = torch.where(negative, v_neg_norm, v_norm).clamp(min=FLOOR)
    scale = (s * u_norm * v_norm).sqrt()
    u = torch.where(negative[:, None], u_neg, u) * (scale / u_norm)[:, None]
    v = torch.where(negative[:, None], v_neg, v) * (scale / v_norm)[:, None]
    return u.mT.contiguous(), v.mT.contiguous()


def multiplicative_update(G, F, Z):
    """One multiplicative update (Lee & Seung 2001) of a non-negative factor."""
    denominator = products(G, Z).clamp_(min=torch.finfo(Z.dtype).tiny)
    return Z * F.clamp(min=0).div_(denominator)


class Solver(NamedTuple):
    """How one factor is updated, and what the alternation around it may do."""

    update: object
    momentum: float  # extrapolation of the state between outer iterations
    fill: float  # share of the largest entry that is added at the start


SOLVERS = {
    "admm": Solver(admm_update, momentum=MOMENTUM, fill=0.0),
    # A zero never leaves a multiplicative update, so the start must not have any.
    "mu": Solver(multiplicative_update, momentum=0.0, fill=0.02),
}


def residual_norm(X, Wt, H):
    """Frobenius norm of ``X - W H`` for every matrix of a stack."""
    return add_products(X, Wt.mT, H, alpha=-1).flatten(1).norm(dim=1)


def momentum_weights(n_iterations, momentum):
    """Extrapolation of every matrix's state, growing as in Nesterov's sequence."""
    return momentum * (n_iterations / (n_iterations + 3)) + 1


def alternate(X, Zw, Zh, solver, max_iter, tol):
    """Alternate updates of both factors until every matrix has converged.

    A matrix leaves the stack when its error falls by less than ``tol`` per
    iteration; its result does not depend on the others. Where the extrapolated error
    rises by more than that, the matrix goes back to its best state and on without
    extrapolation.

    Parameters
    ----------
    X : tensor of shape (n_matrices, n, q)
    Zw, Zh : tensors of shapes (n_matrices, k, n) and (n_matrices, k, q)
        Starting states.

    Returns
    -------
    Zw, Zh : states of the smallest error seen
    n_iter : tensor of shape (n_matrices,)
    """
    n_matrices = len(X)
    best_w, best_h = Zw.clone(), Zh.clone()
    best = residual_norm(X, Zw.clamp(min=0), Zh.clamp(min=0))
    n_iter = torch.full((n_matrices,), max_iter, device=X.device)
    momentum = X.new_full((n_matrices, 1, 1), solver.momentum)
    active = torch.arange(n_matrices, device=X.device)
    for iteration in range(max_iter):
        weight = momentum_weights(iteration, momentum)
        H = Zh.clamp(min=0)
        step = solver.update(gram(H), products(H, X.mT), Zw)
        Zw = torch.lerp(Zw, step, weight)
        Wt = Zw.clamp(min=0)
        step = solver.update(gram(Wt), products(Wt, X), Zh)
        Zh = torch.lerp(Zh, step, weight)
        if (iteration + 1) % CHECK_EVERY and iteration + 1 < max_iter:
            continue
        error = residual_norm(X, Wt, Zh.clamp(min=0))
        before = best[active]
        rose = error > before
        best[active] = torch.minimum(error, before)
        best_w[active] = torch.where(rose[:, None, None], best_w[active], Zw)
        best_h[active] = torch.where(rose[:, None, None], best_h[active], Zh)
        extrapolated = momentum[:, 0, 0] > 0
        stalled = error >= before - CHECK_EVERY * tol
        done = stalled & ~((error > before + tol) & extrapolated)
        n_iter[active[done]] = iteration + 1
        keep = (~done).nonzero()[:, 0]
        if len(keep) == 0:
            break
        active = active[keep]
        momentum = torch.where(rose[keep, None, None], 0, momentum[keep])
        if len(keep) < len(done):
            X = X[keep]
        Zw, Zh = best_w[active], best_h[active]
    return best_w, best_h, n_iter


def learn_path(X, ranks, solver, max_iter, tol):
    """Factors of a stack at growing ranks, each rank started from the one before.

    A rank adds components from the residual's non-negative double SVD to those there
    are, so the error falls along the path.

    Parameters
    ----------
    X : tensor of shape (n_matrices, n, q)
        Matrices of Frobenius norm 1 (or 0).
    ranks : list of int, increasing

    Yields
    ------
    H : tensor of shape (n_matrices, k, q)
    error : tensor of shape (n_matrices,)
        Frobenius norm of the residual, with W solved for this H.
    n_iter : tensor of shape (n_matrices,)
    """
    solver = SOLVERS[solver]
    n_matrices, n, q = X.shape
    Zw, Zh = X.new_zeros(n_matrices, 0, n), X.new_zeros(n_matrices, 0, q)
    for k in ranks:
        residual = add_products(X, Zw.clamp(min=0).mT, Zh.clamp(min=0), alpha=-1)
        new_w, new_h = nndsvd(residual, k - Zh.shape[1])
        del residual  # as large as X
        Zw, Zh = torch.cat([Zw, new_w], 1), torch.cat([Zh, new_h], 1)
        if solver.fill:
            Zw = Zw.clamp(min=0) + solver.fill * new_w.amax((1, 2), keepdim=True)
            Zh = Zh.clamp(min=0) + solver.fill * new_h.amax((1, 2), keepdim=True)
        Zw, Zh, n_iter = alternate(X, Zw, Zh, solver, max_iter, tol)
        H = Zh.clamp(min=0)
        Zw = admm_update(gram(H), products(H, X.mT), Zw, N_FINAL_STEPS)
        yield H, residual_norm(X, Zw.clamp(min=0), H), n_iter

"""Rows onto non-negative cones, row by row, to the precision of the dtype."""

import torch
from torch.nn import functional

from sknonlin._matrices.products import FLOOR, add_products, products
from sknonlin._running.memory import COPIES, MOST, affordable

N_SUPPORT_STEPS = 20  # of the splitting iteration that finds the supports
N_STEPS_UNENDED = 500
RHO = 0.2  # penalty, relative to the diagonal of the Gram matrix
RELAXATION = 1.6
N_UPDATE_STEPS = 2  # per factor and alternation


def solve_on_support(G, F, support, owner):
    """Least squares on every row's own support.

    The systems are as large as the largest support, not as the cones.

    Parameters
    ----------
    G : tensor of shape (n_cones, k, k)
    F, support : tensors of shape (m, k)
    owner : tensor of int of shape (m,)

    Returns
    -------
    W : tensor of shape (m, k)
        The solutions, zero outside of the support; NaN where a system is singular.
    fitted : tensor of shape (m, k)
        Inner products of the generators with what is approximated.
    """
    k = F.shape[1]
    size = max(1, int(support.sum(1).amax()))
    index = support.byte().argsort(dim=1, descending=True, stable=True)[:, :size]
    S = support.gather(1, index).to(G.dtype)
    rows = G.flatten(0, 1)[index + k * owner[:, None]]  # (m, size, k)
    systems = rows.gather(2, index[:, None].expand(-1, size, -1))
    systems.mul_(S[:, :, None]).mul_(S[:, None])
    largest = torch.diagonal(G, dim1=1, dim2=2).amax(1)
    jitter = torch.finfo(G.dtype).eps * largest[owner, None]
    torch.diagonal(systems, dim1=1, dim2=2).add_(1 - S + jitter * S)
    factor, info = torch.linalg.cholesky_ex(systems)
    right = (F.gather(1, index) * S)[:, :, None]
    solution = torch.cholesky_solve(right, factor)[:, :, 0]
    solution = solution.masked_fill_(info[:, None] != 0, torch.nan)
    fitted = torch.bmm(solution[:, None], rows)[:, 0]
    return torch.zeros_like(F).scatter_(1, index, solution), fitted


def pivot(G, F, support, owner):
    """Exact solutions by block principal pivoting (Kim & Park 2011).

    Infeasible variables of a row change sides all at once as long as their number
    falls, and one by one (the last, Murty's rule) where it does not.

    Parameters
    ----------
    G : tensor of shape (n_cones, k, k)
    F : tensor of shape (m, k)
    support : bool tensor of shape (m, k)
        Where the solutions are expected to be positive; it is overwritten.
    owner : tensor of int of shape (m,)
        The cone that every row is held against.

    Returns
    -------
    W : tensor of shape (m, k)
    todo : tensor of int
        Rows that did not end: singular systems, or very many exchanges.
    """
    m, k = F.shape
    tol = torch.finfo(G.dtype).eps ** (2 / 3)
    scales = torch.diagonal(G, dim1=1, dim2=2).clamp(min=FLOOR).sqrt()
    right = (F / scales[owner]).norm(dim=1, keepdim=True)
    result = torch.zeros_like(F)
    fewest = torch.full((m,), k + 1, device=F.device)
    patience = torch.full((m,), 3, device=F.device)
    todo = torch.arange(m, device=F.device)
    order = torch.arange(k, device=F.device)
    for _ in range(5 * k + 10):
        f, s, scale = F[todo], support[todo], scales[owner[todo]]
        z, fitted = solve_on_support(G, f, s, owner[todo])
        size = torch.minimum((z * scale).norm(dim=1, keepdim=True), right[todo])
        wrong = (s & (z * scale < -tol * size)) | (
            ~s & ((f - fitted) / scale > tol * right[todo])
        )
        wrong |= torch.isnan(z).any(1, keepdim=True)
        count = wrong.sum(1)
        ended = count == 0
        result[todo[ended]] = z[ended].clamp(min=0)
        fewer = count < fewest[todo]
        patience[todo] = torch.where(fewer, 3, patience[todo] - 1)
        fewest[todo] = torch.minimum(count, fewest[todo])
        last = order == torch.where(wrong, order, -1).amax(1, keepdim=True)
        exchange = torch.where(patience[todo, None] >= 0, wrong, last)
        support[todo] = s ^ exchange
        todo = todo[~ended]
        if len(todo) == 0:
            break
    return result, todo


def project(G, F):
    """Non-negative least squares of every row on its own, on one cone or many.

    A splitting iteration finds the support of most rows, pivoting ends them; for
    the few that it does not end, the iteration goes on.

    Parameters
    ----------
    G : tensor of shape (n_cones, k, k)
        Gram matrices of the cones' generators.
    F : tensor of shape (n_cones, k, m)
        Inner products of generators and rows.

    Returns
    -------
    W : tensor of shape (n_cones, m, k)
    """
    n_cones, k, m = F.shape
    P, M = splitting(G, F)
    Z = iterate(P, M, P, N_SUPPORT_STEPS)
    P, Z, F = (tensor.mT.flatten(0, 1) for tensor in (P, Z, F))
    owner = torch.arange(n_cones, device=F.device).repeat_interleave(m)
    result = torch.zeros_like(F)
    step = affordable(
        COPIES["system"] * k**2 * F.element_size(),
        "rows",
        "systems",
        most=max(1, MOST["systems"] // k**2),
        device=F.device,
    )
    rows = (F > 0).any(1).nonzero()[:, 0]  # the others' weights are zero
    rows = rows[(Z[rows] > 0).sum(1).argsort()]  # systems of one size together
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        result[part], left = pivot(G, F[part], Z[part] > 0, owner[part])
        if len(left):
            left = part[left]
            P_left, Z_left = (tensor[left, :, None] for tensor in (P, Z))
            Z_left = iterate(P_left, M[owner[left]], Z_left, N_STEPS_UNENDED)
            result[left] = Z_left[:, :, 0].clamp(min=0)
    return result.unflatten(0, (n_cones, m))


def splitting(G, F):
    """Operators of the splitting iteration for ``min ||B - A z||, z >= 0``.

    The relaxed Douglas-Rachford (ADMM) iteration on ``z = relu(Z)`` with multipliers
    ``relu(-Z)`` is ``Z <- (1 - r / 2) Z + M |Z| + P``: one matrix product a step.

    Parameters
    ----------
    G : tensor of shape (n_matrices, k, k)
        Gram matrix ``A' A``.
    F : tensor of shape (n_matrices, k, m)
        Cross products ``A' B``.

    Returns
    -------
    P, M : tensors of shapes (n_matrices, k, m) and (n_matrices, k, k)
    """
    k = G.shape[1]
    diagonal = torch.diagonal(G, dim1=1, dim2=2)
    rho = RHO * diagonal + FLOOR
    # LAPACK inverts matrices at odd addresses in another order, as of stacks of odd size.
    odd = k % 2 if k > 1 else 0
    penalized = functional.pad(G, (0, odd, 0, odd)) if odd else G.clone()
    torch.diagonal(penalized, dim1=1, dim2=2).add_(functional.pad(rho, (0, odd), value=1))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(penalized)[0])
    inverse = inverse[:, :k, :k] * RELAXATION
    P = products(inverse, F)
    M = inverse.mul_(rho[:, None, :])
    torch.diagonal(M, dim1=1, dim2=2).sub_(RELAXATION / 2)
    return P, M


def iterate(P, M, Z, n_steps):
    """``n_steps`` steps of the splitting iteration from ``Z``, which is left as it is.

    Two buffers serve all steps: at these sizes, fresh memory costs as much as the
    products.
    """
    magnitude = torch.abs(Z)
    Z = torch.add(P, Z, alpha=1 - RELAXATION / 2)
    add_products(Z, M, magnitude, out=Z)
    for _ in range(n_steps - 1):
        torch.abs(Z, out=magnitude)
        add_products(Z, M, magnitude, beta=1 - RELAXATION / 2, out=Z).add_(P)
    return Z


def admm_update(G, F, Z, n_steps=N_UPDATE_STEPS):
    """Step towards the non-negative least squares solution, from a warm start."""
    P, M = splitting(G, F)
    return iterate(P, M, Z, n_steps)

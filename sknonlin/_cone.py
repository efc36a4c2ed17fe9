"""Rows onto a non-negative cone, row by row, to the precision of the dtype."""

import torch

from sknonlin._memory import affordable
from sknonlin._updates import FLOOR, iterate, splitting

N_STEPS = 20  # of the splitting iteration that finds the supports
N_STEPS_UNENDED = 500
SYSTEM_ELEMENTS = 2**23  # numbers in one batch of small linear systems
SYSTEM_COPIES = 5
SYSTEM_SHARE = 0.25  # of the memory


def solve_on_support(G, F, support):
    """Least squares on every column's own support; zero outside of it."""
    S = support.T.to(G.dtype)  # (m, k)
    systems = G * S[:, :, None] * S[:, None, :]
    diagonal = torch.diagonal(G)
    jitter = torch.finfo(G.dtype).eps * diagonal.max()
    torch.diagonal(systems, dim1=1, dim2=2).add_(1 - S + jitter * S)
    factor, info = torch.linalg.cholesky_ex(systems)
    solution = torch.cholesky_solve((F.T * S)[:, :, None], factor)[:, :, 0].T
    return solution.masked_fill(info[None] != 0, torch.nan)


def pivot(G, F, support):
    """Exact solutions by block principal pivoting (Kim & Park 2011).

    Infeasible variables of a column change sides all at once as long as their number
    falls, and one by one (the last, Murty's rule) where it does not.

    Parameters
    ----------
    G : tensor of shape (k, k)
    F : tensor of shape (k, m)
    support : bool tensor of shape (k, m)
        Where the solutions are expected to be positive; it is overwritten.

    Returns
    -------
    result : tensor of shape (k, m)
    todo : tensor of int
        Columns that did not end: singular systems, or very many exchanges.
    """
    k, m = F.shape
    tol = torch.finfo(G.dtype).eps ** (2 / 3)
    scale = torch.diagonal(G).clamp(min=FLOOR).sqrt()[:, None]
    right = (F / scale).norm(dim=0)
    result = torch.zeros_like(F)
    fewest = torch.full((m,), k + 1, device=F.device)
    patience = torch.full((m,), 3, device=F.device)
    todo = torch.arange(m, device=F.device)
    order = torch.arange(k, device=F.device)[:, None]
    for _ in range(5 * k + 10):
        f, s = F[:, todo], support[:, todo]
        z = solve_on_support(G, f, s)
        size = torch.minimum((z * scale).norm(dim=0), right[todo])
        wrong = (s & (z * scale < -tol * size)) | (
            ~s & ((f - G @ z) / scale > tol * right[todo])
        )
        wrong |= torch.isnan(z)
        count = wrong.sum(0)
        ended = count == 0
        result[:, todo[ended]] = z[:, ended].clamp(min=0)
        fewer = count < fewest[todo]
        patience[todo] = torch.where(fewer, 3, patience[todo] - 1)
        fewest[todo] = torch.minimum(count, fewest[todo])
        last = order == torch.where(wrong, order, -1).amax(0)
        exchange = torch.where(patience[todo] >= 0, wrong, last)
        support[:, todo] = s ^ exchange
        todo = todo[~ended]
        if len(todo) == 0:
            break
    return result, todo


def project(G, F):
    """Non-negative least squares of every column of ``F`` on its own.

    A splitting iteration finds the support of most columns, pivoting ends them; for
    the few that it does not end, the iteration goes on.

    Parameters
    ----------
    G : tensor of shape (k, k)
        Gram matrix of the cone's generators.
    F : tensor of shape (k, m)
        Inner products of generators and rows.

    Returns
    -------
    Wt : tensor of shape (k, m)
    """
    k, m = F.shape
    P, M = splitting(G[None], F[None])
    Z = iterate(P, M, P, N_STEPS)
    result = torch.empty_like(F)
    step = affordable(
        SYSTEM_COPIES * k**2 * F.element_size(),
        share=SYSTEM_SHARE,
        most=max(1, SYSTEM_ELEMENTS // k**2),
        device=F.device,
    )
    for start in range(0, m, step):
        part = slice(start, start + step)
        result[:, part], left = pivot(G, F[:, part], Z[0, :, part] > 0)
        if len(left):
            left = left + start
            Z_left = iterate(P[:, :, left], M, Z[:, :, left], N_STEPS_UNENDED)
            result[:, left] = Z_left[0].clamp(min=0)
    return result


def unit_rows(X):
    """Rows scaled to norm 1, and the two factors of their norms.

    The norm itself may overflow where its factors do not.
    """
    largest = X.abs().amax(-1, keepdim=True)
    X = X / torch.where(largest > 0, largest, 1)
    norm = X.norm(dim=-1, keepdim=True)
    X.div_(torch.where(norm > 0, norm, 1))
    return X, norm, largest

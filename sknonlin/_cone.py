"""Rows onto a non-negative cone, row by row, to the precision of the dtype."""

import torch

from sknonlin._updates import FLOOR, iterate, splitting

STEPS_PER_ROUND = 20
N_ROUNDS = 5
SYSTEM_ELEMENTS = 2**23  # numbers in one batch of small linear systems


def settled(before, after, scale, tol):
    """Columns whose last step moved them by less than ``tol`` of their size."""
    moved = ((after - before) * scale).norm(dim=0)
    return moved <= tol * (after * scale).norm(dim=0)


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


def pivot(G, F, Z, tol):
    """Exact solutions by block principal pivoting (Kim & Park 2011).

    Infeasible variables of a column change sides all at once as long as their number
    falls, and one by one (the last, Murty's rule) where it does not, which ends after
    finitely many exchanges. A column that singular systems keep from ending has its
    best iterate from the splitting iteration.
    """
    k, m = F.shape
    result = Z.clamp(min=0)
    support = Z > 0
    fewest = torch.full((m,), k + 1, device=F.device)
    patience = torch.full((m,), 3, device=F.device)
    todo = torch.arange(m, device=F.device)
    scale = torch.diagonal(G).clamp(min=FLOOR).sqrt()[:, None]
    order = torch.arange(k, device=F.device)[:, None]
    for _ in range(5 * k + 10):
        f, s = F[:, todo], support[:, todo]
        z = solve_on_support(G, f, s)
        size = (z * scale).norm(dim=0)
        wrong = (s & (z * scale < -tol * size)) | (
            ~s & ((f - G @ z) > tol * scale * size.clamp(min=FLOOR))
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
    return result


def project(G, F):
    """Non-negative least squares of every column of ``F`` on its own.

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
    tol = torch.finfo(G.dtype).eps ** (2 / 3)
    scale = torch.diagonal(G).clamp(min=FLOOR).sqrt()[:, None]
    P, M = splitting(G[None], F[None])
    Z = P.clone()
    result = torch.empty_like(F)
    todo = torch.arange(m, device=F.device)
    for _ in range(N_ROUNDS):
        before = iterate(P, M, Z, STEPS_PER_ROUND - 1)
        Z = iterate(P, M, before, 1)
        done = settled(before[0], Z[0], scale, tol)
        result[:, todo[done]] = Z[0][:, done].clamp(min=0)
        rest = (~done).nonzero()[:, 0]
        if len(rest) == 0:
            return result
        todo, Z, P = todo[rest], Z[:, :, rest], P[:, :, rest]
    step = max(1, SYSTEM_ELEMENTS // k**2)
    for start in range(0, len(todo), step):
        part = slice(start, start + step)
        result[:, todo[part]] = pivot(G, F[:, todo[part]], Z[0][:, part], tol)
    return result


def unit_rows(X):
    """Rows scaled to norm 1, and their norms, safe at any magnitude."""
    largest = X.abs().amax(-1, keepdim=True)
    X = X / torch.where(largest > 0, largest, 1)
    norm = X.norm(dim=-1, keepdim=True)
    X = X / torch.where(norm > 0, norm, 1)
    return X, norm * largest

"""Rows onto non-negative cones, row by row, to the precision of the dtype."""

from functools import cached_property

import numpy as np
import torch
from scipy import optimize
from torch.nn import functional

from sknonlin._factorization.compiled import exact_weights_compiled, serves_cones
from sknonlin._factorization.method import (
    N_EXCHANGES,
    N_SUPPORT_STEPS,
    N_UPDATE_STEPS,
    PATIENCE,
    RELAXATION,
    RHO,
)
from sknonlin._matrices.products import FLOOR, add_products, gram, products
from sknonlin._running.memory import COPIES, MOST, affordable

ROUNDINGS = 20  # at most, in units of the last digit, of a squared norm of 1
#: What may be left of a row of norm 1 above the least.
EXCESS = {torch.float32: 1e-5, torch.float64: 1e-9}


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
        NaN where rows did not end: singular systems, or very many exchanges.
    """
    m, k = F.shape
    tol = torch.finfo(G.dtype).eps ** (2 / 3)
    scales = torch.diagonal(G, dim1=1, dim2=2).clamp(min=FLOOR).sqrt()
    right = (F / scales[owner]).norm(dim=1, keepdim=True)
    result = torch.full_like(F, torch.nan)
    fewest = torch.full((m,), k + 1, device=F.device)
    patience = torch.full((m,), PATIENCE, device=F.device)
    todo = torch.arange(m, device=F.device)
    order = torch.arange(k, device=F.device)
    for _ in range(N_EXCHANGES):
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
        patience[todo] = torch.where(fewer, PATIENCE, patience[todo] - 1)
        fewest[todo] = torch.minimum(count, fewest[todo])
        last = order == torch.where(wrong, order, -1).amax(1, keepdim=True)
        exchange = torch.where(patience[todo, None] >= 0, wrong, last)
        support[todo] = s ^ exchange
        todo = todo[~ended]
        if len(todo) == 0:
            break
    return result


def project(H, X):
    """Non-negative least squares of every row on its own, on one cone or many.

    A splitting iteration finds the support of most rows, and pivoting ends them. Both work
    on Gram matrices, which have half the digits; rows that might leave less are solved
    again from the generators themselves.

    Parameters
    ----------
    H : tensor of shape (n_cones, k, q)
        Generators of norm 1, or zero.
    X : tensor of shape (n_cones, m, q)
        Rows of norm 1, or zero.

    Returns
    -------
    W : tensor of shape (n_cones, m, k)
        Weights.
    """
    G, F = gram(H), products(H, X.mT)
    W = pivoted(G, F)
    gradient = add_products(F.mT, W, G, alpha=-1)
    square = 1 - ((F.mT + gradient) * W).sum(2)  # of what is left, but for rounding
    left = (square - ROUNDINGS * torch.finfo(F.dtype).eps).clamp(min=0).sqrt()
    certainty = Certainty(G)
    doubtful = certainty.doubtful(gradient, W, left)
    if len(doubtful):
        solve_again(certainty, H, X, W, doubtful)
    return W


def pivoted(G, F):
    """Weights by a splitting iteration, and by pivoting where that ends.

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
    if serves_cones(G):
        return exact_weights_compiled(G, F)
    n_cones, k, m = F.shape
    P, M = splitting(G, F)
    Z = iterate(P, M, P, N_SUPPORT_STEPS)
    Z, F = (tensor.mT.flatten(0, 1) for tensor in (Z, F))
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
        found = pivot(G, F[part], Z[part] > 0, owner[part])
        result[part] = torch.where(found.isnan(), Z[part].clamp(min=0), found)
    return result.unflatten(0, (n_cones, m))


class Certainty:
    """What is known of the weights of rows on cones: whether they leave the least.

    Half the squared norm of what is left is less by at most ``g (V - W)`` at other weights
    ``V``, with the gradient ``g``: the inner products of what is left with the generators.

    Parameters
    ----------
    G : tensor of shape (n_cones, k, k)
        Gram matrices of generators of norm 1, or zero.
    """

    def __init__(self, G):
        self.G = G
        self.zero = torch.diagonal(G, dim1=1, dim2=2) == 0
        # A direction that has positive inner products with all generators bounds the sum.
        total = G.sum((1, 2)).clamp(min=FLOOR).sqrt()[:, None]
        nearest = (G.sum(2) / total).masked_fill(self.zero, 1).amin(1)
        self.most = 1 / nearest.clamp(min=0)  # sum of the weights of a row

    @cached_property
    def eigenvalue(self):
        """Lower bound of the least eigenvalue of each cone; NaN where it is not certain."""
        where = "cpu" if self.G.device.type == "mps" else self.G.device
        regular = self.G + torch.diag_embed(self.zero.to(self.G.dtype))
        least = torch.linalg.eigvalsh(regular.to(where))[:, 0].to(self.G.device)
        rounding = 10 * self.G.shape[1] * torch.finfo(self.G.dtype).eps
        return torch.where(least > 2 * rounding, least - rounding, torch.nan)

    def doubtful(self, gradient, W, left, cones=slice(None), *, measured=False):
        """Find the rows of which more may be left than ``EXCESS`` above the least.

        Parameters
        ----------
        gradient, W : tensors of shape (n, m, k)
        left : tensor of shape (n, m)
            Norms of what is left; if they are not ``measured``, lower bounds.
        cones : tensor of int of shape (n,), default=all
            That of every stack of rows.
        measured : bool, default=False

        Returns
        -------
        index : tensor of int of shape (n_doubtful, 2)
            Stacks and rows.
        """
        excess = EXCESS[W.dtype]
        steepest = self.most[cones, None] * gradient.amax(2).clamp_(min=0)
        lowered = 2 * (steepest - (gradient * W).sum(2)).clamp_(min=0)
        sure = lowered <= excess * left
        sure |= measured & (left <= excess)
        rounded = W.sum(2) * torch.finfo(W.dtype).eps > excess / 2
        index = (~sure | rounded).nonzero()
        if len(index) == 0:
            return index
        own = torch.arange(len(self.G), device=W.device)[cones][index[:, 0]]
        place = tuple(index.T)
        doubtful = self._to_second_order(own, gradient[place], W[place], left[place])
        return index[doubtful & ~sure[place] | rounded[place]]

    def _to_second_order(self, cones, gradient, W, left):
        """Whether rows are doubtful although the generators of their cones are independent.

        The gradient on the support is what rounding left. Without the bound at zero, the
        weights there would lower the squared norm by ``g (G_support)^-1 g``, and change the
        gradient elsewhere by at most its square root; that is positive for few rows.
        """
        eigenvalue = self.eigenvalue[cones]
        most = torch.fmin(self.most[cones], (W.shape[1] / eigenvalue).sqrt())
        moved = gradient.masked_fill(W == 0, 0).norm(dim=1) / eigenvalue.sqrt()
        others = gradient.masked_fill((W > 0) | self.zero[cones], -torch.inf)
        steepest = (others.amax(1) + moved).clamp(min=0)
        lowered = 2 * most * steepest + moved.square()
        return ~(lowered <= EXCESS[W.dtype] * left)


def solve_again(certainty, H, X, W, doubtful):
    """Measure what doubtful rows leave, and solve those that stay so exactly.

    Parameters
    ----------
    certainty : Certainty
    H, X, W : tensors
        As in :func:`project`; ``W`` is overwritten.
    doubtful : tensor of int of shape (n, 2)
        Cones and rows, in order.
    """
    cones, counts = doubtful[:, 0].unique(return_counts=True)
    height = torch.arange(int(counts.amax()), device=counts.device)
    place = torch.minimum(height, counts[:, None] - 1)  # the last one again, to that height
    rows = doubtful[(counts.cumsum(0) - counts)[:, None] + place, 1]
    at = cones[:, None], rows
    R = add_products(X[at], W[at], H[cones], alpha=-1)
    gradient = products(R, H[cones].mT)
    left = certainty.doubtful(gradient, W[at], R.norm(dim=2), cones, measured=True)
    left = left[left[:, 1] < counts[left[:, 0]]]
    for i in left[:, 0].unique().tolist():
        cone, own = cones[i], rows[i, left[left[:, 0] == i, 1]]
        W[cone, own] = exact_weights(H[cone], X[cone, own], W[cone, own])


def exact_weights(H, X, W):
    """Weights of rows, one by one in float64 from the generators, where they leave less.

    Parameters
    ----------
    H : tensor of shape (k, q)
    X : tensor of shape (n, q)
    W : tensor of shape (n, k)
        Weights so far.

    Returns
    -------
    W : tensor of shape (n, k)
    """
    generators, rows, weights = (tensor.cpu().double().numpy() for tensor in (H, X, W))
    for x, w in zip(rows, weights, strict=True):
        try:
            found, least = optimize.nnls(generators.T, x, maxiter=10 * len(generators))
        except RuntimeError:  # that it did not end
            continue
        if least < np.linalg.norm(x - w @ generators):
            w[:] = found
    return torch.from_numpy(weights).to(W)


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

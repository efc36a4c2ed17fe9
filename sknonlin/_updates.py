"""Steps of alternating minimization on a stack of matrices, at one rank.

Everything here takes and returns plain tensors of one dtype on one device. The
factors are kept transposed and signed: ``Z`` of shape (n_matrices, k, m) holds the
factor in its positive part, and in its negative part the multipliers of the
constraint, so that one tensor is the whole state of a solver.
"""

from typing import NamedTuple

import torch
from torch.nn import functional

RHO = 0.2  # penalty, relative to the diagonal of the Gram matrix
RELAXATION = 1.6
MOMENTUM = 0.7
N_UPDATE_STEPS = 2  # per factor and alternation
FLOOR = 1e-12  # keeps the Gram matrix of an all-zero matrix invertible


def is_lone_vector(A, B):
    """Whether this product is of a single matrix and a vector, or of two vectors.

    The library computes those in another way than a stack of them, which shows in the
    last digits, and then in where a factorization ends.
    """
    return A.shape[0] == 1 and 1 in (*A.shape[1:], B.shape[2])


def products(A, B):
    """Products of two stacks, the same for a matrix whatever else is in them."""
    if is_lone_vector(A, B):
        return torch.bmm(A.expand(2, -1, -1), B.expand(2, -1, -1))[:1]
    return torch.bmm(A, B)


def add_products(C, A, B, *, beta=1, alpha=1, out=None):
    """``beta C + alpha A B`` for every matrix, the same whatever else is in the stacks."""
    if is_lone_vector(A, B):
        C, A, B = (tensor.expand(2, -1, -1) for tensor in (C, A, B))
        result = torch.baddbmm(C, A, B, beta=beta, alpha=alpha)[:1]
        return result if out is None else out.copy_(result)
    return torch.baddbmm(C, A, B, beta=beta, alpha=alpha, out=out)


def gram(factor):
    """Gram matrix of the rows of every matrix of a stack."""
    return products(factor, factor.mT)


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

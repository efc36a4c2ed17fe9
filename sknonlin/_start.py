"""Deterministic starts: the non-negative double SVD of a stack of matrices."""

import torch

from sknonlin._updates import FLOOR, products

OVERSAMPLING = 8
N_POWER_ITERATIONS = 3


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

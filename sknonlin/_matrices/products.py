"""Products of stacks of matrices, the same for a matrix whatever else is in them."""

import torch
from torch.nn import functional

FLOOR = 1e-12  # keeps the Gram matrix of an all-zero matrix invertible
ALIGNED = 4  # numbers that are read at once, at least


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


# Non-negative factorization ---------------------------------------------------------


def aligned_size(size):
    """Size to which rows and columns are padded, see :func:`aligned`."""
    return size + -size % ALIGNED


def aligned(X):
    """Pad every matrix of a stack with zero rows and columns, to multiples of four.

    Where a matrix begins in memory then does not change its products by a digit, nor,
    with that, what is learned from it: the library computes those at odd addresses in
    another order.
    """
    rows, columns = (aligned_size(size) - size for size in X.shape[1:])
    return functional.pad(X, (0, columns, 0, rows)) if rows or columns else X


def unit_rows(X):
    """Rows scaled to norm 1, and the two factors of their norms.

    The norm itself may overflow where its factors do not.
    """
    largest = X.abs().amax(-1, keepdim=True)
    X = X / torch.where(largest > 0, largest, 1)
    norm = X.norm(dim=-1, keepdim=True)
    X.div_(torch.where(norm > 0, norm, 1))
    return X, norm, largest

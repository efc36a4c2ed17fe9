"""Bounds of the non-negative rank that count ranks and supports."""

import math

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from sknonlin._bounds.pattern import as_bits, distinct_rows

#: Unions of supports that are counted at most: enough for a bound of 16.
MOST_UNIONS = 2**16


def rank_bound(A, tol):
    """Rank that no matrix goes below whose positive entries are within tol of those of A.

    By Eckart and Young, a matrix of rank k is at least as far from ``A`` as the singular
    values after the k-th are large.
    """
    values = np.linalg.svd(A, compute_uv=False)
    tails = np.sqrt(np.cumsum(values[::-1] ** 2)[::-1])  # what rank 0, 1, ... leaves
    rounding = 10 * max(A.shape) * np.finfo(float).eps * tails[0]
    return int((tails > tol * math.sqrt(np.count_nonzero(A)) + rounding).sum())


def support_bound(support):
    """Bound from the number of unions of supports, and of supports not in one another.

    In ``W H``, the support of a row is a union of supports of rows of ``H``. Of r sets
    there are at most 2^r unions (M. Goemans, "Smallest compact formulation for the
    permutahedron", 2015), and at most ``binom(r, r // 2)`` of them with none in another
    (Sperner; D. de Caen, D. Gregory, N. Pullman, "The Boolean rank of zero-one matrices",
    1981).
    """
    bounds = [0]
    for matrix in (support, support.T):
        rows = distinct_rows(matrix)
        bounds.append(math.ceil(math.log2(count_unions(rows)) - 1e-12))
        antichain, r = largest_antichain(rows), 0
        while math.comb(r, r // 2) < antichain:
            r += 1
        bounds.append(r)
    return max(bounds)


def count_unions(rows):
    """Count the unions of rows, the empty one too, as far as ``MOST_UNIONS``."""
    unions = {0}
    for row in as_bits(rows):
        unions |= {union | row for union in unions}
        if len(unions) >= MOST_UNIONS:
            return MOST_UNIONS
    return len(unions)


def largest_antichain(rows):
    """Size of the largest set of distinct rows with none inside another.

    By Dilworth, their number less that of a largest matching of rows with larger ones.
    """
    if len(rows) == 0:
        return 0
    sizes = rows.sum(axis=1)
    common = rows.astype(float) @ rows.T.astype(float)
    inside = (common == sizes[:, None]) & (sizes[:, None] < sizes)
    matched = maximum_bipartite_matching(csr_matrix(inside), perm_type="column")
    return len(rows) - int((matched >= 0).sum())

"""Rows on fixed cones on a processor, in compiled functions: what cones leave of them."""

from numba import njit

from sknonlin._factorization.cone_kernel import cone_operators
from sknonlin._factorization.path_kernel import FINAL_STEPS, PANEL, splitting_steps
from sknonlin._factorization.simd import (
    ANY_ORDER,
    NO,
    YES,
    gram_matrix,
    multiply,
    padded,
    zeros,
)


@njit(nogil=True)
def copy_components(components, place, k, q, H):
    """``H[:k, :q] = components[place : place + k]``."""
    for i in range(k):
        for j in range(q):
            H[i, j] = components[place + i, j]


@njit(nogil=True)
def copy_panel(X, first, width, scale, panel):
    """Copy some rows of X, times a number, as the columns of a panel (q, width)."""
    q = X.shape[1]
    for j in range(q):
        for i in range(width):
            panel[j, i] = X[first + i, j] * scale
        for i in range(width, panel.shape[1]):
            panel[j, i] = 0


@njit(nogil=True)
def panel_weights(H, operators, panel, k, q, F, U, T):
    """Non-negative weights ``U`` of the columns of a panel, by the splitting iteration."""
    width = panel.shape[1]
    multiply(H, NO, panel, NO, width, F, NO, k, q, NO)
    for i in range(k):
        for j in range(width):
            U[i, j] = 0
    splitting_steps(operators, operators[k], F, U, width, k, FINAL_STEPS, T)
    for i in range(k):
        for j in range(width):
            U[i, j] = max(U[i, j], 0)


@njit(nogil=True, fastmath=ANY_ORDER)
def energy_left(panel, R, q):
    """Squared norms of a panel, and of its difference from another one."""
    own, total = 0.0, 0.0
    for i in range(q):
        own_row, row = R.dtype.type(0), R.dtype.type(0)
        for j in range(panel.shape[1]):
            left = panel[i, j] - R[i, j]
            own_row += panel[i, j] * panel[i, j]
            row += left * left
        own += own_row
        total += row
    return own, total


def energies_left(X, first, last, scale, components, ranks, energies):
    """Squared norms of what the cones of every rank leave of some rows of a matrix.

    Parameters
    ----------
    X : array of shape (n, q)
    first, last : int
    scale : float
        What rows are multiplied by.
    components : array of shape (sum of ranks, q)
    ranks : array of int of shape (n_ranks,)
    energies : array of shape (1 + n_ranks,), in float64
        Zeros, to which the squared norms of the rows are added, and what is left of them
        at every rank.
    """
    q, most = X.shape[1], ranks[-1]
    width = min(PANEL, padded(last - first, X.itemsize))
    H, panel, R = zeros(most, q, X), zeros(q, width, X), zeros(q, width, X)
    F, U, T = zeros(most, width, X), zeros(most, width, X), zeros(most, width, X)
    G, place = zeros(most, most, X), 0
    for r in range(len(ranks)):
        k = ranks[r]
        copy_components(components, place, k, q, H)
        place += k
        gram_matrix(H, k, G)
        operators = cone_operators(G, k)
        for start in range(first, last, width):
            copy_panel(X, start, min(width, last - start), scale, panel)
            panel_weights(H, operators, panel, k, q, F, U, T)
            multiply(H, YES, U, NO, width, R, NO, q, k, NO)
            own, left = energy_left(panel, R, q)
            energies[1 + r] += left
            if r == 0:
                energies[0] += own

"""Fooling sets: positive entries of which no two fit in one positive rectangle."""

import time

import numpy as np

from sknonlin._bounds.pattern import as_bits

#: Entries among which a fooling set is searched at most.
MOST_ENTRIES = 1500


def fooling_set_bound(support, deadline):
    """Size of the largest fooling set found, and whether the search was complete.

    A rank-one part of a non-negative matrix that is positive at (i, j) and (k, l) is so at
    (i, l) and (k, j). Where one of these is zero for every two of a set of positive
    entries, each entry needs a part of its own.

    Parameters
    ----------
    support : boolean ndarray
    deadline : float
        Of :func:`time.monotonic`; the search ends there.

    Returns
    -------
    bound : int
    entries : ndarray of shape (bound, 2)
        The set.
    complete : bool
        Whether there is no larger one.
    """
    entries = np.argwhere(support)
    complete = len(entries) <= MOST_ENTRIES
    if not complete:
        entries = entries[np.argsort(-conflicts(support)[support])[:MOST_ENTRIES]]
    i, j = entries.T
    apart = ~(support[np.ix_(i, j)] & support[np.ix_(i, j)].T)
    order = np.argsort(-apart.sum(axis=1), kind="stable")
    apart = apart[np.ix_(order, order)]
    clique, ended = largest_clique(apart, deadline)
    return len(clique), entries[order[clique]], complete and ended


def conflicts(support):
    """Of every entry, a lower count of the entries that do not fit with it."""
    zeros = (~support).astype(float)
    own = support.astype(float)
    return zeros @ own.sum(axis=0)[:, None] + (own.sum(axis=1) @ zeros)[None]


def largest_clique(adjacent, deadline):
    """Vertices of a largest clique, by branch and bound with colours, and whether it ended.

    The search is that of E. Tomita and T. Seki, "An efficient branch-and-bound algorithm
    for finding a maximum clique" (2003), on bit sets.
    """
    neighbours = as_bits(adjacent)
    best = []
    whole = (1 << len(neighbours)) - 1
    # Of each level of the search: what is left of its candidates, and in what order.
    clique, levels = [], [[whole, coloured_apart(whole, neighbours)]]
    while levels:
        left, order = levels[-1]
        if best and time.monotonic() > deadline:
            return best, False
        if not order or len(clique) + order[-1][1] <= len(best):
            levels.pop()
            if clique:
                clique.pop()
            continue
        vertex, _ = order.pop()
        levels[-1][0] = left & ~(1 << vertex)
        clique.append(vertex)
        inner = left & neighbours[vertex]
        if inner:
            levels.append([inner, coloured_apart(inner, neighbours)])
        else:
            if len(clique) > len(best):
                best = clique.copy()
            clique.pop()
    return best, True


def coloured_apart(candidates, neighbours):
    """Candidates with the number of colours that they and those before them need.

    Candidates of one colour are not adjacent, so that a clique has one of each at most.
    """
    order, colour = [], 0
    while candidates:
        colour, free = colour + 1, candidates
        while free:
            lowest = free & -free
            vertex = lowest.bit_length() - 1
            candidates ^= lowest
            free &= ~(neighbours[vertex] | lowest)
            order.append((vertex, colour))
    return order

"""How many rectangles of positive entries it takes to cover all of them."""

import math
import time

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from sknonlin._bounds.pattern import as_bits, distinct_rows

#: Rectangles, and entries to cover, with which linear programs are still quick.
MOST_RECTANGLES = 20_000
MOST_ENTRIES = 2_500


def rectangle_bound(support, deadline, known=0):
    """Bound by the fewest rectangles that cover the positive entries.

    The support of a rank-one part is a rectangle of positive entries. A linear relaxation
    bounds how many it takes from below; its dual solution is the proof, and is checked
    against every rectangle. A search with such a proof at every end goes on from there.

    Parameters
    ----------
    support : boolean ndarray
    deadline : float
        Of :func:`time.monotonic`; the search ends there.
    known : int
        A bound that is known; what is below it is not searched again.

    Returns
    -------
    bound : int
    complete : bool
        Whether so many are also enough.

    Raises
    ------
    OverflowError
        If there are more rectangles than linear programs are quick with.
    """
    support = distinct_rows(distinct_rows(support).T).T
    if support.size == 0:
        return 0, True
    cover = entries_to_cover(support)
    bound = max(fractional_bound(cover), known)
    while time.monotonic() < deadline:
        found = cover_within(cover, bound, deadline)
        if found is None:
            return bound, False
        if found:
            return bound, True
        bound += 1
    return bound, False


def maximal_rectangles(support):
    """Maximal rectangles, as pairs of bit sets of rows and of columns.

    The rows of one are those that are positive in some set of columns.
    """
    columns = as_bits(support.T)
    found = {(1 << len(support)) - 1}
    for column in columns:
        found |= {rows & column for rows in found}
        if len(found) > MOST_RECTANGLES:
            raise OverflowError(f"more than {MOST_RECTANGLES} rectangles")
    found.discard(0)
    pairs = [
        (rows, sum(1 << j for j, column in enumerate(columns) if rows & ~column == 0))
        for rows in sorted(found)
    ]
    return [pair for pair in pairs if pair[1]]


def entries_to_cover(support):
    """Which rectangles cover which entries: csr_matrix of shape (n_entries, n_rectangles).

    An entry is left out where another one has no rectangles but those that it has.
    """
    if support.sum() > MOST_ENTRIES:
        raise OverflowError(f"more than {MOST_ENTRIES} positive entries")
    pairs = maximal_rectangles(support)
    entries = np.argwhere(support)
    cells, own = [], []
    for r, (rows, columns) in enumerate(pairs):
        inside = bits_of(rows, support.shape[0])[entries[:, 0]]
        inside &= bits_of(columns, support.shape[1])[entries[:, 1]]
        places = np.flatnonzero(inside)
        cells.append(places)
        own.append(np.full(len(places), r))
    cells, own = np.concatenate(cells), np.concatenate(own)
    cover = csr_matrix((np.ones(len(cells)), (cells, own)), (len(entries), len(pairs)))
    return cover[minimal_rows(cover)]


def bits_of(number, size):
    """Return a bit set as a boolean array."""
    data = np.frombuffer(number.to_bytes(-(-size // 8), "little"), dtype=np.uint8)
    return np.unpackbits(data, bitorder="little")[:size].astype(bool)


def minimal_rows(cover):
    """Rows of a 0-1 matrix that contain no other, of equal ones the first."""
    sizes = np.asarray(cover.sum(axis=1)).ravel()
    common = (cover @ cover.T).toarray()
    within = common == sizes[None, :]  # column's set is inside the row's set
    earlier = np.tri(len(sizes), k=-1, dtype=bool)
    smaller = sizes[None, :] < sizes[:, None]
    equal = sizes[None, :] == sizes[:, None]
    return np.flatnonzero(~(within & (smaller | (equal & earlier))).any(axis=1))


def solve_relaxation(cover):
    """Linear relaxation of a cover: shares of the rectangles, and a proved lower bound.

    Weights of entries add up to a lower bound if no rectangle has more than 1 of them. The
    solver's weights are divided by the most that a rectangle has.
    """
    n_entries, n_rectangles = cover.shape
    result = linprog(
        np.ones(n_rectangles), A_ub=-cover, b_ub=-np.ones(n_entries), method="highs"
    )
    if result.status != 0:  # pragma: no cover - a cover by all rectangles is feasible
        return np.ones(n_rectangles), 1.0
    weights = np.maximum(-result.ineqlin.marginals, 0)
    most = (cover.T @ weights).max()
    return result.x, (weights.sum() / most if most > 0 else 1.0)


def rounded_up(value):
    """Smallest integer that a number reaches, whose last digits may be wrong."""
    return math.ceil(value - 1e-9 * max(1.0, value))


def fractional_bound(cover):
    """Smallest integer not below the fractional cover number."""
    return rounded_up(solve_relaxation(cover)[1])


def cover_within(cover, most, deadline):
    """Whether a number of rectangles is enough to cover all entries; None if unknown.

    Takes an entry that few rectangles cover, and tries each of them: one has to be taken.
    A way ends where its relaxation proves that what is left takes too many.
    """
    if cover.shape[0] == 0 or most <= 0:
        return cover.shape[0] == 0
    if most == 1:
        return bool((np.asarray(cover.sum(axis=0)) == cover.shape[0]).any())
    if time.monotonic() > deadline:
        return None
    shares, bound = solve_relaxation(cover)
    if rounded_up(bound) > most:
        return False
    entry = np.diff(cover.indptr).argmin()
    choices = cover.indices[cover.indptr[entry] : cover.indptr[entry + 1]]
    tried = np.zeros(cover.shape[1], dtype=bool)
    for choice in choices[np.argsort(-shares[choices])]:
        left = cover[np.asarray(cover[:, [choice]].todense()).ravel() == 0][:, ~tried]
        tried[choice] = True
        if left.shape[0] and (np.diff(left.indptr) == 0).any():
            continue  # an entry has only rectangles that were tried before
        found = cover_within(undominated(left), most - 1, deadline)
        if found or found is None:
            return found
    return False


def undominated(cover):
    """Leave out entries and rectangles that others stand for."""
    cover = cover.tocsr()
    if cover.shape[0] == 0:
        return cover
    cover = cover[minimal_rows(cover)]
    columns = np.unique(cover.toarray(), axis=1)
    return csr_matrix(columns[:, columns.any(axis=0)])

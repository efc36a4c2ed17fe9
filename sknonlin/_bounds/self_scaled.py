"""The self-scaled bound, which sees the size of positive entries, not only their places."""

import math
import time

import numpy as np

#: Positive entries with which an iteration still takes milliseconds.
MOST_ENTRIES = 150
MOST_STEPS = 3000
#: Steps between two looks at the bound that is proved so far.
STEPS = 100
#: What these steps add to a bound that has settled.
SETTLED = 1e-5


def self_scaled_bound(A, tol, deadline, enough=math.inf):
    r"""Self-scaled bound of H. Fawzi and P. Parrilo, by its semidefinite relaxation.

    If ``A`` is a sum of r rank-one parts :math:`0 \le R \le A`, their shares
    :math:`x = R / A` of its positive entries are in [0, 1], and sum to one. So the sum of
    :math:`(1, x) (1, x)^T` over the parts is positive semidefinite, has r in its corner and
    ones beside it. Its other entries are in [0, 1], and in pairs: :math:`R_{ij} R_{kl} =
    R_{il} R_{kj}`. The least corner of such a matrix is the bound
    ("Self-scaled bounds for atomic cone ranks", Mathematical Programming 158, 2016; here
    with the entries' bounds in [0, 1] added).

    It is found by alternating projections with multipliers (ADMM). Each positive
    semidefinite multiplier proves a bound, converged or not; the best is kept.

    Parameters
    ----------
    A : ndarray of shape (n, m)
        Non-negative, no entry of 2 or more.
    tol : float
        The bound holds for all matrices with the zeros of ``A`` and entries so near.
    deadline : float
        Of :func:`time.monotonic`.
    enough : float
        A bound above which no more is wanted.

    Returns
    -------
    value : float
        The bound, not rounded.

    Raises
    ------
    OverflowError
        If there are more than ``MOST_ENTRIES`` positive entries.
    """
    n_entries = np.count_nonzero(A)
    if n_entries > MOST_ENTRIES:
        raise OverflowError(f"more than {MOST_ENTRIES} positive entries")
    if n_entries == 0:
        return 0.0
    constraints = Pairs(A)
    Z = np.eye(n_entries + 1)
    Z[0] = Z[:, 0] = 1
    U = np.zeros_like(Z)
    penalty, best = 1.0 / n_entries, 0.0
    for step in range(1, MOST_STEPS + 1):
        values, vectors = np.linalg.eigh(Z - U)
        positive = values > 0
        X = (vectors[:, positive] * values[positive]) @ vectors[:, positive].T
        target = 1.6 * X - 0.6 * Z + U
        Y = (vectors[:, ~positive] * -values[~positive]) @ vectors[:, ~positive].T
        Z = constraints.project(target, 1 / penalty)
        U = target - Z
        if step % STEPS == 0:
            before, best = best, max(best, constraints.proved(Y, tol))
            settled = best - before < SETTLED and step > MOST_STEPS / 5
            if best > enough or settled or time.monotonic() > deadline:
                break
    return best


class Pairs:
    """What is known of the entries of a moment matrix, and its projection.

    Parameters
    ----------
    A : ndarray of shape (n, m)
    """

    def __init__(self, A):
        self.places = np.argwhere(A > 0)
        i, j = self.places.T
        self.values = A[i, j]
        number = np.full(A.shape, -1)
        number[i, j] = np.arange(len(i))
        # The entry (p, q) goes with (p', q') of rows i_p, i_q and columns j_q, j_p.
        first, second = number[np.ix_(i, j)], number[np.ix_(i, j)].T
        self.lonely = (first < 0) | (second < 0)
        self.partner = (np.where(self.lonely, 0, first), np.where(self.lonely, 0, second))
        self.own = np.outer(self.values, self.values)
        self.other = np.where(self.lonely, 1.0, self.own[self.partner])
        # In common units s, the two are other * s and own * s, neither above 1.
        self.most = 1 / np.maximum(self.own, self.other)

    def project(self, M, corner_weight):
        """Nearest matrix that has what is known, with less in the corner."""
        inner = M[1:, 1:]
        s = (self.other * inner + self.own * inner[self.partner]) / (
            self.own**2 + self.other**2
        )
        found = np.ones_like(M)
        found[1:, 1:] = np.where(self.lonely, 0, self.other * np.clip(s, 0, self.most))
        found[0, 0] = M[0, 0] - corner_weight
        return found

    def proved(self, Y, tol):
        """Bound that a positive semidefinite matrix proves.

        As ``<Y, M> >= 0`` for the moment matrix M, its corner is at least what is left of
        ``-<Y, M>`` at the most that the other entries can make of it.
        """
        if Y[0, 0] <= 0:
            return 0.0
        Y = (Y + Y.T) / (2 * Y[0, 0])
        inner = Y[1:, 1:]
        # Each pair is met twice: half of what the two add, at 0 or at the largest s.
        gain = (self.other * inner + self.own * inner[self.partner]) * self.most / 2
        rest = np.where(self.lonely, 0, np.maximum(gain, 0)).sum()
        # Y is positive semidefinite up to rounding; the trace of M is below 2 n + bound.
        rounding = 1e-13 * len(Y) * (np.abs(Y).sum() + len(Y))
        return self.nearby(-2 * Y[0, 1:], rest + rounding, tol)

    def nearby(self, weights, rest, tol):
        """Return what the proof says of all matrices whose positive entries are within tol.

        Their parts, divided by ``1 + most``, are parts of A too, in which shares no longer
        sum to one, but to between ``(1 - most) / (1 + most)`` and 1.
        """
        most = tol / self.values
        low = (1 - most) / (1 + most.max())
        if (low <= 0).any():
            return 0.0
        return float(np.where(weights > 0, weights * low, weights).sum() - rest)

"""Proved bounds of the non-negative rank of a matrix."""

import time
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from sknonlin._bounds.exact_factors import exact_factors
from sknonlin._bounds.fooling import fooling_set_bound
from sknonlin._bounds.pattern import make_pattern, without_parallel_rows
from sknonlin._bounds.rectangles import rectangle_bound, rounded_up
from sknonlin._bounds.self_scaled import self_scaled_bound
from sknonlin._bounds.supports import rank_bound, support_bound
from sknonlin._matrices.stack import MatrixStack
from sknonlin._running.validation import RandomState, validated
from sknonlin.nmf import nmf_path

#: Entries of a matrix, without its parallel rows, for which factors are searched.
MOST_NUMBERS = 10_000
#: Ranks at which they are searched, spread evenly where there are more.
MOST_RANKS = 16
#: Seconds for a rank in the first round.
FIRST_SECONDS = 0.5
LOWER_BOUNDS = ("rank", "supports", "fooling_set", "rectangle_cover", "self_scaled")
#: Of the time, for the searches of lower bounds; what they leave is for factors.
SHARES = {"fooling_set": 0.05, "rectangle_cover": 0.2, "self_scaled": 0.15}
ENDED = "The search was ended; the bound may not be the best of its kind."


@dataclass(frozen=True, eq=False)
class RankBounds:
    """Proved bounds of the non-negative rank of a matrix.

    Parameters
    ----------
    lower : int
        The largest lower bound.
    upper : int
        Number of parts of the smallest factorization found.
    rank : int
        The rank.
    supports : int
        From the number of different unions of supports, and of supports not in one another.
    fooling_set : int
        Positive entries of which no two fit in one rectangle of positive entries.
    rectangle_cover : int or None
        Fewest rectangles of positive entries that cover all of them; None if left out.
    self_scaled : int or None
        The self-scaled bound, rounded up; None if left out.
    factors : tuple of ndarrays of shapes (n_samples, upper) and (upper, n_features)
        The factorization: what proves ``upper``.
    notes : dict of str to str
        For a bound that was left out, or whose search was ended early, the reason.
    """

    lower: int
    upper: int
    rank: int
    supports: int
    fooling_set: int
    rectangle_cover: int | None
    self_scaled: int | None
    factors: tuple[np.ndarray, np.ndarray] = field(repr=False)
    notes: dict[str, str] = field(repr=False)

    @property
    def is_exact(self) -> bool:
        """Whether the bounds meet, so that the non-negative rank is known."""
        return self.lower == self.upper


@validated(
    {
        "A": ["array-like", "sparse matrix", torch.Tensor],
        "tol": [Interval(Real, 0, 0.5, closed="left")],
        "max_time": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
)
def rank_bounds(
    A: Any, *, tol: float = 1e-6, max_time: float = 8.0, random_state: RandomState = 0
) -> RankBounds:
    """Proved lower and upper bounds of the non-negative rank of a matrix.

    The non-negative rank is the smallest number of non-negative matrices of rank one that
    add up to ``A``. Every lower bound is proved, and the upper one comes with a
    factorization that was checked.

    Parameters
    ----------
    A : {ndarray, sparse matrix, tensor} of shape (n_samples, n_features)
        A non-negative matrix.
    tol : float, default=1e-6
        In [0, 0.5). Rows and columns are first scaled to a largest entry of 1 to 2, which
        leaves the rank. Entries up to ``tol`` are then zeros. The bounds are those of all
        matrices that have the same zeros and whose other entries are within ``tol``: none
        of them is below ``lower``, one of them is the product of ``factors``.
    max_time : float, default=8.0
        Seconds for the searches. A search that was ended leaves a bound that is proved,
        though not as close as it might be.
    random_state : int, RandomState instance or None, default=0
        Seeds the starts of the search for factors.

    Returns
    -------
    bounds : RankBounds
        ``lower`` and ``upper``, and the single bounds.

    Raises
    ------
    ValueError
        If ``A`` has negative, NaN or infinite entries, or is not a matrix.

    Notes
    -----
    Bounds by supports hold for all matrices with the same zeros; a matrix without zeros
    has 1 there. The rank bound is Eckart and Young's; rectangles are covered by linear
    programs, whose dual solutions are checked; the self-scaled bound is the semidefinite
    relaxation, each of whose multipliers is a proof. Large matrices, with more than 150
    positive entries for the self-scaled bound and 2,500 for the cover, leave them out,
    and ``notes`` says so.

    References
    ----------
    .. [1] S. Fiorini, V. Kaibel, K. Pashkovich, D. Theis, "Combinatorial bounds on
       nonnegative rank and extended formulations", Discrete Mathematics 313 (2013).
    .. [2] H. Fawzi, P. Parrilo, "Self-scaled bounds for atomic cone ranks", Mathematical
       Programming 158 (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from sknonlin import rank_bounds
    >>> A = (np.arange(4.0)[:, None] - np.arange(4.0)) ** 2  # distances on a line
    >>> bounds = rank_bounds(A)
    >>> bounds.rank, bounds.lower, bounds.upper
    (3, 4, 4)
    """
    pattern = make_pattern(as_matrix(A), tol)
    deadline = time.monotonic() + max_time
    W, rows = without_parallel_rows(pattern)
    V, columns = without_parallel_rows(transposed(pattern))
    core = pattern.A[np.ix_(rows, columns)]
    upper = min(len(rows), len(columns))
    bounds, notes = lower_bounds(core, tol, max_time, upper)
    lower = max(bound for bound in bounds.values() if bound is not None)
    factors = (W, pattern.A[rows]) if len(rows) == upper else (pattern.A[:, columns], V.T)
    core = replace(pattern, A=core)
    smaller = smaller_factors(pattern, core, (W, V), lower, deadline, random_state)
    if smaller is not None:
        factors = smaller
    elif lower < upper:
        notes["upper"] = "No smaller factorization was found in the time given."
    W, H = factors
    return RankBounds(
        lower=lower,
        upper=W.shape[1],
        factors=(W * pattern.row_scale[:, None], H * pattern.column_scale),
        notes=notes,
        **bounds,
    )


def as_matrix(A):
    """Return a matrix in float64, checked."""
    stack = MatrixStack(A, "cpu", name="A")
    if stack.lead:
        raise ValueError(
            f"A must be one matrix with two axes, got {len(stack.lead) + 2} axes. Call "
            "rank_bounds for each matrix of a stack."
        )
    stack.check_values(nonnegative=False)
    A = stack.rows()[0].numpy().astype(np.float64)
    if (A < 0).any():
        raise ValueError(
            f"A holds {A.min():.3g}; only non-negative matrices have a non-negative rank. "
            "Pass the activations after the ReLU, or their halves: "
            "np.hstack([np.maximum(A, 0), np.maximum(-A, 0)])."
        )
    return A


def transposed(pattern):
    """Return the pattern of the transposed matrix."""
    return replace(
        pattern,
        A=pattern.A.T,
        row_scale=pattern.column_scale,
        column_scale=pattern.row_scale,
    )


def lower_bounds(A, tol, max_time, upper):
    """Return all lower bounds of a matrix without parallel rows, by name, and notes."""
    notes = {}
    if upper == 0:
        return dict.fromkeys(LOWER_BOUNDS, 0), notes
    support = A > 0
    bounds = {"rank": rank_bound(A, tol), "supports": support_bound(support)}
    until = time.monotonic() + max_time * SHARES["fooling_set"]
    bounds["fooling_set"], _, ended = fooling_set_bound(support, until)
    if not ended:
        notes["fooling_set"] = ENDED
    known = max(bounds["supports"], bounds["fooling_set"])
    until = time.monotonic() + max_time * SHARES["rectangle_cover"]
    try:
        bounds["rectangle_cover"], ended = rectangle_bound(support, until, known)
        if not ended:
            notes["rectangle_cover"] = ENDED
    except OverflowError as error:
        bounds["rectangle_cover"], notes["rectangle_cover"] = None, f"Left out: {error}."
    until = time.monotonic() + max_time * SHARES["self_scaled"]
    try:
        bounds["self_scaled"] = rounded_up(self_scaled_bound(A, tol, until, upper - 1))
    except OverflowError as error:
        bounds["self_scaled"], notes["self_scaled"] = None, f"Left out: {error}."
    return bounds, notes


def smaller_factors(pattern, core, lifts, lower, deadline, random_state):
    """Find checked factors of fewer parts than the matrix has rows, or None.

    Each rank is tried from what ``nmf_path`` finds and from random starts: the lower bound
    first, then those halfway between what was missed and what was met, and in the time that
    is left the largest that was not met.

    Parameters
    ----------
    pattern : Pattern
    core : Pattern
        The same, without parallel rows and columns.
    lifts : pair of ndarrays
        Weights of all rows and of all columns on those of the core.
    lower : int
    deadline : float
        Of :func:`time.monotonic`.
    random_state : int, RandomState instance or None
    """
    most = min(core.A.shape)
    ranks = np.unique(np.linspace(max(lower, 1), most - 1, MOST_RANKS).astype(int)).tolist()
    if lower >= most or core.A.size > MOST_NUMBERS:
        return None
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31))
    path = nmf_path(core.A, ranks, device="cpu", tol=1e-6, random_state=0)
    starts = dict(zip(ranks, path.components, strict=True))
    best, place = None, 0
    below, above = -1, len(ranks)  # places of ranks that were missed, and met
    while above > 0 and (now := time.monotonic()) < deadline:
        halving = below < above - 1
        until = min(now + FIRST_SECONDS, deadline) if halving else deadline
        r = ranks[place]
        found = exact_factors(core, r, [starts[r]], rng, until)
        if found is not None and pattern.holds(*(lifted := lift(found, lifts))):
            best, above = lifted, place
        else:
            below = max(below, place)
        place = (below + above) // 2 if below < above - 1 else above - 1
    return best


def lift(factors, lifts):
    """Make factors of the whole matrix from those of its core."""
    return lifts[0] @ factors[0], factors[1] @ lifts[1].T

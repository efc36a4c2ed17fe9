"""Non-negative matrix factorizations of a stack of matrices, along a path of ranks."""

from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from tqdm.auto import tqdm

from sknonlin._arrays import MatrixStack, in_full_precision
from sknonlin._cone import project, unit_rows
from sknonlin._rank_path import N_FINAL_STEPS, learn_path
from sknonlin._ranks import check_ranks
from sknonlin._updates import FLOOR, SOLVERS, admm_update, gram

#: Constraints shared by the functions here and the estimators that call them.
PATH_CONSTRAINTS = {
    "solver": [StrOptions({"auto", *SOLVERS})],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "max_rows": [Interval(Integral, 1, None, closed="left"), None],
    "device": [str, torch.device],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


@dataclass(eq=False)
class NMFPath:
    r"""Factorizations of every matrix of a stack at every rank of a path.

    Parameters
    ----------
    ranks : ndarray of shape (n_ranks,)
        The ranks, increasing.
    errors : array of shape (..., n_ranks)
        Relative error :math:`\|X - W_k H_k\|_F / \|X\|_F` on all rows, in [0, 1],
        never increasing along the path; 0 for an all-zero matrix.
    components : list of arrays of shape (..., k, n_features)
        ``H`` at every rank, its rows of Euclidean norm 1. Where a matrix needs fewer
        than k components, the others are zero.
    n_iter : ndarray of shape (..., n_ranks)
        Alternations used at every rank; 0 where the factorization is exact by
        construction.
    """

    ranks: np.ndarray
    errors: object
    components: list = field(repr=False)
    n_iter: np.ndarray = field(repr=False)


def draw_rows(stack, largest, max_rows, random_state):
    """At most ``max_rows`` rows of every matrix, drawn in proportion to their energy.

    The systematic sample steps through the cumulated squared norms from one seeded
    offset. Rows come back at norm 1, which makes their error an unbiased estimate of
    the matrix's; the draw for one matrix does not depend on the others.
    """
    energy = torch.cat(
        [
            (stack.rows(rows.start, rows.stop) / largest).square().sum(2).cpu()
            for rows in stack.chunks()
        ],
        dim=1,
    ).double()
    cumulated = energy.cumsum(1)
    offset = check_random_state(random_state).uniform()
    steps = torch.arange(max_rows, dtype=torch.float64, device="cpu") + offset
    steps = steps / max_rows
    index = torch.searchsorted(cumulated, cumulated[:, -1:] * steps)
    return unit_rows(stack.take(index.clamp(max=stack.n - 1)))[0]


def exact_components(X, k):
    """Components that reproduce ``X`` (n_matrices, n, q) when ``k >= min(n, q)``."""
    n_matrices, n, q = X.shape
    components = X.new_zeros(n_matrices, k, q)
    if k >= q:
        components[:, :q] = torch.eye(q, dtype=X.dtype, device=X.device)
    else:
        components[:, :n] = unit_rows(X)[0]
    return components


def cone_weights(G, F):
    """Non-negative weights (b, k, n) from Gram matrices and cross products with rows."""
    return admm_update(G, F, torch.zeros_like(F), N_FINAL_STEPS).clamp_(min=0)


def stack_weights(X, H):
    """Non-negative weights (b, k, n) of the rows of a stack ``X`` on the cones ``H``."""
    return cone_weights(gram(H), torch.bmm(H, X.mT))


def residual_energy(X, H):
    """Squared norm of what the cones ``H`` leave of the rows of a stack ``X``."""
    Wt = stack_weights(X, H)
    return torch.baddbmm(X, Wt.mT, H, alpha=-1).square_().sum((1, 2))


def errors_on_all_rows(stack, largest, components):
    """Relative errors (n_matrices, n_ranks) of learned cones, in one pass."""
    left = torch.zeros(
        stack.n_matrices, len(components), dtype=stack.dtype, device=stack.device
    )
    total = torch.zeros_like(left[:, :1])
    for rows in stack.chunks():
        X = stack.rows(rows.start, rows.stop) / largest
        total += X.square().sum((1, 2))[:, None]
        for i, H in enumerate(components):
            left[:, i] += residual_energy(X, H)
    return (left / total.clamp(min=FLOOR)).sqrt()


def enforce_monotone(errors, components):
    """Keep a rank's smaller neighbour where it fits no worse, so errors never rise."""
    errors[:, :1].clamp_(max=1)
    for i in range(1, len(components)):
        worse = (errors[:, i] > errors[:, i - 1]).nonzero()[:, 0]
        if len(worse):
            previous = components[i - 1][worse]
            components[i][worse] = 0
            components[i][worse, : previous.shape[1]] = previous
            errors[worse, i] = errors[worse, i - 1]


def fit_path(
    stack,
    ranks,
    *,
    solver,
    max_iter,
    tol,
    max_rows,
    random_state,
    verbose,
    n_rows=None,
    all_errors=True,
):
    """:func:`nmf_path` on a checked :class:`MatrixStack`, in tensors.

    ``n_rows`` gives the number of true rows of every matrix where the others are
    zeros that only pad the stack, which must not be one to sample from. Without
    ``all_errors``, the errors are those of the rows that the components are learned from.

    Returns
    -------
    errors : tensor of shape (n_matrices, n_ranks)
    components : list of tensors of shape (n_matrices, k, n_features)
    n_iter : tensor of shape (n_matrices, n_ranks)
    """
    largest = stack.check_values(nonnegative=True)[:, None, None]
    largest = torch.where(largest > 0, largest, 1)
    learned = [k for k in ranks if k < min(stack.n, stack.q)]
    # A sample must show more directions than the components it is to teach.
    n_drawn = stack.n if max_rows is None else max([max_rows, *(2 * k for k in learned)])
    sampled = bool(learned) and stack.n > n_drawn
    if sampled:
        X = draw_rows(stack, largest, n_drawn, random_state)
    else:
        X = stack.rows() / largest
    norm = X.flatten(1).norm(dim=1)[:, None, None]
    X = X / torch.where(norm > 0, norm, 1)

    steps = learn_path(X, learned, "admm" if solver == "auto" else solver, max_iter, tol)
    steps = tqdm(steps, "NMF path", len(learned), unit="rank", disable=not verbose)
    results = [(unit_rows(H)[0], error, n_iter) for H, error, n_iter in steps]
    components = [H for H, _, _ in results]
    errors = X.new_zeros(stack.n_matrices, len(ranks))
    n_iter = torch.zeros(errors.shape, dtype=torch.int64, device="cpu")
    for i, (_, error, iterations) in enumerate(results):
        errors[:, i], n_iter[:, i] = error, iterations.cpu()
    if sampled and all_errors:
        errors[:, : len(learned)] = errors_on_all_rows(stack, largest, components)
    enforce_monotone(errors[:, : len(learned)], components)
    if len(learned) < len(ranks):
        X = stack.rows() if stack.n < stack.q else X
        components += [exact_components(X, k) for k in ranks[len(learned) :]]
    if n_rows is not None:
        n_rows = torch.as_tensor(n_rows, device="cpu")
        for i, k in enumerate(learned):
            exact = n_rows <= k
            components[i][exact] = exact_components(X[exact][:, :k], k)
            errors[exact, i], n_iter[exact, i] = 0, 0
    return errors, components, n_iter


@validate_params(
    {"X": ["array-like", "sparse matrix", torch.Tensor], **PATH_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
@in_full_precision
def nmf_path(
    X,
    ranks,
    *,
    solver="auto",
    max_iter=200,
    tol=2e-4,
    max_rows=4000,
    device="auto",
    random_state=None,
    verbose=0,
):
    """Non-negative matrix factorizations of one or many matrices along a path of ranks.

    Every matrix is approximated by ``W H`` with non-negative factors, in the Frobenius
    norm, at every rank. Each rank starts from the one before it and from the
    non-negative double SVD of what that one left, and all matrices of a stack are
    solved together, each until it has converged.

    Parameters
    ----------
    X : {ndarray, sparse matrix, tensor} of shape (..., n_samples, n_features)
        A non-negative matrix or a stack of them; a sparse matrix is two-dimensional.
        The output (n, c, h, w) of a convolution is not such a stack: pass
        ``A.movedim(1, -1).flatten(0, 2)``, with a row for every position.
    ranks : int or iterable of int
        Increasing ranks. A rank at or above ``min(n_samples, n_features)`` is met
        exactly.
    solver : {"auto", "admm", "mu"}, default="auto"
        ``"admm"`` alternates over both factors with a few steps of ADMM each [1]_,
        extrapolated; ``"mu"`` uses multiplicative updates [2]_, as the source paper
        did. ``"auto"`` is ``"admm"``.
    max_iter : int, default=200
        Largest number of alternations at a rank.
    tol : float, default=2e-4
        A matrix has converged at a rank when an alternation lowers its relative error
        by less than this. The error is looked at every four alternations.
    max_rows : int or None, default=4000
        Of a taller matrix, the components are learned from this many rows (at least
        twice the largest rank), drawn in proportion to their squared norm; the errors
        are those of all rows. None learns from every row.
    device : str or torch.device, default="auto"
        Where to compute. ``"auto"`` is a tensor's own device, and for other input
        CUDA where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the draw of rows; nothing else is random.
    verbose : int, default=0
        Above 0, a progress bar over the ranks.

    Returns
    -------
    path : NMFPath
        ``ranks``, ``errors``, ``components`` and ``n_iter``, the errors and components
        with the array type, dtype and device of ``X``.

    Raises
    ------
    ValueError
        If ``X`` has negative, NaN or infinite entries, fewer than two axes or an empty
        one; if ``ranks`` do not increase from at least 1; if the device is not there.
    TypeError
        If a rank is not an integer, or ``X`` not of real numbers.

    Notes
    -----
    Computes in the dtype of ``X``; float16 and bfloat16 are computed in float32, and
    integers in float64. No gradient flows through the result.

    References
    ----------
    .. [1] K. Huang, N. Sidiropoulos, A. Liavas, "A Flexible and Efficient Algorithmic
       Framework for Constrained Matrix and Tensor Factorization", IEEE Transactions
       on Signal Processing 64 (2016).
    .. [2] D. Lee, H. S. Seung, "Algorithms for Non-negative Matrix Factorization",
       NIPS (2000).

    Examples
    --------
    >>> import numpy as np
    >>> from sknonlin import nmf_path
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((30, 3)) @ rng.random((3, 20))
    >>> path = nmf_path(X, ranks=[1, 2, 3, 20])
    >>> path.errors.round(2)
    array([0.15, 0.08, 0.  , 0.  ])
    >>> path.components[1].shape
    (2, 20)
    """
    ranks = check_ranks(ranks)
    stack = MatrixStack(X, device)
    errors, components, n_iter = fit_path(
        stack,
        ranks,
        solver=solver,
        max_iter=max_iter,
        tol=tol,
        max_rows=max_rows,
        random_state=random_state,
        verbose=verbose,
    )
    return NMFPath(
        ranks=np.array(ranks),
        errors=stack.restore(errors),
        components=[stack.restore(H) for H in components],
        n_iter=n_iter.reshape(*stack.lead, -1).numpy(),
    )


@validate_params(
    {
        "X": ["array-like", "sparse matrix", torch.Tensor],
        "components": ["array-like", torch.Tensor],
        "device": [str, torch.device],
    },
    prefer_skip_nested_validation=True,
)
@in_full_precision
def nnls(X, components, *, device="auto"):
    """Non-negative least squares of many rows onto one fixed cone.

    Each row x is written as ``w @ components`` with the ``w >= 0`` that leaves the
    least, on its own: its weights do not depend on the other rows.

    Parameters
    ----------
    X : {ndarray, sparse matrix, tensor} of shape (..., n_samples, n_features)
        Rows, of any sign.
    components : {ndarray, tensor} of shape (..., k, n_features)
        Generators of the cone, of any sign; for a stack, one cone each.
    device : str or torch.device, default="auto"
        As in :func:`nmf_path`.

    Returns
    -------
    W : array of shape (..., n_samples, k)
        Weights, with the array type, dtype and device of ``X``. Where components
        depend on each other, one of the solutions.

    Raises
    ------
    ValueError
        If the shapes do not agree, or there are NaN or infinite entries.

    Notes
    -----
    A few rounds of a splitting iteration find the weights of most rows and start the
    block principal pivoting [1]_ that ends the others.

    References
    ----------
    .. [1] J. Kim, H. Park, "Fast Nonnegative Matrix Factorization: An Active-set-like
       Method and Comparisons", SIAM Journal on Scientific Computing 33 (2011).

    Examples
    --------
    >>> from sknonlin import nnls
    >>> nnls([[1.0, 2.0], [1.0, -1.0]], [[1.0, 0.0], [1.0, 1.0]])
    array([[0. , 1.5],
           [1. , 0. ]])
    """
    stack = MatrixStack(X, device)
    if sparse.issparse(components):
        components = components.toarray()
    cones = MatrixStack(components, stack.device, name="components")
    if cones.lead != stack.lead or cones.q != stack.q:
        raise ValueError(
            f"components of shape {(*cones.lead, cones.n, cones.q)} do not fit X of "
            f"shape {(*stack.lead, stack.n, stack.q)}: the leading axes and the last "
            "one must agree."
        )
    stack.check_values(nonnegative=False)
    cones.check_values(nonnegative=False)
    H, *H_norm = unit_rows(cones.rows())
    H = H.to(stack.dtype)
    G = gram(H)
    W = []
    for rows in stack.chunks(cones.n):
        X, norm, largest = unit_rows(stack.rows(rows.start, rows.stop))
        F = torch.bmm(H, X.mT)
        Wt = torch.stack([project(g, f) for g, f in zip(G, F, strict=True)])
        W.append(Wt.mT * norm * largest)
    W = torch.cat(W, dim=1)
    for factor in H_norm:
        W = W / torch.where(factor > 0, factor, torch.inf).mT
    return stack.restore(W)

"""Non-negative matrix factorizations of a stack of matrices, along a path of ranks."""

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from sknonlin._factorization.compressions import make_compression
from sknonlin._factorization.nmf_compression import rows_that_fit
from sknonlin._factorization.nnls import project
from sknonlin._factorization.rank_path import SOLVERS
from sknonlin._matrices.products import unit_rows
from sknonlin._matrices.row_sample import power_of_two
from sknonlin._matrices.stack import MatrixStack
from sknonlin._running.memory import (
    COPIES,
    WORKING_MEMORY_CONSTRAINT,
    affordable,
    in_parts,
    limited,
)
from sknonlin._running.torch_settings import in_full_precision
from sknonlin._running.validation import Device, RandomState, Ranks, check_ranks, validated

#: Constraints shared by the functions here and the estimators that call them.
PATH_CONSTRAINTS = {
    "solver": [StrOptions({"auto", *SOLVERS})],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "max_rows": [Interval(Integral, 1, None, closed="left"), None],
    "device": [str, torch.device],
    "random_state": ["random_state"],
    "working_memory": WORKING_MEMORY_CONSTRAINT,
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


@validated({"X": ["array-like", "sparse matrix", torch.Tensor], **PATH_CONSTRAINTS})
@in_full_precision
def nmf_path(
    X: Any,
    ranks: Ranks,
    *,
    solver: str = "auto",
    max_iter: int = 200,
    tol: float = 2e-4,
    max_rows: int | None = 4000,
    device: Device = "auto",
    random_state: RandomState = None,
    working_memory: float | None = None,
    verbose: int = 0,
) -> NMFPath:
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
        are those of all rows. None learns from every row. Fewer are drawn where
        ``working_memory`` does not hold so many.
    device : str or torch.device, default="auto"
        Where to compute. ``"auto"`` is a tensor's own device, and for other input
        CUDA where there is one. With numba, small matrices on a GPU (2**19 numbers in all)
        are learned from on the processor, unless the solver is ``"mu"``.
    random_state : int, RandomState instance or None, default=None
        Seeds the draw of rows; nothing else is random.
    working_memory : float or None, default=None
        Memory in MiB that the computation may take besides ``X`` and the results. None
        is ``working_memory`` of :func:`sklearn.config_context`, 1024 unless set. On a
        GPU, what is free there counts instead.
    verbose : int, default=0
        Above 0, progress bars over the ranks, for one part of a large stack after the
        other, and over the rows of a tall matrix.

    Returns
    -------
    path : NMFPath
        ``ranks``, ``errors``, ``components`` and ``n_iter``, the errors and components
        with the array type, dtype and device of ``X``.

    Raises
    ------
    ValueError
        If ``X`` has negative, NaN, infinite, complex or masked entries, fewer than two
        axes or an empty one; if ``ranks`` do not increase from at least 1; if the device
        is not there.
    TypeError
        If a rank is not an integer, or ``X`` holds no numbers.

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
    stack = MatrixStack(X, device, verbose=verbose)
    with limited(working_memory):
        max_rows = rows_that_fit(max_rows, stack.q, ranks, stack.dtype, stack.device)
        compression = make_compression(
            "nmf",
            solver=solver,
            max_iter=max_iter,
            tol=tol,
            max_rows=max_rows,
            random_state=random_state,
            verbose=verbose,
        )
        errors, components, n_iter = compression.learn(stack, ranks)
    return NMFPath(
        ranks=np.array(ranks),
        errors=stack.restore(errors),
        components=[stack.restore(H) for H in components],
        n_iter=n_iter.reshape(*stack.lead, -1).numpy(),
    )


def rescaled(W, row_sizes, generator_sizes):
    """Weights of rows on generators of other sizes, from those of norm 1.

    Where both are huge or both tiny, their sizes may have no product in the dtype, but the
    weights do: powers of two are taken apart, and in turns.

    Parameters
    ----------
    W : tensor of shape (n_matrices, m, k)
    row_sizes, generator_sizes : pairs of tensors that broadcast to W
        Norms, and largest absolute values, 0 for what is all zero; their product is a size.
    """
    (norm, largest), (own_norm, own_largest) = row_sizes, generator_sizes
    mantissa, exponent = torch.frexp(largest.cpu())
    own_mantissa, own_exponent = torch.frexp(own_largest.cpu())
    size = own_norm * own_mantissa.to(own_norm)
    W = W * (norm * mantissa.to(norm)) / torch.where(size > 0, size, torch.inf)
    half, own_half = exponent // 2, own_exponent // 2
    for part in (half, -own_half, exponent - half, own_half - own_exponent):
        W = W * power_of_two(part).to(W)
    return W


def check_weights(W):
    """Refuse weights that have become infinite, as those on tiny components do."""
    infinite = torch.isinf(W) if isinstance(W, torch.Tensor) else np.isinf(W)
    if infinite.any():
        raise ValueError(
            f"The weights of X on components are too large for the dtype {W.dtype} of X, "
            "because components are too small against X. Scale them, or pass X in a wider "
            "dtype."
        )


@validated(
    {
        "X": ["array-like", "sparse matrix", torch.Tensor],
        "components": ["array-like", torch.Tensor],
        "device": [str, torch.device],
    }
)
@in_full_precision
def nnls(X: Any, components: Any, *, device: Device = "auto") -> Any:
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
        If the shapes do not agree, there are NaN, infinite, complex or masked entries, or
        the weights are too large for their dtype.

    Notes
    -----
    A few rounds of a splitting iteration find the weights of most rows and start the
    block principal pivoting [1]_ that ends the others. Rows of which it is not certain
    that they leave the least, to 1e-5 of their norm in float32 and 1e-9 in float64, as
    those on components that are nearly equal, are solved one by one by
    ``scipy.optimize.nnls``, in float64 on the processor.

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
    cones = MatrixStack(components, stack.device, name="components")
    if cones.lead != stack.lead or cones.q != stack.q:
        raise ValueError(
            f"components of shape {(*cones.lead, cones.n, cones.q)} do not fit X of "
            f"shape {(*stack.lead, stack.n, stack.q)}: the leading axes and the last "
            "one must agree."
        )
    stack.check_values(nonnegative=False)
    cones.check_values(nonnegative=False)
    H, *H_sizes = unit_rows(cones.rows())
    H = H.to(stack.dtype)
    W = H.new_empty(stack.n_matrices, stack.n, cones.n)

    def solve(matrices):
        part, own = stack.part(matrices), H[matrices]
        own_sizes = [size[matrices].mT for size in H_sizes]

        def solve_rows(rows):
            X, *sizes = unit_rows(part.rows(rows.start, rows.stop))
            W[matrices, rows] = rescaled(project(own, X), sizes, own_sizes)

        in_parts(solve_rows, part.n, part.step(cones.n))

    gram_bytes = COPIES["Gram matrix of cones"] * cones.n**2 * H.itemsize
    step = affordable(gram_bytes, "rows", "systems", device=stack.device)
    in_parts(solve, stack.n_matrices, step)
    W = stack.restore(W)
    check_weights(W)
    return W

"""The factorizations of all rows along a path of ranks, from rows that teach them."""

from functools import cache, partial

import torch
from sklearn.utils import check_random_state
from torch.nn import functional
from tqdm.auto import tqdm

from sknonlin._cone import unit_rows
from sknonlin._memory import affordable, settle
from sknonlin._passes import LEARNING_SHARE, Fold, Take, add
from sknonlin._rank_path import N_FINAL_STEPS, learn_path
from sknonlin._row_sample import checked_scale, drawn_rows, group_size
from sknonlin._updates import FLOOR, add_products, admm_update, gram, products

ROW_COPIES = 6  # of the rows that teach, and
STATE_COPIES = 10  # of the factors, that are there at once
ALIGNED = 4  # numbers that are read at once, at least


def padded(size):
    """Size to which rows and columns are padded, see :func:`aligned`."""
    return size + -size % ALIGNED


def aligned(X):
    """Pad every matrix of a stack with zero rows and columns, to multiples of four.

    Where a matrix begins in memory then does not change its products by a digit, nor,
    with that, what is learned from it: the library computes those at odd addresses in
    another order.
    """
    rows, columns = (padded(size) - size for size in X.shape[1:])
    return functional.pad(X, (0, columns, 0, rows)) if rows or columns else X


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
    return cone_weights(gram(H), products(H, X.mT))


def residual_energies(block, largest, components):
    """Squared norms of what the cones of every rank leave of a block, and its own."""
    X = aligned(block / largest.to(block.device))
    buffer = torch.square(X)
    total, left = buffer.sum((1, 2)), []
    for cones in components:
        H = functional.pad(cones.to(block.device), (0, X.shape[2] - cones.shape[2]))
        add_products(X, stack_weights(X, H).mT, H, alpha=-1, out=buffer)
        left.append(buffer.square_().sum((1, 2)))
    return torch.stack(left, 1), total[:, None]


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


def largest_learned(ranks, limit):
    """Largest rank below a limit, or 0."""
    return max((k for k in ranks if k < limit), default=0)


def rows_that_fit(max_rows, n_features, ranks, dtype, device):
    """How many rows the memory lets components be learned from, at most ``max_rows``."""
    k = largest_learned(ranks, n_features)
    row_bytes = dtype.itemsize * (ROW_COPIES * padded(n_features) + STATE_COPIES * k)
    most = torch.inf if max_rows is None else max_rows
    n_rows = affordable(row_bytes, share=LEARNING_SHARE, most=most, device=device)
    return min(most, max(n_rows, 2 * k))


def path_bytes(n, q, ranks, itemsize):
    """Memory that the factorizations of one matrix take."""
    k = largest_learned(ranks, min(n, q))
    n, q = padded(n), padded(q)
    return itemsize * (ROW_COPIES * n * q + STATE_COPIES * k * (n + q))


def rows_to_learn_from(n, q, ranks, max_rows):
    """How many of a matrix's rows its components are learned from."""
    if max_rows is None:
        return n
    # A sample must show more directions than the components it is to teach.
    return min(n, max(max_rows, 2 * largest_learned(ranks, min(n, q))))


def learn_rows(X, q, ranks, n_ranks, solver, max_iter, tol, verbose):
    """Errors, components and iterations from rows ``X``, which are overwritten.

    The first ``q`` columns are the features. ``ranks`` are the first of ``n_ranks``; the
    others' errors are left at 0.
    """
    norm = X.flatten(1).norm(dim=1)[:, None, None]
    X.div_(torch.where(norm > 0, norm, 1))
    steps = learn_path(X, ranks, "admm" if solver == "auto" else solver, max_iter, tol)
    steps = tqdm(steps, "NMF path", len(ranks), unit="rank", disable=not verbose)
    errors = X.new_zeros(len(X), n_ranks)
    n_iter = torch.zeros(errors.shape, dtype=torch.int64, device="cpu")
    components = []
    for i, (H, error, iterations) in enumerate(steps):
        components.append(unit_rows(H[:, :, :q])[0])
        errors[:, i], n_iter[:, i] = error, iterations.cpu()
        settle()
    return errors, components, n_iter


def one_draw(random_state):
    """Make a function that draws a number in [0, 1] once, and only if it is asked for."""
    return cache(lambda: check_random_state(random_state).uniform())


def meet_exactly(X, n_rows, ranks, errors, components, n_iter):
    """Replace what was learned from padded matrices of no more true rows than a rank."""
    n_rows = torch.as_tensor(n_rows, device="cpu")
    for i, k in enumerate(ranks):
        exact = n_rows <= k
        components[i][exact] = exact_components(X[exact][:, :k], k)
        errors[exact, i], n_iter[exact, i] = 0, 0


def path_steps(
    stack, n_rows=None, *, ranks, max_rows, draw_offset, all_errors=True, **settings
):
    """:func:`nmf_path` of a :class:`MatrixStack`, in tensors.

    ``n_rows`` gives the number of true rows of every matrix where the others are
    zeros that only pad the stack, which must not be one to sample from; of any other,
    ``draw_offset`` gives the random number in [0, 1] that the sample needs. Without
    ``all_errors``, the errors are those of the rows that the components are learned from.

    Returns
    -------
    errors : tensor of shape (n_matrices, n_ranks)
    components : list of tensors of shape (n_matrices, k, n_features)
    n_iter : tensor of shape (n_matrices, n_ranks)
    """
    learned = [k for k in ranks if k < min(stack.n, stack.q)]
    n_drawn = rows_to_learn_from(stack.n, stack.q, ranks, max_rows)
    sampled = bool(learned) and stack.n > n_drawn
    group = group_size(stack.n, stack.n_matrices) if sampled else 0
    largest, energies = yield from checked_scale(stack, nonnegative=True, group=group)
    if sampled:
        X = aligned((yield from drawn_rows(energies, group, n_drawn, draw_offset())))
    else:
        rows = yield Take()
        X = aligned(rows)
        X = X / largest if X is rows else X.div_(largest)
        del rows
    errors, components, n_iter = learn_rows(X, stack.q, learned, len(ranks), **settings)
    X = X[:, : stack.n, : stack.q]
    if sampled:
        X = X[:, :0].clone()  # the rows themselves can go
        if all_errors:
            residuals = partial(
                residual_energies, largest=largest, components=tuple(components)
            )
            left, total = yield Fold(residuals, add, learned[-1], "errors")
            error = (left / total.clamp(min=FLOOR)).sqrt()
            errors[:, : len(learned)] = error.to(X.device)
    enforce_monotone(errors[:, : len(learned)], components)
    if len(learned) < len(ranks):
        X = (yield Take()) if stack.n < stack.q else X
        components += [exact_components(X, k) for k in ranks[len(learned) :]]
    if n_rows is not None:
        meet_exactly(X, n_rows, learned, errors, components, n_iter)
    return errors, components, n_iter

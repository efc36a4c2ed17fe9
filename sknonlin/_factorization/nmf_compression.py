"""A matrix at rank k by non-negative matrix factorization."""

import torch
from torch.nn import functional
from tqdm.auto import tqdm

from sknonlin._factorization.compiled import (
    cone_weights_compiled,
    context_for,
    energies_left_compiled,
    learn_path_compiled,
    serves,
    serves_cones,
    serves_gpu,
)
from sknonlin._factorization.compression import (
    Compression,
    add,
    cross_products,
    is_narrow,
    norms_left,
)
from sknonlin._factorization.method import N_FINAL_STEPS
from sknonlin._factorization.nnls import admm_update, project
from sknonlin._factorization.rank_path import learn_path
from sknonlin._matrices.products import (
    FLOOR,
    add_products,
    aligned,
    aligned_size,
    gram,
    products,
    unit_rows,
)
from sknonlin._matrices.row_sample import checked_scale, drawn_rows, group_size
from sknonlin._running.memory import COPIES, affordable, settle


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
    if serves_cones(G):
        return cone_weights_compiled(G, F)
    return admm_update(G, F, torch.zeros_like(F), N_FINAL_STEPS).clamp_(min=0)


def stack_weights(X, H):
    """Non-negative weights (b, k, n) of the rows of a stack ``X`` on the cones ``H``."""
    return cone_weights(gram(H), products(H, X.mT))


def residual_energies(block, largest, *components):
    """Squared norms of what the cones of every rank leave of a block, and its own."""
    if serves(block[:, :1], components):
        scale = 1 / largest.flatten().to(block)
        energies = energies_left_compiled(block, scale, list(components))
        return energies[:, 1:], energies[:, :1]
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
    row_bytes = dtype.itemsize * (
        COPIES["taught row"] * aligned_size(n_features) + COPIES["factor"] * k
    )
    most = torch.inf if max_rows is None else max_rows
    n_rows = affordable(row_bytes, "learning", "matrices", most=most, device=device)
    return min(most, max(n_rows, 2 * k))


def meet_exactly(X, n_rows, ranks, errors, components, n_iter):
    """Replace what was learned from padded matrices of no more true rows than a rank."""
    n_rows = torch.as_tensor(n_rows, device="cpu")
    for i, k in enumerate(ranks):
        exact = n_rows <= k
        components[i][exact] = exact_components(X[exact][:, :k], k)
        errors[exact, i], n_iter[exact, i] = 0, 0


def learn_rows(X, q, ranks, n_ranks, settings):
    """Errors, components and iterations from rows ``X``, which may be overwritten.

    The first ``q`` columns are the features. ``ranks`` are the first of ``n_ranks``; the
    others' errors are left at 0.
    """
    if settings.solver != "mu" and (serves(X, ranks) or serves_gpu(X, ranks)):
        return learn_small_rows(X, q, ranks, n_ranks, settings)
    norm = X.flatten(1).norm(dim=1)[:, None, None]
    X.div_(torch.where(norm > 0, norm, 1))
    solver = "admm" if settings.solver == "auto" else settings.solver
    steps = learn_path(X, ranks, solver, settings.max_iter, settings.tol)
    hidden = not settings.verbose
    steps = tqdm(steps, "NMF path", len(ranks), unit="rank", disable=hidden)
    errors = X.new_zeros(len(X), n_ranks)
    n_iter = torch.zeros(errors.shape, dtype=torch.int64, device="cpu")
    components = []
    for i, (H, error, iterations) in enumerate(steps):
        components.append(unit_rows(H[:, :, :q])[0])
        errors[:, i], n_iter[:, i] = error, iterations.cpu()
        settle()
    return errors, components, n_iter


def learn_small_rows(X, q, ranks, n_ranks, settings):
    """:func:`learn_rows` in compiled functions, which leave X as it is."""
    hidden = not settings.verbose
    with tqdm(desc="NMF path", total=len(X), unit="matrix", disable=hidden) as bar:
        components, found, iterations = learn_path_compiled(
            X.cpu(), ranks, settings.max_iter, settings.tol, bar.update
        )
    rest = n_ranks - len(ranks)
    settle()
    return (
        functional.pad(found, (0, rest)).to(X.device),
        [H[:, :, :q].to(X.device) for H in components],
        functional.pad(iterations, (0, rest)),
    )


class NMFCompression(Compression):
    """Rows on the non-negative cone that NMF learned at every rank."""

    name = "nmf"
    nonnegative = True

    def n_taught(self, n, q, ranks):
        """How many of a matrix's rows its components are learned from."""
        if self.settings.max_rows is None:
            return n
        # A sample must show more directions than the components it is to teach.
        return min(n, max(self.settings.max_rows, 2 * largest_learned(ranks, min(n, q))))

    def reads_all(self, n, q, ranks):
        """Whether learning from a matrix holds all its rows at once: none are drawn."""
        learns = largest_learned(ranks, min(n, q)) > 0
        return not learns or n <= max(ranks[-1], self.n_taught(n, q, ranks))

    def matrix_bytes(self, n, q, ranks, itemsize):
        """Memory that learning from one matrix takes."""
        n = self.n_taught(n, q, ranks)
        k = largest_learned(ranks, min(n, q))
        n, q = aligned_size(n), aligned_size(q)
        return itemsize * (COPIES["taught row"] * n * q + COPIES["factor"] * k * (n + q))

    def learn(self, stack, ranks, n_rows=None):
        """Learn from all matrices of a stack, as many together as the memory holds."""
        with context_for(stack.n_matrices * stack.n * stack.q, stack.device):
            return super().learn(stack, ranks, n_rows)

    def learn_together(self, stack, ranks, n_rows, offset):
        """:meth:`learn` from a stack for which there is memory."""
        learned = [k for k in ranks if k < min(stack.n, stack.q)]
        n_drawn = self.n_taught(stack.n, stack.q, ranks)
        sampled = bool(learned) and stack.n > n_drawn
        group = group_size(stack.n, stack.n_matrices) if sampled else 0
        largest, energies = checked_scale(stack, nonnegative=True, group=group)
        if sampled:
            X = aligned(drawn_rows(stack, energies, group, n_drawn, offset()))
        else:
            rows = stack.rows()
            X = aligned(rows)
            X = X / largest if X is rows else X.div_(largest)
            del rows
        errors, components, n_iter = learn_rows(
            X, stack.q, learned, len(ranks), self.settings
        )
        X = X[:, : stack.n, : stack.q]
        if sampled:
            X = X[:, :0].clone()  # the rows themselves can go
            if self.settings.all_errors:
                errors[:, : len(learned)] = errors_of_all(stack, largest, components)
        enforce_monotone(errors[:, : len(learned)], components)
        if len(learned) < len(ranks):
            X = stack.rows() if stack.n < stack.q else X
            components += [exact_components(X, k) for k in ranks[len(learned) :]]
        if n_rows is not None:
            meet_exactly(X, n_rows, learned, errors, components, n_iter)
        return errors, components, n_iter

    def stack_residuals(self, X, components):
        """Norms (b, m) of what each of the components (b, k, q) leaves of rows (m, q)."""
        F = cross_products(X, components)
        G = gram(components)
        Wt = cone_weights(G, F)
        if is_narrow(components):
            return norms_left(X, Wt, components)
        left = X.square().sum(1) + (torch.bmm(G, Wt) - 2 * F).mul_(Wt).sum(1)
        return left.clamp_(min=0).sqrt_()

    def approximate(self, X, components):
        """Approximate a stack ``X`` (b, m, q) with the components (b, k, q) of a rank."""
        return products(project(components, X), components)

    def approximate_as_learned(self, X, components):
        """Approximate with the weights that the errors of :meth:`learn` come from."""
        return products(stack_weights(X, components).mT, components)


def errors_of_all(stack, largest, components):
    """Relative errors (n_matrices, n_ranks) of all rows, in one pass over them."""
    arguments = (largest, *components)
    k = components[-1].shape[1]
    left, total = stack.fold(residual_energies, add, arguments, k, "errors")
    return (left / total.clamp(min=FLOOR)).sqrt().to(stack.device, stack.dtype)

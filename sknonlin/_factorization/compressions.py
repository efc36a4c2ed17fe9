"""A matrix at rank k by NMF, PCA or random ablation of units: one interface.

A compression learns from a stack of matrices one set of components for every rank,
and with them approximates rows, each on its own.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch.nn import functional
from tqdm.auto import tqdm

from sknonlin._factorization.compiled import (
    cone_weights_compiled,
    context_for,
    energies_left_compiled,
    learn_path_compiled,
    serves,
    serves_cones,
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
from sknonlin._running.memory import COPIES, affordable, in_parts, settle

#: Units up to which what is left of rows is computed itself: a difference of squares has
#: half the digits, and in narrow layers little is left.
NARROW = 16


@dataclass(frozen=True)
class Settings:
    """How compressions learn, as the parameters of ActivationNonlinearity say.

    Each compression reads those that concern it: PCA none, ablation ``n_draws`` and
    ``random_state``, NMF the others. Without ``all_errors``, the errors of NMF are those of
    the rows that the components are learned from.
    """

    solver: str = "auto"
    max_iter: int = 200
    tol: float = 2e-4
    max_rows: int | None = 4000
    n_draws: int = 10
    random_state: object = None
    verbose: int = 0
    all_errors: bool = True


@dataclass(frozen=True)
class Compression(ABC):
    """What approximates matrices at the ranks of a path."""

    name: ClassVar[str]
    nonnegative: ClassVar[bool] = False  # whether the matrices must be

    settings: Settings = field(default_factory=Settings)

    def changed(self, **settings):
        """Return the compression with other settings."""
        return replace(self, settings=replace(self.settings, **settings))

    def learn(self, stack, ranks, n_rows=None):
        """Learn from all matrices of a stack, as many together as the memory holds.

        Parameters
        ----------
        stack : MatrixStack or DaskStack
        ranks : list of int
        n_rows : list of int, default=None
            True rows of every matrix, where the others are zeros that pad it; it must not
            be one of which rows are drawn.

        Returns
        -------
        errors : tensor of shape (n_matrices, n_ranks)
        components : list of tensors of shape (n_matrices, k, n_features)
        n_iter : tensor of shape (n_matrices, n_ranks)
        """
        offset = one_draw(self.settings.random_state)
        matrix_bytes = self.matrix_bytes(stack.n, stack.q, ranks, stack.dtype.itemsize)
        results = []

        def learn(matrices):
            own = n_rows if n_rows is None else n_rows[matrices]
            results.append(self.learn_together(stack.part(matrices), ranks, own, offset))

        most = stack.most_together(matrix_bytes)
        step = affordable(
            matrix_bytes, "learning", "matrices", most=most, device=stack.device
        )
        in_parts(learn, stack.n_matrices, step)
        if len(results) == 1:
            return results[0]
        errors, components, n_iter = zip(*results, strict=True)
        components = [torch.cat(parts) for parts in zip(*components, strict=True)]
        return torch.cat(errors), components, torch.cat(n_iter)

    @abstractmethod
    def learn_together(self, stack, ranks, n_rows, offset):
        """:meth:`learn` from a stack for which there is memory.

        ``offset()`` is the random number in [0, 1] that a sample of rows needs.
        """

    @abstractmethod
    def matrix_bytes(self, n, q, ranks, itemsize):
        """Memory that learning from one matrix takes."""

    def reads_all(self, n, q, ranks):
        """Whether learning from a matrix holds all its rows at once."""
        return n <= q

    @staticmethod
    def exact(rank, n_rows, n_features):
        """Whether nothing is lost at a rank."""
        return rank >= min(n_rows, n_features)

    @abstractmethod
    def approximate(self, X, components):
        """Approximate a stack ``X`` (b, m, q) with the components (b, k, q) of a rank."""

    def approximate_as_learned(self, X, components):
        """Approximate a stack ``X`` (b, m, q) as for the errors of :meth:`learn`."""
        return self.approximate(X, components)

    def residuals(self, X, components):
        """Norms (b, m) of what is left of the rows of a stack ``X`` (b, m, q)."""
        return self.approximate(X, components).sub_(X).norm(dim=2)

    @abstractmethod
    def stack_residuals(self, X, components):
        """Norms (b, m) of what each of the components (b, k, q) leaves of rows (m, q)."""


def is_narrow(components):
    """Whether components (b, k, q) are about as many as units, or units are few."""
    return components.shape[2] <= max(NARROW, 2 * components.shape[1])


def norms_left(X, Wt, components):
    """Norms (b, m) of rows (m, q) without the components (b, k, q) by weights (b, k, m)."""
    rows = X.expand(len(components), -1, -1)
    return add_products(rows, Wt.mT, components, alpha=-1).norm(dim=2)


def one_draw(random_state):
    """Make a function that draws a number in [0, 1] once, and only if it is asked for."""
    return cache(lambda: check_random_state(random_state).uniform())


def add(first, second):
    """Sum two tensors, or two tuples of them."""
    if isinstance(first, torch.Tensor):
        return first + second
    return tuple(a + b for a, b in zip(first, second, strict=True))


def cross_products(X, components):
    """Inner products (b, k, m) of components (b, k, q) with the same rows (m, q)."""
    return (components.flatten(0, 1) @ X.T).reshape(*components.shape[:2], len(X))


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
    """Errors, components and iterations from rows ``X``, which are overwritten.

    The first ``q`` columns are the features. ``ranks`` are the first of ``n_ranks``; the
    others' errors are left at 0.
    """
    if settings.solver != "mu" and serves(X, ranks):
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
            X, ranks, settings.max_iter, settings.tol, bar.update
        )
    rest = n_ranks - len(ranks)
    settle()
    return (
        functional.pad(found, (0, rest)),
        [H[:, :, :q] for H in components],
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


# Principal axes, and ablation -------------------------------------------------------


def in_double(X, largest):
    """Rows over the largest value, in float64, on a device that has it."""
    X = X / largest.to(X.device)
    return (X.cpu() if X.device.type == "mps" else X).double()


def gram_of_units(block, largest):
    """Gram matrices (n_matrices, q, q) of the columns of a block, in float64.

    Singular values come from them: half the digits, so double ones.
    """
    X = in_double(block, largest)
    return torch.bmm(X.mT, X)


def unit_energies(block, largest):
    """Squared norms (n_matrices, q) of the columns of a block."""
    return (block / largest.to(block.device)).square_().sum(1)


class PCACompression(Compression):
    """Rows on their leading principal axes.

    The axes are those of the uncentred matrix, so that rank k means as many terms as
    in NMF, whose error at a rank this one's bounds from below (Eckart & Young).
    """

    name = "pca"

    def matrix_bytes(self, n, q, ranks, itemsize):
        """Memory that learning from one matrix takes."""
        rows = n * q if n <= q else 0
        return 8 * (4 * rows + COPIES["Gram matrix of PCA"] * min(n, q) ** 2)

    def learn_together(self, stack, ranks, n_rows, offset):
        """:meth:`learn` from a stack for which there is memory."""
        largest, _ = checked_scale(stack, nonnegative=False)
        limit = min(stack.n, stack.q)
        n_axes = min(ranks[-1], limit)
        if stack.n <= stack.q:
            X = in_double(stack.rows(), largest)
            energy, U = torch.linalg.eigh(torch.bmm(X, X.mT))
            axes = torch.bmm(U[:, :, -n_axes:].mT, X)
            axes /= axes.norm(dim=2, keepdim=True).clamp(min=FLOOR)
        else:
            G = stack.fold(gram_of_units, add, (largest,), stack.q, "PCA")
            energy, V = torch.linalg.eigh(G)
            axes = V.mT[:, -n_axes:]
        energy = energy.clamp(min=0)  # ascending
        # The axes of no energy are rounding errors; they must not count.
        longer = stack.heights.clamp(min=stack.q)[:, None].to(energy)
        noise = longer * torch.finfo(energy.dtype).eps * energy[:, -1:]
        kept = (energy > noise)[:, -n_axes:, None]
        axes = torch.where(kept, axes, 0).flip(1).to(stack.dtype).to(stack.device)
        tail = torch.cat([torch.zeros_like(energy[:, :1]), energy.cumsum(1)], 1)
        total = tail[:, -1:].clamp(min=FLOOR)
        left = [limit - min(k, limit) for k in ranks]
        errors = (tail[:, left] / total).sqrt().to(stack.dtype).to(stack.device)
        if n_rows is not None:
            n_rows = torch.as_tensor(n_rows, device="cpu")[:, None]
            errors[n_rows <= torch.as_tensor(ranks, device="cpu")] = 0
        components = []
        for k in ranks:
            component = axes.new_zeros(stack.n_matrices, k, stack.q)
            component[:, :limit] = axes[:, :k]
            components.append(component)
        return errors, components, torch.ones(errors.shape, dtype=torch.int64, device="cpu")

    def stack_residuals(self, X, components):
        """Norms (b, m) of what each of the components (b, k, q) leaves of rows (m, q)."""
        F = cross_products(X, components)
        if is_narrow(components):
            return norms_left(X, F, components)
        left = X.square().sum(1) - F.square_().sum(1)
        return left.clamp_(min=0).sqrt_()

    def approximate(self, X, components):
        """Approximate a stack ``X`` (b, m, q) with the components (b, k, q) of a rank."""
        return torch.bmm(torch.bmm(X, components.mT), components)


class AblationCompression(Compression):
    """Rows with all units but k set to zero (Morcos et al. 2018).

    The components of a rank are ``n_draws`` masks over the units, 1 where one is kept;
    units are removed in a random order, so the masks of growing ranks are nested.
    """

    name = "ablation"

    def matrix_bytes(self, n, q, ranks, itemsize):
        """Memory that learning from one matrix takes."""
        return itemsize * 4 * q * len(ranks)

    def reads_all(self, n, q, ranks):
        """Whether learning from a matrix holds all its rows at once."""
        return False

    def learn_together(self, stack, ranks, n_rows, offset):
        """:meth:`learn` from a stack for which there is memory."""
        largest, _ = checked_scale(stack, nonnegative=False)
        rng = check_random_state(self.settings.random_state)
        order = [rng.permutation(stack.q) for _ in range(self.settings.n_draws)]
        order = torch.from_numpy(np.stack(order)).to(stack.device)
        energy = stack.fold(unit_energies, add, (largest,), description="energies")
        energy = energy.to(stack.device)
        total = energy.sum(1).clamp(min=FLOOR)[:, None]
        errors, components = [], []
        for k in ranks:
            mask = (order.argsort(1) < k).to(stack.dtype)  # (n_draws, q)
            dropped = energy @ (1 - mask).T
            errors.append((dropped / total).sqrt().mean(1))
            components.append(mask.expand(stack.n_matrices, -1, -1))
        errors = torch.stack(errors, 1)
        return errors, components, torch.ones(errors.shape, dtype=torch.int64, device="cpu")

    @staticmethod
    def exact(rank, n_rows, n_features):
        """Whether nothing is lost at a rank."""
        return rank >= n_features

    def approximate(self, X, components):
        """Approximate a stack ``X`` (b, m, q) under the first mask of a rank."""
        return X * components[:, :1]

    def residuals(self, X, components):
        """Norms (b, m) of what is left of rows (b, m, q), averaged over the masks."""
        return torch.bmm(X.square(), (1 - components).mT).sqrt().mean(2)

    def stack_residuals(self, X, components):
        """Norms (b, m) of what each of the masks (b, n_draws, q) leaves of rows (m, q)."""
        return cross_products(X.square(), 1 - components).sqrt_().mean(1)


COMPRESSIONS = {
    kind.name: kind for kind in (NMFCompression, PCACompression, AblationCompression)
}


def make_compression(name, **settings):
    """Make the compression of that name, with :class:`Settings`."""
    return COMPRESSIONS[name](Settings(**settings))

"""A matrix at rank k by NMF, PCA or random ablation of units: one interface.

A compression learns from a stack of matrices one set of components for every rank,
and with them approximates rows, each on its own.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.utils import check_random_state

from sknonlin._cone import project
from sknonlin._passes import Fold, Take, add, learn_in_parts
from sknonlin._path_steps import (
    cone_weights,
    one_draw,
    path_bytes,
    path_steps,
    rows_to_learn_from,
    stack_weights,
)
from sknonlin._row_sample import checked_scale
from sknonlin._updates import FLOOR, gram, products

GRAM_COPIES = 5  # of a Gram matrix in float64, with its eigenvectors


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


def cross_products(X, components):
    """Inner products (b, k, m) of components (b, k, q) with the same rows (m, q)."""
    return (components.flatten(0, 1) @ X.T).reshape(*components.shape[:2], len(X))


class Compression:
    """What all compressions share: learning as many matrices at once as memory holds."""

    def learn(self, stack, ranks, n_rows=None):
        """Errors (n_matrices, n_ranks), components and iterations for every rank."""
        steps = partial(self.steps, ranks=ranks)
        matrix_bytes = self.matrix_bytes(stack.n, stack.q, ranks, stack.dtype.itemsize)
        return learn_in_parts(steps, stack, matrix_bytes, n_rows)

    def approximate_as_learned(self, X, components):
        """Approximate a stack ``X`` (b, m, q) as for the errors of :meth:`learn`."""
        return self.approximate(X, components)


class Projection(Compression):
    """What NMF and PCA share: a row's residual is what its approximation leaves."""

    def residuals(self, X, components):
        """Norms (b, m) of what is left of the rows of a stack ``X`` (b, m, q)."""
        return self.approximate(X, components).sub_(X).norm(dim=2)

    @staticmethod
    def exact(rank, n_rows, n_features):
        """Whether nothing is lost at a rank."""
        return rank >= min(n_rows, n_features)


@dataclass(frozen=True)
class NMFCompression(Projection):
    """Rows on the non-negative cone that NMF learned at every rank."""

    nonnegative = True

    solver: str = "auto"
    max_iter: int = 200
    tol: float = 2e-4
    max_rows: int | None = 4000
    random_state: object = None
    verbose: int = 0
    all_errors: bool = True

    def steps(self, stack, n_rows=None, *, ranks):
        """Learn from a stack, see :func:`run`."""
        settings = dict(vars(self))
        draw_offset = one_draw(settings.pop("random_state"))
        return path_steps(stack, n_rows, ranks=ranks, draw_offset=draw_offset, **settings)

    def matrix_bytes(self, n, q, ranks, itemsize):
        """Memory that learning from one matrix takes."""
        n = rows_to_learn_from(n, q, ranks, self.max_rows)
        return path_bytes(n, q, ranks, itemsize)

    @staticmethod
    def stack_residuals(X, components):
        """Norms (b, m) of what each of the components (b, k, q) leaves of rows (m, q)."""
        F = cross_products(X, components)
        G = gram(components)
        Wt = cone_weights(G, F)
        left = X.square().sum(1) + (torch.bmm(G, Wt) - 2 * F).mul_(Wt).sum(1)
        return left.clamp_(min=0).sqrt_()

    @staticmethod
    def approximate(X, components):
        """Approximate a stack ``X`` (b, m, q) with the components (b, k, q) of a rank."""
        W = project(gram(components), products(components, X.mT))
        return products(W, components)

    @staticmethod
    def approximate_as_learned(X, components):
        """Approximate with the weights that the errors of :meth:`learn` come from."""
        return products(stack_weights(X, components).mT, components)


@dataclass(frozen=True)
class PCACompression(Projection):
    """Rows on their leading principal axes.

    The axes are those of the uncentred matrix, so that rank k means as many terms as
    in NMF, whose error at a rank this one's bounds from below (Eckart & Young).
    """

    nonnegative = False

    def steps(self, stack, n_rows=None, *, ranks):
        """Learn from a stack, see :func:`run`."""
        largest, _ = yield from checked_scale(stack, nonnegative=False)
        limit = min(stack.n, stack.q)
        n_axes = min(ranks[-1], limit)
        if stack.n <= stack.q:
            X = in_double((yield Take()), largest)
            energy, U = torch.linalg.eigh(torch.bmm(X, X.mT))
            axes = torch.bmm(U[:, :, -n_axes:].mT, X)
            axes /= axes.norm(dim=2, keepdim=True).clamp(min=FLOOR)
        else:
            G = yield Fold(partial(gram_of_units, largest=largest), add, stack.q, "PCA")
            energy, V = torch.linalg.eigh(G)
            axes = V.mT[:, -n_axes:]
        energy = energy.clamp(min=0)  # ascending
        # The axes of no energy are rounding errors; they must not count.
        noise = max(stack.n, stack.q) * torch.finfo(energy.dtype).eps * energy[:, -1:]
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

    @staticmethod
    def matrix_bytes(n, q, ranks, itemsize):
        """Memory that learning from one matrix takes."""
        rows = n * q if n <= q else 0
        return 8 * (4 * rows + GRAM_COPIES * min(n, q) ** 2)

    @staticmethod
    def stack_residuals(X, components):
        """Norms (b, m) of what each of the components (b, k, q) leaves of rows (m, q)."""
        left = X.square().sum(1) - cross_products(X, components).square_().sum(1)
        return left.clamp_(min=0).sqrt_()

    @staticmethod
    def approximate(X, components):
        """Approximate a stack ``X`` (b, m, q) with the components (b, k, q) of a rank."""
        return torch.bmm(torch.bmm(X, components.mT), components)


@dataclass(frozen=True)
class AblationCompression(Compression):
    """Rows with all units but k set to zero (Morcos et al. 2018).

    The components of a rank are ``n_draws`` masks over the units, 1 where one is kept;
    units are removed in a random order, so the masks of growing ranks are nested.
    """

    nonnegative = False

    n_draws: int = 10
    random_state: object = None

    def steps(self, stack, n_rows=None, *, ranks):
        """Learn from a stack, see :func:`run`."""
        largest, _ = yield from checked_scale(stack, nonnegative=False)
        rng = check_random_state(self.random_state)
        order = np.stack([rng.permutation(stack.q) for _ in range(self.n_draws)])
        order = torch.from_numpy(order).to(stack.device)
        energy = yield Fold(partial(unit_energies, largest=largest), add, 0, "energies")
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
    def matrix_bytes(n, q, ranks, itemsize):
        """Memory that learning from one matrix takes."""
        return itemsize * 4 * q * len(ranks)

    @staticmethod
    def stack_residuals(X, components):
        """Norms (b, m) of what each of the masks (b, n_draws, q) leaves of rows (m, q)."""
        return cross_products(X.square(), 1 - components).sqrt_().mean(1)

    @staticmethod
    def approximate(X, components):
        """Approximate a stack ``X`` (b, m, q) under the first mask of a rank."""
        return X * components[:, :1]

    @staticmethod
    def exact(rank, n_rows, n_features):
        """Whether nothing is lost at a rank."""
        return rank >= n_features

    @staticmethod
    def residuals(X, components):
        """Norms (b, m) of what is left of rows (b, m, q), averaged over the masks."""
        return torch.bmm(X.square(), (1 - components).mT).sqrt().mean(2)


COMPRESSIONS = {
    "nmf": NMFCompression,
    "pca": PCACompression,
    "ablation": AblationCompression,
}


def make_compression(name, **settings):
    """Make the compression of that name, with those of the settings that it has."""
    kind = COMPRESSIONS[name]
    known = kind.__dataclass_fields__
    return kind(**{key: value for key, value in settings.items() if key in known})

"""What every compression is: one that learns from a stack, and approximates its rows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cache
from typing import ClassVar

import torch
from sklearn.utils import check_random_state

from sknonlin._matrices.products import add_products
from sknonlin._running.memory import affordable, in_parts

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

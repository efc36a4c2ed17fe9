"""A matrix at rank k by its principal axes."""

import torch

from sknonlin._factorization.compression import (
    Compression,
    add,
    cross_products,
    is_narrow,
    norms_left,
)
from sknonlin._matrices.products import FLOOR
from sknonlin._matrices.row_sample import checked_scale
from sknonlin._running.memory import COPIES


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

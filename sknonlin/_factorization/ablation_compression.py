"""A matrix of which k units are left."""

import numpy as np
import torch
from sklearn.utils import check_random_state

from sknonlin._factorization.compression import Compression, add, cross_products
from sknonlin._matrices.products import FLOOR
from sknonlin._matrices.row_sample import checked_scale


def unit_energies(block, largest):
    """Squared norms (n_matrices, q) of the columns of a block."""
    return (block / largest.to(block.device)).square_().sum(1)


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

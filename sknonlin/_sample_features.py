"""One row for every sample and layer: its activations, feature maps coarsely pooled."""

import numpy as np
import torch
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from sknonlin._layout import Layout
from sknonlin._replays import check_activations

MAX_FEATURES = 256  # of a feature map, to which its positions are pooled
ALL_FEATURES = 2**15  # the same over the classes, whose cones all have as many
INPUT = "input"
POOLS = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


class SampleFeatures:
    """Turn what a network makes of samples into rows, one for each sample and layer.

    The positions of a feature map are averaged over the cells of a regular grid, the
    finest that gives at most ``MAX_FEATURES`` numbers, and stay apart: where something is
    in an image tells classes from each other. The input counts as a layer where it is one
    floating-point tensor; its negative part, if it has one, becomes features of its own.

    Parameters
    ----------
    layers : "relu" or list of str
        The layers; the input is only there with ``"relu"``.
    n_classes : int
        With very many, feature maps are pooled more coarsely.
    dtype : torch.dtype
        Of all rows, as of :attr:`Network.row_dtype`.
    nonnegative : bool
        Whether the features must not be negative.
    """

    def __init__(self, layers, n_classes, dtype=torch.float32, *, nonnegative):
        self.layers = layers
        self.dtype = dtype
        self.nonnegative = nonnegative
        self.max_features = min(MAX_FEATURES, max(64, ALL_FEATURES // n_classes))
        self.grids = {}  # of the layers' maps, as they were first seen
        self.signed = True  # whether the input may have negative values

    def n_features(self, capture, batch):
        """Count the features of a sample in every layer, by name."""
        counts = {name: A.shape[1] for name, A in self.input_rows(batch).items()}
        for name, layer in capture.listed.items():
            layout = Layout.of(layer, capture.n_samples)
            if layout is not None:
                empty = torch.empty(layer.shape, device="meta")
                counts[name] = self._pooled(name, layout, empty).shape[1]
        return counts

    def rows(self, capture, batch, n_samples):
        """Rows (n_samples, n_features) by layer, and the network's output.

        A layer that the samples do not reach is left out.
        """
        found = self.input_rows(batch)
        tape, layouts = capture.record(batch, n_samples)
        for name, layout in layouts.items():
            A = tape.activations.pop(name).tensor
            check_activations(name, A, nonnegative=self.nonnegative)
            found[name] = self._pooled(name, layout, A)
        return found, tape.output

    def note_signs(self, rows):
        """Learn from all rows whether the input is signed, and return those that count."""
        if self.nonnegative and INPUT in rows:
            half = rows[INPUT].shape[1] // 2
            self.signed = bool(rows[INPUT][:, half:].any())
            if not self.signed:
                rows[INPUT] = rows[INPUT][:, :half]
        return rows

    def input_rows(self, batch):
        """Rows of the input, where it is a layer."""
        plain = isinstance(batch, torch.Tensor) and batch.is_floating_point()
        if self.layers != "relu" or not plain or batch.ndim < 2:
            return {}
        check_activations(INPUT, batch, nonnegative=False)
        A = self._pooled(INPUT, Layout(tuple(batch.shape), 0, 1, 1), batch)
        if self.nonnegative:
            positive, negative = A.clamp(min=0), A.neg().clamp_(min=0)
            A = torch.cat([positive, negative], 1) if self.signed else positive
        return {INPUT: A}

    def _pooled(self, name, layout, A):
        """Rows (n_samples, n_features) of a feature map."""
        rows = layout.rows(A).to(self.dtype)
        n, n_positions, n_units = rows.shape
        if n_positions == 1:
            return rows[:, 0]
        lengths = layout.position_lengths
        lengths = lengths if len(lengths) in POOLS else (n_positions,)
        if name not in self.grids:
            self.grids[name] = self._grid(lengths, n_units)
        maps = rows.mT.reshape(n, n_units, *lengths)
        return POOLS[len(lengths)](maps, self.grids[name]).flatten(1)

    def _grid(self, lengths, n_units):
        """Cells along every axis: all positions if they are few, else about as many."""
        cells = max(1, self.max_features // n_units)
        grid = {}
        for i, axis in enumerate(np.argsort(lengths)):
            side = int(cells ** (1 / (len(lengths) - i)) + 1e-9)
            grid[axis] = min(lengths[axis], side)
            cells //= grid[axis]
        return [int(grid[axis]) for axis in range(len(lengths))]


def sample_keys(batch, n_samples):
    """Give every sample a number, from the bits of its input whatever batch it is in.

    Equal inputs have equal numbers, and others practically never.
    """
    keys = np.zeros(n_samples, np.int64)
    for leaf in tree_leaves(batch):
        if isinstance(leaf, torch.Tensor) and leaf.ndim and len(leaf) == n_samples:
            bits = leaf.detach().cpu().contiguous().reshape(n_samples, -1)
            words = bits.view(torch.uint8).numpy()
            words = np.pad(words, [(0, 0), (0, -words.shape[1] % 8)]).view(np.int64)
            factors = np.random.default_rng(words.shape[1]).integers(
                -(2**63), 2**63, words.shape[1], dtype=np.int64
            )
            keys = keys * 31 + words @ (factors | 1)
    return keys

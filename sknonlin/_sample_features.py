"""One row for every sample and layer: its activations, feature maps coarsely pooled."""

import numpy as np
import torch
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from sknonlin._replays import check_activations
from sknonlin.activations import Capture, Layout, pass_samples

MAX_FEATURES = 256  # of a feature map, to which its positions are pooled
ALL_FEATURES = 2**15  # the same over the classes, whose cones all have as many
CACHED_ELEMENTS = 2**22  # activations of a pass that stay in a processor's cache
MIN_PASS = 16
INPUT = "input"
POOLS = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


class SampleFeatures:
    """Stream the rows of samples from every layer of a network, and from its input.

    A sample is one row in each layer. The positions of a feature map are averaged over
    the cells of a regular grid, the finest that gives at most ``MAX_FEATURES`` numbers,
    and stay apart: where something is in an image tells classes from each other. The
    input counts as a layer where it is one floating-point tensor; its negative part, if
    it has one, becomes features of its own.

    Parameters
    ----------
    layers : "relu" or list of str
        The layers; the input is only there with ``"relu"``.
    n_classes : int
        With very many, feature maps are pooled more coarsely.
    nonnegative : bool
        Whether the features must not be negative.
    """

    def __init__(self, layers, n_classes, *, nonnegative):
        self.layers = layers
        self.nonnegative = nonnegative
        self.max_features = min(MAX_FEATURES, max(64, ALL_FEATURES // n_classes))
        self.grids = {}
        self.signed = True  # whether the input may have negative values

    def stream(self, network, X, index, *, predict=False):
        """Yield blocks of samples: places in index, rows by layer, keys and predictions.

        A row is NaN where its sample does not reach the layer. The keys are numbers that
        depend on a sample's input alone; the predictions are None unless asked for.
        """
        n_listed = min(2, len(index))
        listed = network.take(X, index[:n_listed].tolist())
        with Capture(network, self.layers, listed, n_listed) as capture:
            n_block = pass_samples(capture)
            on_cpu = network.device.type == "cpu"
            n_pass = (
                max(MIN_PASS, pass_samples(capture, CACHED_ELEMENTS)) if on_cpu else n_block
            )
            for start in range(0, len(index), n_block):
                place = np.arange(start, min(start + n_block, len(index)))
                yield place, *self._block(capture, X, index[place], n_pass, predict)

    def _block(self, capture, X, index, n_pass, predict):
        """Rows, keys and predictions of samples, in passes of a few of them."""
        rows, keys, predicted = {}, np.zeros(len(index), np.int64), []
        for start in range(0, len(index), n_pass):
            place = slice(start, start + n_pass)
            batch = capture.network.take(X, index[place])
            n_samples = len(index[place])
            keys[place] = sample_keys(batch, n_samples)
            found = self._input_rows(batch)
            tape, layouts = capture.record(batch, n_samples)
            for name, layout in layouts.items():
                A = tape.activations.pop(name).tensor
                found[name] = self._pooled(name, layout, A)
            for name, A in found.items():
                if name not in rows:
                    rows[name] = A.new_full((len(index), A.shape[1]), torch.nan)
                rows[name][place] = A
            if predict:
                predicted.append(capture.network.codes(tape.output).cpu().numpy())
        return rows, keys, np.concatenate(predicted) if predict else None

    def gather(self, network, X, index):
        """Rows of samples by layer, and their keys; learn whether the input is signed."""
        gathered, keys = {}, np.zeros(len(index), np.int64)
        for place, rows, block_keys, _ in self.stream(network, X, index):
            keys[place] = block_keys
            for name, A in rows.items():
                if name not in gathered:
                    gathered[name] = A.new_full((len(index), A.shape[1]), torch.nan)
                gathered[name][place] = A
        if self.nonnegative and INPUT in gathered:
            half = gathered[INPUT].shape[1] // 2
            self.signed = bool(gathered[INPUT][:, half:].any())
            if not self.signed:
                gathered[INPUT] = gathered[INPUT][:, :half].clone()
        return gathered, keys

    def _input_rows(self, batch):
        """Rows of the input, where it is a layer."""
        plain = isinstance(batch, torch.Tensor) and batch.is_floating_point()
        if self.layers != "relu" or not plain or batch.ndim < 2:
            return {}
        layout = Layout(tuple(batch.shape), 0, 1, 1)
        A = self._pooled(INPUT, layout, batch)
        if self.nonnegative:
            positive, negative = A.clamp(min=0), A.neg().clamp_(min=0)
            A = torch.cat([positive, negative], 1) if self.signed else positive
        return {INPUT: A}

    def _pooled(self, name, layout, A):
        """Rows (n_samples, n_features) of a feature map, checked."""
        check_activations(name, A, nonnegative=self.nonnegative and name != INPUT)
        rows = layout.rows(A)
        rows = rows.float() if rows.dtype.itemsize < 4 else rows
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

"""Where samples and units are in the output of a layer; feature maps as matrices."""

from dataclasses import dataclass

import torch
from torch.utils._pytree import tree_leaves

#: Operations with their units on the second axis, and on the last.
SECOND = {
    "convolution",
    "_convolution",
    "mkldnn_convolution",
    "cudnn_convolution",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "native_group_norm",
}
LAST = {
    "addmm",
    "mm",
    "bmm",
    "baddbmm",
    "linear",
    "mkldnn_linear",
    "native_layer_norm",
    "_fused_rms_norm",
    "embedding",
    "mkldnn_rnn_layer",
    "_cudnn_rnn",
    "lstm",
    "gru",
}


class UnitAxes:
    """Follow the axis of the units through a forward pass.

    Parameters
    ----------
    place_of : callable
        What tells tensors apart.
    """

    def __init__(self, place_of):
        self.place_of = place_of
        self.axes = {}

    def of(self, tensor):
        """Axis of a tensor's units, or None where nothing told it."""
        return self.axes.get(self.place_of(tensor))

    def note(self, name, args, result):
        """Note an operation of this name."""
        leaf = next(iter(tree_leaves(result)), None)
        if not isinstance(leaf, torch.Tensor) or leaf.layout != torch.strided:
            return
        if name in SECOND:
            axis = 1
        elif name in LAST:
            axis = leaf.ndim - 1
        else:
            axis = self._carried(name, args, leaf)
        self.axes[self.place_of(leaf)] = axis

    def _carried(self, name, args, result):
        """Axis that a result has from the argument that is most like it."""
        best = None
        for tensor in tree_leaves(args):
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
                continue
            axis = self.of(tensor)
            if axis is not None and (best is None or tensor.numel() > best[0].numel()):
                best = tensor, axis
        if best is None:
            return None
        tensor, axis = best
        if name in ("permute", "transpose", "t"):
            order = list(range(tensor.ndim))
            if name == "permute":
                order = [d % tensor.ndim for d in args[1]]
            else:
                a, b = args[1:3] if name == "transpose" else (0, -1)
                order[a], order[b] = order[b], order[a]
            return order.index(axis)
        return same_axis(tensor.shape, axis, result.shape)


def same_axis(before, axis, after):
    """Where an axis went when a shape changed, or None where that is not plain."""
    if len(before) == len(after) and before[axis] == after[axis]:
        return axis
    if axis == len(before) - 1 and len(after) and before[-1] == after[-1]:
        return len(after) - 1
    if axis < len(after) and tuple(before[: axis + 1]) == tuple(after[: axis + 1]):
        return axis
    return None


@dataclass(frozen=True)
class Layout:
    """Where samples and units are in a layer's output: feature map to matrix and back.

    ``repeats`` counts the rows of every sample where the network joined the samples'
    axis with the one after it.
    """

    shape: tuple
    sample_axis: int
    repeats: int
    channel_axis: int

    @classmethod
    def of(cls, layer, n_samples, listed=None, n_listed=None):
        """Layout of a layer on ``n_samples``, or None where no axis is the samples'.

        ``listed`` is the layer on ``n_listed`` samples, which tells apart axes that
        happen to be as long as the batch.
        """
        shape = tuple(layer.shape)
        axes = [a for a, length in enumerate(shape) if length and length % n_samples == 0]
        if listed is not None and n_listed != n_samples and len(listed.shape) == len(shape):
            before = listed.shape
            axes = [a for a in axes if before[a] * n_samples == shape[a] * n_listed] or axes
            axes = [a for a in axes if before[a] != shape[a]]
        if not axes:
            return None
        exact = [a for a in axes if shape[a] == n_samples]
        sample_axis = exact[0] if exact else axes[0]
        last = len(shape) - 1
        channel_axis = layer.unit_axis
        if channel_axis is None:
            channel_axis = 1 if len(shape) > 3 else last
        if channel_axis == sample_axis:
            channel_axis = last if sample_axis != last else 0
        return cls(shape, sample_axis, shape[sample_axis] // n_samples, channel_axis)

    def rows(self, A):
        """Give a feature map (n, ...) as (n, n_positions, n_units), a view if it can be."""
        if len(self.shape) == 1:
            return A.reshape(-1, self.repeats, 1)
        A = A.movedim((self.sample_axis, self.channel_axis), (0, -1))
        return A.reshape(len(A) // self.repeats, -1, A.shape[-1])

    @property
    def position_lengths(self):
        """Lengths of the axes whose places are the positions, slowest first."""
        lengths = [] if self.repeats == 1 else [self.repeats]
        for axis, length in enumerate(self.shape):
            if axis not in (self.sample_axis, self.channel_axis):
                lengths.append(length)
        return tuple(lengths)

    def restore(self, rows):
        """Give rows (n, n_positions, n_units) as the feature map that they were."""
        if len(self.shape) == 1:
            return rows.reshape(self.shape)
        moved = list(self.shape)
        samples, channels = moved[self.sample_axis], moved[self.channel_axis]
        for axis in sorted((self.sample_axis, self.channel_axis), reverse=True):
            del moved[axis]
        A = rows.reshape(samples, *moved, channels)
        return A.movedim((0, -1), (self.sample_axis, self.channel_axis))

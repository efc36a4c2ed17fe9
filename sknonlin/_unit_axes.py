"""On which axis a tensor has its units: known after some operations, and carried on."""

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

"""Follow the samples and the units through the operations of a forward pass.

The places of an axis are counted by digits: an axis on which a view joined 5 samples and
3 steps has the digits (5, 3). Every digit is labelled: it counts samples, units (channels,
features), or positions. Views split and join digits, other operations hand them on.
"""

import math
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_leaves

SAMPLE, UNIT, POSITION = "sample", "unit", "position"


class Digit(NamedTuple):
    """What a part of an axis counts; ``step`` samples from one place to the next."""

    label: str
    length: int
    step: int = 0


def positions(shape):
    """Axes of which nothing is known."""
    return tuple((Digit(POSITION, length),) for length in shape)


def joined(digits):
    """Digits of an axis, of which neighbours that count alike are one."""
    found = []
    for digit in digits:
        last = found[-1] if found else None
        alike = last is not None and last.label == digit.label
        if alike and (last.label != SAMPLE or last.step == digit.step * digit.length):
            found[-1] = Digit(digit.label, last.length * digit.length, digit.step)
        else:
            found.append(digit)
    return tuple(found)


def has(label, axis):
    """Whether an axis has a digit of a label."""
    return any(digit.label == label for digit in axis)


def without_units(axis):
    """Digits of an axis whose units are those of what was multiplied."""
    return joined([d._replace(label=POSITION) if d.label == UNIT else d for d in axis])


def of_units(axis):
    """Digits of an axis of which all but the samples are units."""
    return joined([d if d.label == SAMPLE else d._replace(label=UNIT) for d in axis])


def viewed(axes, shape):
    """Digits of the same elements, in the same order, in another shape."""
    left = [digit for axis in axes for digit in axis if digit.length != 1]
    found = []
    for length in reversed(shape):
        own, need = [], length
        while need > 1 and left:
            label, n, step = left.pop()
            inner = math.gcd(n, need)
            if inner != min(n, need):
                return positions(shape)
            if inner < n:
                left.append(Digit(label, n // inner, step * inner))
            own.append(Digit(label, inner, step))
            need //= inner
        found.append(joined(own[::-1]) or (Digit(POSITION, length),))
    return tuple(found[::-1])


def resized(axis, length):
    """Digits of an axis of which other places were taken."""
    units = len(axis) == 1 and axis[0].label == UNIT
    return (Digit(UNIT if units else POSITION, length),)


def carried(axes, before, shape):
    """Digits of axes that stay where they are, of which lengths may change."""
    return tuple(
        axis if old == new else resized(axis, new)
        for axis, old, new in zip(axes, before, shape, strict=True)
    )


class Call:
    """One operation: its arguments by name, and the axes of its tensors."""

    def __init__(self, known, function, args, kwargs):
        self.known, self.args, self.kwargs = known, args, kwargs
        self.names = [argument.name for argument in function._schema.arguments]

    def argument(self, name, default=None):
        """Value of an argument, or the default where it was not given."""
        if name in self.names:
            place = self.names.index(name)
            if place < len(self.args):
                return self.args[place]
        return self.kwargs.get(name, default)

    def dims(self, ndim):
        """Axes that the argument ``dim`` names; None without one."""
        dim = self.argument("dim")
        if isinstance(dim, int):
            dim = [dim]
        return None if dim is None else sorted(d % ndim for d in dim)

    def tensors(self):
        """Tensors among the arguments, the largest first."""
        leaves = tree_leaves((self.args, self.kwargs))
        found = [t for t in leaves if isinstance(t, torch.Tensor)]
        return sorted(found, key=lambda t: -t.numel())

    def axes(self, tensor):
        """Digits of a tensor's axes."""
        return self.known(tensor)


# What operations do: a rule gets the call and one result, and gives the result's axes.


def broadcast(call, result):
    """Axes of results that are computed place by place, or reduced along some axes."""
    found = [(Digit(POSITION, length),) for length in result.shape]
    told = [False] * result.ndim
    for tensor in call.tensors():
        axes = call.axes(tensor)
        if tensor.ndim > result.ndim:
            axes = reduced(call, tensor, result)
            shape = result.shape
        else:
            shape = tensor.shape
        if axes is None:
            continue
        first = result.ndim - len(shape)
        for place, (axis, length) in enumerate(zip(axes, shape, strict=True), first):
            if told[place] or not (has(SAMPLE, axis) or has(UNIT, axis)):
                continue
            if length == result.shape[place]:
                found[place], told[place] = axis, True
            elif length != 1 or call.argument("dim") is not None:
                found[place], told[place] = resized(axis, result.shape[place]), True
    return tuple(found)


def reduced(call, tensor, result):
    """Axes that are left when some are reduced; None where that is not plain."""
    dims = call.dims(tensor.ndim)
    axes = call.axes(tensor)
    if dims is not None and tensor.ndim - len(dims) == result.ndim:
        kept = [place for place in range(tensor.ndim) if place not in dims]
        if [tensor.shape[place] for place in kept] == list(result.shape):
            return tuple(axes[place] for place in kept)
    if math.prod(tensor.shape) == math.prod(result.shape):
        return viewed(axes, result.shape)
    return None


def view(call, result):
    """Axes of a view with another shape."""
    tensor = call.args[0]
    if tuple(tensor.shape) == tuple(result.shape):
        return call.axes(tensor)
    return viewed(call.axes(tensor), result.shape)


def unsqueeze(call, result):
    """Axes with one more, of length 1."""
    axes = list(call.axes(call.args[0]))
    axes.insert(call.args[1] % result.ndim, (Digit(POSITION, 1),))
    return tuple(axes)


def squeeze(call, result):
    """Axes without those of length 1, or without those named."""
    tensor = call.args[0]
    dims = call.dims(tensor.ndim)
    dropped = range(tensor.ndim) if dims is None else dims
    kept = [d for d in range(tensor.ndim) if d not in dropped or tensor.shape[d] != 1]
    axes = call.axes(tensor)
    return tuple(axes[place] for place in kept)


def permute(call, result):
    """Axes in another order."""
    axes = call.axes(call.args[0])
    return tuple(axes[d % len(axes)] for d in call.args[1])


def transpose(call, result):
    """Axes of which two change places."""
    axes = list(call.axes(call.args[0]))
    if len(axes) > 1:
        a, b = (call.args[1], call.args[2]) if len(call.args) > 2 else (0, 1)
        axes[a], axes[b] = axes[b], axes[a]
    return tuple(axes)


def select(call, result):
    """Axes without the one of which a place was taken."""
    axes = list(call.axes(call.args[0]))
    del axes[call.argument("dim", 0)]
    return tuple(axes)


def product(call, result, first="self", second="mat2"):
    """Axes of a product of matrices: rows of the one, and units in place of columns.

    Where weights are on the left, and units of samples on the right, it is the rows that
    are units.
    """
    left, right = call.axes(call.argument(first)), call.axes(call.argument(second))
    of_samples = any(has(SAMPLE, axis) for axis in right)
    if of_samples and not any(has(SAMPLE, axis) for axis in left):
        *batch, summed, columns = right
        if has(SAMPLE, columns) or has(UNIT, summed):
            units = (Digit(UNIT, result.shape[-2]),)
            return (*map(without_units, batch), units, without_units(columns))
        left = (*batch, *left[len(batch) :])
    return (*map(without_units, left[:-1]), (Digit(UNIT, result.shape[-1]),))


def added_product(call, result):
    """Axes of a product to which something is added."""
    names = ("mat1", "mat2") if "mat1" in call.names else ("batch1", "batch2")
    return product(call, result, *names)


def last_units(call, result):
    """Units on the last axis, all others as they were."""
    name = "indices" if "indices" in call.names else call.names[0]
    axes = call.axes(call.argument(name))
    axes = axes if name == "indices" else axes[:-1]
    if len(axes) != result.ndim - 1:
        axes = positions(result.shape[:-1])
    return (*map(without_units, axes), (Digit(UNIT, result.shape[-1]),))


def convolution(call, result):
    """Keep the samples; the second axis is that of the units."""
    first = without_units(call.axes(call.args[0])[0])
    return (first, (Digit(UNIT, result.shape[1]),), *positions(result.shape[2:]))


def normalized(place):
    """Give the rule of norms: all as it was, but for the axis that has the units.

    Units that are known elsewhere stay. On the axis itself, all are units, as the heads of
    an attention are that are channels again.
    """

    def rule(call, result):
        tensor = call.args[0]
        if tensor.shape != result.shape:  # the statistics
            return positions(result.shape)
        axes = list(call.axes(tensor))
        where = place(call, result)
        if has(UNIT, axes[where]) or not any(has(UNIT, axis) for axis in axes):
            axes[where] = of_units(axes[where])
        return tuple(axes)

    return rule


def normalized_axis(call, result):
    """First of the axes that a layer norm is over."""
    shape = call.argument("normalized_shape", [1])
    return result.ndim - len(shape)


def cat(call, result):
    """Axes of tensors that are joined along one."""
    tensors = [t for t in call.args[0] if t.ndim == result.ndim]
    dim = call.argument("dim", 0) % result.ndim
    largest = max(tensors, key=lambda t: any(has(UNIT, axis) for axis in call.axes(t)))
    axes = list(call.axes(largest))
    own = [call.axes(t)[dim] for t in tensors]
    length = result.shape[dim]
    if any(has(SAMPLE, axis) for axis in own):
        same = all(axis == own[0] for axis in own)
        axes[dim] = (Digit(POSITION, len(own)), *own[0]) if same else None
    elif any(has(UNIT, axis) for axis in own):
        axes[dim] = (Digit(UNIT, length),)
    else:
        axes[dim] = None
    axes[dim] = axes[dim] or (Digit(POSITION, length),)
    return tuple(axes)


def stack(call, result):
    """Axes of tensors that are joined along a new one."""
    axes = list(call.axes(max(call.args[0], key=lambda t: t.numel())))
    dim = call.argument("dim", 0) % result.ndim
    axes.insert(dim, (Digit(POSITION, result.shape[dim]),))
    return tuple(axes)


def repeat(call, result):
    """Axes of a tensor that is repeated."""
    tensor, times = call.args[0], call.args[1]
    axes = [(Digit(POSITION, 1),)] * (result.ndim - tensor.ndim) + [*call.axes(tensor)]
    found = []
    for axis, n, length in zip(axes, times, result.shape, strict=True):
        if n == 1:
            found.append(axis)
        elif has(SAMPLE, axis):
            found.append(joined([Digit(POSITION, n), *axis]))
        else:
            label = UNIT if has(UNIT, axis) else POSITION
            found.append((Digit(label, length),))
    return tuple(found)


def index(call, result):
    """Axes of which places are taken by tensors of numbers, or by masks."""
    tensor, indices = call.args[0], call.args[1]
    axes, found = call.axes(tensor), []
    given = [i for i in indices if i is not None]
    if len(given) != 1 or given[0].dtype in (torch.bool, torch.uint8):
        return positions(result.shape)
    for place, axis in enumerate(axes):
        if place < len(indices) and indices[place] is not None:
            shape = indices[place].shape
            found += [resized(axis, shape[0])] if len(shape) == 1 else positions(shape)
        else:
            found.append(axis)
    return tuple(found)


def unfold(call, result):
    """Axes of windows, whose places are a new last one."""
    tensor = call.args[0]
    axes = carried(call.axes(tensor), tensor.shape, result.shape[:-1])
    return (*axes, *positions(result.shape[-1:]))


def patches(call, result):
    """Axes of patches as columns, and back: units on the second."""
    if result.ndim < 3:
        return positions(result.shape)
    return convolution(call, result)


RULES = {
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape"), view),
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "permute": permute,
    **dict.fromkeys(("transpose", "t"), transpose),
    **dict.fromkeys(("select", "unbind"), select),
    **dict.fromkeys(("mm", "bmm"), product),
    **dict.fromkeys(("addmm", "baddbmm", "_addmm_activation"), added_product),
    **dict.fromkeys(
        (
            *("linear", "mkldnn_linear", "embedding"),
            *("mkldnn_rnn_layer", "_cudnn_rnn", "_thnn_fused_lstm_cell"),
        ),
        last_units,
    ),
    **dict.fromkeys(
        (
            *("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution"),
            *("convolution_overrideable", "cudnn_convolution_transpose"),
            *("cudnn_convolution_relu", "cudnn_convolution_add_relu"),
        ),
        convolution,
    ),
    **dict.fromkeys(
        (
            *("native_batch_norm", "_native_batch_norm_legit", "_batch_norm_no_update"),
            *("_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
            *("_batch_norm_with_update", "miopen_batch_norm", "native_group_norm"),
        ),
        normalized(lambda call, result: 1),
    ),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), normalized(normalized_axis)),
    "cat": cat,
    "stack": stack,
    "repeat": repeat,
    "index": index,
    "unfold": unfold,
    **dict.fromkeys(("im2col", "col2im"), patches),
    "as_strided": lambda call, result: positions(result.shape),
}


class Axes:
    """Follow the axes of all tensors of a forward pass.

    Parameters
    ----------
    place_of : callable
        What tells tensors apart.
    """

    def __init__(self, place_of):
        self.place_of = place_of
        self.known = {}

    def start(self, batch, n_samples):
        """Note the samples that go in, one for each place of the first axis."""
        for leaf in tree_leaves(batch):
            if is_dense(leaf) and leaf.ndim and len(leaf) == n_samples:
                rest = positions(leaf.shape[1:])
                self.known[self.place_of(leaf)] = ((Digit(SAMPLE, n_samples, 1),), *rest)

    def of(self, tensor):
        """Digits of a tensor's axes."""
        found = self.known.get(self.place_of(tensor)) if is_dense(tensor) else None
        return positions(tensor.shape) if found is None else found

    def note(self, function, args, kwargs, results):
        """Note what an operation gave."""
        call = Call(self.of, function, args, kwargs)
        name = function.overloadpacket.__name__
        rule = RULES.get(name.rstrip("_") if name.endswith("_") else name, broadcast)
        noted = []
        for result in tree_leaves(results):
            if is_dense(result):
                noted.append((self.place_of(result), followed(rule, call, result)))
        self.known.update(noted)


def followed(rule, call, result):
    """Digits of a result by a rule; unknown ones where it does not fit."""
    try:
        axes = rule(call, result)
    except (AttributeError, IndexError, TypeError, ValueError):
        return positions(result.shape)  # arguments of another kind
    lengths = tuple(math.prod(digit.length for digit in axis) for axis in axes)
    return tuple(axes) if lengths == tuple(result.shape) else positions(result.shape)


def is_dense(tensor):
    """Whether a value is a tensor whose elements are places of its axes."""
    return isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided

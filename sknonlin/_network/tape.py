"""Forward passes on tape: recorded once, and run again from a layer on.

Recording notes every operation that a network runs (below autograd, so functional,
in-place and scripted calls look alike). Running again from a layer on does not compute
what came before it: those operations are answered with empty tensors of their shapes,
or, where the rest reads them (a skip connection), with what they gave when recorded.
"""

import math
from bisect import bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

# Reads of a tensor's memory that no operation shows.
HIDDEN_READS = {
    torch.Tensor.numpy,
    torch.Tensor.tolist,
    torch.Tensor.__array__,
    torch.Tensor.__dlpack__,
}


class DivergedError(RuntimeError):
    """A network did other operations than when it was recorded."""


@dataclass
class Kept:
    """A tensor kept because something after a layer reads it."""

    tensor: torch.Tensor
    read_at: int
    shared: bool = True  # with the network's own memory, which it does not change


@dataclass(eq=False)
class Layer:
    """A call that can be replaced: an activation of the network."""

    name: str
    position: int
    shape: tuple
    axes: tuple
    resumable: bool = True
    signed: bool = False  # whether it may have negative values, as calls of GELU have


@dataclass(eq=False)
class Tape:
    """The operations of one forward pass, and its layers by name."""

    calls: list = field(default_factory=list)  # (function, description of the result)
    kept: dict = field(default_factory=lambda: defaultdict(list))
    layers: dict = field(default_factory=dict)
    activations: dict = field(default_factory=dict)
    found: list = field(default_factory=list)
    gated: dict = field(default_factory=dict)  # positions of products with activations
    parts: set = field(default_factory=set)  # names of layers that are part of others
    replaced: dict = field(default_factory=dict)  # values that layers were given
    hidden_reads: bool = False
    output: object = None
    shares: bool = False  # whether the output is what a sigmoid gave

    def kept_for(self, position, leaf, target):
        """Return the tensor that a call gave to whoever reads it after ``target``."""
        for kept in self.kept.get((position, leaf), ()):
            if kept.read_at > target:
                return kept.tensor.detach() if kept.shared else kept.tensor.clone()
        return None


@cache
def is_composite(function):
    """Whether an operation is made of others."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(
        function.name(), "CompositeImplicitAutograd"
    )


@cache
def written_arguments(function):
    """Positions and names of the arguments that an operation writes to."""
    return [
        (i, argument.name)
        for i, argument in enumerate(function._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def written_tensors(function, args, kwargs):
    """Tensors that a call writes to."""
    if not function._schema.is_mutable:
        return []
    found = [
        args[i] if i < len(args) else kwargs.get(name)
        for i, name in written_arguments(function)
    ]
    return [t for t in tree_leaves(found) if isinstance(t, torch.Tensor)]


def strided_tensors(nested):
    """Dense tensors among the arguments of a call."""
    leaves = tree_leaves(nested)
    return [t for t in leaves if isinstance(t, torch.Tensor) and t.layout == torch.strided]


def storage_of(tensor):
    return tensor.untyped_storage()._cdata


def place_of(tensor):
    """Tell tensors apart by the memory that they show."""
    return (
        storage_of(tensor),
        tensor.storage_offset(),
        tensor.shape,
        tensor.stride(),
        tensor.is_conj(),
        tensor.is_neg(),
    )


@dataclass
class Origins:
    """Calls whose results show one place: (position, leaf) of each."""

    made: list = field(default_factory=list)
    written: list = field(default_factory=list)

    @property
    def last_change(self):
        """Until when a change through another place is known to be in it."""
        if len(self.made) > 1:  # several tensors, which a replay cannot keep as one
            return min(self.made)[0]
        return max(self.made + self.written)[0]


def describe(result):
    """Describe what is needed to answer a call with a result of the same kind.

    Dense floating-point tensors are told by their shapes. Numbers and masks are kept as
    they are, because programs read them where no operation shows it; but not indices
    beside values of the same shape, as those of pooling.
    """
    leaves, structure = tree_flatten(result)
    return structure, [
        shown(leaf, leaves[0])
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided
        else leaf
        for leaf in leaves
    ]


def shown(leaf, first):
    """Tell of a dense tensor what is kept, given the first that the call gave."""
    of_values = isinstance(first, torch.Tensor) and first.is_floating_point()
    if leaf.is_floating_point() or (of_values and leaf.shape == first.shape):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device
    return leaf.detach().clone()


def shape_of(kept):
    """Shape of what :func:`shown` kept of a tensor."""
    return kept[0] if isinstance(kept, tuple) else getattr(kept, "shape", None)


def numbers_in(call):
    """Count the numbers that a recorded call computed: none, if it gave a view."""
    function, (_, leaves) = call
    if getattr(function, "is_view", False):  # which operations of higher order lack
        return 0
    shapes = [shape_of(leaf) for leaf in leaves]
    return sum(math.prod(shape) for shape in shapes if shape is not None)


def like(value, tensor_shape, tensor_stride):
    """``value`` with the memory layout that the network expects."""
    value = value.reshape(tensor_shape)
    if value.stride() == tensor_stride:
        return value
    return torch.empty_strided(
        tensor_shape, tensor_stride, dtype=value.dtype, device=value.device
    ).copy_(value)


class HiddenReads(TorchFunctionMode):
    """Note on the tape that the network reads tensors behind its back."""

    def __init__(self, tape):
        super().__init__()
        self.tape = tape

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in HIDDEN_READS:
            self.tape.hidden_reads = True
        return function(*args, **(kwargs or {}))


class Recorder(TorchDispatchMode):
    """Put the operations of a forward pass on tape.

    Parameters
    ----------
    find_layer : callable
        ``find_layer(function, args, kwargs, result, position)`` gives the
        :class:`Layer` that a call is, or None.
    resume : (Tape, Layer, tensor) or None
        Run again what this tape has, from the layer on, which gives the tensor.
    record : bool
        False notes nothing but the output.
    before_write : callable
        Is told of the tensors that an operation is about to write to.
    """

    def __init__(self, find_layer, resume=None, record=True, before_write=None):
        super().__init__()
        self.before_write = before_write
        self.tape = Tape()
        self.find_layer = find_layer
        self.source, self.target, self.value = resume or (None, None, None)
        if resume is not None:
            self.tape.replaced = {**self.source.replaced, self.target.name: self.value}
        self.skips = resume is not None and self.target.resumable
        self.skips = self.skips and not self.source.hidden_reads
        self.record = record
        self.replaced = resume is None
        self.position = -1
        self.layer_positions = []
        self.made = {}  # place of a tensor -> Origins
        self.changed = {}  # storage -> position of the last call that wrote to it
        self.kept_in = defaultdict(list)  # storage -> what is kept of it

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if is_composite(function):  # which arrives whole in torch.inference_mode
            with self:
                result = function.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        self.position += 1
        written = written_tensors(function, args, kwargs)
        if written:
            self.before_write(written)
        if self.skips:
            self._check(function)
            if self.position < self.target.position:
                return self._answer(written)
        if self.record:
            self._note_reads(args, kwargs)
            self._note_writes(written)
        if self.skips and self.position == self.target.position:
            result = self._replace(written)
        else:
            result = function(*args, **kwargs)
            if self.skips:
                self._check_shapes(result)
        layer = self.find_layer(function, args, kwargs, result, self.position)
        if layer is not None:
            self.overwrite(layer, result)
        if self.record:
            self._note_result(function, (args, kwargs), result, written)
            if layer is not None:
                self.add_layer(layer, tree_leaves(result)[0])
        return result

    def run(self, forward):
        """Run ``forward()`` and return the tape with its output."""
        with HiddenReads(self.tape), self:
            self.tape.output = forward()
        if not self.replaced:
            raise DivergedError(
                f"The network did not reach layer {self.target.name!r} again on the same "
                "samples: its forward pass is not deterministic in eval mode."
            )
        return self.tape

    def overwrite(self, layer, result):
        """Replace what a layer gave, where the pass does not begin there."""
        if self.skips or layer.name not in self.tape.replaced:
            return
        tree_leaves(result)[0].copy_(self.tape.replaced[layer.name])
        self.replaced |= layer.name == self.target.name

    # Before the layer -------------------------------------------------------------

    def _check(self, function):
        calls = self.source.calls
        if self.position >= len(calls) or calls[self.position][0] is not function:
            raise DivergedError(
                f"The network ran {function} where it ran something else before, on the "
                "same samples: its forward pass is not deterministic in eval mode."
            )

    def _check_shapes(self, result):
        recorded = self.source.calls[self.position][1][1]
        for leaf, before in zip(tree_leaves(result), recorded, strict=False):
            if isinstance(leaf, torch.Tensor) and shape_of(before) != leaf.shape:
                raise DivergedError(
                    f"The network made a tensor of shape {tuple(leaf.shape)} where it made "
                    "another one before, on the same samples."
                )

    def _answer(self, written):
        """Answer a call before the layer, without running it."""
        call = self.source.calls[self.position]
        structure, leaves = call[1]
        kept = [
            self.source.kept_for(self.position, i, self.target.position)
            for i in range(len(leaves))
        ]
        if written:
            if kept and kept[0] is not None:
                written[0].data = kept[0]
            elif leaves and isinstance(leaves[0], torch.Tensor):
                written[0].data = leaves[0].clone()
            answers = written[: len(leaves)]
        else:
            answers = [
                self._tensor(leaf) if tensor is None else tensor
                for tensor, leaf in zip(kept, leaves, strict=True)
            ]
        if self.record:
            self.tape.calls.append(call)
            for i, (answer, tensor) in enumerate(zip(answers, kept, strict=False)):
                if tensor is not None:
                    origins = self.made.setdefault(place_of(answer), Origins())
                    origins.made.append((self.position, i))
        return tree_unflatten(answers, structure)

    @staticmethod
    def _tensor(leaf):
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
            return leaf.clone()  # the network may write to it
        if not isinstance(leaf, tuple):
            return leaf
        shape, stride, dtype, device = leaf
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)

    # At the layer -----------------------------------------------------------------

    def _replace(self, written):
        self.replaced = True
        structure, leaves = self.source.calls[self.position][1]
        shape, stride, *_ = leaves[0]
        value = like(self.value, shape, stride)
        if written:
            written[0].data = value
            value = written[0]
        elif value is self.value:
            value = value.clone()  # the network may write to it
        return tree_unflatten([value, *map(self._tensor, leaves[1:])], structure)

    # What the rest will read ------------------------------------------------------

    def _note_reads(self, args, kwargs):
        if not self.layer_positions:
            return
        last = self.layer_positions[-1]
        for tensor in strided_tensors((args, kwargs)):
            origins = self.made.get(place_of(tensor))
            if origins is None:
                continue
            changed = self.changed.get(storage_of(tensor), -1)
            self._note_aliases(origins.last_change, changed)
            for origin in origins.made + origins.written:
                kept = self.tape.kept[origin] if origin[0] < last else None
                if kept is not None and (not kept or kept[-1].read_at < last):
                    kept.append(Kept(tensor, self.position))
                    self.kept_in[storage_of(tensor)].append(kept[-1])

    def _note_aliases(self, made_at, changed_at):
        """Layers whose effect reaches a tensor through memory that it shares."""
        if changed_at <= made_at:
            return
        first = bisect_right(self.layer_positions, made_at)
        end = bisect_right(self.layer_positions, changed_at)
        affected = set(self.layer_positions[first:end])
        for layer in self.tape.layers.values():
            if layer.position in affected:
                layer.resumable = False

    def _note_writes(self, written):
        for tensor in written:
            for kept in self.kept_in.pop(storage_of(tensor), ()):
                kept.tensor, kept.shared = kept.tensor.clone(), False

    def _note_result(self, function, args, result, written):
        self.tape.calls.append((function, describe(result)))
        for tensor in written:
            self.changed[storage_of(tensor)] = self.position
            origins = self.made.setdefault(place_of(tensor), Origins())
            origins.written.append((self.position, 0))
        if written:
            return
        given = {storage_of(t) for t in strided_tensors(args)}
        for i, leaf in enumerate(tree_leaves(result)):
            if not isinstance(leaf, torch.Tensor) or leaf.layout != torch.strided:
                continue
            place = place_of(leaf)
            if place not in self.made or storage_of(leaf) not in given:
                self.made[place] = Origins()  # memory of its own
            self.made[place].made.append((self.position, i))

    def add_layer(self, layer, activation):
        """Note a layer, and its activation until the end of the pass."""
        self.tape.layers[layer.name] = layer
        insort(self.layer_positions, layer.position)
        kept = Kept(activation, layer.position)
        self.tape.activations[layer.name] = kept
        self.kept_in[storage_of(activation)].append(kept)

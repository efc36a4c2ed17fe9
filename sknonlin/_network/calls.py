"""The modules that make a call of an activation, and the names of such calls."""

from collections import Counter
from contextlib import contextmanager

import torch

from sknonlin._network.activations import (
    PRODUCTS,
    SAME_VALUES,
    SIGMOIDS,
    Gates,
    activation_kind,
    name_of,
    relu_kind,
)
from sknonlin._network.axes import Axes, is_dense
from sknonlin._network.tape import Layer, place_of


class ModuleCalls:
    """The modules that a forward pass is in, from hooks."""

    def __init__(self):
        self.stack = []
        self._watched, self._ended = (), None

    def on_output(self, names, function):
        """Call ``function(name, output)`` whenever one of these modules returns."""
        self.stack.clear()
        self._watched, self._ended = names, function

    def enter(self, name, module):
        """Note that a module is called."""
        self.stack.append((name, module))

    def leave(self, name, output):
        """Note that a module returns, or failed with the output None."""
        if self.stack:
            self.stack.pop()
        if name in self._watched and output is not None:
            self._ended(name, output)


@contextmanager
def module_calls(module):
    """Hooks on all modules of a network, removed afterwards."""
    calls = ModuleCalls()
    handles = []
    try:
        for name, m in module.named_modules():
            if isinstance(m, torch.jit.ScriptModule):  # takes no hooks
                continue
            handles.append(
                m.register_forward_pre_hook(lambda m, args, name=name: calls.enter(name, m))
            )
            handles.append(
                m.register_forward_hook(
                    lambda m, args, output, name=name: calls.leave(name, output),
                    always_call=True,
                )
            )
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class Finder:
    """Name the layers of one forward pass.

    Parameters
    ----------
    calls : ModuleCalls
    wanted : set of str or None
        Names of the layers to find; None finds all.
    resume : (Tape, Layer, tensor) or None
        The layer from which the pass begins, if it begins at one.
    skip : container of str
        Names of layers to pass over.
    layers : str or list of str
        With ``"relu"``, activations of other kinds are none.
    """

    def __init__(self, calls, wanted, resume, skip, layers="relu"):
        self.every = layers != "relu"
        self.calls = calls
        self.wanted = wanted
        self.skip = skip
        self.found = []  # (name without number, position) of every call
        self.axes = Axes(place_of)  # of a whole pass
        self.shares = set()  # places of what a sigmoid gave
        self.gates = Gates(self.axes)
        self.gated = {}  # position of a gated product -> whether it has a sign
        self._parts = set()
        self.resumes = resume is not None
        if resume is not None:
            self.gated, self._parts = resume[0].gated, resume[0].parts
        if resume is not None and resume[1].resumable and not resume[0].hidden_reads:
            tape, target, _ = resume
            self.found = [call for call in tape.found if call[1] < target.position]
        self.counts = Counter(name for name, _ in self.found)

    def __call__(self, function, args, kwargs, result, position):
        """Find the layer that an operation is, if it is wanted."""
        if not self.resumes:
            self.axes.note(function, args, kwargs, result)
            self._note_shares(function, args, result)
        kind, signed = self._kind(function, args, result, position)
        name = None
        if kind is not None:
            base = self._caller(kind)
            self.found.append((base, position))
            name = self._numbered(base)
        if self.every and not self.resumes:
            self.gates.note(function, args, result, name, kind, signed=signed)
        if name is None or name in self.skip:
            return None
        if self.wanted is not None and name not in self.wanted:
            return None
        shape = tuple(result.shape)
        return Layer(name, position, shape, self.axes.of(result), signed=signed)

    def _kind(self, function, args, result, position):
        """Name of the activation that an operation is, or None, and if it has a sign."""
        if not self.every:
            return relu_kind(function, args, result), False
        if not self.resumes:
            signed = self.gates.product(function, args)
            if signed is not None:
                self.gated[position] = signed
        elif name_of(function) not in PRODUCTS:
            signed = None
        else:
            signed = self.gated.get(position)
        if signed is not None:
            return "gated", signed
        return activation_kind(function, args, result)

    def parts_of_others(self, output):
        """Names of layers that are part of another one, or the network's output."""
        return self._parts if self.resumes else self.gates.parts | self.gates.ends(output)

    def _note_shares(self, function, args, result):
        if not is_dense(result):
            return
        name = name_of(function)
        given = bool(args) and is_dense(args[0]) and place_of(args[0]) in self.shares
        if name in SIGMOIDS or (given and name in SAME_VALUES):
            self.shares.add(place_of(result))
        else:
            self.shares.discard(place_of(result))

    def module_layer(self, name, output, origin):
        """Describe the output of a module as a layer; it was made at ``origin``."""
        if origin is not None and origin[1] != 0:
            raise ValueError(
                f"layers: module {name!r} returns a part of what an operation gave, which "
                "cannot be replaced alone; name another one."
            )
        position = -1 if origin is None else origin[0]
        name = self._numbered(name)
        return Layer(name, position, tuple(output.shape), self.axes.of(output))

    def _caller(self, kind):
        """Name a call by the module that made it."""
        if not self.calls.stack:
            return kind
        name, module = self.calls.stack[-1]
        plain = not any(True for _ in module.children()) and not any(
            True for _ in module.parameters()
        )
        if plain and name and not (kind == "gated" and self.counts[name]):
            return name
        return f"{name}.{kind}" if name else kind

    def _numbered(self, base):
        self.counts[base] += 1
        count = self.counts[base]
        return base if count == 1 else f"{base}:{count}"

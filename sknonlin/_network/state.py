"""What a network is, put back as it was after it was looked at."""

from collections import defaultdict
from contextlib import suppress

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sknonlin._network.axes import is_dense
from sknonlin._network.tape import storage_of, written_tensors


class NetworkState:
    """Modes, weights and buffers of a network, to be put back.

    Weights are copied only when something is about to write to them, which
    :meth:`before_write` has to be told; buffers at once.

    Parameters
    ----------
    module : torch.nn.Module
    """

    def __init__(self, module):
        self.module = module
        self.modes = [(m, m.training) for m in module.modules() if hasattr(m, "training")]
        self.slots = [
            (slots, dict(slots.items()))
            for m in module.modules()
            if not isinstance(m, torch.jit.ScriptModule)
            for slots in (m._parameters, m._buffers)
        ]
        self.buffers = [(b, b.detach().clone()) for b in module.buffers()]
        # The data of a weight share its memory, wherever a network may point it later.
        self.weights = [(w, w.data, w._version) for w in module.parameters()]
        self.saved = {}
        self.at = defaultdict(list)  # of a storage, the weights in it
        for place, (_, data, _) in enumerate(self.weights):
            if is_dense(data):
                self.at[storage_of(data)].append(place)

    def before_write(self, tensors):
        """Copy the weights that an operation is about to write to."""
        for tensor in tensors:
            places = self.at.get(storage_of(tensor), ()) if is_dense(tensor) else ()
            for place in places:
                if place not in self.saved:
                    self.saved[place] = self.weights[place][1].clone()

    def evaluate(self):
        """Put the network in eval mode, in which some merge what they have learned."""
        if not hasattr(self.module, "training"):  # a frozen program
            return
        with Watch(self), suppress(NotImplementedError):  # of an exported one
            self.module.eval()

    def restore(self):
        """Put everything back.

        Raises
        ------
        RuntimeError
            If weights were changed in a way that cannot be undone.
        """
        with Watch(self), torch.no_grad():
            for m, training in self.modes:
                if m.training != training and type(m).train is not nn.Module.train:
                    m.train(training)  # which may undo what eval did
        for m, training in self.modes:
            m.training = training
        for slots, before in self.slots:
            same = [*map(id, slots.values())] == [*map(id, before.values())]
            if not same or [*slots] != [*before]:
                slots.clear()
                slots.update(before)
        for buffer, before in self.buffers:
            put_back(buffer, before)
        changed = []
        for place, (weight, data, version) in enumerate(self.weights):
            if weight.data.data_ptr() != data.data_ptr() or weight.shape != data.shape:
                weight.data = data
            if place in self.saved:
                put_back(weight, self.saved[place])
            elif weight._version != version:
                changed.append(weight)
        if changed:
            ids = {id(weight) for weight in changed}
            names = [n for n, w in self.module.named_parameters() if id(w) in ids]
            raise RuntimeError(
                f"The network changed its weights {names} in a way that cannot be undone. "
                "Measure a copy (copy.deepcopy), or make its forward leave them alone."
            )


def put_back(tensor, before):
    """Give a tensor the values, and the shape, that it had."""
    if tensor.shape != before.shape or tensor.dtype != before.dtype:
        tensor.data = before
    elif not torch.equal(tensor, before):  # nor is anything that holds NaN
        tensor.data.copy_(before)


class Watch(TorchDispatchMode):
    """Tell a :class:`NetworkState` of writes, one operation after the other."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.state.before_write(written_tensors(function, args, kwargs))
        return function(*args, **kwargs)

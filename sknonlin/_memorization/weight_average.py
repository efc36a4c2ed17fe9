"""Weights averaged over a training, in place of the last ones for a while.

torch's ``AveragedModel`` copies a whole module, averages all buffers (masks, too) or none,
and counts the first epoch too much in a short training.
"""

from contextlib import contextmanager
from itertools import chain

import torch
from torch.nn.modules.batchnorm import _NormBase

DECAY = 0.7  # how much an epoch counts, of what the next one does


class WeightAverage:
    """Average of the weights of all epochs, of which the last ones count most.

    What is averaged is what is trained, and the running statistics of normalization. All
    else, as frozen weights and other buffers, is as it is. Half precision is averaged in
    single. Weights that are not finite do not count.

    Attributes
    ----------
    values : dict of str to dict
        The averages of the modules, by name, and by the names of their tensors.
    current : bool
        Whether the last weights were counted.
    """

    def __init__(self):
        self.values = {}
        self.current = False
        self._n_epochs = 0

    def update(self, modules):
        """Count the weights that modules have now, if they are finite.

        Parameters
        ----------
        modules : dict of str to torch.nn.Module
        """
        own = {name: averaged_tensors(module) for name, module in modules.items()}
        leaves = [tensor for tensors in own.values() for tensor in tensors.values()]
        self.current = all(torch.isfinite(tensor).all() for tensor in leaves)
        if not self.current:
            return
        self._n_epochs += 1
        share = (1 - DECAY) / (1 - DECAY**self._n_epochs)
        for name, tensors in own.items():
            before = self.values.get(name, {})
            self.values[name] = {
                key: mixed(before.get(key), tensor, share)
                for key, tensor in tensors.items()
            }

    @contextmanager
    def in_place(self, modules):
        """Context in which modules have the averages; their own weights are then back."""
        own = {name: copied(averaged_tensors(module)) for name, module in modules.items()}
        try:
            load(modules, self.values)
            yield
        finally:
            load(modules, own)

    def states(self, modules):
        """States of modules that have the averages, and their own where there is none."""
        states = states_of(modules)
        for name, values in self.values.items():
            for key, value in values.items():
                states[name][key] = value.to(states[name][key].dtype, copy=True)
        return states


def averaged_tensors(module):
    """Tensors of a module that are averaged, by name."""
    found = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    for prefix, part in module.named_modules():
        if isinstance(part, _NormBase):
            for name, buffer in part.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    found[f"{prefix}.{name}" if prefix else name] = buffer
    return found


@torch.no_grad()
def mixed(average, tensor, share):
    """Give a tensor its share of an average; the first one is all of it."""
    wide = tensor.dtype in (torch.float64, torch.complex64, torch.complex128)
    value = tensor.detach().to(tensor.dtype if wide else torch.float32, copy=True)
    if average is None or average.shape != value.shape:
        return value
    return average.lerp_(value, share)


def tensors_of(module):
    """Parameters and buffers of a module, by name."""
    return dict(chain(module.named_parameters(), module.named_buffers()))


def states_of(modules):
    """Copy the parameters and the buffers of modules, by name."""
    return {name: copied(tensors_of(module)) for name, module in modules.items()}


@torch.no_grad()
def load(modules, states):
    """Give modules the values that some of their tensors had, in place.

    No hook of a module, and no check of its keys, comes between.
    """
    for name, state in states.items():
        tensors = tensors_of(modules[name])
        for key in state.keys() & tensors.keys():
            tensors[key].copy_(state[key])


def copied(tensors):
    """Copy tensors, by name."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}

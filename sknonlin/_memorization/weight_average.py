"""Weights averaged over a training, in place of the last ones for a while."""

from contextlib import contextmanager

import torch

DECAY = 0.7  # how much an epoch counts, of what the next one does


class WeightAverage:
    """Average of the weights of all epochs, of which the last ones count most.

    Buffers of floating-point numbers, as the statistics of batch norm, are averaged, too.
    Half precision is averaged in single.

    Attributes
    ----------
    states : dict of str to dict
        The averages, as states of the modules, by name.
    """

    def __init__(self):
        self.states = {}
        self._n_epochs = 0

    def update(self, modules):
        """Count the weights that modules have now.

        Parameters
        ----------
        modules : dict of str to torch.nn.Module
        """
        self._n_epochs += 1
        share = (1 - DECAY) / (1 - DECAY**self._n_epochs)
        for name, module in modules.items():
            before = self.states.get(name, {})
            self.states[name] = {
                key: mixed(before.get(key), value, share)
                for key, value in module.state_dict().items()
            }

    @contextmanager
    def in_place(self, modules):
        """Context in which modules have the averages; their own weights are then back."""
        own = states_of(modules)
        load(modules, self.states)
        try:
            yield
        finally:
            load(modules, own)


def mixed(average, value, share):
    """Give a new value its share of an average; what is no number stays the value."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    if not (value.is_floating_point() or value.is_complex()):
        return value.clone()
    value = value.to(torch.promote_types(value.dtype, torch.float32), copy=True)
    if average is None or average.shape != value.shape:
        return value
    return average.lerp_(value, share)


def states_of(modules):
    """Copy the states of modules, by name."""
    return {name: copied(module.state_dict()) for name, module in modules.items()}


def load(modules, states):
    """Give modules the states that they had."""
    for name, module in modules.items():
        module.load_state_dict(states[name])


def copied(state):
    """Copy a module's state."""
    return {
        name: value.detach().clone() if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }

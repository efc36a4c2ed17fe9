"""Copies of a network for threads that run it at the same time."""

import queue
from contextlib import contextmanager

import torch


class Replicas:
    """A network and copies of it with the same weights, one for every thread.

    Parameters
    ----------
    network : Network
    count : int
        How many threads run it at the same time. Where it cannot be copied, they wait
        for each other.
    capture : callable
        Makes the :class:`Capture` of a network, whose listing tries a copy.
    """

    def __init__(self, network, count, capture):
        self.network = network
        self._fill([network])
        for _ in range(count - 1):
            twin = independent_copy(network, capture)
            if twin is None:
                return
            self._idle.put(twin)

    def _fill(self, networks):
        self._idle = queue.SimpleQueue()
        for network in networks:
            self._idle.put(network)

    def __getstate__(self):
        return self.network

    def __setstate__(self, network):
        self.network = network
        self._fill([network])

    @contextmanager
    def borrowed(self):
        """Take one, which no other thread runs meanwhile."""
        network = self._idle.get()
        try:
            yield network
        finally:
            self._idle.put(network)


def independent_copy(network, capture):
    """Copy a network, or return None.

    Some cannot be copied; and a function that is kept in one, as in ``self.block = lambda
    x: self.norm(x)``, runs the original's modules from the copy, too. A copy is a gain in
    time alone, so whatever the user's code raises while one is made and tried, the
    original serves all threads: an error that is its own is raised again by its own run.
    """
    ran = []
    with network.lock:
        handles = []
        try:
            twin = network.replica()
            handles += [
                module.register_forward_pre_hook(lambda *_: ran.append(True))
                for module in network.module.modules()
                if not isinstance(module, torch.jit.ScriptModule)
            ]
            with capture(twin):
                pass
        except Exception:  # of any ``__deepcopy__`` or ``forward``, see above
            return None
        finally:
            for handle in handles:
                handle.remove()
    return None if ran else twin

"""Copies of a network for threads that run it at the same time."""

import queue
from contextlib import contextmanager


class Replicas:
    """A network and copies of it with the same weights, one for every thread.

    Parameters
    ----------
    network : Network
    count : int
        How many threads run it at the same time. Where it cannot be copied, they wait
        for each other.
    """

    def __init__(self, network, count=1):
        self.network = network
        self._fill([network])
        for _ in range(count - 1):
            try:
                self._idle.put(network.replica())
            except (RuntimeError, TypeError):  # has something that cannot be copied
                return

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

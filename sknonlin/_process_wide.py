"""Settings of the whole process, which threads inside share; and one owner of a network."""

import threading
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn


class ProcessWide:
    """A context of the whole process: the first thread enters it, and the last leaves it.

    Were it entered by each, one that leaves early would undo it for the others, and they
    would restore what they found, not what was before.

    Parameters
    ----------
    make : callable
        Makes a context manager, which may be left in another thread.
    """

    def __init__(self, make):
        self._make = make
        self._lock = threading.Lock()
        self._count, self._context = 0, None

    def __enter__(self):
        with self._lock:
            if not self._count:
                context = self._make()
                context.__enter__()
                self._context = context
            self._count += 1

    def __exit__(self, *exception):
        with self._lock:
            self._count -= 1
            if not self._count:
                context, self._context = self._context, None
                context.__exit__(None, None, None)


@contextmanager
def no_fast_path():
    """Let no Transformer layer run as one operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def forked_random_state():
    """Context that leaves torch's random states as they were."""
    cuda = torch.cuda.is_initialized()
    return torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else [])


operation_by_operation = ProcessWide(no_fast_path)
uncompiled = ProcessWide(lambda: torch.compiler.set_stance("force_eager"))
random_state_kept = ProcessWide(forked_random_state)

module_locks = WeakKeyDictionary()
module_locks_lock = threading.Lock()


def lock_of(module):
    """Return the lock of a module, whose modes and hooks one thread changes at a time."""
    while isinstance(module, nn.ModuleDict) and len(module):
        module = next(iter(module.values()))  # a skorch net's, put together anew
    with module_locks_lock:
        return module_locks.setdefault(module, threading.RLock())

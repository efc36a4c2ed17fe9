"""Settings of torch and of the whole process, left as they were found."""

import random
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from sklearn.utils import check_random_state
from threadpoolctl import ThreadpoolController
from torch import nn

module_locks: WeakKeyDictionary = WeakKeyDictionary()
module_locks_lock = threading.Lock()
PRODUCTS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
CUDNN = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
Function = TypeVar("Function", bound=Callable)


class Alone(threading.local):
    """How many threads torch has outside of :func:`operations_alone`, in a thread."""

    n_threads = None


alone = Alone()


@cache
def openmp():
    """Libraries that share operations out to threads."""
    return ThreadpoolController().select(user_api="openmp")


@contextmanager
def operations_alone():
    """Run torch's elementwise operations of this thread in it alone.

    Where other processes want the cores, each of those that wait for threads may take as
    long as a turn on a core. Torch's own setting would be that of other threads too.
    """
    if alone.n_threads is not None:
        yield
        return
    alone.n_threads = torch.get_num_threads()
    try:
        with openmp().limit(limits=1):
            yield
    finally:
        alone.n_threads = None


def thread_count():
    """How many threads this thread may use, as torch's setting says."""
    return torch.get_num_threads() if alone.n_threads is None else alone.n_threads


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


@contextmanager
def random_states_kept():
    """Leave Python's and numpy's random states as they were; a dataset may draw."""
    shared = check_random_state(None)  # numpy's own
    python, numpy = random.getstate(), shared.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        shared.set_state(numpy)


@contextmanager
def forked_random_states():
    """Leave Python's, numpy's and torch's random states as they were."""
    cuda = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if cuda else []
    with random_states_kept(), torch.random.fork_rng(devices):
        yield


operation_by_operation = ProcessWide(no_fast_path)
uncompiled = ProcessWide(lambda: torch.compiler.set_stance("force_eager"))
random_state_kept = ProcessWide(forked_random_states)


def lock_of(module):
    """Return the lock of a module, whose modes and hooks one thread changes at a time."""
    while isinstance(module, nn.ModuleDict) and len(module):
        module = next(iter(module.values()))  # a skorch net's, put together anew
    with module_locks_lock:
        return module_locks.setdefault(module, threading.RLock())


@contextmanager
def precise_products():
    """Matrix products and convolutions of float32 in float32, without TF32 or bfloat16."""
    backends = (*PRODUCTS, *CUDNN)
    before = [backend.fp32_precision for backend in backends]
    try:
        allowed = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # where its parts were set one by one
        allowed = None
    torch.backends.cudnn.allow_tf32 = False  # so that torch can read it meanwhile
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed is None or allowed
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


exact_products = ProcessWide(precise_products)


@contextmanager
def full_precision():
    """No gradients, no autocast, and exact products; all as before afterwards."""
    with ExitStack() as contexts:
        contexts.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                contexts.enter_context(torch.autocast(device, enabled=False))
        contexts.enter_context(exact_products)
        yield


def in_full_precision(function: Function) -> Function:
    """Run ``function`` inside :func:`full_precision`."""

    @wraps(function)
    def wrapped(*args, **kwargs):
        with full_precision():
            return function(*args, **kwargs)

    return cast(Function, wrapped)


def resolve_device(device, X=None):
    """Find the torch device; ``"auto"`` is X's own, else the fastest.

    Raises
    ------
    ValueError
        If the device is unknown or not there.
    """
    if isinstance(device, str) and device == "auto":
        if isinstance(X, torch.Tensor):
            return X.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({str(error).splitlines()[0]}). "
            "Use device='cpu' or device='auto'."
        ) from error
    return found


@contextmanager
def no_cached_casts():
    """Let autocast inside a network cast its weights anew each time, in this thread.

    Threads share what it keeps of weights that need gradients, and empty it for each other.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


@contextmanager
def plain_operations():
    """Run networks operation by operation, exactly, and without drawing numbers."""
    with (
        random_state_kept,
        uncompiled,
        operation_by_operation,
        full_precision(),
        no_cached_casts(),
    ):
        yield

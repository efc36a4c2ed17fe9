"""Work in parallel, by joblib on the backend that is configured, or else in threads."""

import itertools
import pickle
import queue
import threading
import uuid
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import cloudpickle
import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from sklearn import config_context, get_config
from tqdm.auto import tqdm

from sknonlin._running.cluster import Cluster, fetched, inside_dask_task
from sknonlin._running.memory import affordable, devices_shared_by, freed_memory_kept
from sknonlin._running.torch_settings import full_precision

MAX_LOADED = 4  # shared values that a worker process keeps
loaded: OrderedDict = OrderedDict()
loaded_lock = threading.Lock()


def in_threads(function, items, n_threads):
    """Call a function for all items, handed out to threads one by one.

    It must release Python's lock to gain by that. No thread waits for another, and torch's
    own are not used, so what else runs on the machine costs no more than its share.

    Raises
    ------
    Exception
        One that the function raised; what was not begun by then is left.
    """
    items = list(items)
    n_threads = min(n_threads, len(items))
    if n_threads <= 1:
        for item in items:
            function(item)
        return
    waiting = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def work():
        with suppress(queue.Empty):
            while True:
                function(waiting.get_nowait())

    with ThreadPoolExecutor(n_threads) as pool:
        running = [pool.submit(work) for _ in range(n_threads)]
        try:
            for done in running:
                done.result()
        finally:
            with suppress(queue.Empty):  # for the others to end
                while True:
                    waiting.get_nowait()


@dataclass(frozen=True, eq=False)
class Shared:
    """A value that many tasks read, or its pickle, which other processes get once."""

    value: object
    key: str | None = None  # of a pickle


@dataclass(frozen=True)
class Place:
    """Where an argument that is shared belongs."""

    number: int


def as_pickle(value):
    """Pickle a value for other processes.

    Raises
    ------
    TypeError
        If it cannot be pickled.
    """
    try:
        return cloudpickle.dumps(value)
    except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
        raise TypeError(
            f"The network or its samples cannot be sent to other processes ({error}), as "
            "those that hold a lock or an open file. Use threads, "
            "joblib.parallel_config(backend='threading'), or n_jobs=1."
        ) from error


def unpickled(key, pickled):
    """Return a shared value in a worker process, which unpickles it once."""
    with loaded_lock:  # of a worker's threads
        if key not in loaded:
            loaded[key] = cloudpickle.loads(pickled.data)
            while len(loaded) > MAX_LOADED:
                loaded.popitem(last=False)
        loaded.move_to_end(key)
        return loaded[key]


class Terms(NamedTuple):
    """What all tasks of a call run under."""

    config: dict  # of scikit-learn
    n_workers: int
    n_threads: int | None  # of torch; None in another process


def call(function, terms, keys, args, *shared):
    """Run one task in a worker.

    Shared values stand in for those of the arguments that are a :class:`Place`. In another
    process, the arguments are a pickle.
    """
    if terms.n_threads is None:
        args = pickle.loads(args)
    else:
        torch.set_num_threads(terms.n_threads)
    values = [
        value if key is None else unpickled(key, value)
        for key, value in zip(keys, map(fetched, shared), strict=True)
    ]
    # Not scikit-learn's Parallel, whose threads leave each other's warning filters behind.
    with (
        config_context(**terms.config),
        devices_shared_by(terms.n_workers),
        full_precision(),
        freed_memory_kept,
    ):
        return function(*(values[a.number] if isinstance(a, Place) else a for a in args))


class Running:
    """The tasks of one call that run in threads, which end with it."""

    def __init__(self):
        self.count, self.stopped = 0, False
        self._changed = threading.Condition()

    def __call__(self, function, *args):
        """Run a task, unless the call has ended meanwhile."""
        with self._changed:
            if self.stopped:
                return None
            self.count += 1
        try:
            return call(function, *args)
        finally:
            with self._changed:
                self.count -= 1
                self._changed.notify_all()

    def stop(self):
        """Wait until no task runs, and let none begin."""
        with self._changed:
            self.stopped = True
            self._changed.wait_for(lambda: self.count == 0)


def shown(results, description, total, *, disable):
    """Pass results on, with a progress bar."""
    with closing(results):
        yield from tqdm(results, description, total, disable=disable, leave=False)


class Workers:
    """Workers that tasks are handed to, within a ``with`` block.

    They share the working memory, and threads share torch's threads too. The block runs
    in full precision, so that threads that end do not change each other's settings.

    Parameters
    ----------
    n_jobs : int or None
        How many; None is 1, unless ``joblib.parallel_config`` says otherwise. A Dask
        cluster's are all taken, unless this is a task on it itself.
    verbose : int
        Above 0, progress bars.
    task_bytes : int
        Memory that the largest task takes: there are no more workers than it holds.
    """

    def __init__(self, n_jobs=None, verbose=0, task_bytes=0):
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.task_bytes = task_bytes
        self._maps = []

    def __enter__(self):
        self.backend = get_active_backend(prefer="threads")[0]
        n_jobs = get_active_backend()[1] if self.n_jobs is None else self.n_jobs
        if n_jobs is None:
            n_jobs = 1 if inside_dask_task() else getattr(self.backend, "default_n_jobs", 1)
        self.count = 1 if n_jobs == 1 else self.backend.effective_n_jobs(n_jobs)
        self.count = affordable(self.task_bytes, most=self.count)
        on_cluster = self.count > 1 and hasattr(self.backend, "client")
        self.cluster = Cluster(self.backend) if on_cluster else None
        self.in_process = self.count == 1 or getattr(
            self.backend, "supports_sharedmem", False
        )
        with ExitStack() as stack:
            stack.enter_context(full_precision())
            memory = get_config()["working_memory"] / self.count
            stack.enter_context(config_context(working_memory=memory))
            self.torch_threads = torch.get_num_threads()
            if self.in_process and self.count > 1:
                stack.callback(torch.set_num_threads, self.torch_threads)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exception):
        for results in self._maps:
            results.close()  # those that were not read to their end
        return self._exit.__exit__(*exception)

    def share(self, value):
        """Prepare a value that many tasks read; every worker gets it once."""
        if self.in_process:
            return Shared(value)
        key = None
        if not isinstance(value, np.ndarray):  # which joblib and Dask send as it is
            value = np.frombuffer(as_pickle(value), np.uint8)
            key = uuid.uuid4().hex
        shared = Shared(value, key)
        if self.cluster is not None:
            self.cluster.send(shared)
        return shared

    def map(self, function, items, description=None, total=None):
        """Return an iterator of ``function(*item)`` for all items, in their order.

        Items are taken when workers are free, in whatever thread.
        """
        compute = self._one_by_one if self.count == 1 else self._in_parallel
        results = compute(function, items)
        self._maps.append(shown(results, description, total, disable=not self.verbose))
        return self._maps[-1]

    def _one_by_one(self, function, items):
        for item in items:
            yield function(*(a.value if isinstance(a, Shared) else a for a in item))

    def _in_parallel(self, function, items):
        running = Running() if self.in_process else call
        n_threads = max(1, self.torch_threads // self.count) if self.in_process else None
        terms = Terms(get_config(), self.count, n_threads)
        task_of = partial(self._task, running, function, terms)
        if self.cluster is not None:
            yield from self.cluster.map(task_of, items)
            return
        # Ray's backend has no generators.
        lazy = self.backend.supports_return_generator
        parallel = Parallel(
            self.count,
            prefer="threads",
            return_as="generator" if lazy else "list",
            batch_size=1,  # joblib would take many quick tasks at once, and hold them
        )
        results = parallel(map(task_of, items))
        try:
            yield from results
        finally:
            if lazy:
                results.close()
            if self.in_process:
                running.stop()

    def _task(self, run, function, terms, item):
        """One task, as joblib takes it."""
        shared = [argument for argument in item if isinstance(argument, Shared)]
        numbers = itertools.count()
        args = [Place(next(numbers)) if isinstance(a, Shared) else a for a in item]
        if not self.in_process:  # as bytes: joblib writes arrays to files, which stay
            args = cloudpickle.dumps(args)
        keys = tuple(argument.key for argument in shared)
        sent = attrgetter("value") if self.cluster is None else self.cluster.handle_of
        return delayed(run)(function, terms, keys, args, *map(sent, shared))


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

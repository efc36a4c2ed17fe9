"""Work in parallel, by joblib on the backend that is configured, or else in threads."""

import sys
import uuid
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass

import cloudpickle
import numpy as np
import torch
from joblib.parallel import get_active_backend
from sklearn import config_context, get_config
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from sknonlin._arrays import full_precision
from sknonlin._memory import affordable

MAX_LOADED = 4  # shared values that a worker process keeps
loaded = OrderedDict()


@dataclass(frozen=True)
class Shared:
    """A value that many tasks read, or its pickle, which other processes get once."""

    value: object
    key: str | None = None  # of a pickle


def unpickled(key, pickled):
    """Return a shared value in a worker process, which unpickles it once."""
    if key not in loaded:
        loaded[key] = cloudpickle.loads(pickled.data)
        while len(loaded) > MAX_LOADED:
            loaded.popitem(last=False)
    return loaded[key]


def call(function, keys, n_threads, *args):
    """Run one task in a worker; ``keys`` are those of the shared values by their place."""
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    args = [unpickled(keys[i], a) if i in keys else a for i, a in enumerate(args)]
    with full_precision():
        return function(*args)


def inside_dask_task():
    """Whether this is already a task on a Dask cluster."""
    distributed = sys.modules.get("distributed")
    try:
        return distributed is not None and distributed.get_worker() is not None
    except ValueError:
        return False


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

    def __enter__(self):
        self.backend = get_active_backend(prefer="threads")[0]
        n_jobs = get_active_backend()[1] if self.n_jobs is None else self.n_jobs
        if n_jobs is None:
            n_jobs = 1 if inside_dask_task() else getattr(self.backend, "default_n_jobs", 1)
        self.count = 1 if n_jobs == 1 else self.backend.effective_n_jobs(n_jobs)
        self.count = affordable(self.task_bytes, most=self.count)
        self.in_process = self.count == 1 or getattr(
            self.backend, "supports_sharedmem", False
        )
        with ExitStack() as stack:
            stack.enter_context(full_precision())
            memory = get_config()["working_memory"] / self.count
            stack.enter_context(config_context(working_memory=memory))
            if self.in_process and self.count > 1:
                stack.callback(torch.set_num_threads, torch.get_num_threads())
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self._exit.__exit__(*exception)

    def share(self, value):
        """Prepare a value that many tasks read; every worker gets it once."""
        if self.in_process:
            return Shared(value)
        pickled = np.frombuffer(cloudpickle.dumps(value), np.uint8)
        client = getattr(self.backend, "client", None)
        if client is not None:  # of Dask: on all workers, so that none is missed
            pickled = client.scatter(pickled, broadcast=True, hash=False)
        return Shared(pickled, uuid.uuid4().hex)

    def map(self, function, items, description=None, total=None):
        """Yield ``function(*item)`` for all items, in their order.

        Items are taken when workers are free, in whatever thread.
        """
        if self.count == 1:
            results = (function(*map(bare, item)) for item in items)
        else:
            n_threads = None
            if self.in_process:
                n_threads = max(1, torch.get_num_threads() // self.count)
            calls = (
                delayed(call)(function, shared_keys(item), n_threads, *map(bare, item))
                for item in items
            )
            results = Parallel(self.count, prefer="threads", return_as="generator")(calls)
        hidden = not self.verbose
        yield from tqdm(results, description, total, disable=hidden, leave=False)


def bare(argument):
    """Return what a worker is sent of an argument."""
    return argument.value if isinstance(argument, Shared) else argument


def shared_keys(item):
    """Keys of an item's pickled arguments, by their place."""
    return {
        i: a.key for i, a in enumerate(item) if isinstance(a, Shared) and a.key is not None
    }

"""A Dask cluster: values that its workers hold, and work that it loses with a worker."""

import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError  # what Dask's is, too
from contextlib import suppress
from weakref import WeakKeyDictionary

from joblib import Parallel

PAUSES = (0.1, 0.5, 2.0)  # seconds, before a cluster that has lost a worker is asked again
PATIENCE = 30  # seconds, for workers that take the place of others


def inside_dask_task():
    """Whether this is already a task on a Dask cluster."""
    distributed = sys.modules.get("distributed")
    try:
        return distributed is not None and distributed.get_worker() is not None
    except ValueError:
        return False


def scattered(client, value):
    """Put a value on all workers of a Dask cluster, so that none is missed.

    A worker that dies meanwhile breaks it off; the others are asked again.
    """
    for pause in PAUSES:
        try:
            return client.scatter(value, broadcast=True, hash=False)
        except (OSError, KeyError, TimeoutError):  # of a connection or a worker that ended
            time.sleep(pause)
            client.wait_for_workers(1, timeout=PATIENCE)
    return client.scatter(value, broadcast=True, hash=False)


def fetched(value):
    """Return what a handle stands for, where a task is run without its cluster.

    joblib does so if a single worker is left.
    """
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(value, distributed.Future):
        return value.result()
    return value


def answering(backend):
    """Make a backend like another that also tells joblib of tasks that Dask gives up.

    joblib 1.6 waits for those forever, such as for one that has killed several workers.
    """
    kind = type(backend)

    def submit(self, func, callback=None):
        future = kind.submit(self, func, callback)

        def tell(done):
            if done.exception() is not None:
                callback(done.exception())

        future.add_done_callback(tell)
        return future

    found = type("Answering", (kind,), {"submit": submit})(
        client=backend.client,
        wait_for_workers_timeout=backend.wait_for_workers_timeout,
        **backend.submit_kwargs,
    )
    found.data_futures = backend.data_futures  # what a user has sent
    return found


def numbered(number, function, *args, **kwargs):
    """Call a function: the task of a worker that also returns its number."""
    return number, function(*args, **kwargs)


class Unfinished:
    """Items to compute, by number, and those among them that have no result yet."""

    def __init__(self, items):
        self._items = enumerate(items)
        self._taken = {}
        self._lock = threading.Lock()
        self._round = 0
        self._error = None

    def begin(self):
        """Return an iterator of numbers and items, in whatever thread it is read.

        Those come first that were taken before and have no result. The iterator before it
        ends.
        """
        with self._lock:
            self._round += 1
            return self._all(self._round, deque(self._taken))

    def _all(self, own_round, again):
        while (following := self._next(own_round, again)) is not None:
            yield following

    def _next(self, own_round, again):
        with self._lock:
            if own_round != self._round:
                return None
            if again:
                number = again.popleft()
                return number, self._taken[number]
            if self._error is not None:  # else what comes next were taken for the end
                raise self._error
            try:
                number, item = next(self._items)
            except StopIteration:
                return None
            except Exception as error:  # of the user's samples or network; raised again
                self._error = error
                raise
            self._taken[number] = item
            return number, item

    def finish(self, number):
        """Say that one of them has its result."""
        with self._lock:
            del self._taken[number]


class Cluster:
    """The workers of a Dask client, which are sent anew what they lose.

    Dask computes a task again if its worker dies. It cannot do so with values that were
    sent, and after some seconds it keeps each on a single worker only.

    Parameters
    ----------
    backend : joblib.parallel.ParallelBackendBase
        Of joblib, with a client of Dask.
    """

    def __init__(self, backend):
        self.backend, self.client = backend, backend.client
        self.n_workers = len(self.client.ncores())
        self._handles = WeakKeyDictionary()

    def send(self, shared):
        """Put a shared value on all workers, which keep it as long as it lives here."""
        self._handles[shared] = scattered(self.client, shared.value)

    def handle_of(self, shared):
        """Return what stands for a shared value in a task."""
        return self._handles[shared]

    def map(self, task_of, items):
        """Yield the results of ``task_of(item)`` in order; those that are lost, once more.

        ``task_of`` makes a task of joblib.

        Raises
        ------
        CancelledError
            If the cluster loses values again and again without a result, if its client is
            closed or restarted, or if no worker is left.
        """
        unfinished, ready, following = Unfinished(items), {}, 0
        pauses = iter(PAUSES)
        results = self._begin(task_of, unfinished)
        try:
            while True:
                try:
                    number, result = next(results)
                except StopIteration:
                    return
                except CancelledError as lost:
                    results.close()
                    self._recover(lost, next(pauses, None))
                    results = self._begin(task_of, unfinished)
                    continue
                unfinished.finish(number)
                pauses = iter(PAUSES)
                ready[number] = result
                while following in ready:
                    yield ready.pop(following)
                    following += 1
        finally:
            results.close()

    def _begin(self, task_of, unfinished):
        """Let the workers compute what is unfinished; results in whatever order."""
        parallel = Parallel(
            -1,
            backend=answering(self.backend),  # its own, in whatever thread
            return_as="generator_unordered",  # so that items end with their task
            batch_size=1,  # joblib would take many quick tasks at once, and hold them
        )
        return parallel(
            (numbered, (number, function, *args), kwargs)
            for number, item in unfinished.begin()
            for function, args, kwargs in [task_of(item)]
        )

    def _recover(self, lost, pause):
        """Send values again after a loss, to as many workers as there were before."""
        restarted = getattr(lost, "reason", None) == "scheduler-restart"
        if pause is None or restarted or self.client.status != "running":
            raise lost
        if inside_dask_task():  # whose thread joblib took from the worker, and kept
            sys.modules["distributed"].rejoin()
        time.sleep(pause)
        try:
            with suppress(TimeoutError):
                self.client.wait_for_workers(self.n_workers, timeout=PATIENCE)
            if not self.client.ncores():
                raise lost
            for shared in tuple(self._handles):
                self.send(shared)
        except (OSError, TimeoutError) as error:  # as the client or the cluster was closed
            raise lost from error

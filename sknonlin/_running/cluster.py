"""A Dask cluster: values that its workers hold, and work that it loses with a worker."""

import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError  # what Dask's is, too
from contextlib import closing
from weakref import WeakKeyDictionary

PAUSES = (0.1, 0.5, 2.0)  # seconds, before a cluster that has lost a worker is asked again


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
            client.wait_for_workers(1, timeout=60)
    return client.scatter(value, broadcast=True, hash=False)


class Unfinished:
    """Items to compute, and those among them that have no result yet."""

    def __init__(self, items):
        self._items = iter(items)
        self._taken = deque()
        self._lock = threading.Lock()
        self._round = 0

    def begin(self):
        """Return an iterator of those without a result, in whatever thread it is read.

        The iterator before it ends.
        """
        with self._lock:
            self._round += 1
            return self._all(self._round, tuple(self._taken))

    def _all(self, number, again):
        yield from again
        while True:
            with self._lock:
                if number != self._round:
                    return
                try:
                    self._taken.append(next(self._items))
                except StopIteration:
                    return
                item = self._taken[-1]
            yield item

    def finish(self):
        """Say that the first of them has its result."""
        with self._lock:
            self._taken.popleft()


class Cluster:
    """The workers of a Dask client, which are sent anew what they lose.

    Dask computes a task again if its worker dies. It cannot do so with values that were
    sent, and after some seconds it keeps each on a single worker only.
    """

    def __init__(self, client):
        self.client = client
        self._sent = WeakKeyDictionary()

    def send(self, shared):
        """Put a shared value on all workers, which keep it as long as it lives here."""
        self._sent[shared] = scattered(self.client, shared.value)

    def sent(self, shared):
        """Return what stands for a shared value in a task."""
        return self._sent[shared]

    def map(self, compute, items):
        """Yield the results of ``compute(items)``, from the first that was lost once more.

        Raises
        ------
        CancelledError
            If values are lost again and again.
        """
        unfinished = Unfinished(items)
        pauses = iter(PAUSES)
        while True:
            try:
                with closing(compute(unfinished.begin())) as results:
                    for result in results:
                        unfinished.finish()
                        yield result
            except CancelledError:
                pause = next(pauses, None)
                if pause is None:
                    raise
                time.sleep(pause)
                self.client.wait_for_workers(1, timeout=60)
                for shared in tuple(self._sent):
                    self.send(shared)
            else:
                return

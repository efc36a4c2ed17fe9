"""Dask clusters that lose a worker, and what it held."""

import os
import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest
from joblib import parallel_config

from sknonlin._running.cluster import Cluster, Unfinished, scattered
from sknonlin._running.parallel import Shared, Workers


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("sknonlin._running.cluster.PAUSES", (0.0, 0.0))


class Client:
    """A client of a cluster that numbers what it is sent."""

    def __init__(self, n_failures=0):
        self.n_failures, self.asked = n_failures, []

    def scatter(self, value, **settings):
        self.asked.append(value)
        if len(self.asked) <= self.n_failures:
            raise OSError("closed")
        return len(self.asked)

    def wait_for_workers(self, n, timeout):
        assert n == 1


def test_a_cluster_that_loses_a_worker_is_asked_again():
    client = Client(n_failures=2)
    assert scattered(client, 7) == 3
    assert client.asked == [7, 7, 7]


def test_a_cluster_that_refuses_for_good():
    with pytest.raises(OSError, match="closed"):
        scattered(Client(n_failures=3), 7)


def test_items_without_a_result_come_again():
    items = Unfinished(range(6))
    first = items.begin()
    assert [next(first) for _ in range(4)] == [0, 1, 2, 3]
    items.finish()
    items.finish()
    second = items.begin()
    assert list(first) == []
    assert list(second) == [2, 3, 4, 5]


def test_items_are_taken_once_by_many_threads():
    items = Unfinished(range(2000))
    iterator, lock, taken = items.begin(), threading.Lock(), []

    def take():
        while True:
            with lock:  # as joblib takes them
                item = next(iterator, None)
            if item is None:
                return
            taken.append(item)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(2000))


def losing(n_losses):
    """A function of items that loses its third result some times."""
    losses = iter(range(n_losses))

    def compute(items):
        for number, item in enumerate(items):
            if number == 2 and next(losses, None) is not None:
                raise CancelledError
            yield item * item

    return compute


def test_what_was_lost_is_sent_and_computed_again():
    client, shared = Client(), Shared(7)
    cluster = Cluster(client)
    cluster.send(shared)
    assert cluster.sent(shared) == 1
    assert list(cluster.map(losing(2), range(9))) == [n * n for n in range(9)]
    assert cluster.sent(shared) == 3
    assert client.asked == [7, 7, 7]


def test_a_cluster_that_loses_all_again_and_again():
    results = Cluster(Client()).map(losing(3), range(9))
    with pytest.raises(CancelledError):
        list(results)


def test_values_are_kept_no_longer_than_here():
    cluster, shared = Cluster(Client()), Shared(7)
    cluster.send(shared)
    assert len(cluster._sent) == 1
    del shared
    assert len(cluster._sent) == 0


class Dying:
    """Adds a number to an array's sum, and ends the first process that runs it."""

    def __init__(self, path):
        self.path = path

    def __call__(self, number, values):
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return number + values.sum()
        os._exit(1)


def test_the_only_worker_dies_with_the_values_that_it_holds(tmp_path):
    distributed = pytest.importorskip("distributed")
    path = tmp_path / "died"
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None
        ) as local,
        distributed.Client(local),
        parallel_config(backend="dask"),
        Workers() as workers,
    ):
        shared = workers.share(np.arange(1000.0))
        results = list(workers.map(Dying(str(path)), ((i, shared) for i in range(20))))
    assert path.exists()
    assert results == [i + 499_500 for i in range(20)]

"""Dask clusters that lose a worker, and what it held."""

import os
import signal
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from joblib import parallel_config

from sknonlin._running.cluster import Cluster, Unfinished, scattered
from sknonlin._running.parallel import Shared, Workers

distributed = pytest.importorskip("distributed")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("sknonlin._running.cluster.PAUSES", (0.0, 0.0))


class Client:
    """A client of a cluster that numbers what it is sent."""

    status = "running"

    def __init__(self, n_failures=0, n_workers=1):
        self.n_failures, self.n_workers, self.asked = n_failures, n_workers, []

    def ncores(self):
        return dict.fromkeys(range(self.n_workers), 1)

    def scatter(self, value, **settings):
        self.asked.append(value)
        if len(self.asked) <= self.n_failures:
            raise OSError("closed")
        return len(self.asked)

    def wait_for_workers(self, n, timeout):
        if n > self.n_workers:
            raise TimeoutError


class Losing(Cluster):
    """A cluster that loses values after some results, in each of its first rounds.

    The result of the first item comes last.
    """

    def __init__(self, client, lost_after=(), error=CancelledError):
        self.client, self.n_workers, self._handles = client, client.n_workers, {}
        self.lost_after, self.error = iter(lost_after), error

    def _begin(self, task_of, unfinished):
        items = unfinished.begin()
        lost_after = next(self.lost_after, None)

        def results():
            first, n_results = None, 0
            for number, item in items:
                if n_results == lost_after:
                    raise self.error("lost")
                if first is None:
                    first = number, task_of(item)
                else:
                    yield number, task_of(item)
                    n_results += 1
            yield first

        return results()


def square(item):
    return item * item


# Sending --------------------------------------------------------------------------


def test_a_cluster_that_loses_a_worker_is_asked_again():
    client = Client(n_failures=2)
    assert scattered(client, 7) == 3
    assert client.asked == [7, 7, 7]


def test_a_cluster_that_refuses_for_good():
    with pytest.raises(OSError, match="closed"):
        scattered(Client(n_failures=3), 7)


def test_values_are_kept_no_longer_than_here():
    class Backend:
        client = Client()

    cluster, shared = Cluster(Backend()), Shared(7)
    cluster.send(shared)
    assert cluster.handle_of(shared) == 1
    kept = weakref.ref(shared)
    del shared
    assert kept() is None
    assert len(cluster._handles) == 0


# Items ----------------------------------------------------------------------------


def test_items_without_a_result_come_again():
    items = Unfinished("abcdef")
    first = items.begin()
    assert [next(first) for _ in range(4)] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    items.finish(2)
    items.finish(0)
    second = items.begin()
    assert list(first) == []
    assert next(second) == (1, "b")
    third = items.begin()
    assert list(second) == []
    assert list(third) == [(1, "b"), (3, "d"), (4, "e"), (5, "f")]


def test_items_end_with_their_result():
    class Block:
        pass

    blocks = [Block() for _ in range(6)]
    references = [weakref.ref(block) for block in blocks]
    items = Unfinished(blocks.pop(0) for _ in range(6))
    first = items.begin()
    for _ in range(6):
        next(first)
    del first
    second = items.begin()
    for number in range(5):
        next(second)
        items.finish(number)
    next(second)
    assert [reference() is None for reference in references] == [True] * 5 + [False]


def test_items_are_taken_once_where_two_rounds_meet():
    items = Unfinished(range(3000))
    first = items.begin()
    found = []

    def finish(round_):
        for number, _ in round_:
            found.append(number)
            items.finish(number)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(finish, first)
        pool.submit(lambda: finish(items.begin()))
    finish(items.begin())
    assert sorted(found) == list(range(3000))


def test_an_error_of_items_is_raised_in_every_round():
    def broken():
        yield 1
        raise OSError("no more space")

    items = Unfinished(broken())
    for _ in range(2):
        round_ = items.begin()
        assert next(round_) == (0, 1)
        with pytest.raises(OSError, match="no more space"):
            next(round_)


# Losses ---------------------------------------------------------------------------


def test_what_was_lost_is_sent_and_computed_again():
    client, shared = Client(), Shared(7)
    cluster = Losing(client, [4, 2])
    cluster.send(shared)
    assert list(cluster.map(square, range(9))) == [n * n for n in range(9)]
    assert client.asked == [7, 7, 7]
    assert cluster.handle_of(shared) == 3


def test_many_losses_with_results_between_them():
    cluster = Losing(Client(), [3] * 8)
    assert list(cluster.map(square, range(40))) == [n * n for n in range(40)]


def test_a_cluster_that_loses_all_again_and_again():
    with pytest.raises(CancelledError, match="lost"):
        list(Losing(Client(), [0] * 3).map(square, range(9)))


def test_fewer_workers_go_on():
    client = Client(n_workers=2)
    cluster = Losing(client, [4])
    results = cluster.map(square, range(9))
    client.n_workers = 1
    assert list(results) == [n * n for n in range(9)]


@pytest.mark.parametrize("status", ["closed", "no workers", "refused", "restarted"])
def test_a_cluster_that_is_gone_is_not_asked_again(status):
    client, shared = Client(), Shared(7)

    def error(message):
        lost = CancelledError(message)
        lost.reason = "scheduler-restart" if status == "restarted" else "forgotten"
        return lost

    cluster = Losing(client, [4], error)
    cluster.send(shared)
    results = cluster.map(square, range(9))
    client.status = "closed" if status == "closed" else "running"
    client.n_workers = 0 if status == "no workers" else 1
    client.n_failures = 9 if status == "refused" else 0
    with pytest.raises(CancelledError, match="lost"):
        list(results)
    assert len(client.asked) == (4 if status == "refused" else 1)


# Real clusters --------------------------------------------------------------------


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


def in_the_worker(number, values):
    return number + values["first"]


def cluster_of(n_workers, n_threads):
    return distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=n_threads,
        processes=True,
        dashboard_address=":0",
    )


def test_the_only_worker_dies_with_the_values_that_it_holds(tmp_path):
    path = tmp_path / "died"
    with (
        cluster_of(1, 2) as local,
        distributed.Client(local),
        parallel_config(backend="dask"),
        Workers() as workers,
    ):
        shared = workers.share(np.arange(1000.0))
        results = list(workers.map(Dying(str(path)), ((i, shared) for i in range(20))))
    assert path.exists()
    assert results == [i + 499_500 for i in range(20)]


def test_the_worker_dies_that_alone_has_kept_the_values():
    with (
        cluster_of(2, 1) as local,
        distributed.Client(local) as client,
        parallel_config(backend="dask"),
        Workers() as workers,
    ):
        shared = workers.share({"first": 1})
        handle = workers.cluster.handle_of(shared)
        processes = client.run(os.getpid)
        for _ in range(100):  # Dask drops what it has twice, after some seconds
            (holders,) = client.who_has([handle]).values()
            if len(holders) == 1:
                break
            time.sleep(0.1)
        os.kill(processes[holders[0]], signal.SIGKILL)
        results = list(workers.map(in_the_worker, ((i, shared) for i in range(9))))
    assert results == list(range(1, 10))


def ends_its_process(number, values):
    if number == 3:
        os._exit(1)
    return number


def test_a_task_that_kills_every_worker_is_an_error():
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster_of(1, 2) as local,
        distributed.Client(local),
        parallel_config(backend="dask"),
        Workers() as workers,
    ):
        shared = workers.share({"first": 1})
        results = workers.map(ends_its_process, ((i, shared) for i in range(9)))
        with pytest.raises(distributed.KilledWorker):
            list(results)


def lost_within(number):
    """Run tasks of its own, which lose what they were sent once; the task of a worker."""
    client = distributed.get_client()
    with parallel_config(backend="dask"), Workers(2) as workers:
        shared = workers.share({"first": 1})
        results = workers.map(in_the_worker, ((i, shared) for i in range(number)))
        first = next(results)
        client.cancel([workers.cluster.handle_of(shared)], force=True)
        return [first, *results]


def test_work_that_is_lost_within_a_task_of_the_cluster():
    with cluster_of(1, 2) as local, distributed.Client(local) as client:
        assert client.submit(lost_within, 20).result(60) == list(range(1, 21))


def test_results_may_be_read_in_another_thread():
    with (
        cluster_of(1, 2) as local,
        distributed.Client(local),
        parallel_config(backend="dask"),
        Workers() as workers,
    ):
        shared = workers.share({"first": 1})
        results, found = workers.map(in_the_worker, ((i, shared) for i in range(9))), []
        reader = threading.Thread(target=lambda: found.extend(results))
        reader.start()
        reader.join()
    assert found == list(range(1, 10))

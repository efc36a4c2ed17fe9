"""Rows of a sample in every layer, where they are kept, and the keys of samples."""

import errno
import os
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn import config_context
from torch import nn

from sknonlin._memorization import activation_rows
from sknonlin._memorization.activation_rows import RowStore, SampleFeatures
from sknonlin._memorization.known_samples import sample_keys
from sknonlin._network.adapters import as_network
from sknonlin._network.layers import Capture
from sknonlin._running import memory
from sknonlin._running.parallel import Workers
from tests.architectures import seeded


def test_keys_depend_on_the_input_alone():
    rng = torch.Generator().manual_seed(0)
    X = torch.rand(20, 3, 5, generator=rng)
    keys = sample_keys(X, 20)
    assert len(np.unique(keys)) == 20
    np.testing.assert_array_equal(sample_keys(X[4:9].clone(), 5), keys[4:9])
    X[3, 2, 4] += 1e-6
    assert (sample_keys(X, 20) != keys).tolist() == [i == 3 for i in range(20)]
    pair = {"a": torch.rand(4, 2, dtype=torch.float64, generator=rng), "b": torch.arange(4)}
    assert len(np.unique(sample_keys(pair, 4))) == 4


def gathered(network, X, features):
    """Rows of all samples, by layer."""
    with Capture(network, features.layers, X[:2], 2) as capture:
        rows, _ = features.rows(capture, X, len(X))
        assert {name: A.shape[1] for name, A in rows.items()} == features.n_features(
            capture, X[:2]
        )
    return rows


@pytest.mark.parametrize("shape", [(40,), (2, 300), (3, 16, 20), (5, 4, 6, 7)])
def test_feature_maps_become_rows(shape):
    features = SampleFeatures("relu", 10, nonnegative=True)
    network = as_network(nn.Sequential(nn.Identity(), nn.ReLU()))
    X = torch.rand(7, *shape, generator=torch.Generator().manual_seed(0))
    found = gathered(network, X, features)
    assert list(found) == ["input", "1"]
    rows = found["1"]
    assert rows.shape[0] == 7
    if len(shape) == 2:  # units come last in a layer's sequences, but not in an image
        assert rows.shape[1] == shape[1]
        return
    assert 20 <= rows.shape[1] <= 256
    torch.testing.assert_close(rows, found["input"])
    if len(shape) > 1:  # cells of equal sizes keep the mean of every channel
        mean = rows.reshape(7, shape[0], -1).mean(2)
        torch.testing.assert_close(mean, X.flatten(2).mean(2), atol=0.02, rtol=0.1)


def test_rows_of_signed_activations_are_halves():
    network = as_network(nn.Sequential(nn.Identity(), nn.Tanh(), nn.Softmax(1)))
    for shape in ((5,), (3, 40, 40)):
        X = seeded(torch.randn, 7, *shape)
        found = gathered(network, X, SampleFeatures("auto", 10, nonnegative=True))["1"]
        signed = gathered(network, X, SampleFeatures("auto", 10, nonnegative=False))["1"]
        assert (found >= 0).all()
        assert (signed < 0).any()
        if len(shape) == 1:
            A = X.tanh()
            assert torch.equal(found, torch.cat([A.clamp(min=0), (-A).clamp(min=0)], 1))


def test_signed_inputs_stay_as_they_are():
    features = SampleFeatures("relu", 10, nonnegative=True)
    network = as_network(seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU())))
    X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gathered(network, X, features)["input"], X)
    tokens = torch.arange(24).reshape(6, 4) % 5
    network = as_network(seeded(lambda: nn.Sequential(nn.Embedding(5, 3), nn.ReLU())))
    assert list(gathered(network, tokens, features)) == [
        *("input counts", "input places", "input", "1")
    ]


# Rows in files ----------------------------------------------------------------------

TOTAL = 2500 * 9 * 4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder for files, and a memory that is too small for the rows."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with config_context(working_memory=0.1):
        yield tmp_path


def filled(dtype=torch.float32):
    """Store of two layers' rows, some of which are missing."""
    store = RowStore(2500, 9, dtype)
    rows = torch.arange(1500 * 6, dtype=dtype).reshape(-1, 6)
    with store:
        store.put(slice(900, 2400), {"first": rows, "second": -rows[:, :3]})
        yield store, rows.numpy()


def check(found, rows):
    np.testing.assert_array_equal(found["first"][900:2400], rows)
    np.testing.assert_array_equal(found["second"][900:2400], -rows[:, :3])
    for A in found.values():
        assert np.isnan(A[:900]).all()
        assert np.isnan(A[2400:]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_in_files_are_those_in_memory(folder, dtype):
    for store, rows in filled(dtype):
        assert all(memory.file_mapping(A) is not None for A in store.rows.values())
        check(store.rows, rows)
        for A in store.rows.values():
            memory.release_pages(A)
        check(store.rows, rows)
    with config_context(working_memory=100):
        for store, rows in filled(dtype):
            assert all(memory.file_mapping(A) is None for A in store.rows.values())
            check(store.rows, rows)


def test_files_are_gone_after_the_block(folder, monkeypatch):
    for _ in filled():
        pass
    assert not list(folder.iterdir())
    monkeypatch.setattr(os.path, "exists", lambda path: False)  # without /proc
    for store, rows in filled():
        assert len(list(folder.iterdir())) == 2
        check(store.rows, rows)
    assert not list(folder.iterdir())


def test_other_processes_read_the_files(folder):
    for store, rows in filled():
        with parallel_config(backend="loky"), Workers(2) as workers:
            shared = [workers.share(store.rows[name]) for name in ("first", "second")]
            tasks = [(A, row) for A in shared for row in (0, 950)]
            found = list(workers.map(np.take, ((*task, 0) for task in tasks)))
        assert np.isnan(found[0]).all()
        np.testing.assert_array_equal(found[1], rows[50])
        np.testing.assert_array_equal(found[3], -rows[50, :3])


def full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


def unsupported(*args):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


needs_fallocate = pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate"
)


@needs_fallocate
def test_a_full_disk_says_where_and_how_much(folder, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=f"{TOTAL} bytes.*TMPDIR.*working_memory") as raised:
        list(filled())
    assert raised.value.errno == errno.ENOSPC
    assert str(folder) in str(raised.value)
    assert "No space left on device" in str(raised.value)
    assert not list(folder.iterdir())


def without_room(file):
    """Let a file be one on a full disk."""
    return type("Full", (), {"fileno": file.fileno, "write": full, "flush": file.flush})()


@pytest.mark.parametrize("missing", [True, False])
def test_disks_that_set_nothing_aside(folder, monkeypatch, missing):
    if missing:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    for store, rows in filled():
        check(store.rows, rows)
    vanishing_file = activation_rows.vanishing_file

    @activation_rows.contextmanager
    def full_file():
        with vanishing_file() as (file, path):
            yield without_room(file), path

    monkeypatch.setattr(activation_rows, "vanishing_file", full_file)
    with pytest.raises(OSError, match=f"{TOTAL} bytes"):
        list(filled())


ENDLESS = """
import time
import torch
from sklearn import config_context
from sknonlin._memorization.activation_rows import RowStore

with config_context(working_memory=0.1), RowStore(2500, 9, torch.float32) as store:
    store.put(slice(0, 100), {"layer": torch.ones(100, 9)})
    assert store.spills
    print("in files", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_no_file_is_left_by_a_process_that_is_ended(tmp_path, sign):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    run = [sys.executable, "-c", ENDLESS]
    with subprocess.Popen(
        run, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().strip() == "in files"
        process.send_signal(sign)
        assert process.wait() == -sign
    assert not list(tmp_path.iterdir())

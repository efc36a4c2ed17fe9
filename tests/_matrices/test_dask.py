"""Chunks of Dask arrays give what the array gives."""

import subprocess
import sys
import threading

import dask
import dask.array as da
import dask.dataframe as dd
import joblib
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from scipy import sparse

from sknonlin._matrices.stack import MatrixStack
from tests.conftest import BAD_VALUES, COMPRESSIONS, make, relu_matrix


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


CHUNKS = [(366, 24), ((100, 3, 0, 263), 24), (31, 5)]


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_chunks_give_what_the_array_gives(classes, compression, by_class, chunks):
    X, y = classes
    scorer = make(compression=compression, by_class=by_class)
    expected = make(compression=compression, by_class=by_class).fit(X, y)
    lazy = da.from_array(X, chunks=chunks)
    scorer.fit(lazy, y)
    np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
    for H, H_expected in zip(scorer.components_, expected.components_, strict=True):
        signs = np.sign((H * H_expected).sum(-1, keepdims=True))
        np.testing.assert_allclose(H * signs, H_expected * signs**2, atol=1e-6)
    assert scorer.n_iter_ == expected.n_iter_
    for given in (scorer.transform(lazy), scorer.score_samples(lazy)):
        assert isinstance(given, da.Array)
        assert given.chunks[0] == lazy.chunks[0]
    np.testing.assert_allclose(scorer.transform(lazy), expected.transform(X), atol=1e-6)
    for labels in (None, y):
        for lazy_labels in (labels, None if labels is None else da.from_array(labels)):
            scores = scorer.score_samples(lazy, lazy_labels)
            np.testing.assert_allclose(scores, expected.score_samples(X, labels), atol=1e-6)
        rows = scorer.reconstruct(lazy, 4, labels)
        np.testing.assert_allclose(rows, expected.reconstruct(X, 4, labels), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, bool])
def test_shapes_and_dtypes_are_known_before_anything_is_computed(dtype):
    X = (relu_matrix(90, 24) * 3).astype(dtype)
    expected = make().fit(X)
    lazy = da.from_array(X, chunks=(40, -1))
    scorer = make().fit(lazy)
    np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-6)
    for name in ("transform", "score_samples"):
        result = getattr(scorer, name)(lazy)
        local = getattr(expected, name)(X)
        assert result.shape == local.shape
        assert result.dtype == result.compute().dtype == local.dtype
        assert isinstance(result._meta, np.ndarray)
        assert result[:10].compute().shape == local[:10].shape


def test_labels_may_be_a_dask_array(classes):
    X, y = classes
    expected = make(by_class=True).fit(X, y)
    lazy = da.from_array(X, chunks=(50, -1))
    scorer = make(by_class=True).fit(lazy, da.from_array(y, chunks=30))
    np.testing.assert_array_equal(scorer.classes_, expected.classes_)
    np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)


@pytest.mark.parametrize("by_class", [False, True])
def test_sparse_blocks(classes, by_class):
    X, y = classes
    lazy = da.from_array(X, chunks=(50, -1)).map_blocks(
        sparse.csr_array, meta=sparse.csr_array((0, 0))
    )
    expected = make(by_class=by_class).fit(X, y)
    scorer = make(by_class=by_class).fit(lazy, y)
    np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
    np.testing.assert_allclose(scorer.score_samples(lazy), expected.score_samples(X))


@pytest.mark.parametrize("by_class", [False, True])
def test_little_memory_changes_nothing_but_the_number_of_rows_drawn(classes, by_class):
    X, y = classes
    lazy = da.from_array(X, chunks=(50, -1))
    expected = make(by_class=by_class, working_memory=0.05).fit(X, y)
    scorer = make(by_class=by_class, working_memory=0.05).fit(lazy, y)
    np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
    np.testing.assert_allclose(scorer.transform(lazy), expected.transform(X), atol=1e-6)


class Watched:
    """Rows that are made when they are read; it notes how many are, and all at once."""

    def __init__(self, X):
        self.X, self.shape, self.dtype, self.ndim = X, X.shape, X.dtype, 2
        self.largest = 0
        self.n_read = 0

    def __getitem__(self, rows):
        block = self.X[rows].copy()
        self.largest = max(self.largest, len(block))
        self.n_read += len(block)
        return block


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_rows_are_never_gathered(classes, compression, by_class):
    X, y = classes
    tall = y != 12
    X, y = X[tall], y[tall]
    watched = Watched(X)
    lazy = da.from_array(watched, chunks=(20, -1))
    scorer = make(compression=compression, by_class=by_class, max_rows=20)
    result = scorer.fit(lazy, y)
    assert watched.largest == 20
    # Checks and energies, the rows that are drawn, and the errors: for all classes at once.
    assert watched.n_read <= 3 * len(X)
    watched.n_read = 0
    result = scorer.transform(lazy)
    assert watched.n_read == 0
    result.compute()
    assert watched.largest == 20
    assert watched.n_read == len(X)


def test_no_two_blocks_stay_in_memory():
    alive, most, lock = [0], [0], threading.Lock()

    class Block(np.ndarray):
        def __del__(self):
            if self.base is None:
                with lock:
                    alive[0] -= 1

    def make_block(block_id=None):
        block = Block((50, 24))
        block[:] = relu_matrix(50, 24, seed=block_id[0])
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        return block

    meta = np.empty((0, 0))
    lazy = da.map_blocks(make_block, chunks=((50,) * 20, (24,)), dtype=float, meta=meta)
    scorer = make().fit(lazy)
    scorer.score_samples(lazy).sum().compute()
    assert most[0] <= 3


@pytest.mark.parametrize(
    ("change", "message"),
    [*BAD_VALUES, (lambda X: X[X[:, 0] > 0], r"X\.compute_chunk_sizes\(\)")],
)
def test_bad_values_say_so(activations, change, message):
    bad = change(da.from_array(activations, chunks=(25, -1)))
    with pytest.raises(ValueError, match=message):
        make().fit(bad)
    scorer = make().fit(activations)
    with pytest.raises(ValueError, match=message):
        scorer.transform(bad).compute()


def test_other_widths_and_lengths_are_refused(activations):
    lazy = da.from_array(activations, chunks=(25, -1))
    with pytest.raises(ValueError, match=r"X has 9 features, but .* expecting 40"):
        make().fit(activations).transform(lazy[:, :9])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make(by_class=True).fit(lazy, np.ones(3))


def test_frames_say_what_to_pass(activations):
    frame = dd.from_pandas(pd.DataFrame(activations), npartitions=2)
    with pytest.raises(TypeError, match=r"to_dask_array\(lengths=True\)"):
        make().fit(frame)
    scorer = make().fit(frame.to_dask_array(lengths=True))
    np.testing.assert_allclose(scorer.errors_, make().fit(activations).errors_, atol=1e-9)


def test_dask_is_not_imported_for_other_arrays():
    code = (
        "import sys, numpy as np\n"
        "from sknonlin import ActivationNonlinearity\n"
        "X = np.random.default_rng(0).random((30, 8))\n"
        "ActivationNonlinearity([1, 2]).fit(X).transform(X)\n"
        "assert 'dask.array' not in sys.modules and 'distributed' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_share_the_blocks(classes):
    X, y = classes
    lazy = da.from_array(X, chunks=(30, -1))
    expected = make(by_class=True).fit(X, y)
    with dask.config.set(scheduler="threads", num_workers=4):
        scorer = make(by_class=True).fit(lazy, y)
        np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
        np.testing.assert_allclose(
            scorer.transform(lazy).compute(), expected.transform(X), atol=1e-6
        )


def test_progress_bars_are_asked_for(activations, capfd):
    lazy = da.from_array(activations, chunks=(25, -1))
    make(verbose=1).fit(lazy)
    assert "blocks" in capfd.readouterr().err
    make().fit(lazy)
    assert capfd.readouterr().err == ""


@pytest.fixture
def client(tmp_path):
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        local_directory=tmp_path,
    )
    with cluster, Client(cluster) as client:
        yield client


def test_a_cluster_gives_the_same(classes, client):
    X, y = classes
    expected = make(by_class=True).fit(X, y)
    with dask.config.set(scheduler=None):
        lazy = da.from_array(X, chunks=(50, -1))
        scorer = make(by_class=True).fit(lazy, y)
        np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
        for name in ("transform", "score_samples"):
            result = getattr(scorer, name)(lazy).compute()
            np.testing.assert_allclose(result, getattr(expected, name)(X), atol=1e-6)
        scores = scorer.score_samples(lazy, y).compute()
        np.testing.assert_allclose(scores, expected.score_samples(X, y), atol=1e-6)
    # The cluster as workers on a NumPy array.
    with joblib.parallel_config(backend="dask"):
        scorer = make(by_class=True, n_jobs=2, working_memory=0.5).fit(X, y)
        np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-6)
        np.testing.assert_allclose(scorer.transform(X), expected.transform(X), atol=1e-6)


HEIGHTS = [21, 24, 24, 30, 40, 8]


@pytest.mark.filterwarnings("ignore:The ranks")
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(
    ("ranks", "n_features"),
    [([1, 2, 8], 64), ([1, 2, 24], 64), ([1, 30, 80], 64), ([4], 4), ([4, 9], 4), ([1], 1)],
)
def test_classes_of_any_height_at_any_rank(compression, ranks, n_features):
    X = relu_matrix(sum(HEIGHTS), n_features)
    y = np.repeat(np.arange(len(HEIGHTS)), HEIGHTS)
    settings = {"ranks": ranks, "by_class": True, "max_rows": 20}
    expected = make(compression=compression, **settings).fit(X, y)
    watched = Watched(X)
    scorer = make(compression=compression, **settings)
    scorer.fit(da.from_array(watched, chunks=(37, -1)), y)
    np.testing.assert_allclose(scorer.errors_, expected.errors_, atol=1e-9)
    assert watched.n_read <= 4 * len(X)  # whatever the number of heights


def test_a_class_has_the_same_axes_whatever_the_height_of_another():
    rng = np.random.default_rng(0)
    singular = np.diag([1, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 2e-7])
    few = np.linalg.qr(rng.normal(size=(60, 7)))[0] @ singular @ np.eye(7, 8)
    X, y = np.concatenate([few, rng.random((40_000, 8))]), np.repeat([0, 1], [60, 40_000])
    settings = {"ranks": [1, 7], "compression": "pca", "by_class": True, "max_rows": 50}
    expected = make(**settings).fit(X, y).components_[1][0]
    found = make(**settings).fit(da.from_array(X, chunks=(10_000, -1)), y).components_[1][0]
    np.testing.assert_array_equal(found.any(1), expected.any(1))


@pytest.mark.parametrize("by_class", [False, True])
def test_chunks_within_a_block_count_what_is_computed_from_a_row(monkeypatch, by_class):
    widths = []
    step = MatrixStack.step

    def watched_step(stack, width=0):
        widths.append(width)
        return step(stack, width)

    monkeypatch.setattr(MatrixStack, "step", watched_step)
    X = relu_matrix(120, 24)
    settings = {"by_class": by_class, "max_rows": 30, "ranks": [1, 15]}
    make(**settings).fit(da.from_array(X, chunks=(60, -1)), np.arange(120) % 2)
    assert 15 in widths

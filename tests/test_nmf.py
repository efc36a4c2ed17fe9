"""The path of ranks, against independent references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, sparse

from sknonlin import nmf_path, nnls
from sknonlin._running import memory
from tests.conftest import relu_matrix

SOLVERS = ["admm", "mu"]
RANKS = [1, 2, 3, 5, 8]


def direct_errors(X, path):
    """Relative errors recomputed from the components with SciPy's NNLS."""
    errors = []
    for H in path.components:
        left = [optimize.nnls(H.T, row)[1] for row in X]
        errors.append(np.linalg.norm(left) / np.linalg.norm(X))
    return np.array(errors)


# The path against independent references


@pytest.mark.parametrize("solver", SOLVERS)
def test_errors_are_those_of_the_components(activations, solver):
    path = nmf_path(activations, RANKS, solver=solver)
    np.testing.assert_allclose(path.errors, direct_errors(activations, path), rtol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_rank_one_is_the_leading_singular_pair(activations, solver):
    _, s, Vt = np.linalg.svd(activations)
    path = nmf_path(activations, [1], solver=solver, tol=0, max_iter=300)
    expected = np.sqrt(1 - s[0] ** 2 / (s**2).sum())
    assert path.errors[0] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(path.components[0][0], np.abs(Vt[0]), atol=1e-5)


def test_recovers_a_planted_rank():
    rng = np.random.default_rng(0)
    # Separable: each component has a row and a unit of its own, so the factors are
    # unique (Donoho & Stodden 2003).
    W = np.concatenate([np.eye(4), rng.random((40, 4))])
    H = np.concatenate([np.eye(4), rng.random((4, 30))], axis=1)
    path = nmf_path(W @ H, [2, 4], tol=0, max_iter=3000)
    assert path.errors[0] > 0.1
    assert path.errors[1] < 1e-4
    similarity = path.components[1] @ (H / np.linalg.norm(H, axis=1, keepdims=True)).T
    np.testing.assert_allclose(similarity.max(0), 1, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    X=hnp.arrays(
        float,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(0, 1e6, allow_subnormal=False),
    ),
    solver=st.sampled_from(SOLVERS),
)
def test_any_curve_is_monotone_and_ends_in_zero(X, solver):
    ranks = [1, 2, 3, 9]
    path = nmf_path(X, ranks, solver=solver, max_iter=10)
    assert (np.diff(path.errors) <= 0).all()
    assert (path.errors >= 0).all()
    assert (path.errors <= 1).all()
    assert (path.errors[path.ranks >= min(X.shape)] == 0).all()
    for k, H in zip(ranks, path.components, strict=True):
        assert H.shape == (k, X.shape[1])
        assert (H >= 0).all()
        norms = np.linalg.norm(H, axis=1)
        assert np.all(np.isclose(norms, 1) | (norms == 0))


def test_bounded_below_by_the_singular_values(activations):
    s = np.linalg.svd(activations, compute_uv=False)
    bound = np.sqrt([(s[k:] ** 2).sum() / (s**2).sum() for k in RANKS])
    assert (nmf_path(activations, RANKS).errors >= bound - 1e-9).all()


# Invariance


def test_stacking_changes_nothing(stack):
    path = nmf_path(stack, RANKS)
    assert path.errors.shape == (3, len(RANKS))
    assert path.n_iter.shape == (3, len(RANKS))
    for i, X in enumerate(stack):
        alone = nmf_path(X, RANKS)
        np.testing.assert_allclose(path.errors[i], alone.errors, rtol=1e-8)
        for H, H_alone in zip(path.components, alone.components, strict=True):
            np.testing.assert_allclose(H[i], H_alone, atol=1e-6)


def test_leading_axes_are_kept(stack):
    path = nmf_path(np.stack([stack, stack]), [2, 4])
    assert path.errors.shape == (2, 3, 2)
    assert path.components[1].shape == (2, 3, 4, 40)


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_changes_nothing(activations, factor, dtype):
    X = activations.astype(dtype)
    expected = nmf_path(X, RANKS).errors
    errors = nmf_path(X * dtype(factor), RANKS).errors
    np.testing.assert_allclose(errors, expected, rtol=1e-3)


def test_order_of_rows_and_units_changes_nothing(activations):
    rng = np.random.default_rng(0)
    rows, units = rng.permutation(60), rng.permutation(40)
    expected = nmf_path(activations, RANKS)
    path = nmf_path(activations[rows][:, units], RANKS)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-6)
    np.testing.assert_allclose(
        path.components[1], expected.components[1][:, units], atol=1e-5
    )


def test_number_of_threads_changes_nothing(stack):
    expected = nmf_path(stack, RANKS).errors
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        errors = nmf_path(stack, RANKS).errors
    finally:
        torch.set_num_threads(n_threads)
    np.testing.assert_allclose(errors, expected, rtol=1e-8)


# Tall matrices


def test_sampled_rows_cost_little_error():
    X = relu_matrix(6000, 16).astype(np.float32)
    every = nmf_path(X, RANKS, max_rows=None)
    sampled = nmf_path(X, RANKS, max_rows=1000, random_state=0)
    assert sampled.errors.mean() < 1.02 * every.errors.mean()
    assert (np.diff(sampled.errors) <= 0).all()


def test_errors_are_those_of_all_rows():
    X = relu_matrix(300, 16)
    path = nmf_path(X, RANKS, max_rows=50, random_state=0)
    np.testing.assert_allclose(path.errors, direct_errors(X, path), rtol=1e-3)


@pytest.mark.parametrize("max_rows", [1, 10])
def test_ranks_above_the_sample_are_not_exact(max_rows):
    X = relu_matrix(100, 50, depth=20)
    path = nmf_path(X, [5, 20, 50], max_rows=max_rows, random_state=0)
    assert (path.errors[:2] > 0.01).all()
    assert path.errors[2] == 0
    np.testing.assert_allclose(path.errors, direct_errors(X, path), rtol=2e-3, atol=1e-9)


def test_errors_of_high_ranks_are_those_of_all_rows():
    X = relu_matrix(500, 64, depth=30)
    path = nmf_path(X, [32], max_rows=100, random_state=0)
    np.testing.assert_allclose(path.errors, direct_errors(X, path), rtol=1e-3)


def test_more_rows_than_the_sample_but_no_more_than_the_rank():
    X = relu_matrix(30, 50)
    path = nmf_path(X, [40], max_rows=5)
    assert path.errors[0] == 0
    np.testing.assert_allclose(direct_errors(X, path), 0, atol=1e-9)


def test_sample_follows_the_seed_alone():
    X = np.stack([relu_matrix(300, 16, seed=i) for i in range(2)])
    first, same, other = (
        nmf_path(X, RANKS, max_rows=50, random_state=seed).errors for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    alone = nmf_path(X[1], RANKS, max_rows=50, random_state=0).errors
    np.testing.assert_allclose(first[1], alone, rtol=1e-8)


def test_chunks_change_nothing(monkeypatch):
    X = relu_matrix(300, 16)
    expected = nmf_path(X, RANKS, max_rows=50, random_state=0).errors
    monkeypatch.setitem(memory.MOST, "chunk", 1000)
    errors = nmf_path(X, RANKS, max_rows=50, random_state=0).errors
    np.testing.assert_allclose(errors, expected, rtol=1e-10)


# Arrays in and out


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_keeps_its_dtype(activations, dtype):
    path = nmf_path(activations.astype(dtype), [1, 2, 50])
    assert path.errors.dtype == dtype
    assert all(H.dtype == dtype for H in path.components)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_torch_keeps_its_dtype_and_device(activations, dtype):
    X = torch.from_numpy(activations).to(dtype)
    path = nmf_path(X, [1, 2])
    assert path.errors.dtype == dtype
    assert path.errors.device == X.device
    expected = nmf_path(activations, [1, 2]).errors
    np.testing.assert_allclose(path.errors.float(), expected, rtol=1e-2)


def test_float64_is_computed_in_float64(activations):
    single = nmf_path(activations.astype(np.float32), RANKS).errors
    path = nmf_path(activations, RANKS)
    assert path.errors.dtype == np.float64
    for array in (path.errors, *path.components):
        assert not np.array_equal(array, array.astype(np.float32))
    np.testing.assert_allclose(single, path.errors, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_integers_become_float64(dtype):
    X = np.random.default_rng(0).integers(0, 9, (20, 10)).astype(dtype)
    path = nmf_path(X, [1, 2])
    assert path.errors.dtype == np.float64
    np.testing.assert_array_equal(path.errors, nmf_path(X.astype(float), [1, 2]).errors)


def test_a_gradient_is_neither_needed_nor_kept(activations):
    X = torch.from_numpy(activations).requires_grad_()
    path = nmf_path(X, [1, 2])
    assert not path.errors.requires_grad
    assert X.grad is None
    np.testing.assert_array_equal(path.errors, nmf_path(activations, [1, 2]).errors)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix])
@pytest.mark.parametrize("max_rows", [None, 30])
def test_sparse_is_as_dense(activations, kind, max_rows):
    expected = nmf_path(activations, RANKS, max_rows=max_rows, random_state=0)
    path = nmf_path(kind(activations), RANKS, max_rows=max_rows, random_state=0)
    assert isinstance(path.errors, np.ndarray)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-10)


def test_memory_maps_and_odd_layouts(activations, tmp_path):
    np.save(tmp_path / "X.npy", activations)
    expected = nmf_path(activations, [2]).errors
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    swapped = activations.astype(activations.dtype.newbyteorder())
    for X in (mapped, activations[::-1][::-1], np.asfortranarray(activations), swapped):
        np.testing.assert_allclose(nmf_path(X, [2]).errors, expected, rtol=1e-10)


def test_lists_are_taken():
    assert nmf_path([[1, 2], [2, 4]], 1).errors[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("ranks", [np.array([1, 3]), torch.tensor([1, 3]), range(1, 4, 2)])
def test_ranks_come_in_any_iterable(activations, ranks):
    assert nmf_path(activations, ranks).ranks.tolist() == [1, 3]


def test_input_is_left_as_it_was(activations):
    X = torch.from_numpy(activations.copy())
    nmf_path(X, RANKS)
    np.testing.assert_array_equal(X.numpy(), activations)


# Defined results at the edge


def test_all_zero_matrix_has_no_error(stack):
    stack[1] = 0
    path = nmf_path(stack, RANKS)
    assert (path.errors[1] == 0).all()
    assert (path.errors[[0, 2], 0] > 0).all()
    assert np.isfinite(path.components[2]).all()


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1)])
def test_one_row_or_column_is_exact(shape):
    path = nmf_path(np.ones(shape), [1, 3])
    assert (path.errors == 0).all()
    assert (path.n_iter == 0).all()
    np.testing.assert_allclose(path.components[0], 1 / np.sqrt(shape[1]))


def test_constant_rows_have_rank_one():
    path = nmf_path(np.tile([1.0, 0, 2, 3], (20, 1)), [1, 2, 3])
    np.testing.assert_allclose(path.errors, 0, atol=1e-6)


def test_rank_above_the_matrix_reproduces_it(activations):
    for X in (activations[:10], activations[:, :10]):
        H = nmf_path(X, [3, 12]).components[1]
        np.testing.assert_allclose(nnls(X, H) @ H, X, atol=1e-9)


# Bad input


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0, -2.0], [1, 1]], "Negative values in data.*ReLU.*compression='pca'"),
        ([[1.0, np.nan], [1, 1]], "NaN"),
        ([[1.0, np.inf], [1, 1]], "infinity"),
        ([1.0, 2.0], "Expected 2D array"),
        (np.empty((0, 3)), "minimum of 1"),
        (np.empty((3, 0)), "minimum of 1"),
    ],
)
def test_bad_values_say_so(X, message):
    with pytest.raises(ValueError, match=message):
        nmf_path(X, [1])
    with pytest.raises(ValueError, match=message):
        nmf_path(torch.tensor(X), [1])


@pytest.mark.parametrize(
    ("ranks", "error", "message"),
    [
        ([0, 1], ValueError, "at least 1, got 0"),
        (-1, ValueError, "at least 1, got -1"),
        ([3, 1], ValueError, r"increase.*\[1, 3\]"),
        ([2, 2], ValueError, r"without repeats.*\[2\]"),
        ([], ValueError, "empty"),
        ([1.0, 2.0], TypeError, "integers, got 1.0 of type float"),
        (["2"], TypeError, "integers, got '2' of type str"),
        ("auto", TypeError, "integers"),
        ([True], TypeError, "integers, got True"),
    ],
)
def test_bad_ranks_say_so(activations, ranks, error, message):
    with pytest.raises(error, match=message):
        nmf_path(activations, ranks)


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "cd"},
        {"max_iter": 0},
        {"tol": -1},
        {"max_rows": 0},
        {"random_state": "seed"},
    ],
)
def test_bad_parameters_are_named(activations, parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        nmf_path(activations, [1], **parameters)


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_missing_device_says_so(activations, device):
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used"):
        nmf_path(activations, [1], device=device)


def test_progress_bar_is_asked_for(activations, capfd):
    nmf_path(activations, RANKS, verbose=1)
    assert "NMF path" in capfd.readouterr().err
    nmf_path(activations, RANKS)
    assert capfd.readouterr().err == ""

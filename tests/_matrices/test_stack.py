"""Stacks of matrices and of classes, as large as the memory holds."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from sknonlin import nmf_path, nnls
from sknonlin._matrices.stack import MatrixStack, class_groups, stack_numbers
from sknonlin._running.memory import limited
from tests.conftest import LITTLE, RANKS, make, relu_matrix


def test_stacks_are_learned_in_parts(stack):
    expected = nmf_path(stack, RANKS)
    path = nmf_path(stack, RANKS, working_memory=0.3)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.float64, ">f4"])
def test_memory_maps_of_any_number_are_converted_in_chunks(tmp_path, dtype):
    X = (relu_matrix(120, 24) * 20).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = make().fit(X)
    scorer = make(working_memory=0.3).fit(mapped)
    assert scorer.errors_.dtype == expected.errors_.dtype
    np.testing.assert_allclose(scorer.transform(mapped), expected.transform(X), atol=1e-5)


def test_values_of_a_memory_map_are_checked(tmp_path):
    for value, message in ((-1, "Negative"), (np.nan, "NaN"), (np.inf, "infinity")):
        X = relu_matrix(120, 24)
        X[77, 3] = value
        np.save(tmp_path / "X.npy", X)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        with pytest.raises(ValueError, match=message):
            make(working_memory=LITTLE).fit(mapped)
        with pytest.raises(ValueError, match=message):
            make().fit(relu_matrix(120, 24)).transform(mapped)


def test_groups_of_classes_are_spread_over_the_workers():
    sizes = [10] * 100 + [11] * 3
    assert len(class_groups(sizes, 8, 4000, 2**20)) == 2
    groups = class_groups(sizes, 8, 4000, 2**20, n_groups=4)
    assert len(groups) >= 4
    assert sorted(label for _, classes in groups for label in classes) == list(range(103))


def test_stacks_count_what_is_made_of_their_cones():
    n_features, extra = 64, 10_000
    with limited(1):
        most = stack_numbers(8, torch.device("cpu"))
        groups = class_groups([1] * 100, n_features, None, most, extra=extra)
        assert {len(classes) for _, classes in groups} == {1}
    with limited(8):
        most = stack_numbers(8, torch.device("cpu"))
        groups = class_groups([1] * 100, n_features, None, most, extra=extra)
        largest = max(len(classes) for _, classes in groups)
        assert 5 < largest * (n_features + extra) * 8 / 2**17 <= 10


def test_a_device_without_float64_says_what_to_pass(activations, monkeypatch):
    monkeypatch.setattr(
        "sknonlin._matrices.stack.resolve_device",
        lambda device, X=None: torch.device("mps"),
    )
    with pytest.raises(ValueError, match=r"'mps' has no float64.*Pass X as float32"):
        MatrixStack(activations, "mps")
    assert MatrixStack(activations.astype(np.float32), "mps").device.type == "mps"


# Arrays of every kind, wherever matrices come in --------------------------------------

WHOLE = np.random.default_rng(0).integers(0, 9, (12, 5)).astype(float)
TENSOR = torch.from_numpy(WHOLE)
ENTRIES = {
    "nmf_path": lambda X: nmf_path(X, [2]).errors,
    "nnls": lambda X: nnls(X, np.eye(5)),
    "nnls components": lambda X: nnls(np.ones((2, 5)), X),
    "fit": lambda X: make(ranks=[2]).fit(X).errors_,
    "transform": lambda X: make(ranks=[2]).fit(WHOLE).transform(X),
    "score_samples": lambda X: make(ranks=[2]).fit(WHOLE).score_samples(X),
    "reconstruct": lambda X: make(ranks=[2]).fit(WHOLE).reconstruct(X, 2),
}


def negative_view(X):
    """Return a tensor of these values whose memory holds their negatives."""
    shown = torch.complex(torch.zeros_like(X), -X).conj().imag
    assert shown.is_neg()
    return shown


TENSOR_DTYPES = [
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.bool, torch.int8, torch.float16, torch.bfloat16),
]
ARRAY_DTYPES = [np.uint16, np.uint64, bool, np.float16, np.longdouble, ">f8"]


def same(compute, X, expected):
    result = compute(X)
    result = result.float() if torch.is_tensor(result) else result
    np.testing.assert_allclose(result, compute(expected), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("entry", ENTRIES)
def test_real_numbers_of_every_dtype_are_taken(entry):
    for dtype in TENSOR_DTYPES:
        X = TENSOR.to(dtype)
        same(ENTRIES[entry], X, X.double().numpy())
    for dtype in ARRAY_DTYPES:
        X = WHOLE.astype(dtype)
        same(ENTRIES[entry], X, X.astype(float))


@pytest.mark.parametrize("entry", ENTRIES)
def test_views_gradients_and_empty_masks_change_nothing(entry):
    for X in (
        negative_view(TENSOR),
        TENSOR.clone().requires_grad_(),
        (TENSOR + 0j).conj().real,
        np.ma.array(WHOLE),
        np.ma.array(WHOLE, mask=np.zeros(WHOLE.shape, bool)),
    ):
        same(ENTRIES[entry], X, WHOLE)


MASKED = np.ma.array(WHOLE, mask=WHOLE > 7)
NESTED = torch.nested.nested_tensor([*TENSOR], layout=torch.jagged)
COMPLEX = "Complex data not supported: {name} must hold real numbers, got dtype .*complex"
NO_NUMBERS = "{name} must hold real numbers, got dtype .*"


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("make_array", "error", "message"),
    [
        (lambda: TENSOR.to("meta"), TypeError, "{name} is a tensor on the meta device"),
        (TENSOR.to_sparse, TypeError, r"{name} is .*sparse_coo.*{name}\.to_dense"),
        (TENSOR.to_sparse_csr, TypeError, r"{name} is .*sparse_csr.*to_dense"),
        (lambda: NESTED, TypeError, "{name} is a nested tensor"),
        (lambda: TENSOR + 1j, ValueError, COMPLEX),
        ((TENSOR + 1j).conj, ValueError, COMPLEX),
        (lambda: WHOLE + 1j, ValueError, COMPLEX),
        (lambda: [[1j, 1.0, 1, 1, 1]] * 3, ValueError, COMPLEX),
        (lambda: pd.DataFrame(WHOLE + 1j), ValueError, COMPLEX),
        (lambda: WHOLE.astype(str), TypeError, NO_NUMBERS + "U"),
        (lambda: WHOLE.astype(bytes), TypeError, NO_NUMBERS + "S"),
        (lambda: WHOLE.astype("M8[D]"), TypeError, NO_NUMBERS + "datetime"),
        (lambda: WHOLE.astype("m8[D]"), TypeError, NO_NUMBERS + "timedelta"),
        (lambda: np.zeros((12, 5), [("a", float)]), TypeError, NO_NUMBERS),
        (lambda: MASKED, ValueError, r"{name} is a masked array.*{name}\.filled"),
        (lambda: [*MASKED], ValueError, "{name} is a masked array"),
        (lambda: torch.tensor(1.0), ValueError, "Expected 2D array"),
    ],
)
def test_other_arrays_are_refused_by_name(entry, make_array, error, message):
    name = "components" if entry == "nnls components" else "X"
    with pytest.raises(error, match=message.format(name=name)):
        ENTRIES[entry](make_array())


@pytest.mark.parametrize("entry", [name for name in ENTRIES if name != "nnls components"])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_matrix, "O"])
def test_no_imaginary_part_is_dropped(entry, kind):
    X = (WHOLE + 1j).astype(object) if kind == "O" else kind(WHOLE + 1j)
    with pytest.raises((TypeError, ValueError), match="must hold real numbers"):
        ENTRIES[entry](X)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("frame", [np.asarray, pd.DataFrame])
def test_text_is_not_read_as_numbers(entry, frame):
    with pytest.raises(TypeError, match="must hold real numbers"):
        ENTRIES[entry](frame(WHOLE.astype(str).astype(object)))


def test_dask_arrays_hold_real_numbers():
    for bad, error in ((WHOLE + 1j, ValueError), (WHOLE.astype(str), TypeError)):
        lazy = da.from_array(bad, chunks=(4, 5))
        with pytest.raises(error, match="must hold real numbers"):
            make(ranks=[2]).fit(lazy)
        with pytest.raises(error, match="must hold real numbers"):
            make(ranks=[2]).fit(WHOLE).transform(lazy)

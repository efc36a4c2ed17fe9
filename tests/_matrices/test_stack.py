"""Stacks of matrices and of classes, as large as the memory holds."""

import numpy as np
import pytest
import torch

from sknonlin import nmf_path
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

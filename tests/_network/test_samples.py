"""Samples of any kind as batches."""

from collections import UserDict

import numpy as np
import pytest
import torch
from skorch.dataset import Dataset
from torch.utils.data import DataLoader

from sknonlin._network.adapters import as_network
from sknonlin._network.samples import cast, native, part_of
from tests.architectures import mlp, seeded

X, y = np.zeros((4, 4)), np.zeros(4)


def test_loader_is_not_samples():
    loader = DataLoader(Dataset(X, y))
    with pytest.raises(TypeError, match="pass its dataset"):
        as_network(seeded(mlp)).sample(loader, [0])


class Batch(UserDict):
    """A mapping that torch does not know, as those of tokenizers are."""

    def convert_to_tensors(self):
        return self


def test_mappings_of_any_kind_are_cast():
    batch = cast(Batch(left=torch.zeros(2, dtype=torch.float64)), torch.float32)
    assert batch["left"].dtype == torch.float32


def test_parts_of_a_batch_are_views():
    batch = {"left": torch.zeros(6, 2), "mask": torch.zeros(3)}
    part = part_of(batch, slice(2, 4), 6)
    assert part["left"].shape == (2, 2)
    assert part["left"]._base is batch["left"]
    assert part["mask"] is batch["mask"]


def test_whole_numbers_and_wide_floats_become_what_torch_takes():
    batch = native([np.zeros(2, ">i4"), np.zeros(2, np.longdouble), np.array(["a"])])
    assert [array.dtype for array in batch] == [np.int32, np.float64, np.dtype("<U1")]

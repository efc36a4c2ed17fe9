"""Feature maps of all layouts to matrices, and back."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sknonlin._network.layout import Layout
from tests._network.conftest import captured
from tests.architectures import Transformer, seeded


@pytest.mark.parametrize(
    ("shape", "n", "unit_axis", "expected"),
    [
        ((6, 5), 6, None, (6, 1, 5)),
        ((6,), 6, None, (6, 1, 1)),
        ((6, 7, 5), 6, None, (6, 7, 5)),
        ((6, 5, 7), 6, 1, (6, 7, 5)),
        ((6, 5, 2, 3), 6, 1, (6, 6, 5)),
        ((6, 5, 2, 3, 4), 6, 1, (6, 24, 5)),
        ((42, 5), 6, None, (6, 7, 5)),
        ((42, 5, 3), 6, 1, (6, 21, 5)),
    ],
)
def test_feature_map_to_matrix_and_back(shape, n, unit_axis, expected):
    A = seeded(torch.rand, shape)
    layer = type("L", (), {"shape": shape, "unit_axis": unit_axis})
    layout = Layout.of(layer, n)
    rows = layout.rows(A)
    assert rows.shape == expected
    assert torch.equal(layout.restore(rows.clone()), A)
    # A row is one position's units.
    if len(shape) == 4:
        assert torch.equal(rows[1, 4], A[1, :, 1, 1])


def test_axis_of_the_samples_inside_a_transformer():
    """With as many steps as samples, the shape alone does not tell."""
    for batch_first in (True, False):
        module, X = seeded(Transformer, batch_first), seeded(torch.randn, 7, 7, 4)
        with captured(module, X) as capture:
            _, layouts = capture.record(X, 7)
            layout = layouts["encoder.layers.0.relu"]
            assert layout.sample_axis == (0 if batch_first else 1)
            assert layout.channel_axis == 2


def test_units_of_a_linear_map_over_four_axes():
    linear, head = seeded(nn.Linear, 4, 5), seeded(nn.Linear, 30, 3)
    module = nn.Sequential(linear, nn.ReLU(), nn.Flatten(), head)
    X = seeded(torch.randn, 6, 2, 3, 4)
    with captured(module, X) as capture:
        tape, layouts = capture.record(X, 6)
        assert layouts["1"].rows(tape.activations["1"].tensor).shape == (6, 6, 5)


class Excited(nn.Module):
    """Squeeze and excitation: a linear map between a convolution and its ReLU."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(1, 4, 3), nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        x = torch.relu(F.interpolate(x, scale_factor=2, mode="bilinear"))
        y = torch.relu(x.flatten(2).transpose(1, 2))
        return self.head(y.mean(1))


def test_units_are_followed_through_other_operations():
    module, X = seeded(Excited), seeded(torch.randn, 5, 1, 8, 8)
    with captured(module, X) as capture:
        tape, layouts = capture.record(X, 5)
        assert layouts["relu"].rows(tape.activations["relu"].tensor).shape == (5, 144, 4)
        assert layouts["relu:2"].channel_axis == 2

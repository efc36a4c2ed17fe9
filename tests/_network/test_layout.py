"""Feature maps of all layouts to matrices, and back."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sknonlin._network.axes import Digit
from sknonlin._network.layout import Layout
from sknonlin._network.tape import Layer
from tests._network.conftest import captured
from tests.architectures import Transformer, seeded


def layer(*axes):
    """A layer with axes of these digits: (label, length, step)."""
    axes = tuple(tuple(Digit(*digit) for digit in axis) for axis in axes)
    shape = tuple(math.prod(digit.length for digit in axis) for axis in axes)
    return Layer("relu", 0, shape, axes)


SAMPLES, UNITS = ("sample", 6, 1), ("unit", 5)


def unknown(*shape):
    return layer(*[[("position", length)] for length in shape])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (unknown(6, 5), (6, 1, 5)),
        (unknown(6), (6, 1, 1)),
        (unknown(6, 7, 5), (6, 7, 5)),
        (unknown(6, 5, 2, 3), (6, 6, 5)),
        (unknown(42, 5), (6, 7, 5)),
        (unknown(5, 6), (6, 1, 5)),
        (layer([SAMPLES], [UNITS], [("position", 7)]), (6, 7, 5)),
        (layer([SAMPLES], [UNITS], [("position", 2)], [("position", 3)]), (6, 6, 5)),
        (layer([("position", 7), SAMPLES], [UNITS]), (6, 7, 5)),
        (layer([SAMPLES, ("position", 7)], [UNITS]), (6, 7, 5)),
        (layer([("position", 1)], [SAMPLES, UNITS], [("position", 7)]), (6, 7, 5)),
        (layer([("unit", 2)], [SAMPLES], [UNITS]), (6, 1, 10)),
        (layer([("sample", 2, 1)], [("sample", 3, 2)], [UNITS]), (6, 1, 5)),
        (layer([("sample", 4, 1)], [("position", 6)], [UNITS]), (6, 4, 5)),
    ],
)
def test_feature_map_to_matrix_and_back(found, expected):
    A = seeded(torch.rand, found.shape)
    layout = Layout.of(found, 6)
    rows = layout.rows(A)
    assert rows.shape == expected
    assert torch.equal(layout.restore(rows.clone()), A)
    if len(found.shape) == 4:  # a row is one position's units
        assert torch.equal(rows[1, 4], A[1, :, 1, 1])


@pytest.mark.parametrize("shape", [(6, 5), (6, 7, 5), (6, 5, 2, 3), (6,)])
def test_halves_of_signed_activations_and_back(shape):
    found = dataclasses.replace(unknown(*shape), signed=True)
    A = seeded(torch.randn, shape)
    layout = Layout.of(found, 6)
    assert not layout.for_rows(nonnegative=False).halved
    assert not Layout.of(unknown(*shape), 6).for_rows(nonnegative=True).halved
    plain, halved = layout.rows(A), layout.for_rows(nonnegative=True)
    rows = halved.rows(A)
    assert torch.equal(rows, torch.cat([plain.clamp(min=0), (-plain).clamp(min=0)], -1))
    assert torch.equal(halved.restore(rows), A)
    changed = seeded(torch.rand, rows.shape)
    units = plain.shape[-1]
    expected = layout.restore(changed[..., :units] - changed[..., units:])
    assert torch.equal(halved.restore(changed.reshape(3, -1, 2 * units)), expected)


def test_samples_that_views_split_keep_their_order():
    A = torch.arange(6).reshape(3, 2).T.reshape(2, 3, 1)
    layout = Layout.of(layer([("sample", 2, 1)], [("sample", 3, 2)], [("unit", 1)]), 6)
    assert layout.rows(A).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_axis_of_the_samples_inside_a_transformer():
    """With as many steps as samples, the shape alone does not tell."""
    for batch_first in (True, False):
        module, X = seeded(Transformer, batch_first), seeded(torch.randn, 7, 7, 4)
        with captured(module, X) as capture:
            _, layouts = capture.record(X, 7)
            layout = layouts["encoder.layers.0.relu"]
            assert layout.samples == ((0,) if batch_first else (1,))
            assert layout.units == (2,)


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
        assert layouts["relu:2"].units == (2,)

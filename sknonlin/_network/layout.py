"""The output of a layer as a matrix: samples, positions and units, and back."""

import math
from dataclasses import dataclass, replace

import torch

from sknonlin._network.axes import POSITION, SAMPLE, UNIT, Digit, has, joined, of_units


@dataclass(frozen=True)
class Layout:
    """Where samples, positions and units are in a layer's output.

    Attributes
    ----------
    shape : tuple of int
        Of the output.
    samples, positions, units : tuples of int
        Places in ``split`` of what counts them, slowest first.
    signed : bool
        Whether values may be negative, by the kind of the activation.
    halved : bool
        Whether rows are the positive and the negative parts, as units side by side.
    split : tuple of int
        The shape, with axes on which views joined several things split.
    """

    shape: tuple
    split: tuple
    samples: tuple
    positions: tuple
    units: tuple
    signed: bool = False
    halved: bool = False

    @classmethod
    def of(cls, layer, n_samples, listed=None, n_listed=None):
        """Layout of a layer on ``n_samples``, or None where no axis is the samples'.

        ``listed`` is the layer on ``n_listed`` samples. It tells apart axes that happen
        to be as long as the batch, where the samples could not be followed to the layer.
        """
        axes = list(layer.axes)
        if count(SAMPLE, axes) != n_samples:
            place = sample_axis(layer.shape, n_samples, listed, n_listed)
            if place is None:
                return None
            axes = [joined(map(not_of_samples, axis)) for axis in axes]
            repeats = layer.shape[place] // n_samples
            axes[place] = (Digit(SAMPLE, n_samples, 1), Digit(POSITION, repeats))
        if len(axes) > 1 and not any(has(UNIT, axis) for axis in axes):
            place = unit_axis(axes)
            axes[place] = of_units(axes[place])
        digits = [digit for axis in axes for digit in axis]
        places = {SAMPLE: [], UNIT: [], POSITION: []}
        for place, digit in enumerate(digits):
            places[digit.label].append(place)
        places[SAMPLE].sort(key=lambda place: -digits[place].step)
        split = tuple(digit.length for digit in digits)
        found = (tuple(places[label]) for label in (SAMPLE, POSITION, UNIT))
        return cls(tuple(layer.shape), split, *found, signed=layer.signed)

    @classmethod
    def of_rows(cls, shape):
        """Layout of samples along the first axis, units on the next one."""
        n_axes = len(shape)
        return cls(shape, shape, (0,), tuple(range(2, n_axes)), (1,) if n_axes > 1 else ())

    def for_rows(self, *, nonnegative):
        """Layout whose rows have no sign, where they must not have one.

        A matrix A of activations that have a sign becomes [max(A, 0), max(-A, 0)], from
        which A is got back exactly.
        """
        return replace(self, halved=self.signed and nonnegative)

    @property
    def n_units(self):
        """Units at every position."""
        return math.prod(self.split[place] for place in self.units)

    @property
    def n_samples(self):
        """Samples in the batch."""
        return math.prod(self.split[place] for place in self.samples)

    @property
    def position_lengths(self):
        """Lengths of the axes whose places are the positions, slowest first."""
        lengths = (self.split[place] for place in self.positions)
        return tuple(length for length in lengths if length != 1)

    @property
    def _order(self):
        return (*self.samples, *self.positions, *self.units)

    def rows(self, A):
        """Give a feature map as (n_samples, n_positions, n_units), a view if it can be.

        Of halves, there are twice as many units.
        """
        A = A.reshape(self.split).permute(self._order)
        A = A.reshape(self.n_samples, math.prod(self.position_lengths), self.n_units)
        return torch.cat([A.clamp(min=0), A.neg().clamp_(min=0)], -1) if self.halved else A

    def restore(self, rows):
        """Give rows (n_samples, n_positions, n_units) as the feature map they were."""
        if self.halved:
            positive, negative = rows.reshape(*rows.shape[:-1], 2, -1).unbind(-2)
            rows = positive - negative
        A = rows.reshape([self.split[place] for place in self._order])
        back = sorted(range(len(self._order)), key=self._order.__getitem__)
        return A.permute(back).reshape(self.shape)


def not_of_samples(digit):
    """Take a digit of samples for one of positions."""
    return Digit(POSITION, digit.length) if digit.label == SAMPLE else digit


def count(label, axes):
    """Count what digits of a label count; 0 where there are none."""
    lengths = [digit.length for axis in axes for digit in axis if digit.label == label]
    return math.prod(lengths) if lengths else 0


def sample_axis(shape, n_samples, listed, n_listed):
    """Axis of the samples by the lengths alone; None where none fits."""
    axes = [a for a, length in enumerate(shape) if length and length % n_samples == 0]
    if listed is not None and n_listed != n_samples and len(listed.shape) == len(shape):
        before = listed.shape
        axes = [a for a in axes if before[a] * n_samples == shape[a] * n_listed] or axes
        axes = [a for a in axes if before[a] != shape[a]]
    exact = [a for a in axes if shape[a] == n_samples]
    return next(iter(exact or axes), None)


def unit_axis(axes):
    """Axis of the units where no operation told: that of channels, or the last one."""
    last = len(axes) - 1
    chosen = 1 if last > 2 else last
    if has(SAMPLE, axes[chosen]):
        chosen = last if not has(SAMPLE, axes[last]) else 0
    return chosen

"""Rows drawn in proportion to their energy, from two passes over any number of them."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from sknonlin._matrices.products import unit_rows
from sknonlin._matrices.stack import check_extremes, extremes
from sknonlin._running.memory import ENERGY_BYTES, affordable


class Energies(NamedTuple):
    """Squared norms of the rows of a matrix in a block, summed over groups of them."""

    groups: torch.Tensor  # (n_groups,), in units of 4**exponent
    exponent: torch.Tensor  # ()
    n_rows: int


class Survey(NamedTuple):
    """What is found in one pass over rows, before any of them is drawn."""

    low: torch.Tensor  # (n_matrices,)
    high: torch.Tensor
    energies: list  # for every matrix, a tuple of Energies in the order of the rows


def power_of_two(exponent):
    """Exact powers, in float64."""
    return torch.as_tensor(np.ldexp(1.0, exponent.numpy()), device="cpu")


def row_energies(block, exponent):
    """Squared norms (n_matrices, m) of rows, in units of ``4**exponent``.

    Powers of two change no digit, so blocks with different ones agree.
    """
    scale = power_of_two(-exponent).to(block.dtype).to(block.device)
    return (block * scale[:, None, None]).square_().sum(2).cpu().double()


def survey(block, group):
    """Extremes of a block, and the energies of its rows in groups; 0 for none."""
    low, high = extremes(block)
    if not group:
        return Survey(low, high, [()] * len(block))
    largest = torch.maximum(high, -low).cpu()
    limit = -int(np.log2(torch.finfo(block.dtype).tiny))
    exponent = torch.frexp(largest)[1].clamp(-limit, limit)
    exponent = torch.where(largest > 0, exponent, -limit)
    rows = row_energies(block, exponent)
    if group > 1:
        rows = functional.pad(rows, (0, -rows.shape[1] % group))
        rows = rows.unflatten(1, (-1, group)).sum(2)
    own = zip(rows, exponent, strict=True)
    return Survey(low, high, [(Energies(*each, block.shape[1]),) for each in own])


def merge_surveys(first, second):
    """Join the surveys of rows that follow each other."""
    return Survey(
        torch.minimum(first.low, second.low),
        torch.maximum(first.high, second.high),
        [a + b for a, b in zip(first.energies, second.energies, strict=True)],
    )


def checked_scale(stack, *, nonnegative, group=0):
    """Pass over the rows once: check them, and find their energies.

    Returns
    -------
    largest : tensor of shape (n_matrices, 1, 1)
        Largest absolute value of every matrix, 1 for an all-zero one.
    energies : list of tuples of Energies
        For every matrix.
    """
    low, high, energies = stack.fold(
        partial(survey, group=group), merge_surveys, description="checks"
    )
    check_extremes(low, high, stack.name, nonnegative=nonnegative)
    largest = torch.maximum(high, -low).to(stack.device)[:, None, None]
    return torch.where(largest > 0, largest, 1), energies


def group_size(n, n_matrices):
    """Rows in a group, so that the energies of all groups fit into their memory."""
    return -(-n // affordable(n_matrices * ENERGY_BYTES, "rows", "energies", most=n))


def drawn_rows(stack, energies, group, n_drawn, offset):
    """At most ``n_drawn`` rows of every matrix, drawn in proportion to their energy.

    The systematic sample steps through the cumulated squared norms from one offset in
    [0, 1]. Rows come back at norm 1, which makes their error an unbiased estimate of
    the matrix's; the draw for one matrix does not depend on the others.
    """
    chosen = [chosen_groups(own, group, n_drawn, offset) for own in energies]
    starts, ends, targets, units = map(torch.stack, zip(*chosen, strict=True))
    if group > 1:
        starts = rows_in_groups(stack, group, starts, ends, targets, units)
    return unit_rows(stack.take(starts))[0]


def chosen_groups(energies, group, n_drawn, offset):
    """Find the groups of a matrix's rows that a sample falls into.

    Returns
    -------
    starts, ends : tensors of int of shape (n_drawn,)
        Their rows.
    targets : tensor of shape (n_drawn,)
        The cumulated energy, from a group's start, at which the sample is.
    unit : tensor of shape ()
        The exponent of its unit.
    """
    unit = torch.stack([part.exponent for part in energies]).amax()
    scaled = [part.groups * power_of_two(2 * (part.exponent - unit)) for part in energies]
    cumulated = torch.cat(scaled).cumsum(0)
    steps = torch.arange(n_drawn, dtype=torch.float64, device="cpu") + offset
    targets = cumulated[-1] * (steps / n_drawn)
    index = torch.searchsorted(cumulated, targets).clamp(max=len(cumulated) - 1)
    starts, ends, first = [], [], 0
    for part in energies:
        start = torch.arange(first, first + part.n_rows, group, device="cpu")
        starts.append(start)
        first += part.n_rows
        ends.append((start + group).clamp(max=first))
    before = functional.pad(cumulated, (1, 0))[index]
    return torch.cat(starts)[index], torch.cat(ends)[index], targets - before, unit


def rows_in_groups(stack, group, starts, ends, targets, units):
    """Row of each chosen group where the cumulated energies in it reach a target."""
    result = torch.empty_like(starts)
    step = max(1, starts.shape[1] // group)
    for first in range(0, starts.shape[1], step):
        part = slice(first, first + step)
        rows = starts[:, part, None] + torch.arange(group, device="cpu")
        inside = rows < ends[:, part, None]
        rows = torch.minimum(rows, ends[:, part, None] - 1)
        energy = row_energies(stack.take(rows.flatten(1)), units)
        energy = energy.reshape(rows.shape) * inside
        wanted = targets[:, part, None].contiguous()
        place = torch.searchsorted(energy.cumsum(2), wanted)[..., 0]
        result[:, part] = torch.minimum(starts[:, part] + place, ends[:, part] - 1)
    return result

"""What goes into a network as rows, one for each sample: numbers, and counts of ids."""

from collections.abc import Mapping

import torch

INPUT = "input"
COUNTS, PLACES = "counts", "places"
WIDTH = 2048  # columns that ids are counted in, of which some share one
SPREAD, SHIFT = -7046029254386353131, 53  # by 2**64 / 1.618; the highest 11 bits stay
MAX_PLACES = 256  # in a sample, of whole numbers that may be categories
PLACE_STEP = 7919  # what is between the columns of an id at two places


def parts(batch, name=INPUT):
    """Yield the tensors of a nested batch, and their names."""
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from parts(value, f"{name}[{key}]")
    elif isinstance(batch, tuple | list):
        for number, value in enumerate(batch):
            yield from parts(value, f"{name}[{number}]" if len(batch) > 1 else name)
    elif isinstance(batch, torch.Tensor):
        yield name, batch


def is_input(name):
    """Whether a name is of what goes into a network, not of a layer."""
    return name == INPUT or name.startswith((f"{INPUT}[", f"{INPUT} "))


def is_counts(name):
    """Whether rows of that name are counts of ids."""
    return name.endswith((f" {COUNTS}", f" {PLACES}"))


def is_ids(part):
    """Whether a tensor may be of ids: of tokens in a sequence, or of categories."""
    return not (part.is_floating_point() or part.is_complex()) and part.ndim <= 2


def numbers(part):
    """Give a tensor as floats, dense."""
    part = part.to_dense() if part.layout != torch.strided else part
    part = torch.view_as_real(part) if part.is_complex() else part
    part = part[:, None] if part.ndim == 1 else part
    return part if part.is_floating_point() else part.float()


def count_ids(part, dtype):
    """Count how often every id is in a sample: log(1 + count), (n_samples, WIDTH)."""
    ids = part.reshape(len(part), -1).long()
    counts = torch.zeros(len(ids), WIDTH, dtype=dtype, device=ids.device)
    ones = torch.ones((), dtype=dtype, device=ids.device).expand(ids.shape)
    return counts.scatter_add_(1, column_of(ids), ones).log1p_()


def column_of(ids):
    """Column that an id is counted in; multiples of a number are spread, too."""
    return (ids * SPREAD >> SHIFT) % WIDTH


def mark_places(part, dtype):
    """Mark which id is at every place (n_samples, WIDTH)."""
    places = torch.arange(part.shape[1], device=part.device)
    return count_ids(part.long() + PLACE_STEP * places, dtype)


def input_rows(batch, n_samples, dtype, pooled):
    """Rows (n_samples, n_features) of what goes into a network, by name.

    Whole numbers are given as they are, as numbers; by how often each one is there, where
    they may be tokens; and by where each one is, where they may be categories.

    Parameters
    ----------
    batch : nested tensors
    n_samples : int
        Other tensors are left out.
    dtype : torch.dtype
        Of the rows.
    pooled : callable
        ``pooled(name, tensor)`` turns floats of more axes into rows.
    """
    found = {}
    for name, part in parts(batch):
        if not part.ndim or len(part) != n_samples or not part.numel():
            continue
        if not is_ids(part):
            found[name] = pooled(name, numbers(part))
            continue
        ids = part[:, None] if part.ndim == 1 else part
        found[f"{name} {COUNTS}"] = count_ids(ids, dtype)
        if ids.shape[1] <= MAX_PLACES:
            found[f"{name} {PLACES}"] = mark_places(ids, dtype)
            found[name] = ids.to(dtype)
    return found

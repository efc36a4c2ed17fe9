"""The first run of a network, on a few samples, which tells whether it takes them."""

from contextlib import contextmanager

import torch
from torch.utils._pytree import tree_leaves


@contextmanager
def first_run(batch, n_samples):
    """Say which samples a network fails on.

    Raises
    ------
    ValueError
        In place of torch's RuntimeError, unless memory is the reason.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        parts = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
        shown = ", ".join(f"{tuple(part.shape[1:])} of {part.dtype}" for part in parts)
        reason = str(error).partition("\n")[0]
        remedy = "Give X in the shape and the type that it takes"
        if not all(part.is_floating_point() for part in parts):
            remedy += "; whole numbers are not converted, X.astype('float32') does that"
        raise ValueError(
            f"The network failed on {n_samples} samples, {shown}: {reason}. {remedy}."
        ) from error

"""What is said where a network fails on the first samples that it gets."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves


def runs_unwatched(network, batch):
    """Whether a network runs where its operations are not followed."""
    try:
        with torch.no_grad(), _disable_current_modes():
            network.run(batch)
    except Exception:  # of a user's code, which may raise anything
        return False
    return True


def last_line(error):
    """Last line of an error's message that says something, or the error's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" :.")]
    said = lines[-1].removeprefix("RuntimeError:").strip() if lines else ""
    return said or type(error).__name__


@contextmanager
def first_run(batch, n_samples, network=None):
    """Say which samples a network fails on.

    Parameters
    ----------
    batch : nested tensors
    n_samples : int
        In the batch.
    network : Network, default=None
        Whose operations are followed, if they are.

    Raises
    ------
    ValueError
        In place of torch's RuntimeError, unless memory is the reason.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RecursionError as error:
        raise RecursionError(
            "The network's modules are nested deeper than Python calls functions. Raise "
            "the limit, sys.setrecursionlimit(10_000), or flatten the network."
        ) from error
    except (RuntimeError, AssertionError) as error:  # the latter of exported programs
        if "allocate memory" in str(error):
            raise
        if network is not None and runs_unwatched(network, batch):
            raise ValueError(
                "The network runs, but its operations cannot be followed: "
                f"{last_line(error)}. Measure the module that it was made of, before it "
                "was optimized or compiled for a device."
            ) from error
        parts = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
        shown = ", ".join(f"{tuple(part.shape[1:])} of {part.dtype}" for part in parts)
        reason = str(error).partition("\n")[0]
        remedy = "Give X in the shape and the type that it takes"
        if not all(part.is_floating_point() for part in parts):
            remedy += "; whole numbers are not converted, X.astype('float32') does that"
        raise ValueError(
            f"The network failed on {n_samples} samples, {shown}: {reason}. {remedy}."
        ) from error

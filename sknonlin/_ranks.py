"""Grids of ranks: those given, and the automatic one."""

from itertools import pairwise
from numbers import Integral

import numpy as np
import torch

AUTO_RANKS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32)


def auto_ranks(limit):
    """Ten ranks from 1 to 32, about geometric, as far as they are below ``limit``."""
    return [k for k in AUTO_RANKS if k < limit] or [1]


def check_ranks(ranks):
    """Ranks as an increasing list of distinct positive integers.

    Raises
    ------
    TypeError
        If a rank is not an integer.
    ValueError
        If there is none, or one is below 1, or they do not increase.
    """
    advice = "Pass increasing integers of at least 1, for example ranks=[1, 2, 4, 8]."
    ranks = [ranks] if isinstance(ranks, Integral | str) else list(ranks)
    ranks = [rank.item() if isinstance(rank, torch.Tensor) else rank for rank in ranks]
    for rank in ranks:
        if isinstance(rank, bool | np.bool_) or not isinstance(rank, Integral):
            raise TypeError(
                f"ranks must be integers, got {rank!r} of type "
                f"{type(rank).__name__}. {advice}"
            )
    if not ranks:
        raise ValueError(f"ranks is empty. {advice}")
    if min(ranks) < 1:
        raise ValueError(f"ranks must be at least 1, got {min(ranks)}. {advice}")
    if any(b <= a for a, b in pairwise(ranks)):
        raise ValueError(
            f"ranks must increase without repeats, got {ranks}. "
            f"Pass ranks={sorted(set(ranks))}."
        )
    return [int(rank) for rank in ranks]

"""How much memory work may take, and what to do where there is less.

The bound is scikit-learn's own ``working_memory``, in MiB: that of the estimator's
parameter, or else of :func:`sklearn.config_context`. On a GPU, it is what is free there.
"""

import ctypes
import math
import mmap
import sys
from contextlib import nullcontext
from numbers import Real

import numpy as np
import torch
from sklearn import config_context, get_config
from sklearn.utils._param_validation import Interval

MEBIBYTE = 2**20
WORKING_MEMORY_CONSTRAINT = [Interval(Real, 0, None, closed="neither"), None]
SHARE_OF_FREE = 0.8  # of a GPU's free memory


def limited(working_memory):
    """Context in which ``working_memory`` MiB hold; None leaves scikit-learn's setting."""
    if working_memory is None:
        return nullcontext()
    return config_context(working_memory=working_memory)


def free_bytes(device):
    """Bytes that work on a device may take."""
    device = torch.device(device)
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE_OF_FREE * (torch.cuda.mem_get_info(device)[0] + cached))
    return int(get_config()["working_memory"] * MEBIBYTE)


def affordable(item_bytes, *, share=1.0, most=math.inf, device="cpu"):
    """How many items of a size fit into a share of the memory, at least 1 and at most."""
    return int(max(1, min(most, share * free_bytes(device) // max(1, item_bytes))))


def trim():
    """Return freed memory to the system.

    glibc keeps what lies between pieces in use, and can seldom use it again for blocks
    that are aligned as torch's are.
    """
    if sys.platform == "linux":
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if release is not None:
            release(0)


def in_parts(function, n, step):
    """Call ``function(slice)`` on parts of n items; halve those that a GPU cannot hold."""
    start = 0
    while start < n:
        part = slice(start, min(start + step, n))
        try:
            function(part)
        except torch.OutOfMemoryError:
            if step == 1:
                raise
            torch.cuda.empty_cache()
            step = -(-min(step, n - start) // 2)
            continue
        start = part.stop
        if step < n:
            trim()


def file_mapping(X):
    """Return the mapping of a file that an array shows, or None.

    One whose changes are kept in memory alone (``mode="c"``) does not count.
    """
    found = None
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            found = X.mode != "c"
        X = X.base
    return X if found and isinstance(X, mmap.mmap) else None


def release_pages(X):
    """Give the pages of a memory map back, which are read from the file again if needed."""
    mapping = file_mapping(X)
    if mapping is not None and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)

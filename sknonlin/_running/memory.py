"""How much memory work may take, and what to do where there is less.

The bound is scikit-learn's own ``working_memory``, in MiB: that of the estimator's
parameter, or else of :func:`sklearn.config_context`. On a GPU, it is what is free there.
"""

import ctypes
import math
import mmap
import sys
import threading
from contextlib import contextmanager, nullcontext
from functools import cache
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from sklearn import config_context, get_config
from sklearn.utils._param_validation import Interval

from sknonlin._running.torch_settings import ProcessWide

MEBIBYTE = 2**20

STORE = {"store": 0.3}  # of rows, in memory until it is full, and then in a file
READING = {"pass": 0.2, "block": 0.3}
#: Shares of the working memory, of all that a stage of the work holds at once. They add up
#: to 1 at most; what is left is for what is not counted. A stage within another one has
#: its shares of that one's part, see :func:`within`.
SHARES = {
    # Learning from matrices: rows brought together, a stack of them, and what learns.
    "learning": {"gathered": 0.1, "stack": 0.15, "matrices": 0.75},
    # Passing over rows: a chunk with what is computed from it, and all rows' energies.
    "rows": {"chunk": 0.5, "energies": 0.1, "systems": 0.25, "stack": 0.15},
    # A layer profile: what a pass holds at all layers, and learning from it.
    "profile": {"pass": 0.5, "learning": 0.4},
    # Reading rows of samples, into the store or to score them.
    "reading": STORE | READING,
    # Learning the cones of samples from the store.
    "cones": STORE | {"learning": 0.7},
    # Scoring samples while they are read: what solves for their weights.
    "scoring": READING | {"weights": 0.25},
}
#: How many numbers are there at once for each one that is counted.
COPIES = {
    "chunk row": 5,  # of its features, and
    "chunk width": 8,  # of what is computed from it
    "taught row": 6,  # of what NMF learns from, and
    "factor": 10,  # of the factors
    "Gram matrix of PCA": 5,  # in float64, with its eigenvectors
    "Gram matrix of cones": 6,
    "components of cones": 2,
    "system": 5,  # of the linear equations of a row's support
    "weight": 8,  # of a sample on a component
    "profiled activation": 4,
    "replayed activation": 2,  # kept for the rest of the network, and
    "replayed call": 2,  # of the largest call: what it takes and gives
    "read activation": 2.5,
    "waiting block": 3,  # one that a worker works on, the others waiting
}
ENERGY_BYTES = 24  # of a group of rows, with the sums and what finds rows by them
#: Most that is handled at once however much memory there is: more is no faster.
MOST = {
    "chunk": 2**23,  # numbers in a chunk of rows
    "stack": 2**20,  # numbers in a stack of matrices, on a processor
    "learned": 2**25,  # bytes of matrices learned from together, on a processor
    "systems": 2**22,  # numbers in one batch of linear equations
    "pass": 2**26,  # activations of a forward pass
    "cached pass": 2**22,  # the same on a processor
    "replayed call": 2**20,  # numbers that a call gives in a replay, on a processor
    "sent": 2**22,  # bytes of samples in a task that goes to another process
    # A page of a file that is touched brings its neighbours in, so few are read at a time.
    "mapped rows": 64,  # in any order
    "checked rows": 1000,  # one after the other
}
WORKING_MEMORY_CONSTRAINT = [Interval(Real, 0, None, closed="neither"), None]
# Options of glibc's malloc: what sets them in the environment, and their numbers.
TRIM_THRESHOLD, MMAP_THRESHOLD = b"MALLOC_TRIM_THRESHOLD_", b"MALLOC_MMAP_THRESHOLD_"
OPTIONS = {TRIM_THRESHOLD: -1, MMAP_THRESHOLD: -3}
DEFAULT_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD = 128 * 2**10, 32 * 2**20
KEPT_BYTES = 2**28
LITTLE = 100  # MiB of working memory below which freed memory counts too
SHARE_OF_FREE = 0.8  # of a GPU's free memory


class Sharing(threading.local):
    """How many workers share the devices."""

    n_workers = 1


sharing = Sharing()


def limited(working_memory):
    """Context in which ``working_memory`` MiB hold; None leaves scikit-learn's setting."""
    if working_memory is None:
        return nullcontext()
    return config_context(working_memory=working_memory)


@contextmanager
def devices_shared_by(n_workers):
    """Context in which this thread takes no more than its share of a GPU."""
    before = sharing.n_workers
    sharing.n_workers = n_workers
    try:
        yield
    finally:
        sharing.n_workers = before


def free_bytes(device):
    """Bytes that work on a device may take."""
    device = torch.device(device)
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
        return int(SHARE_OF_FREE * free / sharing.n_workers)
    return int(get_config()["working_memory"] * MEBIBYTE)


def within(stage, part):
    """Context of a stage within another one, whose part is its working memory."""
    return limited(SHARES[stage][part] * get_config()["working_memory"])


def affordable(item_bytes, stage=None, part=None, *, most=math.inf, device="cpu"):
    """How many items of a size there is memory for, at least 1 and at most.

    Parameters
    ----------
    item_bytes : int
    stage, part : str, default=None
        Whose share of the memory counts, see ``SHARES``; None: all of it.
    most : int
    device : str or torch.device
    """
    share = 1 if stage is None else SHARES[stage][part]
    return int(max(1, min(most, share * free_bytes(device) // max(1, item_bytes))))


def glibc(name):
    """Return a function of glibc, or None where there is none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def trim():
    """Return freed memory to the system.

    glibc keeps what lies between pieces in use, and can seldom use it again for blocks
    that are aligned as torch's are.
    """
    release = glibc("malloc_trim")
    if release is not None:
        release(0)


def settle():
    """Return freed memory to the system where there is little to work with."""
    if get_config()["working_memory"] <= LITTLE:
        trim()


@cache
def options_at_start():
    """Give the options that glibc's malloc has from the environment of the process.

    They are those that it began with: what was set later, malloc has not read.
    """
    try:
        variables = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = [variable.partition(b"=")[::2] for variable in variables]
    return {
        name: int(value) for name, value in pairs if name in OPTIONS and value.isdigit()
    }


@contextmanager
def keep_freed_memory():
    """Keep freed memory, where the process was told to return it at once.

    Dask tells its workers so, by ``MALLOC_TRIM_THRESHOLD_``: each temporary array is then
    fetched from the system page by page, which takes longer than to compute it.
    """
    before, set_option = options_at_start(), glibc("mallopt")
    if TRIM_THRESHOLD not in before or set_option is None:
        yield
        return
    set_option(OPTIONS[TRIM_THRESHOLD], KEPT_BYTES)
    set_option(OPTIONS[MMAP_THRESHOLD], LARGEST_MMAP_THRESHOLD)
    try:
        yield
    finally:
        set_option(OPTIONS[TRIM_THRESHOLD], before[TRIM_THRESHOLD])
        threshold = before.get(MMAP_THRESHOLD, DEFAULT_MMAP_THRESHOLD)
        set_option(OPTIONS[MMAP_THRESHOLD], threshold)
        trim()


freed_memory_kept = ProcessWide(keep_freed_memory)


def ran_out(error):
    """Whether an error says that a device has no memory left."""
    signs = ("MPS backend out of memory", "_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in str(error) for sign in signs
    )


def empty_cache():
    """Give back what torch keeps of GPUs' memory."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def in_parts(function, n, step):
    """Call ``function(slice)`` on parts of n items; halve those that a GPU cannot hold."""
    start = 0
    while start < n:
        part = slice(start, min(start + step, n))
        try:
            function(part)
        except RuntimeError as error:
            if step == 1 or not ran_out(error):
                raise
            halved = True
        else:
            halved = False
        if halved:  # and the error is gone, which held what it happened in
            empty_cache()
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

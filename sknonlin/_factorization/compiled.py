"""Small matrices on a processor: in functions that numba compiles, where it is there.

A function is compiled when it is first called for a dtype, and kept on the disk: next to
the package or, where nothing can be written there, in the user's cache folder.
"""

import hashlib
import types
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch

from sknonlin._running.parallel import in_threads
from sknonlin._running.torch_settings import operations_alone, thread_count

FOLDER = Path(__file__).parent
SOURCES = ("method.py", "simd.py", "path_kernel.py", "row_kernel.py", "cone_kernel.py")
MOST_NUMBERS = 2**20  # of a matrix: more are faster by BLAS, with threads for each product
MOST_SENT = 2**19  # numbers of matrices on a GPU that are learned from on the processor
CHUNK = 2048  # rows for which a thread finds what cones leave of them
MOST_GENERATORS = 128  # of a cone: systems of more are solved faster by LAPACK
LITTLE_WORK = 2**22  # numbers times ranks, which are computed before threads have begun
NAMES = {torch.float32: "float32", torch.float64: "float64"}


class Kernels:
    """Compiled functions for one dtype.

    Each is kept in a file of its own for every dtype and version of the code, so that
    processes that write a file at the same time write the same. (numba itself looks for
    changes in the file of a function alone, not in those that it imports from.)
    """

    def __init__(self, dtype):
        from sknonlin._factorization import cone_kernel, path_kernel, row_kernel, simd

        sources = b"".join((FOLDER / name).read_bytes() for name in SOURCES)
        self._mark = f"{NAMES[dtype]}_{hashlib.sha256(sources).hexdigest()[:12]}"
        self.lapack = simd.eigensolver()
        self.learn_matrix = self._compiled(path_kernel.learn_matrix)
        self.energies_left = self._compiled(row_kernel.energies_left)
        self.cone_weights = self._compiled(cone_kernel.cone_weights)
        self.exact_weights = self._compiled(cone_kernel.exact_weights)

    def _compiled(self, function):
        from numba import njit

        name = function.__name__
        own = types.FunctionType(function.__code__, function.__globals__, name)
        own.__qualname__ = f"{name}_{self._mark}"
        try:
            return njit(nogil=True, cache=True)(own)
        except RuntimeError:  # that no folder can be written
            return njit(nogil=True)(own)


@cache
def kernels(dtype):
    """Compiled functions for a dtype, or None where numba does not work."""
    try:
        return Kernels(dtype)
    except (ImportError, AttributeError, OSError):
        return None


def serves(X, ranks):
    """Whether matrices (n_matrices, n, q) are learned from in compiled functions.

    It follows from one matrix alone, and not from how many there are.
    """
    small = X.shape[1] * X.shape[2] <= MOST_NUMBERS
    there = X.device.type == "cpu" and X.dtype in NAMES and len(ranks) > 0
    return small and there and kernels(X.dtype) is not None


def serves_gpu(X, ranks):
    """Whether matrices on a GPU, all together, are so few that the processor learns."""
    little = X.device.type != "cpu" and X.numel() <= MOST_SENT
    return little and len(ranks) > 0 and X.dtype in NAMES and kernels(X.dtype) is not None


def serves_cones(G):
    """Whether weights on cones (n_cones, k, k) are found in compiled functions."""
    there = (
        G.device.type == "cpu" and G.dtype in NAMES and 0 < G.shape[1] <= MOST_GENERATORS
    )
    return there and kernels(G.dtype) is not None


def context_for(n_numbers, device):
    """Context of what is done around compiled functions to so many numbers."""
    little = device.type == "cpu" and n_numbers <= LITTLE_WORK
    return operations_alone() if little else nullcontext()


def threads_for(n_numbers, ranks):
    """How many threads compute something."""
    return 1 if n_numbers * sum(ranks) < LITTLE_WORK else thread_count()


def learn_path_compiled(X, ranks, max_iter, tol, progress):
    """Do what `rank_path.learn_path` does, one matrix after the other.

    Parameters
    ----------
    X : tensor of shape (n_matrices, n, q)
        Matrices of any norm.
    ranks : list of int, increasing
    max_iter, tol : int, float
    progress : callable
        Called when a matrix is done.

    Returns
    -------
    components : list of tensors of shape (n_matrices, k, q)
        Rows of norm 1, or zero.
    errors : tensor of shape (n_matrices, n_ranks)
    n_iter : tensor of int of shape (n_matrices, n_ranks)
    """
    learn, lapack = kernels(X.dtype).learn_matrix, kernels(X.dtype).lapack
    n_matrices, _, q = X.shape
    matrices = X.contiguous().numpy()
    sizes = torch.tensor(ranks, device="cpu").numpy()
    components = X.new_empty(n_matrices, sum(ranks), q)
    errors = X.new_empty(n_matrices, len(ranks))
    n_iter = torch.empty(errors.shape, dtype=torch.int64, device="cpu")
    results = [tensor.numpy() for tensor in (components, errors, n_iter)]

    def learn_one(i):
        learn(matrices[i], sizes, max_iter, tol, lapack, *(own[i] for own in results))
        progress()

    in_threads(learn_one, range(n_matrices), threads_for(X.numel(), ranks))
    return list(components.split(ranks, 1)), errors, n_iter


def energies_left_compiled(X, scale, components):
    """Squared norms of rows, and of what the cones of every rank leave of them.

    Parameters
    ----------
    X : tensor of shape (n_matrices, m, q)
    scale : tensor of shape (n_matrices,)
    components : list of tensors of shape (n_matrices, k, q)

    Returns
    -------
    energies : tensor of shape (n_matrices, 1 + n_ranks), in float64
    """
    function = kernels(X.dtype).energies_left
    ranks = [H.shape[1] for H in components]
    n_matrices, m, _ = X.shape
    rows, cones = X.contiguous().numpy(), torch.cat(components, 1).contiguous().numpy()
    sizes = torch.tensor(ranks, device="cpu").numpy()
    scale = scale.numpy()
    starts = range(0, m, CHUNK)
    parts = [(i, j) for i in range(n_matrices) for j in range(len(starts))]
    energies = torch.zeros(
        n_matrices, len(starts), 1 + len(ranks), dtype=torch.float64, device="cpu"
    )
    left = energies.numpy()

    def compute(part):
        i, j = part
        last = min(m, starts[j] + CHUNK)
        function(rows[i], starts[j], last, scale[i], cones[i], sizes, left[i, j])

    in_threads(compute, parts, threads_for(X.numel(), ranks))
    return energies.sum(1)


def on_cones(function, G, F, W):
    """Call a function of `cone_kernel` for the columns of all cones, in parts.

    Parameters
    ----------
    function : compiled function
    G : tensor of shape (n_cones, k, k)
    F : tensor of shape (n_cones, k, m)
    W : tensor of shape (n_cones, k, m) or (n_cones, m, k)
        It is written to.
    """
    n_cones, k, m = F.shape
    grams, crossed, weights = G.contiguous().numpy(), F.contiguous().numpy(), W.numpy()
    parts = [(i, start) for i in range(n_cones) for start in range(0, m, CHUNK)]

    def compute(part):
        i, start = part
        function(grams[i], crossed[i], start, min(m, start + CHUNK), weights[i])

    in_threads(compute, parts, threads_for(F.numel(), [k]))


def cone_weights_compiled(G, F):
    """Do what `nmf_compression.cone_weights` does."""
    W = torch.empty_like(F, memory_format=torch.contiguous_format)
    on_cones(kernels(F.dtype).cone_weights, G, F, W)
    return W


def exact_weights_compiled(G, F):
    """Do what `nnls.pivoted` does."""
    W = F.new_empty(F.shape[0], F.shape[2], F.shape[1])
    on_cones(kernels(F.dtype).exact_weights, G, F, W)
    return W

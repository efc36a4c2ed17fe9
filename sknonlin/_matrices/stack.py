"""Arrays in and out: NumPy, SciPy sparse and torch inputs as stacks of torch matrices."""

import math
from copy import copy

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import gen_even_slices
from tqdm.auto import tqdm

from sknonlin._running import memory
from sknonlin._running.torch_settings import resolve_device
from sknonlin._running.validation import check_real, dense_tensor, without_mask

REMEDIES = {
    "negative": (
        "Negative values in data: {name} holds {value:.3g}. Outputs of a ReLU are "
        "never negative; take the activations after the ReLU, or use "
        "ActivationNonlinearity(compression='pca'), which accepts any sign."
    ),
    "nan": "{name} contains NaN. Remove or impute the rows that have it.",
    "infinity": (
        "{name} contains infinity. Check the network for overflow, or clip the activations."
    ),
}


def stack_elements(device):
    """Most numbers in a stack of several matrices that are solved together."""
    return memory.MOST["stack" if device.type == "cpu" else "chunk"]


def check_device_dtype(device, dtype, name="X"):
    """Raise a ValueError where a device has no numbers of that precision."""
    if device.type == "mps" and dtype == torch.float64:
        raise ValueError(
            f"device='mps' has no float64, in which {name} is computed. Pass {name} as "
            "float32, or device='cpu'."
        )


def working_dtypes(X, float16=torch.float32):
    """Torch dtype to compute X in, and NumPy or torch dtype to return.

    Half precisions are computed in float32 and returned as they came, unless those of
    arrays are to become ``float16=torch.float64``; integers and booleans become float64,
    as in scikit-learn.
    """
    if isinstance(X, torch.Tensor):
        if X.dtype in (torch.float32, torch.float64):
            return X.dtype, X.dtype
        if X.dtype.is_floating_point:
            return torch.float32, X.dtype
        return torch.float64, torch.float64
    native = X.dtype.newbyteorder("=")
    if native == np.float32 or (native == np.float16 and float16 == torch.float32):
        return torch.float32, native
    return torch.float64, np.dtype(np.float64)


def as_numbers(X, name="X"):
    """Array of any kind as a dense tensor, an array or a CSR matrix of real numbers.

    Raises
    ------
    TypeError
        If it holds something else, or has no values.
    ValueError
        If its numbers are complex, or some of them are masked.
    """
    if isinstance(X, torch.Tensor):
        X = dense_tensor(X, name)
    elif not sparse.issparse(X):
        X = np.asarray(without_mask(X, name))
    check_real(X.dtype, name)
    return X.tocsr() if sparse.issparse(X) else X


class NotFiniteError(ValueError):
    """Values are NaN or infinite."""


def check_extremes(low, high, name, *, nonnegative, remedies=REMEDIES):
    """Refuse NaN, infinite and, where asked, negative entries.

    Parameters
    ----------
    low, high : tensor
        The smallest and the largest entries of some matrices.
    name : str
        What messages call the matrices.
    nonnegative : bool
    remedies : dict of str
        Messages for ``"nan"``, ``"infinity"`` and ``"negative"`` entries.

    Raises
    ------
    NotFiniteError
        For NaN and infinite entries.
    ValueError
        For negative ones.
    """
    if torch.isnan(low).any() or torch.isnan(high).any():
        raise NotFiniteError(remedies["nan"].format(name=name))
    if torch.isinf(low).any() or torch.isinf(high).any():
        raise NotFiniteError(remedies["infinity"].format(name=name))
    if nonnegative and (low < 0).any():
        raise ValueError(remedies["negative"].format(name=name, value=low.min().item()))


def extremes(block):
    """Smallest and largest entry of every matrix of a block."""
    return torch.aminmax(block.flatten(1), dim=1)


def merge_extremes(first, second):
    """Extremes of two blocks together."""
    return torch.minimum(first[0], second[0]), torch.maximum(first[1], second[1])


def gather(X, index):
    """Rows of a matrix, copied; from a memory map, a few at a time."""
    if memory.file_mapping(X) is None:
        return X[torch.from_numpy(index).to(X.device) if torch.is_tensor(X) else index]
    rows = np.empty((len(index), X.shape[1]), dtype=X.dtype)
    for start in range(0, len(index), memory.MOST["mapped rows"]):
        part = slice(start, start + memory.MOST["mapped rows"])
        rows[part] = X[index[part]]
        memory.release_pages(X)
    return rows


class MatrixStack:
    """A stack of matrices whose rows are handed out as torch tensors.

    The data stay where they are (memory maps and sparse matrices too); only the rows
    asked for are converted and brought to the device.

    Parameters
    ----------
    X : ndarray, sparse matrix or tensor of shape (..., n, q)
    device : str or torch.device
    name : str
        The argument's name in messages.
    index : ndarray of int of shape (n_matrices, m)
        Rows of a two-dimensional X that make the matrices, instead of all.
    float16 : torch.dtype
        What half-precision arrays are computed in; if float64, it is returned too.
    verbose : int
        Above 0, progress bars.
    """

    def __init__(
        self, X, device="auto", name="X", *, index=None, float16=torch.float32, verbose=0
    ):
        X = as_numbers(X, name)
        if X.ndim < 2:
            raise ValueError(
                f"Expected 2D array or a stack of them, got {name} of shape "
                f"{tuple(X.shape)} instead. Reshape your data to (n_samples, "
                "n_features)."
            )
        if 0 in X.shape:
            raise ValueError(
                f"{name} is empty: its shape is {tuple(X.shape)}, and a minimum of 1 is "
                "required along every axis."
            )
        self.dtype, self._returned_dtype = working_dtypes(X, float16)
        self.device = resolve_device(device, X)
        check_device_dtype(self.device, self.dtype, name)
        self._is_torch = isinstance(X, torch.Tensor)
        self._origin = X.device if self._is_torch else None
        self._index = index
        *lead, self.n = X.shape[:-1] if index is None else index.shape
        self.lead, self.q = tuple(lead), X.shape[-1]
        self.n_matrices = int(np.prod(self.lead, dtype=int))
        whole = sparse.issparse(X) or index is not None
        self._X = X if whole else X.reshape(-1, self.n, self.q)
        self.name = name
        self.verbose = verbose

    @property
    def heights(self):
        """Number of rows of every matrix."""
        return torch.full((self.n_matrices,), self.n, device="cpu")

    def part(self, matrices):
        """Take some of the matrices, a slice of them."""
        if len(range(self.n_matrices)[matrices]) == self.n_matrices:
            return self
        stack = copy(self)
        if self._index is None:
            stack._X = self._X[matrices]
        else:
            stack._index = self._index[matrices]
        stack.n_matrices = len(range(self.n_matrices)[matrices])
        return stack

    def _to_torch(self, block):
        if not self._is_torch:
            numpy_dtype = np.float32 if self.dtype == torch.float32 else np.float64
            if memory.file_mapping(block) is None:
                block = np.require(block, dtype=numpy_dtype, requirements=("C", "W"))
            else:  # copied, so that its pages can be given back
                mapped, block = block, np.array(block, dtype=numpy_dtype, order="C")
                memory.release_pages(mapped)
            block = torch.from_numpy(block)
        block = block.to(self.dtype)
        pinned = block.device.type == "cpu" and block.numel() <= memory.MOST["chunk"]
        if self.device.type == "cuda" and pinned:
            return block.pin_memory().to(self.device, non_blocking=True)
        return block.to(self.device)

    def rows(self, start=0, stop=None):
        """Rows ``start`` to ``stop`` of every matrix, (n_matrices, m, q).

        They may be the input's own memory: nothing may be written to them.
        """
        if self._index is not None:
            return self._gathered(self._index[:, start:stop])
        if sparse.issparse(self._X):
            return self._to_torch(self._X[start:stop].toarray()[None])
        return self._to_torch(self._X[:, start:stop])

    def take(self, index):
        """Chosen rows of every matrix; ``index`` is (n_matrices, m) on the CPU."""
        index = index.numpy()
        if self._index is not None:
            return self._gathered(np.take_along_axis(self._index, index, 1))
        if sparse.issparse(self._X):
            return self._gathered(index)
        rows = [gather(x, i) for x, i in zip(self._X, index, strict=True)]
        if len(rows) == 1:
            return self._to_torch(rows[0][None])
        return self._to_torch(torch.stack(rows) if self._is_torch else np.stack(rows))

    def _gathered(self, index):
        rows = gather(self._X, index.ravel())
        rows = rows.toarray() if sparse.issparse(rows) else rows
        return self._to_torch(rows.reshape(*index.shape, self.q))

    def most_together(self, matrix_bytes):
        """How many matrices of a size are learned from fastest together."""
        return (
            memory.MOST["learned"] // matrix_bytes
            if self.device.type == "cpu"
            else math.inf
        )

    def step(self, width=0):
        """Rows of a chunk whose blocks stay below the numbers of a chunk.

        ``width`` is that of what is computed from a row, besides what is as wide as it.
        """
        numbers = memory.COPIES["chunk row"] * self.q + memory.COPIES["chunk width"] * width
        row_bytes = self.dtype.itemsize * numbers
        most = max(1, memory.MOST["chunk"] // (self.n_matrices * max(self.q, width)))
        stack_bytes = self.n_matrices * row_bytes
        return memory.affordable(
            stack_bytes, "rows", "chunk", most=most, device=self.device
        )

    def fold(self, function, combine, arguments=(), width=0, description="rows"):
        """Reduce all rows, chunk by chunk.

        Parameters
        ----------
        function : callable
            Of a block of rows (n_matrices, m, q), to which it must not write, and the
            arguments.
        combine : callable
            Joins the results of two blocks that follow each other.
        arguments : tuple of tensors of shape (n_matrices, ...)
        width : int
            As in :meth:`step`.
        description : str
            Of the progress bar.
        """
        results = []

        def add(rows):
            result = function(self.rows(rows.start, rows.stop), *arguments)
            results[:] = [combine(results[0], result) if results else result]
            bar.update(rows.stop - rows.start)

        step = self.step(width)
        hidden = not self.verbose or step >= self.n
        with tqdm(desc=description, total=self.n, leave=False, disable=hidden) as bar:
            memory.in_parts(add, self.n, step)
        return results[0]

    def check_values(self, *, nonnegative):
        """Largest absolute value of every matrix, after one pass over the data.

        Raises
        ------
        ValueError
            For NaN, infinite and, where asked, negative entries.
        """
        low, high = self.fold(extremes, merge_extremes)
        check_extremes(low, high, self.name, nonnegative=nonnegative)
        return torch.maximum(high, -low)

    def restore(self, tensor, *, lead=True):
        """Return a result in the input's array type, dtype and device.

        ``lead`` gives back the leading axes that were flattened into the first.
        """
        if lead:
            tensor = tensor.reshape(*self.lead, *tensor.shape[1:])
        if self._is_torch:
            return tensor.to(device=self._origin, dtype=self._returned_dtype)
        return tensor.cpu().numpy().astype(self._returned_dtype, copy=False)


def padded_height(n_rows, max_rows):
    """Height to which a class is padded: within a quarter of its own, whatever others'.

    A class of more than ``max_rows`` rows is not padded, because rows of it are drawn.
    """
    if max_rows is not None and n_rows > max_rows:
        return n_rows
    step = max(1, 2 ** (n_rows.bit_length() - 3))
    height = -(-n_rows // step) * step
    return height if max_rows is None else min(height, max_rows)


def class_members(codes, n_classes):
    """Increasing row numbers of every class, as a list of arrays."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=n_classes))[:-1])


def stack_numbers(itemsize, device, held="cpu"):
    """Most numbers in the rows of several classes that are solved together.

    Parameters
    ----------
    itemsize : int
        Bytes of a number.
    device : torch.device
        Where they are solved.
    held : str or torch.device, default="cpu"
        Where the rows are brought together.
    """
    most = stack_elements(device)
    return memory.affordable(itemsize, "learning", "stack", most=most, device=held)


def class_groups(sizes, n_features, max_rows, most, n_groups=1, extra=0):
    """Group classes that are padded to one height.

    Parameters
    ----------
    sizes : list of int
        Number of rows of every class.
    n_features : int
        Length of their rows.
    max_rows : int or None
        Above it, classes are not padded.
    most : int
        A group of several classes has no more numbers, see :func:`stack_numbers`.
    n_groups : int, default=1
        Classes are spread over at least so many groups, where there are enough; those of
        one height over a multiple of them, where there are more.
    extra : int, default=0
        Numbers that there are of every class besides its rows.

    Returns
    -------
    groups : list of (height, classes)
    """
    heights = {}
    for label, size in enumerate(sizes):
        heights.setdefault(padded_height(size, max_rows), []).append(label)
    even = -(-len(sizes) // n_groups)
    groups = []
    for height, labels in heights.items():
        step = min(even, max(1, most // (height * n_features + extra)))
        n_stacks = -(-len(labels) // step)
        n_stacks += -n_stacks % n_groups if n_stacks > n_groups else 0
        groups += [
            (height, labels[part]) for part in gen_even_slices(len(labels), n_stacks)
        ]
    return groups


def gather_classes(X, members, height):
    """Rows of some classes as a stack (n_classes, height, q), padded with zero rows."""
    shape = (len(members), height, X.shape[1])
    if isinstance(X, torch.Tensor):
        stack = X.new_zeros(shape)
    else:
        stack = np.zeros(shape, dtype=X.dtype)
    for matrix, index in zip(stack, members, strict=True):
        rows = gather(X, index)
        matrix[: len(index)] = rows.toarray() if sparse.issparse(rows) else rows
    return stack


def class_stacks(X, members, max_rows, device):
    """Gather the rows of every class into stacks of matrices of one height.

    The shorter ones are padded with zero rows, which no factorization sees.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    members : list of ndarray of int
        The rows of every class; one can be in several.
    max_rows : int or None
        Above it, classes are not padded.
    device : torch.device
        Where the stacks are solved.

    Yields
    ------
    classes : list of int
    X : array of shape (len(classes), height, n_features)
    n_rows : list of int
    """
    sizes = [len(index) for index in members]
    most = stack_numbers(X.dtype.itemsize, device)
    for height, classes in class_groups(sizes, X.shape[1], max_rows, most):
        stack = gather_classes(X, [members[label] for label in classes], height)
        yield classes, stack, [sizes[label] for label in classes]

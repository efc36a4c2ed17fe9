"""Arrays in and out: NumPy, SciPy sparse and torch inputs as stacks of torch matrices."""

from contextlib import ExitStack, contextmanager
from functools import wraps

import numpy as np
import torch
from scipy import sparse

# Rows are brought to the device in chunks of at most this many numbers.
CHUNK_ELEMENTS = 2**23

REMEDY = {
    "nonnegative": (
        "Negative values in data: {name} holds {value:.3g}. Outputs of a ReLU are "
        "never negative; take the activations after the ReLU, or use "
        "ActivationNonlinearity(compression='pca'), which accepts any sign."
    ),
    "nan": "{name} contains NaN. Remove or impute the rows that have it.",
    "infinity": (
        "{name} contains infinity. Check the network for overflow, or clip the activations."
    ),
}


@contextmanager
def exact_products():
    """Matrix products of float32 in float32, without TF32 or bfloat16 inside."""
    backends = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@contextmanager
def full_precision():
    """No gradients, no autocast, and exact products; all as before afterwards."""
    with ExitStack() as contexts:
        contexts.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                contexts.enter_context(torch.autocast(device, enabled=False))
        contexts.enter_context(exact_products())
        yield


def in_full_precision(function):
    """Run ``function`` inside :func:`full_precision`."""

    @wraps(function)
    def wrapped(*args, **kwargs):
        with full_precision():
            return function(*args, **kwargs)

    return wrapped


def resolve_device(device, X=None):
    """Find the torch device; ``"auto"`` is X's own, else the fastest.

    Raises
    ------
    ValueError
        If the device is unknown or not there.
    """
    if isinstance(device, str) and device == "auto":
        if isinstance(X, torch.Tensor):
            return X.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({str(error).splitlines()[0]}). "
            "Use device='cpu' or device='auto'."
        ) from error
    return found


def working_dtypes(X):
    """Torch dtype to compute X in, and NumPy or torch dtype to return.

    Half precisions are computed in float32 and returned as they came; integers and
    booleans become float64, as in scikit-learn.
    """
    if isinstance(X, torch.Tensor):
        if X.dtype in (torch.float32, torch.float64):
            return X.dtype, X.dtype
        if X.dtype.is_floating_point:
            return torch.float32, X.dtype
        kind_ok = not X.dtype.is_complex
        returned = torch.float64
    else:
        native = X.dtype.newbyteorder("=")
        if native == np.float64:
            return torch.float64, native
        if native in (np.float32, np.float16):
            return torch.float32, native
        kind_ok = X.dtype.kind in "biuf"
        returned = np.dtype(np.float64)
    if not kind_ok:
        raise TypeError(
            f"X must hold real numbers, got dtype {X.dtype}. Convert it with "
            "X.astype(float) or X.float()."
        )
    return torch.float64, returned


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
    """

    def __init__(self, X, device="auto", name="X"):
        if sparse.issparse(X):
            X = X.tocsr()
        elif isinstance(X, torch.Tensor):
            X = X.detach()
            if X.layout != torch.strided:
                raise TypeError(
                    f"{name} is a torch tensor of layout {X.layout}; pass a dense "
                    f"tensor ({name}.to_dense()) or a scipy.sparse matrix."
                )
        else:
            X = np.asarray(X)
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
        self.dtype, self._returned_dtype = working_dtypes(X)
        self.device = resolve_device(device, X)
        self._is_torch = isinstance(X, torch.Tensor)
        self._origin = X.device if self._is_torch else None
        self.lead = tuple(X.shape[:-2])
        self.n, self.q = X.shape[-2:]
        self.n_matrices = int(np.prod(self.lead, dtype=int))
        self._X = X if sparse.issparse(X) else X.reshape(-1, self.n, self.q)
        self.name = name

    def _to_torch(self, block):
        if sparse.issparse(block):
            block = block.toarray()[None]
        if not self._is_torch:
            numpy_dtype = np.float32 if self.dtype == torch.float32 else np.float64
            block = np.require(block, dtype=numpy_dtype, requirements=("C", "W"))
            block = torch.from_numpy(block)
        return block.to(device=self.device, dtype=self.dtype)

    def rows(self, start=0, stop=None):
        """Rows ``start`` to ``stop`` of every matrix, (n_matrices, m, q)."""
        if sparse.issparse(self._X):
            return self._to_torch(self._X[start:stop])
        return self._to_torch(self._X[:, start:stop])

    def chunks(self, width=0):
        """Slices over the rows whose blocks stay below ``CHUNK_ELEMENTS`` numbers.

        ``width`` is that of what is computed from a row, where it is above the row's.
        """
        step = max(1, CHUNK_ELEMENTS // (self.n_matrices * max(self.q, width)))
        return [slice(a, min(a + step, self.n)) for a in range(0, self.n, step)]

    def take(self, index):
        """Chosen rows of every matrix; ``index`` is (n_matrices, m) on the CPU."""
        if sparse.issparse(self._X):
            return self._to_torch(self._X[index[0].numpy()])
        if self._is_torch:
            index = index.to(self._X.device)
            return self._to_torch(
                torch.stack([x[i] for x, i in zip(self._X, index, strict=True)])
            )
        return self._to_torch(
            np.stack([x[i.numpy()] for x, i in zip(self._X, index, strict=True)])
        )

    def check_values(self, *, nonnegative):
        """Largest absolute value of every matrix, after one pass over the data.

        Raises
        ------
        ValueError
            For NaN, infinite and, where asked, negative entries.
        """
        largest = torch.zeros(self.n_matrices, dtype=self.dtype, device=self.device)
        smallest = torch.zeros_like(largest)
        for rows in self.chunks():
            block = self.rows(rows.start, rows.stop).flatten(1)
            low, high = torch.aminmax(block, dim=1)
            largest = torch.maximum(largest, torch.maximum(high, -low))
            smallest = torch.minimum(smallest, low)
        if torch.isnan(largest).any():
            raise ValueError(REMEDY["nan"].format(name=self.name))
        if torch.isinf(largest).any():
            raise ValueError(REMEDY["infinity"].format(name=self.name))
        if nonnegative and (smallest < 0).any():
            value = smallest.min().item()
            raise ValueError(REMEDY["nonnegative"].format(name=self.name, value=value))
        return largest

    def restore(self, tensor, *, lead=True):
        """Return a result in the input's array type, dtype and device.

        ``lead`` gives back the leading axes that were flattened into the first.
        """
        if lead:
            tensor = tensor.reshape(*self.lead, *tensor.shape[1:])
        if self._is_torch:
            return tensor.to(device=self._origin, dtype=self._returned_dtype)
        return tensor.cpu().numpy().astype(self._returned_dtype, copy=False)

"""Samples of any kind as batches: what is chosen of them, cast, moved and split."""

from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config
from sklearn.utils.validation import check_array
from skorch.dataset import get_len
from skorch.helper import SliceDataset
from skorch.utils import to_device
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sknonlin._running.torch_settings import random_state_kept
from sknonlin._running.validation import as_labels, is_missing

RAGGED = (
    "The samples of X have different shapes. Pad them to one shape, or give a torch "
    "Dataset of them and a skorch net whose iterator_valid__collate_fn pads a batch."
)
LIST_OF_ARRAYS = (
    "A list of {n} arrays counts as {n} inputs of the network. If each of them is a "
    "sample, join them: np.stack(X), or torch.stack(X)."
)
MOST_NAMED = 10  # columns, in an error


def batches_of(loader):
    """Yield samples by batches; a loader would draw from torch's random state."""
    with random_state_kept:
        iterator = iter(loader)
    while True:
        with random_state_kept:
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch[0] if isinstance(batch, tuple | list) else batch


def dtype_name(dtype):
    """NumPy's name of a torch dtype."""
    return str(dtype).removeprefix("torch.")


def like_a_number(value):
    """Whether an object can be read as a number, or is one that is missing."""
    try:
        float(value)
    except (TypeError, ValueError):
        return is_missing(value)
    return True


def refuse_no_numbers(X):
    """Refuse an array of what is not a number, and say what to give instead.

    Raises
    ------
    TypeError
        If it holds texts, dates, records, or objects such as paths and images.
    """
    first = next(iter(X.flat), 0.0)
    if X.dtype.kind in "USMmV" or (X.dtype.kind == "O" and not like_a_number(first)):
        raise TypeError(
            f"X holds a {type(first).__name__} for each sample, and a network takes "
            "numbers. For files and images, give a torch Dataset that makes tensors of "
            "them, as torchvision's ImageFolder does. For text, give token ids, or put "
            "what makes numbers of it before the network: "
            "MemorizationDetector(make_pipeline(TfidfVectorizer(), net))."
        )


def native(batch):
    """Convert arrays of numbers to what torch takes: of this machine's byte order."""

    def convert(array):
        if array.dtype.kind == "O":
            return array.astype(np.float64)
        if array.dtype.kind not in "iuf":
            return array
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        dtype = np.float64 if wide else array.dtype.newbyteorder("=")
        return array.astype(dtype, copy=False)

    return tree_map_only(np.ndarray, convert, batch)


def moved(batch, device):
    """Move a batch to a device; to a GPU while the processor goes on."""
    if torch.device(device).type == "cuda":
        batch = tree_map_only(
            torch.Tensor, lambda t: t if t.is_cuda or t.is_sparse else t.pin_memory(), batch
        )
        return tree_map_only(torch.Tensor, lambda t: t.to(device, non_blocking=True), batch)
    return to_device(batch, device)


def as_one_array(X):
    """Make samples in a list an array.

    Raises
    ------
    ValueError
        If they differ in shape.
    """
    try:
        return np.asarray(as_arrays(X))
    except ValueError as error:
        raise ValueError(RAGGED) from error


def joined(batches):
    """Join batches of one structure along the first axis of their tensors.

    Raises
    ------
    RuntimeError
        If their tensors differ in other axes, as those of samples that were padded
        batch by batch do.
    """
    return tree_map(lambda *parts: torch.cat(parts), *batches)


def part_of(batch, part, n_samples):
    """Take a part of the samples of a batch, views along the first axis of its tensors."""
    return tree_map_only(
        torch.Tensor, lambda t: t[part] if counts(t, n_samples) else t, batch
    )


def repeated(batch, n_samples, n_copies):
    """Put the samples of a batch side by side several times."""

    def copies(tensor):
        if not counts(tensor, n_samples):
            return tensor
        return tensor.repeat(n_copies, *[1] * (tensor.ndim - 1))

    return tree_map_only(torch.Tensor, copies, batch)


def counts(tensor, n_samples):
    """Whether the first axis of a tensor is that of the samples."""
    return tensor.ndim > 0 and len(tensor) == n_samples


def refuse_streams(X):
    """Refuse what gives samples only in its own order.

    Raises
    ------
    TypeError
        If X is a loader or an iterable data set, or a Dask array.
    """
    if isinstance(X, DataLoader):
        raise TypeError(
            "X is a DataLoader, whose samples cannot be chosen; pass its dataset, "
            "X.dataset."
        )
    if isinstance(X, IterableDataset):
        raise TypeError(
            "X is an IterableDataset, whose samples cannot be chosen; pass a Dataset with "
            "__getitem__ and __len__, or an array."
        )
    if hasattr(X, "__dask_graph__"):
        raise TypeError(
            "X is a Dask collection, which only ActivationNonlinearity takes; pass the "
            "network's samples as an array, X.compute(), or a memory map where they are "
            "too many."
        )


def is_frame(X):
    """Whether X is a table with named columns, of whatever library."""
    return hasattr(X, "columns") and hasattr(X, "to_numpy")


@contextmanager
def words_refused(X):
    """Say which columns of a table hold words, where reading it as numbers fails.

    Raises
    ------
    ValueError
        If there are any, and it fails.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        words = columns_of_words(X) if is_frame(X) else []
        if not words:
            raise
        shown = ", ".join(map(repr, words[:MOST_NAMED]))
        more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
        raise ValueError(
            f"Columns of X hold words: {shown}{more}. A network takes numbers. Encode "
            "them before it, by encoder = make_column_transformer((OneHotEncoder("
            "sparse_output=False), columns), remainder=StandardScaler()), where columns "
            "are their names, which must be texts: fit on encoder.fit_transform(X), or put "
            "both together, MemorizationDetector(make_pipeline(encoder, net))."
        ) from error


def columns_of_words(frame):
    """Names of a table's columns in which some value is a text that is no number."""
    found = []
    for name in dict.fromkeys(frame.columns):
        values = np.asarray(frame[name], dtype=object).flat
        if any(isinstance(value, str) and not like_a_number(value) for value in values):
            found.append(name)
    return found


def dense(X):
    """Sparse samples as an array of single precision at least.

    Raises
    ------
    ValueError
        If they would take more than the working memory.
    """
    dtype = np.result_type(X.dtype, np.float32)
    n_bytes = dtype.itemsize * np.prod(X.shape, dtype=float)
    limit = get_config()["working_memory"] * 2**20
    if n_bytes > limit:
        raise ValueError(
            "X is sparse; a network takes dense samples, which would be "
            f"{n_bytes / 2**30:.1f} GiB and more than the working memory of "
            f"{limit / 2**30:.1f} GiB. Give a Dataset whose __getitem__ makes one row "
            "dense, or more working_memory."
        )
    return X.astype(dtype).toarray()


def as_arrays(X):
    """Make samples that can be indexed together, as arrays where they are none."""
    refuse_streams(X)
    if is_frame(X):
        with words_refused(X):
            checked = check_array(
                X, ensure_all_finite=False, force_writeable=True, input_name="X"
            )
            return native(checked)  # those of polars are left as objects
    if sparse.issparse(X):
        return dense(X)
    if isinstance(X, SliceDataset):
        return np.stack([np.asarray(part) for part in X])
    if isinstance(X, dict):
        return {key: value for key, value in X.items() if value is not None}
    if not isinstance(X, list | tuple) or any(hasattr(part, "shape") for part in X):
        return X
    try:
        return np.asarray(X)
    except ValueError as error:
        raise ValueError(RAGGED) from error


def in_precision(X, dtype):
    """Cast the floating-point numbers of samples to a torch dtype, if they have another."""
    if isinstance(X, Dataset):
        return X

    def convert(part):
        if isinstance(part, torch.Tensor):
            return part.to(dtype) if part.is_floating_point() else part
        part = native(part)
        if part.dtype.kind != "f" or part.dtype == dtype_name(dtype):
            return part
        if dtype == torch.bfloat16:  # which NumPy has not
            return torch.tensor(part, dtype=dtype)
        return part.astype(dtype_name(dtype))

    return tree_map_only((torch.Tensor, np.ndarray), convert, X)


def cast(batch, dtype):
    """Cast the floating-point tensors of a batch, whose mappings become dicts."""
    if isinstance(batch, Mapping):
        return {key: cast(value, dtype) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [cast(value, dtype) for value in batch]
    floating = isinstance(batch, torch.Tensor) and batch.is_floating_point()
    return batch.to(dtype) if floating else batch


def labels_of(y):
    """Labels as an array, from whatever holds them."""
    if y is None:
        raise ValueError(
            "This requires y to be passed, but the target y is None; give the label of "
            "every sample."
        )
    return as_labels(as_arrays(y) if isinstance(y, SliceDataset) else y)


def check_labels(X, y):
    """Labels as an array, as many as there are samples."""
    y = labels_of(y)
    X = as_arrays(X)
    inputs = isinstance(X, list | tuple) and len(X) == len(y)
    hint = f" {LIST_OF_ARRAYS.format(n=len(X))}" if inputs else ""
    try:
        n_samples = get_len(X)
    except ValueError as error:
        raise ValueError(f"The parts of X differ in their number of samples.{hint}") from (
            error
        )
    if n_samples != len(y):
        raise ValueError(f"X has {n_samples} samples, but y has {len(y)} labels.{hint}")
    return y


def copy_of(batch):
    """Copy a batch, which a network may write to."""
    return tree_map_only(torch.Tensor, torch.clone, batch)

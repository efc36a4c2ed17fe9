"""Rows of many samples at all layers, held while cones are learned from them."""

import tempfile
from pathlib import Path

import numpy as np

from sknonlin._memory import free_bytes, release_pages
from sknonlin._networks import dtype_name

STORE_SHARE = 0.3  # of the working memory; what does not fit goes to a temporary file


class RowStore:
    """Arrays of rows by layer, in memory or else in files, within a ``with`` block.

    Parameters
    ----------
    n_rows : int
        Rows in every layer.
    n_numbers : int
        Numbers in a row, over all layers.
    dtype : torch.dtype
        Of the numbers.

    Attributes
    ----------
    rows : dict of str to ndarray of shape (n_rows, n_features)
        By layer; NaN where nothing was put.
    """

    def __init__(self, n_rows, n_numbers, dtype):
        self.n_rows = n_rows
        self.dtype = np.dtype(dtype_name(dtype))
        n_bytes = n_rows * n_numbers * self.dtype.itemsize
        self.spills = n_bytes > STORE_SHARE * free_bytes("cpu")
        self.rows = {}

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory() if self.spills else None
        return self

    def __exit__(self, *exception):
        self.rows.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, place, rows):
        """Put tensors of rows, by layer, at a slice of the places."""
        for name, A in rows.items():
            if name not in self.rows:
                self.rows[name] = self._empty(A.shape[1])
            self.rows[name][place] = A.cpu()
            release_pages(self.rows[name])

    def _empty(self, n_features):
        shape = self.n_rows, n_features
        if not self.spills:
            return np.full(shape, np.nan, self.dtype)
        path = Path(self._folder.name) / f"{len(self.rows)}.npy"
        array = np.lib.format.open_memmap(path, "w+", self.dtype, shape)
        for start in range(0, self.n_rows, 1000):
            array[start : start + 1000] = np.nan
        release_pages(array)
        return array

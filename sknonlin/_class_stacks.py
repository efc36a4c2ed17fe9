"""The rows of every class as stacks of matrices that are solved together."""

import numpy as np
import torch
from scipy import sparse

from sknonlin._arrays import CHUNK_ELEMENTS


def padded_height(n_rows, max_rows):
    """Height to which a class is padded: within a quarter of its own, whatever others'.

    A class of more than ``max_rows`` rows is not padded, because rows of it are drawn.
    """
    if max_rows is not None and n_rows > max_rows:
        return n_rows
    step = max(1, 2 ** (n_rows.bit_length() - 3))
    height = -(-n_rows // step) * step
    return height if max_rows is None else min(height, max_rows)


def class_stacks(X, codes, n_classes, max_rows):
    """Gather the rows of every class into stacks of matrices of one height.

    The shorter ones are padded with zero rows, which no factorization sees.

    Yields
    ------
    classes : list of int
    X : array of shape (len(classes), height, n_features)
    n_rows : list of int
    """
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(codes, minlength=n_classes))[:-1])
    groups = {}
    for label, index in enumerate(members):
        groups.setdefault(padded_height(len(index), max_rows), []).append(label)
    for height, labels in groups.items():
        step = max(1, CHUNK_ELEMENTS // (height * X.shape[1]))
        for start in range(0, len(labels), step):
            classes = labels[start : start + step]
            shape = (len(classes), height, X.shape[1])
            if isinstance(X, torch.Tensor):
                stack = X.new_zeros(shape)
            else:
                stack = np.zeros(shape, dtype=X.dtype)
            for i, label in enumerate(classes):
                rows = X[members[label]]
                rows = rows.toarray() if sparse.issparse(rows) else rows
                stack[i, : len(rows)] = rows
            yield classes, stack, [len(members[label]) for label in classes]

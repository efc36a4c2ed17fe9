"""The rows of every class as stacks of matrices that are solved together."""

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import gen_even_slices

from sknonlin._arrays import gather, stack_elements
from sknonlin._memory import affordable

STACK_SHARE = 0.15  # of the memory, for the rows of a stack themselves


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
    return affordable(itemsize, share=STACK_SHARE, most=most, device=held)


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

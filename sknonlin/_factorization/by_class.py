"""Components of one matrix, or of every class in it, wherever the rows are."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from sknonlin._matrices.dask import DaskStack, activation_stack, is_dask_array
from sknonlin._matrices.stack import (
    class_groups,
    class_members,
    gather_classes,
    stack_numbers,
)
from sknonlin._running.memory import affordable, trim
from sknonlin._running.parallel import Workers
from sknonlin._running.torch_settings import in_full_precision


@dataclass(frozen=True)
class Learner:
    """A compression, and what it learns with.

    Classes of more than its ``max_rows`` rows are not brought together, but read chunk by
    chunk.

    Parameters
    ----------
    compression : Compression
    ranks : list of int
    device : str or torch.device
    """

    compression: object
    ranks: list
    device: object = "auto"

    @property
    def max_rows(self):
        """Rows of a class above which it is tall."""
        return self.compression.settings.max_rows

    @property
    def verbose(self):
        """Above 0, progress bars."""
        return self.compression.settings.verbose

    def fit(self, X, codes=None, n_jobs=None):
        """Errors, components and iterations of X as NumPy arrays.

        With ``codes``, those of every class, along the first axis.
        """
        if codes is not None:
            return learn_classes(self, X, codes, codes.max() + 1, n_jobs)
        errors, components, n_iter = self.learn_stack(self.stack(X))
        return errors[0], [H[0] for H in components], n_iter

    def stack(self, X):
        """Return the rows of an array of any kind as a stack of one matrix."""
        if is_dask_array(X):
            return DaskStack(X, self.device, verbose=self.verbose)
        return activation_stack(X, self.device, verbose=self.verbose)

    @in_full_precision
    def learn_stack(self, stack, n_rows=None):
        """Errors, components and iterations of a stack as NumPy arrays."""
        errors, components, n_iter = self.compression.learn(stack, self.ranks, n_rows)
        components = [component.cpu().numpy() for component in components]
        trim()
        return errors.cpu().numpy(), components, n_iter.cpu().numpy()

    def learn_gathered(self, X, n_rows):
        """:meth:`learn_stack` from an array (n_matrices, n, q) of some classes."""
        return self.learn_stack(activation_stack(X, self.device), n_rows)

    def learn_members(self, X, members, height):
        """:meth:`learn_stack` from the rows of X that belong to some classes."""
        if height > self.max_rows:
            return self.learn_stack(
                activation_stack(X, self.device, index=np.stack(members))
            )
        n_rows = [len(index) for index in members]
        return self.learn_gathered(gather_classes(X, members, height), n_rows)

    def class_bytes(self, sizes, stack):
        """Memory that learning from the largest class takes."""
        return max(
            self.compression.matrix_bytes(n, stack.q, self.ranks, stack.dtype.itemsize)
            for n in set(sizes)
        )


class ClassResults:
    """What was learned from every class, put together in the order of the classes."""

    def __init__(self, n_classes):
        self.n_classes = n_classes
        self.errors = None

    def put(self, classes, learned):
        """Keep what was learned from some classes."""
        errors, components, n_iter = learned
        if self.errors is None:
            shape = (self.n_classes,)
            self.errors = np.empty(shape + errors.shape[1:], errors.dtype)
            self.n_iter = np.empty(shape + n_iter.shape[1:], n_iter.dtype)
            self.components = [np.empty(shape + H.shape[1:], H.dtype) for H in components]
        self.errors[classes], self.n_iter[classes] = errors, n_iter
        for together, H in zip(self.components, components, strict=True):
            together[classes] = H

    def all(self):
        """Errors, components and iterations of all classes."""
        return self.errors, self.components, self.n_iter


def learn_classes(learner, X, codes, n_classes, n_jobs=None):
    """Errors, components and iterations of every class, as NumPy arrays."""
    members = class_members(codes, n_classes)
    results = ClassResults(n_classes)
    quiet = replace(learner, compression=learner.compression.changed(verbose=0))
    learn = learn_dask_classes if is_dask_array(X) else learn_local_classes
    learn(quiet, X, members, results, n_jobs, learner.verbose)
    return results.all()


def learn_local_classes(learner, X, members, results, n_jobs, verbose):
    """Learn from the classes of an array, stacks of them in parallel."""
    sizes = [len(index) for index in members]
    stack = learner.stack(X)
    q, itemsize = stack.q, stack.dtype.itemsize
    with Workers(n_jobs, verbose, learner.class_bytes(sizes, stack)) as workers:
        together = stack_numbers(itemsize, stack.device)
        groups = class_groups(sizes, q, learner.max_rows, together, workers.count)
        most = affordable(q * itemsize, "learning", "gathered")
        here = [] if workers.in_process else [g for g in groups if g[0] > most]
        groups = [group for group in groups if group not in here]
        shared = workers.share(learner)

        def items():
            for height, classes in groups:
                rows = [members[label] for label in classes]
                if workers.in_process:
                    yield shared, X, rows, height
                else:
                    yield shared, gather_classes(X, rows, height), [len(r) for r in rows]

        function = Learner.learn_members if workers.in_process else Learner.learn_gathered
        learned = workers.map(function, items(), "classes", len(groups))
        for (_, classes), parts in zip(groups, learned, strict=True):
            results.put(classes, parts)
        for height, classes in here:  # too tall to be sent
            rows = [members[label] for label in classes]
            results.put(classes, learner.learn_members(X, rows, height))


def learn_dask_classes(learner, X, members, results, n_jobs, verbose):
    """Learn from the classes of a Dask array, in few passes over it.

    The rows of small classes are brought together, as many as the memory holds, and those
    of others of which all rows are needed; one pass serves all tall ones.
    """
    sizes = [len(rows) for rows in members]
    whole = DaskStack(X, learner.device, verbose=verbose)
    small, tall = [], []
    for c, size in enumerate(sizes):
        gathered = learner.compression.reads_all(size, whole.q, learner.ranks)
        (small if gathered or size <= learner.max_rows else tall).append(c)
    most = affordable(whole.q * whole.dtype.itemsize, "learning", "gathered")
    for part in in_batches(small, [sizes[c] for c in small], most):
        rows, inverse = np.unique(
            np.concatenate([members[c] for c in part]), return_inverse=True
        )
        gathered = whole.take(torch.from_numpy(rows)[None])[0].cpu().numpy()
        own = np.split(inverse, np.cumsum([sizes[c] for c in part])[:-1])
        parts = ClassResults(len(part))
        learn_local_classes(learner, gathered, own, parts, n_jobs, 0)
        results.put(part, parts.all())
    if tall:
        rows = [members[c] for c in tall]
        stack = DaskStack(X, learner.device, rows, verbose)
        results.put(tall, learner.learn_stack(stack))


def in_batches(items, sizes, most):
    """Split items so that the sizes of each batch add up to at most a number."""
    batch, total = [], 0
    for item, size in zip(items, sizes, strict=True):
        if batch and total + size > most:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch

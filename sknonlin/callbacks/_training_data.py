"""What callbacks of other libraries share: samples of a loader, and columns to log."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, IterableDataset, Subset

from sknonlin._matrices.stack import NotFiniteError
from sknonlin._memorization.monitor import (
    NonlinearityMonitor,
    choose,
    halves_shape,
    n_answers,
    n_chosen,
)
from sknonlin._running.torch_settings import random_state_kept

LABELS = ("labels", "label")  # of batches that are mappings


def monitor_of(owner: str, X: Any, y: Any, loader: Any, settings: dict):
    """Monitor on samples given, or else on those of a loader.

    Parameters
    ----------
    owner : str
        Name of the callback, for errors.
    X, y : as of :class:`NonlinearityMonitor`
        None: samples of the loader's dataset.
    loader : DataLoader or None
    settings : dict
        Of the monitor.

    Raises
    ------
    ValueError
        If samples and labels cannot be told from the loader.
    """
    if X is not None:
        if y is None:
            raise ValueError(f"{owner} got X without y. Give it the labels of X, too.")
        return NonlinearityMonitor(X, y, **settings)
    X, y = chosen_samples(owner, loader, settings)
    return NonlinearityMonitor(X, y, **settings)


def measured(monitor, module):
    """Measure a module; NaN where its answers are not finite."""
    try:
        return monitor.update(module)
    except NotFiniteError:
        return math.nan


def columns_of(name, score, monitor):
    """Columns to log of an epoch: the score, and those of the layers where they are new."""
    layers = monitor.layer_scores_[-1] if monitor.layer_scores_ else {}
    return {name: score} | {f"{name}_{layer}": value for layer, value in layers.items()}


def chosen_samples(owner, loader, settings):
    """Choose samples of a loader's dataset, and return them and their labels."""
    loader = getattr(loader, "base_dataloader", loader)  # of accelerate
    dataset = getattr(loader, "dataset", None)
    sized = hasattr(dataset, "__len__") and not isinstance(dataset, IterableDataset)
    if not sized:
        raise ValueError(
            f"{owner} cannot take its samples from the training data, of which there is no "
            "single dataset that can be indexed. Give it samples: "
            f"{owner}(X=samples, y=labels)."
        )
    n = len(dataset)
    shape = halves_shape(
        n, settings.get("batch_size", "auto"), settings.get("n_batches", 1)
    )
    wanted = n_chosen(shape, n_answers(n, settings.get("n_samples", "auto")))
    index = choose(n, wanted, settings.get("random_state") or 0)
    with random_state_kept:
        [batch] = DataLoader(
            Subset(dataset, index.tolist()),
            batch_size=len(index),  # so that a collate_fn pads them to one length
            collate_fn=loader.collate_fn,
        )
    try:
        X, y = with_labels(batch)
        leaves = tree_leaves((X, y))
        if not all(isinstance(leaf, torch.Tensor) and leaf.ndim for leaf in leaves):
            raise TypeError("not all their parts are tensors")
        return X, y
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{owner} cannot tell samples from labels in the batches of the training data "
            f"({str(error).splitlines()[0]}). They must be pairs of samples and labels, or "
            f"mappings with 'labels', that can be joined. Give it samples: "
            f"{owner}(X=samples, y=labels)."
        ) from error


def with_labels(batch):
    """Split a batch into samples and labels."""
    if isinstance(batch, Mapping):
        (name,) = [name for name in LABELS if name in batch]
        return {k: v for k, v in batch.items() if k != name}, batch[name]
    X, y = batch
    return X, y

"""The forward passes that a profile is made of, and what workers do with one."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import gen_even_slices

from sknonlin._factorization.nmf_compression import rows_that_fit
from sknonlin._memorization.forward_pass import Pass
from sknonlin._network.layers import NO_SAMPLES, pass_samples, quick_samples
from sknonlin._network.layout import Layout
from sknonlin._network.samples import moved, part_of
from sknonlin._running.memory import COPIES, affordable, in_parts, within

TASKS_PER_WORKER = 4  # at least, so that none waits long for the last ones


def make_passes(batches, max_samples):
    """Group batches of one size for the forward passes that measure them together.

    Parameters
    ----------
    batches : list of lists of ndarrays
        The batches of every class.
    max_samples : int
        Samples that a pass may have, unless a single batch has more.

    Yields
    ------
    places : list of (int, int)
        Class and number of each batch.
    index : ndarray of int
        The samples of all of them.
    """
    sizes = {}
    for label, own in enumerate(batches):
        for number, batch in enumerate(own):
            sizes.setdefault(len(batch), []).append((label, number))
    for size, places in sizes.items():
        n_passes = -(-len(places) // max(1, max_samples // size))
        for part in gen_even_slices(len(places), n_passes):
            chosen = places[part]
            yield chosen, np.concatenate([batches[a][b] for a, b in chosen])


def affordable_samples(capture):
    """How many samples' activations there is memory for."""
    elements = affordable(
        COPIES["profiled activation"] * capture.network.dtype.itemsize,
        "profile",
        "pass",
        device=capture.network.device,
    )
    return pass_samples(capture, elements)


def with_rows_that_fit(compression, ranks, capture, batch_size):
    """Settle from how many rows components are learned, whatever the number of workers.

    Returns
    -------
    compression : Compression
        One that learns from no more rows than there is memory for.
    task_bytes : int
        Memory that the largest matrix takes; 0 on a GPU, which has its own.
    """
    network = capture.network
    shapes = list(matrix_shapes(capture, compression))
    n_units = max((units for _, units in shapes), default=1)
    most = compression.settings.max_rows
    with within("profile", "learning"):
        n_rows = rows_that_fit(most, n_units, ranks, network.dtype, network.device)
    compression = compression.changed(max_rows=n_rows)
    if network.device.type != "cpu":
        return compression, 0
    itemsize = network.dtype.itemsize
    return compression, max(
        (compression.matrix_bytes(batch_size * n, q, ranks, itemsize) for n, q in shapes),
        default=0,
    )


def matrix_shapes(capture, compression):
    """Positions and units of every layer whose samples have an axis."""
    for layer in capture.listed.values():
        layout = Layout.of(layer, capture.n_samples)
        if layout is not None:
            layout = layout.for_rows(nonnegative=compression.nonnegative)
            yield layout.rows(torch.empty(layer.shape, device="meta")).shape[1:]


def count_groups(passes, max_samples, n_workers):
    """How many groups of layers to measure apart: one, unless memory or workers ask."""
    largest = max(len(index) for _, index in passes)
    by_memory = -(-largest // max_samples)
    by_workers = 1
    if n_workers > 1:
        by_workers = -(-TASKS_PER_WORKER * n_workers // len(passes))
    return max(by_memory, by_workers)


def layer_groups(capture, n_groups):
    """Split the layers into groups of about as many activations each."""
    sizes = {name: math.prod(layer.shape) for name, layer in capture.listed.items()}
    total = max(1, sum(sizes.values()))
    groups, before = {}, 0
    for name, size in sizes.items():
        middle = (before + size / 2) / total
        groups.setdefault(int(middle * n_groups), []).append(name)
        before += size
    return list(groups.values())


def most_samples(capture, n_affordable):
    """How many samples to measure in a pass: as many whatever the number of workers."""
    return min(n_affordable, quick_samples(capture))


def make_tasks(capture, batches, n_workers, *, cumulative):
    """Split the work of a profile: passes, and groups of layers that are looked at.

    Returns
    -------
    tasks : list of (places, index, skip)
        Class and number of every batch of a pass, its samples, and the layers that are
        measured by other tasks.
    """
    n_affordable = affordable_samples(capture)
    passes = list(make_passes(batches, most_samples(capture, n_affordable)))
    n_groups = 1 if cumulative else count_groups(passes, n_affordable, n_workers)
    groups = layer_groups(capture, n_groups)
    skips = [set(capture.listed) - set(group) for group in groups]
    return [(*one_pass, skip) for one_pass in passes for skip in skips]


@dataclass
class PassMeasurer:
    """What measures a pass: a network's layers, and how they are compressed.

    Parameters
    ----------
    layers : NetworkLayers
    settings : PassSettings
    cumulative, replay : bool
        As in :func:`sknonlin.layer_profile`.
    """

    layers: object
    settings: object
    cumulative: bool
    replay: bool

    def measure(self, workers, capture, X, codes, batches):
        """Measure batches in the passes and groups of layers that there is memory for.

        Parameters
        ----------
        workers : Workers
        capture : Capture
            In which the network's layers were listed.
        X : nested arrays or Dataset
            Samples.
        codes : tensor of int of shape (n_samples,)
            Their labels, as columns of the network's output.
        batches : list of lists of ndarrays
            The samples in the batches of every class.

        Returns
        -------
        curves : dict
            What a :class:`LayerProfile` takes.
        """
        network = capture.network
        tasks = make_tasks(capture, batches, workers.count, cumulative=self.cumulative)
        self.layers.replicate(min(workers.count, len(tasks)) if workers.in_process else 1)
        shared = workers.share(self)

        def items():
            for places, index, skip in tasks:
                samples = next(network.batches(X, index, len(index)))
                yield shared, samples, codes[index].reshape(len(places), -1), skip

        results = workers.map(measure_pass, items(), "passes", len(tasks))
        shape = len(batches), len(batches[0])
        accuracy = np.full(shape, np.nan)
        positions, curves = {}, {}
        for (places, _, _), result in zip(tasks, results, strict=True):
            for part, own_accuracy, own_positions, own_curves in result:
                at = tuple(np.transpose(places[part]))  # classes, numbers of batches
                accuracy[at] = own_accuracy
                positions |= own_positions
                for name, values in own_curves.items():
                    empty = np.full((*shape, *values.shape[1:]), np.nan)
                    curves.setdefault(name, empty)[at] = values
        if not positions:
            raise ValueError(NO_SAMPLES)
        names = sorted(positions, key=positions.get)
        values = np.stack([curves[name] for name in names])
        return {
            "layer_names": names,
            "batch_errors": values[..., 0],
            "batch_accuracies": values[..., 1],
            "batch_accuracy": accuracy,
        }

    def __call__(self, samples, codes, skip):
        """Measure the batches of a pass.

        Returns
        -------
        accuracy : ndarray of shape (n_batches,)
        positions : dict of str to int
            Of the layers' calls in the network.
        curves : dict of str to ndarray of shape (n_batches, n_ranks, 2)
            Errors and accuracies of the layers.
        """
        with self.layers.capture(skip) as capture, within("profile", "learning"):
            samples = moved(samples, capture.network.device)
            one_pass = Pass(capture, samples, codes, self.settings)
            shape = len(codes), len(self.settings.ranks), 2
            curves = {name: np.full(shape, np.nan) for name in one_pass.matrices}
            for i in range(shape[1]) if self.cumulative else ():
                for name, *values in one_pass.cumulate(i):
                    curves[name][:, i] = np.transpose(values)
            for name, own in {} if self.cumulative else curves.items():
                own[..., 0] = one_pass.errors[name]
                if self.replay:
                    own[..., 1] = one_pass.accuracies(name)
            positions = {name: one_pass.tape.layers[name].position for name in curves}
            return one_pass.accuracy, positions, curves


def measure_pass(measurer, samples, codes, skip):
    """Run a :class:`PassMeasurer` on a pass: the task of a worker.

    Batches that a GPU has no room for together are measured in parts.

    Returns
    -------
    parts : list of tuples
        Some of the batches, a slice, and what is measured on them.
    """
    parts = []

    def measure(part):
        size = codes.shape[1]
        place = slice(part.start * size, part.stop * size)
        own = part_of(samples, place, codes.numel())
        parts.append((part, *measurer(own, codes[part], skip)))

    in_parts(measure, len(codes), len(codes))
    return parts

"""Samples through a network, as one row for each sample and layer, block by block."""

import errno
import itertools
import math
import os
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from sknonlin._memorization.forward_pass import check_activations
from sknonlin._memorization.inputs import INPUT, input_rows
from sknonlin._memorization.known_samples import sample_keys
from sknonlin._network.layers import NetworkLayers, pass_samples
from sknonlin._network.layout import Layout
from sknonlin._network.samples import dtype_name, moved, part_of
from sknonlin._running import memory

MAX_FEATURES = 256  # of a feature map, to which its positions are pooled
ALL_FEATURES = 2**15  # the same over the classes, whose cones all have as many
POOLS = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
MIN_PASS, MIN_PASSES = 16, 16  # samples in a pass, and passes, where there are as many
#: Errors of file systems that cannot set bytes aside; writing to the file does it then.
NO_RESERVATION = {errno.EINVAL, errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP}
BLOCKS_PER_WORKER = 3  # at least: so that none waits long for the last one


class SampleFeatures:
    """Turn what a network makes of samples into rows, one for each sample and layer.

    The positions of a feature map are averaged over the cells of a regular grid, the
    finest that gives at most ``MAX_FEATURES`` numbers, and stay apart: where something is
    in an image tells classes from each other. What goes into the network has rows too, see
    :func:`~sknonlin._memorization.inputs.input_rows`.

    Parameters
    ----------
    layers : "relu", "auto" or list of str
        The layers.
    n_classes : int
        With very many, feature maps are pooled more coarsely.
    dtype : torch.dtype
        Of all rows, as of :attr:`Network.row_dtype`.
    nonnegative : bool
        Whether the layers' features must not be negative.
    """

    def __init__(self, layers, n_classes, dtype=torch.float32, *, nonnegative):
        self.layers = layers
        self.dtype = dtype
        self.nonnegative = nonnegative
        self.max_features = min(MAX_FEATURES, max(64, ALL_FEATURES // n_classes))
        self.grids = {}  # of the layers' maps, as they were first seen

    def n_features(self, capture, batch):
        """Count the features of a sample in every layer, by name."""
        inputs = self.input_rows(batch, capture.n_samples)
        counts = {name: A.shape[1] for name, A in inputs.items()}
        for name, layer in capture.listed.items():
            layout = Layout.of(layer, capture.n_samples)
            if layout is not None:
                layout = layout.for_rows(nonnegative=self.nonnegative)
                empty = torch.empty(layer.shape, device="meta")
                counts[name] = self._pooled(name, layout, empty).shape[1]
        return counts

    def rows(self, capture, batch, n_samples):
        """Rows (n_samples, n_features) by layer, and the network's output.

        A layer that the samples do not reach is left out.
        """
        found = self.input_rows(batch, n_samples)
        tape, layouts = capture.record(batch, n_samples)
        for name, found_layout in layouts.items():
            A = tape.activations.pop(name).tensor
            layout = found_layout.for_rows(nonnegative=self.nonnegative)
            nonnegative = self.nonnegative and not layout.halved
            check_activations(name, A, nonnegative=nonnegative)
            found[name] = self._pooled(name, layout, A)
        return found, tape.output

    def input_rows(self, batch, n_samples):
        """Rows of what goes into the network, by name."""

        def pooled(name, A):
            if name == INPUT:
                check_activations(name, A, nonnegative=False)
            else:  # a mask may be infinite
                A = torch.nan_to_num(A, posinf=0.0, neginf=0.0)
            return self._pooled(name, Layout.of_rows(tuple(A.shape)), A)

        return input_rows(batch, n_samples, self.dtype, pooled)

    def _pooled(self, name, layout, A):
        """Rows (n_samples, n_features) of a feature map."""
        rows = layout.rows(A).to(self.dtype)
        n, n_positions, n_units = rows.shape
        if n_positions == 1:
            return rows[:, 0]
        lengths = layout.position_lengths
        lengths = lengths if len(lengths) in POOLS else (n_positions,)
        if name not in self.grids:
            self.grids[name] = self._grid(lengths, n_units)
        maps = rows.mT.reshape(n, n_units, *lengths)
        return POOLS[len(lengths)](maps, self.grids[name]).flatten(1)

    def _grid(self, lengths, n_units):
        """Cells along every axis: all positions if they are few, else about as many."""
        cells = max(1, self.max_features // n_units)
        grid = {}
        for i, axis in enumerate(np.argsort(lengths)):
            side = int(cells ** (1 / (len(lengths) - i)) + 1e-9)
            grid[axis] = min(lengths[axis], side)
            cells //= grid[axis]
        return [int(grid[axis]) for axis in range(len(lengths))]


@contextmanager
def vanishing_file():
    """Context of a file to write to, and of the path that it can be opened by meanwhile.

    It has no name where processes can open it by its number in this one, so that it is
    gone however this one ends; elsewhere it is in a folder that is removed.
    """
    with tempfile.TemporaryFile() as file:
        path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        if os.path.exists(path):
            yield file, path
            return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows")
        with open(path, "wb") as file:
            yield file, path


def reserve(file, n_bytes):
    """Have the file system set bytes of a file aside, where it can.

    A full disk is then an error; were it found when a mapping is written to, it would end
    the process.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError as error:
            if error.errno not in NO_RESERVATION:
                raise


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
        self.n_bytes = n_rows * n_numbers * self.dtype.itemsize
        most = memory.SHARES["reading"]["store"] * memory.free_bytes("cpu")
        self.spills = self.n_bytes > most
        self.rows = {}

    def __enter__(self):
        self._files = ExitStack()
        return self

    def __exit__(self, *exception):
        self.rows.clear()
        self._files.close()

    def put(self, place, rows):
        """Put tensors of rows, by layer, at a slice of the places.

        Raises
        ------
        OSError
            If there is no room for the file of a layer.
        """
        for name, A in rows.items():
            if name not in self.rows:
                self.rows[name] = self._empty(A.shape[1])
            self.rows[name][place] = A.cpu()
            memory.release_pages(self.rows[name])

    def _empty(self, n_features):
        shape = self.n_rows, n_features
        if not self.spills:
            return np.full(shape, np.nan, self.dtype)
        try:
            return self._mapped(shape)
        except OSError as error:
            mebibytes = self.n_bytes / memory.MEBIBYTE
            raise OSError(
                error.errno,
                f"The rows of samples do not fit into the working memory, and cannot be "
                f"kept in {tempfile.gettempdir()} ({error.strerror}), where they need "
                f"{self.n_bytes} bytes ({mebibytes:.1f} MiB). Make room there, set TMPDIR "
                "to a folder that has it, or raise working_memory.",
            ) from error

    def _mapped(self, shape):
        """Map a new file that is full of NaN."""
        file, path = self._files.enter_context(vanishing_file())
        reserve(file, math.prod(shape) * self.dtype.itemsize)
        step = min(self.n_rows, memory.MOST["checked rows"])
        empty = np.full((step, shape[1]), np.nan, self.dtype)
        for start in range(0, self.n_rows, step):
            file.write(empty[: self.n_rows - start].data)
        file.flush()
        return np.memmap(path, self.dtype, "r+", shape=shape)


@dataclass
class Block:
    """Rows of some samples.

    Attributes
    ----------
    keys : ndarray of int of shape (n_samples,)
        Numbers that depend on a sample's input alone.
    rows : dict of str to tensor of shape (n_samples, n_features)
        By layer; NaN where a sample does not reach it.
    codes : ndarray of int of shape (n_samples,), or None
        Labels of the samples; the network's answers, where those were asked for.
    doubts : ndarray of shape (n_samples,), or None
        How likely the network finds other classes than these.
    """

    keys: np.ndarray
    rows: dict = field(default_factory=dict)
    codes: np.ndarray | None = None
    doubts: np.ndarray | None = None

    def put(self, place, rows):
        """Put the rows of some samples, by layer."""
        for name, A in rows.items():
            if name not in self.rows:
                self.rows[name] = A.new_full((len(self.keys), A.shape[1]), torch.nan)
            self.rows[name][place] = A


@dataclass
class Reader:
    """What reads blocks of samples: a network, and the features of its layers."""

    layers: NetworkLayers
    features: object
    predict: bool = False

    def read(self, batches, codes):
        """Read a block, given as (samples, how many) of every pass, and its labels."""
        with self.layers.capture() as capture:
            network = capture.network
            n_samples = sum(n for _, n in batches)
            block = Block(np.zeros(n_samples, np.int64), codes=codes)
            if self.predict:
                block.codes = np.zeros(n_samples, np.int64)
            if block.codes is not None:
                block.doubts = np.zeros(n_samples, np.float32)
            start = 0
            for batch, n in batches:
                block.keys[start : start + n] = sample_keys(batch, n)

                def read_part(part, batch=batch, n=n, start=start):
                    on_device = moved(part_of(batch, part, n), network.device)
                    n_part = part.stop - part.start
                    found, output = self.features.rows(capture, on_device, n_part)
                    place = slice(start + part.start, start + part.stop)
                    block.put(place, found)
                    if self.predict:
                        block.codes[place] = network.codes(output).cpu().numpy()
                    if block.codes is not None:
                        own = torch.from_numpy(block.codes[place])
                        block.doubts[place] = network.doubts(output, own).cpu().numpy()

                memory.in_parts(read_part, n, n)
                start += n
        return block


def read_and(finish, reader, batches, codes):
    """Read a block, and do with it what is to be done: the task of a worker."""
    return finish(reader.read(batches, codes))


class SampleStream:
    """Samples as blocks that workers read.

    Parameters
    ----------
    workers : Workers
        In their ``with`` block.
    network : Network
    X : nested arrays or Dataset
        Samples.
    features : SampleFeatures
    n_samples : int
        How many there are.
    extra : int
        Numbers for each sample that are made of its rows.
    """

    def __init__(self, workers, network, X, features, n_samples, extra=0):
        self.workers, self.network, self.X = workers, network, X
        layers = NetworkLayers(network, features.layers, X, n_samples)
        layers.replicate(workers.count if workers.in_process else 1)
        self.reader = Reader(layers, features)
        with layers.capture() as capture:
            self.n_features = features.n_features(capture, layers.listed)
            self._set_sizes(capture, layers.listed, extra)

    def _set_sizes(self, capture, listed, extra):
        """Find how many samples fit into a pass, and into a block."""
        itemsize = self.network.row_dtype.itemsize
        leaves = [leaf for leaf in tree_leaves(listed) if hasattr(leaf, "nbytes")]
        input_bytes = sum(leaf.nbytes for leaf in leaves) / capture.n_samples
        n_numbers = 2 * sum(self.n_features.values()) + extra
        self.n_block = memory.affordable(
            memory.COPIES["waiting block"] * input_bytes + itemsize * n_numbers,
            "reading",
            "block",
            most=pass_samples(capture),
        )
        if not self.workers.in_process:
            sent = max(1, int(memory.MOST["sent"] / max(1, input_bytes)))
            self.n_block = min(self.n_block, sent)
        device = self.network.device
        activation_bytes = memory.COPIES["read activation"] * itemsize
        most = memory.affordable(activation_bytes, "reading", "pass", device=device)
        self.n_pass = pass_samples(capture, most)
        if device.type == "cpu":
            cached = max(MIN_PASS, pass_samples(capture, memory.MOST["cached pass"]))
            self.n_pass = min(self.n_pass, cached)

    def _sizes(self, n_samples):
        """Return how many samples are in a pass, and in a block, of which all get some.

        A pass has as many whatever the number of workers, because what else is in it
        shows in the last digits of a network's activations.
        """
        n_pass = min(self.n_pass, max(MIN_PASS, -(-n_samples // MIN_PASSES)))
        n_block = self.n_block
        if self.workers.count > 1:
            share = -(-n_samples // (BLOCKS_PER_WORKER * self.workers.count))
            n_block = min(n_block, -(-share // n_pass) * n_pass)
        return n_pass, max(1, n_block // n_pass) * n_pass

    def run(self, index, finish, codes=None, *, predict=False, description=None):
        """Yield places in ``index`` of a block's samples, and ``finish(block)``.

        ``codes`` are the labels of all samples in ``index``, or None.
        """
        n_pass, size = self._sizes(len(index))
        self.reader.predict = predict
        reader, finish = self.workers.share(self.reader), self.workers.share(finish)
        starts = range(0, len(index), size)
        batches = self.network.batches(self.X, index, n_pass)

        def items():
            for start in starts:
                part = list(itertools.islice(batches, size // n_pass))
                places = range(start, min(start + size, len(index)), n_pass)
                sizes = [min(n_pass, len(index) - place) for place in places]
                own = None if codes is None else codes[start : start + size]
                yield finish, reader, list(zip(part, sizes, strict=True)), own

        results = self.workers.map(read_and, items(), description, len(starts))
        for start, result in zip(starts, results, strict=True):
            yield slice(start, min(start + size, len(index))), result

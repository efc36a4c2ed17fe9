"""Samples through a network and what is made of their rows, block by block, in parallel."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from sknonlin._memory import affordable, in_parts
from sknonlin._networks import moved, part_of
from sknonlin._parallel import SENT_BYTES
from sknonlin._replicas import Replicas
from sknonlin._sample_features import sample_keys
from sknonlin.activations import CACHED_PASS, Capture, pass_samples

N_LISTED = 2  # samples that the layers are listed with
MIN_PASS, MIN_PASSES = 16, 16  # samples in a pass, and passes, where there are as many
BLOCKS_PER_WORKER = 3  # at least: so that none waits long for the last one
BLOCKS_AT_ONCE = 3  # that a worker has: one it works on, the others waiting
# Shares of the working memory, of which the rest is for what is not counted.
PASS_SHARE, BLOCK_SHARE = 0.2, 0.3
HELD_IN_PASS = 2.5  # numbers held for each activation of a layer that is looked at


@dataclass
class Block:
    """Rows of some samples.

    Attributes
    ----------
    keys : ndarray of int of shape (n_samples,)
        Numbers that depend on a sample's input alone.
    rows : dict of str to tensor of shape (n_samples, n_features)
        By layer; NaN where a sample does not reach it.
    predicted : ndarray of int of shape (n_samples,), or None
        The network's answers, where they were asked for.
    """

    keys: np.ndarray
    rows: dict = field(default_factory=dict)
    predicted: np.ndarray | None = None

    def put(self, place, rows):
        """Put the rows of some samples, by layer."""
        for name, A in rows.items():
            if name not in self.rows:
                self.rows[name] = A.new_full((len(self.keys), A.shape[1]), torch.nan)
            self.rows[name][place] = A


@dataclass
class Reader:
    """What reads blocks of samples: a network, and the features of its layers."""

    replicas: Replicas
    features: object
    listed: object
    n_listed: int
    predict: bool = False

    def capture(self, network):
        """Access to the network's layers, to be entered."""
        listed = moved(self.listed, network.device)
        return Capture(network, self.features.layers, listed, self.n_listed)

    def read(self, batches):
        """Read a block, given as (samples, how many) of every pass."""
        with self.replicas.borrowed() as network, self.capture(network) as capture:
            n_samples = sum(n for _, n in batches)
            block = Block(keys=np.zeros(n_samples, np.int64))
            predicted = []
            start = 0
            for batch, n in batches:
                block.keys[start : start + n] = sample_keys(batch, n)

                def read_part(part, batch=batch, n=n, start=start):
                    on_device = moved(part_of(batch, part, n), network.device)
                    n_part = part.stop - part.start
                    found, output = self.features.rows(capture, on_device, n_part)
                    block.put(slice(start + part.start, start + part.stop), found)
                    if self.predict:
                        predicted.append(network.codes(output).cpu().numpy())

                in_parts(read_part, n, n)
                start += n
        if self.predict:
            block.predicted = np.concatenate(predicted)
        return block


def read_and(finish, reader, batches, codes):
    """Read a block, and do with it what is to be done: the task of a worker."""
    return finish(reader.read(batches), codes)


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
        n_listed = min(N_LISTED, n_samples)
        self.listed = next(network.batches(X, list(range(n_listed)), n_listed))
        count = workers.count if workers.in_process else 1
        self.reader = Reader(None, features, self.listed, n_listed)
        self.reader.replicas = Replicas(network, count, self.reader.capture)
        with self.reader.capture(network) as capture:
            self.n_features = features.n_features(capture, self.listed)
            self._set_sizes(capture, extra)

    def _set_sizes(self, capture, extra):
        """Find how many samples fit into a pass, and into a block."""
        itemsize = self.network.row_dtype.itemsize
        leaves = [leaf for leaf in tree_leaves(self.listed) if hasattr(leaf, "nbytes")]
        input_bytes = sum(leaf.nbytes for leaf in leaves) / capture.n_samples
        n_numbers = 2 * sum(self.n_features.values()) + extra
        self.n_block = affordable(
            BLOCKS_AT_ONCE * input_bytes + itemsize * n_numbers,
            share=BLOCK_SHARE,
            most=pass_samples(capture),
        )
        if not self.workers.in_process:
            self.n_block = min(self.n_block, max(1, int(SENT_BYTES / max(1, input_bytes))))
        device = self.network.device
        most = affordable(HELD_IN_PASS * itemsize, share=PASS_SHARE, device=device)
        self.n_pass = pass_samples(capture, most)
        if device.type == "cpu":
            cached = max(MIN_PASS, pass_samples(capture, CACHED_PASS))
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
        """Yield places in ``index`` of a block's samples, and ``finish(block, codes)``.

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

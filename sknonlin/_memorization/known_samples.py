"""Samples that were learned from, known by the bits of their input and by their label."""

import numpy as np
import torch

from sknonlin._memorization.inputs import parts

ALIKE = 0.1  # of the inputs that are there several times, with more than one label
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of SplitMix64
SHIFTS = (30, 27, 31)


def mixed(words):
    """Mix the bits of whole numbers, so that those of their sums tell them apart."""
    for shift, factor in zip(SHIFTS, (*MULTIPLIERS, None), strict=True):
        words ^= words >> np.uint64(shift)
        if factor is not None:
            words *= np.uint64(factor)
    return words


def sample_keys(batch, n_samples):
    """Give every sample a number, from the bits of its input whatever batch it is in.

    Equal inputs have equal numbers, and others practically never. Those of a mapping have
    the same in any order of its keys.
    """
    keys = np.zeros(n_samples, np.uint64)
    for number, (_, leaf) in enumerate(sorted(parts(batch), key=lambda part: part[0])):
        if not leaf.ndim or len(leaf) != n_samples or not leaf.numel():
            continue
        bits = leaf.detach() if leaf.layout == torch.strided else leaf.to_dense()
        bits = bits.cpu().resolve_conj().resolve_neg().contiguous()
        words = bits.reshape(n_samples, -1).view(torch.uint8).numpy()
        words = np.pad(words, [(0, 0), (0, -words.shape[1] % 8)]).view(np.uint64)
        places = np.random.default_rng([number, words.shape[1]]).integers(
            2**64, size=words.shape[1], dtype=np.uint64
        )
        keys = mixed(keys + mixed(words + places).sum(1, dtype=np.uint64))
    return keys.view(np.int64)


def labelled(keys, codes):
    """Join keys of inputs and labels to one number, a sample's name."""
    return keys + (codes + 1) * np.int64(0x9E3779B97F4A7C1)


def of_categories(keys, names):
    """Whether inputs are there several times because few kinds of them can be told apart.

    They come with several labels then, and every sample counts. Copies of one sample have
    its label, and count once.
    """
    counts = np.unique(keys, return_counts=True)[1]
    _, first = np.unique(names, return_index=True)
    labels = np.unique(keys[first], return_counts=True)[1]
    several = counts > 1
    return several.any() and (labels[several] > 1).mean() > ALIKE


class KnownSamples:
    """Samples, each once, in the order in which they came first.

    Parameters
    ----------
    keys : ndarray of int of shape (n_samples,)
        As of :func:`sample_keys`.
    codes : ndarray of int of shape (n_samples,)

    Attributes
    ----------
    first : ndarray of int of shape (n_known,)
        Where each sample came first.
    place : ndarray of int of shape (n_samples,)
        Of the samples given, among those known.
    counts : ndarray of int of shape (n_known,)
        How often each was there.
    names : ndarray of int of shape (n_known,)
        As of :func:`labelled`.
    """

    def __init__(self, keys, codes):
        names = labelled(keys, codes)
        self._sorted, first, inverse, counts = np.unique(
            names, return_index=True, return_inverse=True, return_counts=True
        )
        if of_categories(keys, names):
            self._rank = first
            self.first = self.place = np.arange(len(names))
            self.counts, self.names = np.ones(len(names), np.int64), names
            return
        order = np.argsort(first)
        self._rank = np.empty(len(order), np.int64)
        self._rank[order] = np.arange(len(order))
        self.first, self.place = first[order], self._rank[inverse]
        self.counts, self.names = counts[order], self._sorted[order]

    def of(self, names):
        """Places of samples among those known; -1 of others."""
        found = np.searchsorted(self._sorted, names).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[found] == names, self._rank[found], -1)


def deal(codes, n_folds, random_state):
    """Fold of every known sample: those of every class are dealt out at random."""
    order = np.random.default_rng(random_state).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    folds = np.empty(len(codes), np.int64)
    folds[order] = np.arange(len(codes)) % n_folds
    return folds

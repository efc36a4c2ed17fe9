"""Samples that were learned from, known by the bits of their input and by their label."""

import numpy as np


def labelled(keys, codes):
    """Join keys of inputs and labels to one number, a sample's name."""
    return keys + (codes + 1) * np.int64(0x9E3779B97F4A7C1)


class KnownSamples:
    """Samples, each once, in the order in which they came first.

    Parameters
    ----------
    names : ndarray of int of shape (n_samples,)
        As of :func:`labelled`; equal for equal samples with the same label.

    Attributes
    ----------
    first : ndarray of int of shape (n_known,)
        Where each sample came first.
    place : ndarray of int of shape (n_samples,)
        Of the samples given, among those known.
    names : ndarray of int of shape (n_known,)
    """

    def __init__(self, names):
        self._sorted, first, inverse = np.unique(
            names, return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        self._rank = np.empty(len(order), np.int64)
        self._rank[order] = np.arange(len(order))
        self.first, self.place = first[order], self._rank[inverse]
        self.names = self._sorted[order]

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

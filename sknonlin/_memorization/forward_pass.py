"""Compress the activations of one forward pass, and run the rest of the network."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from sknonlin._matrices.products import FLOOR
from sknonlin._matrices.stack import MatrixStack, check_extremes
from sknonlin._network.layers import same_output
from sknonlin._network.samples import part_of, repeated
from sknonlin._network.tape import numbers_in
from sknonlin._running.memory import COPIES, MOST, affordable, settle

REMEDIES = {
    "nan": (
        "The activations of layer {name!r} contain NaN. Check the input for missing "
        "values, and the network's training for divergence."
    ),
    "infinity": (
        "The activations of layer {name!r} contain infinity. Check the network "
        "for overflow."
    ),
    "negative": (
        "The outputs of layer {name!r} are negative (down to {value:.3g}), and it is no "
        "activation that is known to be so, which non-negative factorization needs. Name "
        "other layers, find activations by layers='auto', or use compression='pca' of "
        "layer_profile or of a detector's ActivationNonlinearity, which accepts any sign."
    ),
}
LEAST_REPLAYED = 4  # passes, by all layers at one rank, for replays side by side
NEARLY_ALL = 0.75  # of the units: components of as high a rank leave next to nothing


def check_activations(name, A, *, nonnegative):
    """Refuse activations that cannot be compressed, naming their layer."""
    low, high = torch.aminmax(A)
    check_extremes(low, high, name, nonnegative=nonnegative, remedies=REMEDIES)


class Pass:
    """One forward pass over batches of one size, recorded.

    Parameters
    ----------
    capture : Capture
        The network, in its ``with`` block.
    samples : nested tensors
        The samples of all batches, one batch after the other.
    codes : tensor of shape (n_batches, batch_size)
        Their labels, as columns of the network's output.
    settings : PassSettings
        How they are compressed.
    """

    def __init__(self, capture, samples, codes, settings):
        self.capture = capture
        self.samples = samples
        self.codes = codes
        self.settings = settings
        self.tape, layouts = capture.record(samples, codes.numel())
        self.layouts = self._for_rows(layouts)
        self._once = self._several = Recorded(1, samples, self.tape, self.layouts)
        self._most_copies = self._copies() if settings.side_by_side else 1
        self.accuracy = self._accuracy(self.tape.output)
        self.matrices = {name: self._matrices(self.tape, name) for name in self.layouts}
        self.tape.activations.clear()
        settle()
        self.errors, self.components = self._learn()

    def _matrices(self, tape, name):
        """Activations as a matrix for every batch, (n_batches, height, n_units)."""
        rows = self.layouts[name].rows(tape.activations[name].tensor)
        return rows.reshape(len(self.codes), -1, rows.shape[-1])

    def _for_rows(self, layouts):
        """Layouts by name whose rows suit the compression."""
        nonnegative = self.settings.compression.nonnegative
        return {
            name: layout.for_rows(nonnegative=nonnegative)
            for name, layout in layouts.items()
        }

    def _accuracy(self, output):
        """Share of every batch that gets its label; NaN where there are no labels."""
        return self._accuracies(output, 1)[0]

    def _accuracies(self, output, n_copies):
        """Accuracy of every copy of the samples, (n_copies, n_batches)."""
        predicted = self.capture.network.codes(output)
        if predicted is None:
            return np.full((n_copies, len(self.codes)), np.nan)
        hits = predicted.cpu().reshape(n_copies, *self.codes.shape) == self.codes
        return hits.double().mean(2).numpy()

    def _learn(self):
        """Errors and components of every layer; layers of one shape in one stack."""
        groups = defaultdict(list)
        errors, components = {}, {}
        try:
            for name, X in self.matrices.items():
                if all(self._exact(rank, X) for rank in self.settings.ranks):
                    if not self.settings.crossed:
                        self._check(name)
                    errors[name] = np.zeros((len(X), len(self.settings.ranks)))
                else:
                    groups[X.shape].append(name)
            for names in groups.values():
                for name, own, parts in self._learn_stack(names):
                    errors[name], components[name] = own, parts
        except ValueError:
            for name in self.matrices:  # the first one is the cause
                self._check(name)
            raise
        return errors, components

    def _learn_stack(self, names):
        """Name, errors and components of every layer of one shape."""
        X = [self.matrices[name] for name in names]
        stack = MatrixStack(X[0] if len(X) == 1 else torch.cat(X), self.settings.device)
        learned, parts, _ = self.settings.compression.learn(stack, self.settings.ranks)
        for i, name in enumerate(names):
            own = slice(i * len(self.codes), (i + 1) * len(self.codes))
            components = [part[own] for part in parts]
            if self.settings.crossed:
                components = [H.roll(1, 0) for H in components]
            yield name, learned[own].cpu().numpy(), components
        settle()

    def _check(self, name):
        nonnegative = self.settings.compression.nonnegative
        check_activations(name, self.matrices[name], nonnegative=nonnegative)

    def _exact(self, rank, X):
        """Whether activations ``X`` lose nothing at a rank."""
        if self.settings.crossed:
            return rank >= NEARLY_ALL * X.shape[2]
        return self.settings.compression.exact(rank, *X.shape[1:])

    def _approximation(self, name, X, i):
        """Activations ``X`` at rank i."""
        if self._exact(self.settings.ranks[i], X):
            return X
        components = self.components[name][i]
        compression = self.settings.compression
        return compression.approximate_as_learned(X.to(components), components).to(X)

    def accuracies(self, name):
        """Accuracy with one layer compressed, (n_batches, n_ranks)."""
        X = self.matrices[name]
        result = np.empty((len(self.codes), len(self.settings.ranks)))
        exact = np.array([self._exact(rank, X) for rank in self.settings.ranks])
        result[:, exact] = self.accuracy[:, None]
        inexact = np.flatnonzero(~exact)
        if len(inexact):
            restored = self.layouts[name].restore(X)
            self.capture.prove(self.samples, self.tape, name, restored)
            several = self._side_by_side(len(inexact))
            for start in range(0, len(inexact), several.n_copies):
                ranks = inexact[start : start + several.n_copies]
                result[:, ranks] = self._replayed(several, name, X, ranks)
        settle()
        return result

    def _replayed(self, several, name, X, ranks):
        """Accuracy at a few ranks, (n_batches, n_ranks), all from one replay."""
        values = [self._approximation(name, X, i) for i in ranks]
        values += values[-1:] * (several.n_copies - len(values))
        value = several.layouts[name].restore(torch.cat(values))
        output = self.capture.replay(several.samples, several.tape, name, value).output
        return self._accuracies(output, several.n_copies).T[:, : len(ranks)]

    def _copies(self):
        """How many ranks to replay together: as many as a quick pass has room for.

        It is one where the replays are short, so that to record a longer pass does not pay.
        """
        sizes = np.array([numbers_in(call) for call in self.tape.calls], float)
        after = sizes[::-1].cumsum()[::-1] / max(1, sizes.sum())
        replayed = sum(after[self.tape.layers[name].position] for name in self.layouts)
        if replayed < LEAST_REPLAYED or self.codes.numel() < 2:
            return 1
        network = self.capture.network
        most = MOST["replayed call"] * np.count_nonzero(sizes) / sizes.sum()
        held = sum(math.prod(layer.shape) for layer in self.tape.layers.values())
        held += COPIES["replayed call"] * sizes.max()
        return affordable(
            network.dtype.itemsize * COPIES["replayed activation"] * held,
            most=most if network.device.type == "cpu" else np.inf,
            device=network.device,
        )

    def _side_by_side(self, n_ranks):
        """Record the samples as many times as ranks are replayed together."""
        trust = self.capture.trust
        n_replays = -(-n_ranks // (1 if trust.apart is False else self._most_copies))
        n_copies = -(-n_ranks // n_replays)
        if self._several.n_copies != n_copies:
            self._several = self._once  # gives memory back
        if n_copies > self._several.n_copies:
            try:
                self._several = self._record(n_copies)
            # It ran on one copy: so it takes no larger batch, and may say that by any
            # exception of its own. Replays of one rank at a time give the same, later.
            except Exception:
                trust.apart = False
        return self._several

    def _are_apart(self):
        """Whether half of the samples get the same answers alone."""
        half = slice(0, self.codes.numel() // 2)
        alone = self.capture.answer(part_of(self.samples, half, self.codes.numel()))
        output = self.tape.output.float()
        common = output.mean(0)  # which says nothing of a sample
        return same_output(output[half] - common, alone.float() - common)

    def _record(self, n_copies):
        """Record a pass over the samples, several times side by side.

        Raises
        ------
        ValueError
            If they do not get the answers that they get once, or in other batches.
        """
        n_samples, trust = self.codes.numel(), self.capture.trust
        if trust.apart is None:
            trust.apart = self._are_apart()
        if not trust.apart:
            raise ValueError("The network answers by what else is in a batch.")
        samples = repeated(self.samples, n_samples, n_copies)
        tape, layouts = self.capture.record(samples, n_copies * n_samples)
        alone = repeated(self.tape.output, n_samples, n_copies)
        if not same_output(alone, tape.output) or tape.layers.keys() != self.layouts.keys():
            raise ValueError("The network does other things with a larger batch.")
        tape.activations.clear()
        return Recorded(n_copies, samples, tape, self._for_rows(layouts))

    def cumulate(self, i):
        """Compress layer after layer at rank i, each on what those before it left.

        Yields
        ------
        name : str
        errors : ndarray of shape (n_batches,)
            Relative distance to the activations of the network as it is.
        accuracy : ndarray of shape (n_batches,)
        """
        tape = self.tape
        for j, name in enumerate(self.matrices):
            if name not in tape.layers:  # the compressed network goes another way
                return
            original = self.matrices[name]
            restored = self.layouts[name].restore(original)
            self.capture.prove(self.samples, self.tape, name, restored)
            X = original if j == 0 else self._matrices(tape, name)
            X = self._approximation(name, X, i)
            value = self.layouts[name].restore(X)
            original, X = original.float(), X.float()
            scale = original.abs().amax((1, 2), keepdim=True).clamp(min=FLOOR)
            left = ((original - X) / scale).flatten(1).norm(dim=1)
            norm = (original / scale).flatten(1).norm(dim=1).clamp(min=FLOOR)
            tape = self.capture.replay(self.samples, tape, name, value, record=True)
            yield name, (left / norm).cpu().numpy(), self._accuracy(tape.output)


@dataclass(frozen=True)
class Recorded:
    """A pass over copies of the samples, one for each rank of a replay."""

    n_copies: int
    samples: object
    tape: object
    layouts: dict


@dataclass(frozen=True)
class PassSettings:
    """How the activations of a pass are compressed.

    If ``crossed``, a batch is put on the components of the one before it. If
    ``side_by_side``, a replay runs several ranks, where that is quicker.
    """

    compression: object
    ranks: list
    device: object
    crossed: bool = False
    side_by_side: bool = False

"""How well each sample fits the cones of the classes, layer by layer."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.parallel import Parallel, delayed

from sknonlin._arrays import CHUNK_ELEMENTS, MatrixStack, full_precision
from sknonlin._cone import unit_rows
from sknonlin._replays import check_activations
from sknonlin.activations import Capture, pass_samples
from sknonlin.batches import make_batches
from sknonlin.curves import area_weights

SAMPLES_PER_CLASS = 1000  # from which the cones of a class are learned
MAX_POSITIONS = 16  # of a feature map that are looked at


@dataclass
class SampleCones:
    """Cones of every layer and class, and how well samples fit them.

    Parameters
    ----------
    compression : object
        What learns the cones, see :mod:`sknonlin.compression`.
    ranks : list of int
        The ranks of the cones.
    device : str or torch.device
        Where to compute.
    layers : "relu" or list of str
        The layers.
    random_state : int
        Seeds the draw of samples and of positions.
    n_jobs : int or None
        Threads over the layers.
    """

    compression: object
    ranks: list
    device: object
    layers: object
    random_state: int
    n_jobs: int | None = None

    def __post_init__(self):
        self.components = {}

    def _capture(self, network, X, n_samples):
        n_listed = min(2, n_samples)
        listed = network.take(X, list(range(n_listed)))
        return Capture(network, self.layers, listed, n_listed)

    def _stream(self, capture, X, index):
        """Yield some samples' indices, their rows in every layer, and the output."""
        network = capture.network
        step = pass_samples(capture)
        for start in range(0, len(index), step):
            part = index[start : start + step]
            tape, layouts = capture.record(network.take(X, part), len(part))
            rows = {}
            for name, layout in layouts.items():
                A = layout.rows(tape.activations.pop(name).tensor)
                check_activations(name, A, nonnegative=self.compression.nonnegative)
                rows[name] = self._some_positions(A)
            yield part, rows, tape.output

    def _some_positions(self, A):
        """Rows of every sample at positions that are the same for all samples."""
        if A.shape[1] <= MAX_POSITIONS:
            return A
        rng = np.random.default_rng(self.random_state)
        chosen = np.sort(rng.choice(A.shape[1], MAX_POSITIONS, replace=False))
        return A[:, torch.from_numpy(chosen).to(A.device)]

    def learn(self, network, X, codes, n_classes):
        """Learn a cone for every layer, class and rank from the samples of the class.

        A class without samples has an empty cone, which nothing fits.
        """
        drawn = make_batches(codes, SAMPLES_PER_CLASS, 1, random_state=self.random_state)
        learned = {}
        with self._capture(network, X, len(codes)) as capture:
            for label, (index,) in enumerate(drawn):
                blocks = defaultdict(list)
                for _, rows, _ in self._stream(capture, X, index):
                    for name, A in rows.items():
                        blocks[name].append(A.flatten(0, 1))
                for name, parts in blocks.items():
                    stack = MatrixStack(torch.cat(parts)[None], self.device)
                    components = self.compression.learn(stack, self.ranks)[1]
                    learned.setdefault(name, {})[label] = [H[0].cpu() for H in components]
        self.components = {
            name: self._by_rank(classes, n_classes) for name, classes in learned.items()
        }
        return self

    @staticmethod
    def _by_rank(classes, n_classes):
        """Stack the classes' components at every rank; zeros where there are none."""
        known = next(iter(classes.values()))
        parts = [classes.get(label, [H * 0 for H in known]) for label in range(n_classes)]
        return [torch.stack(components) for components in zip(*parts, strict=True)]

    def _areas(self, name, A):
        """Area under every sample's error curve for every class, (n, n_classes)."""
        components = [H.to(A) for H in self.components[name]]
        weights = area_weights(self.ranks)
        n_classes = len(components[0])
        step = max(1, CHUNK_ELEMENTS // (n_classes * A[0].numel()))
        areas = A.new_zeros(len(A), n_classes)
        with full_precision():
            for start in range(0, len(A), step):
                block = A[start : start + step]
                X = unit_rows(block.flatten(1))[0].reshape(1, -1, A.shape[-1])
                X = X.expand(n_classes, -1, -1)
                for H, weight in zip(components, weights, strict=True):
                    left = (X - self.compression.approximate_stack(X, H)).square()
                    left = left.reshape(n_classes, len(block), -1).sum(2).sqrt()
                    areas[start : start + step] += weight * left.clamp_(max=1).T
        return areas

    def areas(self, network, X, n_samples):
        """How badly each sample fits the cones of every layer and class.

        Returns
        -------
        areas : ndarray of shape (n_samples, n_layers, n_classes)
            In [0, 1]; NaN where a sample does not reach a layer.
        output : list of tensors
            The network's outputs, part by part.
        """
        result, outputs = None, []
        with self._capture(network, X, n_samples) as capture:
            for part, rows, output in self._stream(capture, X, np.arange(n_samples)):
                names = [name for name in self.components if name in rows]
                found = Parallel(self.n_jobs, prefer="threads")(
                    delayed(self._areas)(name, rows[name]) for name in names
                )
                for name, tensor in zip(names, found, strict=True):
                    areas = tensor.cpu().numpy()
                    if result is None:
                        shape = (n_samples, len(self.components), areas.shape[1])
                        result = np.full(shape, np.nan, dtype=areas.dtype)
                    result[part, list(self.components).index(name)] = areas
                outputs.append(output)
        return result, outputs


def contrast(areas, codes):
    """How much worse samples fit the cone of their class than the best other one.

    Parameters
    ----------
    areas : ndarray of shape (n_samples, n_layers, n_classes)
    codes : ndarray of int of shape (n_samples,)

    Returns
    -------
    contrast : ndarray of shape (n_samples, n_layers)
        In [-1, 1]; 0 where a sample does not reach a layer.
    """
    own = np.take_along_axis(areas, codes[:, None, None], 2)[:, :, 0]
    others = areas.copy()
    np.put_along_axis(others, codes[:, None, None], np.inf, 2)
    return np.nan_to_num(own - others.min(2), nan=0.0)

"""Feature maps as matrices, and back."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Where samples and units are in a layer's output: feature map to matrix and back.

    ``repeats`` counts the rows of every sample where the network joined the samples'
    axis with the one after it.
    """

    shape: tuple
    sample_axis: int
    repeats: int
    channel_axis: int

    @classmethod
    def of(cls, layer, n_samples, listed=None, n_listed=None):
        """Layout of a layer on ``n_samples``, or None where no axis is the samples'.

        ``listed`` is the layer on ``n_listed`` samples, which tells apart axes that
        happen to be as long as the batch.
        """
        shape = tuple(layer.shape)
        axes = [a for a, length in enumerate(shape) if length and length % n_samples == 0]
        if listed is not None and n_listed != n_samples and len(listed.shape) == len(shape):
            before = listed.shape
            axes = [a for a in axes if before[a] * n_samples == shape[a] * n_listed] or axes
            axes = [a for a in axes if before[a] != shape[a]]
        if not axes:
            return None
        exact = [a for a in axes if shape[a] == n_samples]
        sample_axis = exact[0] if exact else axes[0]
        last = len(shape) - 1
        channel_axis = layer.unit_axis
        if channel_axis is None:
            channel_axis = 1 if len(shape) > 3 else last
        if channel_axis == sample_axis:
            channel_axis = last if sample_axis != last else 0
        return cls(shape, sample_axis, shape[sample_axis] // n_samples, channel_axis)

    def rows(self, A):
        """Give a feature map (n, ...) as (n, n_positions, n_units), a view if it can be."""
        if len(self.shape) == 1:
            return A.reshape(-1, self.repeats, 1)
        A = A.movedim((self.sample_axis, self.channel_axis), (0, -1))
        return A.reshape(len(A) // self.repeats, -1, A.shape[-1])

    @property
    def position_lengths(self):
        """Lengths of the axes whose places are the positions, slowest first."""
        lengths = [] if self.repeats == 1 else [self.repeats]
        for axis, length in enumerate(self.shape):
            if axis not in (self.sample_axis, self.channel_axis):
                lengths.append(length)
        return tuple(lengths)

    def restore(self, rows):
        """Give rows (n, n_positions, n_units) as the feature map that they were."""
        if len(self.shape) == 1:
            return rows.reshape(self.shape)
        moved = list(self.shape)
        samples, channels = moved[self.sample_axis], moved[self.channel_axis]
        for axis in sorted((self.sample_axis, self.channel_axis), reverse=True):
            del moved[axis]
        A = rows.reshape(samples, *moved, channels)
        return A.movedim((0, -1), (self.sample_axis, self.channel_axis))

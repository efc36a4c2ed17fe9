"""The result of a layer profile."""

from dataclasses import dataclass, field

import numpy as np
from sklearn.utils._optional_dependencies import check_pandas_support

from sknonlin.curves import area_under_curve, mean_of_known
from sknonlin.inspection import LayerProfileDisplay


@dataclass(eq=False)
class LayerProfile:
    """How well a network and its layers withstand compression, by layer, class and rank.

    Parameters
    ----------
    layer_names : list of str of length n_layers
        The layers, in the order of their calls.
    classes : ndarray of shape (n_classes,)
        The labels of the batches; ``["mixed"]`` for mixed ones.
    ranks : ndarray of shape (n_ranks,)
        The ranks, increasing.
    batch_errors : ndarray of shape (n_layers, n_classes, n_batches, n_ranks)
        Relative error of the compressed activations. NaN where the network did not
        reach a layer.
    batch_accuracies : ndarray of shape (n_layers, n_classes, n_batches, n_ranks)
        Share of the batch that still gets its label when they replace the activations.
        NaN for a network that does not classify, and without replays.
    batch_accuracy : ndarray of shape (n_classes, n_batches)
        The same share without compression.
    compression : str
        ``"nmf"``, ``"pca"`` or ``"ablation"``.
    cumulative : bool
        Whether the layers before were compressed too.

    Attributes
    ----------
    errors : ndarray of shape (n_layers, n_classes, n_ranks)
        Mean of ``batch_errors`` over the batches.
    accuracies : ndarray of shape (n_layers, n_classes, n_ranks)
        Mean of ``batch_accuracies`` over the batches.
    accuracy : ndarray of shape (n_classes,)
        Mean of ``batch_accuracy`` over the batches.
    error_auc : ndarray of shape (n_layers,)
        Area under the error curve, averaged over classes and batches; in [0, 1].
    accuracy_auc : ndarray of shape (n_layers,)
        Area under the accuracy curve, averaged over classes and batches; in [0, 1].
    """

    layer_names: list
    classes: np.ndarray
    ranks: np.ndarray
    batch_errors: np.ndarray = field(repr=False)
    batch_accuracies: np.ndarray = field(repr=False)
    batch_accuracy: np.ndarray = field(repr=False)
    compression: str = "nmf"
    cumulative: bool = False

    @property
    def errors(self):
        """Mean of ``batch_errors`` over the batches."""
        return mean_of_known(self.batch_errors, 2)

    @property
    def accuracies(self):
        """Mean of ``batch_accuracies`` over the batches."""
        return mean_of_known(self.batch_accuracies, 2)

    @property
    def accuracy(self):
        """Mean of ``batch_accuracy`` over the batches."""
        return mean_of_known(self.batch_accuracy, 1)

    @property
    def error_auc(self):
        """Area under the error curve of every layer."""
        return area_under_curve(self.ranks, mean_of_known(self.errors, 1))

    @property
    def accuracy_auc(self):
        """Area under the accuracy curve of every layer."""
        return area_under_curve(self.ranks, mean_of_known(self.accuracies, 1))

    def to_frame(self):
        """Give the curves as a tidy frame, one row for every point.

        Returns
        -------
        frame : pandas.DataFrame
            With the columns ``layer``, ``depth`` (from 0), ``class``, ``batch``,
            ``rank``, ``error``, ``accuracy`` and ``uncompressed_accuracy``.
        """
        pd = check_pandas_support("LayerProfile.to_frame")
        layer, label, batch, rank = np.indices(self.batch_errors.shape).reshape(4, -1)
        return pd.DataFrame(
            {
                "layer": np.asarray(self.layer_names, dtype=object)[layer],
                "depth": layer,
                "class": self.classes[label],
                "batch": batch,
                "rank": self.ranks[rank],
                "error": self.batch_errors.ravel(),
                "accuracy": self.batch_accuracies.ravel(),
                "uncompressed_accuracy": self.batch_accuracy[label, batch],
            }
        )

    def plot(self, ax=None):
        """Draw the areas under both curves over the layers, with the range of classes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ax : matplotlib.axes.Axes
        """
        return LayerProfileDisplay.from_profile(self, curve="both").plot(ax).ax_

"""What a training tells of its samples: the loss of each, over the epochs."""

import numpy as np
import torch
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback

from sknonlin._memorization.known_samples import labelled, sample_keys
from sknonlin._network.adapters import first_tensor, probabilities_of

NAME = "sknonlin_trajectory"
LEAST_SHARE = 0.5  # of the samples that must be known again
SMALLEST = 1e-7  # probability, of which a logarithm is taken


class Trajectory(Callback):
    """Add up the loss of every sample over a training.

    Labels that are learned late were hard to fit: the sum tells wrong labels, and
    memorized ones. Samples are known again by the bits of their input and their label, so
    augmented ones are not.

    Attributes
    ----------
    names_ : ndarray of int of shape (n_known,)
        Of the samples, sorted.
    losses_ : ndarray of shape (n_known,)
        Mean cross-entropy over the times that a sample was met.
    """

    def initialize(self):
        """Forget an earlier training; one that is gone on with is added to."""
        self._batches = []
        self.names_, self.losses_ = np.zeros(0, np.int64), np.zeros(0)
        self._counts = np.zeros(0)
        self.strange_ = False  # whether samples change from epoch to epoch
        return self

    def on_train_begin(self, net, **kwargs):
        """Forget what an interrupted epoch has left."""
        self._batches = []

    def on_batch_end(self, net, batch, training, y_pred=None, **kwargs):
        """Note the losses of a batch."""
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not training or self.strange_ or y_pred is None or not pair:
            return
        X, y = batch
        output = first_tensor(y_pred).detach()
        values = net._get_predict_nonlinearity()(output)
        if not isinstance(y, torch.Tensor) or y.ndim != 1 or values.ndim > 2:
            return
        shares = probabilities_of(values.float())
        codes = y.to(shares.device).long()
        if codes.min() < 0 or codes.max() >= shares.shape[1]:
            return
        own = shares.gather(1, codes[:, None])[:, 0].clamp(min=SMALLEST)
        names = labelled(sample_keys(X, len(codes)), codes.cpu().numpy())
        self._batches.append((names, -own.log().cpu().numpy()))

    def on_epoch_end(self, net, **kwargs):
        """Add up an epoch."""
        if not self._batches:
            return
        names, losses = (np.concatenate(part) for part in zip(*self._batches, strict=True))
        self._batches = []
        again = np.isin(names, self.names_).mean()
        if len(self.names_) and again < LEAST_SHARE and len(names) >= len(self.names_):
            self.initialize()
            self.strange_ = True
            return
        known = np.union1d(self.names_, names)
        sums, counts = np.zeros((2, len(known)))
        place = np.searchsorted(known, self.names_)
        sums[place], counts[place] = self.losses_ * self._counts, self._counts
        place = np.searchsorted(known, names)
        np.add.at(sums, place, losses)
        np.add.at(counts, place, 1)
        self.names_, self.losses_, self._counts = known, sums / counts, counts

    def mean_losses(self, names):
        """Mean losses of samples; NaN for those that were not met.

        None where most were not: the training changed its samples.
        """
        if not len(self.names_):
            return None
        place = np.searchsorted(self.names_, names).clip(max=len(self.names_) - 1)
        known = self.names_[place] == names
        if known.mean() < LEAST_SHARE:
            return None
        return np.where(known, self.losses_[place], np.nan)


def watched(net):
    """Give a skorch net a :class:`Trajectory`, unless its callbacks are disabled."""
    callbacks = net.callbacks
    if callbacks == "disable" or isinstance(net, NeuralNetBinaryClassifier):
        return net
    return net.set_params(callbacks=[*(callbacks or []), (NAME, Trajectory())])


def trajectory_of(estimator):
    """Return the trajectory that a callback of a network has recorded, or None."""
    for _, callback in getattr(estimator, "callbacks_", []):
        found = getattr(callback, "trajectory_", callback)
        if isinstance(found, Trajectory):
            return found
    return None

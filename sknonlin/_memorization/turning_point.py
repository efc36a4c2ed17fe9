"""When a score of samples has turned: a test that knows the noise of the score."""

import numpy as np

LEAST_FALL = 1e-3


class TurningPoint:
    """Follow the scores of the same samples, and tell when their mean has fallen.

    Means of some measurements in a row are compared: the last ones with the best ones.
    Samples are the same in both, so the standard error of the difference is that of their
    own differences. Where there are no scores of samples, the error is taken from how much
    the mean changes between measurements.

    Parameters
    ----------
    window : int
        Measurements that are averaged.
    confidence : float
        Standard errors that the mean must have fallen by.

    Attributes
    ----------
    means : list of float
        Of every measurement.
    best : int
        The measurement with the highest mean so far.
    fall : float
        How far the last mean of a window is below the best one.
    error : float
        The standard error of the fall.
    turned : bool
        Whether that is enough. There is no verdict before a window is full.
    """

    def __init__(self, window, confidence):
        self.window, self.confidence = window, confidence
        self.means, self.best = [], 0
        self.fall, self.error, self.turned = 0.0, 0.0, False
        self._best_scores = self._last_scores = None  # of samples, of two measurements
        self._recent = []  # scores of samples in the window
        self._best_window = None  # their means in the best one
        self._tops = []  # means of all windows

    def update(self, mean, scores=None):
        """Follow a measurement; return whether the mean has fallen.

        Parameters
        ----------
        mean : float
        scores : ndarray of shape (n_samples,), default=None
            Of the samples.
        """
        self.means.append(mean)
        if mean > self.means[self.best] or np.isnan(self.means[self.best]):
            self.best, self._best_scores = len(self.means) - 1, scores
        self._last_scores = scores
        if np.isnan(mean):
            self._recent = []
            return self.turned
        self._recent = [*self._recent, mean if scores is None else scores][-self.window :]
        averaged = np.mean(self._recent, axis=0)
        top = float(np.mean(averaged))
        if len(self._recent) < self.window:
            return self.turned
        self._tops.append(top)
        if self._best_window is None or top >= max(self._tops[:-1]):
            self._best_window = averaged
            self.fall, self.error = 0.0, 0.0
            return self.turned
        self.fall = max(self._tops) - top
        self.error = self._standard_error(averaged)
        self.turned = self.fall > max(self.confidence * self.error, LEAST_FALL)
        return self.turned

    def is_below_best(self, confidence):
        """Whether the last measurement is below the best one by so many standard errors.

        It is if its mean is, where there are no scores of samples, and if it is NaN.
        """
        if np.isnan(self.means[-1]):
            return not np.isnan(self.means[self.best])
        fall = self.means[self.best] - self.means[-1]
        if self._last_scores is None or self._best_scores is None:
            return fall > 0
        change = self._best_scores - self._last_scores
        error = confidence * np.std(change) / np.sqrt(len(change))
        return bool(fall > max(error, LEAST_FALL))

    def _standard_error(self, averaged):
        """Error of the difference of two windows."""
        if np.ndim(averaged):
            return float(np.std(self._best_window - averaged) / np.sqrt(len(averaged)))
        steps = np.diff(self.means[len(self.means) // 3 :])  # past the steep beginning
        if len(steps) < 2:
            return np.inf
        return float(np.nanstd(steps) / np.sqrt(self.window))

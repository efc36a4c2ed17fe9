"""Scores of samples, by their labels and layers: a part of MemorizationDetector."""

from contextlib import closing, contextmanager

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted
from skorch.dataset import get_len

from sknonlin._memory import limited
from sknonlin._networks import as_arrays
from sknonlin._sample_features import INPUT
from sknonlin._thresholds import auto_threshold
from sknonlin.profile import check_labels


class SampleScoringMixin(TransformerMixin):
    """Score samples with the cones that ``fit`` learned."""

    def _threshold(self, scores):
        """Score above which ``detect`` flags, from those of training samples."""
        if self.contamination == "auto":
            return auto_threshold(scores)
        return float(np.quantile(scores, 1 - self.contamination))

    @contextmanager
    def _sample_scores(self, X, y=None):
        """Give how many samples there are, and places and scores of them in blocks.

        They are for their labels, or for what the network predicts.
        """
        check_is_fitted(self)
        X = self._validate(X)
        codes = None if y is None else self._codes(check_labels(X, y))
        n_samples = get_len(as_arrays(X))
        if not n_samples:
            raise ValueError("X has 0 samples; give at least 1.")
        with limited(self.working_memory):
            scores = self._cones.score(
                self._network(),
                X,
                n_samples,
                codes,
                n_jobs=self.n_jobs,
                verbose=self.verbose,
            )
            with closing(scores):  # also where it is not read to its end
                yield n_samples, scores

    def transform(self, X):
        """Score samples at every layer, for the label that the network predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_layers)
            In [-1, 1]; above 0 where a sample's activations fit another class better.
        """
        with self._sample_scores(X) as (n_samples, blocks):
            contrasts = np.empty((n_samples, len(self.layer_names_)), np.float32)
            shown = [name != INPUT for name in self._cones.names]
            for place, scores in blocks:
                contrasts[place] = scores.contrast[:, shown]
        return contrasts

    def score_samples(self, X, y=None):
        """Score how far samples look memorized; higher is more.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples: those of ``fit``, or new ones.
        y : array-like of shape (n_samples,), default=None
            The labels that they were given; None takes the network's predictions.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In [-1, 1], the weighted mean over the layers of how much worse a sample's
            activations fit the cones of its label than those of the best other one.
        """
        with self._sample_scores(X, y) as (n_samples, blocks):
            result = np.empty(n_samples, np.float32)
            for place, scores in blocks:
                result[place] = scores.score
        return result

    def detect(self, X, y):
        """Flag the samples whose label was memorized.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.
        y : array-like of shape (n_samples,)
            The labels that they were given.

        Returns
        -------
        flags : ndarray of bool of shape (n_samples,)
            True where the score is above ``offset_``.
        """
        return self.score_samples(X, y) > self.offset_

    def fit_detect(self, X, y, **params):
        """Train the network, unless it is frozen, and flag samples in one go.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            The training samples.
        y : array-like of shape (n_samples,)
            Their labels.
        **params : dict
            Passed to :meth:`fit`.

        Returns
        -------
        flags : ndarray of bool of shape (n_samples,)
            As :meth:`detect` gives them.
        """
        return self.fit(X, y, **params).detect(X, y)

    def label_report(self, X, y):
        """List samples by how much their label looks wrong, the worst ones first.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.
        y : array-like of shape (n_samples,)
            The labels that they were given.

        Returns
        -------
        frame : pandas.DataFrame of n_samples rows
            With the columns ``index`` (the sample's place in X), ``given``,
            ``suggested`` (the label that fits its activations best, which can be the
            one given), ``score``, ``layer`` (the one that says so most, with its
            weight; ``"input"`` for the samples as they are) and ``flagged``. Where X is
            a pandas frame, the rows have the labels that the samples have in its index.
        """
        pd = check_pandas_support("MemorizationDetector.label_report")
        with self._sample_scores(X, y) as (n_samples, blocks):
            score = np.empty(n_samples, np.float32)
            suggested, layer = np.empty((2, n_samples), np.int64)
            for place, scores in blocks:
                score[place], suggested[place] = scores.score, scores.suggested
                layer[place] = (scores.contrast * self._cones.weights).argmax(1)
        frame = pd.DataFrame(
            {
                "index": np.arange(n_samples),
                "given": self.classes_[self._codes(np.asarray(y))],
                "suggested": self.classes_[suggested],
                "score": score,
                "layer": np.asarray(self._cones.names, dtype=object)[layer],
                "flagged": score > self.offset_,
            }
        )
        frame = frame.sort_values("score", ascending=False, ignore_index=True)
        if isinstance(X, pd.DataFrame):
            frame.index = X.index[frame["index"]]
            names = frame.index.names  # of which none may be that of a column
            frame.index.names = [None if name in frame else name for name in names]
        return frame

    def get_feature_names_out(self, input_features=None):
        """Name the columns of :meth:`transform` after the layers.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Checked against the features that ``fit`` saw, and otherwise ignored.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array(self.layer_names_, dtype=object)

"""Scores of samples, by their labels and layers: a part of MemorizationDetector."""

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted
from skorch.dataset import get_len

from sknonlin._networks import as_network
from sknonlin._sample_cones import contrast
from sknonlin.profile import check_labels


class SampleScoringMixin(TransformerMixin):
    """Score samples with the cones that ``fit`` learned."""

    def _contrast(self, X, codes=None):
        """Scores (n_samples, n_layers) for labels, or for what the network predicts."""
        network = as_network(self.estimator_)
        n_samples = get_len(X)
        areas, outputs = self._cones.areas(network, X, n_samples)
        if codes is None:
            codes = torch.cat([network.codes(output) for output in outputs]).cpu().numpy()
        return contrast(areas, codes)

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
        check_is_fitted(self)
        return self._contrast(self._validate(X))

    def score_samples(self, X, y=None):
        """Score how far samples look memorized; higher is more.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.
        y : array-like of shape (n_samples,), default=None
            The labels that they were given; None takes the network's predictions.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In [-1, 1], the mean over the layers of how much worse a sample's
            activations fit the cone of its label than the best other one.
        """
        check_is_fitted(self)
        codes = None
        X = self._validate(X)
        if y is not None:
            codes = self._codes(check_labels(X, y))
        return self._contrast(X, codes).mean(1)

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

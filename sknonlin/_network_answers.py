"""What a network predicts, by its labels: a part of MemorizationDetector."""

from sklearn.base import ClassifierMixin
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetBinaryClassifier

from sknonlin._training import as_found, in_single_precision, wraps


class NetworkAnswersMixin(ClassifierMixin):
    """Predict with the network that ``fit`` trained."""

    def predict(self, X):
        """Predict the network's labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        X = in_single_precision(self.estimator_, self._validate(X))
        with as_found(self.estimator_):
            if wraps(self.estimator_, NeuralNetBinaryClassifier | MLPClassifier):
                predicted = self.estimator_.predict(X)
            else:
                predicted = self._probabilities(X).argmax(1)
        if not wraps(self.estimator_, MLPClassifier):
            predicted = self.classes_[predicted.astype(int)]
        return predicted

    def _probabilities(self, X):
        """Probabilities of the classes, also where the network has columns to spare."""
        with as_found(self.estimator_):
            probabilities = self.estimator_.predict_proba(X)
        n_classes = len(self.classes_)
        if probabilities.shape[1] > n_classes:
            probabilities = probabilities[:, :n_classes]
            probabilities = probabilities / probabilities.sum(1, keepdims=True)
        return probabilities

    def predict_proba(self, X):
        """Predict the network's probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        X = in_single_precision(self.estimator_, self._validate(X))
        return self._probabilities(X)

"""A classifier around a ReLU network that tells what the network memorized."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    process_routing,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_is_fitted,
    check_memory,
    validate_data,
)
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import get_len
from torch.utils.data import Dataset

from sknonlin._default_network import default_network
from sknonlin._networks import as_network
from sknonlin._sample_cones import SampleCones, contrast
from sknonlin.compression import make_compression
from sknonlin.nonlinearity import ActivationNonlinearity
from sknonlin.profile import (
    PROFILE_CONSTRAINTS,
    check_labels,
    measure_memorization,
)

#: Samples that go to a skorch net as they are.
SKORCH_INPUT = (Mapping, tuple, torch.Tensor, Dataset)


def train_network(estimator, X, y, seed, params):
    """Fit a network without touching torch's random state; memory may keep it."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return estimator.fit(X, y, **params)


class MemorizationDetector(
    ClassifierMixin, TransformerMixin, MetaEstimatorMixin, BaseEstimator
):
    """Classifier around a ReLU network that tells what the network memorized.

    ``fit`` trains the network (or takes it as it is), and measures how far its layers
    are from linear on batches of one class, against mixed batches [1]_:
    ``memorization_score_`` says it in one number, ``profile_`` layer by layer.
    ``predict`` and ``predict_proba`` are the network's. ``score_samples`` and
    ``detect`` find the samples whose label was memorized.

    Parameters
    ----------
    estimator : NeuralNetClassifier, MLPClassifier, FrozenEstimator or None, default=None
        The network: skorch's ``NeuralNetClassifier`` or ``NeuralNetBinaryClassifier``,
        or scikit-learn's ``MLPClassifier``, which are cloned and trained; or one of
        them, already trained, in a :class:`~sklearn.frozen.FrozenEstimator`. None makes
        a small ReLU network, sized for the data.
    nonlinearity : ActivationNonlinearity, default=None
        Ranks, compression and settings of the factorizations, as a template that is not
        fitted; its ``by_class`` and ``random_state`` are not used. None means
        ``ActivationNonlinearity()``.
    layers : "relu" or list of str, default="relu"
        The layers to look at, as in :func:`layer_profile`.
    batch_size : int, default=50
        Samples in a batch; a class with fewer gives all that it has.
    n_batches : int, default=1
        Batches of every class.
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of the training samples that ``detect`` flags. ``"auto"`` flags the
        samples that fit another class better than their own.
    memory : str, joblib.Memory or None, default=None
        Where trained networks are kept, so that searches over other parameters than the
        network's own train it once for each fold.
    n_jobs : int, default=None
        Threads over the layers when samples are scored.
    random_state : int, RandomState instance or None, default=None
        Seeds the network's training, the batches and the factorizations. An
        ``MLPClassifier`` with a ``random_state`` of its own keeps that.
    verbose : int, default=0
        Above 0, progress bars.

    Attributes
    ----------
    estimator_ : estimator
        The trained network.
    classes_ : ndarray of shape (n_classes,)
        The labels; those of a frozen skorch net are the numbers of its outputs.
    layer_names_ : list of str of length n_layers
        The layers, in the order of their calls.
    profile_ : LayerProfile
        Curves on batches of one class.
    mixed_profile_ : LayerProfile
        Error curves on mixed batches of the same size.
    memorization_score_ : float
        In [0, 1]: the network's non-linearity on batches of one class as a share of
        that on mixed ones; the areas under the error curves, summed over the layers.
    layer_scores_ : ndarray of shape (n_layers,)
        The same share for every layer by itself, in [0, 1].
    offset_ : float
        ``detect`` flags scores above it.
    n_features_in_ : int
        Number of features seen in ``fit``, where X is an array.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X has names that are all strings.

    See Also
    --------
    layer_profile : The curves of one network, as a function.
    sknonlin.metrics.memorization_scorer : The score in ``cross_validate``.

    Notes
    -----
    X is an array, which may have more than two axes with a skorch net (float64 becomes
    float32 there), or what skorch takes: a tensor, a dict or a tuple of arrays, a torch
    ``Dataset``. Frames become arrays.

    A sample's score at a layer is the area under the curve of its residuals to the cone
    of its class, over the ranks, less the smallest one to another class's cone. The
    cones are learned from up to 1,000 samples of every class, the sample's own
    activations among them; of a feature map, 64 positions count.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sknonlin import MemorizationDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> mlp = MLPClassifier((64, 64), max_iter=200, random_state=0)
    >>> learned = MemorizationDetector(mlp, random_state=0).fit(X, y)
    >>> random_labels = np.random.default_rng(0).permutation(y)
    >>> memorized = MemorizationDetector(mlp, random_state=0).fit(X, random_labels)
    >>> learned.memorization_score_ < memorized.memorization_score_
    True
    >>> learned.transform(X).shape
    (1797, 2)
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "nonlinearity": [ActivationNonlinearity, None],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "memory": [str, HasMethods(["cache"]), None],
        "n_jobs": [Integral, None],
        **PROFILE_CONSTRAINTS,
    }

    def __init__(
        self,
        estimator=None,
        *,
        nonlinearity=None,
        layers="relu",
        batch_size=50,
        n_batches=1,
        contamination="auto",
        memory=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.nonlinearity = nonlinearity
        self.layers = layers
        self.batch_size = batch_size
        self.n_batches = n_batches
        self.contamination = contamination
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # Input ------------------------------------------------------------------------

    def _wraps(self, kind):
        estimator = self.estimator
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        return isinstance(estimator, kind)

    def _validate(self, X, y="no_validation", *, reset=False):
        """X as the network takes it, and y as an array."""
        if isinstance(X, SKORCH_INPUT) and self._wraps(NeuralNet):
            return X if isinstance(y, str) else (X, check_labels(X, y))
        checked = validate_data(
            self,
            X,
            y,
            reset=reset,
            allow_nd=self._wraps(NeuralNet),
            dtype=np.float32 if self.estimator is None else "numeric",
        )
        X, y = checked if isinstance(checked, tuple) else (checked, y)
        if self._wraps(NeuralNet) and X.dtype == np.float64:
            X = X.astype(np.float32)
        return X if isinstance(y, str) else (X, y)

    def _codes(self, y):
        """Position of every label in ``classes_``."""
        codes = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        unknown = np.unique(y[self.classes_[codes] != y])
        if len(unknown):
            raise ValueError(
                f"y has labels that the network does not know: {unknown.tolist()}. It knows "
                f"{self.classes_.tolist()}."
            )
        return codes

    # Training ---------------------------------------------------------------------

    def _unfitted(self, X, n_classes, seed):
        """Return the network to train: a clone, or the default one."""
        if self.estimator is None:
            return default_network(*X.shape, n_classes)
        network = clone(self.estimator)
        if isinstance(network, NeuralNetBinaryClassifier) and n_classes > 2:
            raise ValueError(
                f"y has {n_classes} classes; a NeuralNetBinaryClassifier takes 2. Use a "
                "NeuralNetClassifier."
            )
        if isinstance(network, MLPClassifier) and network.random_state is None:
            network.set_params(random_state=seed)
        return network

    def _train(self, X, y, seed, params):
        """Set ``classes_`` and ``estimator_``; a frozen network stays as it is."""
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_ = self.estimator
            network = as_network(self.estimator)
            self.classes_ = network.classes
            if self.classes_ is None:
                few = network.take(X, list(range(min(2, len(y)))))
                self.classes_ = np.arange(self.estimator.predict_proba(few).shape[1])
            return
        self.classes_, codes = np.unique(y, return_inverse=True)
        network = self._unfitted(X, len(self.classes_), seed)
        if isinstance(network, NeuralNetBinaryClassifier):
            targets = codes.astype(np.float32)
        else:
            targets = codes if isinstance(network, NeuralNet) else y
        train = check_memory(self.memory).cache(train_network)
        self.estimator_ = train(network, X, targets, seed, params)

    def fit(self, X, y, **params):
        """Train the network, unless it is frozen, and measure it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            The training samples.
        y : array-like of shape (n_samples,)
            Their labels: numbers, strings or booleans.
        **params : dict
            Passed to the ``fit`` of the network, where metadata routing is enabled and
            it requests them.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If there is only one class, y has labels that a frozen network does not
            know, or for the reasons of :func:`layer_profile`.
        TypeError
            If ``estimator`` is not such a network.
        NotFittedError
            If a frozen one is not fitted.
        """
        check_estimator_kind(self.estimator)
        self._validate_params()
        _raise_for_params(params, self, "fit")
        X, y = self._validate(X, y, reset=True)
        check_classification_targets(y)
        if len(np.unique(y)) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, but the data "
                "contains only 1 class. For the curves of one class, use layer_profile."
            )
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        routed = process_routing(self, "fit", **params).get("estimator", {})
        self._train(X, y, seed, routed.get("fit", {}))
        self._measure(X, self._codes(y), seed)
        return self

    def _measure(self, X, codes, seed):
        network = as_network(self.estimator_)
        scorer = (
            ActivationNonlinearity() if self.nonlinearity is None else self.nonlinearity
        )
        scorer._validate_params()
        labels = codes if network.classes is None else network.classes[codes]
        settings = {"layers": self.layers, "random_state": seed, "verbose": self.verbose}
        self.memorization_score_, self.profile_, self.mixed_profile_ = measure_memorization(
            network,
            X,
            labels,
            scorer,
            batch_size=self.batch_size,
            n_batches=self.n_batches,
            **settings,
        )
        self.profile_.classes = self.classes_[np.unique(codes)]
        self.layer_names_ = self.profile_.layer_names
        self.layer_scores_ = layer_shares(self.profile_, self.mixed_profile_)
        settings = scorer.get_params(deep=False) | {"random_state": seed}
        self._cones = SampleCones(
            make_compression(settings.pop("compression"), **settings),
            self.profile_.ranks.tolist(),
            scorer.device,
            self.layers,
            seed,
            self.n_jobs,
        ).learn(network, X, codes)
        self.offset_ = 0.0
        if self.contamination != "auto":
            scores = self._contrast(X, codes).mean(1)
            self.offset_ = float(np.quantile(scores, 1 - self.contamination))

    # The network's answers --------------------------------------------------------

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
        X = self._validate(X)
        predicted = self.estimator_.predict(X)
        if not self._wraps(MLPClassifier):
            predicted = self.classes_[predicted.astype(int)]
        return predicted

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
        return self.estimator_.predict_proba(self._validate(X))

    # Scores of samples ------------------------------------------------------------

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

    # What scikit-learn asks -------------------------------------------------------

    def get_metadata_routing(self):
        """Tell which metadata the network's ``fit`` takes.

        Returns
        -------
        routing : MetadataRouter
        """
        router = MetadataRouter(owner=self)
        if self.estimator is not None:
            router.add(
                estimator=self.estimator,
                method_mapping=MethodMapping().add(caller="fit", callee="fit"),
            )
        return router

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = self._wraps(NeuralNet)
        tags.transformer_tags.preserves_dtype = []
        return tags


def check_estimator_kind(estimator):
    """Refuse what is not a network that can be trained or is.

    Raises
    ------
    TypeError
        If it is not.
    """
    inner = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if inner is None or isinstance(inner, NeuralNetClassifier | MLPClassifier):
        return
    remedy = "Use one of those."
    if isinstance(inner, torch.nn.Module):
        remedy = (
            "Wrap the module: NeuralNetClassifier(module, ...), or measure it as it is with "
            "layer_profile(module, X, y)."
        )
    raise TypeError(
        f"estimator is a {type(inner).__name__}; it must be skorch's NeuralNetClassifier or "
        "NeuralNetBinaryClassifier, scikit-learn's MLPClassifier, one of them in a "
        f"FrozenEstimator, or None. {remedy}"
    )


def layer_shares(single, mixed):
    """Non-linearity of every layer on one class, as a share of that on mixed batches."""
    reference = mixed.error_auc
    shares = single.error_auc / np.where(reference > 0, reference, np.inf)
    return shares.clip(max=1)

"""A classifier around a ReLU network that tells what the network memorized."""

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from joblib import hash as hash_of
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    process_routing,
)
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted
from skorch.dataset import get_len

from sknonlin._memorization import training
from sknonlin._memorization.given_network import (
    check_estimator_kind,
    inner_network,
    steps_before,
    transformed,
    with_steps,
    wraps,
)
from sknonlin._memorization.label_report import report_frame
from sknonlin._memorization.reference import (
    check_reference,
    shuffled_reference,
    untrained_reference,
)
from sknonlin._memorization.sample_cones import CONE_RANKS
from sknonlin._memorization.sample_scores import SampleScorer
from sknonlin._memorization.significance import class_p_values, intervals
from sknonlin._memorization.trajectory import trajectory_of
from sknonlin._network.adapters import as_network
from sknonlin._network.samples import as_arrays, check_labels, labels_of
from sknonlin._running.memory import WORKING_MEMORY_CONSTRAINT, limited
from sknonlin._running.validation import (
    Layers,
    RandomState,
    check_ranks,
    is_called_from,
    positions,
    undone_on_error,
    warn_user,
)
from sknonlin.nonlinearity import ActivationNonlinearity, compression_of
from sknonlin.profile import (
    PROFILE_CONSTRAINTS,
    LayerProfile,
    ProfileSettings,
    layer_shares,
    measure_changes,
    measure_memorization,
    network_share,
)

if TYPE_CHECKING:
    import pandas as pd


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
    estimator : Module, NeuralNetClassifier, MLPClassifier, FrozenEstimator, Pipeline \
            or None, default=None
        The network. A trained ``torch.nn.Module`` is measured as it is, and so is a net in
        a :class:`~sklearn.frozen.FrozenEstimator`. Skorch's ``NeuralNetClassifier`` or
        ``NeuralNetBinaryClassifier``, and scikit-learn's ``MLPClassifier``, are cloned and
        trained. In a :class:`~sklearn.pipeline.Pipeline` that ends in one of these, the
        steps before it, as a scaler, are fitted with it and applied to all samples. None
        makes a small ReLU network, sized for the data. Give a skorch net its module as a
        class: a module that is an object keeps its weights when it is cloned, and what was
        trained once is trained on.
    classes : array-like of shape (n_classes,), default=None
        Labels of the outputs of a torch network that is trained already, in their order.
        None: the labels are the numbers of the outputs.
    nonlinearity : ActivationNonlinearity, default=None
        Template of the ranks, the compression and their settings; its ``by_class``,
        ``n_jobs``, ``working_memory`` and ``random_state`` are not used. Searches over
        ``nonlinearity__ranks`` need one; None means ``ActivationNonlinearity()``.
    layers : "relu", "auto" or list of str, default="relu"
        The layers to look at, as in :func:`layer_profile`.
    batch_size : int, default=50
        Samples in a batch; a class with fewer gives all that it has.
    n_batches : int, default=1
        Batches of every class.
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of the training samples that ``detect`` flags. ``"auto"`` decides by the
        probabilities that labels are wrong.
    reference : {"shuffled", "untrained"} or None, default=None
        What to hold the score against: the same network, trained on the labels in another
        order, so that it can only memorize (training takes as long again), or with new
        weights and no training. Its score is ``reference_score_``.
    memory : str, joblib.Memory or None, default=None
        Where trained networks are kept, so that searches over other parameters than the
        network's own train it once for each fold. Modules are known by their names:
        clear it when you change their code. Its files are pickles, which run code when they
        are loaded: name a folder that only you write to.
    n_jobs : int, default=None
        Workers that measure layers, batches and blocks of samples: threads, unless
        ``joblib.parallel_config`` names another backend. None is 1, or what is
        configured there. The network is trained by itself.
    working_memory : float, default=None
        Memory in MiB for all workers together, beside the network, the samples and the
        results; None takes scikit-learn's ``working_memory``, 1024 by default.
    random_state : int, RandomState instance or None, default=None
        Seeds the network's training, the batches and the factorizations. An
        ``MLPClassifier`` with a ``random_state`` of its own keeps that.
    verbose : int, default=0
        Above 0, progress bars.

    Attributes
    ----------
    estimator_ : estimator or Module
        The trained network, in a Pipeline where it was given in one.
    classes_ : ndarray of shape (n_classes,)
        The labels; those of a torch network that was trained before are ``classes``, or
        the numbers of its outputs. Samples of a class that ``fit`` did not see score high.
    layer_names_ : list of str of length n_layers
        The layers, in the order of their calls.
    profile_ : LayerProfile
        Curves on batches of one class.
    mixed_profile_ : LayerProfile
        Error curves on mixed batches of the same size.
    memorization_score_ : float
        In [0, 1]: the network's non-linearity on batches of one class as a share of
        that on mixed ones; the areas under the error curves, summed over the layers.
    memorization_interval_ : tuple of float
        Ends of an interval that holds the score of fresh batches of the training samples
        with a probability of 0.9.
    layer_scores_ : ndarray of shape (n_layers,)
        The same share for every layer by itself, in [0, 1].
    layer_intervals_ : ndarray of shape (n_layers, 2)
        Such intervals for them.
    layer_p_values_ : ndarray of shape (n_layers,)
        How likely a layer that does not know the classes would be as close to linear on
        batches of one class, by a t test against mixed ones.
    training_accuracy_ : float
        Share of the training labels that the network fits, on 10,000 samples at most.
    reference_score_, reference_interval_, reference_accuracy_ : float, tuple, float
        The same score, interval and share for the ``reference``, on the labels that it was
        trained on; only where there is one.
    offset_ : float
        ``detect`` flags scores above it.
    layer_weights_ : dict
        How much the parts of the input (``"input"``; ``"input counts"`` of ids), every
        layer and the ``"training"`` have to say in ``score_samples``; they sum to 1.
    n_wrong_ : float
        Estimated number of wrong labels among those of ``fit``.
    n_wrong_interval_ : tuple of float
        Ends of an interval around it with a probability of 0.9. It is wide, and begins at
        0, where wrong labels cannot be told from classes that overlap.
    n_features_in_ : int
        Number of features seen in ``fit``, where X is an array.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where X has names that are all strings.

    See Also
    --------
    layer_profile : The curves of one network, as a function.
    sknonlin.metrics.memorization_scorer : The score in ``cross_validate``.

    Notes
    -----
    With a skorch net, X may have more than two axes (float64 becomes float32), or be a
    tensor, a dict or a tuple of arrays, or a torch ``Dataset``. Frames become arrays.

    A sample's score is the logarithm of the odds that its label is wrong. What goes into
    the network has not seen the labels, so it is read first: ridge regressions and, where
    it has few columns or is of ids, a random forest tell of each sample what the others
    say of its class; so do the cones of the classes, for numbers. No sample's own label
    takes part, nor that of a duplicate; samples of ``fit`` are known again by the bits of
    their input. Whole numbers are read as numbers, as counts of ids, and as ids at their
    places; each part of a dict or a tuple is read by itself. An account of how labels
    become wrong, learned together with the readers' weights, makes probabilities of it:
    labels that are wrong at one rate, or by class, mostly by one other class or by several,
    or the more often the more the readers doubt, or classes that overlap [2]_.

    The layers of the network have seen the labels. A layer's contrast is how much worse a
    sample's activations fit the cone of its class than those of the best other class: the
    mean residual over the ranks (1, 4, 16 and 32, unless ``nonlinearity`` names others).
    Cones are learned in three folds, without the samples whose labels seem wrong. A layer
    counts as far as it agrees with the input, and half of that. Where ``fit`` trains a
    skorch net, or its training had a :class:`~sknonlin.callbacks.NonlinearityScoring`, the
    mean loss of every sample over the epochs counts in the same way, as ``"training"``
    [3]_. At last, a label is wrong by up to one in a hundred as far as the network, or its
    training, doubts it: that orders the labels which look right by how hard they were to
    learn.

    Up to 4,000 samples are learned from, or 400 of every class; fewer of each where there
    are more than 50 classes. With ``contamination="auto"``, ``detect`` flags labels that
    are wrong with a probability above one half. Where these are less than half of the
    wrong labels expected, it flags those that make the expected F1 best, with a
    probability of 0.08 at least, and at most three times as many as are expected.

    The score compares networks of one architecture that fit their labels: one that is
    still untrained has scores as high as one that memorized. ``fit`` warns where the
    network fits less than 0.95 of the labels, or no more than half of them on average
    over the classes. The score needs ten samples or more of every class; ``fit`` warns
    where most have fewer than five. With one of each, all errors are 0.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).
    .. [2] J. Bootkrajang, A. Kabán, "Label-Noise Robust Logistic Regression and Its
       Applications", ECML PKDD (2012).
    .. [3] D. Ravikumar, E. Soufleri, K. Roy, "Towards Memorization Estimation: Fast,
       Formal and Free", ICML (2025).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sknonlin import MemorizationDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:400], y[:400]  # so few that it fits random labels, too
    >>> learned = MemorizationDetector(random_state=0).fit(X, y)
    >>> random_labels = np.random.default_rng(0).permutation(y)
    >>> memorized = MemorizationDetector(random_state=0).fit(X, random_labels)
    >>> learned.memorization_score_ < memorized.memorization_score_
    True
    >>> learned.transform(X).shape
    (400, 2)
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit"]), torch.nn.Module, None],
        "classes": ["array-like", None],
        "nonlinearity": [ActivationNonlinearity, None],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "reference": [StrOptions({"shuffled", "untrained"}), None],
        "memory": [str, HasMethods(["cache"]), None],
        "n_jobs": [Integral, None],
        "working_memory": WORKING_MEMORY_CONSTRAINT,
        **PROFILE_CONSTRAINTS,
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        classes: ArrayLike | None = None,
        nonlinearity: Any = None,
        layers: Layers = "relu",
        batch_size: int = 50,
        n_batches: int = 1,
        contamination: str | float = "auto",
        reference: str | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        working_memory: float | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.classes = classes
        self.nonlinearity = nonlinearity
        self.layers = layers
        self.batch_size = batch_size
        self.n_batches = n_batches
        self.contamination = contamination
        self.reference = reference
        self.memory = memory
        self.n_jobs = n_jobs
        self.working_memory = working_memory
        self.random_state = random_state
        self.verbose = verbose

    # Input ------------------------------------------------------------------------

    def _validate(self, X, y="no_validation", *, reset=False):
        return training.validate_samples(self, X, y, reset=reset)

    def _codes(self, y):
        """Position of every label in ``classes_``."""
        message = (
            "y has labels that the network does not know: {unknown}; only {known}. The "
            "outputs of a network that was trained before have numbers: name them in their "
            "order, MemorizationDetector(net, classes=[...]), as by the classes_ of the "
            "LabelEncoder that it was trained with."
        )
        return positions(y, self.classes_, message)

    def _inputs(self, X):
        """Apply the steps before the network, and check what it takes."""
        check_is_fitted(self)
        X = self._validate(X)
        steps = steps_before(self.estimator_)
        if steps is None:
            return X
        return training.stepped_samples(self.estimator_, steps.transform(X))

    # Training ---------------------------------------------------------------------

    def fit(self, X: Any, y: ArrayLike, **params: Any) -> Self:
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

        Warns
        -----
        UserWarning
            Where the score would say little: the network fits less than 0.95 of its
            training labels, or most classes have fewer than five samples; or where a
            skorch net's module is an object that is trained already.
        """
        self._validate_params()
        check_estimator_kind(self.estimator)
        check_reference(self.reference, self.estimator)
        _raise_for_params(params, self, "fit")
        with undone_on_error(self), limited(self.working_memory):
            X, y = self._validate(X, y, reset=True)
            X, codes = self._train(X, y, params)
            self._measure(X, y, codes)
            self.training_accuracy_, by_class = training.training_accuracy(
                self._network(), X, codes, self._seed
            )
            self._measure_reference(X, y, codes)
        training.warn_of_few_samples(self.classes_, codes)
        training.warn_of_misfit(self.training_accuracy_, by_class, len(self.classes_))
        return self

    def _train(self, X, y, params):
        """Set the network, trained or as it is.

        Returns
        -------
        X : samples as the network takes them
        codes : ndarray of int of shape (n_samples,)
            Of the labels.
        """
        training.check_classes(self, y)
        self._seed = check_random_state(self.random_state).randint(2**31 - 1)
        routed = process_routing(self, "fit", **params).get("estimator", {}).get("fit", {})
        steps, X = transformed(self.estimator, X, y, routed)
        X = training.stepped_samples(self.estimator, X) if steps else X
        network, self.classes_ = training.trained(self, X, y, self._seed, routed)
        self.estimator_ = with_steps(self.estimator, steps, network)
        self._threshold = None  # of a single output, not known yet
        return X, self._codes(y)

    def _network(self):
        """Return the network, whose columns have the labels ``classes_``."""
        network = as_network(inner_network(self.estimator_), self.classes_)
        if self._threshold is not None:
            network.threshold = self._threshold
        return network

    def _measure(self, X, y, codes):
        """Set what is measured on the training samples."""
        network = self._network()
        score, self.profile_, self.mixed_profile_ = measure_memorization(
            network, X, y, self._settings()
        )
        self._threshold = network.threshold  # which the profile found out
        self.memorization_score_ = score
        self.layer_names_ = self.profile_.layer_names
        self._shares = layer_shares(self.profile_, self.mixed_profile_)
        self.layer_scores_ = self._shares.clip(max=1)
        template = self._template()
        ranks = template.ranks
        self._measure_changes(network, X, y)
        self._scorer = SampleScorer(
            compression_of(template, random_state=self._seed),
            list(CONE_RANKS) if isinstance(ranks, str) else check_ranks(ranks),
            template.device,
            self.layers,
            self._seed,
        )
        self._scorer.fit(
            network,
            X,
            codes,
            len(self.classes_),
            trajectory=trajectory_of(inner_network(self.estimator_)),
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        weights = self._scorer.weights.tolist()
        self.layer_weights_ = dict(zip(self._scorer.names, weights, strict=True))
        shares = np.array(self._scorer.share_wrong) * len(codes)
        self.n_wrong_, self.n_wrong_interval_ = float(shares[0]), tuple(shares[1:].tolist())
        if self.contamination == "auto":
            self.offset_ = self._scorer.threshold
        else:
            self.offset_ = self._scorer.offset(self.contamination)

    def _measure_changes(self, network, X, y):
        """Set how sure the scores are, by how they change from batch to batch."""
        single, mixed = self.profile_, self.mixed_profile_
        areas = measure_changes(network, X, y, self._settings(), single, mixed)
        self._share = network_share(single, mixed)
        found = intervals(areas.total(), np.array([self._share]), *self._made_of())
        self.memorization_interval_ = tuple(found[0].tolist())
        self.layer_intervals_ = intervals(areas, self._shares, *self._made_of())
        self.layer_p_values_ = class_p_values(areas)
        self._areas, self._batches = areas, hash_of((self._seed, self.batch_size, y))

    def _measure_reference(self, X, y, codes):
        """Set the score of a network that has nothing to know."""
        for name in ("reference_score_", "reference_interval_", "reference_accuracy_"):
            vars(self).pop(name, None)
        if self.reference is None:
            return
        if self.reference == "shuffled":
            network, order = shuffled_reference(self, X, y, codes, self._seed)
            y, codes = y[order], codes[order]
        else:
            network = untrained_reference(self._network(), self._seed)
        score, single, mixed = measure_memorization(network, X, y, self._settings())
        areas = measure_changes(network, X, y, self._settings(), single, mixed)
        share = np.array([network_share(single, mixed)])
        found = intervals(areas.total(), share, *self._made_of())
        self.reference_score_, self.reference_interval_ = score, tuple(found[0].tolist())
        self.reference_accuracy_, _ = training.training_accuracy(
            network, X, codes, self._seed
        )

    def _made_of(self):
        """How many classes, and batches of each, a score is made of."""
        return len(self.profile_.classes), self.n_batches

    def _template(self):
        template = self.nonlinearity
        return ActivationNonlinearity() if template is None else template

    def _settings(self):
        """How the network is profiled."""
        return ProfileSettings.of(
            self._template(),
            layers=self.layers,
            batch_size=self.batch_size,
            n_batches=self.n_batches,
            n_jobs=self.n_jobs,
            random_state=self._seed,
            verbose=self.verbose,
        )

    def measure(self, X: Any, y: ArrayLike) -> tuple[float, LayerProfile, LayerProfile]:
        """Measure how far the network memorized, on any samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        score : float
            As ``memorization_score_``, which is that of the training samples.
        profile : LayerProfile
            On batches of one class.
        mixed_profile : LayerProfile
            On mixed batches.
        """
        X = self._inputs(X)
        with limited(self.working_memory):
            return measure_memorization(self._network(), X, y, self._settings())

    # Answers ----------------------------------------------------------------------

    def predict(self, X: Any) -> NDArray:
        """Predict the network's labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        X = self._inputs(X)
        return self._network().predict(X)

    def predict_proba(self, X: Any) -> NDArray:
        """Predict the network's probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; columns of the network beyond them do not count.
        """
        X = self._inputs(X)
        return self._network().predict_proba(X)

    # Samples ----------------------------------------------------------------------

    def _sample_scores(self, X, y=None, *, layers=True):
        """Scores of samples for their labels, or for what the network predicts."""
        X = self._inputs(X)
        codes = None if y is None else self._codes(check_labels(X, y))
        n_samples = get_len(as_arrays(X))
        if not n_samples:
            raise ValueError("X has 0 samples; give at least 1.")
        settings = {"layers": layers, "n_jobs": self.n_jobs, "verbose": self.verbose}
        with limited(self.working_memory):
            return self._scorer.score(self._network(), X, n_samples, codes, **settings)

    def transform(self, X: Any) -> NDArray:
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
        return self._sample_scores(X).contrast

    def score_samples(self, X: Any, y: ArrayLike | None = None) -> NDArray:
        """Score how far samples look memorized; higher is more.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what the network takes
            Samples: those of ``fit``, or new ones.
        y : array-like of shape (n_samples,), default=None
            The labels that they were given; None takes the network's predictions, as a
            Pipeline does, and there warns.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Logarithm of the odds that the label is wrong: above 0 where that is likelier
            than not. A probability is ``scipy.special.expit(scores)``.
        """
        scores = self._sample_scores(X, y, layers=False).score
        if y is None and is_called_from("sklearn.pipeline"):
            warn_user(
                "The score_samples of a Pipeline takes no labels: these are the scores of "
                "the labels that the network predicts. For those that were given, call "
                "pipe[-1].score_samples(pipe[:-1].transform(X), y), or put the steps into "
                "the detector: MemorizationDetector(make_pipeline(scaler, network))."
            )
        return scores

    def detect(self, X: Any, y: ArrayLike) -> NDArray:
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

    def fit_detect(self, X: Any, y: ArrayLike, **params: Any) -> NDArray:
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

    def label_report(self, X: Any, y: ArrayLike) -> "pd.DataFrame":
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
            ``suggested`` (the label that fits best, which can be the one given),
            ``score``, ``layer`` (what says so most: a layer, or ``"input"`` for the
            samples as they are), ``flagged``, ``probability`` (that the label is wrong)
            and ``certainty`` (in [0, 1], how sure the suggestion is). Where X is a pandas
            frame, the rows have the labels that the samples have in its index.
        """
        pd = check_pandas_support("MemorizationDetector.label_report")
        scores = self._sample_scores(X, y)
        return report_frame(
            pd,
            X,
            self.classes_[self._codes(labels_of(y))],
            self.classes_,
            scores,
            self._scorer.columns_of_evidence,
            self.offset_,
        )

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray:
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

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also those of the network and of the template.

        Parameters
        ----------
        **params : dict
            ``estimator__lr`` is the network's, ``nonlinearity__ranks`` the template's.

        Returns
        -------
        self : object
            The detector.

        Raises
        ------
        ValueError
            If they are of a network or template that is None.
        """
        training.check_owners(self, params)
        return super().set_params(**params)

    def get_metadata_routing(self) -> MetadataRouter:
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
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = wraps(self.estimator, training.TORCH)
        tags.transformer_tags.preserves_dtype = []
        return tags

"""Non-linearity scores of activation matrices, as a scikit-learn transformer."""

from dataclasses import fields
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from sknonlin._factorization.by_class import Learner
from sknonlin._factorization.by_row import (
    RowApproximations,
    RowResiduals,
    RowScores,
    map_blocks,
    map_rows,
)
from sknonlin._factorization.compression import Settings
from sknonlin._factorization.compressions import COMPRESSIONS, make_compression
from sknonlin._factorization.nmf_compression import rows_that_fit
from sknonlin._matrices.dask import checked_array, is_dask_array, refuse_dask_frames
from sknonlin._matrices.stack import as_numbers, working_dtypes
from sknonlin._running.memory import limited
from sknonlin._running.torch_settings import resolve_device
from sknonlin._running.validation import (
    Device,
    RandomState,
    Ranks,
    as_array,
    as_labels,
    auto_ranks,
    check_ranks,
    check_real,
    positions,
    undone_on_error,
    warn_user,
    without_mask,
)
from sknonlin.curves import area_under_curve, area_weights
from sknonlin.nmf import PATH_CONSTRAINTS


def refuse_text(X):
    """Refuse frames, lists and objects in which NumPy would find numbers unasked.

    It reads them from texts, and drops the imaginary part of complex ones. Other objects
    are converted, as scikit-learn does.
    """
    values = X if sparse.issparse(X) else np.asarray(X)
    if sparse.issparse(X) or values.dtype.kind != "O":
        check_real(values.dtype)
        return
    for value in values.flat:
        if isinstance(value, str | bytes | complex | np.complexfloating):
            check_real(np.asarray(value).dtype)


def validate_activations(estimator, X, *, reset=False):
    """X as a 2-D array, CSR matrix, tensor or Dask array of real numbers.

    Their values are checked where they are read: here, a memory map is not touched.
    """
    refuse_dask_frames(X)
    if isinstance(X, torch.Tensor) or is_dask_array(X):
        return validate_shape(estimator, X, reset=reset)
    X = without_mask(X)
    # Numbers are converted in chunks where they are used.
    plain = isinstance(X, np.ndarray) or sparse.issparse(X)
    plain = plain and X.dtype.kind in "biuf"
    if not plain:
        refuse_text(X)
    return validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype=None if plain else [np.float64, np.float32],
        ensure_all_finite=False,
    )


def validate_shape(estimator, X, *, reset):
    """Check the shape of a tensor or Dask array, as ``validate_data`` does of arrays."""
    X = checked_array(X) if is_dask_array(X) else as_numbers(X)
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got a {type(X).__name__} of shape {tuple(X.shape)} "
            "instead. Reshape your data; for the output of a convolution, take a row for "
            "every position: X.movedim(1, -1).flatten(0, -2)."
        )
    if reset:
        estimator.n_features_in_ = X.shape[1]
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    return X


def warn_of_exact(ranks, errors):
    """Warn of ranks that fit whatever there is exactly."""
    exact = ranks[(np.atleast_2d(errors) == 0).all(0)].tolist()
    if exact and exact[0] > 1:
        what = "X" if errors.ndim == 1 else "every class"
        warn_user(
            f"The ranks {exact} fit {what} exactly: it has no more samples or features "
            "than that, or no higher rank itself. Errors of 0 lower the score and tell no "
            f"layers apart. Pass ranks below {exact[0]}."
        )


def encode_classes(estimator, X, y, classes=None):
    """Classes and, for every row, the index of its class."""
    if y is None:
        raise ValueError(
            f"by_class=True: {type(estimator).__name__} requires y to be passed, but "
            "the target y is None."
        )
    y = as_labels(y.compute() if hasattr(y, "__dask_graph__") else y)
    check_consistent_length(X, y)
    if classes is None:
        check_classification_targets(y)
        return np.unique(y, return_inverse=True)
    message = "y has labels that fit did not see: {unknown}. It saw {known}."
    return classes, positions(y, classes, message)


def compression_of(scorer, **changes):
    """Make the compression that an :class:`ActivationNonlinearity` describes."""
    parameters = scorer.get_params(deep=False)
    names = [setting.name for setting in fields(Settings) if setting.name in parameters]
    settings = {name: parameters[name] for name in names} | changes
    if isinstance(settings["random_state"], np.random.RandomState):
        # One seed for all classes, whatever stacks they fall into.
        settings["random_state"] = settings["random_state"].randint(2**31 - 1)
    return make_compression(scorer.compression, **settings)


class ActivationNonlinearity(TransformerMixin, BaseEstimator):
    """Non-linearity of activation matrices, from how well low ranks fit them.

    The activations of a ReLU layer on similar samples form a non-negative matrix. The
    worse its non-negative factorizations of low rank fit, the further the layer is
    from a linear map on these samples [1]_. ``fit`` learns a cone at every rank;
    ``transform`` returns the relative residual of every row to every cone, the row's
    own error curve.

    Parameters
    ----------
    ranks : "auto" or iterable of int, default="auto"
        Increasing ranks. ``"auto"``: ten ranks from 1 to 32, about geometric, as far as
        they are below ``min(n_samples, n_features)``.
    compression : {"nmf", "pca", "ablation"}, default="nmf"
        What approximates the matrix at a rank: non-negative factorization, the
        principal axes of the uncentred matrix, or k units kept at random. The last
        two accept activations of any sign.
    by_class : bool, default=False
        Learn one path for every class in ``y``, as the single-class batches of the
        source paper ask for.
    solver : {"auto", "admm", "mu"}, default="auto"
        Solver of the factorization, see :func:`nmf_path`.
    max_iter : int, default=200
        Largest number of alternations at a rank.
    tol : float, default=2e-4
        Fall of the relative error in one alternation below which a rank has converged.
    max_rows : int or None, default=4000
        Number of rows, drawn in proportion to their energy, from which the cones of a
        taller matrix are learned; fewer where ``working_memory`` does not hold so many,
        but at least twice the largest rank. Errors are those of all rows.
    n_draws : int, default=10
        Number of random orders of the units that ``compression="ablation"`` averages.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` is a tensor's own device, and for other input CUDA
        where there is one. With numba, NMF learns from small matrices on a GPU (2**19
        numbers in all) on the processor.
    random_state : int, RandomState instance or None, default=None
        Seeds the draw of rows and the ablations.
    working_memory : float or None, default=None
        Memory in MiB that ``fit`` and the methods that follow may take besides the data,
        the labels and the results. None is ``working_memory`` of
        :func:`sklearn.config_context`, 1024 unless set. Workers share it; each task on a
        Dask array has it to itself. On a GPU, what is free there counts instead. Under
        ``compression="pca"``, Gram matrices of the shorter axis come on top.
    n_jobs : int or None, default=None
        Number of workers that learn from the classes, and that score chunks of rows:
        threads, or the backend of ``joblib.parallel_config``. None is 1 unless
        that says otherwise; -1 takes all processors. The tasks on a Dask array are
        Dask's.
    verbose : int, default=0
        Above 0, progress bars.

    Attributes
    ----------
    ranks_ : ndarray of shape (n_ranks,)
        The ranks used.
    errors_ : ndarray of shape (n_ranks,) or (n_classes, n_ranks)
        Relative error of the training matrix at every rank, in [0, 1]; never
        increasing. A rank at or above ``min(n_samples, n_features)`` has error 0
        (under ablation, only one at or above ``n_features``).
    nonlinearity_ : float or ndarray of shape (n_classes,)
        Area under ``errors_`` by the trapezoidal rule over the ranks, divided by their
        range; in [0, 1]. Compare values of one grid of ranks only.
    components_ : list of ndarrays of shape (k, n_features) or (n_classes, k, n_features)
        Components of every rank, of norm 1. Under ablation, ``n_draws`` masks.
    classes_ : ndarray of shape (n_classes,)
        The classes; only where ``by_class=True``.
    n_iter_ : int
        Largest number of alternations that a rank took.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where X has names that are all strings.

    See Also
    --------
    nmf_path : The factorization as a function.

    Notes
    -----
    A class of one sample is its own cone, with errors of 0; so is an all-zero matrix.
    The residual of an all-zero row is 0. Without ``by_class``, y is ignored.

    The output (n, c, h, w) of a convolution becomes a matrix with a row for every
    position, ``A.movedim(1, -1).flatten(0, 2)``, and ``np.repeat(y, h * w)`` its labels.

    Computes in the dtype given, float32 or float64; arrays of other numbers become
    float64, as in scikit-learn, and half-precision tensors are computed in float32.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from sknonlin import ActivationNonlinearity
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 2))
    >>> linear = np.abs(X) @ rng.random((2, 16))
    >>> thresholded = np.maximum(X @ rng.normal(size=(2, 16)), 0)
    >>> scorer = ActivationNonlinearity(ranks=[1, 2, 4, 8])
    >>> bool(scorer.fit(linear).nonlinearity_ < scorer.fit(thresholded).nonlinearity_)
    True
    >>> scorer.transform(thresholded).shape
    (50, 4)
    """

    _parameter_constraints: ClassVar[dict] = {
        "ranks": [
            StrOptions({"auto"}),
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "compression": [StrOptions(set(COMPRESSIONS))],
        "by_class": ["boolean"],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        **PATH_CONSTRAINTS,
    }

    def __init__(
        self,
        ranks: Ranks = "auto",
        *,
        compression: str = "nmf",
        by_class: bool = False,
        solver: str = "auto",
        max_iter: int = 200,
        tol: float = 2e-4,
        max_rows: int | None = 4000,
        n_draws: int = 10,
        device: Device = "auto",
        random_state: RandomState = None,
        working_memory: float | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.ranks = ranks
        self.compression = compression
        self.by_class = by_class
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.max_rows = max_rows
        self.n_draws = n_draws
        self.device = device
        self.random_state = random_state
        self.working_memory = working_memory
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Learn the components of every rank, and the error curve.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor, Dask array} of shape (n_samples, n_features)
            Activations; non-negative, unless ``compression`` takes any sign.
        y : array-like of shape (n_samples,), default=None
            Classes, used where ``by_class=True``.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If X has negative, NaN or infinite entries, is not two-dimensional, or y is
            missing although ``by_class=True``.
        """
        self._validate_params()
        classes = codes = None
        with undone_on_error(self), limited(self.working_memory):
            X = validate_activations(self, X, reset=True)
            auto = isinstance(self.ranks, str)
            ranks = auto_ranks(min(X.shape)) if auto else check_ranks(self.ranks)
            if self.by_class:
                classes, codes = encode_classes(self, X, y)
            learner = self._learner(X, ranks)
            errors, components, n_iter = learner.fit(X, codes, n_jobs=self.n_jobs)
        if self.by_class:
            self.classes_ = classes
        elif hasattr(self, "classes_"):
            del self.classes_
        self.ranks_ = np.array(ranks)
        self.errors_, self.components_ = errors, components
        self.n_iter_ = max(1, int(n_iter.max()))
        self.nonlinearity_ = area_under_curve(ranks, self.errors_)
        if not auto:
            warn_of_exact(self.ranks_, self.errors_)
        return self

    def _learner(self, X, ranks):
        """Make what learns from X, from no more rows than the memory holds."""
        dtype, device = working_dtypes(X, torch.float64)[0], resolve_device(self.device, X)
        max_rows = rows_that_fit(self.max_rows, X.shape[1], ranks, dtype, device)
        return Learner(compression_of(self, max_rows=max_rows), ranks, self.device)

    def _row_task(self, kind, **settings):
        """Make what is computed from every row, of a kind, with the fitted components."""
        by_class = hasattr(self, "classes_")
        components = [
            torch.from_numpy(np.require(H if by_class else H[None], requirements="W"))
            for H in self.components_
        ]
        weights = area_weights(self.ranks_)
        return kind(compression_of(self), components, weights, self.device, **settings)

    def _map_rows(self, task, X, codes=None):
        with limited(self.working_memory):
            if is_dask_array(X):
                return map_blocks(task, X, codes)
            return map_rows(task, X, codes, n_jobs=self.n_jobs, verbose=self.verbose)

    def transform(self, X: Any) -> Any:
        """Relative residual of every row at every rank: the rows' own error curves.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor, Dask array} of shape (n_samples, n_features)
            Activations of the layer that ``fit`` saw.

        Returns
        -------
        residuals : array of shape (n_samples, n_ranks) or (n_samples, n_classes * n_ranks)
            In [0, 1]. A row's residuals do not depend on the other rows. A tensor in
            gives a tensor out, on the same device.
        """
        check_is_fitted(self)
        X = validate_activations(self, X)
        residuals = self._map_rows(self._row_task(RowResiduals), X)
        framed = _get_output_config("transform", self)["dense"] != "default"
        return as_array(residuals) if framed and torch.is_tensor(residuals) else residuals

    def score_samples(self, X: Any, y: ArrayLike | None = None) -> Any:
        """Area under every row's own error curve, its non-linearity.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor, Dask array} of shape (n_samples, n_features)
            Activations of the layer that ``fit`` saw.
        y : array-like of shape (n_samples,), default=None
            With ``by_class=True``, the class whose cones each row is held against;
            None takes, for every row, the class whose cones fit it best.

        Returns
        -------
        scores : array of shape (n_samples,)
            In [0, 1]; higher is further from the cones.
        """
        check_is_fitted(self)
        X = validate_activations(self, X)
        return self._map_rows(self._row_task(RowScores), X, self._given_codes(X, y))

    def _given_codes(self, X, y):
        """Index of the class given for every row, or None where classes do not matter."""
        if y is None or not hasattr(self, "classes_"):
            return None
        return encode_classes(self, X, y, self.classes_)[1]

    def reconstruct(self, X: Any, rank: int, y: ArrayLike | None = None) -> Any:
        """Approximate rows at one rank.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor, Dask array} of shape (n_samples, n_features)
            Activations of the layer that ``fit`` saw.
        rank : int
            One of ``ranks_``.
        y : array-like of shape (n_samples,), default=None
            Classes, as in :meth:`score_samples`.

        Returns
        -------
        X_rank : array of shape (n_samples, n_features)
            Dense. Under ablation, with the units of the first draw.

        Raises
        ------
        ValueError
            If ``rank`` is not one of ``ranks_``, or is several of them.
        """
        check_is_fitted(self)
        known = self.ranks_.tolist()
        if np.ndim(rank) or rank not in known:
            raise ValueError(f"rank={rank!r} was not fitted; choose one of {known}.")
        X = validate_activations(self, X)
        task = self._row_task(RowApproximations, position=known.index(rank))
        return self._map_rows(task, X, self._given_codes(X, y))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray:
        """Name the columns of :meth:`transform`.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Checked against the features that ``fit`` saw, and otherwise ignored.

        Returns
        -------
        names : ndarray of str
            ``"rank8"``, or ``"class3_rank8"`` where ``by_class=True``.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        names = [f"rank{k}" for k in self.ranks_]
        classes: Any = getattr(self, "classes_", None)
        if classes is not None:
            names = [f"class{c}_{name}" for c in classes for name in names]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        compression = COMPRESSIONS.get(self.compression)
        tags.input_tags.positive_only = compression is None or compression.nonnegative
        tags.target_tags.required = self.by_class
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

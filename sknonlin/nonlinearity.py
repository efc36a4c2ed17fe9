"""Non-linearity scores of activation matrices, as a scikit-learn transformer."""

from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted
from tqdm.auto import tqdm

from sknonlin._activation_input import encode_classes, validate_activations
from sknonlin._arrays import MatrixStack, full_precision, in_full_precision
from sknonlin._class_stacks import class_stacks
from sknonlin._cone import unit_rows
from sknonlin._ranks import auto_ranks, check_ranks
from sknonlin.compression import COMPRESSIONS, learn_stack, make_compression
from sknonlin.curves import area_under_curve, area_weights
from sknonlin.nmf import PATH_CONSTRAINTS


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
        taller matrix are learned. Errors are those of all rows.
    n_draws : int, default=10
        Number of random orders of the units that ``compression="ablation"`` averages.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` is a tensor's own device, and for other input CUDA
        where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the draw of rows and the ablations.
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
        **PATH_CONSTRAINTS,
    }

    def __init__(
        self,
        ranks="auto",
        *,
        compression="nmf",
        by_class=False,
        solver="auto",
        max_iter=200,
        tol=2e-4,
        max_rows=4000,
        n_draws=10,
        device="auto",
        random_state=None,
        verbose=0,
    ):
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
        self.verbose = verbose

    def _compression(self):
        settings = self.get_params(deep=False)
        if isinstance(self.random_state, np.random.RandomState):
            # One seed for all classes, whatever stacks they fall into.
            settings["random_state"] = self.random_state.randint(2**31 - 1)
        return make_compression(settings.pop("compression"), **settings)

    def _validate(self, X, *, reset=False):
        nonnegative = COMPRESSIONS[self.compression].nonnegative
        return validate_activations(self, X, nonnegative=nonnegative, reset=reset)

    def fit(self, X, y=None):
        """Learn the components of every rank, and the error curve.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor} of shape (n_samples, n_features)
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
        X = self._validate(X, reset=True)
        auto = isinstance(self.ranks, str)
        ranks = auto_ranks(min(X.shape)) if auto else check_ranks(self.ranks)
        compression = self._compression()
        if self.by_class:
            self.classes_, codes = encode_classes(self, X, y)
            self._learn_classes(compression, X, codes, ranks)
        else:
            if hasattr(self, "classes_"):
                del self.classes_
            with full_precision():
                errors, components, n_iter = learn_stack(
                    compression, X if sparse.issparse(X) else X[None], ranks, self.device
                )
            self.errors_ = errors[0]
            self.components_ = [component[0] for component in components]
            self.n_iter_ = max(1, int(n_iter.max()))
        self.ranks_ = np.array(ranks)
        self.nonlinearity_ = area_under_curve(ranks, self.errors_)
        return self

    @in_full_precision
    def _learn_classes(self, compression, X, codes, ranks):
        n_classes = len(self.classes_)
        self.n_iter_ = 1
        errors, components = None, None
        for classes, stack, n_rows in class_stacks(X, codes, n_classes, self.max_rows):
            learned, parts, n_iter = learn_stack(
                compression, stack, ranks, self.device, n_rows
            )
            if errors is None:
                errors = np.empty((n_classes, len(ranks)), dtype=learned.dtype)
                components = [
                    np.empty((n_classes, *part.shape[1:]), dtype=part.dtype)
                    for part in parts
                ]
            errors[classes] = learned
            for component, part in zip(components, parts, strict=True):
                component[classes] = part
            self.n_iter_ = max(self.n_iter_, int(n_iter.max()))
        self.errors_, self.components_ = errors, components

    def _cones(self, stack):
        """Components by class and rank: a list of lists of tensors."""
        by_class = hasattr(self, "classes_")
        parts = [
            torch.from_numpy(part if by_class else part[None]).to(
                device=stack.device, dtype=stack.dtype
            )
            for part in self.components_
        ]
        return list(zip(*parts, strict=True))

    def _stack(self, X, compression):
        stack = MatrixStack(X, self.device)
        if isinstance(X, torch.Tensor):
            stack.check_values(nonnegative=compression.nonnegative)
        return stack, stack.chunks(int(self.ranks_[-1]))

    @in_full_precision
    def _residuals(self, X, codes=None):
        """Relative residuals as a tensor (n_samples, n_classes, n_ranks), and X's stack.

        With ``codes``, those to the class of each row alone, (n_samples, 1, n_ranks).
        """
        compression = self._compression()
        stack, chunks = self._stack(X, compression)
        cones = self._cones(stack)
        n_cones = len(cones) if codes is None else 1
        residuals = stack.rows(0, 0).new_empty(stack.n, n_cones, len(self.ranks_))
        for rows in tqdm(chunks, "rows", unit="chunk", disable=not self.verbose):
            block = unit_rows(stack.rows(rows.start, rows.stop)[0])[0]
            for i, ranks in enumerate(cones):
                chosen = slice(None) if codes is None else codes[rows] == i
                for j, components in enumerate(ranks):
                    left = compression.residuals(block[chosen], components)
                    residuals[rows][chosen, i if codes is None else 0, j] = left
        return residuals.clamp_(max=1), stack

    def transform(self, X):
        """Relative residual of every row at every rank: the rows' own error curves.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor} of shape (n_samples, n_features)
            Activations of the layer that ``fit`` saw.

        Returns
        -------
        residuals : array of shape (n_samples, n_ranks) or (n_samples, n_classes * n_ranks)
            In [0, 1]. A row's residuals do not depend on the other rows. A tensor in
            gives a tensor out, on the same device.
        """
        check_is_fitted(self)
        X = self._validate(X)
        residuals, stack = self._residuals(X)
        return stack.restore(residuals.flatten(1), lead=False)

    def score_samples(self, X, y=None):
        """Area under every row's own error curve, its non-linearity.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor} of shape (n_samples, n_features)
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
        X = self._validate(X)
        areas, stack = self._areas(X, self._given_codes(X, y))
        return stack.restore(areas.amin(1), lead=False)

    @in_full_precision
    def _areas(self, X, codes=None):
        """Areas under the curves of :meth:`_residuals`, and X's stack."""
        residuals, stack = self._residuals(X, codes)
        weights = torch.from_numpy(area_weights(self.ranks_)).to(residuals)
        return residuals @ weights, stack

    def _given_codes(self, X, y):
        """Index of the class given for every row, or None where classes do not matter."""
        if y is None or not hasattr(self, "classes_"):
            return None
        return torch.from_numpy(encode_classes(self, X, y, self.classes_)[1])

    def reconstruct(self, X, rank, y=None):
        """Approximate rows at one rank.

        Parameters
        ----------
        X : {array-like, sparse matrix, tensor} of shape (n_samples, n_features)
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
            If ``rank`` is not one of ``ranks_``.
        """
        check_is_fitted(self)
        position = np.flatnonzero(self.ranks_ == rank)
        if len(position) == 0:
            raise ValueError(
                f"rank={rank!r} was not fitted; choose one of {self.ranks_.tolist()}."
            )
        X = self._validate(X)
        codes = self._given_codes(X, y)
        if codes is None and hasattr(self, "classes_"):
            codes = self._areas(X)[0].argmin(1)
        return self._approximate(X, position[0], codes)

    @in_full_precision
    def _approximate(self, X, position, codes):
        compression = self._compression()
        stack, chunks = self._stack(X, compression)
        cones = [ranks[position] for ranks in self._cones(stack)]
        result = stack.rows(0, 0).new_empty(stack.n, stack.q)
        for rows in chunks:
            block, norm, largest = unit_rows(stack.rows(rows.start, rows.stop)[0])
            for i, components in enumerate(cones):
                chosen = slice(None) if codes is None else codes[rows] == i
                part = compression.approximate(block[chosen], components)
                result[rows][chosen] = part * norm[chosen] * largest[chosen]
        return stack.restore(result, lead=False)

    def get_feature_names_out(self, input_features=None):
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
        if hasattr(self, "classes_"):
            names = [f"class{c}_{name}" for c in self.classes_ for name in names]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        compression = COMPRESSIONS.get(self.compression)
        tags.input_tags.positive_only = compression is None or compression.nonnegative
        tags.target_tags.required = self.by_class
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

"""Error and accuracy curves of every layer of a network, class by class."""

from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import type_of_target

from sknonlin._memorization.forward_pass import PassSettings
from sknonlin._memorization.profiling import PassMeasurer, matrix_shapes, with_rows_that_fit
from sknonlin._memorization.significance import MOST_CLASSES, BatchAreas, n_repeats
from sknonlin._network.adapters import as_network
from sknonlin._network.layers import NetworkLayers
from sknonlin._network.samples import as_arrays, check_labels
from sknonlin._running.memory import WORKING_MEMORY_CONSTRAINT, limited
from sknonlin._running.parallel import Workers
from sknonlin._running.validation import (
    Layers,
    RandomState,
    Ranks,
    auto_ranks,
    check_ranks,
    validated,
    warn_user,
)
from sknonlin.batches import make_batches, make_reference_batches
from sknonlin.curves import area_under_curve, mean_of_known
from sknonlin.nonlinearity import ActivationNonlinearity, compression_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PROFILE_CONSTRAINTS = {
    "layers": [StrOptions({"relu", "auto"}), "array-like"],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "n_batches": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


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
    def errors(self) -> NDArray:
        """Mean of ``batch_errors`` over the batches."""
        return mean_of_known(self.batch_errors, 2)

    @property
    def accuracies(self) -> NDArray:
        """Mean of ``batch_accuracies`` over the batches."""
        return mean_of_known(self.batch_accuracies, 2)

    @property
    def accuracy(self) -> NDArray:
        """Mean of ``batch_accuracy`` over the batches."""
        return mean_of_known(self.batch_accuracy, 1)

    @property
    def error_auc(self) -> NDArray:
        """Area under the error curve of every layer."""
        return area_under_curve(self.ranks, mean_of_known(self.errors, 1))

    @property
    def accuracy_auc(self) -> NDArray:
        """Area under the accuracy curve of every layer."""
        return area_under_curve(self.ranks, mean_of_known(self.accuracies, 1))

    def to_frame(self) -> "pd.DataFrame":
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

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the areas under both curves over the layers, with the range of classes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ax : matplotlib.axes.Axes
        """
        from sknonlin.inspection import LayerProfileDisplay  # when something is drawn

        return LayerProfileDisplay.from_profile(self, curve="both").plot(ax).ax_


def memorization_score(single, mixed):
    """Sum up how far a network memorized in one number.

    It is the non-linearity of the network on batches of one class, as a share of that
    on mixed batches of the same size: the areas under the error curves, summed over
    the layers. What a network learned makes the samples of a class alike, and their
    activations close to linear; what it memorized leaves them as different as any.

    Parameters
    ----------
    single : LayerProfile
        On batches of one class.
    mixed : LayerProfile
        On mixed batches, with the same ranks and batch size.

    Returns
    -------
    score : float
        In [0, 1]; 0 also where no layer is non-linear on mixed batches.
    """
    return min(1.0, network_share(single, mixed))


def network_share(single, mixed):
    """Give the share of which :func:`memorization_score` is made, which may be above 1."""
    reference = np.nansum(mixed.error_auc)
    return float(np.nansum(single.error_auc) / reference) if reference else 0.0


def layer_shares(single, mixed):
    """Non-linearity of every layer on one class, as a share of that on mixed batches."""
    reference = mixed.error_auc
    return single.error_auc / np.where(reference > 0, reference, np.inf)


@dataclass(frozen=True)
class ProfileSettings:
    """How a network is profiled: see :func:`layer_profile`.

    With ``mixed``, the batches are mixed ones of the size of every class's own. Those that
    are ``independent`` are drawn one by one, and may overlap. Of more classes than
    ``most_classes``, some are chosen.
    """

    compression: object
    ranks: object = "auto"
    device: object = "auto"
    layers: object = "relu"
    batch_size: int = 50
    n_batches: int = 1
    by_class: bool = True
    mixed: bool = False
    independent: bool = False
    most_classes: int | None = None
    cumulative: bool = False
    replay: bool = True
    n_jobs: int | None = None
    random_state: object = None
    verbose: int = 0

    @classmethod
    def of(cls, template, **settings):
        """Take ranks, compression and device of an ActivationNonlinearity."""
        template._validate_params()
        compression = compression_of(template, random_state=None)
        return cls(compression, template.ranks, template.device, **settings)


def measure_memorization(network, X, y, settings):
    """Profile a network on batches of one class and on mixed ones, and score it.

    Returns
    -------
    score : float
        :func:`memorization_score` of both profiles. With batches of one sample it is 0,
        and a warning.
    single : LayerProfile
    mixed : LayerProfile
        For every class, as many mixed batches of the size of its own, without
        accuracies.
    """
    X = as_arrays(X)
    y = check_labels(X, y)
    single = profile_network(network, X, y, settings)
    if min(settings.batch_size, np.unique(y, return_counts=True)[1].max()) == 1:
        warn_user(
            "Every batch has a single sample, which no layer can tell from others: the "
            "memorization score is 0 and means nothing. Give at least ten samples of every "
            "class, and a batch_size above 1."
        )
    settings = replace(settings, ranks=single.ranks, mixed=True, replay=False)
    mixed = profile_network(network, X, y, settings)
    return memorization_score(single, mixed), single, mixed


def measure_changes(network, X, y, settings, single, mixed):
    """Measure how areas change from batch to batch, on a few batches more.

    Parameters
    ----------
    network, X, y, settings
        As in :func:`measure_memorization`.
    single, mixed : LayerProfile
        What it gave.

    Returns
    -------
    areas : BatchAreas
        Of the first of the batches that were measured before, and of more.
    """
    n_classes = len(single.classes)
    more = replace(
        settings,
        ranks=single.ranks,
        independent=True,
        most_classes=MOST_CLASSES,
        n_batches=n_repeats(n_classes),
        random_state=check_random_state(settings.random_state).randint(2**31 - 1),
        replay=False,
    )
    X, y = as_arrays(X), check_labels(X, y)
    found = []
    for profile, by_class in ((single, True), (mixed, False)):
        again = profile_network(network, X, y, replace(more, mixed=not by_class))
        places = [profile.classes.tolist().index(label) for label in again.classes.tolist()]
        first = profile.batch_errors[:, places, :1]
        others = np.full((*first.shape[:2], more.n_batches, first.shape[3]), np.nan)
        for own, name in zip(others, profile.layer_names, strict=True):
            if name in again.layer_names:  # a way that these batches took, too
                own[:] = again.batch_errors[again.layer_names.index(name)]
        errors = np.concatenate([first, others], 2)
        found.append(area_under_curve(profile.ranks, errors))
    return BatchAreas(*found)


def listed_ranks(ranks, capture, batch_size, compression):
    """Ranks as given, or those of the automatic grid that the layers have room for."""
    if not isinstance(ranks, str):
        return check_ranks(ranks)
    room = max(
        (min(batch_size * n, units) for n, units in matrix_shapes(capture, compression)),
        default=1,
    )
    return auto_ranks(max(1, room))


def draw_profile_batches(groups, settings):
    """Draw the batches of every group of samples, or of all of them."""
    if settings.independent:
        one = replace(settings, n_batches=1, independent=False)
        seeds = settings.random_state + np.arange(settings.n_batches)
        draws = [
            draw_profile_batches(groups, replace(one, random_state=int(seed % 2**31)))
            for seed in seeds
        ]
        return [[batch for (batch,) in own] for own in zip(*draws, strict=True)]
    size, number, seed = settings.batch_size, settings.n_batches, settings.random_state
    if settings.mixed:
        return make_reference_batches(groups, size, number, random_state=seed)
    by_class = settings.by_class
    return make_batches(groups, size, number, by_class=by_class, random_state=seed)


def some_classes(labels, batches, settings):
    """Choose some classes and their batches, where a profile is not of all."""
    most = settings.most_classes
    if most is None or most >= len(batches):
        return labels, batches
    rng = np.random.default_rng(settings.random_state)
    chosen = np.sort(rng.choice(len(batches), most, replace=False))
    return labels[chosen], [batches[i] for i in chosen]


def profile_network(network, X, y, settings):
    """Profile a :class:`Network` on samples with the labels ``y``, an array."""
    if settings.by_class and type_of_target(y).startswith("continuous"):
        raise ValueError(
            "y is continuous, so that hardly two samples have the same label, and there "
            "are no batches of one class. Bin it, as numpy.digitize does, or mix all "
            "samples with by_class=False."
        )
    seed = check_random_state(settings.random_state).randint(2**31 - 1)
    settings = replace(settings, random_state=seed)
    compression = settings.compression.changed(random_state=seed)
    layers = NetworkLayers(network, settings.layers, X, len(y))
    labels, groups = np.unique(y, return_inverse=True)
    batches = draw_profile_batches(groups, settings)
    with layers.capture() as capture:
        codes = torch.from_numpy(groups)  # of a regressor, which gives no labels
        if network.codes(capture.output) is not None:
            columns = network.encode(labels, capture.output)
            labels = labels if network.classes is None else network.classes[columns]
            codes = columns[codes]
        labels, batches = some_classes(labels, batches, settings)
        ranks = listed_ranks(settings.ranks, capture, settings.batch_size, compression)
        compression, task_bytes = with_rows_that_fit(
            compression, ranks, capture, settings.batch_size
        )
    with Workers(settings.n_jobs, settings.verbose, task_bytes) as workers:
        how = PassSettings(compression, ranks, settings.device, side_by_side=True)
        measurer = PassMeasurer(layers, how, settings.cumulative, settings.replay)
        curves = measurer.measure(workers, capture, X, codes, batches)
    return LayerProfile(
        classes=labels if settings.by_class else np.array(["mixed"]),
        ranks=np.array(ranks),
        compression=compression.name,
        cumulative=settings.cumulative,
        **curves,
    )


@validated(
    {
        **PROFILE_CONSTRAINTS,
        "by_class": ["boolean"],
        "cumulative": ["boolean"],
        "replay": ["boolean"],
        "n_jobs": [Integral, None],
        "working_memory": WORKING_MEMORY_CONSTRAINT,
    }
)
def layer_profile(
    net: Any,
    X: Any,
    y: ArrayLike,
    *,
    layers: Layers = "relu",
    ranks: Ranks = "auto",
    compression: str = "nmf",
    batch_size: int = 50,
    n_batches: int = 1,
    by_class: bool = True,
    cumulative: bool = False,
    replay: bool = True,
    n_jobs: int | None = None,
    working_memory: float | None = None,
    random_state: RandomState = None,
    verbose: int = 0,
    **settings: Any,
) -> LayerProfile:
    """Measure how well every layer of a trained network withstands compression.

    On batches of samples of one class, each layer's activations are compressed at a
    path of ranks, and the rest of the network runs on them [1]_. A network that learned
    a rule stays close to linear on such a batch, and keeps its answers at low ranks;
    one that memorized its samples does not.

    Parameters
    ----------
    net : torch.nn.Module, skorch net, MLPClassifier or MLPRegressor
        A trained network. A module returns (n_samples, n_classes) scores, or one logit
        for each sample, alone or first in a tuple; a dict of inputs becomes its keyword
        arguments. Also a :class:`~sklearn.frozen.FrozenEstimator` of these.
    X : array-like, tensor, tuple or dict of them, or torch Dataset
        Samples along the first axis, as the network takes them; floating-point numbers
        are cast to its precision.
    y : array-like of shape (n_samples,)
        The labels. Those of a module or a skorch net are the numbers of its outputs.
    layers : "relu", "auto" or list of str, default="relu"
        ``"relu"``: every call of a ReLU, as a module, a function or a method, in place
        or not, ReLU6 and ``clamp(min=0)`` included. ``"auto"``: every call of an
        activation, see below. Or the names of some of them, or of submodules, whose
        outputs are then taken.
    ranks : "auto" or iterable of int, default="auto"
        Increasing ranks; ``"auto"``: ten from 1 to 32, as far as they are below the
        rank that the layers can have.
    compression : {"nmf", "pca", "ablation"}, default="nmf"
        As in :class:`ActivationNonlinearity`. The accuracies under ablation are those
        of its first order of the units.
    batch_size : int, default=50
        Samples in a batch; a class with fewer gives all that it has.
    n_batches : int, default=1
        Batches of every class, disjoint where the class is large enough for that.
    by_class : bool, default=True
        Batches of one class each; False mixes them.
    cumulative : bool, default=False
        Compress every layer up to this one, not this one alone: each at the same rank,
        on what the compressed layers before it make of the batch.
    replay : bool, default=True
        False leaves out the accuracies, which take most of the time.
    n_jobs : int, default=None
        Workers that measure batches and layers: threads, unless
        ``joblib.parallel_config`` names another backend. None is 1, or what is
        configured there.
    working_memory : float, default=None
        Memory in MiB for all workers together, beside the network, the samples and the
        results; None takes scikit-learn's ``working_memory``, 1024 by default. What a
        batch holds at all layers is split into groups of layers where it is too much.
    random_state : int, RandomState instance or None, default=None
        Seeds the batches, and what is random in the compression.
    verbose : int, default=0
        Above 0, a progress bar.
    **settings
        Further settings of :class:`ActivationNonlinearity`: ``solver``, ``max_iter``,
        ``tol``, ``max_rows``, ``n_draws`` and ``device``.

    Returns
    -------
    profile : LayerProfile
        Error and accuracy curves of every layer, class and batch.

    Raises
    ------
    ValueError
        If the network has no ReLU, or not the layers named; if its activations are
        NaN, infinite or, under ``"nmf"``, negative; if y has labels that it does not
        know.
    TypeError
        If ``net`` is not such a network.
    NotFittedError
        If it is an estimator that is not fitted.

    Notes
    -----
    A convolution's output (n, c, h, w) becomes a matrix with a row for every position,
    a sequence's (n, t, q) one for every step. Which axis has the units is told by the
    last operation before the layer that has units: a convolution or a batch norm, or a
    linear map.

    The network is run in eval mode, without gradients, in float32 or its own precision;
    its mode, its hooks and torch's random state are afterwards as they were. All
    batches of one size go through it together, up to 2**26 numbers of activations (2**22
    on a CPU, which is no faster with more), fewer where the memory is less. From each
    layer on, only the rest of the network is run again.

    ``layers="auto"`` finds ReLUs, GELU, SiLU, LeakyReLU, PReLU, ELU, CELU, SELU, Softplus,
    hardswish, hardtanh, Mish, tanh, sigmoid, softsign and GLU, also where they are written
    out as a product; and gated units such as those of ReGLU and SwiGLU, of which the
    product is the layer. A sigmoid or the like that is the network's output is none.
    Activations A that may be negative are compressed by NMF as [max(A, 0), max(-A, 0)], two
    halves side by side, and what replaces them is the difference of their approximations.

    A layer that some batches do not reach, in a network that chooses its way by the
    data, has NaN there. The accuracies of a regressor are NaN.

    References
    ----------
    .. [1] E. Collins, S. A. Bigdeli, S. Süsstrunk, "Detecting Memorization in ReLU
       Networks", arXiv:1810.03372 (2018).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sknonlin import layer_profile
    >>> X, y = load_digits(return_X_y=True)
    >>> mlp = MLPClassifier((32, 16), tol=0.01, random_state=0).fit(X, y)
    >>> profile = layer_profile(mlp, X, y, ranks=[1, 2, 4, 8], random_state=0)
    >>> profile.layer_names
    ['relu1', 'relu2']
    >>> profile.errors.shape
    (2, 10, 4)
    """
    template = ActivationNonlinearity(ranks, compression=compression, **settings)
    settings = ProfileSettings.of(
        template,
        layers=layers,
        batch_size=batch_size,
        n_batches=n_batches,
        by_class=by_class,
        cumulative=cumulative,
        replay=replay,
        n_jobs=n_jobs,
        random_state=random_state,
        verbose=verbose,
    )
    with limited(working_memory):
        X = as_arrays(X)
        return profile_network(as_network(net), X, check_labels(X, y), settings)

"""What a MemorizationDetector takes, networks and samples, and the training."""

import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier
from sklearn.utils import assert_all_finite, check_array, check_consistent_length
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_memory, validate_data
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import Dataset

from sknonlin._memorization.given_network import (
    check_own_classes,
    has_steps,
    inner_network,
    is_trained,
    output_classes,
    wraps,
)
from sknonlin._memorization.trajectory import watched
from sknonlin._network.adapters import N_PREDICTED, as_network
from sknonlin._network.samples import (
    as_arrays,
    as_one_array,
    check_labels,
    in_precision,
    is_frame,
    labels_of,
    moved,
    native,
    refuse_no_numbers,
    refuse_streams,
    words_refused,
)
from sknonlin._running.memory import MOST, file_mapping, release_pages
from sknonlin._running.torch_settings import random_state_kept
from sknonlin._running.validation import warn_user

WIDTH, N_LAYERS = 64, 2
#: Networks that take more than tables.
TORCH = (NeuralNet, torch.nn.Module)
#: Samples that go to them as they are.
SKORCH_INPUT = (Mapping, tuple, torch.Tensor, Dataset)
#: What to give a detector, for searches over parameters of its parts.
PARTS = {"estimator": "a network", "nonlinearity": "ActivationNonlinearity()"}
# Samples of a class. On the ten classes of digits, clean, the score's standard deviation
# over seeds is 0.06 with three, 0.03 with five and 0.02 with ten.
N_FEW = 5
N_NAMED = 5  # classes that a message names
NO_FIT = (
    "That is hardly more than chance: is the module trained, are classes in the order of "
    "its outputs, and is X scaled as it was in the training?"
)
ENOUGH_FIT = 0.95  # share of the training labels
LEAST_FIT = 0.5  # the same, mean over the classes
N_ACCURACY = 10_000  # samples of which that is told


class ReLUNetwork(nn.Sequential):
    """A small fully connected ReLU network.

    Parameters
    ----------
    n_features : int
        Length of a sample.
    n_classes : int
        Number of outputs.
    """

    def __init__(self, n_features=1, n_classes=2):
        widths = [n_features] + [WIDTH] * N_LAYERS
        layers = [nn.BatchNorm1d(n_features)]
        for n_inputs, n_outputs in pairwise(widths):
            layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
        super().__init__(*layers, nn.Linear(WIDTH, n_classes))


def default_network(n_samples, n_features, n_classes):
    """Size a network for the data, and the number of epochs for about 500 steps."""
    batch_size = min(32, n_samples)
    while batch_size > 2 and n_samples % batch_size == 1:
        batch_size -= 1  # batch norm cannot do with a last batch of one sample
    n_steps = -(-n_samples // batch_size)
    return NeuralNetClassifier(
        ReLUNetwork,
        module__n_features=n_features,
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-3,
        batch_size=batch_size,
        max_epochs=max(5, min(30, 500 // n_steps)),
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def check_owners(detector, params):
    """Refuse parameters of parts that a detector does not have.

    Raises
    ------
    ValueError
        If there are some.
    """
    for name in params:
        owner, _, own = name.partition("__")
        part = PARTS.get(owner)
        if own and part and params.get(owner, getattr(detector, owner)) is None:
            raise ValueError(
                f"{name!r} is a parameter of {owner}, which is None. Give the detector "
                f"one first: {type(detector).__name__}({owner}={part}, ...)."
            )


def check_classes(detector, y):
    """Refuse labels that are not those of classes, or of one class alone.

    Raises
    ------
    ValueError
        If they are.
    """
    check_classification_targets(y)
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"{type(detector).__name__} needs samples of at least 2 classes, but the data "
            "contains only 1 class. For the curves of one class, use layer_profile."
        )


def warn_of_trained(estimator):
    """Warn where a network that is trained already would be trained again."""
    remedy = "To measure it as it is, pass FrozenEstimator(net), of sklearn.frozen."
    given = [getattr(estimator, name) for name in getattr(estimator, "_modules", ())]
    objects = any(isinstance(module, torch.nn.Module) for module in given)
    if objects and getattr(estimator, "initialized_", False):
        warn_user(
            "The module of this skorch net is an object that was initialized already, and "
            "a clone keeps its weights: training goes on from them. Give the module as a "
            f"class, {type(estimator).__name__}(Module, ...), to train anew. {remedy}"
        )
    elif getattr(estimator, "history_", None) or hasattr(estimator, "coefs_"):
        warn_user(
            f"This {type(estimator).__name__} is trained already, and fit trains a clone "
            f"of it anew. {remedy}"
        )


def unfitted_network(estimator, X, n_classes, seed):
    """Return the network to train: a clone, or the default one sized for the data."""
    if estimator is None:
        return default_network(*X.shape, n_classes)
    network = clone(estimator)
    if isinstance(network, NeuralNetBinaryClassifier) and n_classes > 2:
        raise ValueError(
            f"y has {n_classes} classes; a NeuralNetBinaryClassifier takes 2. Use a "
            "NeuralNetClassifier."
        )
    if isinstance(network, MLPClassifier) and network.random_state is None:
        network.set_params(random_state=seed)
    return network


def train_network(estimator, X, y, seed, params):
    """Fit a network without touching torch's random state; memory may keep it."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return estimator.fit(X, y, **params)


def validate_samples(detector, X, y="no_validation", *, reset=False):
    """Return samples as the network takes them, and labels where there are some."""
    refuse_streams(X)
    if not isinstance(y, str):
        y = labels_of(y)
    estimator = detector.estimator
    if has_steps(estimator):  # which take what they take
        validate_data(detector, X, skip_check_array=True, reset=reset)
        if isinstance(y, str):
            return X
        check_consistent_length(X, y)
        return X, y
    if isinstance(X, SliceDataset | dict) or sparse.issparse(X):
        X = as_arrays(X)
    if isinstance(X, SKORCH_INPUT) and wraps(estimator, TORCH):
        for name in ("n_features_in_", "feature_names_in_") if reset else ():
            vars(detector).pop(name, None)
        return X if isinstance(y, str) else (X, check_labels(X, y))
    if isinstance(X, list | tuple | np.ndarray) and wraps(estimator, TORCH):
        X = as_one_array(X) if isinstance(X, list | tuple) else X
        refuse_no_numbers(X)
    if is_frame(X):  # the names of its columns first, and then what they hold
        validate_data(detector, X, skip_check_array=True, reset=reset)
    mapped = file_mapping(X) is not None  # of which no more than a part is held
    with words_refused(X):
        checked = validate_data(
            detector,
            X,
            y,
            reset=reset,
            ensure_all_finite=not mapped,
            force_writeable=is_frame(X),  # as those of frames are not, and torch warns
            allow_nd=wraps(estimator, TORCH),
            dtype=np.float32 if estimator is None else "numeric",
        )
        X, y = checked if isinstance(checked, tuple) else (checked, y)
        objects = X.dtype.kind == "O"  # as scikit-learn leaves tables of polars
        if objects:
            X = native(X)
    if objects:
        assert_all_finite(X, input_name="X")
    if mapped:
        for start in range(0, len(X), MOST["checked rows"]):
            assert_all_finite(X[start : start + MOST["checked rows"]], input_name="X")
            release_pages(X)
    return X if isinstance(y, str) else (X, y)


def stepped_samples(estimator, X):
    """Check samples that the steps before a network gave, and make arrays of them."""
    if isinstance(X, SKORCH_INPUT) and wraps(estimator, TORCH):
        return X
    name = "X, as the steps before the network give it,"
    return check_array(as_arrays(X), allow_nd=wraps(estimator, TORCH), input_name=name)


def precision_of(net):
    """Precision of the weights that a skorch net will be trained with."""
    made = clone(net)
    made.callbacks, made.verbose = "disable", 0
    try:
        with random_state_kept:
            return as_network(made.initialize()).dtype
    except AssertionError as error:  # with which torch says that it has no CUDA
        raise ValueError(
            f"The net's device={net.device!r} cannot be used here ({error}). Make it with "
            "device='cpu'."
        ) from error


def trained(detector, X, y, seed, params):
    """Train a detector's network, or take it as it is where it is trained already.

    Returns
    -------
    network : estimator or torch.nn.Module
    classes : ndarray of shape (n_classes,)
        The labels of its outputs.
    """
    estimator = detector.estimator
    own = check_own_classes(estimator, detector.classes)
    if is_trained(estimator):
        inner = inner_network(estimator)
        return inner, output_classes(as_network(inner), X, y, own)
    classes, codes = np.unique(y, return_inverse=True)
    inner = inner_network(estimator)
    if inner is not None:
        warn_of_trained(inner)
    network = unfitted_network(inner, X, len(classes), seed)
    return fit_to(detector, network, X, y, codes, seed, params), classes


def fit_to(detector, network, X, y, codes, seed, params):
    """Fit an unfitted network of a detector to labels, of which torch's takes the codes."""
    if isinstance(network, NeuralNetBinaryClassifier):
        y = codes.astype(np.float32)
    elif isinstance(network, NeuralNet):
        y, network = codes, watched(network)
    # Without a random_state, any network that was trained alike is as good.
    ignore = ["seed"] if detector.random_state is None else None
    train = check_memory(detector.memory).cache(train_network, ignore=ignore)
    if isinstance(network, NeuralNet):
        X = in_precision(X, precision_of(network))
    try:
        return train(network, X, y, seed, params)
    except IndexError as error:
        if not re.match(r"Target -?\d+ is out of bounds", str(error)):
            raise
        raise ValueError(
            "The network has fewer outputs than y has classes, "
            f"{len(np.unique(codes))}: {error} Give its last layer an output for each."
        ) from error


def training_accuracy(network, X, codes, seed):
    """Measure how many labels a network fits, on at most 10,000 of the samples.

    Returns
    -------
    accuracy : float
    by_class : float
        The same, with every class counting alike.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(codes))[:N_ACCURACY])
    found = []
    with network.as_found(), torch.no_grad():
        for batch in network.batches(X, chosen, N_PREDICTED):
            output = network.run(moved(batch, network.device))
            found.append(network.codes(output).cpu().numpy())
    right = np.concatenate(found) == codes[chosen]
    counts = np.bincount(codes[chosen])
    shares = np.bincount(codes[chosen], right)[counts > 0] / counts[counts > 0]
    return float(right.mean()), float(shares.mean())


def warn_of_misfit(accuracy, by_class, n_classes):
    """Warn where a network does not fit its training labels.

    Of one that always gives the same answer, the mean over the classes is low, whatever
    their sizes.
    """
    uneven = by_class <= LEAST_FIT
    if accuracy < ENOUGH_FIT or uneven:
        fit = by_class if uneven else accuracy
        over = " (the mean over the classes)" if uneven else ""
        chance = f" {NO_FIT}" if accuracy <= 1.2 / n_classes else ""
        warn_user(
            f"The network fits {fit:.2f} of its training labels{over}.{chance} Flags and "
            "reports of wrong labels do not need more, but memorization_score_ does: a "
            "network that is hardly trained scores as high as one that memorized."
        )


def warn_of_few_samples(classes, codes):
    """Warn where most classes have fewer than five samples.

    With one of each at most there is nothing to measure, of which the profile warns.
    """
    labels, counts = np.unique(codes, return_counts=True)
    few = classes[labels[counts < N_FEW]].tolist()
    if 2 * len(few) <= len(labels) or counts.max() == 1:
        return
    named = ", ".join(map(repr, few[:N_NAMED]))
    more = f" and {len(few) - N_NAMED} more" if len(few) > N_NAMED else ""
    warn_user(
        f"{len(few)} of {len(labels)} classes have fewer than {N_FEW} samples ({named}"
        f"{more}). With so few, memorization_score_ changes from draw to draw, and is "
        "lower than on larger batches. Give at least ten samples of every class."
    )

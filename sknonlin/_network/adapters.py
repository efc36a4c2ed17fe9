"""One interface to the networks that are measured: torch, skorch, scikit-learn."""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.base import is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted
from skorch import (
    NeuralNet,
    NeuralNetBinaryClassifier,
    NeuralNetClassifier,
    NeuralNetRegressor,
)
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import get_len
from skorch.utils import multi_indexing, to_numpy, to_tensor
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, Subset

from sknonlin._network.samples import (
    as_arrays,
    batches_of,
    cast,
    in_precision,
    moved,
    native,
    refuse_no_numbers,
)
from sknonlin._network.state import NetworkState
from sknonlin._running.memory import release_pages
from sknonlin._running.torch_settings import lock_of, random_state_kept
from sknonlin._running.validation import positions

#: What :func:`as_network` takes.
NETWORKS = (nn.Module, NeuralNet, MLPClassifier, MLPRegressor)
SKORCHS_OWN = {
    kind.predict_proba
    for kind in (NeuralNet, NeuralNetClassifier, NeuralNetBinaryClassifier)
}
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
N_PREDICTED = 128  # samples in a batch of which a bare module predicts labels
ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


def unwrapped(module):
    """Return the module inside of wrappers for several devices or compilation."""
    while True:
        if isinstance(module, WRAPPERS):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


class Network:
    """A trained ``torch.nn.Module``, its samples and its answers.

    Parameters
    ----------
    module : torch.nn.Module
        Its output, or the first of its outputs, has one column for each class, or one
        logit in all.
    classes : ndarray of shape (n_classes,), default=None
        The labels of its columns; columns beyond them do not count. None: the labels are
        the numbers of the columns.

    Attributes
    ----------
    dtype : torch.dtype
        That of its weights, to which samples are cast.
    row_dtype : torch.dtype
        That of rows that are made of its activations: float32, or more where it has more.
    threshold : float
        Of an output of one column, above which it is the second class: 0 of logits.
    """

    threshold = 0.0

    def __init__(self, module, classes=None):
        self.module = unwrapped(module)
        self.classes = classes
        tensors = [*self.module.parameters(), *self.module.buffers()]
        if any(map(is_lazy, tensors)):
            raise ValueError(
                "The network has lazy modules without weights yet. Run one batch through "
                "it first (in skorch: net.initialize(), then net.module_(batch))."
            )
        self.device = tensors[0].device if tensors else torch.device("cpu")
        floating = [t.dtype for t in tensors if t.is_floating_point()]
        self.dtype = floating[0] if floating else torch.float32
        self.row_dtype = torch.promote_types(self.dtype, torch.float32)

    @property
    def lock(self):
        """Lock to hold while its modes or hooks are changed."""
        return lock_of(self.module)

    def run(self, batch):
        """Output of the network for a batch on its device."""
        if isinstance(batch, Mapping):
            return first_tensor(self.module(**batch))
        if isinstance(batch, tuple | list) and n_required(self.module) == len(batch) > 1:
            return first_tensor(self.module(*batch))
        return first_tensor(self.module(batch))

    @contextmanager
    def as_found(self):
        """Put the network in eval mode; all of it is afterwards as it was.

        Yields
        ------
        state : NetworkState
            Which has to know of writes to weights.
        """
        with self.lock, random_state_kept:
            state = NetworkState(self.module)
            try:
                state.evaluate()
                yield state
            finally:
                state.restore()

    def of_classes(self, output):
        """Columns of an output, or of probabilities, that are those of classes."""
        return output if self.classes is None else output[:, : max(1, len(self.classes))]

    def codes(self, output):
        """Column of the predicted class for every row; None if there are no classes."""
        check_class_columns(output)
        if output.ndim == 1 or output.shape[1] == 1:
            return (output.reshape(len(output)) > self.threshold).long()
        return self.of_classes(output).argmax(1)

    def probabilities(self, output):
        """Probabilities (n_samples, n_classes) of the classes, by an output."""
        check_class_columns(output)
        output = output.to(torch.promote_types(output.dtype, self.row_dtype))
        found = probabilities_of(self._shares(output))
        kept = self.of_classes(found)
        return kept if kept.shape == found.shape else kept / kept.sum(1, keepdim=True)

    def _shares(self, output):
        """Apply what makes probabilities of outputs outside of the module."""
        if self.threshold and (output.ndim == 1 or output.shape[1] == 1):
            output = output.reshape(len(output), 1)
            return torch.cat([1 - output, output], 1)
        return output

    def doubts(self, output, codes):
        """How likely the network finds other classes than those given, in [0, 1]."""
        probabilities = self.probabilities(output)
        others = probabilities.scatter(1, codes[:, None].to(probabilities.device), 0)
        return torch.nan_to_num(others.sum(1)).clamp(0, 1)

    def predict_proba(self, X):
        """Probabilities of the classes, by the module itself."""
        parts = []
        with self.as_found(), torch.no_grad():
            for batch in self.batches(X, np.arange(get_len(as_arrays(X))), N_PREDICTED):
                output = self.run(moved(batch, self.device))
                parts.append(self.probabilities(output).cpu().numpy())
        return np.concatenate(parts)

    def predict(self, X):
        """Labels by the module: its columns' numbers where it knows no others."""
        codes = self.predict_proba(X).argmax(1)
        return codes if self.classes is None else self.classes[codes]

    def encode(self, y, output):
        """Columns that the labels ``y`` have in the network's output.

        Raises
        ------
        ValueError
            If there are labels for which there is no column.
        """
        check_class_columns(output)
        n_columns = max(2, output.shape[1] if output.ndim == 2 else 1)
        known = np.arange(n_columns) if self.classes is None else self.classes[:n_columns]
        numbers = ", the numbers of its outputs" if self.classes is None else ""
        message = "y has labels that the network does not know: {unknown}. It knows {known}"
        return torch.from_numpy(positions(y, known, f"{message}{numbers}."))

    def sample(self, X, index):
        """Take samples of X as a batch on the network's device, always a copy."""
        return moved(next(self.batches(X, index, len(index))), self.device)

    def batches(self, X, index, size):
        """Yield chosen samples of X in batches of a size, always copies."""
        loader = self._loader(X, index, size)
        if loader is None:
            X = as_arrays(X)
            if isinstance(X, np.ndarray):
                refuse_no_numbers(X)
            parts = (
                native(multi_indexing(X, index[start : start + size]))
                for start in range(0, len(index), size)
            )
        else:
            parts = batches_of(loader)
        for part in parts:
            yield cast(to_tensor(part, None), self.dtype)
            for leaf in tree_leaves(X):
                release_pages(leaf)

    def _loader(self, X, index, size):
        """Return a loader of chosen samples; None where they can be indexed."""
        if isinstance(X, Dataset):
            return DataLoader(Subset(X, index), batch_size=size)
        return None

    def replica(self, *, shared=True):
        """Return a copy, with the same weights for another thread to run, or with its own.

        Raises
        ------
        RuntimeError
            If the module has something that torch does not copy.
        """
        # Weights that need no gradients: of others, autocast keeps casts for all threads.
        weights = {
            id(weight): weight
            if type(weight) is not nn.Parameter
            else nn.Parameter(weight.detach(), requires_grad=False)
            for weight in (self.module.parameters() if shared else ())
        }
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module, weights)
        return twin


class SkorchNetwork(Network):
    """The network of a fitted skorch net."""

    def __init__(self, net, classes=None):
        check_is_fitted(net, [f"{name}_" for name in net._modules] or "module_")
        modules = {name: getattr(net, f"{name}_") for name in net._modules}
        one = len(modules) == 1
        module = modules.popitem()[1] if one else nn.ModuleDict(modules)
        super().__init__(module, classes)
        self.net = net

    def __reduce__(self):
        return type(self), (self.net, self.classes)  # and its modules those of the copy

    def run(self, batch):
        """Output of the network, as skorch calls it."""
        return first_tensor(self.net.infer(batch))

    def codes(self, output):
        """Column that skorch predicts for every row; None for a regressor."""
        if isinstance(self.net, NeuralNetRegressor):
            return None
        return self._decided(self.net._get_predict_nonlinearity()(output))

    def _shares(self, output):
        """Apply what skorch makes probabilities with."""
        return self.net._get_predict_nonlinearity()(output)

    def _decided(self, probabilities):
        """Column that skorch predicts by these probabilities."""
        if isinstance(self.net, NeuralNetBinaryClassifier):
            return (probabilities[:, 1] > self.net.threshold).long()
        return super().codes(probabilities)

    def predict_proba(self, X):
        """Probabilities of the classes, as skorch gives them, in single precision at least.

        NumPy has no bfloat16, which skorch's own method would turn its outputs into.
        """
        with self.as_found():
            X = in_precision(X, self.dtype)
            if type(self.net).predict_proba in SKORCHS_OWN:
                batches = self.net.get_iterator(self.net.get_dataset(X), training=False)
                parts = (self.net.evaluation_step(batch) for batch in batches)
                probabilities = np.concatenate([*map(self._probabilities, parts)])
            else:
                probabilities = self.net.predict_proba(X)
        kept = self.of_classes(probabilities)
        if kept.shape == probabilities.shape:
            return kept
        return kept / kept.sum(1, keepdims=True)

    def _probabilities(self, output):
        """Probabilities that skorch makes of an output, as an array."""
        output = first_tensor(output).cpu()
        output = output.to(torch.promote_types(output.dtype, self.row_dtype))
        return to_numpy(self.net._get_predict_nonlinearity()(output))

    def predict(self, X):
        """Labels that the net gives: its columns' numbers where it knows no others."""
        binary = isinstance(self.net, NeuralNetBinaryClassifier)
        if binary and type(self.net).predict is not NeuralNetBinaryClassifier.predict:
            with self.as_found():
                codes = self.net.predict(in_precision(X, self.dtype)).astype(int)
        else:
            codes = self._decided(torch.from_numpy(self.predict_proba(X))).numpy()
        return codes if self.classes is None else self.classes[codes]

    def _loader(self, X, index, size):
        """Return the net's own loader; None where it would do no more than index."""
        plain = self.net.dataset is SkorchDataset
        if plain and not isinstance(X, Dataset):
            return None
        settings = self.net.get_params_for("iterator_valid")
        settings |= {"batch_size": size, "shuffle": False, "drop_last": False}
        subset = Subset(self.net.get_dataset(X), index)
        return self.net.iterator_valid(subset, **settings)

    def replica(self, *, shared=True):
        """Return a copy, and a net that runs it."""
        twin = super().replica(shared=shared)
        twin.net = object.__new__(type(self.net))  # a copy would pickle its weights
        vars(twin.net).update(vars(self.net))
        modules = {name: twin.module for name in self.net._modules}
        if len(modules) > 1:
            modules = dict(twin.module.named_children())
        vars(twin.net).update({f"{name}_": module for name, module in modules.items()})
        return twin


class SklearnNetwork(Network):
    """A fitted multi-layer perceptron of scikit-learn, as a torch module.

    Its layers are ``"relu1"``, ``"relu2"`` and so on; the weights are the estimator's.
    """

    def __init__(self, mlp):
        check_is_fitted(mlp, "coefs_")
        layers = OrderedDict()
        for i, (weight, bias) in enumerate(
            zip(mlp.coefs_, mlp.intercepts_, strict=True), 1
        ):
            linear = nn.utils.skip_init(
                nn.Linear, *weight.shape, dtype=torch.tensor(weight[:0]).dtype
            )
            linear.weight = nn.Parameter(torch.tensor(weight.T), requires_grad=False)
            linear.bias = nn.Parameter(torch.tensor(bias), requires_grad=False)
            layers[f"linear{i}"] = linear
            if i < len(mlp.coefs_):
                layers[f"{mlp.activation}{i}"] = ACTIVATIONS[mlp.activation]()
        super().__init__(nn.Sequential(layers))
        self.mlp = mlp
        self.regression = is_regressor(mlp)
        if not self.regression:
            if (len(mlp.classes_) != mlp.n_outputs_ and mlp.n_outputs_ != 1) or (
                mlp.out_activation_ == "logistic" and mlp.n_outputs_ > 1
            ):
                raise ValueError("A network for several labels at once is not supported.")
            self.classes = mlp.classes_

    def codes(self, output):
        """Column of the predicted class for every row; None for a regressor."""
        return None if self.regression else super().codes(output)

    def __getstate__(self):
        """Leave out the estimator, which only predicts here, with its optimizer."""
        return vars(self) | {"mlp": None}

    def predict_proba(self, X):
        """Probabilities of the classes, as scikit-learn gives them."""
        return self.mlp.predict_proba(X)

    def predict(self, X):
        """Labels, as scikit-learn gives them."""
        return self.mlp.predict(X)

    def batches(self, X, index, size):
        """Yield samples in batches, floating-point ones also of whole numbers."""
        for batch in super().batches(X, index, size):
            yield batch.to(self.dtype)


def as_network(net, classes=None):
    """Wrap a trained network in the interface of :class:`Network`.

    ``classes`` are the labels of its columns, unless they are the numbers of these;
    scikit-learn's networks know theirs.

    Raises
    ------
    TypeError
        If it is none of those known.
    NotFittedError
        If it is an estimator that is not fitted.
    """
    if isinstance(net, FrozenEstimator):
        net = net.estimator
    if isinstance(net, NeuralNet):
        return SkorchNetwork(net, classes)
    if isinstance(net, MLPClassifier | MLPRegressor):
        return SklearnNetwork(net)
    if isinstance(net, nn.Module):
        return Network(net, classes)
    raise TypeError(
        f"net is a {type(net).__name__}; it must be a torch.nn.Module, a fitted skorch "
        "net, or a fitted MLPClassifier or MLPRegressor of scikit-learn."
    )


def check_class_columns(output):
    """Refuse outputs that are not those of a classifier."""
    if output.ndim not in (1, 2):
        raise ValueError(
            f"The network's output has the shape {tuple(output.shape)}; a classifier's is "
            "(n_samples, n_classes), or one logit for each sample."
        )


def probabilities_of(values):
    """Probabilities (n_samples, n_classes) from such, their logarithms, or logits."""
    if values.ndim == 1 or values.shape[1] == 1:
        values = values.reshape(len(values), 1)
        return torch.cat([-values, values], 1).sigmoid()
    if (values < 0).any() or ((values.sum(1) - 1).abs() > 1e-2).any():
        return values.softmax(1)
    return values


def n_required(module):
    """Count the positional arguments that a module's forward has to get; 0: not known."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def first_tensor(output):
    """Return the tensor of a network's output that counts as its answer.

    Of a mapping the one named logits, or else the first that has axes; of a sequence the
    first.
    """
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        named = output.get("logits")
        values = output.values() if named is None else [named]
    else:
        values = output if isinstance(output, tuple | list) else []
    for value in values:
        if not isinstance(value, torch.Tensor) or value.ndim:
            return first_tensor(value)
    raise TypeError(
        f"The network returned a {type(output).__name__}; it must return a tensor, a tuple "
        "that begins with one, or a mapping that has one, best under the name logits."
    )


def check_rows(output, n_samples):
    """Refuse outputs that do not have a row for every sample."""
    if output.ndim and len(output) != n_samples:
        raise ValueError(
            f"The network's output has {len(output)} rows for {n_samples} samples; it must "
            "have one for each."
        )

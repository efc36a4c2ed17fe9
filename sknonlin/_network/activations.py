"""Which operations of a network are activations, and which products are gated by one."""

from collections import defaultdict
from numbers import Number, Real

from torch.utils._pytree import tree_leaves

from sknonlin._network.axes import SAMPLE, has, is_dense
from sknonlin._network.tape import place_of

RELUS = {
    "relu": "relu",
    "clamp": "clamp",
    "clamp_min": "clamp",
    "hardtanh": "relu6",
    "threshold": "threshold",
}
#: Operations that are activations, and what they are called.
SIGNED = {
    **{name: name for name in ("gelu", "silu", "mish", "hardswish", "tanh", "glu")},
    **{name: name for name in ("elu", "celu", "selu", "leaky_relu", "hardtanh")},
    **{"_prelu_kernel": "prelu", "rrelu_with_noise": "rrelu"},
}
UNSIGNED = {name: name for name in ("sigmoid", "hardsigmoid", "softplus")}
#: Parts of activations that are written out: of GELU, and of softsign.
PARTS = {"erf", "abs"}
SIGMOIDS = {"sigmoid", "hardsigmoid"}
SAME_VALUES = {
    *("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "select", "slice", "t"),
    *("transpose", "permute", "expand", "clone", "_to_copy", "detach", "alias", "clamp"),
}
#: With a number, these leave an activation one of another scale.
SCALED = {"mul", "div", "add", "sub", "rsub", "neg"}


#: Which may be gated.
PRODUCTS = {"mul", "div"}


def name_of(function):
    """Name of an operation, in place or not."""
    return function.overloadpacket.__name__.rstrip("_")


def relu_kind(function, args, result):
    """Name of the ReLU that an operation is, or None.

    A ReLU, ``clamp(min=0)``, ReLU6, or a threshold at 0, of floating-point numbers.
    """
    name = name_of(function)
    if name not in RELUS or not result.is_floating_point() or result.ndim == 0:
        return None
    if name != "relu":
        low, high = (*args[1:3], None, None)[:2]
        if not isinstance(low, Real) or low != 0:
            return None
        if name == "threshold" and high != 0:
            return None
        if name == "clamp" and high is not None and not isinstance(high, Real):
            return None
    return RELUS[name]


def activation_kind(function, args, result):
    """Name of the activation that an operation is, and whether it is ever negative.

    Returns
    -------
    kind : str or None
    signed : bool
    """
    if not is_dense(result) or not result.is_floating_point() or result.ndim == 0:
        return None, False
    kind = relu_kind(function, args, result) or UNSIGNED.get(name_of(function))
    if kind is not None:
        return kind, False
    kind = SIGNED.get(name_of(function))
    return kind, kind is not None


class Gates:
    """Follow what activations give, to find the products that are gated by it.

    ``silu(a) * b``, as in SwiGLU, and activations that are written out, such as
    ``x * sigmoid(x)``, are one layer, the product. What is multiplied is part of it, as is
    an activation that goes straight into another one.

    Parameters
    ----------
    axes : Axes
        Of the pass, which tell the samples' tensors from weights.

    Attributes
    ----------
    parts : set of str
        Names of the layers that are part of others.
    """

    def __init__(self, axes):
        self.axes = axes
        self.parts = set()
        self._given = {}  # place of a tensor -> names of layers, and operations, it is of
        self._signed = defaultdict(bool)  # by name of a layer
        self._relus = set()  # names of layers

    def product(self, function, args):
        """Whether an operation is a product with an activation, and if it has a sign.

        Returns
        -------
        signed : bool or None
            None if it is no such product.
        """
        name = name_of(function)
        if name not in PRODUCTS or len(args) < 2 or not all(map(is_dense, args[:2])):
            return None
        given = [self._given.get(place_of(arg), ()) for arg in args[:2]]
        if name == "div":  # x / (1 + |x|)
            given = [(), given[1] if "abs" in given[1] else ()]
        else:
            given = [[part for part in own if part != "abs"] for own in given]
        if not any(given) or not all(map(self._of_samples, args[:2])):
            return None
        return not (all(given) and not any(self._signed[n] for own in given for n in own))

    def _of_samples(self, tensor):
        return any(has(SAMPLE, axis) for axis in self.axes.of(tensor))

    def note(self, function, args, result, layer=None, kind=None, *, signed=False):
        """Note what an operation gave: a layer of that name and kind, or something else."""
        if kind in RELUS.values():
            self._relus.add(layer)
        for leaf in tree_leaves(result):
            if is_dense(leaf):
                self._note(function, args, leaf, layer, signed=signed)

    def _note(self, function, args, result, layer, *, signed):
        name = name_of(function)
        before = {
            part
            for arg in args[:2]
            if is_dense(arg)
            for part in self._given.get(place_of(arg), ())
        }
        place = place_of(result)
        if layer is not None:
            self.parts |= before
            self._given[place] = {layer}
            self._signed[layer] = signed
        elif name in PARTS:
            self._given[place] = {name}
            self._signed[name] = True
        elif before and self._keeps(name, args):
            self._given[place] = before
            if name not in SAME_VALUES:
                for part in before:
                    self._signed[part] = True  # of the product, to be safe
        else:
            self._given.pop(place, None)

    @staticmethod
    def _keeps(name, args):
        if name in SAME_VALUES:
            return True
        others = [arg for arg in args[1:2] if not isinstance(arg, Number)]
        first = is_dense(args[0]) or isinstance(args[0], Number)
        return name in SCALED and first and all(t.ndim == 0 for t in others if is_dense(t))

    def ends(self, output):
        """Names of the layers that are a network's output, as its last sigmoid is.

        A ReLU there is a layer like others.
        """
        given = self._given.get(place_of(output), ()) if is_dense(output) else ()
        return set(given) - self._relus

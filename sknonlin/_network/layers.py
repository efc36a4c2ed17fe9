"""The activation calls of a network: list, record and replace them.

A layer here is one call of a ReLU or, of all activations, of any; or a product that one
of them gates. Whichever way it is written, it is named after the
module that made it: ``"layer1.0.relu"`` for the module of that name or for a functional
call inside ``layer1.0``, and ``"layer1.0.relu:2"`` for the second such call in a pass.
"""

import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch.utils._pytree import tree_leaves

from sknonlin._network.adapters import check_rows
from sknonlin._network.axes import is_dense
from sknonlin._network.calls import Finder, module_calls
from sknonlin._network.first_run import first_run
from sknonlin._network.layout import Layout
from sknonlin._network.samples import copy_of, moved
from sknonlin._network.tape import DivergedError, Recorder, place_of
from sknonlin._running.memory import MOST
from sknonlin._running.parallel import Replicas
from sknonlin._running.torch_settings import plain_operations

N_RUNS_IF_RANDOM = 5  # few samples may get the same random numbers twice
N_LISTED = 2  # samples that the layers are listed with
TOLERANCE = 1e-3  # of outputs, a share of the largest: kernels may choose other orders

NO_SAMPLES = (
    "No ReLU call of the network has an axis of the samples, as where it works on all "
    "nodes of a graph at once. Name modules whose outputs have one in layers=[...], or "
    "give whole graphs as samples."
)


def draws(function):
    """Whether an operation can draw random numbers."""
    return torch.Tag.nondeterministic_seeded in function.tags


@dataclass
class Trust:
    """What is known of how a network runs again.

    Attributes
    ----------
    deterministic : bool
        Whether it gave the same answers twice.
    proven : set of str
        Layers from which the rest of it gives the answers of a full pass.
    whole : set of str
        Layers for which it has to be run as a whole.
    apart : bool or None
        Whether a sample's answer is the same whatever else is in a batch, which may be
        larger; None: not tried.
    """

    deterministic: bool = False
    apart: bool | None = None
    proven: set = field(default_factory=set)
    whole: set = field(default_factory=set)


def same_output(first, second):
    """Whether two outputs agree, but for what the order of sums makes."""
    if first.shape != second.shape:
        return False
    scale = torch.nan_to_num(first).abs().amax().item() if first.numel() else 0.0
    atol = TOLERANCE * max(scale, 1e-6)
    return torch.allclose(first, second.to(first), rtol=0, atol=atol, equal_nan=True)


class Capture:
    """Access to the layers of one network, within a ``with`` block.

    Inside, the network is in eval mode and runs without gradients; its modes, its hooks
    and torch's random state are afterwards as they were, also after an error.

    Parameters
    ----------
    network : Network
        What :func:`as_network` returns.
    layers : "relu", "auto" or list of str
        All ReLU calls, or all calls of activations, or the names of some of them or of
        submodules, whose outputs are then taken.
    batch : nested tensors
        A few samples to list the layers with.
    n_samples : int
        How many they are.
    skip : container of str
        Names of calls to pass over.
    trust : Trust, default=None
        What earlier captures found out of this network.
    """

    def __init__(self, network, layers, batch, n_samples, skip=(), trust=None):
        self.trust = Trust() if trust is None else trust
        self.network = network
        self.layers = layers
        self.skip = skip
        self.batch = batch
        self.n_samples = n_samples

    def __enter__(self):
        with ExitStack() as stack:
            self._state = stack.enter_context(self.network.as_found())
            stack.enter_context(plain_operations())
            self._calls = stack.enter_context(module_calls(self.network.module))
            self._list()
            self._check_deterministic()
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exception):
        leave, self._exit = self._exit, None  # whose contexts refer to this object
        self._calls.on_output((), None)  # nor may what was recorded outlive it
        return leave.__exit__(*exception)

    # Names ------------------------------------------------------------------------

    def _list(self):
        """Find the layers' names and the shapes on a few samples."""
        modules = dict(self.network.module.named_modules())
        chosen = [] if isinstance(self.layers, str) else list(self.layers)
        if not chosen and not isinstance(self.layers, str):
            raise ValueError("layers is empty; name some, or pass layers='relu'.")
        self._outputs = {name for name in chosen if name in modules}
        self._wanted = None
        with first_run(self.batch, self.n_samples, self.network):
            tape = self._run(self.batch, self.n_samples)
        check_rows(tape.output, self.n_samples)
        self._outputs -= {base for base, _ in tape.found}
        calls = [base for base in tape.layers if base not in self._outputs]
        unknown = [name for name in chosen if name not in tape.layers]
        if unknown:
            raise ValueError(
                f"layers={unknown} are not in the network. It has the ReLU calls {calls} "
                f"(or other activations), and the modules {[n for n in modules if n]}."
            )
        if not calls and not chosen:
            raise ValueError(no_calls_message(modules, self.layers))
        self._wanted = set(chosen) or None
        self.listed = {
            name: layer
            for name, layer in tape.layers.items()
            if not chosen or name in chosen
        }
        self.output = tape.output
        self._draws = any(draws(function) for function, _ in tape.calls)
        if tape.shares:  # of the second class, and not logits
            self.network.threshold = 0.5

    # Runs -------------------------------------------------------------------------

    def _run(self, batch, n_samples=None, resume=None, record=True):
        batch = copy_of(batch)
        finder = Finder(self._calls, self._wanted, resume, self.skip, self.layers)
        recorder = Recorder(finder, resume, record, self._state.before_write)
        if resume is None:
            finder.axes.start(batch, n_samples)

        def module_ended(name, output):
            if any(base == name for base, _ in finder.found):
                return  # a ReLU itself, which is known by its call
            leaf = tree_leaves(output)[0]
            origins = recorder.made.get(place_of(leaf))
            origin = origins and max(origins.made + origins.written)
            layer = finder.module_layer(name, leaf, origin)
            recorder.overwrite(layer, output)
            if recorder.record and origin is not None:
                recorder.add_layer(layer, leaf)

        self._calls.on_output(self._outputs, module_ended)
        tape = recorder.run(lambda: self.network.run(batch))
        tape.found = finder.found
        tape.gated, tape.parts = finder.gated, finder.parts_of_others(tape.output)
        for name in tape.parts if self.layers == "auto" else ():
            tape.layers.pop(name, None)
            tape.activations.pop(name, None)
        tape.shares = is_dense(tape.output) and place_of(tape.output) in finder.shares
        return tape

    def answer(self, batch):
        """Run a batch, and return the output."""
        return self._run(batch, record=False).output

    def record(self, batch, n_samples):
        """Run a batch; return its tape, and every layer's layout by name."""
        tape = self._run(batch, n_samples)
        check_rows(tape.output, n_samples)
        layouts = {}
        for name, layer in tape.layers.items():
            layout = Layout.of(layer, n_samples, self.listed.get(name), self.n_samples)
            if layout is not None:
                layouts[name] = layout
            elif self._wanted is not None:
                raise ValueError(
                    f"Layer {name!r} has the shape {tuple(layer.shape)} for {n_samples} "
                    "samples, in which no axis is that of the samples. Leave it out of "
                    "layers."
                )
        return tape, layouts

    def replay(self, batch, tape, name, value, *, record=False):
        """Run the rest of the network on a tape, from a layer that gives ``value``.

        Returns a tape, with layers and activations if ``record``. Where the rest does other
        operations than before, the network is run as a whole.
        """
        layer = tape.layers[name]
        layer.resumable &= name not in self.trust.whole
        resume = tape, layer, value
        try:
            return self._run(batch, resume=resume, record=record)
        except DivergedError:
            if not layer.resumable or tape.hidden_reads:
                raise
            self._distrust(layer)
            return self._run(batch, resume=resume, record=record)

    def prove(self, batch, tape, name, activation):
        """See once that the rest of the network, on what it gave itself, gives the same.

        Raises
        ------
        ValueError
            If not even the whole network does.
        """
        layer = tape.layers[name]
        if name in self.trust.proven or name in self.trust.whole or not layer.resumable:
            return
        resume = tape, layer, activation
        try:
            output = self._run(batch, resume=resume, record=False).output
            proven = same_output(tape.output, output)
        except (DivergedError, RuntimeError, IndexError, TypeError, ValueError):
            proven = False  # whatever comes of memory that a network reads in secret
        if proven:
            self.trust.proven.add(name)
            return
        self._distrust(layer)
        output = self._run(batch, resume=resume, record=False).output
        if not same_output(tape.output, output):
            raise ValueError(
                f"With layer {name!r} as it is, the network gives other answers than "
                "before on the same samples. It draws random numbers in eval mode, keeps a "
                "state from pass to pass, or runs layers in threads of its own. Take that "
                "out before you measure it, or leave the accuracies out (replay=False)."
            )

    def _distrust(self, layer):
        self.trust.whole.add(layer.name)
        layer.resumable = False

    def _check_deterministic(self):
        """Refuse a network whose answers change from pass to pass."""
        if self.trust.deterministic:
            return
        runs = range(N_RUNS_IF_RANDOM if self._draws else 1)
        again = (self.answer(self.batch) for _ in runs)
        if not all(same_output(self.output, output) for output in again):
            raise ValueError(
                "The network gives other answers each time on the same samples, in eval "
                "mode. It draws random numbers, as Monte-Carlo dropout does, or keeps a "
                "state from pass to pass. Make it deterministic in eval mode: nothing that "
                "is measured on it would mean anything."
            )
        self.trust.deterministic = True


class NetworkLayers:
    """Access to the layers of a network for as many threads as look at them.

    Parameters
    ----------
    network : Network
    layers : "relu", "auto" or list of str
        As of :class:`Capture`.
    X : nested arrays or Dataset
        Samples, of which a few list the layers.
    n_samples : int
        How many there are.
    """

    def __init__(self, network, layers, X, n_samples):
        self.layers = layers
        self.trust = Trust()
        self.n_listed = min(N_LISTED, n_samples)
        self.listed = next(network.batches(X, list(range(self.n_listed)), self.n_listed))
        self.replicas = Replicas(network, 1, self.captured)

    def replicate(self, count):
        """Copy the network, for as many threads as will run it."""
        self.replicas = Replicas(self.replicas.network, count, self.captured)

    def captured(self, network, skip=()):
        """Access to the layers of one copy of the network, to be entered."""
        layers = self.layers
        if not isinstance(layers, str):
            layers = [name for name in layers if name not in skip]
        listed = moved(self.listed, network.device)
        return Capture(network, layers, listed, self.n_listed, skip, self.trust)

    @contextmanager
    def capture(self, skip=()):
        """Access to the layers of a copy that no other thread runs meanwhile."""
        with self.replicas.borrowed() as network, self.captured(network, skip) as capture:
            yield capture


def no_calls_message(modules, layers):
    """Explain that a network has no ReLU, or no activation, and what it has."""
    if any(".quantized" in type(m).__module__ for m in modules.values()):
        return (
            "The network is quantized: its ReLUs are of whole numbers, or parts of other "
            "operations. Measure the network of floats that it was made from."
        )
    others = [
        f"{name} ({type(m).__name__})"
        for name, m in modules.items()
        if type(m).__module__ == "torch.nn.modules.activation"
    ]
    named = (
        "name the modules to look at in layers=[...]. NMF needs their outputs to be "
        "non-negative; for others, use compression='pca' of layer_profile or of a "
        "detector's ActivationNonlinearity."
    )
    if layers == "auto":
        return (
            "The network has no call of an activation that is known (softmax, "
            "torch.maximum and torch.where are not taken for one). If it has others, "
            + named
        )
    return (
        "The network has no ReLU call"
        + (f"; its activations are {', '.join(others)}" if others else "")
        + " (torch.maximum and torch.where are not known as ReLUs). Pass layers='auto', "
        f"which finds activations of every kind, or {named}"
    )


def pass_samples(capture, elements=None):
    """Count the samples whose activations, in all layers, one pass may hold."""
    numbers = sum(
        math.prod(layer.shape) * (1 + layer.signed) for layer in capture.listed.values()
    )
    return max(1, int((elements or MOST["pass"]) * capture.n_samples / numbers))


def quick_samples(capture):
    """Count the samples of a quick pass: on a processor, one that its caches hold."""
    if capture.network.device.type != "cpu":
        return pass_samples(capture)
    return min(pass_samples(capture), pass_samples(capture, MOST["cached pass"]))

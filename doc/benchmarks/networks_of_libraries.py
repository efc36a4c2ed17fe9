"""Networks of other libraries: are their ReLUs found, replayed and left as they were?

    python doc/benchmarks/networks_of_libraries.py --write doc/networks.md

Each network has random weights, and is measured by `layer_profile` at rank 1 on eight
random samples. The table tells

* how many calls of a ReLU there are, and how many were counted where they are called, by
  torch's own functions;
* whether the units are where they should be: feature maps of four axes have them on the
  second, all others on the last, unless the network says otherwise;
* whether each layer's replay, with what the layer gave itself, gives the same answers;
* whether weights, buffers and modes are as before;
* seconds and MiB added to the process, which include torch's own first calls.

Of networks without a ReLU, all activations are looked at, `layers="auto"`, and not counted.
Libraries that are not installed are left out. torchvision and timm need a torch of their
own, so the versions may differ from those that the tests have.
"""

import argparse
import contextlib
import copy
import importlib
import importlib.metadata
import pathlib
import resource
import time
import warnings
from functools import partial

import numpy as np
import tables
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.overrides import TorchFunctionMode

from sknonlin import layer_profile
from sknonlin._network.adapters import as_network
from sknonlin._network.layers import NetworkLayers
from sknonlin._network.samples import cast

N_SAMPLES, N_CLASSES, SIDE = 8, 5, 64
LABELS = np.arange(N_SAMPLES) % 2
PACKAGES = (
    *("torch", "torchvision", "timm", "transformers", "pytorch-tabnet", "tabm"),
    *("rtdl_revisiting_models", "braindecode", "torch_geometric", "lightning"),
)
COUNTED = {
    *(functional.relu, functional.relu_, functional.relu6, torch.relu, torch.relu_),
    *(torch.Tensor.relu, torch.Tensor.relu_),
}
CLAMPS = {
    *(torch.clamp, torch.clamp_min, torch.Tensor.clamp, torch.Tensor.clamp_),
    *(functional.hardtanh, functional.hardtanh_),
}
WORKS = {"relu": "works", "auto": "works, by its other activations"}
LARGE = (
    *("_l", "_b", "_l_16", "_l_32", "_h_14", "_128gf", "_32gf", "_16gf", "_8gf", "_base"),
    *("_large", "_64x4d", "152", "161", "169", "201", "101", "_32x8d", "19", "19_bn"),
    *("_b2", "_b3", "_b4", "_b5", "_b6", "_b7", "_3_2gf", "_3gf", "16", "16_bn", "_s"),
    "_small",
)
CHANNELS_LAST = ("swin", "convnext", "maxvit", "mixer", "poolformerv2")
CHANNELS_SECOND = ("convnext_atto", "USleep")  # of any number of axes


class Counter(TorchFunctionMode):
    """Count calls of ReLUs as they are written."""

    n_calls = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Count a call."""
        kwargs = kwargs or {}
        low = [*args[1:2], kwargs.get("min", kwargs.get("min_val"))][0]
        clamps = function in CLAMPS and low == 0 and args[0].is_floating_point()
        self.n_calls += function in COUNTED or clamps
        return function(*args, **kwargs)


def images(n_channels=3, side=SIDE):
    """Random images."""
    return torch.rand(N_SAMPLES, n_channels, side, side)


def torchvision_networks():
    """Yield all classifiers of torchvision that are not too large."""
    models = importlib.import_module("torchvision.models")
    for name in models.list_models(module=models):
        if name.endswith(LARGE):
            continue
        side = {"inception_v3": 96, "maxvit_t": 224}.get(name, SIDE)
        side = 224 if name.startswith("vit") else side
        settings = {"num_classes": N_CLASSES, "weights": None}
        if name in ("googlenet", "inception_v3"):
            settings |= {"init_weights": False, "aux_logits": False}
        yield name, lambda n=name, s=settings: models.get_model(n, **s), images(side=side)


TIMM = (
    *("resnet10t", "resnet18d", "resnext26ts", "seresnet18", "skresnet18", "dla34"),
    *("ecaresnet50t", "res2net50_14w_8s", "hrnet_w18_small", "vovnet39a", "regnetx_002"),
    *("ese_vovnet19b_dw", "regnety_002", "repvgg_a0", "mobileone_s0", "ghostnet_050"),
    *("mnasnet_small", "hardcorenas_a", "lcnet_050", "tinynet_e", "rexnet_100"),
    *("mobilenetv3_small_050", "inception_resnet_v2", "xception41", "dpn48b", "gernet_s"),
    *("selecsls42", "cspresnet50", "tresnet_m", "legacy_seresnet18", "resnetv2_50"),
    *("botnet26t_256", "mixer_s32_224", "vit_tiny_patch16_224", "convnext_atto"),
    "swin_tiny_patch4_window7_224",
)


def timm_networks():
    """Yield some networks of timm, of many families."""
    timm = importlib.import_module("timm")
    for name in TIMM:
        side = 224 if name.endswith("_224") else 256 if "26t" in name else SIDE
        side = 96 if name in ("inception_resnet_v2", "xception41", "nasnetalarge") else side
        yield (
            name,
            lambda n=name: timm.create_model(n, pretrained=False, num_classes=N_CLASSES),
            images(side=side),
        )


def transformers_networks():
    """Yield small classifiers of transformers, with a ReLU where there is a choice."""
    transformers = importlib.import_module("transformers")
    small = {
        "vocab_size": 100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "num_labels": N_CLASSES,
        "pad_token_id": 0,
    }
    ids = {"input_ids": torch.randint(1, 100, (N_SAMPLES, 12))}
    ids["attention_mask"] = torch.ones(N_SAMPLES, 12, dtype=torch.long)
    kinds = {
        "Bert": {"hidden_act": "relu"},
        "Roberta": {"hidden_act": "relu"},
        "Electra": {"hidden_act": "relu", "embedding_size": 32},
        "DistilBert": {"activation": "relu", "dim": 32, "hidden_dim": 64, "n_heads": 4},
        "Albert": {"hidden_act": "relu", "embedding_size": 32},
        "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "GPT2": {"activation_function": "relu", "n_embd": 32, "n_layer": 2, "n_head": 4},
        "GPTNeoX": {"hidden_act": "relu"},
        "Bart": {
            "activation_function": "relu",
            "d_model": 32,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "eos_token_id": 1,
        },
        "T5": {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
        },
    }
    for name, own in kinds.items():
        config = getattr(transformers, f"{name}Config")
        model = getattr(transformers, f"{name}ForSequenceClassification")
        samples = dict(ids)
        if name in ("Bart", "T5"):
            samples["input_ids"] = torch.cat(
                [ids["input_ids"][:, :-1].clamp(min=3), torch.full((N_SAMPLES, 1), 1)], 1
            )
        yield name, lambda c=config, m=model, o=own: m(c(**small | o)), samples
    vision = {"hidden_act": "relu", "image_size": 32, "patch_size": 8}
    config = transformers.ViTConfig(**small | vision)
    yield "ViT", lambda: transformers.ViTForImageClassification(config), images(side=32)


def table_networks():
    """Yield networks for tables: TabNet, TabM and those of rtdl."""
    X = torch.rand(N_SAMPLES, 10)
    try:
        tabnet = importlib.import_module("pytorch_tabnet.tab_network")
        groups = torch.eye(10)
        yield (
            "TabNet",
            lambda: tabnet.TabNet(10, N_CLASSES, group_attention_matrix=groups),
            X,
        )
    except ImportError:
        pass
    try:
        rtdl = importlib.import_module("rtdl_revisiting_models")
        shape = {"d_in": 10, "d_out": N_CLASSES, "n_blocks": 2}
        yield "rtdl MLP", lambda: rtdl.MLP(**shape, d_block=32, dropout=0.1), X
        yield (
            "rtdl ResNet",
            lambda: rtdl.ResNet(
                **shape,
                d_block=32,
                d_hidden=32,
                d_hidden_multiplier=None,
                dropout1=0.1,
                dropout2=0.0,
            ),
            X,
        )
    except ImportError:
        pass
    try:
        tabm = importlib.import_module("tabm")
        yield "TabM", lambda: TabM(tabm), X
    except ImportError:
        pass


class TabM(nn.Module):
    """TabM's answers, averaged over its members."""

    def __init__(self, tabm):
        super().__init__()
        self.inner = tabm.TabM.make(n_num_features=10, d_out=N_CLASSES, k=4)

    def forward(self, x):
        """Average the members' answers."""
        return self.inner(x).mean(1)


def braindecode_networks():
    """Yield networks for recordings of brains."""
    models = importlib.import_module("braindecode.models")
    X = torch.rand(N_SAMPLES, 8, 512)
    shape = {"n_chans": 8, "n_outputs": N_CLASSES, "n_times": 512, "sfreq": 128}
    for name in ("EEGNetv4", "Deep4Net", "ShallowFBCSPNet", "EEGInception", "USleep"):
        if hasattr(models, name):
            yield name, lambda n=name: getattr(models, n)(**shape), X


N_SMALL = 5  # ReLUs of the network that is wrapped; in programs they cannot be counted


class Small(nn.Module):
    """A residual network of five ReLUs, one module of them called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.third = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.act, self.head = nn.ReLU(), nn.Linear(8, 16)
        self.out = nn.Linear(16, N_CLASSES)

    def forward(self, x):
        """Answer."""
        x = self.act(self.norm(self.first(x)))
        x = functional.relu(x + self.third(self.act(self.second(x))))
        x = torch.relu(self.head(x.mean((2, 3))))
        return self.out(x.clamp(min=0))


def pruned(module):
    """Prune a layer."""
    prune.l1_unstructured(module.second, "weight", amount=0.5)
    return module


def exported(net, X):
    """Export a network for batches of any size."""
    sizes = ({0: torch.export.Dim("n", min=2, max=64)},)
    return torch.export.export(net, (X,), dynamic_shapes=sizes)


def fitted_perceptron():
    """Train a perceptron of scikit-learn, and take its module."""
    X = np.random.default_rng(0).random((40, 10))
    mlp = MLPClassifier((16, 16), max_iter=2, random_state=0).fit(X, np.arange(40) % 5)
    return as_network(mlp).module


def wrapped_networks():
    """Yield one network in every form that torch knows."""
    X = images(side=16)
    script, trace = torch.jit.script, partial(torch.jit.trace, example_inputs=X)
    forms = {
        "as it is": lambda net: net,
        "DataParallel": nn.DataParallel,
        "compiled (eager backend)": partial(torch.compile, backend="eager"),
        "scripted": script,
        "traced": trace,
        "scripted and frozen": lambda net: torch.jit.freeze(script(net)),
        "traced and frozen": lambda net: torch.jit.freeze(trace(net)),
        "optimized for inference": lambda net: torch.jit.optimize_for_inference(
            script(net)
        ),
        "exported": lambda net: exported(net, X).module(),
        "exported and decomposed": lambda net: (
            exported(net, X).run_decompositions().module()
        ),
        "torch.fx": torch.fx.symbolic_trace,
        "averaged weights": torch.optim.swa_utils.AveragedModel,
        "weight norm": lambda net: nn.Sequential(net, weight_norm(nn.Linear(5, 5))),
        "spectral norm": lambda net: nn.Sequential(net, spectral_norm(nn.Linear(5, 5))),
        "pruned": pruned,
        "float64": lambda net: net.double(),
        "bfloat16": lambda net: net.bfloat16(),
        "channels last": lambda net: net.to(memory_format=torch.channels_last),
        "in a Sequential": lambda net: nn.Sequential(net, nn.Softmax(1)),
        "without gradients": lambda net: net.requires_grad_(False),
        "quantized linear layers": lambda net: torch.ao.quantization.quantize_dynamic(
            net, {nn.Linear}
        ),
    }
    for name, form in forms.items():
        yield name, lambda f=form: f(Small().eval()), X, N_SMALL
    perceptron = torch.rand(N_SAMPLES, 10, dtype=torch.float64)
    yield "MLPClassifier of scikit-learn", fitted_perceptron, perceptron, 2


def lightning_networks():
    """Yield a module of Lightning."""
    lightning = importlib.import_module("lightning")

    class Wrapped(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = Small()

        def forward(self, x):
            return self.inner(x)

    yield "LightningModule", Wrapped, images(side=16)


def graph_networks():
    """Yield networks of graphs, each padded to as many nodes."""
    geometric = importlib.import_module("torch_geometric.nn")
    samples = {"x": torch.rand(N_SAMPLES, 6, 4)}
    samples["adj"] = (torch.rand(N_SAMPLES, 6, 6) > 0.5).float()

    class Graphs(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.first, self.out = kind(4, 16), nn.Linear(16, N_CLASSES)

        def forward(self, x, adj):
            return self.out(torch.relu(self.first(x, adj)).mean(1))

    for name in ("DenseGCNConv", "DenseSAGEConv", "DenseGraphConv"):
        yield name, lambda n=name: Graphs(getattr(geometric, n)), samples


LIBRARIES = {
    "torch": wrapped_networks,
    "lightning": lightning_networks,
    "torch_geometric": graph_networks,
    "torchvision": torchvision_networks,
    "timm": timm_networks,
    "transformers": transformers_networks,
    "tables": table_networks,
    "braindecode": braindecode_networks,
}


def run(module, samples):
    """Answers of a network."""
    network = as_network(module)
    with torch.no_grad():
        return network.run(cast(copy.deepcopy(samples), network.dtype))


def misplaced(name, module, samples, layers):
    """Layers whose units are not where feature maps of that kind have them."""
    wrong = []
    network = as_network(module)
    samples = cast(samples, network.dtype)
    stream = NetworkLayers(network, layers, samples, N_SAMPLES)
    with stream.capture() as capture:
        _, layouts = capture.record(samples, N_SAMPLES)
        for layer, layout in layouts.items():
            n_axes = len(layout.shape)
            last = n_axes != 4 or any(part in name for part in CHANNELS_LAST)
            last &= name not in CHANNELS_SECOND
            if n_axes > 1 and layout.n_units != layout.shape[-1 if last else 1]:
                wrong.append(layer)
    return wrong


def set_mode(module, mode):
    """Call a module's ``train`` or ``eval``, which exported programs do not have."""
    with contextlib.suppress(NotImplementedError):
        getattr(module, mode)()
    return module


def unchanged(before, module, modes):
    """Whether the weights, buffers and modes of a module are as before."""
    same = [m.training for m in module.modules()] == modes
    for a, b in zip(before.values(), module.state_dict().values(), strict=True):
        if isinstance(a, torch.Tensor):
            same &= torch.equal(a, b) or bool((a.isnan() & b.isnan()).any())
    return same


def measure(name, make, samples, n_relus=None):
    """Row of a network."""
    torch.manual_seed(0)
    module = set_mode(make(), "eval")
    with Counter() as counter:
        run(module, samples)
    n_relus = counter.n_calls if n_relus is None else n_relus
    set_mode(module, "train")
    before, modes = (
        copy.deepcopy(module.state_dict()),
        [m.training for m in module.modules()],
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    layers = "relu" if n_relus else "auto"
    settings = {"batch_size": N_SAMPLES // 2, "random_state": 0, "layers": layers}
    profile = layer_profile(module, samples, LABELS, ranks=[1], **settings)
    seconds = time.perf_counter() - start
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    same = unchanged(before, module, modes)
    found = len(profile.layer_names)
    wrong = misplaced(name, set_mode(module, "eval"), samples, layers)
    complete = n_relus in (found, 0)
    return {
        "layers found": found,
        "ReLUs counted": n_relus,
        "units": "ok" if not wrong else f"{len(wrong)} elsewhere: {wrong[0]}",
        "state": "ok" if same else "changed",
        "seconds": f"{seconds:.1f}",
        "MiB": f"{added:.0f}",
        "outcome": WORKS[layers] if complete and same else "look",
    }


def row_of(library, name, *network):
    """Row of a network, also where it fails."""
    try:
        found = measure(name, *network)
    except Exception as error:  # whatever a network raises is in the table
        text = str(error).strip().splitlines() or [""]
        text = text[0].replace("|", "/")[:160]
        found = {"outcome": f"{type(error).__name__}: {text}"}
    head = ["layers found", "ReLUs counted", "units", "state", "seconds", "MiB", "outcome"]
    return [library, name, *(found.get(column, "") for column in head)]


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--libraries", nargs="+", default=[*LIBRARIES])
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = []
    for library in arguments.libraries:
        try:
            for network in LIBRARIES[library]():
                rows.append(row_of(library, *network))
                print(*rows[-1], sep=" | ", flush=True)
        except ImportError as error:
            print(f"{library}: left out, {error}")
        if arguments.write:
            arguments.write.write_text(page(rows))


def page(rows):
    """Write the page."""
    outcomes = [row[-1] for row in rows]
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    n_works, n_others = (outcomes.count(kind) for kind in WORKS.values())
    head = [
        "library",
        "network",
        "layers found",
        "ReLUs counted",
        "units",
        "state",
        "seconds",
    ]
    return "\n".join(
        [
            "# Networks of other libraries",
            "",
            f"Of {len(rows)} networks, {n_works} work as they are, and {n_others} have no "
            'ReLU and work with `layers="auto"`. '
            f"{len(rows) - n_works - n_others} end in an error that says why, or are to be "
            "looked at.",
            "",
            "Written by `benchmarks/networks_of_libraries.py`, which says what is done. "
            f"{', '.join(versions)}; one core of {tables.machine()}.",
            "",
            tables.table([*head, "MiB", "outcome"], rows),
        ]
    )


if __name__ == "__main__":
    main()

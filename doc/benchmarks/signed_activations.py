"""How activations of any sign are measured: halves, semi-NMF, clipping, shifting, PCA.

    python doc/benchmarks/signed_activations.py FOLDER   # an hour; goes on where it was

MLPs, CNNs and small Transformers with eight activations fit digits with a share p of their
labels redrawn. It writes `signed_activations.md` beside this file: the rank correlation
of the score with p, for every way of making a matrix of what an activation gives; and the
accuracies that remain at low ranks.
"""

import argparse
import json
import pathlib
import time
from itertools import product

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from tables import machine, table, versions, with_answer
from torch import nn
from torch.nn import functional as F

from sknonlin import MemorizationDetector, layer_profile, nmf_path
from sknonlin.curves import area_under_curve
from sknonlin.datasets import load_digits, load_fashion_mnist, make_noisy_labels
from sknonlin.profile import memorization_score

HERE = pathlib.Path(__file__).parent
NOISE_LEVELS, SEEDS, N_TRAIN = (0.0, 0.25, 0.5, 0.75, 1.0), (0, 1, 2), 400
RANKS, BATCH_SIZE, MAX_ROWS = [1, 2, 3, 4, 6, 8, 11, 16, 23, 32], 40, 400


class SwiGLU(nn.Module):
    """One half of the units, gated by the other one."""

    def forward(self, x):
        """Gate the first half by the second."""
        values, gates = x.chunk(2, -1)
        return F.silu(gates) * values


ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "swiglu": SwiGLU,
}


def act(name, n_units, axis=-1):
    """Units that a linear map must have, and the activation after it."""
    if name != "swiglu":
        return n_units, ACTIVATIONS[name]()
    layers = SwiGLU() if axis == -1 else nn.Sequential(Moved(axis), SwiGLU(), Moved(axis))
    return 2 * n_units, layers


class Moved(nn.Module):
    """An axis and the last one change places."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        """Swap them."""
        return x.transpose(self.axis, -1)


def mlp(name):
    """Two hidden layers of 128 units."""
    n, _ = act(name, 128)
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(64, n), act(name, 128)[1], nn.Linear(128, n), act(name, 128)[1]),
        nn.Linear(128, 10),
    )


def cnn(name):
    """Two convolutions and a hidden layer."""
    (n, first), (m, second), (k, third) = act(name, 16, 1), act(name, 32, 1), act(name, 128)
    return nn.Sequential(
        *(nn.Conv2d(1, n, 3, padding=1), first, nn.MaxPool2d(2)),
        *(nn.Conv2d(16, m, 3, padding=1), second, nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, k), third, nn.Linear(128, 10)),
    )


class Block(nn.Module):
    """Attention and a feed-forward part, each after a norm and beside a skip."""

    def __init__(self, name, width=32):
        super().__init__()
        n, activation = act(name, 64)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.inner = nn.Sequential(nn.Linear(width, n), activation, nn.Linear(64, width))

    def forward(self, x):
        """Attend, then map every token."""
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.inner(self.norms[1](x))


class Transformer(nn.Module):
    """The eight rows of a digit as tokens, two blocks."""

    def __init__(self, name):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.places = nn.Parameter(torch.randn(8, 32) * 0.1)
        self.blocks = nn.Sequential(Block(name), Block(name))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        """Average the tokens, and classify."""
        return self.head(self.blocks(self.embed(x[:, 0]) + self.places).mean(1))


NETWORKS = {"mlp": mlp, "cnn": cnn, "transformer": Transformer}


def samples(p, seed):
    """Digits, and labels of which a share is redrawn."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))[:N_TRAIN]
    X = torch.from_numpy(digits.images[order])
    rng, y = np.random.default_rng(100 + seed), digits.target[order]
    return X, np.where(rng.random(N_TRAIN) < p, rng.integers(0, 10, N_TRAIN), y)


def trained(architecture, name, p, seed):
    """Train a network until it fits the labels, as far as 250 epochs do."""
    X, y = samples(p, seed)
    torch.manual_seed(seed)
    network, target = NETWORKS[architecture](name), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(250):
        hits = 0
        for part in torch.randperm(N_TRAIN).split(50):
            optimizer.zero_grad()
            output = network(X[part])
            F.cross_entropy(output, target[part]).backward()
            optimizer.step()
            hits += (output.argmax(1) == target[part]).sum().item()
        accuracy = hits / N_TRAIN
        if accuracy > 0.98:
            with torch.no_grad():
                accuracy = (network(X).argmax(1) == target).double().mean().item()
        if accuracy == 1:
            break
    return network.eval(), X, y, accuracy


# Ways of making a matrix ----------------------------------------------------------


def nmf_errors(A):
    """Errors of non-negative factorizations along the path."""
    return np.asarray(nmf_path(A, RANKS, max_iter=50, random_state=0).errors)


def semi_nmf_errors(A, n_iter=15):
    """Errors of ``A = W H`` with W of one sign and H of any, each rank from the last."""
    A = A.double()
    norm = A.flatten(1).norm(dim=1)
    W, errors = A.new_empty(*A.shape[:2], 0), []
    for k in RANKS:
        if k >= min(A.shape[1:]):
            errors.append(torch.zeros(len(A)).double())
            continue
        left = A - W @ torch.linalg.pinv(W) @ A if W.shape[2] else A
        U, s, _ = torch.linalg.svd(left, full_matrices=False)
        more = U[:, :, : k - W.shape[2]] * s[:, None, : k - W.shape[2]]
        flipped = (more.clamp(max=0) ** 2).sum(1) > (more.clamp(min=0) ** 2).sum(1)
        more = torch.where(flipped[:, None], -more, more).clamp(min=0)
        W = torch.cat([W, more + 1e-3 * more.amax((1, 2), keepdim=True)], 2)
        for _ in range(n_iter):
            H = torch.linalg.solve(W.mT @ W + ridge(W), W.mT @ A)
            G, P = H @ H.mT, A @ H.mT
            for j in range(k):
                size = G[:, j, j].clamp(min=1e-12)[:, None]
                W[:, :, j] += (P[:, :, j] - (W @ G[:, :, j, None])[..., 0]) / size
                W[:, :, j].clamp_(min=0)
        errors.append((A - W @ (torch.linalg.pinv(W) @ A)).flatten(1).norm(dim=1) / norm)
    return torch.minimum(torch.stack(errors, 1), torch.ones(1)).numpy()


def ridge(W):
    """Next to nothing on the diagonal, so that equations have one solution."""
    return 1e-9 * W.square().sum((1, 2))[:, None, None] * torch.eye(W.shape[2])


def pca_errors(A):
    """Errors of singular value decompositions."""
    energy = torch.linalg.svdvals(A.double()) ** 2
    left = 1 - energy.cumsum(1) / energy.sum(1, keepdim=True)
    columns = [min(k, left.shape[1]) - 1 for k in RANKS]
    return left[:, columns].clamp(min=0).sqrt().numpy()


WAYS = {
    "semi-NMF": semi_nmf_errors,
    "clipped": lambda A: nmf_errors(A.clamp(min=0)),
    "shifted": lambda A: nmf_errors(A - A.amin((0, 1))),
    "PCA": pca_errors,
}


#: What is measured beside the score, with the first seed.
WAYS_MEASURED = {"mlp": WAYS, "cnn": (), "transformer": ("clipped", "PCA")}


def activations(network, X):
    """Rows (n_samples, n_positions, n_units) of every activation, from hooks."""
    found, kinds = [], tuple(ACTIVATIONS.values())

    def hook(module, args, output):
        rows = (
            output.movedim(1, -1) if output.ndim == 4 and output.shape[-1] != 16 else output
        )
        found.append(
            rows.detach().flatten(1, -2) if rows.ndim > 2 else rows[:, None].detach()
        )

    handles = [m.register_forward_hook(hook) for m in network.modules() if type(m) in kinds]
    with torch.no_grad():
        network(X)
    for handle in handles:
        handle.remove()
    return found


def batches(y, rng):
    """Batches of one class, and as many mixed ones of the same size."""
    size = min(BATCH_SIZE, np.bincount(y, minlength=10).min())
    own = [rng.permutation(np.flatnonzero(y == label))[:size] for label in range(10)]
    return own, [rng.permutation(len(y))[:size] for _ in range(10)]


def ways(network, X, y, names):
    """Score by some ways of making a matrix."""
    rng = np.random.default_rng(0)
    single, mixed = batches(y, rng)
    areas = {name: np.zeros(2) for name in names}
    for rows in activations(network, X):
        for side, own in enumerate((single, mixed)):
            A = torch.stack([rows[index].flatten(0, 1) for index in own])
            if A.shape[1] > MAX_ROWS:
                A = A[:, rng.permutation(A.shape[1])[:MAX_ROWS]]
            for name in names:
                areas[name][side] += area_under_curve(RANKS, WAYS[name](A)).mean()
    return {name: float(single / mixed) for name, (single, mixed) in areas.items()}


def measure(architecture, name, p, seed):
    """Train one network, and measure it in every way."""
    network, X, y, accuracy = trained(architecture, name, p, seed)
    settings = {"layers": "auto", "ranks": RANKS, "max_rows": MAX_ROWS, "random_state": 0}
    single = layer_profile(network, X, y, replay=seed == 0 and p in (0, 1), **settings)
    mixed = layer_profile(
        network, X, y, by_class=False, n_batches=10, replay=False, **settings
    )
    score = memorization_score(single, mixed)
    names = WAYS_MEASURED[architecture] if seed == 0 else ()
    found = {"accuracy": accuracy, "score": score, "ways": ways(network, X, y, names)}
    return found | {
        "layers": len(single.layer_names),
        "replayed": single.accuracies.mean((0, 1)).tolist(),
    }


# Wrong labels ---------------------------------------------------------------------

LABEL_ACTIVATIONS = ("relu", "gelu", "silu", "tanh")


def label_samples(data, seed):
    """1,000 images, their labels, and these with a tenth of them changed."""
    load = {"digits": load_digits, "fashion": load_fashion_mnist}[data]
    found = load()
    order = np.random.default_rng(seed).permutation(len(found.target))[:1000]
    X = np.asarray(found.images)[order].reshape(1000, -1)
    y = found.target[order]
    return (X / X.max()).astype(np.float32), y, make_noisy_labels(y, 0.1, random_state=seed)


def measure_labels(data, name, seed):
    """ROC AUC of wrong labels: of the score, and of the layers alone."""
    X, y, given = label_samples(data, seed)
    torch.manual_seed(seed)
    n = X.shape[1]
    network = nn.Sequential(
        *(nn.Linear(n, 128), ACTIVATIONS[name](), nn.Linear(128, 128), ACTIVATIONS[name]()),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    inputs, target = torch.from_numpy(X), torch.from_numpy(given)
    for _ in range(300):
        for part in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            F.cross_entropy(network(inputs[part]), target[part]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (network(inputs).argmax(1) == target).double().mean().item()
        if accuracy == 1:
            break
    detector = MemorizationDetector(network.eval(), layers="auto", random_state=0)
    detector.fit(X, given)
    wrong = given != y
    layers = np.nan_to_num(detector.transform(X)).mean(1)
    return {
        "auc": roc_auc_score(wrong, detector.score_samples(X, given)),
        "layers": roc_auc_score(wrong, layers),
        "accuracy": accuracy,
    }


def labels_table(found):
    """ROC AUC by data and activation, mean of the seeds, and the difference to ReLU."""
    rows = []
    for data, name in product(("digits", "fashion"), LABEL_ACTIVATIONS):
        own = [f for key, f in found.items() if key[:2] == (data, name)]
        relu = [f for key, f in found.items() if key[:2] == (data, "relu")][: len(own)]
        if own:
            auc = np.mean([f["auc"] for f in own])
            change = auc - np.mean([f["auc"] for f in relu])
            layers = np.mean([f["layers"] for f in own])
            lowest = min(f["accuracy"] for f in own)
            cells = [f"{auc:.4f}", f"{change:+.4f}", f"{layers:.4f}", f"{lowest:.3f}"]
            rows.append([data, name, *cells])
    head = ["data", "activation", "ROC AUC", "against ReLU", "mean of the layers alone"]
    return table([*head, "lowest training accuracy"], rows)


# The tables -----------------------------------------------------------------------


def correlation(found, read):
    """Rank correlation of what is read with p."""
    if len({key[2] for key in found}) < 3:
        return "-"
    try:
        values = [read(f) for f in found.values()]
    except KeyError:  # not measured in this way
        return "-"
    return f"{spearmanr([key[2] for key in found], values).statistic:.3f}"


def correlations(found):
    """Rank correlation with p by architecture and activation, for every way."""
    rows = []
    for architecture, name in product(NETWORKS, ACTIVATIONS):
        own = {
            key: value for key, value in found.items() if key[:2] == (architecture, name)
        }
        if not own:
            continue
        first = {key: value for key, value in own.items() if key[3] == 0}
        cells = [correlation(own, lambda f: f["score"])]
        cells.append(correlation(first, lambda f: f["score"]))
        cells += [correlation(first, lambda f, way=way: f["ways"][way]) for way in WAYS]
        lowest = min(f["accuracy"] for f in own.values())
        rows.append([architecture, name, len(own), *cells, f"{lowest:.3f}"])
    head = ["network", "activation", "networks", "**the score**", "the score, seed 0"]
    head += [f"{way}, seed 0" for way in WAYS] + ["lowest training accuracy"]
    return table(head, rows)


def levels(found):
    """Give the score at every p, mean of the seeds."""
    rows = []
    for architecture, name in product(NETWORKS, ACTIVATIONS):
        cells = []
        for p in NOISE_LEVELS:
            own = [
                f["score"] for key, f in found.items() if key[:3] == (architecture, name, p)
            ]
            cells.append(f"{np.mean(own):.2f}" if own else "-")
        rows.append([architecture, name, *cells])
    return table(["network", "activation", *(f"p = {p}" for p in NOISE_LEVELS)], rows)


def replayed(found):
    """Accuracy at some ranks, mean of layers and classes, with true and random labels."""
    rows, ranks = [], [2, 8, 32]
    for architecture, name in product(NETWORKS, ACTIVATIONS):
        cells = []
        for p in (0.0, 1.0):
            own = found.get((architecture, name, p, 0), {}).get("replayed", [np.nan] * 10)
            values = [own[RANKS.index(k)] for k in ranks]
            cells += ["-" if np.isnan(v) else f"{v:.2f}" for v in values]
        rows.append([architecture, name, *cells])
    head = [f"p = {p}, rank {k}" for p in (0, 1) for k in ranks]
    return table(["network", "activation", *head], rows)


def write(found, labels, path):
    """Write the tables, with what they were made with."""
    text = f"""# Activations of any sign

Made by `signed_activations.py` with {versions("sknonlin", "torch", "numpy")} on
{machine()}, one of them used. A share p of the labels of {N_TRAIN} digits was redrawn.
Every network was trained until it fitted all of them, for 250 epochs at most. p is one of
{", ".join(map(str, NOISE_LEVELS))}. The tables count the seeds. The score is
`memorization_score` of `layer_profile(..., layers="auto")`, which takes halves. The other
columns use batches of their own, of {BATCH_SIZE} samples and {MAX_ROWS} rows at most.
A dash stands for what was not measured.

## Rank correlation with p

{correlations(found)}
## The score

{levels(found)}
## Accuracy when an activation is replaced

The replacement is the difference of the approximations of both halves. Cells are means of
layers and classes, of seed 0.

{replayed(found)}
## Wrong labels

The MLPs fit 1,000 images. A tenth of the labels were changed. There are {len(SEEDS)} seeds.

{labels_table(labels)}"""
    path.write_text(with_answer(text, path), encoding="utf-8")


def main():
    """Train and measure what is not in the folder, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", action="store_true", help="of what is there")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    found, labels = {}, {}

    def kept(name, function, *args):
        path = folder / f"{name}.json"
        if not path.exists():
            if arguments.tables:
                return None
            start = time.perf_counter()
            path.write_text(json.dumps(function(*args)))
            print(name, f"{time.perf_counter() - start:.1f} s", flush=True)
        return json.loads(path.read_text())

    for name, data, seed in product(LABEL_ACTIVATIONS, ("digits", "fashion"), SEEDS):
        labels[data, name, seed] = kept(
            f"labels_{data}_{name}_{seed}", measure_labels, data, name, seed
        )
    for architecture, seed, name, p in product(
        ("mlp", "transformer", "cnn"), SEEDS, ACTIVATIONS, NOISE_LEVELS
    ):
        found[architecture, name, p, seed] = kept(
            f"{architecture}_{name}_{p}_{seed}", measure, architecture, name, p, seed
        )
    found = {key: f for key, f in found.items() if f is not None}
    labels = {key: f for key, f in labels.items() if f is not None}
    write(found, labels, HERE / "signed_activations.md")


if __name__ == "__main__":
    main()

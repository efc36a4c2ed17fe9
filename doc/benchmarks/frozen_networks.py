"""Networks that fit all labels given, wrong ones too: trained once, and kept in a folder.

    python doc/benchmarks/frozen_networks.py FOLDER --tables TABLES    # about half an hour

* images: the MLP and the CNN of `networks.py` on 2,000 images of Fashion-MNIST, from rows
  10,000 to 19,999 of its training set, as in `label_errors.py`.
* text: 2,000 docstrings of installed packages. Their label is the package, whose name is
  taken out of the text. An MLP on TF-IDF, the mean of token embeddings with two ReLU layers
  on top ("bag"), and a Transformer on the first 64 tokens.
* tables: 1,500 rows of odd index of two tables, standardized, and an MLP.
* audio: the CNN of `networks.py` on 1,000 spectrograms of spoken digits.

The tables are in R's package mlbench, in Debian `r-cran-mlbench`. TABLES is a folder with
`letters.csv` (the label is its first column) and `satellite.csv` (its last); a file that is
not there is skipped. To make them:

    Rscript -e 'library(mlbench); data(LetterRecognition); data(Satellite)
                write.csv(LetterRecognition, "letters.csv", row.names = FALSE)
                write.csv(Satellite, "satellite.csv", row.names = FALSE)'

Texts depend on the versions of the packages. What was read of them is kept in FOLDER too.
"""

import argparse
import collections
import functools
import importlib
import inspect
import itertools
import pathlib
import pkgutil
import re
import time
import warnings
from dataclasses import asdict, dataclass

import label_error_runs
import networks
import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler
from torch import nn

from sknonlin.datasets import make_noisy_labels

TEXT_PACKAGES = ("numpy", "scipy", "sklearn", "torch", "pandas", "matplotlib", "sympy")
TEXT_PACKAGES += ("networkx",)
NAMES = "numpy|np|scipy|sklearn|scikit|torch|tensors?|pandas|pd|dataframe|series|axes"
NAMES += "|matplotlib|plt|sympy|networkx|nx|graph|G"
SKIPPED = r"test|conftest|setup|__main__|torch\.(utils\.(benchmark|tensorboard|hipify)"
SKIPPED += r"|distributed|_inductor|onnx|fx\.passes|ao)"
N_OF_PACKAGE, LEAST_LENGTH = 600, 150  # docstrings, characters
N_TEXTS, N_TOKENS, N_SEQUENCE = 2000, 150, 64
N_VOCABULARY = 3000
TABLES = ("letters", "satellite")
N_ROWS = 1500
MAX_EPOCHS = {"text": 150, "tables": 600}
WIDTHS = {"text": (128, 128), "tables": (64, 64)}  # of MLPs
FAMILIES = ("images, MLP", "tables", "text", "audio", "images, CNN")


@dataclass(frozen=True)
class Case:
    """One network: what it is, and what it was trained on."""

    family: str
    data: str
    architecture: str
    noise: str
    p: float
    seed: int = 0

    @property
    def stem(self):
        """Name of its files."""
        return "_".join(str(value) for value in [*asdict(self).values()][1:])

    @property
    def column(self):
        """What a table's column is called."""
        several = {"tables": f"{self.data}, ", "text": f"{self.architecture}, "}
        return f"{several.get(self.family, '')}{self.noise} {self.p:g}"

    @property
    def setting(self):
        """Its setting in `networks.py`, of images and audio."""
        n_train = 1000 if self.data == "audio" else 2000
        return networks.Setting(
            self.data, self.architecture, self.p, self.seed, n_train, noise=self.noise
        )


def cases(family):
    """All networks of a family."""
    if family.startswith("images"):
        architecture = family.split()[1].lower()
        return [
            Case(family, "confirm", architecture, noise, p)
            for noise in label_error_runs.NOISE_KINDS
            for p in (0.1, 0.4)
        ]
    if family == "audio":
        return [Case(family, "audio", "cnn", "flip", 0.2)]
    if family == "text":
        noises = (("flip", 0.2), ("flip", 0.4), ("pairwise", 0.2))
        return [
            Case(family, "docstrings", architecture, *noise)
            for architecture in ("tf-idf", "bag", "transformer")
            for noise in noises
        ]
    noises = (("flip", 0.1), ("flip", 0.4), ("nearest", 0.2))
    return [
        Case(family, data, "mlp", *noise, seed)
        for data in TABLES
        for noise in noises
        for seed in range(2)
    ]


# Text ---------------------------------------------------------------------------------


def modules(package):
    """Yield the modules of a package that can be imported."""
    top = importlib.import_module(package)
    for info in pkgutil.walk_packages(top.__path__, f"{package}.", onerror=lambda _: None):
        if not re.search(SKIPPED, info.name):
            try:
                yield importlib.import_module(info.name)
            except Exception:  # modules raise anything where their extras are missing
                continue


def docstrings_of(package):
    """Docstrings of the functions and classes of a package, some of them."""
    found = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in modules(package):
            for thing in vars(module).values():
                own = str(getattr(thing, "__module__", "")).startswith(package)
                if own and (inspect.isfunction(thing) or inspect.isclass(thing)):
                    found.add(inspect.getdoc(thing) or "")
            if len(found) > 3 * N_OF_PACKAGE:
                break
    long = sorted(text for text in found if len(text) > LEAST_LENGTH)
    order = np.random.default_rng(0).permutation(len(long))[:N_OF_PACKAGE]
    return [long[i] for i in order]


def tokens(text):
    """Words of a text, without those that name its package."""
    text = re.sub(rf"\b({NAMES})\b", " ", text, flags=re.IGNORECASE)
    return re.findall("[a-z]{2,}", text.lower())


def read_texts():
    """Token ids (n_texts, N_TOKENS), 0 where a text has ended, and labels."""
    texts, labels = [], []
    for label, package in enumerate(TEXT_PACKAGES):
        own = docstrings_of(package)
        texts += own
        labels += [label] * len(own)
    words = [tokens(text)[:N_TOKENS] for text in texts]
    common = collections.Counter(w for text in words for w in text).most_common()
    number = {word: i for i, (word, _) in enumerate(common[:N_VOCABULARY], 1)}
    ids = np.zeros((len(words), N_TOKENS), np.int64)
    for row, text in zip(ids, words, strict=True):
        own = [number[word] for word in text if word in number]
        row[: len(own)] = own
    # Texts that begin alike count once: with different labels, they could not be fitted.
    first = np.unique(np.sort(ids[:, :N_SEQUENCE]), axis=0, return_index=True)[1]
    chosen = np.random.default_rng(0).permutation(first)[:N_TEXTS]
    return {"ids": ids[chosen], "labels": np.array(labels)[chosen]}


def tf_idf(ids):
    """TF-IDF of token ids, one column for each token."""
    counts = np.zeros((len(ids), N_VOCABULARY + 1), np.float32)
    np.add.at(counts, (np.arange(len(ids))[:, None], ids), 1)
    return TfidfTransformer().fit_transform(counts[:, 1:]).toarray().astype(np.float32)


class Bag(nn.Module):
    """The mean of token embeddings, and two ReLU layers."""

    def __init__(self, n_classes):
        super().__init__()
        self.embed = nn.EmbeddingBag(N_VOCABULARY + 1, 64, padding_idx=0)
        self.head = mlp((64, 64, 64, n_classes))

    def forward(self, ids):
        """Logits."""
        return self.head(self.embed(ids))


class Embedding(nn.Module):
    """Embeddings of tokens and of their places."""

    def __init__(self, width):
        super().__init__()
        self.tokens = nn.Embedding(N_VOCABULARY + 1, width)
        self.places = nn.Parameter(torch.randn(N_SEQUENCE, width) / 10)

    def forward(self, ids):
        """Sum of both, (n_texts, N_SEQUENCE, width)."""
        return self.tokens(ids) + self.places


class MeanOfPlaces(nn.Module):
    """Mean over the places of a sequence."""

    def forward(self, X):
        """Mean of (n_texts, n_places, width) over the places."""
        return X.mean(1)


class Transformer(nn.Module):
    """Two encoder layers of four heads, averaged over the places."""

    def __init__(self, n_classes, width=48):
        super().__init__()
        self.embed = Embedding(width)
        layer = nn.TransformerEncoderLayer(width, 4, 128, 0.0, batch_first=True)
        self.head = nn.Sequential(
            nn.TransformerEncoder(layer, 2), MeanOfPlaces(), nn.Linear(width, n_classes)
        )

    def forward(self, ids):
        """Logits."""
        return self.head(self.embed(ids))


# Data and networks --------------------------------------------------------------------


def mlp(widths):
    """Fully connected layers with ReLUs between them."""
    layers = []
    for n_inputs, n_outputs in itertools.pairwise(widths):
        layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def kept(path, make):
    """Return the arrays of a file, made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make())
    return dict(np.load(path))


def nearest_labels(X, y, p, rng):
    """Give a share p of the samples the label of the other class nearest in the mean."""
    means = np.stack([X[y == c].mean(0) for c in range(y.max() + 1)])
    chosen = rng.permutation(len(y))[: round(p * len(y))]
    distances = ((X[chosen, None] - means) ** 2).sum(-1)
    distances[np.arange(len(chosen)), y[chosen]] = np.inf
    given = y.copy()
    given[chosen] = distances.argmin(1)
    return given


@functools.cache
def read_table(path, label):
    """Rows of odd index of a table, in any order, and their labels as numbers.

    Of equal rows, one stays: with different labels, they could not be fitted.
    """
    frame = pd.read_csv(path).iloc[1::2]
    columns = frame.columns.delete(label)
    frame = frame.drop_duplicates(columns).sample(N_ROWS, random_state=0)
    labels = np.unique(frame.iloc[:, label], return_inverse=True)[1]
    X = frame[columns].to_numpy(float)
    return StandardScaler().fit_transform(X).astype(np.float32), labels


def load(case, folder, tables):
    """Return samples, the labels given, and the true ones."""
    if case.family.startswith("images") or case.family == "audio":
        X, given, _, _, true = networks.load(case.setting)
        return X, given, true
    if case.family == "text":
        texts = kept(folder / "texts.npz", read_texts)
        X, true = texts["ids"], texts["labels"]
        if case.architecture == "tf-idf":
            X = tf_idf(X)
        elif case.architecture == "transformer":
            X = np.ascontiguousarray(X[:, :N_SEQUENCE])
    else:
        label = 0 if case.data == "letters" else -1
        X, true = read_table(tables / f"{case.data}.csv", label)
    if case.noise == "nearest":
        rng = np.random.default_rng(case.seed)
        return X, nearest_labels(X, true, case.p, rng), true
    return X, make_noisy_labels(true, case.p, case.seed, kind=case.noise), true


def make_network(case, X, n_classes):
    """Make the network of a case, untrained."""
    if case.family.startswith("images") or case.family == "audio":
        return networks.make_network(case.setting)
    if case.architecture == "bag":
        return Bag(n_classes)
    if case.architecture == "transformer":
        return Transformer(n_classes)
    return mlp((X.shape[1], *WIDTHS[case.family], n_classes))


def train(case, X, y):
    """Train until all labels fit, and write down margins and losses."""
    if case.family.startswith("images") or case.family == "audio":
        return label_error_runs.one_training(case.setting, X, y)
    watch, start = label_error_runs.Margins(y), time.perf_counter()
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    torch.manual_seed(case.seed)
    network = make_network(case, X, int(y.max()) + 1)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0)
    networks.fit(network, optimizer, X, y, MAX_EPOCHS[case.family], watch)
    return network, {
        "margins": np.array(watch.margins, np.float32),
        "losses": np.array(watch.losses, np.float32),
        "seconds": time.perf_counter() - start,
    }


def trained(case, folder, X, y):
    """Return the network and what was written down, from the folder if it is there."""
    path = folder / f"{case.stem}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        network, record = train(case, X, y)
        np.savez(path.with_suffix(".npz"), **record)
        torch.save({"state": network.state_dict()}, path)
    network = make_network(case, X, int(y.max()) + 1).eval()
    network.load_state_dict(torch.load(path)["state"])
    return network, dict(np.load(path.with_suffix(".npz")))


def available(family, tables):
    """Cases of a family whose data are there."""
    return [
        case
        for case in cases(family)
        if family != "tables" or (tables and (tables / f"{case.data}.csv").exists())
    ]


def command_line(description):
    """Parser of the folders and families that both scripts take."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", type=pathlib.Path, help="folder with the CSV files")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    return parser


if __name__ == "__main__":
    arguments = command_line(__doc__).parse_args()
    torch.set_num_threads(1)
    for family in arguments.families:
        for case in available(family, arguments.tables):
            X, given, _ = load(case, arguments.folder, arguments.tables)
            _, record = trained(case, arguments.folder, X, given)
            told = f"{len(record['losses'])} epochs, {record['seconds']:.0f} s"
            print(f"{case.stem}: {told}", flush=True)

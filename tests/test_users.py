"""What users bring: samples, labels, outputs and programs of every kind, at every entry."""

import threading
from collections import OrderedDict

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import Dataset
from skorch.helper import SliceDataset
from torch import nn

from sknonlin import ActivationNonlinearity, MemorizationDetector, layer_profile
from sknonlin.callbacks import NonlinearityMonitor, NonlinearityScoring
from sknonlin.metrics import memorization_scorer
from tests.architectures import seeded

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")
Y = np.arange(60) % 3
X = (np.random.default_rng(0).normal(size=(60, 6)) + Y[:, None] / 2).astype("float32")


@pytest.fixture(autouse=True)
def seeded_weights():
    """Networks are made in many places here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Base(nn.Module):
    def __init__(self, dtype=None):
        super().__init__()
        self.first = nn.Linear(6, 16, dtype=dtype)
        self.last = nn.Linear(16, 3, dtype=dtype)

    def answer(self, x):
        return self.last(self.first(x).relu())


class Net(Base):
    def forward(self, x):
        return self.answer(x)


def skorch_net(module=Net, **settings):
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, **settings
    )


def frozen(module):
    return FrozenEstimator(skorch_net(module).initialize())


def profile(module, samples=X, y=Y, **settings):
    return layer_profile(module, samples, y, ranks=[1, 2], random_state=0, **settings)


def fitted(module, samples=X, y=Y):
    return MemorizationDetector(frozen(module), random_state=0).fit(samples, y)


# Samples


def one_hot():
    table = {"kind": np.array(list("ab"))[Y % 2], "u": X[:, 0], "v": X[:, 1]}
    return pd.get_dummies(pd.DataFrame(table | {"w": X[:, 2], "z": X[:, 3]}))


FRAME = pd.DataFrame(X, columns=list("abcdef"))
SAMPLES = {
    "frame": FRAME,
    "with booleans": FRAME.assign(a=FRAME["a"] > 0),
    "dummies": one_hot(),
    "nullable": FRAME.convert_dtypes(),
    "arrow": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.DataFrame({name: FRAME[name].to_numpy() for name in FRAME}),
    "objects": FRAME.astype(object),
    "CSR": sparse.csr_matrix(X),
    "COO array": sparse.coo_array(X),
    "list": X.tolist(),
    "other byte order": X.astype(">f4"),
    "float64": X.astype(float),
    "float16": X.astype(np.float16),
    "float64 tensor": torch.from_numpy(X).double(),
    "slice": SliceDataset(Dataset(X, Y), 0),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_entry_takes_the_samples(name):
    samples, module = SAMPLES[name], seeded(Net)
    assert profile(module, samples).layer_names == ["relu"]
    assert 0 <= memorization_scorer(frozen(module).estimator, samples, Y) <= 1
    assert NonlinearityMonitor(samples, Y).update(module) >= 0
    detector = fitted(module, samples)
    scores = detector.score_samples(samples, Y)
    assert scores.shape == (60,)
    assert set(detector.predict(samples)) <= {0, 1, 2}


@pytest.mark.parametrize("name", ["with booleans", "polars", "CSR", "float64", "slice"])
def test_a_network_is_trained_on_them(name):
    net = skorch_net(max_epochs=2)
    found = MemorizationDetector(net, random_state=0).fit(SAMPLES[name], Y)
    assert found.predict_proba(SAMPLES[name]).shape == (60, 3)


def test_sparse_samples_that_are_too_many_are_refused():
    wide = sparse.csr_matrix((60, 10**8), dtype=np.float32)
    with pytest.raises(ValueError, match=r"22\.4 GiB.*Dataset"):
        profile(Net(), wide)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_network_is_trained_in_its_own_precision(dtype):
    net = skorch_net(module__dtype=dtype, max_epochs=2)
    found = MemorizationDetector(net, random_state=0).fit(X, Y)
    assert next(found.estimator_.module_.parameters()).dtype == dtype
    assert np.isfinite(found.score_samples(X, Y)).all()


def test_another_default_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = MemorizationDetector(random_state=0).fit(X, Y)
        assert next(found.estimator_.module_.parameters()).dtype == torch.float64
        assert found.score(X, Y) > 0.4
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("n", [2, 3, 5, 31, 32, 33, 34])
@pytest.mark.filterwarnings("ignore:.* classes have fewer")
@pytest.mark.filterwarnings("ignore:Every batch has a single sample")
def test_the_default_network_of_any_number_of_samples(n):
    found = MemorizationDetector(random_state=0).fit(X[:n], Y[:n] > 0)
    assert found.predict(X).dtype == bool


# Labels


def test_labels_as_a_column_or_a_slice():
    expected = fitted(seeded(Net)).score_samples(X, Y)
    with pytest.warns(UserWarning, match="column-vector"):
        column = fitted(seeded(Net), y=Y[:, None])
    sliced = fitted(seeded(Net), y=SliceDataset(Dataset(X, Y), 1))
    for found in (column, sliced):
        np.testing.assert_array_equal(found.score_samples(X, Y), expected)


def missing(value):
    labels = np.array(list("abc") * 20, dtype=object)
    labels[3] = value
    return labels


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (missing(None), "NaN"),
        (missing(np.nan), "NaN"),
        (np.random.default_rng(0).normal(size=60), "[Cc]ontinuous"),
        (np.eye(3)[Y], "one label a sample"),
        ([[1, 2], [3]] * 30, "one label a sample"),
        (np.array(list("abc") * 20), "LabelEncoder"),
    ],
)
def test_labels_that_cannot_be_used(y, message):
    with pytest.raises(ValueError, match=message):
        fitted(Net(), y=y)


def test_continuous_labels_have_no_classes():
    y = X[:, 0]
    regressor = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    with pytest.raises(ValueError, match="Bin it"):
        profile(regressor, y=y)


# Outputs and inputs of several parts


class ModelOutput(OrderedDict):
    """As those of transformers: a mapping, with values that are no tensors."""


class HuggingFace(Base):
    def forward(self, x, attention_mask=None, labels=None):
        found = ModelOutput(loss=x.sum(), hidden=x, logits=self.answer(x))
        found["past_key_values"] = object()
        return found


class LossFirst(Base):
    def forward(self, x):
        answer = self.answer(x)
        return answer.sum(), answer


class WithMask(Base):
    def forward(self, x, mask=None):
        return self.answer(x)


@pytest.mark.parametrize(
    ("module", "samples"),
    [
        (HuggingFace, X),
        (HuggingFace, {"x": X}),
        (LossFirst, X),
        (WithMask, {"x": X, "mask": None}),
        (WithMask, {"x": X, "mask": np.ones(60, bool)}),
    ],
)
def test_outputs_and_inputs_of_several_parts(module, samples):
    plain, other = seeded(Net), seeded(module)
    expected, found = profile(plain), profile(other, samples)
    np.testing.assert_allclose(found.errors, expected.errors, atol=1e-5)
    assert NonlinearityMonitor(samples, Y).update(other) >= 0
    detector = fitted(other, samples)
    np.testing.assert_array_equal(detector.predict(samples), fitted(plain).predict(X))


class Two(Base):
    def forward(self, a, b):
        return self.answer(a + b)


def test_a_tuple_of_arguments():
    found = profile(seeded(Two), (X, np.zeros_like(X)))
    np.testing.assert_allclose(found.errors, profile(seeded(Net)).errors, atol=1e-5)


class FewerRows(Base):
    def forward(self, x):
        return self.answer(x)[1:]


def test_outputs_without_a_row_for_every_sample():
    with pytest.raises(ValueError, match="1 rows for 2 samples"):
        profile(FewerRows())


class Nodes(Base):
    """Works on all nodes of a graph at once, and gives those asked for."""

    def __init__(self):
        super().__init__()
        self.register_buffer("nodes", torch.from_numpy(X[:50]))

    def forward(self, index):
        return self.answer(self.nodes)[index]


def test_a_graph_by_its_nodes():
    with pytest.raises(ValueError, match="axis of the samples"):
        profile(Nodes(), torch.arange(50), Y[:50])


# Programs


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.last = nn.Linear(24, 3)

    def forward(self, x):
        return self.last(self.norm(self.conv(x[:, None])).relu().flatten(1))


def exported(module, example):
    shapes = ({0: torch.export.Dim("n")},)
    return torch.export.export(module, (example,), dynamic_shapes=shapes).module()


PROGRAMS = {
    "script": lambda module, example: torch.jit.script(module),
    "trace": torch.jit.trace,
    "freeze": lambda module, example: torch.jit.freeze(torch.jit.script(module)),
    "optimize": lambda module, example: torch.jit.optimize_for_inference(
        torch.jit.script(module)
    ),
    "export": exported,
    "fx": lambda module, example: torch.fx.symbolic_trace(module),
    "compile": lambda module, example: torch.compile(module, backend="eager"),
    "data parallel": lambda module, example: nn.DataParallel(module),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    module = seeded(Convolution).eval()
    program = PROGRAMS[name](module, torch.from_numpy(X[:4]))
    expected, found = profile(module), profile(program)
    assert len(found.layer_names) == 1
    np.testing.assert_allclose(found.errors, expected.errors, atol=1e-5)
    np.testing.assert_allclose(found.accuracies, expected.accuracies)


def test_a_program_for_one_number_of_samples():
    module = seeded(Convolution).eval()
    program = torch.export.export(module, (torch.from_numpy(X[:4]),)).module()
    with pytest.raises(ValueError, match="failed on 2 samples"):
        profile(program)


def test_modules_nested_too_deep():
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    for _ in range(400):
        module = nn.Sequential(module)
    with pytest.raises(RecursionError, match="nested deeper"):
        profile(module)


class Locked(Net):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def test_a_network_that_cannot_be_sent():
    with (
        joblib.parallel_config(backend="loky", n_jobs=2),
        pytest.raises(TypeError, match="Use threads"),
    ):
        profile(Locked(), n_jobs=2)
    assert profile(Locked(), n_jobs=2).layer_names == ["relu"]


# Callbacks


@pytest.mark.parametrize(
    "reader",
    [EarlyStopping(monitor="nmf_auc"), Checkpoint(monitor="nmf_auc_best")],
)
def test_callbacks_in_the_wrong_order(reader):
    callbacks = [("reader", reader), ("scoring", NonlinearityScoring(batch_size=40))]
    net = skorch_net(callbacks=callbacks, max_epochs=2)
    with pytest.raises(ValueError, match="'reader' reads 'nmf_auc"):
        seeded(net.fit, X, Y)


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("what is refused is a device that the machine does not have")
    with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
        MemorizationDetector(skorch_net(device="cuda")).fit(X, Y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_frames_of_tensors(dtype):
    A = torch.from_numpy(np.abs(X)).to(dtype).requires_grad_()
    scorer = ActivationNonlinearity([1, 2]).set_output(transform="pandas").fit(A)
    assert scorer.transform(A).shape == (60, 2)
    assert torch.is_tensor(scorer.set_output(transform="default").transform(A))


@pytest.mark.parametrize("kind", [np.array, pd.Index, pd.Series, tuple, set])
def test_layers_of_any_collection(kind):
    assert profile(seeded(Net), layers=kind(["relu"])).layer_names == ["relu"]
    found = MemorizationDetector(frozen(seeded(Net)), layers=kind(["relu"]), random_state=0)
    found.fit(X, Y)
    assert found.layer_names_ == ["relu"]


class Gated(Base):
    """Activations of two kinds, none of them a ReLU."""

    def forward(self, x):
        h = self.first(x)
        return self.last(torch.nn.functional.gelu(h * torch.sigmoid(h)))


def test_activations_of_every_kind_at_every_entry():
    with pytest.raises(ValueError, match="layers='auto'"):
        MemorizationDetector(frozen(Gated), random_state=0).fit(X, Y)
    detector = MemorizationDetector(frozen(Gated), layers="auto", random_state=0).fit(X, Y)
    assert detector.layer_names_ == ["gelu"]
    assert 0 <= detector.memorization_score_ <= 1
    assert detector.transform(X).shape == (60, 1)
    assert np.isfinite(detector.score_samples(X, Y)).all()
    profile = layer_profile(Gated(), X, Y, layers="auto", random_state=0)
    assert np.isfinite(profile.batch_accuracies).all()
    monitor = NonlinearityMonitor(X, Y, layers="auto")
    assert 0 <= monitor.update(Gated()) <= 1
    net = skorch_net(Gated, max_epochs=2, callbacks=[NonlinearityScoring(layers="auto")])
    assert len(net.fit(X, Y).history[:, "nmf_auc_gelu"]) == 2


class Told:
    """A callback of scikit-learn that notes the tasks it is told of."""

    def __init__(self):
        self.begun, self.ended = [], []

    def setup(self, estimator, context):
        """Do nothing."""

    def teardown(self, estimator, context):
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)


def test_callbacks_of_scikit_learn_around_a_detector():
    pytest.importorskip("sklearn.callback", reason="scikit-learn has them from 1.9 on")
    detector = MemorizationDetector(skorch_net(max_epochs=1), random_state=0)
    pipeline = make_pipeline(StandardScaler(), detector)
    grid = {"memorizationdetector__batch_size": [5, 10]}
    told = Told()
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").set_callbacks(told)
    search.fit(X, Y)
    assert told.begun.count("candidate-split-evaluation") == 4
    assert sorted(told.begun) == sorted(told.ended)
    told = Told()
    pipeline.set_callbacks(told).fit(X, Y)
    assert told.ended[-2:] == ["fit-final-estimator", "fit"]

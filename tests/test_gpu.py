"""What takes a device gives the same on a CUDA GPU as on the CPU.

All of it is in one file that imports no more than the package needs, because a machine
with a GPU seldom has the other packages of the tests.
"""

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import ActivationNonlinearity, layer_profile, nmf_path, nnls
from sknonlin._factorization import compiled, nmf_compression
from sknonlin._memorization.label_readers import RidgeReader, Scaler
from sknonlin._memorization.monitor import NonlinearityMonitor
from sknonlin._network.adapters import as_network
from sknonlin._network.layers import NetworkLayers
from sknonlin._running import memory
from sknonlin.datasets import make_noisy_labels
from tests.architectures import ARCHITECTURES, make_net, seeded, skorch_net
from tests.conftest import (
    COMPRESSIONS,
    RANKS,
    detector,
    first_digits,
    fit,
    relu_matrix,
    scoring,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
GPU = "cuda"
MANY = 600  # digits


@pytest.fixture(autouse=True)
def untouched_state_of_the_gpu():
    """No call may change the GPU's random state, or torch's settings for it."""
    convolutions = torch.backends.cudnn.conv
    state, precision = torch.cuda.get_rng_state(), convolutions.fp32_precision
    yield
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert convolutions.fp32_precision == precision


@pytest.fixture(autouse=True)
def nothing_is_sent_to_the_processor(monkeypatch):
    """What is tested here is small, and would not be learned from on the GPU."""
    monkeypatch.setattr(compiled, "MOST_SENT", 0)


@pytest.fixture(scope="module")
def many_digits():
    return first_digits(MANY)


def on(device, module):
    """Copy a module to a device."""
    return copy.deepcopy(module).to(device)


def is_on(device, module):
    """Whether all of a module is on a device."""
    tensors = [*module.parameters(), *module.buffers()]
    return {tensor.device.type for tensor in tensors} == {device}


def as_array(A):
    """Bring a result to the CPU, from wherever it is."""
    return A.cpu().numpy() if isinstance(A, torch.Tensor) else A


# Matrices


@pytest.mark.parametrize("solver", ["auto", "mu"])
@pytest.mark.parametrize("max_rows", [20, None])
def test_nmf_path(stack, solver, max_rows):
    settings = {"solver": solver, "max_rows": max_rows, "random_state": 0}
    X = torch.from_numpy(stack)
    expected = nmf_path(X, RANKS, **settings)
    path = nmf_path(X.to(GPU), RANKS, **settings)
    assert path.errors.device.type == GPU
    assert {H.device.type for H in path.components} == {GPU}
    torch.testing.assert_close(path.errors.cpu(), expected.errors, rtol=1e-4, atol=0)
    sent = nmf_path(stack, RANKS, device=GPU, **settings)
    np.testing.assert_allclose(sent.errors, expected.errors, rtol=1e-4)


def test_nmf_path_in_single_precision(stack):
    X = torch.from_numpy(stack).float()
    errors = nmf_path(X.to(GPU), RANKS).errors
    assert errors.dtype == torch.float32
    torch.testing.assert_close(errors.cpu(), nmf_path(X, RANKS).errors, rtol=0, atol=2e-3)


@pytest.fixture
def sent(monkeypatch):
    """Send small matrices to the processor, as users do, and list the stacks sent."""
    learn, stacks = nmf_compression.learn_path_compiled, []

    def listed(X, *arguments):
        stacks.append(X.device.type)
        return learn(X, *arguments)

    monkeypatch.setattr(compiled, "MOST_SENT", 2**19)
    monkeypatch.setattr(nmf_compression, "learn_path_compiled", listed)
    return stacks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_rows", [20, None])
def test_small_matrices_are_learned_from_on_the_processor(stack, max_rows, dtype, sent):
    X, settings = torch.from_numpy(stack).to(dtype), {"max_rows": max_rows}
    path = nmf_path(X.to(GPU), RANKS, **settings, random_state=0)
    assert sent == ["cpu"]
    assert {H.device.type for H in (path.errors, *path.components)} == {GPU}
    expected = nmf_path(X, RANKS, **settings, random_state=0)
    torch.testing.assert_close(path.errors.cpu(), expected.errors, rtol=1e-4, atol=1e-5)


def test_what_users_call_sends_small_matrices(digits, sent):
    X, y = digits
    score = ActivationNonlinearity(ranks=RANKS, device=GPU).fit(X, y).transform(X)
    assert sent
    expected = ActivationNonlinearity(ranks=RANKS, device="cpu").fit(X, y).transform(X)
    np.testing.assert_allclose(score, expected, atol=1e-3)


@pytest.mark.usefixtures("torch_state_kept")
def test_a_monitor_sends_small_matrices(many_digits, sent):
    net = fit(make_net(device=GPU), *many_digits)
    monitors = [NonlinearityMonitor(*many_digits, n_samples=0) for _ in range(2)]
    on_gpu = monitors[0].update(net.module_)
    assert set(sent) == {"cpu"}
    there = monitors[1].update(net.module_.cpu())
    assert there == pytest.approx(on_gpu, abs=0.02)


@pytest.mark.parametrize("kind", ["matrix", "stack", "dependent"])
def test_nnls(stack, kind):
    rng = np.random.default_rng(0)
    X, H = rng.normal(size=(3, 30, 40)), rng.random((3, 7, 40))
    if kind == "dependent":
        H[:, 3] = H[:, 2]
    if kind == "matrix":
        X, H = X[0], H[0]
    expected = nnls(X, H) @ H
    tensors = torch.from_numpy(X).to(GPU), torch.from_numpy(H).to(GPU)
    W = nnls(*tensors)
    assert W.device.type == GPU
    assert (W >= 0).all()
    np.testing.assert_allclose(as_array(W @ tensors[1]), expected, atol=1e-6)
    for found in (nnls(tensors[0], H), nnls(X, tensors[1], device=GPU)):
        np.testing.assert_allclose(as_array(found) @ H, expected, atol=1e-6)


def test_rows_are_approximated_as_on_the_cpu(labelled):
    X, y = labelled
    for by_class in (False, True):
        scorer = ActivationNonlinearity(RANKS, by_class=by_class, device="cpu").fit(X, y)
        residuals, rows = scorer.transform(X), scorer.reconstruct(X, 4)
        scorer.set_params(device="auto")
        on_gpu = torch.from_numpy(X).to(GPU)
        found = scorer.transform(on_gpu)
        assert found.device.type == GPU
        np.testing.assert_allclose(as_array(found), residuals, atol=1e-6)
        np.testing.assert_allclose(as_array(scorer.reconstruct(on_gpu, 4)), rows, atol=1e-6)
        np.testing.assert_allclose(
            scorer.set_params(device=GPU).transform(sparse.csr_matrix(X)),
            residuals,
            atol=1e-6,
        )


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("by_class", [False, True])
def test_activation_nonlinearity(labelled, compression, by_class):
    X, y = labelled
    settings = {"compression": compression, "by_class": by_class, "random_state": 0}
    settings["max_rows"] = 20
    expected = ActivationNonlinearity(RANKS, device="cpu", **settings).fit(X, y)
    tensor = torch.from_numpy(X).to(GPU)
    for data, device in ((tensor, "auto"), (X, GPU)):
        for n_jobs in (1, 2):
            fitted = ActivationNonlinearity(
                RANKS, device=device, n_jobs=n_jobs, **settings
            ).fit(data, y)
            np.testing.assert_allclose(fitted.errors_, expected.errors_, rtol=1e-4)
            scores = fitted.score_samples(data, y)
            assert isinstance(scores, torch.Tensor) == (data is tensor)
            np.testing.assert_allclose(
                as_array(scores), expected.score_samples(X, y), rtol=1e-4
            )
            assert fitted.reconstruct(data, 4).shape == X.shape
    # Fitted on the GPU, used on the CPU.
    there = pickle.loads(pickle.dumps(fitted)).set_params(device="cpu")
    np.testing.assert_allclose(there.transform(X), expected.transform(X), rtol=1e-4)


def test_what_does_not_fit_is_halved(monkeypatch):
    parts = [relu_matrix(200, 1024, seed=seed) for seed in range(96)]
    X = torch.from_numpy(np.stack(parts)).float()
    expected = nmf_path(X, [1, 4]).errors
    on_gpu = X.to(GPU)
    nmf_path(on_gpu, [1, 4])  # what the libraries keep for themselves
    emptied = []

    def empty_cache():
        emptied.append(True)
        torch.cuda.empty_cache()

    monkeypatch.setattr(memory, "empty_cache", empty_cache)
    torch.cuda.empty_cache()
    share = (torch.cuda.memory_reserved() + 2 * X.nbytes) / torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        errors = nmf_path(on_gpu, [1, 4]).errors
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert emptied
    torch.testing.assert_close(errors.cpu(), expected, rtol=0, atol=2e-3)


# Networks


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("cumulative", [False, True])
def test_layer_profile(network, digits, n_jobs, cumulative):
    X, y = digits
    settings = {"ranks": RANKS, "cumulative": cumulative, "random_state": 0}
    here = layer_profile(network, X, y, **settings)
    module = on(GPU, network)
    there = layer_profile(module, X, y, n_jobs=n_jobs, **settings)
    assert is_on(GPU, module)
    np.testing.assert_allclose(there.errors, here.errors, atol=2e-3)
    np.testing.assert_allclose(there.accuracies, here.accuracies, atol=0.1)
    np.testing.assert_allclose(there.accuracy, here.accuracy, atol=0.03)


@pytest.mark.parametrize("devices", [("cpu", GPU), (GPU, "cpu")])
def test_a_network_and_its_factorizations_may_be_apart(network, digits, devices):
    X, y = digits
    here = layer_profile(network, X, y, ranks=RANKS, random_state=0, device="cpu")
    module = on(devices[0], network)
    there = layer_profile(module, X, y, ranks=RANKS, random_state=0, device=devices[1])
    assert is_on(devices[0], module)
    np.testing.assert_allclose(there.errors, here.errors, atol=2e-3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layer_profile_of_architectures(name):
    make, shape = ARCHITECTURES[name]
    module = seeded(make)
    X, y = seeded(torch.randn, 40, *shape), np.arange(40) % 2
    settings = {"ranks": [1, 2, 4], "batch_size": 20, "random_state": 0}
    here = layer_profile(module, X, y, **settings)
    for data in (X, X.to(GPU)):
        there = layer_profile(on(GPU, module), data, y, n_jobs=2, **settings)
        assert there.layer_names == here.layer_names
        np.testing.assert_allclose(there.errors, here.errors, atol=0.01)


def test_convolutions_are_computed_in_full_precision():
    module = nn.Sequential(seeded(nn.Conv2d, 16, 32, 3), nn.ReLU(), nn.AvgPool2d(14))
    X = seeded(torch.randn, 64, 16, 16, 16)
    expected = module[:2].double()(X.double()).detach()
    network = as_network(module.float().to(GPU))
    with NetworkLayers(network, "relu", X, len(X)).capture() as capture:
        tape, _ = capture.record(X.to(GPU), len(X))
        found = tape.activations["1"].tensor.cpu().double()
    assert (found - expected).norm() < 5e-5 * expected.norm()  # TF32: 3e-4


# Detectors


def frozen(network, device):
    """A finished skorch net around a copy of a module on a device."""
    module = on(device, network)
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, device=device, train_split=None
    )
    return FrozenEstimator(seeded(net.initialize))


def as_on_the_cpu(found, expected, X, y):
    """Compare the answers of two detectors around one network."""
    for method in ("predict", "predict_proba"):
        np.testing.assert_allclose(
            getattr(found, method)(X), getattr(expected, method)(X), atol=1e-4
        )
    scores = found.score_samples(X, y), expected.score_samples(X, y)
    assert np.corrcoef(*scores)[0, 1] > 0.999
    reports = [each.label_report(X, y).sort_values("index") for each in (found, expected)]
    for column in ("suggested", "flagged"):
        one, other = (report[column].to_numpy() for report in reports)
        assert (one == other).mean() > 0.97
    np.testing.assert_allclose(found.transform(X), expected.transform(X), atol=5e-3)
    assert found.memorization_score_ == pytest.approx(
        expected.memorization_score_, abs=2e-3
    )
    assert found.n_wrong_ == pytest.approx(expected.n_wrong_, rel=0.1, abs=3)


@pytest.mark.parametrize("device", ["auto", GPU])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_detector_around_a_finished_network(network, many_digits, device, n_jobs):
    X, y = many_digits
    given = make_noisy_labels(y, 0.2, 0)
    templates = [ActivationNonlinearity([1, 2, 4], device=d) for d in ("cpu", device)]
    expected = detector(frozen(network, "cpu"), nonlinearity=templates[0])
    expected.fit(X[:500], given[:500])
    found = detector(frozen(network, GPU), n_jobs=n_jobs, nonlinearity=templates[1])
    found.fit(X[:500], given[:500])
    as_on_the_cpu(found, expected, X, given)  # samples of fit, and new ones
    assert is_on(GPU, found.estimator_.estimator.module_)
    on_gpu = torch.from_numpy(X).to(GPU)
    np.testing.assert_allclose(
        found.score_samples(on_gpu, given), found.score_samples(X, given), atol=1e-3
    )


def test_detector_that_trains_on_the_gpu(digits, tmp_path):
    X, y = digits
    found = detector(skorch_net(device=GPU)).fit(X, y)
    assert is_on(GPU, found.estimator_.module_)
    assert "training" in found.layer_weights_
    assert (found.predict(X) == y).mean() > 0.8
    joblib.dump(found, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    np.testing.assert_allclose(loaded.transform(X), found.transform(X), atol=1e-4)


def test_detector_of_a_tensor_on_the_gpu(digits):
    X, y = digits
    expected = detector(skorch_net(device=GPU)).fit(X, y)
    on_gpu = torch.from_numpy(X).to(GPU)
    found = detector(skorch_net(device=GPU)).fit(on_gpu, torch.from_numpy(y).to(GPU))
    assert (found.predict(on_gpu) == expected.predict(X)).mean() > 0.97
    scores = found.score_samples(on_gpu, y), expected.score_samples(X, y)
    assert np.corrcoef(*scores)[0, 1] > 0.98


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("counts", [False, True])
def test_readers(many_digits, gaussian, counts):
    X, y = many_digits
    found = []
    for device in ("cpu", GPU):
        reader = RidgeReader(Scaler(counts).fit(X[:400]), gaussian, device, 0, 200)
        answers = reader.fit(X[:400], y[:400], 10)
        found.append((answers, reader.predict(torch.from_numpy(X[400:]))))
        assert reader.landmarks.device.type == "cpu"  # as what a detector keeps must be
        assert reader.coefficients.device.type == "cpu"
    for here, there in zip(*found, strict=True):
        np.testing.assert_allclose(there, here, atol=1e-3)


# Trainings


@pytest.mark.usefixtures("torch_state_kept")
def test_scoring_leaves_a_training_as_it_is(many_digits):
    plain = fit(make_net(device=GPU), *many_digits)
    net = fit(make_net(scoring(), device=GPU), *many_digits)
    assert len(net.history[:, "nmf_auc"]) == 3
    assert is_on(GPU, net.module_)
    for watched, weight in zip(
        net.module_.parameters(), plain.module_.parameters(), strict=True
    ):
        torch.testing.assert_close(watched, weight, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("torch_state_kept")
def test_monitor(many_digits):
    net = fit(make_net(device=GPU), *many_digits)
    monitors = [NonlinearityMonitor(*many_digits) for _ in range(2)]
    on_gpu = monitors[0].update(net.module_)
    assert is_on(GPU, net.module_)
    there = monitors[1].update(net.module_.cpu())
    assert there == pytest.approx(on_gpu, abs=0.02)

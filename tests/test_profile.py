"""Layer profiles, against hand-written compression and replay."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import ActivationNonlinearity, LayerProfile, layer_profile, nmf_path, nnls
from sknonlin._network.adapters import as_network
from sknonlin.batches import make_batches
from sknonlin.profile import ProfileSettings, measure_memorization, memorization_score
from tests.architectures import ARCHITECTURES, mlp, seeded

mpl.use("Agg")
RANKS = [1, 2, 4]


def images(name, n=30):
    """A random network of some architecture, samples, and labels."""
    make, shape = ARCHITECTURES[name]
    return seeded(make), seeded(torch.randn, n, *shape), np.arange(n) % 3


def test_errors_are_those_of_the_factorization(network, digits):
    X, y = digits
    profile = layer_profile(network, X, y, ranks=RANKS, batch_size=20, random_state=0)
    assert profile.layer_names == ["1", "3"]
    assert profile.errors.shape == profile.accuracies.shape == (2, 10, 3)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    for label, (batch,) in enumerate(make_batches(y, 20, 1, random_state=seed)):
        with torch.no_grad():
            first = network[:2](torch.from_numpy(X[batch]))
            for depth, A in enumerate([first, network[2:4](first)]):
                path = nmf_path(A, RANKS, random_state=seed)
                np.testing.assert_allclose(
                    profile.errors[depth, label], path.errors, atol=2e-3
                )


def test_accuracies_are_those_of_the_compressed_network(network, digits):
    X, y = digits
    profile = layer_profile(
        network, X, y, ranks=RANKS, compression="pca", batch_size=20, random_state=0
    )
    seed = np.random.RandomState(0).randint(2**31 - 1)
    for label, (batch,) in enumerate(make_batches(y, 20, 1, random_state=seed)):
        with torch.no_grad():
            A = network[:2](torch.from_numpy(X[batch]))
            U, s, V = torch.linalg.svd(A, full_matrices=False)
            for i, k in enumerate(RANKS):
                output = network[2:](U[:, :k] * s[:k] @ V[:k])
                expected = (output.argmax(1) == label).double().mean().item()
                assert profile.accuracies[0, label, i] == pytest.approx(expected)


def test_cumulative_compresses_what_came_before(network, digits):
    X, y = digits
    settings = {"ranks": RANKS, "batch_size": 20, "random_state": 0}
    alone = layer_profile(network, X, y, compression="pca", **settings)
    both = layer_profile(network, X, y, compression="pca", cumulative=True, **settings)
    np.testing.assert_allclose(both.errors[0], alone.errors[0], atol=1e-5)
    np.testing.assert_allclose(both.accuracies[0], alone.accuracies[0])
    seed = np.random.RandomState(0).randint(2**31 - 1)
    (batch,) = make_batches(y, 20, 1, random_state=seed)[4]
    with torch.no_grad():
        A = network[:2](torch.from_numpy(X[batch]))
        B = network[2:4](A)
        axes = [torch.linalg.svd(M, full_matrices=False)[2][:2] for M in (A, B)]
        compressed = network[2:4](A @ axes[0].T @ axes[0]) @ axes[1].T @ axes[1]
        expected = (compressed - B).norm() / B.norm()
        hits = (network[4](compressed).argmax(1) == 4).double().mean().item()
    assert both.errors[1, 4, 1] == pytest.approx(expected.item(), abs=1e-4)
    assert both.accuracies[1, 4, 1] == pytest.approx(hits)


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("compression", ["nmf", "pca", "ablation"])
@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "undecided"])
def test_real_architectures(name, compression, cumulative):
    module, X, y = images(name)
    profile = layer_profile(
        module,
        X,
        y,
        ranks=[1, 3, 10_000],
        compression=compression,
        cumulative=cumulative,
        batch_size=6,
        n_batches=2,
        random_state=0,
    )
    n_layers = getattr(module, "n_relus", 2)
    assert profile.batch_errors.shape == (n_layers, 3, 2, 3)
    assert ((profile.errors >= 0) & (profile.errors <= 1.5)).all()
    # Nothing is lost at a rank above all sizes.
    assert np.abs(profile.errors[:, :, 2]).max() < 1e-5
    np.testing.assert_allclose(
        profile.accuracies[:, :, 2], np.broadcast_to(profile.accuracy, (n_layers, 3))
    )
    if compression == "nmf" and not cumulative:
        assert (np.diff(profile.batch_errors, axis=-1) <= 1e-6).all()


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_the_same_network_from_three_libraries(digits):
    X, y = digits
    model = MLPClassifier((16, 16), max_iter=30, random_state=0).fit(X, y)
    module = seeded(mlp, 64, 16, 10)
    with torch.no_grad():
        for linear, weight, bias in zip(
            module[::2], model.coefs_, model.intercepts_, strict=True
        ):
            linear.weight.copy_(torch.from_numpy(weight.T))
            linear.bias.copy_(torch.from_numpy(bias))
    net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, verbose=0)
    net.initialize()
    profiles = [
        layer_profile(n, X, y, ranks=RANKS, random_state=0) for n in (model, module, net)
    ]
    for profile in profiles[1:]:
        np.testing.assert_allclose(profile.errors, profiles[0].errors, atol=5e-3)
        np.testing.assert_allclose(profile.accuracy, profiles[0].accuracy)
    assert profiles[0].layer_names == ["relu1", "relu2"]


def test_batches_of_all_kinds(network, digits):
    X, y = digits
    profile = layer_profile(
        network, X, y, ranks=RANKS, by_class=False, n_batches=3, random_state=0
    )
    assert profile.batch_errors.shape == (2, 1, 3, 3)
    assert profile.classes.tolist() == ["mixed"]
    # Fewer samples than batch_size, and one class.
    profile = layer_profile(
        network, X[y == 3][:7], y[y == 3][:7], ranks=RANKS, random_state=0
    )
    assert profile.classes.tolist() == [3]
    assert profile.errors.shape == (2, 1, 3)
    # Classes of one sample, and of different sizes.
    rare = np.r_[np.flatnonzero(y == 0)[:1], np.flatnonzero(y == 1)]
    profile = layer_profile(network, X[rare], y[rare], ranks=RANKS, random_state=0)
    np.testing.assert_allclose(profile.errors[:, 0], 0, atol=1e-6)
    assert (profile.errors[:, 1, 0] > 0).all()


def test_tidy_frame(network, digits):
    profile = layer_profile(network, *digits, ranks=RANKS, n_batches=2, random_state=0)
    frame = profile.to_frame()
    assert len(frame) == 2 * 10 * 2 * 3
    mean = frame.groupby(["depth", "class", "rank"])["error"].mean()
    np.testing.assert_allclose(mean, profile.errors.ravel(), rtol=1e-6)
    assert set(frame["layer"]) == {"1", "3"}
    assert frame["uncompressed_accuracy"].between(0, 1).all()


def test_picture(network, digits):
    profile = layer_profile(network, *digits, ranks=RANKS, random_state=0)
    ax = profile.plot()
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["relative error"], profile.error_auc, rtol=1e-5)
    np.testing.assert_allclose(lines["accuracy"], profile.accuracy_auc, rtol=1e-5)
    assert [t.get_text() for t in ax.get_xticklabels()] == profile.layer_names
    assert profile.plot(ax=ax) is ax
    mpl.pyplot.close("all")


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_regressor_has_errors_only(digits):
    X, y = digits
    model = MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, random_state=0).fit(X, y)
    profile = layer_profile(model, X, y, ranks=RANKS, random_state=0)
    assert np.isnan(profile.accuracies).all()
    assert np.isnan(profile.accuracy_auc).all()
    assert (profile.error_auc > 0).all()
    assert profile.plot().lines
    mpl.pyplot.close("all")


def test_without_replays_the_errors_are_the_same(network, digits):
    settings = {"ranks": RANKS, "random_state": 0}
    quick = layer_profile(network, *digits, replay=False, **settings)
    whole = layer_profile(network, *digits, **settings)
    np.testing.assert_array_equal(quick.errors, whole.errors)
    assert np.isnan(quick.accuracies).all()


def test_automatic_ranks_fit_the_widest_layer(digits):
    X, y = digits
    module = nn.Sequential(
        seeded(nn.Linear, 64, 5), nn.ReLU(), seeded(nn.Linear, 5, 12), nn.ReLU()
    )
    profile = layer_profile(module, X, y % 2, random_state=0)
    assert profile.ranks.tolist() == [1, 2, 3, 4, 6, 8, 11]
    assert (profile.errors[0, :, -2:] == 0).all()


def with_nan(module, X):
    X = X.clone()
    X[7] = torch.nan
    return module, X


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        (with_nan, {}, ValueError, "layer '1' contain NaN"),
        (lambda m, X: (m, X * 1e38 * 1e3), {}, ValueError, "contain (infinity|NaN)"),
        (lambda m, X: (LogisticRegression(), X), {}, TypeError, "LogisticRegression"),
        (lambda m, X: (MLPClassifier(), X), {}, NotFittedError, "not fitted"),
        (lambda m, X: (m, X[:20]), {}, ValueError, "X has 20 samples, but y has 30"),
        (lambda m, X: (m, X), {"layers": ["7"]}, ValueError, r"\['7'\] are not in"),
        (lambda m, X: (m, X), {"ranks": [0]}, ValueError, "at least 1"),
        (lambda m, X: (m, X), {"ranks": [2, 1]}, ValueError, "must increase"),
        (lambda m, X: (m, X), {"batch_size": 0}, ValueError, "'batch_size'"),
        (lambda m, X: (m, X), {"compression": "svd"}, ValueError, "'compression'"),
        (lambda m, X: (m, X), {"layers": ["0"]}, ValueError, "'0' are negative"),
        (lambda m, X: (m, X), {"max_iters": 3}, TypeError, "max_iters"),
    ],
)
def test_bad_input_leaves_the_network_as_it_was(change, settings, error, message):
    module, X = seeded(mlp), seeded(torch.randn, 30, 4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    net, data = change(module, X)
    with pytest.raises(error, match=message):
        layer_profile(
            net, data, np.arange(30) % 3, **{"ranks": RANKS, "random_state": 0} | settings
        )
    assert all(m.training for m in module.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(torch.equal(before[name], v) for name, v in module.state_dict().items())


def test_labels_that_the_network_does_not_know():
    module, X = seeded(mlp), seeded(torch.randn, 30, 4)
    with pytest.raises(ValueError, match=r"does not know: \[3, 4\]"):
        layer_profile(module, X, np.arange(30) % 5)


def test_gelu_with_pca():
    module, X = seeded(mlp, activation=nn.GELU), seeded(torch.randn, 30, 4)
    y = np.arange(30) % 3
    with pytest.raises(ValueError, match=r"'0' are negative.*compression='pca'"):
        layer_profile(module, X, y, layers=["0", "3"], random_state=0)
    profile = layer_profile(
        module, X, y, layers=["1", "3"], compression="pca", random_state=0
    )
    assert profile.layer_names == ["1", "3"]


def test_signed_activations_are_compressed_as_halves():
    module, X = seeded(mlp, activation=nn.GELU), seeded(torch.randn, 30, 4)
    y = np.arange(30) % 3
    profile = layer_profile(
        module, X, y, layers="auto", ranks=RANKS, batch_size=10, random_state=0
    )
    assert profile.layer_names == ["1", "3"]
    with torch.no_grad():
        A = module[:2](X)
        for label in range(3):
            own = A[y == label]
            halves = torch.cat([own.clamp(min=0), (-own).clamp(min=0)], 1)
            path = nmf_path(halves, RANKS, random_state=0)
            np.testing.assert_allclose(profile.errors[0, label], path.errors, atol=5e-3)
            for i, H in enumerate(path.components):
                left, right = (nnls(halves, H) @ H).chunk(2, 1)
                hits = (module[2:](left - right).argmax(1) == label).double().mean()
                assert abs(profile.accuracies[0, label, i] - hits) <= 0.21


def test_all_activations_of_a_relu_network_are_its_relus():
    module, X = seeded(mlp), seeded(torch.randn, 30, 4)
    y = np.arange(30) % 3
    for cumulative in (False, True):
        profiles = [
            layer_profile(
                module, X, y, layers=layers, cumulative=cumulative, random_state=0
            )
            for layers in ("relu", "auto")
        ]
        np.testing.assert_array_equal(profiles[0].batch_errors, profiles[1].batch_errors)
        np.testing.assert_array_equal(
            profiles[0].batch_accuracies, profiles[1].batch_accuracies
        )


def test_cumulative_profiles_of_signed_activations():
    module, X = seeded(mlp, activation=nn.Tanh), seeded(torch.randn, 30, 4)
    profile = layer_profile(
        module, X, np.arange(30) % 3, layers="auto", cumulative=True, random_state=0
    )
    assert (profile.batch_errors <= 1 + 1e-6).all()
    assert np.isfinite(profile.batch_accuracies).all()


def test_multilayer_perceptrons_with_tanh():
    X = np.random.default_rng(0).random((40, 4))
    y = np.arange(40) % 2
    net = MLPClassifier((8, 6), activation="tanh", max_iter=5, random_state=0)
    with pytest.warns(ConvergenceWarning):
        net.fit(X, y)
    profile = layer_profile(net, X, y, layers="auto", random_state=0)
    assert profile.layer_names == ["tanh1", "tanh2"]


def profile_of(errors):
    errors = np.asarray(errors, dtype=float).reshape(-1, 1, 1, 1)
    return LayerProfile(["a", "b"], np.array([0]), np.array([1]), errors, errors, errors)


@pytest.mark.parametrize(
    ("single", "mixed", "score"),
    [([0.1, 0.3], [0.5, 0.3], 0.5), ([0, 0], [0, 0], 0), ([1, 1], [0.5, 1], 1)],
)
def test_memorization_score_of_known_areas(single, mixed, score):
    found = memorization_score(profile_of(single), profile_of(mixed))
    assert found == pytest.approx(score)


@pytest.mark.parametrize("sizes", [[40] * 10, [310] + [10] * 9, [382] + [2] * 9])
def test_score_does_not_depend_on_the_balance_of_classes(sizes):
    """Where labels say nothing, a class is as non-linear as samples of any class."""
    module = seeded(mlp, n_inputs=8, width=32, n_classes=10)
    y = np.repeat(np.arange(10), sizes)
    X = seeded(torch.randn, len(y), 8)
    settings = ProfileSettings.of(ActivationNonlinearity(), batch_size=20, random_state=0)
    score, *_ = measure_memorization(as_network(module), X, y, settings)
    assert score > 0.9

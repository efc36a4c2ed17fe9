"""Samples and units are followed through whatever a network does to them.

Every operation is put between a layer and its ReLU. What the ReLU gives must become the
matrix of samples and positions by units that is spelled out here. Their products with
themselves agree whatever the order of the columns; lengths that coincide must not matter.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from sknonlin import MemorizationDetector, layer_profile
from tests._network.conftest import captured
from tests.architectures import seeded

SIZES = [(6, 4, 8), (4, 4, 4), (8, 4, 4), (2, 8, 2), (4, 8, 12)]  # samples, units, steps


def grouped(x, k):
    """Give (n, k, c / k, ...) of (n, c, ...)."""
    return x.reshape(len(x), k, x.shape[1] // k, *x.shape[2:])


def lambdas(**operations):
    return list(operations.items())


# Operations on maps (n, c, *positions) of any number of axes, units on the second
MAPS = lambdas(
    cat=lambda x: torch.cat([x, -x], 1),
    cat_positions=lambda x: torch.cat([x, -x], 2),
    chunk=lambda x: x.chunk(2, 1)[1],
    split=lambda x: x.split(2, 1)[-1],
    split_with_sizes=lambda x: x.split([1, x.shape[1] - 1], 1)[1],
    glu=lambda x: F.glu(x, 1),
    repeat=lambda x: x.repeat(1, 2, *[1] * (x.ndim - 2)),
    repeat_positions=lambda x: x.repeat(1, 1, 3, *[1] * (x.ndim - 3)),
    slice_units=lambda x: x[:, 1:],
    one_unit=lambda x: x[:, :1],
    every_other=lambda x: x[:, ::2],
    slice_positions=lambda x: x[:, :, 1:],
    chosen_units=lambda x: x[:, [0, 2]],
    index_select=lambda x: x.index_select(1, torch.tensor([1, 3, 0])),
    chosen_positions=lambda x: x[:, :, [1, 0]],
    pad_units=lambda x: F.pad(x, [0] * (2 * (x.ndim - 2)) + [1, 2]),
    pad_positions=lambda x: F.pad(x, [1, 1]),
    roll=lambda x: x.roll(1, 1),
    flip=lambda x: x.flip(1),
    cumsum=lambda x: x.cumsum(1),
    softmax=lambda x: x.softmax(1) - 0.2,
    sort=lambda x: x.sort(1).values,
    topk=lambda x: x.topk(3, 1).values,
    stack_and_sum=lambda x: torch.stack([x, x.flip(1)], 1).sum(1),
    stack_last_and_max=lambda x: torch.stack([x, x.flip(1)], -1).amax(-1),
    maxout=lambda x: grouped(x, x.shape[1] // 2).amax(2),
    maxout_first=lambda x: grouped(x, 2).amax(1),
    shuffled=lambda x: grouped(x, 2).transpose(1, 2).reshape(x.shape),
    instance_norm=F.instance_norm,
    group_norm=lambda x: F.group_norm(x, 2),
    group_norm_of_one=lambda x: F.group_norm(x, 1),
    layer_norm=lambda x: F.layer_norm(x, x.shape[1:]),
    batch_norm=lambda x: F.batch_norm(x, torch.zeros(x.shape[1]), torch.ones(x.shape[1])),
    own_norm=lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1),
    gate=lambda x: x * x.mean(2, keepdim=True).sigmoid(),
    unit_gate=lambda x: x * torch.ones(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2)),
    where=lambda x: torch.where(x > 0, x, 0.1 * x),
    unsqueeze_and_squeeze=lambda x: x.unsqueeze(1).squeeze(1),
    expanded=lambda x: x.mean(2, keepdim=True).expand_as(x),
    channels_last_view=lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    added=lambda x: x + x.mean(1, keepdim=True),
    in_place=lambda x: x.clone().mul_(2).add_(0.1),
    double_and_back=lambda x: x.double().float(),
    einsum=lambda x: torch.einsum("nc...,cd->nd...", x, torch.eye(x.shape[1]) + 0.1),
    reversed_batch_and_back=lambda x: x.flip(0).flip(0),
    unbound=lambda x: torch.stack(x.unbind(2), 2),
    masked=lambda x: x.masked_fill(x < -1, 0.0),
    flattened_and_back=lambda x: x.flatten(1).unflatten(1, x.shape[1:]),
    batch_joined_and_back=lambda x: x.flatten(0, 1).view(x.shape),
)
# Of one axis of positions
SERIES = lambdas(
    pool=lambda x: F.max_pool1d(x, 2),
    average=lambda x: F.avg_pool1d(x, 2),
    adaptive=lambda x: F.adaptive_avg_pool1d(x, 2),
    upsample=lambda x: F.interpolate(x, scale_factor=2),
    linear_upsample=lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
    convolution=lambda x: F.conv1d(x, torch.eye(x.shape[1])[:, :, None]),
    depthwise=lambda x: F.conv1d(x, torch.ones(x.shape[1], 1, 1), groups=x.shape[1]),
    transposed=lambda x: F.conv_transpose1d(x, torch.eye(x.shape[1])[:, :, None]),
    as_image=lambda x: F.max_pool2d(x[:, :, None], (1, 2))[:, :, 0],
    reflected=lambda x: F.pad(x, (1, 1), mode="reflect"),
)
# Of two
IMAGES = lambdas(
    pool=lambda x: F.max_pool2d(x, 2),
    average=lambda x: F.avg_pool2d(x, 2),
    adaptive=lambda x: F.adaptive_max_pool2d(x, 2),
    upsample=lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    pixel_shuffle=lambda x: F.pixel_shuffle(x, 2),
    pixel_unshuffle=lambda x: F.pixel_unshuffle(x, 2),
    channel_shuffle=lambda x: F.channel_shuffle(x, 2),
    memory_format=lambda x: x.contiguous(memory_format=torch.channels_last),
    joined_axes=lambda x: x.flatten(2),
    transposed_axes=lambda x: x.transpose(2, 3),
    layer_norm_last=lambda x: F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1),
    grid_sample=lambda x: F.grid_sample(
        x,
        F.affine_grid(torch.eye(2, 3).repeat(len(x), 1, 1), x.shape, False),
        align_corners=False,
    ),
)
VOLUMES = lambdas(
    pool=lambda x: F.max_pool3d(x, 2),
    upsample=lambda x: F.interpolate(x, scale_factor=2),
    frames=lambda x: (
        F.conv2d(x.transpose(1, 2).flatten(0, 1), torch.eye(x.shape[1])[:, :, None, None])
        .unflatten(0, (len(x), -1))
        .transpose(1, 2)
    ),
)


def matrix(x):
    """Samples and positions by units, of (n, c, *positions)."""
    return x.movedim(1, -1).flatten(0, -2)


def gram(rows):
    """What tells matrices apart but for the order of their units."""
    return rows @ rows.T


class Between(nn.Module):
    """A convolution, an operation and a ReLU."""

    def __init__(self, n_axes, n_units, operation):
        super().__init__()
        self.conv = getattr(nn, f"Conv{n_axes}d")(3, n_units, 1)
        self.operation = operation

    def before(self, x):
        return self.operation(self.conv(x))

    def forward(self, x):
        return self.before(x).relu().flatten(1)[:, :2]


def assert_matrix(module, X, expected, name="relu"):
    """The layer's rows are those expected, up to the order of the units."""
    n = len(X)
    with captured(module, X) as capture:
        tape, layouts = capture.record(X, n)
        found = layouts[name].rows(tape.activations[name].tensor)
        A = tape.activations[name].tensor
        assert torch.equal(layouts[name].restore(found.clone()), A)
    assert found.shape[::2] == (n, expected.shape[1])
    torch.testing.assert_close(gram(found.flatten(0, 1)), gram(expected))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize(
    "operation", [op for _, op in MAPS], ids=[name for name, _ in MAPS]
)
def test_maps_of_any_axes(operation, n_axes, sizes):
    n, c, steps = sizes
    module = seeded(Between, n_axes, c, operation).eval()
    X = seeded(torch.randn, n, 3, steps, *[2, 3][: n_axes - 1])
    with torch.no_grad():
        expected = matrix(module.before(X).relu())
    assert_matrix(module, X, expected)


def cases(operations, n_axes):
    return [pytest.param(op, n_axes, id=f"{name}-{n_axes}") for name, op in operations]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(
    ("operation", "n_axes"), [*cases(SERIES, 1), *cases(IMAGES, 2), *cases(VOLUMES, 3)]
)
def test_maps_of_some_axes(operation, n_axes, sizes):
    n, c, steps = sizes
    module = seeded(Between, n_axes, c, operation).eval()
    X = seeded(torch.randn, n, 3, *[steps, 4, 2][:n_axes])
    with torch.no_grad():
        expected = matrix(module.before(X).relu())
    assert_matrix(module, X, expected)


# Operations on sequences (n, t, d), and what makes samples and positions by units of it
def rows(x):
    """All axes but the last are samples and positions."""
    return x.flatten(0, -2)


def by_step(x):
    """Of (t, n, d)."""
    return rows(x.transpose(0, 1))


SEQUENCES = {
    "as_it_is": (lambda x: x, rows),
    "norm": (lambda x: F.layer_norm(x, x.shape[2:]), rows),
    "steps_first": (lambda x: x.transpose(0, 1), by_step),
    "samples_and_steps_joined": (lambda x: x.flatten(0, 1), lambda x: x),
    "steps_and_samples_joined": (lambda x: x.transpose(0, 1).flatten(0, 1), lambda x: x),
    "heads": (lambda x: x.unflatten(2, (2, -1)), lambda x: rows(x.flatten(2))),
    "heads_first": (
        lambda x: x.unflatten(2, (2, -1)).transpose(1, 2),
        lambda x: rows(x.transpose(1, 2).flatten(2)),
    ),
    "units_second": (lambda x: x.transpose(1, 2), lambda x: rows(x.transpose(1, 2))),
    "mean_of_steps": (lambda x: x.mean(1), lambda x: x),
    "last_step": (lambda x: x[:, -1], lambda x: x),
    "first_half": (lambda x: x[:, : x.shape[1] // 2], rows),
    "class_token": (
        lambda x: torch.cat([torch.ones(1, 1, x.shape[2]).expand(len(x), -1, -1), x], 1),
        rows,
    ),
    "embedded_places": (lambda x: x + torch.arange(x.shape[1])[:, None] / 10, rows),
    "gated": (lambda x: torch.cat([x, x], 2).chunk(2, 2)[0] * x.sigmoid(), rows),
    "windows": (
        lambda x: x.unflatten(1, (2, -1)).flatten(0, 1),
        lambda x: x.flatten(0, 1),
    ),
    "convolved": (
        lambda x: F.conv1d(x.transpose(1, 2), torch.eye(x.shape[2])[:, :, None]),
        lambda x: rows(x.transpose(1, 2)),
    ),
    "attended": (
        lambda x: F.scaled_dot_product_attention(
            *[x.unflatten(2, (2, -1)).contiguous()] * 3
        ),
        lambda x: rows(x.flatten(2)),
    ),
    "multiplied": (lambda x: x @ torch.eye(x.shape[2]), rows),
    "mixed_steps": (lambda x: torch.eye(x.shape[1]) @ x, rows),
    "multiplied_from_the_left": (
        lambda x: torch.eye(x.shape[2]) @ x.mT,
        lambda x: rows(x.mT),
    ),
    "outer_sum": (
        lambda x: x[:, :, None] + x[:, None],
        rows,
    ),
    "two_samples_as_one": (
        lambda x: torch.cat([x, -x], 0),
        lambda x: x.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 2),
    ),
}


class Sequence(nn.Module):
    """A linear map of every step, an operation and a ReLU."""

    def __init__(self, n_units, operation):
        super().__init__()
        self.linear = nn.Linear(3, n_units)
        self.operation = operation

    def before(self, x):
        return self.operation(self.linear(x))

    def forward(self, x):
        return self.before(x).relu().sum().expand(len(x), 2)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(name, sizes):
    n, d, t = sizes
    operation, expected = SEQUENCES[name]
    module = seeded(Sequence, d, operation).eval()
    X = seeded(torch.randn, n, t, 3)
    with torch.no_grad():
        A = module.before(X).relu()
    if name == "steps_and_samples_joined":
        A = A.unflatten(0, (t, n)).transpose(0, 1).flatten(0, 1)
    assert_matrix(module, X, expected(A))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_networks(kind, batch_first, bidirectional):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(3, 4, batch_first=batch_first, bidirectional=bidirectional)

        def before(self, x):
            return self.rnn(x if batch_first else x.transpose(0, 1))[0]

        def forward(self, x):
            x = self.before(x).relu()
            return x.sum(1 if batch_first else 0)[:, :2]

    module, X = seeded(Recurrent).eval(), seeded(torch.randn, 5, 5, 3)
    with torch.no_grad():
        A = module.before(X).relu()
    assert_matrix(module, X, rows(A) if batch_first else by_step(A))


def test_repeated_units_count_once_or_twice_alike():
    """The relative errors are the same whether columns or rows are there twice."""
    repeated = seeded(Between, 1, 4, lambda x: x.repeat_interleave(2, 1)).eval()
    plain = seeded(Between, 1, 4, lambda x: x).eval()
    X, y = seeded(torch.randn, 40, 3, 6), torch.zeros(40, dtype=torch.long)
    errors = [
        layer_profile(net, X, y, ranks=[1, 2], batch_size=40, random_state=0).errors
        for net in (repeated, plain)
    ]
    np.testing.assert_allclose(*errors, atol=1e-4)


def in_inference_mode(module):
    class Decorated(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        @torch.inference_mode()
        def forward(self, x):
            return self.inner(x)

    return Decorated()


class Composed(nn.Module):
    """Operations that arrive whole in inference mode."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 8, 3), nn.InstanceNorm1d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = F.relu6(self.norm(self.conv(x)))
        return self.head(F.adaptive_avg_pool1d(F.selu(x).relu(), 1).flatten(1))


def test_inference_mode_changes_nothing():
    module = seeded(Composed).eval()
    X, y = seeded(torch.randn, 60, 3, 9), torch.arange(60) % 2
    settings = {"ranks": [1, 2], "batch_size": 20, "random_state": 0}
    expected = layer_profile(module, X, y, **settings)
    with torch.inference_mode():
        found = layer_profile(module, X, y, **settings)
    decorated = layer_profile(in_inference_mode(module), X, y, **settings)
    assert found.layer_names == expected.layer_names
    for other in (found, decorated):
        assert len(other.layer_names) == 2
        np.testing.assert_array_equal(other.errors, expected.errors)
        np.testing.assert_array_equal(other.accuracies, expected.accuracies)


def last_pass_of_two(n_steps_first):
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = x.transpose(0, 1) if n_steps_first else x.flatten(0, 1)
            x = self.linear(x).relu()
            x = x if n_steps_first else x.unflatten(0, (-1, 2)).transpose(0, 1)
            return self.head(x.mean(0))

    return Joined()


@pytest.mark.parametrize("n_steps_first", [False, True])
@pytest.mark.parametrize("n", [2, 18, 34, 50])
def test_a_pass_of_two_samples_with_two_steps(n_steps_first, n):
    X, y = seeded(torch.randn, 60, 2, 4).numpy(), np.arange(60) % 2
    module = seeded(last_pass_of_two, n_steps_first)
    net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss).initialize()
    found = MemorizationDetector(FrozenEstimator(net), random_state=0).fit(X, y)
    np.testing.assert_allclose(
        found.transform(X[:n]), found.transform(X)[:n], rtol=1e-5, atol=1e-5
    )


class MapAttention(nn.Module):
    """Attention between the positions of a map, with two heads, as in BoTNet."""

    def __init__(self, norm):
        super().__init__()
        self.qkv, self.norm, self.relu = nn.Conv2d(3, 24, 1), norm, nn.ReLU()
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        n, _, height, width = x.shape
        q, k, v = self.qkv(x).reshape(3 * n, 2, 4, height * width).flatten(0, 1).chunk(3)
        attended = (q.mT @ k).softmax(-1) @ v.mT
        x = attended.mT.reshape(n, 8, height, width)
        return self.out(self.relu(self.norm(x)).mean((2, 3)))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(8), nn.GroupNorm(2, 8)], ids=str)
def test_heads_that_a_norm_makes_channels_again(norm):
    X = seeded(torch.randn, 6, 3, 4, 5)
    with captured(seeded(lambda: MapAttention(norm)).eval(), X) as capture:
        _, layouts = capture.record(X, len(X))
    (layout,) = layouts.values()
    assert layout.n_units == 8

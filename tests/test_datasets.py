"""Real data and label noise."""

import gzip
import io
import shutil
import wave
from urllib.error import URLError

import numpy as np
import pytest

from sknonlin import datasets
from sknonlin.datasets import (
    fit_into_a_second,
    load_digits,
    load_fashion_mnist,
    make_noisy_labels,
    make_spoken_digits,
)

KINDS = ["uniform", "flip", "pairwise", "feature", "boundary"]
Y = np.repeat(np.arange(5), 400)
X = np.random.default_rng(0).random((2000, 6))


def test_digits():
    digits = load_digits()
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.data.dtype == np.float32
    assert digits.data.max() == 1
    assert np.shares_memory(digits.data, digits.images)
    data, target = load_digits(return_X_y=True)
    assert np.array_equal(data, digits.data)
    assert np.array_equal(target, digits.target)


@pytest.fixture
def folder(tmp_path):
    """Write a tiny Fashion-MNIST in the format of the real one."""
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 4), ("t10k", 3)):
        images = bytes(16) + rng.integers(0, 256, n * 784, dtype=np.uint8).tobytes()
        labels = bytes(8) + np.arange(n, dtype=np.uint8).tobytes()
        for name, content in (("images-idx3", images), ("labels-idx1", labels)):
            with gzip.open(tmp_path / f"{prefix}-{name}-ubyte.gz", "wb") as file:
                file.write(content)
    return tmp_path


def test_fashion_mnist_from_files(folder, monkeypatch):
    train = load_fashion_mnist(data_home=folder)
    assert train.images.shape == (4, 1, 28, 28)
    assert train.data.dtype == np.float32
    assert 0.9 < train.data.max() <= 1
    assert train.target.tolist() == [0, 1, 2, 3]
    assert len(train.target_names) == 10
    monkeypatch.setattr(datasets, "FASHION_MNIST_FOLDER", folder)
    data, target = load_fashion_mnist(subset="test", return_X_y=True)
    assert data.shape == (3, 784)
    assert target.dtype == np.int64


def test_fashion_mnist_from_openml(tmp_path, monkeypatch):
    table = np.arange(70_000)[:, None] % 256 * np.ones(784, np.uint8)
    labels = (np.arange(70_000) % 10).astype(str)
    monkeypatch.setattr(datasets, "FASHION_MNIST_FOLDER", tmp_path / "missing")
    monkeypatch.setattr(datasets, "fetch_openml", lambda *a, **k: (table, labels))
    test = load_fashion_mnist(subset="test")
    assert test.images.shape == (10_000, 1, 28, 28)
    assert test.target[:3].tolist() == [0, 1, 2]

    def fails(*args, **settings):
        raise URLError("no network")

    monkeypatch.setattr(datasets, "fetch_openml", fails)
    with pytest.raises(OSError, match="dataset-fashion-mnist, or name the folder"):
        load_fashion_mnist()


def test_a_second_with_the_word_in_its_middle():
    rate = 22050
    tone = np.sin(np.arange(rate // 2) * 0.3)
    sound = np.concatenate([np.zeros(rate // 4), 900 * tone, np.zeros(rate)])
    second = fit_into_a_second(sound, rate)
    assert second.dtype == np.int16
    assert second.shape == (8000,)
    assert np.abs(second).max() == 2**15 - 1
    loud = np.flatnonzero(np.abs(second) > 1000)
    assert loud[0] == pytest.approx(2000, abs=20)
    assert loud[-1] == pytest.approx(6000, abs=20)
    assert np.abs(fit_into_a_second(np.tile(tone, 4), rate)[:9]).max() > 1000  # cut


@pytest.fixture
def espeak(monkeypatch):
    """Count the words spoken; where espeak-ng is missing, tones stand in for them."""
    spoken = []

    def tone(command, **settings):
        spoken.append(command)
        digit = datasets.WORDS.index(command[-1])
        sound = io.BytesIO()
        with wave.open(sound, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(22050)
            wave_form = np.sin(np.arange(9000) * (0.01 + 0.01 * digit)) * 9999
            file.writeframes(wave_form.astype("<i2").tobytes())
        return type("Completed", (), {"stdout": sound.getvalue()})

    def counted(command, **settings):
        spoken.append(command)
        return run(command, **settings)

    run = datasets.subprocess.run
    missing = shutil.which("espeak-ng") is None
    monkeypatch.setattr(datasets.subprocess, "run", tone if missing else counted)
    if missing:
        monkeypatch.setattr(datasets.shutil, "which", lambda name: name)
    return spoken


def test_spoken_digits(espeak, tmp_path):
    digits = make_spoken_digits(20, data_home=tmp_path)
    assert len(espeak) == 20
    assert digits.data.shape == (20, 8000)
    assert digits.data.dtype == np.float32
    assert np.abs(digits.data).max(1) == pytest.approx(1)
    assert np.bincount(digits.target).tolist() == [2] * 10
    assert len(set(digits.voices)) > 5
    assert digits.speeds.min() >= 110
    assert digits.pitches.max() <= 90
    said = {(command[-1], command[2]) for command in espeak}
    words = digits.target_names[digits.target]
    assert said == set(zip(words, digits.voices, strict=True))
    data, target = make_spoken_digits(20, data_home=tmp_path, return_X_y=True)
    assert len(espeak) == 20  # kept
    assert np.array_equal(data, digits.data)
    assert np.array_equal(target, digits.target)
    other = make_spoken_digits(20, 1, data_home=str(tmp_path))
    assert not np.array_equal(other.voices, digits.voices)
    assert len(list(tmp_path.iterdir())) == 2


def test_no_espeak(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="apt-get install espeak-ng"):
        make_spoken_digits(10, data_home=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_seeded_and_leaves_y(kind):
    before = Y.copy()
    noisy = make_noisy_labels(Y, 0.3, 0, kind=kind, X=X)
    assert np.array_equal(Y, before)
    assert noisy.dtype == Y.dtype
    assert np.array_equal(noisy, make_noisy_labels(Y, 0.3, 0, kind=kind, X=X))
    assert not np.array_equal(noisy, make_noisy_labels(Y, 0.3, 1, kind=kind, X=X))
    assert np.array_equal(make_noisy_labels(Y, 0, 0, kind=kind, X=X), Y)
    wrong = {"uniform": 0.24}.get(kind, 0.3)
    assert (noisy != Y).mean() == pytest.approx(wrong, abs=0.03)


def test_what_the_kinds_change():
    flipped = make_noisy_labels(Y, 0.25, 0, kind="flip")
    assert (flipped != Y).sum() == 500
    moves = np.bincount((flipped - Y) % 5)
    assert moves[1:].min() > 90
    pairwise = make_noisy_labels(Y, 0.25, 0, kind="pairwise")
    assert np.bincount((pairwise - Y) % 5).tolist() == [1500, 500]
    redrawn = make_noisy_labels(Y, 1, 0)
    assert abs(np.corrcoef(redrawn, Y)[0, 1]) < 0.05
    assert (make_noisy_labels(Y, 1, 0, kind="flip") != Y).all()


def test_feature_noise_depends_on_the_features():
    rows = np.repeat(np.random.default_rng(1).random((4, 6)) * 20, 500, axis=0)
    y = np.zeros(2000, dtype=int)
    y[1::2] = 1
    y[2::4] = 2
    noisy = make_noisy_labels(y, 0.4, 0, kind="feature", X=rows)
    for start in range(0, 2000, 500):
        part = slice(start, start + 500)
        moved = noisy[part][(y[part] == 0) & (noisy[part] != 0)]
        assert np.bincount(moved).max() > 0.8 * len(moved)


def test_class_noise_follows_its_matrix():
    transition = np.eye(5)
    transition[0] = [0.5, 0.5, 0, 0, 0]
    noisy = make_noisy_labels(Y, kind="class", transition=transition, random_state=0)
    assert (noisy[Y == 0] == 1).mean() == pytest.approx(0.5, abs=0.08)
    assert np.array_equal(noisy[Y > 0], Y[Y > 0])


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_strings(kind):
    names = np.array(["ant", "bee", "cat", "dog", "eel"])
    noisy = make_noisy_labels(names[Y], 0.2, 0, kind=kind, X=X)
    numbers = make_noisy_labels(Y, 0.2, 0, kind=kind, X=X)
    assert np.array_equal(noisy, names[numbers])


@pytest.mark.parametrize(
    ("y", "settings", "message"),
    [
        (np.zeros(3), {}, "only 1 class"),
        (Y, {"p": 1.5}, "'p' parameter"),
        (Y, {"kind": "other"}, "'kind' parameter"),
        (Y, {"kind": "feature"}, "needs X"),
        (Y, {"kind": "feature", "X": X[:3]}, "inconsistent numbers of samples"),
        (Y, {"kind": "class"}, "needs transition"),
        (Y, {"kind": "class", "transition": np.eye(3)}, r"needs shape \(5, 5\)"),
        (Y, {"kind": "class", "transition": 2 * np.eye(5)}, "must be probabilities"),
    ],
)
def test_bad_input(y, settings, message):
    with pytest.raises(ValueError, match=message):
        make_noisy_labels(y, **settings)

"""Real data and label noise."""

import errno
import gzip
import io
import os
import shutil
import tracemalloc
import wave
from subprocess import CompletedProcess
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import DataConversionWarning

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


def idx(items, magic=None, **header):
    """Items as the bytes of a file, whose header may tell otherwise."""
    magic = {1: 2049, 3: 2051}[items.ndim] if magic is None else magic
    sides = header.get("shape", items.shape[1:])
    numbers = [magic, header.get("count", len(items)), *sides]
    return np.array(numbers, ">u4").tobytes() + items.astype(np.uint8).tobytes()


PICTURES = np.random.default_rng(0).integers(0, 256, (4, 28, 28))
LABELS = np.arange(4)


@pytest.fixture
def folder(tmp_path):
    """Write a tiny Fashion-MNIST in the format of the real one."""
    for prefix, n in (("train", 4), ("t10k", 3)):
        for name, items in (("images-idx3", PICTURES[:n]), ("labels-idx1", LABELS[:n])):
            content = gzip.compress(idx(items))
            (tmp_path / f"{prefix}-{name}-ubyte.gz").write_bytes(content)
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


WHOLE = gzip.compress(idx(PICTURES))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("images", idx(PICTURES, magic=2050), "begins with the number 2050 and is damaged"),
        ("images", idx(np.arange(100) % 10), "the number 2049 and is one of labels"),
        ("labels", idx(PICTURES), "the number 2051 and is one of images"),
        ("images", idx(PICTURES[:3]), "announces 3 images, but there are 4 labels"),
        ("images", idx(PICTURES, count=2**32 - 1), "announces 4294967295 images"),
        ("labels", idx(LABELS, count=2**32 - 1), "announces 4294967295 labels"),
        ("labels", idx(LABELS[:0]), "announces 0 labels"),
        ("labels", idx(LABELS[:3]), "announces 4 images, but there are 3 labels"),
        ("labels", idx(LABELS + 7), "label 10, above 9"),
        ("images", idx(PICTURES[:, :20, :20]), r"images have \[20, 20\] pixels, not \[28"),
        ("images", idx(PICTURES) + b"0", "holds more than the 3136 bytes"),
        ("images", idx(PICTURES)[:-1], "holds less than the 3136 bytes"),
        ("labels", idx(LABELS, count=5), "holds less than the 5 bytes"),
        ("images", b"", "0 bytes, less than its header of 16"),
        ("labels", b"1234567", "7 bytes, less than its header of 8"),
    ],
)
def test_fashion_mnist_of_other_content(folder, file, content, message):
    kind = {"images": "images-idx3", "labels": "labels-idx1"}[file]
    path = folder / f"train-{kind}-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    named = file if "but there are 3" not in message else "images"
    with pytest.raises(ValueError, match=rf"train-{named}.*{message}.*Put the four files"):
        load_fashion_mnist(data_home=folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        idx(PICTURES),  # not compressed
        WHOLE[:5],
        WHOLE[:-9],
        WHOLE[:-3],
        WHOLE[:-8] + bytes(8),  # another checksum
        WHOLE[:200] + bytes(100) + WHOLE[300:],
        WHOLE + b"something else",
    ],
)
def test_fashion_mnist_of_damaged_files(folder, content):
    path = folder / "t10k-images-idx3-ubyte.gz"
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t10k-images-idx3.*\. Put the four files"):
        load_fashion_mnist(subset="test", data_home=folder)


def test_fashion_mnist_that_is_not_there(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"train-images.*Put the four files"):
        load_fashion_mnist(data_home=folder)
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"train-images.*Put the four files"):
        load_fashion_mnist(data_home=folder)


@pytest.mark.parametrize("kind", ["labels-idx1", "images-idx3"])
def test_fashion_mnist_unpacks_no_more_than_it_should_hold(folder, kind):
    path = folder / f"train-{kind}-ubyte.gz"
    with gzip.open(path, "ab") as file:  # 64 MiB in 64 KiB
        file.write(bytes(2**26))
    tracemalloc.start()
    with pytest.raises(ValueError, match="holds more than"):
        load_fashion_mnist(data_home=folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_fashion_mnist_from_openml(tmp_path, monkeypatch):
    table = np.arange(70_000)[:, None] % 256 * np.ones(784, np.uint8)
    labels = (np.arange(70_000) % 10).astype(str)
    monkeypatch.setattr(datasets, "FASHION_MNIST_FOLDER", tmp_path / "missing")
    monkeypatch.setattr(datasets, "fetch_openml", lambda *a, **k: (table, labels))
    test = load_fashion_mnist(subset="test")
    assert test.images.shape == (10_000, 1, 28, 28)
    assert test.target[:3].tolist() == [0, 1, 2]

    monkeypatch.setattr(datasets, "fetch_openml", lambda *a, **k: (table[:9], labels))
    with pytest.raises(ValueError, match=r"OpenML gave a table of shape \(9, 784\)"):
        load_fashion_mnist()

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


def wave_file(frames, rate=22050, channels=1, width=2):
    """Sound as espeak-ng writes it."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return sound.getvalue()


def tone(digit):
    return (np.sin(np.arange(9000) * (0.01 + 0.01 * digit)) * 9999).astype("<i2").tobytes()


def completed(stdout, stderr=b"", returncode=0):
    return CompletedProcess([], returncode, stdout, stderr)


@pytest.fixture
def espeak(monkeypatch):
    """Count the words spoken; where espeak-ng is missing, tones stand in for them."""
    spoken = []

    def hum(command, **settings):
        spoken.append(command)
        return completed(wave_file(tone(datasets.WORDS.index(command[-1]))))

    def counted(command, **settings):
        spoken.append(command)
        return run(command, **settings)

    run = datasets.subprocess.run
    missing = shutil.which("espeak-ng") is None
    monkeypatch.setattr(datasets.subprocess, "run", hum if missing else counted)
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


def spoken_by(monkeypatch, stdout, stderr=b"", returncode=0):
    """Let a program that gives this take espeak-ng's place."""
    said = completed(stdout, stderr, returncode)
    monkeypatch.setattr(datasets.shutil, "which", lambda name: name)
    monkeypatch.setattr(datasets.subprocess, "run", lambda *args, **settings: said)


NOISE = tone(3)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ((b"",), "0 bytes"),
        ((b"Usage: espeak-ng [options]",), "26 bytes, b'Usage: espeak-ng"),
        ((b"", b"voice does not exist", 1), "exit status 1.*'voice does not exist'"),
        ((wave_file(b""),), "silence"),
        ((wave_file(bytes(9000)),), "silence"),
        ((wave_file(NOISE)[:30],), "30 bytes, b'RIFF"),
        ((wave_file(NOISE)[:-1],), "18043 bytes"),
        ((wave_file(NOISE, channels=2),), "not one channel of 16 bits"),
        ((wave_file(NOISE, width=1),), "not one channel of 16 bits"),
        ((wave_file(NOISE, rate=1),), "at a usual rate"),
        ((wave_file(NOISE, rate=2**30),), "at a usual rate"),
    ],
)
def test_a_program_that_says_no_word(tmp_path, monkeypatch, said, message):
    spoken_by(monkeypatch, *said)
    with pytest.raises(RuntimeError, match=f"espeak-ng gave no sound for.*{message}"):
        make_spoken_digits(10, data_home=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Ten sounds, and the file that they are kept in."""
    spoken_by(monkeypatch, wave_file(NOISE))
    digits = make_spoken_digits(10, data_home=tmp_path)
    [path] = tmp_path.iterdir()
    return digits, path


def spoilt(content):
    """Contents of a file that is not whole any more, in many ways."""
    rng = np.random.default_rng(0)
    yield from (b"", b"text", gzip.compress(content), content + content[:100])
    yield from (content[:end] for end in rng.integers(1, len(content), 40))
    for start in rng.integers(0, len(content), 200):
        yield content[:start] + rng.bytes(4) + content[start + 4 :]


def test_a_kept_file_that_is_damaged_is_made_again(kept):
    digits, path = kept
    whole, speech = path.read_bytes(), datasets.draw_speech(10, 0)
    refused = 0
    for content in spoilt(whole):
        path.write_bytes(content)
        try:
            sounds = datasets.kept_sounds(path, speech)
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(sounds, np.float32(digits.data * (2**15 - 1)))
    assert refused > 150
    for content in (b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match=rf"{path.name} is not what was kept.*again"):
            again = make_spoken_digits(10, data_home=path.parent)
        np.testing.assert_array_equal(again.data, digits.data)
        np.testing.assert_array_equal(datasets.kept_sounds(path, speech).shape, (10, 8000))


@pytest.mark.parametrize(("n_samples", "seed"), [(11, 0), (10, 1), (9, 0)])
def test_a_kept_file_of_other_sounds_is_made_again(kept, n_samples, seed):
    _, path = kept
    other = path.with_name(f"sknonlin_spoken_digits_{n_samples}_{seed}.npz")
    path.rename(other)
    with pytest.warns(UserWarning, match=rf"{other.name} is not.*other .* than are asked"):
        digits = make_spoken_digits(n_samples, seed, data_home=path.parent)
    assert len(digits.data) == len(digits.target) == len(digits.voices) == n_samples


@pytest.mark.parametrize("sounds", [np.zeros((10, 8000)), np.zeros((10, 9), np.int16)])
def test_kept_sounds_of_another_shape_or_dtype_are_made_again(kept, sounds):
    _, path = kept
    datasets.save(path, {"sounds": sounds, **datasets.draw_speech(10, 0)})
    with pytest.warns(UserWarning, match="sounds of shape"):
        assert make_spoken_digits(10, data_home=path.parent).data.shape == (10, 8000)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("step", ["savez_compressed", "replace"])
def test_nothing_is_left_of_a_file_that_cannot_be_written(
    tmp_path, monkeypatch, error, step
):
    def fails(*args, **settings):
        raise error

    spoken_by(monkeypatch, wave_file(NOISE))
    monkeypatch.setattr(np if step == "savez_compressed" else os, step, fails)
    with pytest.raises(type(error)) as raised:
        make_spoken_digits(10, data_home=tmp_path)
    if isinstance(error, OSError):
        assert raised.value.errno == errno.ENOSPC
        message = str(raised.value)
        assert str(tmp_path / "sknonlin_spoken_digits_10_0.npz") in message
        assert "No space left" in message
        assert "another folder as data_home" in message
    assert not list(tmp_path.iterdir())


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
        (np.array([0, 1, np.nan]), {}, "y contains NaN"),
        (["a", "b", None], {}, "y contains NaN"),
        (["a", "b", np.nan], {}, "y contains NaN"),
        (np.array(["a", "b", np.nan], dtype=object), {}, "y contains NaN"),
        (pd.Series([0, 1, pd.NA], dtype="Int64"), {}, "y contains NaN"),
        (pd.Series(["a", "b", pd.NA], dtype="string"), {}, "y contains NaN"),
        (pd.Series([True, False, pd.NA], dtype="boolean"), {}, "y contains NaN"),
        (np.array(["2020", "2021", "NaT"], "M8[Y]"), {}, "y contains NaN"),
        (np.ma.array([0, 1, 2], mask=[0, 0, 1]), {}, "y is a masked array"),
        (np.eye(3), {}, "one label a sample is supported"),
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


def test_a_column_of_labels():
    with pytest.warns(DataConversionWarning, match="column-vector"):
        noisy = make_noisy_labels(Y[:, None], 0.2, 0)
    np.testing.assert_array_equal(noisy, make_noisy_labels(Y, 0.2, 0))

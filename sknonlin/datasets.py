"""Images and spoken digits with their labels, and label noise of the usual kinds."""

import gzip
import io
import math
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import wave
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import resample_poly
from scipy.special import softmax
from scipy.stats import entropy, truncnorm
from sklearn.datasets import fetch_openml, get_data_home
from sklearn.datasets import load_digits as load_digits_of_sklearn
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils import Bunch, check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length

from sknonlin._running.validation import (
    RandomState,
    as_labels,
    validated,
    warn_user,
)

PROGRAM = "espeak-ng"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = (
    *("en-us", "en-us-nyc", "en-gb", "en-gb-scotland", "en-gb-x-rp"),
    *("en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"),
)
TIMBRES = (
    *(f"m{i}" for i in range(1, 9)),
    *(f"f{i}" for i in range(1, 6)),
    *("klatt", "klatt2", "klatt3", "klatt4", "croak"),
)
SPEEDS = (110, 230)  # words a minute
PITCHES = (10, 90)  # espeak-ng's scale goes from 0 to 99
RATE = 8000  # samples a second
LENGTH = RATE  # a second
QUIET = 0.02  # of the loudest sample; what is below it at both ends is cut off
RATES = (RATE // 2, 24 * RATE)  # samples a second that espeak-ng may speak at
SHOWN = 60  # bytes of what it gives instead of a sound
#: What NumPy raises for files that are damaged or of another kind.
NOT_READ = (
    *(ValueError, TypeError, KeyError, EOFError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
NOISE_KINDS = ("uniform", "flip", "pairwise", "class", "feature", "boundary")
LEAST_UNSURE = 0.01  # so that samples far from the boundary change, too
LOUDEST = 2**15 - 1  # sounds are kept as 16-bit integers
__all__ = ["load_digits", "load_fashion_mnist", "make_noisy_labels", "make_spoken_digits"]
FASHION_MNIST_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
IMAGES, LABELS = 2051, 2049  # the numbers that their files begin with
IDX_KINDS = {IMAGES: "images", LABELS: "labels"}
IMAGE_SHAPE = (28, 28)
MOST_IMAGES = 10**6  # in a file; Fashion-MNIST has 60,000
REMEDY = (
    "Put the four files of Fashion-MNIST there as they are published (Debian's package "
    "dataset-fashion-mnist has them), or name another folder as data_home."
)
FASHION_MNIST_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def sound_of(wave_file):
    """Read what espeak-ng says; return it as floats, and their rate.

    Raises
    ------
    ValueError
        If it is not a sound, or silence.
    """
    try:
        with wave.open(io.BytesIO(wave_file)) as file:
            # Its header does not know its length.
            frames = np.frombuffer(file.readframes(len(wave_file)), "<i2")
            mono, rate = file.getnchannels() == 1, file.getframerate()
            mono = mono and file.getsampwidth() == 2
    except (EOFError, wave.Error, struct.error) as error:
        raise ValueError(str(error)) from error
    if not mono or not RATES[0] <= rate <= RATES[1]:
        raise ValueError("not one channel of 16 bits at a usual rate")
    if not frames.any():
        raise ValueError("silence")
    return frames.astype(float), rate


def speak(word, voice, speed, pitch):
    """Synthesize a word; return it as floats, and their rate."""
    command = [PROGRAM, "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", word]
    said = subprocess.run(command, check=False, capture_output=True)
    try:
        if said.returncode:
            raise ValueError(f"exit status {said.returncode}")
        return sound_of(said.stdout)
    except ValueError as error:
        raise RuntimeError(
            f"{PROGRAM} gave no sound for {word!r} ({error}): {len(said.stdout)} bytes, "
            f"{said.stdout[:SHOWN]!r}, and the message "
            f"{said.stderr[:SHOWN].decode(errors='replace').strip()!r}. Try "
            f"'{' '.join(command[:-2])} {word}' in a terminal, and install {PROGRAM} with "
            "its voices again if it stays silent."
        ) from error


def fit_into_a_second(sound, rate):
    """Resample, cut silence off, center in a second and scale; 16-bit integers."""
    divisor = np.gcd(RATE, rate)
    sound = resample_poly(sound, RATE // divisor, rate // divisor)
    loud = np.flatnonzero(np.abs(sound) > QUIET * np.abs(sound).max())
    sound = sound[loud[0] : loud[-1] + 1]
    excess = max(0, len(sound) - LENGTH)
    sound = sound[excess // 2 : excess // 2 + LENGTH]
    before = (LENGTH - len(sound)) // 2
    sound = np.pad(sound, (before, LENGTH - len(sound) - before))
    return np.round(sound * (LOUDEST / np.abs(sound).max())).astype(np.int16)


def draw_speech(n_samples, seed):
    """Draw what is said, and how; a dict of arrays."""
    rng = check_random_state(seed)
    target = rng.permutation(np.arange(n_samples) % len(WORDS))
    accents = rng.choice(ACCENTS, n_samples)
    timbres = rng.choice(TIMBRES, n_samples)
    voices = np.array([f"{a}+{t}" for a, t in zip(accents, timbres, strict=True)])
    return {
        "target": target.astype(np.int64),
        "voices": voices,
        "speeds": rng.randint(SPEEDS[0], SPEEDS[1] + 1, n_samples),
        "pitches": rng.randint(PITCHES[0], PITCHES[1] + 1, n_samples),
    }


def synthesize(target, voices, speeds, pitches):
    """Let espeak-ng say the digits; 16-bit integers (n_samples, 8000)."""
    if shutil.which(PROGRAM) is None:
        raise OSError(
            f"{PROGRAM} is not installed, which speaks the digits. Install it from your "
            "distribution (on Debian and Ubuntu: apt-get install espeak-ng)."
        )

    def sample(digit, *manner):
        return fit_into_a_second(*speak(WORDS[digit], *manner))

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(sample, target, voices, speeds, pitches)))


def save(path, arrays):
    """Write a file that is either whole or not there.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left of it.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with open(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(name, path)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError):
            raise OSError(
                error.errno,
                f"The sounds cannot be kept in {path} ({error.strerror}). Make room there, "
                "or name another folder as data_home.",
            ) from error
        raise


def kept_sounds(path, speech):
    """Sounds in a file, if they are those of what is said, and how.

    Raises
    ------
    ValueError
        If it is damaged, or holds something else.
    """
    try:
        with open(path, "rb") as content, np.load(content) as file:
            for name, expected in speech.items():
                if not np.array_equal(file[name], expected):
                    raise ValueError(f"other {name} than are asked for")
            sounds = file["sounds"]
    except NOT_READ as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if sounds.dtype != np.int16 or sounds.shape != (len(speech["target"]), LENGTH):
        raise ValueError(f"sounds of shape {sounds.shape} and dtype {sounds.dtype}")
    return sounds


@validated(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
        "data_home": [str, pathlib.Path, None],
        "return_X_y": ["boolean"],
    }
)
def make_spoken_digits(
    n_samples: int = 2000,
    random_state: int = 0,
    *,
    data_home: str | pathlib.Path | None = None,
    return_X_y: bool = False,
) -> Any:
    """Synthesize spoken digits with espeak-ng, and keep them.

    The English words from zero to nine, in 144 voices (eight accents in eighteen timbres),
    between 110 and 230 words a minute, at many pitches: one second at 8 kHz each, with
    the word in the middle and a largest amplitude of 1.

    Parameters
    ----------
    n_samples : int, default=2000
        Number of words; the digits are as frequent as each other.
    random_state : int, default=0
        Seeds the voices, speeds, pitches and the order.
    data_home : str or path, default=None
        Folder that the sounds are kept in; None is scikit-learn's, see
        :func:`~sklearn.datasets.get_data_home`. Sounds that are there are not made again,
        unless their file is damaged or holds others, of which a warning tells.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a bunch.

    Returns
    -------
    dataset : Bunch
        ``data`` (n_samples, 8000) float32 in [-1, 1]; ``target`` (n_samples,) int64;
        ``target_names``; ``voices``, ``speeds`` in words a minute and ``pitches`` on
        espeak-ng's scale from 0 to 99, each (n_samples,); ``rate``, 8000 samples a
        second; ``DESCR``.

    Raises
    ------
    OSError
        If the sounds are not there, and espeak-ng is not installed; if they cannot be
        kept.
    RuntimeError
        If espeak-ng gives no sound.

    Notes
    -----
    Two thousand words take some 15 seconds on two cores, the first time. The sounds are
    those of the espeak-ng installed: other versions speak a little differently.

    Examples
    --------
    >>> from sknonlin.datasets import make_spoken_digits
    >>> digits = make_spoken_digits(100)  # doctest: +SKIP
    >>> digits.data.shape  # doctest: +SKIP
    (100, 8000)
    """
    name = f"sknonlin_spoken_digits_{n_samples}_{random_state}.npz"
    path = pathlib.Path(get_data_home(data_home)) / name
    speech = draw_speech(n_samples, random_state)
    sounds = None
    if path.exists():
        try:
            sounds = kept_sounds(path, speech)
        except ValueError as error:
            warn_user(f"{path} is not what was kept there ({error}). It is made again.")
    if sounds is None:
        sounds = synthesize(**speech)
        save(path, {"sounds": sounds, **speech})
    data = sounds.astype(np.float32) / LOUDEST
    if return_X_y:
        return data, speech["target"]
    return Bunch(
        data=data,
        **speech,
        target_names=np.array(WORDS),
        rate=RATE,
        DESCR="The words from zero to nine, synthesized with espeak-ng: a second at 8 kHz",
    )


def _as_dataset(images, target, target_names, return_X_y, description):
    """Pack images (n, height, width) in [0, 1] the way scikit-learn does."""
    images = images[:, None]
    data = images.reshape(len(images), -1)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        images=images,
        target=target,
        target_names=np.array(target_names),
        DESCR=description,
    )


@validated({"return_X_y": ["boolean"]})
def load_digits(*, return_X_y: bool = False) -> Any:
    """Load scikit-learn's handwritten digits, as a network takes them.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a bunch.

    Returns
    -------
    dataset : Bunch
        ``data`` (1797, 64) float32 in [0, 1] and ``images``, the same as (1797, 1, 8, 8);
        ``target`` (1797,) int64, ``target_names`` and ``DESCR``.

    Examples
    --------
    >>> from sknonlin.datasets import load_digits
    >>> load_digits().images.shape
    (1797, 1, 8, 8)
    """
    digits = load_digits_of_sklearn()
    return _as_dataset(
        (digits.images / 16).astype(np.float32),
        digits.target.astype(np.int64),
        digits.target_names.astype(str),
        return_X_y,
        digits.DESCR,
    )


def _read_items(file, magic, shape, count):
    """Read the items of an idx file, see :func:`_read_idx`; say what is wrong with it."""
    size = 4 * (2 + len(shape))
    header = file.read(size)
    if len(header) < size:
        raise ValueError(f"it has {len(header)} bytes, less than its header of {size}")
    found, n_items, *sides = np.frombuffer(header, ">u4").tolist()
    if found != magic:
        is_of = f"one of {IDX_KINDS[found]}" if found in IDX_KINDS else "damaged"
        raise ValueError(
            f"it begins with the number {found} and is {is_of}, but a file of "
            f"{IDX_KINDS[magic]} begins with {magic}"
        )
    if tuple(sides) != shape:
        raise ValueError(f"its images have {sides} pixels, not {list(shape)}")
    if count is not None and n_items != count:
        raise ValueError(f"it announces {n_items} images, but there are {count} labels")
    if not 1 <= n_items <= MOST_IMAGES:
        raise ValueError(f"it announces {n_items} {IDX_KINDS[magic]}")
    expected = n_items * math.prod(shape)
    items = file.read(expected)
    if len(items) < expected or file.read(1):
        than = "less" if len(items) < expected else "more"
        raise ValueError(f"it holds {than} than the {expected} bytes that it announces")
    return np.frombuffer(items, np.uint8).reshape(n_items, *shape)


def _read_idx(path, magic, shape=(), count=None):
    """Read a file of images or labels: no more of it than it should hold.

    Parameters
    ----------
    path : path
    magic : int
        The number that a file of its kind begins with.
    shape : tuple of int
        Shape of an item.
    count : int, default=None
        How many there should be.

    Returns
    -------
    items : ndarray of uint8 of shape (n_items, *shape)

    Raises
    ------
    ValueError
        If it is something else.
    OSError
        If it is not there, or cannot be read.
    """
    try:
        with gzip.open(path) as file:
            items = _read_items(file, magic, shape, count)
        if not shape and items.max() >= len(FASHION_MNIST_NAMES):
            raise ValueError(f"it has the label {items.max()}, above 9")
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is not that file of Fashion-MNIST: {error}. {REMEDY}"
        ) from error
    except OSError as error:
        raise OSError(
            error.errno, f"{path} cannot be read ({error.strerror}). {REMEDY}"
        ) from error
    return items


def _fashion_mnist_files(folder, subset):
    """Read one of the two parts from the files that everybody mirrors."""
    prefix = "train" if subset == "train" else "t10k"
    target = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", LABELS)
    name = f"{prefix}-images-idx3-ubyte.gz"
    images = _read_idx(folder / name, IMAGES, IMAGE_SHAPE, len(target))
    return images, target


def _fashion_mnist_openml(subset):
    """Download both parts, which OpenML keeps in one table, and return one."""
    try:
        data, target = fetch_openml(
            "Fashion-MNIST", version=1, as_frame=False, return_X_y=True
        )
    except (OSError, ValueError) as error:
        raise OSError(
            f"Fashion-MNIST is not in {FASHION_MNIST_FOLDER}, and cannot be fetched from "
            "OpenML. Install Debian's package dataset-fashion-mnist, or name the folder of "
            "its four files as data_home."
        ) from error
    if data.shape != (70_000, 784):
        raise ValueError(
            f"OpenML gave a table of shape {data.shape} as Fashion-MNIST, not "
            f"(70000, 784). Empty its folder in {get_data_home()}, and try again."
        )
    part = slice(60_000) if subset == "train" else slice(60_000, None)
    return data[part].reshape(-1, 28, 28), target[part]


@validated(
    {
        "subset": [StrOptions({"train", "test"})],
        "data_home": [str, pathlib.Path, None],
        "return_X_y": ["boolean"],
    }
)
def load_fashion_mnist(
    *,
    subset: str = "train",
    data_home: str | pathlib.Path | None = None,
    return_X_y: bool = False,
) -> Any:
    """Load Fashion-MNIST: 28 x 28 grey images of ten kinds of clothes.

    From Debian's package ``dataset-fashion-mnist`` where it is installed, or else from
    OpenML, by :func:`~sklearn.datasets.fetch_openml`, which keeps a copy.

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
        The 60,000 images for training, or the 10,000 for testing.
    data_home : str or path, default=None
        A folder with the four files of the data set (``train-images-idx3-ubyte.gz`` and
        so on) to read instead.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a bunch.

    Returns
    -------
    dataset : Bunch
        ``data`` (n, 784) float32 in [0, 1] and ``images``, the same as (n, 1, 28, 28);
        ``target`` (n,) int64, ``target_names`` and ``DESCR``.

    Raises
    ------
    OSError
        If the files are not there, and cannot be downloaded, or cannot be read.
    ValueError
        If a file is damaged, or not that of the data set; no more of it is unpacked than
        it should hold.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms", arXiv:1708.07747 (2017).

    Examples
    --------
    >>> from sknonlin.datasets import load_fashion_mnist
    >>> dataset = load_fashion_mnist(subset="test")  # doctest: +SKIP
    >>> dataset.images.shape  # doctest: +SKIP
    (10000, 1, 28, 28)
    """
    if data_home is not None:
        images, target = _fashion_mnist_files(pathlib.Path(data_home), subset)
    elif FASHION_MNIST_FOLDER.is_dir():
        images, target = _fashion_mnist_files(FASHION_MNIST_FOLDER, subset)
    else:
        images, target = _fashion_mnist_openml(subset)
    return _as_dataset(
        images.astype(np.float32) / 255,
        target.astype(np.int64),
        FASHION_MNIST_NAMES,
        return_X_y,
        "Fashion-MNIST, 28 x 28 grey images of clothes: arXiv:1708.07747",
    )


# Label noise ----------------------------------------------------------------------


def _other_class(codes, n_classes, rng):
    """Draw another class for every sample, each as likely."""
    return (codes + rng.randint(1, n_classes, size=len(codes))) % n_classes


def _draw(probabilities, rng):
    """Draw a column for every row of probabilities."""
    cumulated = probabilities.cumsum(1)
    level = rng.uniform(size=(len(probabilities), 1)) * cumulated[:, -1:]
    return (level >= cumulated).sum(1)


def _by_features(X, codes, n_classes, p, rng):
    """Flip to the class that a random linear map of the features points to."""
    X = check_array(X, allow_nd=True).reshape(len(X), -1)
    spread = min(p, 1 - p) / 2  # so that rates are in [0, 1] and p on average
    rates = p + spread * truncnorm.rvs(-2, 2, size=len(X), random_state=rng)
    logits = np.empty((len(X), n_classes))
    for label in range(n_classes):
        own = codes == label
        logits[own] = X[own] @ rng.standard_normal((X.shape[1], n_classes))
    logits[np.arange(len(X)), codes] = -np.inf
    flipped = rng.uniform(size=len(X)) < rates
    return np.where(flipped, _draw(softmax(logits, axis=1), rng), codes)


def _near_boundary(X, codes, p, rng):
    """Choose samples, those rather that a linear discriminant is unsure of."""
    X = check_array(X, allow_nd=True).reshape(len(X), -1)
    unsure = entropy(LinearDiscriminantAnalysis().fit(X, codes).predict_proba(X), axis=1)
    weights = unsure / max(unsure.max(), 1e-12) + LEAST_UNSURE
    return rng.choice(len(X), round(p * len(X)), replace=False, p=weights / weights.sum())


def _check_transition(transition, n_classes):
    transition = check_array(transition)
    if transition.shape != (n_classes, n_classes):
        raise ValueError(
            f"transition has shape {transition.shape}, but y has {n_classes} classes: it "
            f"needs shape ({n_classes}, {n_classes}), a row for every true class."
        )
    if (transition < 0).any() or not np.allclose(transition.sum(1), 1):
        raise ValueError(
            "The rows of transition must be probabilities: not negative, with sum 1."
        )
    return transition


@validated(
    {
        "y": ["array-like"],
        "p": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
        "kind": [StrOptions(set(NOISE_KINDS))],
        "X": ["array-like", None],
        "transition": ["array-like", None],
    }
)
def make_noisy_labels(
    y: ArrayLike,
    p: float = 0.1,
    random_state: RandomState = None,
    *,
    kind: str = "uniform",
    X: ArrayLike | None = None,
    transition: ArrayLike | None = None,
) -> NDArray:
    """Give a share of the samples wrong labels.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The true labels, of any kind; at least two classes.
    p : float in [0, 1], default=0.1
        The share of labels that are changed. It is exact for ``"uniform"``, ``"flip"``,
        ``"pairwise"`` and ``"boundary"``, and the expected one for ``"feature"``;
        ``"class"`` has its rates in ``transition``.
    random_state : int, RandomState instance or None, default=None
        Seeds the draw.
    kind : {"uniform", "flip", "pairwise", "class", "feature", "boundary"}, \
            default="uniform"
        * ``"uniform"``: labels are redrawn among all classes [1]_, the true one too: of
          n classes, a share of (n - 1) / n turns out wrong, and p = 1 leaves labels that
          say nothing.
        * ``"flip"``: labels change to another class, each as likely.
        * ``"pairwise"``: labels change to the next class, and the last to the first.
        * ``"class"``: class-dependent, by the probabilities of ``transition``.
        * ``"feature"``: which samples change, and to which class, depends on their
          features, by a random linear map for each class [2]_.
        * ``"boundary"``: labels change to another class, each as likely, and rather those
          of samples that a linear discriminant is unsure of [3]_.
    X : array-like of shape (n_samples, ...), default=None
        The features, for ``"feature"`` and ``"boundary"``.
    transition : array-like of shape (n_classes, n_classes), default=None
        For ``"class"``: the probability of every label given (column) for every true
        class (row), in the order of ``np.unique(y)``.

    Returns
    -------
    y_noisy : ndarray of shape (n_samples,)
        A copy with the dtype of y. The wrong ones are ``y_noisy != y``.

    Raises
    ------
    ValueError
        If labels are missing, there is only one class or several labels for a sample, or
        X or transition is missing or does not fit.

    References
    ----------
    .. [1] C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals, "Understanding deep
       learning requires rethinking generalization", ICLR (2017).
    .. [2] X. Xia et al., "Part-dependent Label Noise: Towards Instance-dependent Label
       Noise", NeurIPS (2020), algorithm 2.
    .. [3] A. K. Menon, B. van Rooyen, N. Natarajan, "Learning from binary labels with
       instance-dependent noise", Machine Learning 107 (2018); with the entropy of a
       linear discriminant as in the benchmark MisLaBenchmark (2025),
       doi 10.1007/s10462-025-11293-9.

    Examples
    --------
    >>> import numpy as np
    >>> from sknonlin.datasets import make_noisy_labels
    >>> y = np.repeat(["cat", "dog", "owl"], 100)
    >>> y_noisy = make_noisy_labels(y, 0.1, random_state=0, kind="flip")
    >>> int((y_noisy != y).sum())
    30
    """
    classes, codes = np.unique(as_labels(y), return_inverse=True)
    n_samples, n_classes = len(codes), len(classes)
    if n_classes < 2:
        raise ValueError("y has only 1 class; its labels need a second one to change to.")
    rng = check_random_state(random_state)
    if kind == "class":
        if transition is None:
            raise ValueError('kind="class" needs transition, its matrix of probabilities.')
        return classes[_draw(_check_transition(transition, n_classes)[codes], rng)]
    if kind in ("feature", "boundary"):
        if X is None:
            raise ValueError(f'kind="{kind}" needs X, the features of the samples.')
        check_consistent_length(X, codes)
    if kind == "feature":
        return classes[_by_features(X, codes, n_classes, p, rng)]
    if kind == "boundary":
        changed = _near_boundary(X, codes, p, rng)
    else:
        changed = rng.permutation(n_samples)[: round(p * n_samples)]
    if kind == "uniform":
        codes[changed] = rng.randint(n_classes, size=len(changed))
    elif kind in ("flip", "boundary"):
        codes[changed] = _other_class(codes[changed], n_classes, rng)
    else:
        codes[changed] = (codes[changed] + 1) % n_classes
    return classes[codes]

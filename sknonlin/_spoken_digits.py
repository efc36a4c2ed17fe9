"""Spoken digits, synthesized with espeak-ng."""

import io
import os
import pathlib
import shutil
import subprocess
import tempfile
import wave
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import numpy as np
from scipy.signal import resample_poly
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_params

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
LOUDEST = 2**15 - 1  # sounds are kept as 16-bit integers


def speak(word, voice, speed, pitch):
    """Synthesize a word; return it as floats, and their rate."""
    command = [PROGRAM, "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", word]
    sound = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(sound)) as file:  # its header does not know its length
        frames = np.frombuffer(file.readframes(len(sound)), "<i2")
        return frames.astype(float), file.getframerate()


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


def synthesize(n_samples, seed):
    """Draw what is said and how, and let espeak-ng say it; a dict of arrays."""
    if shutil.which(PROGRAM) is None:
        raise OSError(
            f"{PROGRAM} is not installed, which speaks the digits. Install it from your "
            "distribution (on Debian and Ubuntu: apt-get install espeak-ng)."
        )
    rng = check_random_state(seed)
    target = rng.permutation(np.arange(n_samples) % len(WORDS))
    accents = rng.choice(ACCENTS, n_samples)
    timbres = rng.choice(TIMBRES, n_samples)
    voices = np.array([f"{a}+{t}" for a, t in zip(accents, timbres, strict=True)])
    speeds = rng.randint(SPEEDS[0], SPEEDS[1] + 1, n_samples)
    pitches = rng.randint(PITCHES[0], PITCHES[1] + 1, n_samples)

    def sample(digit, *manner):
        return fit_into_a_second(*speak(WORDS[digit], *manner))

    with ThreadPoolExecutor() as pool:
        sounds = np.stack(list(pool.map(sample, target, voices, speeds, pitches)))
    return {
        "sounds": sounds,
        "target": target.astype(np.int64),
        "voices": voices,
        "speeds": speeds,
        "pitches": pitches,
    }


def save(path, arrays):
    """Write a file that is either whole or not there."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        np.savez_compressed(file, **arrays)
    os.replace(file.name, path)


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
        "data_home": [str, pathlib.Path, None],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_spoken_digits(n_samples=2000, random_state=0, *, data_home=None, return_X_y=False):
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
        :func:`~sklearn.datasets.get_data_home`. Sounds that are there are not made again.
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
        If the sounds are not there, and espeak-ng is not installed.

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
    if not path.exists():
        save(path, synthesize(n_samples, random_state))
    with np.load(path) as file:
        arrays = dict(file)
    data = arrays.pop("sounds").astype(np.float32) / LOUDEST
    if return_X_y:
        return data, arrays["target"]
    return Bunch(
        data=data,
        **arrays,
        target_names=np.array(WORDS),
        rate=RATE,
        DESCR="The words from zero to nine, synthesized with espeak-ng: a second at 8 kHz",
    )

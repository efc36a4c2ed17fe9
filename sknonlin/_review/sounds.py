"""Sounds, as addresses that hold their own data."""

import io
import wave
from pathlib import Path

import numpy as np

from sknonlin._review.images import data_uri
from sknonlin._review.samples import media_type

LOUDEST = 2**15 - 1


def players(samples, sampling_rate):
    """Write sounds as WAV data URIs.

    Parameters
    ----------
    samples : list of ndarray or path of a file
        Signals of shape (n,), (c, n) or (n, c) with one or two channels. Files are taken
        as they are.
    sampling_rate : int or None
        Of the signals, samples a second.

    Returns
    -------
    addresses : list of str

    Raises
    ------
    ValueError
        If signals come without their rate, or are none.
    """
    if isinstance(samples[0], str | Path):
        return [data_uri(Path(path).read_bytes(), audio_type(path)) for path in samples]
    if sampling_rate is None:
        raise ValueError(
            "kind='audio' needs sampling_rate=, the samples of a signal in a second, such "
            "as 16000."
        )
    return [wav(np.asarray(signal), int(sampling_rate)) for signal in samples]


def audio_type(path):
    """MIME type of the file of a sound.

    Raises
    ------
    ValueError
        If its name says something else.
    """
    found = media_type(path)
    if not found.startswith("audio/"):
        raise ValueError(f"{path} has no ending of a sound, such as .wav, .flac or .mp3.")
    return found


def wav(signal, sampling_rate):
    """Write a signal as a WAV data URI of 16 bits.

    Raises
    ------
    ValueError
        If it has another shape.
    """
    if signal.ndim == 2 and min(signal.shape) <= 2:
        signal = signal if signal.shape[1] <= signal.shape[0] else signal.T
    elif signal.ndim != 1:
        raise ValueError(
            f"X has a sample of shape {signal.shape}, which is no sound: (n,), (c, n) or "
            "(n, c) with one or two channels. Give the signals, not their spectrograms."
        )
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1 if signal.ndim == 1 else signal.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(sampling_rate)
        writer.writeframes(as_16_bits(signal).tobytes())
    return data_uri(file.getvalue(), "audio/wav")


def as_16_bits(signal):
    """Bring a signal to 16-bit numbers; floats beyond [-1, 1] are made quieter."""
    if signal.dtype == np.int16:
        return signal.astype("<i2")
    signal = np.nan_to_num(signal.astype(np.float64))
    loudest = np.abs(signal).max(initial=1.0)
    return np.round(signal * (LOUDEST / loudest)).astype("<i2")

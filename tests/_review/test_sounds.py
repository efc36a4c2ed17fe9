"""Players: signals as WAV, and files as they are."""

import base64
import io
import wave

import numpy as np
import pytest

from sknonlin._review.sounds import players


def decoded(address):
    head, _, content = address.partition(",")
    with wave.open(io.BytesIO(base64.b64decode(content))) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return head, file.getframerate(), frames.reshape(-1, file.getnchannels())


@pytest.mark.parametrize("shape", [(50,), (1, 50), (50, 1), (2, 50), (50, 2)])
def test_signals_of_all_shapes(shape):
    signal = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    head, rate, frames = decoded(*players([signal], 8000))
    assert head == "data:audio/wav;base64"
    assert rate == 8000
    expected = signal.reshape(-1, 1) if signal.size == 50 else signal
    expected = expected.T if expected.shape[0] == 2 else expected
    np.testing.assert_allclose(frames / 32767, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("signal", "frames"),
    [
        (np.array([1, -32768], np.int16), [1, -32768]),
        (np.array([0.5, -0.5]), [16384, -16384]),
        (np.array([5.0, -2.5]), [32767, -16384]),
        (np.array([1000, -500], np.int32), [32767, -16384]),
        (np.array([np.nan, 1.0]), [0, 32767]),
        (np.array([]), []),
    ],
)
def test_loudness(signal, frames):
    assert decoded(*players([signal], 8000))[2].ravel() == pytest.approx(frames, abs=1)


def test_files_stay_as_they_are(tmp_path):
    path = tmp_path / "sound.mp3"
    path.write_bytes(b"sound")
    assert players([path], None) == ["data:audio/mpeg;base64,c291bmQ="]
    with pytest.raises(ValueError, match=r"sound.txt has no ending of a sound"):
        players([path.rename(tmp_path / "sound.txt")], None)


def test_signals_that_are_refused():
    with pytest.raises(ValueError, match="needs sampling_rate="):
        players([np.zeros(8)], None)
    with pytest.raises(ValueError, match=r"shape \(64, 40\), which is no sound"):
        players([np.zeros((64, 40))], 8000)

"""Thumbnails: order of channels, range of values, files of all modes, and sizes."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sknonlin._review.images import as_bytes, channels_last, thumbnails, value_range


def decoded(address):
    head, _, content = address.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((8, 6), (8, 6)),
        ((1, 8, 6), (8, 6)),
        ((8, 6, 1), (8, 6)),
        ((3, 8, 6), (8, 6, 3)),
        ((8, 6, 3), (8, 6, 3)),
        ((4, 8, 6), (8, 6, 4)),
        ((3, 8, 3), (8, 3, 3)),  # channels first where both fit
    ],
)
def test_order_of_channels(shape, last):
    sample = np.arange(np.prod(shape)).reshape(shape)
    image = channels_last(sample)
    assert image.shape == last
    assert set(image.ravel()) == set(sample.ravel())


@pytest.mark.parametrize("shape", [(5, 8, 8), (8,), (2, 8, 8), (1, 1, 8, 8), (0, 8)])
def test_what_is_no_image(shape):
    with pytest.raises(ValueError, match="is no image"):
        channels_last(np.zeros(shape))


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        (np.array([[3, 9]], np.uint8), (0, 255)),
        ([[0.2, 0.7]], (0, 1)),
        ([[0, 200]], (0, 255)),
        ([[0.0, 16.0]], (0, 16)),
        ([[-2.1, 2.6]], (-2.1, 2.6)),
        ([[0, 4095]], (0, 4095)),
        ([[np.nan, 3.0, -1.0, np.inf]], (-1, 3)),
        ([[np.nan]], (0, 1)),
        ([[True, False]], (0, 1)),
    ],
)
def test_range_of_values(values, limits):
    assert value_range([np.array(values)]) == limits


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(allow_nan=True)))
def test_any_values_become_bytes(image):
    found = as_bytes(image, *value_range([image]))
    assert found.dtype == np.uint8
    assert found.shape == image.shape


def test_pixels_are_those_of_the_array():
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(2, 3, 5, 7)).astype(np.uint8)
    for address, image in zip(thumbnails(list(images), 160), images, strict=True):
        np.testing.assert_array_equal(decoded(address), image.transpose(1, 2, 0))
    flat = images.reshape(2, -1)
    assert thumbnails(list(flat), 160, (3, 5, 7)) == thumbnails(list(images), 160)
    with pytest.raises(ValueError, match=r"\(3, 5, 8\) does not fit samples of 105"):
        thumbnails(list(flat), 160, (3, 5, 8))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LA"])
@pytest.mark.parametrize("size", [(40, 20), (400, 200)])
def test_files_of_all_modes(tmp_path, mode, size):
    image = Image.new(mode, size, 1 if mode != "RGBA" else (255, 0, 0, 0))
    path = tmp_path / "image.tiff"
    image.save(path)
    for given_as in (image, path, str(path)):
        (address,) = thumbnails([given_as], 160)
        thumbnail = decoded(address)
        assert thumbnail.size == ((40, 20) if size[0] == 40 else (160, 80))
        assert thumbnail.format == ("PNG" if size[0] == 40 else "JPEG")
    if mode == "RGBA" and size[0] == 400:  # what shows through is white
        assert thumbnail.getpixel((5, 5)) == (255, 255, 255)


def test_photographs_are_upright(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "photo.jpg", exif=exif)
    assert decoded(*thumbnails([tmp_path / "photo.jpg"], 160)).size == (20, 40)


def test_files_that_are_no_images(tmp_path):
    path = tmp_path / "image.png"
    path.write_text("no image")
    with pytest.raises(ValueError, match="is not an image that Pillow reads"):
        thumbnails([path], 160)

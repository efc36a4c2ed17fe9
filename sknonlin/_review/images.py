"""Thumbnails of images, as addresses that hold their own data."""

import base64
import io
from pathlib import Path

import numpy as np

CHANNELS = (1, 3, 4)  # grey, colours, colours and opacity
SMALL = 64  # pixels; smaller images are shown pixel by pixel
MANY = 200  # images that the range of the values is taken from
QUALITY = 85  # of JPEG


def pillow():
    """Return Pillow's module of images.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Thumbnails need Pillow, which matplotlib brings: python -m pip install pillow."
        ) from error
    return Image


def channels_last(sample):
    """Arrange an array as an image.

    Parameters
    ----------
    sample : ndarray of shape (h, w), (c, h, w) or (h, w, c)
        With 1, 3 or 4 channels; where both orders fit, channels come first.

    Returns
    -------
    image : ndarray of shape (h, w), (h, w, 3) or (h, w, 4)

    Raises
    ------
    ValueError
        If it has another shape.
    """
    sample = np.asarray(sample)
    if sample.ndim == 3 and sample.shape[0] in CHANNELS:
        sample = np.moveaxis(sample, 0, -1)
    colored = sample.ndim == 3 and sample.shape[-1] in CHANNELS
    if not (colored or sample.ndim == 2) or not sample.size:
        raise ValueError(
            f"X has a sample of shape {sample.shape}, which is no image: (h, w), (c, h, w) "
            "or (h, w, c) with 1, 3 or 4 channels. Give image_shape= for flat ones, choose "
            "three of more channels, or give kind=."
        )
    return sample[..., 0] if colored and sample.shape[-1] == 1 else sample


def value_range(images):
    """Range that black and white stand for, from the first images.

    Parameters
    ----------
    images : list of ndarray

    Returns
    -------
    low, high : float
        (0, 255) for bytes and numbers like them, (0, 1) for shares, or else the lowest
        and the highest value of all.
    """
    if images[0].dtype == np.uint8:
        return 0.0, 255.0
    values = [image[np.isfinite(image)] for image in images[:MANY]]
    low = float(min((v.min() for v in values if v.size), default=0.0))
    high = float(max((v.max() for v in values if v.size), default=1.0))
    if low >= 0 and high <= 1 and images[0].dtype.kind in "bf":
        return 0.0, 1.0
    if low >= 0 and 128 <= high <= 255:
        return 0.0, 255.0
    return low, high


def as_bytes(image, low, high):
    """Bring values to bytes; what is not a number becomes black."""
    with np.errstate(all="ignore"):  # of values that are next to the largest floats
        scaled = (image.astype(np.float64) - low) / max(high - low, 1e-12) * 255
    return np.round(np.nan_to_num(scaled).clip(0, 255)).astype(np.uint8)


def thumbnails(samples, size, image_shape=None):
    """Make thumbnails of images.

    Parameters
    ----------
    samples : list of ndarray, Pillow image or path of a file
    size : int
        Pixels of the longer side; smaller images stay as they are.
    image_shape : tuple of int or None
        Of flat samples.

    Returns
    -------
    addresses : list of str
        Data URIs: PNG up to 64 pixels, JPEG above.
    """
    Image = pillow()
    if image_shape is not None:
        samples = [shaped(sample, tuple(image_shape)) for sample in samples]
    if hasattr(samples[0], "getbands") or isinstance(samples[0], str | Path):
        return [encoded(opened(Image, sample), size) for sample in samples]
    low, high = value_range([channels_last(sample) for sample in samples[:MANY]])
    return [
        encoded(Image.fromarray(as_bytes(channels_last(sample), low, high)), size)
        for sample in samples
    ]


def shaped(sample, image_shape):
    """Give a flat sample the shape of an image.

    Raises
    ------
    ValueError
        If it has not as many numbers.
    """
    sample = np.asarray(sample)
    if sample.size != np.prod(image_shape):
        raise ValueError(
            f"image_shape={image_shape} does not fit samples of {sample.size} numbers. "
            "Give (h, w), (c, h, w) or (h, w, c) with that product."
        )
    return sample.reshape(image_shape)


def opened(Image, sample):
    """Open the file of an image, upright.

    Raises
    ------
    ValueError
        If it is no image.
    """
    from PIL import ImageOps

    if not isinstance(sample, str | Path):
        return sample
    try:
        with Image.open(sample) as image:
            return ImageOps.exif_transpose(image)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{sample} is not an image that Pillow reads.") from error


def encoded(image, size):
    """Shrink an image and write it as a data URI."""
    if image.mode.startswith(("I", "F")):  # more than a byte for each value
        values = np.asarray(image)
        image = pillow().fromarray(as_bytes(values, *value_range([values])))
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    image = image.copy()
    image.thumbnail((size, size))
    small = max(image.size) <= SMALL
    if not small and image.mode == "RGBA":
        ground = pillow().new("RGB", image.size, "white")
        ground.paste(image, mask=image.getchannel("A"))
        image = ground
    file = io.BytesIO()
    image.save(file, "PNG" if small else "JPEG", quality=QUALITY)
    return data_uri(file.getvalue(), "image/png" if small else "image/jpeg")


def data_uri(content, media_type):
    """Write bytes as an address that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"

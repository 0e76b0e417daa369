"""The bytes of an image file as pixels: what a camera, a scanner or a drawing program makes, turned upright.

What is read here is classified, not learned from: stages/split/image_files.py reads training images, and loses nothing.
"""

import io
import sys
import warnings

import numpy as np
from PIL import Image, ImageOps

from many_seeds.errors import UserError

BYTES_LIMIT = 10_000_000
PIXEL_LIMIT = 25_000_000  # cameras of 12, 16 and 24 megapixels have a few more than their name says
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
IN_WORDS = "PNG, JPEG, WebP, GIF, BMP or TIFF"

# As Pillow's documentation advises; refused in `_opened` with a message of our own.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(content: bytes, side: int) -> Image.Image:
    """The first picture in an image file, upright, in mode L or RGB, averaged down until `side` is not far.

    What is transparent shows white behind dark colours and black behind light ones.

    Args:
        content: the bytes of a file of one of `FORMATS`.
        side: pixels that the longer side keeps at least, where it has them; it may keep up to twice as many.

    Raises:
        UserError: it is empty, too large, no such file, or damaged.
    """
    image = _opened(content)
    image.draft(None, (side, side))  # a JPEG is decoded at an eighth of its size as fast as that sounds
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # every format has errors of its own
        raise UserError("the image is damaged or cut off: save or send it again") from error
    return _flat(image, max(1, max(image.size) // side))


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise UserError("the image is empty: expected the bytes of an image file, received none")
    if len(content) > BYTES_LIMIT:
        raise UserError(f"the image should have at most {BYTES_LIMIT / 1e6:.0f} MB: save it smaller")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        pixels = image.width * image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = sys.maxsize
    except Exception as error:  # of many kinds
        raise UserError(
            f"expected an image in {IN_WORDS} format, received bytes that start with {content[:8]!r}: save it as one "
            "of these"
        ) from error
    if pixels > PIXEL_LIMIT:
        raise UserError(f"the image should have at most {PIXEL_LIMIT / 1e6:.0f} megapixels: scale it down")
    return image


def _flat(image: Image.Image, factor: int) -> Image.Image:
    """The image in 8 bits and without transparency, its sides shorter by `factor`."""
    if image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).reduce(factor)
    if image.mode == "F":
        raise UserError("the image has fractions for pixels, for which white is not defined: save it in 8 bits")
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB").reduce(factor)
    coloured = image.convert("RGBA").reduce(factor)
    # What is drawn decides on what it lies: dark ink on white paper, light ink on black.
    opacity = np.asarray(coloured.getchannel("A"), float)
    ink = float((np.asarray(coloured.convert("L")) * opacity).sum() / max(1.0, opacity.sum()))
    paper = Image.new("RGBA", coloured.size, "white" if ink < 128 else "black")
    return Image.alpha_composite(paper, coloured).convert("RGB")


def _to_8_bits(deep: np.ndarray) -> np.ndarray:
    """Pixels of up to 16 bits, of which cameras and scanners may use no more than 10, 12 or 14."""
    bits = max(8, int(deep.max()).bit_length())
    return (np.clip(deep, 0, None) * (255 / (2**bits - 1))).astype(np.uint8)

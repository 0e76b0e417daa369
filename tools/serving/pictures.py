"""Decode image files of cameras, scanners and drawing programs for classification, in upright orientation.

Images are converted and scaled here. stages/split/image_files.py reads training images, without loss.
"""

import io
import sys
import warnings

import numpy as np
from PIL import Image, ImageOps

from many_seeds.errors import UserError

BYTES_LIMIT = 10_000_000
PIXEL_LIMIT = 25_000_000  # cameras of 12, 16 and 24 megapixels have slightly more
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
FORMAT_NAMES = "PNG, JPEG, WebP, GIF, BMP or TIFF"

# As Pillow's documentation recommends; `_open` raises a UserError for it.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(content: bytes, side: int) -> Image.Image:
    """Decode the first picture in an image file, upright and reduced in size.

    Transparent areas become white behind dark colours and black behind light ones.

    Args:
        content: the bytes of a file in one of `FORMATS`.
        side: the minimum of the longer side after the reduction, in pixels. The result may be up to twice as large, and
            smaller images are not enlarged.

    Returns:
        An image of mode L or RGB.

    Raises:
        UserError: the file is empty, too large, damaged, or has another format.
    """
    image = _open(content)
    image.draft(None, (side, side))  # lets JPEG files be decoded at a reduced size, which is much faster
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # the errors depend on the format
        raise UserError("the image is damaged or truncated: save or send it again") from error
    return _convert(image, max(1, max(image.size) // side))


def _open(content: bytes) -> Image.Image:
    """Open an image file without decoding its pixels, after checks of its size and format."""
    if not content:
        raise UserError("the image is empty: expected the bytes of an image file, received none")
    if len(content) > BYTES_LIMIT:
        raise UserError(f"the image should have at most {BYTES_LIMIT / 1e6:.0f} MB: save it smaller")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        pixels = image.width * image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = sys.maxsize
    except Exception as error:  # the errors depend on the format
        raise UserError(
            f"expected an image in {FORMAT_NAMES} format, received bytes that start with {content[:8]!r}: save it in "
            "one of these formats"
        ) from error
    if pixels > PIXEL_LIMIT:
        raise UserError(f"the image should have at most {PIXEL_LIMIT / 1e6:.0f} megapixels: scale it down")
    return image


def _convert(image: Image.Image, factor: int) -> Image.Image:
    """An image of mode L or RGB, without transparency, with its sides divided by `factor`."""
    if image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).reduce(factor)
    if image.mode == "F":
        raise UserError(
            "expected integer pixels, received floats, for which white is not defined: save the image with 8 bits"
        )
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB").reduce(factor)
    coloured = image.convert("RGBA").reduce(factor)
    # The background contrasts with the drawing: white for dark ink, black for light ink.
    opacity = np.asarray(coloured.getchannel("A"), float)
    ink = float((np.asarray(coloured.convert("L")) * opacity).sum() / max(1.0, opacity.sum()))
    paper = Image.new("RGBA", coloured.size, "white" if ink < 128 else "black")
    return Image.alpha_composite(paper, coloured).convert("RGB")


def _to_8_bits(deep: np.ndarray) -> np.ndarray:
    """Scale pixels of up to 16 bits to uint8. Cameras and scanners may use only 10, 12 or 14 bits of them."""
    bits = max(8, int(deep.max()).bit_length())
    return (np.clip(deep, 0, None) * (255 / (2**bits - 1))).astype(np.uint8)

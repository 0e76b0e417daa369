"""Image files of common formats, decoded without loss."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from many_seeds.errors import UserError
from stages.study.data import Resize

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
PIXELS = 1 << 26
# How an image of each mode is read: without loss, transparency apart.
MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
PNG = b"\x89PNG\r\n\x1a\n"
BITS_PER_SAMPLE = 258  # TIFF's tag


def decode(content: bytes, name: str) -> np.ndarray:
    """The pixels of an image file, uint8 [height, width] or [height, width, 3], upright.

    Args:
        content: a file of one of `FORMATS`.
        name: the name of the file in errors.

    Raises:
        UserError: the file is not such an image or is damaged; it has transparent pixels, more than 8 bits per channel,
            several frames, or another colour space than greyscale or RGB.
    """
    try:
        with _opened(content) as image:
            _check(image, content, name)
            image.load()
            upright = ImageOps.exif_transpose(image)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name} has more pixels than the limit of {PIXELS:,}: scale it down") from error
    # Every format has errors of its own for a damaged file.
    except Exception as error:
        reason = "is not an image" if isinstance(error, Image.UnidentifiedImageError) else f"is damaged: {error}"
        raise UserError(f"{name} {reason} (expected one of {', '.join(FORMATS)}): fix or remove it") from error
    if upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255:
        raise UserError(f"{name} has transparent pixels: store it without transparency")
    pixels = np.asarray(upright.convert(MODES[upright.mode]))
    # A palette image is grey if all of its colours are.
    grey = upright.mode in ("P", "PA") and (pixels == pixels[..., :1]).all()
    return pixels[..., 0].copy() if grey else pixels


def header(content: bytes) -> tuple[int, int]:
    """The number of pixels and of channels of an image file, from its header; zeros if `decode` refuses the file."""
    try:
        with _opened(content) as image:
            return image.width * image.height, Image.getmodebands(MODES[image.mode])
    # Every format has errors of its own for a damaged file.
    except Exception:  # noqa: BLE001
        return 0, 0


def _opened(content: bytes) -> Image.Image:
    """An image file, of which only the header has been read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(content), formats=FORMATS)


def resize(pixels: np.ndarray, size: Sequence[int], how: Resize, name: str) -> np.ndarray:
    """An image of another size, without distortion.

    Args:
        pixels: uint8 [height, width] or [height, width, 3].
        size: the new height and width.
        how: "fit" scales the whole image into the new size and adds black edges; "crop" fills the new size and cuts off
            what is beyond, on both sides alike.
        name: the name of the image in errors.

    Raises:
        UserError: the image is so oblong that nothing of it would be left in the new size.
    """
    image, (height, width) = Image.fromarray(pixels), size
    if how == "crop":
        return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC))
    whole = ImageOps.contain(image, (width, height), Image.Resampling.BICUBIC)
    if not all(whole.size):
        raise UserError(f"{name} is too oblong to fit into {width}x{height} pixels: cut it or remove it")
    return np.asarray(ImageOps.pad(whole, (width, height), Image.Resampling.BICUBIC, color=0))


def _check(image: Image.Image, content: bytes, name: str) -> None:
    """Checks that need no decoded pixels."""
    if image.width * image.height > PIXELS:
        raise UserError(
            f"{name} has {image.width}x{image.height} pixels, more than the limit of {PIXELS:,}: scale it down"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise UserError(f"{name} has {getattr(image, 'n_frames', 1)} frames: store one image in a file")
    # Pillow converts 16-bit colours to 8 bits without a warning.
    tiff = max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) if hasattr(image, "tag_v2") else 8
    deep = tiff > 8 or (content.startswith(PNG) and content[24] > 8)
    if deep or image.mode not in MODES:
        raise UserError(
            f"{name} has {'more than 8 bits per channel' if deep else f'pixels of mode {image.mode}'}: store it as "
            "8-bit greyscale or RGB"
        )

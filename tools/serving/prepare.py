"""Convert pictures to the format of a data set's images, so that its models can classify them."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from many_seeds.errors import UserError
from stages.split.image_files import resize
from stages.study.data import Resize
from tools.serving import finding, pictures

DIGITS = tuple("0123456789")
SAME_SIZE = 0.8  # minimum share of drawings that fill the box, in a data set of drawings scaled to a box
FINER = 8  # a picture that is scaled as those of the study was decoded at this multiple of their size, or in full
LIGHT = 128  # brightness of a light background; below it, the background is dark


@dataclass(frozen=True)
class Layout:
    """The layout of drawings in the images of a data set: light on dark, scaled to a box, placed by centre of mass.

    Attributes:
        box: the median of the longer side of the drawings, in pixels.
        centre: row and column of the mean centre of mass, from 0, in pixels.
        spread: the maximum distance of a centre of mass from `centre`, in pixels.
    """

    box: int
    centre: tuple[float, float]
    spread: float


@dataclass(frozen=True)
class Format:
    """The format of the images of a data set.

    Attributes:
        shape: (height, width) of grey images, or (height, width, 3) of colour images.
        layout: the layout of drawings; None if the images are not drawings on a background.
        resize: how whole pictures get this shape: "fit" or "crop", as `data.resize`; None to stretch them.
    """

    shape: tuple[int, ...]
    layout: Layout | None
    resize: Resize | None = None


def infer_format(images: np.ndarray, classes: list[str]) -> Format:
    """Infer the format of a data set from some of its images.

    MNIST's digits fill a box of 20x20 pixels, with their centre of mass in the centre of the image (Y. LeCun et al.
    1998, "Gradient-based learning applied to document recognition", section III.A). Images with such a layout, and the
    ten digits in any layout, are drawings: `prepare` finds the drawing in a picture. Other images are whole pictures.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3].
        classes: the names of the labels.
    """
    shape = images.shape[1:]
    if len(shape) == 3 or not len(images) or np.median([_edge(image) for image in images]) >= LIGHT:
        return Format(shape, None)
    drawn = images[images.any(axis=(1, 2))]
    centres = np.array([_mass_centre(image) for image in drawn])
    middle = np.round(2 * centres.mean(axis=0)) / 2
    spread = float(abs(centres - middle).max())
    sizes = np.array([max(_box(image).shape) for image in drawn])
    box = int(np.median(sizes))
    # Centred objects of different sizes are not scaled to a box: the size may distinguish the classes.
    if tuple(classes) != DIGITS and (spread > 1 or np.mean(abs(sizes - box) <= 1) < SAME_SIZE):
        return Format(shape, None)
    return Format(shape, Layout(box, (float(middle[0]), float(middle[1])), spread))


def prepare(content: bytes, form: Format) -> np.ndarray:
    """Convert an image file to the format of a data set.

    If the images of the data set are drawings, the drawing in the picture is found, inverted if it is dark on light,
    scaled and centred. A picture that has the layout of the data set already is returned unchanged. Other pictures are
    scaled to the size of the data set's images, as `form.resize` says, and converted to its colours.

    Args:
        content: the bytes of the image file.
        form: the format of the data set.

    Returns:
        uint8 of `form.shape`.

    Raises:
        UserError: the file is invalid, the image is blank, or it does not show exactly one drawing where one is
            expected; or the image can't be processed for another reason.
    """
    try:
        return _prepare(content, form)
    except UserError:
        raise
    # A file from anywhere must not end the requests and the pictures beside it.
    except Exception as error:
        raise UserError(
            f"the image can't be processed ({type(error).__name__}: {error}): save it in another size or format"
        ) from error


def _prepare(content: bytes, form: Format) -> np.ndarray:
    if form.layout is None:
        finer = 1 if form.resize is None else FINER
        return _scale(pictures.decode(content, finer * max(form.shape[:2])), form)
    picture = pictures.decode(content, finding.SIDE)
    if picture.size == (form.shape[1], form.shape[0]) and picture.mode == "L":
        image = np.asarray(picture)
        if _has_layout(image, form.layout):
            return image
    return _place(_find(picture, content), form.shape, form.layout)


def _find(picture: Image.Image, content: bytes) -> np.ndarray:
    """The drawing in a picture, also if it covers little of a large page.

    Args:
        picture: the picture, reduced.
        content: its file.

    Raises:
        UserError: as `finding.find`.
    """
    try:
        return finding.find(picture)
    except finding.BlankError:
        part = finding.crop_to_ink(pictures.decode(content, finding.LARGE_SIDE))
        if part is None:
            raise
        return finding.find(part)


def _scale(picture: Image.Image, form: Format) -> np.ndarray:
    """The whole picture, scaled to uint8 of the format's shape."""
    contrast = int(np.ptp(np.asarray(picture.convert("L"))))
    if contrast < 255 * finding.CONTRAST:
        raise UserError(
            f"the image is blank: its brightness should vary by at least {255 * finding.CONTRAST:.0f} of 255, received "
            f"{contrast}"
        )
    shape = form.shape
    coloured = picture.convert("RGB" if len(shape) == 3 else "L")
    if form.resize is not None:
        return resize(np.asarray(coloured), shape[:2], form.resize, "the image")
    return np.asarray(coloured.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, reducing_gap=3))


def _has_layout(image: np.ndarray, layout: Layout) -> bool:
    """Whether a grey image has the layout of the data set already."""
    if _edge(image) >= LIGHT or image.max() < 255 * finding.CONTRAST:
        return False
    if layout.spread > 1:
        return True
    away = abs(_mass_centre(image) - np.array(layout.centre)).max()
    return bool(away <= layout.spread + 0.1) and abs(max(*_box(image).shape) - layout.box) <= 1


def _edge(image: np.ndarray) -> float:
    """The median brightness of the outermost pixels."""
    return float(np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])))


def _box(image: np.ndarray) -> np.ndarray:
    """An image cropped to the bounding box of its pixels above 0."""
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _mass_centre(image: np.ndarray) -> np.ndarray:
    """The row and the column of the centre of mass, from 0: float [2]."""
    total = float(image.sum())
    return np.array([float(image.sum(axis=1 - axis) @ np.arange(image.shape[axis])) / total for axis in (0, 1)])


def _place(drawing: np.ndarray, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
    """Scale a drawing to the box of a layout and move its centre of mass to that of the layout.

    Args:
        drawing: float [height, width], from 0 to 1.
        shape: of the result.
        layout: the layout.

    Returns:
        uint8 of `shape`.
    """
    scale = layout.box / max(drawing.shape)
    height, width = (max(1, round(side * scale)) for side in drawing.shape)
    drawn = Image.fromarray(drawing.astype(np.float32))
    small = np.asarray(drawn.resize((width, height), Image.Resampling.BILINEAR))
    small = small / small.max()  # scaling makes thin strokes pale, but the darkest ink should be 1
    centre = _mass_centre(small)
    place = []
    for axis in (0, 1):
        length = small.shape[axis]
        start = min(max(0, round(layout.centre[axis] - centre[axis])), shape[axis] - length)
        place.append(slice(start, start + length))
    image = np.zeros(shape, np.uint8)
    image[tuple(place)] = np.round(small * 255)
    return image

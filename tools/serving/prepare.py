"""People's pictures as a data set's images are, so that its models can classify them."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from many_seeds.errors import UserError
from tools.serving import finding, pictures

DIGITS = tuple("0123456789")
ALIKE = 0.8  # of drawings that are scaled to a box, so many fill it
LIGHT = 128  # a background below it is dark


@dataclass(frozen=True)
class Layout:
    """How drawings lie in the images of a data set: light on dark, scaled to a box, by their centre of mass.

    box: pixels of a drawing's longer side, as most have it.
    centre: row and column of the centre of mass, from 0.
    spread: how far from `centre` it is at most, in pixels.
    """

    box: int
    centre: tuple[float, float]
    spread: float


@dataclass(frozen=True)
class Format:
    """What a data set's models take.

    shape: of an image, (height, width) in grey or (height, width, 3) in colour.
    layout: of its drawings; None for pictures that are taken whole.
    """

    shape: tuple[int, ...]
    layout: Layout | None


def measured(images: np.ndarray, classes: list[str]) -> Format:
    """The format of a data set, from some of its images: drawings on a background are found by how alike they lie.

    MNIST's digits fill a box of 20x20 pixels, their centre of mass in the centre of the image (Y. LeCun et al. 1998,
    "Gradient-based learning applied to document recognition", section III.A). Whatever lies like that, and the ten
    digits in any place, are drawings, for which people's pictures are searched. Other images are pictures as they are.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3].
        classes: names of the labels.
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
    # What is centred may have a size that tells its class.
    if tuple(classes) != DIGITS and (spread > 1 or np.mean(abs(sizes - box) <= 1) < ALIKE):
        return Format(shape, None)
    return Format(shape, Layout(box, (float(middle[0]), float(middle[1])), spread))


def prepare(content: bytes, form: Format) -> np.ndarray:
    """The bytes of an image file as the models take an image: uint8 of `form.shape`.

    Where the data set's images are drawings, the one drawing in the picture is found, turned to light on dark, scaled
    and centred as theirs are; a picture that is laid out like them already is left as it is. Other pictures are
    scaled to the data set's size, whatever their proportions, in its colours.

    Raises:
        UserError: it can't be read, is blank, or does not show one drawing where one is looked for.
    """
    if form.layout is None:
        return _whole(pictures.decode(content, max(form.shape[:2])), form.shape)
    picture = pictures.decode(content, finding.SIDE)
    if picture.size == (form.shape[1], form.shape[0]) and picture.mode == "L":
        image = np.asarray(picture)
        if _is_laid_out(image, form.layout):
            return image
    return _placed(finding.find(picture), form.shape, form.layout)


def _whole(picture: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    contrast = int(np.ptp(np.asarray(picture.convert("L"))))
    if contrast < 255 * finding.CONTRAST:
        raise UserError(
            f"the image is blank: its brightness varies by {contrast} of 255; send one that shows something"
        )
    coloured = picture.convert("RGB" if len(shape) == 3 else "L")
    return np.asarray(coloured.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, reducing_gap=3))


def _is_laid_out(image: np.ndarray, layout: Layout) -> bool:
    if _edge(image) >= LIGHT or image.max() < 255 * finding.CONTRAST:
        return False
    if layout.spread > 1:
        return True
    away = abs(_mass_centre(image) - np.array(layout.centre)).max()
    return bool(away <= layout.spread + 0.1) and abs(max(*_box(image).shape) - layout.box) <= 1


def _edge(image: np.ndarray) -> float:
    return float(np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])))


def _box(image: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _mass_centre(image: np.ndarray) -> np.ndarray:
    """Row and column, from 0."""
    total = float(image.sum())
    return np.array([float(image.sum(axis=1 - axis) @ np.arange(image.shape[axis])) / total for axis in (0, 1)])


def _placed(drawing: np.ndarray, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
    """A drawing, float from 0 to 1, scaled to the layout's box, its centre of mass where the layout has it."""
    scale = layout.box / max(drawing.shape)
    height, width = (max(1, round(side * scale)) for side in drawing.shape)
    drawn = Image.fromarray(drawing.astype(np.float32))
    small = np.asarray(drawn.resize((width, height), Image.Resampling.BILINEAR))
    small = small / small.max()  # thin strokes are pale by now, and a drawing has its full ink somewhere
    centre = _mass_centre(small)
    place = []
    for axis in (0, 1):
        length = small.shape[axis]
        start = min(max(0, round(layout.centre[axis] - centre[axis])), shape[axis] - length)
        place.append(slice(start, start + length))
    image = np.zeros(shape, np.uint8)
    image[tuple(place)] = np.round(small * 255)
    return image

"""Find the drawing in a picture, without the paper, table, frame, ruled lines and shadows around it."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import filters, measure, segmentation

from many_seeds.errors import UserError

SIDE = 200  # pixels of the longer side at which drawings are found, and grain is averaged out
LEAST_SIDE = 112  # smaller pictures are enlarged, so that the lengths below are at least a few pixels
CONTRAST = 32 / 255  # minimum difference of paper and ink, as a fraction of white; pictures with less are blank
NESTED = 3  # maximum depth of nested pages, such as a sheet with a frame on a table
PEAK = 99.8  # percentile of darkness that represents ink, which excludes single dark pixels
MOST_OBLONG = 10  # maximum ratio of the sides of a picture
LARGE_SIDE = 1500  # pixels of the longer side at which small drawings on large pages are found
EXPECTED = "it should show one drawing on a background"


class BlankError(UserError):
    """A picture shows nothing, or nothing but specks and lines."""


def find(picture: Image.Image) -> np.ndarray:
    """Find the drawing in a picture or on a page within it, such as a sheet on a table, a frame or a badge.

    Args:
        picture: of mode L or RGB.

    Returns:
        float [height, width], the drawing cropped to its bounding box, from 0 for paper to 1 for ink.

    Raises:
        UserError: the picture is blank, does not show exactly one drawing, or is a strip.
    """
    if max(picture.size) > MOST_OBLONG * min(picture.size):
        raise UserError(
            f"the image should be at most {MOST_OBLONG} times as long as wide, received "
            f"{picture.width}x{picture.height} pixels: {EXPECTED}"
        )
    factor = max(1, -(-LEAST_SIDE // max(picture.size)))
    enlarged = picture.convert("L").resize((picture.width * factor, picture.height * factor), Image.Resampling.BILINEAR)
    grey = np.asarray(enlarged, float) / 255
    for _ in range(NESTED):
        grey = _inner_page(grey)
    darkness = _remove_edges(_flatten(filters.gaussian(grey, max(0.5, max(grey.shape) / 500))))
    darkness = _remove_lines(_remove_lines(darkness).T).T
    mask = darkness > _threshold(darkness)
    strokes = _outlined_strokes(mask)
    mask, darkness = mask | strokes, np.where(strokes, darkness.max(), darkness)
    drawn = _select_drawing(mask)
    near = ndimage.binary_dilation(drawn, iterations=2) & ~(mask & ~drawn)
    ink = np.where(near, darkness / np.median(darkness[drawn]), 0)[_box(drawn)]
    # Values within a quarter of the contrast from paper or ink become 0 or 1, like MNIST's originals.
    return np.clip(2 * ink - 0.5, 0, 1)


def crop_to_ink(picture: Image.Image) -> Image.Image | None:
    """The part of a large, evenly lit page around its ink, for drawings that cover little of it.

    Args:
        picture: of mode L or RGB, with a longer side of at least `LARGE_SIDE` if the file has as many pixels.

    Returns:
        The crop, with a margin as wide as the ink; None if the ink differs too little from the page, extends over half
        of it, or reaches its edge.
    """
    smooth = filters.gaussian(np.asarray(picture.convert("L"), float) / 255, max(0.5, max(picture.size) / 2000))
    difference = abs(smooth - np.median(smooth))
    if difference.max() < 2 * CONTRAST:
        return None
    parts = measure.regionprops(measure.label(difference > difference.max() / 2))
    largest = max(map(_size, parts))
    boxes = np.array([part.bbox for part in parts if _size(part) >= largest / 4])  # without dust
    top, left = map(int, boxes[:, :2].min(axis=0))
    bottom, right = map(int, boxes[:, 2:].max(axis=0))
    margin = max(bottom - top, right - left)
    touches = top == 0 or left == 0 or bottom == picture.height or right == picture.width
    if touches or margin > max(picture.size) / 2:
        return None
    return picture.crop(
        (
            max(0, left - margin),
            max(0, top - margin),
            min(picture.width, right + margin),
            min(picture.height, bottom + margin),
        )
    )


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """The bounding box of a mask."""
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _border(image: np.ndarray) -> np.ndarray:
    """The outermost pixels of an image [height, width], as [n]."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _thickness(mask: np.ndarray) -> float:
    """The diameter of the largest disc within a mask, in pixels."""
    return 2 * float(ndimage.distance_transform_edt(np.pad(mask, 1)).max())


def _slenderness(mask: np.ndarray) -> float:
    """The area of a mask, divided by its squared thickness: 0.8 for a disc, about length / width for a stroke."""
    return float(mask.sum()) / _thickness(mask) ** 2


def _inner_page(grey: np.ndarray) -> np.ndarray:
    """Crop a picture to the sheet, badge or frame in it, and fill the rest of the crop with the brightness of its edge.

    Args:
        grey: float [height, width], from 0 to 1.

    Returns:
        The crop, or the picture itself if there is no such page.

    Raises:
        UserError: the picture shows a shape without a drawing on it.
    """
    bright = grey > filters.threshold_otsu(grey, nbins=128)
    labels = measure.label(bright != (_border(bright).mean() > 0.5), connectivity=1)
    shape = max(measure.regionprops(labels), key=lambda region: region.area_bbox, default=None)
    if shape is None or shape.area_filled < max(0.04 * grey.size, 0.92 * shape.area_convex):
        return grey
    inside = np.zeros_like(bright)
    inside[shape.slice] = shape.image_filled
    if _border(inside).mean() > 0.2:
        return grey
    holes = measure.regionprops(measure.label(inside & (labels == 0), connectivity=1))
    hole = max(holes, key=lambda region: region.area, default=None)
    if hole is None and _thickness(shape.image) > max(grey.shape) / 5 and _slenderness(shape.image) < 1.6:
        raise UserError(f"the image shows a shape without a drawing on it: {EXPECTED}")
    if hole is None or not _is_drawing(hole, shape):
        return grey
    if hole.area > 0.5 * shape.area_filled:  # the shape is a frame around the page
        inside[:] = False
        inside[hole.slice] = hole.image_filled
    rim = max(2, round(max(shape.image.shape) / 80))
    sheet = ndimage.binary_erosion(inside, iterations=rim)
    edge = sheet & ~ndimage.binary_erosion(sheet, iterations=2)
    return np.where(sheet, grey, np.median(grey[edge]))[_box(sheet)]


def _is_drawing(hole: Any, shape: Any) -> bool:
    """Whether a hole in a shape is a drawing on a page, and not the hole of a 0 or an 8.

    Args:
        hole: the region of the hole, of `skimage.measure.regionprops`.
        shape: the region of the shape.
    """
    has_islands = hole.area_filled > hole.area
    if hole.area > 0.5 * shape.area_filled or has_islands:
        return has_islands
    return hole.solidity < 0.8 or _thickness(hole.image) < 0.22 * _thickness(shape.image_filled)


def _flatten(grey: np.ndarray) -> np.ndarray:
    """The darkness of each pixel relative to the paper around it, from 0 to 1, or the brightness of light ink.

    The brightness of the paper is a grey closing with a square of a third of the page, which removes strokes and keeps
    shadows.

    Args:
        grey: float [height, width], from 0 to 1.
    """
    reach = max(3, max(grey.shape) // 3)
    low, high = np.percentile(grey, [100 - PEAK, PEAK]) - np.median(_border(grey))
    if -low < high:
        grey = 1 - grey
    paper = ndimage.grey_closing(grey, (reach, reach))
    return (paper - grey) / np.maximum(paper, CONTRAST)


def _threshold(darkness: np.ndarray) -> float:
    """The threshold between paper and ink: half of the ink's darkness.

    Raises:
        BlankError: the picture is blank.
    """
    peak = float(np.percentile(darkness, PEAK))
    if peak < CONTRAST:
        raise BlankError(
            f"the image is blank: the brightness of a drawing should differ from its background by at least "
            f"{255 * CONTRAST:.0f} of 255, received {255 * peak:.0f}"
        )
    return peak / 2


def _remove_edges(darkness: np.ndarray) -> np.ndarray:
    """Remove dark areas along a whole edge of the picture, such as a table next to the paper."""
    thick = max(4, max(darkness.shape) // 35)
    labels = measure.label(ndimage.binary_opening(darkness > _threshold(darkness), np.ones((thick, thick))))
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    along = [label for edge in edges for label in np.unique(edge) if label and (edge == label).mean() > 0.6]
    rest = np.where(ndimage.binary_dilation(np.isin(labels, along), np.ones((7, 7))), 0, darkness)
    return rest if np.percentile(rest, PEAK) > CONTRAST else darkness


def _remove_lines(darkness: np.ndarray) -> np.ndarray:
    """Remove horizontal lines from edge to edge, except where strokes cross them."""
    height, width = darkness.shape
    thickest = max(4, max(darkness.shape) // 35)
    mask = darkness > 0.6 * _threshold(darkness)  # lines may be lighter than ink
    runs = ndimage.binary_opening(mask, np.ones((1, max(5, width // 8))))
    runs &= ~ndimage.binary_dilation(ndimage.binary_opening(runs, np.ones((thickest, 1))), np.ones((5, 5)))
    padded = np.pad(runs, ((0, 0), (width, width)))
    bridged = ndimage.grey_closing(padded, (5, 2 * width // 3))[:, width:-width]
    line = np.zeros_like(mask)
    for region in measure.regionprops(measure.label(bridged)):
        if region.image.shape[1] > 0.9 * width and region.image.shape[0] < 0.2 * height:
            line[region.slice] |= region.image
    line = ndimage.binary_dilation(line & runs, np.ones((3, 1)))
    return np.where(line, ndimage.grey_closing(np.where(line, 0, darkness), (thickest + 4, 1)), darkness)


def _outlined_strokes(drawn: np.ndarray) -> np.ndarray:
    """The inside of outlined strokes, as a mask; empty if the strokes are not outlined."""
    pen = _thickness(drawn)
    strokes = np.zeros_like(drawn)
    for hole in measure.regionprops(segmentation.clear_border(measure.label(~drawn, connectivity=1))):
        if hole.area < 30 or _thickness(hole.image) < 1.2 * pen:
            continue
        if _slenderness(hole.image) > 3 or hole.solidity < 0.85:
            strokes[hole.slice] |= hole.image
    outline = drawn & (ndimage.distance_transform_edt(~strokes) <= pen + 3)
    return strokes if strokes.any() and outline.sum() > 0.9 * drawn.sum() else np.zeros_like(drawn)


def _select_drawing(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask that belong to the drawing: the largest one, and those that are close to it.

    Args:
        mask: bool [height, width], the ink.

    Raises:
        UserError: there is no drawing, or more than one.
    """
    labels = measure.label(mask)
    parts = sorted(measure.regionprops(labels), key=_size, reverse=True)
    if not parts or _size(parts[0]) < max(mask.shape) / 25:
        raise BlankError(f"the image shows only specks and lines: {EXPECTED}")
    drawing = _connected_parts(parts, dust=0.02 * max(mask.shape))
    height = max(part.bbox[2] for part in drawing) - min(part.bbox[0] for part in drawing)
    if len(drawing) > 6 or any(_are_two(a, b, height) for a, b in itertools.combinations(drawing, 2)):
        raise UserError(f"the image shows more than one drawing: {EXPECTED}")
    drawn = np.isin(labels, [part.label for part in drawing])
    _check_strokes(drawn[_box(drawn)])
    return drawn


def _connected_parts(parts: Sequence[Any], dust: float) -> list[Any]:
    """The largest part, and the parts that are close to it or to one another.

    Args:
        parts: regions of `skimage.measure.regionprops`, the largest first.
        dust: the size in pixels below which parts are ignored.

    Raises:
        UserError: another large part is far away.
    """
    size = _size(parts[0])
    connected = [parts[0]]
    for part in parts[1:]:
        if _size(part) < max(dust, 0.06 * size):
            continue
        if any(_gap(part, other) <= 0.15 * size for other in connected):
            connected.append(part)
        elif _size(part) > size / 3:
            raise UserError(f"the image shows more than one drawing: {EXPECTED}")
    return connected


def _size(part: Any) -> int:
    """The longer side of the bounding box of a part, in pixels."""
    return max(part.image.shape)


def _gap(a: Any, b: Any) -> int:
    """The distance between the bounding boxes of two parts, in pixels."""
    return max(a.bbox[0] - b.bbox[2], b.bbox[0] - a.bbox[2], a.bbox[1] - b.bbox[3], b.bbox[1] - a.bbox[3], 0)


def _are_two(a: Any, b: Any, height: int) -> bool:
    """Whether two parts are next to each other or one above the other, and each has the size of a digit.

    Args:
        a: a region.
        b: another region.
        height: the height of the drawing in pixels.
    """
    low, narrow = (min(a.image.shape[axis], b.image.shape[axis]) for axis in (0, 1))
    above, beside = (a.bbox[axis + 2] <= b.bbox[axis] or b.bbox[axis + 2] <= a.bbox[axis] for axis in (0, 1))
    return (beside and low > 0.6 * height) or (above and low > 0.33 * height and narrow > 0.2 * height)


def _check_strokes(drawn: np.ndarray) -> None:
    """Check that a drawing consists of strokes and has plausible proportions.

    Args:
        drawn: bool [height, width], the drawing, cropped to its bounding box.

    Raises:
        UserError: it does not.
    """
    height, width = drawn.shape
    if width > 1.7 * height:
        raise UserError(f"the image shows something {width / height:.1f} times as wide as high: {EXPECTED}")
    if _slenderness(drawn) < 1.3:
        raise UserError(f"the image shows a filled shape without strokes: {EXPECTED}")
    if measure.euler_number(drawn) < -8:
        raise UserError(f"the image shows something with more holes than a drawing: {EXPECTED}")
    if width > 0.3 * height and ndimage.binary_fill_holes(drawn).mean() > 0.93:
        raise UserError(f"the image shows an empty frame: {EXPECTED}")

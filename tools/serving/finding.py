"""Find the one drawing in a picture: its ink, without the paper, table, frame, ruled lines and light around it."""

import itertools
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import filters, measure, segmentation

from many_seeds.errors import UserError

SIDE = 200  # pixels of the longer side that is enough to find a drawing and not too much for grain
LEAST_SIDE = 112  # a smaller picture is enlarged, so that lengths below are of some pixels
CONTRAST = 32 / 255  # between paper and ink; with less a picture counts as blank
NESTED = 3  # pages in pages: a sheet on a table, with a frame
PEAK = 99.8  # percentile of the darkness that counts as ink's, above single grains
ALONE = "it should show one drawing on a background"


def find(picture: Image.Image) -> np.ndarray:
    """Find the drawing, on a page that lies within the picture (a sheet on a table, a frame, a badge) or on the whole.

    Args:
        picture: mode L or RGB.

    Returns:
        The drawing alone, cropped to its box: float [height, width], from 0 for paper to 1 for ink.

    Raises:
        UserError: the picture is blank, or does not show one drawing alone.
    """
    factor = max(1, -(-LEAST_SIDE // max(picture.size)))
    enlarged = picture.convert("L").resize((picture.width * factor, picture.height * factor), Image.Resampling.BILINEAR)
    grey = np.asarray(enlarged, float) / 255
    for _ in range(NESTED):
        grey = _inner_page(grey)
    darkness = _without_edges(_flattened(filters.gaussian(grey, max(0.5, max(grey.shape) / 500))))
    darkness = _without_level_lines(_without_level_lines(darkness).T).T
    mask = darkness > _half(darkness)
    strokes = _outlined_strokes(mask)
    mask, darkness = mask | strokes, np.where(strokes, darkness.max(), darkness)
    drawn = _one_drawing(mask)
    near = ndimage.binary_dilation(drawn, iterations=2) & ~(mask & ~drawn)
    ink = np.where(near, darkness / np.median(darkness[drawn]), 0)[_box(drawn)]
    # A quarter of the contrast from paper or ink is taken for it: MNIST's originals were black and white.
    return np.clip(2 * ink - 0.5, 0, 1)


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _border(image: np.ndarray) -> np.ndarray:
    """The outermost pixels."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _thickness(mask: np.ndarray) -> float:
    """The diameter of the largest disc within a mask."""
    return 2 * float(ndimage.distance_transform_edt(np.pad(mask, 1)).max())


def _slenderness(mask: np.ndarray) -> float:
    """The area of a mask in squares of its thickness: 0.8 for a disc, about length by width for a stroke."""
    return float(mask.sum()) / _thickness(mask) ** 2


def _inner_page(grey: np.ndarray) -> np.ndarray:
    """The sheet, badge or frame in a picture, with its own brightness around it; the picture itself if there is none.

    Raises:
        UserError: there is a shape without a drawing on it.
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
        raise UserError(f"there is a shape in the image, and nothing is drawn on it: {ALONE}")
    if hole is None or not _is_drawing(hole, shape):
        return grey
    if hole.area > 0.5 * shape.area_filled:  # the shape is a line around the page
        inside[:] = False
        inside[hole.slice] = hole.image_filled
    rim = max(2, round(max(shape.image.shape) / 80))
    sheet = ndimage.binary_erosion(inside, iterations=rim)
    edge = sheet & ~ndimage.binary_erosion(sheet, iterations=2)
    return np.where(sheet, grey, np.median(grey[edge]))[_box(sheet)]


def _is_drawing(hole: Any, shape: Any) -> bool:
    """Whether what a shape surrounds is a drawing on a page, and not the hole of a 0 or an 8."""
    has_islands = hole.area_filled > hole.area
    if hole.area > 0.5 * shape.area_filled or has_islands:
        return has_islands
    return hole.solidity < 0.8 or _thickness(hole.image) < 0.22 * _thickness(shape.image_filled)


def _flattened(grey: np.ndarray) -> np.ndarray:
    """How much of the paper's brightness each pixel lacks, from 0 to 1; where ink is lighter, how much more it has.

    A closing by a square of a third of the page takes strokes away and leaves paper, light and shadow.
    """
    reach = max(3, max(grey.shape) // 3)
    low, high = np.percentile(grey, [100 - PEAK, PEAK]) - np.median(_border(grey))
    if -low < high:
        grey = 1 - grey
    paper = ndimage.grey_closing(grey, (reach, reach))
    return (paper - grey) / np.maximum(paper, CONTRAST)


def _half(darkness: np.ndarray) -> float:
    """Half of the ink's darkness.

    Raises:
        UserError: there is no ink.
    """
    peak = float(np.percentile(darkness, PEAK))
    if peak < CONTRAST:
        raise UserError(
            f"the image is blank: its brightness differs by {255 * peak:.0f} of 255 from the background's, and a "
            f"drawing's should by {255 * CONTRAST:.0f} or more"
        )
    return peak / 2


def _without_edges(darkness: np.ndarray) -> np.ndarray:
    """Without what lies along a whole edge of the picture, such as a table beside the paper."""
    thick = max(4, max(darkness.shape) // 35)
    labels = measure.label(ndimage.binary_opening(darkness > _half(darkness), np.ones((thick, thick))))
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    along = [label for edge in edges for label in np.unique(edge) if label and (edge == label).mean() > 0.6]
    rest = np.where(ndimage.binary_dilation(np.isin(labels, along), np.ones((7, 7))), 0, darkness)
    return rest if np.percentile(rest, PEAK) > CONTRAST else darkness


def _without_level_lines(darkness: np.ndarray) -> np.ndarray:
    """Without lines from edge to edge; where a stroke crosses them, it stays."""
    height, width = darkness.shape
    thickest = max(4, max(darkness.shape) // 35)
    mask = darkness > 0.6 * _half(darkness)  # lines may be paler than ink
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
    """What lies within the outlines of a drawing's strokes; nothing where strokes are not outlined."""
    pen = _thickness(drawn)
    strokes = np.zeros_like(drawn)
    for hole in measure.regionprops(segmentation.clear_border(measure.label(~drawn, connectivity=1))):
        if hole.area < 30 or _thickness(hole.image) < 1.2 * pen:
            continue
        if _slenderness(hole.image) > 3 or hole.solidity < 0.85:
            strokes[hole.slice] |= hole.image
    beside = drawn & (ndimage.distance_transform_edt(~strokes) <= pen + 3)
    return strokes if strokes.any() and beside.sum() > 0.9 * drawn.sum() else np.zeros_like(drawn)


def _one_drawing(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask that are the drawing: the largest, and what is close to it.

    Raises:
        UserError: there are several drawings, or none.
    """
    parts = sorted(measure.regionprops(measure.label(mask)), key=_size, reverse=True)
    if not parts or _size(parts[0]) < max(mask.shape) / 25:
        raise UserError(f"there is nothing but specks and lines in the image: {ALONE}")
    size = _size(parts[0])
    drawing = parts[:1]
    for part in parts[1:]:
        if _size(part) < max(0.02 * max(mask.shape), 0.06 * size):  # dust
            continue
        if any(_gap(part, other) <= 0.15 * size for other in drawing):
            drawing.append(part)
        elif _size(part) > size / 3:
            raise UserError(f"there is more than one thing in the image: {ALONE}")
    height = max(part.bbox[2] for part in drawing) - min(part.bbox[0] for part in drawing)
    if len(drawing) > 6 or any(_are_two(a, b, height) for a, b in itertools.combinations(drawing, 2)):
        raise UserError(f"there is more than one thing in the image: {ALONE}")
    drawn = np.isin(measure.label(mask), [part.label for part in drawing])
    _check_strokes(drawn[_box(drawn)])
    return drawn


def _size(part: Any) -> int:
    """The longer side of the box around a part, in pixels."""
    return max(part.image.shape)


def _gap(a: Any, b: Any) -> int:
    """Pixels between the boxes of two parts."""
    return max(a.bbox[0] - b.bbox[2], b.bbox[0] - a.bbox[2], a.bbox[1] - b.bbox[3], b.bbox[1] - a.bbox[3], 0)


def _are_two(a: Any, b: Any, height: int) -> bool:
    """Whether two parts of a drawing stand side by side, or one above the other, each as large as a digit would be."""
    low, narrow = (min(a.image.shape[axis], b.image.shape[axis]) for axis in (0, 1))
    above, beside = (a.bbox[axis + 2] <= b.bbox[axis] or b.bbox[axis + 2] <= a.bbox[axis] for axis in (0, 1))
    return (beside and low > 0.6 * height) or (above and low > 0.33 * height and narrow > 0.2 * height)


def _check_strokes(drawn: np.ndarray) -> None:
    height, width = drawn.shape
    if width > 1.7 * height:
        raise UserError(f"what is in the image is {width / height:.1f} times as wide as high: {ALONE}")
    if _slenderness(drawn) < 1.3:
        raise UserError(f"what is in the image is a filled shape without strokes: {ALONE}")
    if measure.euler_number(drawn) < -8:
        raise UserError(f"what is in the image has more holes than a drawing: {ALONE}")
    if width > 0.3 * height and ndimage.binary_fill_holes(drawn).mean() > 0.93:
        raise UserError(f"what is in the image is an empty frame: {ALONE}")

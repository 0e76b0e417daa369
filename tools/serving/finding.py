"""The one drawing in a picture: ink without the paper, table, frame, lines and light around it; or words why not.

SciPy does the work. OpenCV and scikit-image have the same filters, and would add 153 and 37 MB to an installation.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from many_seeds.errors import UserError

SIDE = 200  # pixels of the longer side that is enough to find a drawing and not too much for grain
LEAST_SIDE = 112  # a smaller picture is enlarged, so that lengths below are of some pixels
CONTRAST = 32 / 255  # between paper and ink; with less a picture counts as blank
NESTED = 3  # pages in pages: a sheet on a table, with a frame
PEAK = 99.8  # percentile of the darkness that counts as ink's, above single grains

ALONE = "show one drawing on a background"
CONNECTED = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Piece:
    """A connected part of the ink, by its place and its number of pixels."""

    number: int
    top: int
    bottom: int
    left: int
    right: int
    area: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def size(self) -> int:
        return max(self.height, self.width)


def find(picture: Image.Image) -> np.ndarray:
    """The drawing alone, cropped to its box: float [height, width], from 0 for paper to 1 for ink.

    A page that lies within the picture (a sheet on a table, a frame, a badge) is looked for first, by Otsu's threshold
    and its convex outline. Ink is what differs from the paper around it: a closing by a square of a third of the page
    takes strokes away and leaves paper, light and shadow. Lines from edge to edge go; where a stroke crosses them, it
    stays.

    Args:
        picture: mode L or RGB.

    Raises:
        UserError: it is blank, or does not show one drawing alone.
    """
    grey = _page(_resized(picture))
    darkness = _flattened(ndimage.gaussian_filter(grey, max(0.5, max(grey.shape) / 500)))
    darkness = _without_lines(_without_edges(darkness))
    mask = darkness > _half(darkness)
    strokes = _outlined_strokes(mask)
    mask, darkness = mask | strokes, np.where(strokes, darkness.max(), darkness)
    labels, pieces = _pieces(mask)
    drawn = np.isin(labels, [piece.number for piece in _one_drawing(pieces, mask.shape)])
    level = float(np.median(darkness[drawn]))
    near = ndimage.binary_dilation(drawn, iterations=2) & ~(mask & ~drawn)
    ink = np.where(near, darkness / level, 0)
    _see_that_it_has_strokes(drawn)
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A quarter of the contrast from paper or ink is taken for it: MNIST's originals were black and white.
    return np.clip(2 * digit - 0.5, 0, 1)


def _resized(picture: Image.Image) -> np.ndarray:
    """Brightness from 0 to 1, the longer side of `LEAST_SIDE` to twice `SIDE` pixels."""
    grey = picture.convert("L")
    longer = max(grey.size)
    if longer < LEAST_SIDE:
        factor = -(-LEAST_SIDE // longer)
        grey = grey.resize((grey.width * factor, grey.height * factor), Image.Resampling.BILINEAR)
    return np.asarray(grey, float) / 255


def _otsu(values: np.ndarray) -> float:
    """The threshold that separates two classes best (N. Otsu 1979)."""
    counts, edges = np.histogram(values, 128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * centres)
    low, high = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (high - low) ** 2)])


def _border(image: np.ndarray) -> np.ndarray:
    """The outermost pixels."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _page(grey: np.ndarray) -> np.ndarray:
    """The part of a picture that a drawing lies on."""
    for _ in range(NESTED):
        inner = _inner_page(grey)
        if inner is None:
            break
        grey = inner
    return grey


def _inner_page(grey: np.ndarray) -> np.ndarray | None:
    """A sheet, badge or frame in a picture, with all around it in the sheet's own brightness; None if there is none."""
    bright = grey > _otsu(grey)
    labels, count = ndimage.label(bright != (_border(bright).mean() > 0.5))
    if not count:
        return None
    shape = labels == 1 + int(
        np.argmax(
            [(part[0].stop - part[0].start) * (part[1].stop - part[1].start) for part in ndimage.find_objects(labels)]
        )
    )
    outline = ndimage.binary_fill_holes(shape)
    if outline.mean() < 0.04 or _border(outline).mean() > 0.2 or _convexity(outline) < 0.92:
        return None
    inside = _inside(grey, shape, outline, labels == 0)
    return None if inside is None else _cut_out(grey, inside)


def _inside(grey: np.ndarray, shape: np.ndarray, outline: np.ndarray, ground: np.ndarray) -> np.ndarray | None:
    """Where a drawing lies in a shape: within a frame's line, or on a sheet; None where the shape is the drawing."""
    if _thickness(shape) > max(grey.shape) / 5 and _slenderness(shape) < 1.6 and _has_sharp_edge(grey, outline):
        raise UserError(f"there is a shape in the image, and nothing is drawn on it: it should {ALONE}")
    labels, count = ndimage.label(outline & ground)
    if not count:
        return None
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    whole = ndimage.binary_fill_holes(largest)
    island = whole & ~largest
    height = _extent(outline)
    if largest.sum() > 0.5 * outline.sum():  # a line around it all
        is_frame = _extent(island) > 0.15 * height and _thickness(largest) > 0.28 * height
        return whole if is_frame else None  # an outlined 0 or 8 is as narrow as a stroke in there
    if shape.sum() < 0.5 * outline.sum() or _extent(largest) < 0.15 * height:
        return None
    # The hole of an 8 or a 0 is round, or takes most of its width; what is drawn on a sheet has strokes, or holes.
    is_stroke = _slenderness(largest) > 2.2 and _thickness(largest) < 0.22 * _thickness(outline)
    has_drawing = is_stroke or island.any() or _convexity(largest) < 0.8
    is_sheet = outline.mean() > 0.12 and _slenderness(outline) < 1.5
    return outline if has_drawing and is_sheet and _has_sharp_edge(grey, outline) else None


def _extent(mask: np.ndarray) -> int:
    """The longer side of the box around it; 0 for nothing."""
    sides = [np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1)]
    return max(int(side[-1] - side[0]) + 1 if len(side) else 0 for side in sides)


def _thickness(mask: np.ndarray) -> float:
    """The diameter of the largest disc within it."""
    return 2 * float(ndimage.distance_transform_edt(np.pad(mask, 1)).max())


def _slenderness(mask: np.ndarray) -> float:
    """Its area in squares of its thickness: 0.8 for a disc, about its length by its width for a stroke."""
    return float(mask.sum()) / _thickness(mask) ** 2


def _convexity(mask: np.ndarray) -> float:
    """The share of its convex hull that it fills."""
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    try:
        return float(mask.sum()) / ConvexHull(edge).volume  # the area, in two dimensions
    except QhullError:  # all in one line
        return 0.0


def _has_sharp_edge(grey: np.ndarray, outline: np.ndarray) -> bool:
    """Whether brightness changes at the outline as fast as at a sheet's, and not as light falls off."""
    near = max(2, round(max(grey.shape) / 100))
    inner = ndimage.binary_erosion(outline, iterations=near)
    outer = ndimage.binary_dilation(outline, iterations=near)
    if not inner.any() or outer.all():
        return False
    within = grey[inner & ~ndimage.binary_erosion(inner)]
    without = grey[ndimage.binary_dilation(outer) & ~outer]
    step = abs(float(np.median(within)) - float(np.median(without)))
    return step > max(CONTRAST, 0.5 * float(np.subtract(*np.percentile(grey, [95, 5]))))


def _cut_out(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The box around `inside`, and in it the sheet's brightness wherever `inside` is not."""
    sheet = ndimage.binary_erosion(inside, iterations=max(2, round(_extent(inside) / 80)))
    rows, columns = (np.flatnonzero(sheet.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    rim = sheet & ~ndimage.binary_erosion(sheet, iterations=2)
    return np.where(sheet, grey, float(np.median(grey[rim])))[box]


def _flattened(grey: np.ndarray) -> np.ndarray:
    """How much of the paper's brightness each pixel lacks, from 0 to 1; where ink is lighter, how much more it has."""
    reach = max(3, max(grey.shape) // 3)
    if _is_dark(grey):
        paper = ndimage.grey_closing(grey, size=(reach, reach))
        paper = np.minimum(paper, ndimage.uniform_filter(paper, reach // 4))  # a table's edge stays sharp
        return np.clip(1 - grey / np.maximum(paper, CONTRAST), 0, 1)
    paper = ndimage.grey_opening(grey, size=(reach, reach))
    return np.clip(grey - np.maximum(paper, ndimage.uniform_filter(paper, reach // 4)), 0, 1)


def _is_dark(grey: np.ndarray) -> bool:
    """Whether ink is darker than the paper, which a quadratic surface through the edges estimates."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in grey.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)
    rim = np.maximum(abs(x), abs(y)) > 0.95
    basis, values = terms[rim], grey[rim]
    weights = np.ones(len(values))
    for _ in range(12):
        # The least absolute misses, by weighted squares: ink that reaches the edges has little say.
        weighted = basis.T * weights
        surface = np.linalg.solve(weighted @ basis, weighted @ values)
        weights = 1 / np.maximum(0.02, abs(values - basis @ surface))
    low, high = np.percentile(grey - terms @ surface, [100 - PEAK, PEAK])
    return bool(-low > high)


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
    mask = ndimage.binary_opening(darkness > _half(darkness), np.ones((thick, thick)))  # no lines of ruled paper
    labels, _ = ndimage.label(mask, CONNECTED)
    along = {
        int(label)
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1])
        for label in np.unique(edge[edge > 0])
        if (edge == label).mean() > 0.6
    }
    strips = ndimage.binary_dilation(np.isin(labels, list(along)), CONNECTED, iterations=3)
    rest = np.where(strips, 0, darkness)
    return rest if along and float(np.percentile(rest, PEAK)) > CONTRAST else darkness


def _without_lines(darkness: np.ndarray) -> np.ndarray:
    """Without lines that cross the whole picture, upright ones and others, where no stroke crosses them."""
    for turned in (False, True):
        image = darkness.T if turned else darkness
        image = _without_level_lines(image)
        darkness = image.T if turned else image
    return darkness


def _without_level_lines(darkness: np.ndarray) -> np.ndarray:
    mask = darkness > 0.6 * _half(darkness)  # lines may be paler than ink
    height, width = mask.shape
    thickest = max(4, max(mask.shape) // 35)
    runs = _opened(mask, max(5, width // 8), 1)
    strokes = ndimage.binary_dilation(_opened(runs, thickest, 0), CONNECTED, iterations=2)
    runs &= ~strokes
    bridged = _closed(ndimage.maximum_filter1d(runs, 5, axis=0), 2 * width // 3, 1)
    labels, _ = ndimage.label(bridged, CONNECTED)
    line = np.zeros_like(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        if columns.stop - columns.start > 0.9 * width and rows.stop - rows.start < 0.2 * height:
            found = (labels == number) & runs
            thick = found.sum(axis=0)
            line |= found & (thick <= 1 + 1.5 * np.median(thick[thick > 0]))  # a stroke along it is thicker
    if not line.any():
        return darkness
    rest = mask & ~line
    crossed = ndimage.maximum_filter1d(_closed(rest, int(_longest_run(line)) + 4, 0), 3, axis=1)
    gone = ndimage.binary_dilation(line & ~crossed, np.ones((5, 3))) & ~rest & ~crossed
    return np.where(gone, 0, darkness)


def _opened(mask: np.ndarray, length: int, axis: int) -> np.ndarray:
    """What of a mask lies in runs of so many pixels along an axis."""
    eroded = ndimage.minimum_filter1d(mask, length, axis=axis, mode="nearest")
    return ndimage.maximum_filter1d(eroded, length, axis=axis, mode="nearest", origin=-((length + 1) % 2))


def _closed(mask: np.ndarray, length: int, axis: int) -> np.ndarray:
    """A mask with gaps of fewer pixels along an axis bridged."""
    padded = np.pad(mask, [(length, length) if along == axis else (0, 0) for along in (0, 1)])
    dilated = ndimage.maximum_filter1d(padded, length, axis=axis)
    closed = ndimage.minimum_filter1d(dilated, length, axis=axis, origin=-((length + 1) % 2))
    return closed[length:-length] if axis == 0 else closed[:, length:-length]


def _longest_run(mask: np.ndarray) -> int:
    """The most pixels that are set one below the other."""
    run, longest = np.zeros(mask.shape[1], int), 0
    for row in mask:
        run = np.where(row, run + 1, 0)
        longest = max(longest, int(run.max()))
    return longest


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, list[Piece]]:
    """The connected parts of a mask that are more than dust, the largest first, and their numbers in the picture."""
    labels, _ = ndimage.label(mask, CONNECTED)
    areas = np.bincount(labels.ravel())
    pieces = [
        Piece(number, rows.start, rows.stop, columns.start, columns.stop, int(areas[number]))
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1)
    ]
    pieces.sort(key=lambda piece: (-piece.size, -piece.area))
    least = max(0.02 * max(mask.shape), 0.06 * pieces[0].size)
    return labels, [piece for piece in pieces if piece.size >= least]


def _one_drawing(pieces: list[Piece], shape: tuple[int, int]) -> list[Piece]:
    """The pieces of the drawing: the largest, and what is close to it.

    Raises:
        UserError: there are several drawings, or none.
    """
    if not pieces or pieces[0].size < max(shape) / 25:
        raise UserError(f"there is nothing but specks and lines in the image: it should {ALONE}")
    drawing, others = [pieces[0]], []
    for piece in pieces[1:]:
        if any(_gap(piece, part) <= 0.15 * pieces[0].size for part in drawing):
            drawing.append(piece)
        elif piece.size > pieces[0].size / 3:
            others.append(piece)
    if others or _are_two(drawing) or len(drawing) > 6:
        raise UserError(f"there is more than one thing in the image: it should {ALONE}")
    return drawing


def _gap(a: Piece, b: Piece) -> int:
    """Pixels between two boxes."""
    return max(a.left - b.right, b.left - a.right, a.top - b.bottom, b.top - a.bottom, 0)


def _are_two(drawing: list[Piece]) -> bool:
    """Whether two pieces stand side by side, or one above the other, each as large as a digit would be there."""
    height = max(piece.bottom for piece in drawing) - min(piece.top for piece in drawing)
    for a, b in itertools.combinations(drawing, 2):
        low, narrow = min(a.height, b.height), min(a.width, b.width)
        if (a.right <= b.left or b.right <= a.left) and low > 0.6 * height:
            return True
        if (a.bottom <= b.top or b.bottom <= a.top) and low > 0.33 * height and narrow > 0.2 * height:
            return True
    return False


def _outlined_strokes(drawn: np.ndarray) -> np.ndarray:
    """What lies within the outlines of a drawing's strokes; nothing where strokes are not outlined."""
    labels, count = ndimage.label(~np.pad(drawn, 1, constant_values=False))
    labels = labels[1:-1, 1:-1]
    pen = _thickness(drawn)
    strokes = np.zeros_like(drawn)
    for number in range(1, count + 1):
        region = labels == number
        if _border(region).any() or region.sum() < 30:
            continue
        if _thickness(region) > 1.2 * pen and (_slenderness(region) > 3 or _convexity(region) < 0.85):
            strokes |= region
    if not strokes.any():
        return strokes
    beside = ndimage.distance_transform_edt(~strokes) <= pen + 3
    return strokes if (drawn & beside).sum() > 0.9 * drawn.sum() else np.zeros_like(drawn)


def _see_that_it_has_strokes(drawn: np.ndarray) -> None:
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    box = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    if width > 1.7 * height:
        raise UserError(f"what is in the image is {width / height:.1f} times as wide as high: it should {ALONE}")
    if _slenderness(box) < 1.3:
        raise UserError(f"what is in the image is a filled shape without strokes: it should {ALONE}")
    corner = max(2, round(0.08 * max(box.shape)))
    corners = [box[:corner, :corner], box[:corner, -corner:], box[-corner:, :corner], box[-corner:, -corner:]]
    if all(part.any() for part in corners) and width > 0.3 * height:
        raise UserError(f"what is in the image is an empty frame: it should {ALONE}")

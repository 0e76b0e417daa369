"""Pictures of many kinds, and their conversion to the format of a data set."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from benchmarks import pictures as kinds
from many_seeds.errors import UserError
from stages.split.image_files import decode, resize
from stages.study import paths
from stages.study.data import Resize
from stages.study.records.splits import read_images
from tests.support.images import STROKES, VALID, declared, drawn, saved
from tools.serving import prepare
from tools.serving.prepare import Format, Layout

MNIST = Format((28, 28), Layout(box=20, centre=(14.0, 14.0), spread=0.5))
COLOUR = Format((32, 48, 3), None)
ORIENTATION = 0x0112  # of EXIF
LEFT_DOWN = 8  # to be rotated by 90 degrees counterclockwise


def prepared(content: bytes) -> np.ndarray:
    """In the format of MNIST."""
    return prepare.prepare(content, MNIST)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The mean absolute difference of two images, in grey levels."""
    return float(np.abs(a.astype(int) - b).mean())


def transparent(ink: int) -> Image.Image:
    """The drawing in one brightness on a transparent background."""
    image = Image.new("LA", (300, 400), (ink, 0))
    image.putalpha(ImageOps.invert(drawn()))
    return image


def photographed(image: Image.Image, *, grain: float) -> Image.Image:
    """The image on grey paper, darker to one side, with noise and a little out of focus."""
    grey = 60 + np.asarray(image, float) * (150 / 255) + np.linspace(-15, 15, image.width)
    noise = np.random.default_rng(0).normal(0, grain, grey.shape)
    return Image.fromarray((grey + noise).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))


@pytest.mark.parametrize("name", STROKES)
@pytest.mark.parametrize("width", [6, 28])
def test_a_digit_fills_a_box_of_20_pixels_with_the_centre_of_mass_of_mnist(name: str, width: int) -> None:
    image = prepared(saved(drawn(name, width=width)))
    assert image.shape == (28, 28)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == 20
    assert image.max() == 255
    for axis in (0, 1):
        centre = (image.sum(axis=1 - axis) * np.arange(28.0)).sum() / image.sum()
        # All 70,000 digits of MNIST have it within half a pixel of 14, unless the box is at the edge of the image.
        at_edge = [rows, columns][axis][-1] == 27
        assert abs(centre - 14) <= 0.51 or at_edge


def test_the_aspect_ratio_of_a_digit_is_kept() -> None:
    image = prepared(saved(drawn("one")))
    high, wide = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    box = ImageOps.invert(drawn("one")).getbbox()
    assert box is not None
    drawn_ratio = (box[2] - box[0]) / (box[3] - box[1])
    assert (wide[-1] - wide[0] + 1) / (high[-1] - high[0] + 1) == pytest.approx(drawn_ratio, abs=0.05)


def test_light_on_dark_is_prepared_as_dark_on_light() -> None:
    assert distance(prepared(saved(drawn("seven"))), prepared(saved(ImageOps.invert(drawn("seven"))))) < 1


def laid_out() -> np.ndarray:
    """The drawing in the layout of MNIST."""
    return prepared(saved(drawn()))


def test_an_image_in_the_format_of_the_data_set_is_not_changed() -> None:
    image = laid_out()
    np.testing.assert_array_equal(prepared(saved(Image.fromarray(image))), image, strict=True)


@pytest.mark.parametrize("shift", [(3, 0), (-2, 3), (0, -4)])
def test_an_image_of_that_size_is_centred(shift: tuple[int, int]) -> None:
    moved = np.roll(laid_out(), shift, axis=(0, 1))
    assert distance(prepared(saved(Image.fromarray(moved))), laid_out()) < 6
    assert distance(moved, laid_out()) > 12


def test_the_negative_of_such_an_image_is_inverted() -> None:
    assert distance(prepared(saved(Image.fromarray(255 - laid_out()))), laid_out()) < 6


@pytest.mark.parametrize(
    "content_of",
    [
        pytest.param(lambda: saved(drawn(), "JPEG", quality=90), id="jpeg"),
        pytest.param(lambda: saved(drawn().convert("CMYK"), "JPEG", quality=90), id="jpeg for print"),
        pytest.param(
            lambda: saved(drawn(), "MPO", quality=90, save_all=True, append_images=[drawn("one")]),
            id="two pictures in one file",
        ),
        pytest.param(lambda: saved(ImageOps.colorize(drawn(), "navy", "lightyellow")), id="blue ink on yellow paper"),
        pytest.param(lambda: saved(drawn().convert("RGBA")), id="opaque rgba"),
        pytest.param(lambda: saved(transparent(0)), id="black ink on transparency"),
        pytest.param(lambda: saved(transparent(255)), id="white ink on transparency"),
        pytest.param(lambda: saved(drawn().convert("P")), id="palette"),
        pytest.param(lambda: saved(drawn().convert("P"), transparency=255), id="palette with a transparent colour"),
        pytest.param(
            lambda: saved(drawn().convert("RGB"), transparency=(255, 255, 255)), id="rgb with a transparent colour"
        ),
        pytest.param(lambda: saved(drawn().convert("1")), id="one bit"),
        pytest.param(lambda: saved(Image.fromarray(np.asarray(drawn()).astype(np.uint16) * 100 + 20_000)), id="16 bit"),
        pytest.param(lambda: saved(Image.fromarray(np.asarray(drawn()).astype(np.uint16) * 10)), id="12 of 16 bits"),
        *(pytest.param(lambda kind=kind: saved(drawn(), kind), id=kind) for kind in ("WEBP", "GIF", "BMP", "TIFF")),
        pytest.param(
            lambda: saved(drawn(), "GIF", save_all=True, append_images=[drawn("one")]), id="the first frame of a GIF"
        ),
        pytest.param(
            lambda: saved(drawn(), save_all=True, append_images=[drawn("one")]), id="the first frame of an animation"
        ),
        pytest.param(lambda: saved(drawn(size=(3468, 4624)), "JPEG"), id="a phone of 16 megapixels"),
        pytest.param(lambda: saved(photographed(drawn(), grain=8), "JPEG", quality=60), id="a photo"),
        pytest.param(
            lambda: saved(photographed(drawn(size=(1500, 2000)), grain=40), "JPEG"), id="a large photo in bad light"
        ),
    ],
)
def test_a_digit_in_any_file_format_is_prepared_the_same(content_of: Callable[[], bytes]) -> None:
    expected = prepared(saved(drawn()))
    assert distance(prepared(content_of()), expected) < 3
    assert distance(prepared(saved(drawn("seven"))), expected) > 20  # another digit


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photo_is_rotated_by_its_exif_orientation(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = LEFT_DOWN
    turned = saved(drawn().transpose(Image.Transpose.ROTATE_270), kind, exif=exif)
    assert distance(prepared(turned), prepared(saved(drawn()))) < 3


NOISE = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 300), np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "the image is empty", id="empty"),
        pytest.param(
            b"a digit", "expected an image in PNG, JPEG, WebP, GIF, BMP or TIFF format, received.*b'a digit'", id="text"
        ),
        pytest.param(saved(drawn(), "PDF"), r"BMP or TIFF format.*b'%PDF", id="pdf"),
        pytest.param(VALID[:6], "BMP or TIFF format", id="the start of a signature"),
        pytest.param(VALID[: len(VALID) // 2], "damaged or truncated", id="half a png"),
        pytest.param(NOISE[: len(NOISE) // 2], "damaged or truncated", id="half a jpeg"),
        pytest.param(VALID[:60] + b"\0\0\0\0" + VALID[64:], "damaged or truncated", id="overwritten"),
        pytest.param(declared(60_000, 60_000), "at most 25 megapixels", id="3,600 megapixels"),
        pytest.param(declared(10_000, 10_000), "at most 25 megapixels", id="100 megapixels"),
        pytest.param(declared(5_001, 5_000), "at most 25 megapixels", id="just too many pixels"),
        pytest.param(declared(5_000, 5_000), "damaged or truncated", id="just few enough pixels"),
        pytest.param(VALID + bytes(10_000_000), "at most 10 MB", id="too many bytes"),
        pytest.param(saved(Image.new("L", (300, 400), 255)), "the image is blank", id="white"),
        pytest.param(saved(Image.new("L", (28, 28), 0)), "the image is blank", id="black"),
        pytest.param(
            saved(photographed(Image.new("L", (300, 400), 255), grain=2)), "the image is blank", id="a photo of paper"
        ),
        pytest.param(saved(Image.new("RGBA", (300, 400))), "the image is blank", id="nothing"),
        pytest.param(saved(Image.new("L", (1, 1), 9)), "the image is blank", id="one pixel"),
    ],
)
def test_the_error_for_an_invalid_image_has_the_reason(content: bytes, expected: str) -> None:
    """Images with too many pixels are refused before they are decoded."""
    with pytest.raises(UserError, match=expected):
        prepared(content)


@pytest.mark.parametrize("kind", kinds.ONE_DIGIT)
def test_the_digit_is_found_in_every_kind_of_picture(kind: str) -> None:
    """Each kind of benchmarks/PICTURES.md, made of the drawings."""
    images = np.stack([prepared(saved(drawn(name))) for name in ("four", "seven")])
    content = kinds.ONE_DIGIT[kind](kinds.Ink(images), np.random.default_rng(0))
    found = prepared(content)
    # Thin or outlined strokes change the drawing, which is still more similar to the original than to the other one.
    assert distance(found, images[0]) < min(16, 0.6 * distance(found, images[1]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("two digits side by side", "more than one drawing"),
        ("two digits, one above the other", "more than one drawing"),
        ("three digits", "more than one drawing"),
        ("empty ruled paper", "the image is blank"),
        ("empty squared paper", "the image is blank"),
        ("blank paper on a dark table", "a shape without a drawing"),
        ("disc", "a shape without a drawing|filled shape"),
        ("empty frame", "empty frame"),
        ("date stamp alone", "more than one drawing"),
        ("grain alone", "should show one drawing on a background"),
    ],
)
def test_pictures_without_exactly_one_digit_are_refused(kind: str, expected: str) -> None:
    images = np.stack([prepared(saved(drawn(name))) for name in ("four", "seven")])
    with pytest.raises(UserError, match=expected):
        prepared(kinds.NO_DIGIT[kind](kinds.Ink(images), np.random.default_rng(0)))


def page(*digits: Image.Image, side: int = 1000) -> bytes:
    """A white page with small digits, in a column at the right."""
    image = Image.new("L", (side, side), 255)
    for number, digit in enumerate(digits):
        image.paste(digit, (int(0.7 * side), int((0.2 + 0.4 * number) * side)))
    return saved(image)


@pytest.mark.parametrize("height", [60, 100])
def test_a_small_digit_on_a_large_page_is_found(height: int) -> None:
    small = drawn(size=(3 * height // 4, height))
    assert distance(prepared(page(small)), prepared(saved(drawn()))) < 16
    with pytest.raises(UserError, match=r"more than one drawing|is blank|only specks"):
        prepared(page(small, drawn("seven", size=small.size)))


@pytest.mark.parametrize("size", [(500, 1), (5, 2000), (1, 100)])
def test_a_strip_is_refused(size: tuple[int, int]) -> None:
    strip = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    with pytest.raises(UserError, match=r"at most 10 times as long as wide, received .* pixels: it should show one"):
        prepared(saved(Image.fromarray(strip)))


def test_a_horizontal_line_is_refused() -> None:
    image = Image.new("L", (300, 400), 255)
    ImageDraw.Draw(image).line([(40, 200), (260, 190)], fill=0, width=28)
    with pytest.raises(UserError, match=r"times as wide as high: it should show one drawing on a background"):
        prepared(saved(image))


def test_pictures_for_a_data_set_in_colour_are_only_scaled() -> None:
    colours = np.zeros((64, 96, 3), np.uint8)
    colours[:32], colours[32:, :48], colours[32:, 48:] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    found = prepare.prepare(saved(Image.fromarray(colours)), COLOUR)
    assert (found.shape, found.dtype) == ((32, 48, 3), np.uint8)
    assert found[4, 24].tolist() == [200, 30, 30]
    assert found[28, 4].tolist() == [30, 200, 30]
    assert found[28, 44].tolist() == [30, 30, 200]


def test_photographs_are_scaled_as_those_of_the_study() -> None:
    lined = Image.new("RGB", (40, 20), "white")
    ImageDraw.Draw(lined).line([(0, 10), (40, 10)], fill="red", width=4)
    fitted = prepare.prepare(saved(lined), Format((32, 32, 3), None, resize="fit"))
    assert (fitted[:8] == 0).all()
    assert (prepare.prepare(saved(lined), Format((32, 32, 3), None, resize="crop"))[0] > 200).all()


@pytest.mark.parametrize("how", ["fit", "crop"])
@pytest.mark.parametrize("size", [(400, 90), (77, 300), (505, 505)])
def test_a_photograph_has_the_pixels_that_it_would_have_in_the_study(how: Resize, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    photo = io.BytesIO()
    Image.fromarray(noise).save(photo, "JPEG")
    expected = resize(decode(photo.getvalue(), "a"), (32, 32), how, "a")
    found = prepare.prepare(photo.getvalue(), Format((32, 32, 3), None, resize=how))
    np.testing.assert_array_equal(found, expected)


def test_a_strip_of_which_nothing_would_be_left_is_refused() -> None:
    for width, height in ((1, 500), (5, 2000)):
        strip = saved(Image.linear_gradient("L").resize((width, height)))
        with pytest.raises(UserError, match="the image is too oblong to fit into 32x32 pixels"):
            prepare.prepare(strip, Format((32, 32, 3), None, resize="fit"))
        assert prepare.prepare(strip, Format((32, 32, 3), None, resize="crop")).shape == (32, 32, 3)


def test_pictures_are_converted_between_grey_and_colour() -> None:
    assert prepare.prepare(saved(drawn()), COLOUR).shape == (32, 48, 3)
    coloured = saved(ImageOps.colorize(drawn(), "navy", "lightyellow"))
    assert prepare.prepare(coloured, Format((20, 30), None)).shape == (20, 30)


def test_a_blank_picture_is_refused_for_every_data_set() -> None:
    with pytest.raises(UserError, match="the image is blank"):
        prepare.prepare(saved(Image.new("RGB", (64, 64), "red")), COLOUR)


def disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:28, :28] - 13.5
    return np.where(rows**2 + columns**2 <= radius**2, 255, 0).astype(np.uint8)


def test_the_layout_of_drawings_is_inferred_and_other_images_have_none(split_study: Path) -> None:
    names = [str(digit) for digit in range(10)]
    drawings = np.stack([prepared(saved(drawn(name))) for name in ("four", "seven")])
    form = prepare.infer_format(drawings, ["four", "seven"])
    assert form.layout is not None
    assert (form.layout.box, form.layout.centre) == (20, (14.0, 14.0))
    digits, _ = read_images(split_study / paths.TEST)
    assert prepare.infer_format(digits, names).layout is not None
    assert prepare.infer_format(digits, ["shirt", *names[1:]]).layout is None
    assert prepare.infer_format(255 - drawings, names).layout is None
    # Centred discs of two sizes, which distinguish the classes.
    discs = np.stack([disc(radius) for radius in (4, 5, 6, 9, 10, 11)])
    assert prepare.infer_format(discs, ["small", "large"]).layout is None
    assert prepare.infer_format(np.repeat(drawings[..., None], 3, axis=-1), names) == Format((28, 28, 3), None)

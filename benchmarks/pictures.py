"""Which pictures of digits are classified correctly, and which are refused: `python -m benchmarks.pictures`.

Renders pictures of many kinds from MNIST's test digits, classifies them with the best model of the study or with the
Keras model of `--model`, and writes benchmarks/PICTURES.md. It takes some minutes; `--pictures 20` is faster.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import files, paths
from stages.study.records.results import read_results
from stages.study.records.splits import read_classes, read_images
from tools.serving import predict, prepare

REPORT = Path("benchmarks/PICTURES.md")
SURE = 0.8  # a probability above it counts as sure
WIDTH, HEIGHT = 300, 400  # of most pictures
Draw = Callable[["Ink", np.random.Generator], bytes]


@dataclass(frozen=True)
class Ink:
    """Test digits to draw with.

    images: uint8 [n, 28, 28]; the first is the picture's digit, the second another one.
    """

    images: np.ndarray

    def drawn(self, height: int, which: int = 0) -> np.ndarray:
        """A digit enlarged, so that its box of 20 pixels is `height` high; from 0 to 1."""
        side = round(height * 28 / 20)
        large = Image.fromarray(self.images[which]).resize((side, side), Image.Resampling.BICUBIC)
        return np.clip((np.asarray(large) / 255 - 0.5) * 2.5 + 0.5, 0, 1)

    def on_page(self, generator: np.random.Generator, height: int = 200, which: int = 0) -> np.ndarray:
        """Float [HEIGHT, WIDTH] from 0 for paper to 1 for ink, the digit about in the middle."""
        digit, page = self.drawn(height, which), np.zeros((HEIGHT, WIDTH))
        room = np.subtract(page.shape, digit.shape)
        top, left = (int(space / 2 + generator.uniform(-0.25, 0.25) * space) for space in room)
        page[top : top + len(digit), left : left + len(digit)] = digit
        return page


def saved(grey: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A file of brightness from 0 to 1, or of an image."""
    image = grey if isinstance(grey, Image.Image) else Image.fromarray(np.round(grey.clip(0, 1) * 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def on_paper(ink: np.ndarray, paper: float = 0.95, dark: float = 0.1) -> np.ndarray:
    return paper + ink * (dark - paper)


def photographed(grey: np.ndarray, generator: np.random.Generator, grain: float = 0.03) -> bytes:
    """With a lens, grain and JPEG's losses."""
    grainy = ndimage.gaussian_filter(grey, 0.7) + generator.normal(0, grain, grey.shape)
    return saved(grainy, "JPEG", quality=85)


def own_format(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(Image.fromarray(ink.images[0]))


def negative(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(Image.fromarray(255 - ink.images[0]))


def off_centre(ink: Ink, generator: np.random.Generator) -> bytes:
    """By as much as the image has room for."""
    rows, columns = (np.flatnonzero(ink.images[0].any(axis=axis)) for axis in (1, 0))
    shift = []
    for found in (rows, columns):
        steps = [step for step in range(-found[0], 28 - found[-1]) if abs(step) > 1]
        shift.append(int(generator.choice(steps)))
    return saved(Image.fromarray(np.roll(ink.images[0], shift, axis=(0, 1))))


def one_pixel_more(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(Image.fromarray(np.pad(ink.images[0], ((1, 0), (0, 1)))))


def cropped(ink: Ink, generator: np.random.Generator) -> bytes:
    """To the digit's own box."""
    digit = ink.drawn(200)
    rows, columns = (np.flatnonzero((digit > 0.5).any(axis=axis)) for axis in (1, 0))
    return saved(on_paper(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


def scan(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(on_paper(ink.on_page(generator)))


def small(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(on_paper(ink.on_page(generator, height=60)))


def photo(ink: Ink, generator: np.random.Generator) -> bytes:
    grey = on_paper(ink.on_page(generator), paper=0.8, dark=0.25)
    return photographed(grey + np.linspace(-0.06, 0.06, WIDTH), generator)


def transparent(ink: Ink, generator: np.random.Generator) -> bytes:
    page = ink.on_page(generator)
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., 3] = np.round(page * 255)
    return saved(Image.fromarray(pixels))


def coloured(ink: Ink, generator: np.random.Generator) -> bytes:
    page = ink.on_page(generator)[..., None]
    return saved(Image.fromarray(((1 - page) * (250, 245, 200) + page * (20, 30, 130)).astype(np.uint8)), "WEBP")


def light_on_dark(ink: Ink, generator: np.random.Generator) -> bytes:
    return photographed(on_paper(ink.on_page(generator), paper=0.1, dark=0.9), generator)


def deep(ink: Ink, generator: np.random.Generator) -> bytes:
    grey = on_paper(ink.on_page(generator), paper=0.9, dark=0.2)
    return saved(Image.fromarray(np.round(grey * 4095).astype(np.uint16)), "TIFF")


def light_from_one_side(ink: Ink, generator: np.random.Generator) -> bytes:
    light = np.linspace(1, 0.4, WIDTH)[:: generator.choice([-1, 1])]
    return photographed(on_paper(ink.on_page(generator)) * light, generator, grain=0.015)


def lamp(ink: Ink, generator: np.random.Generator) -> bytes:
    """Of which the light falls off to all sides."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(y - HEIGHT * generator.uniform(0.3, 0.7), x - WIDTH * generator.uniform(0.3, 0.7))
    light = 1 - 0.6 * (distance / distance.max()) ** 1.5
    return photographed(on_paper(ink.on_page(generator)) * light, generator, grain=0.015)


def half_shadow(ink: Ink, generator: np.random.Generator) -> bytes:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    angle, place = generator.uniform(0, 2 * np.pi), generator.uniform(-60, 60)
    side = np.cos(angle) * (x - WIDTH / 2) + np.sin(angle) * (y - HEIGHT / 2) - place
    light = 0.55 + 0.45 / (1 + np.exp(-side / 4))
    return photographed(on_paper(ink.on_page(generator)) * light, generator, grain=0.015)


def on_a_table(ink: Ink, generator: np.random.Generator) -> bytes:
    """Paper that lies a little askew on a dark table."""
    page = Image.fromarray(np.round(on_paper(ink.on_page(generator)) * 255).astype(np.uint8)).convert("LA")
    page = page.rotate(generator.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    margin = int(generator.uniform(20, 120))
    table = Image.new("L", (page.width + 2 * margin, page.height + 2 * margin), 55)
    table.paste(page.getchannel("L"), (margin, margin), page.getchannel("A"))
    return photographed(np.asarray(table) / 255, generator)


def over_the_edge(ink: Ink, generator: np.random.Generator) -> bytes:
    """A photo in which the table shows at one side."""
    grey = on_paper(ink.on_page(generator))
    strip = np.full((HEIGHT, int(generator.uniform(15, 80))), 0.2)
    return photographed(np.hstack([strip, grey][:: generator.choice([-1, 1])]), generator)


def dark_mode(ink: Ink, generator: np.random.Generator) -> bytes:
    """A dark page in a light window."""
    page = on_paper(ink.on_page(generator), paper=0.12, dark=0.92)
    margin = int(generator.uniform(10, 90))
    return saved(np.pad(page, margin, constant_values=0.96))


def framed(ink: Ink, generator: np.random.Generator) -> bytes:
    """By a line around the page."""
    page, inset, width = ink.on_page(generator, height=180), int(generator.uniform(4, 40)), int(generator.uniform(2, 9))
    frame = np.zeros_like(page)
    frame[inset:-inset, inset:-inset] = 1
    frame[inset + width : -inset - width, inset + width : -inset - width] = 0
    return saved(on_paper(np.maximum(page, frame)))


def dark_border(ink: Ink, generator: np.random.Generator) -> bytes:
    """As scanners leave it around paper."""
    return saved(np.pad(on_paper(ink.on_page(generator)), int(generator.uniform(2, 30)), constant_values=0.03))


def badge(ink: Ink, generator: np.random.Generator) -> bytes:
    """A light digit on a dark disc, with nothing around it."""
    digit = np.pad(ink.drawn(170), 20)
    y, x = np.mgrid[: len(digit), : len(digit)] - (len(digit) - 1) / 2
    pixels = np.zeros((*digit.shape, 4), np.uint8)
    pixels[..., :3] = np.round(on_paper(digit, paper=0.25, dark=0.95) * 255)[..., None]
    pixels[..., 3] = np.where(np.hypot(x, y) < len(digit) / 2, 255, 0)
    return saved(Image.fromarray(pixels))


def outlined(ink: Ink, generator: np.random.Generator) -> bytes:
    page = ink.on_page(generator, height=210) > 0.5
    line = page & ~ndimage.binary_erosion(page, iterations=int(generator.integers(2, 5)))
    return saved(on_paper(ndimage.gaussian_filter(line.astype(float), 0.6)))


def thin_pen(ink: Ink, generator: np.random.Generator) -> bytes:
    page = ink.on_page(generator, height=210)
    thin = ndimage.binary_erosion(page > 0.5, iterations=5)
    return saved(on_paper(ndimage.gaussian_filter(np.maximum(thin, page > 0.99).astype(float), 0.6)))


def lines(generator: np.random.Generator, *, both_ways: bool = False) -> np.ndarray:
    """Ruled paper's lines, [HEIGHT, WIDTH] from 0 to 1."""
    page, distance, width = np.zeros((HEIGHT, WIDTH)), int(generator.integers(30, 70)), int(generator.integers(1, 4))
    for start in range(int(generator.integers(5, distance)), HEIGHT, distance):
        page[start : start + width] = 1
    if both_ways:
        for start in range(int(generator.integers(5, distance)), WIDTH, distance):
            page[:, start : start + width] = 1
    return page


def ruled(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(on_paper(np.maximum(ink.on_page(generator), lines(generator))))


def ruled_askew(ink: Ink, generator: np.random.Generator) -> bytes:
    """Photographed by hand, the lines a little lighter than the ink."""
    page = np.maximum(ink.on_page(generator), 0.8 * lines(generator))
    turned = ndimage.rotate(page, generator.uniform(-2, 2), reshape=False, order=1, mode="nearest")
    return photographed(on_paper(turned), generator)


def squared(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(on_paper(np.maximum(ink.on_page(generator), lines(generator, both_ways=True))))


def stamped(ink: Ink, generator: np.random.Generator) -> bytes:
    """With the date in a corner, as cameras print it."""
    image = Image.fromarray(np.round(on_paper(ink.on_page(generator)) * 255).astype(np.uint8))
    ImageDraw.Draw(image).text((WIDTH - 100, HEIGHT - 26), "12 04 '98", fill=70, font_size=20)
    return saved(image)


def two_digits(ink: Ink, generator: np.random.Generator) -> bytes:
    pair = np.hstack([ink.drawn(150), ink.drawn(150, which=1)])
    return saved(on_paper(np.pad(pair, ((60, 60), (20, 20)))))


def two_lines(ink: Ink, generator: np.random.Generator) -> bytes:
    """One digit above another."""
    pair = np.vstack([ink.drawn(140), ink.drawn(140, which=1)])
    return saved(on_paper(np.pad(pair, ((20, 20), (60, 60)))))


def three_digits(ink: Ink, generator: np.random.Generator) -> bytes:
    three = np.hstack([ink.drawn(80, which=which) for which in (0, 1, 0)])
    return photographed(on_paper(np.pad(three, ((100, 100), (20, 20)))), generator)


def empty_ruled(ink: Ink, generator: np.random.Generator) -> bytes:
    return photographed(on_paper(lines(generator)), generator)


def empty_squared(ink: Ink, generator: np.random.Generator) -> bytes:
    return saved(on_paper(lines(generator, both_ways=True)))


def empty_table(ink: Ink, generator: np.random.Generator) -> bytes:
    """Blank paper on a dark table."""
    page = np.pad(np.full((HEIGHT, WIDTH), 0.9), int(generator.uniform(20, 120)), constant_values=0.2)
    return photographed(page, generator)


def disc(ink: Ink, generator: np.random.Generator) -> bytes:
    image = Image.new("L", (WIDTH, HEIGHT), 240)
    radius = generator.uniform(30, 120)
    ImageDraw.Draw(image).circle((WIDTH / 2, HEIGHT / 2), radius, fill=30)
    return saved(image.filter(ImageFilter.GaussianBlur(0.7)))


def empty_frame(ink: Ink, generator: np.random.Generator) -> bytes:
    image, inset = Image.new("L", (WIDTH, HEIGHT), 240), generator.uniform(10, 90)
    box = (inset, inset, WIDTH - inset, HEIGHT - inset)
    ImageDraw.Draw(image).rectangle(box, outline=20, width=int(generator.integers(2, 12)))
    return saved(image)


def stamp_alone(ink: Ink, generator: np.random.Generator) -> bytes:
    image = Image.new("L", (WIDTH, HEIGHT), 240)
    ImageDraw.Draw(image).text((WIDTH - 100, HEIGHT - 26), "12 04 '98", fill=70, font_size=20)
    return saved(image)


def grain(ink: Ink, generator: np.random.Generator) -> bytes:
    """A photo of nothing in bad light."""
    return saved(generator.normal(0.3, 0.12, (HEIGHT, WIDTH)), "JPEG", quality=80)


# Kind of picture → how one is made. Each of the first shows one digit; the others don't.
ONE_DIGIT: dict[str, Draw] = {
    "MNIST's own format": own_format,
    "its negative": negative,
    "28×28, light on dark, not centred": off_centre,
    "29×29, light on dark": one_pixel_more,
    "cropped to the digit": cropped,
    "scan": scan,
    "small digit on a large page": small,
    "thin pen": thin_pen,
    "photo: grain, JPEG": photo,
    "ink on nothing (transparent)": transparent,
    "blue on yellow, WebP": coloured,
    "light on dark": light_on_dark,
    "12 bits in a 16-bit TIFF": deep,
    "light falls off by 60 % to one side": light_from_one_side,
    "light of a lamp, falls off by 60 %": lamp,
    "half in shadow": half_shadow,
    "paper on a dark table": on_a_table,
    "table at one side": over_the_edge,
    "dark page in a light window": dark_mode,
    "framed by a line": framed,
    "scanner's dark border": dark_border,
    "badge: a disc with nothing around it": badge,
    "outlined digit": outlined,
    "dark ruled lines": ruled,
    "ruled lines, askew, photo": ruled_askew,
    "squared paper": squared,
    "date stamp in a corner": stamped,
}
NO_DIGIT: dict[str, Draw] = {
    "two digits side by side": two_digits,
    "two digits, one above the other": two_lines,
    "three digits": three_digits,
    "empty ruled paper": empty_ruled,
    "empty squared paper": empty_squared,
    "blank paper on a dark table": empty_table,
    "disc": disc,
    "empty frame": empty_frame,
    "date stamp alone": stamp_alone,
    "grain alone": grain,
}


@dataclass(frozen=True)
class Seen:
    """What became of the pictures of one kind, as shares of them."""

    right: float
    refused: float
    surely_wrong: float


def made(draw: Draw, images: np.ndarray, count: int, seed: int) -> tuple[list[bytes], np.ndarray]:
    """So many pictures of one kind, and the index of the test image that each shows."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(images), (count, 2), replace=False)
    return [draw(Ink(images[pair]), generator) for pair in chosen], chosen[:, 0]


def seen(
    contents: Sequence[bytes],
    truth: np.ndarray | None,
    prepared: Callable[[bytes], np.ndarray],
    probabilities: Callable[[np.ndarray], np.ndarray],
) -> Seen:
    """Classify pictures.

    Args:
        contents: files.
        truth: the label of each; None where nothing is right but to refuse.
        prepared: makes a file's image uint8 [28, 28], or raises an error that is named UserError.
        probabilities: float [n, 10] of such images [n, 28, 28].
    """
    images, places = [], []
    for place, content in enumerate(contents):
        try:
            images.append(prepared(content))
            places.append(place)
        except UserError:
            continue
    count, refused = len(contents), (len(contents) - len(images)) / len(contents)
    if not images:
        return Seen(0.0, refused, 0.0)
    rows = probabilities(np.stack(images))
    right = np.zeros(len(rows), bool) if truth is None else rows.argmax(axis=1) == truth[places]
    return Seen(right.sum() / count, refused, (~right & (rows.max(axis=1) > SURE)).sum() / count)


def table(
    kinds: dict[str, Draw],
    data: tuple[np.ndarray, np.ndarray],
    count: int,
    prepared: Callable[[bytes], np.ndarray],
    probabilities: Callable[[np.ndarray], np.ndarray],
    *,
    readable: bool,
) -> str:
    """Rows in Markdown: a kind each, with what is made of its pictures.

    Args:
        kinds: name → how its pictures are made.
        data: the test images and their labels.
        count: pictures of each kind.
        prepared: from a file to an image as the model takes it.
        probabilities: of such images.
        readable: whether a digit is there to be read.
    """
    images, labels = data
    rows = []
    for seed, (kind, draw) in enumerate(kinds.items()):
        contents, shown = made(draw, images, count, seed)
        found = seen(contents, labels[shown] if readable else None, prepared, probabilities)
        shares = [*([found.right] if readable else []), found.refused, found.surely_wrong]
        rows.append(f"| {kind} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")
        print(rows[-1], flush=True)
    return "\n".join(rows)


def head(columns: Sequence[str]) -> str:
    """The head of a table in Markdown."""
    names = ["image", *columns]
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"


def model_of(path: Path | None) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities [n, 10] of images, by a Keras model in a file, or by the study's champion."""
    if path is None:
        best = predict.read_champion()
        results, runs = read_results(best["variant"]), paths.MODELS / best["variant"]
        return predict.Classifier(best["seed"], best["key"], results, runs, ensemble=False).probabilities
    import keras  # here: it takes seconds

    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    return lambda images: np.asarray(model(images, training=False), np.float32)


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--pictures", type=int, default=200, help="pictures of each kind (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="a .keras file (default: the study's best model)")
    arguments = parser.parse_args()
    data = read_images(paths.TEST)
    form = prepare.infer_format(data[0], read_classes(paths.TEST))
    probabilities = model_of(arguments.model)
    common = (data, arguments.pictures, lambda content: prepare.prepare(content, form), probabilities)
    one, none = table(ONE_DIGIT, *common, readable=True), table(NO_DIGIT, *common, readable=False)
    accuracy = float((probabilities(data[0]).argmax(axis=1) == data[1]).mean())
    report = f"""\
# Which images are classified?

`python -m benchmarks.pictures`: {arguments.pictures} images of each kind, made from MNIST's test digits and classified
by a model with {100 * accuracy:.1f} % test accuracy, in percent. *Refused*: an error message instead of a class.
*Confidently wrong*: another digit, or any digit in an image without a readable one, with a probability above {SURE}.

{head(["right", "refused", "confidently wrong"])}
{one}

Images without a single digit, which should be refused:

{head(["refused", "confidently wrong"])}
{none}
"""
    files.write_bytes(REPORT, report.encode())


if __name__ == "__main__":
    main()

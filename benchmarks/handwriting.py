"""Classify rendered handwriting, without any test image.

`python -m benchmarks.handwriting VARIANT …` renders digits in several hands, thin and thick, careful and hasty, as
scans, photos and screenshots; classifies them with the first seeds of each variant whose models are in models/; and
writes benchmarks/HANDWRITING.md.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline

from benchmarks import pictures
from benchmarks.pictures import Draw, Ink, head, seen
from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import files, params, paths
from stages.study.records.results import read_results
from tools.serving import predict, prepare

REPORT = Path("benchmarks/HANDWRITING.md")
SIDE = 280  # pixels of a drawing, of which the digit takes 20/28, as in MNIST
SEED = 1

Point = tuple[float, float]
Stroke = Sequence[Point]  # across and down, from 0 to 1; a smooth line through all of them, or straight from one to one

# Each digit in some of the ways in which people write it.
HANDS: dict[int, list[list[Stroke]]] = {
    0: [
        [[(0.55, 0), (0.1, 0.3), (0.15, 0.8), (0.5, 1), (0.9, 0.65), (0.85, 0.2), (0.5, 0)]],
        [[(0.7, 0.05), (0.2, 0.15), (0.1, 0.6), (0.4, 1), (0.85, 0.75), (0.9, 0.3), (0.55, 0.02), (0.35, 0.1)]],
    ],
    1: [
        [[(0.5, 0), (0.5, 1)]],
        [[(0.3, 0.25), (0.55, 0)], [(0.55, 0), (0.55, 1)]],
        [[(0.25, 0.22), (0.5, 0)], [(0.5, 0), (0.5, 1)], [(0.2, 1), (0.8, 1)]],
    ],
    2: [
        [[(0.15, 0.25), (0.45, 0), (0.85, 0.2), (0.65, 0.55), (0.1, 1)], [(0.1, 1), (0.9, 0.98)]],
        [
            [
                *[(0.15, 0.2), (0.5, 0), (0.8, 0.25), (0.6, 0.6), (0.25, 0.95), (0.12, 0.85)],
                *[(0.3, 0.78), (0.6, 0.97), (0.95, 0.92)],
            ]
        ],
    ],
    3: [
        [
            [(0.15, 0.12), (0.5, 0), (0.82, 0.2), (0.65, 0.42), (0.4, 0.47)],
            [(0.4, 0.47), (0.75, 0.55), (0.88, 0.78), (0.5, 1), (0.1, 0.88)],
        ],
        [
            [(0.15, 0), (0.85, 0)],
            [(0.85, 0), (0.45, 0.4)],
            [(0.45, 0.4), (0.85, 0.6), (0.75, 0.92), (0.4, 1), (0.1, 0.9)],
        ],
    ],
    4: [
        [[(0.3, 0), (0.2, 0.3), (0.1, 0.55)], [(0.1, 0.55), (0.9, 0.55)], [(0.7, 0.05), (0.68, 1)]],
        [[(0.7, 0), (0.05, 0.65)], [(0.05, 0.65), (0.95, 0.65)], [(0.7, 0), (0.7, 1)]],
    ],
    5: [
        [
            [(0.85, 0), (0.25, 0)],
            [(0.25, 0), (0.2, 0.42)],
            [(0.2, 0.42), (0.6, 0.38), (0.85, 0.65), (0.6, 0.97), (0.1, 0.92)],
        ],
        [
            [(0.3, 0.02), (0.22, 0.45)],
            [(0.22, 0.45), (0.7, 0.45), (0.8, 0.8), (0.4, 1), (0.1, 0.9)],
            [(0.3, 0.02), (0.9, 0)],
        ],
    ],
    6: [
        [[(0.75, 0.03), (0.35, 0.25), (0.12, 0.65), (0.35, 1), (0.8, 0.85), (0.75, 0.55), (0.4, 0.52), (0.15, 0.75)]],
        [[(0.5, 0), (0.22, 0.45), (0.2, 0.85), (0.5, 1), (0.8, 0.8), (0.6, 0.58), (0.22, 0.75)]],
    ],
    7: [
        [[(0.1, 0.02), (0.9, 0)], [(0.9, 0), (0.6, 0.45), (0.4, 1)]],
        [[(0.1, 0), (0.9, 0)], [(0.9, 0), (0.4, 1)], [(0.35, 0.5), (0.85, 0.5)]],
    ],
    8: [
        [
            [
                *[(0.8, 0.12), (0.5, 0), (0.2, 0.2), (0.5, 0.47), (0.85, 0.75), (0.5, 1)],
                *[(0.15, 0.78), (0.5, 0.47), (0.8, 0.25), (0.78, 0.1)],
            ]
        ],
        [
            [(0.5, 0), (0.22, 0.2), (0.5, 0.45), (0.78, 0.22), (0.5, 0)],
            [(0.5, 0.45), (0.12, 0.72), (0.5, 1), (0.88, 0.72), (0.5, 0.45)],
        ],
    ],
    9: [
        [[(0.8, 0.2), (0.45, 0), (0.15, 0.28), (0.45, 0.52), (0.8, 0.2)], [(0.8, 0.2), (0.75, 1)]],
        [
            [(0.8, 0.15), (0.4, 0.02), (0.18, 0.3), (0.5, 0.5), (0.8, 0.2)],
            [(0.8, 0.2), (0.8, 0.7), (0.5, 1), (0.15, 0.9)],
        ],
    ],
}
HASTE = (0.03, 0.08)  # by how much the places of a stroke are missed, of the digit's height: the standard deviation
PENS = {"thin pen": (0.025, 0.045), "pen": (0.06, 0.1), "thick pen": (0.14, 0.19)}  # widths, of the digit's height
PAGES: dict[str, Draw] = {
    "scan": pictures.scan,
    "small on a large page": pictures.small,
    "photo": pictures.photo,
    "photo, half in shadow": pictures.half_shadow,
    "photo on a table": pictures.on_a_table,
    "screenshot, dark mode": pictures.dark_mode,
}


def rendered(label: int, generator: np.random.Generator, widths: tuple[float, float]) -> np.ndarray:
    """A digit uint8 [SIDE, SIDE], light on dark, as somebody might write it with a pen of a width in this range."""
    lines, width = written(label, generator, widths)
    image = Image.new("L", (SIDE, SIDE))
    pen, radius = ImageDraw.Draw(image), width / 2
    for line in lines:
        points = [(float(x), float(y)) for x, y in line]
        pen.line(points, fill=255, width=round(width))
        for point in points:  # a round pen
            pen.circle(point, radius, fill=255)
    return np.asarray(image)


def written(label: int, generator: np.random.Generator, widths: tuple[float, float]) -> tuple[list[np.ndarray], float]:
    """The strokes of a digit as somebody might write it, and the width of the pen.

    Args:
        label: the digit.
        generator: decides how it is written.
        widths: the range of the width, of the digit's height.

    Returns:
        For each stroke its points [n, 2], across and down, and the width; all in pixels of a drawing of SIDE².
    """
    strokes = HANDS[label][generator.integers(len(HANDS[label]))]
    missed = generator.uniform(*HASTE)
    lines = [_line(np.array(stroke) + generator.normal(0, missed, (len(stroke), 2))) for stroke in strokes]
    angle, slant = np.radians(generator.uniform(-20, 20)), generator.uniform(-0.2, 0.5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = turn @ np.array([[generator.uniform(0.5, 0.85), -slant], [0, 1]])
    lines = [line @ shape.T for line in lines]
    width = generator.uniform(*widths)
    places = np.concatenate(lines)
    low, high = places.min(axis=0), places.max(axis=0)
    scale = SIDE * 20 / 28 / (max(high - low) + width)
    return [(line - (low + high) / 2) * scale + SIDE / 2 for line in lines], width * scale


def _line(points: np.ndarray) -> np.ndarray:
    """Places close to one another on a smooth line through `points` [n, 2]."""
    times = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    found: np.ndarray = CubicSpline(times, points)(np.linspace(0, times[-1], 60))
    return found


def pictures_of(draw: Draw, widths: tuple[float, float], count: int, seed: int) -> tuple[list[bytes], np.ndarray]:
    """So many pictures, every digit about as often as another, and the labels."""
    generator = np.random.default_rng([SEED, seed])
    labels = generator.permutation(np.arange(count) % 10)
    return [draw(Ink(rendered(label, generator, widths)[None]), generator) for label in labels.tolist()], labels


def seeds_here(variant: str, count: int) -> list[int]:
    """The first so many seeds of a variant whose models are here.

    Raises:
        UserError: there are not so many.
    """
    models = (paths.MODELS / variant).glob("*/model.keras")
    seeds = sorted(int(path.parent.name) for path in models if path.parent.name.isdecimal())
    if len(seeds) < count:
        raise UserError(
            f"{paths.MODELS / variant} should hold the models of {count} seeds, found {len(seeds)}: run "
            f"`dvc repro train@{variant}`, or ask for fewer with --seeds"
        )
    return seeds[:count]


def reader(variant: str, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities [n, 10] of images, by one model of a variant."""
    results = read_results(variant)
    seed, key = predict.choose(results, seed)
    return predict.Classifier(seed, key, results, paths.MODELS / variant, ensemble=False).probabilities


def _row(name: str, shares: np.ndarray) -> str:
    """A line of the table, of the shares that are right and confidently wrong [variants, seeds, 2]."""
    return f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in shares.mean(axis=1).ravel())} |"


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.handwriting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument(
        "--pictures", type=int, default=500, help="pictures of each pen and page (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each variant (default: %(default)s)")
    arguments = parser.parse_args()
    if min(arguments.pictures, arguments.seeds) < 1:
        parser.error("--pictures and --seeds should be at least 1")
    study = params.load()
    for variant in arguments.variants:
        study.recipe(variant)
    form = predict.image_format(read_results(arguments.variants[0]), study.data.scaling)
    prepared = functools.cache(lambda content: prepare.prepare(content, form))
    chosen = {variant: seeds_here(variant, arguments.seeds) for variant in arguments.variants}
    readers = {variant: [reader(variant, seed) for seed in seeds] for variant, seeds in chosen.items()}
    rows, kinds = [], []
    for seed, (pen, page) in enumerate((pen, page) for pen in PENS for page in PAGES):
        contents, labels = pictures_of(PAGES[page], PENS[pen], arguments.pictures, seed)
        found = [[seen(contents, labels, prepared, read) for read in seeds] for seeds in readers.values()]
        kinds.append(np.array([[(one.right, one.surely_wrong) for one in seeds] for seeds in found]))
        rows.append(_row(f"{pen}, {page}", kinds[-1]))
        print(rows[-1], flush=True)
    shares = np.mean(kinds, axis=0)
    rows.append(_row("all", shares))
    ranges = "; ".join(
        f"{variant} {100 * right.min():.2f}–{100 * right.max():.2f}"
        for variant, right in zip(arguments.variants, shares[..., 0], strict=True)
    )
    columns = [f"{variant}: {share}" for variant in arguments.variants for share in ("right", "confidently wrong")]
    options = f"--pictures {arguments.pictures} --seeds {arguments.seeds}"
    command = f"python -m benchmarks.handwriting {' '.join(arguments.variants)} {options}"
    report = f"""\
# Classification of rendered handwriting

`{command}`:
{arguments.pictures} images of each kind, of handwriting rendered stroke by stroke in {sum(map(len, HANDS.values()))}
hands; no test image is used. In percent, the mean of {arguments.seeds} seeds. *Confidently wrong*: another digit, with
a probability above {pictures.SURE}. *Right* for all images, the worst and the best seed: {ranges}.

{head(columns)}
{chr(10).join(rows)}
"""
    files.write_bytes(REPORT, report.encode())


if __name__ == "__main__":
    main()

"""Classify image files with the study's best model: `python -m stages.predict IMAGE... [--vote] [--json]`.

`metrics/champion.json` names the best variant and its best seed, both chosen by dev score.
"""

import argparse
import io
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from stages import families, files, records, terminal
from stages.errors import StudyError

SIDE = 28  # of an image as the models take it
BOX = 20  # that a digit fills in it
MASS_CENTRE = 14  # row and column, from 0: the mean of MNIST's digits, each within half a pixel of it
BYTES_LIMIT = 10_000_000
PIXEL_LIMIT = 16_000_000
WORKING_SIDE = 400  # a larger image is averaged down to about this, which takes a photo's noise away too
CONTRAST = 32  # grey levels of 255 between background and ink: with fewer an image counts as blank
FORMATS = ("PNG", "JPEG")
BATCH = 500  # images
VOTERS = 10  # the first seeds, as in stages/evaluate

# As Pillow's documentation advises; refused in `_decode` with a message of our own.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def prepare(content: bytes) -> np.ndarray:
    """The bytes of a PNG or JPEG file as the models take an image: uint8 [28, 28], light on dark.

    Assumes one digit that does not touch the border, on a background that is even to a quarter of the contrast: paper
    in even light, not in half shadow. The background is the median of the outermost pixels, and the ink whatever
    differs most from it, lighter or darker. The digit is then scaled to fit a box of 20x20, with anti-aliasing, and its
    centre of mass put into the centre of the image, as in Y. LeCun et al. 1998, "Gradient-based learning applied to
    document recognition", section III.A.

    An image that has 28x28 pixels and is light on dark is in the models' own format, and is left as it is.

    Raises:
        StudyError: it is empty, too large, not a whole PNG or JPEG file, or blank.
    """
    grey = _decode(content)
    background = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    lighter, darker = float(grey.max()) - background, background - float(grey.min())
    contrast = max(lighter, darker)
    if contrast < CONTRAST:
        raise StudyError(
            f"the image is blank: its brightness varies by {contrast:.0f} of 255 from the background's, and a digit "
            f"should by {CONTRAST} or more"
        )
    if grey.shape == (SIDE, SIDE) and lighter > darker:
        return grey
    ink = (grey - background) / (lighter if lighter > darker else -darker)
    return _centred(_boxed(ink))


def _decode(content: bytes) -> np.ndarray:
    """Brightness uint8 [height, width]."""
    if not content:
        raise StudyError("the image is empty: expected the bytes of a PNG or JPEG file, received none")
    if len(content) > BYTES_LIMIT:
        raise StudyError(f"the image should have at most {BYTES_LIMIT / 1e6:.0f} MB: save it smaller")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        pixels = image.width * image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = sys.maxsize
    except Exception as error:  # of many kinds
        raise StudyError(
            f"expected an image in PNG or JPEG format, received bytes that start with {content[:8]!r}: save it as one "
            "of the two"
        ) from error
    if pixels > PIXEL_LIMIT:
        raise StudyError(f"the image should have at most {PIXEL_LIMIT / 1e6:.0f} megapixels: scale it down")
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # of many kinds again
        raise StudyError("the image is damaged or cut off: save or send it again") from error
    return np.asarray(_grey(image, max(1, max(image.size) // WORKING_SIDE)))


def _grey(image: Image.Image, factor: int) -> Image.Image:
    """The image's brightness, with sides shorter by `factor`."""
    if image.mode.startswith("I"):  # 16 bit, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).reduce(factor)
    if not image.has_transparency_data:
        return image.convert("L").reduce(factor)
    coloured = image.convert("RGBA").reduce(factor)
    brightness, alpha = coloured.convert("L"), coloured.getchannel("A")
    # What is drawn decides on what it lies: dark ink on white paper, light ink on black.
    opacity = np.asarray(alpha, float)
    ink = float((np.asarray(brightness) * opacity).sum() / max(1.0, opacity.sum()))
    return Image.composite(brightness, Image.new("L", coloured.size, 255 if ink < 128 else 0), alpha)


def _boxed(ink: np.ndarray) -> np.ndarray:
    """The digit alone, its longer side 20 pixels; float [height, width] from 0 to 1.

    Args:
        ink: 0 for the background, 1 for the strongest ink; float [height, width].
    """
    rows, columns = (np.flatnonzero((ink >= 0.5).any(axis=axis)) for axis in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # MNIST's originals were black and white: a quarter of the contrast from either is taken for it.
    digit = np.clip(2 * digit - 0.5, 0, 1).astype(np.float32)
    scale = BOX / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    small = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BILINEAR))
    return small / small.max()  # thin strokes are pale by now, and MNIST's digits all have white in them


def _centred(digit: np.ndarray) -> np.ndarray:
    total = digit.sum()
    place = []
    for axis in (0, 1):
        length = digit.shape[axis]
        centre = float((digit.sum(axis=1 - axis) * np.arange(length)).sum() / total)
        start = min(max(0, round(MASS_CENTRE - centre)), SIDE - length)
        place.append(slice(start, start + length))
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[tuple(place)] = np.round(digit * 255)
    return image


def read_champion(path: Path = records.CHAMPION) -> dict[str, Any]:
    """What champion.json says: the variant, its best seed, that run's key and more.

    Raises:
        StudyError: there is no such file, or no champion.
    """
    if not path.exists():
        raise StudyError(f"{path} is missing: run `dvc repro`")
    champion = files.read_json(path)
    if champion is None:
        raise StudyError(f"{path} names no model: no variant in params.yaml has a dev split to choose by")
    return champion


class Champion:
    """The models of the best variant: its best seed's and, for the vote, those of its first seeds."""

    def __init__(self, seed: int, key: str, scores: Path, runs: Path, *, vote: bool) -> None:
        """Load the models, in Keras's safe mode, and only those that were evaluated.

        Args:
            seed: the best one.
            key: of its run.
            scores: `metrics/runs/<variant>/test.csv`, which has the seeds and the key of each run.
            runs: `models/<variant>`, a folder for each seed.
            vote: load the models that vote, too.

        Raises:
            StudyError: a file is missing, or is not of the run that was evaluated.
        """
        table = files.read_table(scores, [*records.RUN_COLUMNS, "test_accuracy"], more=True)
        if key not in set(table["key"][table["seed"] == seed]):
            raise StudyError(f"{records.CHAMPION} names seed {seed} of other runs than {scores} has: run `dvc repro`")
        self._seed, self._voters = seed, [int(voter) for voter in table["seed"][:VOTERS]] if vote else []
        wanted = table[table["seed"].isin([seed, *self._voters])]
        family = records.read_facts(runs / str(seed))["parameters"]["family"]
        self._are_probabilities = families.recipe_class(family).probabilities
        self._models = {
            int(row_seed): _load_model(runs / str(row_seed), key)
            for row_seed, key in zip(wanted["seed"], wanted["key"], strict=True)
        }

    def probabilities(self, images: np.ndarray, *, vote: bool = False) -> np.ndarray:
        """Probabilities float32 [n, 10] for images uint8 [n, 28, 28].

        Where a family's outputs are scores, which may leave [0, 1], they are the nearest probabilities.

        Args:
            images: as `prepare` makes them, or as MNIST has them.
            vote: give the mean of the seeds that vote, not the best seed's; they must have been loaded.
        """
        seeds = self._voters if vote else [self._seed]
        outputs = np.mean([_outputs(self._models[seed], images) for seed in seeds], axis=0)
        return outputs if self._are_probabilities else nearest_probabilities(outputs)


def nearest_probabilities(outputs: np.ndarray) -> np.ndarray:
    """The probabilities at the least squared distance from any numbers, with the same class on top; both [n, classes].

    J. Duchi et al. 2008, "Efficient projections onto the l1-ball for learning in high dimensions", figure 1.
    """
    descending = -np.sort(-outputs, axis=1)
    surplus = (np.cumsum(descending, axis=1) - 1) / np.arange(1, outputs.shape[1] + 1, dtype=outputs.dtype)
    positive = (descending > surplus).sum(axis=1, keepdims=True)
    return np.maximum(outputs - np.take_along_axis(surplus, positive - 1, axis=1), 0)


def _load_model(run: Path, key: str) -> Any:
    facts = records.read_facts(run)
    if facts["key"] != key:
        raise StudyError(f"{run} holds another run than the one that was evaluated: run `dvc repro`")
    # It takes the first calls of ten models for one function that is compiled ten times.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return records.read_model(run, facts)


def _outputs(model: Any, images: np.ndarray) -> np.ndarray:
    # Compiled, which for single images is many times faster than to call the model.
    batches = [model.predict_on_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(batches).astype(np.float32)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise StudyError("this is a folder: name the image files in it")
    if not path.is_file():
        raise StudyError("there is no such file")
    with path.open("rb") as file:
        return file.read(BYTES_LIMIT + 1)


@terminal.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description="Classify images of digits.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", type=Path, help="a PNG or JPEG file with one digit")
    parser.add_argument(
        "--vote", action="store_true", help="the mean of the first ten seeds' models, not the best seed's alone"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object on each line, with all ten probabilities")
    arguments = parser.parse_args()
    paths, images = [], []
    for path in arguments.images:
        try:
            images.append(prepare(_read(path)))
            paths.append(path)
        except (StudyError, OSError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
    if images:
        # As evaluate does, so that the results are the same. Set before TensorFlow is imported.
        os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
        best = read_champion()
        variant = best["variant"]
        scores, runs = records.scores_path(variant), records.MODELS / variant
        champion = Champion(best["seed"], best["key"], scores, runs, vote=arguments.vote)
        for path, row in zip(paths, champion.probabilities(np.stack(images), vote=arguments.vote), strict=True):
            print(_as_json(path, row) if arguments.json else _as_text(path, row))
    if len(images) < len(arguments.images):
        sys.exit(1)


def _as_text(path: Path, probabilities: np.ndarray) -> str:
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    return f"{path}: {first} ({100 * probabilities[first]:.2f} %), then {second} ({100 * probabilities[second]:.2f} %)"


def _as_json(path: Path, probabilities: np.ndarray) -> str:
    values = [float(value) for value in probabilities]
    return json.dumps(
        {"image": str(path), "digit": values.index(max(values)), "probability": max(values), "probabilities": values}
    )


if __name__ == "__main__":
    main()

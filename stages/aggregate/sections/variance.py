"""The variance of a single run's score: by seed, by test image, and their interaction."""

from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd
from scipy import special

from stages.aggregate.report.parts import Column, Part, Table, images_of, number, span, text
from stages.aggregate.runs import Runs
from stages.study.params import Params

COLUMNS = ["variant", "n", "seeds_sd", "seeds_low", "seeds_high", "interaction_sd", "digits_sd"]


@dataclass(frozen=True)
class Split:
    """The components of the variance of one run's accuracy, as standard deviations in percentage points.

    Attributes:
        seeds: between seeds, over all possible test images.
        seeds_low, seeds_high: its confidence limits.
        interaction: of seeds and images: which seed fails on which image.
        images: between draws of the test images, for a variant averaged over all seeds.
    """

    seeds: float
    seeds_low: float
    seeds_high: float
    interaction: float
    images: float


def parts(runs: Runs, study: Params) -> list[Part]:
    images, settings = images_of(study.data.name), study.statistics
    columns: list[Column] = [
        text("variant", "variant"),
        number("n", "n"),
        number("sd: seed", "seeds_sd", "{:.3f}"),
        span(f"{settings.percent} limits", "seeds_low", "seeds_high", "{:.3f}"),
        number(f"sd: seed × {images}", "interaction_sd", "{:.3f}"),
        number(f"sd: test {images}", "digits_sd", "{:.3f}"),
    ]
    caption = (
        "Standard deviations of the test accuracy of a single run, in percentage points. Seed: between seeds, over all "
        f"possible {images}. Seed × {images}: which of them each run misclassifies. Test {images}: others might have "
        "been drawn. Each pair of limits alone has this confidence."
    )
    title = "Components of variance"
    return [Table("variance", title, caption, table(runs, settings.alpha), columns, fold=title)]


def table(runs: Runs, level: float) -> pd.DataFrame:
    """A row for each variant, on all seeds that it has."""
    rows = []
    for name, variant in runs.items():
        found = split(variant.correct, level)
        rows.append([name, len(variant.correct), *(astuple(found) if found else [None] * 5)])
    return pd.DataFrame(rows, columns=COLUMNS)


def split(right: np.ndarray, level: float) -> Split | None:
    """Split of the variance of one run's accuracy into seeds, test images and their interaction.

    Two-way random model without replication, by the analysis of variance: Searle, Casella and McCulloch 1992, "Variance
    components", chapter 4. A component that comes out negative is 0. Limits: Williams 1962, "A confidence interval for
    variance components", Biometrika 49.

    Args:
        right: bool [seeds, images].
        level: probability that the limits miss.

    Returns:
        None for fewer than two seeds or two images.

    Raises:
        ValueError: right is not bool or not two-dimensional.
    """
    if right.ndim != 2 or right.dtype != np.bool_:
        raise ValueError(f"Expected bool [seeds, images], received {right.dtype} {list(right.shape)}.")
    seeds, images = right.shape
    if seeds < 2 or images < 2:
        return None
    mean = right.mean()
    of_seed, of_image = right.mean(axis=1) - mean, right.mean(axis=0) - mean
    rest = right - mean - of_seed[:, None] - of_image
    freedom = seeds - 1, (seeds - 1) * (images - 1)
    # Mean squares.
    between_seeds = images * (of_seed**2).sum() / (seeds - 1)
    between_images = seeds * (of_image**2).sum() / (images - 1)
    left = (rest**2).sum() / freedom[1]
    low, high = (between_seeds / special.fdtri(*freedom, chance) - left for chance in (1 - level / 2, level / 2))
    variances = (between_seeds - left, low, high, left, (between_images - left) / seeds)
    # A score is a mean over the images, which divides what differs from image to image.
    return Split(*(100 * float(max(variance, 0.0) / images) ** 0.5 for variance in variances))

"""Where the noise of a single run's score comes from: its seed, the test images, or both at once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from stages import sequential
from stages.aggregate.parts import Column, Part, Table, images_of, number, span, text
from stages.aggregate.runs import Runs, shared_seeds
from stages.params import Params

SOURCES = ("seeds", "interaction", "digits")


@dataclass(frozen=True)
class Component:
    """A part of the variance of one run's accuracy as a standard deviation in points, and its limits."""

    sd: float
    low: float
    high: float


def parts(runs: Runs, study: Params) -> list[Part]:
    images = images_of(study.data.name)
    headers = dict(zip(SOURCES, ("the seed", f"seed × {images}", f"the test {images}"), strict=True))
    columns: list[Column] = [text("variant", "variant"), number("n", "n")]
    for source, header in headers.items():
        columns.append(number(f"sd from {header}", f"{source}_sd", "{:.3f}"))
        columns.append(span("limits", f"{source}_low", f"{source}_high", "{:.3f}"))
    caption = (
        "How far the test accuracy of a single run is off, in points. From the seed: what makes a run better or worse "
        f"on whatever {images}. Seed × {images}: which of these each run happens to miss. From the test {images}: "
        f"others might have been drawn. Limits of {study.statistics.percent}, one at a time."
    )
    return [Table("variance", "Where the noise comes from", caption, table(runs, study.statistics.alpha), columns)]


def table(runs: Runs, level: float) -> pd.DataFrame:
    """A row for each variant, on the seeds that all of them have."""
    n, rows = shared_seeds(runs.values()), []
    for name, variant in runs.items():
        found = split(variant.right[:n], level)
        parts = {f"{source}_{part}": value for source in found for part, value in vars(found[source]).items()}
        rows.append({"variant": name, "n": n, **parts})
    columns = [f"{source}_{part}" for source in SOURCES for part in ("sd", "low", "high")]
    return pd.DataFrame(rows, columns=["variant", "n", *columns])


def split(right: np.ndarray, level: float) -> dict[str, Component]:
    """Split of the variance of one run's accuracy into seeds, images ("digits") and their interaction.

    Two-way random model without replication, by the analysis of variance: Searle, Casella and McCulloch 1992, "Variance
    components", chapter 4. A component that comes out negative is 0. Limits of the seeds' part: Williams 1962, "A
    confidence interval for variance components", Biometrika 49. The other two are means over the images, which are
    many and far from normal: their limits are those of a mean.

    Args:
        right: bool [seeds, images].
        level: probability that limits miss, each pair for itself.

    Returns:
        The component of each source; none for fewer than two seeds or two images.

    Raises:
        ValueError: right is not bool or not two-dimensional.
    """
    if right.ndim != 2 or right.dtype != np.bool_:
        raise ValueError(f"Expected bool [seeds, images], received {right.dtype} {list(right.shape)}.")
    seeds, images = right.shape
    if seeds < 2 or images < 2:
        return {}
    mean = right.mean()
    of_seed, of_image = right.mean(axis=1) - mean, right.mean(axis=0) - mean
    rest = right - mean - of_seed[:, None] - of_image
    interaction = (rest**2).sum(axis=0) * images / ((seeds - 1) * (images - 1))  # of each image
    between = of_image**2 * images / (images - 1) - interaction / seeds
    square, left = images * (of_seed**2).sum() / (seeds - 1), float(interaction.mean())
    freedom = seeds - 1, (seeds - 1) * (images - 1)
    ends = [square / stats.f.ppf(chance, *freedom) - left for chance in (1 - level / 2, level / 2)]
    # A score is a mean over the images, which divides what differs from image to image.
    return {
        "seeds": Component(*(_sd(value / images) for value in (square - left, *ends))),
        "digits": _of_mean(between, level),
        "interaction": _of_mean(interaction, level),
    }


def _of_mean(variances: np.ndarray, level: float) -> Component:
    """The component whose variance is the mean of the images' [images]."""
    mean, images = float(variances.mean()), len(variances)
    half = float(stats.norm.ppf(1 - level / 2) * variances.std(ddof=1) / images**0.5)
    return Component(*(_sd(value / images) for value in (mean, mean - half, mean + half)))


def _sd(variance: float) -> float:
    return float(sequential.POINTS * max(variance, 0.0) ** 0.5)

"""Intervals for the mean difference on new test images, with new seeds: pure functions.

The interval of `intervals` is conditional on the test images. Given the images, the seeds have a p-value U that is
valid at every number of seeds at once; the images have a p-value P of their own (normal, for many images). The squares
of the normal quantiles of U and P add up to at most a χ² with two degrees of freedom, which exceeds r² = −2 ln(level)
with probability `level`. The half-width is the largest sum of both errors below that bound: it is anytime-valid too.
"""

import math

import numpy as np
import scipy

from many_seeds.statistics.intervals import Design, Interval, half_widths

LEAST_IMAGES = 30  # or groups: with fewer, the mean over images is not close to normal
ANGLES = np.linspace(0, np.pi / 2, 4097)  # the maximum is exact to 1e-7, relatively


def standard_error(differences: np.ndarray, *, resolution: float, groups: np.ndarray | None = None) -> float | None:
    """Standard error over the test images of a seed-averaged difference.

    At least √2 · resolution: where hardly an image differs, the normal approximation is too optimistic.

    Args:
        differences: float [images], the score of b minus that of a on each image, averaged over the seeds.
        resolution: the value of one image: 1 / images, in the unit of the differences.
        groups: [images], such as the writer or the patient of each image; None if images are independent. With groups,
            the error is clustered (Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models",
            Biometrika 73).

    Returns:
        The standard error in the unit of the differences; None with fewer than 30 images or groups.
    """
    deviations = differences - differences.mean()
    if groups is not None:
        deviations = np.bincount(np.unique(groups, return_inverse=True)[1], deviations)
    count = len(deviations)
    if count < LEAST_IMAGES:
        return None
    variance = count / (count - 1) * float(np.sum(deviations**2)) / len(differences) ** 2
    return max(math.sqrt(variance), math.sqrt(2) * resolution)


def half_width(n: int, sd: float, se: float, level: float, design: Design = "open") -> float:
    """Half-width of the interval for new seeds and new test images.

    Args:
        n: number of seeds.
        sd: standard deviation of the differences between seeds (ddof 1).
        se: standard error over the test images, in the same unit.
        level: the probability that the interval misses, 0 < level < 1.
        design: see `intervals.half_width`.

    Returns:
        The half-width in the unit of sd; infinite if that of `intervals.half_width` is so far from excluding any mean.

    Example:
        >>> round(half_width(10, sd=1.0, se=0.3, level=0.05), 6)
        1.697888
    """
    radius = _radius(level)
    levels = 2 * scipy.special.ndtr(-radius * np.cos(ANGLES))
    of_seeds = half_widths(np.full(len(ANGLES), n), levels, design)
    if not np.isfinite(of_seeds[0]):
        return math.inf
    return float((of_seeds * sd + radius * np.sin(ANGLES) * se).max())


def interval(difference: float, n: int, sd: float, se: float, level: float, design: Design = "open") -> Interval:
    """The interval for new seeds and new test images; arguments are those of `half_width`."""
    half = half_width(n, sd, se, level, design)
    return Interval(difference - half, difference + half)


def images_needed(images: int, difference: float, se: float, *, level: float, margin: float) -> int | None:
    """The number of test images needed for a verdict on new images, where no number of seeds gives one.

    A projection: difference and standard error per image stay as they are, and the seeds are as many as it takes.

    Args:
        images: the number of test images.
        difference: the mean difference.
        se: its standard error over the test images, in the same unit.
        level: the probability that the interval misses.
        margin: equivalence margin, in the same unit.

    Returns:
        The number of images; None if seeds can give a verdict on these images, or no number of images can.
    """
    error = _radius(level) * se
    distance = max(abs(difference), margin - abs(difference))
    if error <= distance or distance <= 0:
        return None
    return math.ceil(images * (error / distance) ** 2)


def _radius(level: float) -> float:
    return math.sqrt(-2 * math.log(level))

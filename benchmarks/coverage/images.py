"""The interval for new test images, over test images and seeds that are drawn anew."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

from benchmarks.coverage.shared import LEVEL, QUARTER, STEP, Section, bounds, in_parts, percent
from many_seeds.statistics import intervals, new_images

RUNS = Path("benchmarks/gpu/study/metrics/runs")  # 64 seeds of each MLP
PAIRS = (
    ("elm", "mlp_tuned"),
    ("mlp_reference", "mlp_tuned"),
    ("mlp_1_wider", "mlp_2_ten_epochs"),
    ("mlp_tuned", "mlp_8_batch_512"),
)
AT = (10, 64, 256)  # seeds
LOOKS = np.unique([*QUARTER, *AT])
FIRST, RUNNING = "first interval", "first, running intersection"
SQUARES, SECOND = "√(h² + (1.96 se)²)", "second interval"
RULES = (FIRST, RUNNING, SQUARES, SECOND)
ANGLES = new_images.ANGLES[::16]
AT_ONCE = 250  # test sets; bounds the memory


@dataclass(frozen=True)
class Population:
    """Images and seeds to draw from: the differences of one pair of variants.

    Attributes:
        values: right_b − right_a, float32 [images, seeds], of the images where any seed has a difference.
        images: the number of all images, which is also that of each test set.
        products: float32 [images, pairs of seeds], the products of the values of each two seeds, once each.
    """

    values: np.ndarray
    images: int
    products: np.ndarray

    @property
    def truth(self) -> float:
        """The mean difference over all images and seeds, in points."""
        return float(100 * self.values.sum(dtype=float) / (self.images * self.values.shape[1]))


def sections(studies: int) -> list[Section]:
    found = {
        f"{a} → {b}": in_parts(functools.partial(simulate, of=committed(a, b)), [2026, 8, place], studies, AT_ONCE)
        for place, (a, b) in enumerate(PAIRS)
    }
    return [section(found)]


def committed(a: str, b: str) -> Population:
    """The committed predictions of two variants, with as many seeds as both have."""
    right = []
    for variant in (a, b):
        with np.load(RUNS / variant / "predictions.npz") as arrays:
            right.append((arrays["labels"] == arrays["truth"]).T.astype(float))
    seeds = min(each.shape[1] for each in right)
    values = right[1][:, :seeds] - right[0][:, :seeds]
    return population(values)


def population(values: np.ndarray) -> Population:
    """The population of images and seeds with some values, float [images, seeds]."""
    differing = values[values.any(axis=1)].astype(np.float32)
    first, second = np.triu_indices(values.shape[1])
    return Population(differing, len(values), differing[:, first] * differing[:, second])


def simulate(generator: np.random.Generator, studies: int, of: Population) -> dict[str, np.ndarray]:
    """Test sets and orders of seeds, both drawn with replacement from the population.

    Seeds and images are crossed: a seed that is drawn has its predictions on all images of the test set. Sums over the
    images of a test set, for each pair of seeds, are all that its intervals depend on.

    Returns:
        For each rule, whether its interval contains the truth, bool [studies, looks]; its half-width likewise.
    """
    values, images = of.values, of.images
    kinds, seeds = values.shape
    shares = np.r_[np.full(kinds, 1 / images), 1 - kinds / images]
    drawn = generator.multinomial(images, shares, studies)[:, :-1].astype(np.float32)
    sums = 100 * drawn @ values / images  # the score difference of each seed, [studies, seeds]
    upper = np.triu_indices(seeds)
    products = np.zeros((studies, seeds, seeds), np.float32)
    products[:, upper[0], upper[1]] = drawn @ of.products
    products += np.triu(products, 1).swapaxes(1, 2)

    order = generator.integers(0, seeds, (studies, int(LOOKS[-1])))
    differences = np.take_along_axis(sums, order, axis=1).astype(float)
    low, high = bounds(differences, np.arange(2, int(LOOKS[-1]) + 1), LEVEL)
    holds = np.logical_and.accumulate((low < of.truth) & (of.truth < high), axis=1)
    low, high = np.maximum.accumulate(low, axis=1), np.minimum.accumulate(high, axis=1)
    found = {f"{RUNNING}, covers": [holds[:, LOOKS - 2]], f"{RUNNING}, half": [((high - low) / 2)[:, LOOKS - 2]]}
    for n in LOOKS:
        mean, sd = differences[:, :n].mean(axis=1), np.maximum(differences[:, :n].std(axis=1, ddof=1), STEP)
        weights = _weights(order[:, :n], seeds)
        se = standard_errors(products, weights, mean, images)
        for rule, half in half_widths(int(n), sd, se).items():
            found.setdefault(f"{rule}, covers", []).append(np.abs(mean - of.truth)[:, None] < half[:, None])
            found.setdefault(f"{rule}, half", []).append(half[:, None])
    return {name: np.hstack(each) for name, each in found.items()}


def standard_errors(products: np.ndarray, weights: np.ndarray, mean: np.ndarray, images: int) -> np.ndarray:
    """Standard errors over the images of seed-averaged differences, in points, as `new_images.standard_error`.

    Args:
        products: float [studies, seeds, seeds], sums over the images of products of the differences of two seeds.
        weights: float [studies, seeds], the share of each seed; of a seed that is drawn twice, twice that of others.
        mean: the mean differences, float [studies], in points.
        images: how many.
    """
    squares = 100**2 * np.einsum("ts,tsr,tr->t", weights, products, weights, optimize=True)
    variance = (squares - images * mean**2) / (images - 1)
    return np.maximum(np.sqrt(variance / images), np.sqrt(2) * 100 / images)


def half_widths(n: int, sd: np.ndarray, se: np.ndarray) -> dict[str, np.ndarray]:
    """Half-widths by each rule, from the standard deviation between seeds and the standard error over images."""
    radius = np.sqrt(-2 * np.log(LEVEL))
    of_seeds = intervals.half_widths(np.full(len(ANGLES), n), 2 * special.ndtr(-radius * np.cos(ANGLES)), "open")
    first = float(intervals.half_width(n, LEVEL)) * sd
    second = np.max(of_seeds * sd[:, None] + radius * np.sin(ANGLES) * se[:, None], axis=1)
    return {FIRST: first, SQUARES: np.hypot(first, 1.96 * se), SECOND: second}


def _weights(order: np.ndarray, seeds: int) -> np.ndarray:
    """The share of each seed among those drawn, float [studies, seeds]."""
    flat = order + seeds * np.arange(len(order))[:, None]
    return np.bincount(flat.ravel(), minlength=seeds * len(order)).reshape(len(order), seeds) / order.shape[1]


def _always(covers: np.ndarray) -> np.ndarray:
    return np.logical_and.reduce(covers, axis=1)


def section(found: Mapping[str, Mapping[str, np.ndarray]]) -> Section:
    at = np.searchsorted(LOOKS, AT)
    lines = [["pair", "interval", *(f"{n} seeds" for n in AT), "all looks", f"half-width at {AT[-1]} seeds"]]
    for pair, of in found.items():
        for rule in RULES:
            covers = of[f"{rule}, covers"]
            row = [percent(covers[:, place]) for place in at] + [percent(_always(covers))]
            lines.append([pair, rule, *row, f"{of[f'{rule}, half'][:, at[-1]].mean():.3f}"])
    rates = {rule: [_always(of[f"{rule}, covers"]) for of in found.values()] for rule in RULES}
    low, high = ([f"{100 * of(map(np.mean, rates[rule])):.1f}" for rule in RULES] for of in (min, max))
    return Section(
        "New test images",
        f"""\
How often an interval contains the mean difference over all images and seeds that could be drawn:
{len(rates[FIRST][0]):,} test sets for each pair of variants. Images and seeds are drawn with replacement from
10,000 test images and the 64 seeds of `benchmarks/gpu/study`. All looks: all intervals from {LOOKS[0]} to
{LOOKS[-1]} seeds, a quarter more each time. First interval: for other seeds on the same images; h is its
half-width. Second: for new seeds and new images; se is the standard error over the images. Level
{100 * LEVEL:g} %.""",
        lines,
        f"At all looks, the second interval holds in {low[3]} to {high[3]} % of test sets; the first one, which is for "
        f"the same images, in {low[0]} to {high[0]} %, its running intersection in {low[1]} to {high[1]} %, and "
        f"√(h² + (1.96 se)²) in {low[2]} to {high[2]} %.",
    )

"""From measurements to the numbers in README.md: seconds, ratios, shares, and whether the goals are reached."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.overhead import AGAIN, PARTS, PUBLISH, TRAINING, makespan

BFLOAT16 = "mixed_bfloat16"
TOGETHER, ALL = "together", "total"
GOAL_TOGETHER, GOAL_MLP, GOAL_CNN, GOAL_BFLOAT16 = 2.0, 3.5, 1.6, 1.25
GOAL_BESIDE = 0.05  # of the whole
GOAL_GROWTH = 1.25  # seconds of an added seed: later ones over earlier ones
BUSY = 0.5  # processes at work before the first measurement, on average

Results = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """What one way of training a variant costs, in seconds.

    epoch: of one run, with the images measured; one_off: of a run beside its epochs; study: all seeds of the study,
    with their own numbers of epochs and all images.
    """

    epoch: float
    one_off: float
    study: float


@dataclass(frozen=True)
class Spread:
    """Over the repeats."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def training(runs: Sequence[Results], *, workers: int, scale: float, epochs: Sequence[int]) -> Training:
    """What runs of few epochs say of a study.

    Args:
        runs: the "seconds" of each, and those of its "epochs", of which the first pays for things that are done once.
        workers: runs side by side.
        scale: images of the study over images measured.
        epochs: of each seed of the study, in the order in which they are begun.
    """
    epoch = statistics.median(seconds for run in runs for seconds in run["epochs"][1:])
    one_off = statistics.mean(run["seconds"] - len(run["epochs"]) * epoch for run in runs)
    return Training(epoch, one_off, makespan([one_off + count * epoch * scale for count in epochs], workers))


def image_flops(products: Sequence[int]) -> int:
    """Floating-point operations of the matrix products of one image in a training step.

    Two for each multiplication and its addition; forward, backward for the kernel, and backward for the layer's input,
    but for the first layer's, which is the image.

    Args:
        products: multiplications for one image in each layer, forward.
    """
    return 2 * (3 * sum(products) - products[0])


def trainings(results: Results) -> dict[str, dict[str, list[Training]]]:
    """Variant → way → repeats."""

    def repeats(variant: Results, way: str) -> list[Training]:
        return [
            training(
                measured["runs"],
                workers=1 if way == "plain" else results["machine"]["cores"],
                scale=variant["all_images"] / variant["images"],
                epochs=variant["epochs"],
            )
            for measured in variant[way]
        ]

    return {
        name: {way: repeats(variant, way) for way in ("plain", "pipeline", BFLOAT16)}
        for name, variant in results["variants"].items()
    }


def speed_ups(results: Results) -> dict[str, list[float]]:
    """By how much the pipeline is faster, in each repeat: per variant, together, and in bfloat16 (of float32)."""
    by_variant = trainings(results)
    studies = {
        name: list(zip([t.study for t in ways["plain"]], [t.study for t in ways["pipeline"]], strict=True))
        for name, ways in by_variant.items()
    }
    found = {name: [plain / ours for plain, ours in pairs] for name, pairs in studies.items()}
    found[TOGETHER] = [
        sum(plain for plain, _ in pairs) / sum(ours for _, ours in pairs)
        for pairs in zip(*studies.values(), strict=True)
    ]
    for name, ways in by_variant.items():
        if ways[BFLOAT16]:
            found[f"{name} {BFLOAT16}"] = [
                full.epoch / half.epoch for full, half in zip(ways["pipeline"], ways[BFLOAT16], strict=True)
            ]
    return found


def ratios(results: Results) -> dict[str, float]:
    """What a later run shows beside its own."""
    return {name: statistics.median(values) for name, values in speed_ups(results).items()}


def summarise(results: Results) -> Results:
    """Everything that README.md.j2 shows."""
    by_variant = trainings(results)
    gains = {name: spread(values) for name, values in speed_ups(results).items()}
    peak = {
        cores: {precision: statistics.median(each[precision] for each in repeats) for precision in repeats[0]}
        for cores, repeats in results["peak"].items()
    }
    seconds = {
        name: {way: statistics.median(t.study for t in ways[way]) for way in ("plain", "pipeline")}
        for name, ways in by_variant.items()
    }
    # Parts of the study that an earlier measurement had not are left out.
    parts = {part: results["beside"][part] for part in PARTS if part != TRAINING and part in results["beside"]}
    beside = sum(parts.values())
    # Of as many seeds as what is beside was measured with.
    trained = sum(
        seconds[name]["pipeline"] / len(variant["epochs"]) * results["effort"]["seeds"]
        for name, variant in results["variants"].items()
    )
    growth = growth_rows(results)
    summary = {
        **{name: results[name] for name in ("machine", "versions", "effort", "load", "variants", "former")},
        "busy": results["load"] > BUSY,
        "peak": peak,
        "gains": gains,
        "seconds": seconds,
        "growth": growth,
        "steps": {
            name: {
                way: step(variant, way, ways[way], results["machine"]["cores"], peak) for way in ("plain", "pipeline")
            }
            for (name, variant), ways in zip(results["variants"].items(), by_variant.values(), strict=True)
        },
        "halves": {
            name: {way: statistics.median(t.epoch for t in ways[way]) for way in ("pipeline", BFLOAT16)}
            for name, ways in by_variant.items()
            if ways[BFLOAT16]
        },
        "parts": parts,
        "beside": beside,
        "trained": trained,
        "share": beside / (beside + trained),
        "again": results["beside"][AGAIN],
        "publish": results["beside"][PUBLISH] / (len(results["variants"]) * results["effort"]["seeds"]),
    }
    return summary | {"goals": goals(summary)}


def step(
    variant: Results, way: str, repeats: Sequence[Training], cores: int, peak: dict[str, dict[str, float]]
) -> Results:
    """What a way of training a variant makes of the machine: medians over the repeats."""
    products = variant["plain"][0]["products"]
    epoch = statistics.median(t.epoch for t in repeats)
    runs = 1 if way == "plain" else cores
    images = variant["images"] - variant["dev_images"]
    flops = runs * (images * image_flops(products) + variant["dev_images"] * 2 * sum(products))
    return {
        "gflop": variant["batch_size"] * image_flops(products) / 1e9,
        "epoch": epoch,
        "one_off": statistics.median(t.one_off for t in repeats),
        "share": flops / epoch / (peak["all cores"]["float32"] * 1e9),
        "start": statistics.median(measured["start_seconds"] for measured in variant[way]),
        "driver": max(measured["driver_mib"] for measured in variant[way]),
        "worker": max(measured.get("worker_mib", 0) for measured in variant[way]),
    }


def growth_rows(results: Results) -> dict[str, Results]:
    """Part → its seconds at each number of seeds, and the seconds of an added seed between them."""
    seeds, studies = results["effort"]["growth"], results["growth"]
    rows = {part: [study[part] for study in studies] for part in PARTS if part in studies[0]}
    rows[ALL] = [sum(values) for values in zip(*rows.values(), strict=True)]
    rows |= {part: [study[part] for study in studies] for part in (AGAIN, PUBLISH)}
    return {
        part: {
            "seconds": values,
            "added": [(values[i + 1] - values[i]) / (seeds[i + 1] - seeds[i]) for i in range(len(seeds) - 1)],
        }
        for part, values in rows.items()
    }


def goals(summary: Results) -> list[Results]:
    """Each goal, what was measured, and whether it is reached."""
    gains = summary["gains"]
    rows = []

    def goal(what: str, wanted: str, measured: str, reached: bool) -> None:
        rows.append({"what": what, "wanted": wanted, "measured": measured, "reached": reached})

    def gain(what: str, name: str, least: float) -> None:
        goal(what, f"at least {least:g} ×", f"{gains[name].median:.2f} ×", gains[name].median >= least)

    gain("all four networks, compared with plain Keras", TOGETHER, GOAL_TOGETHER)
    for name, variant in summary["variants"].items():
        gain(f"{name}, compared with plain Keras", name, GOAL_CNN if variant["convolutions"] else GOAL_MLP)
    for name in summary["halves"]:
        gain(f"{name} in bfloat16, compared with float32", f"{name} {BFLOAT16}", GOAL_BFLOAT16)
    share = summary["share"]
    wanted = f"under {100 * GOAL_BESIDE:g} % of the total"
    goal("everything except training", wanted, f"{100 * share:.1f} %", share < GOAL_BESIDE)
    early, late = summary["growth"][ALL]["added"]
    goal(
        "cost of an added seed",
        f"constant: the later ones at most {GOAL_GROWTH:g} × the earlier ones",
        f"{early:.2f} s, then {late:.2f} s",
        0 < late <= GOAL_GROWTH * early,  # a negative cost is one that could not be measured
    )
    return rows

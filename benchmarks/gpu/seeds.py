"""Seeds of variants, block by block: trained as lanes, looked at on the test set, kept as soon as a block is whole.

A block is kept whole or not at all: seeds that end early are not a sample of all seeds.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.gpu import networks, ridge
from benchmarks.gpu.results import Results
from stages.evaluate.scores import calibration, cross_entropy, squared_error
from stages.params import Network, Params
from stages.train.executors.lanes import engine, programs

TEST_BLOCK = 500  # test images at a time
TEST_LANES = 16


@dataclass(frozen=True)
class Data:
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Block:
    """Runs that share their programs: some seeds of some variants, `width` at a time."""

    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    width: int

    @property
    def name(self) -> str:
        return f"{'+'.join(self.variants)} seeds {self.seeds[0]}-{self.seeds[-1]}"


@dataclass(frozen=True)
class Prepared:
    """A block that is ready to train."""

    block: Block
    recipe: programs.Recipe
    lanes: list[engine.Lane]
    owners: list[tuple[str, int]]  # variant and seed of each lane
    seconds: float


def prepare(block: Block, study: Params, data: Data, convolution: str, dropout: str) -> Prepared:
    """Make initial values and compile what the block will run."""
    started = time.perf_counter()
    recipes = {name: study.recipe(name) for name in block.variants}
    first = recipes[block.variants[0]]
    assert isinstance(first, Network)
    recipe, fraction = networks.shared(first, convolution, dropout), study.split.dev_fraction
    lanes: list[engine.Lane] = []
    for each in recipes.values():
        assert isinstance(each, Network)
        lanes += networks.lanes(each, block.seeds, len(data.images), fraction)
    owners = [(name, seed) for name in block.variants for seed in block.seeds]
    dev = networks.dev_images(first, len(data.images), fraction)
    engine.compile_ahead(recipe, data.images, dev=dev, batch_size=first.batch_size, width=block.width)
    engine.compile_predict(recipe, data.test_images, width=TEST_LANES, block=TEST_BLOCK)
    return Prepared(block, recipe, lanes, owners, time.perf_counter() - started)


def train_block(prepared: Prepared, study: Params, data: Data, results: Results) -> dict[str, Any]:
    """Train a block and keep it; what it took."""
    started = time.perf_counter()
    first = study.recipe(prepared.block.variants[0])
    assert isinstance(first, Network)
    finished = dict(
        engine.train(
            prepared.recipe,
            prepared.lanes,
            data.images,
            data.labels,
            batch_size=first.batch_size,
            width=prepared.block.width,
        )
    )
    trained = time.perf_counter() - started
    for variant in prepared.block.variants:
        _keep_networks(variant, prepared, finished, data, results)
    return {
        "lanes": len(prepared.lanes),
        "width": prepared.block.width,
        "convolution": prepared.recipe.convolution,
        "dropout": prepared.recipe.dropout,
        "train_seconds": trained,
        "evaluate_seconds": time.perf_counter() - started - trained,
        "prepare_seconds": prepared.seconds,
        "epochs": sum(len(run.curve) for run in finished.values()),
    }


def _keep_networks(
    variant: str, prepared: Prepared, finished: dict[int, engine.Finished], data: Data, results: Results
) -> None:
    runs = {seed: finished[i] for i, (name, seed) in enumerate(prepared.owners) if name == variant}
    failed = {seed: run.failure for seed, run in runs.items() if run.failure}
    if failed:
        results.note("failed", variant, failed)
        return
    outputs = engine.predict(
        prepared.recipe,
        [run.weights or [] for run in runs.values()],
        data.test_images,
        width=TEST_LANES,
        block=TEST_BLOCK,
    )
    facts = []
    for run in runs.values():
        last = run.curve[run.best_epoch]
        facts.append(
            {
                **{"dev_loss": last.get("val_loss"), "dev_accuracy": last.get("val_accuracy")},
                **{"epochs": len(run.curve), "best_epoch": run.best_epoch},
            }
        )
    curves = [pd.DataFrame(run.curve).assign(seed=seed) for seed, run in runs.items()]
    bins = [calibration(output, data.test_labels).assign(seed=seed) for seed, output in zip(runs, outputs, strict=True)]
    keep(variant, list(runs), outputs, facts, cross_entropy, data, results, {"curves": curves, "calibration": bins})


def keep(
    variant: str,
    seeds: list[int],
    outputs: np.ndarray,
    facts: list[dict[str, Any]],
    loss: Callable[[np.ndarray, np.ndarray], float],
    data: Data,
    results: Results,
    tables: dict[str, list[pd.DataFrame]],
) -> None:
    """Score outputs float32 [seeds, test images, classes] and keep the block."""
    predicted = outputs.argmax(axis=2).astype(np.uint8)
    scores = [
        {
            "seed": seed,
            "test_loss": loss(output, data.test_labels),
            "test_accuracy": float((answer == data.test_labels).mean()),
            **fact,
        }
        for seed, output, answer, fact in zip(seeds, outputs, predicted, facts, strict=True)
    ]
    results.add_block(
        variant,
        seeds,
        {"labels": predicted, "seeds": np.array(seeds), "mean": outputs.mean(axis=0).astype(np.float16)},
        {"test": pd.DataFrame(scores), **{name: pd.concat(parts) for name, parts in tables.items()}},
    )


def keep_ridge(variant: str, seeds: Sequence[int], study: Params, data: Data, results: Results, jobs: int) -> float:
    """Fit a block of a closed-form variant on the host; the seconds it took."""
    started = time.perf_counter()
    fits = list(
        ridge.fit_block(
            study.recipe(variant),
            seeds,
            data.images,
            data.labels,
            data.test_images,
            study.split.dev_fraction,
            jobs,
        )
    )
    outputs = np.stack([output for _, output, _, _ in fits])
    curves = [rows.assign(seed=seed) for seed, _, rows, _ in fits]
    facts = [fact for *_, fact in fits]
    keep(variant, list(seeds), outputs, facts, squared_error, data, results, {"curves": curves})
    return time.perf_counter() - started


def run_blocks(
    blocks: Sequence[Block],
    study: Params,
    data: Data,
    results: Results,
    *,
    part: str,
    form: Callable[[str], str],
    dropout: str,
    deadline: float,
    guess: Callable[[Block], float],
) -> bool:
    """Train blocks in turn, while the next one is prepared; whether all of them were trained.

    A block that `guess` (its seconds) does not see finished by `deadline` is left out.
    """
    wanted = [block for block in blocks if not _is_kept(block, results)]
    whole = True
    with ThreadPoolExecutor(1) as pool:
        coming: list[tuple[Block, Future[Prepared]]] = []
        for i, block in enumerate(wanted):
            for later in wanted[i : i + 3]:
                if later not in [known for known, _ in coming]:
                    coming.append((later, pool.submit(prepare, later, study, data, form(later.variants[0]), dropout)))
            if time.time() + guess(block) > deadline:
                whole = False
                continue
            started = time.perf_counter()
            prepared = next(future for known, future in coming if known == block).result()
            coming = [(known, future) for known, future in coming if known != block]
            waited = time.perf_counter() - started
            took = train_block(prepared, study, data, results)
            results.note(part, block.name, {**took, "waited_seconds": waited})
        for _, future in coming:
            future.cancel()
    return whole


def _is_kept(block: Block, results: Results) -> bool:
    return all(set(block.seeds) <= results.seeds(variant) for variant in block.variants)

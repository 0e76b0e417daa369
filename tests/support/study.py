"""A synthetic study whose results can be computed by hand: nothing is trained."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from many_seeds.ledger import Row, ask, to_csv
from many_seeds.results import Results
from stages.aggregate.runs import VariantRuns
from stages.ledger.stage import asked
from stages.study import files, params, paths
from stages.study.comparisons import compare_variants, named_pairs
from stages.study.params import Params
from stages.study.records.arrays import write_npz
from stages.study.records.data_summary import Copies, DataSummary, write_summary
from stages.study.records.results import CALIBRATION_COLUMNS

IMAGES = 200
NETWORK = """
    family: network
    seeds: 10
    filters: []
    pool: []
    conv_dropout: []
    units: [8]
    dropout: 0.25
    initializer: glorot_uniform
    precision: float32
    learning_rate: 0.002
    decay: null
    batch_size: 64
    epochs: 2
    dev_split: true
    patience: null
    restore_best: false
"""
STUDY = f"""\
data: {{name: digits}}
split: {{dev_fraction: 0.2, seeds: 256}}
variants:
  ridge: {{family: ridge, seeds: 4, grid_powers: [-4, 12], tolerance: 8.0}}
  plain: &plain {NETWORK}
  wide: {{<<: *plain, units: [16]}}
  wider: {{<<: *plain, units: [32], seeds: 12}}
approaches: {{linear: ridge, MLP: wide, big MLP: wider}}
comparisons:
  - {{a: wide, b: plain}}
chains:
  units: [plain, wide, wider]
statistics: {{confidence: 0.95, equivalence_margin: 0.05, reproduction_margin: 0.1, design: open}}
"""
ENVIRONMENT = f"code={'0' * 64} keras=3.15.1 tensorflow=2.22.0"
PROCESSOR = "A processor; amx_bf16 avx512_bf16"
# Variant → for each seed, the number of the 200 images that it classifies incorrectly.
WRONG = {
    "ridge": [40, 41, 42, 40],
    "plain": [20, 21, 22, 20, 21, 22, 20, 21, 22, 20],
    "wide": [19, 22, 20, 21, 20, 22, 21, 20, 22, 19],
    "wider": [2, 3, 4, 2, 3, 4, 2, 3, 4, 2, 3, 4],
}


def study() -> Params:
    return params.parse(STUDY, "the synthetic study")


def predicted(wrong: Sequence[int], truth: np.ndarray, classes: int = 10) -> np.ndarray:
    """Labels [seeds, images]; each seed classifies its first images incorrectly."""
    labels = np.tile(truth, (len(wrong), 1))
    for row, errors in enumerate(wrong):
        labels[row, :errors] = (labels[row, :errors] + 1) % classes
    return labels


def variant(
    name: str,
    labels: np.ndarray,
    truth: np.ndarray,
    *,
    classes: Sequence[str] = tuple("0123456789"),
    scores: pd.DataFrame | None = None,
    hardest: Sequence[int] = (),
) -> VariantRuns:
    """The runs of a variant, with minimal curves and without images."""
    return VariantRuns(
        variant=name,
        probabilities=True,
        classes=list(classes),
        truth=truth,
        predicted=labels,
        ensemble=labels[0],
        members=len(labels),
        output_sum=None,
        scores=pd.DataFrame({"seed": range(len(labels))}) if scores is None else scores,
        curves=pd.DataFrame({"seed": range(len(labels)), "epoch": 0, "val_loss": 0.5}),
        calibration=pd.DataFrame(columns=CALIBRATION_COLUMNS),
        hardest=np.array(hardest, int),
        hardest_images=np.zeros((len(hardest), 8, 8), np.uint8),
        weights=None,
        environments=environments(len(labels)),
    )


def environments(seeds: int) -> pd.DataFrame:
    """The content of environments.csv."""
    return pd.DataFrame(
        {
            "seed": range(seeds),
            "environment": ENVIRONMENT,
            "evaluation": ENVIRONMENT,
            "model": "m",
            "processor": PROCESSOR,
        }
    )


def runs() -> dict[str, VariantRuns]:
    truth = np.arange(IMAGES, dtype=np.uint8) % 10
    return {name: variant(name, predicted(wrong, truth), truth) for name, wrong in WRONG.items()}


def write(*, classes: Sequence[str] = tuple("0123456789"), shape: tuple[int, ...] = (8, 8)) -> None:
    """Write the results of the study to metrics/runs of the current folder, and its ledger."""
    truth = np.arange(IMAGES, dtype=np.uint8) % len(classes)
    labels = {name: predicted(wrong, truth, len(classes)) for name, wrong in WRONG.items()}
    write_predictions(study(), labels, truth, classes=classes, shape=shape)


def write_predictions(
    of: Params,
    labels: Mapping[str, np.ndarray],
    truth: np.ndarray,
    *,
    classes: Sequence[str],
    losses: Mapping[str, Sequence[float]] | None = None,
    shape: tuple[int, ...] = (8, 8),
) -> None:
    """Write results with some predictions to metrics/runs of the current folder, the ledger, and the counts of images.

    Args:
        of: the study.
        labels: variant → labels [seeds, images] that its models predict.
        truth: labels [images].
        classes: their names.
        losses: variant → the test loss of each seed; 0.5 for a variant that is left out.
        shape: of an image.
    """
    enter(of)
    counts = dict(zip(classes, np.bincount(truth, minlength=len(classes)).tolist(), strict=True))
    none = Copies(count=0, other_class=0, named=[])
    write_summary(DataSummary(train=counts, test=counts, between=none, within_train=none, within_test=none))
    generator = np.random.default_rng(0)
    for name, recipe in of.variants.items():
        seeds = range(recipe.seeds)
        facts = dict.fromkeys(recipe.facts, 1.0) | {"dev_accuracy": np.linspace(0.8, 0.9, recipe.seeds)}
        scores = pd.DataFrame({"seed": seeds, "key": "k", "data": "d", "test_loss": (losses or {}).get(name, 0.5)})
        scores = scores.assign(test_accuracy=(labels[name] == truth).mean(axis=1), **facts)
        curve = {column: "grid" if column == "search" else 0.5 for column in recipe.curve}
        places = ("alpha", "epoch") if "alpha" in curve else ("epoch",)
        rows = [{"seed": seed, **curve, places[0]: step + 1} for seed in seeds for step in range(3)]
        bins = pd.DataFrame({"seed": seeds, "bin": 14, "images": len(truth), "confidence": 0.9, "accuracy": 0.8})
        files.write_table(paths.scores_path(name), scores)
        files.write_table(paths.environments_path(name), environments(recipe.seeds))
        files.write_table(paths.curves_path(name), pd.DataFrame(rows))
        files.write_table(paths.calibration_path(name), bins if recipe.probabilities else bins.head(0))
        arrays = {"labels": labels[name], "truth": truth, "ensemble": labels[name][0], "classes": np.array(classes)}
        arrays["voters"] = np.array(min(10, recipe.seeds))
        arrays["hardest"] = np.arange(30, dtype=np.uint16)
        arrays["hardest_images"] = generator.integers(0, 256, (30, *shape), dtype=np.uint8)
        if not recipe.probabilities:
            arrays["weights"] = generator.normal(size=(len(classes), *shape[:2]))
        write_npz(paths.predictions_path(name), arrays)


def compared(runs: Mapping[str, VariantRuns], study: Params) -> Results:
    """The results of all comparisons of a study, with a ledger that they enter as its first batch."""
    return compare_variants(runs, named_pairs(study), study, ledger_of(study))


def enter(study: Params) -> None:
    """Write the ledger of a study that enters all comparisons as its first batch."""
    files.write_bytes(paths.COMPARISONS, to_csv(ledger_of(study)).encode())


def ledger_of(study: Params) -> list[Row]:
    statistics = study.statistics
    return ask([], asked(study), {}, data=study.data.name, alpha=statistics.alpha, design=statistics.design)

"""Scores into tables: data frames in, data frames out; accuracies are fractions, differences percentage points."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.aggregate import statistics
from stages.aggregate.runs import Predictions, VariantRuns
from stages.params import Params, Statistics, differences, in_words

Runs = dict[str, VariantRuns]
REFERENCE = Path(__file__).parent / "reference"
POINTS = 100


def notebook_2020() -> pd.DataFrame:
    """The notebook's scores: variant, seed, test_loss, test_accuracy, epochs."""
    return pd.read_csv(REFERENCE / "notebook-2020.csv")


def accuracy_2020(study: Params) -> dict[str, float]:
    """Mean test accuracy in 2020 of each variant that has one; none for another data set than MNIST."""
    if study.data.name != "mnist":
        return {}
    course = pd.read_csv(REFERENCE / "course-2020.csv").set_index("variant")["test_accuracy"]
    return {**course.to_dict(), **notebook_2020().groupby("variant")["test_accuracy"].mean().to_dict()}


def summary(runs: Runs, settings: Statistics) -> dict[str, Any]:
    """For each variant the mean, sd and interval of accuracy and loss, and the vote's accuracy."""

    def spread(values: pd.Series) -> dict[str, float]:
        result = {"mean": float(values.mean())}
        if interval := statistics.mean_interval(values.to_numpy(), settings.confidence):
            result |= {"sd": float(values.std()), "ci_low": interval.low, "ci_high": interval.high}
        return {name: round(value, 8) for name, value in result.items()}

    return {
        name: {
            "seeds": len(variant.scores),
            "test_accuracy": spread(variant.scores["test_accuracy"]),
            "test_loss": spread(variant.scores["test_loss"]),
            "ensemble_accuracy": variant.ensemble_accuracy,
        }
        for name, variant in runs.items()
    }


def accuracy(runs: Runs) -> dict[str, dict[str, float]]:
    """What `dvc metrics` shows: the mean accuracy of each variant on the test set, and on the dev sets of its seeds."""
    means: dict[str, dict[str, float]] = {}
    for kind in ("test", "dev"):
        scores = {name: variant.scores[f"{kind}_accuracy"] for name, variant in runs.items()}
        means[kind] = {name: round(float(of.mean()), 8) for name, of in scores.items() if of.notna().all()}
    return means


def champion(runs: Runs) -> dict[str, Any] | None:
    """The variant with the highest mean dev accuracy and its best seed by dev accuracy; None if none has a dev split.

    Never by a test score: it could not be reported afterwards.
    """
    candidates = [variant for variant in runs.values() if variant.scores["dev_accuracy"].notna().all()]
    if not candidates:
        return None
    best = max(candidates, key=lambda variant: float(variant.scores["dev_accuracy"].mean()))
    row = best.scores.loc[best.scores["dev_accuracy"].idxmax()]
    return {
        "variant": best.name,
        "seed": int(row["seed"]),
        "key": row["key"],
        "dev_accuracy": float(row["dev_accuracy"]),
        "mean_dev_accuracy": round(float(best.scores["dev_accuracy"].mean()), 8),
        "seeds": len(best.scores),
    }


def variants(runs: Runs, settings: Statistics) -> pd.DataFrame:
    """A row for each variant: accuracy with both intervals, loss, the vote of the seeds, calibration, epochs."""
    rows = []
    for name, variant in runs.items():
        over_seeds = statistics.mean_interval(variant.accuracy, settings.confidence)
        over_both = statistics.crossed_mean_interval(
            variant.right, _generator(settings), settings.confidence, settings.resamples
        )
        errors = [
            statistics.calibration_error(*(bins[column].to_numpy() for column in ("images", "confidence", "accuracy")))
            for _, bins in variant.calibration.groupby("seed")
        ]
        rows.append(
            {
                **{"variant": name, "n": len(variant.scores), "accuracy": float(variant.accuracy.mean())},
                "sd": _sd(variant.accuracy),
                **_interval("seeds", over_seeds),
                **_interval("digits", over_both),
                "loss": float(variant.scores["test_loss"].mean()),
                "loss_sd": _sd(variant.scores["test_loss"].to_numpy()),
                "vote_accuracy": variant.ensemble_accuracy,
                "calibration_error": float(np.mean(errors)) if errors else None,
                "epochs": float(variant.scores["epochs"].mean()) if variant.is_network else None,
            }
        )
    return pd.DataFrame(rows)


def approaches(runs: Runs, study: Params) -> pd.DataFrame:
    """The variant of each approach beside the figure of 2020."""
    table = variants({name: runs[name] for name in study.approaches.values()}, study.statistics).set_index("variant")
    then = accuracy_2020(study)
    rows = [
        {
            **{"approach": approach, "variant": name, "n": int(table.loc[name, "n"])},
            **table.loc[name, ["accuracy", "sd", "seeds_low", "seeds_high", "digits_low", "digits_high"]].to_dict(),
            **{"vote_accuracy": table.loc[name, "vote_accuracy"], "accuracy_2020": then.get(name)},
        }
        for approach, name in study.approaches.items()
    ]
    return pd.DataFrame(rows)


def per_seed(runs: Runs, a: str, b: str) -> pd.DataFrame:
    """Test accuracy and loss of the two variants, a row a seed."""
    table = runs[a].scores[["seed"]].copy()
    for score in ("accuracy", "loss"):
        for name in (a, b):
            table[f"{name}_{score}"] = runs[name].scores[f"test_{score}"].to_numpy()
    return table


def scores(runs: Runs) -> pd.DataFrame:
    """Every score of the study: variant, seed, test_accuracy, test_loss, dev_accuracy, dev_loss."""
    columns = ["seed", "test_accuracy", "test_loss", "dev_accuracy", "dev_loss"]
    return _of_all({name: variant.scores[columns] for name, variant in runs.items()})


def learning_curves(runs: Runs) -> pd.DataFrame:
    """Of each variant that watches a dev split: variant, epoch, n seeds still training, their mean val_loss."""
    curves = {}
    for name, variant in runs.items():
        if variant.is_network and variant.curves["val_loss"].notna().all():
            by_epoch = variant.curves.groupby("epoch")["val_loss"].agg(["count", "mean"]).reset_index()
            curves[name] = by_epoch.set_axis(["epoch", "n", "val_loss"], axis="columns")
    return _of_all(curves) if curves else pd.DataFrame(columns=["variant", "epoch", "n", "val_loss"])


def compare(pairs: Sequence[tuple[Predictions, Predictions]], settings: Statistics) -> pd.DataFrame:
    """Is b better than a, for each pair of one family: a row a pair.

    Runs are paired by seed: the same seed has the same dev split, and where shapes agree the same first weights.
    """
    # What Holm's correction asks of the smallest p; equivalence is tested without correction.
    corrected = settings.alpha / max(len(pairs), 1)
    rows = []
    for a, b in pairs:
        differences = POINTS * (b.accuracy - a.accuracy)
        rows.append(
            {
                **{"a": a.name, "b": b.name, "n": len(differences), "difference": float(differences.mean())},
                **_interval("seeds", statistics.mean_interval(differences, settings.confidence)),
                **_interval(
                    "digits",
                    statistics.crossed_interval(
                        a.right, b.right, _generator(settings), settings.confidence, settings.resamples
                    ),
                ),
                "p": statistics.sign_flip_p(differences, _generator(settings)),
                "superiority": statistics.superiority(a.accuracy, b.accuracy),
                "p_equivalence": statistics.equivalence_p(differences, settings.equivalence_margin),
                "seeds_needed": statistics.seeds_needed(
                    differences, settings.equivalence_margin, alpha=corrected, alpha_equivalence=settings.alpha
                ),
            }
        )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p") + 1, "p_holm", statistics.holm(table["p"].to_numpy()))
    table["verdict"] = [
        statistics.verdict(row["difference"], row["p_holm"], row["p_equivalence"], settings.alpha)
        for row in _plain_rows(table)
    ]
    # How many seeds would settle it is a question for what is not settled, and these did not.
    needed = table["seeds_needed"].astype("Int64").clip(lower=table["n"] + 1)
    table["seeds_needed"] = needed.where(table["verdict"] == "undecided")
    return table


def comparisons(runs: Runs, study: Params) -> pd.DataFrame:
    return compare([(runs[pair.a], runs[pair.b]) for pair in study.comparisons], study.statistics)


def ablations(runs: Runs, study: Params, chain: str) -> pd.DataFrame:
    """Every step of a chain against its predecessor, beside what was seen once in 2020."""
    steps = list(itertools.pairwise(study.chains[chain]))
    table = compare([(runs[a], runs[b]) for a, b in steps], study.statistics)
    table.insert(2, "change", [in_words(differences(study.recipe(a), study.recipe(b))) for a, b in steps])
    then = differences_2020() if study.data.name == "mnist" else {}
    table["difference_2020"] = [then.get(step) for step in steps]
    return table


def differences_2020() -> dict[tuple[str, str], float]:
    """Points that each step of 2020 gained over the step before it, by (predecessor, step); one seed each."""
    steps = pd.read_csv(REFERENCE / "ablations-2020.csv")
    found = {}
    for _, chain in steps.groupby("chain"):
        for before, after in itertools.pairwise(_plain_rows(chain)):
            found[before["variant"], after["variant"]] = POINTS * (after["test_accuracy"] - before["test_accuracy"])
    return found


def ranking(runs: Runs, study: Params) -> pd.DataFrame:
    """Each approach against the one ranked below it, best first, ranked by mean test accuracy."""
    ranked = sorted({runs[name].name: runs[name] for name in study.approaches.values()}.values(), key=_mean_accuracy)
    return compare(list(itertools.pairwise(ranked))[::-1], study.statistics)


def reproduction(runs: Runs, study: Params) -> pd.DataFrame:
    """Our scores against the ten of the notebook: a row for each variant that it measured over seeds."""
    margin, rows = study.statistics.reproduction_margin, []
    for name, theirs in notebook_2020().groupby("variant", sort=False)["test_accuracy"]:
        if name in runs:
            ours = runs[str(name)].accuracy
            p = statistics.reproduction_p(POINTS * ours, POINTS * theirs.to_numpy(), margin)
            rows.append(
                {
                    **{"variant": name, "n": len(ours), "accuracy": float(ours.mean()), "n_2020": len(theirs)},
                    "accuracy_2020": float(theirs.mean()),
                    "difference": float(POINTS * (ours.mean() - theirs.mean())),
                    "p": p,
                    "reproduced": "not tested" if p is None else "yes" if p < study.statistics.alpha else "not shown",
                }
            )
    return pd.DataFrame(rows)


def variance(runs: Runs) -> pd.DataFrame:
    """How far a single score is off because of the seed, and because of the digits drawn: sd in points."""
    rows = []
    for name, variant in runs.items():
        split = statistics.variance_split(variant.right)
        rows.append({"variant": name, "seeds_sd": split and split.seeds, "digits_sd": split and split.digits})
    return pd.DataFrame(rows)


def selection(runs: Runs, study: Params) -> pd.DataFrame:
    """What choosing a chain's best step on the test set reports, and what the choice is worth over the seeds."""
    rows = []
    for chain, steps in study.chains.items():
        test = np.stack([runs[name].accuracy for name in steps])
        dev = np.stack([runs[name].scores["dev_accuracy"].to_numpy(float) for name in steps])
        found = statistics.selection(test, dev)
        rows.append(
            {
                **{"chain": chain, "steps": len(steps), "n": test.shape[1], "reported_by_test": found.reported_by_test},
                **{"worth_by_test": found.worth_by_test, "worth_by_dev": found.worth_by_dev},
                "optimism": found.optimism,
            }
        )
    return pd.DataFrame(rows)


def hardest(runs: Runs, most: int) -> pd.DataFrame:
    """The test images that most runs get wrong, and what most of these see: image, truth, seen, wrong, runs."""
    truth = next(iter(runs.values())).truth
    predicted = np.concatenate([variant.predicted for variant in runs.values()])
    wrong = (predicted != truth).sum(axis=0)
    chosen = np.argsort(-wrong, kind="stable")[:most]
    rows = []
    for image in chosen[wrong[chosen] > 0]:
        seen, counts = np.unique(predicted[:, image][predicted[:, image] != truth[image]], return_counts=True)
        rows.append(
            {
                **{"image": int(image), "truth": int(truth[image]), "seen": int(seen[counts.argmax()])},
                **{"wrong": int(wrong[image]), "runs": len(predicted)},
            }
        )
    return pd.DataFrame(rows)


def main_variants(study: Params) -> list[str]:
    """The variants that stand for something by themselves, not only as a step of a chain, in params.yaml's order."""
    named = {*study.approaches.values(), *(name for pair in study.comparisons for name in (pair.a, pair.b))}
    return [name for name in study.variants if name in named] or list(study.variants)


def _of_all(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, names=["variant"]).reset_index(level="variant").reset_index(drop=True)


def _generator(settings: Statistics) -> np.random.Generator:
    """A fresh one for every use, so that one more variant leaves the intervals of the others as they are."""
    return np.random.default_rng(settings.seed)


def _mean_accuracy(variant: VariantRuns) -> float:
    return float(variant.accuracy.mean())


def _sd(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _interval(name: str, interval: statistics.Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {f"{name}_low": None, f"{name}_high": None}
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _plain_rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows with None where pandas has put NaN."""
    for row in table.to_dict("records"):
        yield {str(name): None if pd.isna(value) else value for name, value in row.items()}

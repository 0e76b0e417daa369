"""Classify image files: `python -m tools.serving.predict IMAGE... [--variant NAME] [--seed SEED] [--vote] [--json]`.

Without a variant it is the study's best one, and its best seed, both chosen by dev score (`metrics/champion.json`).
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from many_seeds import console
from many_seeds.errors import UserError
from many_seeds.redact import redact
from stages.study import families, files, params, records
from tools.serving import prepare
from tools.serving.pictures import BYTES_LIMIT, IN_WORDS

BATCH = 500  # images
VOTERS = 10  # the first seeds, as in stages/evaluate


def read_champion(path: Path = records.CHAMPION) -> dict[str, Any]:
    """What champion.json says: the variant, its best seed, that run's key and more.

    Raises:
        UserError: there is no such file, or no champion.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro`")
    champion = files.read_json(path)
    if champion is None:
        raise UserError(f"{path} names no model: no variant in params.yaml has a dev split to choose by")
    return champion


def read_format(predictions: Path) -> tuple[prepare.Format, list[str]]:
    """What the images of a study's data set are like, and the names of its classes; from a variant's predictions.npz.

    Raises:
        UserError: the file is missing or damaged.
    """
    arrays = files.read_arrays(predictions)
    names = [str(name) for name in arrays.get("classes", np.arange(arrays["truth"].max() + 1))]
    return prepare.measured(arrays["hardest_images"], names), names


def choose(scores: Path, seed: int | None) -> tuple[int, str]:
    """A seed of a variant and the key of its run: the given one; or the best by dev score, seed 0 where there is none.

    Args:
        scores: `metrics/runs/<variant>/test.csv`.
        seed: None for the best.

    Raises:
        UserError: the seed was not evaluated.
    """
    table = files.read_table(scores, [*records.RUN_COLUMNS, "test_accuracy"], more=True).set_index("seed")
    if seed is None:
        dev = table["dev_accuracy"] if "dev_accuracy" in table else table["test_accuracy"] * np.nan
        seed = int(dev.idxmax()) if dev.notna().any() else int(table.index[0])
    if seed not in table.index:
        raise UserError(f"seed should be one of {', '.join(map(str, table.index))} ({scores}); received {seed}")
    return seed, str(table["key"][seed])


class Classifier:
    """The models of a variant: one seed's and, for the vote, those of its first seeds."""

    def __init__(
        self, seed: int, key: str, scores: Path, runs: Path, environments: Path | None = None, *, vote: bool
    ) -> None:
        """Load the models, in Keras's safe mode, and only those that were evaluated.

        Args:
            seed: the one that answers where there is no vote.
            key: of its run.
            scores: `metrics/runs/<variant>/test.csv`, which has the seeds and the key of each run.
            runs: `models/<variant>`, a folder for each seed.
            environments: `metrics/runs/<variant>/environments.csv`, which has the digest of each model that was
                evaluated; by default the one beside `scores`. Results of version 1 have none.
            vote: load the models that vote, too.

        Raises:
            UserError: a file is missing, or is not of the run that was evaluated.
        """
        table = files.read_table(scores, [*records.RUN_COLUMNS, "test_accuracy"], more=True)
        if key not in set(table["key"][table["seed"] == seed]):
            raise UserError(f"{records.CHAMPION} names seed {seed} of other runs than {scores} has: run `dvc repro`")
        self._seed, self._voters = seed, [int(voter) for voter in table["seed"][:VOTERS]] if vote else []
        wanted = table[table["seed"].isin([seed, *self._voters])]
        family = records.read_facts(runs / str(seed))["parameters"]["family"]
        self._are_probabilities = families.recipe_class(family).probabilities
        models = evaluated_models(environments or scores.with_name(records.environments_path("").name))
        # It takes the first calls of ten models for one function that is compiled ten times.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        self._models = {
            int(row_seed): records.read_model(run, facts_of_evaluated(run, key, models.get(row_seed)))
            for row_seed, key in zip(wanted["seed"], wanted["key"], strict=True)
            for run in [runs / str(row_seed)]
        }

    def probabilities(self, images: np.ndarray, *, vote: bool = False) -> np.ndarray:
        """Probabilities float32 [n, classes] for images uint8 [n, height, width] or [n, height, width, 3].

        Where a family's outputs are scores, which may leave [0, 1], they are the nearest probabilities.

        Args:
            images: as `prepare` makes them, or as the data set has them.
            vote: give the mean of the seeds that vote, not the one seed's; they must have been loaded.
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


def evaluated_models(environments: Path) -> dict[int, str]:
    """Seed → the digest of the model that was evaluated, where environments.csv is there and has it.

    Raises:
        UserError: the file is damaged.
    """
    if not environments.exists():
        return {}
    table = files.read_table(environments, records.ENVIRONMENT_COLUMNS)
    table = table[table["model"] != records.NOT_RECORDED]
    return dict(zip(table["seed"], table["model"], strict=True))


def facts_of_evaluated(run: Path, key: str, model: str | None) -> dict[str, Any]:
    """What run.json says in the folder of a run, if its model is the one that was evaluated.

    Args:
        run: `models/<variant>/<seed>`.
        key: of the run that was evaluated.
        model: the digest of its model; None where it was not recorded.

    Raises:
        UserError: it is another run or another model, or run.json is missing or damaged.
    """
    facts = records.read_facts(run)
    if facts["key"] != key:
        raise UserError(f"{run} holds another run than the one that was evaluated: run `dvc repro`")
    if model not in (None, received := facts["digests"].get("model")):
        raise UserError(
            f"{run}/model.keras should be the model that was evaluated, with SHA-256 {model}; received {received}: run "
            f"`dvc checkout` or `dvc pull`, which bring the one, or `dvc repro evaluate@{run.parent.name}`, which "
            "evaluates the other"
        )
    return facts


def _outputs(model: Any, images: np.ndarray) -> np.ndarray:
    # Compiled, which for single images is many times faster than to call the model.
    batches = [model.predict_on_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(batches).astype(np.float32)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UserError("this is a folder: name the image files in it")
    if not path.is_file():
        raise UserError("there is no such file")
    with path.open("rb") as file:
        return file.read(BYTES_LIMIT + 1)


@console.command
def main() -> None:
    arguments = _arguments()
    # As evaluate does, so that the results are the same. Set before TensorFlow is imported.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    variant, seed, key = _model(arguments.variant, arguments.seed)
    form, classes = read_format(records.predictions_path(variant))
    paths, images = [], []
    for path in arguments.images:
        try:
            images.append(prepare.prepare(_read(path), form))
            paths.append(path)
        except (UserError, OSError) as error:
            print(redact(f"error: {path}: {error}"), file=sys.stderr)
    if images:
        scores, runs = records.scores_path(variant), records.MODELS / variant
        classifier = Classifier(seed, key, scores, runs, vote=arguments.vote)
        for path, row in zip(paths, classifier.probabilities(np.stack(images), vote=arguments.vote), strict=True):
            print(_as_json(path, row, classes) if arguments.json else _as_text(path, row, classes))
    if len(images) < len(arguments.images):
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = console.Parser(prog="python -m tools.serving.predict", description="Classify image files.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", type=Path, help=f"a {IN_WORDS} file")
    parser.add_argument("--variant", help="of params.yaml (default: the best one)")
    parser.add_argument("--seed", type=int, help="of the variant (default: its best one by dev score)")
    parser.add_argument(
        "--vote", action="store_true", help="the mean of the first ten seeds' models, not one seed's alone"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object on each line, with all probabilities")
    return parser.parse_args()


def _model(variant: str | None, seed: int | None) -> tuple[str, int, str]:
    """The variant and seed that are asked for, or the best, and the key of the run."""
    if variant is None:
        best = read_champion()
        if seed is None:
            return best["variant"], best["seed"], best["key"]
        variant = str(best["variant"])
    elif variant not in (known := [name for name in params.load().variants if records.scores_path(name).exists()]):
        raise UserError(f"variant should be one that was evaluated ({', '.join(known)}); received {variant!r}")
    return variant, *choose(records.scores_path(variant), seed)


def _as_text(path: Path, probabilities: np.ndarray, classes: list[str]) -> str:
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    said = [f"{classes[place]} ({100 * probabilities[place]:.2f} %)" for place in (first, second)]
    return f"{path}: {said[0]}, then {said[1]}"


def _as_json(path: Path, probabilities: np.ndarray, classes: list[str]) -> str:
    values = [float(value) for value in probabilities]
    label = values.index(max(values))
    answer = {"image": str(path), "label": label, "class": classes[label], "probability": max(values)}
    return json.dumps(answer | {"probabilities": values}, ensure_ascii=False)


if __name__ == "__main__":
    main()

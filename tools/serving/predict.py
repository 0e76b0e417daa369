"""Classify image files with a model of the study: `python -m tools.serving.predict`.

By default the model is the best seed of the best variant, both chosen by validation accuracy (`metrics/champion.json`).
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
from stages.study import families, files, params, paths
from stages.study.models import read_facts, read_model
from stages.study.results import NOT_RECORDED, VariantResults, find_results, read_results
from tools.serving import prepare
from tools.serving.pictures import BYTES_LIMIT, IN_WORDS

BATCH = 500  # images


def read_champion(path: Path = paths.CHAMPION) -> dict[str, Any]:
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


def image_format(results: VariantResults) -> prepare.Format:
    """What the images of a study's data set are like, from the results of one of its variants."""
    return prepare.measured(results.hardest_images, results.classes)


def choose(results: VariantResults, seed: int | None) -> tuple[int, str]:
    """A seed of a variant and the key of its run.

    Args:
        results: of the variant.
        seed: the one to choose; None for the highest validation accuracy, or seed 0 where there is none.

    Raises:
        UserError: the seed was not evaluated.
    """
    if seed is None:
        accuracy = results.score("dev_accuracy")
        seed = results.seeds[0 if np.isnan(accuracy).all() else int(np.nanargmax(accuracy))]
    if seed not in results.seeds:
        raise UserError(
            f"seed should be one of {', '.join(map(str, results.seeds))} ({paths.scores_path(results.variant)}); "
            f"received {seed}"
        )
    return seed, results.keys[results.seeds.index(seed)]


class Classifier:
    """The models of a variant: one seed's and, for the vote, those of its first seeds."""

    def __init__(self, seed: int, key: str, results: VariantResults, runs: Path, *, vote: bool) -> None:
        """Load the models, in Keras's safe mode, and only those that were evaluated.

        Args:
            seed: the one that answers where there is no vote.
            key: of its run.
            results: of the variant.
            runs: `models/<variant>`, a folder for each seed.
            vote: load the models that vote, too.

        Raises:
            UserError: a file is missing, or is not of the run that was evaluated.
        """
        if (seed, key) not in zip(results.seeds, results.keys, strict=True):
            raise UserError(
                f"{paths.CHAMPION} names seed {seed} of other runs than {paths.scores_path(results.variant)} has: run "
                "`dvc repro`"
            )
        self._seed, self._voters = seed, results.seeds[: results.members] if vote else []
        family = read_facts(runs / str(seed))["parameters"]["family"]
        self._are_probabilities = families.recipe_class(family).probabilities
        # It takes the first calls of ten models for one function that is compiled ten times.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        self._models = {}
        for wanted in dict.fromkeys([seed, *self._voters]):
            run = runs / str(wanted)
            self._models[wanted] = read_model(run, facts_of_evaluated(run, results, wanted))

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


def facts_of_evaluated(run: Path, results: VariantResults, seed: int) -> dict[str, Any]:
    """The content of run.json in the folder of a run, if its model is the one that was evaluated.

    Args:
        run: `models/<variant>/<seed>`.
        results: of the variant.
        seed: of the run.

    Raises:
        UserError: it is another run or another model, or run.json is missing or damaged.
    """
    facts, row = read_facts(run), results.seeds.index(seed)
    if facts["key"] != results.keys[row]:
        raise UserError(f"{run} holds another run than the one that was evaluated: run `dvc repro`")
    model = results.environments["model"].iloc[row]
    if model not in (NOT_RECORDED, received := facts["digests"].get("model")):
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
    results, seed, key = _model(arguments.variant, arguments.seed)
    form = image_format(results)
    given, images = [], []
    for path in arguments.images:
        try:
            images.append(prepare.prepare(_read(path), form))
            given.append(path)
        except (UserError, OSError) as error:
            print(redact(f"error: {path}: {error}"), file=sys.stderr)
    if images:
        classifier = Classifier(seed, key, results, paths.MODELS / results.variant, vote=arguments.vote)
        for path, row in zip(given, classifier.probabilities(np.stack(images), vote=arguments.vote), strict=True):
            print(_as_json(path, row, results.classes) if arguments.json else _as_text(path, row, results.classes))
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


def _model(variant: str | None, seed: int | None) -> tuple[VariantResults, int, str]:
    """The results of the variant that is asked for, or of the best one; the seed, and the key of its run."""
    if variant is None:
        best = read_champion()
        results = read_results(best["variant"])
        return (results, best["seed"], best["key"]) if seed is None else (results, *choose(results, seed))
    evaluated = [name for name in params.load().variants if find_results(name)]
    if variant not in evaluated:
        raise UserError(f"variant should be one that was evaluated ({', '.join(evaluated)}); received {variant!r}")
    results = read_results(variant)
    return results, *choose(results, seed)


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

"""Classify image files with a model of the study: `python -m tools.serving.predict`.

By default the model is the one that `metrics/champion.json` names.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from many_seeds.commands import console
from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.study import files, params, paths
from stages.study.data import Resize
from stages.study.provenance import families
from stages.study.records.models import read_facts, read_model
from stages.study.records.results import NOT_RECORDED, VariantResults, find_results, read_results
from tools.serving import prepare
from tools.serving.pictures import BYTES_LIMIT, FORMAT_NAMES

BATCH = 500  # images


def read_champion(path: Path = paths.CHAMPION) -> dict[str, Any]:
    """Read champion.json: the approach, its variant, a seed, the key of that run, the rule of this choice and more.

    Args:
        path: the file.

    Raises:
        UserError: the file is missing, or the study has no champion.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro`")
    champion = files.read_json(path)
    if champion is None:
        raise UserError(
            f"{path} has no champion: no approach in params.yaml has a validation split to choose by, and a run that "
            "did not diverge. The key `champion` can name an approach without a validation split"
        )
    if "rule" not in champion:
        raise UserError(f"{path} should say by which rule the model was chosen, as `dvc repro aggregate` writes it")
    return champion


def image_format(results: VariantResults, scaling: Resize | None) -> prepare.Format:
    """The format of the images of a study's data set.

    Args:
        results: the results of one of its variants.
        scaling: how its images got their size, `Data.scaling`.
    """
    return replace(prepare.infer_format(results.hardest_images, results.classes), resize=scaling)


def choose(results: VariantResults, seed: int | None) -> tuple[int, str]:
    """Choose a seed of a variant.

    Args:
        results: the results of the variant.
        seed: the seed; None for the one with the highest validation accuracy, or the first one without such scores; it
            is one that did not diverge, if there is one.

    Returns:
        The seed and the key of its run.

    Raises:
        UserError: the seed was not evaluated.
    """
    if seed is None:
        accuracy = np.nan_to_num(results.score("dev_accuracy"))
        seed = results.seeds[int(np.where(results.diverged, -1, accuracy).argmax())]
    if seed not in results.seeds:
        raise UserError(
            f"seed should be one of {', '.join(map(str, results.seeds))} ({paths.scores_path(results.variant)}); "
            f"received {seed}"
        )
    return seed, results.keys[results.seeds.index(seed)]


def diverged_warning(results: VariantResults, seed: int, *, ensemble: bool) -> str:
    """A sentence about models of diverged runs among those that classify; empty if there is none."""
    seeds = results.seeds[: results.members] if ensemble else [seed]
    named = [each for each in seeds if results.diverged[results.seeds.index(each)]]
    if not named:
        return ""
    which = f"seed{'' if len(named) == 1 else 's'} {listed(named)} of {results.variant} diverged"
    return f"{which}: predictions of {'its model' if len(named) == 1 else 'their models'} are the same for every image"


class Classifier:
    """The models of a variant: that of one seed and, optionally, the ensemble of its first seeds."""

    def __init__(self, seed: int, key: str, results: VariantResults, runs: Path, *, ensemble: bool) -> None:
        """Load the models, in Keras's safe mode, after a check that they are those that were evaluated.

        Args:
            seed: the seed for predictions without the ensemble.
            key: the key of its run.
            results: the results of the variant.
            runs: the folder models/<variant>.
            ensemble: whether to load the models of the ensemble, too.

        Raises:
            UserError: a file is missing, or belongs to another run than the one that was evaluated.
        """
        if (seed, key) not in zip(results.seeds, results.keys, strict=True):
            raise UserError(
                f"{paths.CHAMPION} names seed {seed} of other runs than {paths.scores_path(results.variant)} has: run "
                "`dvc repro`"
            )
        self._seed, self._members = seed, results.seeds[: results.members] if ensemble else []
        family = read_facts(runs / str(seed))["parameters"]["family"]
        self._are_probabilities = families.recipe_class(family).probabilities
        # TensorFlow warns that one function was compiled ten times, although these are ten models.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        self._models = {}
        for member in dict.fromkeys([seed, *self._members]):
            run = runs / str(member)
            self._models[member] = read_model(run, read_evaluated_facts(run, results, member))

    def probabilities(self, images: np.ndarray, *, ensemble: bool = False) -> np.ndarray:
        """Predict the probabilities of the classes.

        The outputs of a family that are scores, not probabilities, are projected to the nearest probabilities.

        Args:
            images: uint8 [n, height, width] or [n, height, width, 3], in the format of the data set.
            ensemble: whether to average the outputs of the ensemble (soft voting), which must have been loaded.

        Returns:
            float32 [n, classes].
        """
        seeds = self._members if ensemble else [self._seed]
        outputs = np.mean([_outputs(self._models[seed], images) for seed in seeds], axis=0)
        return outputs if self._are_probabilities else nearest_probabilities(outputs)


def nearest_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Euclidean projection of each row onto the probability simplex, which keeps the order of the classes.

    See J. Duchi et al. 2008, "Efficient projections onto the l1-ball for learning in high dimensions", figure 1.

    Args:
        outputs: float [n, classes].

    Returns:
        float [n, classes], not negative, with rows that sum to 1.
    """
    descending = -np.sort(-outputs, axis=1)
    surplus = (np.cumsum(descending, axis=1) - 1) / np.arange(1, outputs.shape[1] + 1, dtype=outputs.dtype)
    positive = (descending > surplus).sum(axis=1, keepdims=True)
    return np.maximum(outputs - np.take_along_axis(surplus, positive - 1, axis=1), 0)


def read_evaluated_facts(run: Path, results: VariantResults, seed: int) -> dict[str, Any]:
    """Read run.json of a run, after a check that its model is the one that was evaluated.

    Args:
        run: the folder models/<variant>/<seed>.
        results: the results of the variant.
        seed: the seed of the run.

    Raises:
        UserError: the run or its model is another one, or run.json is missing or damaged.
    """
    facts, row = read_facts(run), results.seeds.index(seed)
    if facts["key"] != results.keys[row]:
        raise UserError(f"{run} should have the run that was evaluated, received another run: run `dvc repro`")
    model = results.environments["model"].iloc[row]
    if model not in (NOT_RECORDED, received := facts["digests"].get("model")):
        raise UserError(
            f"{run}/model.keras should be the model that was evaluated, with SHA-256 {model}; received {received}: run "
            f"`dvc checkout` or `dvc pull` to restore the evaluated model, or `dvc repro evaluate@{run.parent.name}` "
            "to evaluate the present one"
        )
    return facts


def _outputs(model: Any, images: np.ndarray) -> np.ndarray:
    """The outputs of a model, float32 [n, classes]."""
    # It is compiled, so much faster for single images than a call of the model.
    batches = [model.predict_on_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(batches).astype(np.float32)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UserError("expected an image file, received a folder: name the files in it")
    if not path.is_file():
        raise UserError("no such file")
    with path.open("rb") as file:
        return file.read(BYTES_LIMIT + 1)


def describe(champion: Mapping[str, Any]) -> str:
    """The champion in a few words: "CNN (cnn_tuned, seed 7)"."""
    return f"{champion['approach']} ({champion['variant']}, seed {champion['seed']})"


@console.command
def main() -> None:
    arguments = _arguments()
    # As in the stage `evaluate`, so that the results are the same. Set before TensorFlow is imported.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    results, seed, key = _model(arguments.variant, arguments.seed)
    form = image_format(results, params.load().data.scaling)
    valid, images = [], []
    for path in arguments.images:
        try:
            images.append(prepare.prepare(_read(path), form))
            valid.append(path)
        except (UserError, OSError) as error:
            print(redact(f"error: {path}: {error}"), file=sys.stderr)
    if images:
        classifier = Classifier(seed, key, results, paths.MODELS / results.variant, ensemble=arguments.ensemble)
        if warning := diverged_warning(results, seed, ensemble=arguments.ensemble):
            print(f"warning: {warning}", file=sys.stderr)
        rows = classifier.probabilities(np.stack(images), ensemble=arguments.ensemble)
        for path, row in zip(valid, rows, strict=True):
            print(_as_json(path, row, results.classes) if arguments.json else _as_text(path, row, results.classes))
    if len(images) < len(arguments.images):
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = console.Parser(prog="python -m tools.serving.predict", description="Classify image files.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", type=Path, help=f"a {FORMAT_NAMES} file")
    parser.add_argument("--variant", help="a variant in params.yaml (default: that of champion.json)")
    parser.add_argument(
        "--seed",
        type=int,
        help="a seed of the variant (default: that of champion.json, or the best one by validation accuracy)",
    )
    parser.add_argument(
        "--ensemble",
        "--vote",
        dest="ensemble",
        action="store_true",
        help="average the outputs of the models of the first ten seeds (soft voting)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each image, with all probabilities"
    )
    return parser.parse_args()


def _model(variant: str | None, seed: int | None) -> tuple[VariantResults, int, str]:
    """The results of a variant, by default the best one; its seed; and the key of that run."""
    if variant is None:
        best = read_champion()
        results = read_results(best["variant"])
        if seed is not None:
            return results, *choose(results, seed)
        print(f"model: {describe(best)}\nchosen: {best['rule']}", file=sys.stderr)
        return results, best["seed"], best["key"]
    evaluated = [name for name in params.load().variants if find_results(name)]
    if variant not in evaluated:
        raise UserError(f"variant should be one that was evaluated ({', '.join(evaluated)}); received {variant!r}")
    results = read_results(variant)
    return results, *choose(results, seed)


def _as_text(path: Path, probabilities: np.ndarray, classes: list[str]) -> str:
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    texts = [f"{classes[label]} ({100 * probabilities[label]:.2f} %)" for label in (first, second)]
    return f"{path}: {texts[0]}, then {texts[1]}"


def _as_json(path: Path, probabilities: np.ndarray, classes: list[str]) -> str:
    values = [float(value) for value in probabilities]
    label = values.index(max(values))
    result = {"image": str(path), "label": label, "class": classes[label], "probability": max(values)}
    return json.dumps(result | {"probabilities": values}, ensure_ascii=False)


if __name__ == "__main__":
    main()

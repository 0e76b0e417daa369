"""The command `many-seeds run`: train with a shell command, with more seeds where a result is open."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from many_seeds.commands import console
from many_seeds.commands.console import Parser
from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.pairs import parse_pairs
from many_seeds.results import Settings

if TYPE_CHECKING:
    from many_seeds.running.setup import Limits
    from many_seeds.running.study import Study

RUN = """\
Train with a command, adding seeds where a result is open, until each
comparison has a verdict. The scores are kept in a CSV file: the same command
goes on after an interruption. For example, runs.yaml:

  command: [python, train.py, --lr, "{lr}", --seed, "{seed}"]
  score: accuracy
  variants: {base: {lr: 0.1}, low: {lr: 0.01}}
  comparisons: ["base:low"]
  margin: 0.002

The score is read from the last line of the output, or from a file {out} that
the command names: JSON with this name, or a number. With "mlflow: true" it is
a metric of the MLflow run that the command makes.

Exit status: 0; 1 if a run failed; 2 for an error.
"""
KEYS = {
    "command": "the program and its arguments, as a list or a string",
    "score": "the name of the score",
    "variants": "name → the values of the placeholders",
    "comparisons": 'a list of "A:B"',
    "baseline": "a variant with which every other is compared",
    "race": "true to find the best variant",
    "margin": "equivalence margin",
    "resolution": "the smallest nonzero difference of two scores",
    "confidence": "of all intervals simultaneously",
    "design": "open or fixed",
    "lower_is_better": "true for a loss",
    "store": "the CSV file",
    "mlflow": "true if the command logs the score to MLflow",
    "most": "the maximum number of seeds",
    "hours": "time budget",
    "workers": "runs at a time",
    "timeout": "seconds of a run",
    "gpus": "a list of GPUs",
}
LIMITS = ("most", "hours", "workers", "timeout", "gpus")
SETTINGS = ("margin", "resolution", "confidence", "design", "lower_is_better")
STORE = "scores.csv"


def add_command(commands: Any) -> None:
    """Add the command to the parser of many-seeds."""
    parser: Parser = commands.add_parser(
        "run",
        help="train with a command, with more seeds where a result is open",
        description=RUN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", metavar="FILE", type=Path, help="a YAML file; its keys: " + ", ".join(KEYS))
    parser.add_argument("--plan", action="store_true", help="print what would run, and run nothing")


def run(arguments: argparse.Namespace) -> None:
    """Run `many-seeds run`.

    Raises:
        UserError: the file can't be read or has an error, or see `many_seeds.decide`.
    """
    from many_seeds.running import setup  # needs a system with file locks
    from many_seeds.running.loop import plan

    values = read(arguments.file)
    study, limits = study_of(values)
    if arguments.plan:
        most = limits.most_of(study.settings.design)
        console.show(plan(study, study.preview(), most=most, at_once=setup.planned_at_once(limits)))
        return
    console.show(str(setup.decide_command(study, limits, mlflow=values.get("mlflow", False))), end="")
    if study.failures():
        sys.exit(1)


def read(path: Path) -> dict[str, Any]:
    """The content of a file of `many-seeds run`.

    Raises:
        UserError: it can't be read, is no YAML mapping, lacks a key or has an unknown one, or PyYAML is missing.
    """
    try:
        import yaml
    except ImportError as error:
        raise UserError("many-seeds run needs PyYAML: `pip install 'many-seeds[run]'` installs it") from error

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice in a mapping: PyYAML would drop the first value."""

        def compose_mapping_node(self, anchor: str | None) -> Any:
            node, seen = super().compose_mapping_node(anchor), set[tuple[str, str]]()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue  # refused by PyYAML itself
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value} stands twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
            return node

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} should be YAML in UTF-8: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} should map keys to values, received {type(values).__name__}; keys: {', '.join(KEYS)}")
    if unknown := [key for key in values if key not in KEYS]:
        raise UserError(f"{path} has unknown keys: {listed(unknown)}; known: {', '.join(KEYS)}")
    if missing := [key for key in ("command", "score", "variants") if values.get(key) is None]:
        raise UserError(f"{path} lacks {listed(missing)}: {'; '.join(f'{key}: {KEYS[key]}' for key in missing)}")
    return {key: value for key, value in values.items() if value is not None}


def study_of(values: dict[str, Any]) -> "tuple[Study, Limits]":
    """The study and the limits of a file.

    Raises:
        UserError: a value is out of range, or a name is unknown.
    """
    from many_seeds.running import setup
    from many_seeds.running.commands import parse_command
    from many_seeds.running.study import check_variants
    from many_seeds.sources.columns import lower_is_better

    variants = check_variants(values["variants"])
    command = parse_command(values["command"], variants)
    for key in ("score", "store", "baseline"):
        if key in values and not (isinstance(values[key], str) and values[key].strip()):
            raise UserError(f"{key} should be a text, {KEYS[key]}, received {values[key]!r}")
    for key in ("race", "lower_is_better", "mlflow"):
        if not isinstance(values.get(key, False), bool):
            raise UserError(f"{key} should be true or false, received {values[key]!r}")
    comparisons = values.get("comparisons")
    if comparisons is not None and not (isinstance(comparisons, list) and all(isinstance(c, str) for c in comparisons)):
        raise UserError(f'comparisons should be a list of "A:B", received {comparisons!r}')
    pairs = None if comparisons is None else parse_pairs(comparisons, [*variants], "comparisons")
    asked = setup.asked_pairs([*variants], pairs, values.get("baseline"), race=values.get("race", False))
    chosen = {key: values[key] for key in SETTINGS if key in values}
    chosen["lower_is_better"] = lower_is_better(values["score"], values.get("lower_is_better"))
    settings = Settings(ordered=True, **chosen)
    limited = {key: values[key] for key in LIMITS if key in values}
    limits = setup.Limits(**limited)
    store = Path(values.get("store", STORE))
    return setup.new_study(variants, command, asked, values["score"], settings, store, limits), limits

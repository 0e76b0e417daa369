"""What changed between two commits, with error bars: `dvc metrics diff` for scores over many seeds.

`python -m stages.compare REV` compares the working tree with REV, `python -m stages.compare OLD NEW` two revisions.
Everything is read from git or from the files of the working tree: no models, no data set, no DVC.
With --fail-on it is a gate: exit status 0, 1 where it is shut, 2 for an error.
"""

import argparse
import io
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError
from ruamel.yaml import YAML, YAMLError

from stages import files, gate, layout, params, records
from stages.aggregate import answers, parts
from stages.errors import StudyError
from stages.params import Statistics

COLUMNS = ["seed", "key", "data", "test_accuracy"]
WORKING_TREE = "the working tree"

BY_DEFAULT = "as by default"

Reader = Callable[[Path], bytes | None]


@dataclass(frozen=True)
class Trained:
    """The runs of one variant on one side, one row a seed.

    predicted: [seeds, images], the class that each seed's model gives each test image.
    truth: labels [images].
    keys: what decides each run's result, as a digest.
    data: the digest of the training data of each run.
    """

    predicted: np.ndarray
    truth: np.ndarray
    seeds: list[int]
    keys: list[str]
    data: list[str]

    @property
    def right(self) -> np.ndarray:
        """Whether each seed's model is right about each test image, bool [seeds, images]."""
        return self.predicted == self.truth

    def of_seeds(self, seeds: Sequence[int]) -> "Trained":
        """The runs of `seeds`, in that order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        keys, data = [self.keys[row] for row in rows], [self.data[row] for row in rows]
        return Trained(self.predicted[rows], self.truth, list(seeds), keys, data)


@dataclass(frozen=True)
class Side:
    """What one revision, or the working tree, says of the study, and the runs that it holds.

    Of another version of this code its params.yaml may have other keys: only what is needed here is read of it.

    data: the name of the data set.
    dev_fraction: of the training images.
    recipes: fields of each variant.
    statistics: as params.yaml has them.
    """

    label: str
    commit: str | None
    data: str
    dev_fraction: float
    recipes: dict[str, dict[str, Any]]
    statistics: dict[str, Any]
    runs: dict[str, Trained]


@dataclass(frozen=True)
class Pair:
    """One variant on both sides, cut to the seeds that both have.

    parameters: what params.yaml says differently, by name: the value on the old side and the one on the new side.
    only_old, only_new: the seeds that the other side lacks.
    """

    old: Trained
    new: Trained
    parameters: dict[str, tuple[Any, Any]]
    only_old: list[int]
    only_new: list[int]

    @property
    def same_keys(self) -> bool:
        return self.old.keys == self.new.keys

    @property
    def unchanged(self) -> bool:
        """Whether every model predicts the same; what made it may differ all the same."""
        return np.array_equal(self.old.predicted, self.new.predicted)


@dataclass(frozen=True)
class Difference:
    """All that is to be said about two sides.

    table: the answer for each variant that changed, as `answers.compared` has it.
    settings: of the new side.
    changed, unchanged, unpaired: the variants of both sides; those that are unpaired have no seed in common.
    """

    old: Side
    new: Side
    settings: Statistics
    table: pd.DataFrame
    changed: dict[str, Pair]
    unchanged: dict[str, Pair]
    unpaired: dict[str, Pair]

    @property
    def only_old(self) -> list[str]:
        return [name for name in self.old.runs if name not in self.new.runs]

    @property
    def only_new(self) -> list[str]:
        return [name for name in self.new.runs if name not in self.old.runs]

    @property
    def without_runs(self) -> list[str]:
        """Variants that a params.yaml names and neither side has trained."""
        named = {**self.new.recipes, **self.old.recipes}
        return [name for name in named if name not in self.old.runs and name not in self.new.runs]


def read_side(revision: str | None) -> Side:
    """What git holds at `revision`, or the working tree for None.

    Raises:
        StudyError: the revision is unknown, or holds no study with results that this code can read.
    """
    if revision is None:
        return _side(WORKING_TREE, None, _working_tree)
    commit = _commit(revision)
    label = revision if commit.startswith(revision) else f"{revision} ({commit[:7]})"
    return _side(label, commit, _reader(commit))


def compare(old: Side, new: Side) -> Difference:
    """Every variant that both sides have, compared where it changed, with the settings of the new side.

    Raises:
        StudyError: the sides were evaluated on different test sets.
    """
    pairs = {name: _pair(name, old, new) for name in new.runs if name in old.runs}
    paired = {name: pair for name, pair in pairs.items() if pair.new.seeds}
    changed = {name: pair for name, pair in paired.items() if not pair.unchanged}
    settings = _settings(new)
    rows = [(name, name, pair.old.right, pair.new.right) for name, pair in changed.items()]
    return Difference(
        old=old,
        new=new,
        settings=settings,
        table=answers.compared(rows, len(rows), settings),
        changed=changed,
        unchanged={name: pair for name, pair in paired.items() if pair.unchanged},
        unpaired={name: pair for name, pair in pairs.items() if not pair.new.seeds},
    )


def findings(difference: Difference) -> list[gate.Finding]:
    """What the gate may look at: every variant of either side."""
    found = []
    for row in parts.plain_rows(difference.table):
        why = f"{_points(row['difference'])}, interval {_span(row)}"
        if row["verdict"] == "undecided":
            why += f"; {gate.undecided(row['n'], row['seeds_about'], row['seeds_at_most'])}"
        found.append(gate.Finding(row["b"], row["verdict"], why))
    found += [gate.Finding(name, gate.UNCHANGED, "the same predictions") for name in difference.unchanged]
    old, new = difference.old.label, difference.new.label
    for names, why in (
        (difference.unpaired, "no seed that both sides have"),
        (difference.only_old, f"only in {old}"),
        (difference.only_new, f"only in {new}"),
        (difference.without_runs, "no runs on either side"),
    ):
        found += [gate.Finding(name, gate.NOT_COMPARED, why) for name in names]
    return found


def as_text(difference: Difference, says: Sequence[str] = ()) -> str:
    """An aligned table, how to read it, what else is to be said, and what the gate says."""
    table = _shown(difference)
    parts = [table.title]
    if table.rows:
        cells = [[text for text, _ in row] for row in table.rows]
        parts += [layout.aligned(table.header, cells), layout.filled(table.caption)]
    for lines in (_remarks(difference), says):
        if lines:
            parts.append("\n".join(layout.filled(line, "  ") for line in lines))
    return "\n\n".join(parts) + "\n"


def as_markdown(difference: Difference, says: Sequence[str] = ()) -> str:
    """The same for pull requests, the verdicts first."""
    table = _shown(difference)
    paragraphs = [f"## {table.title}", *([_bullets(says)] if says else []), _verdicts(difference)]
    if table.rows:
        cells = [[text for text, _ in row] for row in table.rows]
        paragraphs += [layout.markdown(table.header, cells), table.caption]
    if remarks := _remarks(difference):
        paragraphs.append(_bullets(remarks))
    return "\n\n".join(paragraphs) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {layout.escaped(line)}" for line in lines)


def _verdicts(difference: Difference) -> str:
    """A line for each verdict, and the variants that have it."""
    rows = list(parts.plain_rows(difference.table))
    lines = []
    for verdict in ("worse", "undecided", "better", "equivalent"):
        names = [f"{row['b']} ({_points(row['difference'])})" for row in rows if row["verdict"] == verdict]
        lines += [f"**{verdict}**: {layout.escaped(', '.join(names))}"] if names else []
    return "\\\n".join(lines) or "**unchanged**: no variant predicts anything else"


def _points(difference: float) -> str:
    return f"{layout.number(difference, '{:+.3f}')} points"


def _span(row: parts.Row) -> str:
    (text, _) = parts.span("interval", "low", "high", "{:+.3f}")[1](row)
    return text


def as_json(difference: Difference) -> dict[str, Any]:
    """The same for programs, as values that JSON knows; a value that does not exist is None."""
    old, new = difference.old, difference.new
    seeds = {**difference.changed, **difference.unchanged, **difference.unpaired}
    return {
        "old": {"name": old.label, "commit": old.commit},
        "new": {"name": new.label, "commit": new.commit},
        "settings": difference.settings.model_dump(),
        "changed": [
            {
                "variant": row["b"],
                **{name: _json_value(value) for name, value in row.items() if name not in ("a", "b")},
                **_facts(difference.changed[row["b"]]),
            }
            for row in difference.table.to_dict("records")
        ],
        "unchanged": [{"variant": name, **_facts(pair)} for name, pair in difference.unchanged.items()],
        "not_compared": [{"variant": name, **_facts(pair)} for name, pair in difference.unpaired.items()],
        "missing": {
            "variants": {
                "old": difference.only_new,
                "new": difference.only_old,
                "both": difference.without_runs,
            },
            "seeds": {
                name: {"old": pair.only_new, "new": pair.only_old}
                for name, pair in seeds.items()
                if pair.only_new or pair.only_old
            },
        },
    }


def _json_value(value: Any) -> Any:
    """A cell of a table; None where it is missing or infinite, which JSON does not know."""
    return None if pd.isna(value) or value in (np.inf, -np.inf) else value


def _working_tree(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def _output(*arguments: str) -> bytes:
    answer = _git(*arguments)
    if answer.returncode != 0:
        raise StudyError(f"`git {' '.join(arguments)}` failed: {answer.stderr.decode().strip()}")
    return answer.stdout


def _commit(revision: str) -> str:
    inside = _git("rev-parse", "--git-dir")
    if inside.returncode != 0:
        raise StudyError(f"this folder is no git checkout: {inside.stderr.decode().strip()}")
    answer = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if answer.returncode != 0:
        # DVC keeps an experiment under the commit that it started from.
        listed = _output("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").decode().splitlines()
        named = [line.split()[0] for line in listed if line.rpartition("/")[2] == revision]
        if len(named) == 1:
            return named[0]
        if named:
            raise StudyError(f"{len(named)} experiments have the name {revision!r}: name one by its commit, {named}")
        raise StudyError(
            f"unknown revision {revision!r}: expected one commit, branch, tag or DVC experiment of this checkout "
            "(`git fetch` brings new ones, `git fetch --unshallow` the old ones that a shallow clone lacks)"
        )
    return answer.stdout.decode().strip()


def _reader(commit: str) -> Reader:
    """Reads files of a commit; paths are relative to the current folder, as in the working tree."""
    listed = _output("ls-tree", "-r", "-z", "--name-only", commit, "--", str(params.PARAMS), records.RUNS.as_posix())
    known = set(listed.decode().split("\0"))

    def read(path: Path) -> bytes | None:
        name = path.as_posix()
        return _output("cat-file", "blob", f"{commit}:./{name}") if name in known else None

    return read


def _side(label: str, commit: str | None, read: Reader) -> Side:
    text = read(params.PARAMS)
    if text is None:
        raise StudyError(f"{label} has no {params.PARAMS} here: run this from the top folder of the study")
    source = f"{params.PARAMS} in {label}"
    try:
        study = YAML(typ="safe").load(text.decode(errors="replace"))
        recipes = {name: dict(recipe) for name, recipe in study["variants"].items()}
        data, dev_fraction = str(study["data"]["name"]), float(study["split"]["dev_fraction"])
        settings = dict(study["statistics"])
    except YAMLError as error:
        raise StudyError(f"{source} is not valid YAML: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(
            f"{source} should have data.name, split.dev_fraction, variants and statistics, received something else: "
            f"{error!r}"
        ) from error
    found = {name: _runs(name, label, read) for name in recipes}
    runs = {name: variant for name, variant in found.items() if variant is not None}
    if not runs:
        raise StudyError(
            f"{label} has no results: expected {records.scores_path('<variant>')} for the variants of its "
            f"{params.PARAMS}, found none"
        )
    return Side(label, commit, data, dev_fraction, recipes, settings, runs)


def _settings(side: Side) -> Statistics:
    """The settings of a side; where it says nothing of the design, seeds may have been added."""
    known = {"design": "open"} | {
        name: side.statistics[name] for name in Statistics.model_fields if name in side.statistics
    }
    try:
        return Statistics.model_validate(known)
    except ValidationError as error:
        complaints = [f"{'.'.join(map(str, of['loc']))}: {of['msg']}" for of in error.errors()]
        raise StudyError(
            f"statistics in {params.PARAMS} of {side.label} are not valid: {'; '.join(complaints)}"
        ) from error


def _runs(variant: str, label: str, read: Reader) -> Trained | None:
    """The runs of a variant on one side; None where it has none."""
    scores, predictions = (read(path(variant)) for path in (records.scores_path, records.predictions_path))
    if scores is None and predictions is None:
        return None
    if scores is None or predictions is None:
        there, lacking = records.scores_path(variant), records.predictions_path(variant)
        if scores is None:
            there, lacking = lacking, there
        raise StudyError(f"{label} has {there} but not {lacking}, which belongs to it")
    try:
        table = pd.read_csv(io.BytesIO(scores), dtype={"key": str, "data": str})[COLUMNS]
        with np.load(io.BytesIO(predictions), allow_pickle=False) as arrays:
            predicted, truth = arrays["labels"], arrays["truth"]
        seeds = [int(seed) for seed in table["seed"]]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise StudyError(
            f"{records.scores_path(variant).parent} in {label} is damaged or in the format of another version of this "
            f"study: expected the columns {', '.join(COLUMNS)} in test.csv and the arrays labels and truth in "
            f"predictions.npz, received: {str(error).partition('. ')[0]}"
        ) from error
    runs = Trained(predicted, truth, seeds, table["key"].tolist(), table["data"].tolist())
    whole = predicted.shape == (len(set(seeds)), *truth.shape) and len(table) == len(predicted)
    if not whole or not np.allclose(runs.right.mean(axis=1), table["test_accuracy"], atol=1e-6):
        raise StudyError(
            f"{records.predictions_path(variant)} and {records.scores_path(variant)} in {label} tell of different "
            "runs: restore both with git, or run `dvc repro`"
        )
    return runs


def _pair(variant: str, old: Side, new: Side) -> Pair:
    a, b = old.runs[variant], new.runs[variant]
    if not np.array_equal(a.truth, b.truth):
        raise StudyError(
            f"{variant} was evaluated on different test sets: on {len(a.truth):,} images of {old.data} in "
            f"{old.label}, on {len(b.truth):,} of {new.data} in {new.label}. Their scores can't be compared"
        )
    common = [seed for seed in b.seeds if seed in a.seeds]
    return Pair(
        old=a.of_seeds(common),
        new=b.of_seeds(common),
        parameters=_parameters(variant, old, new),
        only_old=[seed for seed in a.seeds if seed not in common],
        only_new=[seed for seed in b.seeds if seed not in common],
    )


def _parameters(variant: str, old: Side, new: Side) -> dict[str, tuple[Any, Any]]:
    """The parameters of a variant's runs that differ, with both values; of two families, only the family."""
    a, b = old.recipes[variant], new.recipes[variant]
    if a.get("family") != b.get("family"):
        return {"family": (a.get("family"), b.get("family"))}
    sides = {name: (a.get(name, BY_DEFAULT), b.get(name, BY_DEFAULT)) for name in {**a, **b} if name != "seeds"}
    found = {name: values for name, values in sides.items() if values[0] != values[1]}
    # A network without dev split trains on everything; what has no such field needs one always.
    if b.get("dev_split", True) and old.dev_fraction != new.dev_fraction:
        found["split.dev_fraction"] = old.dev_fraction, new.dev_fraction
    return found


def _facts(pair: Pair) -> dict[str, Any]:
    return {
        "seeds": pair.new.seeds,
        "parameters": {name: {"old": a, "new": b} for name, (a, b) in pair.parameters.items()},
        "same_data": pair.old.data == pair.new.data,
        "same_keys": pair.same_keys,
    }


def _shown(difference: Difference) -> parts.Table:
    old, new, table = difference.old, difference.new, difference.table
    columns = [parts.text("variant", "b"), *answers.columns(parts.images_of(new.data))]
    images = len(next(iter(new.runs.values())).truth)
    promise = answers.promise(len(table), images, difference.settings)
    caption = f"a: {old.label}; b: {new.label}. {promise}"
    return parts.Table("compare", f"Test accuracy: {old.label} → {new.label}", caption, table, columns)


def _remarks(difference: Difference) -> list[str]:
    """A line for each thing that the table doesn't say."""
    old, new = difference.old.label, difference.new.label
    remarks = [f"{name}: {'; '.join(_why(pair))}" for name, pair in difference.changed.items()]
    again: dict[str, list[str]] = {}
    for name, pair in difference.unchanged.items():
        if not pair.same_keys:
            again.setdefault("; ".join(_why(pair)), []).append(name)
        elif pair.parameters:
            remarks.append(
                f"{name}: {params.in_words(pair.parameters)} in {params.PARAMS}, but the runs are the same: not "
                "trained with it, see `dvc status`"
            )
    remarks += [f"{', '.join(names)}: {why}; but the predictions are the same" for why, names in again.items()]
    for name, pair in {**difference.changed, **difference.unchanged, **difference.unpaired}.items():
        remarks += [f"{name}: {_seeds(pair.only_old)} only in {old}"] if pair.only_old else []
        remarks += [f"{name}: {_seeds(pair.only_new)} only in {new}"] if pair.only_new else []
    unchanged = [name for name, pair in difference.unchanged.items() if not (pair.same_keys and pair.parameters)]
    lists = [
        ("Unchanged, with the same predictions, so not compared", unchanged),
        ("Not compared, without a seed that both sides have", difference.unpaired),
        (f"Only in {old}", difference.only_old),
        (f"Only in {new}", difference.only_new),
        ("Without runs on either side", difference.without_runs),
    ]
    return remarks + [f"{what}: {', '.join(names)}" for what, names in lists if names]


def _why(pair: Pair) -> list[str]:
    """Why the runs of a variant differ, as far as git knows."""
    reasons = [params.in_words(pair.parameters)] if pair.parameters else []
    if pair.old.data != pair.new.data:
        reasons.append("other training data")
    if pair.same_keys:
        reasons.append("the same keys but other predictions, so made on another machine, or edited")
    elif not reasons:
        reasons.append("the same parameters and data, so other code or library versions")
    return reasons


def _seeds(seeds: list[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


@gate.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="REV", help="the older side: a commit, branch, tag or DVC experiment")
    parser.add_argument("new", metavar="REV", nargs="?", help="the newer side; without it the working tree")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for pull requests")
    gate.add_arguments(parser)
    arguments = parser.parse_args()
    asked = gate.from_arguments(arguments)
    difference = compare(read_side(arguments.old), read_side(arguments.new))
    reasons = asked.reasons(findings(difference))
    says = gate.lines(asked, reasons)
    if arguments.json:
        print(files.json_bytes(as_json(difference) | {"gate": gate.as_json(asked, reasons)}).decode(), end="")
    else:
        print((as_markdown if arguments.markdown else as_text)(difference, says), end="")
    gate.close(reasons, says)


if __name__ == "__main__":
    main()

"""params.yaml, read into frozen and validated values.

Errors name the key, the expected values and the received value.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from many_seeds.errors import UserError
from many_seeds.statistics.intervals import Design
from stages.recipes.shared.recipe import Positive, Recipe, Strict
from stages.study import files, scores
from stages.study.data import Data, DatasetName
from stages.study.provenance import families

PARAMS = Path("params.yaml")
MOST_SEEDS = 65_536
RACES = "races"  # beside the names of variants in metrics/summary.json

Fraction = Annotated[float, Field(gt=0, lt=1)]
FILE_NAME = r"^[a-z][a-z0-9_]*$"
VariantName = Annotated[str, Field(pattern=FILE_NAME, max_length=100)]  # it is a folder
Name = Annotated[str, Field(pattern=r"\S")]
ScoreName = Annotated[str, AfterValidator(scores.check_name)]
RaceName = Annotated[str, Field(pattern=FILE_NAME, max_length=100)]  # it is part of a file name
RaceScore = Annotated[str, AfterValidator(scores.check_race_name)]


class Split(Strict):
    """The validation splits of seeds 0 … `seeds` - 1, which are drawn at once, so that more seeds change no file.

    Attributes:
        dev_fraction: of the training images.
        seeds: the number of splits.
    """

    dev_fraction: Fraction
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)]


class Comparison(Strict):
    """A comparison of two variants.

    Attributes:
        a: the first variant.
        b: the second variant.
        score: the score by which they are compared; None for that of `Statistics`.
        margin: a difference within it is negligible, in the unit of the score; None for that of `Statistics`.
    """

    a: VariantName
    b: VariantName
    score: ScoreName | None = None
    margin: Positive | None = None

    @model_validator(mode="after")
    def _check_different(self) -> Self:
        if self.a == self.b:
            raise ValueError(f"a and b must be two variants, received {self.a!r} twice")
        return self


class Race(Strict):
    """A race: which of several variants is best?

    Attributes:
        variants: those that take part, two or more.
        score: the score by which they are compared, also `validation_accuracy`: the accuracy on the validation split of
            each seed, with which a variant is chosen without the test images. None for that of `Statistics`.
        margin: a difference within it is negligible, in the unit of the score; None for that of `Statistics`.
    """

    variants: Annotated[list[VariantName], Field(min_length=2)]
    score: RaceScore | None = None
    margin: Positive | None = None

    @model_validator(mode="after")
    def _check_different(self) -> Self:
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants must name each variant once, received {self.variants}")
        return self


class Statistics(Strict):
    """Settings of the comparisons.

    Attributes:
        confidence: that all intervals hold simultaneously.
        equivalence_margin: a difference within it is negligible, in the unit of `score`.
        reproduction_margin: a difference to 2020 within it counts as reproduced, in percentage points of test accuracy.
        design: whether seeds may be added after a look.
        score: the score by which variants are compared, a name of `scores.SCORES`.
    """

    confidence: Annotated[float, Field(gt=0, le=1 - 1e-9)]
    equivalence_margin: Positive
    reproduction_margin: Positive
    design: Design
    score: ScoreName = scores.ACCURACY

    @property
    def alpha(self) -> float:
        """The probability that any of the intervals misses."""
        return round(1 - self.confidence, 12)  # 0.05, not 0.050000000000000044

    @property
    def percent(self) -> str:
        """The confidence in percent, as text."""
        return f"{100 * self.confidence:g} %"


class Params(Strict):
    """The content of params.yaml.

    Attributes:
        data: the data set.
        split: the validation splits.
        variants: name → recipe.
        approaches: name → variant.
        comparisons: pairs of variants.
        chains: name → variants, each compared with the one before it.
        statistics: settings of the comparisons.
        races: name → variants of which the best is sought.
        champion: the approach whose model is served; None for the one with the best mean validation score.
        name: of the study's experiment and registered model in MLflow; None for the name of the data set.
    """

    data: Data
    split: Split
    variants: Annotated[dict[VariantName, SerializeAsAny[Recipe]], Field(min_length=1)]
    approaches: Annotated[dict[Name, VariantName], Field(min_length=1)]
    comparisons: list[Comparison]
    chains: dict[Name, Annotated[list[VariantName], Field(min_length=2)]]
    statistics: Statistics
    races: dict[RaceName, Race] = Field(default_factory=dict)
    champion: Name | None = None
    name: DatasetName | None = None

    @field_validator("comparisons", mode="before")
    @classmethod
    def _no_comparisons(cls, value: Any) -> Any:
        return [] if value is None else value  # as YAML reads a key without a value

    @field_validator("chains", "races", mode="before")
    @classmethod
    def _no_entries(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        for name, recipe in self.variants.items():
            if recipe.seeds > self.split.seeds:
                raise ValueError(
                    f"variants.{name}.seeds is {recipe.seeds}, but only {self.split.seeds} of split.seeds are drawn"
                )
        return self

    @model_validator(mode="after")
    def _check_unique_names(self) -> Self:
        if len(set(self.approaches.values())) < len(self.approaches):
            raise ValueError(f"approaches must name each variant once, received {self.approaches}")
        for chain, steps in self.chains.items():
            if len(set(steps)) < len(steps):
                raise ValueError(f"chains.{chain} must name each variant once, received {steps}")
        return self

    @model_validator(mode="after")
    def _check_known_names(self) -> Self:
        named = [("approaches", name) for name in self.approaches.values()]
        named += [("comparisons", name) for pair in self.comparisons for name in (pair.a, pair.b)]
        named += [(f"chains.{chain}", name) for chain, steps in self.chains.items() for name in steps]
        named += [(f"races.{race}", name) for race, of in self.races.items() for name in of.variants]
        for key, name in named:
            if name not in self.variants:
                raise ValueError(f"{key} names the variant {name!r}, but variants has only {', '.join(self.variants)}")
        if self.champion is not None and self.champion not in self.approaches:
            raise ValueError(
                f"champion should name one of the approaches ({', '.join(self.approaches)}), received {self.champion!r}"
            )
        return self

    @model_validator(mode="after")
    def _check_margins(self) -> Self:
        default, known = self.statistics, dict[tuple[frozenset[str], str], tuple[str, float]]()
        for key, a, b in self.steps():
            known[frozenset((a, b)), default.score] = key, default.equivalence_margin
        for pair in self.comparisons:
            score, name = pair.score or default.score, f"{pair.a}:{pair.b}"
            self._check_margin(f"comparisons: {name}", score, pair.margin)
            margin = pair.margin or default.equivalence_margin
            key, other = known.setdefault((frozenset((pair.a, pair.b)), score), ("comparisons", margin))
            if margin != other:
                raise ValueError(
                    f"comparisons: {name} by {score} should have one margin, received {margin:g}, and {other:g} from "
                    f"{key}: it is one comparison"
                )
        return self

    def _check_margin(self, key: str, score: str, margin: float | None) -> None:
        default = self.statistics.score
        # The margin of the test accuracy is that of the validation accuracy, too.
        own = scores.ACCURACY if score == scores.VALIDATION_ACCURACY else score
        if own != default and margin is None:
            unit, of = scores.RACE_SCORES[score].unit, scores.SCORES[default]
            raise ValueError(
                f"{key} by {score} should have a margin of its own, in {unit} of {score}, such as `margin: 0.5`; "
                f"statistics.equivalence_margin is in {of.unit} of {default}"
            )

    @model_validator(mode="after")
    def _check_races(self) -> Self:
        if self.races and RACES in self.variants:
            raise ValueError(f"variants.{RACES} should have another name in a study with races")
        if shared := [name for name in self.races if name in self.variants]:
            raise ValueError(f"races.{shared[0]} should have a name that is not the name of a variant")
        known: dict[tuple[frozenset[str], str], str] = {}
        for name, race in self.races.items():
            score = race.score or self.statistics.score
            self._check_margin(f"races.{name}", score, race.margin)
            other = known.setdefault((frozenset(race.variants), score), name)
            if other != name:
                raise ValueError(f"races.{other} and races.{name} are one race, by {score}: remove one of them")
            if score == scores.VALIDATION_ACCURACY:
                self._check_validation(name, race)
        return self

    def _check_validation(self, name: str, race: Race) -> None:
        for variant in race.variants:
            recipe = self.variants[variant]
            if not recipe.uses_validation or "dev_accuracy" not in recipe.facts:
                raise ValueError(
                    f"races.{name} by {scores.VALIDATION_ACCURACY} should have variants with a validation split, "
                    f"received {variant}, which is trained on all training images: give it one (of a network: "
                    "`dev_split: true`), leave it out, or name another score"
                )

    @model_validator(mode="after")
    def _check_probabilities(self) -> Self:
        default = self.statistics.score
        asked = [(name, default) for name in self.approaches.values()]
        asked += [(name, default) for _, a, b in self.steps() for name in (a, b)]
        asked += [(name, pair.score or default) for pair in self.comparisons for name in (pair.a, pair.b)]
        asked += [(name, race.score or default) for race in self.races.values() for name in race.variants]
        for name, score in asked:
            if scores.RACE_SCORES[score].needs_probabilities and not self.variants[name].probabilities:
                raise ValueError(scores.without_probabilities(name, score))
        return self

    def steps(self) -> Iterator[tuple[str, str, str]]:
        """The steps of chains and the neighbouring approaches: the key that names them, a and b."""
        for chain, variants in self.chains.items():
            yield from ((f"chains.{chain}", a, b) for a, b in pairwise(variants))
        yield from (("approaches", a, b) for a, b in pairwise(self.approaches.values()))

    def recipe(self, variant: str) -> Recipe:
        """The recipe of `variant`; UserError if params.yaml has no such variant."""
        if variant not in self.variants:
            known = ", ".join(self.variants)
            raise UserError(f"unknown variant {variant!r}: {PARAMS} has {known}")
        return self.variants[variant]


def differences(a: Recipe, b: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields of two recipes that differ, except seeds, with both values; only the family if that differs."""
    if a.family != b.family:
        return {"family": (a.family, b.family)}
    old, new = (recipe.model_dump(exclude={"seeds"}) for recipe in (a, b))
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}


def describe_changes(changes: dict[str, tuple[Any, Any]]) -> str:
    """The result of `differences` as text: "units: [512] → [800], dropout: 0.5 → 0.25"."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value)

    return ", ".join(f"{name}: {text(a)} → {text(b)}" for name, (a, b) in changes.items())


def write(text: str) -> None:
    """Replace params.yaml atomically."""
    mode = PARAMS.stat().st_mode
    files.write_bytes(PARAMS.resolve(), text.encode())  # the target of a symbolic link
    PARAMS.chmod(mode)


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or a value is not what its key may be.
    """
    return parse(read(path), str(path))


def read(path: Path = PARAMS) -> str:
    """The text of params.yaml, with its line ends.

    Raises:
        UserError: the file is missing, or is not UTF-8 text.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise UserError(f"{path} not found: run the stages from the top folder of the study") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} should be UTF-8 text: {error}") from error


def parse(text: str, source: str) -> Params:
    """Validate the text of a params.yaml; errors call it `source`."""
    values = files.yaml_values(text, source)
    complaints: list[str] = []
    if isinstance(values, dict) and isinstance(values.get("variants"), dict):
        values["variants"] = recipes(values["variants"], complaints)
    try:
        study = Params.model_validate(values)
    except ValidationError as error:
        # Errors about the variants as a whole follow from the variants that were left out above.
        ours = {(), ("variants",)} if complaints else set()
        complaints += [_explain(detail) for detail in error.errors() if detail["loc"] not in ours]
    else:
        if not complaints:
            return study
    raise UserError(f"{source} is not valid:\n" + "\n".join(complaints))


def recipes(variants: dict[Any, Any], complaints: list[str]) -> dict[Any, Recipe]:
    """The valid variants as recipes of their families; messages about the others are added to `complaints`."""
    valid = {}
    found: dict[str, list[str]] = {}
    recipe_class = functools.cache(families.recipe_class)  # its imports are checked once
    for variant, fields in variants.items():
        if not isinstance(fields, dict):
            complaints.append(f"  variants.{variant}: should be keys with values; received {fields!r}")
            continue
        try:
            recipe = recipe_class(fields.get("family")).model_validate(fields)
            if infinite := [name for name, value in recipe.key_fields().items() if not _finite(value)]:
                found.setdefault(f"  variants.*.{infinite[0]}: numbers should be finite", []).append(str(variant))
            valid[variant] = recipe
        except UserError as error:
            complaints.append(f"  variants.{variant}.family: {error}")
        except ValidationError as error:
            for detail in error.errors():
                found.setdefault(_explain(detail, "variants", "*"), []).append(str(variant))
    # An error in a recipe from which others start is in all of them.
    complaints += [what.replace("*", names[0], 1) + _also(names[1:]) for what, names in found.items()]
    return valid


def _finite(value: Any) -> bool:
    try:
        files.json_bytes(value)
    except ValueError:
        return False
    return True


def _also(names: Sequence[str]) -> str:
    return f" (also in {', '.join(names)})" if names else ""


def _explain(error: Any, *above: str) -> str:
    if error["loc"][-1:] == ("[key]",):
        return _explain_name(error)
    key = ".".join([*above, *map(str, error["loc"])]) or "(whole file)"
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"  {key}: should be keys with values; received {error['input']!r}"
    if error["type"] == "extra_forbidden":
        return f"  {key}: unknown key; remove it or fix its spelling"
    if error["type"] == "missing":
        return f"  {key}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"  {key}: {message}"
    return f"  {key}: {message}; received {error['input']!r}"


def _explain_name(error: Any) -> str:
    """The message for a name, which is a key: YAML reads true, 1 and null as other values than text."""
    section, received = ".".join(map(str, error["loc"][:-2])), error["input"]
    if not isinstance(received, str):
        return f"  {section}: a name should be text, in quotes if need be; received {received!r}"
    if error.get("ctx", {}).get("pattern") == FILE_NAME:
        return f"  {section}.{received}: a name should be lower-case letters, digits and _, a letter first"
    if not received.strip():
        return f"  {section}: a name should not be blank; received {received!r}"
    return f"  {section}.{received}: as a name, {error['msg'][:1].lower()}{error['msg'][1:]}"

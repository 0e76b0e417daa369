"""params.yaml, read into frozen and validated values.

An error names the key, what it may be and what was found, so that it can be mended without reading this file.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from stages.data import Data
from stages.records import StudyError

PARAMS = Path("params.yaml")

Rate = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# The upper bound is NumPy's and scikit-learn's for `random_state`.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
VariantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Split(_Strict):
    """The dev images of seeds 0 … `seeds` - 1 are drawn at once, so that a later seed changes no file."""

    dev_fraction: Fraction
    seeds: Annotated[int, Field(ge=1, le=65_536)]


class Decay(_Strict):
    """Learning rate times exp(rate * (start - epoch)) from epoch `start` on; epochs count from 0."""

    start: Annotated[int, Field(ge=0)]
    rate: Positive


class Linear(_Strict):
    """Ridge regression of one-hot targets on the pixels."""

    family: Literal["linear"]
    grid_powers: Annotated[list[Annotated[int, Field(ge=-60, le=60)]], Field(min_length=2, max_length=2)]
    tolerance: Annotated[float, Field(ge=1e-6, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _grid_has_an_inside(self) -> Self:
        lowest, highest = self.grid_powers
        if highest - lowest < 2:
            raise ValueError(f"grid_powers must span at least three points [low, high], received {self.grid_powers}")
        return self


class Elm(Linear):
    """Extreme learning machine: the same regression on a fixed random ReLU layer."""

    family: Literal["elm"]  # type: ignore[assignment]  # the tag that tells the families apart
    hidden_units: Count
    weight_sd: Positive


class Network(_Strict):
    """Convolutions, then dense layers, then a softmax; trained with Adam on cross-entropy."""

    family: Literal["network"]
    filters: list[Count]
    pool: list[bool]
    conv_dropout: list[Rate]
    units: list[Count]
    dropout: Rate
    initializer: Literal["glorot_uniform", "glorot_normal", "normal"]
    precision: Literal["float32", "mixed_bfloat16"]
    learning_rate: Positive
    decay: Decay | None
    batch_size: Count
    epochs: Count
    dev_split: bool
    patience: Count | None
    restore_best: bool

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if not len(self.filters) == len(self.pool) == len(self.conv_dropout):
            raise ValueError(
                "filters, pool and conv_dropout need one entry for each convolution, received "
                f"{len(self.filters)}, {len(self.pool)} and {len(self.conv_dropout)}"
            )
        side = 28
        for pooled in self.pool:
            side = (side - 2) // 2 if pooled else side - 2
            if side < 1:
                raise ValueError(
                    f"{len(self.filters)} convolutions with pool {self.pool} leave nothing of 28x28 pixels"
                )
        if not self.dev_split and (self.patience is not None or self.restore_best):
            raise ValueError("patience and restore_best watch the dev loss: they need dev_split: true")
        return self


FAMILIES = ("linear", "elm", "network")
AnyRecipe = Linear | Elm | Network
Recipe = Annotated[AnyRecipe, Field(discriminator="family")]


class Comparison(_Strict):
    a: VariantName
    b: VariantName

    @model_validator(mode="after")
    def _two_variants(self) -> Self:
        if self.a == self.b:
            raise ValueError(f"a and b must be two variants, received {self.a!r} twice")
        return self


class Statistics(_Strict):
    """Margins are in percentage points of test accuracy."""

    confidence: Fraction
    equivalence_margin: Positive
    reproduction_margin: Positive
    resamples: Annotated[int, Field(ge=100)]
    seed: Seed

    @property
    def alpha(self) -> float:
        """The level of every test."""
        return round(1 - self.confidence, 12)  # 0.05, not 0.050000000000000044

    @property
    def percent(self) -> str:
        """The confidence of every interval as people write it."""
        return f"{100 * self.confidence:g} %"


class Params(_Strict):
    """The whole study."""

    data: Data
    seeds: Annotated[list[Seed], Field(min_length=1)]
    split: Split
    variants: Annotated[dict[VariantName, Recipe], Field(min_length=1)]
    approaches: Annotated[dict[str, VariantName], Field(min_length=1)]
    comparisons: list[Comparison]
    chains: dict[str, Annotated[list[VariantName], Field(min_length=2)]]
    statistics: Statistics

    @model_validator(mode="after")
    def _names_are_known_and_unique(self) -> Self:
        repeated = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if repeated:
            raise ValueError(f"seeds must differ from one another, received {repeated} more than once")
        if len(set(self.approaches.values())) < len(self.approaches):
            raise ValueError(f"approaches must name each variant once, received {self.approaches}")
        for chain, steps in self.chains.items():
            if len(set(steps)) < len(steps):
                raise ValueError(f"chains.{chain} must name each variant once, received {steps}")
        named = [("approaches", name) for name in self.approaches.values()]
        named += [("comparisons", name) for pair in self.comparisons for name in (pair.a, pair.b)]
        named += [(f"chains.{chain}", name) for chain, steps in self.chains.items() for name in steps]
        for key, name in named:
            if name not in self.variants:
                raise ValueError(f"{key} names the variant {name!r}, but variants has only {', '.join(self.variants)}")
        return self

    def recipe(self, variant: str) -> AnyRecipe:
        """The recipe of `variant`; StudyError if params.yaml has no such variant."""
        if variant not in self.variants:
            known = ", ".join(self.variants)
            raise StudyError(f"unknown variant {variant!r}: {PARAMS} has {known}")
        return self.variants[variant]


def differences(a: AnyRecipe, b: AnyRecipe) -> dict[str, tuple[Any, Any]]:
    """The fields of two recipes that differ, with both values; of two families, only the family."""
    if a.family != b.family:
        return {"family": (a.family, b.family)}
    old, new = a.model_dump(), b.model_dump()
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}


def in_words(changes: dict[str, tuple[Any, Any]]) -> str:
    """What `differences` found, as params.yaml has it: "units: [512] → [800], dropout: 0.5 → 0.25"."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value)

    return ", ".join(f"{name}: {text(a)} → {text(b)}" for name, (a, b) in changes.items())


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises:
        StudyError: the file is missing, is not YAML, or a value is not what its key may be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path} not found: run the stages from the top folder of the study") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} should be UTF-8 text: {error}") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Params:
    """Validate the text of a params.yaml; `source` says in errors where it came from."""
    try:
        # DVC reads the file with the same parser, so both see the same values.
        values = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise StudyError(f"{source} is not valid YAML: {error}") from error
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise StudyError(f"{source} is not valid:\n" + "\n".join(map(_explain, error.errors()))) from error


def _explain(error: Any) -> str:
    parts = [str(part) for i, part in enumerate(error["loc"]) if not (i == 2 and part in FAMILIES)]
    key = ".".join(parts) or "(whole file)"
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        family = error["input"].get("family", "none")
        return f"  {key}.family: should be one of {', '.join(FAMILIES)}; received {family}"
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"  {key}: should be keys with values; received {error['input']!r}"
    if error["type"] == "extra_forbidden":
        return f"  {key}: unknown key; remove it or mend its spelling"
    if error["type"] == "missing":
        return f"  {key}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"  {key}: {message}"
    return f"  {key}: {message}; received {error['input']!r}"

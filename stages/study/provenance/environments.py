"""The environment of a result: the code, the packages and the executor that decide its bits; and certificates.

A certificate records that two environments give the same bits for a recipe, data and split (metrics/certified.csv). The
key of a run uses the environment that certificates lead to, so certified code or packages do not make runs stale.
"""

import contextlib
import functools
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.training import backend
from stages.study import files
from stages.study.provenance import families
from stages.study.records.results import NOT_RECORDED, find_results

CODE = Path("metrics/code.yaml")
CERTIFIED = Path("metrics/certified.csv")
LOCKED = Path("requirements.lock")
CERTIFIED_COLUMNS = [
    "variant",
    "identity",
    "part",
    "environment",
    "same_as",
    "seeds",
    "of",
    "processor",
    "how",
    "commit",
]
# What to do with results of another environment: if they were trained in one, and if they were only evaluated in one.
CERTIFY = "`make certify` checks a sample of them and keeps those that are the same; `dvc repro` trains them again."
CERTIFY_EVALUATED = (
    "`make certify` checks a sample of the evaluations, without their models, and keeps those that are the same; `dvc "
    "repro` evaluates them again, which needs their models."
)
# What to do if only the installed packages differ from those of the results.
INSTALL = (
    f"`make setup` installs the packages of {LOCKED}; `make certify` checks a sample of the runs with the installed "
    "ones; `dvc repro --force` trains them again."
)

# The files that turn a model into predictions and scores.
SCORING = [Path(__file__).parents[2] / "evaluate" / name for name in ("outputs.py", "scores.py")]
PACKAGES = ("keras", "numpy", "scikit-learn", "scipy")  # the packages that decide bits, besides the Keras backend
BACKEND_PACKAGES = {"tensorflow": ["tensorflow", "tensorflow-cpu"], "jax": ["jax"], "torch": ["torch"]}
# How a certificate was made: by today's code compared with the recorded results, or with runs of the old code here.
TRAINED_HERE, OLD_CODE_HERE = "trained here", "old code here"
# Instruction sets on which the bits of matrix products in bfloat16 depend.
INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16")

Part = Literal["train", "evaluate"]
PARTS: tuple[Part, ...] = ("train", "evaluate")


@dataclass(frozen=True)
class Environment:
    """Everything that decides the bits of a run or of its evaluation, besides the recipe, the seed and the data.

    Attributes:
        code: SHA-256 of the code, hexadecimal.
        versions: package → version.
        executor: SHA-256 of the executor's code, hexadecimal, if it decides bits (batched seeds); else None.
    """

    code: str
    versions: dict[str, str]
    executor: str | None = None

    @property
    def digests(self) -> dict[str, str]:
        """The digests that are part of a run's key."""
        return {"code": self.code} | ({"executor": self.executor} if self.executor else {})

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in (self.digests | self.versions).items())

    @classmethod
    def parse(cls, text: str) -> "Environment":
        """The environment of a text that `str` returned.

        Raises:
            UserError: the text is not such an environment.
        """
        pairs = [part.partition("=")[::2] for part in text.split()]
        values = dict(pairs)
        if "code" not in values or not all(all(pair) for pair in pairs):
            raise UserError(
                f"an environment should have the form 'code=… keras=…', received {text!r}: restore it with git"
            )
        code, executor = values.pop("code"), values.pop("executor", None)
        return cls(code, values, executor)

    def differences(self, other: "Environment", part: Part) -> list[str]:
        """The differences from this environment to another one, such as "keras 3.15.1 → 3.15.2"."""
        where = "stages/recipes" if part == "train" else ", ".join(f"stages/evaluate/{path.name}" for path in SCORING)
        found = [f"the code in {where}"] if self.code != other.code else []
        found += ["the executor"] if self.executor != other.executor else []
        names = dict.fromkeys([*self.versions, *other.versions])
        versions = {name: (self.versions.get(name, "none"), other.versions.get(name, "none")) for name in names}
        return found + [f"{name} {old} → {new}" for name, (old, new) in versions.items() if old != new]


def installed_versions(keras_backend: str) -> dict[str, str]:
    """The versions of the installed packages that decide bits.

    Args:
        keras_backend: tensorflow, jax or torch.

    Returns:
        Package → version. The version of the backend has the name of the backend, as for tensorflow-cpu.

    Raises:
        UserError: the Keras backend is unknown, or a package is not installed.
    """
    if keras_backend not in BACKEND_PACKAGES:
        raise UserError(f"KERAS_BACKEND should be one of {', '.join(BACKEND_PACKAGES)}, received {keras_backend!r}")
    versions = {}
    for name, packages in _deciding_packages(keras_backend).items():
        for package in packages:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(package)
    if missing := [name for name in PACKAGES if name not in versions]:
        raise UserError(f"training needs {', '.join(missing)}, which is not installed: run `make setup`")
    if keras_backend not in versions:
        set_here = [name for name in ("KERAS_BACKEND", "STUDY_EXECUTOR") if os.environ.get(name)]
        another = set_here and keras_backend != "tensorflow"
        remedy = f"install it, or unset {' or '.join(set_here)}" if another else "run `make setup`"
        raise UserError(f"the Keras backend {keras_backend} is not installed: {remedy}")
    return versions


def _deciding_packages(keras_backend: str) -> dict[str, list[str]]:
    """The packages that decide bits, each with the names of its distributions."""
    return {name: [name] for name in PACKAGES} | {keras_backend: BACKEND_PACKAGES[keras_backend]}


def locked_versions(path: Path = LOCKED, keras_backend: str = "tensorflow") -> dict[str, str]:
    """The versions of the same packages in requirements.lock, for this Python and platform.

    Args:
        path: requirements.lock.
        keras_backend: tensorflow, jax or torch.

    Raises:
        UserError: the file is missing or lacks a package.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: restore it with git, or write it with `make lock`")
    locked = _locked(path)
    found = {
        name: [locked[package] for package in packages if package in locked]
        for name, packages in _deciding_packages(keras_backend).items()
    }
    if missing := [name for name, versions in found.items() if not versions]:
        raise UserError(f"{path} should have a version of {', '.join(missing)}: run `make lock`")
    return {name: versions[-1] for name, versions in found.items()}


def _locked(path: Path) -> dict[str, str]:
    """The versions of all packages in requirements.lock, for this Python and platform."""
    from packaging.requirements import Requirement  # imported here because tools.compare does not need it

    lines = path.read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith(("#", " ", "-"))]
    return {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def scoring_digest() -> str:
    """A digest of the code that computes predictions and scores, independent of the files of its functions."""
    return families.definitions_digest(SCORING)


def current(part: Part, family: str, versions: dict[str, str]) -> Environment:
    """The environment of the present code with packages of these versions, on the executor `processes`."""
    code = families.code_digest(family) if part == "train" else scoring_digest()
    return Environment(code, versions)


def installed(part: Part, family: str) -> Environment:
    """The environment of the present code and the installed packages, on the executor `processes`."""
    return current(part, family, installed_versions(backend()))


def of_run(facts: Mapping[str, Any]) -> Environment:
    """The environment that trained a run, from the content of its run.json."""
    return Environment(facts["digests"]["code"], dict(facts.get("versions", {})), facts["digests"].get("executor"))


def read_certificates(path: Path = CERTIFIED) -> pd.DataFrame:
    """The certificates, one in each row, with the columns `CERTIFIED_COLUMNS`; empty without the file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return pd.DataFrame(columns=CERTIFIED_COLUMNS)
    with path.open("rb") as file:
        table = files.parse_table(file, str(path), CERTIFIED_COLUMNS, text=["identity"])
    for text in {*table["environment"], *table["same_as"]}:
        Environment.parse(str(text))
    return table


def select(certificates: pd.DataFrame, identity: str, part: Part) -> pd.DataFrame:
    """The certificates of the variants with an identity, for training or evaluation."""
    return certificates[(certificates["identity"] == identity) & (certificates["part"] == part)]


def canonical(identity: str, part: Part, environment: Environment, certificates: pd.DataFrame) -> Environment:
    """The environment that a chain of certificates leads to, which stands for all with the same bits.

    Args:
        identity: of the variant, as returned by `identities.variant_identity`: a certificate of another recipe, other
            data or another split does not count, even if the variant has the same name.
        part: training or evaluation.
        environment: the start of the chain. Without a certificate for it, it is returned.
        certificates: as returned by `read_certificates`.
    """
    of = {name: certificates[name].to_numpy() for name in ("identity", "part", "environment", "same_as")}
    matching = (of["identity"] == identity) & (of["part"] == part)  # arrays: five times as fast as a table
    matching &= of["environment"] != of["same_as"]  # the same says only on which processors
    same_as = dict(zip(of["environment"][matching], of["same_as"][matching], strict=True))
    text, passed = str(environment), list[str]()
    while text in same_as and text not in passed:
        passed.append(text)
        text = same_as[text]
    if text in passed:  # certificates of merged branches may form a cycle, whose smallest text then stands for all
        text = min(passed[passed.index(text) :])
    return Environment.parse(text)


def differences_from_certified(
    identity: str, part: Part, recorded: Environment, here: Environment, certificates: pd.DataFrame
) -> list[str]:
    """The differences from a recorded environment to `here`: the fewest from any that is certified to give its bits.

    Args:
        identity: of the variant, see `identities.variant_identity`.
        part: training or evaluation.
        recorded: the environment that made a result.
        here: the environment to compare.
        certificates: as returned by `read_certificates`.
    """
    rows = certificates[(certificates["identity"] == identity) & (certificates["part"] == part)]
    root = canonical(identity, part, recorded, rows)
    others = [Environment.parse(text) for text in dict.fromkeys([*rows["environment"], *rows["same_as"]])]
    equal = [recorded, *(other for other in others if canonical(identity, part, other, rows) == root)]
    return min((environment.differences(here, part) for environment in equal), key=len)


def changes_since(variant: str, identity: str, here: Environment) -> list[str]:
    """How the training environment `here` differs from those of the variant's runs in metrics/runs.

    Args:
        variant: its name.
        identity: as in `canonical`.
        here: the environment to compare.

    Returns:
        The differences; none if the environments are the same or certified, or if the variant has no runs.

    Raises:
        UserError: the variant's results are damaged.
    """
    results = find_results(variant)
    if results is None:
        return []
    certificates = read_certificates()
    root, found = canonical(identity, "train", here, certificates), dict[str, None]()
    for text in results.environments["environment"].unique():
        recorded = Environment.parse(str(text))
        if canonical(identity, "train", recorded, certificates) != root:
            changes = differences_from_certified(identity, "train", recorded, here, certificates)
            found |= dict.fromkeys(changes)
    return list(found)


def trained_elsewhere(changes: Mapping[str, list[str]]) -> list[str]:
    """A line for each difference between the environments of the runs and the present one.

    Args:
        changes: variant → differences, as returned by `changes_since`.
    """
    found: dict[str, list[str]] = {}
    for variant, differences in changes.items():
        if differences:
            found.setdefault(", ".join(differences), []).append(variant)
    return [
        f"{', '.join(names)}: trained in another environment than this one ({text})" for text, names in found.items()
    ]


def processor_objection(variant: str, identity: str, recipe: Recipe) -> str | None:
    """Why this machine should not add runs to a variant whose bits depend on the kind of processor; None if it may.

    Args:
        variant: its name.
        identity: as in `canonical`.
        recipe: its recipe.

    Raises:
        UserError: the variant's results are damaged.
    """
    results = find_results(variant) if depends_on_processor(recipe) else None
    if results is None:
        return None
    certified = select(read_certificates(), identity, "train")
    compared = certified["processor"][certified["how"] == TRAINED_HERE]  # old code tells nothing about recorded bits
    recorded = {*results.environments["processor"], *compared} - {NOT_RECORDED}
    if kind(processor()) in {kind(text) for text in recorded}:
        return None
    others = (
        f"was made on {', '.join(sorted(recorded))}" if recorded else "was made on a processor that is not recorded"
    )
    return (
        f"{variant} computes in bfloat16, whose bits depend on the kind of processor. It {others}; this is "
        f'{processor()}. Add its runs on a machine of the same kind, or check with `make certify ARGS="--all '
        f'{variant}"` whether this one gives the same bits'
    )


@functools.cache
def processor() -> str:
    """The name of this machine's processor and its instruction sets on which bits in bfloat16 depend, as text."""
    name, flags = platform.processor() or platform.machine(), ""
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        name, flags = fields.get("model name", name), fields.get("flags", "")
    sets = [name for name in INSTRUCTION_SETS if name in flags.split()]
    return f"{name.replace(',', ' ')}; {' '.join(sets) or 'no bfloat16'}"


def kind(processor: str) -> str:
    """The part of a processor's text that decides bits in bfloat16: the instruction sets."""
    return processor.rpartition("; ")[2]


def depends_on_processor(recipe: Recipe) -> bool:
    """Whether the bits of a variant's runs depend on the kind of processor, as in bfloat16."""
    return "bfloat16" in str(recipe.model_dump().get("precision", ""))

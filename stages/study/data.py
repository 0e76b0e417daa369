"""The section `data` of params.yaml, and the description of data/raw that the split stage reads.

A study names a built-in data set, or describes custom data; the split stage reads both in the same way.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from many_seeds.errors import UserError
from stages.study.files import write_bytes
from stages.study.paths import RAW

KNOWN = ("mnist", "fashion_mnist", "kmnist", "cifar10", "digits")
# The folder of custom data. It is one folder because dvc.yaml has to name it, whether or not a study has custom data.
OWN = "own"
MOST_CLASSES = 65_535

# The formats of custom data, each with its parts: the required ones, and those of a test set.
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "idx": (("train_images", "train_labels"), ("test_images", "test_labels")),
    "npz": (("train",), ("test",)),
    "folders": (("train",), ("test",)),
}
ALL_PARTS = tuple(dict.fromkeys(part for needed, tests in PARTS.values() for part in (*needed, *tests)))


def _check_format_name(name: str) -> str:
    if name not in PARTS:
        raise ValueError(f"should be one of {', '.join(PARTS)}; received {name!r}")
    return name


Format = Annotated[str, AfterValidator(_check_format_name)]
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
Source = Annotated[str, Field(min_length=1)]
ClassName = Annotated[str, Field(pattern=r"^\S(.*\S)?$")]
ClassNames = Annotated[list[ClassName], Field(min_length=2, max_length=MOST_CLASSES)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Resize = Literal["fit", "crop"]
Size = Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=2, max_length=2)]
TestFraction = Annotated[float, Field(gt=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(_Strict):
    """A built-in data set, with its `name` alone; or custom data, with their `format` and their parts.

    A part is a path below own/, or a URL with the SHA-256 of its file.

    Attributes:
        name: of the data set, in tables and in the report.
        format: of custom data; None for a built-in data set.
        train, test: an .npz archive each, or a folder of images (or a zip or tar of one) each.
        train_images, train_labels, test_images, test_labels: IDX files, as MNIST has them.
        sha256: part → SHA-256 of its file, hexadecimal.
        classes: the names of the labels 0, 1, …; for folders, their names in the order of their labels.
        test_fraction: the share of the images of each class that is drawn as the test set where none is given; None for
            a fifth.
        test_seed: of that draw, which is the same for all seeds.
        size: for folders, the height and width that all images get; None if they have one size already.
        resize: how they get it: `fit` keeps the whole image and adds black edges, `crop` cuts off what is beyond.
        allow_duplicates: whether all test images may be training images too, and whether a test image may be a training
            image of another class.
    """

    name: DatasetName
    format: Format | None = None
    train: Source | None = None
    test: Source | None = None
    train_images: Source | None = None
    train_labels: Source | None = None
    test_images: Source | None = None
    test_labels: Source | None = None
    sha256: dict[str, Digest] = {}
    classes: ClassNames | None = None
    test_fraction: TestFraction | None = None
    test_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    size: Size | None = None
    resize: Resize = "fit"
    allow_duplicates: bool = False

    @property
    def sources(self) -> dict[str, str]:
        """Part → path or URL, of the parts that are given."""
        return {part: source for part in ALL_PARTS if (source := getattr(self, part)) is not None}

    @property
    def scaling(self) -> Resize | None:
        """How images of other sizes get the size of the study's; None if all had one size already."""
        return None if self.size is None else self.resize

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.format is None:
            _check_built_in(self.name, sorted(self.model_fields_set - {"name"}))
        else:
            _check_parts(self.format, self.sources)
            if self.name in KNOWN:
                raise ValueError(f"name {self.name!r} is the name of a built-in data set: choose another one")
        return self

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        for part, source in self.sources.items():
            _check_source(part, source, self.sha256)
        if unknown := sorted(self.sha256.keys() - self.sources.keys()):
            raise ValueError(f"sha256 names {', '.join(unknown)}, but the parts are {', '.join(self.sources)}")
        return self

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.size and self.format != "folders":
            raise ValueError("size is for images in folders; images in arrays have one size: remove it")
        if "resize" in self.model_fields_set and self.size is None:
            raise ValueError("resize says how images get `size`: add it, as in size: [64, 64], or remove resize")
        return self

    @model_validator(mode="after")
    def _check_test_set_and_classes(self) -> Self:
        drawing = [name for name in ("test_fraction", "test_seed") if name in self.model_fields_set]
        if drawing and any(part.startswith("test") for part in self.sources):
            raise ValueError(f"{drawing[0]} draws a test set where none is given: remove it, or the test set")
        if self.classes and (twice := sorted({name for name in self.classes if self.classes.count(name) > 1})):
            raise ValueError(f"classes must differ from one another, received {', '.join(twice)} more than once")
        return self


def is_address(source: str) -> bool:
    return re.match(r"https?://", source) is not None


def _check_built_in(name: str, given: list[str]) -> None:
    if name not in KNOWN:
        raise ValueError(
            f"name should be one of {', '.join(KNOWN)}; received {name!r}. Custom data need `format:` beside their "
            f"name: {', '.join(PARTS)}"
        )
    if given:
        raise ValueError(
            f"{name} is a built-in data set, without other fields; received {', '.join(given)}. Custom data need "
            "`format`"
        )


def _check_parts(form: str, sources: dict[str, str]) -> None:
    needed, tests = PARTS[form]
    if missing := [part for part in needed if part not in sources]:
        raise ValueError(f"format {form} needs {' and '.join(needed)}; {' and '.join(missing)} missing")
    if foreign := [part for part in sources if part not in (*needed, *tests)]:
        raise ValueError(f"format {form} has {', '.join((*needed, *tests))}; received {', '.join(foreign)}")
    if 0 < sum(part in sources for part in tests) < len(tests):
        raise ValueError(f"a test set of format {form} needs {' and '.join(tests)}, or neither")


def _check_source(part: str, source: str, sha256: dict[str, str]) -> None:
    if is_address(source):
        if part not in sha256:
            raise ValueError(f"{part} is downloaded, so sha256.{part} must be the SHA-256 of its file")
        return
    path = PurePosixPath(source)
    if "://" in source or "\\" in source or path.is_absolute() or ".." in path.parts or path.parts[:1] != (OWN,):
        raise ValueError(
            f"{part} should be a path below {OWN}/ (such as {OWN}/shapes), or an https URL; received {source!r}"
        )
    if len(path.parts) < 2:
        raise ValueError(f"{part} should name a file or folder in {OWN}/, such as {OWN}/shapes; received {source!r}")


class Contents(_Strict):
    """The description of data/raw.

    Attributes:
        format: one of `PARTS`, or that of a built-in data set.
        files: part → name of its file in data/raw.
        sources: part → path or URL that it came from, for errors.
        classes: the names of the labels, if params.yaml has them.
        test_fraction, test_seed, size, resize: as in `Data`.
        refuse_duplicates: whether `Data.allow_duplicates` is false; False for built-in data sets.
    """

    format: str
    files: dict[str, str]
    sources: dict[str, str]
    classes: list[str] | None = None
    test_fraction: float | None = None
    test_seed: int = 0
    # These are not written where they have their defaults, so that data/raw keeps its digest.
    size: Annotated[Size | None, Field(exclude_if=lambda size: size is None)] = None
    resize: Annotated[Resize, Field(exclude_if=lambda how: how == "fit")] = "fit"
    refuse_duplicates: Annotated[bool, Field(exclude_if=lambda refused: not refused)] = False


CONTENTS = RAW / "contents.json"


def write_contents(contents: Contents, path: Path = CONTENTS) -> None:
    write_bytes(path, (contents.model_dump_json(indent=2) + "\n").encode())


def read_contents(path: Path = CONTENTS) -> Contents:
    """Read the description of data/raw.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return Contents.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None
    except ValidationError as error:
        raise UserError(f"{path} is damaged: delete it and run `dvc repro`") from error

"""metrics/data.json: how many images a study has of each class, and images that it has twice."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from many_seeds.errors import UserError
from stages.study import files, paths

MOST_NAMED = 20


class Copy(BaseModel):
    """Two images with the same pixels.

    Attributes:
        image, label: the name of an image, and of its class.
        other, other_label: those of the other image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: str
    label: str
    other: str
    other_label: str


class Copies(BaseModel):
    """Images with the pixels of another image.

    Attributes:
        count: the number of such images.
        other_class: the number of those among them that have the pixels of an image of another class.
        named: the first `MOST_NAMED` of them; those of another class come first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    count: int
    other_class: int
    named: list[Copy]


class DataSummary(BaseModel):
    """The content of metrics/data.json.

    Attributes:
        train, test: class → number of images.
        between: test images with the pixels of a training image.
        within_train, within_test: images with the pixels of an image of another class in the same split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    train: dict[str, int]
    test: dict[str, int]
    between: Copies
    within_train: Copies
    within_test: Copies

    def warnings(self) -> list[tuple[str, Copies]]:
        """A sentence about each kind of copies that there are, and these copies."""
        found = []
        if count := self.between.count:
            have = "has" if count == 1 else "have"
            other = f", {self.between.other_class:,} of them one of another class" if self.between.other_class else ""
            found.append(
                (
                    f"{count:,} of {sum(self.test.values()):,} test images {have} the same pixels as a training "
                    f"image{other}.",
                    self.between,
                )
            )
        for split, copies in (("training", self.within_train), ("test", self.within_test)):
            if copies.count:
                found.append(
                    (
                        f"{copies.count:,} {split} images have the same pixels as a {split} image of another class.",
                        copies,
                    )
                )
        return found


def write_summary(summary: DataSummary, path: Path = paths.DATA) -> None:
    files.write_json(path, summary.model_dump())


def read_summary(path: Path = paths.DATA) -> DataSummary:
    """Read metrics/data.json.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return DataSummary.model_validate(files.read_json(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro split`") from None
    except ValidationError as error:
        raise UserError(f"{path} is damaged: delete it and run `dvc repro split`") from error

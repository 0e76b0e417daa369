import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from many_seeds.errors import UserError
from stages.split.stage import READERS
from stages.study.data import KNOWN, PARTS, Contents, Data, read_contents, write_contents
from tests import ROOT

FOLDERS = {"name": "shapes", "format": "folders", "train": "own/shapes"}
ADDRESS = "https://example.org/shapes.zip"


@pytest.mark.parametrize("name", KNOWN)
def test_a_built_in_data_set_needs_its_name_only(name: str) -> None:
    assert Data(name=name).sources == {}


@pytest.mark.parametrize(
    "values",
    [
        FOLDERS,
        {**FOLDERS, "test": "own/other", "classes": ["cat", "dog"]},
        {**FOLDERS, "test_fraction": 0.3, "test_seed": 4},
        {"name": "a", "format": "npz", "train": ADDRESS, "sha256": {"train": "0" * 64}},
        {"name": "a", "format": "idx", "train_images": "own/a", "train_labels": "own/b"},
    ],
)
def test_custom_data_are_valid(values: dict[str, Any]) -> None:
    assert Data.model_validate(values).name == values["name"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "shapes"}, "name should be one of mnist, .* need `format:`"),
        (
            {"name": "mnist", "classes": ["a", "b"]},
            "mnist is a built-in data set, without other fields; received classes",
        ),
        ({**FOLDERS, "name": "mnist"}, "name 'mnist' is the name of a built-in data set"),
        ({"name": "a", "format": "folders"}, "format folders needs train; train missing"),
        ({"name": "a", "format": "idx", "train_images": "own/a"}, "train_labels missing"),
        ({**FOLDERS, "train_images": "own/a"}, "format folders has train, test; received train_images"),
        (
            {"name": "a", "format": "idx", "train_images": "own/a", "train_labels": "own/b", "test_images": "own/c"},
            "a test set of format idx needs test_images and test_labels, or neither",
        ),
        ({**FOLDERS, "train": ADDRESS}, "train is downloaded, so sha256.train must be"),
        ({**FOLDERS, "train": "/home/me/shapes"}, "train should be a path below own/"),
        ({**FOLDERS, "train": "own/../secret"}, "train should be a path below own/"),
        ({**FOLDERS, "train": "shapes"}, "train should be a path below own/"),
        ({**FOLDERS, "train": "ftp://example.org/a"}, "train should be a path below own/"),
        ({**FOLDERS, "train": "own"}, "train should name a file or folder in own/"),
        ({**FOLDERS, "sha256": {"test": "0" * 64}}, "sha256 names test, but the parts are train"),
        ({**FOLDERS, "sha256": {"train": "abc"}}, "sha256.train"),
        ({**FOLDERS, "test": "own/b", "test_fraction": 0.1}, "test_fraction draws a test set where none is given"),
        ({**FOLDERS, "test": "own/b", "test_seed": 0}, "test_seed draws a test set where none is given"),
        ({**FOLDERS, "test_fraction": 1.0}, "test_fraction"),
        ({**FOLDERS, "classes": ["a", "b", "a"]}, "classes must differ from one another, received a more than once"),
        ({**FOLDERS, "classes": ["a"]}, "classes"),
        ({**FOLDERS, "classes": [" a", "b"]}, "classes"),
        ({**FOLDERS, "format": "csv"}, f"format\n.*should be one of {', '.join(PARTS)}"),
        ({**FOLDERS, "colour": True}, "colour"),
    ],
)
def test_the_error_for_an_invalid_data_section_names_the_key(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Data.model_validate(values)


def test_a_format_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "hdf5", (("train",), ("test",)))
    assert Data.model_validate({**FOLDERS, "format": "hdf5"}).sources == {"train": "own/shapes"}
    with pytest.raises(ValidationError, match="Custom data need `format:` beside their name: idx, npz, folders, hdf5"):
        Data.model_validate({"name": "shapes"})


def test_every_format_has_a_reader_and_is_documented() -> None:
    (row,) = re.findall(r"\n\| `format` \| (.*) \|\n", (ROOT / "docs/data.md").read_text(encoding="utf-8"))
    for name in PARTS:
        assert name in READERS
        assert f"`{name}`" in row


def test_the_description_of_data_raw_is_read_as_it_was_written(tmp_path: Path) -> None:
    contents = Contents(format="idx", files={"train": "a"}, sources={"train": "own/ä"}, classes=["ä", "b"])
    write_contents(contents, tmp_path / "contents.json")
    assert read_contents(tmp_path / "contents.json") == contents


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_a_damaged_description_of_data_raw_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "contents.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"contents\.json is .*run `dvc repro`"):
        read_contents(path)


def test_every_example_of_the_docs_is_valid() -> None:
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8").replace("3b1c…", "0" * 64)
    examples = [YAML(typ="safe").load(example) for example in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert {Data.model_validate(example["data"]).format for example in examples} == {None, *PARTS}
    assert {name for name in KNOWN if f"| `{name}` |" in text} == set(KNOWN)

import errno
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.study import files


def test_after_a_failed_write_the_old_file_is_kept_and_no_temporary_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with files.written_whole(path) as unfinished:
            unfinished.write_text("ne")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"table\.csv can't be written: No space left"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_with_its_parent_folders(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "runs" / "test.csv"
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_replaces_the_old_one_with_all_its_files(tmp_path: Path) -> None:
    path = tmp_path / "0"
    files.write_folder(path, {"model.keras": b"old", "notes.txt": b"old"})
    files.write_folder(path, {"model.keras": b"new", "run.json": b"{}"})
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {"model.keras": b"new", "run.json": b"{}"}
    assert list(tmp_path.iterdir()) == [path]


def test_several_may_write_the_same_folder_at_the_same_time(tmp_path: Path) -> None:
    """As two machines that train the same runs in a shared folder."""

    def write(_: int) -> None:
        files.write_folder(tmp_path / "run", {"a": b"a" * 1000, "b": b"b"})

    with ThreadPoolExecutor(4) as writers:
        assert len(list(writers.map(write, range(400)))) == 400
    assert {path.name: path.stat().st_size for path in (tmp_path / "run").iterdir()} == {"a": 1000, "b": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_after_a_failed_write_the_old_folder_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "0"
    files.write_folder(path, {"run.json": b"old"})
    with pytest.raises(UserError, match="0 can't be written"):
        files.write_folder(path, {"run.json": b"new", "no/such/folder": b""})
    assert [(file.name, file.read_bytes()) for file in path.iterdir()] == [("run.json", b"old")]
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = pd.DataFrame({"seed": [0, 1], "loss": [0.0123456789, 1 / 3], "val_loss": [float("nan"), 2.0]})
    path = tmp_path / "curves.csv"
    files.write_table(path, table)
    assert path.read_text() == "seed,loss,val_loss\n0,0.012345679,\n1,0.33333333,2\n"
    again = files.read_table(path, ["seed", "loss", "val_loss"])
    assert files.csv_bytes(again) == path.read_bytes()
    np.testing.assert_allclose(again["loss"], table["loss"], rtol=1e-8)


def test_an_accuracy_over_ten_thousand_images_is_read_exactly(tmp_path: Path) -> None:
    accuracies = np.arange(10_001) / 10_000
    files.write_table(tmp_path / "test.csv", pd.DataFrame({"test_accuracy": accuracies}))
    again = files.read_table(tmp_path / "test.csv", ["test_accuracy"])
    assert (again["test_accuracy"].to_numpy() == accuracies).all()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "is missing"),
        (b"", "is not a CSV file"),
        (b"seed,los\n0,1\n", r"should have the columns \['seed', 'loss'\], received \['seed', 'los'\]"),
        (b'seed,loss\n0,"1\n', "is not a CSV file"),
        (b"\xff\xfe\x00", "is not a CSV file"),
    ],
)
def test_the_error_for_a_damaged_table_names_the_file(content: bytes | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"curves\.csv {expected}"):
        files.read_table(path, ["seed", "loss"])


def test_the_bytes_of_an_array_file_depend_on_the_arrays_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"images": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": np.array([3, 1, 2], np.uint8)}
    files.write_arrays(tmp_path / "now.npz", compressed=False, **arrays)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    files.write_arrays(tmp_path / "later.npz", compressed=False, **arrays)
    assert (tmp_path / "now.npz").read_bytes() == (tmp_path / "later.npz").read_bytes()
    again = files.read_arrays(tmp_path / "now.npz")
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, strict=True)


def test_the_error_for_a_truncated_array_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    files.write_arrays(path, labels=np.arange(100, dtype=np.uint8))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"train\.npz is damaged"):
            files.read_arrays(path)


def test_an_array_file_with_a_changed_byte_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    labels = np.random.default_rng(0).integers(0, 3, 60, dtype=np.uint8)
    files.write_arrays(path, labels=labels)
    content = path.read_bytes()
    odd = []
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x55]) + content[i + 1 :])
        try:
            again = files.read_arrays(path)
        except UserError:
            continue
        except Exception as error:  # noqa: BLE001  # all of them belong into the message below
            odd.append(f"byte {i}: {type(error).__name__}: {error}")
            continue
        if again.keys() == {"labels"} and not np.array_equal(again["labels"], labels):
            odd.append(f"byte {i}: reads other values")
    assert not odd


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([{}], dtype=object))
    (tmp_path / "train.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="is damaged"):
        files.read_arrays(tmp_path / "train.npz")


def test_the_error_for_damaged_json_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for content in (b"", b'{"key": "12', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"run\.json is not valid JSON"):
            files.read_json(path)


def test_a_score_that_is_not_a_number_is_never_written_to_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "summary.json", {"mean": float("nan")})
    assert not (tmp_path / "summary.json").exists()


def test_different_contents_have_different_digests() -> None:
    rows = np.arange(6, dtype=np.uint8).reshape(2, 3)
    contents: list[tuple[str | bytes | np.ndarray, ...]] = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (b"abc", ""),
        (rows,),
        (rows.reshape(3, 2),),
        (rows.astype(np.int64),),
        (rows + 1,),
    ]
    assert len({files.digest(*parts) for parts in contents}) == len(contents)


def test_equal_contents_have_equal_digests() -> None:
    rows = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert files.digest(rows.T.copy()) == files.digest(rows.T)
    assert files.digest("α") == files.digest("α".encode())


def test_only_unknown_entries_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    folder = tmp_path / "models"
    for name in ("0", "7", ".1.half"):
        (folder / name).mkdir(parents=True)
        (folder / name / "run.json").write_text("{}")
    (folder / "stray.txt").write_text("")
    (folder / "link").symlink_to(outside)
    files.remove_unknown(folder, {"0", "1"})
    assert [entry.name for entry in folder.iterdir()] == ["0"]
    assert (folder / "0" / "run.json").exists()
    assert (outside / "precious").exists()


def test_removing_from_a_missing_folder_does_nothing(tmp_path: Path) -> None:
    files.remove_unknown(tmp_path / "models", {"0"})
    assert not list(tmp_path.iterdir())

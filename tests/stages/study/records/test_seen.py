"""The numbers of seeds whose scores were seen."""

from pathlib import Path

import pytest

from many_seeds.errors import UserError
from many_seeds.ledger import pair_identity
from stages.study import paths
from stages.study.provenance.identities import variant_identity
from stages.study.records.seen import Seen, read_seen, record_seen, union
from tests.support.study import study


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_numbers_of_seeds_only_grow() -> None:
    plain, wide = (variant_identity(study().recipe(name), study()) for name in ("plain", "wide"))
    record_seen(study(), {"plain": 10, "wide": 3})
    written = paths.SEEN.stat().st_ino
    record_seen(study(), {"plain": 4})
    assert paths.SEEN.stat().st_ino == written
    record_seen(study(), {"plain": 12, "wide": 1})
    assert read_seen() == {plain: 12, wide: 3}


def test_nothing_was_seen_without_the_file() -> None:
    assert read_seen() == {}


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"a": 1}', '{"a": {"variant": "b"}}', '{"a": {"variant": "b", "seeds": "1"}}']
)
def test_a_damaged_file_is_refused(content: str) -> None:
    paths.SEEN.parent.mkdir()
    paths.SEEN.write_text(content)
    with pytest.raises(UserError, match=r"^metrics/seen\.json should map .*restore it with git"):
        read_seen()


def test_the_larger_number_of_two_branches_counts() -> None:
    one, other = {"x": Seen("a", 3), "y": Seen("b", 5)}, {"y": Seen("b", 4), "z": Seen("c", 1)}
    assert union(one, other) == union(other, one) == {"x": Seen("a", 3), "y": Seen("b", 5), "z": Seen("c", 1)}


def test_the_identity_of_a_comparison_does_not_depend_on_its_direction() -> None:
    assert pair_identity("x", "y", "accuracy") == pair_identity("y", "x", "accuracy")
    assert pair_identity("x", "y", "accuracy") != pair_identity("x", "y", "log_loss")

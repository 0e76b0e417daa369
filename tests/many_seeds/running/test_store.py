"""The file of scores: appended by several processes, and recovered after a kill."""

from pathlib import Path

import pytest

from many_seeds.errors import UserError
from many_seeds.running.runs import Outcome, Run
from many_seeds.running.store import Store
from tests.support.command import verdict


def outcome(**scores: float) -> Outcome:
    return Outcome(scores, 1.5, "here")


HEADER = "variant,seed,score,seconds,host,status,commit\n"
FAILED = Outcome({}, 0.5, "here", "exit status 1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scores.csv"


def test_a_row_for_each_run_is_appended_and_read_again(path: Path) -> None:
    store = Store(path)
    store.add(Run("base", 0), outcome(accuracy=0.5), "abc")
    store.add(Run("a, b", 1), outcome(accuracy=1 / 3), "abc")
    assert path.read_text() == (
        "variant,seed,accuracy,seconds,host,status,commit\n"
        'base,0,0.5,1.500,here,ok,abc\n"a, b",1,0.3333333333333333,1.500,here,ok,abc\n'
    )
    again = Store(path)
    assert again.scores("base", "accuracy").tolist() == [0.5]
    assert again.missing("a, b", 3) == [Run("a, b", 0), Run("a, b", 2)]
    assert again.seeds("a, b") == 2
    assert again.mean_seconds() == {"base": 1.5, "a, b": 1.5}


def test_a_last_line_without_its_end_is_kept_if_it_is_complete(path: Path) -> None:
    store = Store(path)
    store.add(Run("base", 0), outcome(score=1.0), "")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert Store(path).missing("base", 1) == []
    assert path.read_bytes() == whole


@pytest.mark.parametrize("cut", [2, 10, 24])
def test_an_incomplete_last_line_is_removed_and_its_run_is_missing(path: Path, cut: int) -> None:
    store = Store(path)
    for seed in range(3):
        store.add(Run("base", seed), outcome(score=1.0), "")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    store = Store(path)
    assert store.missing("base", 3) == [Run("base", 2)]
    store.add(Run("base", 2), outcome(score=1.0), "")
    assert path.read_bytes() == whole


def test_a_file_that_was_killed_within_its_header_starts_anew(path: Path) -> None:
    path.write_bytes(b"variant,se")
    store = Store(path)
    store.add(Run("base", 0), outcome(score=1.0), "")
    assert Store(path).scores("base", "score").tolist() == [1.0]
    assert path.read_text().startswith("variant,seed,score,")


def test_two_stores_see_the_rows_of_each_other_and_the_first_score_of_a_run_stays(path: Path) -> None:
    one, other = Store(path), Store(path)
    one.add(Run("base", 0), outcome(score=1.0), "")
    other.add(Run("base", 0), outcome(score=2.0), "")
    other.add(Run("base", 1), outcome(score=3.0), "")
    one.refresh()
    assert one.scores("base", "score").tolist() == other.scores("base", "score").tolist() == [1.0, 3.0]


def test_a_failed_run_has_a_row_without_scores_until_it_succeeds(path: Path) -> None:
    one, other = Store(path), Store(path)
    one.add(Run("base", 0), FAILED, "")
    one.add(Run("base", 1), outcome(score=1.0), "")
    other.refresh()
    assert other.failures() == {Run("base", 0): "exit status 1"}
    assert other.scores("base", "score").tolist() == []
    refused = verdict(str(path), "--metric", "score")
    assert "1 row with the status failed have no score: train these runs to the end" in refused.err  # not dropped
    other.add(Run("base", 0), outcome(score=0.5, loss=2.0), "")
    one.refresh()
    assert one.failures() == {}
    assert one.scores("base", "score").tolist() == [0.5, 1.0]
    assert path.read_text().splitlines()[1:] == ["base,0,0.5,2.0,1.500,here,ok,", "base,1,1.0,,1.500,here,ok,"]


def test_a_run_is_claimed_once_until_the_claim_is_released(path: Path) -> None:
    one, other = Store(path), Store(path)
    claim = one.claim(Run("base", 0))
    assert claim is not None
    assert other.claim(Run("base", 0)) is None
    free = other.claim(Run("base", 1))
    assert free is not None
    claim.release()
    again = other.claim(Run("base", 0))
    assert again is not None
    assert one.claim(Run("base", 0)) is None
    free.release()
    again.release()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("variant,seed,score\n", "should be a store, .*; missing: seconds, host, status, commit. Name a file that"),
        (HEADER + "base,x,1,1,h,ok,\n", "received 'base,x,1,1,h,ok,': repair"),
        (HEADER + "base,1\n", "received 'base,1': repair or remove this row"),
        (HEADER + "base,1,1,fast,h,ok,\n", "received 'base,1,1,fast,h,ok,': repair or remove this row"),
        (HEADER + "base,1,1,1,h,ok,\nbase,1,2,1,h,ok,\n", "has two rows of base 1: remove the one"),
    ],
)
def test_another_file_is_refused(path: Path, content: str, expected: str) -> None:
    path.write_text(content)
    with pytest.raises(UserError, match=expected):
        Store(path)


def test_a_score_that_some_runs_lack_is_an_error(path: Path) -> None:
    store = Store(path)
    store.add(Run("base", 0), outcome(score=1.0), "")
    with pytest.raises(UserError, match=r"should have a finite number as accuracy of base 0, received ''"):
        store.scores("base", "accuracy")


def test_a_file_that_a_spreadsheet_has_written_is_read_and_a_score_that_is_not_finite_is_an_error(path: Path) -> None:
    path.write_bytes(("\ufeff" + HEADER + "base,0,0.5,1,h,ok,\nbase,1,nan,1,h,ok,\n").replace("\n", "\r\n").encode())
    store = Store(path)
    assert store.variants() == ["base"]
    with pytest.raises(UserError, match="should have a finite number as score of base 1, received 'nan'"):
        store.scores("base", "score")

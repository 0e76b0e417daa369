"""The stage `ledger`, in folders with and without git."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from many_seeds.errors import UserError
from many_seeds.ledger import Row
from stages.ledger.__main__ import main
from stages.ledger.stage import preview, start_new, update
from stages.study import params, paths
from stages.study.comparisons import find_rows
from stages.study.records.ledger_files import earlier_ledgers, read_ledger
from stages.study.records.seen import read_seen, record_seen
from tests import ROOT
from tests.support.command import run_main
from tests.support.study import STUDY

MORE = "  - {a: wide, b: plain}\n  - {a: plain, b: wider}\n"
EARLIER = paths.COMPARISONS.with_name("comparisons_1.csv")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(message: str = "commit") -> None:
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "--message", message)


def edit(*replacements: tuple[str, str]) -> None:
    """Replace parts of params.yaml."""
    text = params.PARAMS.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    params.PARAMS.write_text(text)


def ask() -> list[Row]:
    """The ledger after the stage has run."""
    return update(params.load())


def table(rows: list[Row]) -> list[tuple[int, str, str, str]]:
    return [(row.batch, row.a, row.b, row.withdrawn) for row in rows]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The synthetic study, without git, as the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    params.PARAMS.write_text(STUDY)
    return tmp_path


@pytest.fixture
def committed(folder: Path) -> Path:
    """The same as a git checkout with the merge drivers of `make setup` and a committed ledger."""
    for name in ("Makefile", ".gitattributes"):
        shutil.copy(ROOT / name, folder)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / ".gitignore").write_text(".venv\n")
    git("init", "--quiet", "--initial-branch", "main")
    for name, value in (("name", "A"), ("email", "a@example.org")):
        git("config", f"user.{name}", value)
    subprocess.run(["make", "merging"], capture_output=True, check=True)
    ask()
    commit()
    return folder


def test_all_comparisons_of_params_yaml_are_entered_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ask()
    assert table(rows) == [(1, "wide", "plain", ""), (1, "wide", "wider", ""), (1, "ridge", "wide", "")]
    assert [row.level for row in rows] == pytest.approx([0.04 / 3] * 3)
    assert {(row.data, row.score, row.margin, row.confidence, row.design, row.from_seed) for row in rows} == {
        ("digits", "accuracy", "0.05", 0.95, "open", 0)
    }
    assert capsys.readouterr().out == "ledger: 3 comparisons entered as batch 1, at level 0.013 each\n"
    written = paths.COMPARISONS.stat().st_ino
    assert ask() == rows == read_ledger()
    assert capsys.readouterr().out == ""
    assert paths.COMPARISONS.stat().st_ino == written


def test_a_preview_writes_nothing(folder: Path) -> None:
    assert len(preview(params.load())) == 3
    assert not paths.COMPARISONS.exists()


def test_a_later_comparison_is_entered_and_a_removed_one_withdrawn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ask()
    edit(("  - {a: wide, b: plain}\n", "  - {a: plain, b: wider}\n"), ("[plain, wide, wider]", "[wide, wider]"))
    capsys.readouterr()
    rows = ask()
    assert table(rows)[0] == (1, "wide", "plain", "yes")
    assert table(rows)[3] == (2, "plain", "wider", "")
    assert [row.level for row in rows] == pytest.approx([0.04 / 3] * 3 + [0.005])
    assert capsys.readouterr().out == (
        "ledger: 1 comparison entered as batch 2, at level 0.005\n"
        "ledger: 1 comparison withdrawn; the level stays in use: wide → plain\n"
    )
    params.PARAMS.write_text(STUDY)
    assert ask()[:3] == before
    assert "1 comparison asked again, at the level of before: wide → plain" in capsys.readouterr().out


def test_a_recipe_that_is_edited_in_place_makes_a_new_comparison_and_withdraws_the_old_one(folder: Path) -> None:
    ask()
    edit(("units: [32]", "units: [64]"))
    assert table(ask()) == [
        (1, "wide", "plain", ""),
        (1, "wide", "wider", "yes"),
        (1, "ridge", "wide", ""),
        (2, "wide", "wider", ""),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [("dev_fraction: 0.2", "dev_fraction: 0.3"), ("data: {name: digits}", "data: {name: kmnist}")],
    ids=["split", "data"],
)
def test_another_split_or_data_set_makes_new_comparisons(folder: Path, old: str, new: str) -> None:
    before = {row.identity for row in ask()}
    edit((old, new))
    rows = ask()
    assert len(rows) == 6
    assert not before & {row.identity for row in rows[3:]}


def test_names_seeds_and_the_way_a_recipe_is_written_make_no_new_comparison(folder: Path) -> None:
    before = ask()
    edit(("wider", "widest"), ("seeds: 12", "seeds: 40"), ("units: [16]", "units: [16], label_smoothing: 0.0"))
    rows = ask()
    assert [(row.identity, row.level, row.withdrawn) for row in rows] == [
        (row.identity, row.level, "") for row in before
    ]
    assert table(rows)[1] == (1, "wide", "widest", "")


def test_a_study_finds_the_rows_of_its_comparisons(folder: Path) -> None:
    rows = ask()
    found = find_rows(params.load(), rows)
    assert list(found) == [("wide", "plain"), ("wide", "wider"), ("ridge", "wide")]
    assert list(found.values()) == rows
    with pytest.raises(UserError, match=r"missing: wide → wider\. `dvc repro ledger` enters them"):
        find_rows(params.load(), [rows[0], rows[2]])


def test_only_later_seeds_count_for_a_comparison_of_two_variants_that_were_seen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask()
    record_seen(params.load(), {"plain": 10, "wider": 12})
    edit(("  - {a: wide, b: plain}\n", MORE), ("[plain, wide, wider]", "[plain, wide, wider, ridge]"))
    rows = ask()
    assert [row.from_seed for row in rows] == [0, 0, 0, 12, 0]  # ridge has no score that was seen
    assert "only later seeds count for plain → wider\n" in capsys.readouterr().out


RACE = "races:\n  units: {variants: [plain, wide]}\n"


def test_a_race_is_one_row_and_with_one_more_variant_another_race(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params.PARAMS.write_text(STUDY + RACE)
    (*_, race) = rows = ask()
    assert (race.kind, race.a, race.b, race.margin) == ("race", "plain wide", "", "0.05")
    assert [row.level for row in rows] == pytest.approx([0.04 / 4] * 4)
    assert "ledger: 3 comparisons and 1 race entered as batch 1, at level 0.01 each" in capsys.readouterr().out
    # The order of the variants and the name of the race do not matter, and the margin is kept, as of a comparison.
    edit(("units: {variants: [plain, wide]}", "widths: {variants: [wide, plain], margin: 0.5}"))
    (*_, same) = ask()
    assert (same.identity, same.level, same.a, same.margin) == (race.identity, race.level, "wide plain", "0.05 0.5")
    edit(("[wide, plain]", "[wide, plain, wider]"))
    capsys.readouterr()
    rows = ask()
    assert [(row.batch, row.a, row.withdrawn) for row in rows if row.kind == "race"] == [
        (1, "wide plain", "yes"),
        (2, "wide plain wider", ""),
    ]
    assert capsys.readouterr().out == (
        "ledger: 1 race entered as batch 2, at level 0.005\n"
        "ledger: 1 race withdrawn; the level stays in use: race of wide/plain by accuracy\n"
    )


def test_a_race_by_another_score_or_of_edited_recipes_is_another_race(folder: Path) -> None:
    params.PARAMS.write_text(STUDY + RACE)
    found = {ask()[-1].identity}
    edit(("[plain, wide]}", "[plain, wide], score: validation_accuracy}"))
    found.add(ask()[-1].identity)
    edit(("units: [16]", "units: [20]"))
    found.add(ask()[-1].identity)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("seen", "first"),
    [({"plain": 10, "wide": 7}, 10), ({"plain": 10, "wide": 7, "wider": 12}, 12), ({"wider": 12}, 0)],
    ids=["two seen", "all seen", "one seen"],
)
def test_only_later_seeds_count_for_a_race_of_variants_of_which_two_were_seen(
    folder: Path, seen: dict[str, int], first: int
) -> None:
    """Of a single variant, no difference was seen."""
    ask()
    record_seen(params.load(), seen)
    params.PARAMS.write_text(STUDY + RACE.replace("wide]", "wide, wider]"))
    assert ask()[-1].from_seed == first


def test_a_new_ledger_has_the_races_of_the_study_with_their_first_seeds(folder: Path) -> None:
    params.PARAMS.write_text(STUDY + RACE)
    ask()
    record_seen(params.load(), {"plain": 10, "wide": 10})
    edit(("confidence: 0.95", "confidence: 0.9"))
    (*_, race) = start_new(params.load())
    assert (race.kind, race.a, race.from_seed) == ("race", "plain wide", 0)


def test_a_report_is_seen_before_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.aggregate import stage
    from stages.study.provenance.identities import variant_identity
    from tests.support import study as synthetic

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    synthetic.write()
    monkeypatch.setattr(stage.page, "sections", stopped)
    with pytest.raises(KeyboardInterrupt):
        stage.aggregate(params.load())
    study = params.load()
    expected = {name: recipe.seeds for name, recipe in study.variants.items()}
    seen = read_seen()
    assert {name: seen[variant_identity(recipe, study)] for name, recipe in study.variants.items()} == expected


def raise_level(row: str) -> str:
    return row.replace(",0.0133", ",0.0134")


@pytest.mark.parametrize("change", [lambda row: "", raise_level], ids=["deleted", "raised"])
def test_a_committed_row_that_was_edited_by_hand_is_refused(committed: Path, change: Callable[[str], str]) -> None:
    lines = paths.COMPARISONS.read_text().splitlines(keepends=True)
    edited = [*lines[:2], change(lines[2]), *lines[3:]]
    assert edited != lines
    paths.COMPARISONS.write_text("".join(edited))
    with pytest.raises(UserError, match=r"wide → wider .*`git checkout HEAD -- metrics/comparisons\.csv` restores"):
        ask()
    assert paths.COMPARISONS.read_text() == "".join(edited)
    git("checkout", "HEAD", "--", "metrics/comparisons.csv")
    assert len(ask()) == 3


@pytest.mark.parametrize("content", [None, b"{}"], ids=["deleted", "emptied"])
def test_seeds_that_were_seen_are_not_forgotten_where_they_are_committed(
    committed: Path, content: bytes | None
) -> None:
    record_seen(params.load(), {"plain": 10, "wide": 10})
    commit()
    if content is None:
        paths.SEEN.unlink()
    else:
        paths.SEEN.write_bytes(content)
    edit(("  - {a: wide, b: plain}\n", MORE))
    with pytest.raises(
        UserError, match=r"lacks seeds of plain, wide: .*`git checkout HEAD -- metrics/seen\.json` rest"
    ):
        ask()
    git("checkout", "HEAD", "--", "metrics/seen.json")
    record_seen(params.load(), {"plain": 11})
    assert ask()


def test_a_deleted_ledger_is_refused_where_it_is_committed(committed: Path) -> None:
    paths.COMPARISONS.unlink()
    with pytest.raises(UserError, match="should have every comparison of the last commit"):
        ask()


def test_the_command_ends_with_the_error(committed: Path) -> None:
    paths.COMPARISONS.unlink()
    done = run_main(main)
    assert done.status == 1
    assert done.err.startswith("error: metrics/comparisons.csv should have every comparison of the last commit")


def test_without_git_or_before_the_first_commit_nothing_is_compared_with_a_commit(folder: Path) -> None:
    ask()
    paths.COMPARISONS.unlink()
    assert len(ask()) == 3
    git("init", "--quiet")
    paths.COMPARISONS.unlink()
    assert len(ask()) == 3


@pytest.mark.parametrize(("old", "new"), [("confidence: 0.95", "confidence: 0.9"), ("design: open", "design: fixed")])
def test_another_confidence_or_design_takes_a_new_ledger_that_keeps_the_former(
    committed: Path, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    former = paths.COMPARISONS.read_bytes()
    record_seen(params.load(), {"plain": 10, "wide": 10, "wider": 12})
    edit((old, new), ("  - {a: wide, b: plain}\n", MORE))
    with pytest.raises(UserError, match=r"start a new ledger with `python -m stages\.ledger --new`"):
        ask()
    rows = start_new(params.load())
    assert earlier_ledgers() == [EARLIER]
    assert EARLIER.read_bytes() == former
    assert "the former ledger is kept as metrics/comparisons_1.csv" in capsys.readouterr().out
    # The comparison that the former ledger lacks is the only one that the scores may have suggested.
    assert [(row.batch, row.a, row.b, row.from_seed) for row in rows] == [
        (1, "wide", "plain", 0), (1, "plain", "wider", 12), (1, "wide", "wider", 0), (1, "ridge", "wide", 0)
    ]  # fmt: skip
    assert sum(row.level for row in rows) == pytest.approx(0.8 * (0.1 if "confidence" in old else 0.05))
    assert ask() == rows
    commit()
    assert ask() == rows


def test_after_a_new_ledger_both_files_are_kept(committed: Path) -> None:
    edit(("confidence: 0.95", "confidence: 0.9"))
    start_new(params.load())
    lines = EARLIER.read_text().splitlines(keepends=True)
    EARLIER.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"metrics/comparisons\.csv should have every"):
        ask()
    EARLIER.write_text("".join(lines))
    ask()
    commit()
    EARLIER.unlink()
    with pytest.raises(UserError, match=r"metrics/comparisons_1\.csv should have every"):
        ask()
    git("checkout", "HEAD", "--", str(EARLIER))
    paths.COMPARISONS.write_bytes(EARLIER.read_bytes())
    with pytest.raises(UserError, match=r"metrics/comparisons\.csv should have every"):
        ask()
    git("checkout", "HEAD", "--", str(paths.COMPARISONS))
    edit(("confidence: 0.9", "confidence: 0.8"))
    start_new(params.load())
    assert [path.name for path in earlier_ledgers()] == ["comparisons_1.csv", "comparisons_2.csv"]


def test_a_new_ledger_keeps_the_rows_of_another_data_set(folder: Path) -> None:
    digits = ask()
    edit(("name: digits", "name: kmnist"))
    ask()
    edit(("confidence: 0.95", "confidence: 0.9"))
    rows = start_new(params.load())
    assert [row for row in rows if row.data == "digits"] == digits
    edit(("name: kmnist", "name: mnist"))
    with pytest.raises(UserError, match="should have comparisons of mnist to start a new ledger, received none"):
        start_new(params.load())


@pytest.fixture
def branches(committed: Path) -> None:
    """Two branches that start from main, each with a comparison of its own, in other lines of params.yaml."""
    for name, replaced, seen in (
        ("one", ("  - {a: wide, b: plain}\n", MORE), {"plain": 10, "wide": 3}),
        ("two", ("[plain, wide, wider]", "[plain, wide, wider, ridge]"), {"plain": 12, "wider": 3}),
    ):
        git("switch", "--quiet", "--create", name, "main")
        edit(replaced)
        ask()
        record_seen(params.load(), seen)
        commit(name)


def test_two_branches_get_the_same_ledger_however_they_are_merged(committed: Path, branches: None) -> None:
    found = list[bytes]()
    for start, arguments in (
        ("one", ["merge", "--quiet", "--no-edit", "two"]),
        ("one", ["rebase", "--quiet", "two"]),  # where the other branch is "ours"
    ):
        git("switch", "--quiet", "--create", f"merged_{len(found)}", start)
        assert "moved to batch 3, at level 0.0017" in git(*arguments)
        rows = read_ledger()
        assert ask() == rows
        assert sorted(read_seen().values()) == [3, 3, 12]
        found.append(paths.COMPARISONS.read_bytes())
    assert len(set(found)) == 1
    assert sorted(row.batch for row in read_ledger()) == [1, 1, 1, 2, 3]
    assert not any(row.withdrawn for row in read_ledger())


def test_races_of_two_branches_are_merged_as_comparisons_are(committed: Path) -> None:
    for name, variants in (("one", "plain, wide"), ("two", "plain, wider")):
        git("switch", "--quiet", "--create", name, "main")
        params.PARAMS.write_text(f"{STUDY}races:\n  {name}: {{variants: [{variants}]}}\n")
        ask()
        params.PARAMS.write_text(STUDY)  # params.yaml is merged by hand
        commit(name)
    git("switch", "--quiet", "one")
    assert re.search(r"1 race \(plain wider?\) moved to batch 3", git("merge", "--quiet", "--no-edit", "two"))
    found = [row for row in read_ledger() if row.kind == "race"]
    assert sorted((row.batch, row.b) for row in found) == [(2, ""), (3, "")]
    assert {row.a for row in found} == {"plain wide", "plain wider"}


def test_a_branch_that_started_a_new_ledger_is_a_conflict(committed: Path, branches: None) -> None:
    git("switch", "--quiet", "--create", "new", "main")
    edit(("confidence: 0.95", "confidence: 0.9"))
    start_new(params.load())
    commit()
    done = subprocess.run(["git", "merge", "--no-edit", "one"], capture_output=True, text=True, check=False)
    assert "so one has started a new ledger" in done.stderr
    assert git("diff", "--name-only", "--diff-filter=U").split() == ["metrics/comparisons.csv"]
    git("checkout", "--ours", "metrics/comparisons.csv")
    assert table(ask())[-1] == (2, "plain", "wider", "")

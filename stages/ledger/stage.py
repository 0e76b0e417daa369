"""Enter the comparisons and races of a study in its ledger, or start a new ledger.

Besides params.yaml, the stage reads its own previous rows, metrics/seen.json, and the rows of the last commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from many_seeds import ledger
from many_seeds.errors import UserError
from many_seeds.ledger import Asked, Row, pair_identity
from many_seeds.output.messages import listed
from stages.study import files, git
from stages.study.comparisons import named_comparisons
from stages.study.params import Params
from stages.study.paths import COMPARISONS
from stages.study.provenance.identities import variant_identity
from stages.study.races import named_races
from stages.study.records.ledger_files import earlier_ledgers, earlier_number, earlier_path, read_ledger
from stages.study.records.seen import check_seen, read_seen

NEW = "`python -m stages.ledger --new`"


def preview(study: Params) -> list[Row]:
    """The ledger with the comparisons that the study asks now; nothing is written.

    Raises:
        UserError: the ledger or seen.json is damaged or was edited, or the ledger has another confidence or design.
    """
    rows = read_ledger()
    check_recorded(rows)
    check_seen()
    statistics = study.statistics
    ledger.check(
        rows,
        data=study.data.name,
        alpha=statistics.alpha,
        design=statistics.design,
        source=str(COMPARISONS),
        new_ledger=NEW,
    )
    return _asked(rows, study, read_seen())


def update(study: Params) -> list[Row]:
    """Enter the comparisons that the study asks now, and print what has changed.

    Args:
        study: the parameters of the study.

    Returns:
        The rows of the ledger, with those of earlier comparisons and of other data sets.

    Raises:
        UserError: the ledger or seen.json is damaged or was edited, or the ledger has another confidence or design.
    """
    before, rows = read_ledger(), preview(study)
    _write(rows)
    for line in describe_changes(before, rows):
        print(line, flush=True)
    return rows


def start_new(study: Params) -> list[Row]:
    """Keep the present ledger as metrics/comparisons_1.csv (or the next free number), and start a new one.

    Rows of other data sets are in both. Comparisons that the former ledger has keep their `from_seed`: they were asked
    before the scores were seen.

    Raises:
        UserError: the ledger or seen.json is damaged or was edited, or the ledger has no row of the study's data set.
    """
    rows, data = read_ledger(), study.data.name
    check_recorded(rows)
    check_seen()
    former = {row.identity: row for row in rows if row.data == data}
    if not former:
        raise UserError(f"{COMPARISONS} should have comparisons of {data} to start a new ledger, received none")
    started = [
        replace(row, from_seed=former[row.identity].from_seed) if row.data == data and row.identity in former else row
        for row in _asked([row for row in rows if row.data != data], study, read_seen())
    ]
    path = earlier_path(1 + max((earlier_number(path) or 0 for path in earlier_ledgers()), default=0))
    files.write_bytes(path, COMPARISONS.read_bytes())
    _write(started)
    print(f"ledger: the former ledger is kept as {path}; commit both files", flush=True)
    for line in describe_changes([], [row for row in started if row.data == data]):
        print(line, flush=True)
    return started


def _asked(rows: Iterable[Row], study: Params, seen: Mapping[str, int]) -> list[Row]:
    statistics = study.statistics
    return ledger.ask(rows, asked(study), seen, data=study.data.name, alpha=statistics.alpha, design=statistics.design)


def asked(study: Params) -> list[Asked]:
    """The comparisons and races that a study asks now."""
    identities = {name: variant_identity(recipe, study) for name, recipe in study.variants.items()}
    found = []
    for named in named_comparisons(study):
        pair, score = (identities[named.a], identities[named.b]), named.score
        found.append(Asked("comparison", named.a, named.b, score, named.margin, pair_identity(*pair, score), pair))
    for race in named_races(study):
        members, names = race.variant_identities(study), " ".join(race.variants)
        found.append(Asked("race", names, "", race.score, race.margin, race.identity(study), members))
    return found


def check_recorded(rows: Sequence[Row]) -> None:
    """Check that the ledger has every row of the last commit, and that no earlier ledger is lost.

    The ledger of the last commit may have become an earlier one. Without git, or before the first commit with a ledger,
    there is nothing to compare with.

    Raises:
        UserError: a row is missing or changed.
    """
    earlier = [path for path in git.committed_files(COMPARISONS.parent) if earlier_number(path)]
    for path in earlier:
        ledger.check_against(read_ledger(path), _recorded(path), str(path))
    recorded = _recorded(COMPARISONS)
    if not any(_has_all(read_ledger(path), recorded) for path in earlier_ledgers() if path not in earlier):
        ledger.check_against(rows, recorded, str(COMPARISONS))


def _recorded(path: Path) -> list[Row]:
    """The rows of a ledger in the last commit."""
    content = git.committed(path) or b""
    return ledger.parse(content.decode(errors="replace"), f"{path} of the last commit")


def _has_all(rows: Iterable[Row], recorded: Iterable[Row]) -> bool:
    try:
        ledger.check_against(rows, recorded, "")
    except UserError:
        return False
    return True


def _write(rows: Iterable[Row]) -> None:
    content = ledger.to_csv(rows).encode()
    if not COMPARISONS.exists() or COMPARISONS.read_bytes() != content:
        files.write_bytes(COMPARISONS, content)


def describe_changes(before: Iterable[Row], after: Sequence[Row]) -> list[str]:
    """Lines about comparisons that were entered, withdrawn, or asked again."""
    old = {(row.data, row.identity): row for row in before}
    lines = []
    entered = [row for row in after if (row.data, row.identity) not in old]
    if entered:
        batch, level = entered[0].batch, entered[0].level
        each = " each" if len(entered) > 1 else ""
        lines.append(f"ledger: {ledger.counted_kinds(entered)} entered as batch {batch}, at level {level:.2g}{each}")
        if late := [row.name for row in entered if row.from_seed]:
            lines.append(
                f"ledger: scores of the variants were seen before, so only later seeds count for {listed(late)}"
            )
    for state, action in (("yes", "withdrawn; the level stays in use"), ("", "asked again, at the level of before")):
        changed = [row for row in after if row.withdrawn == state != _state(old, row)]
        if changed:
            names = listed([row.name for row in changed])
            lines.append(f"ledger: {ledger.counted_kinds(changed)} {action}: {names}")
    return lines


def _state(old: Mapping[tuple[str, str], Row], row: Row) -> str:
    return old.get((row.data, row.identity), row).withdrawn

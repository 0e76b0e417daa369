"""Seeds for what is undecided, and for nothing else."""

import importlib.metadata
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from many_seeds.errors import UserError
from many_seeds.results import Result, ResultVerdict
from stages.study import environments, files, params, paths
from stages.study.params import Params
from stages.study.results import NOT_RECORDED, read_results
from tests.conftest import STUDY
from tools.settle import __main__ as settle
from tools.settle.__main__ import Settling, Step, _until, chosen, runs_of, steps, total
from tools.settle.seeds import with_seeds


def row(a: str, b: str, n: int, projected: int | None, verdict: ResultVerdict = "undecided") -> Result:
    return Result(a, b, n, 0.0, -0.1, 0.1, verdict, projected, None, n, n, paired=True, tied=False)


SECONDS = {"ridge": 1.0, "plain": 2.0, "watched": 10.0}


def test_the_next_step_is_a_quarter_more_seeds_and_trains_what_either_variant_lacks(study: Params) -> None:
    more = params.parse(STUDY.replace("family: network\n    seeds: 2", "family: network\n    seeds: 6"), "more")
    table = [row("plain", "watched", 6, 8), row("ridge", "plain", 2, 6)]
    cheap, dear = steps(table, more, SECONDS, (28, 28), most=8, at_once=1)
    assert cheap == Step(("ridge", "plain"), n=2, more=3, end=6)
    assert (runs_of(cheap.pair, 3, more), runs_of(cheap.pair, 6, more)) == ({"ridge": 1}, {"ridge": 4})  # plain has 6
    assert dear == Step(("plain", "watched"), n=6, more=8, end=8)
    assert total(runs_of(dear.pair, dear.more, more), SECONDS) == 2 * 2.0 + 2 * 10.0
    [wide] = steps(table[1:], study, SECONDS, (28, 28), most=8, at_once=4)
    assert wide.more == 6  # as many as the machine trains at a time


def test_a_comparison_with_a_verdict_or_all_its_seeds_has_no_next_step(study: Params) -> None:
    table = [row("ridge", "plain", 2, 3, verdict="better"), row("plain", "watched", 8, 20)]
    assert steps(table, study, SECONDS, (28, 28), most=8, at_once=1) == []


def test_a_comparison_without_a_projected_verdict_comes_last(study: Params) -> None:
    table = [row("ridge", "plain", 2, 100), row("plain", "watched", 2, 6), row("ridge", "watched", 2, None)]
    first, *_ = steps(table, study, SECONDS, (28, 28), most=8, at_once=1)
    assert first.pair == ("plain", "watched")


def test_where_no_run_says_how_long_one_takes_the_smaller_networks_come_first(study: Params) -> None:
    table = [row("plain", "watched", 2, 6), row("ridge", "plain", 2, 6)]
    longer = params.parse(STUDY.replace("epochs: 3", "epochs: 3000"), "longer")
    first, second = steps(table, longer, {"plain": 2.0}, (28, 28), most=8, at_once=1)
    assert (first.pair, second.pair) == (("ridge", "plain"), ("plain", "watched"))
    assert total(runs_of(first.pair, first.end, longer), {"plain": 2.0}) is None


def test_only_a_question_of_params_yaml_can_be_chosen_either_variant_first(study: Params) -> None:
    assert chosen(study, "plain:watched") == [("plain", "watched")]
    assert chosen(study, " watched: plain ") == [("plain", "watched")]
    with pytest.raises(
        UserError, match=r"(?s)--pairs should be comparisons .* received 'plain:ridge'\. There are\n.*  plain:watched"
    ):
        chosen(study, "plain:ridge")
    with pytest.raises(UserError, match="a comma between two; received ''"):
        chosen(study, "plain:watched,")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """One worker, no MLflow; what DVC is asked to record."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setenv("STUDY_WORKERS", "1")
    monkeypatch.setattr("stages.tracking.publisher.Publisher.publish", lambda *_: 0)
    monkeypatch.setattr(settle, "_dvc", lambda *arguments: asked.append(arguments))
    # As DVC does where the seeds of `watched` were added and nothing else is new.
    monkeypatch.setattr(
        "tools.stale._dvc_status",
        lambda: {"train@watched": [{"changed deps": {"params.yaml": {"variants.watched": "modified"}}}]},
    )
    return asked


def test_seeds_are_added_to_an_undecided_pair_alone_and_what_is_there_is_kept(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    models = {path: path.stat().st_ino for path in paths.MODELS.glob("*/*/model.keras")}
    settle.settle(Settling("plain:watched", most=4), hours=float("inf"))
    study = params.load()
    assert {name: recipe.seeds for name, recipe in study.variants.items()} == {
        **{"ridge": 2, "random_features": 2, "plain": 4, "watched": 4},
    }
    for name, recipe in study.variants.items():
        assert read_results(name).scores["seed"].tolist() == list(range(recipe.seeds))
    assert {path: path.stat().st_ino for path in models} == models
    assert quiet == [("--single-item", "code", "train@watched", "evaluate@watched", "aggregate")]
    said = capsys.readouterr().out
    assert "plain → watched: 2 → 3 seeds, 2 runs" in said
    assert "0 of 1 comparison has a verdict. This call added 4 runs to params.yaml." in said
    assert "undecided: plain → watched, it has the most seeds that it may have, 4 (--most" in said


def test_the_plan_trains_nothing_and_says_what_would_be(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    text = settle.plan(Settling("plain:watched", most=8))
    assert "plain → watched: next 2 → 3 seeds, runs: 1 of plain, 1 of watched" in text
    assert params.PARAMS.read_text() == STUDY
    assert quiet == []


def test_a_plan_without_seeds_to_add_says_what_is_undecided(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    text = settle.plan(Settling("plain:watched", most=2))
    end = "; 1 undecided with the most seeds that they may have (--most, and split.seeds of params.yaml)"
    assert text.endswith(f"0 of 1 comparison has a verdict{end}")


def test_an_edit_while_the_new_seeds_are_written_is_not_overwritten(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settling = Settling("plain:watched", most=8)

    def slow(text: str, wanted: dict[str, int]) -> str:
        params.PARAMS.write_text(STUDY + "# a note\n")
        return with_seeds(text, wanted)

    monkeypatch.setattr(settle, "with_seeds", slow)
    with pytest.raises(UserError, match="was edited while this ran"):
        settling.add_seeds({"plain": 1})
    assert params.PARAMS.read_text().endswith("# a note\n")


def test_no_batch_begins_that_takes_longer_than_the_hours_that_are_left(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    settle.settle(Settling("plain:watched", most=8), hours=1e-9)
    assert params.PARAMS.read_text() == STUDY
    assert "undecided: plain → watched, the hours are spent" in capsys.readouterr().out


def test_an_edit_by_somebody_else_is_not_overwritten(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    settling = Settling("plain:watched", most=8)
    params.PARAMS.write_text(STUDY + "# a note\n")
    with pytest.raises(UserError, match="was edited while this ran"):
        settling.add_seeds({"plain": 1})
    assert params.PARAMS.read_text().endswith("# a note\n")


def test_params_yaml_stays_the_link_that_it_is_and_readable_by_whom_it_was(
    evaluated: Path, quiet: list[tuple[str, ...]]
) -> None:
    own = params.PARAMS.rename("elsewhere.yaml")
    own.chmod(0o640)
    params.PARAMS.symlink_to(own)
    Settling("plain:watched", most=8).add_seeds({"plain": 1})
    assert params.PARAMS.is_symlink()
    assert own.stat().st_mode & 0o777 == 0o640
    assert params.load().recipe("plain").seeds == 3


def test_seeds_that_others_lack_keep_no_question_from_being_settled_and_the_report_waits_for_them(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    params.PARAMS.write_text(STUDY.replace("ridge: {family: ridge, seeds: 2", "ridge: {family: ridge, seeds: 3"))
    settle.settle(Settling("plain:watched", most=3), hours=float("inf"))
    assert quiet == [("--single-item", "code", "train@watched", "evaluate@watched")]
    assert "The report is not made: seeds that params.yaml names are missing of ridge." in capsys.readouterr().out


def test_a_plan_names_what_lacks_seeds_first(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    Settling("plain:watched", most=8).add_seeds({"plain": 1})
    assert "Seeds that params.yaml names are missing of plain, or" in settle.plan(Settling(None, most=8))


@pytest.mark.parametrize("damaged", ["", "seed,key\n0,a\n", 'seed,"key\n'])
def test_a_damaged_table_of_scores_is_named_and_nothing_is_trained_in_its_place(
    damaged: str, evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_REUSE", "1")
    shutil.rmtree(paths.MODELS / "plain")
    path = paths.scores_path("plain")
    path.write_text(damaged)
    settling = Settling("plain:watched", most=3)
    for ask in (lambda: settle.plan(settling), lambda: settle.settle(settling, hours=1.0)):
        with pytest.raises(UserError, match=f"{path} (is not a CSV file|should have the columns)"):
            ask()
    assert not (paths.MODELS / "plain").exists()
    assert path.read_text() == damaged


def refused_by_settle(monkeypatch: pytest.MonkeyPatch, pairs: str) -> str:
    """What settle says when it adds no seed."""
    monkeypatch.setattr("sys.argv", ["settle", "--pairs", pairs])
    with pytest.raises(SystemExit) as ended:
        settle.main()
    return str(ended.value.code)


def test_seeds_are_added_to_no_results_of_other_packages(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version
    kept = version("keras")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "keras" else version(name))
    for text in (settle.plan(Settling("plain:watched", most=8)), refused_by_settle(monkeypatch, "plain:watched")):
        assert f"plain, watched: trained in another environment than this one (keras {kept} → 9.9)" in text
        assert "make certify" in text
        assert "make setup" in text
    assert params.PARAMS.read_text() == STUDY
    assert quiet == []


@pytest.mark.parametrize(
    ("recorded", "said"), [("Y; no bfloat16", "was made on Y; no bfloat16"), (NOT_RECORDED, "not recorded")]
)
def test_seeds_in_bfloat16_are_added_on_the_kind_of_processor_of_the_others_alone(
    recorded: str, said: str, evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = STUDY.replace("precision: float32", "precision: mixed_bfloat16")
    params.PARAMS.write_text(half)
    monkeypatch.setattr(environments, "processor", lambda: "X; amx_bf16 avx512_bf16")
    table = read_results("plain").environments
    files.write_table(paths.environments_path("plain"), table.assign(processor=recorded))
    files.write_table(paths.environments_path("watched"), table.assign(processor="X2; amx_bf16 avx512_bf16"))
    for text in (settle.plan(Settling("plain:watched", most=8)), refused_by_settle(monkeypatch, "plain:watched")):
        assert "plain computes in bfloat16" in text
        assert said in text
        assert "X; amx_bf16 avx512_bf16" in text
        assert "watched computes" not in text
    assert params.PARAMS.read_text() == half
    assert quiet == []


def test_a_plan_takes_no_hours(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["settle", "--plan", "--hours", "1"])
    with pytest.raises(SystemExit, match="2"):
        settle.main()


def test_what_a_step_takes_is_said_where_it_is_longer_than_the_hours(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "seconds_of_runs", lambda _: {"plain": 9000.0, "watched": 9000.0})
    settle.settle(Settling("plain:watched", most=8), hours=2)
    assert (
        "undecided: plain → watched, its next 2 runs take 5.0 hours, and 2.0 hours are left" in capsys.readouterr().out
    )


def test_a_plan_says_how_long_the_most_seeds_take_where_they_will_not_do() -> None:
    result = row("plain", "watched", 10, 28)
    assert _until(result, 12, 7200.0, 7260.0) == (
        "2.0 hours to 12 seeds, the most that it may have, 2.0 hours with those above; a verdict is projected at 28"
    )
    assert _until(result, 28, 90.0, None) == "verdict projected at 28 seeds, after 1.5 minutes"


def test_an_edit_after_the_last_look_is_not_taken_for_what_was_looked_at(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settling = Settling("plain:watched", most=2)
    params.PARAMS.write_text(STUDY + "# a note\n")
    with pytest.raises(UserError, match="was edited while this ran"):
        settle.settle(settling, hours=1.0)
    assert quiet == []


def test_seeds_that_can_not_be_edited_are_refused_before_anything_is_trained(evaluated: Path) -> None:
    params.PARAMS.write_text(STUDY.replace("family: network\n    seeds: 2", "family: network\n    seeds: 0x2"))
    with pytest.raises(UserError, match="write it so by hand"):
        Settling(None, most=8)


def test_a_study_that_asks_nothing_is_refused(evaluated: Path) -> None:
    asks_nothing = re.sub(
        "(?s)approaches:.*(?=statistics:)", "approaches: {MLP: plain}\ncomparisons: []\nchains: {}\n", STUDY
    )
    params.PARAMS.write_text(asks_nothing)
    with pytest.raises(UserError, match="names no comparison: name two variants"):
        Settling(None, most=8)


def test_results_of_another_recipe_have_no_plan(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    recipe = params.load().recipe("watched").model_dump(mode="json")
    lock = {"stages": {"train@watched": {"params": {"params.yaml": {"variants.watched": {**recipe, "epochs": 1}}}}}}
    Path("dvc.lock").write_text(json.dumps(lock))
    assert "are missing of watched, or are of another recipe" in settle.plan(Settling("plain:watched", most=8))


@pytest.mark.parametrize("stage", ["fetch", "split"])
def test_images_that_are_not_those_of_params_yaml_are_made_first(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    changed = {stage: [{"changed deps": {"params.yaml": {stage: "modified"}}}]}
    monkeypatch.setattr("tools.stale._dvc_status", lambda: changed)
    assert "`dvc repro split` first" in settle.plan(Settling("plain:watched", most=2))
    monkeypatch.setattr(settle, "settle", lambda *_: quiet.append(("settled",)))
    monkeypatch.setattr(sys, "argv", ["settle", "--pairs", "plain:watched"])
    monkeypatch.setattr("os.environ", dict(os.environ))  # which it sets for all that it runs
    settle.main()
    assert quiet == [("split",), ("settled",)]


def test_a_study_whose_number_of_seeds_was_fixed_before_is_refused(evaluated: Path) -> None:
    params.PARAMS.write_text(STUDY.replace("design: open", "design: fixed"))
    with pytest.raises(UserError, match="design is fixed"):
        Settling(None, most=8)


def test_without_dvc_it_says_what_to_install_before_it_trains(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(evaluated)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["settle"])
    with pytest.raises(SystemExit, match=r"this needs DVC, expected as .*: install this project with its extra"):
        settle.main()

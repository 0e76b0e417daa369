"""Seeds are added to undecided comparisons, and to no others."""

import importlib.metadata
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from many_seeds.errors import UserError
from many_seeds.growth import Step, missing_runs, total_seconds
from many_seeds.results import Result, ResultVerdict
from stages.aggregate.stage import aggregate
from stages.study import files, params, paths
from stages.study.comparisons import find_rows
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.records.ledger_files import read_ledger
from stages.study.records.results import NOT_RECORDED, read_results
from stages.study.records.seen import read_seen
from tests.conftest import STUDY
from tools.alone import alone
from tools.settle import __main__ as command
from tools.settle import loop
from tools.settle import study as growing_study
from tools.settle.loop import settle
from tools.settle.plan import Durations, plan, rows
from tools.settle.report import why_not_trained
from tools.settle.seeds import with_seeds
from tools.settle.steps import next_steps, seeds_of, select
from tools.settle.study import GrowingStudy


def row(a: str, b: str, n: int, projected: int | None, verdict: ResultVerdict = "undecided") -> Result:
    return Result(a, b, n, 0.0, -0.1, 0.1, verdict, projected, None, n, n, paired=True, tied=False, level=0.05)


SECONDS = {"ridge": 1.0, "plain": 2.0, "watched": 10.0}


def test_the_next_step_is_a_quarter_more_seeds_with_the_missing_runs_of_both_variants(study: Params) -> None:
    more = params.parse(STUDY.replace("family: network\n    seeds: 2", "family: network\n    seeds: 6"), "more")
    table = [row("plain", "watched", 6, 8), row("ridge", "plain", 2, 6)]
    cheap, dear = next_steps(table, more, SECONDS, (28, 28), most=8, at_once=1)
    assert cheap == Step("ridge → plain", ("ridge", "plain"), n=2, next_n=3, final_n=6)
    assert (cheap.next_runs(seeds_of(more)), cheap.all_runs(seeds_of(more))) == (
        {"ridge": 1},
        {"ridge": 4},
    )  # plain has 6
    assert missing_runs({"ridge": 3, "plain": 7, "watched": 6}, seeds_of(more)) == {"ridge": 1, "plain": 1}
    assert dear == Step("plain → watched", ("plain", "watched"), n=6, next_n=8, final_n=8)
    assert total_seconds(dear.next_runs(seeds_of(more)), SECONDS) == 2 * 2.0 + 2 * 10.0
    [wide] = next_steps(table[1:], study, SECONDS, (28, 28), most=8, at_once=4)
    assert wide.next_n == 6  # as many as the machine trains at a time


def test_a_comparison_with_a_verdict_or_the_maximum_number_of_seeds_has_no_next_step(study: Params) -> None:
    table = [row("ridge", "plain", 2, 3, verdict="better"), row("plain", "watched", 8, 20)]
    assert next_steps(table, study, SECONDS, (28, 28), most=8, at_once=1) == []


def test_a_comparison_without_a_projected_verdict_comes_last(study: Params) -> None:
    table = [row("ridge", "plain", 2, 100), row("plain", "watched", 2, 6), row("ridge", "watched", 2, None)]
    first, *_ = next_steps(table, study, SECONDS, (28, 28), most=8, at_once=1)
    assert first.variants == ("plain", "watched")


def test_smaller_networks_come_first_if_the_duration_of_runs_is_unknown(study: Params) -> None:
    table = [row("plain", "watched", 2, 6), row("ridge", "plain", 2, 6)]
    longer = params.parse(STUDY.replace("epochs: 3", "epochs: 3000"), "longer")
    first, second = next_steps(table, longer, {"plain": 2.0}, (28, 28), most=8, at_once=1)
    assert (first.variants, second.variants) == (("ridge", "plain"), ("plain", "watched"))
    assert total_seconds(first.all_runs(seeds_of(longer)), {"plain": 2.0}) is None


def test_only_comparisons_of_params_yaml_can_be_selected_in_either_order(study: Params) -> None:
    assert select(study, "plain:watched") == ([("plain", "watched")], [])
    assert select(study, " watched: plain ") == ([("plain", "watched")], [])
    with pytest.raises(
        UserError,
        match=r"(?s)--pairs should be comparisons .* received 'plain:ridge'\. The comparisons are\n.*  plain:watched",
    ):
        select(study, "plain:ridge")
    with pytest.raises(UserError, match="with commas between; received ''"):
        select(study, "plain:watched,")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """One worker and no MLflow; the arguments of `dvc repro`."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setenv("STUDY_WORKERS", "1")
    monkeypatch.setattr("stages.tracking.publisher.Publisher.publish", lambda *_: 0)
    monkeypatch.setattr(growing_study, "repro", lambda *arguments: calls.append(arguments))
    # As after seeds of `watched` were added.
    monkeypatch.setattr(
        "tools.stale._dvc_status",
        lambda *_: {"train@watched": [{"changed deps": {"params.yaml": {"variants.watched": "modified"}}}]},
    )
    return calls


def test_seeds_are_added_to_an_undecided_pair_alone_and_earlier_runs_are_kept(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    models = {path: path.stat().st_ino for path in paths.MODELS.glob("*/*/model.keras")}
    settle(GrowingStudy("plain:watched", most=4), hours=float("inf"))
    study = params.load()
    assert {name: recipe.seeds for name, recipe in study.variants.items()} == {
        "ridge": 2,
        "random_features": 2,
        "plain": 4,
        "watched": 4,
    }
    for name, recipe in study.variants.items():
        assert read_results(name).scores["seed"].tolist() == list(range(recipe.seeds))
    assert {path: path.stat().st_ino for path in models} == models
    assert quiet == [("--single-item", "code", "ledger", "train@watched", "evaluate@watched", "aggregate")]
    output = capsys.readouterr().out
    assert output.startswith("ledger: ")
    assert find_rows(study, read_ledger())["plain", "watched"].from_seed == 0
    assert list(read_seen().values()) == [4, 4]
    assert "plain → watched: 2 → 3 seeds, 2 runs" in output
    assert "0 of 1 comparison has a verdict. This call added 4 runs to params.yaml." in output
    assert "undecided: plain → watched: it has the maximum of 4 seeds (--most" in output


def test_a_second_process_that_would_add_seeds_is_refused(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with alone("settle"):
        error = error_of_command(monkeypatch, "plain:watched")
    assert "another `make settle` is running in this folder" in error
    assert params.PARAMS.read_text() == STUDY
    assert quiet == []


ELM = "{family: ridge, seeds: 5, grid_powers: [-14, 8], tolerance: 8.0, weight_sd: 0.2, hidden_units"
# Five seeds are enough for a verdict at this low confidence.
RACE = f"""\
data: {{name: digits}}
split: {{dev_fraction: 0.2, seeds: 8}}
variants:
  tiny: {ELM}: 40}}
  narrow: {ELM}: 120}}
  wide: {ELM}: 124}}
approaches: {{ELM: narrow}}
comparisons:
chains:
races:
  width: {{variants: [tiny, narrow, wide], score: validation_accuracy, margin: 0.2}}
statistics: {{confidence: 0.5, equivalence_margin: 0.05, reproduction_margin: 0.1, design: open}}
"""


@pytest.mark.usefixtures("workspace", "tensorflow_ready")
def test_a_clearly_worse_variant_of_a_race_is_eliminated_and_gets_no_more_seeds(
    quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    params.PARAMS.write_text(RACE)
    settle(GrowingStudy("width", most=5), hours=float("inf"))
    output = capsys.readouterr().out
    assert "ledger: 1 race entered as batch 1, at level 0.4\n" in output
    assert "width: which is best, by validation accuracy, margin 0.2 percentage points\n" in output
    assert re.search(r"^tiny +eliminated after [45] seeds by (narrow|wide) +[\d.]+ % +5$", output, re.MULTILINE)
    assert "0 of 1 race has ended. This call added 0 runs to params.yaml." in output
    assert "not ended: width: it has the maximum of 5 seeds (--most" in output
    text = plan(GrowingStudy(None, most=6))
    assert re.search(r"^width +5 → 6 +2 +\S+ \w+ +\S+ +\S+ \w+ +\S+ \w+$", text, re.MULTILINE)
    assert "At most 6 seeds are trained (--most and split.seeds of params.yaml)" in text
    settle(GrowingStudy("width", most=6), hours=float("inf"))
    study = params.load()
    assert {name: recipe.seeds for name, recipe in study.variants.items()} == {"tiny": 5, "narrow": 6, "wide": 6}
    output = capsys.readouterr().out
    assert "width: 5 → 6 seeds, 2 runs" in output
    assert "17 runs in total; with the same number of seeds for all 3 variants it would be 18." in output
    assert sorted(read_seen().values()) == [5, 6, 6]
    aggregate(study)
    assert '<section id="races">' in paths.REPORT.read_text()
    assert (paths.TABLES / "race_width.csv").read_text().startswith("variant,mean,seeds,state,eliminated_after")


def test_a_race_is_selected_by_its_name() -> None:
    study = params.parse(RACE.replace("comparisons:", "comparisons:\n  - {a: tiny, b: wide}"), "params.yaml")
    pairs, races = select(study, "wide:tiny, width")
    assert (pairs, [race.name for race in races]) == ([("tiny", "wide")], ["width"])
    assert select(study, None) == (pairs, races)
    assert select(study, "width") == ([], races)
    with pytest.raises(UserError, match=r"(?s)or names of races, .* received 'depth'\. .*  tiny:wide\n  width, a race"):
        select(study, "width,depth")


BY_LOSS = STUDY.replace("{a: plain, b: watched}", "{a: plain, b: watched, score: log_loss, margin: 0.01}")


def test_a_pair_by_two_scores_gets_one_batch_of_seeds_and_a_table_for_each_score(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    params.PARAMS.write_text(BY_LOSS)  # the chain compares it by accuracy
    growing = GrowingStudy("plain:watched", most=3)
    by_loss, by_accuracy = growing.look().groups
    table = read_results("plain").scores, read_results("watched").scores
    assert by_loss[0].difference == pytest.approx((table[1]["test_loss"] - table[0]["test_loss"]).mean())
    assert (by_loss.unit, by_accuracy.unit) == ("nats", "percentage points")
    settle(growing, hours=float("inf"))
    output = capsys.readouterr().out
    assert output.count("plain → watched: 2 → 3 seeds, 2 runs") == 1
    assert output.count("log loss,") == output.count("test accuracy,") == 2
    assert "0 of 2 comparisons have a verdict. This call added 2 runs to params.yaml." in output
    assert "undecided: plain → watched, by log loss: it has the maximum of 3 seeds" in output
    assert "undecided: plain → watched, by test accuracy: it has the maximum of 3 seeds" in output


def test_of_two_scores_the_one_that_needs_more_seeds_decides_the_next_step(study: Params) -> None:
    table = [row("plain", "watched", 2, 4), row("plain", "watched", 2, 7), row("plain", "watched", 2, 3, "better")]
    [step] = next_steps(table, study, SECONDS, (28, 28), most=8, at_once=1)
    assert step == Step("plain → watched", ("plain", "watched"), n=2, next_n=3, final_n=7)


def test_a_plan_lists_the_runs_with_their_time_and_trains_nothing(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = plan(GrowingStudy("plain:watched", most=8))
    assert re.search(r"^plain → watched\n  2 → 3 +2 +\S+ \w+ +\S+ +\S+ \w+", text, re.MULTILINE)
    assert "≈" not in text
    shutil.rmtree(paths.MODELS / "watched")
    paths.TRAIN.unlink()  # as in a clone without data and models
    elsewhere = plan(GrowingStudy("plain:watched", most=8))
    assert re.search(r"^  2 → 3 +2 +≈\S+ \w+ ", elsewhere, re.MULTILINE)
    assert "≈: very roughly, estimated from the recipe and the speed of this machine" in elsewhere
    assert params.PARAMS.read_text() == STUDY
    assert not paths.COMPARISONS.exists()
    assert not paths.SEEN.exists()
    assert quiet == []


def test_a_plan_without_seeds_to_add_counts_the_undecided_comparisons(
    evaluated: Path, quiet: list[tuple[str, ...]]
) -> None:
    text = plan(GrowingStudy("plain:watched", most=2))
    end = "; 1 undecided with the maximum number of seeds (--most and split.seeds of params.yaml)"
    assert text.endswith(f"0 of 1 comparison has a verdict{end}")


def test_an_edit_while_the_new_seeds_are_written_is_not_overwritten(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = GrowingStudy("plain:watched", most=8)

    def slow(text: str, wanted: dict[str, int]) -> str:
        params.PARAMS.write_text(STUDY + "# a note\n")
        return with_seeds(text, wanted)

    monkeypatch.setattr(growing_study, "with_seeds", slow)
    with pytest.raises(UserError, match="was edited during this command"):
        growing.add_seeds({"plain": 1})
    assert params.PARAMS.read_text().endswith("# a note\n")


def test_no_batch_starts_that_takes_longer_than_the_time_that_is_left(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(GrowingStudy("plain:watched", most=8), hours=1e-9)
    assert params.PARAMS.read_text() == STUDY
    assert "undecided: plain → watched: the time of --hours is used up" in capsys.readouterr().out


def test_an_edit_of_params_yaml_is_not_overwritten(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    growing = GrowingStudy("plain:watched", most=8)
    params.PARAMS.write_text(STUDY + "# a note\n")
    with pytest.raises(UserError, match="was edited during this command"):
        growing.add_seeds({"plain": 1})
    assert params.PARAMS.read_text().endswith("# a note\n")


def test_params_yaml_stays_a_link_with_its_permissions(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    target = params.PARAMS.rename("elsewhere.yaml")
    target.chmod(0o640)
    params.PARAMS.symlink_to(target)
    GrowingStudy("plain:watched", most=8).add_seeds({"plain": 1})
    assert params.PARAMS.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert params.load().recipe("plain").seeds == 3


def test_missing_seeds_of_other_variants_delay_the_report_alone(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    params.PARAMS.write_text(STUDY.replace("ridge: {family: ridge, seeds: 2", "ridge: {family: ridge, seeds: 3"))
    settle(GrowingStudy("plain:watched", most=3), hours=float("inf"))
    assert quiet == [("--single-item", "code", "ledger", "train@watched", "evaluate@watched")]
    assert "The report was not made: seeds of params.yaml are missing for ridge." in capsys.readouterr().out


def test_a_plan_names_variants_with_missing_seeds(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    GrowingStudy("plain:watched", most=8).add_seeds({"plain": 1})
    assert "Results are missing, or of other parameters or data: plain." in plan(GrowingStudy(None, most=8))


@pytest.mark.parametrize("damaged", ["", "seed,key\n0,a\n", 'seed,"key\n'])
def test_a_damaged_table_of_scores_is_an_error_and_nothing_is_trained_in_its_place(
    damaged: str, evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_REUSE", "1")
    shutil.rmtree(paths.MODELS / "plain")
    path = paths.scores_path("plain")
    path.write_text(damaged)
    growing = GrowingStudy("plain:watched", most=3)
    for ask in (lambda: plan(growing), lambda: settle(growing, hours=1.0)):
        with pytest.raises(UserError, match=f"{path} (is not a CSV file|should have the columns)"):
            ask()
    assert not (paths.MODELS / "plain").exists()
    assert path.read_text() == damaged


def error_of_command(monkeypatch: pytest.MonkeyPatch, pairs: str) -> str:
    """The error with which the command ends."""
    monkeypatch.setattr("sys.argv", ["settle", "--pairs", pairs])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return str(ended.value.code)


def test_no_seeds_are_added_to_results_of_other_packages(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version
    kept = version("keras")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "keras" else version(name))
    for text in (plan(GrowingStudy("plain:watched", most=8)), error_of_command(monkeypatch, "plain:watched")):
        assert f"plain, watched: trained in another environment than this one (keras {kept} → 9.9)" in text
        assert "make certify" in text
        assert "make setup" in text
    assert params.PARAMS.read_text() == STUDY
    assert quiet == []


@pytest.mark.parametrize(
    ("recorded", "expected"), [("Y; no bfloat16", "was made on Y; no bfloat16"), (NOT_RECORDED, "not recorded")]
)
def test_seeds_in_bfloat16_are_added_on_the_recorded_kind_of_processor_only(
    recorded: str, expected: str, evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = STUDY.replace("precision: float32", "precision: mixed_bfloat16")
    params.PARAMS.write_text(half)
    monkeypatch.setattr(environments, "processor", lambda: "X; amx_bf16 avx512_bf16")
    table = read_results("plain").environments
    files.write_table(paths.environments_path("plain"), table.assign(processor=recorded))
    files.write_table(paths.environments_path("watched"), table.assign(processor="X2; amx_bf16 avx512_bf16"))
    for text in (plan(GrowingStudy("plain:watched", most=8)), error_of_command(monkeypatch, "plain:watched")):
        assert "plain computes in bfloat16" in text
        assert expected in text
        assert "X; amx_bf16 avx512_bf16" in text
        assert "watched computes" not in text
    assert params.PARAMS.read_text() == half
    assert quiet == []


def test_comparisons_that_need_runs_of_another_processor_are_left_out_and_the_others_get_seeds(
    evaluated: Path,
    quiet: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = STUDY.replace("comparisons:", "comparisons:\n  - {a: ridge, b: watched}")
    params.PARAMS.write_text(both.replace("precision: float32", "precision: mixed_bfloat16", 1))
    monkeypatch.setattr(environments, "processor", lambda: "X; amx_bf16 avx512_bf16")
    monkeypatch.setattr(growing_study, "outdated", lambda _: [])

    def made_on(variant: str, processor: str) -> None:
        table = read_results(variant).environments
        files.write_table(paths.environments_path(variant), table.assign(processor=processor))

    made_on("plain", "Y; no bfloat16")
    made_on("watched", "X2; amx_bf16 avx512_bf16")
    text = plan(GrowingStudy(None, most=3))
    assert re.search(r"^ridge → watched +2 → 3 +2 ", text, re.MULTILINE)
    assert not re.search("^plain → watched", text, re.MULTILINE)
    assert "Left out: plain computes in bfloat16, whose bits depend on the kind of processor." in text
    monkeypatch.setattr("sys.argv", ["settle", "--most", "3"])
    monkeypatch.setattr(command, "ENVIRONMENT", {})
    command.main()
    output = capsys.readouterr().out
    assert "left out: plain computes in bfloat16" in output
    assert "undecided: plain → watched: this machine should add no run to plain" in output
    assert {name: recipe.seeds for name, recipe in params.load().variants.items()} == {
        "ridge": 3,
        "random_features": 2,
        "plain": 2,
        "watched": 3,
    }
    made_on("plain", "Y; no bfloat16")  # its models, which were made here, were evaluated again
    text = plan(GrowingStudy(None, most=3))
    assert text.startswith("0 of 2 comparisons have a verdict; 1 undecided with the maximum number of seeds")
    assert "\n\nLeft out: plain computes in bfloat16" in text


def test_a_plan_has_no_time_budget(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["settle", "--plan", "--hours", "1"])
    with pytest.raises(SystemExit, match="2"):
        command.main()


@pytest.mark.usefixtures("tensorflow_ready")
def test_batched_seeds_leave_the_backend_of_the_evaluation_as_it_is(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_EXECUTOR", "lanes")  # on the processor, where no GPU is
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    GrowingStudy("plain:watched", most=3).finish_runs(["plain"])
    facts = files.read_json(paths.run_path("plain", 1) / "run.json")
    assert facts["backend"] == "jax"
    assert "KERAS_BACKEND" not in os.environ
    table = read_results("plain").environments
    assert all("tensorflow=" in text for text in table["evaluation"])
    assert all("jax=" in text for text in table["environment"])


def test_a_step_that_takes_longer_than_the_time_budget_is_explained(
    evaluated: Path, quiet: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "mean_seconds", lambda _: {"plain": 9000.0, "watched": 9000.0})
    settle(GrowingStudy("plain:watched", most=8), hours=2)
    assert (
        "undecided: plain → watched: its next 2 runs take 5.0 hours, and 2.0 hours are left" in capsys.readouterr().out
    )


def test_a_plan_has_the_duration_until_the_projected_verdict_or_the_maximum_number_of_seeds() -> None:
    unfinished = {"a → b": row("a", "b", 10, 28), "b → c": row("b", "c", 10, 12)}
    steps = [Step("b → c", ("b", "c"), 10, 12, final_n=12), Step("a → b", ("a", "b"), 10, 13, final_n=20)]
    durations = Durations({"a": 60.0, "b": 60.0, "c": 3600.0}, measured={"a", "b"}, at_once=2)
    assert list(rows(steps, unfinished, dict.fromkeys("abc", 10), durations)) == [
        ["b → c", "10 → 12", "4", "≈1.0 hours", "12", "≈1.0 hours", "≈1.0 hours"],
        ["a → b", "10 → 13", "6", "3.0 minutes", "28", "10.0 minutes", "≈1.2 hours"],
    ]


def test_results_are_not_recorded_after_an_edit_of_params_yaml(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = GrowingStudy("plain:watched", most=2)
    params.PARAMS.write_text(STUDY + "# a note\n")
    with pytest.raises(UserError, match="was edited during this command"):
        settle(growing, hours=1.0)
    assert quiet == []


def test_seeds_that_can_not_be_edited_are_an_error_before_anything_is_trained(evaluated: Path) -> None:
    params.PARAMS.write_text(STUDY.replace("family: network\n    seeds: 2", "family: network\n    seeds: 0x2"))
    with pytest.raises(UserError, match="edit it by hand"):
        GrowingStudy(None, most=8)


def test_a_study_without_comparisons_is_an_error(evaluated: Path) -> None:
    without_comparisons = re.sub(
        "(?s)approaches:.*(?=statistics:)", "approaches: {MLP: plain}\ncomparisons: []\nchains: {}\n", STUDY
    )
    params.PARAMS.write_text(without_comparisons)
    with pytest.raises(UserError, match="has no comparison and no race: name two variants"):
        GrowingStudy(None, most=8)


def test_results_of_another_recipe_have_no_plan(evaluated: Path, quiet: list[tuple[str, ...]]) -> None:
    recipe = params.load().recipe("watched").model_dump(mode="json")
    lock = {"stages": {"train@watched": {"params": {"params.yaml": {"variants.watched": {**recipe, "epochs": 1}}}}}}
    Path("dvc.lock").write_text(json.dumps(lock))
    assert "or of other parameters or data: watched." in plan(GrowingStudy("plain:watched", most=8))


@pytest.mark.parametrize("stage", ["fetch", "split"])
def test_stale_data_are_made_first(
    evaluated: Path, quiet: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    changed = {stage: [{"changed deps": {"params.yaml": {stage: "modified"}}}]}
    monkeypatch.setattr("tools.stale._dvc_status", lambda *_: changed)
    assert "run `dvc repro split` before --plan" in plan(GrowingStudy("plain:watched", most=2))
    scores = paths.scores_path("plain")
    recorded = scores.read_bytes()
    scores.write_text("damaged")  # perhaps because of the data: these come first
    assert "run `dvc repro split` before --plan" in plan(GrowingStudy("plain:watched", most=2))
    scores.write_bytes(recorded)
    monkeypatch.setattr(command, "settle", lambda *_: quiet.append(("settled",)))
    monkeypatch.setattr(sys, "argv", ["settle", "--pairs", "plain:watched"])
    monkeypatch.setattr("os.environ", dict(os.environ))  # the command sets variables in it
    command.main()
    assert quiet == [("split",), ("settled",)]


def test_a_study_of_the_fixed_design_is_an_error(evaluated: Path) -> None:
    params.PARAMS.write_text(STUDY.replace("design: open", "design: fixed"))
    with pytest.raises(UserError, match="should be open to add seeds, received fixed"):
        GrowingStudy(None, most=8)


def test_without_dvc_the_command_ends_before_it_trains(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(evaluated)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["settle"])
    with pytest.raises(SystemExit, match=r"this needs DVC, expected as .*: install this project with its extra"):
        command.main()


def test_one_run_is_counted_as_one() -> None:
    assert why_not_trained(1, 7200.0, 60.0).startswith("its next 1 run takes 2.0 hours")
    assert why_not_trained(2, 7200.0, 60.0).startswith("its next 2 runs take 2.0 hours")

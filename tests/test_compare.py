"""Two commits of a small made-up study in a real git repository, compared."""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages import compare, files, records

DIGITS = 200
SEEDS = [0, 1, 2]
NETWORK = {
    **{"family": "network", "filters": [], "pool": [], "conv_dropout": [], "units": [16], "dropout": 0.5},
    **{"initializer": "glorot_uniform", "precision": "float32", "learning_rate": 0.001, "decay": None},
    **{"batch_size": 32, "epochs": 2, "dev_split": False, "patience": None, "restore_best": False},
}
RIDGE = {"family": "ridge", "grid_powers": [-10, 13], "tolerance": 0.1}


def write_study(seeds: Sequence[int] = SEEDS, **variants: dict[str, Any]) -> None:
    study = {
        **{"data": {"name": "digits"}, "seeds": list(seeds), "split": {"dev_fraction": 0.2}, "variants": variants},
        **{"approaches": {"first": next(iter(variants))}, "comparisons": [], "chains": {}},
        "statistics": {
            **{"confidence": 0.95, "equivalence_margin": 0.05, "reproduction_margin": 0.1, "design": "fixed"},
        },
    }
    with Path("params.yaml").open("w") as file:
        YAML().dump(study, file)


def write_runs(
    variant: str,
    wrong: Sequence[int],
    key: str = "first",
    seeds: Sequence[int] = SEEDS,
    data: str = "d",
    truth: np.ndarray | None = None,
) -> None:
    """Runs of a variant, of which each gets as many of the 200 digits wrong as `wrong` says."""
    truth = np.arange(DIGITS, dtype=np.uint8) % 10 if truth is None else truth
    labels = np.tile(truth, (len(seeds), 1))
    for row, mistakes in enumerate(wrong):
        labels[row, :mistakes] = (labels[row, :mistakes] + 1) % 10
    scores = pd.DataFrame({"seed": seeds}).reindex(columns=[*records.RUN_COLUMNS, "test_loss", "test_accuracy"])
    scores = scores.assign(key=[f"{key}{seed}" for seed in seeds], data=data, test_loss=0.5)
    scores["test_accuracy"] = (labels == truth).mean(axis=1)
    files.write_table(records.scores_path(variant), scores)
    files.write_arrays(records.predictions_path(variant), labels=labels, truth=truth)


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def commit(tag: str) -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", tag)
    git("tag", tag)


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is a repository whose tag `first` holds the runs of a network and of a linear model."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    write_study(mlp=NETWORK, linear=RIDGE)
    write_runs("mlp", [10, 12, 14])
    write_runs("linear", [30, 30, 30])
    commit("first")


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    compare.main()
    return capsys.readouterr().out


def error(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    said = io.StringIO()
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(said):
        compare.main()
    assert ended.value.code == 2
    return said.getvalue()


def found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(said(monkeypatch, capsys, "--json", *arguments), parse_constant=refuse)


@pytest.mark.usefixtures("first")
class TestCompare:
    def test_an_experiment_of_dvc_is_found_by_its_name(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        commit("second")
        # As `dvc exp run --name wider` leaves it.
        git("update-ref", "refs/exps/ab/cdef/wider", "second")
        git("tag", "--delete", "second")
        git("reset", "--quiet", "--hard", "first")
        assert [row["variant"] for row in found(monkeypatch, capsys, "first", "wider")["changed"]] == ["mlp"]
        git("update-ref", "refs/exps/12/3456/wider", "first")
        assert "2 experiments have the name 'wider'" in error(monkeypatch, "first", "wider")

    def test_a_changed_variant_shows_its_difference_and_an_unchanged_one_is_not_compared(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_study(mlp={**NETWORK, "dropout": 0.4}, linear=RIDGE)
        write_runs("mlp", [8, 9, 10], key="second")
        text = said(monkeypatch, capsys, "first")
        # 2, 3 and 4 fewer of 200 digits wrong: 1, 1.5 and 2 points; t(2) = 4.303, sd 0.5: 1.5 ± 1.242, one variant.
        row = next(line for line in text.splitlines() if line.startswith("mlp "))
        assert "+1.500" in row
        assert "+0.258 … +2.742" in row
        assert "better" in row
        assert "mlp: dropout: 0.5 → 0.4\n" in text
        assert "Unchanged, with the same predictions, so not compared: linear" in text
        assert not any(line.startswith("linear ") for line in text.splitlines())

    def test_two_revisions_are_compared_in_the_order_given(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        commit("second")
        write_runs("mlp", [0, 0, 0], key="third")  # the working tree has no part in it
        assert found(monkeypatch, capsys, "first", "second")["changed"][0]["difference"] == pytest.approx(1.5)
        assert found(monkeypatch, capsys, "second", "first")["changed"][0]["difference"] == pytest.approx(-1.5)

    def test_seeds_are_paired_by_their_number_and_not_by_their_row(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [13, 11, 9], key="second", seeds=[2, 1, 0])
        (row,) = found(monkeypatch, capsys, "first")["changed"]
        assert row["difference"] == pytest.approx(0.5)
        # Every seed gained one digit: no spread but the floor of one image, half a point; t(2) / sqrt(3) = 2.484.
        assert (row["low"], row["high"]) == pytest.approx((0.5 - 1.242, 0.5 + 1.242), abs=1e-3)

    def test_the_intervals_hold_together_over_the_variants_that_changed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        write_runs("linear", [20, 21, 22], key="second")
        rows = {row["variant"]: row for row in found(monkeypatch, capsys, "first")["changed"]}
        # Two of them, so each at 0.05 / 2: t(2) = 6.205, over sqrt(3) times sd 0.5: 1.791.
        assert (rows["mlp"]["low"], rows["mlp"]["high"]) == pytest.approx((1.5 - 1.791, 1.5 + 1.791), abs=1e-3)
        assert {name: row["verdict"] for name, row in rows.items()} == {"mlp": "undecided", "linear": "better"}
        assert "The m = 2 intervals hold together" in " ".join(said(monkeypatch, capsys, "first").split())

    def test_a_commit_of_another_version_of_this_code_is_read_as_it_is(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        study = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
        del study["statistics"]["design"]
        study |= {"seeds": SEEDS, "statistics": {**study["statistics"], "resamples": 2000, "seed": 0}}
        study["variants"]["linear"] = {**RIDGE, "family": "linear"}
        with Path("params.yaml").open("w") as file:
            YAML().dump(study, file)
        commit("old")
        write_study(mlp={**NETWORK, "seeds": 3, "optimizer": {"name": "sgd"}}, linear={**RIDGE, "seeds": 3})
        write_runs("mlp", [8, 9, 10], key="second")
        write_runs("linear", [30, 30, 30], key="second")
        text = said(monkeypatch, capsys, "old")
        assert 'mlp: optimizer: as by default → {"name": "sgd"}\n' in text
        assert "linear: family: linear → ridge; but the predictions are the same" in text
        # As the newer side its settings count, and it says nothing of a design: seeds may have been added.
        commit("new")
        (row,) = found(monkeypatch, capsys, "new", "old")["changed"]
        assert (row["low"], row["high"]) == (None, None)  # three seeds rule out nothing

    def test_missing_variants_and_seeds_are_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_study(mlp=NETWORK, wide=NETWORK, planned=NETWORK)
        write_runs("mlp", [8, 9, 10], key="second", seeds=[0, 1, 7])
        write_runs("wide", [1, 2, 3])
        text = said(monkeypatch, capsys, "first")
        assert "mlp: seed 2 only in first" in text
        assert "mlp: seed 7 only in the working tree" in text
        assert "Only in the working tree: wide" in text
        assert re.search(r"^Only in first \(.{7}\): linear$", text, re.MULTILINE)
        assert "Without runs on either side: planned" in text
        missing = found(monkeypatch, capsys, "first")["missing"]
        assert missing["variants"] == {"old": ["wide"], "new": ["linear"], "both": ["planned"]}
        assert missing["seeds"] == {"mlp": {"old": [7], "new": [2]}}

    def test_one_seed_in_common_shows_a_difference_without_intervals(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9], key="second", seeds=[0, 7])
        (row,) = found(monkeypatch, capsys, "first")["changed"]
        assert (row["n"], row["difference"]) == (1, pytest.approx(1.0))
        assert [row[name] for name in ("low", "high", "seeds_about", "seeds_at_most")] == [None] * 4
        assert "+1.000" in said(monkeypatch, capsys, "first")

    def test_no_seed_in_common_is_said_and_not_compared(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9], key="second", seeds=[7, 8])
        assert "Not compared, without a seed that both sides have: mlp" in said(monkeypatch, capsys, "first")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"key": "second"}, "the same parameters and data, so other code or library versions"),
            ({"key": "second", "data": "e"}, "other training data"),
            ({}, "the same keys but other predictions"),
        ],
    )
    def test_a_change_without_a_changed_parameter_is_explained(
        self,
        change: dict[str, str],
        reason: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        write_runs("mlp", [8, 9, 10], **change)  # type: ignore[arg-type]  # key and data alone
        assert f"mlp: {reason}" in said(monkeypatch, capsys, "first")

    def test_the_same_predictions_with_another_key_are_unchanged_and_the_key_is_explained(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [10, 12, 14], key="second")
        text = said(monkeypatch, capsys, "first")
        assert "so not compared: mlp, linear" in text
        assert "mlp: the same parameters and data, so other code or library versions; but the predictions" in text

    def test_parameters_that_nothing_was_trained_with_are_pointed_out(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_study(mlp={**NETWORK, "dropout": 0.4}, linear=RIDGE)
        assert "mlp: dropout: 0.5 → 0.4 in params.yaml, but the runs are the same" in said(monkeypatch, capsys, "first")

    def test_markdown_has_a_table_and_a_list(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        text = said(monkeypatch, capsys, "first", "--markdown")
        assert "| mlp | better | +1.500 |" in text
        assert "- Unchanged, with the same predictions, so not compared: linear" in text


@pytest.mark.usefixtures("first")
class TestErrors:
    def test_an_unknown_revision_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert error(monkeypatch, "nowhere").startswith("error: unknown revision 'nowhere'")

    def test_a_revision_without_results_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        git("rm", "-r", "--quiet", "--cached", "metrics")
        git("commit", "--quiet", "--message", "without")
        assert "has no results" in error(monkeypatch, "HEAD")

    def test_an_unreadable_params_yaml_is_refused_with_its_revision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("params.yaml").write_text("data: [")
        commit("broken")
        assert "params.yaml in broken" in error(monkeypatch, "broken", "first")

    def test_different_test_sets_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write_runs("mlp", [8, 9, 10], truth=np.zeros(DIGITS, np.uint8))
        assert "mlp was evaluated on different test sets" in error(monkeypatch, "first")

    def test_damaged_predictions_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        records.predictions_path("mlp").write_bytes(b"PK")
        assert "metrics/runs/mlp in the working tree is damaged" in error(monkeypatch, "first")


def test_a_folder_outside_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert error(monkeypatch, "HEAD").startswith("error: this folder is no git checkout")


NOISE = np.array([0, 3, 1, 4, 2, 0, 3, 1, 4, 2])  # of 200 digits
MANY = list(range(10))


@pytest.mark.parametrize(
    ("wrong", "fail_on", "verdict", "status"),
    [
        (20 + NOISE, "worse", "worse", 1),
        (NOISE, "worse", "better", 0),
        (NOISE, "not-better", "better", 0),
        (10 + NOISE, "worse", "unchanged", 0),
        (10 + NOISE, "not-better", "unchanged", 1),
        (10 + NOISE[::-1], "worse", "undecided", 0),
        (10 + NOISE[::-1], "undecided", "undecided", 1),
    ],
    ids=["worse", "better", "better as claimed", "equal", "equal but claimed better", "noise", "noise refused"],
)
def test_the_gate_fails_for_what_it_was_asked_to_fail_for(
    wrong: np.ndarray,
    fail_on: str,
    verdict: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    write_study(MANY, mlp=NETWORK)
    write_runs("mlp", (10 + NOISE).tolist(), seeds=MANY)
    commit("first")
    write_runs("mlp", wrong.tolist(), key="second", seeds=MANY)
    for form in ("--markdown", "--json"):
        monkeypatch.setattr(sys, "argv", ["compare", "first", form, "--fail-on", fail_on])
        ended = 0
        try:
            compare.main()
        except SystemExit as exit_:
            ended = int(exit_.code or 0)
        said = capsys.readouterr()
        assert ended == status
        if form == "--json":
            gate = json.loads(said.out)["gate"]
            assert gate["failed"] == bool(status)
            assert [reason["rule"] for reason in gate["reasons"]] == ([fail_on] if status else [])
        else:
            # The verdict comes before the table.
            assert f"**{verdict}**: " in said.out.split("| ---")[0]
            assert said.out.split("\n\n")[1].startswith(f"- gate {'failed' if status else 'passed'}")
        assert ("gate failed" in said.err) == bool(status)


@pytest.mark.usefixtures("first")
def test_a_watched_variant_that_is_gone_fails_the_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(mlp=NETWORK)
    assert said(monkeypatch, capsys, "first", "--fail-on", "worse")
    monkeypatch.setattr(sys, "argv", ["compare", "first", "--fail-on", "worse", "--watch", "linear"])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 1
    assert "linear is not compared: only in first" in capsys.readouterr().err
    assert "should name variants" in error(monkeypatch, "first", "--fail-on", "worse", "--watch", "nosuch")

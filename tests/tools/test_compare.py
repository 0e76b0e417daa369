"""Two commits of a small synthetic study in a git repository, compared."""

import contextlib
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

import many_seeds
from stages.aggregate.sections import results
from stages.study import files, params, paths
from stages.study.comparisons import compare_variants
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS, Environment
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import NOT_RECORDED
from tests.support import command
from tests.support import study as made
from tests.support.commits import (
    IMAGES,
    MANY,
    NETWORK,
    NOISE,
    RIDGE,
    SEEDS,
    STATISTICS,
    commit,
    git,
    write_runs,
    write_study,
)
from tools.compare import __main__ as compare

PROCESSOR = "A; amx_bf16 avx512_bf16"


def environment(**changes: str) -> str:
    return str(Environment("c" * 64, {"keras": "3.15.1", "tensorflow": "2.22.0"} | changes))


def write_environments(
    variant: str, made_by: str = environment(), evaluation: str = environment(), processor: str = PROCESSOR
) -> None:
    columns = {"environment": made_by, "evaluation": evaluation, "model": "m", "processor": processor}
    files.write_table(paths.environments_path(variant), pd.DataFrame({"seed": SEEDS, **columns}))


def certify(variant: str, made_by: str, same_as: str) -> None:
    study = params.load()
    identity = variant_identity(study.recipe(variant), study)
    row = (variant, identity, "train", made_by, same_as, 1, 3, PROCESSOR, "trained anew", "c")
    files.write_table(CERTIFIED, pd.DataFrame([row], columns=CERTIFIED_COLUMNS))


@pytest.fixture(scope="module")
def first_commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose tag `first` holds the runs of a network and of a linear model; tests must not change it."""
    with repository(tmp_path_factory) as folder:
        write_study(mlp=NETWORK, linear=RIDGE)
        write_runs("mlp", [10, 12, 14])
        write_runs("linear", [30, 30, 30])
        commit("first")
    return folder


@contextlib.contextmanager
def repository(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new git repository, which is the current folder in the block."""
    folder = factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        git("init", "--quiet")
        yield folder


@pytest.fixture
def first(first_commit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of `first_commit` as the current folder."""
    enter(first_commit, tmp_path, monkeypatch)


def enter(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a copy of a repository the current folder."""
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / "repository"))


def output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    compare.main()
    return capsys.readouterr().out


def error(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    printed = io.StringIO()
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(printed):
        compare.main()
    assert ended.value.code == 2
    return printed.getvalue()


def judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, fail_on: str = "worse"
) -> tuple[int, str]:
    """The exit status of the gate, and its Markdown."""
    monkeypatch.setattr(sys, "argv", ["compare", "first", "--markdown", "--fail-on", fail_on, *arguments])
    status = 0
    try:
        compare.main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, capsys.readouterr().out


def as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(output(monkeypatch, capsys, "--json", *arguments), parse_constant=refuse)


@pytest.mark.usefixtures("first")
class TestCompare:
    def test_a_dvc_experiment_is_found_by_its_name(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        commit("second")
        # As `dvc exp run --name wider` leaves it.
        git("update-ref", "refs/exps/ab/cdef/wider", "second")
        git("tag", "--delete", "second")
        git("reset", "--quiet", "--hard", "first")
        assert [row["variant"] for row in as_json(monkeypatch, capsys, "first", "wider")["changed"]] == ["mlp"]
        git("update-ref", "refs/exps/12/3456/wider", "first")
        assert "2 experiments have the name 'wider'" in error(monkeypatch, "first", "wider")

    def test_a_changed_variant_shows_its_difference_and_an_unchanged_one_is_not_compared(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_study(mlp={**NETWORK, "dropout": 0.4}, linear=RIDGE)
        write_runs("mlp", [8, 9, 10], key="second")
        text = output(monkeypatch, capsys, "first")
        # 2, 3 and 4 fewer of 200 digits wrong: 1, 1.5 and 2 points; t(2) = 4.303, sd 0.5: 1.5 ± 1.242, one variant.
        row = next(line for line in text.splitlines() if line.startswith("mlp "))
        assert "+1.5" in row
        assert "+0.3 … +2.7" in row
        assert "better" in row
        assert "mlp: dropout: 0.5 → 0.4\n" in text
        assert text.count("linear") == 1
        assert "unchanged: 1 variant with the same predictions (linear)" in text
        assert not any(line.startswith("linear ") for line in text.splitlines())

    def test_diverged_runs_are_named_with_their_side(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 180], key="second")
        path = paths.scores_path("mlp")
        files.write_table(path, pd.read_csv(path).assign(diverged=[None, None, 0]))
        text = " ".join(output(monkeypatch, capsys, "first").split())
        sentence = "1 of 3 runs diverged (seed 2); it counts as a run that predicts the largest class"
        assert text.count("diverged") == 1
        assert f"mlp: in the working tree, {sentence}" in text

    def test_groups_of_the_images_count_if_both_sides_have_the_same(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def compared(old: np.ndarray | None, new: np.ndarray | None) -> tuple[float | None, str]:
            tag = f"old{len(tags)}"
            write_runs("mlp", [10, 12, 14], key=tag, groups=old)
            commit(tag)
            tags.append(tag)
            write_runs("mlp", [8, 9, 10], key="second", groups=new)
            (row,) = as_json(monkeypatch, capsys, tag)["changed"]
            return row["high_new_images"], " ".join(output(monkeypatch, capsys, tag).split())

        tags: list[str] = []
        groups = np.repeat(np.arange(40), 5)
        high, text = compared(groups, groups)
        single, text_of_single = compared(np.arange(IMAGES), np.arange(IMAGES))
        assert high is not None
        assert single is not None
        assert high > single
        assert "groups of images are independent" in text
        assert "groups of images are independent" in text_of_single
        assert compared(groups, None)[0] is None
        assert compared(groups, groups[::-1])[0] is None

    def test_two_revisions_are_compared_in_the_order_given(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        commit("second")
        write_runs("mlp", [0, 0, 0], key="third")  # the working tree has no part in it
        assert as_json(monkeypatch, capsys, "first", "second")["changed"][0]["difference"] == pytest.approx(1.5)
        assert as_json(monkeypatch, capsys, "second", "first")["changed"][0]["difference"] == pytest.approx(-1.5)

    def test_seeds_are_paired_by_their_number_and_not_by_their_row(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [13, 11, 9], key="second", seeds=[2, 1, 0])
        (row,) = as_json(monkeypatch, capsys, "first")["changed"]
        assert row["difference"] == pytest.approx(0.5)
        # Every seed gained one digit: no spread but the floor of one image, half a point; t(2) / sqrt(3) = 2.484.
        assert (row["low"], row["high"]) == pytest.approx((0.5 - 1.242, 0.5 + 1.242), abs=1e-3)

    def test_the_intervals_hold_simultaneously_over_the_variants_that_changed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        write_runs("linear", [20, 21, 22], key="second")
        rows = {row["variant"]: row for row in as_json(monkeypatch, capsys, "first")["changed"]}
        # Two of them, so each at 0.05 / 2: t(2) = 6.205, over sqrt(3) times sd 0.5: 1.791.
        assert (rows["mlp"]["low"], rows["mlp"]["high"]) == pytest.approx((1.5 - 1.791, 1.5 + 1.791), abs=1e-3)
        assert {name: row["verdict"] for name, row in rows.items()} == {"mlp": "undecided", "linear": "better"}
        assert "The 2 intervals hold simultaneously" in " ".join(output(monkeypatch, capsys, "first").split())

    def test_a_commit_of_another_version_of_this_code_is_readable(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        study = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
        del study["statistics"]["design"]
        study |= {"seeds": SEEDS, "statistics": {**study["statistics"], "resamples": 2000, "seed": 0}}
        study["variants"] = {"mlp": NETWORK, "linear": {**RIDGE, "family": "linear"}}
        with Path("params.yaml").open("w") as file:
            YAML().dump(study, file)
        commit("old")
        write_study(mlp={**NETWORK, "optimizer": {"name": "sgd"}}, linear=RIDGE)
        write_runs("mlp", [8, 9, 10], key="second")
        write_runs("linear", [30, 30, 30], key="second")
        text = output(monkeypatch, capsys, "old")
        assert 'mlp: optimizer: {"name": "adam"} → {"name": "sgd"}\n' in text
        assert "linear: family: linear → ridge; but the predictions are the same" in text
        # Confidence and margin of another version may have another meaning.
        commit("new")
        unlike = r"the statistics of old \(.{7}\) are of another version of this code \(design: not given → fixed\): "
        assert re.search(
            rf"^{unlike}judged with\s+those of new", output(monkeypatch, capsys, "old", "new"), re.MULTILINE
        )
        assert as_json(monkeypatch, capsys, "old", "new")["settings_of"] == "new"
        assert as_json(monkeypatch, capsys, "new", "old")["settings_of"] == "old"
        # Two commits of the other version are compared with its settings; without a design, seeds may have been added.
        git("checkout", "--quiet", "old")
        write_runs("mlp", [8, 9, 10], key="third")
        commit("older")
        (row,) = as_json(monkeypatch, capsys, "old", "older")["changed"]
        assert (row["low"], row["high"]) == (None, None)  # three seeds rule out nothing

    def test_missing_variants_and_seeds_are_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_study(mlp=NETWORK, wide=NETWORK, planned=NETWORK)
        write_runs("mlp", [8, 9, 10], key="second", seeds=[0, 1, 7])
        write_runs("wide", [1, 2, 3])
        text = output(monkeypatch, capsys, "first")
        assert (
            "\nnot compared: mlp (seed 2 is missing in the working tree, though its params.yaml asks for it)\n" in text
        )
        assert "\nbetter:" not in text
        assert "seed 7" not in text  # it is not in params.yaml, and may have been selected by its score
        assert "\nremoved: linear (not in params.yaml of the working tree any more)\n" in text
        assert "\nnew: wide (only in the working tree), planned (no runs yet on either side)\n" in text
        missing = as_json(monkeypatch, capsys, "first")["missing"]
        assert missing["variants"] == {"old": ["wide"], "new": ["linear"], "both": ["planned"]}
        assert missing["seeds"] == {"mlp": {"old": [], "new": [2]}}

    def test_one_seed_in_common_shows_a_difference_without_intervals(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9], key="second", seeds=[0, 7])
        (row,) = as_json(monkeypatch, capsys, "first")["changed"]
        assert (row["n"], row["difference"]) == (1, pytest.approx(1.0))
        assert [row[name] for name in ("low", "high", "seeds_projected", "seeds_worst_case")] == [None] * 4
        assert "+1.0" in output(monkeypatch, capsys, "first")

    def test_a_variant_without_common_seeds_is_not_compared(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9], key="second", seeds=[7, 8])
        assert "\nnot compared: mlp (no seed that both sides have)\n" in output(monkeypatch, capsys, "first")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"key": "second"}, "the same parameters and data, so other code or library versions"),
            ({"key": "second", "data": "e"}, "other training data"),
            ({}, "same keys, other predictions: perhaps on another kind of processor (not recorded), or edited"),
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
        assert f"mlp: {reason}" in " ".join(output(monkeypatch, capsys, "first").split())

    def test_the_same_predictions_with_another_key_are_unchanged_and_the_key_is_explained(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [10, 12, 14], key="second")
        text = output(monkeypatch, capsys, "first")
        assert "unchanged: 2 variants with the same predictions (mlp, linear)" in text
        assert "mlp: the same parameters and data, so other code or library versions; but the predictions" in text

    def test_fields_with_default_values_and_more_seeds_are_not_changed_parameters(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_study(mlp={**NETWORK, "padding": "valid", "optimizer": {"name": "adam"}}, linear={**RIDGE, "seeds": 4})
        assert [row["parameters"] for row in as_json(monkeypatch, capsys, "first")["unchanged"]] == [{}, {}]

    def test_a_remark_on_several_variants_is_printed_once(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        write_runs("linear", [29, 29, 29], key="second")
        assert "mlp, linear: the same parameters and data, so other code" in output(monkeypatch, capsys, "first")

    def test_markdown_has_a_table_and_a_list(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        text = output(monkeypatch, capsys, "first", "--markdown")
        assert "| mlp | better | +1.5 | +0.3 … +2.7 | 3 | – |" in text
        assert "**unchanged**: 1 variant with the same predictions (linear)" in text

    def test_markdown_is_escaped(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        write_study(mlp={**NETWORK, "units": [8]}, linear=RIDGE)
        commit("second")
        assert r"- mlp: units: \[16\] → \[8\]" in output(monkeypatch, capsys, "HEAD~1", "--markdown")
        git("branch", "`a`", "HEAD~1")
        for old, shown in (("HEAD~1", r"HEAD\~1 ("), ("`a`", r"\`a\` (")):  # else struck through, and set as code
            text = output(monkeypatch, capsys, old, "HEAD~0", "--markdown")
            assert text.startswith(f"## Test accuracy: {shown}")
            assert "run dvc repro" in text
            assert "\\" not in re.sub(r"\\[`~\[\]\n]", "", text)


@pytest.fixture
def recorded(first: None) -> None:
    """The same with a recorded environment for the runs of the network."""
    write_environments("mlp")
    commit("recorded")


@pytest.mark.usefixtures("recorded")
class TestEnvironments:
    @pytest.mark.parametrize(
        ("processor", "reason"),
        [
            ("B; no bfloat16", f"same keys, other predictions: made on another kind of processor ({PROCESSOR} → B; no"),
            ("B; amx_bf16 avx512_bf16", "same keys, other predictions, on the same kind of processor (B; amx_bf16"),
            (NOT_RECORDED, "same keys, other predictions: perhaps on another kind of processor (not recorded)"),
        ],
    )
    def test_other_predictions_under_the_same_keys_are_explained_by_the_processor(
        self, processor: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [10, 12, 13])
        write_environments("mlp", processor=processor)
        assert f"mlp: {reason}" in " ".join(output(monkeypatch, capsys, "recorded").split())
        (row,) = as_json(monkeypatch, capsys, "recorded")["changed"]
        known = [] if processor == NOT_RECORDED else [processor]
        assert row["processors"] == {"old": [PROCESSOR], "new": known}  # of seed 2, the only one that differs

    def test_differences_between_environments_are_listed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        write_environments("mlp", environment(keras="3.15.2").replace("c" * 64, "d" * 64), environment(scipy="1"))
        text = " ".join(output(monkeypatch, capsys, "recorded").split())
        assert "mlp: another environment (the code in stages/recipes, keras 3.15.1 → 3.15.2); evaluated in" in text
        assert "evaluated in another environment (scipy none → 1)" in text
        (row,) = as_json(monkeypatch, capsys, "recorded")["changed"]
        changes = ["the code in stages/recipes", "keras 3.15.1 → 3.15.2"]
        assert row["training"] == {"recorded": True, "changes": changes, "certified": []}
        assert row["evaluation"] == {"recorded": True, "changes": ["scipy none → 1"], "certified": []}
        # The tag `first` has no environments.
        text = " ".join(output(monkeypatch, capsys, "first").split())
        assert "mlp: the same parameters and data, so other code or library versions" in text
        assert not as_json(monkeypatch, capsys, "first")["changed"][0]["training"]["recorded"]

    def test_a_certified_environment_with_the_same_keys_and_predictions_is_listed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = environment(keras="3.15.2")
        write_environments("mlp", other)
        certify("mlp", other, environment())
        remark = "mlp: another environment (keras 3.15.1 → 3.15.2), certified to give the same bits"
        assert remark in " ".join(output(monkeypatch, capsys, "recorded").split())
        row = next(row for row in as_json(monkeypatch, capsys, "recorded")["unchanged"] if row["variant"] == "mlp")
        assert row["training"] == {"recorded": True, "changes": [], "certified": ["keras 3.15.1 → 3.15.2"]}
        commit("certified")
        assert remark in " ".join(output(monkeypatch, capsys, "recorded", "certified").split())

    def test_other_keys_of_the_same_environment_are_explained(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_runs("mlp", [8, 9, 10], key="second")
        text = " ".join(output(monkeypatch, capsys, "recorded").split())
        assert "mlp: the same parameters, data and environment, so another validation split, or edited" in text

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is not a CSV file"),
            ("seed,environment\n0,code=1\n", "should have the columns ['seed', "),
        ],
    )
    def test_a_damaged_table_of_environments_is_an_error(
        self, content: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths.environments_path("mlp").write_text(content)
        printed = error(monkeypatch, "recorded")
        assert f"metrics/runs/mlp/environments.csv in the working tree {message}" in printed
        assert printed.rstrip().endswith("restore it with git, or name another commit")

    def test_a_table_of_environments_of_other_seeds_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write_runs("mlp", [8, 9], seeds=[0, 1])
        assert "environments.csv in the working tree are of different runs" in error(monkeypatch, "recorded")


@pytest.mark.usefixtures("first")
class TestErrors:
    def test_an_unknown_revision_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert error(monkeypatch, "nowhere").startswith("error: unknown revision 'nowhere'")

    def test_a_revision_without_results_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        git("rm", "-r", "--quiet", "--cached", "metrics")
        git("commit", "--quiet", "--message", "without")
        assert "has no results" in error(monkeypatch, "HEAD")

    def test_an_unreadable_params_yaml_is_an_error_with_its_revision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("params.yaml").write_text("data: [")
        commit("broken")
        assert "params.yaml in broken" in error(monkeypatch, "broken", "first")

    def test_different_test_sets_are_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write_runs("mlp", [8, 9, 10], truth=np.zeros(IMAGES, np.uint8))
        assert "mlp should have the same test set on both sides; received" in error(monkeypatch, "first")

    def test_different_test_images_with_the_same_labels_are_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = paths.predictions_path("mlp")
        for digest in ("a" * 64, "b" * 64):
            files.write_arrays(path, compressed=False, **files.read_arrays(path) | {"image_digest": np.array(digest)})
            commit(digest)
        assert "mlp should have the same test set on both sides; received" in error(monkeypatch, "a" * 64, "b" * 64)

    def test_damaged_predictions_are_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        paths.predictions_path("mlp").write_bytes(b"PK")
        message = error(monkeypatch, "first")
        assert "metrics/runs/mlp/predictions.npz in the working tree is damaged" in message
        assert message.rstrip().endswith("restore it with git, or name another commit")


def test_a_folder_outside_git_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert error(monkeypatch, "HEAD").startswith("error: this folder should be in a git checkout: ")


@pytest.mark.usefixtures("many")
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
def test_the_gate_fails_for_the_verdicts_of_its_rules(
    wrong: np.ndarray,
    fail_on: str,
    verdict: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_runs("mlp", wrong.tolist(), key="second", seeds=MANY)
    ended, text = judged(monkeypatch, capsys, fail_on=fail_on)
    assert ended == status
    # The verdict comes before the table.
    assert f"**{verdict}**: " in text.split("| ---")[0]
    assert text.split("\n\n")[1].startswith(f"- gate {'failed' if status else 'passed'}")
    monkeypatch.setattr(sys, "argv", ["compare", "first", "--json", "--fail-on", fail_on])
    with contextlib.suppress(SystemExit):
        compare.main()
    printed = capsys.readouterr()
    gate = json.loads(printed.out)["gate"]
    assert gate["failed"] == bool(status)
    assert [reason["rule"] for reason in gate["reasons"]] == ([fail_on] if status else [])
    assert ("gate failed" in printed.err) == bool(status)


@pytest.mark.usefixtures("first")
def test_a_watched_variant_that_was_removed_fails_the_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(mlp=NETWORK)
    assert output(monkeypatch, capsys, "first", "--fail-on", "worse")
    monkeypatch.setattr(sys, "argv", ["compare", "first", "--fail-on", "worse", "--watch", "linear"])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 1
    assert "linear is removed: not in params.yaml of the working tree any more" in capsys.readouterr().err
    assert "should name variants" in error(monkeypatch, "first", "--fail-on", "worse", "--watch", "nosuch")


@pytest.fixture(scope="module")
def many_seeds_commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose tag `first` holds ten runs of one network; tests must not change it."""
    with repository(tmp_path_factory) as folder:
        write_study(MANY, mlp=NETWORK)
        write_runs("mlp", (10 + NOISE).tolist(), seeds=MANY)
        commit("first")
    return folder


@pytest.fixture
def many(many_seeds_commit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of `many_seeds_commit` as the current folder."""
    enter(many_seeds_commit, tmp_path, monkeypatch)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("name", "value"), [("equivalence_margin", 20.0), ("confidence", 0.999999), ("design", "open")]
)
def test_a_change_is_judged_with_the_settings_before_it(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs("mlp", (13 + NOISE[::-1]).tolist(), key="second", seeds=MANY)
    status, before = judged(monkeypatch, capsys)
    assert status == 1
    write_study(MANY, {**STATISTICS, name: value}, mlp=NETWORK)
    status, text = judged(monkeypatch, capsys)
    assert status == 1
    note = (
        rf"- the working tree has other statistics \({name}: {STATISTICS[name]} → {value}\): judged with those of first"
    )
    assert re.search(note, text.split("| ---")[0])
    assert text.split("| ---")[1] == before.split("| ---")[1]
    assert re.search(note[2:20], output(monkeypatch, capsys, "first").split("\nvariant")[0])
    values = as_json(monkeypatch, capsys, "first")
    assert values["settings"] == {**STATISTICS, "score": "accuracy"}
    assert values["settings_of"] == "old"
    assert values["other_settings"] == {name: {"old": STATISTICS[name], "new": value}}


def write_losses(variant: str, losses: list[float]) -> None:
    path = paths.scores_path(variant)
    files.write_table(path, pd.read_csv(path).assign(test_loss=losses))


def test_the_score_of_the_old_side_decides_and_a_lower_log_loss_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    statistics = {**STATISTICS, "score": "log_loss", "equivalence_margin": 0.01}
    names = ("mlp", "same", "linear")
    write_study(MANY, statistics, mlp=NETWORK, same=NETWORK, linear=RIDGE)
    for name in names:
        write_runs(name, (10 + NOISE).tolist(), seeds=MANY)
        write_losses(name, (0.5 + NOISE / 100).tolist())
    commit("first")
    write_study(MANY, mlp=NETWORK, same=NETWORK, linear=RIDGE)
    write_losses("mlp", (0.4 + NOISE[::-1] / 100).tolist())  # with the same predicted labels
    status, text = judged(monkeypatch, capsys)
    assert status == 0
    assert "## Log loss: first" in text
    assert re.search(r"\*\*better\*\*: mlp \(−0\.10\d* nats\)", text)
    assert "**unchanged**: 2 variants" in text
    assert "the working tree has other statistics (score: log_loss → accuracy" in text
    write_losses("mlp", (0.6 + NOISE[::-1] / 100).tolist())
    assert judged(monkeypatch, capsys)[0] == 1
    write_losses("mlp", (0.5 + NOISE / 100).tolist())
    write_losses("linear", (0.6 + NOISE / 100).tolist())
    status, text = judged(monkeypatch, capsys)
    assert status == 1
    assert "**not compared**: linear (no log loss: its outputs are not probabilities)" in text


def delete_runs() -> None:
    shutil.rmtree(paths.RUNS / "mlp")


def rename_runs() -> None:
    (paths.RUNS / "mlp").rename(paths.RUNS / "renamed")


def delete_a_seed() -> None:
    write_runs("mlp", (10 + NOISE[:9]).tolist(), seeds=MANY[:9])


def add_a_seed_without_a_run() -> None:
    write_study(range(11), mlp=NETWORK, linear={**RIDGE, "seeds": 3})


def delete_the_seeds_that_got_worse() -> None:
    write_runs("mlp", [9, 12, 10, 13, 11], key="second", seeds=MANY[:5])


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(
    ("change", "rule", "why"),
    [
        (delete_runs, "worse", "in params.yaml of the working tree, but without runs"),
        (delete_runs, "undecided", "in params.yaml of the working tree, but without runs"),
        (delete_runs, "not-better", "in params.yaml of the working tree, but without runs"),
        (rename_runs, "worse", "in params.yaml of the working tree, but without runs"),
        (delete_a_seed, "worse", "seed 9 is missing in the working tree, though its params.yaml asks for it"),
        (delete_a_seed, "undecided", "seed 9 is missing in the working tree, though its params.yaml asks for it"),
        (delete_a_seed, "not-better", "seed 9 is missing in the working tree, though its params.yaml asks for it"),
        (add_a_seed_without_a_run, "worse", "seed 10 is missing in the working tree, though its params.yaml asks"),
        (delete_the_seeds_that_got_worse, "not-better", "seeds 5, 6, 7, 8, 9 are missing in the working tree, though"),
    ],
)
def test_a_variant_with_lost_runs_is_not_compared_and_fails_every_gate(
    change: Callable[[], None],
    rule: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_study(MANY, mlp=NETWORK, linear={**RIDGE, "seeds": 3})
    write_runs("mlp", (10 + NOISE).tolist(), seeds=MANY)
    git("add", "--all")
    git("commit", "--quiet", "--amend", "--message", "first")
    git("tag", "--force", "first")
    change()
    status, text = judged(monkeypatch, capsys, fail_on=rule)
    assert status == 1
    assert f"- mlp is not compared: {why}" in text
    assert f"**not compared**: mlp ({why}" in text


@pytest.mark.usefixtures("many")
def test_fewer_seeds_in_params_yaml_are_a_remark_and_the_others_are_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(MANY[:8], mlp=NETWORK)
    write_runs("mlp", (20 + NOISE[:8]).tolist(), key="second", seeds=MANY[:8])
    status, text = judged(monkeypatch, capsys)
    assert status == 1
    assert "**worse**: mlp (−5.00 percentage points, on 8 of 10 seeds)" in text
    assert "not compared" not in text
    write_runs("mlp", (10 + NOISE[:8]).tolist(), seeds=MANY[:8])
    status, text = judged(monkeypatch, capsys)
    assert status == 0
    assert "- mlp: seeds 8, 9 not in the working tree any more, as its params.yaml asks for 8\n" in text


@pytest.mark.usefixtures("many")
def test_a_variant_with_a_lost_seed_is_not_unchanged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs("mlp", (10 + NOISE[:9]).tolist(), seeds=MANY[:9])
    _, text = judged(monkeypatch, capsys)
    assert "**not compared**: mlp (seed 9 is missing" in text
    assert "unchanged" not in text.casefold()


@pytest.mark.usefixtures("first")
def test_the_name_of_a_variant_may_be_a_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(SEEDS, STATISTICS, **{"mlp": NETWORK, "3": NETWORK})
    path = Path("params.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace("'3':", "3:"), encoding="utf-8")
    write_runs("3", [10, 12, 14])
    commit("numbered")
    assert "new: 3 (only in numbered" in output(monkeypatch, capsys, "first", "numbered")


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("seeds", ["1", [0, 1, 2], True, -3, 10**9, 10.0])
def test_an_invalid_number_of_seeds_is_an_error(seeds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the number, lost seeds would not be found."""
    write_study(mlp={**NETWORK, "seeds": seeds}, linear=RIDGE)
    commit("odd")
    message = error(monkeypatch, "first", "odd")
    assert "variants.mlp.seeds of params.yaml in odd" in message
    assert f"should be a whole number from 1 to 65,536, received {seeds!r}" in message


@pytest.mark.usefixtures("first")
def test_an_unreadable_recipe_does_not_hide_a_change_without_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(mlp={**NETWORK, "dropout": 0.9, "zzz": 1}, linear=RIDGE)
    commit("odd")
    monkeypatch.setattr(sys, "argv", ["compare", "first", "odd", "--fail-on", "worse"])
    with pytest.raises(SystemExit) as end:
        compare.main()
    assert end.value.code == 1
    assert "not retrained: mlp (params changed, runs did not: run dvc repro)" in capsys.readouterr().out


@pytest.mark.usefixtures("first")
def test_a_variant_that_is_removed_with_its_recipe_passes_and_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(mlp=NETWORK, linear=RIDGE, planned=RIDGE)
    commit("planned")
    git("tag", "--force", "first")
    write_study(mlp=NETWORK)
    shutil.rmtree(paths.RUNS / "linear")
    status, text = judged(monkeypatch, capsys, fail_on="undecided")
    assert status == 0
    assert "**removed**: linear (not in params.yaml of the working tree any more)" in text
    assert "planned" not in text  # it never had a run


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(
    ("other", "rule"),
    [
        ({"dropout": 0.4}, "worse"),
        ({"dropout": 0.4}, "undecided"),
        ({"dropout": 0.4}, "not-better"),
        ({"padding": "same"}, "worse"),
        ({"family": "ridge", **RIDGE}, "worse"),
    ],
    ids=["a field", "undecided", "not-better", "new", "family"],
)
def test_changed_parameters_without_training_fail_every_gate(
    other: dict[str, Any], rule: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(mlp=other if "family" in other else {**NETWORK, **other}, linear=RIDGE)
    status, text = judged(monkeypatch, capsys, fail_on=rule)
    assert status == 1
    why = "params changed, runs did not: run dvc repro"
    assert f"- mlp is not retrained: {why}" in text
    assert f"**not retrained**: mlp ({why})" in text
    assert f"- mlp: {next(iter(other))}: " in text
    assert judged(monkeypatch, capsys, "--watch", "linear")[0] == 0


@pytest.mark.usefixtures("first")
def test_a_variant_with_some_seeds_not_retrained_is_not_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(mlp={**NETWORK, "dropout": 0.4}, linear=RIDGE)
    write_runs("mlp", [8, 9, 10], key="second")
    table = pd.read_csv(paths.scores_path("mlp"))
    table.loc[2, "key"] = "first2"
    files.write_table(paths.scores_path("mlp"), table)
    status, text = judged(monkeypatch, capsys)
    assert status == 1
    assert "mlp (params changed, the runs of seed 2 did not: run dvc repro)" in text
    assert "| mlp |" not in text


@pytest.mark.usefixtures("first")
def test_invalid_parameters_are_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise a misspelt field would hide the change of another one."""
    write_study(mlp={**NETWORK, "dropout": 0.9, "learnin_rate": 5}, linear=RIDGE)
    monkeypatch.setattr(sys, "argv", ["compare", "first", "--fail-on", "worse"])
    with pytest.raises(SystemExit) as end:
        compare.main()
    assert end.value.code == 2
    assert "variants.mlp.learnin_rate: unknown key" in capsys.readouterr().err


@pytest.mark.usefixtures("first")
def test_another_data_set_without_training_fails_the_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace("name: digits", "name: mnist"), encoding="utf-8")
    status, text = judged(monkeypatch, capsys)
    assert status == 1
    assert "params changed, runs did not" in text


@pytest.mark.usefixtures("many")
def test_seeds_that_are_not_in_params_yaml_are_not_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(MANY[:4], mlp=NETWORK)
    write_runs("mlp", [9, 9, 9, 9, 0, 0, 0, 0], key="second", seeds=[0, 1, 2, 3, 5, 6, 7, 8])
    (row,) = as_json(monkeypatch, capsys, "first")["changed"]
    assert row["n"] == 4


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(
    "other",
    [{"padding": "valid"}, {"optimizer": {"name": "adam"}}],
    ids=lambda other: next(iter(other)),
)
def test_fields_with_default_values_need_no_training(
    other: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(mlp={**NETWORK, **other}, linear=RIDGE)
    status, text = judged(monkeypatch, capsys)
    assert status == 0
    assert "retrained" not in text


WRONG_BEFORE = [22, 25, 21, 26, 23, 24, 22, 27, 20, 25]
WRONG_AFTER = {
    "better": [14, 18, 14, 19, 15, 17, 14, 19, 12, 18],
    "undecided": [20, 26, 20, 25, 24, 23, 22, 26, 21, 24],
    "worse": [29, 33, 29, 34, 30, 32, 29, 34, 27, 33],
}


@pytest.mark.parametrize("verdict", WRONG_AFTER)
def test_a_study_two_commits_a_file_and_the_library_give_the_same_numbers_and_verdicts(
    verdict: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    seeds, statistics = range(10), {**STATISTICS, "design": "open"}
    write_study(seeds, statistics, mlp=NETWORK)
    write_runs("mlp", WRONG_BEFORE, seeds=seeds)
    commit("first")
    write_runs("mlp", WRONG_AFTER[verdict], key="second", seeds=seeds)
    names = ("a", "b", "n", "difference", "low", "high", "verdict", "seeds_projected", "seeds_worst_case")
    (changed,) = as_json(monkeypatch, capsys, "first")["changed"]
    of_commits = [changed[name] for name in names[2:]]

    write_study(seeds, statistics, before=NETWORK, after=NETWORK)
    study = params.load()
    study = study.model_copy(update={"comparisons": [params.Comparison(a="before", b="after")]})
    truth = np.arange(IMAGES, dtype=np.uint8) % 10
    wrong = {"before": WRONG_BEFORE, "after": WRONG_AFTER[verdict]}
    runs = {name: made.variant(name, made.predicted(of, truth), truth) for name, of in wrong.items()}
    rows = [replace(row, level=0.05) for row in made.ledger_of(study)]  # that of one comparison without a ledger
    table = results.table(compare_variants(runs, [("before", "after")], study, rows))
    of_study = [None if pd.isna(value) else value for value in table.iloc[0][list(names[2:])]]

    scores = {name: (100 - 100 * np.array(of) / IMAGES).tolist() for name, of in wrong.items()}
    file = command.write(command.long(scores))
    of_file = command.only(command.verdict(file, "--json", "--margin", "0.05", "--step", str(100 / IMAGES)))
    of_library = many_seeds.compare(scores, [("before", "after")], margin=0.05, resolution=100 / IMAGES)
    row = [getattr(of_library[0], name) for name in names[2:]]

    assert row[4] == verdict
    assert (row[5] is None) == (verdict != "undecided")
    for others in (of_commits, of_study, [of_file[name] for name in names[2:]]):
        assert others[:1] + others[4:] == row[:1] + row[4:]
        assert others[1:4] == pytest.approx(row[1:4], abs=1e-9)

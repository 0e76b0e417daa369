"""The demo, run with two variants in a folder without git."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.study import files, params, paths
from stages.study.params import Params
from tests.support.pipeline import SEEDS, STUDY, Clone, stages_run
from tools import demo

ROOT = Path(__file__).parents[2]
MARK = Path("metrics/report.html")
TWO = {
    **STUDY,
    "variants": {name: STUDY["variants"][name] for name in ("mlp", "cnn")},
    "approaches": {"MLP": "mlp", "CNN": "cnn"},
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The repository unpacked from a ZIP file, with results."""
    clone = Clone.make(tmp_path_factory.mktemp("unpacked"))
    shutil.rmtree(clone.folder / ".git")
    (clone.folder / MARK).parent.mkdir(exist_ok=True)
    (clone.folder / MARK).write_text("the study's own report")
    with (clone.folder / "tools/demo.yaml").open("w") as file:
        YAML().dump(TWO, file)
    return clone


def content(clone: Clone) -> dict[str, str]:
    """File → digest, without the files of the demo, of which its MLflow database is one."""
    found_files = [path for path in clone.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    found = {str(path.relative_to(clone.folder)): files.digest(path.read_bytes()) for path in found_files}
    return {name: digest for name, digest in found.items() if not name.startswith("build/")}


@pytest.fixture(scope="module")
def before(unpacked: Clone) -> dict[str, str]:
    return content(unpacked)


@pytest.fixture(scope="module")
def demo_output(unpacked: Clone, before: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return unpacked.run("env", "--unset", "MLFLOW_TRACKING_URI", sys.executable, "-m", "tools.demo")


def test_the_demo_prints_the_approaches_the_verdicts_and_the_next_commands(
    unpacked: Clone, demo_output: subprocess.CompletedProcess[str]
) -> None:
    assert demo_output.returncode == 0, demo_output.stdout + demo_output.stderr
    for approach, variant in TWO["approaches"].items():
        row = rf"^{approach} +[\d.]+ %  .+  {TWO['variants'][variant]['seeds']}  .+  {variant}$"
        assert re.search(row, demo_output.stdout, re.MULTILINE)
    for pair in TWO["comparisons"]:
        assert re.search(rf"^  {pair['a']} → {pair['b']}: \w+, [+-]", demo_output.stdout, re.MULTILINE)
    report = re.search(r"^Report: +(\S+?),", demo_output.stdout, re.MULTILINE)
    assert report is not None
    assert "digits" in (unpacked.folder / report[1]).read_text(encoding="utf-8")
    assert f"make ui IN={demo.FOLDER}" in demo_output.stdout
    assert f"make settle IN={demo.FOLDER}" in demo_output.stdout


def test_the_demo_prints_a_line_for_each_command_and_leaves_nothing_stale(
    unpacked: Clone, demo_output: subprocess.CompletedProcess[str]
) -> None:
    lines = re.findall(r"^ *\d+ s +(\d+)/(\d+)  (.+)$", demo_output.stdout, re.MULTILINE)
    runs, variants, stages = 2 * SEEDS, 2, 9
    assert lines == [
        (str(done), str(runs + variants + stages), command)
        for done, command in (
            (0, "dvc repro split"),
            (2, "python -m stages.train --all"),
            (2 + runs, "python -m stages.evaluate --all"),
            (2 + runs + variants, "dvc repro"),
        )
    ]
    again = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "repro", "--dry"],
        cwd=unpacked.folder / demo.FOLDER, env=unpacked.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert stages_run(again.stdout) == []


def test_a_second_demo_keeps_models_and_edited_parameters(
    unpacked: Clone, demo_output: subprocess.CompletedProcess[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(unpacked.folder)
    edited, code = demo.FOLDER / params.PARAMS, demo.FOLDER / "many_seeds/output/text.py"
    edited.write_text(edited.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    code.write_text("of an earlier version")
    (demo.FOLDER / "stages/recipes/former.py").write_text("class Recipe: a removed family")
    models = sorted(demo.FOLDER.glob("models/*/*/model.keras"))
    assert models
    demo.prepare(demo.FOLDER, demo.STUDY)
    assert sorted(demo.FOLDER.glob("models/*/*/model.keras")) == models
    assert edited.read_text(encoding="utf-8").endswith("# edited\n")
    assert code.read_bytes() == Path("many_seeds/output/text.py").read_bytes()
    assert not (demo.FOLDER / "stages/recipes/former.py").exists()


def test_the_demo_does_not_change_the_study(
    unpacked: Clone, before: dict[str, str], demo_output: subprocess.CompletedProcess[str]
) -> None:
    assert content(unpacked) == before
    assert (unpacked.folder / MARK).read_text() == "the study's own report"


def test_the_study_of_the_demo_is_valid_with_enough_seeds_and_a_variant_that_can_be_served(
    committed_study: Params,
) -> None:
    study = params.load(ROOT / "tools/demo.yaml")
    assert study.data.name == "digits"
    assert {*study.approaches, "CNN, 2020s"} == {*committed_study.approaches}
    assert any(recipe.uses_validation for recipe in study.variants.values())
    assert all(recipe.seeds == 8 for recipe in study.variants.values())


def test_the_progress_counts_stages_runs_and_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    progress = demo.Progress(5)
    progress.begin("first")
    for line in (
        "Running stage 'split':",
        "noise",
        "[1/2] cnn seed 1: 3 s",
        "[2/2] cnn seed 0: 4 s",
        "evaluated cnn",
        "Running stage 'train@cnn':",
    ):
        progress.update(line)
    progress.begin("second")
    progress.close()
    printed = [line.split(maxsplit=2)[2] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["0/5  first", "5/5  second"]


def test_a_comparison_by_another_score_has_its_unit_and_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    columns = ["a", "b", "score", "difference", "low", "high", "verdict"]
    rows = [("mlp", "cnn", "log_loss", 0.004, -0.01, 0.012, "undecided"), ("mlp", "cnn", "accuracy", 3, 2, 4, "better")]
    files.write_table(demo.FOLDER / paths.TABLES / "comparisons.csv", pd.DataFrame(rows, columns=columns))
    assert demo.verdicts().splitlines() == [
        "  mlp → cnn: better, +3.00 (+2.00 … +4.00)",
        "  mlp → cnn: undecided by log loss, +0.0040 nats (−0.0100 … +0.0120)",
    ]


def test_a_failure_prints_the_last_lines_and_the_path_of_the_log(unpacked: Clone) -> None:
    path = unpacked.folder / demo.FOLDER / params.PARAMS
    path.write_text(
        path.read_text(encoding="utf-8").replace(f"seeds: {SEEDS}", f"seeds: {SEEDS + 1}"), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo"],
        cwd=unpacked.folder, env={**unpacked.environment(), "STUDY_WORKERS": "none"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"`python -m stages.train --all` failed in {demo.FOLDER}" in done.stderr
    assert str(demo.LOG) in done.stderr
    assert "STUDY_WORKERS should be a whole number from 1, received 'none'" in done.stderr
    assert (unpacked.folder / demo.FOLDER / paths.RAW).exists()

"""The stage as a whole, over files of runs that nobody trained."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.aggregate.sections import convergence, overview
from stages.aggregate.stage import aggregate
from stages.study import files, paths
from stages.study.provenance import environments
from stages.study.provenance.identities import variant_identity
from stages.study.records.arrays import write_npz
from stages.study.records.results import NOT_RECORDED
from tests.stages.aggregate.conftest import undrawn
from tests.support import study as made


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def aggregated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up study with its tables, figures and report; not to be written to."""
    with folder(tmp_path_factory) as path:
        made.write()
        paths.TABLES.mkdir()
        (paths.TABLES / "of_an_earlier_study.csv").touch()
        aggregate(made.study())
    return path


@contextlib.contextmanager
def folder(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new folder, which is the current one in the block."""
    path = factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.fixture
def results(aggregated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is `aggregated`."""
    monkeypatch.chdir(aggregated)


@pytest.fixture(scope="module")
def other_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one more score, with runs of other packages and processors, and with certificates."""
    with folder(tmp_path_factory) as path, undrawn():
        made.write()
        for table in paths.RUNS.glob("*/test.csv"):
            files.write_table(table, pd.read_csv(table).assign(test_top2=0.875))
        record_environments()
        aggregate(made.study())
    return path


def test_another_score_of_the_evaluation_is_in_every_table_and_in_the_summary(
    other_records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other_records)
    assert (pd.read_csv(paths.TABLES / "scores.csv")["test_top2"] == 0.875).all()
    assert (pd.read_csv(paths.TABLES / "variants.csv")["test_top2"] == 0.875).all()
    assert "test top2" in (paths.TABLES / "variants.md").read_text(encoding="utf-8")
    summary = json.loads(paths.SUMMARY.read_text(encoding="utf-8"))
    assert {json.dumps(of["test_top2"]) for of in summary.values()} == {'{"mean": 0.875, "sd": 0.0}'}


@pytest.mark.usefixtures("results")
def test_no_figure_shows_the_source_of_a_formula() -> None:
    report = paths.REPORT.read_text(encoding="utf-8")
    assert "2¹" in report  # on the axis of alpha
    assert "mathdefault" not in report


@pytest.mark.usefixtures("results")
def test_variants_of_different_numbers_of_seeds_are_in_every_table_and_figure() -> None:
    tables, plots = ({path.name for path in of.iterdir()} for of in (paths.TABLES, paths.PLOTS))
    compared = ("results", "approach_pairs", "comparisons", "ablations_units")
    for name in (*compared, "approaches", "selection", "variants", "variance"):
        assert {f"{name}.csv", f"{name}.md"} <= tables
        assert "nan" not in (paths.TABLES / f"{name}.md").read_text(encoding="utf-8").lower()
    assert {"scores.csv", "curves.csv", "pair_wide_plain.csv", "hardest.csv"} <= tables
    assert "of_an_earlier_study.csv" not in tables
    wanted = ("overview", "approaches", "convergence", "curves_wide", "calibration", "hardest", "confusion_wide")
    assert {f"{name}.png" for name in (*wanted, "misclassified_wide", "alpha_ridge", "weights_ridge")} <= plots
    steps = pd.read_csv(paths.TABLES / "ablations_units.csv")
    assert list(steps)[:7] == ["step", "score", "n", "difference", "low", "high", "verdict"]
    assert steps["n"].tolist() == [10, 10]
    assert len(pd.read_csv(paths.TABLES / "scores.csv")) == 4 + 10 + 10 + 12
    summary = json.loads(paths.SUMMARY.read_text(encoding="utf-8"))
    assert [of["seeds"] for of in summary.values()] == [4, 10, 10, 12]
    assert "ci_low" in summary["wide"]["test_accuracy"]
    assert set(json.loads(paths.ACCURACY.read_text(encoding="utf-8"))) == {"test", "dev"}


@pytest.mark.usefixtures("results")
def test_each_interval_is_in_one_table_of_the_report_and_in_the_files_of_each_part() -> None:
    report = paths.REPORT.read_text(encoding="utf-8")
    shown = re.findall(r'id="table-(\w+)"', report)
    assert "results" in shown
    assert not {"approach_pairs", "comparisons", "ablations_units"} & {*shown}
    table = pd.read_csv(paths.TABLES / "results.csv")
    assert table[["a", "b", "named_in"]].to_numpy().tolist() == [
        ["ridge", "wide", "approaches"],
        ["wide", "wider", "approaches, chain units"],
        ["wide", "plain", "chain units, comparisons"],
    ]
    parts = [pd.read_csv(paths.TABLES / f"{name}.csv") for name in ("approach_pairs", "comparisons", "ablations_units")]
    assert {*table["difference"].abs()} == {*pd.concat(parts)["difference"].abs()}


def test_figures_of_long_lists_have_several_pages_to_which_the_table_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "ROWS", 2)
    monkeypatch.setattr(convergence, "PANELS", 1)
    made.write()
    aggregate(made.study())
    drawn = {path.stem for path in paths.PLOTS.iterdir()}
    assert {"overview", "overview_2", "convergence", "convergence_2"} <= drawn
    assert not {"overview_3"} & drawn
    report = paths.REPORT.read_text(encoding="utf-8")
    assert report.index("Comparisons 1 to 2 of 3.") < report.index("Comparisons 3 to 3 of 3")
    linked = set(re.findall(r'href="#(convergence[^"]*--[^"]*)"', report))
    assert {link.partition("-")[0] for link in linked} >= {"convergence", "convergence_2"}
    assert linked <= set(re.findall(r'id="([^"]*)"', report))


@pytest.mark.usefixtures("results")
def test_the_report_says_once_what_the_intervals_promise_and_asks_the_questions_first() -> None:
    report = paths.REPORT.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    text = re.sub(r"<svg.*?</svg>", "", report, flags=re.DOTALL)  # figures say it too, since they are also used alone
    assert text.count("hold simultaneously with 95 % confidence") == 1
    assert report.index('id="figure-overview"') < report.index('id="approaches"')
    assert "4–12 seeds on digits" in report
    assert not re.search(r'(>|data-value=")\s*nan\s*[<"]', report, re.IGNORECASE)


@pytest.mark.usefixtures("results")
def test_the_report_says_with_what_and_on_what_the_runs_were_made() -> None:
    report = paths.REPORT.read_text(encoding="utf-8")
    assert "36 runs: keras 3.15.1, tensorflow 2.22.0." in report
    assert "Processor: A processor with amx_bf16 avx512_bf16." in report
    assert "Certified" not in report


def record_environments() -> None:
    """Record other packages and processors for two runs, and certificates."""
    path = paths.environments_path("ridge")
    later = made.ENVIRONMENT.replace("3.15.1", "3.15.2")
    table = pd.read_csv(path)
    table.loc[2:, ["environment", "processor"]] = [later, NOT_RECORDED]
    files.write_table(path, table)
    other = made.ENVIRONMENT.replace("3.15.1", "3.14.0")
    rows = [
        ("wide", "train", later, made.ENVIRONMENT, 1, 10, made.PROCESSOR, "trained anew", "c"),
        ("wider", "train", later, made.ENVIRONMENT, 1, 12, made.PROCESSOR, "trained anew", "c"),
        ("plain", "train", later, made.ENVIRONMENT, 1, 10, made.PROCESSOR, "trained anew", "c"),
        ("plain", "train", made.ENVIRONMENT, other, 1, 10, made.PROCESSOR, "trained anew", "c"),
        ("ridge", "evaluate", later, other, 1, 4, made.PROCESSOR, "trained anew", "c"),  # of no result that is here
    ]
    study = made.study()
    certificates = [(row[0], variant_identity(study.recipe(row[0]), study), *row[1:]) for row in rows]
    files.write_table(environments.CERTIFIED, pd.DataFrame(certificates, columns=environments.CERTIFIED_COLUMNS))


def test_the_report_counts_runs_of_other_packages_and_processors_and_names_the_certificates_that_hold(
    other_records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other_records)
    report = paths.REPORT.read_text(encoding="utf-8")
    assert "36 runs: keras 3.15.1, tensorflow 2.22.0 (34 of 36); keras 3.15.2, tensorflow 2.22.0 (2 of 36)." in report
    assert "Processor: A processor with amx_bf16 avx512_bf16 (34 of 36); not recorded (2 of 36)." in report
    same = (
        "Certified: training gives the same bits with keras 3.15.1 → 3.15.2 (1 of 10 seeds compared, trained anew, on "
    )
    assert f"{same}A processor with amx_bf16 avx512_bf16): plain, wide." in report
    assert "(1 of 12 seeds compared" in report
    assert "evaluation gives" not in report


def test_results_without_environments_are_refused_with_the_way_on() -> None:
    made.write()
    paths.environments_path("plain").unlink()
    with pytest.raises(UserError, match=r"metrics/runs/plain/environments\.csv is missing: `python -m tools\.migrate`"):
        aggregate(made.study())
    made.write()
    made.environments(3).to_csv(paths.environments_path("plain"), index=False)
    with pytest.raises(UserError, match=r"plain/environments\.csv are of different runs"):
        aggregate(made.study())


def test_words_and_pictures_follow_the_data_and_class_names_in_a_markdown_table_are_text() -> None:
    made.write(classes=["<script>", "rounded square", "a|b"], shape=(12, 16, 3))
    study = made.study()
    shapes = study.model_copy(update={"data": study.data.model_copy(update={"name": "shapes"})})
    made.enter(shapes)
    aggregate(shapes)
    hardest = (paths.TABLES / "hardest.md").read_text(encoding="utf-8")
    assert "The hardest images" in hardest
    assert "rounded square" in hardest
    assert "digits" not in paths.REPORT.read_text(encoding="utf-8").lower()
    recall = (paths.TABLES / "recall.md").read_text(encoding="utf-8")
    assert r"\<script\>" in recall
    assert r"a\|b" in recall
    assert not [path for path in paths.TABLES.glob("*.md") if "<script>" in path.read_text(encoding="utf-8")]


def test_the_same_runs_make_the_same_bytes(aggregated: Path) -> None:
    made.write()
    aggregate(made.study())
    files = {path.relative_to(aggregated): path for path in (aggregated / "metrics").rglob("*") if path.is_file()}
    assert {name: Path(name).read_bytes() for name in files} == {
        name: path.read_bytes() for name, path in files.items()
    }


@pytest.mark.parametrize(
    ("seeds", "complaint"), [(11, r"lacks the seeds \[10\]"), (9, r"should have the seeds \[0, .*, 8\] in this order")]
)
def test_other_seeds_than_params_yaml_names_are_an_error(seeds: int, complaint: str) -> None:
    made.write()
    study = made.study()
    study.variants["wide"] = study.variants["wide"].model_copy(update={"seeds": seeds})
    with pytest.raises(UserError, match=rf"test\.csv {complaint}"):
        aggregate(study)


@pytest.mark.parametrize("table", [paths.scores_path, paths.environments_path])
@pytest.mark.parametrize("rows", [slice(0, 9), slice(None, None, -1)], ids=["a seed is missing", "another order"])
def test_tables_of_other_seeds_than_the_predictions_are_refused(table: Callable[[str], Path], rows: slice) -> None:
    made.write()
    path = table("wide")
    pd.read_csv(path).iloc[rows].to_csv(path, index=False)
    with pytest.raises(
        UserError, match="are of different runs: restore both with git, or run `dvc repro evaluate@wide`"
    ):
        aggregate(made.study())


def test_scores_and_predictions_of_different_runs_are_refused() -> None:
    made.write()
    path = paths.scores_path("wide")
    table = pd.read_csv(path)
    table.assign(test_accuracy=table["test_accuracy"] - 0.1).to_csv(path, index=False)
    with pytest.raises(UserError, match="are of different runs: restore both with git"):
        aggregate(made.study())


def test_a_study_of_one_variant_and_one_seed_asks_nothing_and_has_its_report() -> None:
    made.write()
    recipe = made.study().variants["wide"].model_copy(update={"seeds": 1})
    tables = (paths.scores_path, paths.curves_path, paths.calibration_path, paths.environments_path)
    for path in (place("wide") for place in tables):
        pd.read_csv(path).query("seed == 0").to_csv(path, index=False)
    arrays = files.read_arrays(paths.predictions_path("wide"))
    alone = {**arrays, "labels": arrays["labels"][:1], "voters": np.array(1)}
    write_npz(paths.predictions_path("wide"), alone)
    only = {"variants": {"wide": recipe}, "approaches": {"MLP": "wide"}, "comparisons": [], "chains": {}}
    aggregate(made.study().model_copy(update=only))
    report = paths.REPORT.read_text(encoding="utf-8")
    assert "MLP: 90.50" in report
    assert "hold" not in report[: report.index("<nav")]
    assert "any" in (paths.TABLES / "approaches.md").read_text(encoding="utf-8")  # one seed rules out nothing

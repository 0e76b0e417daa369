"""The committed results belong to the committed code, and README.md shows them."""

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.study import files, paths
from stages.study.params import Params
from tools import stale
from tools.serving.predict import describe, read_champion

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("committed_study")
def test_the_readme_shows_the_table_of_the_approaches() -> None:
    table = (REPOSITORY / paths.TABLES / "approaches.md").read_text().split("\n\n")[-1].strip()
    copied = re.search(r"<!-- approaches -->\n(.*?)<!-- /approaches -->", README, re.DOTALL)
    assert copied is not None
    assert copied[1].strip() == table


@pytest.mark.usefixtures("committed_study")
def test_the_page_of_the_modern_chain_has_its_differences_intervals_and_verdicts() -> None:
    page = (REPOSITORY / "docs/modern.md").read_text(encoding="utf-8")
    results = pd.read_csv(REPOSITORY / paths.TABLES / "results.csv")
    steps = results[results["named_in"].str.contains("chain modern")]
    assert len(steps) > 3

    def numbers(row: pd.Series, form: str = "{:+.2f}") -> list[str]:
        return [form.format(row[name]).replace("-", "−") for name in ("difference", "low", "high")]

    for _, step in steps.iterrows():
        difference, low, high = numbers(step)
        verdict = step["verdict"] if step["verdict"] == "undecided" else f"**{step['verdict']}**"
        assert re.search(
            rf"^\| {step['b']} \|.*{re.escape(f'| {difference} | {low} … {high} | {verdict} |')}$", page, re.M
        )
    [(_, whole)] = results[(results["a"] == "cnn_tuned") & (results["b"] == "cnn_2020s")].iterrows()
    difference, low, high = numbers(whole, "{:.2f}")
    assert f"by {difference} percentage points ({low} … {high}, ten seeds)" in page


@pytest.mark.usefixtures("committed_study")
def test_the_readme_names_the_served_model() -> None:
    assert f"`make predict` and `make serve` use {describe(read_champion(REPOSITORY / paths.CHAMPION))}," in README


@pytest.mark.usefixtures("committed_study")
def test_the_readme_has_the_number_of_comparisons_with_a_verdict() -> None:
    tables = REPOSITORY / paths.TABLES
    files_of_results = [tables / "comparisons.csv", tables / "approach_pairs.csv", *tables.glob("ablations_*.csv")]
    results = pd.concat([pd.read_csv(path) for path in files_of_results])
    with_verdict = results[results["verdict"] != "undecided"]
    holding = (with_verdict["verdict"] == with_verdict["verdict_new_images"]).sum()
    assert (
        f"Of the {len(results)} comparisons of the study, {len(with_verdict)} have a verdict, {holding} of them for "
        "new test images too." in README
    )


@pytest.mark.usefixtures("committed_study")
def test_the_plots_of_dvc_are_few_exist_and_begin_with_the_results() -> None:
    plots = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["plots"]
    assert len(plots) < 8
    assert all((REPOSITORY / plot).exists() for plot in plots if isinstance(plot, str))
    (first,) = plots[0].values()
    (table,) = first["y"]
    template = (REPOSITORY / f".dvc/plots/{first['template']}.json").read_text()
    fields = {*re.findall(r'"field": "(\w+)"', template), *re.findall(r"datum\.(\w+)", template)}
    assert fields - {"rev", "pair"} <= {*pd.read_csv(REPOSITORY / table)}


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE)
    assert {"demo", "test", "study", "ui"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_no_committed_result_is_stale(committed_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    if subprocess.run(["git", "rev-parse"], cwd=REPOSITORY, capture_output=True, check=False).returncode != 0:
        pytest.skip("not a git checkout")
    monkeypatch.chdir(REPOSITORY)
    assert stale.reasons(stale.status(committed_study)) == {}


def test_the_summary_has_every_variant_and_all_seeds(committed_study: Params) -> None:
    summary = files.read_json(REPOSITORY / paths.SUMMARY)
    assert list(summary) == list(committed_study.variants)
    assert {name: values["seeds"] for name, values in summary.items()} == {
        name: recipe.seeds for name, recipe in committed_study.variants.items()
    }

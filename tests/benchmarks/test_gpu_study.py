"""The study that was trained on a GPU: its tables are those of today's code."""

import shutil
from pathlib import Path

import pytest

from stages.aggregate import summary
from stages.aggregate.report import page
from stages.aggregate.runs import read_runs
from stages.aggregate.sections import curves
from stages.aggregate.stage import written_tables
from stages.study import files, params, paths
from stages.study.comparisons import compare_named, named_comparisons
from stages.study.records.data_summary import read_summary
from stages.study.records.ledger_files import read_ledger
from tests import ROOT

STUDY = ROOT / "benchmarks/gpu/study"


def test_the_committed_tables_of_the_study_on_a_gpu_are_those_of_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(STUDY, tmp_path / "study"))
    study = params.load()
    runs, ledger = read_runs(study), read_ledger()
    compared = compare_named(runs, named_comparisons(study), study, ledger)
    expected = written_tables(page.sections(runs, study, compared, ledger, [], read_summary()))
    expected |= {
        "scores.csv": files.csv_bytes(summary.scores(runs, study.statistics.score)),
        "curves.csv": files.csv_bytes(curves.validation_losses(runs)),
    }
    assert {path.name: path.read_bytes() for path in paths.TABLES.iterdir()} == expected

"""Publishes what aggregation made: the run `study`, and the results in its and the experiment's description."""

from pathlib import Path
from typing import Any

from many_seeds.output import text
from stages.study import files, params, paths
from stages.study.comparisons import compare_named, named_comparisons
from stages.study.params import Params
from stages.study.races import HEADER, RaceState, named_races, race_states
from stages.study.records.current import aggregated, study_files, study_key
from stages.study.records.ledger_files import read_ledger
from stages.study.records.results import read_results
from stages.tracking import address
from stages.tracking.claims import other_publisher
from stages.tracking.experiment import FINISHED, NOTE, Experiment, has_files

STUDY_NOTE = (
    "The results of the study, at one commit. Artifacts: `report.html`, its `tables` and `plots`, and `champion.json`, "
    "which names the best variant and seed by validation score."
)
DESCRIPTION_LIMIT = 4500  # characters: MLflow 2 takes tags of 5,000
REFUSED = "refused files"  # tag: files that were not published, as they are larger than the server accepts
NO_COMPARISONS = "The study names no comparisons and no races."
TOO_LONG = "The table is too long for a description: see `report.html` and `tables` of the run `study`."


def publish_study(experiment: Experiment, study: Params) -> int:
    """Publish the report with its tables and figures; 1 if they were not there yet."""
    if not aggregated(study):
        return 0
    results, key = results_text(study), study_key()
    with address.lock():
        # The experiment's description has the results of the checkout, not of a DVC experiment in a copy of it.
        if not address.queued_experiment():
            experiment.describe(results)
        return _publish(experiment, key, f"{STUDY_NOTE}\n\n{results}", study.statistics.score)


def results_text(study: Params) -> str:
    """The results of the study in Markdown: a table for each score and margin, and one for each race."""
    named, raced = named_comparisons(study), named_races(study)
    if not named and not raced:
        return NO_COMPARISONS
    names = [name for comparison in named for name in comparison.pair] + [
        name for race in raced for name in race.variants
    ]
    runs, ledger = {name: read_results(name) for name in dict.fromkeys(names)}, read_ledger()
    groups, states = compare_named(runs, named, study, ledger), race_states(runs, raced, study, ledger)
    sections = [*(text.as_markdown(group).strip() for group in groups), *map(_race_text, states)]
    whole = "\n\n".join(sections) + "\n"
    if len(whole) <= DESCRIPTION_LIMIT:
        return whole
    guarantee = [f"## {text.summary(*groups)}", *text.guarantee(*groups)] if groups else []
    return "\n\n".join([*guarantee[:1], TOO_LONG, *guarantee[1:], *(f"{state.sentence}." for state in states)])


def _race_text(state: RaceState) -> str:
    return f"## {text.escaped(state.sentence)}\n\n{text.markdown(HEADER, state.cells())}"


def _publish(experiment: Experiment, key: str, note: str, score: str) -> int:
    run = experiment.find({key}).get(key)
    if run and other_publisher(run):
        return 0
    if run and run.info.status != FINISHED:  # its publication was interrupted
        experiment.client.delete_run(run.info.run_id)
        run = None
    complete = run is not None and has_files(run, [paths.REPORT.name]) and not run.data.tags.get(REFUSED)
    if run and complete and run.data.tags.get(NOTE) == note:
        return 0
    if run is None:
        named = address.dvc_experiment()
        run = experiment.create_run(f"study, {named}" if named else "study", key, "aggregate", {"role": "study"})
        means = {name: of for name, of in files.read_json(paths.SUMMARY).items() if name != params.RACES}
        metrics = [
            (f"mean_{name}/{variant}", mean[name]["mean"], 0)
            for name in ("test_accuracy", score)
            for variant, mean in means.items()
            if name in mean  # accuracy is there once, as test_accuracy
        ]
        experiment.log(run, {"variants": len(means)}, metrics)
    experiment.log(run, tags={NOTE: note})
    if not complete:
        refused = [path.name for path in study_files() if not _upload(experiment, run, path)]
        if refused or REFUSED in run.data.tags:
            experiment.client.set_tag(run.info.run_id, REFUSED, ", ".join(refused))
    experiment.finish(run)
    return 1


def _upload(experiment: Experiment, run: Any, path: Path) -> bool:
    folder = path.parent.name if path.parent in (paths.TABLES, paths.PLOTS) else None
    return experiment.upload(run, path, folder)

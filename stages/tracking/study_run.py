"""Publishes what aggregation made: the run `study`, and the results in descriptions and tags."""

from pathlib import Path
from typing import Any

from stages.study import paths
from stages.study.params import Params
from stages.study.records.current import aggregated, study_files, study_key
from stages.tracking import address, results
from stages.tracking.claims import other_publisher
from stages.tracking.experiment import FINISHED, NOTE, Experiment, has_files
from stages.tracking.runs import tag_variants

STUDY_NOTE = (
    "The results of the study, at one commit. Artifacts: `report.html`, its `tables` and `plots`, and `champion.json`, "
    "which names the served model."
)
REFUSED = "refused files"  # tag: files that were not published, as they are larger than the server accepts


def publish_study(experiment: Experiment, study: Params) -> int:
    """Publish the report with its tables and figures; 1 if they were not there yet."""
    if not aggregated(study):
        return 0
    (groups, raced), key = results.compared(study), study_key()
    text = results.description(study, groups, raced)
    with address.lock():
        # The experiment's description has the results of the checkout, not of a DVC experiment in a copy of it.
        if not address.queued_experiment():
            experiment.describe(text)
            tag_variants(experiment, study, results.tags(study, groups), results.is_result)
        return _publish(experiment, key, f"{STUDY_NOTE}\n\n{text}", len(study.variants))


def _publish(experiment: Experiment, key: str, note: str, variants: int) -> int:
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
        experiment.log(run, {"variants": variants})
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

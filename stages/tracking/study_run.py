"""Publishes what aggregation made, as a run of its own."""

from typing import Any

from stages.study import files, paths
from stages.study.current import aggregated, study_files, study_key
from stages.study.params import Params
from stages.tracking import address, client
from stages.tracking.address import KEY
from stages.tracking.runs import FINISHED, NOTE
from stages.tracking.target import Target, find

STUDY_NOTE = (
    "What the study found, at one commit. Artifacts: `report.html` is the answer, `tables` and `plots` are its parts, "
    "`champion.json` names the best variant and seed by dev accuracy."
)


def publish_study(target: Target, study: Params) -> int:
    """Publish the report with its tables and figures; 1 if they were not there yet."""
    if not aggregated(study):
        return 0
    key = study_key()
    with address.lock():
        run = find(target, {key}).get(key)
        if run and run.info.status == FINISHED:
            if not client.lost(run, paths.REPORT.name):
                return 0
            _log_files(target, run.info.run_id)
            return 1
        if run:  # broken off
            target.client.delete_run(run.info.run_id)
        run_id = _create(target, key)
        means = files.read_json(paths.SUMMARY)
        target.client.log_batch(
            run_id,
            metrics=[
                client.metric(f"mean_test_accuracy/{variant}", values["test_accuracy"]["mean"])
                for variant, values in means.items()
            ],
            params=client.parameters({"variants": len(means)}),
        )
        _log_files(target, run_id)
        client.finish(target.client, run_id)
        return 1


def _create(target: Target, key: str) -> Any:
    experiment = address.dvc_experiment()
    run = target.client.create_run(
        target.experiment,
        run_name=f"study, {experiment}" if experiment else "study",
        tags={KEY: key, "role": "study", NOTE: STUDY_NOTE, **client.source_tags("aggregate", target.commit)},
    )
    return run.info.run_id


def _log_files(target: Target, run_id: str) -> None:
    for path in study_files():
        folder = path.parent.name if path.parent in (paths.TABLES, paths.PLOTS) else None
        target.client.log_artifact(run_id, str(path), folder)

"""Publishes runs: one for each seed, under one for its variant, part by part as their files come to be."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.redact import redact
from stages.study import files, paths
from stages.study.params import Params
from stages.study.results import RUN_COLUMNS, find_results
from stages.tracking import address, client
from stages.tracking.address import KEY
from stages.tracking.record import NO_CURVES, PARTS, RUN_FILES, Gathered, Record, read
from stages.tracking.target import Target, find, search

FINISHED = "FINISHED"
METRIC_LIMIT = 1000  # of one `log_batch`
UNFINISHED = "unfinished"
NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
VARIANT_NOTE = (
    "Every seed of {variant} is a child run. Metrics are means over the seeds, `_sd` their standard deviations. Choose "
    "by `dev_accuracy`, report `test_accuracy`."
)


def publish(target: Target, study: Params, runs: Sequence[tuple[str, int]], parents: Sequence[str]) -> int:
    """Publish runs as far as their files are there, and the means of the variants `parents`.

    Returns:
        The number of runs that changed.
    """
    with address.lock():
        gathered = Gathered(study)
        wanted = [found for variant, seed in runs if (found := _read(study, variant, seed, gathered))]
        keys = {record.key for record in wanted} | {parent_key(study, record.variant) for record in wanted}
        known = find(target, keys)
        changed = 0
        for record in wanted:
            parent = _parent(target, study, record, known)
            changed += _publish_seed(target, study, record, parent, known.get(record.key))
        for variant in parents:
            if parent := known.get(parent_key(study, variant)):
                changed += _publish_means(target, variant, parent)
        # An experiment of DVC's in a copy of the checkout says nothing of the study's approaches.
        if parents and not address.queued_experiment():
            _name_approaches(target, study, known)
        return changed


def _read(study: Params, variant: str, seed: int, gathered: Gathered) -> Record | None:
    try:
        return read(study, variant, seed, gathered)
    except UserError as error:
        print(redact(f"warning: {variant} seed {seed} is not published: {error}"), file=sys.stderr, flush=True)
        return None


def parent_key(study: Params, variant: str) -> str:
    recipe = study.recipe(variant).key_fields()
    return files.digest("parent", files.json_bytes([study.data.name, variant, recipe]))


def _parent(target: Target, study: Params, record: Record, known: dict[str, Any]) -> Any:
    """The run of the record's variant, made where it is new or was broken off before it was whole."""
    variant, key = record.variant, parent_key(study, record.variant)
    run = known.get(key)
    if run is None or run.info.status != FINISHED:
        recipe = study.recipe(variant)
        run = run or target.client.create_run(
            target.experiment,
            run_name=variant,
            tags={
                **{KEY: key, "variant": variant, "family": recipe.family, "role": "variant"},
                **{NOTE: VARIANT_NOTE.format(variant=variant)},
                **client.source_tags(f"train@{variant}", target.commit),
            },
        )
        fields = recipe.model_dump(exclude={"seeds"})
        target.client.log_batch(run.info.run_id, params=client.parameters(fields))
        _log_data(target, run.info.run_id, study, record)
        client.finish(target.client, run.info.run_id)
        known[key] = target.client.get_run(run.info.run_id)
    return known[key]


def _publish_seed(target: Target, study: Params, record: Record, parent: Any, run: Any | None) -> int:
    done = dict(run.data.tags) if run else {}
    parts = {part: value for part in PARTS if (value := record.digest(part))}
    missing = [part for part, value in parts.items() if done.get(f"study.{part}") != value]
    if run and any(f"study.{part}" in done for part in missing):
        # Half of it was written, or it says something else by now: MLflow can't overwrite, so it is written anew.
        target.client.delete_run(run.info.run_id)
        run, done, missing = None, {}, list(parts)
    if run and "files" in parts and "files" not in missing and client.lost(run, *RUN_FILES):
        missing.append("files")  # which, unlike metrics, are written over
    orphan = run is not None and done.get(PARENT) != parent.info.run_id
    # A run of version 1 was published without its environment.
    tags = {name: value for name, value in record.environment.items() if run and done.get(name) != value}
    if run and not missing and not orphan and not tags and run.info.status == FINISHED:
        return 0
    if run is None:
        run = _create_seed(target, record, parent)
    elif orphan:  # its parent was deleted
        target.client.set_tag(run.info.run_id, PARENT, parent.info.run_id)
    for name, value in tags.items():
        target.client.set_tag(run.info.run_id, name, value)
    for part in missing:
        # The tag of a part is written before and after: a part that was cut off half way is told by its mark.
        target.client.set_tag(run.info.run_id, f"study.{part}", UNFINISHED)
        LOGGERS[part](target, run.info.run_id, study, record)
        target.client.set_tag(run.info.run_id, f"study.{part}", parts[part])
    _finish_seed(target, run, record)
    return 1


def _create_seed(target: Target, record: Record, parent: Any) -> Any:
    return target.client.create_run(
        target.experiment,
        start_time=int((record.facts["started"] if record.facts else time.time()) * 1000),
        run_name=f"{record.variant} seed {record.seed}",
        tags={
            KEY: record.key,
            PARENT: parent.info.run_id,
            "variant": record.variant,
            "family": record.recipe["family"],
            "seed": str(record.seed),
            "role": "seed",
            "data": record.data,
            **record.environment,
            NOTE: record.note(with_files=bool(record.facts)),
            **client.source_tags(f"train@{record.variant}", target.commit),
        },
    )


def _finish_seed(target: Target, run: Any, record: Record) -> None:
    """Its length is the time that training took, also where its scores come later."""
    if record.facts is None:
        client.finish(target.client, run.info.run_id)
        return
    length = int(record.facts["seconds"] * 1000)
    target.client.set_terminated(run.info.run_id, FINISHED, end_time=run.info.start_time + length)


def _log_training(target: Target, run_id: str, study: Params, record: Record) -> None:
    metrics = []
    for step, row in enumerate(record.curves.to_dict("records")):
        for name, value in row.items():
            if name not in NO_CURVES and pd.notna(value):
                metrics.append(client.metric(str(name), float(value), int(row.get("epoch", step))))
    target.client.log_batch(run_id, params=client.parameters({**record.recipe, "seed": record.seed}))
    for start in range(0, len(metrics), METRIC_LIMIT):
        target.client.log_batch(run_id, metrics=metrics[start : start + METRIC_LIMIT])
    _log_data(target, run_id, study, record)


def _log_data(target: Target, run_id: str, study: Params, record: Record) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = record.data[:36]
    dataset = Dataset(name=study.data.name, digest=digest, source_type="local", source=str(paths.TRAIN))
    target.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _log_scores(target: Target, run_id: str, study: Params, record: Record) -> None:
    metrics = [
        client.metric(name, float(value))
        for name, value in (record.scores or {}).items()
        if name not in RUN_COLUMNS and pd.notna(value)
    ]
    target.client.log_batch(run_id, metrics=metrics)


def _log_files(target: Target, run_id: str, study: Params, record: Record) -> None:
    folder = paths.run_path(record.variant, record.seed)
    for name in RUN_FILES:
        target.client.log_artifact(run_id, str(folder / name))
    target.client.set_tag(run_id, NOTE, record.note(with_files=True))


LOGGERS = {"training": _log_training, "scores": _log_scores, "files": _log_files}


def _publish_means(target: Target, variant: str, parent: Any) -> int:
    results = find_results(variant)
    if results is None:
        return 0
    scores = results.scores.drop(columns=RUN_COLUMNS).dropna(axis="columns")
    values = {"seeds": float(len(scores))}
    # The UI's columns have one name for parents and children: the parent shows the mean.
    for suffix, statistic in {"": scores.mean(), "_mean": scores.mean(), "_sd": scores.std()}.items():
        values |= {f"{name}{suffix}": float(value) for name, value in statistic.dropna().items()}
    fresh = {name: value for name, value in values.items() if parent.data.metrics.get(name) != value}
    if fresh:
        metrics = [client.metric(name, value) for name, value in fresh.items()]
        target.client.log_batch(parent.info.run_id, metrics=metrics)
    return bool(fresh)


def _name_approaches(target: Target, study: Params, known: dict[str, Any]) -> None:
    """What stands for an approach is params.yaml's to say: the study's other runs stay, but do not."""
    keys = {parent_key(study, variant): approach for approach, variant in study.approaches.items()}
    for key, approach in keys.items():
        if (run := known.get(key)) and run.data.tags.get("approach") != approach:
            target.client.set_tag(run.info.run_id, "approach", approach)
    for run in search(target, f"tags.role = 'variant' and tags.approach LIKE '%' and tags.`{KEY}` LIKE '%'"):
        if run.data.tags[KEY] not in keys:
            target.client.delete_tag(run.info.run_id, "approach")

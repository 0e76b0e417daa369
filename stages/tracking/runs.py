"""Publishes the runs of variants: one for each seed, as a child of one for its variant.

A run is published as a unit, when its training ends; its scores follow when it is evaluated. A tag holds the digest of
what was published. The status FINISHED is set last, so that an interrupted publication is recognized.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from stages.study import files, paths
from stages.study.params import Params
from stages.tracking import address
from stages.tracking.address import KEY
from stages.tracking.claims import other_publisher
from stages.tracking.experiment import DECIMALS, FINISHED, NOTE, Experiment, Metric, has_files
from stages.tracking.record import Record, read_records

CONTENT = "study.content"  # tag of a seed's run: the digest of what was published
MODEL = "study.model"  # tag of a seed's run with a model among its artifacts: the model's SHA-256
WARNING = "warning"  # tag of a seed's run that a reader should look at
DIVERGED = "diverged"  # tag of a seed's run that diverged: when; metric of a variant's run: how many did
PARENT = "mlflow.parentRunId"
APPROACH = "approach"  # tag of a variant's run that represents an approach
# A variant's run has the means of the scores only: MLflow's charts are in alphabetical order, and `alpha_accuracy`,
# which is no accuracy, would be the first.
SCORES = "^(dev|test)_"
ARTIFACTS = ("run.json", "model.keras")
VARIANT_NOTE = (
    "Every seed of {variant} is a child run. Metrics are means of the scores over the seeds, `_sd` their standard "
    "deviations. Choose by `dev_accuracy`, report `test_accuracy`."
)
SEED_NOTE = (
    "Seed {seed} of {variant}. Curves: {curves}; `val_` is the validation split. `dev_` and `test_` are the scores of "
    "the saved weights on the validation split and the test set. {artifacts}"
)
WITH_MODEL = "Artifacts: `model.keras`, and `run.json` with everything that the run depends on."
WITHOUT_MODEL = "Published without its model and the time it took, which were not in the workspace."
REFUSED = "Published without its model, which is larger than the server accepts."


def publish(
    experiment: Experiment,
    study: Params,
    wanted: Mapping[str, Sequence[int]],
    warn: Callable[[str], None],
    *,
    means: bool,
) -> int:
    """Publish the runs that the workspace has.

    Args:
        experiment: where to.
        study: what params.yaml says.
        wanted: the seeds of each variant.
        warn: called with a message about each run that can't be read.
        means: whether to publish the means of the variants, and which of them stand for an approach.

    Returns:
        The number of runs that changed.
    """
    with address.lock():
        records = {variant: read_records(study, variant, seeds, warn) for variant, seeds in wanted.items()}
        keys = {variant: parent_key(study, variant) for variant in wanted}
        known = experiment.find({record.key for found in records.values() for record in found} | {*keys.values()})
        changed = 0
        for variant, found in records.items():
            if found:
                parent = _current(experiment, keys[variant], known)
                if parent is None or not (parent.info.status == FINISHED or other_publisher(parent)):
                    parent = _publish_variant(experiment, study, found[0], keys[variant], parent)
                changed += _publish_seeds(experiment, study, found, parent.info.run_id, known)
                changed += _publish_means(experiment, found, parent) if means else 0
        # The approaches of a DVC experiment in a copy of the checkout are not those of the checkout.
        if means and not address.queued_experiment():
            approaches = {variant: {APPROACH: approach} for approach, variant in study.approaches.items()}
            tag_variants(experiment, study, approaches, lambda name: name == APPROACH)
        return changed


def _publish_seeds(
    experiment: Experiment, study: Params, records: Sequence[Record], parent: str, known: Mapping[str, Any]
) -> int:
    """Publish the runs of a variant; the number of those that changed."""
    current = ((record, _current(experiment, record.key, known)) for record in records)
    return sum(_publish_seed(experiment, study, record, parent, run) for record, run in current)


def _current(experiment: Experiment, key: str, known: Mapping[str, Any]) -> Any | None:
    """The published run with a key: one of `known`, or one that another machine has published since then."""
    if key in known or address.local_database():
        return known.get(key)
    return experiment.find({key}).get(key)


def parent_key(study: Params, variant: str) -> str:
    recipe = study.recipe(variant).key_fields()
    return files.digest("parent", files.json_bytes([study.data.name, variant, recipe]))


def _publish_variant(experiment: Experiment, study: Params, record: Record, key: str, run: Any | None) -> Any:
    """Publish the run of the record's variant, or complete one whose publication was interrupted."""
    variant = record.variant
    tags = {"variant": variant, "family": record.params["family"], "role": "variant"}
    tags[NOTE] = VARIANT_NOTE.format(variant=variant)
    run = run or experiment.create_run(variant, key, f"train@{variant}", tags)
    experiment.log(run, params={name: value for name, value in record.params.items() if name != "seed"})
    experiment.log_data(run, study.data.name, record.data, str(paths.TRAIN))
    experiment.finish(run)
    return experiment.client.get_run(run.info.run_id)


def _publish_seed(experiment: Experiment, study: Params, record: Record, parent: str, run: Any | None) -> int:
    """Publish a run, add to the published one what it lacks, or replace it; 1 if it changed."""
    if run and other_publisher(run):
        return 0
    if run and not _agrees(run, record):
        experiment.client.delete_run(run.info.run_id)  # MLflow can't overwrite metrics
        run = None
    tags, upload = _tags(record, parent, run), _lacks_model(run, record)
    if run is None:
        start = int(record.facts["started"] * 1000) if record.facts else None
        name = f"{record.variant} seed {record.seed}"
        run = experiment.create_run(name, record.key, f"train@{record.variant}", tags, start)
        experiment.log(run, record.params, [*record.curves, *_scores(record)])
        experiment.log_data(run, study.data.name, record.data, str(paths.TRAIN))
    elif upload or not tags.items() <= run.data.tags.items():
        experiment.reopen(run)
        has_scores = run.data.tags[CONTENT] == record.digest()
        experiment.log(run, metrics=[] if has_scores else _scores(record), tags=tags)
    else:
        return 0
    if upload:
        _upload_model(experiment, record, run)
    # The duration of a run is that of its training, also if its scores come later.
    experiment.finish(run, record.facts["seconds"] if record.facts else None)
    return 1


def _upload_model(experiment: Experiment, record: Record, run: Any) -> None:
    """Upload the files of a run; without its model, the tag that names it is deleted, and the next time it is tried."""
    uploaded = [experiment.upload(run, paths.run_path(record.variant, record.seed) / name) for name in ARTIFACTS]
    if not all(uploaded):
        experiment.client.delete_tag(run.info.run_id, MODEL)
        experiment.client.set_tag(run.info.run_id, NOTE, _note(record, REFUSED))


def _agrees(run: Any, record: Record) -> bool:
    """Whether a published run can stay: it has the record's content, without scores or with those of the same model."""
    tags = run.data.tags
    same = tags.get(CONTENT) in (record.digest(), record.digest(scores=False))
    evaluated_elsewhere = not record.scores and tags.get(MODEL) == record.model
    return run.info.status == FINISHED and (same or evaluated_elsewhere)


def _lacks_model(run: Any | None, record: Record) -> bool:
    """Whether the workspace has the run's model and the published run, if there is one, does not."""
    if record.model is None:
        return False
    return run is None or run.data.tags.get(MODEL) != record.model or not has_files(run, ARTIFACTS)


def _tags(record: Record, parent: str, run: Any | None) -> dict[str, str]:
    """The tags that a record's run should have.

    Args:
        record: what the workspace holds of it.
        parent: the id of the run of its variant.
        run: the published run that agrees with it, if there is one.
    """
    published = run.data.tags if run else {}
    tags = {
        PARENT: parent,
        "variant": record.variant,
        "family": record.params["family"],
        "seed": str(record.seed),
        "role": "seed",
        "data": record.data,
        NOTE: _note(record, WITH_MODEL if record.model or MODEL in published else WITHOUT_MODEL),
        **record.environment(),
    }
    if record.predicts_one_class:
        tags[WARNING] = "predicts one class only"
    if record.diverged is not None:
        tags[DIVERGED] = f"after epoch {record.diverged}"
        tags[WARNING] = "diverged; counts as a run that predicts the largest class"
    if record.model:
        tags[MODEL] = record.model
    if record.scores or not run:  # without scores here, those of the published run stay, and its digest with them
        tags[CONTENT] = record.digest()
    return tags


def _note(record: Record, artifacts: str) -> str:
    """The description of a record's run, which ends with a sentence on its artifacts."""
    curves = ", ".join(f"`{name}`" for name in dict.fromkeys(name for name, _, _ in record.curves))
    return SEED_NOTE.format(seed=record.seed, variant=record.variant, curves=curves, artifacts=artifacts)


def _scores(record: Record) -> list[Metric]:
    return [(name, value, 0) for name, value in record.scores.items()]


def _publish_means(experiment: Experiment, records: Sequence[Record], parent: Any) -> int:
    """Publish the means of a variant's scores; 1 if they changed."""
    scores = pd.DataFrame([record.scores for record in records if record.scores]).filter(regex=SCORES)
    scores = scores.dropna(axis="columns")
    if scores.empty:
        return 0
    values = {"seeds": float(len(scores))}
    # MLflow's table has one column for a metric of parents and children: the parent shows the mean there.
    for suffix, statistic in {"": scores.mean(), "_sd": scores.std()}.items():
        values |= {f"{name}{suffix}": round(float(value), DECIMALS) for name, value in statistic.dropna().items()}
    diverged = sum(record.diverged is not None for record in records if record.scores)
    if diverged or DIVERGED in parent.data.metrics:
        values[DIVERGED] = float(diverged)
    changed = [(name, value, 0) for name, value in values.items() if parent.data.metrics.get(name) != value]
    experiment.log(parent, metrics=changed)
    return bool(changed)


def tag_variants(
    experiment: Experiment, study: Params, wanted: Mapping[str, Mapping[str, str]], is_owned: Callable[[str], bool]
) -> None:
    """Set tags of the runs of variants, and remove the owned tags that a run of a study should not have any more.

    Args:
        experiment: where to.
        study: what params.yaml says.
        wanted: variant → its tags.
        is_owned: whether a tag is one of these by its name.
    """
    by_key = {parent_key(study, variant): tags for variant, tags in wanted.items()}
    for run in experiment.search(f"tags.role = 'variant' and tags.`{KEY}` LIKE '%'"):
        tags = by_key.get(run.data.tags[KEY], {})
        if not tags.items() <= run.data.tags.items():
            experiment.log(run, tags=tags)
        for name in filter(is_owned, run.data.tags.keys() - tags.keys()):
            experiment.client.delete_tag(run.info.run_id, name)

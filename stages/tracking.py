"""The study's runs as MLflow shows them. Besides, only `register`, `serve` and `mlflow_source` import mlflow.

MLflow is a view: everything here is read from the files of the study, and can be published again at any time.
`python -m stages.tracking` publishes whatever the workspace holds and MLflow lacks.
"""

import contextlib
import fcntl
import hashlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError
from ruamel.yaml import YAML

from stages import families, files, git, params, records, terminal, views
from stages.errors import StudyError
from stages.params import Params

LOCK = Path("dvc.lock")
DATABASE = Path("mlflow.db")
ARTIFACTS = Path("mlartifacts")
KEY = "study.key"
FINISHED = "FINISHED"
METRIC_LIMIT = 1000  # of one `log_batch`
PARTS = ("training", "scores", "files")
EXPERIMENT_NOTE = (
    "The run `study` holds the report; each variant is a run with a child run for each seed. See **Views** for scores."
)
VARIANT_NOTE = (
    "Every seed of {variant} is a child run. Metrics are means over the seeds, `_sd` their standard deviations. Choose "
    "by `dev_accuracy`, report `test_accuracy`."
)
STUDY_NOTE = (
    "What the study found, at one commit. Artifacts: `report.html` is the answer, `tables` and `plots` are its parts, "
    "`champion.json` names the best variant and seed by dev accuracy."
)
SCORES_NOTE = (
    "`dev_` and `test_` are the scores of the saved weights. Artifacts: `model.keras`, and `run.json` with all that "
    "decides the run's bits."
)


class Publisher:
    """Publishes runs of one study, and gives up with a warning, never an error, when MLflow can't be written."""

    def __init__(self, study: Params) -> None:
        self._study = study
        self._mlflow: _Mlflow | None = None
        self.failed = False

    def publish(self, variant: str, seed: int) -> int:
        """Publish one run as far as its files are there; the number of runs that changed."""
        return self._try(lambda mlflow: mlflow.publish([(variant, seed)], []))

    def publish_variants(self, variants: Sequence[str]) -> int:
        """Publish all runs of `variants` and the parent run of each; the number of runs that changed."""
        former = outdated(self._study)
        if stale := [variant for variant in variants if variant in former]:
            print(
                f"warning: not published: {', '.join(stale)}. {LOCK} has them with other parameters or data than "
                f"{params.PARAMS}: run `dvc repro`.",
                file=sys.stderr,
                flush=True,
            )
        fresh = [variant for variant in variants if variant not in stale]
        runs = [(variant, seed) for variant in fresh for seed in range(self._study.recipe(variant).seeds)]
        return self._try(lambda mlflow: mlflow.publish(runs, fresh))

    def publish_study(self) -> int:
        """Publish what aggregation made, as a run of its own; 1 if it was not there yet."""
        return self._try(lambda mlflow: mlflow.publish_study())

    def _try(self, publish: Callable[["_Mlflow"], int]) -> int:
        if self.failed:
            return 0
        # Whatever a tracking server or its client library raises, the study's own results must not suffer from it.
        try:
            if self._mlflow is None:
                self._mlflow = _Mlflow(self._study)
            return publish(self._mlflow)
        except Exception as error:  # noqa: BLE001
            self.failed = True
            first_line = str(error).strip().split("\n")[0]
            print(
                f"warning: MLflow at {tracking_uri()} can't be written ({type(error).__name__}: {first_line}). "
                "The study goes on; `make ui` publishes what is missing.",
                file=sys.stderr,
                flush=True,
            )
            return 0


def outdated(study: Params) -> list[str]:
    """The variants whose results, as DVC has recorded them, are not of the study's parameters and data."""
    if not LOCK.exists():
        return []
    stages = YAML(typ="safe").load(LOCK.read_text(encoding="utf-8")).get("stages", {})

    def recorded(stage: str, what: str) -> dict[str, Any]:
        return {entry["path"]: entry.get("md5") for entry in stages.get(stage, {}).get(what, [])}

    def parameters(stage: str) -> dict[str, Any]:
        return dict(stages[stage].get("params", {}).get(str(params.PARAMS), {}))

    other_data = "fetch" in stages and parameters("fetch").get("data") != study.data.model_dump(exclude_unset=True)
    images = str(records.TRAIN)
    found = []
    for variant, recipe in study.variants.items():
        stage = f"train@{variant}"
        if stage in stages and (
            other_data
            or _decisive(parameters(stage).get(f"variants.{variant}")) != recipe.decisive()
            or recorded(stage, "deps").get(images) != recorded("split", "outs").get(images)
        ):
            found.append(variant)
    return found


def _decisive(fields: Any) -> dict[str, Any] | None:
    """What of a recipe in dvc.lock decides its runs; None where such a recipe can't be any more."""
    try:
        return families.recipe_class(fields["family"]).model_validate(fields).decisive()
    except (KeyError, TypeError, StudyError, ValidationError):
        return None


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database in the checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE.resolve()}"


def _local_database() -> Path | None:
    """The file of an SQLite database, where the tracking URI names one and nothing else."""
    path = tracking_uri().removeprefix("sqlite:///")
    return None if path == tracking_uri() or path.startswith("file:") else Path(path).resolve()


class _Mlflow:
    def __init__(self, study: Params) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # A server that is down should cost seconds, not the minutes of MLflow's own patience.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        # It would print two addresses for every run.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        import logging

        import mlflow  # here: it takes seconds, and a stage that has nothing to publish need not wait

        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._entities = mlflow.entities
        self._study = study
        with lock():  # two processes that create the database at once collide
            if (database := _local_database()) and not database.exists():
                # Whole or not at all: MLflow refuses for ever what a kill has left of a database half made.
                with files.written_whole(database) as unfinished:
                    mlflow.MlflowClient(tracking_uri=f"sqlite:///{unfinished}").search_experiments()
            self._client = mlflow.MlflowClient(tracking_uri=tracking_uri())
            self._experiment = self._experiment_id(study.data.name)
        self._commit = git.code_commit()
        self._now = int(time.time() * 1000)

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            local = _local_database()
            made = self._client.create_experiment(
                name,
                # Beside the database; a server knows its own place.
                artifact_location=(local.parent / ARTIFACTS).as_uri() if local else None,
                tags={"mlflow.note.content": EXPERIMENT_NOTE, "mlflow.experimentKind": "custom_model_development"},
            )
            found = self._client.get_experiment(made)
        for key, value in views.views(self._study).items():
            if found.tags.get(key) != value:
                self._client.set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)

    def publish(self, runs: Sequence[tuple[str, int]], parents: Sequence[str]) -> int:
        with lock():
            wanted = [record for variant, seed in runs if (record := self._read(variant, seed))]
            keys = {record.key for record in wanted} | {self._parent_key(record.variant) for record in wanted}
            known = self._find(keys)
            changed = 0
            for record in wanted:
                changed += self._publish_run(record, self._parent(record, known), known)
            for variant in parents:
                if parent := known.get(self._parent_key(variant)):
                    changed += self._publish_means(variant, parent)
            if parents:
                self._withdraw_approaches()
            return changed

    def _withdraw_approaches(self) -> None:
        """What stands for an approach is params.yaml's to say: other runs stay, but do not."""
        keys = {self._parent_key(variant) for variant in self._study.approaches.values()}
        for run in self._client.search_runs(
            [self._experiment], "tags.role = 'variant' and tags.approach LIKE '%'", max_results=1000
        ):
            if run.data.tags.get(KEY) not in keys:
                self._client.delete_tag(run.info.run_id, "approach")

    def _read(self, variant: str, seed: int) -> "_Record | None":
        try:
            return _Record.read(self._study, variant, seed)
        except StudyError as error:
            print(f"warning: {variant} seed {seed} is not published: {error}", file=sys.stderr, flush=True)
            return None

    def _find(self, keys: set[str]) -> dict[str, Any]:
        """The published runs by their key; of two with one key, left by publishers on two machines, the first stays."""
        few = len(keys) <= 2
        listed: list[Any] = []
        for text in [f"tags.`{KEY}` = '{key}'" for key in sorted(keys)] if few else [""]:
            token = None
            while True:
                page = self._client.search_runs(
                    [self._experiment], text, order_by=["attributes.start_time ASC"], max_results=1000, page_token=token
                )
                listed += page
                token = page.token
                if not token:
                    break
        found: dict[str, Any] = {}
        for run in listed:
            key = run.data.tags.get(KEY)
            if key in found:
                self._client.delete_run(run.info.run_id)
            elif key in keys:
                found[key] = run
        return found

    def _parent_key(self, variant: str) -> str:
        recipe = self._study.recipe(variant).decisive()
        return files.digest("parent", files.json_bytes([self._study.data.name, variant, recipe]))

    def _parent(self, record: "_Record", known: dict[str, Any]) -> Any:
        variant, key = record.variant, self._parent_key(record.variant)
        run = known.get(key)
        if run is None or run.info.status != FINISHED:  # new, or broken off before it was whole
            recipe = self._study.recipe(variant)
            run = run or self._client.create_run(
                self._experiment,
                run_name=variant,
                tags={
                    **{KEY: key, "variant": variant, "family": recipe.family, "role": "variant"},
                    **{"mlflow.note.content": VARIANT_NOTE.format(variant=variant), **self._source(f"train@{variant}")},
                },
            )
            self._client.log_batch(run.info.run_id, params=self._parameters(recipe.model_dump(exclude={"seeds"})))
            self._log_data(run.info.run_id, record)
            self._client.set_terminated(run.info.run_id)
            known[key] = self._client.get_run(run.info.run_id)
        return known[key]

    def _source(self, stage: str) -> dict[str, str]:
        """The tags behind the UI's column "Source": what made the run, and from which commit of the code."""
        commit = {"mlflow.source.git.commit": self._commit, "git_commit": self._commit} if self._commit else {}
        return {"mlflow.source.name": f"dvc repro {stage}", "mlflow.source.type": "LOCAL", **commit}

    def _publish_run(self, record: "_Record", parent: Any, known: dict[str, Any]) -> int:
        run = known.get(record.key)
        done = dict(run.data.tags) if run else {}
        parts = {part: value for part in PARTS if (value := record.digest(part))}
        missing = [part for part, value in parts.items() if done.get(f"study.{part}") != value]
        if not missing and run and run.info.status == FINISHED:
            return 0
        if run and any(f"study.{part}" in done for part in missing):
            # Half of it was written, or it says something else by now: MLflow can't overwrite, so it is written anew.
            self._client.delete_run(run.info.run_id)
            run, missing = None, list(parts)
        if run is None:
            started = int(record.facts["started"] * 1000) if record.facts else self._now
            run = self._client.create_run(
                self._experiment,
                start_time=started,
                run_name=f"{record.variant} seed {record.seed}",
                tags={
                    KEY: record.key,
                    "mlflow.parentRunId": parent.info.run_id,
                    "variant": record.variant,
                    "family": record.recipe["family"],
                    "seed": str(record.seed),
                    "role": "seed",
                    "data": record.data,
                    "mlflow.note.content": record.note(),
                    **self._source(f"train@{record.variant}"),
                },
            )
        for part in missing:
            # The tag of a part is written before and after: a part that was cut off half way is told by its mark.
            self._client.set_tag(run.info.run_id, f"study.{part}", "unfinished")
            getattr(self, f"_log_{part}")(run.info.run_id, record)
            self._client.set_tag(run.info.run_id, f"study.{part}", parts[part])
        # The time that training took, also where its scores come later.
        length = int(record.facts["seconds"] * 1000) if record.facts else 0
        self._client.set_terminated(run.info.run_id, FINISHED, end_time=run.info.start_time + length)
        return 1

    def _log_training(self, run_id: str, record: "_Record") -> None:
        metrics = []
        for step, row in enumerate(record.curves.to_dict("records")):
            for name, value in row.items():
                if name not in ("seed", "epoch", "search") and pd.notna(value):
                    metrics.append(self._metric(str(name), float(value), int(row.get("epoch", step))))
        parameters = self._parameters({**record.recipe, "seed": record.seed})
        self._client.log_batch(run_id, params=parameters)
        for start in range(0, len(metrics), METRIC_LIMIT):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRIC_LIMIT])
        self._log_data(run_id, record)

    def _log_data(self, run_id: str, record: "_Record") -> None:
        dataset = self._entities.Dataset(
            name=self._study.data.name, digest=record.data[:36], source_type="local", source=str(records.TRAIN)
        )
        tags = [self._entities.InputTag("mlflow.data.context", "training")]
        self._client.log_inputs(run_id, [self._entities.DatasetInput(dataset, tags)])

    def _log_scores(self, run_id: str, record: "_Record") -> None:
        assert record.scores is not None
        metrics = [
            self._metric(name, float(value), 0)
            for name, value in record.scores.items()
            if name not in records.RUN_COLUMNS and pd.notna(value)
        ]
        self._client.log_batch(run_id, metrics=metrics)

    def _log_files(self, run_id: str, record: "_Record") -> None:
        folder = records.run_path(record.variant, record.seed)
        for name in ("run.json", "model.keras"):
            self._client.log_artifact(run_id, str(folder / name))

    def _publish_means(self, variant: str, parent: Any) -> int:
        if not records.scores_path(variant).exists():
            return 0
        scores = records.read_scores(variant).drop(columns=records.RUN_COLUMNS).dropna(axis="columns")
        values = {"seeds": float(len(scores))}
        # The UI's columns have one name for parents and children: the parent shows the mean.
        for suffix, statistic in {"": scores.mean(), "_mean": scores.mean(), "_sd": scores.std()}.items():
            values |= {f"{name}{suffix}": float(value) for name, value in statistic.dropna().items()}
        fresh = {name: value for name, value in values.items() if parent.data.metrics.get(name) != value}
        if fresh:
            metrics = [self._metric(name, value, 0) for name, value in fresh.items()]
            self._client.log_batch(parent.info.run_id, metrics=metrics)
        for approach, named in self._study.approaches.items():
            if named == variant and parent.data.tags.get("approach") != approach:
                self._client.set_tag(parent.info.run_id, "approach", approach)
        return bool(fresh)

    def publish_study(self) -> int:
        if not aggregated(self._study):
            return 0
        means, key = files.read_json(records.SUMMARY), study_key()
        with lock():
            run = self._find({key}).get(key)
            if run and run.info.status == FINISHED:
                return 0
            if run:  # broken off
                self._client.delete_run(run.info.run_id)
            run = self._client.create_run(
                self._experiment,
                run_name="study",
                tags={
                    **{KEY: key, "role": "study", "mlflow.note.content": STUDY_NOTE},
                    **self._source("aggregate"),
                },
            )
            self._client.log_batch(
                run.info.run_id,
                metrics=[
                    self._metric(f"mean_test_accuracy/{variant}", values["test_accuracy"]["mean"], 0)
                    for variant, values in means.items()
                ],
                params=self._parameters({"variants": len(means)}),
            )
            for path in study_files():
                folder = path.parent.name if path.parent in (records.TABLES, records.PLOTS) else None
                self._client.log_artifact(run.info.run_id, str(path), folder)
            self._client.set_terminated(run.info.run_id)
            return 1

    def _metric(self, name: str, value: float, step: int) -> Any:
        return self._entities.Metric(name, value, int(time.time() * 1000), step)

    def _parameters(self, values: dict[str, Any]) -> list[Any]:
        return [self._entities.Param(name, str(value)) for name, value in values.items()]


def study_files() -> list[Path]:
    """What aggregation makes and MLflow's run `study` holds."""
    tables_and_plots = [path for folder in (records.TABLES, records.PLOTS) for path in sorted(folder.glob("*"))]
    return [records.REPORT, records.SUMMARY, records.CHAMPION, *tables_and_plots]


def study_key() -> str:
    """The tag `KEY` of the run `study` with the files that are here."""
    return files.digest("study", *(part for path in study_files() for part in (path.name, path.read_bytes())))


def aggregated(study: Params) -> bool:
    """Whether what aggregation made is of the study's parameters, and of the scores that the workspace holds."""
    if not all(path.exists() for path in study_files()) or outdated(study):
        return False
    summary = files.read_json(records.SUMMARY)
    for variant, recipe in study.variants.items():
        if variant not in summary or not records.scores_path(variant).exists():
            return False
        scores, mean = records.read_scores(variant)["test_accuracy"], summary[variant]["test_accuracy"]["mean"]
        if len(scores) != recipe.seeds or not math.isclose(scores.mean(), mean, abs_tol=1e-7):
            return False
    return True


class _Record:
    """What the workspace holds of one run; `facts` and the files only where its models are."""

    def __init__(
        self,
        variant: str,
        seed: int,
        recipe: dict[str, Any],
        facts: dict[str, Any] | None,
        curves: pd.DataFrame,
        scores: dict[str, Any] | None,
    ) -> None:
        self.variant, self.seed, self.recipe = variant, seed, recipe
        self.facts, self.curves, self.scores = facts, curves, scores
        source = facts or scores
        assert source is not None
        self.key: str = source["key"]
        self.data: str = facts["digests"]["data"] if facts else source["data"]

    @staticmethod
    def read(study: Params, variant: str, seed: int) -> "_Record | None":
        """The run's record, or None where the workspace has nothing of it."""
        recipe = study.recipe(variant)
        folder = records.run_path(variant, seed)
        facts = records.read_facts(folder) if (folder / "run.json").exists() else None
        scores = None
        if records.scores_path(variant).exists():
            table = records.read_scores(variant)
            rows = table[table["seed"] == seed].to_dict("records")
            scores = {str(name): value for name, value in rows[0].items()} if rows else None
        if facts and scores and facts["key"] != scores["key"]:
            scores = None  # of the model that this one has replaced
        if facts is None and scores is None:
            return None
        own = folder / "curves.csv"
        table = files.read_table(own if own.exists() else records.curves_path(variant), ["seed", *recipe.curve])
        return _Record(variant, seed, recipe.model_dump(exclude={"seeds"}), facts, table[table["seed"] == seed], scores)

    def note(self) -> str:
        curves = ", ".join(f"`{name}`" for name in self.curves.columns if name not in ("seed", "epoch", "search"))
        by = "epoch" if "epoch" in self.curves.columns else "step of the search"
        return f"Seed {self.seed} of {self.variant}. Curves by {by}: {curves}; `val_` is its dev split. {SCORES_NOTE}"

    def digest(self, part: str) -> str | None:
        """What tells whether a part has been published as it is; None where there is nothing of it to publish."""
        if part == "training":
            return files.digest(files.csv_bytes(self.curves))
        if part == "scores":
            return files.digest(repr(sorted(self.scores.items()))) if self.scores else None
        return self.facts["digests"]["model"] if self.facts else None


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One publisher at a time on this machine and tracking URI: MLflow itself can't make a run's key unique."""
    name = hashlib.sha256(tracking_uri().encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"study-mlflow-{os.getuid()}-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@terminal.command
def main() -> None:
    terminal.take_no_arguments("stages.tracking", __doc__)
    study = params.load()
    publisher = Publisher(study)
    changed = publisher.publish_variants(list(study.variants)) + publisher.publish_study()
    if publisher.failed:
        raise StudyError("not everything is published: mend what the warning names, or set MLFLOW_TRACKING_URI")
    print(f"{changed} runs published or brought up to date; {tracking_uri()}")


if __name__ == "__main__":
    main()

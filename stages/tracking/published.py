"""Whether the local database has all that the workspace holds, known without MLflow, whose import takes seconds.

After a publication without a warning, a digest is written beside the database: of the database, of the names of its
artifacts, and of all that decides what is published. As long as it is the same, there is nothing to publish. It changes
if the database is deleted, edited, replaced or moved, if artifacts are lost, and with the experiment and the version of
MLflow. A tracking server is always asked: nothing here shows what others have changed there.
"""

import hashlib
import importlib.metadata
from pathlib import Path

from stages.study import files, params, paths
from stages.study.params import Params
from stages.study.records.current import outdated
from stages.tracking import address

SUFFIX = ".published"  # of the file beside the database
CODE = ("many_seeds", "stages/recipes", "stages/study", "stages/tracking")  # decides which tags and texts are published


def workspace_digest(study: Params) -> str:
    """A digest of all that decides what is published and where to: results, models, settings and code.

    Raises:
        UserError: dvc.lock is damaged.
    """
    project = Path(__file__).parents[2]
    read = [params.PARAMS, *paths.MODELS.glob("*/*/run.json"), *paths.MODELS.glob("*/*/curves.csv")]
    read += [path for path in paths.RUNS.parent.rglob("*") if path.is_file()]
    read += [path for folder in CODE for path in (project / folder).rglob("*.py")]
    parts: list[str | bytes] = [str(Path.cwd()), address.tracking_uri(), address.experiment_name(study)]
    # Not all of dvc.lock: DVC writes it anew after the stage that publishes.
    parts += [importlib.metadata.version("mlflow"), *outdated(study)]
    for path in sorted(path for path in read if path.exists()):
        parts += [str(path), path.read_bytes()]
    return files.digest(*parts)


def is_complete(workspace: str) -> bool:
    """Whether nothing has changed since `record_complete`, neither in the workspace nor in the database.

    Args:
        workspace: its digest.
    """
    record = _record()
    return record is not None and record.exists() and record.read_text(encoding="utf-8") == _digest(workspace)


def record_complete(workspace: str) -> None:
    """Record that the local database has all that the workspace held; nothing if a server was published to.

    A run that someone else deletes between its publication and this call is not noticed before the next change.

    Args:
        workspace: its digest before the publication.
    """
    if record := _record():
        files.write_bytes(record, _digest(workspace).encode())


def _record() -> Path | None:
    """The file beside the local database; None without a local database."""
    database = address.local_database()
    return database.with_name(database.name + SUFFIX) if database and database.exists() else None


def _digest(workspace: str) -> str:
    """The content of the record if the database is complete as it is now."""
    database = address.local_database()
    assert database is not None
    parts = [workspace]
    for path in (database, database.with_name(f"{database.name}-wal")):  # SQLite's latest writes may be in the second
        if path.exists():
            with path.open("rb") as file:
                parts.append(hashlib.file_digest(file, "sha256").hexdigest())
    artifacts = sorted(path.as_posix() for path in (database.parent / address.ARTIFACTS).rglob("*"))
    return files.digest(*parts, *artifacts)

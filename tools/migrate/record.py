"""Write the files of version 2, and record the stages in dvc.lock."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from many_seeds.errors import UserError
from stages.ledger.stage import update
from stages.study import dvc, files, git, paths
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.environments import CERTIFIED, CODE, PARTS, Part
from stages.study.provenance.identities import variant_identity
from tools.migrate.origin import Origin

CodeLines = dict[Part, dict[str, str]]  # of metrics/code.yaml: part → variant → environment


@contextlib.contextmanager
def locked_repository() -> Iterator[Any]:
    """DVC's repository in the current folder, under its lock.

    Raises:
        UserError: DVC fails, for example because another DVC command is running.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # otherwise it prints the name of a temporary file
    try:
        repository = Repo(".")
        with contextlib.closing(repository), repository.lock:
            yield repository
    except DvcException as error:
        raise UserError(f"DVC failed: {error}. Fix that and run this command again") from error


def code_lines(study: Params, origins: Mapping[str, Origin]) -> CodeLines:
    """The lines of metrics/code.yaml with the environments of the results.

    A variant is stale afterwards if today's code or packages differ from them.
    """
    certificates = environments.read_certificates()
    identities = {variant: variant_identity(study.recipe(variant), study) for variant in origins}
    return {
        part: {
            variant: str(environments.canonical(identities[variant], part, origin.environments[part], certificates))
            for variant, origin in origins.items()
        }
        for part in PARTS
    }


def write_files(origins: Mapping[str, Origin], lines: CodeLines) -> list[str]:
    """Write environments.csv of each variant, metrics/certified.csv and metrics/code.yaml.

    Returns:
        What was written, including dvc.lock, which `record_stages` writes.
    """
    for variant, origin in origins.items():
        files.write_table(paths.environments_path(variant), origin.rows)
    written = [f"{paths.environments_path('<variant>')} of {len(origins)} variant(s)"]
    if not CERTIFIED.exists():
        files.write_table(CERTIFIED, environments.read_certificates())
        written.append(str(CERTIFIED))
    files.write_yaml(CODE, lines)
    return [*written, str(CODE), str(dvc.LOCK)]


def start_ledger(study: Params) -> str:
    """Enter the comparisons of the study in a new ledger: version 1 had none.

    A ledger in the workspace that is not committed is the one of the original repository, which a merge of version 2
    has added, or that of a migration that was killed. It is replaced, and its numbers of seeds are deleted.

    Returns:
        The file of the ledger.
    """
    for path in (paths.COMPARISONS, paths.SEEN):
        if git.committed(path) is None:
            path.unlink(missing_ok=True)
    update(study)
    return str(paths.COMPARISONS)


def record_stages(repository: Any, stages: list[Any]) -> None:
    """Record stages in dvc.lock as they are in the workspace; the file is replaced once, at the end."""
    from dvc.dvcfile import Lockfile

    with files.written_whole(dvc.LOCK) as unfinished:
        unfinished.write_bytes(dvc.LOCK.read_bytes())
        for stage in stages:
            stage.save(allow_missing=True, run_cache=False)
        Lockfile(repository, str(unfinished.resolve())).dump_stages(stages)

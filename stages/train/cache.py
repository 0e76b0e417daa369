"""Restore runs from DVC's cache, for recipes or numbers of seeds that params.yaml had before."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stages.study import dvc, files, paths
from stages.train.plan import FILES, undamaged_facts
from stages.train.run import Run


def restore(runs: Sequence[Run]) -> None:
    """Restore those runs that the cache has to their folders. Damaged files of the cache are left out."""
    wanted = {run.key: run for run in runs}
    if not wanted or not Path(".dvc").is_dir():
        return
    for copies in _cached_runs(_cache()):
        run = wanted.get(_key(copies["run.json"]))
        if run is not None and (contents := _undamaged(run, copies)):
            files.write_folder(paths.run_path(run.variant, run.seed), contents)
            del wanted[run.key]


def _cache() -> Path:
    """The folder of the cache's files."""
    found = subprocess.run(dvc.command("cache", "dir"), capture_output=True, text=True, check=False)
    return Path(found.stdout.strip() or ".dvc/cache") / "files" / "md5"


def _cached_runs(cache: Path) -> Iterator[dict[str, Path]]:
    """For every run in the cache, its files as name → path in the cache."""
    for folder in sorted(cache.glob("*/*.dir")):
        seeds: dict[str, dict[str, Path]] = {}
        for relative, digest in _listed(folder):
            seed, _, name = relative.partition("/")
            if name in FILES:
                seeds.setdefault(seed, {})[name] = cache / digest[:2] / digest[2:]
        yield from (copies for copies in seeds.values() if copies.keys() == {*FILES})


def _listed(folder: Path) -> list[tuple[str, str]]:
    """The relative path and the digest of each file in a folder of the cache; none if its list is damaged."""
    try:
        return [(str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(folder.read_bytes())]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _key(facts: Path) -> str:
    """The key of a run in the cache; empty if its run.json is missing or damaged."""
    try:
        return str(json.loads(facts.read_bytes())["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _undamaged(run: Run, copies: Mapping[str, Path]) -> dict[str, bytes] | None:
    """The files of a run in the cache as name → content; None if one is missing or damaged."""
    try:
        contents = {name: path.read_bytes() for name, path in copies.items()}
    except OSError:
        return None
    return contents if undamaged_facts(run, contents) else None

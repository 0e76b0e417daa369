"""Restore runs from DVC's cache, for recipes or numbers of seeds that params.yaml had before."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.study import dvc, files, paths
from stages.train.run import Run

NAMES = {"model.keras", "curves.csv", "run.json"}  # the files of a run


def restore(runs: Sequence[Run]) -> None:
    """Restore those runs that the cache has to their folders."""
    wanted = {run.key: run for run in runs}
    if not wanted or not Path(".dvc").is_dir():
        return
    for contents in _cached_runs(_cache()):
        run = wanted.get(json.loads(contents["run.json"].read_bytes()).get("key"))
        if run is not None and {name for name, path in contents.items() if path.exists()} == NAMES:
            content = {name: path.read_bytes() for name, path in contents.items()}
            files.write_folder(paths.run_path(run.variant, run.seed), content)
            del wanted[run.key]


def _cache() -> Path:
    """The folder of the cache's files."""
    found = subprocess.run(dvc.command("cache", "dir"), capture_output=True, text=True, check=False)
    return Path(found.stdout.strip() or ".dvc/cache") / "files" / "md5"


def _cached_runs(cache: Path) -> Iterator[dict[str, Path]]:
    """For every run in the cache, its files as name → path in the cache."""
    for folder in sorted(cache.glob("*/*.dir")):
        seeds: dict[str, dict[str, Path]] = {}
        for entry in json.loads(folder.read_bytes()):
            seed, _, name = entry["relpath"].partition("/")
            if name in NAMES:
                seeds.setdefault(seed, {})[name] = cache / entry["md5"][:2] / entry["md5"][2:]
        yield from (contents for contents in seeds.values() if "run.json" in contents and contents["run.json"].exists())

"""What the benchmark has found so far, on disk: each file written whole as soon as there is something new."""

import io
import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FACTS = "gpu.json"


class Results:
    """facts: what gpu.json says. blocks: the files of finished seeds, by their name in the archive `runs`."""

    def __init__(self, folder: Path, earlier: Path | None, runs: str) -> None:
        self.folder, self._runs = folder, runs
        self.facts: dict[str, Any] = {}
        self.blocks: dict[str, bytes] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for source in (earlier, folder):
            if source and (source / FACTS).exists():
                self.facts = json.loads((source / FACTS).read_text())
            if source and (source / runs).exists():
                with zipfile.ZipFile(source / runs) as archive:
                    self.blocks = {name: archive.read(name) for name in archive.namelist()}

    def note(self, part: str, name: str, value: Any) -> None:
        with self._lock:
            self.facts.setdefault(part, {})[name] = value
            _write(self.folder / FACTS, json.dumps(self.facts, indent=1).encode())
        print(f"{part} {name}: {json.dumps(value)}", flush=True)

    def has(self, part: str, name: str) -> bool:
        return name in self.facts.get(part, {})

    def seeds(self, variant: str) -> set[int]:
        """The seeds of a variant that are finished."""
        return {seed for name in self.blocks for seed in _seeds(name, variant)}

    def add_block(
        self, variant: str, seeds: list[int], arrays: dict[str, np.ndarray], tables: dict[str, pd.DataFrame]
    ) -> None:
        """Keep a block of seeds: `arrays` as .npz, each of `tables` as .csv."""
        name = f"{variant}/{seeds[0]}-{seeds[-1]}"
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        files = {f"{name}.npz": buffer.getvalue()}
        for table, frame in tables.items():
            files[f"{name}.{table}.csv"] = frame.to_csv(index=False, float_format="%.8g").encode()
        with self._lock:
            self.blocks |= files
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
                for file, content in self.blocks.items():
                    target.writestr(zipfile.ZipInfo(file), content, zipfile.ZIP_DEFLATED)
            _write(self.folder / self._runs, archive.getvalue())
        print(f"runs {name}: {sum(len(content) for content in files.values()):,} bytes", flush=True)


def _seeds(name: str, variant: str) -> range:
    folder, _, file = name.partition("/")
    if folder != variant or not file.endswith(".npz"):
        return range(0)
    first, last = file.removesuffix(".npz").split("-")
    return range(int(first), int(last) + 1)


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)

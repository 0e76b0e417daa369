"""The results so far, in a folder: written atomically after each one, so that an interruption loses little."""

import json
import zipfile
from pathlib import Path
from typing import Any

from stages.study import files

FACTS = "gpu.json"


class Results:
    """facts: what gpu.json says, by part and name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FACTS
        self.facts: dict[str, Any] = files.read_json(path) if path.exists() else {}

    def note(self, part: str, name: str, value: Any) -> None:
        self.facts.setdefault(part, {})[name] = value
        files.write_json(self.folder / FACTS, self.facts)
        print(f"{part} {name}: {json.dumps(value)}", flush=True)

    def has(self, part: str, name: str) -> bool:
        return name in self.facts.get(part, {})

    def keep(self, name: str, folder: Path) -> None:
        """Every file below `folder`, by its path from here, as an archive."""
        with (
            files.written_whole(self.folder / name) as unfinished,
            zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path)

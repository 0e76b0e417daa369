"""Clones of this checkout with a small study on the digits, for `dvc repro`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pandas as pd
from ruamel.yaml import YAML

from stages.study import files
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS

REPOSITORY = Path(__file__).parents[2]
SEEDS = 2
NETWORK = {
    "family": "network",
    "seeds": SEEDS,
    "filters": [],
    "pool": [],
    "conv_dropout": [],
    "units": [16],
    "dropout": 0.5,
    "initializer": "glorot_uniform",
    "precision": "float32",
    "learning_rate": 0.001,
    "decay": None,
    "batch_size": 32,
    "epochs": 2,
    "dev_split": False,
    "patience": None,
    "restore_best": False,
}
STUDY: dict[str, Any] = {
    "data": {"name": "digits"},
    "split": {"dev_fraction": 0.2, "seeds": 8},
    "variants": {
        "linear": {"family": "ridge", "seeds": SEEDS, "grid_powers": [-10, 13], "tolerance": 0.1},
        "mlp": NETWORK,
        "cnn": {
            **NETWORK,
            "filters": [4],
            "pool": [True],
            "conv_dropout": [0.25],
            "dev_split": True,
            "epochs": 3,
            "patience": 2,
            "restore_best": True,
            "decay": {"start": 1, "rate": 0.1},
        },
    },
    "approaches": {"linear": "linear", "MLP": "mlp", "CNN": "cnn"},
    "comparisons": [{"a": "mlp", "b": "cnn"}],
    "chains": {"layers": ["mlp", "cnn"]},
    "statistics": {
        "confidence": 0.95,
        "equivalence_margin": 0.05,
        "reproduction_margin": 0.1,
        "design": "open",
    },
}


class Clone:
    """A copy of the working tree as a git checkout with DVC and a small study."""

    def __init__(self, folder: Path) -> None:
        """A clone whose folder is already there."""
        self.folder = folder

    @classmethod
    def make(cls, folder: Path, study: Mapping[str, Any] = STUDY) -> Self:
        """A new clone with a study, without results."""
        folder.mkdir(parents=True, exist_ok=True)
        clone = cls(folder)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            # The committed results and their dvc.lock are left out.
            if (REPOSITORY / name).is_file() and not name.startswith("metrics/") and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, folder / name)
        files.write_table(folder / CERTIFIED, pd.DataFrame(columns=CERTIFIED_COLUMNS))
        clone.run("git", "init", "--quiet")
        clone.write(study)
        return clone

    def copy(self, folder: Path) -> Self:
        """A copy in another folder, which must not exist."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return type(self)(folder)

    def git_clone(self, folder: Path) -> Self:
        """A clone of it by git: without data and models, as somebody else has it."""
        done = self.run("git", "clone", "--quiet", ".", str(folder))
        assert done.returncode == 0, done.stderr
        return type(self)(folder)

    def commit(self, message: str) -> None:
        """Commit everything to git."""
        self.run("git", "add", "--all")
        done = self.run("git", "commit", "--quiet", "--message", message)
        assert done.returncode == 0, done.stdout + done.stderr

    def write(self, study: Mapping[str, Any]) -> None:
        with (self.folder / "params.yaml").open("w") as file:
            YAML().dump(dict(study), file)

    def environment(self) -> dict[str, str]:
        settings = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "true",
            "STUDY_WORKERS": "1",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.org",
        }
        return {**os.environ, **settings, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False
        )

    def repro(self, *arguments: str) -> str:
        done = self.run("dvc", "repro", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def model_digests(self) -> dict[str, str]:
        found_files = sorted(self.folder.glob("models/*/*/model.keras"))
        return {str(path.relative_to(self.folder)): files.digest(path.read_bytes()) for path in found_files}


def variants_with(name: str, **changes: Any) -> dict[str, Any]:
    """The variants of the study, one of them with other fields."""
    return {**STUDY["variants"], name: {**STUDY["variants"][name], **changes}}


def add_line(clone: Clone, *names: str, line: str = "MORE = 1") -> None:
    """Append a line to files."""
    for name in names:
        with (clone.folder / name).open("a") as file:
            file.write(f"\n{line}\n")


def stages_run(output: str) -> list[str]:
    """The stages that `dvc repro` ran, or would run with --dry."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

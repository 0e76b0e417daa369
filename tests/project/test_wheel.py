"""The wheel of the library: what pip installs, and what it says about itself."""

import email
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import many_seeds
from tests import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built without network by the installed setuptools, from a copy, since it writes into its folder."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("many_seeds", "stages"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, "dist"], cwd=source, capture_output=True, check=True)
    [path] = (source / "dist").iterdir()
    assert path.name == f"many_seeds-{many_seeds.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_the_wheel_has_the_library_with_its_types_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "many_seeds").rglob("*.py")}
    assert names == modules | {"many_seeds/py.typed"}


def test_the_wheel_has_the_facts_that_an_index_shows(wheel: zipfile.ZipFile) -> None:
    [path] = [name for name in wheel.namelist() if name.endswith("METADATA")]
    metadata = email.message_from_bytes(wheel.read(path))
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# many-seeds" in str(metadata.get_payload())
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    required = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert {re.split(r"[<>=]", one)[0] for one in required} == {"matplotlib", "numpy", "pandas", "scipy"}
    assert not any("<" in one or "==" in one for one in required)  # as new as in anybody's environment

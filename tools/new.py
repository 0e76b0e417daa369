"""Begin a study of custom data: write params.yaml with a few models and seeds: `python -m tools.new own/shapes shapes`.

Results that are there stay until `python -m tools.removed`; the previous params.yaml has to be committed.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from PIL import Image

from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import git, params
from stages.study.data import is_address

STARTER = Path(__file__).with_name("starter.yaml")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
SIZE = 64  # pixels of both sides of images that have different sizes
EXAMINED = 2000  # images whose sizes are compared


def data_section(source: str, name: str) -> dict[str, Any]:
    """The section `data` for a folder of images, an archive of one, or an .npz file.

    Args:
        source: its path below own/.
        name: the name of the data set.

    Raises:
        UserError: there is no such file or folder, or it is of another kind.
    """
    path = Path(source.rstrip("/"))
    if is_address(source):
        raise UserError("data from a URL need its SHA-256: write the section data by hand, as docs/data.md shows")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder: put your data there")
    data = {"name": name, "train": str(path)}
    if path.suffix == ".npz":
        return data | {"format": "npz"}
    if path.is_dir():
        return data | {"format": "folders"} | ({"size": [SIZE, SIZE]} if _differ_in_size(path) else {})
    if path.name.endswith(ARCHIVES):
        return data | {"format": "folders"}
    raise UserError(
        f"{path} should be a folder of images, an archive of one ({', '.join(ARCHIVES)}) or an .npz file; for IDX "
        "files write the section data by hand, as docs/data.md shows"
    )


def _differ_in_size(folder: Path) -> bool:
    sizes = set()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files[:EXAMINED]:
        with contextlib.suppress(Exception), Image.open(path) as image:  # the stage split names damaged files
            sizes.add(image.size)
    return len(sizes) > 1


def starter(source: str, name: str) -> str:
    """The text of params.yaml for a first study of custom data.

    Raises:
        UserError: the data can't be those of a study.
    """
    data = json.dumps(data_section(source, name), ensure_ascii=False)
    text = STARTER.read_text(encoding="utf-8")
    text = text.replace("study of DATA", f"study of {name}").replace("data: DATA", f"data: {data}")
    params.parse(text, "the new params.yaml")
    return text


def check_committed() -> None:
    """Check that git has the present params.yaml.

    Raises:
        UserError: it has not.
    """
    if params.PARAMS.exists() and git.committed(params.PARAMS) != params.PARAMS.read_bytes():
        raise UserError(f"{params.PARAMS} would be replaced, but has changes that are not committed: commit or move it")


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.new", description=__doc__)
    parser.add_argument("data", help="a folder of images, an archive of one, or an .npz file, below own/")
    parser.add_argument("name", help="the name of the data set in tables and in the report")
    arguments = parser.parse_args()
    text = starter(arguments.data, arguments.name)
    check_committed()
    params.PARAMS.write_text(text, encoding="utf-8")
    study = params.load()
    print(f"{params.PARAMS} has a study of {arguments.name}: {', '.join(study.variants)}, eight seeds each.")
    if study.data.size:
        print(f"The images have different sizes: `data.size` scales them to {SIZE}x{SIZE} pixels.")
    print("Next:")
    print("  dvc repro split    # checks the images")
    print("  make stale         # lists what will be trained, and roughly for how long")
    print("  make study         # trains it, and writes metrics/report.html")


if __name__ == "__main__":
    main()

"""Whether models with classes of a family's own can be loaded in a new process, as evaluation and serving do.

A class that is registered with Keras while `build` runs is known in the process that trains, and in no other one. So
the models are built and saved in one new process and loaded in another one, before the first run is trained.
"""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.study import files, params
from stages.study.params import Params
from stages.study.provenance import families
from stages.study.provenance.code_digests import imported_names, module_name

REGISTERS = re.compile(r"register_keras_serializable|custom_object|CustomObject")
# Packages that stages/recipes imports and that register no classes with Keras, beside the standard library.
PLAIN = {"keras", "many_seeds", "numpy", "pydantic", "scipy", "sklearn", "stages", "tensorflow", "threadpoolctl"}


def check_loadable(study: Params, variants: Sequence[str], shape: tuple[int, ...], classes: int) -> None:
    """Check that the models of those variants whose families may have classes of their own can be loaded again.

    Args:
        study: the content of params.yaml.
        variants: names of variants that will be trained.
        shape: of an image, (height, width) or (height, width, 3).
        classes: the number of classes.

    Raises:
        UserError: one can't.
    """
    named = [name for name in variants if _may_have_own_classes(study.recipe(name).family)]
    if not named:
        return
    with tempfile.TemporaryDirectory() as folder:
        # On a driver of a cluster without Keras, both fail, and workers train unchecked models.
        for task in ("save", "load"):
            command = [sys.executable, "-m", __name__, task, folder, json.dumps([*shape]), str(classes), *named]
            subprocess.run(command, capture_output=True, check=False)
        found = Path(folder, "problems.json")
        problems: dict[str, str] = files.read_json(found) if found.exists() else {}
    if problems:
        variant, reason = next(iter(problems.items()))
        raise UserError(
            f"the model of {listed([*problems])} could be trained, but not loaded by another process, as the stage "
            f"evaluate does: {reason}\nRegister classes of your own at the top level of "
            f"stages/recipes/{study.recipe(variant).family}.py, outside of build (docs/models.md, own layers)"
        )


def _may_have_own_classes(family: str) -> bool:
    for path in families.code_files(family):
        source = path.read_text(encoding="utf-8")
        name = module_name(path.relative_to(families.FOLDER).as_posix())
        packages = {imported.partition(".")[0] for imported in imported_names(source, name)}
        if REGISTERS.search(source) or packages - PLAIN - sys.stdlib_module_names:
            return True
    return False


def _save(study: Params, folder: Path, shape: tuple[int, ...], classes: int, variants: Sequence[str]) -> None:
    from stages.recipes.shared.models import layer_seeds

    for name in variants:
        # Training reports errors of build, with the place in its file; a family without build has none.
        with contextlib.suppress(Exception):
            study.recipe(name).build(shape, classes, layer_seeds(0)).save(folder / f"{name}.keras")  # type: ignore[attr-defined]


def _load(folder: Path, variants: Sequence[str]) -> None:
    import keras

    problems = {}
    for name in variants:
        path = folder / f"{name}.keras"
        try:
            if path.exists():
                keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001  # the constructor of a layer may raise anything
            problems[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    files.write_json(folder / "problems.json", problems)


@console.command
def main() -> None:
    task, folder, shape, classes, *variants = sys.argv[1:]
    study = params.load()
    if task == "save":
        _save(study, Path(folder), tuple(json.loads(shape)), int(classes), variants)
    else:
        _load(Path(folder), variants)


if __name__ == "__main__":
    main()

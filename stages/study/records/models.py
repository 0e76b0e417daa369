"""What training leaves of a run in models/<variant>/<seed>: run.json and model.keras."""

from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.study import files
from stages.study.paths import TRAIN


def read_facts(run: Path) -> dict[str, Any]:
    """The content of run.json in the folder of a run.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = run / "run.json"
    if not path.exists():
        raise UserError(f"{path} is missing: {_remedy(run)}")
    facts = files.read_json(path)
    if not (
        isinstance(facts, dict)
        and "key" in facts
        and isinstance(facts.get("digests"), dict)
        and "code" in facts["digests"]
    ):
        raise UserError(f"{path} is damaged: it is not the file that training wrote. Run `dvc repro`")
    return facts


def _remedy(run: Path) -> str:
    # -f: where other runs of the variant were taken as evaluated, DVC holds its models for complete.
    data = "" if TRAIN.exists() else "`dvc repro split` and "
    return (
        f"run `dvc pull` where there is a remote, or {data}`dvc repro -f -s train@{run.parent.name}`, which trains it"
    )


def read_model(run: Path, facts: dict[str, Any]) -> Any:
    """The keras.Model in the folder of a run, loaded in Keras's safe mode.

    Raises:
        UserError: a file is missing, or is not the one that training wrote.
    """
    path, wanted = run / "model.keras", facts["digests"].get("model")
    if not path.exists():
        raise UserError(f"{path} is missing: {_remedy(run)}")
    if files.digest(path.read_bytes()) != wanted:
        raise UserError(f"{path} is damaged: it is not the file that training wrote. Run `dvc repro`")
    with native_stderr_hidden():
        import keras  # here: it takes seconds

        keras.ops.zeros(())  # the first operation starts the runtime
    return keras.saving.load_model(path, compile=False, safe_mode=True)

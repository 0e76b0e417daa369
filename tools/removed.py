"""Move results and models of variants that are not in params.yaml to build/removed; delete their stages in dvc.lock.

Their results may be in no commit, and their models not in DVC's cache, so nothing else is deleted.
"""

import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path

from many_seeds.commands import console
from many_seeds.output.messages import counted, listed
from stages.study import dvc, params, paths
from stages.study.params import Params

FOLDER = Path("build/removed")


def removed_variants(study: Params) -> list[str]:
    """The variants that are not in params.yaml, but have files or stages in dvc.lock.

    Raises:
        UserError: dvc.lock is damaged.
    """
    found = {path.name for folder in (paths.RUNS, paths.MODELS) if folder.is_dir() for path in _folders(folder)}
    found |= {variant for stage in dvc.recorded() if (variant := stage.partition("@")[2])}
    return sorted(found - study.variants.keys())


def _folders(folder: Path) -> Iterable[Path]:
    return (path for path in folder.iterdir() if path.is_dir())


def remove(variants: Iterable[str]) -> None:
    """Move the results and models of these variants to `FOLDER`, and delete their stages in dvc.lock."""
    from dvc.utils.serialize import modify_yaml  # imported here because `make stale` only lists variants

    names = set(variants)
    for name in names:
        target = next(path for number in itertools.count(1) if not (path := FOLDER / f"{name}-{number}").exists())
        for folder in (paths.RUNS, paths.MODELS):
            if (folder / name).exists():
                target.mkdir(parents=True, exist_ok=True)
                shutil.move(folder / name, target / folder.name)
    if dvc.LOCK.exists():
        with modify_yaml(dvc.LOCK) as lock:
            for stage in [stage for stage in lock["stages"] if stage.partition("@")[2] in names]:
                del lock["stages"][stage]


@console.command
def main() -> None:
    console.take_no_arguments("tools.removed", __doc__)
    variants = removed_variants(params.load())
    remove(variants)
    print(
        f"moved what {counted(len(variants), 'variant')} had left to {FOLDER}: {listed(variants)}. Delete that folder "
        "if git and DVC have what you need"
    )


if __name__ == "__main__":
    main()

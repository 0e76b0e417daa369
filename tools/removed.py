"""Delete what variants that were removed from params.yaml have left: results, models and stages of dvc.lock.

Git has the results, and DVC's cache the models, until `dvc gc`.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from many_seeds.commands import console
from many_seeds.output.messages import counted, listed
from stages.study import dvc, params, paths
from stages.study.params import Params


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


def delete(variants: Iterable[str]) -> None:
    """Delete the files of these variants, and their stages in dvc.lock."""
    from dvc.utils.serialize import modify_yaml  # imported here because `make stale` only lists variants

    names = set(variants)
    for name in names:
        for folder in (paths.RUNS, paths.MODELS):
            shutil.rmtree(folder / name, ignore_errors=True)
    if dvc.LOCK.exists():
        with modify_yaml(dvc.LOCK) as lock:
            for stage in [stage for stage in lock["stages"] if stage.partition("@")[2] in names]:
                del lock["stages"][stage]


@console.command
def main() -> None:
    console.take_no_arguments("tools.removed", __doc__)
    variants = removed_variants(params.load())
    delete(variants)
    print(f"deleted what {counted(len(variants), 'variant')} had left: {listed(variants)}")


if __name__ == "__main__":
    main()

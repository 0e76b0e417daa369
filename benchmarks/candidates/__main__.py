"""Prepare the race of the candidates in build/candidates: `python -m benchmarks.candidates`.

Its study is benchmarks/candidates/params.yaml. Its images are MNIST's training images, of which it draws a test set of
its own, so that the test images of MNIST have no part in the choice. It needs the data (`dvc repro split`). The
parameters, models and results that are there stay.
"""

import shutil
from pathlib import Path

from benchmarks.process import require_data
from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import params, paths
from tools.demo import prepare

FOLDER = Path("build/candidates")
STUDY = Path(__file__).with_name("params.yaml")
DATA = "mnist"  # of the study whose training images are used
IMAGES = Path("own/training.npz")  # as params.yaml names it


@console.command
def main() -> None:
    console.take_no_arguments("benchmarks.candidates", __doc__)
    if (name := params.load().data.name) != DATA:
        raise UserError(
            f"data.name of {params.PARAMS} should be {DATA}, whose training images are used, received {name}"
        )
    require_data()
    prepare(FOLDER, STUDY)
    shutil.copy(paths.TRAIN, FOLDER / IMAGES)
    print(
        f"What would be trained:  make settle IN={FOLDER} ARGS=--plan, after the first seeds\n"
        f"Train until it ends:    make settle IN={FOLDER}\n"
        f"Candidates:             {FOLDER / params.PARAMS}\n"
        f"Report:                 {FOLDER / paths.REPORT}"
    )


if __name__ == "__main__":
    main()

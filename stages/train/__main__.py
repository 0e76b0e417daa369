"""Train stage: every seed of one variant, or with --all whatever the study still lacks."""

import os
import signal

import pandas as pd

from many_seeds import console
from stages import tracking
from stages.study import dvc, environments, files, params, records
from stages.train import cache
from stages.train.plan import environment_here, evaluated, finished, longest_first, plan
from stages.train.schedule import train_all


def train(study: params.Params, variants: list[str]) -> None:
    images, labels = records.read_images(records.TRAIN)
    runs = plan(study, variants, images, labels, len(records.read_classes(records.TRAIN)))
    cache.restore([run for run in runs if finished(run) is None])
    missing = [run for run in runs if finished(run) is None]
    stale = [run for run in missing if not (os.environ.get("STUDY_REUSE") and evaluated(run))]
    print(f"{len(runs)} runs, {len(runs) - len(stale)} of them finished before", flush=True)
    if kept := len(missing) - len(stale):
        print(f"{kept} of them as they were evaluated, without their models", flush=True)
    for variant in dict.fromkeys(run.variant for run in stale):
        report_differences(variant, study.recipe(variant))
    if stale:
        publisher = tracking.Publisher(study)
        train_all(longest_first(stale, images.shape), images, labels, on_finish=publisher.publish)
    for variant in variants:
        gather(variant, study.recipe(variant))


def report_differences(variant: str, recipe: params.Recipe) -> None:
    """Print why runs that have results are trained again, and warn if their bits depend on the processor."""
    changes = environments.changes_since(variant, environment_here(recipe))
    if lines := environments.trained_elsewhere({variant: changes}):
        print(
            f"{lines[0]}, and now anew. To keep the results, stop this: `make certify` checks a sample of them first",
            flush=True,
        )
    elif objection := environments.processor_objection(variant, recipe):
        print(f"warning: {objection}", flush=True)


def gather(variant: str, recipe: params.Recipe) -> None:
    """One curves.csv from those of the seeds, and no folder of a seed that the study does not name."""
    seeds = range(recipe.seeds)
    files.remove_unknown(records.MODELS / variant, {str(seed) for seed in seeds})
    files.remove_unknown(records.RUNS / variant, records.RUN_FILES)
    columns = ["seed", *recipe.curve]
    own = {seed: records.run_path(variant, seed) / "curves.csv" for seed in seeds}
    curves = {seed: files.read_table(path, columns) for seed, path in own.items() if path.exists()}
    if len(curves) < len(seeds):  # a run whose model is not here has its curve where it was gathered before
        former = files.read_table(records.curves_path(variant), columns)
        curves |= {seed: former[former["seed"] == seed] for seed in seeds if seed not in curves}
    files.write_table(records.curves_path(variant), pd.concat([curves[seed] for seed in seeds]))


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m stages.train", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("variant", nargs="?", help="a variant in params.yaml")
    which.add_argument("--all", action="store_true", help="every variant, as one batch, the longest runs first")
    arguments = parser.parse_args()
    if "DVC_STAGE" in os.environ:  # `dvc repro` started this, and may be killed in a way that it can't pass on
        dvc.when_gone(lambda: os.kill(os.getpid(), signal.SIGTERM))
    study = params.load()
    if not arguments.all:
        study.recipe(arguments.variant)
    train(study, list(study.variants) if arguments.all else [arguments.variant])


if __name__ == "__main__":
    main()

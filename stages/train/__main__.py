"""Train stage: every seed of one variant, or with --all whatever the study still lacks."""

import argparse

import pandas as pd

from stages import params, records, tracking
from stages.params import Network
from stages.train import schedule


def train(study: params.Params, variants: list[str]) -> None:
    images, labels = records.read_images(records.TRAIN)
    runs = schedule.plan(study, variants, images, labels)
    stale = [run for run in runs if schedule.finished(run) is None]
    print(f"{len(runs)} runs, {len(runs) - len(stale)} of them finished before", flush=True)
    if stale:
        publisher = tracking.Publisher(study)
        order = schedule.longest_first(stale, len(images))
        schedule.train_all(order, images, labels, on_finish=publisher.publish)
    for variant in variants:
        gather(variant, study)


def gather(variant: str, study: params.Params) -> None:
    """One curves.csv from those of the seeds, and no folder of a seed that the study does not name."""
    records.remove_unknown(records.MODELS / variant, {str(seed) for seed in study.seeds})
    records.remove_unknown(records.RUNS / variant, records.RUN_FILES)
    network = isinstance(study.recipe(variant), Network)
    columns = records.CURVE_COLUMNS if network else records.SEARCH_COLUMNS
    curves = [records.read_table(records.run_path(variant, seed) / "curves.csv", columns) for seed in study.seeds]
    records.write_table(records.curves_path(variant), pd.concat(curves))


@records.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("variant", nargs="?", help="a variant in params.yaml")
    which.add_argument("--all", action="store_true", help="every variant, as one batch, the longest runs first")
    arguments = parser.parse_args()
    study = params.load()
    if not arguments.all:
        study.recipe(arguments.variant)
    train(study, list(study.variants) if arguments.all else [arguments.variant])


if __name__ == "__main__":
    main()

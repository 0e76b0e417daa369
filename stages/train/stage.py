"""Train the unfinished runs of variants, and collect their curves."""

import os
from collections.abc import Callable, Sequence

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.recipes.shared.recipe import Recipe
from stages.study import files, params, paths
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import find_results
from stages.study.records.splits import read_classes, read_images
from stages.train import cache
from stages.train.dispatch import train_all
from stages.train.loadable import check_loadable
from stages.train.plan import environment_here, evaluated_keys, finished, longest_first, plan
from stages.train.run import Run


def train(study: Params, variants: Sequence[str], on_finish: Callable[[str, int], object]) -> None:
    """Train the runs of `variants` that are not finished.

    Args:
        study: the content of params.yaml.
        variants: the variants to train.
        on_finish: called with variant and seed of each run after it was written.

    Raises:
        UserError: a run failed, a model could not be loaded again, the workers were lost or are not available, or
            params.yaml asks for more seeds than at the start. The finished runs are kept.
    """
    text = params.read()
    images, labels = read_images(paths.TRAIN)
    classes = len(read_classes(paths.TRAIN))
    runs = plan(study, variants, images, labels, classes)
    to_train = unfinished(runs)
    for run in {run.variant: run for run in to_train}.values():
        report_differences(study, run.variant, run.digests["data"])
    check_loadable(study, list(dict.fromkeys(run.variant for run in to_train)), images.shape[1:], classes)
    if to_train:
        train_all(longest_first(to_train, images.shape), images, labels, on_finish=on_finish)
    if params.read() != text:
        check_no_seeds_added(study, variants)
    for variant in variants:
        gather(variant, study.recipe(variant))


def unfinished(runs: Sequence[Run]) -> list[Run]:
    """The runs to train. Runs in DVC's cache are restored first, and the number of finished runs is printed.

    With STUDY_REUSE, a run that was evaluated counts as finished, even without its model.

    Raises:
        UserError: the results of a variant are damaged.
    """
    cache.restore([run for run in runs if finished(run) is None])
    missing = [run for run in runs if finished(run) is None]
    reusable = evaluated_keys({run.variant for run in missing}) if os.environ.get("STUDY_REUSE") else set()
    found = [run for run in missing if run.key not in reusable]
    print(f"{len(runs)} runs, {len(runs) - len(found)} of them finished before", flush=True)
    if kept := len(missing) - len(found):
        print(f"{kept} of them as they were evaluated, without their models", flush=True)
    return found


def report_differences(study: Params, variant: str, data: str) -> None:
    """Print why runs that have results are trained again, and warn if their bits depend on the processor.

    Args:
        study: the content of params.yaml.
        variant: the variant of the runs.
        data: SHA-256 of the training data.
    """
    recipe, results = study.recipe(variant), find_results(variant)
    if results is not None and data not in set(results.scores["data"]):
        print(f"{variant}: its results are of other training data, and it is trained anew", flush=True)
        return
    identity = variant_identity(recipe, study)
    changes = environments.changes_since(variant, identity, environment_here(recipe))
    if lines := environments.trained_elsewhere({variant: changes}):
        print(
            f"{lines[0]}, and now anew. To keep the results, stop this: `make certify` checks a sample of them first",
            flush=True,
        )
    elif objection := environments.processor_objection(variant, identity, recipe):
        print(f"warning: {objection}", flush=True)


def check_no_seeds_added(study: Params, variants: Sequence[str]) -> None:
    """Check that params.yaml has no more seeds by now, whose runs another command may have made: they would be deleted.

    Args:
        study: the content of params.yaml at the start.
        variants: those that were trained.

    Raises:
        UserError: it has more of a variant, or is not valid.
    """
    present = params.load().variants
    if more := [name for name in variants if name in present and present[name].seeds > study.recipe(name).seeds]:
        raise UserError(
            f"{params.PARAMS} was edited during this command and has more seeds of {listed(more)} now. Finished runs "
            "are kept: run the same command again"
        )


def gather(variant: str, recipe: Recipe) -> None:
    """Write curves.csv from the curves of all seeds, and delete the folders of seeds that params.yaml no longer has."""
    seeds = range(recipe.seeds)
    files.remove_unknown(paths.MODELS / variant, {str(seed) for seed in seeds})
    files.remove_unknown(paths.RUNS / variant, {path.name for path in paths.result_paths(variant)})
    columns = ["seed", *recipe.curve]
    run_curves = {seed: paths.run_path(variant, seed) / "curves.csv" for seed in seeds}
    curves = {seed: files.read_table(path, columns) for seed, path in run_curves.items() if path.exists()}
    if len(curves) < len(seeds):  # runs that are reused without their models have curves in the existing table only
        previous = files.read_table(paths.curves_path(variant), columns)
        curves |= {seed: previous[previous["seed"] == seed] for seed in seeds if seed not in curves}
    files.write_table(paths.curves_path(variant), pd.concat([curves[seed] for seed in seeds]))

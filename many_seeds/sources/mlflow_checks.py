"""What is doubtful about runs in MLflow: steps not reached, folds logged as steps, numbers in several forms."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from many_seeds.output.messages import counted, listed
from many_seeds.sources.mlflow_runs import SYSTEM, Run, fetch_values


def with_equal_numbers(runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """Runs whose parameters are written alike where they are equal as numbers; the first form is kept.

    Returns:
        The runs, and a remark for each parameter or tag that was written in several forms.
    """
    forms = defaultdict[tuple[str, float], dict[str, None]](dict)

    def first(name: str, value: str) -> str:
        number = _number(value)
        if number is None:
            return value
        known = forms[name, number]
        known[value] = None
        return next(iter(known))

    def alike(values: dict[str, str]) -> dict[str, str]:
        return {name: first(name, value) for name, value in values.items()}

    changed = [replace(run, parameters=alike(run.parameters), tags=alike(run.tags)) for run in runs]
    several = {name: list(known) for (name, _), known in forms.items() if len(known) > 1}
    return changed, {name: f"{name}: equal numbers are one value: {listed(known)}" for name, known in several.items()}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None  # NaN equals nothing


def early_remarks(runs: Sequence[Run], names: Sequence[str], metric: str, seed: str | None) -> list[str]:
    """A remark on runs that ended at an earlier step than others.

    Args:
        runs: the runs that are compared.
        names: the variant of each.
        metric: the metric that is compared.
        seed: the parameter or tag of the seeds; None if they are not known.
    """
    last = [_last_step(run, metric) for run in runs]
    most = max(last)
    early = [
        f"{name} {'' if seed is None else f'{seed} {run.get(seed)} '}at {step}"
        for run, name, step in zip(runs, names, last, strict=True)
        if step < most
    ]
    if not early:
        return []
    return [
        f"finished, but at an earlier step than {most}: {counted(len(early), 'run')} ({listed(early)}). If these runs "
        "were interrupted, train them to the end"
    ]


def several_values_remarks(runs: Sequence[Run], metric: str) -> list[str]:
    """A remark if a run has several values of the metric that is compared."""
    example = max(runs, key=lambda run: run.steps.get(metric, 0))
    [values] = fetch_values([example.id], metric)
    if len(values) < 2:
        return []
    return [
        f"{metric} has up to {counted(len(values), 'value')} in a run, as in {example.id}: the last one counts, as "
        "with --at last. If they are those of folds, average them with --over step"
    ]


def _last_step(run: Run, metric: str) -> int:
    """The last step of the metric; of any metric if it was logged without steps, as at the end of a run."""
    steps = [step for name, step in run.steps.items() if not name.startswith(SYSTEM)]
    return run.steps.get(metric, 0) or max(steps, default=0)

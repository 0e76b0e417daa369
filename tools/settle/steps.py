"""The next batches of seeds of a study, and what --pairs names: pure functions."""

from collections.abc import Iterable, Mapping

from many_seeds import growth
from many_seeds.errors import UserError
from many_seeds.growth import Question, Step
from many_seeds.results import Pair
from stages.study.comparisons import named_pairs
from stages.study.params import PARAMS, Params
from stages.study.races import NamedRace, named_races


def next_steps(
    questions: Iterable[Question],
    study: Params,
    seconds: Mapping[str, float],
    shape: tuple[int, ...],
    *,
    most: int,
    at_once: int,
) -> list[Step]:
    """The next step of each undecided pair and open race, as `growth.next_steps` orders them.

    If the duration of the runs of a variant is unknown, the size of the networks stands for it.

    Args:
        questions: the results of comparisons, by whatever scores, and the states of races.
        study: the parameters of the study.
        seconds: variant → the mean duration of a run, where it is known.
        shape: of an image.
        most: the maximum number of seeds of a variant.
        at_once: the number of runs that this machine trains at a time.
    """

    def costs() -> dict[str, float]:
        return {name: recipe.cost((1, *shape)) for name, recipe in study.variants.items()}

    return growth.next_steps(questions, seeds_of(study), seconds, costs, most=most, at_once=at_once)


def seeds_of(study: Params) -> dict[str, int]:
    """Variant → its number of seeds in params.yaml."""
    return {name: recipe.seeds for name, recipe in study.variants.items()}


def select(study: Params, option: str | None) -> tuple[list[Pair], list[NamedRace]]:
    """The comparisons and races that --pairs names.

    Args:
        study: the parameters of the study.
        option: pairs A:B, in which A and B may be exchanged, and names of races, with commas between; None for all.

    Returns:
        The pairs and races as params.yaml has them, in its order.

    Raises:
        UserError: one is neither a comparison nor a race of params.yaml.
    """
    pairs, races = named_pairs(study), named_races(study)
    if option is None:
        return pairs, races
    selected = [sorted(name.strip() for name in text.split(":")) for text in option.split(",")]
    known = [*map(sorted, pairs), *([race.name] for race in races)]
    if unknown := [text for text, names in zip(option.split(","), selected, strict=True) if names not in known]:
        raise _unknown(unknown, pairs, races)
    return [pair for pair in pairs if sorted(pair) in selected], [race for race in races if [race.name] in selected]


def _unknown(unknown: Iterable[str], pairs: Iterable[Pair], races: Iterable[NamedRace]) -> UserError:
    received = ", ".join(repr(text.strip()) for text in unknown)
    listed = "\n".join([f"  {a}:{b}" for a, b in pairs] + [f"  {race.name}, a race" for race in races])
    return UserError(
        f"--pairs should be comparisons of {PARAMS} in the form A:B, or names of races, with commas between; received "
        f"{received}. The comparisons{' and races' if races else ''} are\n{listed}"
    )

"""Is B better than A, and would it still be with other seeds? A verdict for anybody's runs.

Scores come from a CSV or JSON-lines file with a row for each run (columns variant, seed and a score, whatever their
names), from standard input, or from an MLflow experiment:

  many-seeds verdict scores.csv --baseline small
  many-seeds verdict --mlflow my-experiment --metric accuracy

Exit status: 0; 1 where --fail-on says so; 2 for an error.
"""

import argparse
import difflib
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages import files, gate, layout, mlflow_source, sequential, sources
from stages.errors import StudyError
from stages.sequential import Design, Interval, Verdict
from stages.sources import Runs, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PAIRS = 10_000
MOST_DRAWN = 200
NOTHING = "–"
EQUAL = 1e-9  # of the largest score: what arithmetic alone makes of equal differences

Pair = tuple[str, str]


@dataclass(frozen=True)
class Settings:
    """What is asked for; margin and step in the unit of the score.

    margin: a difference inside is not worth having; 0: every difference is.
    step: the smallest difference that two runs can have, below which no spread is believed; 0: none.
    """

    confidence: float = 0.95
    margin: float = 0.0
    step: float = 0.0
    design: Design = "open"
    lower_is_better: bool = False


@dataclass(frozen=True)
class Answer:
    """b against a; difference and interval are of b − a, in the unit of the score.

    n_a, n_b: runs of either that count; where they are paired, the seeds that both have.
    seeds_about, seeds_at_most: see `sequential.Answer`; None too where runs are not paired.
    """

    a: str
    b: str
    verdict: Verdict
    difference: float
    low: float
    high: float
    paired: bool
    n_a: int
    n_b: int
    seeds_about: int | None
    seeds_at_most: int | None

    @property
    def n(self) -> str:
        return f"{self.n_a}" if self.paired else f"{self.n_a} and {self.n_b}"


def pairs_of(scores: Scores, named: Sequence[str], baseline: str | None) -> list[Pair]:
    """The questions: those that are named, else every variant against the baseline, else every pair.

    Args:
        scores: of at least two variants.
        named: texts A:B, several in one with commas between.
        baseline: a variant.

    Raises:
        StudyError: a name is unknown, a pair is named twice, or there are too many pairs.
    """
    names = list(scores.variants)
    if len(names) < 2:
        raise StudyError(
            f"expected two variants at least, found only {sources.named(names)}: name with --by the "
            "columns or parameters that tell variants apart"
        )
    if named:
        texts = [part for text in named for part in ([text] if _pair(text, names) else text.split(","))]
        found = [_pair(text, names) or _unknown(text, names) for text in texts]
        if twice := [pair for place, pair in enumerate(found) if {*pair} in [{*other} for other in found[:place]]]:
            raise StudyError(f"--pairs names {twice[0][0]}:{twice[0][1]} twice, one way or the other: once is enough")
        return found
    if baseline is not None:
        if baseline not in names:
            raise StudyError(f"--baseline should be a variant, received {baseline!r}. {_meant(baseline, names)}")
        return [(baseline, name) for name in names if name != baseline]
    if (count := math.comb(len(names), 2)) > MOST_PAIRS:
        raise StudyError(
            f"{len(names):,} variants make {count:,} pairs, more than anything could be said of: name a "
            "--baseline, or the --pairs that matter"
        )
    return list(itertools.combinations(names, 2))


def _pair(text: str, names: Sequence[str]) -> Pair | None:
    """The variants of "a:b", whose names may have colons and commas themselves; None if they are not two of `names`."""
    known = {*names}
    for place in (place for place, character in enumerate(text) if character == ":"):
        a, b = text[:place].strip(), text[place + 1 :].strip()
        if a in known and b in known and a != b:
            return a, b
    return None


def _unknown(text: str, names: Sequence[str]) -> Pair:
    wrong = [name for name in map(str.strip, text.split(":")) if name not in names]
    raise StudyError(
        f"--pairs should be A:B with two variants, received {text!r}. {_meant((wrong or [text])[0], names)}"
    )


def _meant(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names)
    return f"Meant: {' or '.join(close)}?" if close else f"There are: {sources.named(names)}"


def answers(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> list[Answer]:
    """One for each pair; all their intervals hold together.

    Raises:
        StudyError: runs that have no seed in common are asked for an open design; differences without any spread.
    """
    level = (1 - settings.confidence) / len(pairs)
    if settings.design == "open":
        _refuse_unpaired(scores, pairs)
    found, equal = [], []
    for a, b in pairs:
        of_a, of_b = shared(scores.variants[a], scores.variants[b])
        if _without_spread(of_a, of_b, settings.step):
            equal.append(f"{a}:{b}")
        else:
            found.append(_answer(a, b, of_a, of_b, level, settings))
    if equal:
        raise StudyError(
            f"every seed shows the same difference, so that nothing tells how sure it is: {sources.named(equal)}. "
            "Say with --step the smallest difference that two runs can have (1 / the number of test images, for an "
            "accuracy); or take out what does not depend on its seed"
        )
    return found


def shared(a: Runs, b: Runs) -> tuple[Runs, Runs]:
    """The runs of the seeds that both have, in the same order; all runs where they have none in common."""
    if np.array_equal(a.seeds, b.seeds):
        return a, b
    common, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
    return (Runs(common, a.scores[in_a]), Runs(common, b.scores[in_b])) if len(common) else (a, b)


def _paired(a: Runs, b: Runs) -> bool:
    return len(a.seeds) > 0 and np.array_equal(a.seeds, b.seeds)


def _refuse_unpaired(scores: Scores, pairs: Sequence[Pair]) -> None:
    apart = [f"{a}:{b}" for a, b in pairs if not _paired(*shared(scores.variants[a], scores.variants[b]))]
    if apart:
        raise StudyError(
            f"these have no seed in common: {sources.named(apart)}. An interval that allows for more runs at any time "
            "(--design open) compares seed by seed: run both with the same seeds; or, if the number of runs was fixed "
            "before any score was seen, say --design fixed"
        )


def _without_spread(a: Runs, b: Runs, step: float) -> bool:
    if step > 0 or min(len(a.scores), len(b.scores)) < 2:
        return False
    values = [b.scores - a.scores] if _paired(a, b) else [a.scores, b.scores]
    tolerance = EQUAL * max(np.abs(a.scores).max(), np.abs(b.scores).max())
    return all(np.ptp(value) <= tolerance for value in values)


def _answer(a: str, b: str, of_a: Runs, of_b: Runs, level: float, settings: Settings) -> Answer:
    step, margin = settings.step, settings.margin
    paired, n = _paired(of_a, of_b), len(of_a.scores)
    about = most = None
    if paired:
        differences = of_b.scores - of_a.scores
        mean = float(differences.mean())
        found = sequential.interval(differences, level=level, step=step, design=settings.design)
    else:
        mean = float(of_b.scores.mean() - of_a.scores.mean())
        found = sequential.welch_interval(of_b.scores, of_a.scores, level=level, step=step)
    good = Interval(-found.high, -found.low) if settings.lower_is_better else found
    word = sequential.verdict(good, margin)
    if word == "undecided" and paired and n > 1:
        sd = sequential.spread(differences, step)
        about = sequential.seeds_about(n, mean, sd, level=level, margin=margin)
        most = sequential.seeds_at_most(n, sd, level=level, margin=margin)
    return Answer(a, b, word, mean, found.low, found.high, paired, n, len(of_b.scores), about, most)


def promise(questions: int, settings: Settings) -> list[str]:
    """What the intervals promise, how a verdict is read off them, and when another design had been right."""
    holds = f"The m = {questions:,} intervals hold together" if questions > 1 else "The interval holds"
    with_confidence = f"with {100 * settings.confidence:g} % confidence"
    if settings.design == "open":
        how = "however many seeds were added and whenever one looked (--design open)"
        other = (
            "If the number of runs was fixed before any score was seen, and this is the only look, --design fixed was "
            "the right choice, with narrower intervals."
        )
    else:
        how = "at this one look, for a number of runs that was fixed before any score was seen (--design fixed)"
        other = "Whoever has looked before, or adds runs after this, has to choose --design open."
    way = "lower" if settings.lower_is_better else "higher"
    equal = f"equivalent if all of it lies within ±{settings.margin:g}, else" if settings.margin else ""
    reading = f"A verdict is read off its interval: {equal} better or worse if it leaves out 0 ({way} is better)."
    if not settings.margin:
        reading += " Without --margin nothing can be equivalent."
    takes = "It takes runs for independent and roughly normal, and none left out because of its score."
    return [f"{holds} {with_confidence}, {how}. {other}", f"{' '.join(reading.split())} {takes}"]


def remarks(scores: Scores, found: Sequence[Answer]) -> list[str]:
    """What else is to be known of the scores, a sentence each."""
    said = list(scores.remarks)
    if alone := [name for name, runs in scores.variants.items() if len(runs.scores) == 1]:
        said.append(f"one run only, of which nothing can be said: {sources.named(alone)}")
    if apart := [f"{answer.a}:{answer.b}" for answer in found if not answer.paired]:
        said.append(f"not paired by seed, so by Welch's interval: {sources.named(apart)}")
    unused = []
    for answer in found:
        counts = [len(scores.variants[name].scores) for name in (answer.a, answer.b)]
        if answer.paired and max(counts) > answer.n_a:
            unused.append(f"{answer.a}:{answer.b} ({counts[0]} and {counts[1]} runs, {answer.n_a} seeds shared)")
    return said + ([f"compared on the seeds that both have: {sources.named(unused)}"] if unused else [])


def findings(found: Sequence[Answer], form: str) -> list[gate.Finding]:
    """For the gate: what b is in each pair."""
    said = []
    for answer in found:
        why = f"{layout.number(answer.difference, form)} against {answer.a}, interval {_span(answer, form)}"
        if answer.verdict == "undecided":
            why += f"; {_still(answer)}"
        said.append(gate.Finding(answer.b, answer.verdict, why))
    return said


def _still(answer: Answer) -> str:
    if not answer.paired:
        return "runs of the same seeds would probably decide it sooner"
    return gate.undecided(answer.n_a, answer.seeds_about, answer.seeds_at_most)


def number_form(found: Sequence[Answer]) -> str:
    """How differences are written: with as many decimals as the intervals deserve."""
    widths = [answer.high - answer.low for answer in found if 0 < answer.high - answer.low < math.inf]
    size = min(widths) / 2 if widths else max(abs(answer.difference) for answer in found)
    decimals = max(1 - math.floor(math.log10(size)), 0) if size > 0 else 3
    return f"{{:+.{decimals}f}}" if decimals <= 8 else "{:+.3g}" if size else "{:+.3f}"


def rows(found: Sequence[Answer], form: str) -> list[list[str]]:
    return [
        [
            *(answer.a, answer.b, answer.verdict, layout.number(answer.difference, form)),
            *(_span(answer, form), answer.n, _seeds(answer)),
        ]
        for answer in found
    ]


def header(metric: str) -> list[str]:
    return [
        "a",
        "b",
        "b is",
        f"{metric}, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a",
        "interval",
        "n",
        "seeds to decide it: about (at most)",
    ]


def _span(answer: Answer, form: str) -> str:
    if not math.isfinite(answer.low):
        return "any"
    return " … ".join(layout.number(end, form) for end in (answer.low, answer.high))


def _seeds(answer: Answer) -> str:
    about, most = answer.seeds_about, answer.seeds_at_most
    if about is None:
        return NOTHING
    return f"{about:,}" if most is None else f"{about:,} ({most:,})"


def in_words(found: Sequence[Answer]) -> str:
    """How many questions are decided, and how."""
    counts = [(word, sum(answer.verdict == word for answer in found)) for word in sequential.VERDICTS[::-1]]
    said = ", ".join(f"{count:,} {word}" for word, count in counts if count)
    return f"{len(found):,} {'question' if len(found) == 1 else 'questions'}: {said}"


def as_text(metric: str, found: Sequence[Answer], notes: Sequence[str], says: Sequence[str], settings: Settings) -> str:
    """An aligned table, what it promises, what else there is to know, and what the gate says."""
    table = layout.aligned(header(metric), rows(found, number_form(found)), words=3)
    parts = [table, "\n".join(layout.filled(line) for line in promise(len(found), settings))]
    for lines in (notes, says):
        if lines:
            parts.append("\n".join(layout.filled(line, "  ") for line in lines))
    return "\n\n".join(parts) + "\n"


def as_markdown(
    metric: str, found: Sequence[Answer], notes: Sequence[str], says: Sequence[str], settings: Settings
) -> str:
    table = layout.markdown(header(metric), rows(found, number_form(found)))
    parts = [f"## {in_words(found)}", *(["\n".join(f"- {layout.escaped(line)}" for line in says)] if says else [])]
    parts += [table, *promise(len(found), settings)]
    if notes:
        parts.append("\n".join(f"- {layout.escaped(line)}" for line in notes))
    return "\n\n".join(parts) + "\n"


def as_json(metric: str, found: Sequence[Answer], notes: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The same for programs; an end of an interval that rules out nothing is None."""
    return {
        "metric": metric,
        "settings": asdict(settings),
        "questions": len(found),
        "answers": [
            {name: None if value in (math.inf, -math.inf) else value for name, value in asdict(answer).items()}
            for answer in found
        ],
        "remarks": list(notes),
    }


def write_figure(path: Path, metric: str, found: Sequence[Answer], settings: Settings) -> None:
    """Every interval below its pair, with the margin as a band, as PNG, SVG or PDF, by the end of the path.

    Raises:
        StudyError: another format, more intervals than fit, or the file can't be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise StudyError(f"--figure should end in .png, .svg or .pdf, received {path}")
    if len(found) > MOST_DRAWN:
        raise StudyError(f"--figure has room for {MOST_DRAWN} pairs, received {len(found):,}: choose with --pairs")
    buffer = io.BytesIO()
    _figure(metric, found, settings).savefig(buffer, format=kind, dpi=160, facecolor="white")
    files.write_bytes(path, buffer.getvalue())


def _figure(metric: str, found: Sequence[Answer], settings: Settings) -> "Figure":
    from stages.aggregate import drawing  # here: matplotlib takes as long to start as all the rest

    colors = {"better": drawing.BLUE, "worse": drawing.ORANGE, "equivalent": drawing.GREEN, "undecided": drawing.GREY}

    @drawing.styled
    def draw() -> "Figure":
        figure, axes = drawing.panels(0.33 * len(found) + 0.7)
        ax, form = axes[0, 0], number_form(found)
        if settings.margin:
            ax.axvspan(-settings.margin, settings.margin, color=drawing.GREEN, alpha=0.15, linewidth=0)
        ax.axvline(0, color=drawing.FAINT, linewidth=1)
        for y, answer in zip(range(len(found))[::-1], found, strict=True):
            color, known = colors[answer.verdict], math.isfinite(answer.low)
            if known:
                ax.hlines(y, answer.low, answer.high, color=color, linewidth=2.5)
            else:
                ax.axhline(y, color=color, linewidth=1, linestyle=":")
            ax.plot(answer.difference, y, "o", color=color, markersize=5.5, markeredgecolor="white")
            said = f"{layout.number(answer.difference, form)} {answer.verdict}"
            for x, side, words in ((0, "left", f"{answer.a} → {answer.b}"), (1, "right", said)):
                ax.text(x, y + 0.22, words, transform=ax.get_yaxis_transform(), ha=side, va="bottom", fontsize=8)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_ylim(-0.5, len(found) - 0.1)
        ax.grid(axis="x")
        ax.set_xlabel(f"{metric}, second − first, with {100 * settings.confidence:g} % confidence together")
        return figure

    return draw()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="many-seeds verdict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_source(parser.add_argument_group("where the scores are"))
    _add_question(parser.add_argument_group("what is asked"))
    output = parser.add_argument_group("how it is answered")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for pull requests")
    output.add_argument("--figure", type=Path, metavar="FILE", help="draw the intervals as PNG, SVG or PDF")
    gate.add_arguments(output)
    return parser


def _add_source(group: argparse._ArgumentGroup) -> None:
    group.add_argument("file", nargs="?", metavar="FILE", help="CSV or JSON lines, a row for each run; - for stdin")
    group.add_argument("--mlflow", metavar="NAME", help="an experiment of the server or database MLFLOW_TRACKING_URI")
    group.add_argument("--metric", metavar="NAME", help="the column or metric of the scores")
    group.add_argument(
        "--by",
        metavar="NAME,…",
        action="append",
        default=[],
        help="columns, or MLflow's parameters or tags, that tell variants apart (the column variant; in MLflow all "
        "parameters that differ, but for the seed)",
    )
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed", default=sources.SEED, metavar="NAME", help="the column, parameter or tag of the seeds (seed)"
    )
    seeds.add_argument("--unpaired", action="store_true", help="runs share no seeds (only with --design fixed)")
    group.add_argument("--wide", action="store_true", help="each column is a variant, each row a seed")
    group.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only the rows with COLUMN=VALUE; in MLflow a filter such as \"params.depth = '3'\"; may be repeated",
    )


def _add_question(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument("--baseline", metavar="NAME", help="compare every variant with this one, and no others")
    which.add_argument("--pairs", metavar="A:B,…", action="append", default=[], help="is B better than A?")
    group.add_argument("--lower-is-better", action="store_true", help="as of a loss")
    group.add_argument("--margin", type=_amount, default=0.0, help="a difference inside is not worth having (0)")
    group.add_argument("--step", type=_amount, default=0.0, help="the smallest difference two runs can have (0)")
    group.add_argument("--confidence", type=_share, default=0.95, help="of all intervals together (0.95)")
    group.add_argument(
        "--design",
        choices=("open", "fixed"),
        default="open",
        help="open (as by default): runs may be added after a look; fixed: their number was fixed before any look",
    )


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"should be 0 or more, in the unit of the score, received {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"should be between 0 and 1, such as 0.95, received {text}")
    return value


def _scores(arguments: argparse.Namespace) -> Scores:
    by = [name for text in arguments.by for name in text.split(",")]
    seed = None if arguments.unpaired else arguments.seed
    if (arguments.file is None) == (arguments.mlflow is None):
        raise StudyError("name one source: a FILE (- for standard input), or --mlflow EXPERIMENT")
    if arguments.mlflow is not None:
        if arguments.wide:
            raise StudyError("--wide is for files: MLflow's runs are told apart with --by")
        return mlflow_source.scores(arguments.mlflow, arguments.metric, seed, by, arguments.where)
    if arguments.wide:
        if by or arguments.where or arguments.unpaired:
            raise StudyError("--wide takes every column for a variant: it does not go with --by, --where, --unpaired")
        return sources.wide_scores(sources.read_table(arguments.file, [arguments.seed]), arguments.metric, seed)
    by = by or [sources.BY]
    chosen = [condition.partition("=")[0] for condition in arguments.where]
    table = sources.read_table(arguments.file, [*by, *([seed] if seed else []), *chosen])
    return sources.long_scores(table, arguments.metric, seed, by, arguments.where)


@gate.command
def main() -> None:
    arguments = _parser().parse_args()
    settings = Settings(
        arguments.confidence, arguments.margin, arguments.step, arguments.design, arguments.lower_is_better
    )
    asked = gate.from_arguments(arguments)
    scores = _scores(arguments)
    found = answers(scores, pairs_of(scores, arguments.pairs, arguments.baseline), settings)
    reasons = asked.reasons(findings(found, number_form(found)))
    notes, says = remarks(scores, found), gate.lines(asked, reasons)
    if arguments.figure:
        write_figure(arguments.figure, scores.metric, found, settings)
    if arguments.json:
        said = as_json(scores.metric, found, notes, settings) | {"gate": gate.as_json(asked, reasons)}
        print(files.json_bytes(said).decode(), end="")
    else:
        form = as_markdown if arguments.markdown else as_text
        print(form(scores.metric, found, notes, says, settings), end="")
    gate.close(reasons, says)


if __name__ == "__main__":
    main()

"""Is B better than A, and would it still be with other seeds? A verdict for anybody's runs.

Scores come from a CSV or JSON-lines file with a row for each run (columns variant, seed and a score, whatever their
names), from standard input, or from an MLflow experiment:

  many-seeds verdict scores.csv --baseline small
  many-seeds verdict --mlflow my-experiment --metric accuracy

A verdict says what b is against a: better, worse, equivalent, undecided; or unchanged, if every seed scores the same.

Exit status: 0; 1 where --fail-on says so; 2 for an error.
"""

import argparse
import bisect
import difflib
import io
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages import files, gate, layout, mlflow_source, sequential, sources, terminal
from stages.errors import StudyError
from stages.sequential import Design, Interval
from stages.sources import Runs, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PAIRS = 10_000
MOST_DRAWN = 200
NOTHING = "–"
EQUAL = 8 * np.finfo(np.float64).eps  # of the largest score: what arithmetic alone makes of equal differences
SMALLEST = 1e-150  # difference: squares of smaller ones are 0
FIXED_DIGITS = 8  # of a number without a power of ten

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

    verdict: one of `sequential.VERDICTS`, or `gate.UNCHANGED` where both score the same in every seed, of two or more.
    low, high: infinite where nothing is ruled out.
    tied: every seed shows the same difference, not 0, and no step is given: nothing tells how sure it is.
    n_a, n_b: runs of either that count; where they are paired, the seeds that both have.
    seeds_about, seeds_at_most: see `sequential.Answer`; None too where runs are not paired.
    """

    a: str
    b: str
    verdict: str
    difference: float
    low: float
    high: float
    tied: bool
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
        texts = [part for text in named for part in ([text] if _pair(text, names) else _parts(text))]
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


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] or [text]


def _unknown(text: str, names: Sequence[str]) -> Pair:
    if text in {f"{name}:{name}" for name in names}:
        raise StudyError(f"--pairs should be A:B with two variants, received one, against itself: {text!r}")
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
        StudyError: runs that have no seed in common are asked for an open design.
    """
    level = (1 - settings.confidence) / len(pairs)  # also of pairs that are tied: which are, the scores say
    if settings.design == "open":
        _refuse_unpaired(scores, pairs)
    return [_answer(a, b, *shared(scores.variants[a], scores.variants[b]), level, settings) for a, b in pairs]


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


def _answer(a: str, b: str, of_a: Runs, of_b: Runs, level: float, settings: Settings) -> Answer:
    step, margin = settings.step, settings.margin
    paired, n_a, n_b = _paired(of_a, of_b), len(of_a.scores), len(of_b.scores)
    differences = of_b.scores - of_a.scores if paired else of_b.scores.mean() - of_a.scores.mean()
    noise = max(EQUAL * max(np.abs(of_a.scores).max(), np.abs(of_b.scores).max()), SMALLEST)
    without_spread = min(n_a, n_b) > 1 and all(
        np.ptp(values) <= noise for values in ([differences] if paired else [of_a.scores, of_b.scores])
    )
    unchanged = paired and without_spread and bool(np.all(np.abs(differences) <= noise))
    mean = 0.0 if unchanged else float(np.mean(differences))
    if without_spread and not step:
        found = Interval(-math.inf, math.inf)
    elif paired:
        found = sequential.interval(differences, level=level, step=step, design=settings.design)
    else:
        found = sequential.welch_interval(of_b.scores, of_a.scores, level=level, step=step)
    good = Interval(-found.high, -found.low) if settings.lower_is_better else found
    word: str = gate.UNCHANGED if unchanged else sequential.verdict(good, margin)
    tied = without_spread and not step and not unchanged
    about = most = None
    if word == "undecided" and paired and n_a > 1 and not tied:
        sd = sequential.spread(differences, step)
        about = sequential.seeds_about(n_a, mean, sd, level=level, margin=margin)
        most = sequential.seeds_at_most(n_a, sd, level=level, margin=margin)
    return Answer(a, b, word, mean, found.low, found.high, tied, paired, n_a, n_b, about, most)


def promise(questions: int, settings: Settings) -> list[str]:
    """What the intervals promise, how a verdict is read off them, and when another design had been right."""
    holds = f"The m = {questions:,} intervals hold together" if questions > 1 else "The interval holds"
    with_confidence = f"with {_plain(100 * settings.confidence)} % confidence"
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
    equal = f"equivalent if all of it lies within ±{_plain(settings.margin)}, else" if settings.margin else ""
    reading = (
        f"A verdict says what b is against a, read off the interval: {equal} better or worse if it leaves out 0 ({way} "
        "is better)."
    )
    if not settings.margin:
        reading += " Without --margin nothing can be equivalent."
    takes = "It takes runs for independent and roughly normal, and none left out because of its score."
    return [f"{holds} {with_confidence}, {how}. {other}", f"{' '.join(reading.split())} {takes}"]


def _plain(value: float) -> str:
    return f"{value:.12g}"


def remarks(scores: Scores, found: Sequence[Answer]) -> list[str]:
    """What else is to be known of the scores, a sentence each."""
    said = list(scores.remarks)
    if alone := [name for name, runs in scores.variants.items() if len(runs.scores) == 1]:
        said.append(f"one run only, of which nothing can be said: {sources.named(alone)}")
    if same := [f"{answer.a}:{answer.b} ({answer.n_a} seeds)" for answer in found if answer.verdict == gate.UNCHANGED]:
        said.append(f"unchanged, with the same score in every seed: {sources.named(same)}")
    if tied := [f"{answer.a}:{answer.b}" for answer in found if answer.tied]:
        said.append(
            f"every seed shows the same difference, so that nothing tells how sure it is: {sources.named(tied)}. Say "
            "with --step the smallest difference that two runs can have (1 / the number of test images, for an "
            "accuracy); or take out what does not depend on its seed"
        )
    if apart := [f"{answer.a}:{answer.b}" for answer in found if not answer.paired]:
        said.append(f"not paired by seed, so by Welch's interval: {sources.named(apart)}")
    unused = []
    for answer in found:
        counts = [len(scores.variants[name].scores) for name in (answer.a, answer.b)]
        if answer.paired and max(counts) > answer.n_a:
            seeds = sources.counted(answer.n_a, "seed")
            unused.append(f"{answer.a}:{answer.b} ({counts[0]} and {counts[1]} runs, {seeds} shared)")
    return said + ([f"compared on the seeds that both have: {sources.named(unused)}"] if unused else [])


def findings(found: Sequence[Answer]) -> list[gate.Finding]:
    """For the gate: what b is in each pair."""
    said = []
    for answer, form in zip(found, number_forms(found), strict=True):
        why = f"{layout.number(answer.difference, form)} against {answer.a}, interval {_span(answer, form)}"
        if answer.verdict == gate.UNCHANGED:
            why = f"the same score as {answer.a} in every seed"
        elif answer.verdict == "undecided":
            why += f"; {_still(answer)}"
        said.append(gate.Finding(answer.b, answer.verdict, why))
    return said


def _still(answer: Answer) -> str:
    if answer.tied:
        return "every seed shows the same difference, and only --step would tell how sure it is"
    if not answer.paired:
        return "runs of the same seeds would probably decide it sooner"
    return gate.undecided(answer.n_a, answer.seeds_about, answer.seeds_at_most)


def number_forms(found: Sequence[Answer]) -> list[str]:
    """How the numbers of each answer are written.

    All with as many decimals as the narrowest interval deserves. Where that makes long numbers, with powers of ten, and
    as many digits as their own interval deserves.
    """
    halves = [(answer.high - answer.low) / 2 for answer in found]
    sizes = [
        half if 0 < half < math.inf else abs(answer.difference) for half, answer in zip(halves, found, strict=True)
    ]
    largest = [
        max(abs(value) for value in (answer.difference, answer.low, answer.high) if math.isfinite(value))
        for answer in found
    ]
    known = [half for half in halves if 0 < half < math.inf] or [size for size in sizes if size]
    decimals = max(1 - _power(min(known)), 0) if known else 3
    if max(_power(max(largest)), 0) + 1 + decimals <= FIXED_DIGITS:
        return [f"{{:+.{decimals}f}}"] * len(found)
    return [
        f"{{:+.{min(max(_power(value) - _power(size), 0) + 1, 15)}e}}"
        for value, size in zip(largest, sizes, strict=True)
    ]


def _power(value: float) -> int:
    """The power of ten of a number's first digit; 0 for 0."""
    return math.floor(math.log10(value)) if value else 0


def rows(found: Sequence[Answer]) -> list[list[str]]:
    return [
        [
            *(answer.a, answer.b, answer.verdict, layout.number(answer.difference, form)),
            *(_span(answer, form), answer.n, _seeds(answer)),
        ]
        for answer, form in zip(found, number_forms(found), strict=True)
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
    words = [*sequential.VERDICTS[::-1], gate.UNCHANGED]
    counts = [(word, sum(answer.verdict == word for answer in found)) for word in words]
    said = ", ".join(f"{count:,} {word}" for word, count in counts if count)
    return f"{sources.counted(len(found), 'question')}: {said}"


def as_text(metric: str, found: Sequence[Answer], notes: Sequence[str], says: Sequence[str], settings: Settings) -> str:
    """An aligned table, what it promises, what else there is to know, and what the gate says."""
    parts = [
        _table(header(metric), rows(found)),
        "\n".join(layout.filled(line) for line in promise(len(found), settings)),
    ]
    for lines in (notes, says):
        if lines:
            parts.append("\n".join(layout.filled(line, "  ") for line in lines))
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """An aligned table; where long names make it wider than a terminal, each pair is on a line above its answer."""
    whole = layout.aligned(head, cells, words=3)
    if max(map(len, whole.splitlines())) <= layout.LINE_WIDTH:
        return whole
    lines = layout.aligned(head[2:], [row[2:] for row in cells]).splitlines()
    pairs = [f"{a} → {b}" for a, b, *_ in cells]
    below = [f"{pair}\n  {line}" for pair, line in zip(pairs, lines[-len(cells) :], strict=True)]
    return "\n".join(["a → b", *(f"  {line}" for line in lines[: -len(cells)]), *below])


def as_markdown(
    metric: str, found: Sequence[Answer], notes: Sequence[str], says: Sequence[str], settings: Settings
) -> str:
    table = layout.markdown(header(metric), rows(found))
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # where no font has it, its place is seen
        _figure(metric, found, settings).savefig(buffer, format=kind, dpi=160, facecolor="white")
    files.write_bytes(path, buffer.getvalue())


def _figure(metric: str, found: Sequence[Answer], settings: Settings) -> "Figure":
    from stages.aggregate import drawing  # here: matplotlib takes as long to start as all the rest

    colors = {"better": drawing.BLUE, "worse": drawing.ORANGE, "equivalent": drawing.GREEN}

    @drawing.styled
    def draw() -> "Figure":
        figure, axes = drawing.panels(0.33 * len(found) + 0.8)
        ax, write = axes[0, 0], _Writing(figure, [metric, *(name for answer in found for name in (answer.a, answer.b))])
        if settings.margin:
            ax.axvspan(-settings.margin, settings.margin, color=drawing.GREEN, alpha=0.15, linewidth=0)
        ax.axvline(0, color=drawing.FAINT, linewidth=1)
        for y, answer, form in zip(range(len(found))[::-1], found, number_forms(found), strict=True):
            color = colors.get(answer.verdict, drawing.GREY)
            if math.isfinite(answer.low):
                ax.hlines(y, answer.low, answer.high, color=color, linewidth=2.5)
            else:
                ax.axhline(y, color=color, linewidth=1, linestyle=":")
            ax.plot(answer.difference, y, "o", color=color, markersize=5.5, markeredgecolor="white")
            said = f"{layout.number(answer.difference, form)} {answer.verdict}"
            pair = write.pair(answer.a, answer.b, said)
            for x, side, words in ((0, "left", pair), (1, "right", said)):
                place = {"transform": ax.get_yaxis_transform(), "ha": side, "va": "bottom"}
                ax.text(x, y + 0.22, words, **place, **write.style)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_ylim(-0.5, len(found) - 0.1)
        ax.grid(axis="x")
        below = f"second − first, with {_plain(100 * settings.confidence)} % confidence together"
        ax.set_xlabel(f"{write.cut(metric, write.room)}\n{below}", **write.style)
        return figure

    return draw()


class _Writing:
    """Words in a figure: as they are, in a font that has their characters, and no wider than there is room for.

    room: points, that a line may be wide.
    style: arguments of matplotlib for what is written.
    """

    def __init__(self, figure: "Figure", texts: Sequence[str]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.font_manager import FontProperties

        self.room = 72 * figure.get_figwidth() - 20
        families = _families({*"".join(texts)})
        self.style = {"fontsize": 8, "family": families, "parse_math": False}  # $ is a character of names
        self._font = FontProperties(family=families, size=8)
        self._renderer = FigureCanvasAgg(figure).get_renderer()
        self._points = 72 / figure.dpi

    def width(self, text: str) -> float:
        """In points."""
        return self._points * self._renderer.get_text_width_height_descent(text, self._font, ismath=False)[0]

    def cut(self, text: str, room: float) -> str:
        """The text with its middle left out, as far as there is no room."""

        def shorter(kept: int) -> str:
            return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

        if self.width(text) <= room:
            return text
        too_long = bisect.bisect_right(range(len(text)), room, key=lambda kept: self.width(shorter(kept)))
        return shorter(max(too_long - 1, 2))

    def pair(self, a: str, b: str, beside: str) -> str:
        """Both names; who needs less than half of the room beside leaves the rest to the other."""
        room = self.room - self.width(f"{beside} → ") - 10
        a = self.cut(a, max(room / 2, room - self.width(b)))
        mark = "\N{LEFT-TO-RIGHT MARK}"  # else Arabic names change places
        return f"{mark}{a}{mark} → {mark}{self.cut(b, room - self.width(a))}"


def _families(characters: set[str]) -> list[str]:
    """The fonts to write with: the study's, and one of this machine that has what is missing there, if there is one."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    from stages.aggregate.drawing import STYLE

    first = STYLE["font.family"]
    missing = {*map(ord, characters)} - get_font(findfont(first)).get_charmap().keys()
    # matplotlib's Last Resort has a box for every character there is.
    fonts = (font for font in fontManager.ttflist if missing and not font.name.startswith("Last Resort"))
    return [first, *[font.name for font in fonts if missing <= get_font(font.fname).get_charmap().keys()][:1]]


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
    group.add_argument(
        "--metric", metavar="NAME", help="the column or metric of the scores; with --wide, only what they are called"
    )
    group.add_argument(
        "--by",
        metavar="NAME,…",
        type=terminal.listed,
        action="extend",
        default=[],
        help="columns, or MLflow's parameters or tags, that tell variants apart (the column variant; in MLflow all "
        "parameters that differ, but for the seed)",
    )
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument("--seed", metavar="NAME", help=f"the column, parameter or tag of the seeds ({sources.SEED})")
    seeds.add_argument("--unpaired", action="store_true", help="runs share no seeds (only with --design fixed)")
    group.add_argument("--wide", action="store_true", help="each column but the seeds' is a variant")
    group.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only the rows with COLUMN=VALUE; in MLflow a filter such as \"params.depth = '3'\"; may be repeated",
    )


def _add_question(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument("--baseline", metavar="NAME", help="a, with which every other variant is compared")
    which.add_argument(
        "--pairs",
        metavar="A:B,…",
        action="append",
        default=[],
        help="is B better than A? (without this and --baseline: of every two variants, is the one that comes later "
        "better than the one that comes first?)",
    )
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
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(
            f"should be a number of 0 or more, in the unit of the score, received {text!r}"
        )
    return value


def _share(text: str) -> float:
    value = _float(text)
    if not 0 < 1 - value < 1:
        raise argparse.ArgumentTypeError(f"should be a number between 0 and 1, such as 0.95, received {text!r}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # which is in no range


def _scores(arguments: argparse.Namespace) -> Scores:
    by, seed_column = arguments.by, arguments.seed or sources.SEED
    seed = None if arguments.unpaired else seed_column
    if (arguments.file is None) == (arguments.mlflow is None):
        raise StudyError("name one source: a FILE (- for standard input), or --mlflow EXPERIMENT")
    if arguments.mlflow is not None:
        if arguments.wide:
            raise StudyError("--wide is for files: MLflow's runs are told apart with --by")
        return mlflow_source.scores(arguments.mlflow, arguments.metric, seed, by, arguments.where)
    if arguments.wide:
        if by or arguments.where or arguments.unpaired:
            raise StudyError("--wide takes every column for a variant: it does not go with --by, --where, --unpaired")
        return sources.wide_scores(sources.read_table(arguments.file, [seed_column]), arguments.metric, arguments.seed)
    by = by or [sources.BY]
    chosen = map(sources.column_of, arguments.where)
    table = sources.read_table(arguments.file, [*by, seed_column, *chosen])
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
    reasons = asked.reasons(findings(found))
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

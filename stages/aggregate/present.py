"""Tables as people read them: numbers with their n and interval, in words where words are better."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.params import Params

NOTHING = "–"


@dataclass(frozen=True)
class Shown:
    """A table for a page: rows of (text, value to sort by)."""

    name: str
    title: str
    caption: str
    header: list[str]
    rows: list[list[tuple[str, float | str]]]

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.caption, ""]
        lines += [_row(self.header), _row(["---"] * len(self.header))]
        lines += [_row([text for text, _ in row]) for row in self.rows]
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _missing(value: Any) -> bool:
    return value is None or (not isinstance(value, str) and bool(pd.isna(value)))


def _number(form: str, scale: float = 1, name: str = "") -> Callable[[dict[str, Any]], tuple[str, float | str]]:
    def cell(row: dict[str, Any]) -> tuple[str, float | str]:
        value = row.get(name)
        # What is missing sorts below everything, and is shown as missing.
        return (NOTHING, -math.inf) if _missing(value) else (form.format(float(value) * scale), float(value))  # type: ignore[arg-type]

    return cell


def _text(name: str) -> Callable[[dict[str, Any]], tuple[str, float | str]]:
    return lambda row: (NOTHING, "") if _missing(row.get(name)) else (str(row[name]), str(row[name]))


def _count(name: str) -> Callable[[dict[str, Any]], tuple[str, float | str]]:
    return _number("{:,.0f}", name=name)


def _range(form: str, scale: float, name: str) -> Callable[[dict[str, Any]], tuple[str, float | str]]:
    def cell(row: dict[str, Any]) -> tuple[str, float | str]:
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if _missing(low) or _missing(high):
            return NOTHING, -math.inf
        assert low is not None
        assert high is not None
        return f"{form.format(low * scale)} … {form.format(high * scale)}", float(low)

    return cell


def _probability(name: str) -> Callable[[dict[str, Any]], tuple[str, float | str]]:
    def cell(row: dict[str, Any]) -> tuple[str, float | str]:
        value = row.get(name)
        if _missing(value):
            return NOTHING, -math.inf
        assert value is not None
        return ("< 0.001" if value < 0.001 else f"{value:.3f}"), float(value)

    return cell


Column = tuple[str, Callable[[dict[str, Any]], tuple[str, float | str]]]

ACCURACY = _number("{:.2f} %", 100, "accuracy")
SD = _number("{:.2f}", 100, "sd")


def _intervals(study: Params, form: str, scale: float) -> list[Column]:
    level = study.statistics.percent
    return [
        (f"{level}: these digits", _range(form, scale, "seeds")),
        (f"{level}: new digits too", _range(form, scale, "digits")),
    ]


def compared(study: Params) -> list[Column]:
    """The columns of a table of differences, after those that name what is compared."""
    return [
        ("n", _count("n")),
        ("difference, points", _number("{:+.3f}", name="difference")),
        ("verdict", _text("verdict")),
        *_intervals(study, "{:+.3f}", 1),
        ("p, Holm", _probability("p_holm")),
        ("P(b > a)", _number("{:.0f} %", 100, "superiority")),
        ("seeds to settle it", _count("seeds_needed")),
    ]


def shown(name: str, title: str, caption: str, table: pd.DataFrame, columns: Sequence[Column]) -> Shown:
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    return Shown(
        name, title, caption, [header for header, _ in columns], [[c(row) for _, c in columns] for row in rows]
    )


def approaches(table: pd.DataFrame, study: Params) -> Shown:
    columns: list[Column] = [
        *(("approach", _text("approach")), ("variant", _text("variant")), ("n", _count("n"))),
        *(("test accuracy", ACCURACY), ("sd", SD), *_intervals(study, "{:.2f}", 100)),
        ("vote of the seeds", _number("{:.2f} %", 100, "vote_accuracy")),
    ]
    caption = f"Mean test accuracy over n seeds on {study.data.name}; sd between seeds and intervals in points."
    if study.data.name == "mnist":
        columns.append(("2020", _number("{:.2f} %", 100, "accuracy_2020")))
        caption += " In the last column what the course work of 2020 reported."
    return shown("approaches", "The approaches", caption, table, columns)


def variants(table: pd.DataFrame, study: Params) -> Shown:
    columns: list[Column] = [
        *(("variant", _text("variant")), ("n", _count("n")), ("test accuracy", ACCURACY), ("sd", SD)),
        *_intervals(study, "{:.2f}", 100),
        ("test loss", _number("{:.4f}", name="loss")),
        ("sd of loss", _number("{:.4f}", name="loss_sd")),
        ("vote of the seeds", _number("{:.2f} %", 100, "vote_accuracy")),
        ("calibration error", _number("{:.2f}", 100, "calibration_error")),
        ("epochs", _number("{:.1f}", name="epochs")),
    ]
    caption = (
        "The loss is cross-entropy for networks and squared error for the closed-form classifiers. The "
        "vote is the class with the highest mean output of all seeds. Calibration error (expected, 15 bins) in points."
    )
    return shown("variants", "Scores", caption, table, columns)


def per_seed(table: pd.DataFrame, a: str, b: str) -> Shown:
    columns: list[Column] = [("seed", _count("seed"))]
    columns += [(f"{name} accuracy", _number("{:.2f} %", 100, f"{name}_accuracy")) for name in (a, b)]
    columns += [(f"{name} loss", _number("{:.4f}", name=f"{name}_loss")) for name in (a, b)]
    return shown(f"pair_{a}_{b}", f"{a} and {b}, seed by seed", "Test scores of every run.", table, columns)


def comparisons(table: pd.DataFrame, study: Params) -> Shown:
    columns: list[Column] = [("a", _text("a")), ("b", _text("b")), *compared(study)]
    return shown("comparisons", "Is b better than a?", _how_compared(study), table, columns)


def ranking(table: pd.DataFrame, study: Params) -> Shown:
    columns: list[Column] = [("a", _text("a")), ("b", _text("b")), *compared(study)]
    caption = "Each approach (b) against the one ranked below it (a). " + _how_compared(study)
    return shown("ranking", "The approaches, one against the next", caption, table, columns)


def ablations(table: pd.DataFrame, study: Params, chain: str) -> Shown:
    columns: list[Column] = [("step", _text("b")), ("change", _text("change")), *compared(study)]
    beside = [header for header, _ in columns].index("verdict")
    columns.insert(beside, ("2020, one seed", _number("{:+.2f}", name="difference_2020")))
    caption = "Each step (b) against its predecessor (a). " + _how_compared(study)
    return shown(f"ablations_{chain}", f"What each step of the {chain} chain was worth", caption, table, columns)


def reproduction(table: pd.DataFrame, study: Params) -> Shown:
    columns: list[Column] = [
        *(
            ("variant", _text("variant")),
            ("n", _count("n")),
            ("test accuracy", ACCURACY),
            ("n in 2020", _count("n_2020")),
        ),
        ("accuracy in 2020", _number("{:.2f} %", 100, "accuracy_2020")),
        ("difference, points", _number("{:+.3f}", name="difference")),
        *(("p of the TOST", _probability("p")), ("reproduced", _text("reproduced"))),
    ]
    margin = study.statistics.reproduction_margin
    caption = f"Reproduced: two one-sided t-tests (Welch) put the difference within ±{margin:g} points."
    return shown("reproduction", "Against the notebook of 2020", caption, table, columns)


def variance(table: pd.DataFrame) -> Shown:
    columns: list[Column] = [
        ("variant", _text("variant")),
        ("sd from the seed", _number("{:.3f}", name="seeds_sd")),
        ("sd from the test digits", _number("{:.3f}", name="digits_sd")),
    ]
    caption = (
        "How far the test accuracy of a single run is off, in points. From the seed: what makes a run better or worse "
        "on whatever digits; 0.000 where runs differ by no more than which of these digits they happen to get wrong. "
        "From the test digits: others might have been drawn."
    )
    return shown("variance", "Where the noise comes from", caption, table, columns)


def selection(table: pd.DataFrame) -> Shown:
    columns: list[Column] = [
        *(("chain", _text("chain")), ("steps", _count("steps")), ("n", _count("n"))),
        ("chosen on the test set: reported", _number("{:.3f} %", 100, "reported_by_test")),
        ("what it is worth", _number("{:.3f} %", 100, "worth_by_test")),
        ("chosen on the dev split: worth", _number("{:.3f} %", 100, "worth_by_dev")),
        ("optimism, points", _number("{:+.3f}", name="optimism")),
    ]
    caption = (
        "The notebook kept the step with the best test score of one seed. Done with each seed in turn: the score it "
        "would have reported, and the mean over the other seeds, which is what the choice is worth."
    )
    return shown("selection", "Choosing on the test set", caption, table, columns)


def hardest(table: pd.DataFrame) -> Shown:
    columns: list[Column] = [
        *(
            ("test image", _number("{:.0f}", name="image")),
            ("true", _count("truth")),
            ("most often seen as", _count("seen")),
        ),
        *(("runs that are wrong", _count("wrong")), ("of", _count("runs"))),
    ]
    return shown(
        "hardest",
        "The hardest digits",
        "Wrong in the most runs of the whole study. Images count from 0.",
        table,
        columns,
    )


def _how_compared(study: Params) -> str:
    margin = study.statistics.equivalence_margin
    return (
        "Difference of mean test accuracy, b − a, paired by seed. Equivalent: within "
        f"±{margin:g} points by two one-sided t-tests; otherwise better or worse where the exact sign-flip test, "
        f"corrected after Holm over this table, has p < {study.statistics.alpha:g}; otherwise undecided. A verdict is "
        "about other seeds on these test digits; how sure it is on others, the interval “new digits too” tells. "
        "P(b > a): how often a run of b beats one of a."
    )


def headline(table: pd.DataFrame, against: pd.DataFrame, study: Params) -> tuple[str, str]:
    """Which approach wins, by how much and how sure: a headline and a sentence."""
    order = table.sort_values("accuracy", ascending=False)
    best = order.iloc[0]
    if len(order) < 2 or against.empty:
        return f"{best['approach']}: {100 * best['accuracy']:.2f} %", f"Mean of n = {best['n']} seeds."
    second, duel = order.iloc[1], against.iloc[0]
    words = {
        "better": f"{best['approach']} wins",
        "equivalent": f"{best['approach']} and {second['approach']} are equivalent",
    }
    title = words.get(duel["verdict"], f"{best['approach']} leads, undecided")
    interval = ""
    if not _missing(duel["digits_low"]):
        if duel["verdict"] == "better" and duel["digits_low"] <= 0:
            title += " on these test digits"
        interval = (
            f" ({study.statistics.percent} interval {duel['digits_low']:+.2f} … {duel['digits_high']:+.2f} with new "
            "seeds and new digits)"
        )
    sentence = (
        f"{best['approach']} gets {100 * best['accuracy']:.2f} % of the test digits right, {second['approach']} "
        f"{100 * second['accuracy']:.2f} %: {duel['difference']:+.2f} points{interval}, n = {duel['n']} seeds each."
    )
    return title, sentence

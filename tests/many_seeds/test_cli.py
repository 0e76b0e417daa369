"""The verdict on scores from files, as a person at the keyboard gets it."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stages.verdict.__main__ import main

from many_seeds import intervals
from stages import params
from stages.aggregate import answers
from stages.aggregate.runs import read_runs
from tests.conftest import ROOT

TENTHS = [0.1 * number for number in range(1, 11)]
HEAVY = {"mlflow", "tensorflow", "keras", "pydantic", "ruamel", "dvc", "sklearn", "matplotlib", "scipy.stats"}


@dataclass(frozen=True)
class Said:
    out: str
    err: str
    status: int

    @property
    def words(self) -> str:
        """What was printed, without the breaks between lines."""
        return " ".join(self.out.split())


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> Said:
        monkeypatch.setattr(sys, "argv", ["many-seeds verdict", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        out, err, status = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                status = int(ended.code or 0)
        return Said(out.getvalue(), err.getvalue(), status)

    return run


def long(variants: Mapping[str, Sequence[float]], seeds: Iterable[int] | None = None) -> str:
    rows = [
        f"{name},{seed},{score}"
        for name, scores in variants.items()
        for seed, score in zip(seeds or range(len(scores)), scores, strict=True)
    ]
    return "\n".join(["variant,seed,accuracy", *rows]) + "\n"


def write(text: str, name: str = "scores.csv") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def found(said: Said) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert said.err == ""
    return json.loads(said.out, parse_constant=refuse)


def only(said: Said) -> dict[str, Any]:
    (answer,) = found(said)["answers"]
    return answer


def test_the_interval_is_the_one_that_was_worked_out_for_the_differences(run: Run) -> None:
    file = write(long({"a": [0.0] * 10, "b": TENTHS}))
    answer = only(run(file, "--json"))
    assert (answer["low"], answer["high"]) == pytest.approx((0.55 - 0.370504, 0.55 + 0.370504), abs=1e-6)
    assert (answer["verdict"], answer["n_a"], answer["paired"]) == ("better", 10, True)
    answer = only(run(file, "--json", "--design", "fixed"))
    assert (answer["low"], answer["high"]) == pytest.approx((0.55 - 0.216585, 0.55 + 0.216585), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "arguments"),
    [
        ("s.csv", "variant;seed;loss\na;0;1\na;1;2\nb;0;3\nb;1;5\n", []),
        ("s.tsv", "\ufeffvariant\t seed\tloss\r\na\t0\t1\r\nb\t1\t5\r\na\t1\t2\r\nb\t0\t3\r\n", []),
        ("s.csv", "run,model,init,loss,time\n1,a,0,1,9\n2,b,0,3,9\n3,a,1,2,9\n4,b,1,5,9\n", None),
        (
            "s.jsonl",
            '{"variant":"a","seed":0,"loss":1}\n{"variant":"b","seed":0,"loss":3}\n'
            '{"variant":"a","seed":1,"loss":2}\n\n{"variant":"b","seed":1,"loss":5}\n',
            [],
        ),
        ("s.csv", "seed,a,b\n0,1,3\n1,2,5\n", ["--wide"]),
        ("s.csv", "a,b\n1,3\n2,5\n", ["--wide"]),
        ("s.csv", "SEED,a,b\n0,1,3\n1,2,5\n", ["--wide"]),
        ("s.csv", ",Seed,a,b\n0,7,1,3\n1,8,2,5\n", ["--wide"]),
        ("s.csv", "Unnamed: 0,a,b\n0,1,3\n1,2,5\n", ["--wide"]),
        ("s.tsv", "\tvariant\tseed\tloss\n4\ta\t0\t1\n7\ta\t1\t2\n8\tb\t0\t3\n9\tb\t1\t5\n", []),
        ("s.csv", "variant,seed,loss\ra,0,1\ra,1 ,2\rb,0 ,3\rb,1,5\r", []),
    ],
    ids=[
        *("semicolons", "tabs", "other names", "JSON lines", "wide", "wide without seeds", "seeds in capitals"),
        *(
            "wide with an index",
            "wide with an index read again",
            "an index",
            "lines as of old Macs, blanks after seeds",
        ),
    ],
)
def test_the_same_scores_give_the_same_answer_in_every_form(
    name: str, text: str, arguments: list[str] | None, run: Run
) -> None:
    if arguments is None:
        arguments = ["--by", "model", "--seed", "init", "--metric", "loss"]
    for source, stdin in ((write(text, name), b""), ("-", text.encode())):
        answer = only(run(source, *arguments, "--design", "fixed", "--json", stdin=stdin))
        # Differences 2 and 3: mean 2.5, sd 0.7071; t(1) = 12.706, over sqrt(2).
        assert (answer["a"], answer["b"], answer["n_a"]) == ("a", "b", 2)
        assert (answer["low"], answer["high"]) == pytest.approx((2.5 - 6.3531, 2.5 + 6.3531), abs=1e-3)


def test_lower_is_better_turns_the_verdict_and_not_the_difference(run: Run) -> None:
    file = write(long({"a": [0.0] * 10, "b": TENTHS, "c": [2.0 - tenth for tenth in TENTHS]}))
    higher, lower = (found(run(file, "--baseline", "a", "--json", *more)) for more in ([], ["--lower-is-better"]))
    assert [answer["verdict"] for answer in higher["answers"]] == ["better", "better"]
    assert [answer["verdict"] for answer in lower["answers"]] == ["worse", "worse"]
    assert [answer["low"] for answer in higher["answers"]] == [answer["low"] for answer in lower["answers"]]


def test_a_difference_inside_of_the_margin_is_equivalent_and_without_a_margin_nothing_is(run: Run) -> None:
    file = write(long({"a": [1.0] * 100, "b": [1 + x for x in [-0.01, 0.02, 0, 0.01] * 25]}))
    assert only(run(file, "--json", "--margin", "0.05"))["verdict"] == "equivalent"
    assert only(run(file, "--json", "--margin", "0.05", "--lower-is-better"))["verdict"] == "equivalent"
    assert only(run(file, "--json"))["verdict"] == "better"
    assert "Without --margin nothing can be equivalent" in run(file).words


def test_which_pairs_are_compared(run: Run) -> None:
    scores = {name: np.random.default_rng(place).random(3).tolist() for place, name in enumerate(["a", "b:c", "d,e"])}
    scores["d,e"] = scores["b:c"][::-1]
    rows = [f'"{name}",{seed},{score}' for name, of in scores.items() for seed, score in enumerate(of)]
    file = write("\n".join(["variant,seed,accuracy", *rows]))

    def pairs(*arguments: str) -> list[str]:
        return [f"{answer['a']} {answer['b']}" for answer in found(run(file, "--json", *arguments))["answers"]]

    assert pairs() == ["a b:c", "a d,e", "b:c d,e"]
    assert pairs("--baseline", "d,e") == ["d,e a", "d,e b:c"]
    assert pairs("--pairs", "d,e:a", "--pairs", "a:b:c") == ["d,e a", "a b:c"]
    assert pairs("--pairs", " a:b:c , ") == ["a b:c"]
    for wrong, said in (
        (["--pairs", "a:f"], "There are: a, b:c, d,e"),
        (["--pairs", "a"], "should be A:B"),
        (["--pairs", "a:b:c", "--pairs", "b:c:a"], "twice, one way or the other"),
        (["--baseline", "b:d"], "Meant: b:c?"),
        (["--baseline", "a", "--pairs", "a:b:c"], "not allowed with argument"),
    ):
        refused = run(file, *wrong)
        assert refused.status == 2
        assert said in refused.err


@pytest.mark.parametrize("seeds", [2, 10])
def test_a_pair_that_every_seed_shows_alike_keeps_nothing_from_the_others(seeds: int, run: Run) -> None:
    scores = {"a": TENTHS, "shifted": [tenth + 0.1 for tenth in TENTHS], "same": TENTHS, "up": [2.0, 3.0] * 5}
    file = write(long({name: of[:seeds] for name, of in scores.items()}))
    asked = [file, "--baseline", "a", "--design", "fixed"]
    said = found(run(*asked, "--json"))
    shifted, same, up = said["answers"]
    assert [answer["verdict"] for answer in (shifted, same)] == ["undecided", "unchanged"]
    for answer in (shifted, same):
        assert (answer["low"], answer["high"], answer["seeds_about"]) == (None, None, None)
    differences = np.subtract(scores["up"], scores["a"])[:seeds]
    expected = intervals.interval(differences, level=0.05 / 3, step=0, design="fixed")  # the others count too
    assert (up["low"], up["high"]) == pytest.approx((expected.low, expected.high))
    assert f"unchanged, with the same score in every seed: a:same ({seeds} seeds)" in said["remarks"]
    assert "every seed shows the same difference, so that nothing tells how sure it is: a:shifted. Say with --step" in (
        " ".join(said["remarks"])
    )
    counts = {2: "2 undecided, 1 unchanged", 10: "1 better, 1 undecided, 1 unchanged"}
    assert run(*asked, "--markdown").out.startswith(f"## 3 questions: {counts[seeds]}\n")
    assert run(*asked, "--figure", "f.png").status == 0
    shut = json.loads(run(*asked, "--json", "--fail-on", "undecided").out)["gate"]["reasons"]
    assert [reason["variant"] for reason in shut] == {2: ["shifted", "up"], 10: ["shifted"]}[seeds]
    assert run(file, "--pairs", "a:same", "--fail-on", "undecided").status == 0
    assert run(file, "--pairs", "a:same", "--fail-on", "not-better").status == 1
    assert found(run(*asked, "--json", "--step", "0.001"))["answers"][0]["verdict"] == "better"


def test_large_scores_are_told_apart_and_what_arithmetic_does_to_them_is_not(run: Run) -> None:
    large = [1e9 + tenth for tenth in TENTHS]
    answer = only(run(write(long({"a": [1e9] * 10, "b": large})), "--json"))
    assert (answer["verdict"], answer["difference"]) == ("better", pytest.approx(0.55, abs=1e-6))
    answer = only(run(write(long({"a": TENTHS, "b": [tenth * 3 / 3 for tenth in TENTHS]})), "--json"))
    assert (answer["verdict"], answer["difference"]) == ("unchanged", 0)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([1.0], ["+0.55 +0.18 … +0.92"]),
        ([1e-12], ["+5.5e−13 +1.8e−13 … +9.2e−13"]),
        ([1e9], ["+5.5e+08 +1.8e+08 … +9.2e+08"]),
        ([1e4], ["+5500 +1795 … +9205"]),
        ([1e-12, 1e9], ["+5.5e−13 +1.3e−13 … +9.7e−13", "+5.5e+08 +1.3e+08 … +9.7e+08"]),
    ],
)
def test_numbers_are_short_and_alike_whatever_their_size(factors: list[float], expected: list[str], run: Run) -> None:
    scores = {f"b{place}": [factor * tenth for tenth in TENTHS] for place, factor in enumerate(factors)}
    said = run(write(long({"a": [0.0] * 10} | scores)), "--baseline", "a")
    for numbers in expected:
        assert f"better {numbers} 10" in said.words


def test_long_names_are_whole_on_a_line_above_their_answer(run: Run) -> None:
    a, b = "a_" * 40, "b_" * 40
    lines = run(write(long({a: [0.0] * 10, b: TENTHS})), "--metric", "accuracy").out.splitlines()
    place = lines.index(f"{a} → {b}")
    assert lines[place + 1].split() == ["better", "+0.55", "+0.18", "…", "+0.92", "10", "–"]
    header = run(write(long({"a": [0.0] * 10, "b": TENTHS}).replace("accuracy", "balanced_accuracy_of_all"))).out
    assert " balanced_accuracy_of_all," in header


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_nobody_reads_ends_the_command_without_a_word(unbuffered: str, tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(long({"a": [0.0] * 10, "b": TENTHS}))
    read, write_end = os.pipe()
    os.close(read)
    for arguments in ([file], [file, "--json"]):
        answer = subprocess.run(
            [sys.executable, "-m", "stages.commands", "verdict", *arguments],
            cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, stdout=write_end, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
        assert (answer.returncode, answer.stderr) == (128 + signal.SIGPIPE, b"")
    os.close(write_end)


def test_a_closed_standard_input_is_said_to_be(tmp_path: Path) -> None:
    command = f"{sys.executable} -m stages.commands verdict - <&-"
    answer = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        "error: standard input is closed: expected the scores there; name a FILE, or redirect one\n"
    )


def test_a_gate_is_shut_also_where_standard_output_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(long({"a": TENTHS, "b": [0.0] * 10}))
    command = f"{sys.executable} -m stages.commands verdict {file} --pairs a:b --fail-on worse >&-"
    answer = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("gate failed (--fail-on worse)\n")


def test_help_and_answer_say_which_is_compared_with_which(run: Run) -> None:
    assert "A verdict says what b is against a" in run("--help").words
    assert "is the one that comes later better than the one that comes first?" in run("--help").words
    assert "A verdict says what b is against a" in run(write(long({"a": [0.0] * 10, "b": TENTHS}))).words


def test_the_intervals_of_all_pairs_hold_together(run: Run) -> None:
    scores = {"a": [0.0] * 10} | {f"b{place}": TENTHS for place in range(8)}
    said = found(run(write(long(scores)), "--baseline", "a", "--json"))
    assert said["questions"] == 8
    for answer in said["answers"]:
        # 0.05 / 8 for each.
        assert (answer["low"], answer["high"]) == pytest.approx((-0.001059, 1.101059), abs=1e-6)
        assert answer["verdict"] == "undecided"
        assert answer["seeds_about"] > 10


def test_seeds_that_one_side_lacks_are_named_and_the_others_paired_by_their_number(run: Run) -> None:
    lines = ["variant,seed,accuracy", *(f"a,{seed},{seed / 10}" for seed in range(10))]
    lines += [f"b,{seed},{seed / 10 + 1 + seed % 2}" for seed in range(12, 6, -1)]
    said = found(run(write("\n".join(lines)), "--json", "--design", "fixed"))
    (answer,) = said["answers"]
    assert (answer["n_a"], answer["difference"]) == (3, pytest.approx((2 + 1 + 2) / 3))  # seeds 7, 8 and 9
    assert "a:b (10 and 6 runs, 3 seeds shared)" in " ".join(said["remarks"])


def test_runs_without_a_seed_in_common_are_compared_by_welch_if_their_number_was_fixed(run: Run) -> None:
    text = "variant,seed,accuracy\na,0,1\na,1,2\na,2,3\na,3,4\nb,4,6\nb,5,8\nb,6,10\n"
    answer = only(run(write(text), "--design", "fixed", "--json"))
    # Means 2.5 and 8, variances 5/3 and 4: error 1.3229, freedom 3.2347 (by Welch's formula), t = 3.0556.
    assert (answer["paired"], answer["n_a"], answer["n_b"]) == (False, 4, 3)
    assert (answer["low"], answer["high"]) == pytest.approx((5.5 - 4.0423, 5.5 + 4.0423), abs=2e-3)
    unpaired = only(run(write(text.replace(",4,6", ",0,6")), "--design", "fixed", "--json", "--unpaired"))
    assert unpaired == answer
    assert "not paired by seed" in run("scores.csv", "--design", "fixed", "--unpaired").words
    for arguments in ([], ["--unpaired"]):
        refused = run(write(text), *arguments)
        assert refused.status == 2
        assert "these have no seed in common: a:b" in refused.err
        assert "--design fixed" in refused.err


def test_each_design_says_when_it_is_the_right_one(run: Run) -> None:
    file = write(long({"a": [0.0] * 10, "b": TENTHS}))
    assert "however many seeds were added and whenever one looked (--design open)" in run(file).words
    assert "If the number of runs was fixed before any score was seen" in run(file).words
    assert "at this one look" in run(file, "--design", "fixed").words
    assert "Whoever has looked before, or adds runs after this, has to" in run(file, "--design", "fixed").words


def test_markdown_starts_with_the_verdicts_and_escapes_names(run: Run) -> None:
    text = run(write(long({"a|b": [0.0] * 10, "[c_d]": TENTHS}).replace("accuracy", "f|1")), "--markdown").out
    assert text.startswith("## 1 question: 1 better\n")
    assert "| a | b | b is | f\\|1, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a |" in text
    assert "| a\\|b | \\[c_d\\] | better | +0.55 |" in text


@pytest.mark.parametrize("name", ["f.png", "f.svg", "f.pdf"])
def test_a_figure_is_drawn_also_of_intervals_that_rule_out_nothing(name: str, run: Run) -> None:
    file = write(long({"a": [0.0] * 10, "b": TENTHS}) + "c,0,1\n")
    assert run(file, "--figure", name, "--margin", "0.1").status == 0
    assert Path(name).stat().st_size > 5000


def test_names_in_a_figure_are_shown_as_they_are_and_never_over_one_another(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    save = Figure.savefig

    def check(figure: Figure, *arguments: Any, **more: Any) -> None:
        places = [text.get_window_extent() for text in figure.axes[0].texts]
        assert len(places) == 20
        for pair, answer in zip(places[::2], places[1::2], strict=True):
            assert figure.bbox.x0 <= pair.x0 < pair.x1 < answer.x0 < answer.x1 <= figure.bbox.x1
        save(figure, *arguments, **more)

    monkeypatch.setattr(Figure, "savefig", check)
    names = ["$x_1$", "残差网络五十层" * 9, "W" * 300, "lr=0.1 " * 12, "العربية"]
    file = write(long({name: TENTHS[place:] + TENTHS[:place] for place, name in enumerate(names)}, range(10)))
    for path in ("f.png", "f.svg"):
        said = run(file, "--figure", path, "--metric", "accuracy")
        assert (said.status, said.err) == (0, "")  # nor is there a word of a font that lacks characters
    svg = Path("f.svg").read_text(encoding="utf-8")
    assert "$x_1$" in svg
    assert "W" * 300 not in svg
    assert "W…W" in svg


def of(rows: str, header: str = "variant,seed,accuracy") -> str:
    return f"{header}\n{rows}".replace(" ", "\n") + "\n"


BAD = {
    "a missing file": (None, ["nosuch.csv"], "nosuch.csv can't be read: No such file or directory"),
    "a folder": (None, ["."], ". can't be read: Is a directory"),
    "no source": ("", [], "name one source"),
    "two sources": ("", ["scores.csv", "--mlflow", "x"], "name one source"),
    "an empty file": ("", ["scores.csv"], "scores.csv is empty"),
    "a header alone": (of(""), ["scores.csv", "--metric", "accuracy"], "found no rows with accuracy"),
    "a binary file": ("a\0b", ["scores.csv"], "no text in UTF-8"),
    "no column variant": (of("a,0,1", "model,seed,accuracy"), ["scores.csv"], "no column 'variant': name with --by"),
    "no column seed": (of("a,0,1", "variant,run,accuracy"), ["scores.csv"], "no column 'seed': name with --seed"),
    "no such metric": (of("a,0,1"), ["scores.csv", "--metric", "f1"], "no column 'f1': name with --metric"),
    "several metrics": (of("a,0,1,2", "variant,seed,f1,loss"), ["scores.csv"], "found f1, loss"),
    "a column twice": (of("a,0,1,2", "variant,seed,f1,f1"), ["scores.csv"], "has the column 'f1' twice"),
    "a row that is too long": (of("a,0,1 a,1,2,7,8 b,0,1"), ["scores.csv"], "no CSV file with a header"),
    "a seed twice": (
        of("a,0,1 a,1,2 b,0,1 b,1,2 b,0,3"),
        ["scores.csv"],
        "variant b has seed 0 twice, in line 4 and line 6 (1 such row)",
    ),
    "NaN": (
        of("a,0,1 a,1,nan b,0,1"),
        ["scores.csv"],
        "line 3 should have a finite number as accuracy, received 'nan' (1 such score): take it out if the run did not",
    ),
    "an empty score": (
        of("a,0,1  a,1, b,0,1"),
        ["scores.csv"],
        "line 4 should have a finite number as accuracy, received none, empty or NaN (1 such score): take it out",
    ),
    "infinite": (
        of("a,0,1 a,1,2 b,0,inf"),
        ["scores.csv"],
        "line 4 should have a finite number as accuracy, received inf",
    ),
    "too large to be squared": (
        of("a,0,1e308 a,1,-1e308 b,0,1 b,1,2"),
        ["scores.csv"],
        "line 2 should have a finite number as accuracy, received 1e+308 (2 such scores): write the scores in",
    ),
    "too small to be squared": (
        of("a,0,1e-200 a,1,3e-200 b,0,2e-200 b,1,9e-200"),
        ["scores.csv"],
        "received 1e-200 (4 such scores): write the scores in another unit",
    ),
    "a gate without a direction": (
        of("a,0,1 b,0,2"),
        ["scores.csv", "--fail-on", "worse"],
        "with --baseline or --pairs",
    ),
    "a name of two lines": (
        of('"b\t::error::x",0,1 a,0,2').replace("\t", "\n"),
        ["scores.csv"],
        "names of variants should be without line breaks and control characters, received 'b\\n::error::x'",
    ),
    "rows that are not lines": (
        of('"a\tb",0,1 b,0,x').replace("\t", "\n"),
        ["scores.csv", "--metric", "accuracy"],
        "row 2 should have",
    ),
    "an empty score of JSON": (
        '\n{"variant": "a", "seed": 0, "f1": NaN}',
        ["scores.csv"],
        "line 2 should have a finite",
    ),
    "percentages": (of("a,0,91.2% b,0,92%"), ["scores.csv", "--metric", "accuracy"], "write percentages as plain"),
    "decimal commas": (
        of("a;0;0,91 b;0;0,92", "variant;seed;accuracy"),
        ["scores.csv", "--metric", "accuracy"],
        "write decimals with a point",
    ),
    "a row without a variant": (of("a,0,1 ,0,1"), ["scores.csv"], "line 3 has no variant"),
    "a row without a seed": (of("a,0,1 b,,1"), ["scores.csv"], "line 3 has no seed"),
    "one variant": (of("a,0,1 a,1,2"), ["scores.csv"], "two variants at least, found only a"),
    "JSON that is none": ('{"variant": "a"}\n{"variant": \n', ["scores.csv"], "line 2, column"),
    "a JSON array": ('[{"variant": "a"}]', ["scores.csv"], "is a JSON array"),
    "a JSON value": ('{"variant": "a", "seed": 0, "f1": 1}\n3\n', ["scores.csv"], "line 2 is '3'"),
    "a condition that is none": (of("a,0,1"), ["scores.csv", "--where", "seed"], "--where should be COLUMN=VALUE"),
    "a condition that nothing meets": (of("a,0,1"), ["scores.csv", "--where", "seed=7"], "no row has seed=7; seed is"),
    "text in a wide table": (
        of("0,1,x", "seed,a,b"),
        ["scores.csv", "--wide"],
        "column b, line 2 should have a finite",
    ),
    "a column of words in a wide table": (
        of("0,1,x 1,2,y", "seed,a,notes"),
        ["scores.csv", "--wide"],
        "column notes, line 2 should have a finite number as score, received 'x' (2 such scores): if this is a column",
    ),
    "seeds alone": (of("0 1", "seed"), ["scores.csv", "--wide"], "a column for each variant, found only seed"),
    "nothing at all": ("{}\n{}\n", ["scores.csv", "--wide"], "a column for each variant, found none"),
    "no such seeds": (
        of("0,1,2", "seed,a,b"),
        ["scores.csv", "--wide", "--seed", "rng"],
        "no column 'rng': name with --seed",
    ),
    "a column without a name": (
        of("7,1,2 8,2,5", ",a,b"),
        ["scores.csv", "--wide"],
        "but column 1 has no name: give it",
    ),
    "a comment": ("# of May\n" + of("a,0,1"), ["scores.csv"], "scores.csv begins with a comment: expected the header"),
    "rows that are all too long": (of("a,0,1,7,8 b,0,1"), ["scores.csv"], "rows have more cells than the header"),
    "a separator of Excel's": (
        "sep=;\n" + of("a;0;1 b;0;2", "variant;seed;f1"),
        ["scores.csv"],
        "scores.csv begins with sep=;, a line for Excel: expected the header; take it out",
    ),
    "a seed twice in two forms": (
        of("a,3,1 a,1,2 b,3,1 b,3.0,2 b,03,7"),
        ["scores.csv"],
        "variant b has seed 3 twice, in line 4 and line 5 (2 such rows)",
    ),
    "rows that sum runs up": (
        of("a,0,1 a,1,2 a,mean,1.5 b,0,1 b,1,2 b,mean,1.5 b,std,0.7"),
        ["scores.csv"],
        "line 4 has 'mean' as seed, while others are numbers (2 such names): expected the seeds of runs; take out rows",
    ),
    "a row that sums columns up": (
        of("0,1,2 1,2,3 mean,1.5,2.5", "seed,a,b"),
        ["scores.csv", "--wide"],
        "column a, line 4 has 'mean' as seed, while others are numbers (1 such name)",
    ),
    "other seeds": (
        of("a,0,1 a,1,2 b,10,1 b,11,2"),
        ["scores.csv"],
        "these have no seed in common: a:b (a: 0, 1; b: 10, 11)",
    ),
    "a diverged run of JSON": (
        '{"seed": 0, "a": 1, "b": 2}\n{"seed": 1, "a": NaN, "b": 3}\n{"seed": 2, "a": 2}',
        ["scores.csv", "--wide"],
        "column a, line 2 should have a finite number as score, received 'NaN' (1 such score): take it out if the run",
    ),
    "a key of JSON twice": (
        '{"variant": "a", "seed": 0, "f1": 1}\n{"variant": "a", "seed": 1, "f1": 1, "f1": 2}',
        ["scores.csv"],
        "scores.csv has the key 'f1' twice in line 2: expected each name once",
    ),
    "a row of JSON without a variant": (
        '{"variant": "a", "seed": 0, "f1": 1}\n{"variant": null, "seed": 0, "f1": 1}',
        ["scores.csv"],
        "line 2 has no variant",
    ),
    "seeds for variants": (of("a,0,1 b,0,2"), ["scores.csv", "--by", "seed"], "--by names 'seed', the column of the"),
    "a pair of names with commas": (
        of('"a,b",0,1 c,0,2'),
        ["scores.csv", "--pairs", "a,b:c,c:a,b"],
        "A pair with a comma in a name needs a --pairs of its own",
    ),
    "seeds for scores": (of("a,0,1 b,0,2"), ["scores.csv", "--metric", "seed"], "--metric names 'seed', the column of"),
    "a confidence in percent": (of("a,0,1"), ["scores.csv", "--confidence", "95"], "between 0 and 1, such as 0.95"),
    "a confidence of nearly none": (of("a,0,1"), ["scores.csv", "--confidence", "1e-20"], "a number between 0 and 1"),
    "a negative margin": (of("a,0,1"), ["scores.csv", "--margin", "-1"], "should be a number of 0 or more"),
    "a step that is no number": (of("a,0,1"), ["scores.csv", "--step", "x"], "should be a number of 0 or more"),
    "no name among commas": (of("a,0,1"), ["scores.csv", "--by", " , "], "expected names with commas between"),
    "no pair among commas": (of("a,0,1 b,0,2"), ["scores.csv", "--pairs", ","], "should be A:B with two variants"),
    "a pair without a colon": (
        of("a,0,1 b,0,2"),
        ["scores.csv", "--pairs", "a"],
        "--pairs should be A:B with two variants, received 'a'. There are: a, b",
    ),
    "a pair of one": (of("a,0,1 b,0,2"), ["scores.csv", "--pairs", "a:a"], "received one, against itself: 'a:a'"),
    "a figure of another format": (of("a,0,1 b,0,2"), ["scores.csv", "--figure", "f.gif"], "should end in .png"),
    "a gate that is none": (of("a,0,1 b,0,2"), ["scores.csv", "--fail-on", "better"], "should be of worse, undecided"),
    "a watch without a gate": (of("a,0,1 b,0,2"), ["scores.csv", "--watch", "b"], "give --fail-on too"),
    "a watch of nobody": (
        of("a,0,1 b,0,2"),
        ["scores.csv", "--baseline", "a", "--fail-on", "worse", "--watch", "c"],
        "got ['c']",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_a_clear_answer(kind: str, run: Run) -> None:
    text, arguments, expected = BAD[kind]
    if text is not None:
        write(text)
    said = run(*arguments)
    assert (said.status, said.out) == (2, "")
    assert expected in said.err
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].partition("error: ")[2]  # on one line, if below the usage


def test_a_file_in_another_encoding_is_refused(run: Run) -> None:
    Path("scores.csv").write_bytes("variant,seed,accuracy\nschön,0,1\n".encode("latin-1"))
    assert "save it as UTF-8" in run("scores.csv").err


def test_odd_names_and_values_are_taken_as_they_are(run: Run) -> None:
    said = found(run(write(of("NA,s,1 NA,NA,2 null,s,4 null,NA,6")), "--json", "--design", "fixed"))
    assert [(answer["a"], answer["b"], answer["n_a"]) for answer in said["answers"]] == [("NA", "null", 2)]
    said = found(run(write(of("0.1,a,1 0.1,b,2 0.10,a,4 0.10,b,6")), "--json", "--design", "fixed"))
    assert [(answer["a"], answer["b"]) for answer in said["answers"]] == [("0.1", "0.10")]


def test_a_header_in_quotes_may_have_separators_in_its_names(run: Run) -> None:
    write('"size; depth; rate",seed,f1\na,0,1\na,1,2\nb,0,3\nb,1,5\n')
    said = run("scores.csv", "--by", "size; depth; rate", "--design", "fixed", "--json")
    assert [answer["difference"] for answer in json.loads(said.out)["answers"]] == [2.5]


def test_seeds_are_paired_by_their_number_however_it_is_written(run: Run) -> None:
    write(of("a,0,1 a,01,2 a,2,4 b,0.0,2 b,1,5 b,2.0,9"))
    said = run("scores.csv", "--design", "fixed", "--json")
    assert [(answer["n_a"], answer["difference"]) for answer in json.loads(said.out)["answers"]] == [(3, 3.0)]


def test_whole_numbers_of_json_keep_their_form_beside_missing_ones(run: Run) -> None:
    keys = [(depth, seed) for depth in (3, 5) for seed in (0, 1)]
    runs = [{"of": "run", "depth": depth, "seed": seed, "f1": depth + seed * depth} for depth, seed in keys]
    write("\n".join(map(json.dumps, [{"of": "all", "f1": 7}, *runs])))
    said = run("scores.csv", "--by", "depth", "--baseline", "3", "--where", "of=run", "--design", "fixed", "--json")
    assert [answer["b"] for answer in json.loads(said.out)["answers"]] == ["5"], said.err


def test_a_variant_with_one_run_is_undecided_and_named(run: Run) -> None:
    said = run(write(long({"a": TENTHS, "b": TENTHS[::-1]}) + "c,0,0.5\n"), "--baseline", "a")
    assert "one run only, of which nothing can be said: c" in said.words
    assert "any" in said.out
    assert (said.status, said.err) == (0, "")


def test_empty_cells_of_a_wide_table_are_counted(run: Run) -> None:
    said = run(write("seed,a,b\n0,1,3\n1,2,5\n2,,6\n"), "--wide", "--design", "fixed")
    assert "1 empty cell is taken for runs that did not happen" in said.words
    said = run(write("seed,a,b\n0,1,3\n1,2,5\n2,,6\n3,1,\n"), "--wide", "--design", "fixed")
    assert "2 empty cells are taken for runs that did not happen" in said.words


def test_rows_are_chosen_where_metrics_are_mixed(run: Run) -> None:
    rows = [
        f"{v},{s},{m},{s * 10 + (v == 'b') * 2 + s * (v == 'b')}" for v in "ab" for s in (0, 1) for m in ("f1", "x")
    ]
    file = write("\n".join(["variant,seed,metric,value", *rows]))
    assert "choose with --where" in run(file).err
    for condition in ("metric=f1", "metric = f1"):
        assert only(run(file, "--where", condition, "--design", "fixed", "--json"))["difference"] == 2.5


def test_several_columns_tell_variants_apart(run: Run) -> None:
    text = "lr,depth,seed,f1\n" + "".join(
        f"{lr},{d},{s},{s + lr * d * s}\n" for lr in (0.1, 0.2) for d in (1, 2) for s in (0, 1)
    )
    said = found(run(write(text), "--by", "lr, depth,", "--baseline", "lr=0.1 depth=1", "--design", "fixed", "--json"))
    assert [answer["b"] for answer in said["answers"]] == ["lr=0.1 depth=2", "lr=0.2 depth=1", "lr=0.2 depth=2"]


def test_too_many_pairs_are_refused_and_a_thousand_variants_against_a_baseline_are_not(run: Run) -> None:
    scores = np.random.default_rng(0).normal(size=(1000, 10)).round(4)
    file = write(long({f"v{place}": of.tolist() for place, of in enumerate(scores)}))
    assert "1,000 variants make 499,500 pairs" in run(file).err
    said = found(run(file, "--baseline", "v0", "--json"))
    assert len(said["answers"]) == 999
    assert "has room for 200 pairs" in run(file, "--baseline", "v0", "--figure", "f.png").err


def test_a_gate_says_what_it_failed_for(run: Run) -> None:
    noise = np.random.default_rng(3).normal(size=10) / 100
    scores = {"a": TENTHS, "up": [s + 1 + e for s, e in zip(TENTHS, noise, strict=True)]}
    scores |= {"down": [s - 1 + e for s, e in zip(TENTHS, noise, strict=True)]}
    scores |= {"like": [s + e for s, e in zip(TENTHS, noise, strict=True)]}
    file, asked = write(long(scores)), ["--baseline", "a"]
    assert run(file, *asked).status == 0
    for rules, status, reasons in (
        (["worse"], 1, ["down"]),
        (["worse, undecided,"], 1, ["down", "like"]),
        (["worse", "--fail-on", "not-better"], 1, ["down", "like"]),
        (["worse", "--watch", "up", "--watch", "like"], 0, []),
        (["not-better", "--watch", "up"], 0, []),
    ):
        said = run(file, *asked, "--json", "--fail-on", *rules)
        gate = json.loads(said.out)["gate"]
        assert (said.status, gate["failed"]) == (status, bool(status))
        assert sorted(reason["variant"] for reason in gate["reasons"]) == reasons
    said = run(file, *asked, "--fail-on", "undecided")
    assert "like is undecided" in said.words
    assert "would probably decide it" in said.words
    assert "like is undecided" in said.err  # where the output is redirected too


def test_the_scores_of_this_study_get_the_verdicts_of_its_tables(run: Run) -> None:
    """Accuracies from 0 to 1 instead of points, exported as CSV."""
    study = params.load(ROOT / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        runs = read_runs(study)
        expected = answers.answers(runs, answers.family(study), study)
    lines = [
        f"{name},{seed},{score!r}" for name in runs for seed, score in enumerate(runs[name].right.mean(axis=1).tolist())
    ]
    file = write("\n".join(["variant,seed,test_accuracy", *lines]))
    statistics = study.statistics
    said = found(
        run(
            *(file, "--json", "--design", statistics.design, "--confidence", str(statistics.confidence)),
            *("--margin", str(statistics.equivalence_margin / 100), "--step", str(1 / runs["linear"].right.shape[1])),
            *(part for a, b in answers.family(study) for part in ("--pairs", f"{a}:{b}")),
        )
    )
    assert len(said["answers"]) == len(expected)
    for answer, row in zip(said["answers"], expected.to_dict("records"), strict=True):
        assert (answer["a"], answer["b"], answer["n_a"]) == (row["a"], row["b"], row["n"])
        assert answer["verdict"] == row["verdict"]
        assert 100 * answer["low"] == pytest.approx(row["low"], abs=1e-9)
        assert answer["seeds_about"] == (None if row["seeds_about"] is None else row["seeds_about"])


def test_a_file_needs_neither_the_pipeline_nor_anything_slow_to_load() -> None:
    code = f"import sys, stages.verdict.__main__; print(sorted({HEAVY!r} & {{*sys.modules}}))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--help"], 0, "verdict  a verdict on the scores"),
        ([], 2, "expected one of these commands, received none"),
        (["judge"], 2, "received judge"),
        (["verdict", "--nosuch"], 2, "many-seeds verdict: error: unrecognized arguments: --nosuch"),
        (["verdict", "--help"], 0, "usage: many-seeds verdict"),
        (["compare", "--help"], 0, "usage: python -m stages.compare"),
    ],
)
def test_the_command_hands_over_to_its_tools(arguments: list[str], status: int, said: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "stages.commands", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == status
    assert said in answer.stdout + answer.stderr

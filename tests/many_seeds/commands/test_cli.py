"""The command many-seeds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from tests.support.command import TENTHS, Run, assert_refused, lines, long, only, parsed, write


def test_which_pairs_are_compared(run: Run) -> None:
    scores = {name: np.random.default_rng(place).random(3).tolist() for place, name in enumerate(["a", "b:c", "d,e"])}
    scores["d,e"] = scores["b:c"][::-1]
    rows = [f'"{name}",{seed},{score}' for name, of in scores.items() for seed, score in enumerate(of)]
    file = write("\n".join(["variant,seed,accuracy", *rows]))

    def pairs(*arguments: str) -> list[str]:
        return [f"{result['a']} {result['b']}" for result in parsed(run(file, "--json", *arguments))["results"]]

    assert pairs() == ["a b:c", "a d,e", "b:c d,e"]
    assert pairs("--baseline", "d,e") == ["d,e a", "d,e b:c"]
    assert pairs("--pairs", "d,e:a", "--pairs", "a:b:c") == ["d,e a", "a b:c"]
    assert pairs("--pairs", " a:b:c , ") == ["a b:c"]
    for wrong, output in (
        (["--pairs", "a:f"], "Variants: a, b:c, d,e"),
        (["--pairs", "a"], "should be A:B"),
        (["--pairs", "a:b:c", "--pairs", "b:c:a"], "--pairs has b:c:a twice, in either order"),
        (["--baseline", "b:d"], "the baseline should be a variant, received 'b:d'. Did you mean b:c?"),
        (["--baseline", "a", "--pairs", "a:b:c"], "not allowed with argument"),
    ):
        refused = run(file, *wrong)
        assert refused.status == 2
        assert output in refused.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_the_command_without_a_message(unbuffered: str, tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(long({"a": [0.0] * 10, "b": TENTHS}))
    read, write_end = os.pipe()
    os.close(read)
    for arguments in ([file], [file, "--json"]):
        result = subprocess.run(
            [sys.executable, "-m", "many_seeds.commands.cli", "verdict", *arguments],
            cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, stdout=write_end, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
        assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, b"")
    os.close(write_end)


def test_a_closed_standard_input_is_named(tmp_path: Path) -> None:
    command = f"{sys.executable} -m many_seeds.commands.cli verdict - <&-"
    result = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "error: standard input is closed: expected the scores there; name a FILE, or redirect one\n"
    )


def test_a_gate_fails_also_where_standard_output_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(long({"a": TENTHS, "b": [0.0] * 10}))
    command = f"{sys.executable} -m many_seeds.commands.cli verdict {file} --pairs a:b --fail-on worse >&-"
    result = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("gate failed (--fail-on worse)\n")


def test_no_line_of_the_help_is_wider_than_a_narrow_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run("--help").out.splitlines())) <= 80


def test_help_and_table_name_the_direction_of_the_comparison(run: Run) -> None:
    assert "The verdict is on b, compared with a" in run("--help").words
    assert "every pair, with the later variant as B" in run("--help").words
    assert "verdict on b" in run(write(long({"a": [0.0] * 10, "b": TENTHS}))).words


def test_a_gate_names_the_reasons(run: Run) -> None:
    noise = np.random.default_rng(3).normal(size=10) / 100
    scores = {"a": TENTHS, "up": [s + 1 + e for s, e in zip(TENTHS, noise, strict=True)]}
    scores |= {"down": [s - 1 + e for s, e in zip(TENTHS, noise, strict=True)]}
    scores |= {"like": [s + e for s, e in zip(TENTHS, noise, strict=True)]}
    file, baseline = write(long(scores)), ["--baseline", "a"]
    assert run(file, *baseline).status == 0
    for rules, status, reasons in (
        (["worse"], 1, ["down"]),
        (["worse, undecided,"], 1, ["down", "like"]),
        (["worse", "--fail-on", "not-better"], 1, ["down", "like"]),
        (["worse", "--watch", "up", "--watch", "like"], 0, []),
        (["not-better", "--watch", "up"], 0, []),
    ):
        output = run(file, *baseline, "--json", "--fail-on", *rules)
        gate = json.loads(output.out)["gate"]
        assert (output.status, gate["failed"]) == (status, bool(status))
        assert sorted(reason["variant"] for reason in gate["reasons"]) == reasons
    output = run(file, *baseline, "--fail-on", "undecided")
    assert "like is undecided" in output.words
    assert "undecided at 10 seeds: a verdict is projected at" in output.words
    assert "like is undecided" in output.err  # where the output is redirected too


@pytest.mark.parametrize(
    ("arguments", "status", "output"),
    [
        (["--help"], 0, "verdict   compare the scores of runs"),
        ([], 2, "the following arguments are required: COMMAND"),
        (["judge"], 2, "invalid choice: 'judge'"),
        (["verdict", "--nosuch"], 2, "error: unrecognized arguments: --nosuch"),
        (["verdict", "--help"], 0, "usage: many-seeds verdict"),
    ],
)
def test_the_command_has_help_and_refuses_unknown_arguments(arguments: list[str], status: int, output: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "many_seeds.commands.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status
    assert output in result.stdout + result.stderr


BAD = {
    "no source": ("", [], "name one source"),
    "two sources": ("", ["scores.csv", "--mlflow", "x"], "name one source"),
    "a gate without a direction": (
        lines("a,0,1 b,0,2"),
        ["scores.csv", "--fail-on", "worse"],
        "with --baseline or --pairs",
    ),
    "one variant": (lines("a,0,1 a,1,2"), ["scores.csv"], "at least two variants, found only a"),
    "other seeds": (
        lines("a,0,1 a,1,2 b,10,1 b,11,2"),
        ["scores.csv"],
        "no seed in common: a:b (a: 0, 1; b: 10, 11)",
    ),
    "a pair of names with commas": (
        lines('"a,b",0,1 c,0,2'),
        ["scores.csv", "--pairs", "a,b:c,c:a,b"],
        "Give a pair with a comma in a name in a separate --pairs",
    ),
    "a confidence in percent": (lines("a,0,1"), ["scores.csv", "--confidence", "95"], "between 0 and 1, such as 0.95"),
    "a confidence of nearly none": (
        lines("a,0,1"),
        ["scores.csv", "--confidence", "1e-20"],
        "a number between 0 and 1",
    ),
    "a negative margin": (lines("a,0,1"), ["scores.csv", "--margin", "-1"], "should be a number of 0 or more"),
    "a resolution that is not a number": (
        lines("a,0,1"),
        ["scores.csv", "--resolution", "x"],
        "should be a number of 0 or more",
    ),
    "no name among commas": (lines("a,0,1"), ["scores.csv", "--by", " , "], "expected names with commas between"),
    "no pair among commas": (lines("a,0,1 b,0,2"), ["scores.csv", "--pairs", ","], "should be A:B with two variants"),
    "a pair without a colon": (
        lines("a,0,1 b,0,2"),
        ["scores.csv", "--pairs", "a"],
        "--pairs should be A:B with two variants, received 'a'. Variants: a, b",
    ),
    "a pair of one": (lines("a,0,1 b,0,2"), ["scores.csv", "--pairs", "a:a"], "received a variant and itself: 'a:a'"),
    "a figure of another format": (lines("a,0,1 b,0,2"), ["scores.csv", "--figure", "f.gif"], "should end in .png"),
    "an unknown rule of the gate": (
        lines("a,0,1 b,0,2"),
        ["scores.csv", "--fail-on", "better"],
        "should be one of worse, undecided",
    ),
    "a watch without a gate": (lines("a,0,1 b,0,2"), ["scores.csv", "--watch", "b"], "give --fail-on too"),
    "a watch of an unknown variant": (
        lines("a,0,1 b,0,2"),
        ["scores.csv", "--baseline", "a", "--fail-on", "worse", "--watch", "c"],
        "compared (b), received c",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_arguments_get_a_clear_error(kind: str, run: Run) -> None:
    text, arguments, expected = BAD[kind]
    if text is not None:
        write(text)
    assert_refused(run(*arguments), expected)


def test_pairs_without_spread_do_not_pass_the_gate(run: Run) -> None:
    scores = {"a": TENTHS, "shifted": [tenth + 0.1 for tenth in TENTHS], "same": TENTHS, "up": [2.0, 3.0] * 5}
    for seeds, counts, failing in ((2, "1 unchanged", ["shifted", "up"]), (10, "1 better, 1 unchanged", ["shifted"])):
        file = write(long({name: of[:seeds] for name, of in scores.items()}))
        asked = [file, "--baseline", "a", "--design", "fixed"]
        assert run(*asked, "--markdown").out.partition("\n")[0].endswith(f" of 3 comparisons have a verdict: {counts}")
        assert run(*asked, "--figure", "f.png").status == 0
        reasons = json.loads(run(*asked, "--json", "--fail-on", "undecided").out)["gate"]["reasons"]
        assert [reason["variant"] for reason in reasons] == failing
        assert run(file, "--pairs", "a:same", "--fail-on", "undecided").status == 0
        assert run(file, "--pairs", "a:same", "--fail-on", "not-better").status == 1
        assert parsed(run(*asked, "--json", "--resolution", "0.001"))["results"][0]["verdict"] == "better"


def test_the_former_name_of_the_resolution_is_accepted(run: Run) -> None:
    file = write(long({"a": TENTHS, "b": [tenth + 0.1 for tenth in TENTHS]}))
    former = run(file, "--json", "--step", "0.001")
    assert former == run(file, "--json", "--resolution", "0.001")
    assert only(former)["verdict"] == "better"
    assert parsed(former)["settings"]["step"] == 0.001
    assert "--step" not in run("--help").out


def test_runs_without_common_seeds_need_an_option(run: Run) -> None:
    text = "variant,seed,accuracy\na,0,1\na,1,2\na,2,3\na,3,4\nb,4,6\nb,5,8\nb,6,10\n"
    result = only(run(write(text), "--design", "fixed", "--json"))
    assert (result["paired"], result["n_a"], result["n_b"]) == (False, 4, 3)
    assert only(run(write(text.replace(",4,6", ",0,6")), "--design", "fixed", "--json", "--unpaired")) == result
    assert "not paired by seed" in run("scores.csv", "--design", "fixed", "--unpaired").words
    refused = run(write(text))
    assert refused.status == 2
    assert "no seed in common: a:b" in refused.err
    assert "(--unpaired; in Python, unpaired=True); or choose the fixed design (--design fixed; " in refused.err


def test_a_variant_with_one_run_is_named(run: Run) -> None:
    output = run(write(long({"a": TENTHS, "b": TENTHS[::-1]}) + "c,0,0.5\n"), "--baseline", "a")
    assert "only one run, so there is no interval: c" in output.words
    assert (output.status, output.err) == (0, "")

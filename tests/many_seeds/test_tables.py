"""Scores from CSV and JSON-lines files, in the forms that occur."""

import json
from pathlib import Path

import pytest

from tests.support.command import Run, assert_refused, lines, only, parsed, write


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
        "semicolons",
        "tabs",
        "other names",
        "JSON lines",
        "wide",
        "wide without seeds",
        "seeds in capitals",
        "wide with an index",
        "wide with an index read again",
        "an index",
        "lines as of old Macs, blanks after seeds",
    ],
)
def test_the_same_scores_give_the_same_result_in_every_form(
    name: str, text: str, arguments: list[str] | None, run: Run
) -> None:
    if arguments is None:
        arguments = ["--by", "model", "--seed", "init", "--metric", "loss"]
    for source, stdin in ((write(text, name), b""), ("-", text.encode())):
        result = only(run(source, *arguments, "--design", "fixed", "--higher-is-better", "--json", stdin=stdin))
        # Differences 2 and 3: mean 2.5, sd 0.7071; t(1) = 12.706, over sqrt(2).
        assert (result["a"], result["b"], result["n_a"]) == ("a", "b", 2)
        assert (result["low"], result["high"]) == pytest.approx((2.5 - 6.3531, 2.5 + 6.3531), abs=1e-3)


@pytest.mark.parametrize("name", ["epochs", "train/steps", "total_iterations"])
def test_variants_may_differ_in_how_long_they_are_trained(name: str, run: Run) -> None:
    file = write(f"seed,{name},f1\n0,5,1\n0,10,3\n1,5,2\n1,10,5\n")
    result = only(run(file, "--by", name, "--json"))
    assert (result["a"], result["b"], result["n"], result["difference"]) == ("5", "10", 2, 2.5)


BAD = {
    "a missing file": (None, ["nosuch.csv"], "nosuch.csv can't be read: No such file or directory"),
    "a folder": (None, ["."], ". can't be read: Is a directory"),
    "an empty file": ("", ["scores.csv"], "scores.csv is empty"),
    "a header alone": (lines(""), ["scores.csv", "--metric", "accuracy"], "found no rows with accuracy"),
    "a binary file": ("a\0b", ["scores.csv"], "is not text in UTF-8"),
    "no column variant": (lines("a,0,1", "model,seed,accuracy"), ["scores.csv"], "no column 'variant': name with --by"),
    "no column seed": (lines("a,0,1", "variant,run,accuracy"), ["scores.csv"], "no column 'seed': name with --seed"),
    "no such metric": (lines("a,0,1"), ["scores.csv", "--metric", "f1"], "no column 'f1': name with --metric"),
    "several metrics": (lines("a,0,1,2", "variant,seed,f1,loss"), ["scores.csv"], "found f1, loss"),
    "a column twice": (lines("a,0,1,2", "variant,seed,f1,f1"), ["scores.csv"], "has the column 'f1' twice"),
    "a row that is too long": (lines("a,0,1 a,1,2,7,8 b,0,1"), ["scores.csv"], "not a CSV file with a header"),
    "a seed twice": (
        lines("a,0,1 a,1,2 b,0,1 b,1,2 b,0,3"),
        ["scores.csv"],
        "variant b has seed 0 twice, in line 4 and line 6 (1 such row)",
    ),
    "NaN": (
        lines("a,0,1 a,1,nan b,0,1"),
        ["scores.csv"],
        "line 3 should have a finite number as accuracy, received 'nan' (1 such score): remove it if",
    ),
    "an empty score": (
        lines("a,0,1  a,1, b,0,1"),
        ["scores.csv"],
        "line 4 should have a finite number as accuracy, received an empty value or NaN (1 such score): remove it",
    ),
    "infinite": (
        lines("a,0,1 a,1,2 b,0,inf"),
        ["scores.csv"],
        "line 4 should have a finite number as accuracy, received inf",
    ),
    "too large to be squared": (
        lines("a,0,1e308 a,1,-1e308 b,0,1 b,1,2"),
        ["scores.csv"],
        "line 2 should have a finite number as accuracy, received 1e+308 (2 such scores): use another unit",
    ),
    "too small to be squared": (
        lines("a,0,1e-200 a,1,3e-200 b,0,2e-200 b,1,9e-200"),
        ["scores.csv"],
        "received 1e-200 (4 such scores): use another unit",
    ),
    "a name of two lines": (
        lines('"b\t::error::x",0,1 a,0,2').replace("\t", "\n"),
        ["scores.csv"],
        "names of variants should have no line breaks or control characters, received 'b\\n::error::x'",
    ),
    "rows that are not lines": (
        lines('"a\tb",0,1 b,0,x').replace("\t", "\n"),
        ["scores.csv", "--metric", "accuracy"],
        "row 2 should have",
    ),
    "an empty score of JSON": (
        '\n{"variant": "a", "seed": 0, "f1": NaN}',
        ["scores.csv"],
        "line 2 should have a finite",
    ),
    "percentages beside numbers": (
        lines("a,0,91.2% b,0,0.92"),
        ["scores.csv", "--metric", "accuracy"],
        "write percentages as plain",
    ),
    "commas that may be those of thousands": (
        lines('a,0,"1,234" b,0,"2,345"'),
        ["scores.csv", "--metric", "accuracy"],
        "write decimals with a point",
    ),
    "a row without a variant": (lines("a,0,1 ,0,1"), ["scores.csv"], "line 3 has no variant"),
    "a row without a seed": (lines("a,0,1 b,,1"), ["scores.csv"], "line 3 has no seed"),
    "invalid JSON": ('{"variant": "a"}\n{"variant": \n', ["scores.csv"], "line 2, column"),
    "a JSON array": ("[1, 2]", ["scores.csv"], "is a JSON document, but neither a list of objects"),
    "a JSON value": ('{"variant": "a", "seed": 0, "f1": 1}\n3\n', ["scores.csv"], "line 2 is '3'"),
    "a condition without a value": (
        lines("a,0,1"),
        ["scores.csv", "--where", "seed"],
        "--where should be COLUMN=VALUE",
    ),
    "a condition that nothing meets": (
        lines("a,0,1"),
        ["scores.csv", "--where", "seed=7"],
        "no row has seed=7; values of seed: 0",
    ),
    "text in a wide table": (
        lines("0,1,x", "seed,a,b"),
        ["scores.csv", "--wide"],
        "column b, line 2 should have a finite",
    ),
    "a column of words in a wide table": (
        lines("0,1,x 1,2,y", "seed,a,notes"),
        ["scores.csv", "--wide"],
        "column notes, line 2 should have a finite number as score, received 'x' (2 such scores): write scores",
    ),
    "seeds alone": (lines("0 1", "seed"), ["scores.csv", "--wide"], "a column for each variant, found only seed"),
    "nothing at all": ("{}\n{}\n", ["scores.csv", "--wide"], "a column for each variant, found none"),
    "no such seeds": (
        lines("0,1,2", "seed,a,b"),
        ["scores.csv", "--wide", "--seed", "rng"],
        "no column 'rng': name with --seed",
    ),
    "a column without a name": (
        lines("7,1,2 8,2,5", ",a,b"),
        ["scores.csv", "--wide"],
        "but column 1 has no name: name it",
    ),
    "a comment": (
        "# of May\n" + lines("a,0,1"),
        ["scores.csv"],
        "scores.csv begins with a comment: expected the header",
    ),
    "rows that are all too long": (lines("a,0,1,7,8 b,0,1"), ["scores.csv"], "rows have more cells than the header"),
    "a separator line for Excel": (
        "sep=;\n" + lines("a;0;1 b;0;2", "variant;seed;f1"),
        ["scores.csv"],
        "scores.csv begins with sep=;, a line for Excel: expected the header; remove the line",
    ),
    "a seed twice in two forms": (
        lines("a,3,1 a,1,2 b,3,1 b,3.0,2 b,03,7"),
        ["scores.csv"],
        "variant b has seed 3 twice, in line 4 and line 5 (2 such rows)",
    ),
    "rows that aggregate runs": (
        lines("a,0,1 a,1,2 a,mean,1.5 b,0,1 b,1,2 b,mean,1.5 b,std,0.7"),
        ["scores.csv"],
        "line 4 has 'mean' as seed, while other seeds are numbers (2 such seeds): remove rows that aggregate runs",
    ),
    "a row that aggregates columns": (
        lines("0,1,2 1,2,3 mean,1.5,2.5", "seed,a,b"),
        ["scores.csv", "--wide"],
        "column a, line 4 has 'mean' as seed, while other seeds are numbers (1 such seed)",
    ),
    "a diverged run of JSON": (
        '{"seed": 0, "a": 1, "b": 2}\n{"seed": 1, "a": NaN, "b": 3}\n{"seed": 2, "a": 2}',
        ["scores.csv", "--wide"],
        "column a, line 2 should have a finite number as score, received 'NaN' (1 such score): remove it if",
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
    "seeds for variants": (
        lines("a,0,1 b,0,2"),
        ["scores.csv", "--by", "seed"],
        "--by names 'seed', the column of the",
    ),
    "seeds for scores": (
        lines("a,0,1 b,0,2"),
        ["scores.csv", "--metric", "seed"],
        "--metric names 'seed', which has another purpose",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_a_clear_error(kind: str, run: Run) -> None:
    text, arguments, expected = BAD[kind]
    if text is not None:
        write(text)
    assert_refused(run(*arguments), expected)


def test_a_file_in_another_encoding_is_refused(run: Run) -> None:
    Path("scores.csv").write_bytes("variant,seed,accuracy\nschön,0,1\n".encode("latin-1"))
    assert "save it as UTF-8" in run("scores.csv").err


def test_names_such_as_na_and_0_10_are_read_literally(run: Run) -> None:
    output = parsed(run(write(lines("NA,s,1 NA,NA,2 null,s,4 null,NA,6")), "--json", "--design", "fixed"))
    assert [(result["a"], result["b"], result["n_a"]) for result in output["results"]] == [("NA", "null", 2)]
    output = parsed(run(write(lines("0.1,a,1 0.1,b,2 0.10,a,4 0.10,b,6")), "--json", "--design", "fixed"))
    assert [(result["a"], result["b"]) for result in output["results"]] == [("0.1", "0.10")]


def test_a_header_in_quotes_may_have_separators_in_its_names(run: Run) -> None:
    write('"size; depth; rate",seed,f1\na,0,1\na,1,2\nb,0,3\nb,1,5\n')
    output = run("scores.csv", "--by", "size; depth; rate", "--design", "fixed", "--json")
    assert [result["difference"] for result in json.loads(output.out)["results"]] == [2.5]


def test_seeds_are_paired_by_their_number_however_it_is_written(run: Run) -> None:
    write(lines("a,0,1 a,01,2 a,2,4 b,0.0,2 b,1,5 b,2.0,9"))
    output = run("scores.csv", "--design", "fixed", "--json")
    assert [(result["n_a"], result["difference"]) for result in json.loads(output.out)["results"]] == [(3, 3.0)]


def test_whole_numbers_of_json_keep_their_form_beside_missing_ones(run: Run) -> None:
    keys = [(depth, seed) for depth in (3, 5) for seed in (0, 1)]
    runs = [{"of": "run", "depth": depth, "seed": seed, "f1": depth + seed * depth} for depth, seed in keys]
    write("\n".join(map(json.dumps, [{"of": "all", "f1": 7}, *runs])))
    output = run("scores.csv", "--by", "depth", "--baseline", "3", "--where", "of=run", "--design", "fixed", "--json")
    assert [result["b"] for result in json.loads(output.out)["results"]] == ["5"], output.err


def test_empty_cells_of_a_wide_table_are_counted(run: Run) -> None:
    output = run(write("seed,a,b\n0,1,3\n1,2,5\n2,,6\n"), "--wide", "--design", "fixed")
    assert "left out: 1 empty cell; an empty cell means that the run was not made" in output.words
    output = run(write("seed,a,b\n0,1,3\n1,2,5\n2,,6\n3,1,\n"), "--wide", "--design", "fixed")
    assert "left out: 2 empty cells; an empty cell" in output.words


def test_rows_are_chosen_where_metrics_are_mixed(run: Run) -> None:
    rows = [
        f"{v},{s},{m},{s * 10 + (v == 'b') * 2 + s * (v == 'b')}" for v in "ab" for s in (0, 1) for m in ("f1", "x")
    ]
    file = write("\n".join(["variant,seed,metric,value", *rows]))
    assert "choose rows with --where" in run(file).err
    for condition in ("metric=f1", "metric = f1"):
        assert only(run(file, "--where", condition, "--design", "fixed", "--json"))["difference"] == 2.5


def test_several_columns_distinguish_variants(run: Run) -> None:
    text = "lr,depth,seed,f1\n" + "".join(
        f"{lr},{d},{s},{s + lr * d * s}\n" for lr in (0.1, 0.2) for d in (1, 2) for s in (0, 1)
    )
    output = parsed(
        run(write(text), "--by", "lr, depth,", "--baseline", "lr=0.1 depth=1", "--design", "fixed", "--json")
    )
    assert [result["b"] for result in output["results"]] == ["lr=0.1 depth=2", "lr=0.2 depth=1", "lr=0.2 depth=2"]

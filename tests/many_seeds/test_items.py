"""`many-seeds verdict --items`: a second verdict, for new test items."""

import numpy as np
import pytest

from many_seeds.statistics import new_images
from tests.support.command import Run, assert_refused, only, parsed, write

ITEMS, SEEDS = 60, 8
HEADER = "variant,seed,item,correct"


def answers(share: dict[str, float]) -> dict[str, np.ndarray]:
    """Variant → whether each seed is right on each item, bool [seeds, items]; some items are harder than others."""
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 0.3, ITEMS)
    noise = generator.normal(0, 0.3, (len(share), SEEDS, ITEMS))
    return {name: noise[place] + difficulty < of - 0.5 for place, (name, of) in enumerate(share.items())}


def rows(right: dict[str, np.ndarray], group: int = 0) -> list[str]:
    return [
        f"{name},{seed},q{item},{value}" + (f",w{item // group}" if group else "")
        for name, of in right.items()
        for seed, values in enumerate(of)
        for item, value in enumerate(values)
    ]


RIGHT = answers({"small": 0.5, "large": 0.9})


def test_items_give_the_verdict_of_their_means_and_one_for_new_items(run: Run) -> None:
    file = write("\n".join([HEADER, *rows(RIGHT)]))
    found = only(run("--items", file, "--json"))
    means = {name: of.mean(axis=1) for name, of in RIGHT.items()}
    assert found["difference"] == pytest.approx((means["large"] - means["small"]).mean())
    error = new_images.standard_error(RIGHT["large"].mean(axis=0) - RIGHT["small"].mean(axis=0), resolution=1 / ITEMS)
    assert error is not None
    sd = (means["large"] - means["small"]).std(ddof=1)
    half = new_images.half_width(SEEDS, max(sd, 1 / ITEMS), error, 0.05)
    assert found["high_new_images"] - found["difference"] == pytest.approx(half)
    assert (found["verdict"], found["low_new_images"] < found["low"]) == ("better", True)
    assert "new items: verdict" in " ".join(run("--items", file, "--markdown").out.split())


def test_items_of_one_group_count_together(run: Run) -> None:
    file = write("\n".join([HEADER, *rows(RIGHT)]))
    independent = only(run("--items", file, "--json"))
    grouped = write("\n".join([f"{HEADER},group", *rows(RIGHT, group=1)]))
    assert only(run("--items", grouped, "--json")) == independent
    assert "groups of items are independent" in run("--items", grouped, "--markdown").out
    assert "groups of items" not in run("--items", write("\n".join([HEADER, *rows(RIGHT)])), "--markdown").out
    few = write("\n".join([f"{HEADER},group", *rows(RIGHT, group=3)]))
    assert only(run("--items", few, "--json"))["verdict_new_images"] is None  # 20 groups


def test_an_item_without_a_group_is_a_group_of_one(run: Run) -> None:
    independent = only(run("--items", write("\n".join([HEADER, *rows(RIGHT)])), "--json"))
    named = rows(RIGHT, group=1)
    for blank in ("", "  "):
        half = [line if line.endswith(("1", "3", "5", "7", "9")) else line.rpartition("w")[0] + blank for line in named]
        assert only(run("--items", write("\n".join([f"{HEADER},group", *half])), "--json")) == independent
        none = [line.rpartition("w")[0] + blank for line in named]
        assert only(run("--items", write("\n".join([f"{HEADER},group", *none])), "--json")) == independent
    mixed = [named[0].rpartition("w")[0], *named[1:]]
    assert_refused(
        run("--items", write("\n".join([f"{HEADER},group", *mixed]))), "each item should be in one group; item q0 is in"
    )


def test_seeds_and_items_in_any_order_give_the_same_result(run: Run) -> None:
    lines = rows(RIGHT)
    first = only(run("--items", write("\n".join([HEADER, *lines])), "--pairs", "small:large", "--json"))
    mixed = np.random.default_rng(1).permutation(lines).tolist()
    second = only(run("--items", write("\n".join([HEADER, *mixed])), "--pairs", "small:large", "--json"))
    for name, value in first.items():
        assert second[name] == (pytest.approx(value) if isinstance(value, float) else value), name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: lines[1:], "variant small with seed 0 lacks q0"),
        (lambda lines: [*lines, lines[0]], "variant small has item q0 twice with seed 0"),
        (lambda lines: [lines[0].rpartition(",")[0] + ",maybe", *lines[1:]], "line 2 should have a finite number"),
        (lambda lines: ["small,,q0,True", *lines[1:]], "line 2 has no seed"),
    ],
)
def test_items_that_do_not_fit_together_are_refused(run: Run, change, expected: str) -> None:  # type: ignore[no-untyped-def]
    file = write("\n".join([HEADER, *change(rows(RIGHT))]))
    assert_refused(run("--items", file, "--metric", "correct"), expected)


def test_items_need_their_column_and_one_source(run: Run) -> None:
    file = write("variant,seed,correct\na,0,1\nb,0,1\n")
    assert_refused(run("--items", file), "--items needs a column 'item'")
    assert_refused(run(file, "--items", file), "name one source")


def test_a_change_among_many_needs_more_evidence(run: Run) -> None:
    generator = np.random.default_rng(0)
    scores = {"a": generator.normal(0, 0.1, 10), "b": generator.normal(0.2, 0.1, 10)}
    lines = [f"{name},{seed},{score}" for name, of in scores.items() for seed, score in enumerate(of)]
    file = write("\n".join(["variant,seed,score", *lines]))
    alone, among = (parsed(run(file, "--json", *of)) for of in ([], ["--among", "100"]))
    assert among["settings"]["confidence"] == pytest.approx(0.9995)
    assert among["results"][0]["high"] > alone["results"][0]["high"]
    assert run(file, "--among", "0").status == 2

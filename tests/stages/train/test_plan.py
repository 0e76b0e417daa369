"""The runs of a study, the finished ones, and their order."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from many_seeds.errors import UserError
from stages.study import files, params, paths
from stages.study.params import Params
from stages.study.provenance import families
from stages.study.records.splits import read_validation
from stages.train.plan import finished, longest_first, plan
from stages.train.run import Run
from tests.conftest import CLASSES, STUDY
from tests.support.runs import cut, flip_a_byte, planned

Digits = tuple[np.ndarray, np.ndarray]


def test_a_plan_has_every_run_sorted_by_variant_and_seed(workspace: Path, study: Params) -> None:
    runs = planned(study, "watched", "ridge")
    assert [run.name for run in runs] == ["watched seed 0", "watched seed 1", "ridge seed 0", "ridge seed 1"]
    for run in runs:
        np.testing.assert_array_equal(run.validation, read_validation(run.seed))
    assert len({run.key for run in runs}) == 4


def set_validation(seed: int, indices: np.ndarray) -> None:
    """Change the validation split of one seed."""
    arrays = files.read_arrays(paths.DEV)
    chosen = np.zeros(int(arrays["images"]), bool)
    chosen[indices] = True
    arrays["dev"][seed] = np.packbits(chosen)
    files.write_arrays(paths.DEV, compressed=False, **arrays)


def test_another_validation_split_changes_only_the_runs_that_use_it(workspace: Path, study: Params) -> None:
    before = {run.name: run.key for run in planned(study, "plain", "watched", "ridge")}
    set_validation(0, np.arange(10))
    after = {run.name: run.key for run in planned(study, "plain", "watched", "ridge")}
    assert {name for name, key in after.items() if key != before[name]} == {"watched seed 0", "ridge seed 0"}


def test_a_changed_image_or_label_changes_every_run(workspace: Path, study: Params, digits: Digits) -> None:
    before = planned(study, "plain", "ridge")
    images, labels = (array.copy() for array in digits)
    images[7, 14, 14] ^= 1
    other_image = plan(study, ["plain", "ridge"], images, digits[1], CLASSES)
    labels[7] = (labels[7] + 1) % 10
    other_label = plan(study, ["plain", "ridge"], digits[0], labels, CLASSES)
    keys = [{run.key for run in runs} for runs in (before, other_image, other_label)]
    assert len(keys[0] | keys[1] | keys[2]) == 12


def test_more_seeds_do_not_change_the_keys_of_the_others(workspace: Path, study: Params) -> None:
    more = params.parse(STUDY.replace("seeds: 2", "seeds: 4"), "more")
    before, after = (planned(each, *study.variants) for each in (study, more))
    assert len(after) == 2 * len(before)
    assert {run.name: run.key for run in before}.items() <= {run.name: run.key for run in after}.items()


def test_changed_code_of_a_family_changes_its_variants_only(
    workspace: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {run.name: run.key for run in planned(study, *study.variants)}
    digest = families.code_digest
    monkeypatch.setattr(families, "code_digest", lambda family: digest(family) + "b" * (family == "ridge"))
    after = {run.name: run.key for run in planned(study, *study.variants)}
    changed = {name.split()[0] for name, key in after.items() if key != before[name]}
    assert changed == {"ridge", "random_features"}


def test_the_error_for_a_missing_validation_split_names_the_field_to_set(workspace: Path, study: Params) -> None:
    arrays = files.read_arrays(paths.DEV)
    files.write_arrays(paths.DEV, compressed=False, **{**arrays, "dev": arrays["dev"][:1]})
    expected = r"dev\.npz has the validation splits of seeds 0 to 0, received seed 1: set split\.seeds"
    with pytest.raises(UserError, match=expected):
        planned(study, "watched")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_the_error_for_damaged_validation_splits_names_the_file(damage: str, workspace: Path, study: Params) -> None:
    content = paths.DEV.read_bytes()
    paths.DEV.unlink() if damage == "missing" else paths.DEV.write_bytes(content[:90])
    with pytest.raises(UserError, match=r"data/dev\.npz is (missing|damaged)"):
        planned(study, "watched")


def test_of_a_finished_run_the_facts_are_returned(evaluated: Path, study: Params) -> None:
    for run in planned(study, *study.variants):
        facts = finished(run)
        assert facts is not None
        assert (facts["variant"], facts["seed"], facts["key"]) == (run.variant, run.seed, run.key)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def give_another_key(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": "another"}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *[("model.keras", damage) for damage in (flip_a_byte, cut, empty, Path.unlink)],
        *[("run.json", damage) for damage in (give_another_key, cut, empty, Path.unlink)],
        *[("curves.csv", damage) for damage in (Path.unlink, empty, cut)],
    ],
)
def test_a_run_with_a_damaged_or_missing_file_is_not_finished(
    name: str, damage: Callable[[Path], None], evaluated: Path, study: Params
) -> None:
    run = planned(study, "watched")[0]
    assert finished(run)
    damage(paths.run_path("watched", 0) / name)
    assert finished(run) is None


@pytest.mark.parametrize("content", ["[]", "null", '{"key": 1}', '{"digests": {}}', '"text"'])
def test_a_run_json_of_another_shape_is_not_finished(content: str, evaluated: Path, study: Params) -> None:
    (paths.run_path("watched", 0) / "run.json").write_text(content)
    assert finished(planned(study, "watched")[0]) is None


def test_a_run_of_another_recipe_is_not_finished(evaluated: Path) -> None:
    changed = params.parse(STUDY.replace("dropout: 0.25", "dropout: 0.3"), "changed")
    done = [run.variant for run in planned(changed, *changed.variants) if finished(run)]
    assert done == ["ridge", "ridge", "random_features", "random_features"]


def test_the_longest_runs_of_the_study_start_first(committed_study: Params) -> None:
    names = ["linear", "mlp_reference", "cnn_reference", "mlp_tuned", "cnn_tuned"]
    runs = [Run(name, committed_study.recipe(name), 0, CLASSES, None, "processes", {}, {}) for name in names]
    order = [run.variant for run in longest_first(runs, (60_000, 28, 28))]
    assert order[0] == "cnn_tuned"
    assert order.index("cnn_reference") < order.index("mlp_reference")
    assert order.index("mlp_tuned") < order.index("mlp_reference")
    assert order[-1] == "linear"

"""What the benchmark computes from its measurements; measuring takes half an hour and is done by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import baseline, bench, handwriting, overhead, process, summary
from benchmarks.measure import clocked, layer_products, network_of, plain, plain_network
from many_seeds.errors import UserError
from stages.study import files, params
from stages.study.params import Params
from stages.study.provenance.environments import installed_versions
from stages.train.executors import processes
from stages.train.run import Run, Trained
from tests.conftest import CLASSES, ROOT
from tests.support.recipes import network


@pytest.mark.usefixtures("tensorflow_ready")
def test_the_products_of_a_network_are_counted_as_by_hand(committed_study: Params) -> None:
    """A 3x3 kernel at 26x26 places, one at 24x24 on 32 channels, a dense layer on 12x12x64, the output on 128."""
    cnn = layer_products(plain_network(network_of(committed_study, "cnn_reference"), (28, 28), 10, seed=0))
    assert cnn == [26 * 26 * 9 * 32, 24 * 24 * 9 * 32 * 64, 12 * 12 * 64 * 128, 128 * 10]
    mlp = layer_products(plain_network(network_of(committed_study, "mlp_reference"), (28, 28), 10, seed=0))
    assert mlp == [784 * 512, 512 * 10]
    # Forward and for the kernel both layers, for its input the second alone.
    assert summary.image_flops(mlp) == 2 * (2 * 784 * 512 + 3 * 512 * 10)


@pytest.mark.usefixtures("tensorflow_ready")
@pytest.mark.parametrize("variant", ["mlp_tuned", "cnn_tuned"])
def test_the_plain_way_trains_the_network_of_the_pipeline(variant: str, committed_study: Params) -> None:
    from stages.recipes.shared.models import layer_seeds

    recipe = network_of(committed_study, variant)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    floats = (images.astype("float32") / 255).reshape((5, 28, 28, 1) if recipe.filters else (5, 784))
    ours = recipe.build((28, 28), 10, layer_seeds(3))(images)
    np.testing.assert_allclose(plain_network(recipe, (28, 28), 10, seed=3)(floats), ours, atol=1e-6)


def test_what_a_notebook_does_not_do_is_not_compared_with_it(workspace: Path) -> None:
    study = params.load()
    smoothed = study.recipe("plain").model_copy(update={"label_smoothing": 0.1})
    process.write_study(study.model_copy(update={"variants": {**study.variants, "plain": smoothed}}), workspace)
    with pytest.raises(UserError, match=r"plain should be trained as in a notebook, .*its label_smoothing"):
        plain("plain", images=100, epochs=1)
    with pytest.raises(UserError, match="ridge should be of the family network"):
        plain("ridge", images=100, epochs=1)


@pytest.mark.usefixtures("tensorflow_ready", "workspace")
def test_the_epochs_of_a_run_are_timed_in_the_workers_of_the_train_stage(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "1")  # in this process, where TensorFlow is imported already
    run = Run("plain", network(epochs=3), 0, CLASSES, None, "processes", {}, installed_versions("tensorflow"))
    with processes.training([run], *digits, clocked) as (results, _):
        (result,) = results
    assert isinstance(result, Trained)
    times = [result.facts["started"], *result.facts["ends"]]
    assert len(times) == 4
    assert times == sorted(times)
    assert times[-1] - times[0] <= result.facts["seconds"] + 0.1


def test_without_the_images_one_is_told_to_split_not_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data/train\.npz and data/dev\.npz can't be found: run `dvc repro split`"):
        process.require_data()


def test_a_study_that_is_written_is_read_as_it_was(tmp_path: Path, committed_study: Params) -> None:
    short = overhead.short_study(committed_study, "digits", 3, ["mlp_reference", "cnn_reference"])
    process.write_study(short, tmp_path)
    found = params.load(tmp_path / params.PARAMS)
    assert found == short
    assert [recipe.seeds for recipe in found.variants.values()] == [3, 3]
    assert found.recipe("cnn_reference").model_dump() == committed_study.recipe("cnn_reference").model_dump() | {
        **{"seeds": 3, "epochs": 1, "dev_split": True}
    }


def test_a_study_takes_as_long_as_its_busiest_worker() -> None:
    # Begun in this order, the third job follows the first.
    assert overhead.makespan([1, 2, 5], workers=2) == 6
    assert overhead.makespan([1, 2, 5], workers=1) == 8


def test_the_first_epoch_counts_as_a_cost_of_the_seed_not_of_every_epoch() -> None:
    runs = [{"seconds": 9.0, "epochs": [4.0, 2.0, 2.0]}, {"seconds": 7.0, "epochs": [3.0, 2.0, 2.0]}]
    # 6 seconds of steady epochs each, so 3 and 1 beside them; ten times the images take ten times as long.
    found = summary.training(runs, workers=1, scale=10, epochs=[5, 6])
    assert found == summary.Training(epoch=2.0, one_off=2.0, study=2 * 2 + 11 * 20)


def measured(epoch: float) -> dict[str, Any]:
    run = {"seconds": 4 * epoch, "epochs": [2 * epoch, epoch]}
    return {"start_seconds": 3.0, "runs": [run], "driver_mib": 200.0, "products": [784 * 512, 5120]}


def results(plain: float, added: float) -> dict[str, Any]:
    """Two repeats in which the pipeline's two workers take a second an epoch."""
    variant = {
        "convolutions": 0,
        "batch_size": 32,
        "images": 600,
        "all_images": 600,
        "dev_images": 0,
        "epochs": [5, 5],
        "plain": [measured(plain)] * 2,
        "pipeline": [measured(1.0)] * 2,
        summary.BFLOAT16: [],
    }
    half = {**variant, "convolutions": 2, summary.BFLOAT16: [measured(0.5)] * 2}
    part = dict.fromkeys([*overhead.PARTS, overhead.AGAIN, overhead.PUBLISH], 1.0)
    peak = {cores: [{"float32": 100.0, "bfloat16": 200.0}] * 2 for cores in ("one core", "all cores")}
    return {
        "machine": bench.machine() | {"cores": 2},
        "versions": bench.versions(),
        "former": None,
        "load": 0.1,
        "peak": peak,
        "effort": {"repeats": 2, "epochs": 2, "seeds": 2, "data": "digits", "growth": [2, 10, 40]},
        "variants": {"mlp": variant, "cnn": half},
        "beside": part,
        "growth": [{**part, overhead.EVALUATE: seconds} for seconds in (1.0, 9.0, 9.0 + 30 * added)],
    }


def test_the_page_says_which_goals_are_reached() -> None:
    page = bench.page(results(plain=2.0, added=1.0))
    # Two seconds for one seed against one second for two of them.
    assert "| mlp, compared with plain Keras | at least 3.5 × | 4.00 × | yes |" in page
    assert "| cnn in bfloat16, compared with float32 | at least 1.25 × | 2.00 × | yes |" in page
    assert "| 1.00 s, then 1.00 s | yes |" in page
    page = bench.page(results(plain=1.0, added=2.0))
    assert "| mlp, compared with plain Keras | at least 3.5 × | 2.00 × | **no** |" in page
    assert "| 1.00 s, then 2.00 s | **no** |" in page


def test_a_second_run_shows_the_former_ratios_beside_its_own() -> None:
    former = {"mlp": 3.75, "cnn": 3.5, "together": 3.6, "cnn mixed_bfloat16": 1.5}
    page = bench.page(results(plain=2.0, added=1.0) | {"former": former})
    assert "4.00 × | 4.00 … 4.00 | 3.75 × |" in page


def test_former_ratios_are_of_the_same_measurement_on_the_same_machine_however_often_it_was_made(
    tmp_path: Path,
) -> None:
    former = results(plain=2.0, added=1.0)
    files.write_json(tmp_path / "bench.json", former)
    own = {"machine": former["machine"], "effort": former["effort"]}
    assert bench.former_ratios(tmp_path / "bench.json", own | {"effort": {**own["effort"], "repeats": 9}}) == {
        **{"mlp": 4.0, "cnn": 4.0, "together": 4.0, "cnn mixed_bfloat16": 2.0}
    }
    for other in ({"machine": {**own["machine"], "cores": 4}}, {"effort": {**own["effort"], "epochs": 3}}):
        assert bench.former_ratios(tmp_path / "bench.json", own | other) is None
    assert bench.former_ratios(tmp_path / "none.json", own) is None


def repeats(*ratios: float) -> list[baseline.Repeat]:
    """An epoch takes 2 s at the older commit, and so many times as long at the other."""
    return [
        baseline.Repeat(
            old=summary.Training(epoch=2, one_off=1, study=100),
            new=summary.Training(epoch=2 * ratio, one_off=1, study=100 * ratio),
        )
        for ratio in ratios
    ]


def test_a_variant_is_slower_than_before_only_beyond_the_noise() -> None:
    found = {"a": repeats(1.2, 1.22, 1.19), "b": repeats(1.2, 0.9, 1.1), "c": repeats(0.5, 0.52, 0.51)}
    page = baseline.page(found, [], old="1234567", new="89abcde")
    # The mean of three logarithms, and 4.303 standard errors either way.
    assert "| a | 2.00 | 2.40 | 1.00 | 1.00 | 1.20 × | 1.17 … 1.24 | slower |" in page
    assert "| b | 2.00 | 2.20 | 1.00 | 1.00 | 1.06 × | 0.73 … 1.53 | no difference beyond the noise |" in page
    assert "| c | 2.00 | 1.02 | 1.00 | 1.00 | 0.51 × | 0.49 … 0.54 | faster |" in page
    assert "Not measured" not in page
    assert "or differ between the commits: linear, elm.\n" in baseline.page(
        found, ["linear", "elm"], old="1234567", new="89abcde"
    )


def test_a_commit_is_compared_where_it_has_the_same_networks(committed_study: Params) -> None:
    # Of a time before there were seeds of a variant, and fields that have a default.
    fields: dict[str, Any] = {"family": "network", "units": [512], "epochs": 5}
    former = {"linear": {"family": "linear"}, "mlp_reference": fields, "mlp_1_wider": fields, "gone": fields}
    assert baseline.same_networks(committed_study, former) == ["mlp_reference"]


def test_the_committed_page_is_what_the_script_makes_of_the_committed_figures() -> None:
    folder = ROOT / bench.FOLDER
    assert (folder / "README.md").read_text() == bench.page(files.read_json(folder / "bench.json"))


def test_digits_are_drawn_in_mnists_box_and_a_thicker_pen_leaves_more_ink() -> None:
    ink = {}
    for pen, widths in handwriting.PENS.items():
        drawn = [
            handwriting.rendered(label, np.random.default_rng(seed), widths) for label in range(10) for seed in range(3)
        ]
        ink[pen] = np.mean(drawn)
        for image in drawn:
            ends = [np.flatnonzero(image.any(axis=axis))[[0, -1]] for axis in (0, 1)]
            assert max(end - start for start, end in ends) == pytest.approx(handwriting.SIDE * 20 / 28, abs=4)
            assert [sum(place) / 2 for place in ends] == pytest.approx([handwriting.SIDE / 2] * 2, abs=3)
    assert ink["thin pen"] < ink["pen"] < ink["thick pen"]


def test_the_code_that_a_measured_study_copies_has_the_inputs_of_every_stage(tmp_path: Path) -> None:
    overhead.copy_code(tmp_path)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    parts = {overhead.SHORT_STAGES.get(name, name) for name in stages if name != "train"}
    assert parts <= set(overhead.PARTS)
    inputs = {name for stage in stages.values() for name in stage.get("do", stage)["deps"]}
    made = {"data/raw", "data/train.npz", "data/dev.npz", "data/test.npz", "models/${key}"}
    made |= {"metrics/comparisons.csv", "metrics/data.json", "metrics/runs"}
    assert [name for name in sorted(inputs - made) if not (tmp_path / name).exists()] == []

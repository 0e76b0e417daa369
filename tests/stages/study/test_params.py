import itertools
from pathlib import Path

import pytest

from many_seeds.errors import UserError
from stages.recipes.network import Recipe as Network
from stages.recipes.shared.augmentation import Augment
from stages.study import params
from stages.study.params import Params
from tests.conftest import STUDY


def test_the_study_of_this_repository_is_valid(committed_study: Params) -> None:
    names = {"linear", "elm", "mlp_reference", "mlp_tuned", "cnn_reference", "cnn_tuned"}
    assert names <= committed_study.variants.keys()


# Every step, and the fields of a recipe that its change names.
CHANGES = {
    ("mlp_reference", "mlp_1_wider"): {"units": [800], "initializer": "normal"},
    ("mlp_1_wider", "mlp_2_ten_epochs"): {"epochs": 10},
    ("mlp_2_ten_epochs", "mlp_3_early_stopping"): {"epochs": 100, "dev_split": True, "patience": 3},
    ("mlp_3_early_stopping", "mlp_4_lower_rate"): {"learning_rate": 0.0005},
    ("mlp_4_lower_rate", "mlp_5_glorot"): {"initializer": "glorot_normal"},
    ("mlp_5_glorot", "mlp_6_batch_128"): {"batch_size": 128},
    ("mlp_6_batch_128", "mlp_tuned"): {"decay": {"start": 15, "rate": 0.05}, "patience": 10, "restore_best": True},
    ("mlp_tuned", "mlp_8_batch_512"): {"batch_size": 512},
    ("cnn_reference", "cnn_2_dropout"): {"conv_dropout": [0.0, 0.5]},
    ("cnn_2_dropout", "cnn_3_pool_first"): {"pool": [True, True], "conv_dropout": [0.5, 0.5]},
    ("cnn_3_pool_first", "cnn_4_ten_epochs"): {"epochs": 10},
    ("cnn_4_ten_epochs", "cnn_5_early_stopping"): {
        **{"epochs": 100, "dev_split": True, "patience": 5, "restore_best": True}
    },
    ("cnn_5_early_stopping", "cnn_6_schedule"): {"learning_rate": 0.0005, "decay": {"start": 20, "rate": 0.1}},
    ("cnn_6_schedule", "cnn_tuned"): {"batch_size": 64},
    ("cnn_tuned", "cnn_8_one_cycle"): {
        "learning_rate": 0.002,
        "decay": None,
        "schedule": {"shape": "one_cycle", "warmup": 0.0},
        "epochs": 10,
        "dev_split": False,
        "patience": None,
        "restore_best": False,
    },
    ("cnn_8_one_cycle", "cnn_9_bfloat16"): {"precision": "mixed_bfloat16"},
    ("cnn_9_bfloat16", "cnn_10_deeper"): {
        "filters": [32, 64, 64, 128],
        "pool": [True, False, True, True],
        "conv_dropout": [0.0, 0.2, 0.2, 0.2],
        "padding": "same",
    },
    ("cnn_10_deeper", "cnn_11_augmented"): {
        "augment": Augment(shift=2.0, rotation=10.0, zoom=0.1, shear=5.0).model_dump()
    },
    ("cnn_11_augmented", "cnn_2020s"): {"epochs": 40},
}


def test_each_step_of_a_chain_differs_from_its_predecessor_in_the_named_fields_only(committed_study: Params) -> None:
    pairs = [pair for steps in committed_study.chains.values() for pair in itertools.pairwise(steps)]
    assert pairs == list(CHANGES)
    for a, b in pairs:
        before, after = (committed_study.recipe(name).model_dump(exclude={"seeds"}) for name in (a, b))
        assert {name: value for name, value in after.items() if value != before[name]} == CHANGES[a, b]


def test_a_recipe_inherits_the_values_of_another_and_overrides_some(study: Params) -> None:
    watched, plain = study.recipe("watched"), study.recipe("plain")
    assert isinstance(watched, Network)
    assert isinstance(plain, Network)
    assert (watched.units, watched.batch_size) == (plain.units, plain.batch_size)
    assert (watched.epochs, plain.epochs) == (3, 2)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "units: [8]",
            "unit: [8]",
            ["plain.unit: unknown key; remove it or fix its spelling (also in watched)", "plain.units: is missing"],
        ),
        ("split: {", "seeds: [0, 1]\nsplit: {", ["seeds: unknown key"]),
        ("data: {name: digits}", "data: {name: imagenet}", ["data", "imagenet"]),
        (
            "{family: ridge, seeds: 2, grid_powers: [-4",
            "{family: rigde, seeds: 2, grid_powers: [-4",
            ["variants.ridge.family: should be one of network, ridge", "received 'rigde'"],
        ),
        (
            "{family: ridge, seeds: 2, grid_powers: [-4",
            "{seeds: 2, grid_powers: [-4",
            ["variants.ridge.family: should be one of network, ridge", "received None"],
        ),
        ("ridge: {", "ridge: 3\n  other: {", ["variants.ridge: should be keys with values; received 3"]),
        (STUDY, "", ["(whole file): should be keys with values; received None"]),
        ("batch_size: 64", "batch_size: '64'", ["variants.plain.batch_size", "integer", "received '64'"]),
        ("batch_size: 64", "batch_size: 64.5", ["variants.plain.batch_size", "integer", "received 64.5"]),
        ("dev_split: false", "dev_split: 0", ["variants.plain.dev_split", "boolean", "received 0"]),
        ("epochs: 2", "epochs: true", ["variants.plain.epochs", "integer", "received True"]),
        ("dropout: 0.25", "dropout: 1.0", ["variants.plain.dropout", "less than 1", "received 1.0"]),
        ("learning_rate: 0.002", "learning_rate: -1", ["variants.plain.learning_rate", "greater than 0", "-1"]),
        ("learning_rate: 0.002", "learning_rate: .inf", ["variants.plain.learning_rate", "finite", "inf"]),
        (
            "dropout: 0.25",
            "dropout: 0.25\n    optimizer: {name: adam, weight_decay: .nan}",
            ["variants.plain.optimizer: numbers should be finite (also in watched)"],
        ),
        ("{start: 1, rate: 0.5}", "{start: -1, rate: 0.5}", ["variants.watched.decay.start", "received -1"]),
        ("patience: 2", "patience: 0", ["variants.watched.patience", "received 0"]),
        ("dev_fraction: 0.2", "dev_fraction: 1", ["split.dev_fraction", "less than 1", "received 1"]),
        ("network\n    seeds: 2", "network\n    seeds: 0", ["variants.plain.seeds", "greater than or equal to 1"]),
        ("network\n    seeds: 2", "network\n    seeds: [0, 1]", ["variants.plain.seeds", "integer", "[0, 1]"]),
        ("network\n    seeds: 2\n", "network\n", ["variants.plain.seeds: is missing"]),
        ("network\n    seeds: 2", "network\n    seeds: 9", ["variants.plain.seeds is 9, but only 8 of split.seeds"]),
        ("seeds: 8}", "seeds: 0}", ["split.seeds", "greater than or equal to 1"]),
        ("dropout: 0.25", "dropout: 0.25\n    average: 1", ["variants.plain.average", "less than 1", "received 1"]),
        (
            "dropout: 0.25",
            "dropout: 0.25\n    augment: {shfit: 2}",
            ["variants.plain.augment.shfit: unknown key; remove it or fix its spelling"],
        ),
        (
            "dropout: 0.25",
            "dropout: 0.25\n    optimizer: {name: sgd, momentum: high}",
            ["variants.plain.optimizer: momentum should be a number", "received 'high'"],
        ),
        (
            "dropout: 0.25",
            "dropout: 0.25\n    schedule: {shape: one_cycle, warmup: 1.0}",
            ["variants.plain.schedule: one_cycle has its own rise"],
        ),
        ("grid_powers: [-4, 12]", "grid_powers: [4, 5]", ["variants.ridge: grid_powers", "[4, 5]"]),
        ("grid_powers: [-4, 12]", "grid_powers: [-4]", ["variants.ridge.grid_powers", "at least 2 items"]),
        ("grid_powers: [-4, 12]", "grid_powers: [-4, 2000]", ["variants.ridge.grid_powers", "2000"]),
        ("[-4, 12], tolerance: 8.0", "[-4, 12], tolerance: 1.0e-300", ["variants.ridge.tolerance", "1e-300"]),
        ("filters: []", "filters: [4]", ["variants.plain: filters, pool, conv_dropout", "1, 0, 0 and 1"]),
        ("dev_split: true", "dev_split: false", ["variants.watched: patience and restore_best", "dev_split: true"]),
        ("ridge: {", "Ridge-2: {", ["variants.Ridge-2: a name should be lower-case letters, digits and _"]),
        ("ridge: {", f"{'r' * 300}: {{", [f"variants.{'r' * 300}", "at most 100 characters"]),
        ("linear: ridge", '"": ridge', ["approaches: a name should not be blank; received ''"]),
        ("linear: ridge", "linear: rigde", ["approaches names the variant 'rigde'", "ridge, random_features"]),
        ("{linear: ridge, MLP: watched}", "{}", ["approaches", "at least 1 item"]),
        ("linear: ridge", "linear: watched", ["approaches must name each variant once", "'MLP': 'watched'"]),
        (
            "chains:",
            "champion: CNN\nchains:",
            ["champion should name one of the approaches (linear, MLP), received 'CNN'"],
        ),
        ("MLP: [plain, watched]", "MLP: [plain, wached]", ["chains.MLP names the variant 'wached'", "plain, watched"]),
        ("confidence: 0.95", "confidence: 95", ["statistics.confidence", "0.999999999", "received 95"]),
        (
            "reproduction_margin: 0.1",
            "reproduction_margin: 2020-13-45",
            ["is not valid YAML", "month must be in 1..12"],
        ),
        ("reproduction_margin: 0.1", f"reproduction_margin: {'9' * 5000}", ["is not valid YAML", "integer"]),
        (STUDY, "[" * 3000, ["is not valid YAML", "recursion"]),
        ("{a: plain", "{a: plian", ["comparisons names the variant 'plian'", "plain, watched"]),
        ("{a: plain", "{a: watched", ["comparisons.0", "two variants", "'watched' twice"]),
        (
            "MLP: [plain, watched]",
            "MLP: [plain, plain]",
            ["chains.MLP must name each variant once", "['plain', 'plain']"],
        ),
    ],
)
def test_the_error_for_an_invalid_value_has_the_key_the_expected_and_the_received_value(
    old: str, new: str, expected: list[str]
) -> None:
    assert old in STUDY
    with pytest.raises(UserError) as error:
        params.parse(STUDY.replace(old, new), "params.yaml")
    assert str(error.value).startswith("params.yaml is not valid")
    for part in expected:
        assert part in str(error.value)


def test_comparisons_and_chains_may_be_left_empty() -> None:
    start, end = STUDY.index("comparisons:"), STUDY.index("statistics:")
    study = params.parse(f"{STUDY[:start]}comparisons:\nchains:\n{STUDY[end:]}", "params.yaml")
    assert (study.comparisons, study.chains) == ([], {})


def test_one_error_names_all_invalid_values() -> None:
    wrong = STUDY.replace("epochs: 2", "epochs: 0").replace("dev_fraction: 0.2", "dev_fraction: 2")
    wrong = wrong.replace("tolerance: 8.0}\n  random", "tolerance: 0.0}\n  random")
    with pytest.raises(UserError) as error:
        params.parse(wrong, "params.yaml")
    keys = [line.split(": ")[0].strip() for line in str(error.value).splitlines()[1:]]
    assert keys == ["variants.ridge.tolerance", "variants.plain.epochs", "split.dev_fraction"]


@pytest.mark.parametrize("text", ["data: [0, 1", "data: [0]\ndata: [1]\n", ""])
def test_the_error_for_an_invalid_study_names_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml is not valid"):
        params.load(path)


def test_the_error_for_a_file_that_is_not_text_names_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"data: [0] # \xe9\n")
    with pytest.raises(UserError, match=r"params\.yaml"):
        params.load(path)


def test_the_error_for_a_missing_file_names_the_folder_to_run_in(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the stages from the top folder"):
        params.load(tmp_path / "params.yaml")


def test_the_error_for_an_unknown_variant_lists_all_variants(study: Params) -> None:
    with pytest.raises(UserError, match=r"unknown variant 'mlp_tunde'.* ridge, random_features, plain, watched"):
        study.recipe("mlp_tunde")


def test_a_study_is_immutable(study: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        study.recipe("plain").family = "ridge"

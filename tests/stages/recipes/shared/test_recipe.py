"""What of a variant decides its runs, and is part of their key."""

from typing import Any

import pytest
from pydantic import Field, ValidationError

from stages.recipes.network import Recipe
from stages.recipes.shared.augmentation import Augment
from tests.support.recipes import LATER, NETWORK, RIDGE, network, ridge


def test_a_recipe_is_decided_by_the_fields_that_params_yaml_gives_it() -> None:
    assert network().key_fields() == {name: value for name, value in NETWORK.items() if name != "seeds"}
    assert ridge().key_fields() == {name: value for name, value in RIDGE.items() if name != "seeds"}


def test_more_seeds_are_no_other_recipe() -> None:
    assert network(seeds=20).key_fields() == network(seeds=1).key_fields()


def test_every_field_that_came_later_has_a_default_and_a_test() -> None:
    fields = type(network()).model_fields
    assert {name for name, field in fields.items() if not field.is_required()} == LATER.keys()


@pytest.mark.parametrize("name", LATER)
def test_a_later_field_is_in_the_key_only_where_it_is_not_as_before(name: str) -> None:
    default = network().model_dump()[name]
    assert network(**{name: default}).key_fields() == network().key_fields()
    assert network(**{name: LATER[name]}).key_fields().keys() == {*network().key_fields(), name}


def test_a_field_added_to_a_class_of_values_changes_no_key_if_its_default_is_excluded() -> None:
    class LaterAugment(Augment):
        blur: float = Field(0.0, exclude_if=lambda value: value == 0.0)

    class LaterRecipe(Recipe):
        augment: LaterAugment | None = None

    def keys(**augment: Any) -> dict[str, Any]:
        return LaterRecipe(**NETWORK, augment=LaterAugment(**augment)).key_fields()

    before = network(augment={"shift": 1.0}).key_fields()
    assert keys(shift=1.0) == before
    assert keys(shift=1.0, blur=2.0)["augment"] == {**before["augment"], "blur": 2.0}


def test_another_value_of_any_field_is_another_recipe() -> None:
    others: list[dict[str, Any]] = [
        {"units": [9]},
        {"dropout": 0.5},
        {"initializer": "normal"},
        {"precision": "mixed_bfloat16"},
        {"learning_rate": 0.003},
        {"decay": {"start": 1, "rate": 0.1}},
        {"batch_size": 33},
        {"epochs": 3},
        {"dev_split": True},
        {"dev_split": True, "patience": 1},
        {"dev_split": True, "restore_best": True},
        {"filters": [2], "pool": [True], "conv_dropout": [0.0]},
        *({name: value} for name, value in LATER.items()),
        {"optimizer": {**LATER["optimizer"], "momentum": 0.8}},
        {"augment": {"shift": 1.0}},
    ]
    keys = [str(network(**changes).key_fields()) for changes in [{}, *others]]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patience": 2}, "patience and restore_best depend on the validation loss: they need dev_split: true"),
        ({"restore_best": True}, "patience and restore_best depend on the validation loss"),
        (
            {"decay": {"start": 1, "rate": 0.1}, "schedule": {"shape": "cosine"}},
            "decay and schedule both set the learning rate",
        ),
        ({"schedule": {"shape": "cosine", "warmup": 2.0}}, "warmup should be shorter than the 2 epochs"),
        ({"filters": [4]}, r"one entry for each convolution, received 1, 0, 0 and 1"),
        ({"kernel_size": [3]}, r"a list of kernel_size need one entry for each convolution, received 0, 0, 0 and 1"),
        ({"average": 1.0}, "less than 1"),
        ({"label_smoothing": -0.1}, "greater than or equal to 0"),
        ({"activation": "reelu"}, "'relu', 'elu'"),
        ({"seeds": 0}, "greater than or equal to 1"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        network(**changes)


def test_a_run_of_more_epochs_or_images_is_expected_to_take_longer() -> None:
    shape = (1000, 28, 28)
    assert network(epochs=4).cost(shape) == 2 * network(epochs=2).cost(shape)
    assert network().cost((2000, 28, 28)) == 2 * network().cost(shape)
    assert network(units=[800], epochs=20, dev_split=True, patience=2).cost(shape) < network(
        units=[800], epochs=20
    ).cost(shape)

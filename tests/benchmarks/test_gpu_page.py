"""The page of the measurements on a GPU."""

import keras
import pytest

from benchmarks.gpu.forms import FORMS
from benchmarks.gpu.page import HERE, page
from benchmarks.gpu.roofline import step_of
from stages.study import files
from stages.train.executors.batched_seeds.forms import Forms


def test_the_page_is_what_its_program_writes(tensorflow_ready: None) -> None:
    assert (HERE / "README.md").read_text(encoding="utf-8") == page(files.read_json(HERE / "gpu.json"))


def test_bytes_and_operations_of_a_step_are_those_counted_by_hand(tensorflow_ready: None) -> None:
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3)(inputs)
    step = step_of(keras.Model(inputs, keras.layers.Dense(2)(hidden)), batch_size=10)
    # Forward and the weights' gradient of both layers, and the gradient of the second one's input.
    assert step.operations == 2 * 10 * (2 * 4 * 3 + 3 * 3 * 2)
    state = 4 * (9 * 15 + 10 * 8)  # floats of 15 and 8 weights
    first = 2 * 40 + 4 * 7 * 30  # images of one byte, twice; its product and outputs
    second = 4 * (3 * 30 + 8 * 20)  # its inputs, and one gradient of them; its product and outputs
    assert step.bytes == state + first + second
    assert step.fused_bytes == 4 * (7 * 15 + 8 * 8) + 2 * 40 + 4 * 30 * 2 + 4 * (3 * 30 + 2 * 20)


def test_a_step_takes_the_longer_one_of_the_times_for_bytes_and_operations(tensorflow_ready: None) -> None:
    inputs = keras.Input((4,))
    step = step_of(keras.Model(inputs, keras.layers.Dense(3)(inputs)), batch_size=10)
    slow_memory = {"copy_gb_s": 1e-9, "tflops": {"float32": 1e9}}
    slow_products = {"copy_gb_s": 1e9, "tflops": {"float32": 1e-12}}
    assert step.bound(slow_memory) == pytest.approx(step.bytes)
    assert step.bound(slow_memory, fused=True) == pytest.approx(step.fused_bytes)
    assert step.bound(slow_products) == pytest.approx(step.operations)


def test_forms_of_convolutions_are_on_the_page_where_they_were_measured(tensorflow_ready: None) -> None:
    facts = files.read_json(HERE / "gpu.json")
    assert "They are not measured on a GPU" in page(facts)
    names = [f"cnn_tuned x 64: {form}" for form in FORMS]
    facts["forms"] = {names[0]: {"epoch_seconds": 2.0}, names[1]: {"epoch_seconds": 1.5}, names[2]: {"error": "memory"}}
    rows = [line for line in page(facts).splitlines() if line.startswith("| cnn_tuned | 64 | ")]
    assert [row.split(" | ")[2] for row in rows[1:]] == ["today's", "first as shifts"]
    assert [row.split(" | ")[4:] for row in rows[1:]] == [["2", "1.00 |"], ["1.5", "0.75 |"]]


def test_bytes_of_the_forms_of_convolutions_are_those_counted_by_hand(tensorflow_ready: None) -> None:
    inputs = keras.Input((4, 4, 1))
    first = keras.layers.Conv2D(2, 3, activation="relu")
    model = keras.Sequential([inputs, first, keras.layers.Flatten(), keras.layers.Dense(3)])
    todays, shifts, short = (
        step_of(model, 10, Forms(**form)).bytes for form in ({}, {"first_as_shifts": True}, {"short_patches": True})
    )
    images, patches, outputs = 160, 4 * 10 * 16 * 4, 4 * 10 * 8  # patches of 9 numbers and zeros up to 16, at 4 places
    assert todays - shifts == 3 * patches + 5 * outputs - images  # which it reads again
    assert todays - short == patches - 2 * images  # for the greatest one, and again

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from many_seeds.errors import UserError
from stages.recipes.shared import fit, optimizers, passes, rates
from stages.recipes.shared.augmentation import Augment
from stages.recipes.shared.epochs import batch_order
from stages.recipes.shared.fit import fit_network
from stages.recipes.shared.models import layer_seeds
from stages.recipes.shared.optimizers import Optimizer
from stages.recipes.shared.rates import Decay, Schedule
from tests.support.recipes import network

Images = tuple[np.ndarray, np.ndarray]

pytestmark = pytest.mark.usefixtures("tensorflow_ready")


def built(seed: int = 0, **fields: Any) -> keras.Sequential:
    return network(**fields).build((28, 28), 10, layer_seeds(seed))


def silent(epoch: int, row: dict[str, float]) -> None:
    pass


VALIDATION = np.arange(0, 128, 4)


@pytest.fixture(scope="module")
def few(digits: Images) -> Images:
    """Four whole batches, and three without `VALIDATION`: TensorFlow compiles the step for one shape only."""
    return digits[0][:128], digits[1][:128]


@pytest.fixture(scope="module")
def uneven(digits: Images) -> Images:
    """Three batches and one of 14 images."""
    return digits[0][:110], digits[1][:110]


Trained = tuple[keras.Sequential, list[dict[str, float]], int]


def trained(
    few: Images,
    validation: np.ndarray | None = None,
    *,
    optimizer: Optimizer = optimizers.ADAM,
    average: float = 0.0,
    learning_rate: float = 0.002,
    decay: Decay | None = None,
    **changes: Any,
) -> Trained:
    """The model with the weights that came of training, its curve, and the epoch that they are from."""
    settings: dict[str, Any] = {
        "batch_size": 32,
        "epochs": 2,
        "patience": None,
        "restore_best": False,
        "label_smoothing": 0.0,
        "augment": None,
        "seed": 0,
        "on_epoch": silent,
        "rates": rates.by_epoch(learning_rate, decay),
    }
    model = built()
    weights, curve, best = fit_network(
        model, optimizers.build(optimizer, average), *few, validation, **{**settings, **changes}
    )
    model.set_weights(weights)
    return model, curve, best


def scores(model: keras.Sequential, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Cross-entropy and accuracy, by hand."""
    outputs = keras.ops.convert_to_numpy(model(images, training=False)).astype(float)
    loss = -np.log(outputs[np.arange(len(labels)), labels]).mean()
    return float(loss), float((outputs.argmax(axis=1) == labels).mean())


@pytest.fixture(scope="module")
def with_validation(few: Images) -> Trained:
    """The model, which tests must not train further."""
    return trained(few, VALIDATION)


def test_training_lowers_the_loss_and_the_driver_hears_of_every_epoch(few: Images) -> None:
    before = scores(built(), *few)[0]
    heard: list[tuple[int, float]] = []
    model, curve, best = trained(few, epochs=8, on_epoch=lambda epoch, row: heard.append((epoch, row["loss"])))
    assert heard == [(row["epoch"], row["loss"]) for row in curve]
    assert [row["epoch"] for row in curve] == list(range(8))
    assert scores(model, *few)[0] < 0.8 * before
    # Without a validation split, there are no scores of one.
    assert set(curve[0]) == {"epoch", "loss", "accuracy", "learning_rate"}
    assert best == 7


def test_validation_scores_are_those_of_the_validation_split(few: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "VALIDATION_BATCH", 20)  # so that 32 validation images end with a part of a batch
    model, curve, best = trained(few, VALIDATION, epochs=1)
    loss, accuracy = scores(model, few[0][VALIDATION], few[1][VALIDATION])
    np.testing.assert_allclose(curve[-1]["val_loss"], loss, rtol=1e-5)
    assert curve[-1]["val_accuracy"] == pytest.approx(accuracy)
    assert best == 0


def test_training_never_sees_a_validation_image(few: Images, with_validation: Trained) -> None:
    blanked = few[0].copy()
    blanked[VALIDATION] = 255
    other = trained((blanked, few[1]), VALIDATION)[0]
    for a, b in zip(with_validation[0].get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_epochs_loss_is_the_mean_over_its_images(uneven: Images) -> None:
    """Weights that hardly move, so that every batch is seen by the same model; the last batch has 14 images."""
    model, curve, _ = trained(uneven, learning_rate=1e-12, epochs=1)
    loss, accuracy = scores(model, *uneven)
    np.testing.assert_allclose(curve[0]["loss"], loss, rtol=1e-5)
    assert curve[0]["accuracy"] == pytest.approx(accuracy)


@dataclass
class Script:
    """What the passes of a training without TensorFlow were given, and the weights after each epoch."""

    orders: list[np.ndarray]
    rates: list[Any]
    after: list[list[np.ndarray]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    """Replace the passes by ones that add 1 to every weight, with validation losses that the test gives."""

    def replace(losses: Sequence[float] = ()) -> Script:
        noted = Script([], [], [])

        def scripted(model: keras.Sequential, optimizer: Any, images: Any, validation: Any, **_: Any) -> Any:
            model.compile(optimizer)

            def validate() -> dict[str, float]:
                return {"loss": losses[len(noted.after) - 1], "accuracy": 0.5}

            def train(order: np.ndarray, rate: float | np.ndarray) -> dict[str, float]:
                noted.orders.append(order)
                noted.rates.append(rate)
                model.set_weights([weight + 1 for weight in model.get_weights()])
                noted.after.append(model.get_weights())
                return {"loss": 1.0, "accuracy": 0.5}

            return train, None if validation is None else validate

        monkeypatch.setattr(fit, "passes", scripted)
        return noted

    return replace


def test_every_epoch_and_every_seed_has_an_order_of_its_own(uneven: Images, script: Callable[..., Script]) -> None:
    noted = script()
    for seed in (0, 1, 0):
        trained(uneven, seed=seed)
    for order in noted.orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(110))
    assert len({order.tobytes() for order in noted.orders[:4]}) == 4
    np.testing.assert_array_equal(noted.orders[4:], noted.orders[:2])


def test_the_learning_rate_falls_from_its_start_on(few: Images, script: Callable[..., Script]) -> None:
    noted = script()
    _, curve, _ = trained(few, learning_rate=0.1, decay=Decay(start=2, rate=0.5), epochs=5)
    expected = [0.1, 0.1, 0.1, 0.1 * math.exp(-0.5), 0.1 * math.exp(-1.0)]
    np.testing.assert_allclose([row["learning_rate"] for row in curve], expected, rtol=1e-12)
    assert noted.rates == [row["learning_rate"] for row in curve]


def test_the_learning_rate_of_an_epoch_is_the_one_in_use(few: Images) -> None:
    """From epoch 1 on it is all but zero: the weights stay where epoch 0 left them."""
    model = built()
    before, after = model.get_weights(), list[list[np.ndarray]]()
    settings: dict[str, Any] = {"batch_size": 32, "epochs": 3, "patience": None, "restore_best": False}
    settings |= {"label_smoothing": 0.0, "augment": None, "seed": 0}
    fit_network(
        model,
        optimizers.build(optimizers.ADAM, 0.0),
        *few,
        None,
        rates=rates.by_epoch(0.002, Decay(start=0, rate=60.0)),
        on_epoch=lambda epoch, row: after.append(model.get_weights()),
        **settings,
    )
    assert not np.allclose(before[0], after[0][0], atol=1e-4)
    for a, b in zip(after[0], after[2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


LOSSES = [1.0, 0.7, 0.8, 0.6, 0.6, 0.9, 0.7, 0.5, 0.4]


def test_training_stops_after_patience_epochs_without_a_lower_loss_and_the_best_weights_are_restored(
    few: Images, script: Callable[..., Script]
) -> None:
    """The lowest loss is that of epoch 3; an equal one, in epoch 4, is not lower; epoch 6 is the third in vain."""
    noted = script(LOSSES)
    model, curve, best = trained(few, VALIDATION, epochs=9, patience=3, restore_best=True)
    assert (len(curve), best) == (7, 3)
    for weight, expected in zip(model.get_weights(), noted.after[3], strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_without_restoring_training_stops_as_early_with_the_last_weights(
    few: Images, script: Callable[..., Script]
) -> None:
    noted = script(LOSSES)
    model, curve, best = trained(few, VALIDATION, epochs=9, patience=3, restore_best=False)
    assert (len(curve), best) == (7, 6)
    np.testing.assert_array_equal(model.get_weights()[0], noted.after[6][0])


def test_without_patience_all_epochs_are_trained_and_the_best_weights_restored(
    few: Images, script: Callable[..., Script]
) -> None:
    noted = script(LOSSES[::-1])
    model, curve, best = trained(few, VALIDATION, epochs=9, patience=None, restore_best=True)
    assert (len(curve), best) == (9, 0)
    np.testing.assert_array_equal(model.get_weights()[0], noted.after[0][0])


def test_keras_stops_and_restores_at_the_same_epoch() -> None:
    """Its own callback over the same losses, as the source of what early stopping means."""
    model = built()
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True)
    stop.set_model(model)
    stop.on_train_begin()
    model.stop_training = False
    for epoch, loss in enumerate(LOSSES):
        stop.on_epoch_end(epoch, {"val_loss": loss})
        if model.stop_training:
            break
    assert (epoch + 1, stop.best_epoch) == (7, 3)


def test_training_that_diverges_is_refused_with_its_loss_and_learning_rate(
    few: Images,
) -> None:
    with pytest.raises(UserError, match=r"loss is nan after epoch \d: training diverges; lower learning_rate .*1e\+3"):
        trained(few, learning_rate=1e37, epochs=5)


def test_a_validation_loss_that_is_no_number_is_refused(few: Images, script: Callable[..., Script]) -> None:
    script([1.0, math.nan])
    with pytest.raises(UserError, match="val_loss is nan after epoch 1"):
        trained(few, VALIDATION)


def test_a_pass_trains_as_keras_fit_does(uneven: Images) -> None:
    """The same order, the same batches, and dropout off: so are the weights and the loss, but for rounding."""
    images, labels = uneven
    order = np.random.default_rng(np.random.SeedSequence([0, 1])).permutation(len(images))
    theirs = built()
    theirs.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", jit_compile=False)
    history = theirs.fit(images[order], labels[order], batch_size=32, shuffle=False, verbose=0).history
    ours, curve, _ = trained(uneven, epochs=1)
    assert curve[0]["loss"] == pytest.approx(history["loss"][0], rel=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


SGD = Optimizer(name="sgd")


def batches(count: int, epochs: int, batch_size: int = 32) -> Iterator[np.ndarray]:
    """The images of each step of training with seed 0."""
    for epoch in range(epochs):
        order = batch_order(count, 0, epoch)
        for start in range(0, count, batch_size):
            yield order[start : start + batch_size]


def test_a_moving_average_of_the_weights_is_what_is_evaluated_and_returned(few: Images) -> None:
    """By hand: the weights after the first step, then 0.8 of the average and 0.2 of the weights after each step."""
    images, labels = (np.delete(of, VALIDATION, axis=0) for of in few)
    by_hand = built()
    by_hand.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=False)
    average: list[np.ndarray] = []
    for indices in batches(96, epochs=2):
        by_hand.train_on_batch(images[indices], labels[indices])
        now = by_hand.get_weights()
        average = [0.8 * a + 0.2 * w for a, w in zip(average, now, strict=True)] if average else now
    model, curve, _ = trained(few, VALIDATION, optimizer=SGD, average=0.8, learning_rate=0.1)
    for a, b in zip(model.get_weights(), average, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert not np.allclose(model.get_weights()[0], by_hand.get_weights()[0], atol=1e-4)
    loss = scores(model, few[0][VALIDATION], few[1][VALIDATION])[0]
    assert curve[-1]["val_loss"] == pytest.approx(loss, rel=1e-5)


def test_a_moving_average_goes_on_training_from_the_weights_themselves(few: Images, with_validation: Trained) -> None:
    """The losses of training are those without an average, whose validation pass comes between two epochs."""
    without, curve = with_validation[1], trained(few, VALIDATION, average=0.9)[1]
    assert [row["loss"] for row in curve] == [row["loss"] for row in without]
    assert curve[-1]["val_loss"] != without[-1]["val_loss"]


def test_the_rate_of_each_step_is_the_schedules(few: Images) -> None:
    """By hand: a step of gradient descent for each of the four batches, with the rate at its middle."""
    images, labels = few
    schedule = rates.by_step(0.1, Schedule(shape="cosine"), epochs=1)
    by_hand = built()
    optimizer = keras.optimizers.SGD(0.1)
    by_hand.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    for indices, share in zip(batches(128, epochs=1), (0.125, 0.375, 0.625, 0.875), strict=True):
        optimizer.learning_rate = 0.1 * (1 + math.cos(math.pi * share)) / 2
        by_hand.train_on_batch(images[indices], labels[indices])
    model, curve, _ = trained(few, optimizer=SGD, rates=schedule, epochs=1)
    for a, b in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert curve[0]["learning_rate"] == pytest.approx(0.1 * (1 + math.cos(math.pi * 0.875)) / 2)


def test_label_smoothing_spreads_its_share_of_each_target_over_all_classes() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]], np.float32)
    loss = passes.smoothed_cross_entropy(0.3)(np.array([0, 2], np.uint8), probabilities)
    # Targets 0.7 + 0.1, 0.1, 0.1 and 0.1, 0.1, 0.8.
    expected = [
        -0.8 * math.log(0.7) - 0.1 * math.log(0.2) - 0.1 * math.log(0.1),
        -0.1 * math.log(0.25) - 0.1 * math.log(0.5) - 0.8 * math.log(0.25),
    ]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), expected, rtol=1e-6)


def test_label_smoothing_makes_a_network_less_certain(few: Images) -> None:
    sharp, smooth = (trained(few, label_smoothing=share, epochs=20)[0] for share in (0.0, 0.4))
    assert scores(sharp, *few)[0] < scores(smooth, *few)[0]
    certain = [float(np.asarray(model(few[0])).max(axis=1).mean()) for model in (sharp, smooth)]
    assert certain[0] > certain[1]


def test_augmentation_changes_the_images_of_training_and_not_those_of_the_validation_split(
    few: Images, with_validation: Trained
) -> None:
    model, curve, _ = trained(few, VALIDATION, augment=Augment(shift=3))
    assert curve[0]["loss"] != with_validation[1][0]["loss"]
    loss = scores(model, few[0][VALIDATION], few[1][VALIDATION])[0]
    assert curve[-1]["val_loss"] == pytest.approx(loss, rel=1e-5)


def test_augmentation_is_drawn_from_the_seed_of_the_run_anew_in_each_epoch(few: Images) -> None:
    """All images in one batch, and weights that hardly move: only what is shown differs between two epochs."""
    curves = []
    for global_seed in (1, 2):
        keras.utils.set_random_seed(global_seed)
        augment = Augment(shift=2, rotation=20, elastic=1)
        curves.append(trained(few, augment=augment, batch_size=128, learning_rate=1e-12)[1])
    assert curves[0] == curves[1]
    first, second = (row["loss"] for row in curves[0])
    assert abs(first - second) > 1e-4
    assert len({passes.augmenter_seed(seed) for seed in range(1000)}) == 1000

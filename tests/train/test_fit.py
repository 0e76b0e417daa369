import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from stages.errors import StudyError
from stages.train import fit
from stages.train.fit import fit_network
from stages.train.network import build_network
from stages.train.tensorflow_passes import FusedAdam, batch_pass

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

RECIPE: dict[str, Any] = {
    **{"learning_rate": 0.002, "decay": None, "batch_size": 32, "epochs": 2},
    **{"patience": None, "restore_best": False, "seed": 0},
}


def network(seed: int = 0, dropout: float = 0.0) -> keras.Sequential:
    return build_network(
        **{"filters": [], "pool": [], "conv_dropout": [], "units": [8], "dropout": dropout},  # type: ignore[arg-type]
        **{"initializer": "glorot_uniform", "precision": "float32", "seed": seed},  # type: ignore[arg-type]
    )


def silent(epoch: int, row: dict[str, float]) -> None:
    pass


@pytest.fixture(scope="module")
def few(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return digits[0][:110], digits[1][:110]


def trained(few: tuple[np.ndarray, np.ndarray], dev: np.ndarray | None = None, **changes: Any) -> Any:
    """The model after training, its curve, its best epoch."""
    model = network()
    return model, *fit_network(model, *few, dev, **{**RECIPE, "report": silent, **changes})


def scores(model: keras.Sequential, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Cross-entropy and accuracy, by hand."""
    outputs = keras.ops.convert_to_numpy(model(images, training=False)).astype(float)
    loss = -np.log(outputs[np.arange(len(labels)), labels]).mean()
    return float(loss), float((outputs.argmax(axis=1) == labels).mean())


def test_training_lowers_the_loss(few: tuple[np.ndarray, np.ndarray]) -> None:
    before = scores(network(), *few)[0]
    model, curve, _ = trained(few, epochs=8)
    assert [row["epoch"] for row in curve] == list(range(8))
    assert scores(model, *few)[0] < 0.8 * before


def test_dev_scores_are_those_of_the_dev_images_and_no_others(
    few: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "DEV_BATCH", 16)  # so that 25 dev images end with a part of a batch
    dev = np.arange(0, 100, 4)
    model, curve, best = trained(few, dev)
    loss, accuracy = scores(model, few[0][dev], few[1][dev])
    np.testing.assert_allclose(curve[-1]["val_loss"], loss, rtol=1e-5)
    assert curve[-1]["val_accuracy"] == pytest.approx(accuracy)
    assert best == 1


def test_training_never_sees_a_dev_image(few: tuple[np.ndarray, np.ndarray]) -> None:
    dev = np.arange(0, 100, 4)
    blanked = few[0].copy()
    blanked[dev] = 255
    for a, b in zip(trained(few, dev)[0].get_weights(), trained((blanked, few[1]), dev)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_without_a_dev_split_has_no_dev_scores(few: tuple[np.ndarray, np.ndarray]) -> None:
    _, curve, best = trained(few)
    assert set(curve[0]) == {"epoch", "loss", "accuracy", "learning_rate"}
    assert best == 1


def test_an_epochs_loss_is_the_mean_over_its_images(few: tuple[np.ndarray, np.ndarray]) -> None:
    """Weights that hardly move, so that every batch is seen by the same model; the last batch has 14 images."""
    model, curve, _ = trained(few, learning_rate=1e-12, epochs=1)
    loss, accuracy = scores(model, *few)
    np.testing.assert_allclose(curve[0]["loss"], loss, rtol=1e-5)
    assert curve[0]["accuracy"] == pytest.approx(accuracy)


def test_every_epoch_and_every_seed_has_an_order_of_its_own(
    few: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[np.ndarray] = []

    def watched(step: Any, images: np.ndarray, labels: np.ndarray, batch_size: int) -> Callable[[np.ndarray], None]:
        run = batch_pass(step, images, labels, batch_size)

        def noting(order: np.ndarray) -> None:
            orders.append(order)
            run(order)

        return noting

    monkeypatch.setattr("stages.train.tensorflow_passes.batch_pass", watched)
    for seed in (0, 1, 0):
        trained(few, seed=seed)
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(110))
    assert len({order.tobytes() for order in orders[:4]}) == 4
    np.testing.assert_array_equal(orders[4:], orders[:2])


def test_the_learning_rate_falls_from_its_start_on(few: tuple[np.ndarray, np.ndarray]) -> None:
    _, curve, _ = trained(few, learning_rate=0.1, decay=(2, 0.5), epochs=5)
    expected = [0.1, 0.1, 0.1, 0.1 * math.exp(-0.5), 0.1 * math.exp(-1.0)]
    np.testing.assert_allclose([row["learning_rate"] for row in curve], expected, rtol=1e-12)


def test_the_learning_rate_that_is_reported_is_the_one_in_use(few: tuple[np.ndarray, np.ndarray]) -> None:
    """From epoch 1 on it is all but zero: the weights stay where epoch 0 left them."""
    one = trained(few, epochs=1)[0].get_weights()
    more = trained(few, epochs=3, decay=(0, 60.0))[0].get_weights()
    for a, b in zip(one, more, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def steered(
    few: tuple[np.ndarray, np.ndarray], losses: list[float], monkeypatch: pytest.MonkeyPatch, **how: Any
) -> Any:
    """Training whose dev losses are `losses`; the model, its curve, its best epoch and the weights after each epoch."""
    after: list[list[np.ndarray]] = []
    real = fit._passes

    def passes(model: keras.Sequential, *rest: Any) -> Any:
        train, _ = real(model, *rest)

        def dev() -> dict[str, float]:
            after.append(model.get_weights())
            return {"loss": losses[len(after) - 1], "accuracy": 0.5}

        return train, dev

    monkeypatch.setattr(fit, "_passes", passes)
    return *trained(few, np.arange(20), epochs=len(losses), **how), after


LOSSES = [1.0, 0.7, 0.8, 0.6, 0.6, 0.9, 0.7, 0.5, 0.4]


def test_training_stops_after_patience_epochs_without_a_lower_dev_loss_and_the_best_weights_are_restored(
    few: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lowest loss is that of epoch 3; an equal one, in epoch 4, is not lower; epoch 6 is the third in vain."""
    model, curve, best, after = steered(few, LOSSES, monkeypatch, patience=3, restore_best=True)
    assert (len(curve), best) == (7, 3)
    for weight, expected in zip(model.get_weights(), after[3], strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert not np.array_equal(after[3][0], after[6][0])


def test_without_restoring_training_stops_as_early_with_the_last_weights(
    few: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, curve, best, after = steered(few, LOSSES, monkeypatch, patience=3, restore_best=False)
    assert (len(curve), best) == (7, 6)
    np.testing.assert_array_equal(model.get_weights()[0], after[6][0])


def test_without_patience_all_epochs_are_trained_and_the_best_weights_restored(
    few: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, curve, best, after = steered(few, LOSSES, monkeypatch, patience=None, restore_best=True)
    assert (len(curve), best) == (9, 8)
    np.testing.assert_array_equal(model.get_weights()[0], after[8][0])


def test_keras_stops_and_restores_at_the_same_epoch() -> None:
    """Its own callback over the same losses, as the source of what early stopping means."""
    model = network()
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
    few: tuple[np.ndarray, np.ndarray],
) -> None:
    with pytest.raises(StudyError, match=r"loss is nan after epoch \d: training diverges; lower learning_rate .*1e\+3"):
        trained(few, learning_rate=1e37, epochs=5)


def test_a_dev_loss_that_is_no_number_is_refused(
    few: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StudyError, match="val_loss is nan after epoch 1"):
        steered(few, [1.0, math.nan], monkeypatch)


def test_the_driver_hears_of_every_epoch(few: tuple[np.ndarray, np.ndarray]) -> None:
    heard: list[tuple[int, float]] = []
    _, curve, _ = trained(few, report=lambda epoch, row: heard.append((epoch, row["loss"])))
    assert heard == [(row["epoch"], row["loss"]) for row in curve]


def test_the_fused_adam_follows_keras_adam() -> None:
    generator = np.random.default_rng(0)
    start = generator.normal(size=(4, 3)).astype(np.float32)
    ours, theirs = keras.Variable(start), keras.Variable(start)
    fused, adam = FusedAdam(0.01), keras.optimizers.Adam(0.01)
    for step in range(12):
        if step == 6:
            fused.learning_rate = adam.learning_rate = 0.002
        gradient = keras.ops.convert_to_tensor(generator.normal(size=(4, 3)).astype(np.float32) * 10.0 ** (-step % 5))
        fused.apply([gradient], [ours])
        adam.apply([gradient], [theirs])
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-5, atol=1e-6)
    assert np.abs(ours.numpy() - start).max() > 0.01


def test_a_pass_trains_as_keras_fit_does(few: tuple[np.ndarray, np.ndarray]) -> None:
    """The same order, the same batches, and dropout off: so are the weights and the loss, but for rounding."""
    images, labels = few
    order = np.random.default_rng(np.random.SeedSequence([0, 1])).permutation(len(images))
    theirs = network()
    theirs.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", jit_compile=False)
    history = theirs.fit(images[order], labels[order], batch_size=32, shuffle=False, verbose=0).history
    ours, curve, _ = trained(few, epochs=1)
    assert curve[0]["loss"] == pytest.approx(history["loss"][0], rel=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (5, [4, 1])])
def test_a_pass_shows_every_image_once_in_its_order_with_its_label(count: int, sizes: list[int]) -> None:
    import tensorflow as tf

    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(count) + 100
    labels = np.arange(count, dtype=np.uint8)
    shown = tf.Variable(tf.zeros([0, 2], tf.int32), shape=[None, 2])
    batches = tf.Variable(tf.zeros([0], tf.int32), shape=[None])

    def step(batch: tuple[Any, Any]) -> None:
        x, y = batch
        pairs = tf.stack([tf.cast(x[:, 0, 0], tf.int32), tf.cast(y, tf.int32)], axis=1)
        shown.assign(tf.concat([shown, pairs], axis=0))
        batches.assign(tf.concat([batches, [tf.shape(y)[0]]], axis=0))

    order = np.random.default_rng(0).permutation(count)
    batch_pass(step, images, labels, batch_size=4)(order)
    np.testing.assert_array_equal(shown.numpy(), np.stack([order + 100, order], axis=1))
    assert batches.numpy().tolist() == sizes

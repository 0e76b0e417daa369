"""Batched seeds: many seeds of one model as one batch, a lane for each."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="batched seeds need JAX")

import keras  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

if keras.backend.backend() != "jax":
    pytest.skip("batched seeds need KERAS_BACKEND=jax", allow_module_level=True)

from many_seeds.errors import UserError  # noqa: E402
from stages.study.provenance.environments import installed_versions  # noqa: E402
from stages.train.executors.batched_seeds import engine, forms, patches, programs  # noqa: E402
from stages.train.executors.batched_seeds.batches import Batches  # noqa: E402
from stages.train.run import Run, Trained, train_run  # noqa: E402
from tests.support.recipes import network  # noqa: E402

layers = keras.layers
IMAGES = load_digits().images.astype(np.uint8)[:700]
LABELS = load_digits().target.astype(np.uint8)[:700]
BATCH = 32


def mlp(seed: int, start: str = "glorot_uniform") -> keras.Model:
    first = keras.initializers.get({"class_name": start, "config": {"seed": 3 * seed}})
    return keras.Sequential(
        [
            layers.Input((8, 8), dtype="uint8"),
            layers.Rescaling(1 / 16, dtype="float32"),
            layers.Flatten(),
            layers.Dense(16, activation="relu", kernel_initializer=first),
            layers.Dropout(0.3, seed=3 * seed + 1),
            layers.Dense(10, "softmax", kernel_initializer=keras.initializers.GlorotUniform(3 * seed + 2)),
        ]
    )


def cnn(seed: int) -> keras.Model:
    return keras.Sequential(
        [
            layers.Input((8, 8), dtype="uint8"),
            layers.Rescaling(1 / 16, dtype="float32"),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", kernel_initializer=keras.initializers.GlorotUniform(2 * seed)),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, "softmax", kernel_initializer=keras.initializers.GlorotUniform(2 * seed + 1)),
        ]
    )


def lane(seed: int, build=mlp, *, epochs=3, validation=100, rate=0.01, **ends) -> engine.Lane:  # type: ignore[no-untyped-def]
    chosen = np.random.default_rng(seed).permutation(len(IMAGES))[:validation] if validation else None
    return engine.Lane(
        seed,
        [np.asarray(variable) for variable in build(seed).variables],
        chosen,
        lambda epoch, steps: rate,
        epochs,
        augmenter_seed=seed,
        **ends,
    )


def shared_of(build=mlp, **fields) -> programs.Shared:  # type: ignore[no-untyped-def]
    return programs.Shared(build(0), keras.optimizers.Adam(), **fields)


def train(lanes, shared=None, **settings) -> dict[int, engine.FinishedLane]:  # type: ignore[no-untyped-def]
    return dict(engine.train(shared or shared_of(), lanes, IMAGES, LABELS, batch_size=BATCH, **settings))


def assert_same(a: engine.FinishedLane, b: engine.FinishedLane) -> None:
    assert a.curve == b.curve
    assert a.best_epoch == b.best_epoch
    for x, y in zip(a.weights or [], b.weights or [], strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_lane_equals_the_same_seed_trained_alone_in_a_batch_of_the_same_width() -> None:
    together = train([lane(seed) for seed in range(4)], width=4, narrowest=4)
    for seed in range(4):
        assert_same(together[seed], train([lane(seed)], width=4, narrowest=4)[0])


def test_a_lane_of_another_width_differs_by_rounding_only() -> None:
    together, alone = train([lane(seed) for seed in range(4)])[2], train([lane(2)])[0]
    assert alone.weights
    assert together.weights
    for x, y in zip(together.weights, alone.weights, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    for row, other in zip(together.curve, alone.curve, strict=True):
        assert row == pytest.approx(other, rel=1e-3)


def test_a_lane_is_the_run_that_keras_fits_from_the_same_values_in_the_same_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = lane(1, epochs=2)
    assert run.validation is not None
    kept = np.setdiff1d(np.arange(len(IMAGES)), run.validation)
    model = mlp(1)
    model.compile(keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    rows = []
    for epoch in range(2):
        order = kept[np.random.default_rng(np.random.SeedSequence([1, epoch + 1])).permutation(len(kept))]
        row = model.fit(IMAGES[order], LABELS[order], BATCH, shuffle=False, verbose=0).history
        val = model.evaluate(IMAGES[run.validation], LABELS[run.validation], verbose=0, return_dict=True)
        rows.append({**{k: v[0] for k, v in row.items()}, **{f"val_{k}": v for k, v in val.items()}})
    monkeypatch.setattr(programs, "_programs", {})
    monkeypatch.setattr(
        programs, "patched", lambda model, forms: contextlib.nullcontext()
    )  # with Keras's masks of dropout
    finished = train([run])[0]
    for row, expected in zip(finished.curve, rows, strict=True):
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert finished.weights
    for x, y in zip(finished.weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)


def test_seeds_differ_in_their_weights_dropout_and_orders() -> None:
    losses = {run.curve[0]["loss"] for run in train([lane(seed) for seed in range(4)]).values()}
    assert len(losses) == 4
    twins = [dataclasses.replace(lane(0), seed=seed) for seed in (1, 2)]
    assert len({run.curve[0]["loss"] for run in train(twins).values()}) == 2


def test_lanes_stop_at_their_own_epochs_with_their_own_best_weights() -> None:
    lanes = [lane(seed, epochs=40, rate=0.03, patience=2, restore_best=True) for seed in range(6)]
    runs = train(lanes, narrowest=2)
    lengths = {len(run.curve) for run in runs.values()}
    assert len(lengths) > 1
    assert max(lengths) < 40
    for i, run in runs.items():
        losses = [row["val_loss"] for row in run.curve]
        assert run.best_epoch == int(np.argmin(losses)) == len(losses) - 3
        model = mlp(0)
        model.set_weights([np.asarray(value) for value in run.weights or []])
        model.compile(loss="sparse_categorical_crossentropy")
        again = model.evaluate(IMAGES[lanes[i].validation], LABELS[lanes[i].validation], verbose=0)
        assert again == pytest.approx(min(losses), rel=1e-4)


def test_without_restore_best_a_lane_ends_with_its_last_weights() -> None:
    runs = train(
        [lane(0, epochs=30, rate=0.03, patience=2), lane(0, epochs=30, rate=0.03, patience=2, restore_best=True)]
    )
    assert runs[0].best_epoch == len(runs[0].curve) - 1 > runs[1].best_epoch
    assert any((x != y).any() for x, y in zip(runs[0].weights or [], runs[1].weights or [], strict=True))


def test_a_lane_that_waits_takes_the_place_of_one_that_ended() -> None:
    lanes = [lane(seed, epochs=1 + seed % 3) for seed in range(7)]
    runs = train(lanes, width=3, narrowest=3)
    assert sorted(runs) == list(range(7))
    assert_same(runs[6], train([lanes[6]], width=3, narrowest=3)[0])


def test_a_lane_that_diverges_ends_alone() -> None:
    lanes = [lane(0), lane(1, rate=1e30), lane(2)]
    runs = train(lanes, width=3, narrowest=3)
    assert runs[1].weights is None
    assert "training diverges; lower learning_rate (it was 1e+30)" in str(runs[1].diverged)
    for i in (0, 2):
        assert runs[i].diverged is None
        assert_same(runs[i], train([lanes[i]], width=3, narrowest=3)[0])


def a_run(variant: str, seed: int, **fields: Any) -> Run:
    """A run with one step for each epoch, so that all of these share a batch."""
    digests = {"data": "d", "code": "c"}
    return Run(variant, network(batch_size=700, **fields), seed, 10, None, "lanes", digests, installed_versions("jax"))


def test_a_batched_seed_that_diverges_has_the_result_of_a_single_run_that_does_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    huge = a_run("huge", 1, learning_rate=1e30)
    last_step = a_run("last step", 2, learning_rate=1e30, epochs=1)  # its only loss is that before the step
    runs = [a_run("plain", 0), huge, last_step, a_run("plain", 3)]
    found = {result.run.name: result for result in Batches(runs, IMAGES, LABELS).results()}
    for name in ("plain seed 0", "plain seed 3"):
        result = found[name]
        assert isinstance(result, Trained)
        assert result.facts["epochs"] == 2
        assert "diverged" not in result.facts
    for run, epoch in ((huge, 1), (last_step, 0)):
        alone, together = train_run(run, IMAGES, LABELS, None), found[run.name]
        assert isinstance(alone, Trained)
        assert isinstance(together, Trained)
        assert together.facts["diverged"] == alone.facts["diverged"]
        assert together.facts["diverged"]["epoch"] == epoch
        assert together.files["model.keras"] == alone.files["model.keras"]
        assert [len(one.files["curves.csv"].splitlines()) for one in (together, alone)] == [epoch + 2] * 2


def test_lanes_without_a_validation_split_train_on_all() -> None:
    runs = train([lane(seed, validation=0) for seed in range(2)])
    assert set(runs[0].curve[0]) == {"epoch", "loss", "accuracy", "learning_rate"}
    assert runs[0].best_epoch == 2


def test_two_variants_share_one_call_and_its_programs() -> None:
    train([lane(seed) for seed in range(2)])
    before = len(programs._programs)

    def other(seed: int) -> keras.Model:
        return mlp(seed, start="glorot_normal")

    runs = train([lane(0), lane(0, other, rate=0.002)], shared_of(other))
    assert len(programs._programs) == before
    assert runs[0].curve != runs[1].curve
    assert runs[1].curve[0]["learning_rate"] == 0.002
    assert_same(runs[0], train([lane(0), lane(1)])[0])


def test_a_model_with_moving_averages_trains_and_predicts() -> None:
    runs = train([lane(seed, cnn) for seed in range(3)], shared_of(cnn))
    for run in runs.values():
        model = cnn(0)
        model.set_weights([np.asarray(value) for value in run.weights or []])
        assert run.curve[-1]["val_accuracy"] > 0.5
    outputs = engine.predict(
        shared_of(cnn), [run.weights or [] for run in runs.values()], IMAGES[:90], width=2, block=40
    )
    assert outputs.shape == (3, 90, 10)
    np.testing.assert_allclose(outputs[-1], model.predict(IMAGES[:90], verbose=0), atol=1e-5)


def test_convolutions_as_patches_train_as_those_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    def curve() -> list[dict[str, float]]:
        return train([lane(seed, cnn) for seed in range(2)], programs.Shared(cnn(0), keras.optimizers.Adam()))[1].curve

    monkeypatch.setattr(forms, "_is_plain_dropout", lambda layer: False)  # its masks are others than Keras's
    found = curve()
    monkeypatch.setattr(programs, "_programs", {})  # of this process, which have the same key
    monkeypatch.setattr(programs, "patched", lambda model, forms: contextlib.nullcontext())
    for row, expected in zip(found, curve(), strict=True):
        assert row == pytest.approx(expected, rel=1e-3)


def test_patches_and_pairs_give_the_values_and_gradients_of_keras() -> None:
    model = keras.Sequential(
        [
            layers.Input((9, 11, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(5, (2, 3), padding="same", strides=2),
            layers.Conv2D(3, 2, dilation_rate=2, padding="same"),
        ]
    )
    images = np.random.default_rng(0).integers(0, 3, (6, 9, 11, 1)).astype(np.float32)  # with many equal maxima

    def total(trainable, images):  # type: ignore[no-untyped-def]
        return (model.stateless_call(trainable, [], images)[0] ** 2).sum()

    values = [v.value for v in model.trainable_variables]
    expected = jax.value_and_grad(total, argnums=(0, 1))(values, images)
    with forms.patched(model, forms.TODAY):
        found = jax.value_and_grad(total, argnums=(0, 1))(values, images)
        text = str(jax.make_jaxpr(total)(values, images))
    assert "reduce_window" not in text
    assert text.count("conv_general_dilated[") == 1  # the dilated one stays
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), found, expected)


SHIFTS, SHORT = forms.Forms(first_as_shifts=True), forms.Forms(short_patches=True)


def gradients(model: keras.Model, form: forms.Forms | None, lanes: Any, images: np.ndarray) -> Any:
    """Of the sum of squares of the outputs of each lane, with its value; None is for Keras's own layers."""

    def total(trainable, images):  # type: ignore[no-untyped-def]
        outputs = model.stateless_call(trainable, [], images)[0]
        return (outputs.astype("float32") ** 2).sum(), outputs

    with forms.patched(model, form) if form else contextlib.nullcontext():
        return jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True), (0, None)))(lanes, images)


def two_lanes(model: keras.Model) -> list[np.ndarray]:
    """Weights in quarters: products with integers are exact, so that equal maxima are equal in every form."""
    rng = np.random.default_rng(0)
    return [rng.integers(-4, 5, (2, *v.shape)).astype(np.float32) / 4 for v in model.trainable_variables]


@pytest.mark.parametrize(("padding", "channels", "pooled"), [("valid", 1, True), ("same", 3, True), ("same", 1, False)])
def test_a_first_convolution_as_shifts_gives_the_values_and_gradients_of_keras(
    padding: str, channels: int, pooled: bool
) -> None:
    behind = [layers.MaxPooling2D()] if pooled else []
    first = layers.Conv2D(4, (3, 2), padding=padding, activation="relu")
    model = keras.Sequential([layers.Input((9, 11, channels)), first, *behind, layers.Conv2D(2, 2)])
    images = np.random.default_rng(0).integers(0, 3, (6, 9, 11, channels)).astype(np.float32)
    lanes = two_lanes(model)
    expected, found = gradients(model, None, lanes, images), gradients(model, SHIFTS, lanes, images)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-4), found, expected)


def test_shifts_of_bfloat16_differ_from_keras_in_float32_by_rounding() -> None:
    def model(dtype: str) -> keras.Model:
        first = layers.Conv2D(4, 3, activation="relu", dtype=dtype)
        return keras.Sequential([layers.Input((8, 8, 1)), first, layers.MaxPooling2D(dtype=dtype)])

    images = np.random.default_rng(0).integers(0, 3, (6, 8, 8, 1)).astype(np.float32)
    short, lanes = model("mixed_bfloat16"), two_lanes(model("float32"))
    expected, found = gradients(model("float32"), None, lanes, images), gradients(short, SHIFTS, lanes, images)
    assert found[0][1].dtype == "bfloat16"
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x.astype("float32"), y, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("before", "settings", "channels"),
    [
        ([], {"activation": "relu"}, 4),
        ([], {"activation": "relu", "strides": 2}, 1),
        ([], {"activation": "relu", "use_bias": False}, 1),
        ([], {"activation": "elu"}, 1),
        ([layers.Dense(1)], {"activation": "relu"}, 1),  # it needs the gradient of the convolution's inputs
    ],
)
def test_other_first_convolutions_are_not_computed_as_shifts(
    before: list[keras.Layer], settings: dict[str, Any], channels: int
) -> None:
    def found(*stack: keras.Layer) -> Any:
        return forms.first_convolution(keras.Sequential([layers.Input((8, 8, channels)), *stack]))

    assert found(*before, layers.Conv2D(2, 3, **settings)) is None
    if channels == 1:
        plain, pooling = layers.Conv2D(2, 3, activation="relu"), layers.MaxPooling2D()
        assert found(layers.Rescaling(2.0), plain, pooling) == (plain, pooling)


def test_patches_of_16_bits_give_the_values_and_gradients_of_keras_in_lanes_of_any_magnitude() -> None:
    def of_lanes(convolution):  # type: ignore[no-untyped-def]
        def one(inputs, kernel, gradient):  # type: ignore[no-untyped-def]
            outputs, transposed = jax.vjp(lambda x, k: convolution(x, k, (2, 1), "same"), inputs, kernel)
            return outputs, *transposed(gradient)

        return jax.jit(jax.vmap(one))(*arguments)

    rng = np.random.default_rng(0)
    sizes = np.array([1e-3, 1, 1e6, 1e30]).reshape(4, 1, 1, 1, 1)
    inputs, kernel = rng.normal(size=(4, 4, 9, 8, 3)) * sizes, rng.normal(size=(4, 3, 3, 3, 5)) / 5
    arguments = [value.astype(np.float32) for value in (inputs, kernel, rng.normal(size=(4, 4, 5, 8, 5)))]
    found, expected = of_lanes(patches.convolve_short), of_lanes(keras.ops.conv)
    for values, others, tolerance in zip(found, expected, (2e-3, 1e-2, 1e-2), strict=True):
        for x, y in zip(values, others, strict=True):
            assert np.isfinite(x).all()
            np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())


@pytest.mark.parametrize(("form", "tolerance"), [(SHIFTS, 1e-3), (SHORT, 1e-2)])
def test_each_form_trains_as_todays(form: forms.Forms, tolerance: float) -> None:
    def build(seed: int) -> keras.Model:
        kernels = [keras.initializers.GlorotUniform(3 * seed + i) for i in range(3)]
        return keras.Sequential(
            [
                layers.Input((8, 8), dtype="uint8"),
                layers.Rescaling(1 / 16, dtype="float32"),
                layers.Reshape((8, 8, 1)),
                layers.Conv2D(4, 3, activation="relu", kernel_initializer=kernels[0]),
                layers.MaxPooling2D(),
                layers.Conv2D(8, 2, activation="relu", kernel_initializer=kernels[1]),
                layers.Flatten(),
                layers.Dense(10, "softmax", kernel_initializer=kernels[2]),
            ]
        )

    def losses(form: forms.Forms) -> list[float]:
        lanes, whole = [lane(seed, build, validation=0) for seed in range(2)], 20 * BATCH  # one program
        runs = engine.train(shared_of(build, forms=form), lanes, IMAGES[:whole], LABELS[:whole], batch_size=BATCH)
        return [row["loss"] for row in dict(runs)[1].curve]

    todays, before = losses(forms.TODAY), len(programs._programs)
    found = losses(form)
    assert len(programs._programs) > before  # which are not those of today's form
    assert found == pytest.approx(todays, rel=tolerance)


@pytest.mark.parametrize("rate", [0.25, 0.3])
def test_dropout_drops_its_share_of_values_and_scales_the_others(rate: float) -> None:
    dropped = patches.drop(jax.numpy.ones((501, 301)), rate, jax.random.key_data(jax.random.key(0)))
    assert float((dropped == 0).mean()) == pytest.approx(rate, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
    other = patches.drop(jax.numpy.ones((501, 301)), rate, jax.random.key_data(jax.random.key(1)))
    assert float(((dropped == 0) == (other == 0)).mean()) == pytest.approx(rate**2 + (1 - rate) ** 2, abs=0.01)


def test_augmentation_has_its_own_draws_in_each_lane_and_step() -> None:
    def shift(images, key):  # type: ignore[no-untyped-def]
        return jax.numpy.roll(images, jax.random.randint(key, (), -2, 3), axis=2)

    lanes = [lane(0), lane(1)]
    runs = train(lanes, shared_of(augment=shift, augment_name="shift"), width=2, narrowest=2)
    assert runs[0].curve != train(lanes, width=2, narrowest=2)[0].curve
    assert_same(runs[1], train([lanes[1]], shared_of(augment=shift, augment_name="shift"), width=2, narrowest=2)[0])


def test_the_learning_rate_may_change_from_step_to_step() -> None:
    constant = lane(0)
    stepped = dataclasses.replace(constant, rates=lambda epoch, steps: np.full(steps, 0.01))
    falling = dataclasses.replace(constant, rates=lambda epoch, steps: np.linspace(0.01, 0.001, steps))
    runs = train([constant, stepped, falling])
    assert_same(runs[1], runs[0])
    assert runs[2].curve[0]["loss"] != runs[0].curve[0]["loss"]
    assert runs[2].curve[0]["learning_rate"] == pytest.approx(0.001)


def test_a_moving_average_of_the_weights_is_validated_and_kept() -> None:
    shared = programs.Shared(mlp(0), keras.optimizers.Adam(use_ema=True, ema_momentum=0.99))
    averaged, last = train([lane(0)], shared)[0], train([lane(0)])[0]
    assert averaged.curve[0]["loss"] == pytest.approx(last.curve[0]["loss"], rel=1e-5)
    assert averaged.curve[0]["val_loss"] > last.curve[0]["val_loss"]  # it lags behind at first
    model = mlp(0)
    model.set_weights([np.asarray(value) for value in averaged.weights or []])
    model.compile(loss="sparse_categorical_crossentropy")
    validation = lane(0).validation
    assert validation is not None
    assert model.evaluate(IMAGES[validation], LABELS[validation], verbose=0) == pytest.approx(
        averaged.curve[-1]["val_loss"], rel=1e-4
    )


def test_validation_splits_of_different_sizes_are_refused() -> None:
    with pytest.raises(UserError, match=r"validation splits .* the same size; received \[90, 100\]"):
        train([lane(0), lane(1, validation=90)])


def test_every_image_of_an_epoch_is_trained_on_once() -> None:
    assert programs.epoch_plan(60_000, 32) == [programs.Stretch(125, 32, 15)]
    assert programs.epoch_plan(48_000, 32) == [programs.Stretch(125, 32, 12)]
    assert programs.epoch_plan(48_000, 512) == [programs.Stretch(93, 512, 1), programs.Stretch(1, 384, 1)]
    for images, size in ((60_000, 64), (7, 10), (10, 10), (1_438, 32), (149 * 8, 8), (997 * 8 + 3, 8)):
        plan = programs.epoch_plan(images, size)
        assert sum(part.steps * part.size * part.repeats for part in plan) == images
        assert len(plan) <= 3


def test_out_of_memory_halves_the_width_and_restarts_the_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.Batch.train_epoch
    widths = []

    def short(batch):  # type: ignore[no-untyped-def]
        widths.append(batch.width)
        if batch.width > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return whole(batch)

    monkeypatch.setattr(engine.Batch, "train_epoch", short)
    runs = train([lane(seed) for seed in range(4)])
    assert sorted(runs) == [0, 1, 2, 3]
    assert widths[:2] == [4, 2]

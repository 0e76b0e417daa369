import keras
import numpy as np
import pytest

from stages.train.network import build_network

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

DENSE = {
    **{"filters": [], "pool": [], "conv_dropout": [], "units": [8], "dropout": 0.5},
    **{"initializer": "glorot_uniform", "precision": "float32"},
}
CONVOLUTIONAL = {**DENSE, "filters": [4, 6], "pool": [False, True], "conv_dropout": [0.0, 0.25]}


def test_a_recipe_becomes_its_layers_in_order() -> None:
    model = build_network(**CONVOLUTIONAL, seed=0)  # type: ignore[arg-type]
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        *["Rescaling", "Reshape", "Conv2D", "Conv2D", "MaxPooling2D", "Dropout", "Flatten"],
        *["Dense", "Dropout", "Dense"],
    ]
    # 28 - 2 - 2 = 24, halved by the pool to 12.
    shapes = [tuple(weight.shape) for weight in model.weights]
    assert shapes == [(3, 3, 1, 4), (4,), (3, 3, 4, 6), (6,), (12 * 12 * 6, 8), (8,), (8, 10), (10,)]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.25, 0.5]


def test_the_reference_networks_of_2020_have_their_number_of_weights() -> None:
    """784·512 + 512 + 512·10 + 10; and 320 + 18,496 + 12·12·64·128 + 128 + 1,290."""
    assert build_network(**{**DENSE, "units": [512]}, seed=0).count_params() == 407_050  # type: ignore[arg-type]
    cnn = build_network(**{**CONVOLUTIONAL, "filters": [32, 64], "units": [128]}, seed=0)  # type: ignore[arg-type]
    assert cnn.count_params() == 1_199_882


def test_grey_values_become_probabilities() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    model = build_network(**DENSE, seed=0)  # type: ignore[arg-type]
    outputs = keras.ops.convert_to_numpy(model(images))
    assert outputs.shape == (5, 10)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    # By hand: pixels / 255, a ReLU layer, a softmax.
    first, first_bias, last, last_bias = model.get_weights()
    hidden = np.maximum(images.reshape(5, -1) / 255 @ first + first_bias, 0)
    powers = np.exp(hidden @ last + last_bias)
    np.testing.assert_allclose(outputs, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)


def test_the_seed_alone_decides_the_weights() -> None:
    keras.utils.set_random_seed(1)
    once = build_network(**CONVOLUTIONAL, seed=3).get_weights()  # type: ignore[arg-type]
    keras.utils.set_random_seed(2)
    twice = build_network(**CONVOLUTIONAL, seed=3).get_weights()  # type: ignore[arg-type]
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_seed_alone_decides_what_drops_out() -> None:
    images = np.full((4, 28, 28), 255, np.uint8)

    def dropped(seed: int) -> np.ndarray:
        model = build_network(**DENSE, seed=seed)  # type: ignore[arg-type]
        model.set_weights([np.ones_like(weight) / 784 for weight in model.get_weights()])
        layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
        return keras.ops.convert_to_numpy(layer(np.ones((4, 50), np.float32), training=True)) + 0 * images[0, 0, 0]

    keras.utils.set_random_seed(1)
    once = dropped(3)
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(dropped(3), once)
    assert not np.array_equal(dropped(4), once)


def test_two_seeds_have_different_weights_in_every_layer() -> None:
    one = build_network(**CONVOLUTIONAL, seed=0).get_weights()  # type: ignore[arg-type]
    other = build_network(**CONVOLUTIONAL, seed=1).get_weights()  # type: ignore[arg-type]
    for a, b in zip(one[::2], other[::2], strict=True):  # kernels; all biases start at 0
        assert not np.array_equal(a, b)


def test_no_two_layers_of_a_network_draw_the_same_numbers() -> None:
    first, _, second, _, _, _ = build_network(
        **{**DENSE, "units": [784, 784], "initializer": "normal"},  # type: ignore[arg-type]
        seed=0,
    ).get_weights()
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("initializer", "sd", "bounded"),
    [
        # Glorot: variance 2 / (784 + 400); uniform within ±sqrt(3) sd, normal cut off at about 2.3 sd.
        ("glorot_uniform", np.sqrt(2 / 1184), 1.7321),
        ("glorot_normal", np.sqrt(2 / 1184), 2.28),
        ("normal", 0.05, None),
    ],
)
def test_kernels_start_with_the_spread_of_their_initializer(initializer: str, sd: float, bounded: float | None) -> None:
    recipe = {**DENSE, "units": [400], "initializer": initializer}
    kernel, bias, _, _ = build_network(**recipe, seed=0).get_weights()  # type: ignore[arg-type]
    np.testing.assert_allclose(kernel.std(), sd, rtol=0.01)
    assert not bias.any()
    largest = np.abs(kernel).max() / sd
    assert largest <= bounded if bounded else largest > 4


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights_and_outputs() -> None:
    model = build_network(**{**CONVOLUTIONAL, "precision": "mixed_bfloat16"}, seed=0)  # type: ignore[arg-type]
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)} == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model(np.zeros((1, 28, 28), np.uint8)).dtype == "float32"


def test_a_rate_of_zero_adds_no_dropout() -> None:
    model = build_network(**{**CONVOLUTIONAL, "conv_dropout": [0.0, 0.0], "dropout": 0.0}, seed=0)  # type: ignore[arg-type]
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]

from typing import Any

import keras
import numpy as np
import pytest

from many_seeds.errors import UserError
from stages.recipes.shared.models import layer_seeds
from tests.support.recipes import network

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

CONVOLUTIONAL: dict[str, Any] = {
    "filters": [4, 6],
    "pool": [False, True],
    "conv_dropout": [0.0, 0.25],
    "dropout": 0.5,
}


def built(seed: int = 0, shape: tuple[int, ...] = (28, 28), classes: int = 10, **fields: Any) -> keras.Sequential:
    return network(**fields).build(shape, classes, layer_seeds(seed))


def layers(model: keras.Sequential, kind: type) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_a_recipe_becomes_its_layers_in_order() -> None:
    model = built(**CONVOLUTIONAL)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        *["Rescaling", "Reshape", "Conv2D", "Conv2D", "MaxPooling2D", "Dropout", "Flatten"],
        *["Dense", "Dropout", "Dense"],
    ]
    # 28 - 2 - 2 = 24, halved by the pool to 12.
    shapes = [tuple(weight.shape) for weight in model.weights]
    assert shapes == [(3, 3, 1, 4), (4,), (3, 3, 4, 6), (6,), (12 * 12 * 6, 8), (8,), (8, 10), (10,)]
    assert [layer.rate for layer in layers(model, keras.layers.Dropout)] == [0.25, 0.5]


def test_the_reference_networks_of_2020_have_their_number_of_weights() -> None:
    """784·512 + 512 + 512·10 + 10; and 320 + 18,496 + 12·12·64·128 + 128 + 1,290."""
    assert built(units=[512]).count_params() == 407_050
    assert built(**{**CONVOLUTIONAL, "filters": [32, 64]}, units=[128]).count_params() == 1_199_882


def test_the_size_the_colours_and_the_classes_are_those_of_the_data() -> None:
    model = built(shape=(12, 9, 3), classes=4, **CONVOLUTIONAL)
    # 12 - 2 - 2 = 8 and 9 - 2 - 2 = 5, halved to 4 and 2.
    shapes = [tuple(weight.shape) for weight in model.weights]
    assert shapes == [(3, 3, 3, 4), (4,), (3, 3, 4, 6), (6,), (4 * 2 * 6, 8), (8,), (8, 4), (4,)]
    assert model(np.zeros((2, 12, 9, 3), np.uint8)).shape == (2, 4)


def test_grey_values_become_probabilities() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    model = built()
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
    once = built(3, **CONVOLUTIONAL).get_weights()
    keras.utils.set_random_seed(2)
    twice = built(3, **CONVOLUTIONAL).get_weights()
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_seed_alone_decides_what_drops_out() -> None:
    def dropped(seed: int) -> np.ndarray:
        [layer] = layers(built(seed, dropout=0.5), keras.layers.Dropout)
        return keras.ops.convert_to_numpy(layer(np.ones((4, 50), np.float32), training=True))

    keras.utils.set_random_seed(1)
    once = dropped(3)
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(dropped(3), once)
    assert not np.array_equal(dropped(4), once)


def test_two_seeds_have_different_weights_in_every_layer() -> None:
    one, other = (built(seed, **CONVOLUTIONAL).get_weights() for seed in (0, 1))
    for a, b in zip(one[::2], other[::2], strict=True):  # kernels; all biases start at 0
        assert not np.array_equal(a, b)


def test_no_two_layers_of_a_network_draw_the_same_numbers() -> None:
    first, _, second, _, _, _ = built(units=[784, 784], initializer="normal").get_weights()
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
    kernel, bias, _, _ = built(units=[400], initializer=initializer).get_weights()
    np.testing.assert_allclose(kernel.std(), sd, rtol=0.01)
    assert not bias.any()
    largest = np.abs(kernel).max() / sd
    assert largest <= bounded if bounded else largest > 4


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights_and_outputs() -> None:
    model = built(**CONVOLUTIONAL, precision="mixed_bfloat16")
    assert {layer.compute_dtype for layer in layers(model, keras.layers.Conv2D)} == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model(np.zeros((1, 28, 28), np.uint8)).dtype == "float32"


def test_a_rate_of_zero_adds_no_dropout() -> None:
    model = built(filters=[4, 6], pool=[False, True], conv_dropout=[0.0, 0.0], dropout=0.0)
    assert not layers(model, keras.layers.Dropout)


def test_each_convolution_has_its_kernel_size_and_padding_keeps_the_size_of_the_image() -> None:
    model = built(**CONVOLUTIONAL, kernel_size=[5, 1], padding="same")
    kernels = [tuple(layer.kernel.shape[:2]) for layer in layers(model, keras.layers.Conv2D)]
    assert kernels == [(5, 5), (1, 1)]
    [flat] = layers(model, keras.layers.Flatten)
    assert flat.output.shape == (None, 14 * 14 * 6)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        # At -1 and 1.
        ("relu", [0, 1]),
        ("elu", [np.expm1(-1), 1]),
        ("silu", [-1 / (1 + np.e), 1 / (1 + np.exp(-1))]),
        ("tanh", [-np.tanh(1), np.tanh(1)]),
        ("leaky_relu", [-0.2, 1]),
        ("selu", [1.0507 * 1.67326 * np.expm1(-1), 1.0507]),
        ("gelu", [-0.158655, 0.841345]),
    ],
)
def test_hidden_layers_have_the_activation_asked_for(activation: str, expected: list[float]) -> None:
    [hidden, _] = layers(built(units=[8], activation=activation), keras.layers.Dense)
    found = keras.ops.convert_to_numpy(hidden.activation(keras.ops.convert_to_tensor([-1.0, 1.0])))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_batch_normalisation_stands_between_each_hidden_layer_and_its_activation() -> None:
    model = built(**CONVOLUTIONAL, batch_norm=True)
    kinds = [type(layer).__name__ for layer in model.layers]
    normed = ["BatchNormalization", "Activation"]
    assert kinds == [
        *["Rescaling", "Reshape", "Conv2D", *normed, "Conv2D", *normed, "MaxPooling2D", "Dropout", "Flatten"],
        *["Dense", *normed, "Dropout", "Dense"],
    ]
    assert not any(layer.use_bias for layer in model.layers[2:-1] if hasattr(layer, "use_bias"))
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28), dtype=np.uint8)
    normalised = keras.Model(model.inputs[0], model.get_layer("dense_1_norm").output)(images, training=True)
    outputs = keras.ops.convert_to_numpy(normalised)
    np.testing.assert_allclose(outputs.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(outputs.std(axis=0), 1, atol=0.05)


def test_convolutions_that_leave_no_pixel_are_refused_with_the_size_of_the_images() -> None:
    deep: dict[str, Any] = {"filters": [2] * 4, "pool": [True] * 4, "conv_dropout": [0.0] * 4}
    with pytest.raises(UserError, match=r"4 convolutions with kernel_size 3 .* leave nothing of 28x28 pixels"):
        built(**deep)
    assert built(**deep, padding="same").output_shape == (None, 10)


def test_more_multiplications_are_expected_of_what_has_more() -> None:
    # 26·26 places · 9 weights · 1 channel · 4 filters; 13·13·4 pooled pixels · 8 units.
    small = network(filters=[4], pool=[True], conv_dropout=[0.0])
    assert small.multiplications((28, 28)) == 26 * 26 * 9 * 4 + 13 * 13 * 4 * 8
    assert small.multiplications((28, 28, 3)) == 26 * 26 * 9 * 3 * 4 + 13 * 13 * 4 * 8
    same = network(filters=[4], pool=[False], conv_dropout=[0.0], padding="same", kernel_size=5)
    assert same.multiplications((10, 12)) == 10 * 12 * 25 * 4 + 10 * 12 * 4 * 8

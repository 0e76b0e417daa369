import keras
import numpy as np
import pytest
from pydantic import ValidationError

from many_seeds.errors import UserError
from stages.recipes.shared.optimizers import ADAM, Optimizer, build

pytestmark = pytest.mark.usefixtures("tensorflow_ready")


def after_two_steps(optimizer: keras.Optimizer, start: float = 1.0, gradient: float = 2.0) -> float:
    optimizer.learning_rate = 0.1
    weight = keras.Variable([start])
    for _ in range(2):
        optimizer.apply([keras.ops.convert_to_tensor([gradient])], [weight])
    return float(keras.ops.convert_to_numpy(weight)[0])


def test_gradient_descent_has_its_momentum_as_worked_by_hand() -> None:
    assert after_two_steps(build(Optimizer(name="sgd"), 0.0)) == pytest.approx(1 - 0.2 - 0.2)
    # Velocities -0.2 and 0.9 · -0.2 - 0.2.
    momentum = Optimizer(name="sgd", momentum=0.9)  # type: ignore[call-arg]
    assert after_two_steps(build(momentum, 0.0)) == pytest.approx(1 - 0.2 - 0.38)
    # Nesterov: each step is 0.9 times the new velocity, and a step of its own.
    nesterov = Optimizer(name="sgd", momentum=0.9, nesterov=True)  # type: ignore[call-arg]
    assert after_two_steps(build(nesterov, 0.0)) == pytest.approx(1 - (0.18 + 0.2) - (0.9 * 0.38 + 0.2))


def test_weight_decay_shrinks_the_weights_by_its_share_of_the_rate() -> None:
    plain, decayed = (build(Optimizer(name=name), 0.0) for name in ("adam", "adamw"))
    assert decayed.weight_decay == 0.004
    shrunk = build(Optimizer(name="adamw", weight_decay=0.5), 0.0)  # type: ignore[call-arg]
    one = after_two_steps(plain, start=10.0)
    # Each step takes 0.1 of Adam's and 0.1 · 0.5 of the weight: 10 → 9.5 - 0.1 → 0.95 · 9.4 - 0.1.
    assert one == pytest.approx(9.8, rel=1e-5)
    assert after_two_steps(shrunk, start=10.0) == pytest.approx(0.95 * (0.95 * 10 - 0.1) - 0.1, rel=1e-5)


def test_whatever_keras_has_is_an_optimizer_by_its_name() -> None:
    for name in ("sgd", "rmsprop", "adamw", "lion", "nadam", "adafactor"):
        assert type(build(Optimizer(name=name), 0.0)).__name__.lower() == name
    assert isinstance(build(ADAM, 0.0), keras.optimizers.Adam)


def test_adam_is_computed_in_one_kernel_which_has_no_amsgrad() -> None:
    assert type(build(ADAM, 0.0)).__name__ == "FusedAdam"
    assert type(build(Optimizer(name="adam", amsgrad=True), 0.0)) is keras.optimizers.Adam  # type: ignore[call-arg]


def test_the_fused_adam_takes_adams_arguments() -> None:
    ours = build(Optimizer(name="adam", beta_1=0.5, weight_decay=0.1, clipnorm=1.0), 0.0)  # type: ignore[call-arg]
    theirs = keras.optimizers.Adam(beta_1=0.5, weight_decay=0.1, clipnorm=1.0)
    assert after_two_steps(ours) == pytest.approx(after_two_steps(theirs), rel=1e-5)


def test_a_moving_average_is_the_optimizers_to_keep() -> None:
    assert build(ADAM, 0.99).use_ema
    assert build(ADAM, 0.99).ema_momentum == 0.99
    assert not build(ADAM, 0.0).use_ema


def test_an_unknown_optimizer_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"optimizer\.name should be one of .*adam, adamax, adamw,.* received 'adamm'"):
        build(Optimizer(name="adamm"), 0.0)


def test_an_unknown_argument_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match=r"optimizer sgd: .*beta_1.*documentation"):
        build(Optimizer(name="sgd", beta_1=0.5), 0.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("learning_rate", 0.1, "learning_rate is not an argument here"),
        ("use_ema", True, "use_ema is not an argument here: learning_rate and average are fields"),
        ("momentum", "high", "momentum should be a number, true, false or null, received 'high'"),
    ],
)
def test_an_argument_that_is_a_field_elsewhere_or_no_plain_value_is_refused(
    argument: str, value: object, said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        Optimizer.model_validate({"name": "sgd", argument: value})


def test_a_momentum_that_keras_refuses_is_an_error_with_its_words() -> None:
    with pytest.raises(UserError, match=r"optimizer sgd: .*momentum"):
        build(Optimizer(name="sgd", momentum=2.0), 0.0)  # type: ignore[call-arg]


def test_the_default_is_adam_with_keras_arguments() -> None:
    theirs = keras.optimizers.Adam()
    ours = build(ADAM, 0.0)
    assert np.isclose(ours.beta_1, theirs.beta_1)
    assert (ours.beta_2, ours.epsilon, ours.weight_decay) == (theirs.beta_2, theirs.epsilon, theirs.weight_decay)

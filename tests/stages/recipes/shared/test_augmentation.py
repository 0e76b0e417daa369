from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from stages.recipes.shared import augmentation
from stages.recipes.shared.augmentation import Augment, Augmenter

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 9, 12), dtype=np.uint8)


def changed(images: np.ndarray, seed: int = 0, **augment: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(Augmenter(Augment(**augment), images.shape[1:3], seed)(images))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a share of the limit, from -1 to 1, drawn for each change; in the order in which they are drawn."""

    def draw(*shares: float) -> None:
        left = list(shares)

        def uniform(self: Augmenter, count: Any, limit: float) -> Any:
            return keras.ops.full((count, 1, 1), left.pop(0) * limit) if limit else 0.0

        monkeypatch.setattr(Augmenter, "_uniform", uniform)

    return draw


@pytest.mark.parametrize("images", [IMAGES, np.stack([IMAGES, 255 - IMAGES, IMAGES // 2], axis=3)], ids=["grey", "rgb"])
def test_nothing_to_change_changes_nothing(images: np.ndarray) -> None:
    np.testing.assert_array_equal(changed(images), images, strict=True)


def test_a_shift_by_whole_pixels_moves_them_and_repeats_the_edge(drawn: Callable[..., None]) -> None:
    drawn(0.5, -1.0)  # down by 1 of 2, left by 2 in the original: so what is shown goes up and right
    found = changed(IMAGES, shift=2)
    np.testing.assert_array_equal(found[:, :-1, 2:], IMAGES[:, 1:, :-2])
    np.testing.assert_array_equal(found[:, -1, 2:], IMAGES[:, -1, :-2])
    np.testing.assert_array_equal(found[:, :-1, 0], IMAGES[:, 1:, 0])


def test_a_shift_by_half_a_pixel_is_the_mean_of_two(drawn: Callable[..., None]) -> None:
    drawn(0.0, 0.5)
    found = changed(IMAGES, shift=1)
    middle = (IMAGES[:, :, :-1].astype(float) + IMAGES[:, :, 1:]) / 2
    assert np.abs(found[:, :, :-1] - middle).max() <= 0.5  # but for rounding


def test_a_quarter_turn_is_a_quarter_turn(drawn: Callable[..., None]) -> None:
    square = IMAGES[:, :, :9]
    drawn(1.0)
    turned = changed(square, rotation=90)
    drawn(-1.0)
    other_way = changed(square, rotation=90)
    found = [[bool(np.abs(each.astype(int) - np.rot90(square, k, axes=(1, 2))).max() <= 1) for k in (1, 3)]
             for each in (turned, other_way)]  # fmt: skip
    assert found in ([[True, False], [False, True]], [[False, True], [True, False]])


def test_a_zoom_reads_the_middle_of_the_image(drawn: Callable[..., None]) -> None:
    drawn(-1.0, -1.0)
    found = changed(IMAGES[:, :, :9], zoom=0.5)  # what is shown is read from half as far from the middle
    np.testing.assert_array_equal(found[:, 0::2, 0::2], IMAGES[:, 2:7, 2:7])


def test_a_shear_slides_the_rows_by_their_distance_from_the_middle(drawn: Callable[..., None]) -> None:
    image = np.zeros((1, 9, 9), np.uint8)
    image[0, :, 4] = 200
    drawn(1.0)
    found = changed(image, shear=45)[0]
    moved = [int(row.argmax()) if row.any() else None for row in found]
    assert moved[4] == 4
    assert moved in (list(range(9)), list(range(8, -1, -1)))


def test_a_flip_changes_left_and_right_in_half_of_the_images() -> None:
    many = np.repeat(IMAGES[:1], 200, axis=0)
    found = changed(many, flip=True)
    flipped = (found == many[0, :, ::-1]).all(axis=(1, 2))
    same = (found == many[0]).all(axis=(1, 2))
    assert (flipped | same).all()
    assert 70 < flipped.sum() < 130


def displacement(**augment: Any) -> np.ndarray:
    """How far the pixels of 200 images of 40x40 are read from their own place, [200, 2, 40, 40]."""
    augmenter = Augmenter(Augment(**augment), (40, 40), 0)
    places = [keras.ops.convert_to_numpy(place) for place in augmenter._coordinates(200)]
    own = np.broadcast_to(np.arange(40.0)[:, None], (40, 40)), np.broadcast_to(np.arange(40.0), (40, 40))
    return np.stack([place - mine for place, mine in zip(places, own, strict=True)], axis=1)


def test_an_elastic_distortion_has_the_spread_asked_for_and_is_smooth() -> None:
    moved = displacement(elastic=2.0, elastic_knots=7.0)
    np.testing.assert_allclose(moved.std(axis=(0, 1)).mean(), 2.0, rtol=0.05)
    steps = np.abs(np.diff(moved, axis=3))
    assert steps.mean() < 0.2 * 2.0
    # Of independent draws, neighbours would differ by 1.13 standard deviations.
    assert np.abs(np.diff(displacement(elastic=2.0, elastic_knots=20.0), axis=3)).mean() < steps.mean() / 2


def test_changes_stay_within_their_limits_and_reach_them() -> None:
    moved = displacement(shift=3.0)
    assert 2.9 < np.abs(moved).max() <= 3.0
    assert abs(moved.mean()) < 0.4


def test_every_image_and_every_batch_is_changed_in_its_own_way() -> None:
    augmenter = Augmenter(Augment(shift=2, rotation=15, zoom=0.1, shear=10, elastic=1), (9, 12), 0)
    same = np.repeat(IMAGES[:1], 50, axis=0)
    batches = [keras.ops.convert_to_numpy(augmenter(same)) for _ in range(2)]
    assert len({image.tobytes() for batch in batches for image in batch}) == 100


def test_the_seed_alone_decides_the_changes() -> None:
    every: dict[str, Any] = {"shift": 2, "rotation": 15, "zoom": 0.1, "shear": 10, "flip": True, "elastic": 1}
    keras.utils.set_random_seed(1)
    once = changed(IMAGES, seed=3, **every)
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(changed(IMAGES, seed=3, **every), once)
    assert not np.array_equal(changed(IMAGES, seed=4, **every), once)


def test_the_colours_of_a_pixel_move_together(drawn: Callable[..., None]) -> None:
    rgb = np.stack([IMAGES, 255 - IMAGES, IMAGES // 2], axis=3)
    drawn(0.3, 0.7, -0.4)
    found = changed(rgb, rotation=30, shift=2)
    drawn(0.3, 0.7, -0.4)
    np.testing.assert_array_equal(found[..., 0], changed(IMAGES, rotation=30, shift=2))
    assert np.abs(found[..., 0].astype(int) + found[..., 1] - 255).max() <= 1


def test_the_spline_of_independent_knots_has_variance_one_everywhere() -> None:
    weights = augmentation._spline(28, 7.0)
    np.testing.assert_allclose((weights**2).sum(axis=1), 1, rtol=1e-6)
    assert weights.shape == (28, 8)  # 27 / 7 spacings, rounded up, and 4 more


@pytest.mark.parametrize("wrong", [{"shift": -1}, {"zoom": 1.0}, {"elastic_knots": 0.0}, {"flip": 1}, {"blur": 1}])
def test_a_change_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Augment(**wrong)

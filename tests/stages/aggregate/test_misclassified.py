import numpy as np

from stages.aggregate.sections import misclassified
from tests.support import study as made


def test_an_image_that_is_hard_for_all_is_among_the_hardest_though_it_is_the_hardest_of_none() -> None:
    # Image 1 is wrong in four runs of six, image 0 and 2 in three each.
    truth = np.zeros(3, np.uint8)
    a = made.variant("a", np.array([[5, 5, 0], [5, 7, 0], [5, 0, 0]], np.uint8), truth, hardest=[0])
    b = made.variant("b", np.array([[0, 7, 3], [0, 7, 3], [0, 0, 3]], np.uint8), truth, hardest=[2])
    table = misclassified.hardest({"a": a, "b": b}, most=2)
    assert table.to_dict("records") == [
        {"image": 1, "truth": "0", "seen": "7", "wrong": 4, "runs": 6},
        {"image": 0, "truth": "0", "seen": "5", "wrong": 3, "runs": 6},
    ]


def test_one_sees_how_many_images_no_seed_gets_right_and_which_labels_are_doubted() -> None:
    # Both seeds miss images 0 and 1; image 1 has a label that is doubted.
    variant = made.variant("a", np.array([[5, 5, 0], [5, 7, 9]], np.uint8), np.zeros(3, np.uint8), hardest=[0, 1, 2])
    assert misclassified.missed_by_all(variant, frozenset()) == "All seeds misclassify 2 of them."
    sentence = "All seeds misclassify 2 of them, 1 with a label (*) that is doubted."
    assert misclassified.missed_by_all(variant, frozenset({1, 8})) == sentence
    titles = [text.get_text() for text in misclassified.misclassified(variant, frozenset({1, 8})).axes[0].texts]
    assert titles == ["0 → 5\n2 of 2", "0 → 5 *\n2 of 2", "0 → 9\n1 of 2"]


def test_confusions_are_counted_by_true_and_predicted_class_as_means_over_the_seeds() -> None:
    truth = np.array([0, 0, 1], np.uint8)
    labels = np.array([[0, 1, 1], [0, 0, 0]], np.uint8)
    variant = made.variant("a", labels, truth, classes=["circle", "square"])
    assert misclassified.confusion_counts(variant).tolist() == [[1.5, 0.5], [0.5, 0.5]]


def test_of_many_classes_the_map_shows_those_that_are_mistaken_most() -> None:
    truth = np.arange(30, dtype=np.uint8)
    labels = truth.copy()
    labels[25] = 3
    names = [f"class {i}" for i in range(30)]
    figure = misclassified.confusion(made.variant("a", labels[None], truth, classes=names))
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(shown) == misclassified.MOST_CLASSES
    assert "class 25" in shown


def test_long_names_of_classes_take_lines_of_their_own() -> None:
    truth, names = np.zeros(2, np.uint8), ["T-shirt/top", "Ankle boot"]
    labels = np.ones((1, 2), np.uint8)
    figure = misclassified.misclassified(made.variant("a", labels, truth, classes=names, hardest=[0, 1]), frozenset())
    assert figure.axes[0].texts[0].get_text() == "T-shirt/t…\n→ Ankle boot\n1 of 1"
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert boxes[0].x1 < boxes[1].x0


def test_images_of_any_size_and_colour_fill_a_gallery() -> None:
    for shape in ((28, 28), (20, 30), (32, 32, 3)):
        figure = misclassified.gallery([np.zeros(shape, np.uint8)] * 7, ["a → b\n1 of 2"] * 7)
        (sheet,) = (image.get_array() for image in figure.axes[0].get_images())
        assert (np.asarray(sheet)[..., 3] == 255).sum() == 7 * shape[0] * shape[1]

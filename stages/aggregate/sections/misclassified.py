"""The misclassified test images: by class, by variant, and by all variants."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

from many_seeds.output.plots import BLUE, INK, WIDTH, drawable, panels, styled
from stages.aggregate.report.parts import Part, Plot, Table, images_of, number, text
from stages.aggregate.runs import Runs, VariantRuns, shared_seeds
from stages.study.params import Params
from stages.study.scores import class_sizes, recalls

HARDEST = 24
MOST_CLASSES = 20
MOST_WITH_COUNTS = 10  # classes of a confusion matrix that has room for numbers
MOST_CONFUSED = 5
# Text in the colour of the page has a contrast of 4.5 on all of these colours, on a light and on a dark page.
ERRORS = LinearSegmentedColormap.from_list("errors", [to_rgba(BLUE, 0), to_rgba(BLUE, 0.7)])
# Test images of which at most two of five annotators agreed with the label: Northcutt, Athalye and Mueller 2021,
# "Pervasive label errors in test sets destabilize machine learning benchmarks", from the answers they published.
DOUBTED = {
    "mnist": frozenset((947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)),
}
DOUBT = "Doubted (*): most annotators disagree with the label (Northcutt et al. 2021)."


def parts(runs: Runs, shown: Sequence[VariantRuns], study: Params) -> list[Part]:
    images, doubted = images_of(study.data.name), DOUBTED.get(study.data.name, frozenset())
    found = [*_recall_parts(shown), *_of_all(runs, images, doubted)]
    for variant in shown:
        caption = f"{variant.variant}: test images by true and predicted class, mean over seeds; colour shows errors."
        if len(variant.classes) > MOST_CLASSES:
            caption += f" Of {len(variant.classes)} classes those {MOST_CLASSES} with the most errors."
        wrong = (variant.predicted != variant.truth).sum(axis=1).mean()
        fold = f"{variant.variant}: {wrong:,.1f} of {len(variant.truth):,} {images} misclassified, mean over seeds"
        plot = confusion(variant)
        found.append(Plot(f"confusion_{variant.variant}", plot, caption, _most_confused(variant), fold=fold))
        if (variant.predicted != variant.truth).any():
            caption = f"{variant.variant}: {images} that most seeds misclassify: true → predicted (seeds)."
            caption += f" {missed_by_all(variant, doubted)}"
            plot = misclassified(variant, doubted)
            titles = (title.get_text().replace("\n", ", ") for title in plot.axes[0].texts)
            found.append(Plot(f"misclassified_{variant.variant}", plot, caption, "; ".join(titles), fold=fold))
    return found


def _recall_parts(shown: Sequence[VariantRuns]) -> list[Part]:
    if not shown:
        return []
    columns = [
        text("class", "class"),
        number("test images", "images"),
        *(number(of.variant, f"{of.variant}_recall", "{:.2f} %", 100) for of in shown),
    ]
    caption = "The share of the test images of each class that is classified correctly, mean over the seeds."
    title = "Recall of each class"
    return [Table("recall", title, caption, recall_table(shown), columns, fold=title)]


def recall_table(variants: Sequence[VariantRuns]) -> pd.DataFrame:
    """A row for each class that occurs in the test set: its images, and the mean recall of each variant."""
    first = variants[0]
    present = np.unique(first.truth)
    table = pd.DataFrame({"class": [first.classes[i] for i in present], "images": class_sizes(first.truth)})
    recall = {f"{of.variant}_recall": recalls(of.predicted, of.truth).mean(axis=0) for of in variants}
    return pd.concat([table, pd.DataFrame(recall)], axis=1)


def _of_all(runs: Runs, images: str, doubted: frozenset[int]) -> list[Part]:
    table = hardest(runs, HARDEST)
    if table.empty:
        return []
    columns = [
        number("test image", "image", "{:.0f}"),
        text("true", "truth"),
        text("most often predicted", "seen"),
        number("runs that are wrong", "wrong"),
        number("of", "runs"),
    ]
    caption = "Misclassified by the most runs, over the seeds that all variants have. Images are numbered from 0."
    if doubted:
        table["label"] = ["doubted" if image in doubted else None for image in table["image"]]
        columns.append(text("label", "label"))
        caption += f" {DOUBT}"
    pixels = _pixels(runs)
    # Of an image that is hard only for all variants together, no variant may have kept the pixels.
    drawn = [row for row in table.itertuples() if row.image in pixels]
    classes = next(iter(runs.values())).classes
    drawable_names, families = drawable(classes)
    names = dict(zip(classes, drawable_names, strict=True))
    titles = [
        f"{_title(names[row.truth], names[row.seen], row.image in doubted)}\n{100 * row.wrong / row.runs:.0f} %"
        for row in drawn
    ]
    figure = gallery([pixels[row.image] for row in drawn], titles, families)
    sentence = f"The hardest {images} of all variants: true → most frequent wrong class (share of runs that are wrong)."
    title = f"The hardest {images}"
    numbers = "; ".join(title.replace("\n", ", ") for title in titles)
    return [
        Table("hardest", title, caption, table, columns, fold=title),
        Plot("hardest", figure, sentence, numbers),
    ]


def _pixels(runs: Runs) -> dict[int, np.ndarray]:
    """The test images whose pixels the results of a variant have, by their index."""
    return {
        int(index): image
        for variant in runs.values()
        for index, image in zip(variant.hardest, variant.hardest_images, strict=True)
    }


def hardest(runs: Runs, most: int) -> pd.DataFrame:
    """The test images that most runs misclassify: image, truth, seen (the most frequent wrong class), wrong, runs."""
    n, first = shared_seeds(runs.values()), next(iter(runs.values()))
    truth, classes = first.truth, first.classes
    predicted = np.concatenate([variant.predicted[:n] for variant in runs.values()])
    wrong = (predicted != truth).sum(axis=0)
    chosen = np.argsort(-wrong, kind="stable")[:most]
    rows = []
    for image in chosen[wrong[chosen] > 0]:
        seen = _most_seen(predicted[:, image], truth[image])
        rows.append(
            {
                "image": int(image),
                "truth": classes[truth[image]],
                "seen": classes[seen],
                "wrong": int(wrong[image]),
                "runs": len(predicted),
            }
        )
    return pd.DataFrame(rows)


def _most_seen(predicted: np.ndarray, truth: int) -> int:
    """The most frequent wrong class; of equally frequent ones the first."""
    return int(np.bincount(predicted[predicted != truth]).argmax())


@styled
def misclassified(variant: VariantRuns, doubted: frozenset[int]) -> Figure:
    """The test images that most seeds misclassify: true class, most frequent wrong class, number of wrong seeds."""
    wrong = (variant.predicted != variant.truth).sum(axis=0)
    shown = [i for i, image in enumerate(variant.hardest[:HARDEST]) if wrong[image] > 0]
    titles, (names, families) = [], drawable(variant.classes)
    for image in variant.hardest[shown]:
        truth = variant.truth[image]
        seen = names[_most_seen(variant.predicted[:, image], truth)]
        title = _title(names[truth], seen, int(image) in doubted)
        titles.append(f"{title}\n{wrong[image]} of {len(variant.seeds)}")
    return gallery(list(variant.hardest_images[shown]), titles, families)


def missed_by_all(variant: VariantRuns, doubted: frozenset[int]) -> str:
    """The number of test images that all seeds misclassify, and how many of them have a doubted label."""
    missed = np.flatnonzero((variant.predicted != variant.truth).all(axis=0)).tolist()
    known = f", {len(doubted.intersection(missed))} with a label (*) that is doubted" if doubted else ""
    return f"All seeds misclassify {len(missed)} of them{known}."


def _title(truth: str, seen: str, doubted: bool) -> str:
    edge = " " if len(truth + seen) <= 12 else "\n"
    return f"{_short(truth)}{edge}→ {_short(seen)}{' *' if doubted else ''}"


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}…"


@styled
def gallery(images: Sequence[np.ndarray], titles: Sequence[str], families: Sequence[str] | None = None) -> Figure:
    """Images uint8 [height, width(, 3)] of one size in rows, each below its title of two or three lines.

    Args:
        images: the images.
        titles: their titles.
        families: the fonts of the titles; None for that of all figures.
    """
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    columns = 6 if lines < 3 else 4
    rows = max(1, -(-len(images) // columns))
    height, width = images[0].shape[:2] if images else (1, 1)
    side = max(height, width)
    place_width, place_height = int(1.25 * side) + 1, int((1.9 if lines < 3 else 2) * side) + 1
    # One pair of axes for all, transparent between the images: one for each takes ten times as long.
    sheet = np.zeros((rows * place_height, columns * place_width, 4), np.uint8)
    figure, axes = panels(WIDTH * sheet.shape[0] / sheet.shape[1])
    ax = axes[0, 0]
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        bottom = (place // columns + 1) * place_height
        left = (place % columns) * place_width + (place_width - width) // 2
        cell = sheet[bottom - height : bottom, left : left + width]
        cell[..., 3] = 255
        cell[..., :3] = image if image.ndim == 3 else 255 - image[..., None]  # grey ones as ink on paper
        middle = left + width / 2
        ax.text(
            middle,
            bottom - height - 1,
            title,
            ha="center",
            va="bottom",
            linespacing=1.1,
            fontfamily=families,
        )
    ax.imshow(sheet)
    ax.set_axis_off()
    return figure


@styled
def confusion(variant: VariantRuns) -> Figure:
    """The confusion matrix, mean over seeds; the diagonal has no colour, and few errors are transparent."""
    counts = confusion_counts(variant)
    shown = np.sort(np.argsort(np.diag(counts) - counts.sum(axis=1), kind="stable")[:MOST_CLASSES])
    all_names, families = drawable(variant.classes)
    counts, names = counts[np.ix_(shown, shown)], [_short(all_names[i]) for i in shown]
    errors = counts.copy()
    np.fill_diagonal(errors, np.nan)
    top = max(np.nanmax(errors), 1)
    figure, axes = panels(3.8)
    ax = axes[0, 0]
    ax.imshow(errors, cmap=ERRORS, vmin=0, vmax=top)
    for (i, j), value in np.ndenumerate(counts):
        if (i == j or value >= 0.05) and len(names) <= MOST_WITH_COUNTS:
            text = f"{value:.0f}" if i == j or value >= 9.95 else f"{value:.1f}"
            drawn = ax.text(j, i, text, ha="center", va="center", color=INK)
            drawn.set_in_layout(False)  # inside of the axes as it is
    rotation = 90 if max(map(len, names)) > 2 else 0
    ax.set_xticks(range(len(names)), names, rotation=rotation, fontfamily=families)
    ax.set_yticks(range(len(names)), names, fontfamily=families)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return figure


def confusion_counts(variant: VariantRuns) -> np.ndarray:
    """The confusion matrix, float [true class, predicted class], mean over seeds."""
    classes = len(variant.classes)
    places = variant.truth.astype(int) * classes + variant.predicted
    return np.bincount(places.ravel(), minlength=classes**2).reshape(classes, classes) / len(variant.seeds)


def _most_confused(variant: VariantRuns) -> str:
    """The classes that are confused most, with the mean number of images."""
    errors, names = confusion_counts(variant), variant.classes
    np.fill_diagonal(errors, 0)
    places = np.argsort(-errors, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [
        (int(true), int(predicted)) for true, predicted in zip(*np.unravel_index(places, errors.shape), strict=True)
    ]
    return "; ".join(f"{names[i]} as {names[j]}: {errors[i, j]:.1f}" for i, j in pairs if errors[i, j])

"""Folders of images: a folder for each class, in one tree or in `train/` and `test/`; and their groups."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from many_seeds.errors import UserError
from many_seeds.output.messages import MAX_LISTED, counted, listed
from stages.split.archive import contents_of
from stages.split.dataset import Dataset, LabeledImages
from stages.split.image_files import decode, header, resize
from stages.split.memory import check_memory
from stages.study.data import Resize

GROUPS = "groups.csv"
COLUMNS = ["file", "group"]


@dataclass(frozen=True)
class Tree:
    """A tree of folders.

    Attributes:
        images: path → image.
        folders: all folders, also empty ones.
        groups: path → group of each image; empty without groups.
    """

    images: dict[PurePosixPath, np.ndarray]
    folders: set[PurePosixPath]
    groups: dict[PurePosixPath, str]


def read(
    files: Mapping[str, Path],
    sources: Mapping[str, str],
    classes: list[str] | None,
    size: Sequence[int] | None = None,
    how: Resize = "fit",
) -> Dataset:
    """The images of one tree of folders, or of one for training and one for testing, with the names of their folders.

    The images are sorted by file name, regardless of their class, in natural order ("9.png" before "10.png"). If some
    are in colour, grey ones are converted to colour. A file groups.csv, with the columns file and group, names the
    group of each image below its folder.

    Args:
        files: train and perhaps test → zip or tar archive of the folders.
        sources: the same parts → the name of the folders in errors.
        classes: the names of the folders in the order of their labels; None for alphabetical order.
        size: the height and width that all images get; None if they have one size already.
        how: how they get it, as in `image_files.resize`.

    Raises:
        UserError: a file is not an image, has another size than the others, or is not in the folder of a class; a class
            has no images; groups.csv does not name each image once; the images do not fit into memory.
    """

    def pixels(content: bytes, name: str) -> np.ndarray:
        image = decode(content, name)
        return image if size is None else resize(image, size, how, name)

    _check_memory(files, sources, size)
    trees = _splits(_tree(files["train"], sources["train"], pixels))
    if "test" in files:
        if "test" in trees:
            raise UserError(f"{sources['train']} contains a folder test/: remove it, or data.test")
        trees["test"] = _within(_tree(files["test"], sources["test"], pixels))
    names = {split: sources.get(split, sources["train"]) for split in trees}
    for split, tree in trees.items():
        _check_layout(tree, names[split])
    found = {split: sorted({folder.name for folder in tree.folders}) for split, tree in trees.items()}
    known = _class_names(found, names, classes)
    _check_sizes(trees)
    colour = any(image.ndim == 3 for tree in trees.values() for image in tree.images.values())
    labeled = {split: _labeled(tree, known, colour, prefix) for split, (prefix, tree) in _named(trees).items()}
    return Dataset(labeled["train"], labeled.get("test"), known)


def _check_memory(files: Mapping[str, Path], sources: Mapping[str, str], size: Sequence[int] | None) -> None:
    """Check by the headers of the images, before they are decoded, that all of them fit into memory.

    Raises:
        UserError: they do not.
    """
    contents = itertools.chain.from_iterable(contents_of(path, sources[part]) for part, path in files.items())
    headers = [header(content) for place, content in contents if content is not None and place.name != GROUPS]
    pixels = sum(pixels for pixels, _ in headers) if size is None else len(headers) * size[0] * size[1]
    channels = max((channels for _, channels in headers), default=0)  # if some are in colour, all get colours
    remedy = f"let `data.size: [64, 64]` (height, width) scale them{'' if size is None else ' further down'}"
    check_memory(pixels * channels, f"{sources['train']}: {len(headers):,} images", remedy)


def _tree(path: Path, source: str, pixels: Callable[[bytes, str], np.ndarray]) -> Tree:
    images, folders, groups = {}, set(), list[tuple[PurePosixPath, str]]()
    problems: list[str] = []
    for place, content in tqdm(contents_of(path, source), desc=f"read {source}", unit="file", disable=None):
        if content is None:
            folders.add(place)
        elif place.name == GROUPS:
            groups += _read_groups(place, content, source)
        else:
            folders.add(place.parent)
            try:
                images[place] = pixels(content, str(place))
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise UserError(f"{source}: {_list_problems(problems)}")
    if groups:
        _check_groups([path for path, _ in groups], images, source)
    return Tree(images, folders - {PurePosixPath()}, dict(groups))


def _list_problems(problems: Sequence[str]) -> str:
    """The only problem, or the number of problems and a line for each of the first ones."""
    if len(problems) == 1:
        return problems[0]
    more = [f"and {len(problems) - MAX_LISTED:,} more"] if len(problems) > MAX_LISTED else []
    return "\n  ".join([f"{len(problems):,} files should be fixed or removed:", *problems[:MAX_LISTED], *more])


def _read_groups(place: PurePosixPath, content: bytes, source: str) -> list[tuple[PurePosixPath, str]]:
    """The path of each image and its group, as groups.csv at `place` has them.

    Raises:
        UserError: it is no such table.
    """
    name = f"{source}: {place}"
    try:
        # Spreadsheets may begin a file with a byte order mark.
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} should be a CSV file in UTF-8 ({error}): save it as one") from error
    head = rows[0] if rows else []
    if sorted(head) != COLUMNS or len(rows) < 2:
        raise UserError(
            f"{name} should have the columns {' and '.join(COLUMNS)}, with commas between, and a row for each image; "
            f"received {len(rows) - 1 if rows else 0:,} rows with the columns {listed(head)}: fix or remove it"
        )
    found = []
    for number, row in enumerate(rows[1:], 2):
        if not row:  # an empty line
            continue
        if len(row) != len(COLUMNS) or not all(map(str.strip, row)):
            raise UserError(f"{name}: row {number:,} should have a file and its group, received {row}: fix it")
        cells = dict(zip(head, map(str.strip, row), strict=True))
        found.append((place.parent / cells["file"], cells["group"]))
    return found


def _check_groups(named: Iterable[PurePosixPath], images: Iterable[PurePosixPath], source: str) -> None:
    """Check that each image is named once.

    Raises:
        UserError: one is missing or is named again, or a name is not that of an image.
    """
    counts, known = Counter(named), set(images)
    problems = {
        "without a group": sorted(known - counts.keys()),
        "named again": sorted(path for path, count in counts.items() if count > 1),
        "not there": sorted(counts.keys() - known),
    }
    if found := {problem: paths for problem, paths in problems.items() if paths}:
        shown = "; ".join(
            f"{counted(len(paths), 'file')} {problem} ({listed(paths)})" for problem, paths in found.items()
        )
        raise UserError(
            f"{source}: {GROUPS} should name each image once, by its path relative to the folder of {GROUPS}, such as "
            f"{min(known) if known else 'cat/1.png'}; received {shown}: fix these rows"
        )


def _within(tree: Tree) -> Tree:
    """The tree below the top folder, if there is only one, as archives often have."""
    tops = {path.parts[0] for path in (*tree.images, *tree.folders)}
    if len(tops) == 1 and any(len(path.parts) > 2 for path in tree.images):
        return _within(_below(tree, tops.pop()))
    return tree


def _below(tree: Tree, top: str) -> Tree:
    images = {path.relative_to(top): image for path, image in tree.images.items() if path.parts[0] == top}
    folders = {path.relative_to(top) for path in tree.folders if path.parts[0] == top}
    groups = {path.relative_to(top): group for path, group in tree.groups.items() if path.parts[0] == top}
    return Tree(images, folders - {PurePosixPath()}, groups)


def _splits(tree: Tree) -> dict[str, Tree]:
    """The tree as `train`, or its folders train/ and test/ if there are no others."""
    tree = _within(tree)
    tops = {path.parts[0] for path in (*tree.images, *tree.folders)}
    return {top: _below(tree, top) for top in sorted(tops)} if tops == {"train", "test"} else {"train": tree}


def _check_layout(tree: Tree, source: str) -> None:
    if not tree.images:
        raise UserError(f"{source} should contain a folder of images for each class; it contains no image")
    for path in sorted((*tree.images, *tree.folders)):
        if len(path.parts) != (2 if path in tree.images else 1):
            raise UserError(
                f"{source}: {path} should be directly in the folder of its class, such as "
                "cat/1.png, or train/cat/1.png and test/cat/1.png"
            )
    if empty := sorted(folder.name for folder in tree.folders - {path.parent for path in tree.images}):
        raise UserError(f"{source}: the folder of the class {empty[0]!r} is empty: put images into it, or remove it")


def _class_names(found: Mapping[str, list[str]], sources: Mapping[str, str], classes: list[str] | None) -> list[str]:
    everywhere = sorted({name for names in found.values() for name in names})
    for split, names in found.items():
        if lacking := [name for name in everywhere if name not in names]:
            raise UserError(
                f"{split}: there should be images of every class, but {sources[split]} has no folder {lacking[0]!r}"
            )
    if classes is not None and sorted(classes) != everywhere:
        raise UserError(f"data.classes should name the folders {', '.join(everywhere)}; received {', '.join(classes)}")
    return classes or everywhere


def _check_sizes(trees: Mapping[str, Tree]) -> None:
    """Check that all images have the size of the first one."""
    images = {prefix / path: image for prefix, tree in _named(trees).values() for path, image in tree.images.items()}
    first = min(images)
    others = [path for path in sorted(images) if images[path].shape[:2] != images[first].shape[:2]]
    if others:
        sizes = [f"{path} is {images[path].shape[1]}x{images[path].shape[0]}" for path in others]
        raise UserError(
            f"images should be of one size: {first} is {images[first].shape[1]}x{images[first].shape[0]} pixels, but "
            f"{listed(sizes)}. Scale them, or let `data.size: [64, 64]` do it (height, width)"
        )


def _named(trees: Mapping[str, Tree]) -> dict[str, tuple[PurePosixPath, Tree]]:
    """Each tree with the prefix of its paths in messages, which is empty if there is only one tree."""
    return {split: (PurePosixPath(split if len(trees) > 1 else ""), tree) for split, tree in trees.items()}


def _labeled(tree: Tree, classes: list[str], colour: bool, prefix: PurePosixPath) -> LabeledImages:
    paths = sorted(tree.images, key=lambda path: (_natural(path.name), path.name, path.parent.name))
    images = [tree.images[path] for path in paths]
    if colour:
        images = [np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image for image in images]
    numbers = {name: label for label, name in enumerate(classes)}
    labels = np.array([numbers[path.parent.name] for path in paths])
    of_groups = np.array([tree.groups[path] for path in paths]) if tree.groups else None
    return LabeledImages(np.stack(images), labels, of_groups, np.array([str(prefix / path) for path in paths]))


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"(\d+)", name, flags=re.ASCII)  # digits at every other place
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]

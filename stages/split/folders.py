"""Folders of images: a folder for each class, in one tree or in `train/` and `test/`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from many_seeds.errors import UserError
from stages.split.archive import contents_of
from stages.split.dataset import Dataset, LabeledImages
from stages.split.image_files import decode


@dataclass(frozen=True)
class Tree:
    """A tree of folders.

    Attributes:
        images: path → image.
        folders: all folders, also empty ones.
    """

    images: dict[PurePosixPath, np.ndarray]
    folders: set[PurePosixPath]


def read(files: Mapping[str, Path], sources: Mapping[str, str], classes: list[str] | None) -> Dataset:
    """The images of one tree of folders, or of one for training and one for testing, with the names of their folders.

    The images are sorted by file name, regardless of their class, in natural order ("9.png" before "10.png"). If some
    are in colour, grey ones are converted to colour.

    Args:
        files: train and perhaps test → zip or tar archive of the folders.
        sources: the same parts → the name of the folders in errors.
        classes: the names of the folders in the order of their labels; None for alphabetical order.

    Raises:
        UserError: a file is not an image, has another size than the others, or is not in the folder of a class; a class
            has no images.
    """
    trees = _splits(_tree(files["train"], sources["train"]))
    if "test" in files:
        if "test" in trees:
            raise UserError(f"{sources['train']} contains a folder test/: remove it, or data.test")
        trees["test"] = _within(_tree(files["test"], sources["test"]))
    names = {split: sources.get(split, sources["train"]) for split in trees}
    for split, tree in trees.items():
        _check_layout(tree, names[split])
    found = {split: sorted({folder.name for folder in tree.folders}) for split, tree in trees.items()}
    known = _class_names(found, names, classes)
    _check_sizes(trees)
    colour = any(image.ndim == 3 for tree in trees.values() for image in tree.images.values())
    labeled = {split: _labeled(tree, known, colour) for split, tree in trees.items()}
    return Dataset(labeled["train"], labeled.get("test"), known)


def _tree(path: Path, source: str) -> Tree:
    images, folders = {}, set()
    for place, content in tqdm(contents_of(path, source), desc=f"read {source}", unit="file", disable=None):
        if content is None:
            folders.add(place)
        else:
            images[place] = decode(content, f"{source}: {place}")
            folders.add(place.parent)
    return Tree(images, folders - {PurePosixPath()})


def _within(tree: Tree) -> Tree:
    """The tree below the top folder, if there is only one, as archives often have."""
    tops = {path.parts[0] for path in (*tree.images, *tree.folders)}
    if len(tops) == 1 and any(len(path.parts) > 2 for path in tree.images):
        return _within(_below(tree, tops.pop()))
    return tree


def _below(tree: Tree, top: str) -> Tree:
    images = {path.relative_to(top): image for path, image in tree.images.items() if path.parts[0] == top}
    folders = {path.relative_to(top) for path in tree.folders if path.parts[0] == top}
    return Tree(images, folders - {PurePosixPath()})


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
    images = {split / path: image for split, tree in _named(trees) for path, image in tree.images.items()}
    first = min(images)
    for path in sorted(images):
        if images[path].shape[:2] != images[first].shape[:2]:
            sizes = [f"{name} is {images[name].shape[1]}x{images[name].shape[0]} pixels" for name in (first, path)]
            raise UserError(f"images should be of one size: {sizes[0]}, {sizes[1]}")


def _named(trees: Mapping[str, Tree]) -> Iterator[tuple[PurePosixPath, Tree]]:
    """Each tree with the prefix of its paths, which is empty if there is only one tree."""
    return ((PurePosixPath(split if len(trees) > 1 else ""), tree) for split, tree in trees.items())


def _labeled(tree: Tree, classes: list[str], colour: bool) -> LabeledImages:
    paths = sorted(tree.images, key=lambda path: (_natural(path.name), path.name, path.parent.name))
    images = [tree.images[path] for path in paths]
    if colour:
        images = [np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image for image in images]
    numbers = {name: label for label, name in enumerate(classes)}
    return LabeledImages(np.stack(images), np.array([numbers[path.parent.name] for path in paths]))


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"(\d+)", name, flags=re.ASCII)  # digits at every other place
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]

"""The raw files of a data set: fetch them, verify them and describe them in data/raw."""

from many_seeds.commands.redact import redact
from stages.fetch.custom import fetch_custom
from stages.fetch.datasets import DATASETS, Dataset
from stages.fetch.download import download, is_valid, locations
from stages.study import files, paths
from stages.study.data import CONTENTS, Contents, Data, write_contents

ADVICE = "Put the file into a folder and set DATA_MIRROR to it, or run `make demo`, which needs no download."


def fetch(data: Data) -> None:
    """Write the files of a data set to data/raw. Valid files that are there are kept, also if another file fails.

    Args:
        data: the section `data` of params.yaml.

    Raises:
        UserError: a file is not available anywhere, or is invalid.
    """
    built_in = DATASETS.get(data.name)
    contents = _describe_built_in(built_in) if built_in else _describe_custom(data)
    # Without the description, the split stage refuses to read the files of two data sets as one.
    CONTENTS.unlink(missing_ok=True)
    if built_in is None:
        for part, source in data.sources.items():
            fetch_custom(part, source, data.sha256.get(part), paths.RAW / part)
    elif built_in.generate:
        for part, content in built_in.generate().items():
            files.write_bytes(paths.RAW / contents.files[part], content)
    else:
        _fetch_built_in(built_in)
    write_contents(contents)
    files.remove_unknown(paths.RAW, {CONTENTS.name, *contents.files.values()})


def _describe_built_in(dataset: Dataset) -> Contents:
    files = {part: file.kept_as for part, file in dataset.files.items()}
    sources = {part: str(paths.RAW / name) for part, name in files.items()}
    return Contents(format=dataset.format, files=files, sources=sources, classes=list(dataset.classes))


def _describe_custom(data: Data) -> Contents:
    assert data.format is not None  # only built-in data sets have none
    # DVC shares data/raw, so it must not contain passwords, and must have the same bytes in every environment.
    sources = {part: redact(source, {}) for part, source in data.sources.items()}
    return Contents(
        format=data.format,
        files={part: part for part in data.sources},
        sources=sources,
        classes=data.classes,
        test_fraction=data.test_fraction,
        test_seed=data.test_seed,
        size=data.size,
        resize=data.resize,
        refuse_duplicates=not data.allow_duplicates,
    )


def _fetch_built_in(dataset: Dataset) -> None:
    for file in dataset.files.values():
        target = paths.RAW / file.kept_as
        if not is_valid(file, target):
            download(file, locations(file.name, dataset.mirrors), target, ADVICE)
            print(f"{target.name}: {target.stat().st_size:,} bytes, checksum verified")

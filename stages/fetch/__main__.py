"""Fetch stage: the files of a data set, checked, into data/raw/, and beside them what they are."""

from many_seeds import console
from many_seeds.redact import redact
from stages.fetch.datasets import DATASETS, Dataset
from stages.fetch.download import bring, is_kept, places_of
from stages.fetch.own import bring_own
from stages.study import files, params, paths
from stages.study.data import CONTENTS, Contents, Data, write_contents

ADVICE = "Put the file into a folder and set DATA_MIRROR to it, or run `make demo`, which needs no download."


def fetch(data: Data) -> None:
    """Bring what `data` names to data/raw; what is there and sound stays as it is, also where another file fails.

    Raises:
        UserError: a file is nowhere to be had, or is not what it should be.
    """
    known = DATASETS.get(data.name)
    contents = _of_known(known) if known else _of_own(data)
    # Until all files are there, nobody reads those of two data sets as one.
    CONTENTS.unlink(missing_ok=True)
    if known is None:
        for part, source in data.sources.items():
            bring_own(part, source, data.sha256.get(part), paths.RAW / part)
    elif known.made:
        for part, content in known.made().items():
            files.write_bytes(paths.RAW / contents.files[part], content)
    else:
        _bring_known(known)
    write_contents(contents)
    files.remove_unknown(paths.RAW, {CONTENTS.name, *contents.files.values()})


def _of_known(known: Dataset) -> Contents:
    files = {part: file.kept_as for part, file in known.files.items()}
    sources = {part: str(paths.RAW / name) for part, name in files.items()}
    return Contents(format=known.format, files=files, sources=sources, classes=list(known.classes))


def _of_own(data: Data) -> Contents:
    assert data.format is not None  # else its name would be a known one
    # Whoever gets data/raw from DVC's remote gets no password with it; what is written is the same in any environment.
    sources = {part: redact(source, {}) for part, source in data.sources.items()}
    return Contents(
        format=data.format, files={part: part for part in data.sources}, sources=sources, classes=data.classes,
        test_fraction=data.test_fraction, test_seed=data.test_seed,
    )  # fmt: skip


def _bring_known(known: Dataset) -> None:
    for file in known.files.values():
        target = paths.RAW / file.kept_as
        if not is_kept(file, target):
            bring(file, places_of(file.name, known.mirrors), target, ADVICE)
            print(f"{target.name}: {target.stat().st_size:,} bytes, checksum right")


@console.command
def main() -> None:
    console.take_no_arguments("stages.fetch", __doc__)
    fetch(params.load().data)


if __name__ == "__main__":
    main()

"""Fetch stage: the data set's four raw files, checked, into data/raw/."""

from stages import files, params, records, terminal
from stages.errors import StudyError
from stages.fetch.datasets import DOWNLOADS, SIZES
from stages.fetch.digits import digits_files
from stages.fetch.download import check, fetch_file, mirrors_of


def fetch(name: str) -> None:
    # Half a file, where the last fetch was killed.
    files.remove_unknown(records.RAW, set(records.RAW_FILES.values()))
    if name == "digits":
        for part, content in digits_files().items():
            files.write_bytes(records.RAW / records.RAW_FILES[part], content)
        return
    dataset = DOWNLOADS[name]
    for part, file in records.RAW_FILES.items():
        if not _is_there(part, dataset.sha256[part]):
            content = fetch_file(part, mirrors_of(dataset.mirrors), dataset.sha256[part])
            files.write_bytes(records.RAW / file, content)
            print(f"{file}: {len(content):,} bytes, checksum right")


def _is_there(part: str, sha256: str) -> bool:
    path = records.RAW / records.RAW_FILES[part]
    try:
        check(path.read_bytes(), size=SIZES[part], sha256=sha256)
    except (FileNotFoundError, StudyError):
        return False
    return True


@terminal.command
def main() -> None:
    terminal.take_no_arguments("stages.fetch", __doc__)
    fetch(params.load().data.name)


if __name__ == "__main__":
    main()

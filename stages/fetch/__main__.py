"""The stage `fetch`: the raw files of the data set in data/raw, downloaded or copied, and verified."""

from many_seeds.commands import console
from stages.fetch.stage import fetch
from stages.study import params


@console.command
def main() -> None:
    console.take_no_arguments("stages.fetch", __doc__)
    fetch(params.load().data)


if __name__ == "__main__":
    main()

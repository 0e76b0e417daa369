"""The stage `aggregate`: tables, figures and the report from the results of all runs."""

from many_seeds.commands import console
from stages.aggregate.stage import aggregate
from stages.study import params, paths
from stages.tracking.publisher import Publisher


@console.command
def main() -> None:
    console.take_no_arguments("stages.aggregate", __doc__)
    study = params.load()
    aggregate(study)
    Publisher(study).publish_all()
    for pattern in ("approaches.md", "comparisons*.md", "race_*.md"):
        for path in sorted(paths.TABLES.glob(pattern)):
            print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

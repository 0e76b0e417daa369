"""Publish what the workspace holds and MLflow lacks: `python -m stages.tracking`."""

from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import params
from stages.tracking import address
from stages.tracking.publisher import Publisher


@console.command
def main() -> None:
    console.take_no_arguments("stages.tracking", __doc__)
    study = params.load()
    publisher = Publisher(study)
    changed = publisher.publish_all()
    if publisher.failed:
        raise UserError("not everything is published: fix what the warning names, or set MLFLOW_TRACKING_URI")
    print(f"{changed} runs published or brought up to date; {address.shown_uri()}")


if __name__ == "__main__":
    main()

"""Publish whatever the workspace holds and MLflow lacks: `python -m stages.tracking`."""

from stages import params, terminal
from stages.errors import StudyError
from stages.tracking import address
from stages.tracking.publisher import Publisher


@terminal.command
def main() -> None:
    terminal.take_no_arguments("stages.tracking", __doc__)
    study = params.load()
    publisher = Publisher(study)
    changed = publisher.publish_variants(list(study.variants)) + publisher.publish_study()
    if publisher.failed:
        raise StudyError("not everything is published: mend what the warning names, or set MLFLOW_TRACKING_URI")
    print(f"{changed} runs published or brought up to date; {address.shown_uri()}")


if __name__ == "__main__":
    main()

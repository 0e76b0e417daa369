"""The command `many-seeds`: one name for the tools that people run by hand, each loaded when it is asked for."""

import importlib
import sys
from typing import NamedTuple

from stages.redact import redact


class Tool(NamedTuple):
    """module: below stages. extra: of pyproject.toml, that it needs. what: it does."""

    module: str
    extra: str
    what: str


TOOLS = {
    "verdict": Tool(
        "verdict.__main__", "pipeline", "a verdict on the scores of anybody's runs: CSV, JSON lines, MLflow"
    ),
    "compare": Tool("compare", "compare", "what changed between two commits of a study, with verdicts"),
    "settle": Tool("settle", "pipeline", "train seeds until every question of a study is decided"),
    "predict": Tool("predict", "pipeline", "classify image files with the best model of a study"),
}
USAGE = "usage: many-seeds COMMAND …\n\n" + "\n".join(f"  {name:<8} {tool.what}" for name, tool in TOOLS.items())


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else None
    if asked in ("-h", "--help"):
        print(f"{USAGE}\n\nmany-seeds COMMAND --help says more.")
        return
    if asked not in TOOLS:
        print(f"{USAGE}\n\nerror: expected one of these commands, received {redact(asked or 'none')}", file=sys.stderr)
        sys.exit(2)
    try:
        tool = importlib.import_module(f"stages.{TOOLS[asked].module}")
    except ModuleNotFoundError as error:
        if (error.name or "stages").startswith("stages"):
            raise
        print(
            f"error: many-seeds {asked} needs {error.name}: install this project with its extra "
            f"`{TOOLS[asked].extra}`, or all of it with `make setup`",
            file=sys.stderr,
        )
        sys.exit(2)
    del sys.argv[1]
    tool.main()


if __name__ == "__main__":
    main()

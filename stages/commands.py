"""The command `many-seeds`: one name for the tools that people run by hand, each loaded when it is asked for."""

import importlib
import sys

TOOLS = {
    "verdict": ("verdict.__main__", "a verdict on the scores of anybody's runs: CSV, JSON lines, MLflow"),
    "compare": ("compare", "what changed between two commits of a study, with verdicts"),
    "settle": ("settle", "train seeds until every question of a study is decided"),
    "predict": ("predict", "classify image files with the best model of a study"),
}
USAGE = "usage: many-seeds COMMAND …\n\n" + "\n".join(f"  {name:<8} {what}" for name, (_, what) in TOOLS.items())


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else None
    if asked in ("-h", "--help"):
        print(f"{USAGE}\n\nmany-seeds COMMAND --help says more.")
        return
    if asked not in TOOLS:
        print(f"{USAGE}\n\nerror: expected one of these commands, received {asked or 'none'}", file=sys.stderr)
        sys.exit(2)
    try:
        tool = importlib.import_module(f"stages.{TOOLS[asked][0]}")
    except ModuleNotFoundError as error:
        if (error.name or "stages").startswith("stages"):
            raise
        print(
            f"error: many-seeds {asked} needs {error.name}: install this project with its extra `pipeline`, as "
            "`make setup` does",
            file=sys.stderr,
        )
        sys.exit(2)
    del sys.argv[1]
    tool.main()


if __name__ == "__main__":
    main()

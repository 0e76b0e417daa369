"""The GitHub Action of action.yml: a verdict on the inputs of a step, in its summary and its outputs."""

import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from many_seeds import files
from many_seeds.commands import cli, gate
from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.results import ResultVerdict

# Inputs that are options of `many-seeds verdict`; of the second kind, each line is one.
ONCE = ("items", "metric", "seed", "baseline", "margin", "resolution", "confidence", "design", "at", "over", "among")
REPEATED = ("mlflow", "pairs", "by", "where", "fail-on", "watch")
SWITCHES = ("wide", "unpaired")
DIRECTIONS = {"": [], "lower": ["--lower-is-better"], "higher": ["--higher-is-better"]}
# Variables of the runner: files to which a step appends, and a folder.
SUMMARY, OUTPUT, FOLDER = "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "RUNNER_TEMP"


def arguments_of(environment: Mapping[str, str]) -> list[str]:
    """The arguments of many-seeds. A value never becomes another option, whatever it begins with.

    Args:
        environment: variables with the inputs: that of fail-on is called INPUT_FAIL_ON.

    Raises:
        UserError: an input has a value that its kind does not have.
    """

    def value(name: str) -> str:
        return environment.get(f"INPUT_{name.upper().replace('-', '_')}", "").strip()

    def lines(name: str) -> list[str]:
        return [line.strip() for line in value(name).splitlines() if line.strip()]

    arguments = [f"--{name}={value(name)}" for name in ONCE if value(name)]
    arguments += [f"--{name}={line}" for name in REPEATED for line in lines(name)]
    for name in SWITCHES:
        if value(name) not in ("", "true", "false"):
            raise UserError(f"the input {name} should be true or false, received {value(name)!r}")
        if value(name) == "true":
            arguments.append(f"--{name}")
    if value("direction") not in DIRECTIONS:
        raise UserError(f"the input direction should be lower or higher is better, received {value('direction')!r}")
    return ["verdict", *arguments, *DIRECTIONS[value("direction")], "--", *lines("files")]


def write(found: cli.Judged, environment: Mapping[str, str]) -> None:
    """Append to the summary and the outputs of the step, and write the JSON that an output names."""
    path = Path(tempfile.mkdtemp(prefix="many-seeds.", dir=environment[FOLDER])) / "verdict.json"
    files.write_json(path, found.to_dict())
    counts = Counter(result.verdict for result in found.results)
    outputs: dict[str, object] = {verdict: counts[verdict] for verdict in get_args(ResultVerdict)}
    outputs |= {"failed": "true" if found.reasons else "false", "json": path}
    with open(environment[OUTPUT], "a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in outputs.items())
    with open(environment[SUMMARY], "a", encoding="utf-8") as file:
        file.write(text.as_markdown(found.results, *found.lines))


@gate.command
def main() -> None:
    if missing := [name for name in (SUMMARY, OUTPUT, FOLDER) if not os.environ.get(name)]:
        raise UserError(f"expected the variables of a step of GitHub Actions, without {', '.join(missing)}")
    found = cli.judged(cli.parser().parse_args(arguments_of(os.environ)))
    write(found, os.environ)
    # A variant may be called "::error::": between these lines, GitHub reads no commands in the log.
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}")
    print(text.as_text(found.results, *found.lines), end="")
    print(f"::{token}::", flush=True)
    sys.exit(1 if found.reasons else 0)


if __name__ == "__main__":
    main()

"""Write certificates to metrics/certified.csv, which only grows."""

from collections.abc import Sequence

import pandas as pd

from many_seeds.errors import UserError
from stages.study import environments, files, git
from stages.study.environments import CERTIFIED, CERTIFIED_COLUMNS, Environment, Part, canonical
from stages.study.results import NOT_RECORDED, read_results
from tools.certify.sample import COLUMNS

CODE = ("stages/recipes", "stages/train", "stages/evaluate")


def append(
    variant: str, part: Part, here: Environment, root: Environment, seeds: Sequence[int], of: int, how: str
) -> bool:
    """Add a certificate, if it says anything that is not known yet.

    Args:
        variant: the variant.
        part: training or evaluation.
        here: the environment that makes the same bits.
        root: the environment that made the results.
        seeds: that were compared.
        of: how many runs the root made.
        how: "trained here", or "old code here".

    Returns:
        Whether a row was added.

    Raises:
        UserError: the file is damaged, or can't be written.
    """
    certificates = environments.read_certificates()
    start, end = (canonical(variant, part, each, certificates) for each in (here, root))
    if start == end:
        return False
    recorded = read_results(variant).environments[COLUMNS[part]].unique()
    if start in [canonical(variant, part, Environment.parse(text), certificates) for text in recorded]:
        start, end = end, start  # the keys of those runs stay theirs
    own = certificates[(certificates["variant"] == variant) & (certificates["part"] == part)]
    if str(start) in set(own["environment"]):  # of a circle; `canonical` follows one row of an environment
        start, end = end, start
    if str(start) in set(own["environment"]):
        raise UserError(
            f"{CERTIFIED} has two circles of environments for {variant}, {part}: delete one row of either, and run the "
            "same command again"
        )
    row = {
        "variant": variant,
        "part": part,
        "environment": str(start),
        "same_as": str(end),
        "seeds": " ".join(map(str, seeds)),
        "of": of,
        "processor": environments.processor(),
        "how": how,
        "commit": git.head(*CODE) or NOT_RECORDED,
    }
    _add(pd.DataFrame([row], columns=CERTIFIED_COLUMNS))
    return True


def _add(rows: pd.DataFrame) -> None:
    """Add rows behind what is there, of which no byte changes."""
    content = files.csv_bytes(rows)
    if CERTIFIED.exists():
        there = CERTIFIED.read_bytes()
        content = there + (b"" if there.endswith(b"\n") else b"\n") + content.partition(b"\n")[2]
    files.write_bytes(CERTIFIED, content)

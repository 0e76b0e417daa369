"""Append certificates to metrics/certified.csv."""

from collections.abc import Sequence

import pandas as pd

from many_seeds.errors import UserError
from stages.study import files, git
from stages.study.provenance import environments
from stages.study.provenance.environments import (
    CERTIFIED,
    CERTIFIED_COLUMNS,
    TRAINED_HERE,
    Environment,
    Part,
    canonical,
    select,
)
from stages.study.records.results import NOT_RECORDED, read_results
from tools.certify.sample import COLUMNS

CODE = ("stages/recipes", "stages/train", "stages/evaluate")


def append(
    variant: str,
    identity: str,
    part: Part,
    here: Environment,
    root: Environment,
    seeds: Sequence[int],
    of: int,
    how: str,
) -> bool:
    """Append a certificate, unless it follows from the present ones.

    Args:
        variant: the variant.
        identity: its identity: recipe, data and split.
        part: training or evaluation.
        here: the environment that gives the same bits.
        root: the environment that made the results.
        seeds: the seeds that were compared.
        of: the number of runs that the root made.
        how: "trained here", or "old code here".

    Returns:
        Whether a row was appended.

    Raises:
        UserError: the file is damaged, or can't be written.
    """
    certificates = environments.read_certificates()
    ends = _ends(variant, identity, part, here, root, certificates)
    if ends is None:
        return False
    _append_row(variant, identity, part, *ends, seeds, of, how)
    return True


def append_processor(variant: str, identity: str, root: Environment, seeds: Sequence[int], of: int) -> None:
    """Append that training on this kind of processor gives the recorded bits: an environment is the same as itself.

    Args:
        variant: the variant.
        identity: its identity: recipe, data and split.
        root: the environment that made the results.
        seeds: the seeds that were compared.
        of: the number of runs that the root made.

    Raises:
        UserError: the file can't be written.
    """
    _append_row(variant, identity, "train", root, root, seeds, of, TRAINED_HERE)


def _ends(
    variant: str, identity: str, part: Part, here: Environment, root: Environment, certificates: pd.DataFrame
) -> tuple[Environment, Environment] | None:
    """The environments of the new row: the first is the same as the second. None if the row follows from the others."""
    start, end = (canonical(identity, part, each, certificates) for each in (here, root))
    if start == end:
        return None
    recorded = read_results(variant).environments[COLUMNS[part]].unique()
    if start in [canonical(identity, part, Environment.parse(text), certificates) for text in recorded]:
        start, end = end, start  # so that the keys of recorded runs stay the same
    # `canonical` follows one row for each environment. An environment that has a row already is part of a circle.
    rows = select(certificates, identity, part)
    known = set(rows["environment"][rows["environment"] != rows["same_as"]])
    if str(start) in known:
        start, end = end, start
    if str(start) in known:
        raise UserError(
            f"{CERTIFIED} has two circles of environments for {variant}, {part}: delete one row of either, and run the "
            "same command again"
        )
    return start, end


def _append_row(
    variant: str,
    identity: str,
    part: Part,
    environment: Environment,
    same_as: Environment,
    seeds: Sequence[int],
    of: int,
    how: str,
) -> None:
    """Append a row without changing a byte of the present ones."""
    row = {
        "variant": variant,
        "identity": identity,
        "part": part,
        "environment": str(environment),
        "same_as": str(same_as),
        "seeds": " ".join(map(str, seeds)),
        "of": of,
        "processor": environments.processor(),
        "how": how,
        "commit": git.head(*CODE) or NOT_RECORDED,
    }
    content = files.csv_bytes(pd.DataFrame([row], columns=CERTIFIED_COLUMNS))
    if CERTIFIED.exists():
        present = CERTIFIED.read_bytes()
        content = present + (b"" if present.endswith(b"\n") else b"\n") + content.partition(b"\n")[2]
    files.write_bytes(CERTIFIED, content)

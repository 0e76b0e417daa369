"""Train and compare the samples, and write the certificates."""

from collections.abc import Sequence

from stages.study.params import Params
from stages.study.provenance.environments import TRAINED_HERE, processor_objection
from tools.certify.certificates import append, append_processor
from tools.certify.check import CheckResult, compare_samples, not_checkable
from tools.certify.report import conclusion
from tools.certify.retrained import RetrainedRuns
from tools.certify.sample import Check


def certify(study: Params, checks: Sequence[Check]) -> list[CheckResult]:
    """Train and compare the samples, and write the certificates.

    Args:
        study: the parameters of the study.
        checks: what to check.

    Returns:
        A result for each check.

    Raises:
        UserError: the data are missing, or a recorded file is damaged.
    """
    retrained = RetrainedRuns(study, [check.variant for check in checks])
    objections = [not_checkable(check, retrained) for check in checks]
    possible = [check for check, objection in zip(checks, objections, strict=True) if objection is None]
    results = [
        CheckResult(check, unchecked=dict.fromkeys(check.parts, objection))
        for check, objection in zip(checks, objections, strict=True)
        if objection is not None
    ]
    if not possible:
        return results
    retrained.train(possible)
    for result in compare_samples(possible, retrained):
        write_certificates(result)
        print(f"{result.check.variant}: {conclusion(result)}", flush=True)
        results.append(result)
    return results


def write_certificates(result: CheckResult) -> None:
    """Write a certificate for each part with the same bits, and one for a kind of processor that was not recorded."""
    check = result.check
    for part in result.same:
        here, root = check.here[part], check.roots[part]
        append(check.variant, check.identity, part, here, root, check.seeds, check.counts[part], result.how)
    if (
        "train" in result.same
        and result.how == TRAINED_HERE
        and processor_objection(check.variant, check.identity, check.recipe) is not None
    ):
        append_processor(check.variant, check.identity, check.roots["train"], check.seeds, check.counts["train"])

"""The resource tracker of loky, which removes what worker processes leave behind."""

import sys

QUIET = "ignore:resource_tracker:UserWarning"


def start_quiet_tracker() -> None:
    """Start the resource tracker, unless it runs, without its warnings.

    Workers that a signal ends leave locks and files behind. The tracker, a process that is started with the options for
    warnings of this one, removes them and would warn after this process has ended.
    """
    from joblib.externals.loky.backend import resource_tracker

    sys.warnoptions.append(QUIET)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(QUIET)

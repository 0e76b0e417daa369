"""Kill process groups when the process that started them has ended: a program of its own, run by `processes.py`.

Standard input has a line "+GROUP" for each group that starts and "-GROUP" for each that has ended. It is closed when
the other process has ended for any reason.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    groups = set[int]()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()

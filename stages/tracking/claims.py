"""Which machine publishes a run to a server, so that two machines can publish to it at the same time.

On one machine, a lock excludes other publishers: an unfinished run that it published was interrupted. An unfinished
run of another machine is left alone as long as its publisher may still be at work.
"""

import platform
import time
from typing import Any

from stages.tracking import address

PUBLISHER = "study.publisher"  # tag of a run: the machine that published it, and when it started to, in Unix time
SECONDS = 900  # a publication that started longer ago was interrupted


def claim() -> dict[str, str]:
    """The tag of a run that this machine publishes; none for the local database, which only this machine writes."""
    if address.local_database():
        return {}
    return {PUBLISHER: f"{platform.node()} {int(time.time())}"}


def other_publisher(run: Any) -> str | None:
    """The name of the other machine that publishes a run now, or None."""
    machine, _, started = run.data.tags.get(PUBLISHER, "").rpartition(" ")
    if run.info.status != "RUNNING" or not started.isdecimal() or machine == platform.node():
        return None
    return machine if time.time() - int(started) < SECONDS else None

"""A node of the redis system: a redis-server, with a Sentinel beside it.

`python -m harness.systems.programs.redis_node SERVER FOLDER`, where FOLDER has
`redis.conf` and `sentinel.conf`. Both programs rewrite their files whenever roles
change, and so come back after a kill as what they were.

The two live and die together: a node is one machine. If one of them ends, so does this
program, with status 1, and the harness notes that the node exited on its own. SIGTERM
is passed on to both.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.host.syscalls import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType


def main(arguments: Sequence[str]) -> int:
    """Start both programs, and wait until one of them ends; returns the status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    children = [
        subprocess.Popen(
            [given.server, str(given.folder / file), *flags],
            preexec_fn=functools.partial(die_with_parent, signal.SIGKILL),
        )
        for file, flags in (("redis.conf", ()), ("sentinel.conf", ("--sentinel",)))
    ]

    def pass_on(number: int, _: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    pid, status = os.wait()
    for child in children:
        if child.pid != pid:
            child.kill()
            child.wait()
    return 0 if status == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

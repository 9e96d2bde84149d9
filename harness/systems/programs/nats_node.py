"""A node of the nats system: a nats-server whose new stream is made durable, once.

`python -m harness.systems.programs.nats_node SERVER CONFIG STREAM`, where STREAM is the
folder of the stream in JetStream's store.

A server does not sync the files that say which streams there are, and leaves them to
the kernel, which writes them back within half a minute. A run is shorter: a cut of the
power would take the stream away as a whole, and nobody would see which messages are
lost. So this program syncs the stream's folder as soon as it is there, as if it had
been created a while ago, and then makes the file `settled` beside CONFIG. Later starts
leave it at that.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.host.syscalls import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

LOOK_S = 0.05
STREAM_FILE = "meta.inf"
SETTLED = "settled"


def main(arguments: Sequence[str]) -> int:
    """Start the server, and wait until it ends; returns its status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("config", type=Path)
    parser.add_argument("stream", type=Path)
    given = parser.parse_args(arguments)
    server = subprocess.Popen(
        [given.server, "--config", str(given.config)],
        preexec_fn=functools.partial(die_with_parent, signal.SIGKILL),
    )

    def pass_on(number: int, _: FrameType | None) -> None:
        server.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    settled = given.config.parent / SETTLED
    if not settled.exists():
        threading.Thread(
            target=settle, args=(given.stream, settled), daemon=True
        ).start()
    status = server.wait()
    return status if status >= 0 else 128 - status


def settle(stream: Path, settled: Path) -> None:
    """Wait for a stream, sync its folder and those that it is in, and say so."""
    while not (stream / STREAM_FILE).exists():
        time.sleep(LOOK_S)
    above = [
        folder for folder in stream.parents if folder.is_relative_to(settled.parent)
    ]
    for path in [*stream.rglob("*"), stream, *above]:
        opened = os.open(path, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)
    settled.touch()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""An operator's script, for tests of nodes that somebody else runs.

    python operate.py FOLDER TASK NODE [PEERS]

FOLDER has a file NODE.json for each node: its command and environment. The pid of a
running node is kept beside it, and each call of this script adds a line to `calls`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

SIGNALS = {
    "kill": signal.SIGKILL,
    "pause": signal.SIGSTOP,
    "resume": signal.SIGCONT,
}


def main(folder: Path, task: str, node: str, *peers: str) -> int:
    with (folder / "calls").open("a") as calls:
        calls.write(f"{' '.join((task, node, *peers))}\n")
    pid_file = folder / f"{node}.pid"
    if task == "start":
        how = json.loads((folder / f"{node}.json").read_text())
        with (folder / f"{node}.log").open("ab") as log:
            started = subprocess.Popen(
                how["argv"],
                env=how["env"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid_file.write_text(str(started.pid))
    elif task in SIGNALS:
        os.kill(int(pid_file.read_text()), SIGNALS[task])
    sys.stdout.write(f"{task} of {node} is done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))

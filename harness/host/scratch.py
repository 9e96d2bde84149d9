"""Temporary folders that are gone when their maker is, whatever ended it.

What `kill -9` ends tidies nothing up. So a shell makes the folder, waits for the end of
a pipe that nobody but we hold open, and removes the folder then.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Processes of ours that die with us may write for a moment longer: try again. What is
# still there after that, nobody may remove. Nobody may be left to hear of the folder.
_KEEPS = """
trap "" INT TERM HUP PIPE
mkdir -m 700 -- "$1" || exit
echo made
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit; sleep 0.1; done
"""


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new temporary folder that is removed after the block, or with this process.

    Cost: about 5 ms.

    Raises:
        HarnessError: It can't be made; says where.
    """
    folder = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", _KEEPS, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert keeper.stdout is not None
    try:
        if keeper.stdout.readline() != b"made\n":
            raise HarnessError(f"cannot make a scratch folder {folder}")
        yield folder
    finally:
        keeper.communicate()
        if keeper.returncode:  # somebody has killed it
            shutil.rmtree(folder, ignore_errors=True)

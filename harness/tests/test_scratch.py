"""Scratch folders are gone with whoever made them, at whatever moment that ends."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from harness.host import scratch

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_there_until_the_block_ends() -> None:
    with scratch.scratch_folder("splitbrain-test-") as folder:
        (folder / "file").touch()
    assert not folder.exists()


def test_a_folder_whose_keeper_was_killed_is_gone_with_the_block() -> None:
    with scratch.scratch_folder("splitbrain-test-") as folder:
        (folder / "file").touch()
        (keeper,) = [
            int(line.split()[0])
            for line in subprocess.check_output(
                ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())], text=True
            ).splitlines()
            if line.endswith(str(folder))
        ]
        os.kill(keeper, signal.SIGKILL)
    assert not folder.exists()


def test_a_folder_is_gone_whose_maker_died_before_it_heard_of_it(
    tmp_path: Path,
) -> None:
    nobody, out = os.pipe()
    os.close(nobody)
    keeper = subprocess.run(
        ["/bin/sh", "-c", scratch._KEEPS, "sh", str(tmp_path / "made")],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    os.close(out)
    assert keeper.returncode == 0
    assert list(tmp_path.iterdir()) == []

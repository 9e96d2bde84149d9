"""Mounts a node's disk: /dev/fuse and mount(2), without root and without helpers.

Since Linux 4.18 who may mount in his user namespace may mount FUSE there. /dev/fuse has
to be opened in it, by the process that serves: once that ends, the kernel fails
whatever still waits for it, so that nothing hangs.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.host import syscalls
from harness.worlds.os.helper import Helper
from harness.worlds.os.namespaces import why_it_fails

if TYPE_CHECKING:
    from harness.worlds.os.helper import Desk

DEVICE = "/dev/fuse"
DEVICE_NUMBER = os.makedev(10, 229)
"""The kernel's list of devices gives this number to /dev/fuse."""


def mount_fuse(at: Path) -> int:
    """Mount a new file system; returns the descriptor to serve it by.

    Raises:
        HarnessError: It can't be had here.
    """
    fuse = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    kind = os.stat(at).st_mode & 0o170000
    options = (
        f"fd={fuse},rootmode={kind:o},user_id=0,group_id=0,"
        "allow_other,default_permissions"
    )
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    try:
        syscalls.mount("splitbrain", str(at), "fuse", flags, options)
    except OSError as error:
        os.close(fuse)
        why = os.strerror(error.errno or 0)
        raise HarnessError(
            f"the kernel mounts no FUSE file system here ({why}): "
            "`modprobe fuse` as root, Linux 4.18 or later; a container or a security "
            "module may forbid it, too"
        ) from error
    return fuse


def fork_server(name: str, written: Path, place: Path, moment: mmap.mmap) -> Helper:
    """Start the process that serves a node's disk, and wait until it is mounted.

    Args:
        name: The node's.
        written: What the disk holds, and where it is written.
        place: A folder of ours: the disk is mounted on "mount" in it, and what is
            durable is kept in "durable".
        moment: See `Server`.

    Raises:
        HarnessError: It can't be mounted.
    """
    # Every run asks this module whether disks can be had, and few need one. Imported
    # before the fork, they are there for all nodes.
    from harness.worlds.os.disk.filesystem import FileSystem
    from harness.worlds.os.disk.server import Server

    mounted, durable = place / "mount", place / "durable"
    for folder in (mounted, durable):
        folder.mkdir(parents=True, exist_ok=True)

    def serve(desk: Desk) -> None:
        gc.freeze()
        fuse = mount_fuse(mounted)
        desk.answer()
        Server(fuse, FileSystem(str(written), str(durable)), desk, moment).run()
        syscalls.unmount(str(mounted))
        os.close(fuse)
        shutil.rmtree(place, ignore_errors=True)

    helper = Helper(f"disk of {name}", f"disk-{name}", serve)
    helper.wait_until_ready()
    return helper


@functools.cache
def why_no_disks() -> str:
    """Why nodes can't have disks of ours here, in plain words; empty when they can.

    Mounts one and writes a file: each of /dev/fuse, the file system and the right to
    mount it can be missing on its own. Cost: about 100 ms, once.
    """
    try:
        opened = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return (
            f"{DEVICE} is not there: `modprobe fuse` as root makes it; in a "
            f"container, --device {DEVICE}"
        )
    except OSError as error:
        return (
            f"{DEVICE} can't be opened ({error.strerror}): `chmod 666 {DEVICE}` as "
            "root allows it"
        )
    number = os.fstat(opened).st_rdev
    os.close(opened)
    if number != DEVICE_NUMBER:
        return (
            f"{DEVICE} is not the kernel's device: `rm {DEVICE}; mknod -m 666 {DEVICE} "
            "c 10 229` as root makes it"
        )
    return why_it_fails(_try, network=False) or ""


def _try() -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "data").mkdir()
        moment = mmap.mmap(-1, mmap.PAGESIZE)
        try:
            helper = fork_server("a trial", place / "data", place / "disk", moment)
        except HarnessError as error:
            raise HarnessError(_last_line(str(error))) from error
        try:
            file = place / "disk" / "mount" / "file"
            file.write_text("there")
            if (place / "data" / "file").read_text() != "there":
                raise HarnessError("what is written to a FUSE file system is not there")
        except OSError as error:
            raise HarnessError(f"a FUSE file system does not work: {error}") from error
        finally:
            asyncio.run(helper.close())
    return 0


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]

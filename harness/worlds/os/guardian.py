"""A parent for the keeper, which kills what a killed keeper leaves behind.

Nodes die with the keeper (PDEATHSIG), but the processes that they forked do not. When
the keeper itself is killed, its nearest ancestor that adopts orphans inherits them. In
a pid namespace that is pid 1, which takes everything along when the run ends. Without
one it is this process: it waits for the keeper's end and kills what is left.

So any one of controller, guardian and keeper can be killed: a keeper whose guardian or
controller ends kills the nodes itself.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback

from harness.host import syscalls
from harness.worlds.os.keeper import kill_descendants, reap_children

_HEEDED = {signal.SIGCHLD, signal.SIGTERM}


def put_guardian_above(controller_pid: int) -> int:
    """Fork, and go on as the child.

    The guardian sends the child SIGTERM when the controller ends, and ends last.

    Returns:
        The pid of the child's parent, the guardian.
    """
    gc.freeze()  # a file object collected after its number was closed closes another's
    syscalls.set_process_name("sb-guardian")
    syscalls.adopt_orphans()
    os.setsid()  # a Ctrl-C at the terminal is the controller's to handle
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
    guardian_pid = os.getpid()
    child = os.fork()
    if child == 0:
        return guardian_pid
    try:
        _guard(child, controller_pid)
    except BaseException:  # a forked child must not unwind into its parent's frames
        traceback.print_exc()
    finally:
        try:
            kill_descendants()
        finally:
            os._exit(0)


def _guard(child: int, controller_pid: int) -> None:
    """Wait for the end of `child`."""
    # Above all the child's socket: the controller takes its end for the child's end.
    os.closerange(0, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    syscalls.die_with_parent(signal.SIGTERM)
    if os.getppid() != controller_pid:
        os.kill(child, signal.SIGTERM)
    while True:
        if signal.sigwait(_HEEDED) == signal.SIGTERM:
            os.kill(child, signal.SIGTERM)
        elif child in {pid for pid, _ in reap_children()}:
            return

"""Tells errors that come from limits of this process or its disk, and names the limits.

Libraries meet such limits in many ways: MemoryError, an OSError, an import that fails
because a shared object could not be mapped, a thread that can't be started.
"""

from __future__ import annotations

import errno
import importlib
import math
import os
import resource

from harness.errors import HarnessError

_SCARCE = {
    *(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
}
_WORDS = (
    "can't start new thread",
    "cannot allocate memory",
    "failed to map segment",
    "cannot apply additional memory protection",
    "too many open files",
    "resource temporarily unavailable",
    "cannot create shared object descriptor",
    "can't load unicodedata",
)

_LIMITS = (
    (resource.RLIMIT_AS, math.inf, 1 << 20, "MB of address space (ulimit -v)"),
    (resource.RLIMIT_DATA, math.inf, 1 << 20, "MB of data (ulimit -d)"),
    (resource.RLIMIT_NPROC, 256, 1, "processes and threads (ulimit -u)"),
    (resource.RLIMIT_NOFILE, 256, 1, "open files (ulimit -n)"),
)
"""(limit, value above which it is ample, unit, name of the unit)."""


def is_scarcity(error: BaseException) -> bool:
    """Whether an error comes from a lack of memory, processes or descriptors.

    Without memory, libraries in C may fail without saying why, with SystemError.
    """
    memory_errors = (MemoryError, SystemError) if _memory_is_limited() else MemoryError
    seen: BaseException | None = error
    while seen is not None:
        said = str(seen).lower()
        if (
            isinstance(seen, memory_errors)
            or (isinstance(seen, OSError) and seen.errno in _SCARCE)
            or any(word in said for word in _WORDS)
        ):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def words(error: BaseException) -> str:
    """The error, and the limits of this process, in one line."""
    said = "memory ran out" if isinstance(error, MemoryError) else str(error)
    return f"{said or type(error).__name__}{limits()}"


def limits() -> str:
    """A clause that names the limits of this process; empty if all are ample."""
    found = []
    for which, ample, unit, what in _LIMITS:
        soft, _hard = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY and soft <= ample:
            found.append(f"{soft // unit} {what}")
    return f"; this process may have at most {', '.join(found)}" * bool(found)


def need_files(count: int) -> None:
    """Raise the limit of open files of this process and its children to `count`.

    Raises:
        HarnessError: It can't be raised that far; says how many files are needed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise HarnessError(
            f"this run takes up to {count} open files, and this process may have at "
            f"most {hard} (ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _memory_is_limited() -> bool:
    of_memory = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(r)[0] != resource.RLIM_INFINITY for r in of_memory)


def refuse_little_memory() -> None:
    """Try in a child whether numpy can be loaded, if memory is limited.

    Its OpenBLAS ends a process that has too little memory with status 1, which here
    means an invalid history. Cost: nothing without a limit (`ulimit -v`, `ulimit -d`),
    else 0.2 s.

    Raises:
        HarnessError: numpy can't be loaded.
    """
    if not _memory_is_limited():
        return
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            importlib.import_module("numpy")
            os._exit(0)
        finally:
            os._exit(255)
    if os.waitpid(pid, 0)[1] != 0:
        raise HarnessError(f"there is too little memory to begin with{limits()}")
    importlib.import_module("numpy")  # while there is memory for it

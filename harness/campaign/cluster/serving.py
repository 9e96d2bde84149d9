"""`splitbrain worker`: a worker of Dask in this process, for runs of splitbrain.

Its limits are those of runs, not of data: no limit of memory, no nanny that starts it
again. It ends when its scheduler does, or when it is asked to; what it was carrying out
ends with it.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from harness.campaign.cluster import work, workers
from harness.errors import HarnessError
from harness.host.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable


def serve(address: str, jobs: int, tell: Callable[[str], None]) -> None:
    """Work for the scheduler at `address` until a stop signal comes.

    Args:
        address: dask://HOST:PORT.
        jobs: How many runs are carried out at a time.
        tell: Called with the worker's own address when it is ready.

    Raises:
        UsageError: Nobody listens there.
        HarnessError: The scheduler has gone.
    """
    workers.quiet()
    workers.reach(address)
    with scratch_folder("splitbrain-dask-") as scratch:
        try:
            asked = asyncio.run(_serve(address, jobs, str(scratch), tell))
        finally:
            work.RUNNERS.close()
    if not asked:
        raise HarnessError(f"the scheduler at {address} is gone")


async def _serve(
    address: str, jobs: int, scratch: str, tell: Callable[[str], None]
) -> bool:
    """Work until the end; returns whether a signal asked for it."""
    from distributed import Worker

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    worker = Worker(
        workers.dask_address(address),
        nthreads=jobs,
        memory_limit="0",
        local_directory=scratch,
        dashboard=False,
    )
    await worker
    tell(worker.address)
    ended = asyncio.ensure_future(worker.finished())
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
    if stopping.is_set():
        await worker.close(executor_wait=False, reason="a stop signal")
    work.RUNNERS.close()
    stop.cancel()
    return stopping.is_set()

"""Shares of a check's work, done by the workers of a cluster."""

from __future__ import annotations

import pickle
import secrets
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, TypeVar

from distributed import KilledWorker, as_completed

from harness.campaign.cluster import work as tasking
from harness.errors import HarnessError, SplitbrainError
from harness.override import override
from harness.verdict import Helpers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from distributed import Future

    from harness.campaign.cluster.workers import Workers

Subject = TypeVar("Subject")
Share = TypeVar("Share")
Done = TypeVar("Done")


class ClusterHelpers(Helpers):
    """The workers of a cluster, as helpers of a check.

    Args:
        workers: The workers.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.count = workers.threads

    @override
    def each(
        self,
        work: Callable[[Subject, Share], Done],
        about: Subject,
        of: Sequence[Share],
    ) -> Iterator[Done]:
        try:
            subject = pickle.dumps(about, pickle.HIGHEST_PROTOCOL)
            tasks = [pickle.dumps((work, share)) for share in of]
        except Exception as problem:  # a model of the user's, of a file, say
            raise HarnessError(
                f"the check can't be sent to other machines ({problem}): leave out "
                "--executor"
            ) from problem
        name = secrets.token_hex(8)
        client, there = self._workers.client, sorted(self._workers.members)
        with self._workers.scheduler_lost():
            [data] = client.scatter(
                [subject], workers=there, broadcast=True, hash=False
            )
            futures = [
                client.submit(
                    tasking.judge_share,
                    *(name, data, task),
                    key=f"splitbrain-{name}-{number}",
                    workers=there,
                    pure=False,
                )
                for number, task in enumerate(tasks)
            ]
        for future in as_completed(futures):
            yield self._result(future)

    def _result(self, future: Future[Done]) -> Done:
        try:
            done: Done = future.result()
        except SplitbrainError:
            raise
        except KilledWorker as killed:
            last = killed.last_worker.address
            why = f"each worker that judged some keys died, the last at {last}"
            raise HarnessError(why) from None
        except CancelledError as problem:
            self._workers.look(is_due=True)  # raises if the scheduler is gone
            why = "somebody cancelled the check at the scheduler, or a worker was lost"
            raise HarnessError(why) from problem
        except Exception as problem:  # what a checker raised over there
            why = f"a worker could not judge some keys: {problem!r}"
            raise HarnessError(why) from problem
        return done

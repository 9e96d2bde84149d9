"""The executor of a cluster: experiments go out, outcomes and run folders come back.

Dask chooses among the workers that can carry an experiment out, and tries it elsewhere
when one dies. It keeps nothing that outlasts its scheduler, and what a worker has
finished but not sent is carried out again. So only as many experiments are with it as
its workers can begin soon; the others wait here.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from distributed import KilledWorker

from harness.campaign.cluster import parcels, work
from harness.campaign.cluster.workers import ABSENCE_S, AHEAD, ANSWER_S, LOOK_S
from harness.campaign.executor import Executor
from harness.campaign.outcome import Outcome
from harness.host import program
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from distributed import Future

    from harness.campaign.cluster.work import Answer
    from harness.campaign.cluster.workers import Workers
    from harness.campaign.engine import CarryOut
    from harness.campaign.experiment import Experiment


class Homes(NamedTuple):
    """Where run folders go.

    Attributes:
        here: The folder of this machine for those that are sent.
        shared: The same, if all machines see it; else empty.
        store: Where workers write them, as a URL; empty if they send them.
    """

    here: Path
    shared: str
    store: str


@dataclass
class Waiting:
    """An experiment that waits here.

    Attributes:
        tries: How often it was with Dask, and all workers were lost that it was for.
        stranded_s: Since when nobody can carry it out; None if somebody can.
    """

    number: int
    experiment: Experiment
    tries: int = 0
    stranded_s: float | None = None

    @property
    def weight(self) -> int:
        """What it takes of the room; simulated runs wait beside one under way."""
        return 1 if self.experiment.spec.world == "sim" else AHEAD

    @property
    def is_stranded(self) -> bool:
        """Whether nobody could carry it out for too long, if nobody can now."""
        now_s = time.monotonic()
        if self.stranded_s is None:
            self.stranded_s = now_s
        return now_s - self.stranded_s > ABSENCE_S


@dataclass
class Sent:
    """An experiment that is with Dask.

    Attributes:
        what: The experiment.
        future: Dask's, for its answer.
        workers: The addresses of those that may carry it out.
    """

    what: Waiting
    future: Future[Answer]
    workers: set[str]


class ClusterExecutor(Executor):
    """Carries experiments out on the workers of a cluster.

    Args:
        workers: These workers.
        carry_out: Carries out each experiment.
        homes: Where run folders go.
        jobs: How many experiments are with Dask at a time, at most.
        limit_s, tick: As those of `Engine.executor`.
    """

    def __init__(
        self,
        workers: Workers,
        carry_out: CarryOut,
        homes: Homes,
        jobs: int,
        limit_s: float | None,
        tick: Callable[[], None],
    ) -> None:
        self._workers = workers
        self._carry_out = carry_out
        self._homes = homes
        self._jobs = jobs
        self._limit_s = limit_s
        self._tick = tick
        self._campaign = secrets.token_hex(8)
        self._submitted = 0
        self._cancelled = 0  # experiments with smaller numbers are cancelled
        self._asked = 0  # and of these, workers have been told
        self._killing = False
        self._waiting: deque[Waiting] = deque()
        self._sent: dict[int, Sent] = {}
        self._answers: deque[tuple[int, Outcome | None]] = deque()
        # The numbers of those that have ended; -1 to look at what a signal changed.
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    @override
    def submit(self, experiment: Experiment) -> int:
        number = self._submitted
        self._submitted += 1
        self._waiting.append(Waiting(number, experiment))
        return number

    @override
    def as_completed(self) -> Iterator[tuple[int, Outcome | None]]:
        while True:
            self._obey()
            self._send()
            if self._answers:
                yield self._answers.popleft()
            elif self._sent or self._waiting:
                self._listen()
            else:
                return

    @override
    def cancel(self) -> None:
        self._cancelled = self._submitted
        self._ended.put(-1)

    @override
    def kill(self) -> None:
        self._cancelled = self._submitted
        self._killing = True
        self._ended.put(-1)

    def _obey(self) -> None:
        """Do what `cancel` and `kill`, which signals may call, have asked for."""
        for waits in [w for w in self._waiting if w.number < self._cancelled]:
            self._waiting.remove(waits)
            self._answers.append((waits.number, None))
        if self._killing:
            self._killing = False
            self._answers += [(number, None) for number in self._sent]
            self._drop()
        if self._asked < self._cancelled:
            self._asked = self._cancelled
            with self._workers.scheduler_lost():
                self._workers.client.run(
                    work.ask,
                    self._campaign,
                    self._asked,
                    on_error="ignore",
                    callback_timeout=ANSWER_S,
                )

    def _drop(self) -> None:
        """Have Dask forget what is with it; workers then end it at once."""
        futures = [sent.future for sent in self._sent.values()]
        self._sent.clear()
        if futures and self._workers.client.status == "running":
            self._workers.client.cancel(futures)

    def _send(self) -> None:
        """Give Dask what its workers can begin soon."""
        room = AHEAD * self._workers.threads
        room -= sum(sent.what.weight for sent in self._sent.values())
        while self._waiting and len(self._sent) < self._jobs:
            waits = self._waiting[0]
            able = self._able(waits)
            if able:
                if waits.weight > room:
                    return
                room -= waits.weight
                self._sent[waits.number] = Sent(waits, self._begin(waits, able), able)
            elif waits.is_stranded:
                self._fail(waits, NOBODY)
            else:
                return
            self._waiting.popleft()

    def _able(self, waits: Waiting) -> set[str]:
        """The addresses of the workers that can carry it out."""
        able = {member.address for member in self._workers.able(waits.experiment)}
        if able:
            waits.stranded_s = None
        return able

    def _begin(self, waits: Waiting, able: set[str]) -> Future[Answer]:
        request = work.Request(
            self._campaign,
            waits.number,
            self._carry_out,
            waits.experiment.encode(),
            self._limit_s,
            self._homes.shared,
            self._homes.store,
        )
        number = waits.number
        with self._workers.scheduler_lost():
            future = self._workers.client.submit(
                work.carry_out,
                request,
                key=f"splitbrain-{self._campaign}-{number}-{waits.tries}",
                workers=sorted(able),
                allow_other_workers=False,
                pure=False,
            )
        future.add_done_callback(lambda _: self._ended.put(number))
        return future

    def _listen(self) -> None:
        """Wait a while for experiments to end."""
        ended = set()
        try:
            ended.add(self._ended.get(timeout=LOOK_S))
            while True:
                ended.add(self._ended.get_nowait())
        except queue.Empty:
            pass
        for number in sorted(ended & set(self._sent)):
            if self._sent[number].future.done():  # else it was another try that ended
                self._hear(number, self._sent.pop(number))
        if self._workers.look():
            self._miss()
            self._tick()

    def _miss(self) -> None:
        """Send what is with workers that are gone to others, if Dask can't."""
        there = set(self._workers.members)
        for number, sent in list(self._sent.items()):
            if sent.workers & there:
                continue
            del self._sent[number]
            self._workers.client.cancel([sent.future])
            sent.what.tries += 1
            if sent.what.tries < TRIES:
                self._waiting.appendleft(sent.what)
            else:
                self._fail(sent.what, f"{TRIES} times, all workers died that could")

    def _hear(self, number: int, sent: Sent) -> None:
        """Take the answer for an experiment."""
        future = sent.future
        try:
            answer = future.result()
            self._answers.append((number, self._told(answer)))
        except KilledWorker as killed:
            last = killed.last_worker.address
            why = f"each worker that carried it out died, the last at {last}"
            self._fail(sent.what, why)
        except CancelledError:
            self._workers.look(is_due=True)  # raises if the scheduler is gone
            self._fail(sent.what, "somebody cancelled it at the scheduler")
        except Exception as failure:  # of Dask, of pickle, of this machine's disk
            self._fail(sent.what, f"{type(failure).__name__}: {failure}")

    def _told(self, answer: Answer) -> Outcome | None:
        """The outcome in an answer; a folder that came with it is unpacked."""
        if not answer.outcome:
            return None
        outcome = Outcome.decode(answer.outcome)
        parcel = answer.parcel
        if parcel is None:
            return outcome
        folder = parcels.unpack(parcel, self._homes.here)
        home = program.near(self._homes.here)
        return parcels.told_at_home(outcome, parcel.scratch, home, str(folder))

    def _fail(self, what: Waiting, why: str) -> None:
        outcome = Outcome.failed(what.experiment, why)
        self._answers.append((what.number, outcome))


TRIES = 3
"""How often an experiment is sent to other workers when all are lost it was for."""

NOBODY = f"no worker that can carry it out was there for {ABSENCE_S:.0f} s"

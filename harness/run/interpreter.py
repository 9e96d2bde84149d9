"""The interpreter: puts a generator to work on clients and the nemesis.

Two layers. `Core` is a state machine without clock or IO: it is told the time and what
threads have completed, and answers what to start now and when to be asked again. It
owns the threads, the processes they embody, and the history's rules. `interpret` drives
it under asyncio with real clients, time limits and all that can go wrong with them.

The rules are Jepsen's. An operation is recorded as `invoke` before its client gets it,
and completed after the client has answered, so that in the history it lasts at least as
long as it did. After `info` nobody knows whether the operation will still happen, so
its process never returns: thread t goes on as process + concurrency, with a new client.
Thread t talks to node t mod n.

Choices. No operation has a timer of its own (`wait_for` costs more than all the rest):
their time limits are all the same, so one watchdog set to the earliest deadline guards
them all. A client whose answer is not known to be definite is replaced even where the
operation is recorded as `fail` (idempotent ones): a late reply must not be taken for
the answer to the next operation. A thread never waits for a client that is cancelled or
closed, however long that takes.
"""

from __future__ import annotations

import asyncio
import errno
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from harness.errors import TEMPORARILY_UNAVAILABLE, HarnessError, NodeReply, Timeout
from harness.history import Op, OpType
from harness.workload.generator import (
    NEMESIS,
    Board,
    Context,
    Done,
    Event,
    Generator,
    Invocation,
    Log,
    Seeds,
    Thread,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Sequence

    from harness.systems.client import Client
    from harness.worlds.places import NodePlace

OUR_OWN_LACK: Final = {errno.EMFILE, errno.ENFILE}
"""Errors of opening a connection that say nothing about a node: we lack resources."""

HOLD_NS_MIN: Final = 25_000_000
HOLD_NS_MAX: Final = 100_000_000
"""How long a thread is held back when its client can't be opened, or when its node asks
to be left alone for now. The pause doubles from the first to the second: so a dead node
costs ten failed operations a second and not thousands, and the return of a node is
noticed within a tenth of a second."""

FAREWELL_S: Final = 1.0
"""How long a cancelled client may take to end and close before it is abandoned."""

NEMESIS_TIMEOUT_S: Final = 120.0
"""How long one nemesis operation may take before the harness has failed."""

MESSAGES_MAX: Final = 10_000
"""Messages a generator may show at one instant."""

Record = Callable[[Op], Op]
"""Appends to the history: gives the op its index and returns it."""

Crash = Callable[[str, int | None, str], None]
"""Keeps a traceback; called with its place ("client n1"), the index of the operation
and the text."""


class NemesisClient(Protocol):
    """Carries out nemesis operations."""

    async def invoke(self, op: Op) -> Op:
        """Carry out `op` and return its completion (`op.info(...)`).

        Raises:
            Exception: The harness failed; the run ends.
        """
        ...

    def in_force(self) -> Collection[str]:
        """The kinds of fault in force."""
        ...


@dataclass
class Outcome:
    """The outcome of a run, or of the part of it so far.

    Attributes:
        ok: Client operations that happened.
        fail: Client operations that did not.
        info: Client operations of unknown outcome.
        nemesis_ops: Operations the nemesis has completed.
        timeouts: Operations that met their time limit: `info`, or `fail` if idempotent.
        no_client: Operations that never left, as their client could not be opened.
        client_crashes: Exceptions from clients that are neither NodeReply nor Timeout,
            and completions that do not belong to the operation.
        late_replies: Answers that came after the time limit, and were thrown away.
        abandoned: Clients that went on after they were cancelled, and were cut off.
        close_errors: Clients that raised or hung when they were closed.
        ended: "interrupted" if the run was stopped before the generator was done.
    """

    ok: int = 0
    fail: int = 0
    info: int = 0
    nemesis_ops: int = 0
    timeouts: int = 0
    no_client: int = 0
    client_crashes: int = 0
    late_replies: int = 0
    abandoned: int = 0
    close_errors: int = 0
    ended: Literal["complete", "interrupted"] = "complete"

    @property
    def completed(self) -> int:
        """Client operations completed."""
        return self.ok + self.fail + self.info


# ---- The core ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """The next actions of the driver.

    Attributes:
        start: Operations to start, as recorded, with their threads.
        messages: Texts to show.
        wake_ns: When to poll again, if no operation completes before; None to poll
            again only when one completes.
        finished: Whether the run is over: nothing is under way, nothing more will come.
    """

    start: Sequence[tuple[Thread, Op]]
    messages: Sequence[str]
    wake_ns: int | None
    finished: bool


class Core:
    """Threads, processes and the generator; neither clock nor IO.

    Args:
        generator: The operations to do.
        concurrency: Number of client threads.
        nodes: Names of the nodes; thread t talks to `nodes[t % len(nodes)]`.
        seed: Decides every random choice, given the order of events.
        has_nemesis: Whether there is a nemesis thread.
        record: Gives ops their index and keeps them.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        concurrency: int,
        nodes: Sequence[str],
        seed: int | str,
        has_nemesis: bool,
        record: Record,
    ) -> None:
        if concurrency < 1 or not nodes:
            raise HarnessError(
                f"nothing to run: {concurrency} clients, {len(nodes)} nodes"
            )
        self.board = Board(concurrency, seed)
        self.outcome = Outcome()
        self._nodes = nodes
        self._record = record
        self._flow = generator.start(Seeds(f"{seed}/generator"))
        self._flow_done = False
        # Bit sets of threads, as in Context.
        self._all = (1 << concurrency) - 1
        if has_nemesis:
            self._all |= self.board.bit(NEMESIS)
        self._free = self._all
        self._busy: dict[Thread, Op] = {}
        self._held_until_ns: dict[Thread, int] = {}
        self._now_ns = 0

    def busy(self) -> list[Thread]:
        """The threads that have an operation under way, in order of its start."""
        return list(self._busy)

    def poll(self, now_ns: int) -> Decision:
        """The operations to start at `now_ns`, and the time to poll again.

        Raises:
            GeneratorError: The generator can't work.
            HarnessError: It waits for something that can never happen.
        """
        now_ns = self._advance(now_ns)
        start: list[tuple[Thread, Op]] = []
        messages: list[str] = []
        wake_ns: int | None = None
        if self._held_until_ns:
            self._release(now_ns)
        while self._free and not self._flow_done:
            ctx = Context(now_ns, self._free, self._all, self.board)
            step = self._flow.next(ctx)
            if isinstance(step, (Invocation, Log)):
                assert step.time_ns is not None
                if step.time_ns > now_ns:
                    wake_ns = step.time_ns
                    break
                self._flow.take(step)
                if isinstance(step, Invocation):
                    start.append(self._start(step, now_ns))
                else:
                    messages.append(step.text)
                    assert len(messages) <= MESSAGES_MAX, "messages without end"
            elif isinstance(step, Done):
                self._flow_done = True
            else:
                wake_ns = step.until_ns
                self._expect_an_event(wake_ns)
                break
        return self._decide(start, messages, wake_ns)

    def complete(self, now_ns: int, thread: Thread, completion: Op) -> Op:
        """Record the completion of the operation of `thread`, and free the thread.

        The record takes process, f and key from the invocation, even if those of the
        completion differ.
        """
        now_ns = self._advance(now_ns)
        invoked = self._busy.pop(thread)
        done = Op(
            -1,
            now_ns,
            invoked.process,
            completion.type,
            invoked.f,
            completion.value,
            invoked.key,
            completion.error,
            completion.node or invoked.node,
            completion.extra,
        )
        done = self._record(done)
        self._free |= self.board.bit(thread)
        if isinstance(thread, int):
            self._count(thread, done.type)
        else:
            self.outcome.nemesis_ops += 1
            self.board.nemesis_did(invoked.f)
        ctx = Context(now_ns, self._free, self._all, self.board)
        self._flow.update(ctx, Event(thread, done))
        return done

    def hold(self, thread: Thread, until_ns: int) -> None:
        """Give `thread`, which must be idle, nothing to do before `until_ns`."""
        assert thread not in self._busy
        self._held_until_ns[thread] = until_ns
        self._free &= ~self.board.bit(thread)

    def stop(self) -> None:
        """Start nothing more; what is under way may still complete."""
        self._flow_done = True

    def _advance(self, now_ns: int) -> int:
        """`now_ns`, or the latest time seen: a history's time never runs backwards."""
        self._now_ns = max(self._now_ns, now_ns)
        return self._now_ns

    def _release(self, now_ns: int) -> None:
        for thread, until_ns in list(self._held_until_ns.items()):
            if until_ns <= now_ns:
                del self._held_until_ns[thread]
                self._free |= self.board.bit(thread)

    def _start(self, offer: Invocation, now_ns: int) -> tuple[Thread, Op]:
        thread = offer.thread
        assert thread is not None
        bit = self.board.bit(thread)
        assert self._free & bit, f"{offer.f} was offered on busy thread {thread}"
        self._free &= ~bit
        op = self._record(self._invocation(thread, offer, now_ns))
        self._busy[thread] = op
        return thread, op

    def _invocation(self, thread: Thread, offer: Invocation, now_ns: int) -> Op:
        f, value, key = offer.f, offer.value, offer.key
        if not isinstance(thread, int):
            self.board.nemesis_began(f)
            return Op(-1, now_ns, NEMESIS, "info", f, value, key)
        self.board.invoked += 1
        node = self._nodes[thread % len(self._nodes)]
        process = self.board.processes[thread]
        return Op(-1, now_ns, process, "invoke", f, value, key, None, node)

    def _count(self, thread: int, kind: OpType) -> None:
        self.board.completed += 1
        if kind == "ok":
            self.outcome.ok += 1
        elif kind == "fail":
            self.outcome.fail += 1
        else:
            self.outcome.info += 1
            self.board.processes[thread] += self.board.concurrency

    def _expect_an_event(self, until_ns: int | None) -> None:
        """Refuse to wait for ever: with every thread idle, no event can come."""
        if until_ns is None and not self._busy and not self._held_until_ns:
            raise HarnessError(
                "the generator waits for an event, but every thread is idle, so none "
                "can come"
            )

    def _decide(
        self,
        start: list[tuple[Thread, Op]],
        messages: list[str],
        wake_ns: int | None,
    ) -> Decision:
        finished = self._flow_done and not self._busy
        if not self._flow_done and self._held_until_ns:
            release_ns = min(self._held_until_ns.values())
            wake_ns = release_ns if wake_ns is None else min(wake_ns, release_ns)
        return Decision(start, messages, wake_ns, finished)


# ---- The driver ----------------------------------------------------------------------


class _Worker:
    """A task that carries out the operations of one process through one client."""

    __slots__ = (
        "client",
        "deadline_ns",
        "mail",
        "op",
        "opened",
        "retired",
        "task",
        "thread",
        "try_later",
    )

    def __init__(self, thread: int, mail: asyncio.Future[Op]) -> None:
        self.thread = thread
        self.mail = mail
        self.task: asyncio.Task[None] | None = None
        self.client: Client | None = None
        self.opened = False
        # Whether its node has just asked to be left alone for now.
        self.try_later = False
        # The operation under way, if any.
        self.op: Op | None = None
        self.deadline_ns = 0
        # Whether another worker has taken over its thread: then any answer is late.
        self.retired = False


class _Driver:
    """Drives a Core under asyncio. Its arguments are those of `interpret`."""

    def __init__(
        self,
        core: Core,
        *,
        nodes: Sequence[NodePlace],
        open_client: Callable[[], Client],
        nemesis: NemesisClient | None,
        op_timeout_s: float,
        idempotent: frozenset[str],
        crash: Crash,
        now_ns: Callable[[], int],
        on_log: Callable[[str], None],
    ) -> None:
        self._core = core
        self._outcome = core.outcome
        self._nodes = nodes
        self._open_client = open_client
        self._nemesis = nemesis
        self._op_timeout_s = op_timeout_s
        self._op_timeout_ns = int(op_timeout_s * 1e9)
        self._idempotent = idempotent
        self._crash = crash
        self._now_ns = now_ns
        self._on_log = on_log
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._workers: dict[int, _Worker] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self._striking: asyncio.Task[None] | None = None
        self._failures = [0] * core.board.concurrency
        # Timers: when the generator wants to be asked again, and the next deadline.
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = 0
        self._watchdog: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Go on until the generator is done, `interrupt`, or the harness fails."""
        try:
            self.pump()
            await self._finished
        finally:
            self._finish()
            await self._leave()

    def interrupt(self) -> None:
        """Start nothing more and give up what is under way."""
        if self._finished.done():
            return
        self._outcome.ended = "interrupted"
        self._core.stop()
        for thread in self._core.busy():
            if isinstance(thread, int):
                worker = self._workers[thread]
                op = worker.op
                assert op is not None
                self._retire(worker)
                gave_up = (
                    self._unknown(op, "interrupted")
                    if worker.opened
                    else op.fail("no-client: interrupted")
                )
                self._complete(thread, gave_up)
        self._finish()

    # Starting operations

    def pump(self) -> None:
        """Let the core decide, and carry out what it decided."""
        if self._finished.done():
            return
        try:
            decision = self._core.poll(self._now_ns())
            for text in decision.messages:
                self._on_log(text)
        except Exception as failure:
            # Timers call this too, and a timer's exception would be lost.
            self._finish(failure)
            return
        for thread, op in decision.start:
            if isinstance(thread, int):
                self._hand_over(thread, op)
            else:
                self._striking = self._loop.create_task(self._strike(op))
                self._striking.add_done_callback(self.heed)
        if decision.wake_ns is not None:
            self._wake_at(decision.wake_ns)
        if decision.finished:
            self._finish()

    def _hand_over(self, thread: int, op: Op) -> None:
        worker = self._workers.get(thread)
        if worker is None:
            worker = _Worker(thread, self._loop.create_future())
            worker.task = self._loop.create_task(self._serve(worker))
            worker.task.add_done_callback(partial(self._served, worker))
            self._workers[thread] = worker
        worker.op = op
        worker.deadline_ns = op.time + self._op_timeout_ns
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._op_timeout_s, self._watch)
        worker.mail.set_result(op)

    def _wake_at(self, wake_ns: int) -> None:
        """Pump again at `wake_ns`. An earlier alarm stays: its pump sets the next."""
        if self._alarm is not None:
            if self._alarm_ns <= wake_ns:
                return
            self._alarm.cancel()
        self._alarm_ns = wake_ns
        self._alarm = self._loop.call_later(self._until_s(wake_ns), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.pump()

    def _until_s(self, time_ns: int) -> float:
        return max(0, time_ns - self._now_ns()) / 1e9

    def _finish(self, failure: Exception | None = None) -> None:
        """End the run, with `failure` if there is one. Only the first call counts."""
        if self._finished.done():
            return
        if failure is None:
            self._finished.set_result(None)
        else:
            self._finished.set_exception(failure)

    # Clients

    async def _serve(self, worker: _Worker) -> None:
        if not await self._opened(worker):
            return
        client = worker.client
        assert client is not None
        while True:
            if worker.mail.done():
                # A client that never waits must not keep the others from running.
                await asyncio.sleep(0)
            op = await worker.mail
            completion, sound = await self._call(worker, client, op)
            if worker.retired:
                return
            self._settle(worker, completion, sound=sound)
            if not sound:
                return

    async def _opened(self, worker: _Worker) -> bool:
        """Open the client; if that fails, fail the operation at hand: it never left."""
        try:
            worker.client = self._open_client()
            await worker.client.open(self._nodes[worker.thread % len(self._nodes)])
        except Exception as failure:
            # A system's client may raise anything; the node was not asked for anything.
            if isinstance(failure, OSError) and failure.errno in OUR_OWN_LACK:
                self._finish(HarnessError(f"cannot open a client: {failure}"))
            elif not worker.retired:
                self._no_client(worker, f"{type(failure).__name__}: {failure}")
                self.pump()
            return False
        worker.opened = True
        self._failures[worker.thread] = 0
        return True

    async def _call(self, worker: _Worker, client: Client, op: Op) -> tuple[Op, bool]:
        """The completion of `op`, and whether the client is fit for another one."""
        try:
            completion = await client.invoke(op)
        except NodeReply as reply:
            error = reply.text if reply.code is None else f"{reply.text} ({reply.code})"
            if reply.definite:
                worker.try_later = reply.code == TEMPORARILY_UNAVAILABLE
                return op.fail(error), True
            return self._unknown(op, error), False
        except (Timeout, TimeoutError) as timeout:
            self._outcome.timeouts += 1
            return self._unknown(op, f"timeout: {timeout}"), False
        except asyncio.CancelledError:
            task = worker.task
            if task is None or task.cancelling():
                raise
            return self._crashed(worker, op, "cancelled itself"), False
        except Exception as failure:
            # A client that raises doesn't end the run: the operation is indefinite.
            return self._crashed(
                worker, op, f"{type(failure).__name__}: {failure}"
            ), False
        if worker.retired:
            self._outcome.late_replies += 1
        wrong = _mismatch(op, completion)
        if wrong:
            return self._crashed(worker, op, wrong), False
        return completion, completion.type != "info"

    def _unknown(self, op: Op, error: str) -> Op:
        """Complete `op`, of which no answer came: `fail` if idempotent, else `info`."""
        return op.fail(error) if op.f in self._idempotent else op.info(error)

    def _crashed(self, worker: _Worker, op: Op, error: str) -> Op:
        if not worker.retired:
            self._outcome.client_crashes += 1
            self._crash(f"client {op.node}", op.index, traceback.format_exc())
        return op.info(f"client crashed: {error}")

    def _no_client(self, worker: _Worker, error: str) -> None:
        op, thread = worker.op, worker.thread
        assert op is not None
        self._outcome.no_client += 1
        self._retire(worker)
        self._complete(thread, op.fail(f"no-client: {error}"))
        self._hold_back(thread)

    def _hold_back(self, thread: int) -> None:
        """Give a node time to come back before `thread` bothers it again."""
        failures = self._failures[thread]
        self._failures[thread] = failures + 1
        hold_ns = min(HOLD_NS_MIN << min(failures, 8), HOLD_NS_MAX)
        self._core.hold(thread, self._now_ns() + hold_ns)

    def _settle(self, worker: _Worker, completion: Op, *, sound: bool) -> None:
        """Record a completion; replace the worker unless its client is sound."""
        if sound:
            worker.op = None
            worker.mail = self._loop.create_future()
        else:
            self._retire(worker)
        self._complete(worker.thread, completion)
        if worker.try_later:
            worker.try_later = False
            self._hold_back(worker.thread)
        elif sound:
            self._failures[worker.thread] = 0
        self.pump()

    def _complete(self, thread: Thread, completion: Op) -> None:
        try:
            self._core.complete(self._now_ns(), thread, completion)
        except Exception as failure:
            # The history can't be written, or the generator broke. Timers call this
            # too, and a timer's exception would be lost.
            self._finish(failure)

    # Time limits

    def _watch(self) -> None:
        """Time out what is overdue, and look again at the next deadline."""
        self._watchdog = None
        now_ns = self._now_ns()
        for worker in list(self._workers.values()):
            if worker.op is not None and worker.deadline_ns <= now_ns:
                self._time_out(worker, worker.op)
        deadlines = [w.deadline_ns for w in self._workers.values() if w.op]
        # Set before pumping: new operations would set it to later deadlines than these.
        if deadlines and self._watchdog is None:
            delay_s = self._until_s(min(deadlines))
            self._watchdog = self._loop.call_later(delay_s, self._watch)
        self.pump()

    def _time_out(self, worker: _Worker, op: Op) -> None:
        if not worker.opened:
            self._no_client(worker, f"not open within {self._op_timeout_s:g} s")
            return
        self._outcome.timeouts += 1
        self._retire(worker)
        self._complete(worker.thread, self._unknown(op, "timeout"))

    def _served(self, worker: _Worker, task: asyncio.Task[None]) -> None:
        # A retired worker raises because it was cut off (`_ended`).
        if not worker.retired:
            self.heed(task)

    # Letting go

    def _retire(self, worker: _Worker) -> None:
        """Cancel the worker and close its client; its thread goes on with a new one."""
        worker.retired = True
        del self._workers[worker.thread]
        task = self._loop.create_task(self._see_off(worker))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _see_off(self, worker: _Worker) -> None:
        assert worker.task is not None
        if not await _ended(worker.task):
            self._outcome.abandoned += 1
        if worker.client is None:
            return
        closing = self._loop.create_task(worker.client.close())
        await asyncio.wait({closing}, timeout=FAREWELL_S)
        hung = not closing.done()
        await _ended(closing)
        if hung or closing.cancelled() or closing.exception() is not None:
            self._outcome.close_errors += 1

    def heed(self, task: asyncio.Task[None]) -> None:
        """Let a task of ours that raised end the run: no client has caused that."""
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, Exception):
            self._finish(failure)

    async def _leave(self) -> None:
        """Let go of every client, the nemesis and all timers, in bounded time."""
        for timer in (self._alarm, self._watchdog):
            if timer is not None:
                timer.cancel()
        for worker in list(self._workers.values()):
            self._retire(worker)
        if self._striking is not None:
            await _ended(self._striking)
        while self._farewells:
            await asyncio.wait(self._farewells)

    # The nemesis

    async def _strike(self, op: Op) -> None:
        assert self._nemesis is not None
        try:
            async with asyncio.timeout(NEMESIS_TIMEOUT_S) as limit:
                completion = await self._nemesis.invoke(op)
            assert isinstance(completion, Op), f"{completion!r} is no completion"
            assert completion.type == "info", f"completed as {completion.type}"
        except asyncio.CancelledError:
            self._complete(NEMESIS, op.info("interrupted"))
            raise
        except Exception as failure:
            # A plug-in may raise anything. It ends the run, with the cause on record.
            error = f"{type(failure).__name__}: {failure}"
            if limit.expired():
                error = f"it took more than {NEMESIS_TIMEOUT_S:g} s"
            self._crash(NEMESIS, op.index, traceback.format_exc())
            self._complete(NEMESIS, op.info(f"nemesis crashed: {error}"))
            broken = HarnessError(f"the nemesis crashed in {op.f}: {error}")
            broken.__cause__ = failure
            self._finish(broken)
            return
        self._complete(NEMESIS, completion)
        self.pump()


def _mismatch(op: Op, completion: Any) -> str:
    """Why `completion` can't be that of `op`; "" when it can."""
    if not isinstance(completion, Op):
        return f"answered {type(completion).__name__}, not a completion"
    if completion.type not in ("ok", "fail", "info"):
        return f"completed as {completion.type!r}"
    if (completion.process, completion.f) != (op.process, op.f):
        return (
            f"completed {completion.f} of process {completion.process}, "
            f"not {op.f} of process {op.process}"
        )
    return ""


async def _ended(task: asyncio.Task[Any]) -> bool:
    """Cancel `task` and wait until it has ended.

    A coroutine that swallows its cancellation is closed under its task, which then
    fails on its next step; that failure is dropped.

    Returns:
        True if cancelling was enough, False if the coroutine had to be closed.
    """
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=FAREWELL_S)
    if task.done():
        return True
    coroutine = task.get_coro()
    assert coroutine is not None
    with suppress(Exception):
        coroutine.close()
    task.cancel()
    await asyncio.wait({task}, timeout=FAREWELL_S)
    if task.done() and not task.cancelled():
        task.exception()
    return False


async def interpret(
    generator: Generator,
    *,
    concurrency: int,
    nodes: Sequence[NodePlace],
    open_client: Callable[[], Client],
    nemesis: NemesisClient | None,
    record: Record,
    op_timeout_s: float,
    idempotent: frozenset[str],
    seed: int | str,
    crash: Crash,
    stop: asyncio.Event | None = None,
    prod: asyncio.Event | None = None,
    now_ns: Callable[[], int] | None = None,
    on_progress: Callable[[Outcome], None] | None = None,
    progress_s: float = 0.25,
    on_log: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Carry out `generator` with real clients, and record what happens.

    Args:
        generator: What to do, on client threads and on the nemesis thread.
        concurrency: Number of client threads.
        nodes: Where the nodes are; thread t talks to `nodes[t % len(nodes)]`.
        open_client: Makes a new client, not opened yet.
        nemesis: Carries out nemesis operations; with None there is no nemesis thread.
        record: Appends an op to the history: gives it its index and returns it.
        op_timeout_s: How long a client operation may take, opening included.
        idempotent: Functions whose operations are `fail` rather than `info` when no
            answer came, as they change nothing.
        seed: Decides what the generator draws.
        crash: Keeps the traceback of a client's or the nemesis' crash.
        stop: When set, the run ends early.
        prod: When set, the generator is asked anew: it may answer differently now,
            though no operation has completed.
        now_ns: The time since the start of the run; must agree with the loop's timers.
        on_progress: Called every `progress_s` with the outcome so far.
        progress_s: Seconds between calls of `on_progress`.
        on_log: Shows the messages of the generator.

    Returns:
        The outcome of the run, once nothing is under way any more.

    Raises:
        HarnessError: The nemesis crashed, or the generator can't go on. The history
            recorded until then stands.
    """
    core = Core(
        generator,
        concurrency=concurrency,
        nodes=[place.name for place in nodes],
        seed=seed,
        has_nemesis=nemesis is not None,
        record=record,
    )
    if nemesis is not None:
        core.board.in_force = nemesis.in_force
    driver = _Driver(
        core,
        nodes=nodes,
        open_client=open_client,
        nemesis=nemesis,
        op_timeout_s=op_timeout_s,
        idempotent=idempotent,
        crash=crash,
        now_ns=now_ns or _clock_from_now(),
        on_log=on_log,
    )
    companions: list[Coroutine[Any, Any, None]] = []
    if stop is not None:
        companions.append(_once_set(stop, driver.interrupt))
    if prod is not None:
        companions.append(_once_set(prod, driver.pump))
    if on_progress is not None:
        companions.append(_report(core.outcome, on_progress, progress_s))
    await _accompanied(driver, companions)
    return core.outcome


def _clock_from_now() -> Callable[[], int]:
    started_ns = time.monotonic_ns()
    return lambda: time.monotonic_ns() - started_ns


async def _accompanied(
    driver: _Driver, companions: Sequence[Coroutine[Any, Any, None]]
) -> None:
    """Run the driver to its end, and `companions` beside it for as long."""
    tasks = [asyncio.create_task(companion) for companion in companions]
    for task in tasks:
        task.add_done_callback(driver.heed)
    try:
        await driver.run()
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _once_set(event: asyncio.Event, act: Callable[[], None]) -> None:
    await event.wait()
    act()


async def _report(
    outcome: Outcome, on_progress: Callable[[Outcome], None], every_s: float
) -> None:
    while True:
        await asyncio.sleep(every_s)
        on_progress(outcome)

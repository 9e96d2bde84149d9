"""The interpreter with clients that behave in every way, on virtual time.

`VirtualLoop` is an event loop whose clock jumps to the next timer whenever nothing is
ready, so hours pass at once and the same seed gives the same history to the byte.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, NodeReply, Timeout
from harness.history import History, Op
from harness.run.interpreter import (
    NEMESIS_TIMEOUT_S,
    Core,
    Outcome,
    interpret,
)
from harness.workload import generator as gen
from harness.workload.generator import Invocation
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

READ = Invocation("read")
WRITE = Invocation("write", 1)
TIMEOUT_S = 2.0


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: hands the time it would have waited to the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is ready and no timer is set: a deadlock"
        self.now_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which time passes only by waiting, and then at once."""

    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now_s


def virtually(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def place(name: str) -> NodePlace:
    here = Endpoint("127.0.0.1", 1)
    return NodePlace(name, here, {}, Path(), Path(), {name: here})


async def swallow_cancellation() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


class Script:
    """A client that does as `behave` says, and tells `run` of its life."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.node = ""
        self.closed = 0
        run.clients.append(self)

    async def open(self, place: NodePlace) -> None:
        self.node = place.name
        await self.run.opening(self)

    async def invoke(self, op: Op) -> Op:
        return await self.run.behave(op)

    async def close(self) -> None:
        self.closed += 1
        await self.run.closing(self)


async def answer_ok(op: Op) -> Op:
    await asyncio.sleep(0.001)
    return op.ok(op.value)


async def nothing(_: Script) -> None:
    """Opening and closing that work."""


@dataclass
class Run:
    """One call of `interpret`, and what became of it."""

    like: gen.GeneratorLike
    behave: Callable[[Op], Awaitable[Op]] = answer_ok
    opening: Callable[[Script], Awaitable[None]] = nothing
    closing: Callable[[Script], Awaitable[None]] = nothing
    nemesis: Any = None
    concurrency: int = 1
    nodes: int = 1
    seed: int = 1
    idempotent: frozenset[str] = frozenset()
    stop_at_s: float | None = None
    ops: list[Op] = field(default_factory=list)
    clients: list[Script] = field(default_factory=list)
    crashes: list[tuple[str, int | None, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    progress: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def record(self, op: Op) -> Op:
        op.index = len(self.ops)
        self.ops.append(op)
        return op

    def crash(self, where: str, index: int | None, text: str) -> None:
        self.crashes.append((where, index, text))

    async def interpret(self) -> Outcome:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        if self.stop_at_s is not None:
            loop.call_later(self.stop_at_s, stop.set)
        start_s = loop.time()
        try:
            return await interpret(
                gen.as_generator(self.like),
                concurrency=self.concurrency,
                nodes=[place(f"n{i + 1}") for i in range(self.nodes)],
                open_client=lambda: Script(self),
                nemesis=self.nemesis,
                record=self.record,
                op_timeout_s=TIMEOUT_S,
                idempotent=self.idempotent,
                seed=self.seed,
                crash=self.crash,
                stop=stop,
                now_ns=lambda: round((loop.time() - start_s) * 1e9),
                on_progress=lambda outcome: self.progress.append(outcome.completed),
                on_log=self.messages.append,
            )
        finally:
            self.seconds = loop.time() - start_s

    def virtually(self) -> Outcome:
        outcome: Outcome = virtually(self.interpret())
        return outcome

    @property
    def completions(self) -> list[tuple[str, Any]]:
        return [(op.type, op.error) for op in self.ops if op.type != "invoke"]

    @property
    def history_bytes(self) -> bytes:
        return b"\n".join(msgspec.json.encode(op) for op in self.ops)


# ---- Threads, processes, nodes -------------------------------------------------------


def test_every_thread_talks_to_its_node_through_one_client() -> None:
    run = Run(gen.each_thread([WRITE, READ, READ]), concurrency=5, nodes=3)
    assert run.virtually() == Outcome(ok=15)
    assert {(op.process, op.node) for op in run.ops} == {
        (0, "n1"), (1, "n2"), (2, "n3"), (3, "n1"), (4, "n2"),
    }  # fmt: skip
    assert sorted(c.node for c in run.clients) == ["n1", "n1", "n2", "n2", "n3"]
    assert [c.closed for c in run.clients] == [1] * 5


def test_after_info_the_thread_goes_on_as_the_next_process_with_a_new_client() -> None:
    async def behave(op: Op) -> Op:
        return op.info("who knows")

    run = Run(gen.each_thread([WRITE] * 3), behave, concurrency=2)
    assert run.virtually().info == 6
    processes = [op.process for op in run.ops if op.type == "invoke"]
    assert sorted(processes) == [0, 1, 2, 3, 4, 5]
    assert [p % 2 for p in sorted(processes)] == [0, 1, 0, 1, 0, 1]
    assert len(run.clients) == 6
    assert all(c.closed == 1 for c in run.clients)


def test_after_ok_and_fail_the_process_and_its_client_go_on() -> None:
    async def behave(op: Op) -> Op:
        return op.ok() if op.f == "read" else op.fail("no")

    run = Run([READ, WRITE, READ], behave)
    run.virtually()
    assert {op.process for op in run.ops} == {0}
    assert len(run.clients) == 1


def test_an_operation_lasts_in_the_history_as_long_as_it_did() -> None:
    async def behave(op: Op) -> Op:
        await asyncio.sleep(0.25)
        return op.ok()

    run = Run([READ, gen.sleep(0.75), READ], behave)
    run.virtually()
    assert [op.time // 1_000_000 for op in run.ops] == [0, 250, 1000, 1250]


def test_completions_keep_key_and_node_even_if_the_client_forgets_them() -> None:
    async def behave(op: Op) -> Op:
        return Op(7, 7, op.process, "ok", op.f, "answer", extra={"hops": 2})

    run = Run(Invocation("read", key="k"), behave)
    run.virtually()
    done = run.ops[1]
    assert (done.index, done.key, done.node, done.value) == (1, "k", "n1", "answer")
    assert done.extra == {"hops": 2}


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(HarnessError, match="0 clients"):
        Run(READ, concurrency=0).virtually()
    with pytest.raises(HarnessError, match="0 nodes"):
        Run(READ, nodes=0).virtually()


def test_time_never_runs_backwards_in_a_history() -> None:
    ops: list[Op] = []

    def record(op: Op) -> Op:
        ops.append(op)
        return op

    core = Core(
        gen.as_generator([READ, READ]),
        concurrency=1,
        nodes=["n1"],
        seed=1,
        has_nemesis=False,
        record=record,
    )
    thread, op = core.poll(500).start[0]
    core.complete(300, thread, op.ok())
    core.poll(400)
    assert [op.time for op in ops] == [500, 500, 500]


# ---- What nodes say ------------------------------------------------------------------


def test_a_definite_error_is_a_failure_and_the_client_is_kept() -> None:
    async def behave(op: Op) -> Op:
        raise NodeReply(definite=True, text="not leader", code=11)

    run = Run([WRITE, WRITE], behave)
    assert run.virtually() == Outcome(fail=2)
    assert run.completions == [("fail", "not leader (11)")] * 2
    assert len(run.clients) == 1


def test_an_indefinite_error_is_info_and_a_failure_where_that_is_harmless() -> None:
    async def behave(op: Op) -> Op:
        raise NodeReply(definite=False, text="crashed")

    run = Run([WRITE, READ, READ], behave, idempotent=frozenset({"read"}))
    assert run.virtually() == Outcome(info=1, fail=2)
    assert [op.process for op in run.ops] == [0, 0, 1, 1, 1, 1]
    # A late reply must not reach the next operation: none keeps its client.
    assert len(run.clients) == 3


def test_a_timeout_that_the_client_saw_itself_is_info() -> None:
    async def behave(op: Op) -> Op:
        raise Timeout("no answer")

    run = Run(WRITE, behave)
    assert run.virtually() == Outcome(info=1, timeouts=1)
    assert run.completions == [("info", "timeout: no answer")]
    assert not run.crashes


# ---- Clients that hang ---------------------------------------------------------------


async def hang(op: Op) -> Op:
    await asyncio.sleep(1e6)
    return op.ok()


def test_a_client_that_hangs_is_timed_out_to_info() -> None:
    run = Run([WRITE, WRITE], hang)
    assert run.virtually() == Outcome(info=2, timeouts=2)
    assert run.completions == [("info", "timeout")] * 2
    assert [op.time for op in run.ops] == pytest.approx([0, 2e9, 2e9, 4e9], abs=1e6)
    assert run.seconds < 2 * TIMEOUT_S + 0.1
    assert all(c.closed == 1 for c in run.clients)


def test_a_hanging_idempotent_operation_fails_and_the_process_goes_on_anew() -> None:
    run = Run([READ, READ], hang, idempotent=frozenset({"read"}))
    assert run.virtually() == Outcome(fail=2, timeouts=2)
    assert {op.process for op in run.ops} == {0}
    assert len(run.clients) == 2


def test_each_operation_has_its_own_time_limit() -> None:
    async def behave(op: Op) -> Op:
        await asyncio.sleep(1.9)
        return op.ok()

    run = Run(gen.limit(40, gen.stagger(0.1, gen.repeat(READ))), behave, concurrency=4)
    assert run.virtually() == Outcome(ok=40)


def test_every_operation_that_hangs_is_timed_out_when_it_is_due() -> None:
    async def opening(client: Script) -> None:
        if client.node == "n2":
            await asyncio.sleep(1e6)

    paced = gen.limit(50, gen.stagger(0.3, gen.repeat(WRITE)))
    run = Run(paced, hang, opening, concurrency=5, nodes=2)
    outcome = run.virtually()
    assert outcome.timeouts > 5
    assert outcome.no_client > 5
    for invoked, done in History(run.ops).calls():
        assert done is not None
        assert done.time - invoked.time == pytest.approx(TIMEOUT_S * 1e9, abs=1e6)


def test_one_that_hangs_does_not_hold_up_the_others() -> None:
    async def behave(op: Op) -> Op:
        return await (hang(op) if op.process == 0 else answer_ok(op))

    run = Run(gen.each_thread([READ] * 100), behave, concurrency=3)
    outcome = run.virtually()
    # Thread 0 goes on as process 3, which doesn't hang.
    assert outcome == Outcome(ok=299, info=1, timeouts=1)


def test_a_client_that_swallows_its_cancellation_is_abandoned() -> None:
    async def behave(op: Op) -> Op:
        await swallow_cancellation()
        return op.ok()

    run = Run([WRITE, WRITE], behave)
    assert run.virtually() == Outcome(info=2, timeouts=2, abandoned=2)
    assert run.seconds < 2 * TIMEOUT_S + 3
    assert all(c.closed == 1 for c in run.clients)


def test_a_late_reply_is_counted_and_thrown_away() -> None:
    async def behave(op: Op) -> Op:
        if op.process == 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1e6)
            await asyncio.sleep(0.5)
        return op.ok("late")

    run = Run([WRITE, gen.sleep(1), READ], behave)
    assert run.virtually() == Outcome(ok=1, info=1, timeouts=1, late_replies=1)
    assert run.completions == [("info", "timeout"), ("ok", None)]


# ---- Clients that break --------------------------------------------------------------


def test_a_client_that_raises_is_info_with_its_traceback_kept() -> None:
    async def behave(op: Op) -> Op:
        raise ZeroDivisionError("oh")

    run = Run([READ, READ], behave, idempotent=frozenset({"read"}))
    assert run.virtually() == Outcome(info=2, client_crashes=2)
    assert run.completions[0] == ("info", "client crashed: ZeroDivisionError: oh")
    where, index, text = run.crashes[1]
    assert (where, index) == ("client n1", 2)
    assert 'raise ZeroDivisionError("oh")' in text


def test_a_client_that_cancels_itself_has_crashed() -> None:
    async def behave(op: Op) -> Op:
        raise asyncio.CancelledError

    run = Run([WRITE, WRITE], behave)
    assert run.virtually() == Outcome(info=2, client_crashes=2)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda op: None, "answered NoneType"),
        (lambda op: op, "completed as 'invoke'"),
        (lambda op: op.complete("done"), "completed as 'done'"),
        (lambda op: Op(-1, -1, 9, "ok", op.f), "of process 9, not write of process 0"),
        (lambda op: Op(-1, -1, 0, "ok", "read"), "completed read of process 0"),
    ],
)
def test_a_completion_of_something_else_is_a_crash(
    wrong: Callable[[Op], Any], why: str
) -> None:
    async def behave(op: Op) -> Op:
        completion: Op = wrong(op)
        return completion

    run = Run(WRITE, behave)
    assert run.virtually() == Outcome(info=1, client_crashes=1)
    assert why in str(run.completions[0][1])
    assert len(run.crashes) == 1


@pytest.mark.parametrize("hangs", [False, True])
def test_clients_that_cannot_be_closed_are_counted_and_hold_up_nothing(
    *, hangs: bool
) -> None:
    async def behave(op: Op) -> Op:
        return op.info()

    async def closing(_: Script) -> None:
        if hangs:
            await swallow_cancellation()
        raise OSError("broken pipe")

    run = Run([WRITE] * 3, behave, closing=closing)
    assert run.virtually() == Outcome(info=3, close_errors=3)
    assert run.ops[-1].time == 0
    assert run.seconds < 4


# ---- Clients that can't be opened ----------------------------------------------------


def test_an_operation_whose_client_cannot_be_opened_has_definitely_failed() -> None:
    async def opening(_: Script) -> None:
        raise ConnectionRefusedError("nobody there")

    run = Run(WRITE, opening=opening)
    assert run.virtually() == Outcome(fail=1, no_client=1)
    error = "no-client: ConnectionRefusedError: nobody there"
    assert run.completions == [("fail", error)]
    assert [c.closed for c in run.clients] == [1]


def test_a_client_that_hangs_while_opening_has_definitely_failed() -> None:
    async def opening(_: Script) -> None:
        await asyncio.sleep(1e6)

    run = Run(WRITE, opening=opening)
    assert run.virtually() == Outcome(fail=1, no_client=1)
    assert run.completions == [("fail", "no-client: not open within 2 s")]


def test_a_node_that_asks_to_try_later_is_left_alone_for_a_while() -> None:
    async def behave(op: Op) -> Op:
        if asyncio.get_running_loop().time() < 10:
            raise NodeReply(definite=True, text="no leader", code=11)
        return op.ok()

    run = Run(gen.time_limit(20, gen.delay(0.01, gen.repeat(WRITE))), behave)
    outcome = run.virtually()
    # Ten seconds, ten attempts a second; then as fast as asked for.
    assert 95 <= outcome.fail <= 105
    assert outcome.ok >= 900
    assert len(run.clients) == 1


def test_a_dead_node_costs_a_few_operations_and_is_back_at_once() -> None:
    async def opening(client: Script) -> None:
        if client.node == "n2" and asyncio.get_running_loop().time() < 10:
            raise ConnectionRefusedError

    run = Run(
        gen.time_limit(20, gen.repeat(READ)), opening=opening, concurrency=4, nodes=2
    )
    outcome = run.virtually()
    # Two threads, ten seconds, ten attempts a second.
    assert 150 <= outcome.no_client <= 210
    assert outcome.fail == outcome.no_client
    first_ok = next(op for op in run.ops if op.node == "n2" and op.type == "ok")
    assert 10e9 <= first_ok.time <= 10.2e9
    n1, n2 = (
        [op for op in run.ops if (op.type, op.node) == ("ok", node)]
        for node in ("n1", "n2")
    )
    assert len(n1) == pytest.approx(2 * len(n2), rel=0.05)


# ---- The nemesis ---------------------------------------------------------------------


class Striker:
    def __init__(self, behave: Callable[[Op], Awaitable[Op]]) -> None:
        self.behave = behave

    async def invoke(self, op: Op) -> Op:
        return await self.behave(op)

    def in_force(self) -> tuple[str, ...]:
        return ()


def test_nemesis_operations_are_info_twice_and_keep_their_process() -> None:
    async def strike(op: Op) -> Op:
        await asyncio.sleep(0.5)
        return op.info("hurt")

    cuts = [Invocation("cut", "n1"), gen.sleep(1), Invocation("heal")]
    reads = gen.time_limit(2, gen.delay(0.1, gen.repeat(READ)))
    run = Run(gen.beside(reads, cuts), nemesis=Striker(strike))
    assert run.virtually() == Outcome(ok=20, nemesis_ops=2)
    ops = [op for op in run.ops if op.process == "nemesis"]
    assert [(op.type, op.f, op.value) for op in ops] == [
        ("info", "cut", "n1"),
        ("info", "cut", "n1"),
        ("info", "heal", None),
        ("info", "heal", None),
    ]
    assert [op.time // 1_000_000 for op in ops] == [0, 500, 1500, 2000]
    History(run.ops)


async def strike_and_break(op: Op) -> Op:
    raise RuntimeError("iptables is missing")


async def strike_and_say_ok(op: Op) -> Op:
    return op.ok()


@pytest.mark.parametrize(
    ("strike", "why"),
    [
        (strike_and_break, "crashed in cut: RuntimeError: iptables is missing"),
        (strike_and_say_ok, "completed as ok"),
        (hang, "crashed in cut: it took more than 120 s"),
    ],
)
def test_a_broken_nemesis_is_a_failure_of_the_harness(
    strike: Callable[[Op], Awaitable[Op]], why: str
) -> None:
    endless = gen.delay(0.1, gen.repeat(READ))
    strikes = [gen.sleep(1), Invocation("cut")]
    run = Run(gen.beside(endless, strikes), nemesis=Striker(strike))
    with pytest.raises(HarnessError, match=why):
        run.virtually()
    assert run.seconds < NEMESIS_TIMEOUT_S + 5
    assert [c.closed for c in run.clients] == [1]
    assert [where for where, _, _ in run.crashes] == ["nemesis"]
    # What was recorded stands, and the strike has its end.
    assert len(History(run.ops)) > 20
    assert [op.type for op in run.ops if op.process == "nemesis"] == ["info", "info"]


# ---- Ends ----------------------------------------------------------------------------


def test_told_to_stop_it_gives_up_what_is_under_way_and_ends_at_once() -> None:
    async def strike(op: Op) -> Op:
        return await hang(op)

    run = Run(
        gen.beside(gen.each_thread([WRITE, READ]), Invocation("cut")),
        hang,
        nemesis=Striker(strike),
        concurrency=2,
        stop_at_s=1,
        idempotent=frozenset({"read"}),
    )
    outcome = run.virtually()
    assert outcome == Outcome(info=2, nemesis_ops=1, ended="interrupted")
    assert run.completions.count(("info", "interrupted")) == 3
    assert run.seconds < 1.1
    assert all(c.closed == 1 for c in run.clients)
    History(run.ops)


def test_told_to_stop_an_operation_that_never_left_has_failed() -> None:
    async def opening(_: Script) -> None:
        await asyncio.sleep(1e6)

    run = Run(WRITE, opening=opening, stop_at_s=1)
    assert run.virtually() == Outcome(fail=1, ended="interrupted")


def test_clients_that_never_wait_do_not_keep_it_from_stopping() -> None:
    async def at_once(op: Op) -> Op:
        return op.ok()

    run = Run(gen.repeat(READ), at_once, stop_at_s=0)
    assert run.virtually().ended == "interrupted"


def test_cancelled_from_outside_it_still_closes_its_clients() -> None:
    run = Run(gen.repeat(READ), hang, concurrency=3)

    async def main() -> None:
        task = asyncio.create_task(run.interpret())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtually(main())
    assert [c.closed for c in run.clients] == [1, 1, 1]


def test_a_history_that_cannot_be_written_ends_the_run() -> None:
    run = Run(gen.repeat(READ), concurrency=3)
    keep = run.record

    def record(op: Op) -> Op:
        if len(run.ops) == 50:
            raise OSError("no space left on device")
        return keep(op)

    run.record = record  # type: ignore[method-assign] # the disk is full
    with pytest.raises(OSError, match="no space left"):
        run.virtually()
    assert all(c.closed == 1 for c in run.clients)


def test_a_generator_that_breaks_ends_the_run() -> None:
    def draw(_: random.Random) -> Invocation:
        raise LookupError("no such key")

    with pytest.raises(LookupError, match="no such key"):
        Run([READ, draw]).virtually()


def test_messages_and_progress_are_shown() -> None:
    paced = gen.limit(10, gen.delay(0.1, gen.repeat(READ)))
    run = Run([gen.log("go"), paced])
    run.virtually()
    assert run.messages == ["go"]
    assert run.progress == [3, 5, 8]


def test_a_display_that_breaks_ends_the_run() -> None:
    run = Run(gen.repeat(READ))
    run.progress = None  # type: ignore[assignment] # so that appending fails
    with pytest.raises(AttributeError):
        run.virtually()


# ---- All together --------------------------------------------------------------------

BEHAVIOURS = [
    "ok", "ok", "ok", "fail", "info", "definite", "indefinite", "timeout", "raise",
    "hang", "stubborn", "late", "garbage", "at once",
]  # fmt: skip


async def misbehave(op: Op, kind: str, delay_s: float) -> Op:
    """One of the ways of the world; `op.fail` and so on where it is an answer."""
    if kind == "at once":
        return op.ok()
    await asyncio.sleep(delay_s)
    match kind:
        case "definite" | "indefinite":
            raise NodeReply(definite=kind == "definite", text=kind)
        case "timeout":
            raise Timeout
        case "raise":
            raise ValueError(kind)
        case "hang":
            return await hang(op)
        case "stubborn":
            await swallow_cancellation()
        case "late":
            with suppress(asyncio.CancelledError):
                return await hang(op)
        case "garbage":
            return op
        case "fail" | "info":
            return op.fail() if kind == "fail" else op.info()
        case _:
            pass
    return op.ok(op.value)


def chaos(kinds: list[str], open_share: float, threads: int, seed: int) -> Run:
    """Random clients and a nemesis; every choice but the threads' timing is the seed's.

    The clients draw from one source in the order in which they are asked, so a single
    step out of order shows in everything that follows.
    """
    rng = random.Random(seed)

    async def behave(op: Op) -> Op:
        return await misbehave(op, rng.choice(kinds), rng.random() / 10)

    async def opening(_: Script) -> None:
        await asyncio.sleep(rng.random() / 100)
        if rng.random() > open_share:
            raise ConnectionRefusedError

    async def strike(op: Op) -> Op:
        await asyncio.sleep(rng.random())
        return op.info()

    def write(draw: random.Random) -> Invocation:
        return Invocation("write", draw.randrange(100), key=draw.randrange(3))

    clients = gen.limit(80, gen.stagger(0.01, gen.mix(write, gen.repeat(READ))))
    strikes = gen.limit(4, gen.stagger(0.3, gen.repeat(Invocation("cut"))))
    return Run(
        gen.phases(
            gen.time_limit(10, gen.beside(clients, strikes)),
            gen.clients(gen.each_thread(READ)),
        ),
        behave,
        opening,
        nemesis=Striker(strike),
        concurrency=threads,
        nodes=3,
        seed=seed,
        idempotent=frozenset({"read"}),
    )


@given(
    st.lists(st.sampled_from(BEHAVIOURS), min_size=1, max_size=14),
    st.floats(0.5, 1),
    st.integers(1, 6),
    st.integers(0, 2**32),
)
@settings(max_examples=settings().max_examples // 2, deadline=None)
def test_whatever_clients_do_the_history_is_well_formed(
    kinds: list[str], open_share: float, threads: int, seed: int
) -> None:
    run = chaos(kinds, open_share, threads, seed)
    outcome = run.virtually()

    history = History(run.ops)
    assert all(done is not None for _, done in history.calls())
    clients = Counter(op.type for op in run.ops if op.is_client)
    assert clients["ok"] == outcome.ok
    assert clients["fail"] == outcome.fail
    assert clients["info"] == outcome.info
    assert clients["invoke"] == outcome.completed
    assert len(run.crashes) == outcome.client_crashes
    assert [op.time for op in run.ops] == sorted(op.time for op in run.ops)
    assert all(client.closed == 1 for client in run.clients)
    ended: set[int | str] = set()
    for op in run.ops:
        if op.is_client:
            assert op.process not in ended, "a process came back after info"
            assert op.node == f"n{int(op.process) % threads % 3 + 1}"
            if op.type == "info":
                ended.add(op.process)


def test_the_same_seed_gives_the_same_history_to_the_byte() -> None:
    for seed in range(5):
        once = chaos(BEHAVIOURS, 0.9, 4, seed)
        again = chaos(BEHAVIOURS, 0.9, 4, seed)
        assert once.virtually() == again.virtually(), f"seed {seed}"
        assert once.history_bytes == again.history_bytes, f"seed {seed}"
        assert len(once.ops) > 50
    other = chaos(BEHAVIOURS, 0.9, 4, 1000)
    other.virtually()
    assert other.history_bytes != once.history_bytes


def test_the_history_does_not_depend_on_the_interpreters_hash_seed() -> None:
    program = (
        "from harness.tests.test_interpreter import *; run = chaos(BEHAVIOURS, 0.9, 4, "
        "7); run.virtually(); print(run.history_bytes.decode())"
    )
    histories = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert len(histories[0].splitlines()) > 50
    assert histories[0] == histories[1]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_runs_on_real_loops(loop: str) -> None:
    factory = pytest.importorskip(loop).new_event_loop
    run = Run(gen.limit(500, gen.mix(READ, gen.repeat(WRITE))), concurrency=10)
    with asyncio.Runner(loop_factory=factory) as runner:
        outcome = runner.run(run.interpret())
    assert outcome == Outcome(ok=500)
    History(run.ops)

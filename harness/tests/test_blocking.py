"""Blocking drivers: one thread each, and none that holds up the run."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.history import History, Op
from harness.run.interpreter import Outcome, interpret
from harness.systems.blocking import BlockingClient
from harness.workload import generator as gen
from harness.workload.generator import Invocation
from harness.worlds.places import Endpoint, NodePlace

DEADLINE_S = 20.0


class Driver(BlockingClient):
    """Notes which thread calls it; blocks in `call` while `gate` is shut."""

    def __init__(self, gate: threading.Event, notes: list[tuple[str, int]]) -> None:
        super().__init__()
        self.gate = gate
        self.notes = notes
        self.disconnected = threading.Event()

    def connect(self, place: NodePlace) -> None:
        self.notes.append(("connect", threading.get_ident()))

    def call(self, op: Op) -> Op:
        self.notes.append((op.f, threading.get_ident()))
        if op.f == "wait":
            self.gate.wait(DEADLINE_S)
        if op.f == "break":
            raise LookupError(op.f)
        return op.ok(op.value)

    def disconnect(self) -> None:
        self.notes.append(("disconnect", threading.get_ident()))
        self.disconnected.set()


class Drivers:
    """Opens drivers and runs a generator with them, over the real event loop."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.notes: list[tuple[str, int]] = []
        self.opened: list[Driver] = []
        self.ops: list[Op] = []
        self.crashes: list[Any] = []

    def open(self) -> Driver:
        self.opened.append(Driver(self.gate, self.notes))
        return self.opened[-1]

    def record(self, op: Op) -> Op:
        op.index = len(self.ops)
        self.ops.append(op)
        return op

    def run(self, *fs: str, op_timeout_s: float = DEADLINE_S) -> Outcome:
        here = Endpoint("127.0.0.1", 1)
        return asyncio.run(
            interpret(
                gen.from_iterable([Invocation(f) for f in fs]),
                concurrency=1,
                nodes=[NodePlace("n1", here, {}, Path(), Path(), {})],
                open_client=self.open,
                nemesis=None,
                record=self.record,
                op_timeout_s=op_timeout_s,
                idempotent=frozenset(),
                seed=1,
                crash=lambda *crash: self.crashes.append(crash),
            )
        )


def test_all_calls_of_a_client_come_from_one_thread_that_is_not_the_loops() -> None:
    drivers = Drivers()
    assert drivers.run("read", "write") == Outcome(ok=2)
    names, threads = zip(*drivers.notes, strict=True)
    assert names == ("connect", "read", "write", "disconnect")
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_what_a_driver_raises_reaches_the_interpreter() -> None:
    drivers = Drivers()
    assert drivers.run("break", "read") == Outcome(ok=1, info=1, client_crashes=1)
    assert "LookupError: break" in str(drivers.ops[1].error)
    assert "in call" in drivers.crashes[0][2]
    assert len(drivers.opened) == 2


def test_a_call_left_behind_disconnects_when_it_returns() -> None:
    drivers = Drivers()
    assert drivers.run("wait", "read", op_timeout_s=0.3) == Outcome(
        ok=1, info=1, timeouts=1
    )
    History(drivers.ops)
    left_behind = drivers.opened[0]
    assert not left_behind.disconnected.is_set()
    # The loop is closed by now: the answer comes too late for anyone to mind.
    drivers.gate.set()
    assert left_behind.disconnected.wait(DEADLINE_S)


def test_closing_waits_for_the_driver_and_passes_on_what_it_raises() -> None:
    class Broken(Driver):
        def disconnect(self) -> None:
            super().disconnect()
            raise OSError("broken pipe")

    async def main() -> None:
        client = Broken(threading.Event(), [])
        await client.close()  # never opened: nothing to close
        here = Endpoint("127.0.0.1", 1)
        await client.open(NodePlace("n1", here, {}, Path(), Path(), {}))
        with pytest.raises(OSError, match="broken pipe"):
            await client.close()
        assert client.disconnected.is_set()
        await client.close()

    asyncio.run(main())

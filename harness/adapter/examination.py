"""The examination: a cluster of the node is started, talked to, killed and read.

starting      does every node listen where it was told to, and stay?
connections   two at once, requests in pieces, together, long ones, noise
talking       refusals, each service's conversation, ten clients at once
members       an operator's requests, if the nodes serve them
lasting       does another node show what one acknowledged, and what do kills leave?
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from harness.adapter.connections import (
    in_pieces,
    long,
    noise,
    stay_connected,
    together,
    two_at_once,
)
from harness.adapter.lasting import (
    kill_all,
    kill_some,
    look_at_files,
    look_for_lies,
    spread,
    terminate_one,
)
from harness.adapter.members import change_members
from harness.adapter.nodes import StopHereError
from harness.adapter.rules import OPTIONAL, RULES, of_service
from harness.adapter.subject import Subject
from harness.adapter.talking import (
    NOT_SUPPORTED,
    ask_what_helps,
    judge_step,
    load,
    refusals,
    talk,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from harness.adapter.conversations import Service
    from harness.adapter.findings import Notebook
    from harness.adapter.rules import Rule
    from harness.data import Json
    from harness.systems.launch import LaunchSystem
    from harness.worlds.world import World

SILENCES_MAX = 20
"""After so many requests without an answer the examination ends: each takes long."""

PARTS = (
    stay_connected,
    two_at_once,
    in_pieces,
    together,
    long,
    noise,
    refusals,
    talk,
    ask_what_helps,
    load,
    change_members,
    spread,
    kill_some,
    terminate_one,
    kill_all,
    look_for_lies,
)
"""Each begins while all nodes run."""


class Examination:
    """Implements `harness.worlds.world.Conducted`; its arguments are `Subject`'s."""

    def __init__(
        self,
        world: World,
        system: LaunchSystem,
        services: Mapping[str, Service],
        at_once: Collection[str],
        notes: Notebook,
        folder: Path,
        patience_s: float,
    ) -> None:
        self.ended = "failed"
        self.notes = notes
        self._world = world
        self._services = services
        self._subject = Subject(
            world, system, services, at_once, notes, folder, patience_s
        )

    def note(
        self, kind: str, nodes: Sequence[str], title: str, evidence: Mapping[str, Json]
    ) -> None:
        """Pass over what the world reports."""

    async def conduct(self) -> None:
        """Examine the nodes, and close the world and the notebook.

        Raises:
            HarnessError: The world failed.
        """
        stop, begun_s = asyncio.Event(), time.monotonic()
        self._world.on_interrupt(stop.set)
        guard = asyncio.create_task(self._world.watch_over())
        work = asyncio.create_task(self._examine())
        tasks = (guard, work, asyncio.create_task(stop.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if guard.done():
                guard.result()
            if work.done():
                work.result()
            self.ended = "complete" if work.done() else "interrupted"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._subject.asker.close()
            await self._world.close()
        report = self.notes.report
        report.ended, report.seconds = self.ended, round(time.monotonic() - begun_s, 3)
        self.notes.close(self._rules())

    def _rules(self) -> list[Rule]:
        """The rules that this examination looks at, in the order of the report."""
        services = self._services.values()
        left_out = {name for name in OPTIONAL if name not in self.notes.touched}
        if len(self._subject.names) == 1 or not any(s.spread for s in services):
            left_out.add("spread")
        if self._subject.marks is None:
            left_out |= {"survives", "definite"}
        if not any(s.lacking for s in services):
            left_out.add("lacking")
        rules = [rule for name, rule in RULES.items() if name not in left_out]
        return [*rules, *(of_service(n, s) for n, s in self._services.items())]

    async def _examine(self) -> None:
        subject = self._subject
        try:
            await subject.nodes.start()
            await _make_contact(subject)
            for part in PARTS:
                if subject.asker.silences > SILENCES_MAX:
                    return
                await subject.nodes.serve_again()
                await part(subject)
                subject.asker.close()
            look_at_files(subject)
        except StopHereError:
            return
        subject.keep("stays")


async def _make_contact(subject: Subject) -> None:
    """Wait until the first node serves.

    Raises:
        StopHereError: It doesn't.
    """
    subject.nodes.what = "it was sent its first request"
    if not await subject.serves(subject.first, "answers"):
        raise StopHereError
    subject.keep("answers", "serves")
    client = await subject.client(subject.first)
    answer = await subject.asker.ask(client, subject.request())
    if answer.code == NOT_SUPPORTED:
        name, service = next(iter(subject.services.items()))
        judge_step(subject, of_service(name, service), service.talk[0], answer, {})
        raise StopHereError

"""Marks that were left at nodes, and what nodes show of them later."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.adapter.asking import TRY_AGAIN
from harness.adapter.nodes import POLL_S
from harness.adapter.patterns import Slots, fill, misfit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from harness.adapter.asking import Answer, Asker, Client
    from harness.adapter.conversations import Mark

SERVES_S = 10.0
"""How long errors may last after a start, while nodes find each other."""


@dataclass
class Left:
    """A mark that was left at a node.

    Attributes:
        answer: What the node answered.
    """

    node: str
    slots: Slots
    answer: Answer

    @property
    def claim(self) -> str:
        """What was said of it: "done", "refused", or "" if nobody knows."""
        if self.answer.is_ok:
            return "done"
        return "refused" if self.answer.refused else ""

    @property
    def did(self) -> str:
        """What the check did, and what came back, for findings."""
        return f"{self.answer.did}\nto {self.node}, which answered {self.answer.seen}"


@dataclass(frozen=True)
class Look:
    """What a node shows of a mark.

    Attributes:
        how: "there", "gone", or "" if it can't be told.
        seen: Question and answer, for findings.
        after_s: How long it took to see this.
    """

    how: str
    seen: str
    after_s: float = 0.0


class Marks:
    """Leaves marks of one service, and looks for them.

    Args:
        service: The service's name.
        mark: The mark.
        asker: Asks nodes.
        slots: Gives values that no other conversation has.
        client: Gives a client of a node.
    """

    def __init__(
        self,
        service: str,
        mark: Mark,
        asker: Asker,
        slots: Callable[[], Slots],
        client: Callable[[str], Awaitable[Client]],
    ) -> None:
        self.service = service
        self.mark = mark
        self.all: list[Left] = []
        self._asker = asker
        self._slots = slots
        self._client = client
        self._powers = itertools.count()

    async def leave(self, node: str, client: Client | None = None) -> Left:
        """Leave a mark at a node, by a new client unless there is one."""
        slots = self._slots()
        if self.mark.few:
            slots["power"] = 1 << next(self._powers)
        client = client or await self._client(node)
        answer = await self._asker.ask(client, fill(self.mark.leave, slots))
        left = Left(node, slots, answer)
        self.all.append(left)
        return left

    async def look(self, left: Left, node: str, patience_s: float = 0.0) -> Look:
        """What a node shows of a mark, once it is there or the patience is over.

        Errors that a node may get over are waited for in any case.
        """
        begun_s = time.monotonic()
        while True:
            how, answer = await self._look_once(left, node)
            after_s = time.monotonic() - begun_s
            unclear = answer.is_open or answer.code in TRY_AGAIN
            again = after_s < (SERVES_S if unclear else patience_s)
            if self.mark.takes and (answer.is_open or not unclear):
                again = False  # the first look may have taken it
            if how == "there" or not again:
                return Look(how, f"{answer.seen}\nto {answer.line}", after_s)
            await asyncio.sleep(POLL_S)

    async def _look_once(self, left: Left, node: str) -> tuple[str, Answer]:
        mark, slots = self.mark, dict(left.slots)
        if mark.fresh_name:
            slots["name"] = self._slots()["name"]
        client = await self._client(node)
        answer = await self._asker.ask(client, fill(mark.look, slots))
        client.tap.close()
        if answer.code is not None:
            known = {mark.there_code: "there", mark.gone_code: "gone"}
            return known.get(answer.code, ""), answer
        for how, pattern in (("there", mark.there), ("gone", mark.gone)):
            body = dict(answer.body or {})
            fits = pattern is not None and not misfit(pattern, body, slots)
            if answer.is_ok and fits:
                return how, answer
        return "", answer

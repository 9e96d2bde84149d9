"""Requests to nodes, whose answers are looked at from all sides.

Whatever is wrong with an answer is noted, and the answer is taken as it was meant: so
a node with one flaw is told of that one, and not of all that follows.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.adapter.rules import RULES
from harness.adapter.tap import Line, Tap, objects_in, open_tap
from harness.systems.wire import CONNECT_TIMEOUT_S, ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from harness.adapter.findings import Notebook
    from harness.worlds.places import NodePlace

MISMATCHED_S = 0.3
"""How long an answer with another id is held back, as the right one may follow."""
RETRY_S = 0.05
TRY_AGAIN = (11, 30)
"""Definite errors that a node may get over."""
GREETING = re.compile(r"[0-9]{3}[ -]|SSH-|HTTP/|\+OK|-ERR|\* OK|INFO \{|RFB ")
"""Beginnings of what servers of other protocols say: mail, FTP, SSH, the web, ..."""


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        node: The node that was asked.
        line: The request, as it was sent.
        body: The body of the answer; None if there was none.
        seen: The answer as it came, or why there is none.
        took_s: How long it took.
    """

    node: str
    line: str
    body: Mapping[str, Any] | None
    seen: str
    took_s: float = 0.0

    @property
    def did(self) -> str:
        """What the check did, for findings."""
        return f"sent {self.line}"

    @property
    def code(self) -> int | None:
        """The code of an error; None if it is none, or its code no whole number."""
        if self.body is None or self.body.get("type") != "error":
            return None
        code = self.body.get("code")
        return code if type(code) is int else None

    @property
    def is_error(self) -> bool:
        """Whether it is an error, with a code or not."""
        return self.body is not None and self.body.get("type") == "error"

    @property
    def refused(self) -> bool:
        """Whether it is a definite error."""
        known = ERRORS.get(-1 if self.code is None else self.code)
        return known is not None and known.definite

    @property
    def is_ok(self) -> bool:
        """Whether it says that the operation happened."""
        asked = json.loads(self.line)["body"]["type"]
        return self.body is not None and self.body.get("type") == f"{asked}_ok"

    @property
    def is_open(self) -> bool:
        """Whether nobody knows what happened: silence, or an indefinite error."""
        return self.body is None or (self.is_error and not self.refused)


@dataclass
class Client:
    """A client of a node: one connection at a time, and what it asked on it."""

    place: NodePlace
    name: str
    tap: Tap
    answered: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)


class Asker:
    """Asks nodes, and notes what is wrong with the form of their answers.

    Args:
        places: The nodes' places.
        notes: Where findings go.
        tail: Gives the last lines of a node's log.
        patience_s: How long it waits for an answer.

    Attributes:
        silences: How many requests had no answer so far.
    """

    def __init__(
        self,
        places: Mapping[str, NodePlace],
        notes: Notebook,
        tail: Callable[[str], str],
        patience_s: float,
    ) -> None:
        self.places = places
        self.notes = notes
        self.silences = 0
        self._tail = tail
        self._patience_s = patience_s
        self._names = itertools.count(7)
        self._ids = itertools.count(101)
        self._clients: list[Client] = []

    async def client(self, node: str) -> Client:
        """A client with a new connection; `close` drops all of them.

        Raises:
            OSError: It can't be made.
        """
        tap = await open_tap(self.places[node].listen, CONNECT_TIMEOUT_S)
        client = Client(self.places[node], f"c{next(self._names)}", tap)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Drop all connections."""
        for client in self._clients:
            client.tap.close()
        self._clients.clear()

    def written(self, client: Client, body: Mapping[str, Any]) -> tuple[int, str]:
        """A request with the next id: (id, line)."""
        msg_id = next(self._ids)
        message = {
            "src": client.name,
            "dest": client.place.name,
            "body": {**body, "msg_id": msg_id},
        }
        return msg_id, json.dumps(message, ensure_ascii=False)

    async def ask(
        self,
        client: Client,
        body: Mapping[str, Any],
        send: Callable[[Client, bytes], Awaitable[None]] | None = None,
    ) -> Answer:
        """Send a request, by `send` if that is given, and wait for its answer."""
        msg_id, line = self.written(client, body)
        begun_s = time.monotonic()
        data = line.encode() + b"\n"
        if send is None:
            client.tap.send(data)
        else:
            await send(client, data)
        found, seen = await self.answer_to(client, msg_id, line)
        if found is None:
            self.silences += 1
            seen = f"{seen}{self._printed(client.place.name, msg_id)}"
        return Answer(client.place.name, line, found, seen, time.monotonic() - begun_s)

    async def settled(
        self, client: Client, body: Mapping[str, Any], limit_s: float
    ) -> Answer:
        """The first answer that is not one of TRY_AGAIN, or the last in time."""
        end_s = time.monotonic() + limit_s
        while True:
            answer = await self.ask(client, body)
            if answer.code not in TRY_AGAIN or time.monotonic() > end_s:
                return answer
            await asyncio.sleep(RETRY_S)

    async def all_answers(
        self, client: Client, lines: Mapping[int, str]
    ) -> dict[int, tuple[Mapping[str, Any], str]]:
        """The answers to requests that were sent together, in whatever order.

        Each answer gives those that follow the time of one: a node that answers one
        request after another is right, as no client of a run sends the next before.
        """
        end_s = time.monotonic() + self._patience_s
        found: dict[int, tuple[Mapping[str, Any], str]] = {}
        while len(found) < len(lines):
            while client.tap.lines:
                came = client.tap.lines.pop(0)
                for one in came.objects:
                    if (msg_id := id_in(one)) in lines and msg_id is not None:
                        found[msg_id] = one["body"], text_of(came)
                        end_s = time.monotonic() + self._patience_s
            if client.tap.closed or not await client.tap.news(end_s - time.monotonic()):
                break
        return found

    async def answer_to(
        self, client: Client, msg_id: int, line: str
    ) -> tuple[Mapping[str, Any] | None, str]:
        """The body of the answer to a request, and the line; or None, and why."""
        end_s = time.monotonic() + self._patience_s
        tap, torn = client.tap, list[bytes]()
        strange: list[tuple[dict[str, Any], Line]] = []
        strange_until_s = end_s
        while True:
            while tap.lines:
                came = tap.lines.pop(0)
                objects = self._objects(client, line, came, torn)
                for one in objects:
                    if id_in(one) == msg_id:
                        for other, its in strange:
                            self._unasked(client, line, other, its)
                        return self._taken(client, msg_id, line, one, came)
                    if not self._known(client, line, one, came):
                        strange.append((one, came))
                        strange_until_s = time.monotonic() + MISMATCHED_S
                        if self.notes.broken("in-reply-to"):
                            strange_until_s = 0.0
            rest = tap.rest()
            now_s = time.monotonic()
            late = now_s >= end_s or bool(tap.closed)
            if rest is not None and (late or self.notes.broken("newline")):
                self._break("newline", client, line, f"{text_of(rest)} and no newline")
                tap.take_rest()
                return self._taken(client, msg_id, line, rest.objects[0], rest)
            if strange and (late or now_s >= strange_until_s):
                return self._taken(client, msg_id, line, *strange[0])
            if late:
                client.given_up.add(msg_id)
                return None, self._why_none(client, line, torn)
            wait_s = min(end_s, strange_until_s if strange else end_s) - now_s
            await tap.news(wait_s)

    def _why_none(self, client: Client, line: str, torn: list[bytes]) -> str:
        """Why there is no answer; notes what came in its place."""
        tap = client.tap
        if tap.oversize:
            self._break("length", client, line, f"a line of {tap.oversize} bytes")
            return f"a line of {tap.oversize} bytes, which is too long"
        torn += [tap.take_rest()] if tap.closed or not torn else []
        if junk := b" ".join(torn).strip():
            shown = junk.decode("utf-8", "backslashreplace")
            seen = f"{shown}\nwhich is no message"
            if GREETING.match(shown):
                seen += ", but what servers of another protocol say"
            self._break("message", client, line, seen)
            return f"no answer, but what is no message: {shown}"
        if tap.closed:
            return f"no answer: {tap.closed}"
        return f"no answer within {self._patience_s:g} s"

    def _objects(
        self, client: Client, line: str, came: Line, torn: list[bytes]
    ) -> list[dict[str, Any]]:
        """The objects in a line; notes if it is not one message."""
        if not came.flaw:
            self._keep("message", "one-a-line", "newline", "length")
            return came.objects
        if len(came.objects) > 1:
            self._break("one-a-line", client, line, f"{text_of(came)}\nin one line")
            return came.objects
        if came.objects:
            seen = f"{text_of(came)}\nwhich is no message: {came.flaw}"
            self._break("message", client, line, seen)
            return came.objects
        torn.append(came.data)
        together = objects_in(b"\n".join(torn).decode("utf-8", "replace"))
        if together:
            lines = b"\n".join(torn).decode("utf-8", "replace")
            self._break(
                "one-a-line", client, line, f"one answer in {len(torn)} lines:\n{lines}"
            )
            torn.clear()
        return together

    def _known(
        self, client: Client, line: str, one: Mapping[str, Any], came: Line
    ) -> bool:
        """Whether an object answers an earlier request."""
        found = id_in(one)
        if found is None:
            return False
        if found in client.given_up:
            client.given_up.discard(found)
            client.answered.add(found)
            return True
        if found in client.answered:
            seen = f"{text_of(came)}\nwhich is a second answer to request {found}"
            self._break("once", client, line, seen)
            return True
        return False

    def _unasked(
        self, client: Client, line: str, one: Mapping[str, Any], came: Line
    ) -> None:
        # A node may answer what is no message with an error, as best it can.
        body = one.get("body")
        is_error = isinstance(body, dict) and body.get("type") == "error"
        rule = RULES["no-message" if is_error else "once"]
        seen = f"{text_of(came)}\nwhich answers no request"
        did = f"sent {line}, and before that other lines"
        advice = "nothing: runs count it as unknown, and pass over it"
        self.notes.breaks(
            rule, client.place.name, did, seen, advice=advice, harmless=True
        )

    def _taken(
        self,
        client: Client,
        msg_id: int,
        line: str,
        one: dict[str, Any],
        came: Line,
    ) -> tuple[Mapping[str, Any] | None, str]:
        """Take an object as the answer, and note what is wrong with it."""
        client.answered.add(msg_id)
        self._keep("once", "same-connection")
        node, seen = client.place.name, text_of(came)
        body = one.get("body")
        if not isinstance(body, dict):
            return None, seen  # its line is noted as no message
        found = body.get("in_reply_to")
        if id_in(one) == msg_id:
            self._keep("in-reply-to")
        else:
            has = "there is no in_reply_to"
            if "in_reply_to" in body:
                has = f"in_reply_to is {json.dumps(found)}"
            what = f"{seen}\n{has}, and msg_id was {msg_id}"
            self._break("in-reply-to", client, line, what)
        if one.get("dest") == client.name:
            self._keep("dest")
        else:
            self._break(
                "dest", client, line, f"{seen}\ndest is {json.dumps(one.get('dest'))}"
            )
        if one.get("src") == node:
            self._keep("src")
        elif isinstance(one.get("src"), str):
            self.notes.breaks(RULES["src"], node, f"sent {line}", seen, harmless=True)
        asked = json.loads(line)["body"]["type"]
        kind = body.get("type")
        if kind == "error":
            self._look_at_code(client, line, body, seen)
            self._keep("type")
        elif kind == f"{asked}_ok":
            self._keep("type")
        else:
            what = f"the type is {json.dumps(kind)}, not {asked}_ok"
            self._break("type", client, line, f"{seen}\n{what}")
        return body, seen

    def _look_at_code(
        self, client: Client, line: str, body: Mapping[str, Any], seen: str
    ) -> None:
        if type(body.get("code")) is int:
            self._keep("code")
        elif "code" not in body:
            self._break("code", client, line, f"{seen}\nthere is no code")
        else:
            told = json.dumps(body["code"])
            self._break(
                "code", client, line, f"{seen}\nthe code is {told}, no whole number"
            )

    def _printed(self, node: str, msg_id: int) -> str:
        """A sentence about an answer that a node printed in place of sending it."""
        for printed in self._tail(node).splitlines():
            if "in_reply_to" in printed and str(msg_id) in printed:
                return (
                    f"\nbut it printed one: {printed}\n"
                    "(what a node prints is its log; the answer belongs on the "
                    "connection)"
                )
        return ""

    def _keep(self, *names: str) -> None:
        for name in names:
            self.notes.keeps(RULES[name])

    def _break(self, name: str, client: Client, line: str, seen: str) -> None:
        self.notes.breaks(RULES[name], client.place.name, f"sent {line}", seen)


def id_in(message: Mapping[str, Any]) -> int | None:
    """The number of the request that a message answers; None if it has none."""
    body = message.get("body")
    found = body.get("in_reply_to") if isinstance(body, dict) else None
    return found if type(found) is int else None


def text_of(line: Line) -> str:
    """A line that came, for messages."""
    return line.data.decode("utf-8", "backslashreplace")

"""How a node treats connections: several, requests in pieces, together, long, noise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from harness.adapter.asking import text_of
from harness.adapter.findings import DID_CHARS_MAX, shortened
from harness.adapter.nodes import StopHereError
from harness.adapter.patterns import fill, misfit
from harness.adapter.talking import MALFORMED, NOT_SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from harness.adapter.asking import Client
    from harness.adapter.marks import Left
    from harness.adapter.subject import Subject

PIECES_APART_S = 0.05
TOGETHER = 10
PADDING = "x" * (128 << 10)
"""Twice as long as the lines that some libraries take by default."""
SILENT_TWICE = 2
IN_THE_WAY = ("in-reply-to", "message", "newline", "one-a-line", "stays-open")
"""Breaches by which answers that come together can't be told apart."""
NO_MESSAGES = (
    b"this is no message",
    b"[1, 2]",
    b'{"src": "c1", "dest": "n1"}',
    b"\xff\xfe\x00",
    b"",
)


async def stay_connected(subject: Subject) -> None:
    """See that a connection outlives an answer."""
    subject.nodes.what = "a client sent two requests on one connection"
    client = await subject.client(subject.first)
    first = await subject.asker.ask(client, subject.request())
    await client.tap.news(PIECES_APART_S)
    second = await subject.asker.ask(client, subject.request())
    if second.body is not None:
        subject.keep("stays-open")
    elif client.tap.closed:
        seen = f"{first.seen}\nand then {client.tap.closed}"
        subject.breaks("stays-open", subject.first, first.did, seen)


async def two_at_once(subject: Subject) -> None:
    """See that two clients are served, each on its own connection."""
    subject.nodes.what = "two clients were connected"
    one = await subject.client(subject.first)
    other = await subject.client(subject.first)
    await subject.asker.ask(one, subject.request())
    answer = await subject.asker.ask(other, subject.request())
    if answer.body is not None:
        subject.keep("several", "same-connection")
    elif one.tap.lines:
        seen = (
            f"{answer.seen} on the connection of {other.name}; on that of "
            f"{one.name} came {text_of(one.tap.lines[0])}"
        )
        subject.breaks("same-connection", subject.first, answer.did, seen)
        raise StopHereError  # no answer can be trusted to be the right one
    else:
        did = f"{answer.did}\nwhile {one.name} was connected, and idle"
        subject.breaks("several", subject.first, did, answer.seen)


async def in_pieces(subject: Subject) -> None:
    """See that a request is put together that comes in pieces."""
    subject.nodes.what = "a request came in pieces"

    async def send(client: Client, data: bytes) -> None:
        third = len(data) // 3
        for piece in (data[:third], data[third : 2 * third], data[2 * third :]):
            client.tap.send(piece)
            await asyncio.sleep(PIECES_APART_S)

    how = f"in three pieces, {PIECES_APART_S * 1000:.0f} ms apart"
    await _is_served(subject, "pieces", how, send=send)


async def together(subject: Subject) -> None:
    """Send several requests in one go; answers may come in any order."""
    if subject.notes.broken(*IN_THE_WAY):
        return
    subject.nodes.what = f"{TOGETHER} requests came at once"
    looks = await _left_for_looks(subject)
    client = await subject.client(subject.first)
    lines: dict[int, str] = {}
    asked: dict[int, Left] = {}
    for i in range(TOGETHER):
        body = subject.request()
        if i < len(looks) and subject.marks is not None:
            body = fill(subject.marks.mark.look, looks[i].slots)
        msg_id, line = subject.asker.written(client, body)
        lines[msg_id] = line
        asked |= {msg_id: looks[i]} if i < len(looks) else {}
    client.tap.send("".join(f"{line}\n" for line in lines.values()).encode())
    found = await subject.asker.all_answers(client, lines)
    if missing := sorted(lines.keys() - found.keys()):
        did = f"sent {TOGETHER} requests at once, the last {lines[missing[-1]]}"
        seen = f"no answer to {', '.join(map(str, missing))}"
        seen += f"; {client.tap.closed}" * bool(client.tap.closed)
        subject.breaks("together", subject.first, did, seen)
    for msg_id, left in asked.items():
        if msg_id in found and _is_anothers(subject, found[msg_id][0], left, looks):
            did = f"sent {TOGETHER} requests at once, among them {lines[msg_id]}"
            seen = f"{found[msg_id][1]}\nwhich is the answer to another of them"
            subject.breaks("together", subject.first, did, seen)
    subject.keep("together")


async def _left_for_looks(subject: Subject) -> list[Left]:
    """Marks at the first node, each of which answers a request of its own."""
    looks: list[Left] = []
    if subject.marks is not None and not subject.marks.mark.takes:
        client = await subject.client(subject.first)
        for _ in range(TOGETHER):
            client = await subject.open(client)
            left = await subject.marks.leave(subject.first, client)
            looks += [left] if left.claim == "done" else []
        subject.asker.close()
    return looks


def _is_anothers(
    subject: Subject, body: Any, left: Left, looks: Sequence[Left]
) -> bool:
    """Whether an answer shows another mark than the one that was asked for."""
    assert subject.marks is not None, "there are marks"
    there = subject.marks.mark.there
    return bool(misfit(there, body, dict(left.slots))) and any(
        not misfit(there, body, dict(other.slots)) for other in looks
    )


async def long(subject: Subject) -> None:
    """See that a long request is taken, and a member that nobody knows."""
    subject.nodes.what = "it was sent a long request"
    how = f"with a member `padding` of {len(PADDING)} bytes"
    await _is_served(subject, "long", how, padding=PADDING)


async def noise(subject: Subject) -> None:
    """See that lines that are no messages are passed over."""
    subject.nodes.what = "it was sent lines that are no messages"

    def after(noise: bytes) -> Callable[[Client, bytes], Awaitable[None]]:
        async def send(client: Client, data: bytes) -> None:
            client.tap.send(noise + b"\n" + data)

        return send

    for noise in NO_MESSAGES:
        how = f"after the line {noise!r}"
        if not await _is_served(subject, "no-message", how, send=after(noise)):
            return


async def _is_served(
    subject: Subject,
    name: str,
    how: str,
    *,
    send: Callable[[Client, bytes], Awaitable[None]] | None = None,
    **more: str,
) -> bool:
    """Whether a request that is sent in an odd way is served like others.

    Silence counts if it comes again: a node that leaves some requests without an
    answer, odd or not, breaks another rule.
    """
    for _ in range(SILENT_TWICE):
        client = await subject.client(subject.first)
        body = {**subject.request(), **more}
        answer = await subject.asker.ask(client, body, send=send)
        subject.asker.close()
        if answer.body is not None:
            break
    served = answer.body is not None and answer.code not in (
        NOT_SUPPORTED,
        MALFORMED,
    )
    if served:
        subject.keep(name)
    else:
        did = f"{shortened(answer.did, DID_CHARS_MAX)}\n{how}"
        subject.breaks(name, subject.first, did, subject.seen(answer))
    return served

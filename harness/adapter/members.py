"""An operator's requests, held against WIRE.md if the nodes serve them.

They are asked as in a run: all nodes at once, and again while none is right to answer.
In the end all nodes are members, as they were.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from harness.adapter.asking import RETRY_S
from harness.adapter.lasting import SOON_S
from harness.adapter.marks import SERVES_S
from harness.adapter.subject import ATTEMPTS
from harness.adapter.talking import MALFORMED, NOT_SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.adapter.asking import Answer
    from harness.adapter.subject import Subject

NO_SUCH_NODE, NOT_NOW, ONLY_MEMBER, NO_MEMBER = 1, 11, 22, 40
"""Error codes of WIRE.md."""
STRANGER = "nobody"
"""The name of no node."""
SO_ALREADY = "What is so already is answered `_ok` as well"
PASSED_OVER = "nothing, if it can't be done: a run tells such a fault as refused"


async def change_members(subject: Subject) -> None:
    """Ask for members, and have some come and go; nothing if no node knows of that."""
    subject.nodes.what = "it was asked who the members are"
    if not await _tells_members(subject):
        return
    subject.nodes.what = "members were changed"
    await _refuses(subject, {"type": "add", "node": STRANGER}, NO_SUCH_NODE, "changes")
    await _refuses(subject, {"type": "add"}, MALFORMED, "lacking")
    first, last = subject.names[0], subject.names[-1]
    await _changes(subject, "add", first, says=SO_ALREADY)
    if first == last:
        body = {"type": "remove", "node": first}
        await _refuses(subject, body, ONLY_MEMBER, "changes")
    elif await _changes(subject, "remove", last, says="`remove_ok`, once `node` is no"):
        await _changes(subject, "remove", last, says=SO_ALREADY)
        if await _changes(subject, "add", last):
            await subject.serves(last, "serves")
    await _transfers(subject, last)


async def _tells_members(subject: Subject) -> bool:
    """Whether nodes tell their members, and tell them right."""
    answers = await _asked_once(subject, {"type": "members"})
    for answer in answers:
        if answer.body is None:
            seen = subject.seen(answer)
            subject.breaks("unknown-type", answer.node, answer.did, seen)
    if all(a.body is None or a.code == NOT_SUPPORTED for a in answers):
        return False
    answer = await _asked(subject, {"type": "members"})
    if not answer.is_ok:
        seen = f"{answer.seen}\nand no other node has told the members"
        subject.breaks("members", answer.node, answer.did, seen)
        return False
    return await _are_members(subject, set(subject.names), answer.did, "members")


async def _changes(subject: Subject, kind: str, node: str, says: str = "") -> bool:
    """Ask for `add` or `remove`; True if it happened, and members say so."""
    answer = await _asked(subject, {"type": kind, "node": node})
    if answer.is_ok:
        wanted = set(subject.names) - ({node} if kind == "remove" else set())
        if await _are_members(subject, wanted, answer.did, "changes", says):
            subject.keep("changes")
            return True
        return False
    seen = subject.seen(answer)
    if answer.refused and answer.code != NOT_NOW:
        subject.breaks(
            "changes", answer.node, answer.did, seen, says=says, advice=PASSED_OVER,
            harmless=says != SO_ALREADY,
        )  # fmt: skip
    else:
        seen = f"{seen}\nand no node has done it in {SERVES_S:g} s"
        subject.breaks("changes", answer.node, answer.did, seen, says=says)
    return False


async def _are_members(
    subject: Subject, wanted: set[str], did: str, rule: str, says: str = ""
) -> bool:
    """Whether nodes soon tell that these are the members; notes if they don't.

    Whom a run believes counts: the node that leads, or else most of those that answer.
    """
    end_s = time.monotonic() + SOON_S
    while True:
        answers = await _asked_once(subject, {"type": "members"})
        told = [answer for answer in answers if answer.is_ok]
        leaders = await _leaders(subject)
        believed = [a for a in told if a.node in leaders] or told
        right = [a for a in believed if _named(a) == wanted]
        if 2 * len(right) > len(believed):
            subject.keep("members")
            return True
        if time.monotonic() > end_s:
            break
        await asyncio.sleep(RETRY_S)
    wrong = next((a for a in believed if a not in right), answers[0])
    names = ", ".join(sorted(wanted))
    seen = f"{wrong.seen}\nto {wrong.line}\nwhere {names} are right"
    subject.breaks(rule, wrong.node, did, seen, says=says)
    return False


def _named(answer: Answer) -> set[str]:
    """The members by one answer; empty if it has no list of names."""
    names = (answer.body or {}).get("members")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        return set()
    return set(names)


async def _transfers(subject: Subject, node: str) -> None:
    """Have a node lead; nothing if leadership can't be given away."""
    for _ in range(ATTEMPTS):
        answer = await _asked(subject, {"type": "transfer", "node": node})
        if not answer.is_ok:
            break
        end_s = time.monotonic() + SOON_S
        while time.monotonic() < end_s:
            if not (leaders := await _leaders(subject)) or node in leaders:
                subject.keep("transfer")
                return
            await asyncio.sleep(RETRY_S)
    seen = subject.seen(answer)
    if answer.is_ok:
        seen = f"{seen}\nbut {', '.join(leaders)} leads, by its status"
        subject.breaks("transfer", node, answer.did, seen)
    elif answer.code != NOT_SUPPORTED:
        subject.breaks(
            "transfer", answer.node, answer.did, seen, advice=PASSED_OVER, harmless=True
        )


async def _leaders(subject: Subject) -> list[str]:
    """The nodes that say that they lead."""
    answers = await _asked_once(subject, {"type": "status"})
    return [
        a.node for a in answers if a.is_ok and (a.body or {}).get("role") == "leader"
    ]


async def _refuses(
    subject: Subject, body: Mapping[str, str], code: int, rule: str
) -> None:
    """See that a change is refused; that another error is given is harmless."""
    answer = await _asked(subject, body)
    if answer.code == code:
        subject.keep(rule)
    elif answer.is_ok or answer.body is None:
        seen = f"{subject.seen(answer)}\nwhere error {code} is right"
        subject.breaks(rule, answer.node, answer.did, seen)
    elif answer.refused:
        seen = f"{answer.seen}\nwhere error {code} is right"
        subject.breaks(rule, answer.node, answer.did, seen, harmless=True)


async def _asked(subject: Subject, body: Mapping[str, str]) -> Answer:
    """The answer of the nodes together, as an operator takes it.

    It is the first that is `_ok` or ends the matter. If there is none, it is that of
    a node that may still do it, or of the first node.
    """
    end_s, silent = time.monotonic() + SERVES_S, 0
    while True:
        answers = await _asked_once(subject, body)
        if ok := [answer for answer in answers if answer.is_ok]:
            return ok[0]
        again = [a for a in answers if a.is_open or a.code == NOT_NOW]
        passed = [a for a in answers if a.code in (NOT_SUPPORTED, NO_MEMBER)]
        ends = [a for a in answers if a not in again and a not in passed]
        silent = silent + 1 if any(a.body is None for a in again) else 0
        gives_up = silent >= ATTEMPTS or time.monotonic() > end_s
        if ends or not again or gives_up:
            return [*ends, *again, *passed][0]
        await asyncio.sleep(RETRY_S)


async def _asked_once(subject: Subject, body: Mapping[str, str]) -> list[Answer]:
    """What each node answers, on a connection of its own."""

    async def ask(node: str) -> Answer:
        client = await subject.client(node)
        try:
            return await subject.asker.ask(client, body)
        finally:
            client.tap.close()

    return list(await asyncio.gather(*map(ask, subject.names)))

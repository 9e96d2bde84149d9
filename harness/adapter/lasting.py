"""What is left of changes: at other nodes, after kills, and in data folders."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING

from harness.adapter import looking
from harness.adapter.talking import ask_for_ids

if TYPE_CHECKING:
    from harness.adapter.marks import Left
    from harness.adapter.subject import Subject

SOON_S = 5.0
"""How long others may take to show what one node acknowledged, if soon is enough."""
SIGTERM_PATIENCE_S = 2.0


async def spread(subject: Subject) -> None:
    """See that other nodes show what one acknowledged."""
    marks = subject.marks
    if marks is None:
        return
    subject.nodes.what = "others were asked for what one acknowledged"
    at_once = marks.service in subject.at_once
    for asked, shows in itertools.permutations(subject.names, 2):
        before = await _sent_by(subject, asked)
        left = await marks.leave(asked)
        if left.claim != "done":
            continue
        first = await marks.look(left, shows)
        later = first
        if first.how == "gone" and not marks.mark.takes:
            later = await marks.look(left, shows, SOON_S)
        if later.how == "gone":
            seen = f"{later.seen}\n{later.after_s:.1f} s later still"
            if await _sent_by(subject, asked) == before:
                seen += f"; {asked} has sent its peers nothing since"
            subject.breaks("spread", shows, left.did, seen)
            return
        if at_once and first.how == "gone" and later.how == "there":
            after_ms = later.after_s * 1000
            seen = f"{first.seen}\nand only {after_ms:.0f} ms later what was written"
            subject.breaks("spread", shows, left.did, seen, advice=(
                "let a read find what was acknowledged before it began; or say "
                "that the service promises less, by the workload's option"
            ))  # fmt: skip
        elif later.how == "there":
            subject.keep("spread", told="at once" if first is later else "soon")


async def _sent_by(subject: Subject, node: str) -> int:
    """What a node has sent to its peers so far, in frames or connects."""
    counters = await subject.world.network.counters()
    return sum(c.forwarded for link, c in counters.items() if link[0] == node)


async def kill_some(subject: Subject) -> None:
    """Ask for changes while others are down, and later look at what was said."""
    first, *others = subject.names
    for asked, down in ((first, others), (others[0] if others else "", [first])):
        if not others:
            return
        await subject.nodes.serve_again()
        names = " and ".join(down)
        subject.nodes.what = f"{names} had been killed"
        await subject.nodes.end(down)
        left = await _leave_some(subject, asked)
        subject.nodes.what = f"it was started again after kill -9 of {names}"
        await subject.nodes.serve_again(down)
        await subject.serves(asked, "returns")
        for one in left:
            await _judge_left(subject, one, f"while {names} had been killed")


async def _leave_some(subject: Subject, node: str) -> list[Left]:
    if subject.marks is None:
        return []
    clients = [await subject.client(node) for _ in range(3)]
    return await asyncio.gather(*(subject.marks.leave(node, c) for c in clients))


async def _judge_left(subject: Subject, left: Left, when: str) -> None:
    """Hold what was said of a mark against what its node shows of it now."""
    marks = subject.marks
    assert marks is not None, "a mark was left"
    if not left.claim:
        return
    at_once = left.claim == "refused" or marks.service in subject.at_once
    look = await marks.look(left, left.node, 0.0 if at_once else SOON_S)
    did = f"{left.did}\n{when}"
    if left.claim == "refused" and look.how == "there":
        subject.breaks("definite", left.node, did, look.seen)
    elif left.claim == "refused" and look.how == "gone":
        subject.keep("definite")
    elif look.how == "gone":
        did += "; then it was killed, and all were started again"
        seen = f"{look.seen}\n{_kept_where(subject, left.node)}"
        subject.breaks("survives", left.node, did, seen)
    elif look.how == "there":
        subject.keep("survives")


async def terminate_one(subject: Subject) -> None:
    """Send SIGTERM to the first node, as an operator does; it has to come back."""
    node = subject.first
    subject.nodes.what = "it had been sent SIGTERM"
    (ended,) = await subject.nodes.end([node], SIGTERM_PATIENCE_S)
    subject.nodes.what = "it was started again after SIGTERM"
    await subject.nodes.serve_again([node])
    if await subject.serves(node, "returns"):
        heeds = "heeds SIGTERM"
        if ended.signal != "SIGTERM":
            heeds = "ignores SIGTERM, which is fine"
        after_ms = subject.nodes.up_after_s[node] * 1000
        subject.keep("returns", told=f"after {after_ms:.0f} ms; it {heeds}")


async def kill_all(subject: Subject) -> None:
    """Kill all nodes at once, start them again, and look for what they had."""
    subject.nodes.what = "changes were made at all nodes"
    left = [one for node in subject.names for one in await _leave_some(subject, node)]
    subject.elsewhere = _files_elsewhere(subject)
    await subject.nodes.end(subject.names)
    subject.nodes.what = "all nodes were started again after kill -9"
    await subject.nodes.serve_again()
    for node in subject.names:
        await subject.serves(node, "returns")
    for one in left:
        await _judge_left(subject, one, "before all nodes were killed")
    await ask_for_ids(subject)


async def look_for_lies(subject: Subject) -> None:
    """Look for all that was refused: nothing of it may have happened."""
    if subject.marks is None:
        return
    refused = [left for left in subject.marks.all if left.claim == "refused"]
    for left in refused[:20]:
        await _judge_left(subject, left, "in the course of this check")
    if not refused:
        subject.keep("definite", told="no change was refused here")


def _files_elsewhere(subject: Subject) -> list[str]:
    """Files of nodes outside their data folders."""
    here = os.getcwd()
    new = looking.listed_here() - subject.was_here
    found = {os.path.join(here, name) for name in new}
    for place in subject.nodes.places.values():
        pids = looking.processes_of(place.data_dir)
        found |= set(looking.written_elsewhere(pids, place.data_dir))
        for pid in pids[:1]:
            found |= set(looking.private_files(pid))
    return sorted(found)


def _kept_where(subject: Subject, node: str) -> str:
    """What is in a node's data folder, and beside it."""
    inside = looking.files_in(str(subject.nodes.places[node].data_dir))
    has = f"has {', '.join(inside)}" if inside else "is empty"
    others = ", ".join(subject.elsewhere)
    beside = f"; elsewhere there are {others}" if others else ""
    return f"its SPLITBRAIN_DATA {has}{beside}"


def look_at_files(subject: Subject) -> None:
    """See that what nodes wrote is in their data folders."""
    folders = [place.data_dir for place in subject.nodes.places.values()]
    if any(looking.files_in(str(folder)) for folder in folders):
        subject.keep("data")
    elif subject.elsewhere:
        did = "looked for files after the kill of all nodes"
        subject.breaks("data", subject.first, did, _kept_where(subject, subject.first))

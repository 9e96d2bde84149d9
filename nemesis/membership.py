"""Membership faults: an operator who changes who belongs to the cluster, and who leads.

Nodes are removed and added again, and leadership is handed on, while clients work. The
operator's requests are drawn with the plan: `changes`, a list of [kind, node] with the
kinds `add`, `remove` and `transfer` of WIRE.md. The node of a removal may be `leader`,
whoever that is then; that of an addition may be `removed`, which has been away longest.
Each request is sent to every node. Only leaders act on it, and membership is most
dangerous while several nodes believe that they lead. It is repeated until a node says
that it is done, or for `patience_ms`; then comes the next. A node that answers 10 (it
doesn't know such requests) or 40 (it is no member) is not asked again for the same
change, and any other definite error but 11 ends it: it was refused.

`disk` says what nodes come back with. `old`: they have run on, or were restarted, with
what they stored. `empty`: they are killed, and all that they stored is taken away. That
is no fault of a member: a voter that forgets its promises breaks any protocol. So the
node is emptied only when it is down and its removal was confirmed since; and from then
on it is told that it joins a cluster, so that it begins none. A system that takes no
removed node back with its old disk (etcd) is spared that: all come with empty ones.

Modes: `calm` is a few changes, each with time to succeed; `churn` is many changes in a
row, with hardly any time for each; `leader` removes the leader, and its successor, and
lets them come back; `shrink` removes all nodes but one, and adds them again; `replace`
removes and adds each node in turn. In a plan, `changes` says what is done, and `mode`
is a word for whoever counts what was tried.

Healing stops the operator. If no other operator is at work, it also brings back the
members from before the first change. While other faults make that impossible, evidence
says who is missing, and it is done at the end.

Evidence: how many changes of each kind were done, refused (with the words of the nodes)
and given up; which disks nodes came with; and the members before, after and when
healed. A fault without a single change did not bite.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from harness.errors import NodeReply, Timeout, UsageError
from harness.faults.fault import Fault, Skip, Strike, require_number, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import resolve_target, validate_target
from harness.options import Number, Words
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.worlds.capabilities import Capabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory

Change: TypeAlias = Literal["add", "remove", "transfer"]
CHANGES: tuple[Change, ...] = get_args(Change)

LEADER, REMOVED = "leader", "removed"
"""Words for nodes that are known only when the change is made."""

MEMBERS = "members"
"""The name by which strikes hold the membership (`Grip.take`)."""

MODES = {
    "calm": 2000.0,
    "churn": 30.0,
    "leader": 1500.0,
    "shrink": 1500.0,
    "replace": 1500.0,
}
"""Mode -> the patience with each change, milliseconds."""

CALM_CHANGES, CHURN_CHANGES, LEADERS_MAX = 3, 60, 3

ASK_AGAIN_S = 0.02
JOIN_S = 2.0
"""How long at least each step may take by which a node joins with an empty disk."""
RESTORE_S, AT_LAST_S = 2.0, 10.0
"""How long a heal tries to bring back members, and how long this is tried at the end of
the run. A partition or a pause makes it impossible, and its heal waits for this one."""

AGAIN, NOT_BY_ME = {None, 11}, {10, 40}
"""Codes of definite errors: one may ask again; one has to ask others."""

ANSWERS_MAX = 10
"""Refusals of different words that are kept."""

DISKS = ("old", "empty")

CHANGES_MAX = 1000
PATIENCE_MS = Number(1.0, 3_600_000.0)

OPTIONS = (
    Option(
        "modes",
        "+".join(MODES),
        "a few changes in peace, change upon change, removal of leaders, of all but "
        "one, of each in turn",
        Words(tuple(MODES)),
    ),
    Option(
        "disks",
        "+".join(DISKS),
        "what nodes come back with: what they stored, or nothing",
        Words(DISKS),
    ),
)

Answer = Literal["done", "again", "not by me", "refused"]


class Membership(Nemesis):
    """Changes the members; each strike is an operator, and several may be at work."""

    kind = "membership"
    needs = Capabilities(processes=frozenset({"kill", "empty"}))
    requires = frozenset({"membership"})
    background = False
    heals_beside = True

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.modes: tuple[str, ...] = given["modes"]
        self.disks: tuple[str, ...] = given["disks"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random mode, and changes that make sense one after the other."""
        mode = random.choice(self.modes)
        changes = drawn_changes(mode, random, nodes)
        params: dict[str, Json] = {
            "mode": mode,
            "changes": [list(change) for change in changes],
            "patience_ms": MODES[mode],
            "disk": random.choice(self.disks),
        }
        return Fault(self.kind, params)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require `changes` of known kinds and nodes, and a patience."""
        require_params(fault, ("mode", "changes", "patience_ms", "disk"))
        changes = fault.params.get("changes")
        if not isinstance(changes, list) or not 0 < len(changes) <= CHANGES_MAX:
            raise UsageError(
                "plan: membership: `changes` must list [kind, node] pairs, at most "
                f"{CHANGES_MAX}"
            )
        require_number(fault, "patience_ms", PATIENCE_MS)
        for name, words in (("disk", DISKS), ("mode", tuple(MODES))):
            if fault.params.get(name, words[0]) not in words:
                raise UsageError(
                    f"plan: membership: {name} must be {' or '.join(words)}, "
                    f"not {fault.params[name]!r:.60}"
                )
        for change in changes:
            if not isinstance(change, list) or len(change) != 2:
                raise UsageError(
                    f"plan: membership: no [kind, node] pair: {change!r:.60}"
                )
            kind, node = change
            if kind not in list(CHANGES):
                kinds = ", ".join(CHANGES)
                raise UsageError(
                    f"plan: membership: {kind!r:.60} is not one of {kinds}"
                )
            if [kind, node] not in [["remove", LEADER], ["add", REMOVED]]:
                validate_target(self.kind, [node], nodes)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Let the operator begin; evidence comes with healing."""
        before = await cluster.members()
        cluster.first(MEMBERS, list(before))
        cluster.take(MEMBERS)
        cluster.meanwhile(Operator(fault, cluster).work())
        changes = fault.pairs("changes")
        named = dict.fromkeys(node for _, node in changes)
        return Strike(
            fault,
            f"change members: {describe(changes)}",
            tuple(node for node in named if node in cluster.nodes),
            {"members_before": list(before)},
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Count what the operator changed; the last one's heal restores the members."""
        told = evidence_of(cluster.tally)
        told["members_after"] = list(await cluster.members())
        bit = bool(told["done"])
        if not cluster.first(MEMBERS, []):
            told["why"] = "no node told who the members are, so nothing was changed"
        if cluster.let_go(MEMBERS):
            home = cluster.first(MEMBERS, [])
            assert isinstance(home, list)
            names = [str(name) for name in home]
            # If they are unknown, no change was made.
            if names:
                operator = Operator(strike.fault, cluster)
                told |= await operator.restore(names, RESTORE_S)
                cluster.owe(MEMBERS, None)
                if told["members_healed"] != names:
                    cluster.owe(MEMBERS, lambda: restored_at_last(operator, names))
        disk = strike.fault.text("disk", "old")
        came = f"came_with_{disk}_disk" in told
        return strike.proven(told, bit=bit, knobs={f"disk {disk}": came})


async def restored_at_last(
    operator: Operator, names: Sequence[str]
) -> tuple[str, dict[str, Json]]:
    """Bring the members back when no fault is in force; what came of that."""
    told = await operator.restore(names, AT_LAST_S)
    if told["members_healed"] == names:
        return "all first members are members again", told
    return "not all first members are members again, or nobody tells", told


class Operator:
    """Whoever changes the members, for one strike.

    Args:
        fault: What is to be done.
        cluster: Where, through the strike's grip; counts go to its tally.
    """

    def __init__(self, fault: Fault, cluster: Grip) -> None:
        self._cluster = cluster
        self._changes = fault.pairs("changes")
        self._patience_s = fault.number("patience_ms") / 1000
        self._disk = fault.text("disk", "old")
        self._away: list[str] = []
        """Nodes that it has removed, the longest first."""
        self._joined: list[str] = []
        """Nodes that came with empty disks. They may end, and have to be started again,
        where they ask a member who has not yet heard that they were added."""

    async def work(self) -> None:
        """Make one change after the other, each for a while at most.

        The first one waits until it is known who is to be brought back.
        """
        home: Json = []
        while not home:
            home = self._cluster.first(MEMBERS, list(await self._cluster.members()))
            await asyncio.sleep(ASK_AGAIN_S)
        for kind, word in self._changes:
            await self._cluster.revive(self._joined)
            node = await self._meant(word)
            if node is None:
                continue
            if kind == "add":
                await self._let_join(node)
            elif kind == "remove":
                if await self._insist("remove", node, self._patience_s):
                    self._away.append(node)
            else:
                await self._insist("transfer", node, self._patience_s)

    async def restore(self, home: Sequence[str], limit_s: float) -> dict[str, Json]:
        """Bring the members back, and tell who is one then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._bring_back(home)
        healed = await self._cluster.members()
        self._cluster.settled(healed)
        told: dict[str, Json] = {"members_healed": list(healed)}
        missing = [name for name in home if name not in healed]
        if healed and missing:
            told["members_missing"] = list(missing)
        return told

    async def _bring_back(self, home: Sequence[str]) -> None:
        """Add and remove nodes until the members are `home`."""
        while (now := await self._cluster.members()) != list(home):
            await self._cluster.revive(self._joined)
            for node in now:
                if node not in home:
                    await self._insist("remove", node, self._patience_s)
            # Without a leader nobody is known to be missing.
            for node in home if now else ():
                if node not in now:
                    await self._let_join(node)
            await asyncio.sleep(ASK_AGAIN_S)

    async def _meant(self, word: str) -> str | None:
        """The node that a word means now; None if there is none."""
        if word == LEADER:
            return await self._leader()
        if word == REMOVED:
            return self._away[0] if self._away else None
        return word

    async def _leader(self) -> str | None:
        """The node that leads or seems to; None if none does for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                while True:
                    with suppress(Skip):
                        [leader], _ = await resolve_target(LEADER, self._cluster)
                        return leader
                    await asyncio.sleep(ASK_AGAIN_S)
        return None

    async def _let_join(self, node: str) -> None:
        """Add a node, with what it stored or with an empty disk."""
        cluster, system = self._cluster, self._cluster.operated
        patience_s = self._patience_s
        disk = self._disk if system.rejoins else "empty"
        if node in await cluster.members():
            disk = "old"  # what it promised as a member, it must remember
        if disk == "empty":
            await cluster.kill([node])
            patience_s = max(patience_s, JOIN_S)
            # It is down, so nobody can make it a member between this and the next step.
            try:
                gone = await self._ask_all("remove", node, patience_s)
            except TimeoutError:
                gone = False
            if not gone:
                await cluster.restart([node])
                return
            cluster.tally["emptied bytes"] += await cluster.empty(node)
            self._joined.append(node)
        if system.starts_first:
            await cluster.restart([node])
        if await self._insist("add", node, patience_s):
            cluster.tally[f"disk {disk} {node}"] += 1
            self._away = [away for away in self._away if away != node]
        if not system.starts_first:
            await cluster.restart([node])

    async def _insist(self, change: Change, node: str, patience_s: float) -> bool:
        """Ask for a change until it is done, and count it; False if that is in vain."""
        try:
            done = await self._ask_all(change, node, patience_s)
        except TimeoutError:
            self._cluster.tally[f"given up {change}"] += 1
            return False
        self._cluster.tally[f"{'done' if done else 'refused'} {change}"] += 1
        return done

    async def _ask_all(self, change: Change, node: str, patience_s: float) -> bool:
        """Ask all nodes for a change until one has done it; False if it is refused.

        Raises:
            TimeoutError: Neither came within `patience_s`.
        """
        left = list(self._cluster.nodes)
        async with asyncio.timeout(patience_s):
            while left:
                answers = await self._ask_each(change, node, left, patience_s)
                if "done" in answers.values():
                    return True
                if "refused" in answers.values():
                    return False
                left = [each for each in left if answers[each] != "not by me"]
                await asyncio.sleep(ASK_AGAIN_S)
        return False

    async def _ask_each(
        self, change: Change, node: str, asked: Sequence[str], timeout_s: float
    ) -> dict[str, Answer]:
        """Ask these nodes side by side, until one has done it."""
        tasks = {
            each: asyncio.create_task(self._ask(change, node, each, timeout_s))
            for each in asked
        }
        try:
            for answer in asyncio.as_completed(tasks.values()):
                if await answer == "done":
                    break
            return {
                each: task.result() if task.done() else "again"
                for each, task in tasks.items()
            }
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _ask(
        self, change: Change, node: str, through: str, timeout_s: float
    ) -> Answer:
        """Ask one node for a change; what to do about its answer."""
        try:
            await self._cluster.change(change, node, through, timeout_s)
        except Timeout:
            return "again"
        except NodeReply as reply:
            if not reply.definite or reply.code in AGAIN:
                return "again"
            self._note(f"{change} {node}: {reply.code} {reply.text:.100}")
            return "not by me" if reply.code in NOT_BY_ME else "refused"
        return "done"

    def _note(self, answer: str) -> None:
        """Keep the words of a refusal, unless there are many others."""
        tally, name = self._cluster.tally, f"told {answer}"
        told = sum(other.startswith("told ") for other in tally)
        if name in tally or told < ANSWERS_MAX:
            tally[name] += 1


def evidence_of(tally: Mapping[str, int]) -> dict[str, Json]:
    """What an operator has counted, sorted by what it says."""

    def under(word: str) -> dict[str, Json]:
        return {
            name.removeprefix(f"{word} "): count
            for name, count in tally.items()
            if name.startswith(f"{word} ")
        }

    told: dict[str, Json] = {"done": under("done")}
    for name, word in (
        ("refused", "refused"),
        ("given_up", "given up"),
        ("answers", "told"),
        ("emptied", "emptied"),
    ):
        if counts := under(word):
            told[name] = counts
    for disk in DISKS:
        if came := under(f"disk {disk}"):
            told[f"came_with_{disk}_disk"] = came
    return told


def drawn_changes(
    mode: str, random: Random, nodes: Sequence[str]
) -> list[tuple[str, str]]:
    """The changes of a mode."""
    if len(nodes) == 1:
        return [("transfer", nodes[0])]  # nobody else can come or go
    everyone = random.sample(list(nodes), len(nodes))
    if mode == "leader":
        count = random.randint(1, min(LEADERS_MAX, len(nodes) - 1))
        out, back = [("remove", LEADER)], [("add", REMOVED)]
        together = random.random() < 0.5
        return out * count + back * count if together else (out + back) * count
    if mode == "shrink":
        away = everyone[1:]
        again = random.sample(away, len(away))
        return [("remove", node) for node in away] + [("add", node) for node in again]
    if mode == "replace":
        return [(kind, node) for node in everyone for kind in ("remove", "add")]
    most = CALM_CHANGES if mode == "calm" else CHURN_CHANGES
    return plausible_changes(random, nodes, random.randint(math.ceil(most / 2), most))


def plausible_changes(
    random: Random, nodes: Sequence[str], count: int
) -> list[tuple[str, str]]:
    """Changes that an operator would ask for: only members are removed.

    An even number of members is dangerous: two majorities that are one change apart
    from it, in either direction, need not meet. So more nodes are added than removed,
    which keeps the cluster near its full size.
    """
    inside, outside = list(nodes), list[str]()
    changes = []
    for _ in range(count):
        if random.random() < 0.2:
            changes.append(("transfer", random.choice(inside)))
        elif outside and (len(inside) == 1 or random.random() < 0.6):
            node = outside.pop(random.randrange(len(outside)))
            inside.append(node)
            changes.append(("add", node))
        elif len(inside) > 1:
            node = inside.pop(random.randrange(len(inside)))
            outside.append(node)
            changes.append(("remove", node))
    return changes


def describe(changes: Sequence[Sequence[str]]) -> str:
    """The first changes in words: "-n3, +n3, lead n2, ... (24 in all)"."""
    signs = {"add": "+", "remove": "-", "transfer": "lead "}
    words = [signs[kind] + node for kind, node in changes[:5]]
    more = f", ... ({len(changes)} in all)" if len(changes) > len(words) else ""
    return ", ".join(words) + more


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "membership",
    "add and remove nodes, with old or empty disks, and hand leadership on",
    Membership,
    OPTIONS,
)

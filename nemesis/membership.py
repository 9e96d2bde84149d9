"""Membership faults: an operator who changes who belongs to the cluster, and who leads.

Servers are removed and added again, and leadership is handed on, while clients work.
What the operator asks for is drawn with the plan: `changes`, a list of [kind, server]
with the kinds `add_server`, `remove_server` and `transfer_leadership`, as WIRE.md has
them. Each is asked of every node, as only leaders act on it, and several nodes may
believe that they lead: that is when membership is dangerous. It is asked again and
again until a node says that it is done, or for `patience_ms`; then comes the next.

Modes: `calm` is a few changes, each with time to succeed; `churn` is change upon
change, none of which is waited for. Healing stops the operator; when no other is at
work, it brings back the members that there were before the first such fault.

Evidence: how many changes of which kind were done, and the members before, after and
when healed. A fault by which nothing changed did not bite.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.targets import validate_target
from harness.options import Number, Words
from harness.registry import Option, Plugin, settings
from harness.worlds.capabilities import Capabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory

ADD, REMOVE, TRANSFER = "add_server", "remove_server", "transfer_leadership"
ABOUT = {ADD: "node", REMOVE: "node", TRANSFER: "to"}
"""Kind of change -> the field that names the server."""

MEMBERS = "members"
"""The name under which operators hold them."""

MODES = {"calm": (3, 2000.0), "churn": (60, 30.0)}
"""Mode -> how many changes at most, and the patience with each, milliseconds."""

ASK_AGAIN_S = 0.02
RESTORE_S = 3.0
"""How long healing may take; while the cluster is cut it is in vain."""

WORDS = Words(tuple(MODES))

CHANGES_MAX = 1000
PATIENCE_MS = Number(1.0, 3_600_000.0)

OPTIONS = (
    Option(
        "modes", "+".join(MODES), "a few changes in peace, or change upon change", WORDS
    ),
)


class Membership:
    """Changes the members. Several operators may be at work at once."""

    kind = "membership"
    needs = Capabilities()
    requires = frozenset({"membership"})
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.modes: tuple[str, ...] = given["modes"]

    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random mode, and changes that make sense one after the other."""
        most, patience_ms = MODES[random.choice(self.modes)]
        count = random.randint((most + 1) // 2, most)
        changes = plausible_changes(random, nodes, count)
        return Fault(self.kind, {"changes": changes, "patience_ms": patience_ms})

    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """See `Nemesis.validate`: a list of changes of known nodes."""
        require_params(fault, ("changes", "patience_ms"))
        changes = fault.params.get("changes")
        if not isinstance(changes, list) or not 0 < len(changes) <= CHANGES_MAX:
            raise UsageError(
                "plan: membership: `changes` must list [kind, node] pairs, at most "
                f"{CHANGES_MAX}"
            )
        require_number(fault, "patience_ms", PATIENCE_MS)
        for change in changes:
            if not isinstance(change, list) or len(change) != 2:
                raise UsageError(
                    f"plan: membership: no [kind, node] pair: {change!r:.60}"
                )
            if change[0] not in list(ABOUT):
                kinds = ", ".join(ABOUT)
                raise UsageError(
                    f"plan: membership: {change[0]!r:.60} is not one of {kinds}"
                )
            validate_target(self.kind, [change[1]], nodes)

    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Let the operator begin; what comes of it, healing tells."""
        before = await members(cluster)
        cluster.first(MEMBERS, before)
        cluster.take(MEMBERS)
        cluster.meanwhile(self._operate(fault, cluster))
        changes = fault.pairs("changes")
        return Strike(
            fault,
            f"change members: {describe(changes)}",
            tuple(dict.fromkeys(node for _, node in changes)),
            {"members_before": before},
        )

    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """The operator has stopped; bring back the members that there were at first."""
        done = dict(cluster.tally)
        evidence: dict[str, Json] = {
            "done": done,
            "members_after": await members(cluster),
        }
        if cluster.let_go(MEMBERS):
            home = cluster.first(MEMBERS, [])
            assert isinstance(home, list)
            # Where nobody could tell who they were, nobody is asked to leave.
            if home:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESTORE_S):
                        await self._restore(cluster, home)
            evidence["members_healed"] = await members(cluster)
        return strike.proven(evidence, bit=any(done.values()))

    async def _operate(self, fault: Fault, cluster: Grip) -> None:
        """Ask for one change after the other."""
        patience_s = fault.number("patience_ms") / 1000
        for kind, node in fault.pairs("changes"):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._insist(cluster, kind, node, patience_s)

    async def _insist(
        self, cluster: Grip, kind: str, node: str, timeout_s: float
    ) -> None:
        """Ask for a change until it is done."""
        done = False
        while not done:
            done = await self._ask(cluster, kind, node, timeout_s)
            await asyncio.sleep(ASK_AGAIN_S)

    async def _ask(self, cluster: Grip, kind: str, node: str, timeout_s: float) -> bool:
        """Ask every node for a change; True when one says that it is done."""
        body = {"type": kind, ABOUT[kind]: node}
        answers = await asyncio.gather(
            *(cluster.admin(each, body, timeout_s) for each in cluster.nodes)
        )
        done = any(answer.get("type") == f"{kind}_ok" for answer in answers)
        cluster.tally[kind] += done
        return done

    async def _restore(self, cluster: Grip, home: list[str]) -> None:
        """Until the members are those of old."""
        while (now := await members(cluster)) != home:
            for node in now:
                if node not in home:
                    await self._ask(cluster, REMOVE, node, RESTORE_S)
            for node in home:
                if node not in now:
                    await self._ask(cluster, ADD, node, RESTORE_S)
            await asyncio.sleep(ASK_AGAIN_S)


async def members(cluster: Grip) -> list[str]:
    """The members, says the leader; empty when nobody knows."""
    leader = await cluster.leader()
    if leader is None:
        return []
    status = await cluster.admin(leader, {"type": "status"}, RESTORE_S)
    names = status.get("members")
    return sorted(str(name) for name in names) if isinstance(names, list) else []


def plausible_changes(
    random: Random, nodes: Sequence[str], count: int
) -> list[list[str]]:
    """Changes that an operator would ask for: nobody is removed twice.

    Even numbers of members are the dangerous ones, as two majorities of them, one
    change apart on either side, need not meet; so the cluster is kept near its size.
    """
    inside, outside = list(nodes), list[str]()
    changes = []
    for _ in range(count):
        if random.random() < 0.2:
            changes.append([TRANSFER, random.choice(inside)])
        elif outside and (len(inside) == 1 or random.random() < 0.6):
            node = outside.pop(random.randrange(len(outside)))
            inside.append(node)
            changes.append([ADD, node])
        elif len(inside) > 1:
            node = inside.pop(random.randrange(len(inside)))
            outside.append(node)
            changes.append([REMOVE, node])
    return changes or [[TRANSFER, nodes[0]]]


def describe(changes: Sequence[Sequence[str]]) -> str:
    """The first changes in words: "-n3, +n3, lead n2, ... (24 in all)"."""
    signs = {ADD: "+", REMOVE: "-", TRANSFER: "lead "}
    words = [signs[kind] + node for kind, node in changes[:5]]
    more = f", ... ({len(changes)} in all)" if len(changes) > len(words) else ""
    return ", ".join(words) + more


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "membership",
    "add and remove servers, hand leadership on, as an operator would",
    Membership,
    OPTIONS,
)

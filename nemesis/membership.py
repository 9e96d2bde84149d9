"""Membership faults: an operator who changes who belongs to the cluster, and who leads.

Servers are removed and added again, and leadership is handed on, while clients work.
The operator's requests are drawn with the plan: `changes`, a list of [kind, server]
with the kinds `add_server`, `remove_server` and `transfer_leadership` of WIRE.md. Each
is sent to every node. Only leaders act on it, and membership is most dangerous while
several nodes believe that they lead. A request is repeated until a node says that it is
done, or for `patience_ms`; then comes the next.

Modes: `calm` is a few changes, each with time to succeed; `churn` is many changes in a
row, with hardly any time for each. Healing stops the operator. If no other operator is
at work, it also brings back the members from before the first fault of this kind.

Evidence: how many changes of each kind were done, and the members before, after and
when healed. A fault without a single change did not bite.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import validate_target
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

ADD, REMOVE, TRANSFER = "add_server", "remove_server", "transfer_leadership"
SERVER_FIELD = {ADD: "node", REMOVE: "node", TRANSFER: "to"}
"""Kind of change -> the field of its request that names the server."""

MEMBERS = "members"
"""The name by which strikes hold the membership (`Grip.take`)."""

MODES = {"calm": (3, 2000.0), "churn": (60, 30.0)}
"""Mode -> how many changes at most, and the patience with each, milliseconds."""

ASK_AGAIN_S = 0.02
RESTORE_S = 3.0
"""How long healing tries to bring back members, which a partition makes impossible."""

WORDS = Words(tuple(MODES))

CHANGES_MAX = 1000
PATIENCE_MS = Number(1.0, 3_600_000.0)

OPTIONS = (
    Option(
        "modes", "+".join(MODES), "a few changes in peace, or change upon change", WORDS
    ),
)


class Membership(Nemesis):
    """Changes the members; each strike is an operator, and several may be at work."""

    kind = "membership"
    needs = Capabilities()
    requires = frozenset({"membership"})
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.modes: tuple[str, ...] = given["modes"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random mode, and changes that make sense one after the other."""
        most, patience_ms = MODES[random.choice(self.modes)]
        count = random.randint((most + 1) // 2, most)
        changes = plausible_changes(random, nodes, count)
        return Fault(self.kind, {"changes": changes, "patience_ms": patience_ms})

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require `changes` of known kinds and nodes, and a patience."""
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
            if change[0] not in list(SERVER_FIELD):
                kinds = ", ".join(SERVER_FIELD)
                raise UsageError(
                    f"plan: membership: {change[0]!r:.60} is not one of {kinds}"
                )
            validate_target(self.kind, [change[1]], nodes)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Let the operator begin; evidence comes with healing."""
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

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Count what the operator changed; the last one's heal restores the members."""
        done = dict(cluster.tally)
        evidence: dict[str, Json] = {
            "done": done,
            "members_after": await members(cluster),
        }
        if cluster.let_go(MEMBERS):
            home = cluster.first(MEMBERS, [])
            assert isinstance(home, list)
            # If the first members are unknown, no server is asked to leave.
            if home:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESTORE_S):
                        await self._restore(cluster, home)
            evidence["members_healed"] = await members(cluster)
        return strike.proven(evidence, bit=any(done.values()))

    async def _operate(self, fault: Fault, cluster: Grip) -> None:
        """Ask for one change after the other, each for `patience_ms` at most."""
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
        body = {"type": kind, SERVER_FIELD[kind]: node}
        answers = await asyncio.gather(
            *(cluster.admin(each, body, timeout_s) for each in cluster.nodes)
        )
        done = any(answer.get("type") == f"{kind}_ok" for answer in answers)
        cluster.tally[kind] += done
        return done

    async def _restore(self, cluster: Grip, home: list[str]) -> None:
        """Add and remove servers until the members are `home`."""
        while (now := await members(cluster)) != home:
            for node in now:
                if node not in home:
                    await self._ask(cluster, REMOVE, node, RESTORE_S)
            for node in home:
                if node not in now:
                    await self._ask(cluster, ADD, node, RESTORE_S)
            await asyncio.sleep(ASK_AGAIN_S)


async def members(cluster: Grip) -> list[str]:
    """The members by what the leader says; empty if no leader is known or it fails."""
    leader = await cluster.leader()
    if leader is None:
        return []
    status = await cluster.admin(leader, {"type": "status"}, RESTORE_S)
    names = status.get("members")
    return sorted(str(name) for name in names) if isinstance(names, list) else []


def plausible_changes(
    random: Random, nodes: Sequence[str], count: int
) -> list[list[str]]:
    """Changes that an operator would ask for: only members are removed.

    An even number of members is dangerous: two majorities that are one change apart
    from it, in either direction, need not meet. So more servers are added than removed,
    which keeps the cluster near its full size.
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

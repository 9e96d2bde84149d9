"""Decay of what was durable: bits flip, ends of files vanish, old contents are back.

A node is killed, one of its files is damaged, and it starts again on that. Healing
repairs the damage, as from a replica of the medium, unless something else was written
there since; and starts the node again, if it had refused, or was killed once more so
that an end could come back.

Kinds: `flip` inverts one bit; `truncate` takes the end of a file; `stale` brings back
what a sync had overwritten, as a disk that lost a write. `restore` takes a snapshot of
the node's files, lets the node work for `after_ms`, and then has one file that changed
be what it was: the disk lost all writes to it since. Which files, a glob says.

A node whose log is corrupt must stop rather than forget: the log's checksums tell a bit
that flipped from a tail that was torn, and the reference nodes exit with status 65 and
leave the log as it is. So they bear flips, and plans draw nothing else unless asked.
What a vanished or stale end leaves may look like a tail that was never durable: nothing
in the node's own log tells, and it goes on without what it promised. No protocol here
bears that in general (Alagappan et al., FAST 2018, "Protocol-Aware Recovery for
Consensus-Based Storage"). Of ten runs each in the simulator, `truncate` and `restore`
convict raft and paxos every time, and `restore` convicts 2pc eight times.

Struck are a minority of nodes at a time, damaged ones of other strikes included: nodes
beyond that are left out, and the title says so. `rot.beyond=true` strikes all.

Evidence: file, offset, and the bytes before and after (of a truncation the sizes), read
back; what became of the node; how much was repaired. A fault that found nothing to
damage did not bite, nor one that was healed before its time to restore had come.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from harness.errors import UsageError
from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.nemesis import Discerning, Nemesis
from harness.faults.targets import (
    KEEP,
    LEADER,
    aimed,
    draw_target,
    minority_size,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Flag, Number, Text, Whole, Words
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.worlds.capabilities import Capabilities
from harness.worlds.disks import Damage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.capabilities import DiskAct
    from harness.worlds.disks import Decay

KINDS = ("flip", "truncate", "stale", "restore")
TARGETS = ("one", "minority", LEADER)
SEED = Whole(0, 2**32 - 1)
AFTER_MS = Number(1, 3_600_000)
DRAWN_AFTER_MS = (50, 500)
"""Long enough for writes that matter, and over before most faults are healed."""

OPTIONS = (
    Option(
        "targets",
        "+".join(TARGETS),
        "sets of nodes to draw from",
        Words((*TARGETS, KEEP)),
    ),
    Option(
        "kinds",
        "flip",
        "a bit flips, an end is gone, an old version or a snapshot is back",
        Words(KINDS),
    ),
    Option("files", "*", "a glob over paths in a node's data folder", Text()),
    Option("beyond", "false", "strike more nodes than a minority, if told to", Flag()),
)

PARAMS = ("target", "decay", "files", "seed", "after_ms")


class Rot(Nemesis, Discerning):
    """Lets disks decay under nodes that don't run."""

    kind = "rot"
    heals_beside = True
    needs = Capabilities()
    """By the options: see `needs_of`."""
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.targets: tuple[str, ...] = given["targets"]
        self.kinds: tuple[str, ...] = given["kinds"]
        self.files: str = given["files"]
        self.beyond: bool = given["beyond"]
        for kind in self.kinds:
            self.needs |= self.needs_of(Fault(self.kind, {"decay": kind}))

    @override
    def needs_of(self, fault: Fault) -> Capabilities:
        """To bring back what a sync has overwritten, a disk must know it."""
        stale = fault.params["decay"] == "stale"
        acts: set[DiskAct] = {"decay", "stale"} if stale else {"decay"}
        return Capabilities(processes=frozenset({"kill"}), disks=frozenset(acts))

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target, and a kind of decay."""
        word = random.choice(self.targets)
        params: dict[str, Json] = {
            "target": draw_target(random, word, nodes),
            "decay": random.choice(self.kinds),
            "files": self.files,
            "seed": random.randrange(SEED.most + 1),
        }
        if params["decay"] == "restore":
            params["after_ms"] = random.randint(*DRAWN_AFTER_MS)
        return Fault(self.kind, params)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target and a kind of decay."""
        require_params(fault, PARAMS)
        params = fault.params
        validate_target(self.kind, params.get("target"), nodes)
        if params.get("decay") not in KINDS:
            raise UsageError(
                f"plan: rot: decay must be one of {', '.join(KINDS)}, "
                f"not {params.get('decay')!r:.60}"
            )
        if not isinstance(params.get("files", "*"), str):
            raise UsageError("plan: rot: files must be a glob")
        if "seed" in params:
            require_number(fault, "seed", SEED)
        if params["decay"] == "restore":
            require_number(fault, "after_ms", AFTER_MS)
        elif "after_ms" in params:
            raise UsageError("plan: rot: after_ms is for decay restore")

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Kill the target's nodes, damage a file of each, and start them on that.

        To restore a snapshot, take it, and do the rest when its time has come.
        """
        wanted, why = await resolve_target(fault.target, cluster)
        nodes = wanted if self.beyond else spared(wanted, cluster)
        damage = Damage(
            cast("Decay", fault.text("decay")),
            fault.text("files", "*"),
            int(fault.number("seed", 0)),
        )
        left_out = [node for node in wanted if node not in nodes]
        beyond = f", not {' '.join(left_out)}: a minority at a time" if left_out else ""
        evidence: dict[str, Json] = {
            **({"left_out": left_out} if left_out else {}),
            **aimed(why),
        }
        title = f"{damage.kind} on the disk of {who(nodes, why) or 'nobody'}{beyond}"
        if damage.kind == "restore":
            kept = {node: await cluster.snapshot(node, damage) for node in nodes}
            evidence["kept_files"] = {**kept}
            after_ms = fault.number("after_ms")
            cluster.meanwhile(decayed_later(cluster, nodes, damage, after_ms, evidence))
            return Strike(fault, title, nodes, evidence)
        await decayed(cluster, nodes, damage, evidence)
        return Strike(fault, title, nodes, evidence, bool(evidence["damaged"]))

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Repair the damage, and start what had refused to run on it.

        A file whose end comes back must not be in use: its node would write into the
        middle of it. So nodes are killed once more, unless it was a bit that flipped.
        """
        damaged = strike.evidence.get("damaged", {})
        assert isinstance(damaged, dict)
        evidence: dict[str, Json] = {}
        if strike.fault.text("decay") != "flip" and damaged:
            evidence["killed_to_repair"] = {**await cluster.kill(list(damaged))}
        evidence["repaired"] = {**await cluster.repair(strike.nodes)}
        started = await cluster.restart(list(damaged))
        evidence["restarted"] = {**started, **await cluster.revive(strike.nodes)}
        return strike.proven(evidence, bit=bool(damaged))


async def decayed(
    cluster: Grip, nodes: Sequence[str], damage: Damage, evidence: dict[str, Json]
) -> None:
    """Kill nodes, damage a file of each, start them on that; tell it in `evidence`."""
    evidence["killed"] = {**await cluster.kill(nodes)}
    done = {node: await cluster.damage(node, damage) for node in nodes}
    evidence["damaged"] = {n: asdict(each) for n, each in done.items() if each.file}
    evidence["started"] = {**await cluster.restart(nodes)}
    evidence["refused"] = cluster.stopped(nodes)


async def decayed_later(
    cluster: Grip,
    nodes: Sequence[str],
    damage: Damage,
    after_ms: float,
    evidence: dict[str, Json],
) -> None:
    """The same after a while; a heal that comes amid it waits until it is done."""
    await asyncio.sleep(after_ms / 1000)
    work = asyncio.create_task(decayed(cluster, nodes, damage, evidence))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await work
        raise


def spared(wanted: Sequence[str], cluster: Grip) -> tuple[str, ...]:
    """As many of the nodes as may be damaged beside those that are."""
    damaged = cluster.damaged()
    room = minority_size(len(cluster.nodes)) - len(damaged)
    fresh = [node for node in wanted if node not in damaged]
    return tuple(n for n in wanted if n in damaged or n in fresh[: max(0, room)])


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "rot",
    "let what is durable decay: bits flip, ends vanish, old contents return",
    Rot,
    OPTIONS,
)

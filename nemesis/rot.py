"""Decay of what was durable: bits flip, ends of files vanish, old contents are back.

A node is killed, one of its files is damaged, and it starts again on that. Healing
repairs the damage, as from a replica of the medium, unless something else was written
there since; and starts the node again, if it had refused.

Kinds: `flip` inverts one bit; `truncate` takes the end of a file; `stale` brings back
what a sync had overwritten, as a disk that lost a write. Which files, a glob says.

A node whose log is corrupt must stop rather than forget: the log's checksums tell a bit
that flipped from a tail that was torn, and the reference nodes exit with status 65 and
leave the log as it is. So they bear flips, and plans draw nothing else unless asked.
What a vanished or stale end leaves may look like a tail that was never durable: nothing
in the node's own log tells, and it goes on without what it promised. No protocol here
bears that in general (Alagappan et al., FAST 2018, "Protocol-Aware Recovery for
Consensus-Based Storage"). Ten runs of `rot.kinds=truncate` and ten of `stale` in the
simulator convict raft 17 times, paxos 15 and 2pc 10 times.

Struck are a minority of nodes at a time, damaged ones of other strikes included: nodes
beyond that are left out, and the title says so. `rot.beyond=true` strikes all.

Evidence: file, offset, and the bytes before and after (of a truncation the sizes), read
back; what became of the node; how much was repaired. A fault that found nothing to
damage did not bite.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from harness.errors import UsageError
from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    aimed,
    draw_target,
    minority_size,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Flag, Text, Whole, Words
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
    from harness.worlds.disks import Decay

KINDS = ("flip", "truncate", "stale")
TARGETS = ("one", "minority", "leader")
SEED = Whole(0, 2**32 - 1)

OPTIONS = (
    Option("targets", "+".join(TARGETS), "sets of nodes to draw from", Words(TARGETS)),
    Option("kinds", "flip", "a bit, an end, an old version", Words(KINDS)),
    Option("files", "*", "a glob over paths in a node's data folder", Text()),
    Option("beyond", "false", "strike more nodes than a minority, if told to", Flag()),
)

PARAMS = ("target", "decay", "files", "seed")


class Rot(Nemesis):
    """Lets disks decay under nodes that don't run."""

    kind = "rot"
    heals_beside = True
    needs = Capabilities(processes=frozenset({"kill"}), disks=frozenset({"decay"}))
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.targets: tuple[str, ...] = given["targets"]
        self.kinds: tuple[str, ...] = given["kinds"]
        self.files: str = given["files"]
        self.beyond: bool = given["beyond"]

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

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Kill the target's nodes, damage a file of each, and start them on that."""
        wanted, why = await resolve_target(fault.target, cluster)
        nodes = wanted if self.beyond else spared(wanted, cluster)
        killed = await cluster.kill(nodes)
        damage = Damage(
            cast("Decay", fault.text("decay")),
            fault.text("files", "*"),
            int(fault.number("seed", 0)),
        )
        decayed = {node: await cluster.damage(node, damage) for node in nodes}
        started = await cluster.restart(nodes)
        left_out = [node for node in wanted if node not in nodes]
        beyond = f", not {' '.join(left_out)}: a minority at a time" if left_out else ""
        evidence: dict[str, Json] = {
            "killed": killed,
            "damaged": {n: asdict(each) for n, each in decayed.items() if each.file},
            "started": started,
            "refused": cluster.stopped(nodes),
            **({"left_out": left_out} if left_out else {}),
            **aimed(why),
        }
        return Strike(
            fault,
            f"{damage.kind} on the disk of {who(nodes, why) or 'nobody'}{beyond}",
            nodes,
            evidence,
            any(each.file for each in decayed.values()),
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Repair the damage, and start what had refused to run on it."""
        repaired = await cluster.repair(strike.nodes)
        started = await cluster.revive(strike.nodes)
        return strike.proven(
            {"repaired": repaired, "restarted": started}, bit=strike.bit
        )


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

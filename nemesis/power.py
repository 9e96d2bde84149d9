"""Loss of power: nodes end, all at the same moment, and with them what was not durable.

A kill ends processes, and what they wrote survives; only this tests what they synced,
and whether they did before they answered. Cut are one, a minority, a majority, all or
the leader: a system that answers before its disks are done loses nothing while others
remember, so the cut that tells most is that of all nodes.

What was not durable is lost, or a seeded part of it is kept: `kept` is the share of
pieces that had reached the disk all the same, whichever they are (the disk orders
nothing that was not synced); `torn` lets a piece be there up to some byte, or in some
of its sectors; `names` lets new names and renames be lost too, where the folder was not
synced. `during: fsync` waits for a sync, and cuts the power in the middle of it.

Evidence: the pids, and of each node the bytes, pieces, names and files that were lost,
and what was kept or torn. A cut that found all durable is one of processes alone, and
its title says "nothing was lost".

sync(2) and syncfs(2) make nothing durable here: the kernel doesn't pass them on to a
file system like ours. A node has to sync its files, as fsync(2) says.

The reference protocols bear this at all nodes at once: they let nothing leave before
what it rests on is durable.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    EVENTS_OPTION,
    TARGETS,
    WORDS,
    aimed,
    draw_target,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Number, Whole, Words
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.worlds.capabilities import Capabilities
from harness.worlds.disks import Loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.disks import Lost

MOMENTS = ("any", "fsync")
"""When the power goes: at once, or in the middle of the next sync."""
ALL_GONE_CHANCE = 0.4
"""Part of the cuts after which nothing that was not synced is there."""

SHARE = Number(0.0, 1.0)
SEED = Whole(0, 2**32 - 1)

OPTIONS = (
    Option(
        "targets",
        "+".join((*TARGETS, "all")),
        "sets of nodes to draw from; one that is named twice is drawn twice as often",
        Words(WORDS),
    ),
    Option("kept_max", "1", "largest share of unsynced pieces that are kept", SHARE),
    Option(
        "moments",
        "+".join(MOMENTS),
        "cut at any time, or amid an fsync",
        Words(MOMENTS),
    ),
    EVENTS_OPTION,
)

PARAMS = ("target", "kept", "torn", "names", "during", "seed")


class Power(Nemesis):
    """Cuts the power of nodes, and gives it back."""

    kind = "power"
    heals_beside = True
    needs = Capabilities(disks=frozenset({"power"}))
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.targets: tuple[str, ...] = given["targets"]
        self.kept_max: float = given["kept_max"]
        self.moments: tuple[str, ...] = given["moments"]
        self.events: tuple[str, ...] = given["events"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target, and what is kept of what was not synced."""
        word = random.choice(self.targets)
        moment = random.choice(self.moments)
        nothing = random.random() < ALL_GONE_CHANCE
        params: dict[str, Json] = {
            "target": draw_target(random, word, nodes),
            "kept": 0.0 if nothing else round(random.uniform(0, self.kept_max), 3),
            "torn": random.random() < 0.5,
            "names": random.random() < 0.5,
            "during": "" if moment == "any" else moment,
            "seed": random.randrange(SEED.most + 1),
        }
        return Fault(self.kind, params)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target, and a loss that makes sense."""
        require_params(fault, PARAMS)
        params = fault.params
        validate_target(self.kind, params.get("target"), nodes)
        for name, kind in (("kept", SHARE), ("seed", SEED)):
            if name in params:
                require_number(fault, name, kind)
        for name in ("torn", "names"):
            if not isinstance(params.get(name, False), bool):
                raise UsageError(f"plan: power: {name} must be true or false")
        if params.get("during", "") not in ("", "fsync"):
            raise UsageError(
                f"plan: power: during must be '' or 'fsync', "
                f"not {params['during']!r:.60}"
            )

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Cut the power of the target's nodes at once."""
        nodes, why = await resolve_target(fault.target, cluster)
        lost = await cluster.cut_power(dict.fromkeys(nodes, loss(fault)))
        bit = any(each.pid for each in lost.values())
        title = f"cut the power of {who(nodes, why)}: {summary(lost)}"
        evidence: dict[str, Json] = {n: shown(each) for n, each in lost.items()}
        return Strike(
            fault,
            title,
            nodes,
            {"lost": evidence, **aimed(why)},
            bit,
            bitten(fault, lost),
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Start the nodes again, on what was durable, and wait until they serve."""
        bit = strike.bit or bool(cluster.held_for_longer)
        started = await cluster.restart(strike.nodes)
        return strike.proven({"restarted": started}, bit=bit)


def bitten(fault: Fault, lost: Mapping[str, Lost]) -> dict[str, bool | None]:
    """Which of the fault's knobs bit: pieces were torn, names were lost, ..."""
    happened = {
        "torn": any(each.torn for each in lost.values()),
        "names": any(each.names for each in lost.values()),
        "during fsync": any(each.during for each in lost.values()),
    }
    return {knob: bit for knob, bit in happened.items() if knob in fault.knobs}


def loss(fault: Fault) -> Loss:
    """What it leaves of what was not durable."""
    return Loss(
        kept=fault.number("kept", 0.0),
        torn=bool(fault.params.get("torn", False)),
        names=bool(fault.params.get("names", True)),
        during="fsync" if fault.params.get("during") else "",
        seed=int(fault.number("seed", 0)),
    )


def summary(lost: Mapping[str, Lost]) -> str:
    """What was lost in all, for people."""
    told = [
        f"{count} {what}{'s' if count > 1 else ''}"
        for count, what in (
            (sum(each.bytes for each in lost.values()), "byte"),
            (sum(each.names for each in lost.values()), "name"),
        )
        if count
    ]
    amid = ", amid an fsync" if any(each.during for each in lost.values()) else ""
    return f"{' and '.join(told)} lost{amid}" if told else f"nothing was lost{amid}"


def shown(lost: Lost) -> dict[str, Json]:
    """What a node lost, as evidence; what is nothing is left out."""
    evidence: dict[str, Json] = {**asdict(lost), "files": list(lost.files)}
    return {"pid": lost.pid, **{name: x for name, x in evidence.items() if x}}


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "power",
    "cut the power of nodes: what they did not sync is lost, torn or reordered",
    Power,
    OPTIONS,
)

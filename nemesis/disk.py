"""Disks that fail: operations of files end with an error, or take long.

Modes: `eio` is a medium that fails at writes, syncs or both, `enospc` a full disk,
`slow` a disk whose syncs take hundreds of milliseconds. Which files of a node's data
folder a fault is for, a glob says. What was written before an fsync that fails is gone:
it never reaches the disk, and the next fsync says that all is well, as on Linux.

Nodes must not answer on such a disk, and most end themselves. That is a consequence and
no finding: evidence names them, and the heal starts them again once it has taken the
errors away. A node that nobody else holds down then serves.

Evidence: the errors that were delivered and the operations that were delayed, by node,
read back. A fault that no operation met did not bite. Where nodes' disks aren't ours
(`doctor` says why), a disk can still be full: a tmpfs that counts nothing, so that the
evidence is a write of the harness (`probe ENOSPC`).

The reference protocols bear this at all nodes: a node ends before it lets anything
leave that its log doesn't hold, and its next life writes again what the page cache may
hold without the disk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.nemesis import Discerning, Nemesis
from harness.faults.targets import (
    TARGETS,
    WORDS,
    aimed,
    draw_target,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Number, Text, Words
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.worlds.capabilities import Capabilities
from harness.worlds.disks import FILE_OPS, DiskRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.disks import DiskCounters, DiskError, FileOp

MODES = ("eio", "enospc", "slow")
FAILS_AT: Mapping[str, tuple[tuple[FileOp, ...], ...]] = {
    "eio": (("fsync",), ("write",), ("write", "fsync")),
    "enospc": (("write", "create"),),
    "slow": (("fsync",),),
}
"""Mode -> sets of operations to draw from."""
ERRORS: Mapping[str, DiskError] = {"eio": "EIO", "enospc": "ENOSPC"}
SMALLEST_DELAY = 1 / 50
"""As a part of the largest."""

DELAY_MS = Number(0.1, 3_600_000.0)

OPTIONS = (
    Option("targets", "+".join(TARGETS), "sets of nodes to draw from", Words(WORDS)),
    Option("modes", "+".join(MODES), "fail, be full, be slow", Words(MODES)),
    Option("files", "*", "a glob over paths in a node's data folder", Text()),
    Option(
        "delay_max_ms",
        "1000",
        "largest delay of an operation, ms",
        DELAY_MS,
        amount=1000.0,
    ),
)

PARAMS = ("target", "mode", "files", "operations", "delay_ms")

EVERYWHERE: frozenset[FileOp] = frozenset(FAILS_AT["enospc"][0])
"""Operations that fail on a disk that is full, on all of its files."""


class Disk(Nemesis, Discerning):
    """Breaks the disks of nodes."""

    kind = "disk"
    heals_beside = True
    needs = Capabilities()
    """By the options: see `needs_of`."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.targets: tuple[str, ...] = given["targets"]
        self.modes: tuple[str, ...] = given["modes"]
        self.files: str = given["files"]
        self.delay_max_ms: float = given["delay_max_ms"]
        # A disk that is only slow does no harm by itself.
        self.background = set(self.modes) == {"slow"}
        for mode in self.modes:
            for operations in FAILS_AT[mode]:
                params: dict[str, Json] = {
                    "mode": mode,
                    "files": self.files,
                    "operations": list(operations),
                }
                self.needs |= self.needs_of(Fault(self.kind, params))

    @override
    def needs_of(self, fault: Fault) -> Capabilities:
        """A disk that is full is less than one whose operations fail by files."""
        if fault.params["mode"] == "slow":
            return Capabilities(disks=frozenset({"slow"}))
        rule = rule_of(fault)
        full = (rule.error, rule.files, rule.operations) == ("ENOSPC", "*", EVERYWHERE)
        return Capabilities(disks=frozenset({"full" if full else "errors"}))

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target and mode, and operations that fail so."""
        mode = random.choice(self.modes)
        word = random.choice(self.targets)
        params: dict[str, Json] = {
            "target": draw_target(random, word, nodes),
            "mode": mode,
            "files": self.files,
            "operations": list(random.choice(FAILS_AT[mode])),
        }
        if mode == "slow":
            part = SMALLEST_DELAY ** random.random()
            params["delay_ms"] = round(self.delay_max_ms * part, 3)
        return Fault(self.kind, params)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target and a mode, and operations that there are."""
        require_params(fault, PARAMS)
        params = fault.params
        validate_target(self.kind, params.get("target"), nodes)
        if params.get("mode") not in MODES:
            raise UsageError(
                f"plan: disk: mode must be one of {', '.join(MODES)}, "
                f"not {params.get('mode')!r:.60}"
            )
        if not isinstance(params.get("files", "*"), str):
            raise UsageError("plan: disk: files must be a glob")
        operations = params.get("operations", ["fsync"])
        if not (
            isinstance(operations, list | tuple)
            and operations
            and set(map(str, operations)) <= FILE_OPS
        ):
            raise UsageError(
                "plan: disk: operations must be some of "
                f"{', '.join(sorted(FILE_OPS))}, not {operations!r:.60}"
            )
        if params["mode"] == "slow":
            require_number(fault, "delay_ms", DELAY_MS)
        elif "delay_ms" in params:
            raise UsageError("plan: disk: delay_ms is for mode slow")

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Break the disks of the target's nodes."""
        nodes, why = await resolve_target(fault.target, cluster)
        rule = rule_of(fault)
        await cluster.rule_disks(nodes, [rule])
        how = rule.error or f"{rule.delay_ms:g} ms longer"
        what = " and ".join(sorted(rule.operations))
        where = "" if rule.files == "*" else f" of {rule.files}"
        title = f"disk {what}{where} {how}: {who(nodes, why)}"
        return Strike(fault, title, nodes, aimed(why))

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Mend the disks, and start what ended itself because of them.

        An operation that began on a slow disk is not over yet, so wait for as long.
        """
        rule = rule_of(strike.fault)
        counted = await cluster.free_disks()
        if any(each.delayed for each in counted.values()):
            await asyncio.sleep(rule.delay_ms / 1000)
        stopped = cluster.stopped(strike.nodes)
        started = await cluster.revive(strike.nodes)
        mine = {node: of(strike.fault, counted[node]) for node in counted}
        evidence: dict[str, Json] = {
            "met": {node: met for node, met in mine.items() if met},
            "ended_themselves": stopped,
            "restarted": started,
        }
        how = "delayed" if rule.error is None else rule.error
        knobs = {
            f"{op} {how}": any(f"{op} {how}" in met for met in mine.values())
            for op in sorted(rule.operations)
        }
        return strike.proven(evidence, bit=any(mine.values()), knobs=knobs)


def rule_of(fault: Fault) -> DiskRule:
    """What it does to operations."""
    mode = fault.text("mode")
    operations = fault.params.get("operations", ["fsync"])
    assert isinstance(operations, list | tuple)
    return DiskRule(
        files=fault.text("files", "*"),
        operations=frozenset(op for op in FILE_OPS if op in operations),
        error=ERRORS.get(mode),
        delay_ms=fault.number("delay_ms") if mode == "slow" else 0.0,
    )


def of(fault: Fault, counted: DiskCounters) -> dict[str, Json]:
    """How many operations of a node met what the fault does."""
    rule = rule_of(fault)
    if rule.error is None:
        return {f"{op} delayed": n for op, n in counted.delayed.items()}
    return {
        name: n
        for name, n in counted.errors.items()
        if name in {f"{op} {rule.error}" for op in (*rule.operations, "probe")}
    }


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "disk",
    "break disks: EIO on write or fsync, no space, slow fsync",
    Disk,
    OPTIONS,
)

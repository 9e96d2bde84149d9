"""No node may exit on its own: a system that dies by itself is broken.

A run notes every process of a node that ended though the harness had not asked for it:
in `faults.jsonl` beside the history, a line of kind `node-exit` with the exit status. A
node that must not go on, and ended because of a fault, is noted as `node-ended`, and is
no finding: its disk failed or was damaged, or it ran out of what `limits` left it. That
excuse lasts for the life of the process that met the fault.

What is not convicted, as others than the system may be to blame:

- an end by SIGKILL, SIGTERM, SIGINT or SIGHUP that the harness did not send: the
  kernel ran out of memory, or somebody stopped it. A remark tells of it;
- an exit with a status among `excused`: 71, EX_OSERR of sysexits(3), says that the
  machine failed the program, as when the host's disk is full;
- a node that the harness killed for good, as it left too much on the disk.

An exit with status 0 is a crash too: a node must stay until it is ended.

Like `log_file_pattern`, this checker reads what a run left beside its history and not
the history. The reference systems promise to pass it, and their runs are judged by it;
`--also crashes` shows what it says of any other system, without that it counts.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkers.findings import Findings, conclude
from harness.history import HistoryError
from harness.options import Checked
from harness.registry import Option, Plugin, settings
from harness.verdict import AllOf, Anomaly, CheckResult, Limits, nothing_to_judge
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

FAULTS = "faults.jsonl"
CRASH = "node-crash"
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that a program hardly sends itself."""
EX_OSERR = 71


def statuses_of(text: str) -> frozenset[int]:
    """The exit statuses in a text such as "70,71". Raises ValueError for others."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    found = frozenset(int(word) for word in words)
    if not all(0 <= status <= 255 for status in found):
        raise ValueError("an exit status lies between 0 and 255")
    return found


OPTIONS = (
    Option(
        "excused",
        str(EX_OSERR),
        "exit statuses that are no finding, with commas",
        Checked("exit statuses with commas", statuses_of),
    ),
)


@dataclass(frozen=True)
class NodeExit:
    """A node's process that ended though nobody had asked for it.

    Attributes:
        time_ns: When, since the start of the run.
        status: Its exit status, or -11 if signal 11 ended it, and so on.
        title: The event in words.
    """

    node: str
    pid: int
    time_ns: int
    status: int
    title: str

    @property
    def from_outside(self) -> bool:
        """Whether a signal ended it that came from somebody else."""
        return -self.status in FROM_OUTSIDE


class CrashesChecker:
    """Judges the ends of nodes that a run has noted; what has crashed, has crashed."""

    final_on_prefix = AllOf({CRASH})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the crashes checker", OPTIONS, options)
        self._excused: frozenset[int] = given["excused"]

    def follow(self, source: str) -> Following:
        """Begin to watch the run whose history has that source."""
        return Following(Path(source).parent / FAULTS, self.is_spared)

    def is_spared(self, end: NodeExit) -> bool:
        """Whether an end may be the work of others than the node."""
        return end.from_outside or end.status in self._excused

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge the run that `history` is of. Cost: linear in the faults.

        Raises:
            HistoryError: The run's faults can't be read.
        """
        findings: Findings[Anomaly] = Findings()
        crashed: Counter[str] = Counter()
        spared: list[NodeExit] = []
        path = Path(history.source).parent / FAULTS
        reason = ""
        try:
            for end in exits(path):
                if self.is_spared(end):
                    spared.append(end)
                    continue
                crashed[end.node] += 1
                if findings.wants(CRASH):
                    findings.keep(anomaly(end))
        except FileNotFoundError:
            reason = nothing_to_judge(f"no {FAULTS} beside the history")
        except OSError as problem:
            raise HistoryError(f"{path}: {problem.strerror}") from None
        return conclude(
            findings.counts,
            findings.examples,
            {"crashes": dict(crashed), "spared": len(spared)},
            reason=reason,
            remarks=remarks(spared),
        )


class Following:
    """Watches the notes of a run that goes on."""

    def __init__(self, path: Path, is_spared: Callable[[NodeExit], bool]) -> None:
        self._path = path
        self._is_spared = is_spared

    def feed(self, events: Sequence[Op]) -> Iterator[str]:
        """Whether a node has crashed; `events` don't tell."""
        with contextlib.suppress(OSError):  # the notes are not there yet
            if not all(map(self._is_spared, exits(self._path))):
                yield CRASH


def exits(path: Path) -> Iterator[NodeExit]:
    """The ends that were noted, in order; lines that are torn are passed over.

    Raises:
        OSError: The file is not there, or can't be read.
    """
    with path.open("rb") as lines:
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            end = exit_of(line)
            if end is not None:
                yield end


def exit_of(line: Any) -> NodeExit | None:
    """What a line of faults.jsonl tells of a node's own end; None if it doesn't."""
    if not isinstance(line, dict) or line.get("kind") != "node-exit":
        return None
    evidence, nodes, time_ns = (line.get(k) for k in ("evidence", "nodes", "time"))
    if not isinstance(evidence, dict) or not isinstance(nodes, list) or not nodes:
        return None
    status, pid = evidence.get("status"), evidence.get("pid")
    if type(status) is not int or type(pid) is not int:
        return None
    node = visible_line(str(nodes[0]))
    title = line.get("title")
    said = title if isinstance(title, str) else f"{node} ended with status {status}"
    is_number = isinstance(time_ns, int | float) and 0 <= time_ns < 2**63
    return NodeExit(node, pid, int(time_ns or 0) if is_number else 0, status, said)


def anomaly(end: NodeExit) -> Anomaly:
    """A crash, for readers."""
    return Anomaly(
        CRASH,
        (),
        f"{visible_line(end.title)} at {end.time_ns / 1e9:.1f} s, and no fault in "
        f"force explains that (see nodes/{end.node}/log).",
        details={
            "node": end.node,
            "pid": end.pid,
            "status": end.status,
            "time_ns": end.time_ns,
        },
    )


def remarks(spared: list[NodeExit]) -> tuple[str, ...]:
    """Sentences about the ends that may be the fault of others."""
    if not spared:
        return ()
    first = spared[0]
    more = f", the first of {len(spared)} such ends" if len(spared) > 1 else ""
    who = "somebody outside of the run" if first.from_outside else "the machine"
    return (
        f"{visible_line(first.title)} at {first.time_ns / 1e9:.1f} s{more}: that may "
        f"be the work of {who}, and counts as no crash.",
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "crashes",
    "no node exits on its own, unless a fault explains that",
    CrashesChecker,
    OPTIONS,
)

"""A run in words, which are the same in the page and in the terminal.

Rules: a failure of the harness is never told as the system's outcome, nor the reverse;
a missing verdict is told as missing; a fault without effect is told as such.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.report import clarity, events, figures, tally
from harness.report.figures import plural
from harness.report.folder import mapping, number, sequence, string, whole
from harness.report.witness import Witness, resolve
from harness.verdict import OBSERVATIONS
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness.faults.states import Effect
    from harness.report.clarity import Group
    from harness.report.folder import Call, Fault, Recording
    from harness.report.tally import Tally

STATES = ("valid", "invalid", "unknown", "harness", "unjudged")
"""The states of the banner; an `unjudged` run was never analysed."""

RESOLVED_MAX = 500
"""Anomalies of which the clearest are chosen."""

ITEMS_SHOWN_MAX = 24
REMARK_CHARS_MAX = 400

_UNITS = {"ns", "us", "ms", "s", "bytes", "mb", "percent"}

_PIDS = {"killed", "killed_to_repair"}
"""Evidence of nodes and the processes that they were."""

_BY_PID = {"states", "limits", "freed"}
"""Evidence of nodes, and of the processes of each."""

_TRUE = {"during": "amid an fsync"}
"""What evidence says by being true, where its name is no sentence."""

_CHANGES = {"done", "refused", "given_up"}
"""Evidence of how often each kind of change was made, or was not."""

_SAID = {"rule", "answers"}
"""Evidence with numbers that count nothing, or whose names are a node's words."""

_OFFSET = re.compile(r"^(wall|mono)\w*_offset_ms$")

_SUMMED = re.compile(
    r"cut|drop|lost|loss|delay|duplic|reorder|corrupt|frame|packet|(?<!mtu_)byte|refused"
    r"|blocked|connections|messages_hit|times_down",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FaultKind:
    """All faults of one kind together."""

    kind: str
    faults: tuple[Fault, ...]
    total_ns: float
    proof: str

    @cached_property
    def effects(self) -> Counter[Effect]:
        """Effect -> how many faults had it."""
        return Counter(fault.effect for fault in self.faults)

    @property
    def bit(self) -> int:
        """How many faults had an effect."""
        return self.effects["bit"]


@dataclass
class Story:
    """A run in words.

    Attributes:
        state: One of STATES.
        headline: A few words for the banner.
        why: One or two sentences that give the reason.
        expected: "valid", "invalid" or "unknown"; "" without an expectation.
        as_expected: Whether the verdict is the expected one; None without expectation.
        groups: The anomalies that checkers explained, by checker and name.
        explained: How many anomalies they explained.
    """

    folder: Recording
    state: str
    headline: str
    why: str
    expected: str
    as_expected: bool | None
    groups: list[Group]
    explained: int
    fault_kinds: list[FaultKind]
    harness_errors: list[str] = field(default_factory=list)

    @cached_property
    def anomalies(self) -> list[Witness]:
        """The anomalies that are shown, in their order."""
        return [witness for group in self.groups for witness in group.shown]

    @property
    def unsorted(self) -> int:
        """How many explained anomalies were too many to choose from."""
        return max(0, self.explained - RESOLVED_MAX)

    @cached_property
    def found(self) -> Tally:
        """How much checkers found wrong, and how much of it they explained."""
        return found_in(self.folder.verdict)

    @cached_property
    def repro(self) -> str:
        """The command that repeats the run; "" if it was not recorded."""
        verdict, test = self.folder.verdict, self.folder.test
        return string(verdict.get("repro") or test.get("repro"))

    @cached_property
    def convicted(self) -> str:
        """When and why the run was known to be invalid, if that was before its end."""
        told = mapping(self.folder.run.get("convicted"))
        if not told:
            return ""
        anomaly, checker = string(told.get("anomaly")), string(told.get("checker"))
        return (
            f"after {number(told.get('after_s')):.1f} s, "
            f"{plural(whole(told.get('ops')), 'operation')}: {anomaly} ({checker})"
        )

    @cached_property
    def seed(self) -> str:
        """The seed, as text; "" if unknown."""
        seed = self.folder.test.get("seed", self.folder.verdict.get("seed"))
        return string(seed)

    @cached_property
    def seconds(self) -> float:
        """How long the run took, or else how long the recorded part of it took."""
        return self.folder.end_ns / 1e9

    @cached_property
    def in_doubt(self) -> str:
        """How many transactions waited for a decision, and how long; "" if none did."""
        for _, result in checkers(self.folder.verdict):
            stats = mapping(result.get("stats"))
            count, longest_ms = stats.get("in_doubt"), stats.get("longest_in_doubt_ms")
            if type(count) is int and count and isinstance(longest_ms, int | float):
                left = stats.get("in_doubt_at_end") or "none"
                transactions = figures.plural(count, "transaction")
                waited = figures.duration(longest_ms * 1e6)
                return f"{transactions} for up to {waited}, {left} at the end"
        return ""

    @cached_property
    def remarks(self) -> list[str]:
        """Sentences that belong beside any verdict."""
        verdict = self.folder.verdict
        said = [*sequence(verdict.get("remarks"))]
        for name, result in checkers(verdict):
            said += [f"{name}: {one}" for one in sequence(result.get("remarks"))]
        return [figures.plain(one, REMARK_CHARS_MAX) for one in said]

    @cached_property
    def troubles(self) -> list[str]:
        """The troubles of clients; of a valid run, only if no fault explains them."""
        applied = any(fault.applied for fault in self.folder.faults)
        if self.state == "valid" and applied:
            return []
        said = sequence(self.folder.verdict.get("troubles"))
        return [figures.plain(one, REMARK_CHARS_MAX) for one in said]

    @cached_property
    def not_reached(self) -> str:
        """The faults of the plan that the run ended before: "2 kill, 1 clock"."""
        planned = mapping(self.folder.verdict.get("faults")).items()
        counted = (
            (whole(mapping(of).get("not_reached")), kind) for kind, of in planned
        )
        return ", ".join(f"{n} {figures.plain(kind, 40)}" for n, kind in counted if n)

    @cached_property
    def title(self) -> str:
        """System and workload, such as `raft, reads=local / register`."""
        workload = string(self.folder.test.get("workload"), "unknown workload")
        return f"{self.system} / {workload}"

    @cached_property
    def system(self) -> str:
        """The system, such as `2pc, mutant decide-before-log` or `raft, reads=local`.

        Mutant and options are named, as a reader who sees "raft" beside "invalid" must
        not take it for the unchanged system.
        """
        test = self.folder.test
        words = [figures.clip(string(test.get("system"), "unknown system"), 200)]
        if mutant := string(test.get("mutant")):
            words.append(f"mutant {figures.clip(mutant, 80)}")
        given = mapping(test.get("system_options")).items()
        words += [
            figures.clip(f"{visible(name)}={figures.plain(text, 80)}", 100)
            for name, text in list(given)[:ITEMS_SHOWN_MAX]
        ]
        return ", ".join(words)


def tell(folder: Recording) -> Story:
    """The story of a run. Cost: linear in faults, anomalies and calls."""
    verdict = folder.verdict
    kinds = fault_kinds(folder.faults, folder.end_ns)
    errors = harness_errors(folder)
    state = _state(folder, errors)
    found = list(found_anomalies(verdict))
    groups = _told(folder, found[:RESOLVED_MAX])
    headline, why = _HEADLINES[state](folder, kinds, [g.first for g in groups], errors)
    expected = string(verdict.get("expected") or folder.test.get("expected"))
    if expected not in {"valid", "invalid", "unknown"}:
        expected = ""
    return Story(
        folder=folder,
        state=state,
        headline=headline,
        why=why,
        expected=expected,
        as_expected=(state == expected) if expected and state != "unjudged" else None,
        groups=groups,
        explained=len(found),
        fault_kinds=kinds,
        harness_errors=errors,
    )


def _state(folder: Recording, errors: list[str]) -> str:
    word = folder.verdict.get("verdict")
    if folder.run.get("ended") == "failed":
        return "harness"
    if mapping(folder.verdict.get("harness")).get("ok", True) is not True:
        return "harness"
    if word is None and errors:
        return "harness"
    return word if word in {"valid", "invalid", "unknown"} else "unjudged"


def harness_errors(folder: Recording) -> list[str]:
    """The errors of the harness, each only once."""
    harness = mapping(folder.verdict.get("harness"))
    said = [*sequence(harness.get("errors")), *sequence(folder.run.get("errors"))]
    return list(dict.fromkeys(figures.plain(error, 8000) for error in said))


# Headlines


def _told_valid(
    folder: Recording, kinds: list[FaultKind], _: list[Witness], __: list[str]
) -> tuple[str, str]:
    done = sum(folder.outcomes.values())
    results = checkers(folder.verdict)
    judges = [name for name, result in results if promised(result)]
    if len(judges) == 1:
        who = f"says the {judges[0]} checker"
    else:
        who = (
            "say both checkers"
            if len(judges) == 2
            else f"say all {len(judges)} checkers"
        )
    return (
        "Valid",
        f"{figures.plural(done, 'operation')} kept the system's promises, "
        f"{who}, {_while(kinds)}.{_beyond(results)}",
    )


def _beyond(results: list[tuple[str, dict[str, Any]]]) -> str:
    """A sentence about the results of checkers of something not promised."""
    broken = [
        name
        for name, result in results
        if not promised(result) and result.get("verdict") == "invalid"
    ]
    if not broken:
        return ""
    return f" What {listing(broken)} asks for does not hold, and was not promised."


def _told_invalid(
    folder: Recording, _: list[FaultKind], told: list[Witness], __: list[str]
) -> tuple[str, str]:
    if not told:
        return "Invalid", "A checker says so, but recorded no anomaly."
    first = told[0]
    rest = found_in(folder.verdict).total - 1
    more = (
        f" And {plural(rest, 'further anomaly', 'further anomalies')}." if rest else ""
    )
    why = figures.clip(first.explanation or "It comes without explanation.", 600)
    return f"Invalid: {figures.clip(first.name, 80)}", why + more


def _told_unknown(
    folder: Recording, _: list[FaultKind], __: list[Witness], ___: list[str]
) -> tuple[str, str]:
    if folder.verdict.get("reason"):
        return "Unknown", figures.clip(string(folder.verdict["reason"]), 400)
    for name, result in checkers(folder.verdict):
        if result.get("verdict") == "unknown" and promised(result):
            reason = string(result.get("reason"), "no reason given")
            return "Unknown", f"{name}: {figures.clip(reason, 400)}"
    return "Unknown", "Nothing could be judged: no checker gave a reason."


def _told_harness(
    folder: Recording, _: list[FaultKind], __: list[Witness], errors: list[str]
) -> tuple[str, str]:
    lines = [line for line in errors[0].splitlines() if line.strip()] if errors else []
    what = figures.clip(lines[-1].strip(), 400) if lines else "It left no message"
    return (
        "The harness failed",
        f"{what.rstrip('.')}. This says nothing about the system under test.",
    )


def _told_unjudged(
    folder: Recording, _: list[FaultKind], __: list[Witness], ___: list[str]
) -> tuple[str, str]:
    ended = string(folder.run.get("ended"))
    how = f"The run ended {ended}, but" if ended else "The run never ended properly;"
    return (
        "Not judged",
        f"{how} no verdict was recorded. The data below is what is left.",
    )


_HEADLINES = {
    "valid": _told_valid,
    "invalid": _told_invalid,
    "unknown": _told_unknown,
    "harness": _told_harness,
    "unjudged": _told_unjudged,
}


def _while(kinds: list[FaultKind]) -> str:
    effective = [plural(kind.bit, _noun(kind.kind)) for kind in kinds if kind.bit]
    if not kinds:
        return "with no faults"
    if not effective:
        return "but no fault is proven to have had an effect"
    return "while " + listing(effective) + " bit"


def _noun(kind: str) -> str:
    return kind if kind in {"partition", "kill", "pause"} else f"{kind} fault"


def listing(words: list[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


# Checkers and anomalies


def checkers(verdict: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(name, result) of checkers: first the invalid, then the unknown, then the valid.

    Results whose verdict doesn't count come last.
    """
    rank = {"invalid": 0, "unknown": 1}
    results = [
        (string(name), mapping(result))
        for name, result in mapping(verdict.get("checkers")).items()
    ]
    return sorted(
        results,
        key=lambda item: (
            not promised(item[1]),
            rank.get(string(item[1].get("verdict")), 2),
        ),
    )


def promised(result: Mapping[str, Any]) -> bool:
    """Whether a checker's verdict counts, as `CheckResult.promised` says."""
    return result.get("promised") is not False


def found_anomalies(
    verdict: Mapping[str, Any],
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Every anomaly with the checker that found it, in the checkers' order."""
    for name, result in checkers(verdict):
        for anomaly in sequence(result.get("anomalies")):
            yield name, mapping(anomaly)


def found_in(verdict: Mapping[str, Any]) -> Tally:
    """How much all checkers found wrong."""
    return tally.together(tally.of_json(result) for _, result in checkers(verdict))


def _told(folder: Recording, found: list[tuple[str, dict[str, Any]]]) -> list[Group]:
    """Anomalies in groups; those that are shown have the events and faults around."""
    groups = clarity.grouped(_resolved(folder, *each) for each in found)
    return [
        group._replace(
            first=_surrounded(folder, group.first),
            alike=tuple(_surrounded(folder, each) for each in group.alike),
        )
        for group in groups
    ]


def _resolved(folder: Recording, checker: str, anomaly: Mapping[str, Any]) -> Witness:
    """An anomaly with the operations or events that its indices refer to."""
    result = mapping(mapping(folder.verdict.get("checkers")).get(checker))
    is_observed = result.get("over") == OBSERVATIONS
    call_at = _event_at(folder) if is_observed else _call_at(folder)
    return replace(resolve(anomaly, call_at, checker), raw=anomaly)


def _surrounded(folder: Recording, witness: Witness) -> Witness:
    witness = events.surround(folder, witness, witness.raw)
    return replace(
        witness, faults=_faults_during(folder, witness), end_ns=folder.end_ns
    )


def _call_at(folder: Recording) -> Callable[[Any], Call | None]:
    def call_at(index: Any) -> Call | None:
        if isinstance(index, bool) or not isinstance(index, int):
            return None
        position = folder.call_by_index.get(index)
        return None if position is None else folder.calls[position]

    return call_at


def _event_at(folder: Recording) -> Callable[[Any], Call | None]:
    def event_at(index: Any) -> Call | None:
        if isinstance(index, bool) or not isinstance(index, int):
            return None
        known = folder.observed
        return folder.event(known[index]) if 0 <= index < len(known) else None

    return event_at


def _faults_during(folder: Recording, witness: Witness) -> tuple[Fault, ...]:
    """The faults in force during the anomaly.

    If nodes' steps are known, these give its time, as clients may have asked for the
    outcome long after them.
    """
    is_told = bool(witness.context)
    calls = [call for call in witness.calls if call.is_event or not is_told]
    if not calls:
        return ()
    start = min(call.invoke.time for call in calls)
    end = max((call.done or call.invoke).time for call in calls)
    return tuple(
        fault
        for fault in folder.faults
        if fault.applied
        and fault.start_ns <= end
        and fault.start_ns + lasted(fault, folder.end_ns) >= start
    )


# Faults


def fault_kinds(faults: list[Fault], end_ns: float) -> list[FaultKind]:
    """Faults by kind, in the order in which each kind first struck."""
    by_kind: dict[str, list[Fault]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    return [
        FaultKind(
            kind=visible(kind),
            faults=tuple(group),
            total_ns=sum(lasted(fault, end_ns) for fault in group if fault.applied),
            proof=proof_of(group),
        )
        for kind, group in by_kind.items()
    ]


def lasted(fault: Fault, end_ns: float) -> float:
    """How long a fault was in force, in ns."""
    end = end_ns if fault.end_ns is None else fault.end_ns
    return max(0.0, end - fault.start_ns)


def proof_of(faults: Iterable[Fault]) -> str:
    """The evidence of several faults in a line.

    Counts (frames dropped, bytes lost) are summed, and the largest clock offset is
    told. If there are neither, the first fault that left evidence is the example.
    """
    sums: Counter[str] = Counter()
    offsets: dict[str, float] = {}
    example = ""
    for fault in faults:
        for path, leaf in figures.leaves(dict(fault.evidence)):
            name = path[-1] if path else ""
            if not isinstance(leaf, int | float) or path[0] in _SAID:
                continue
            if _OFFSET.search(name):
                offsets[name] = max(offsets.get(name, 0.0), number(leaf), key=abs)
            elif len(path) == 2 and path[0] in _CHANGES:
                sums[f"{label(name)} {label(path[0])}"] += whole(leaf)
            elif name == "bytes":
                sums[f"bytes {label(path[0])}"] += whole(leaf)
            elif _SUMMED.search(name):
                sums[label(name)] += whole(leaf)
        example = example or "; ".join(
            f"{name} {text}" for name, text in evidence_pairs(fault.evidence)[:4]
        )
    noise = max((abs(ms) for ms in offsets.values()), default=0.0) / 20
    parts = [f"{name} {figures.count(total)}" for name, total in sums.items() if total]
    parts += [
        f"{label(name[:-3])} up to {ms:,.1f} ms"
        for name, ms in offsets.items()
        if abs(ms) > noise
    ]
    return figures.clip("; ".join(parts) or example, 200)


def evidence_pairs(
    evidence: Mapping[str, Any], pairs_max: int = 40
) -> list[tuple[str, str]]:
    """A fault's evidence, or any mapping, as (name, text); nested data become texts."""
    pairs = [_pair(name, thing) for name, thing in evidence.items()]
    if len(pairs) > pairs_max:
        rest = len(pairs) - pairs_max
        return [*pairs[:pairs_max], ("more", plural(rest, "further figure"))]
    return pairs


def _pair(name: str, thing: Any) -> tuple[str, str]:
    """("offset_ms", 40) -> ("offset", "40 ms")."""
    words = label(name)
    if name in _PIDS and isinstance(thing, dict):
        were = [
            f"{label(node)} ({f'pid {nested(pid)}' if pid else 'was down'})"
            for node, pid in list(thing.items())[:ITEMS_SHOWN_MAX]
        ]
        more = len(thing) - ITEMS_SHOWN_MAX
        return words, ", ".join(were) + (f" and {more} more" if more > 0 else "")
    if name == "served" and isinstance(thing, str):
        return f"did not serve{figures.plain(thing.removeprefix('not'))}", ""
    if name in _BY_PID and isinstance(thing, dict):
        thing = {node: _by_pid(of) for node, of in thing.items()}
    text = nested(thing)
    unit = words.rpartition(" ")[2]
    if unit in _UNITS and isinstance(thing, int | float) and words != unit:
        return words[: -len(unit) - 1], f"{text} {unit}"
    return words, text


def nested(thing: Any, depth: int = 0) -> str:
    """{"n1": {"pid": 7, "after_ms": 9}} -> "n1 (pid 7, after 9 ms)"."""
    if isinstance(thing, dict | list) and not thing:
        return "none"
    if depth < 6 and isinstance(thing, dict):
        parts = []
        for key, inner in list(thing.items())[:ITEMS_SHOWN_MAX]:
            if inner is None and key == "pid":
                continue  # it runs no more
            if inner is True:
                parts.append(_TRUE.get(key, label(key)))
                continue
            name, text = _pair(str(key), inner) if _flat(inner) else (label(key), "")
            text = text if _flat(inner) else f"({nested(inner, depth + 1)})"
            parts.append(f"{name} {text}".rstrip())
    elif depth < 6 and isinstance(thing, list):
        parts = [nested(item, depth + 1) for item in thing[:ITEMS_SHOWN_MAX]]
        if any(isinstance(item, list) for item in thing):
            parts = [f"[{part}]" for part in parts]
    else:
        return figures.plain(thing, 400) if thing is not None else "none"
    more = len(thing) - ITEMS_SHOWN_MAX
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _by_pid(processes: Any) -> Any:
    """{"7": "T"} -> {"pid 7": "stopped"}: what is so for each process, in words."""
    if not isinstance(processes, dict):
        return processes
    if not processes:
        return "down"
    return {f"pid {pid}": _in_words(said) for pid, said in processes.items()}


def _in_words(said: Any) -> Any:
    """What the kernel says of a process: its state, or its limit."""
    if isinstance(said, dict):
        return {name: _in_words(each) for name, each in said.items()}
    if isinstance(said, bool) or not isinstance(said, int | str):
        return said
    return {"T": "stopped", -1: "unlimited"}.get(said, said)


def _flat(thing: Any) -> bool:
    return not isinstance(thing, dict)


def label(name: Any) -> str:
    """The words of a name: `packets_dropped` is "packets dropped"."""
    return figures.clip(visible(str(name).replace("_", " ")), 80)


def struck_nodes(fault: Fault) -> str:
    """The nodes that a fault struck, in words."""
    if not fault.applied:
        return "none"
    return ", ".join(fault.nodes) if fault.nodes else "all"


def crashes(folder: Recording) -> list[tuple[str, int, list[Any]]]:
    """Tracebacks of errors.jsonl by their last lines: (line, number, first three)."""
    groups: dict[str, list[Any]] = {}
    for error in folder.errors:
        lines = [line for line in error.traceback.splitlines() if line.strip()]
        what = visible(figures.clip(lines[-1].strip(), 300) if lines else "")
        groups.setdefault(what or "an error without a message", []).append(error)
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [(what, len(group), group[:3]) for what, group in ranked]

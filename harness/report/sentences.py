"""The story of a run in three sentences: what was promised, what was seen, and why.

An invalid run is told by what the system promised, what a client saw instead, and the
faults that made it possible. Others are told by what they need: an unknown one by why
nothing can be said, a failure of the harness by its message.

A fault is named as a reason only if it bit, and was in force while it happened or
before. If the run was shrunk, the faults that were left over are better: without them
it did not fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.report import figures, glossary, story
from harness.report.folder import mapping, sequence, string
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.report.folder import Fault
    from harness.report.story import Story
    from harness.report.witness import Witness

FAULTS_TOLD_MAX = 3
PROMISES_TOLD_MAX = 3
TITLE_CHARS_MAX = 140


class Sentence(NamedTuple):
    """A sentence, and the word that stands before it."""

    about: str
    text: str


def told(of: Story) -> list[Sentence]:
    """The sentences of a run, in the order in which one asks."""
    match of.state:
        case "invalid":
            because = [Sentence("Faults", _chain(of))] if of.anomalies else []
            return [*_promised(of), Sentence("Seen", of.why), *because]
        case "valid":
            return [*_promised(of), Sentence("Seen", of.why)]
        case "unknown":
            return [*_promised(of), Sentence("Not known", of.why)]
        case "harness":
            return [Sentence("Failed", of.why)]
        case _:
            hint = "splitbrain report, with this folder, judges what is left."
            return [Sentence("Not judged", f"{of.why} {hint}")]


def _promised(of: Story) -> list[Sentence]:
    """What the checker that convicted asks for, or else all of them."""
    results = story.checkers(of.folder.verdict)
    if of.state == "invalid" and of.anomalies:
        results = [p for p in results if p[0] == of.anomalies[0].checker]
    else:
        results = [p for p in results if story.promised(p[1])]
    clauses = []
    for name, result in results:
        clause = _clause(name, mapping(result.get("stats")))
        if clause not in clauses:
            clauses.append(clause)
    if not clauses:
        return []
    more = len(clauses) - PROMISES_TOLD_MAX
    text = "; ".join(clauses[:PROMISES_TOLD_MAX])
    text += f"; and {figures.plural(more, 'further promise')}" if more > 0 else ""
    return [Sentence("Promised", f"{text[:1].upper()}{text[1:]}.")]


def _clause(checker: str, stats: dict[str, object]) -> str:
    """What a checker asks for: "at most one node leads in a term"."""
    models = [string(model) for model in sequence(stats.get("models"))]
    known = [glossary.MODELS[model] for model in models if model in glossary.MODELS]
    if models and known:
        named = figures.clip(", ".join(models), 80)
        return f"{'; '.join(known)} ({named})"
    base = checker.removesuffix("_also").removesuffix("_observed")
    clause = glossary.PROMISES.get(base, "")
    if not clause:
        return f"what the checker {figures.clip(checker, 60)} asks for"
    return f"{clause} (linearizability)" if checker == "linearizable" else clause


# What made it possible


def _chain(of: Story) -> str:
    first, faults = of.anomalies[0], of.folder.faults
    applied = [fault for fault in faults if fault.applied]
    if (left := of.folder.shrunk_faults) is not None and applied:
        return _left(len(applied), [fault for fault in left if fault.applied])
    if not faults:
        return "Nothing was broken in this run: the system did this by itself."
    bit = [fault for fault in applied if fault.effect == "bit"]
    during = [fault for fault in first.faults if fault.effect == "bit"]
    start_ns = _start_ns(first)
    if start_ns is None:
        before = bit
    else:
        before = [f for f in bit if f.start_ns < start_ns and f not in during]
    parts = []
    if during:
        verb = "was" if len(during) == 1 else "were"
        parts.append(f"While it happened, {_listed(of, during)} {verb} in force.")
    if during and before:
        parts.append(f"{figures.plural(len(before), 'other')} had bitten before.")
    elif before:  # the latest are likelier to matter than others
        more = len(before) - FAULTS_TOLD_MAX
        others = f", and {figures.plural(more, 'other')} earlier" if more > 0 else ""
        latest = _listed(of, before[-FAULTS_TOLD_MAX:])
        parts.append(f"Before it, {latest} had bitten{others}.")
    if not parts:
        none = [f for f in first.faults if f.effect == "no-effect"]
        aside = f": {_listed(of, none)} had none" if none else ""
        parts.append(f"No fault that had an effect came before it{aside}.")
    return " ".join(parts)


def _left(applied: int, left: Sequence[Fault]) -> str:
    """The faults of the smallest experiment that fails so."""
    of_all = f"Of {figures.plural(applied, 'fault')}"
    if not left:
        return f"{of_all} none is needed: it fails so without any (shrunk)."
    verb = "is" if len(left) == 1 else "are"
    named = _joined(_named(fault) for fault in left[:FAULTS_TOLD_MAX])
    more = len(left) - FAULTS_TOLD_MAX
    named += f", and {figures.plural(more, 'other')}" if more > 0 else ""
    return f"{of_all} {verb} needed: {named} (shrunk)."


def _start_ns(first: Witness) -> float | None:
    """When the anomaly began; None if that is not known."""
    calls = [c for c in first.calls if c.is_event or not first.context]
    times = [call.invoke.time for call in calls]
    return min(times) if times and min(times) >= 0 else None


def _listed(of: Story, faults: Sequence[Fault]) -> str:
    shown = [_with_proof(of, fault) for fault in faults[:FAULTS_TOLD_MAX]]
    more = len(faults) - len(shown)
    return _joined([*shown, *([figures.plural(more, "other")] if more > 0 else [])])


def _named(fault: Fault) -> str:
    title = figures.clip(visible(fault.title), TITLE_CHARS_MAX)
    kind = figures.clip(visible(fault.kind), 40)
    return title if kind in title else f"{kind} {title}"


def _with_proof(of: Story, fault: Fault) -> str:
    """As in "partition n1 | n2, n3 (2.625 s to 3.292 s; frames dropped 52)"."""
    end_ns = fault.start_ns + story.lasted(fault, of.folder.end_ns)
    said = [f"{figures.moment(fault.start_ns)} to {figures.moment(end_ns)}"]
    if proof := story.proof_of([fault]):
        said.append(figures.clip(proof, 100))
    before, after = (
        string(fault.meanwhile.get(when)) for when in ("leader_before", "leader_after")
    )
    if before and after and before != after:
        said.append(f"{before} led before it, {after} after")
    return f"{_named(fault)} ({'; '.join(said)})"


def _joined(words: Iterable[str]) -> str:
    return story.listing(list(words))

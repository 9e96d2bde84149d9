"""Evidence in words: the sentences, reasons and witnesses of the isolation family.

Deciders say what they found as data (`checkers.isolation.evidence`). All English that
a reader sees of an anomaly, or of a doubt, is written here. Transactions are called by
the position of their operation, such as T12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.findings import draw
from checkers.isolation import evidence as e
from checkers.isolation import reasons as r
from checkers.isolation.graph import NOTHING
from checkers.isolation.phrases import show, show_all, show_list
from checkers.isolation.transactions import plain
from harness.verdict import Anomaly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.isolation.transactions import Transactions

STEPS_TOLD_MAX = 6
"""Links of a cycle that the sentence tells; the witness has all."""


def anomaly(transactions: Transactions, evidence: e.Evidence) -> Anomaly:
    """Evidence as reports want it: with operations instead of rows."""
    teller, ops = Teller(transactions), transactions.ops
    witness = draw(
        (
            (ops[link.source], ops[link.target], link.kind, teller.clause(link))
            for link in evidence.links()
        ),
        (ops[row] for row in evidence.rows),
    )
    return Anomaly(
        evidence.name,
        tuple(ops[row] for row in evidence.rows),
        teller.sentence(evidence),
        witness,
        plain(evidence.key),
    )


class Teller:
    """Tells of the transactions of one history."""

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        self.name = transactions.name

    # Anomalies

    def sentence(self, found: e.Evidence) -> str:
        """Why this is impossible."""
        first = self.name(found.rows[0]) if found.rows else ""
        key = f"key {show(found.key)}"
        match found:
            case e.Cyclic():
                return self._cycle(found)
            case e.UnlikeOwnList():
                return (
                    f"{first} read {show_list(found.value)} from {key}, but its own "
                    "operations before that call for a list that ends in "
                    f"{show_list(found.expected)}."
                )
            case e.UnlikeOwnValue():
                return (
                    f"{first} read {show(found.value)} from {key}, but its own "
                    f"operations before that call for {show(found.expected)}."
                )
            case e.OwnAppendShown():
                return (
                    f"{first} read {show(found.element)} from {key}, which it had "
                    "appended itself, though transactions read only what was there "
                    "when they began."
                )
            case e.FutureRead():
                return f"{first} read {show(found.value)} from {key} {_later(found)}."
            case e.RepeatedElement():
                return f"{first} read {_times(found)}"
            case e.GarbageRead() | e.AbortedRead() | e.IntermediateRead():
                return self._foul(found)
            case e.Reordered() | e.DirtyUpdate() | e.ListsDiffer() | e.LostAppend():
                return self._of_two(found)
            case e.LostUpdate():
                return f"{show_all([*map(self.name, found.rows)])} {_updated(found)}"
            case e.CyclicVersions():
                values = " < ".join(map(show, [*found.values, found.values[0]]))
                return (
                    f"The versions of {key} can't be put in order: {values}, by "
                    f"{SOURCES[found.source]} and what is known without it."
                )
            case e.DisorderedVersions():
                return self._disordered(found)
            case e.NilAfterSeen():
                return (
                    f"{first} {self._seen(found.seen)}, which wrote "
                    f"{show(found.value)} to {key}, and yet read nil from that key."
                )
            case e.Dilemma() | e.NoOrder() | e.NoSources():
                return self._of_all(found)
            case _:
                raise AssertionError(found)

    def _cycle(self, found: e.Cyclic) -> str:
        text = self._round(found.steps)
        if isinstance(found, e.CyclicByClass):
            if remark := REMARKS.get(found.name):
                first, last = found.steps[0], found.steps[-1]
                text += " " + remark.format(
                    first=self.name(first.source), last=self.name(last.source)
                )
            if not found.is_shortest:
                text += " There may be a shorter cycle of this kind."
        return text

    def _round(self, links: Sequence[r.Link]) -> str:
        """Links in words, the last of which leads to where the first begins."""
        parts = [
            f"{self.name(each.source)} comes before {self.name(each.target)}, because "
            f"{self.clause(each)}"
            for each in links[:STEPS_TOLD_MAX]
        ]
        if len(links) > STEPS_TOLD_MAX:
            parts.append(f"and so on, in {len(links)} steps")
        first = self.name(links[0].source)
        return "; ".join(parts) + f": so {first} would have to come before itself."

    def _foul(self, found: e.GarbageRead | e.AbortedRead | e.IntermediateRead) -> str:
        """A read of what is not there to be read."""
        reader, *others = map(self.name, found.rows)
        value, key = show(found.value), show(found.key)
        is_list = found.deed == "append"
        read = f"{reader} read {value} {'in' if is_list else 'from'} key {key}"
        match found:
            case e.GarbageRead():
                did = "appended" if is_list else "wrote"
                return f"{read}, which no transaction ever {did}."
            case e.AbortedRead() if is_list:
                return (
                    f"{read}; {others[0]} appended it, but failed, so nobody may ever "
                    "see it."
                )
            case e.AbortedRead():
                return f"{read}; {others[0]} wrote it, but failed."
            case e.IntermediateRead() if is_list:
                return (
                    f"{reader} read key {key} up to {value}, after which {others[0]} "
                    "itself appended more to it: it observed the middle of a "
                    "transaction."
                )
            case _:
                return f"{read}; {others[0]} itself replaced it later on."

    def _of_two(
        self, found: e.Reordered | e.DirtyUpdate | e.ListsDiffer | e.LostAppend
    ) -> str:
        """Lists, and appends of two transactions."""
        first, second = map(self.name, found.rows)
        key = show(found.key)
        match found:
            case e.Reordered():
                early, late = show(found.first), show(found.second)
                return (
                    f"{second} appended {early} and after it {late} to key {key}, but "
                    f"{first} read {late} without {early} before it."
                )
            case e.DirtyUpdate():
                return (
                    f"{second} failed, yet its append of {show(found.dirt)} to key "
                    f"{key} stayed, and {first} committed {show(found.element)} on top "
                    "of it."
                )
            case e.ListsDiffer():
                return (
                    f"{first} and {second} read key {key} as {show_list(found.value)} "
                    f"and as {show_list(found.longest)}, which differ from element "
                    f"{found.place} on: neither list can grow into the other by "
                    "appends."
                )
            case e.LostAppend():
                more = (
                    f", and none of {found.misses} reads from then on has it"
                    if found.misses > 1
                    else ""
                )
                op = self.transactions.ops[found.rows[0]]
                return (
                    f"acknowledged append is missing: {first} appended "
                    f"{show(found.element)} to key {key} and returned ok (op {op}), "
                    f"but {second}, invoked after that, read {show_list(found.value)}"
                    f"{more}."
                )

    def _disordered(self, found: e.DisorderedVersions) -> str:
        key = show(found.key)
        texts = []
        for each in found.orders:
            why = each.why
            assert isinstance(why, r.Demanded)
            low, high = show(why.low), show(why.high)
            if isinstance(found, e.NilAfterVersion):
                overlooked = OVERLOOKED[why.rule].format(low=low)
                return (
                    f"{self.name(why.row)} read nil from key {key}, yet {overlooked}."
                )
            texts.append(f"{low} must come before {high}, since {self.clause(each)}")
        return f"The versions of key {key} can't be put in order: {'; '.join(texts)}."

    def _of_all(self, found: e.Dilemma | e.NoOrder | e.NoSources) -> str:
        """That no way to explain the history is left."""
        match found:
            case e.Dilemma():
                a, b = map(self.name, found.writers)
                text = f"{a} and {b} both wrote to key {show(found.key)}."
                for first, links in zip((a, b), found.cycles, strict=True):
                    text += f" If {first} was the first: "
                    text += (
                        self._round(links)
                        if links
                        else "every order of the other writes closes some cycle."
                    )
                return text
            case e.NoOrder():
                return self._no_order(found)
            case e.NoSources():
                parts = [
                    f"If {' and '.join(map(self._supposed, case.supposed))}: "
                    f"{self.sentence(case.consequence)}"
                    for case in found.cases
                ]
                if found.left_out:
                    parts.append(f"And so on, in {found.left_out} more cases.")
                return " ".join(parts)

    def _no_order(self, found: e.NoOrder) -> str:
        keeps = ("", " that every process saw", " that real time allows")[found.keeps]
        text = (
            f"No order of the transactions{keeps} gives what was read, whoever is "
            "taken for the writer of what was appended more than once."
        )
        if not found.transactions:
            return text
        text += f" Of {found.transactions} transactions at most {found.farthest} can be"
        text += " put in order"
        if found.rows:
            text += f"; after those that were, {self.name(found.rows[0])} can't come"
        return text + "."

    def _supposed(self, it: e.Supposed) -> str:
        source = (
            "the initial value" if it.source == NOTHING else f"{self.name(it.source)}'s"
        )
        return (
            f"the {show(it.value)} that {self.name(it.reader)} read from key "
            f"{show(it.key)} is {source}"
        )

    # Reasons

    def clause(self, of: r.Link) -> str:
        """Why the source comes before the target."""
        a, b = self.name(of.source), self.name(of.target)
        match of.why:
            case str(text):
                return text
            case r.InSession():
                process = self.transactions.process_name(of.source)
                return f"process {process} ran {a} before {b}"
            case r.InRealTime():
                invoked = self.transactions.start[of.target]
                return f"{a} had returned when {b} was invoked (op {invoked})"
            case r.HadReturned():
                return f"{a} had returned"
            case r.Observed(deed, value, key):
                return f"{b} observed {a}'s {deed} of {show(value)} to key {show(key)}"
            case r.Missed(deed, value, key, order):
                what = f"{show(value)} to key {show(key)}"
                because = f" ({_precedence(order)})" if order else ""
                return f"{a} did not observe {b}'s {deed} of {what}{because}"
            case r.MissedUpdate(deed):
                return f"{a} did not observe {b}'s {deed}"
            case r.AppendedAfter(element, key, earlier, is_eliminated):
                what = f"{show(element)} to key {show(key)}"
                if is_eliminated:
                    return f"{b} appended {what} after {a} appended to it, {ELIMINATED}"
                return f"{b} appended {what} after {a} appended {show(earlier)}"
            case r.Replaced(key, order):
                what = f"{show(order.low)} to key {show(key)}"
                return f"{b} replaced {a}'s write of {what} ({_precedence(order)})"
            case r.StandsAfter(element, dirt, key):
                return f"{show(element)} stands after {show(dirt)} in key {show(key)}"
            case r.ReadNil(key):
                return f"{a} read nil from key {show(key)}"
            case r.Seen() as seen:
                return f"{self.name(seen.reader)} {self._seen(seen)}"
            case r.Overwritten(seen, overwritten, read, key):
                return (
                    f"{self.name(seen.reader)} {self._seen(seen)}, yet it read "
                    f"{show(read)} from key {show(key)}, to which "
                    f"{self.name(seen.writer)} wrote {show(overwritten)}; so that was "
                    "overwritten"
                )
            case r.Demanded(low, high, row, rule):
                who = self.name(row) if row != NOTHING else ""
                return DEMANDED[rule].format(low=show(low), high=show(high), row=who)

    def _seen(self, seen: r.Seen) -> str:
        return SEEN[seen.how].format(seen=self.name(seen.writer))

    # Doubts

    def doubt(self, about: e.Doubt) -> str:
        """What stays open, as a clause."""
        match about:
            case e.OpenAppends(example):
                return (
                    "the order in which some keys were appended to stays open, such as "
                    f"{self._order(example)}, and each may show what reads missed"
                )
            case e.OpenWrites(example):
                text = "the order in which some keys were written stays open"
                if example is not None:
                    text += f", such as {self._order(example)}"
                return text + "; search=exhaustive goes on until it is settled"
            case e.OpenSource():
                return self._open_source(about)
            case e.OpenWriter():
                return self._open_writer(about)

    def _open_writer(self, about: e.OpenWriter) -> str:
        names = " and ".join(dict.fromkeys(map(self.name, about.writers)))
        text = (
            f"nobody can tell whose append of {show(about.element)} to key "
            f"{show(about.key)} was read ({names} made one each)"
        )
        if not about.gave_up:
            return text
        worlds = f"{about.worlds} assignment{'s' * (about.worlds != 1)} of writers"
        return f"{text}, and with none of {worlds} does everything fit; {about.gave_up}"

    def _order(self, example: e.OpenOrder) -> str:
        a, b = self.name(example.a), self.name(example.b)
        return f"that of {a} and {b} for key {show(example.key)}"

    def _open_source(self, about: e.OpenSource) -> str:
        """Why nobody can tell who wrote what was read, and what comes of it."""
        value = show(about.value)
        what = f"{value} to key {show(about.key)}"
        names = list(map(self.name, about.writers))
        if len(names) == 1:
            who = f"{names[0]} writes {what}, which may have begun with it"
        else:
            who = f"{show_all(names)} write {what}"
        others = (
            f", and {about.others} more values were written repeatedly"
            if about.others
            else ""
        )
        reader = self.name(about.reader)
        return (
            f"{who}{others}, so nobody can tell whose {value} {reader} read; "
            f"{about.outlook}"
        )


def _later(found: e.FutureRead) -> str:
    if found.deed == "append":
        return "before it appended it itself"
    when = "before it" if found.own_writes_show else "and"
    return f"{when} wrote that value itself"


def _times(found: e.RepeatedElement) -> str:
    element, key, times = show(found.element), show(found.key), found.times
    if found.is_copied:
        return (
            f"{element} in key {key} {times} times, more often than it was ever "
            "appended."
        )
    return (
        f"{element} {times} times in key {key}, to which it was appended once at most."
    )


def _updated(found: e.LostUpdate) -> str:
    key = show(found.key)
    if found.deed == "append":
        read, did = f"read key {key} as {show_list(found.value)}", "appended"
    else:
        read, did = f"read {show(found.value)} from key {key}", "wrote"
    return (
        f"{read} and then {did} to it: whichever came last did not see the others' "
        f"{found.deed}s."
    )


def _precedence(order: r.Precedence) -> str:
    why = f"by {SOURCES[order.source]}" if order.source else ELIMINATED
    return f"{show(order.low)} precedes {show(order.high)}, {why}"


ELIMINATED = "since the other order would close a cycle"

SOURCES = {
    "initial": "the initial state",
    "wfr": "writes following reads",
    "sequential": "the order of a process's operations on the key",
    "linearizable": "the real time of operations on the key",
}
"""Where orders of registers' versions come from."""

SEEN = {
    "earlier-read": "had read from {seen} before",
    "read": "read from {seen}",
    "session": "came after {seen} in its session",
    "any": "had seen {seen}, directly or through others",
}
"""How a transaction has seen another one's version that it should have read."""

DEMANDED = {
    "own-write": "{low} was written by the same process before {row} read {high}",
    "own-read": "{low} was read by the same process before {row} read {high}",
    "write-write": "{low} was written by the same process before {row} wrote {high}",
    "read-write": "{low} was read by the same process before {row} wrote {high}",
    "seen-write": (
        "{row} read {high} after something that the writer of {low} wrote later on"
    ),
    "seen-read": (
        "{row} read {high} after something whose writer had read {low} before"
    ),
    "shown": "reads show {low} before {high}",
}
"""Why session guarantees demand an order of versions."""

OVERLOOKED = {
    "own-write": "the same process had written {low} to it before",
    "own-read": "the same process had read {low} from it before",
    "seen-write": "it had seen something that the writer of {low} wrote later on",
    "seen-read": "it had seen something whose writer had read {low} before",
}
"""The same for reads of the initial state, said of the transaction that read it."""

REMARKS = {
    "G-cursor": (
        "{first} wrote to that key itself, over what it had not seen when it read it."
    ),
    "G-monotonic": (
        "{first} had already seen what {last} did when it read that: its view went "
        "back."
    ),
    "G-MSR": (
        "Each of those that did not observe something had already seen what comes "
        "before it, so not even snapshots of single reads are in any order."
    ),
    "G-update": (
        "At most one of these transactions only reads, so there would be no order even "
        "without all others that do."
    ),
    "write-skew": "Each read what the other one then replaced.",
}
"""What a cycle's class means beside that it is a cycle; its first edge is rw."""

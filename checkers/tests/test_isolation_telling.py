"""Evidence in words: one example of each kind, and who may write words at all."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from checkers.isolation import evidence as e
from checkers.isolation import reasons as r
from checkers.isolation import telling
from checkers.isolation.graph import NOTHING
from checkers.isolation.telling import Teller, anomaly
from checkers.isolation.transactions import Copy, Transactions, collect
from checkers.tests.isolation_histories import transactions

if TYPE_CHECKING:
    from collections.abc import Iterator

ISOLATION = Path(telling.__file__).parent

WORDS = {"telling", "phrases", "judge"}
"""Modules that may use words: those that make them, and the one that asks for them."""


def history() -> Transactions:
    """Three transactions, T2, T3 and T5; the first two are concurrent."""
    return collect(transactions("ax1@7 ax2@8 ; rx12@7"))


IN_SESSION = r.Link(0, 2, "process", r.InSession())
BACK = r.Link(2, 0, "rw", r.Missed("append", 3, "x"))
CYCLE = (IN_SESSION, BACK)
SEEN = r.Seen(2, 0, "read")
GARBAGE = e.GarbageRead("garbage-read", (2,), "x", 9, "write")


def demanded(high: Any) -> r.Link:
    return r.Link(0, 2, "ww", r.Demanded(1, high, 2, "own-read"))


SENTENCES: list[tuple[e.Evidence, str]] = [
    (
        e.cyclic("G-single-item-process", CYCLE),
        "T2 comes before T5, because process 7 ran T2 before T5; T5 comes before T2, "
        "because T5 did not observe T2's append of 3 to key x: so T2 would have to "
        "come before itself.",
    ),
    (
        e.CyclicByClass("write-skew", (0, 2), None, CYCLE, False),
        "T2 comes before T5, because process 7 ran T2 before T5; T5 comes before T2, "
        "because T5 did not observe T2's append of 3 to key x: so T2 would have to "
        "come before itself. Each read what the other one then replaced. There may be "
        "a shorter cycle of this kind.",
    ),
    (
        e.UnlikeOwnList("internal", (2,), "x", [1, 2], [2, 1]),
        "T5 read [1 2] from key x, but its own operations before that call for a list "
        "that ends in [2 1].",
    ),
    (
        e.UnlikeOwnValue("internal", (2,), "x", None, "1"),
        'T5 read nil from key x, but its own operations before that call for "1".',
    ),
    (
        e.OwnAppendShown("internal", (2,), "x", 1),
        "T5 read 1 from key x, which it had appended itself, though transactions read "
        "only what was there when they began.",
    ),
    (
        e.FutureRead("future-read", (2,), "x", 1, "append"),
        "T5 read 1 from key x before it appended it itself.",
    ),
    (
        e.FutureRead("future-read", (2,), "x", 1, "write", False),
        "T5 read 1 from key x and wrote that value itself.",
    ),
    (
        e.RepeatedElement("duplicate-elements", (2,), "x", 1, 2),
        "T5 read 1 2 times in key x, to which it was appended once at most.",
    ),
    (
        e.RepeatedElement("duplicate-elements", (2,), "x", Copy(1, 0), 3, True),
        "T5 read 1 in key x 3 times, more often than it was ever appended.",
    ),
    (GARBAGE, "T5 read 9 from key x, which no transaction ever wrote."),
    (
        e.AbortedRead("G1a", (2, 0), "x", 1, "append"),
        "T5 read 1 in key x; T2 appended it, but failed, so nobody may ever see it.",
    ),
    (
        e.AbortedRead("G1a", (2, 0), "x", 1, "write"),
        "T5 read 1 from key x; T2 wrote it, but failed.",
    ),
    (
        e.IntermediateRead("G1b", (2, 0), "x", 1, "append"),
        "T5 read key x up to 1, after which T2 itself appended more to it: it observed "
        "the middle of a transaction.",
    ),
    (
        e.IntermediateRead("G1b", (2, 0), "x", 1, "write"),
        "T5 read 1 from key x; T2 itself replaced it later on.",
    ),
    (
        e.Reordered("incompatible-order", (2, 0), "x", 1, 2),
        "T2 appended 1 and after it 2 to key x, but T5 read 2 without 1 before it.",
    ),
    (
        e.DirtyUpdate("dirty-update", (2, 0), "x", 2, 1),
        "T2 failed, yet its append of 1 to key x stayed, and T5 committed 2 on top of "
        "it.",
    ),
    (
        e.LostAppend("lost-append", (0, 2), "x", 1, [2], 3),
        "acknowledged append is missing: T2 appended 1 to key x and returned ok (op "
        "2), but T5, invoked after that, read [2], and none of 3 reads from then on "
        "has it.",
    ),
    (
        e.ListsDiffer("incompatible-order", (0, 2), "x", [1], [2, 1], 1),
        "T2 and T5 read key x as [1] and as [2 1], which differ from element 1 on: "
        "neither list can grow into the other by appends.",
    ),
    (
        e.LostUpdate("lost-update", (0, 1, 2), "x", [1], "append"),
        "T2, T3 and T5 all read key x as [1] and then appended to it: whichever came "
        "last did not see the others' appends.",
    ),
    (
        e.LostUpdate("lost-update", (0, 1), "x", 1, "write"),
        "T2 and T3 both read 1 from key x and then wrote to it: whichever came last "
        "did not see the others' writes.",
    ),
    (
        e.CyclicVersions("cyclic-versions", (0, 2), "x", (1, 2), "wfr"),
        "The versions of key x can't be put in order: 1 < 2 < 1, by writes following "
        "reads and what is known without it.",
    ),
    (
        e.DisorderedVersions("read-went-back", (2, 0), "x", (demanded(2),)),
        "The versions of key x can't be put in order: 1 must come before 2, since 1 "
        "was read by the same process before T5 read 2.",
    ),
    (
        e.NilAfterVersion("read-went-back", (2, 0), "x", (demanded(None),)),
        "T5 read nil from key x, yet the same process had read 1 from it before.",
    ),
    (
        e.NilAfterSeen("fractured-read", (2, 0), "x", 1, SEEN),
        "T5 read from T2, which wrote 1 to key x, and yet read nil from that key.",
    ),
    (
        e.Dilemma("G2-item", (0, 1), "x", (0, 1), (CYCLE, ())),
        "T2 and T3 both wrote to key x. If T2 was the first: T2 comes before T5, "
        "because process 7 ran T2 before T5; T5 comes before T2, because T5 did not "
        "observe T2's append of 3 to key x: so T2 would have to come before itself. "
        "If T3 was the first: every order of the other writes closes some cycle.",
    ),
    (
        e.NoOrder("G2-realtime", (2,), None, 2, 3, 2),
        "No order of the transactions that real time allows gives what was read, "
        "whoever is taken for the writer of what was appended more than once. Of 3 "
        "transactions at most 2 can be put in order; after those that were, T5 can't "
        "come.",
    ),
    (
        e.NoSources(
            "G1a", (2,), "x", (e.Case((e.Supposed(9, "x", 2, 0),), GARBAGE),), 2
        ),
        "If the 9 that T5 read from key x is T2's: T5 read 9 from key x, which no "
        "transaction ever wrote. And so on, in 2 more cases.",
    ),
]


@pytest.mark.parametrize(("found", "sentence"), SENTENCES)
def test_evidence_has_its_sentence(found: e.Evidence, sentence: str) -> None:
    assert Teller(history()).sentence(found) == sentence


CLAUSES: list[tuple[r.Why, str]] = [
    ("it sent it", "it sent it"),
    (r.InSession(), "process 7 ran T2 before T5"),
    (r.InRealTime(), "T2 had returned when T5 was invoked (op 4)"),
    (r.HadReturned(), "T2 had returned"),
    (r.Observed("append", 1, "x"), "T5 observed T2's append of 1 to key x"),
    (r.Missed("append", 1, "x"), "T2 did not observe T5's append of 1 to key x"),
    (
        r.Missed("write", 2, "x", r.Precedence(1, 2, "initial")),
        "T2 did not observe T5's write of 2 to key x (1 precedes 2, by the initial "
        "state)",
    ),
    (r.MissedUpdate("write"), "T2 did not observe T5's write"),
    (r.AppendedAfter(2, "x", 1), "T5 appended 2 to key x after T2 appended 1"),
    (
        r.AppendedAfter(2, "x", is_eliminated=True),
        "T5 appended 2 to key x after T2 appended to it, since the other order would "
        "close a cycle",
    ),
    (
        r.Replaced("x", r.Precedence(1, 2, "")),
        "T5 replaced T2's write of 1 to key x (1 precedes 2, since the other order "
        "would close a cycle)",
    ),
    (r.StandsAfter(2, 1, "x"), "2 stands after 1 in key x"),
    (r.ReadNil("x"), "T2 read nil from key x"),
    (SEEN, "T5 read from T2"),
    (
        r.Demanded(1, 2, NOTHING, "shown"),
        "reads show 1 before 2",
    ),
    (
        r.Overwritten(SEEN, 1, 2, "x"),
        "T5 read from T2, yet it read 2 from key x, to which T2 wrote 1; so that was "
        "overwritten",
    ),
]


@pytest.mark.parametrize(("why", "clause"), CLAUSES)
def test_a_reason_has_its_clause(why: r.Why, clause: str) -> None:
    assert Teller(history()).clause(r.Link(0, 2, "ww", why)) == clause


DOUBTS: list[tuple[e.Doubt, str]] = [
    (
        e.OpenAppends(e.OpenOrder(0, 1, "x")),
        "the order in which some keys were appended to stays open, such as that of T2 "
        "and T3 for key x, and each may show what reads missed",
    ),
    (
        e.OpenWrites(None),
        "the order in which some keys were written stays open; search=exhaustive goes "
        "on until it is settled",
    ),
    (
        e.OpenSource(1, "x", 2, (0,), 0, "time is up"),
        "T2 writes 1 to key x, which may have begun with it, so nobody can tell whose "
        "1 T5 read; time is up",
    ),
    (
        e.OpenWriter(1, "x", (0, 1, 0)),
        "nobody can tell whose append of 1 to key x was read (T2 and T3 made one each)",
    ),
    (
        e.OpenWriter(1, "x", (0, 1), 1, "there may be more"),
        "nobody can tell whose append of 1 to key x was read (T2 and T3 made one "
        "each), and with none of 1 assignment of writers does everything fit; there "
        "may be more",
    ),
]


@pytest.mark.parametrize(("doubt", "clause"), DOUBTS)
def test_a_doubt_has_its_clause(doubt: e.Doubt, clause: str) -> None:
    assert Teller(history()).doubt(doubt) == clause


def kinds(base: type[Any]) -> Iterator[type[Any]]:
    for kind in type.__subclasses__(base):
        yield kind
        yield from kinds(kind)


def test_all_kinds_of_evidence_reasons_and_doubts_are_among_the_examples() -> None:
    assert {type(found) for found, _ in SENTENCES} == set(kinds(e.Evidence))
    assert {type(why) for why, _ in CLAUSES} == set(get_args(r.Why))
    assert {type(doubt) for doubt, _ in DOUBTS} == set(get_args(e.Doubt))


def test_a_witness_has_the_edges_of_its_evidence_between_operations() -> None:
    found = anomaly(history(), e.DirtyUpdate("dirty-update", (2, 0), "x", 2, 1))
    assert found.ops == (5, 2)
    assert found.witness is not None
    assert list(found.witness.edges(data=True)) == [
        (2, 5, {"kind": "ww", "reason": "2 stands after 1 in key x"})
    ]


def test_deciders_use_no_words() -> None:
    banned = {"checkers.isolation.telling", "checkers.isolation.phrases"}
    for path in ISOLATION.rglob("*.py"):
        imported = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        }
        assert path.stem in WORDS or not imported & banned, path

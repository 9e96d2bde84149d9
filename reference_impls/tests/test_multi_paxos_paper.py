"""Sentences about Multi-Paxos, one test each.

"Lamport" is "Paxos Made Simple" (2001); "PMMC" is "Paxos Made Moderately Complex" (van
Renesse and Altinbuken 2015).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import multi_paxos
from reference_impls.actor import (
    Effect,
    Now,
    Persist,
    Received,
    Reply,
    Send,
    TimerFired,
    settings,
)
from reference_impls.core import well_formed
from reference_impls.multi_paxos import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    NOOP,
    Entry,
    MultiPaxos,
    runs,
)
from reference_impls.paxos import Ballot

MS = 1_000_000
B2, B3 = Ballot(2, "n2"), Ballot(3, "n3")
A: Any = {"type": "write", "key": 1, "value": "a"}
B: Any = {"type": "write", "key": 1, "value": "b"}


def server(servers: int = 3, records: Any = (), **options: str) -> MultiPaxos:
    """n1 of as many."""
    peers = [f"n{i}" for i in range(2, servers + 1)]
    core = MultiPaxos("n1", peers, settings(multi_paxos.OPTIONS, options))
    core.start(list(records))
    return core


def hear(
    core: MultiPaxos, src: str, kind: str, at_ms: int = 0, **fields: Any
) -> list[Effect]:
    now = Now(at_ms * MS, at_ms * MS)
    return core.step(Received(src, {"type": kind, **fields}, now))


def fire(core: MultiPaxos, timer: str, at_ms: int = 0) -> list[Effect]:
    return core.step(TimerFired(timer, Now(at_ms * MS, at_ms * MS)))


def write(core: MultiPaxos, value: str) -> list[Effect]:
    """A client's write, and the end of the batch."""
    effects = hear(core, "c1", "write", key=1, value=value)
    return effects + fire(core, "batch")


def sent(effects: list[Effect], kind: str) -> list[Send]:
    return [e for e in effects if isinstance(e, Send) and e.body["type"] == kind]


def replies(effects: list[Effect]) -> list[Any]:
    return [dict(e.body) for e in effects if isinstance(e, Reply)]


def records(effects: list[Effect]) -> list[Any]:
    return [e.record for e in effects if isinstance(e, Persist)]


def elect(core: MultiPaxos, *promises: tuple[str, int, Any]) -> list[Effect]:
    """Make it lead with these promises: (server, decided, accepted)."""
    effects = fire(core, "election")
    for src, decided, accepted in promises or (("n2", 0, []),):
        effects += hear(
            core,
            src,
            "promise",
            ballot=core.ballot_num,
            decided=decided,
            accepted=accepted,
        )
    return effects


def accept(
    core: MultiPaxos,
    slot: int = 1,
    entries: Any = (),
    decided: int = 0,
    ballot: Ballot = B2,
) -> list[Effect]:
    return hear(
        core,
        ballot.server,
        "accept",
        ballot=ballot,
        slot=slot,
        entries=list(entries),
        decided=decided,
    )


def accepted(core: MultiPaxos, src: str, slot: int, count: int = 1) -> list[Effect]:
    return hear(core, src, "accepted", ballot=core.ballot_num, slot=slot, count=count)


def proposals(effects: list[Effect]) -> dict[int, Any]:
    """What accepts ask for, by slot."""
    return {
        slot: entry
        for message in sent(effects, "accept")
        for slot, entry in enumerate(message.body["entries"], message.body["slot"])
    }


# --- phase 1 -----------------------------------------------------------------------


def test_phase_1_is_executed_for_infinitely_many_instances_at_once() -> None:
    """Lamport 3: a single reasonably short message."""
    core = server()
    prepares = sent(fire(core, "election"), "prepare")
    assert [dict(p.body) for p in prepares] == [
        {"type": "prepare", "ballot": Ballot(1, "n1")}
    ] * 2
    assert core.role == CANDIDATE


def test_a_ballot_is_on_disk_before_anyone_hears_of_it() -> None:
    effects = fire(server(), "election")
    first = next(e for e in effects if isinstance(e, Persist | Send))
    assert isinstance(first, Persist)
    again = server(3, records(effects))
    assert again.ballot_num == Ballot(1, "n1")


def test_an_acceptor_tells_all_that_it_accepted_and_that_is_not_decided() -> None:
    """PMMC 2.3: p1b; 4.2: not what the other can learn as decided."""
    core = server()
    accept(core, 1, [Entry(B2, A), Entry(B2, B)])
    accept(core, 3, [], decided=1)
    (promise,) = sent(hear(core, "n3", "prepare", ballot=B3), "promise")
    assert promise.body["decided"] == 1
    assert promise.body["accepted"] == [[2, B2, Entry(B2, B)]]


def test_ballots_below_a_promise_are_refused() -> None:
    core = server()
    hear(core, "n3", "prepare", ballot=B3)
    (refused,) = sent(accept(core, 1, [Entry(B2, A)]), "refused")
    assert refused.body["promised"] == B3
    assert sent(hear(core, "n2", "prepare", ballot=B2), "refused")
    assert not core.accepted


def test_for_each_slot_the_highest_ballots_pvalue_is_proposed() -> None:
    """PMMC 2.4: pmax."""
    core = server(5)
    old, new = Ballot(0, "n4"), Ballot(0, "n5")
    effects = elect(
        core,
        ("n2", 0, [[1, old, Entry(old, A)]]),
        ("n3", 0, [[1, new, Entry(new, B)]]),
    )
    assert proposals(effects) == {1: Entry(new, B)}


def test_gaps_are_filled_with_no_ops() -> None:
    """Lamport 3: a special no-op command that leaves the state unchanged."""
    core = server()
    effects = elect(core, ("n2", 0, [[3, B2, Entry(B2, A)]]))
    noop = Entry(core.ballot_num, NOOP)
    assert proposals(effects) == {1: noop, 2: noop, 3: Entry(B2, A)}
    assert core.slot_in == 4


def test_a_candidate_learns_what_its_majority_knows_before_it_leads() -> None:
    core = server()
    effects = elect(core, ("n2", 2, []))
    assert core.role == CANDIDATE
    assert [s.dest for s in sent(effects, "catch_up")] == ["n2"]
    entries = [Entry(B2, A), Entry(B2, B)]
    hear(core, "n2", "decisions", slot=1, entries=entries, decided=2)
    assert core.role == LEADER
    assert core.slot_in == 3


def test_a_leader_whose_ballot_is_preempted_stops_and_goes_higher_next_time() -> None:
    """PMMC 2.4: preempted."""
    core = server()
    elect(core)
    hear(core, "n3", "refused", ballot=core.ballot_num, promised=Ballot(8, "n3"))
    assert core.role == FOLLOWER
    fire(core, "election")
    assert core.ballot_num == Ballot(9, "n1")


def test_no_two_ballots_have_the_same_term_and_terms_grow_with_ballots() -> None:
    core = server(3)
    ballots = [Ballot(r, n) for r in range(1, 4) for n in ("n1", "n2", "n3")]
    terms = [core.term_of(ballot) for ballot in ballots]
    assert terms == sorted(set(terms))


# --- phase 2 -----------------------------------------------------------------------


def test_a_leader_assigns_commands_to_slots_and_has_them_accepted() -> None:
    core = server()
    elect(core)
    entry = Entry(core.ballot_num, A)
    assert proposals(write(core, "a")) == {1: entry}
    effects = accepted(core, "n2", 1)
    assert replies(effects) == [{"type": "write_ok"}]
    assert core.decisions[1] == entry


def test_requests_that_arrived_together_are_one_record_and_one_message() -> None:
    core = server()
    elect(core)
    for i in range(5):
        hear(core, "c1", "write", key=1, value=i)
    effects = fire(core, "batch")
    assert len(records(effects)) == 1
    assert len(sent(effects, "accept")) == 2


def test_an_acceptor_records_before_it_answers() -> None:
    effects = accept(server(), 1, [Entry(B2, A)])
    kinds = [type(e) for e in effects if isinstance(e, Persist | Send)]
    assert kinds[-2:] == [Persist, Send]


def test_what_is_accepted_by_less_than_a_majority_is_not_decided() -> None:
    core = server(5)
    elect(core, ("n2", 0, []), ("n3", 0, []))
    write(core, "a")
    accepted(core, "n2", 1)
    accepted(core, "n2", 1)
    assert core.decided == 0
    accepted(core, "n3", 1)
    assert core.decided == 1


def test_slots_are_carried_out_in_order_whatever_the_order_of_decisions() -> None:
    """PMMC 2.1: slot_out."""
    core = server(3, entries_per_message_max="1")
    elect(core)
    write(core, "a")
    write(core, "b")
    assert replies(accepted(core, "n2", 2)) == []
    effects = accepted(core, "n2", 1)
    assert [r["type"] for r in replies(effects)] == ["write_ok", "write_ok"]
    assert core.state.data == {1: "b"}


def test_no_more_than_a_window_of_slots_is_under_way() -> None:
    """PMMC 2.1: WINDOW."""
    core = server(3, window="2")
    elect(core)
    for i in range(5):
        hear(core, "c1", "write", key=1, value=i)
    assert sorted(proposals(fire(core, "batch"))) == [1, 2]
    accepted(core, "n2", 1)
    assert sorted(proposals(fire(core, "batch"))) == [3]


def test_an_acceptor_far_behind_accepts_no_more_than_it_could_tell_of() -> None:
    core = server(3, window="2")
    far = [Entry(B2, A)] * 6
    (answer,) = sent(accept(core, 1, far), "accepted")
    assert answer.body["count"] == 4
    assert len(core.accepted) == 4


def test_what_got_lost_is_sent_again() -> None:
    core = server()
    elect(core)
    write(core, "a")
    assert proposals(fire(core, "heartbeat")) == {}
    assert sorted(proposals(fire(core, "heartbeat"))) == [1]


def test_a_leader_that_hears_from_no_majority_stops() -> None:
    core = server()
    elect(core)
    fire(core, "heartbeat", at_ms=299)
    assert core.role == LEADER
    fire(core, "heartbeat", at_ms=301)
    assert core.role == FOLLOWER


# --- replicas ----------------------------------------------------------------------


def test_what_was_accepted_under_the_leaders_ballot_is_what_was_decided() -> None:
    core = server()
    accept(core, 1, [Entry(B2, A)])
    assert core.decided == 0
    accept(core, 2, decided=1)
    assert core.decisions[1] == Entry(B2, A)


def test_what_was_accepted_under_another_ballot_need_not_be() -> None:
    core = server()
    accept(core, 1, [Entry(B2, A)])
    effects = accept(core, 2, decided=1, ballot=B3)
    assert core.decided == 0
    assert [s.dest for s in sent(effects, "catch_up")] == ["n3"]
    hear(core, "n3", "decisions", slot=1, entries=[Entry(B3, B)], decided=1)
    assert core.decisions[1] == Entry(B3, B)


def test_decisions_survive_a_restart_as_far_as_they_were_on_disk() -> None:
    core = server()
    effects = accept(core, 1, [Entry(B2, A)])
    effects += accept(core, 2, decided=1, ballot=B3)
    effects += hear(core, "n3", "decisions", slot=1, entries=[Entry(B3, B)], decided=1)
    effects += accept(core, 2, [Entry(B3, A)], decided=1, ballot=B3)
    again = server(3, records(effects))
    assert again.decisions[1:] == [Entry(B3, B)]
    assert again.state.data == {1: "b"}
    assert again.accepted[2].entry == Entry(B3, A)


@given(st.data())
def test_a_restart_finds_the_acceptor_as_it_was(data: st.DataObject) -> None:
    core, kept = server(3, window="3"), []
    slots = st.integers(1, 6)
    for _ in range(data.draw(st.integers(0, 12))):
        ballot = data.draw(st.sampled_from([B2, B3]))
        entries = [Entry(ballot, A)] * data.draw(st.integers(0, 3))
        decided = data.draw(st.integers(0, core.decided + 1))
        kept += records(accept(core, data.draw(slots), entries, decided, ballot))
    again = server(3, kept)
    assert again.ballot_num == core.ballot_num
    assert again.decided <= core.decided
    merged = {s: p.entry for s, p in again.accepted.items()}
    merged |= dict(enumerate(again.decisions))
    expected = {s: p.entry for s, p in core.accepted.items()}
    assert merged == expected | dict(enumerate(core.decisions))


# --- clients -----------------------------------------------------------------------


def test_a_command_whose_slot_was_decided_for_another_failed_for_sure() -> None:
    core = server()
    elect(core)
    write(core, "a")
    accept(core, 1, [Entry(B3, B)], ballot=B3)
    effects = accept(core, 2, decided=1, ballot=B3)
    (answer,) = replies(effects)
    assert answer["code"] == 11


def test_a_command_that_a_later_leader_completes_is_answered_as_done() -> None:
    core = server()
    elect(core)
    entry = Entry(core.ballot_num, A)
    write(core, "a")
    accept(core, 1, [entry], ballot=B3)
    assert replies(accept(core, 2, decided=1, ballot=B3)) == [{"type": "write_ok"}]


def test_of_a_command_that_is_not_decided_in_time_nobody_knows() -> None:
    core = server()
    elect(core)
    write(core, "a")
    fire(core, "sweep")
    (answer,) = replies(fire(core, "sweep"))
    assert answer["code"] == 13


def test_a_request_that_was_passed_on_twice_is_served_once() -> None:
    core = server()
    elect(core)
    term = core.term_of(core.ballot_num)
    for _ in range(2):
        hear(core, "n2", "forward", term=term, id=7, request=A)
    assert len(proposals(fire(core, "batch"))) == 1


def test_a_server_without_a_leader_says_so() -> None:
    (answer,) = replies(hear(server(), "c1", "read", key=1))
    assert answer["code"] == 11


def test_a_server_passes_requests_on_to_the_leader() -> None:
    core = server()
    accept(core)
    effects = hear(core, "c1", "read", key=1)
    (forward,) = sent(effects, "forward")
    assert forward.dest == "n2"
    reply = {"type": "read_ok", "value": "a"}
    effects = hear(core, "n2", "forward_reply", id=forward.body["id"], reply=reply)
    assert replies(effects) == [reply]


def test_a_server_alone_decides_alone() -> None:
    core = server(1)
    fire(core, "election")
    assert replies(write(core, "a")) == [{"type": "write_ok"}]


# --- details -----------------------------------------------------------------------


@given(st.sets(st.integers(1, 40)), st.integers(1, 5))
def test_runs_hold_every_slot_once_in_order_and_without_gaps(
    slots: set[int], length_max: int
) -> None:
    cut = runs(slots, length_max)
    assert [slot for run in cut for slot in run] == sorted(slots)
    for run in cut:
        assert run == list(range(run[0], run[0] + len(run)))
        assert len(run) <= length_max


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.just([1, "n2"])
    | st.just([[[1, "n2"], NOOP]])
    | st.just([[1, [1, "n2"], [[1, "n2"], A]]])
    | st.just(A)
)


@given(
    st.sampled_from(sorted(multi_paxos.MESSAGES)),
    st.dictionaries(
        st.sampled_from(sorted({f for m in multi_paxos.MESSAGES.values() for f in m})),
        VALUES,
    ),
    st.booleans(),
)
def test_no_message_of_a_peer_breaks_a_server(
    kind: str, fields: Any, leads: bool
) -> None:
    core = server()
    if leads:
        elect(core)
    effects = core.step(Received("n2", {"type": kind, **fields}, Now(0, 0)))
    if not well_formed({"type": kind, **fields}, multi_paxos.MESSAGES):
        assert effects == []


@pytest.mark.parametrize(
    "options",
    [
        {"election_timeout_ms_min": "400"},
        {"heartbeat_ms": "150"},
        {"heartbeat_ms": "0"},
    ],
)
def test_options_that_make_no_sense_together_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="_ms"):
        multi_paxos.build("n1", ["n2"], settings(multi_paxos.OPTIONS, options))

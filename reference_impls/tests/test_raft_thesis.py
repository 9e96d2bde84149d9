"""Sentences of Ongaro's thesis (2014) on what the paper leaves out or sketches, one
test each: membership, leadership transfer, snapshots, sessions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reference_impls import raft
from reference_impls.actor import (
    Effect,
    Now,
    Observe,
    Persist,
    Received,
    SetTimer,
    settings,
)
from reference_impls.raft import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    NOOP,
    Raft,
)
from reference_impls.tests.raft_server import (
    MS,
    WRITE,
    acknowledge,
    append,
    ask_vote,
    elect,
    fire,
    hear,
    log_terms,
    observed,
    replies,
    sent,
    server,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def leader(**options: str) -> Raft:
    """n1, leading, with its no-op on all servers and committed."""
    core = server(None, 0, **options)
    elect(core)
    for peer in core.peers:
        acknowledge(core, peer, 1)
    assert core.commit_index == 1
    return core


def ask(core: Raft, kind: str, at_ms: int = 0, **fields: Any) -> list[Effect]:
    """A client's or an operator's request."""
    return core.step(Received("c1", {"type": kind, **fields}, Now(at_ms * MS, 0)))


def write(core: Raft, value: Any, **fields: Any) -> list[Effect]:
    """A client's write that is appended at once."""
    effects = ask(core, "write", key=1, value=value, **fields)
    return effects + fire(core, "batch")


def commit_all(core: Raft, *voters: str) -> list[Effect]:
    """`voters` acknowledge everything that is in the log."""
    effects: list[Effect] = []
    for voter in voters:
        effects += acknowledge(core, voter, core.log.last_index)
    return effects


# --- 3.10 leadership transfer ---------------------------------------------------------


def test_the_prior_leader_stops_accepting_new_client_requests() -> None:
    core = leader()
    ask(core, "transfer", node="n2")
    effects = write(core, 7)
    assert not replies(effects)
    assert not sent(effects, "append_entries")
    assert core.log.last_index == 1


def test_the_prior_leader_brings_the_target_up_to_date_before_it_tells_it() -> None:
    core = leader()
    write(core, 7)
    assert not sent(ask(core, "transfer", node="n2"), "timeout_now")
    (told,) = sent(acknowledge(core, "n2", 2), "timeout_now")
    assert (told.dest, told.body["term"]) == ("n2", core.current_term)


def test_the_target_starts_an_election_without_waiting_for_its_timeout() -> None:
    core = server(term=4)
    append(core, term=4, src="n2")
    effects = hear(core, "n2", "timeout_now", term=4)
    assert (core.role, core.current_term) == (CANDIDATE, 5)
    assert all(request.body["transfer"] for request in sent(effects, "request_vote"))


def test_an_old_order_to_take_over_is_ignored() -> None:
    core = server(term=4)
    assert hear(core, "n2", "timeout_now", term=3) == []
    assert core.current_term == 4


def test_a_transfer_ends_well_when_the_target_is_heard_to_lead() -> None:
    core = leader()
    ask(core, "transfer", node="n2")
    effects = hear(
        core,
        "n2",
        "append_entries",
        term=2,
        prev_log_index=1,
        prev_log_term=1,
        entries=[[2, NOOP]],
        leader_commit=1,
        round=1,
    )
    assert replies(effects) == [{"type": "transfer_ok"}]


def test_a_transfer_that_takes_an_election_timeout_is_aborted() -> None:
    core = leader()
    effects = ask(core, "transfer", node="n2")
    assert SetTimer("transfer", 300.0, 300.0) in effects
    write(core, 7)
    effects = fire(core, "transfer")
    assert [r["code"] for r in replies(effects)] == [0], "it may take over still"
    effects = fire(core, "batch")
    assert sent(effects, "append_entries"), "the request that waited goes on its way"


@pytest.mark.parametrize(
    ("to", "code"), [("n9", 1), (None, 12), (7, 12), ("", 1), ("n1", None)]
)
def test_leadership_goes_to_servers_that_there_are(to: Any, code: int | None) -> None:
    (reply,) = replies(ask(leader(), "transfer", node=to))
    assert reply.get("code") == code


# --- 4.1 single-server changes --------------------------------------------------------


def test_a_server_uses_a_configuration_as_soon_as_it_is_in_its_log() -> None:
    core = leader()
    ask(core, "remove", node="n5")
    assert core.members.names == ("n1", "n2", "n3", "n4")
    acknowledge(core, "n2", 2)
    assert core.commit_index == 1, "two of four are no majority"
    effects = acknowledge(core, "n3", 2)
    assert core.commit_index == 2
    assert replies(effects) == [{"type": "remove_ok"}]


def test_a_configuration_that_is_truncated_counts_no_more() -> None:
    core = server()
    command = {"type": "remove", "node": "n5", "members": ["n1", "n2", "n3"]}
    fields = {"prev_log_index": 0, "prev_log_term": 0, "leader_commit": 0, "round": 1}
    hear(core, "n2", "append_entries", term=1, entries=[[1, command]], **fields)
    assert list(core.members.names) == ["n1", "n2", "n3"]
    append(core, term=2, terms=(2,), src="n3")
    assert list(core.members.names) == ["n1", "n2", "n3", "n4", "n5"]


def test_a_change_begins_only_when_the_last_one_is_committed() -> None:
    core = leader()
    ask(core, "remove", node="n5")
    (reply,) = replies(ask(core, "remove", node="n4"))
    assert reply["code"] == 11
    commit_all(core, "n2", "n3")
    ask(core, "remove", node="n4")
    assert len(core.members.names) == 3


def test_a_change_begins_only_when_this_terms_no_op_is_committed() -> None:
    """raft-dev, July 2015."""
    core = server()
    elect(core)
    (reply,) = replies(ask(core, "remove", node="n5"))
    assert reply["code"] == 11
    assert len(core.members.names) == 5
    commit_all(core, "n2", "n3")
    ask(core, "remove", node="n5")
    assert len(core.members.names) == 4


@pytest.mark.parametrize(("kind", "node"), [("add", "n5"), ("add", "n1")])
def test_a_change_made_before_is_done_once_a_majority_bears_the_leader_out(
    kind: str, node: str
) -> None:
    core = leader()
    names = core.members.names
    assert not replies(ask(core, kind, node=node)), "it may have been deposed"
    assert replies(commit_all(core, "n2", "n3")) == [{"type": f"{kind}_ok"}]
    assert core.members.names == names


@pytest.mark.parametrize("is_member", [True, False])
def test_the_leader_names_the_members_and_others_say_whether_they_are_one(
    is_member: bool,
) -> None:
    core = leader(initial_members="n1,n2,n3")
    (reply,) = replies(ask(core, "members"))
    assert reply == {"type": "members_ok", "members": ["n1", "n2", "n3"]}
    core = server(initial_members="n1,n2,n3" if is_member else "n2,n3,n4")
    append(core, term=1, src="n2")
    (reply,) = replies(ask(core, "members"))
    assert reply["code"] == (11 if is_member else 40)


# A server that comes back with an empty disk is another one; its name is not enough.


def test_what_a_server_said_before_it_is_added_is_void() -> None:
    core = leader(initial_members="n1,n2,n3")
    write(core, 7)
    acknowledge(core, "n4", 2, round_=core.round)
    assert core.match_index["n4"] == 2
    ask(core, "add", node="n4")
    assert core.match_index["n4"] == 0, "its disk may be another"
    acknowledge(core, "n4", 2, round_=core.round - 1)
    assert "n4" not in core.members.names, "an answer from its life before"
    acknowledge(core, "n4", 2, round_=core.round)
    assert "n4" in core.members.names


def test_a_server_is_added_as_the_incarnation_that_it_shows_and_no_other_counts() -> (
    None
):
    core = leader(initial_members="n1,n2,n3")
    ask(core, "add", node="n4")
    acknowledge(core, "n4", 1, incarnation=2)
    assert core.members.incarnations == {"n4": 2}
    acknowledge(core, "n2", 2)
    acknowledge(core, "n4", 2, incarnation=1)
    assert core.commit_index == 1, "an answer of an incarnation that is no more"
    acknowledge(core, "n4", 2, incarnation=3)
    assert core.commit_index == 1, "nor does one count that was not added"
    acknowledge(core, "n3", 2)
    assert core.commit_index == 2
    ask(core, "remove", node="n3")
    assert core.members.incarnations == {"n4": 2}
    ask(core, "remove", node="n4")


@pytest.mark.parametrize("incarnation", [0, 1])
def test_votes_of_another_incarnation_don_t_count(incarnation: int) -> None:
    core = server()
    fire(core, "election")
    vote = {"term": 1, "vote_granted": True, "incarnation": incarnation}
    for peer in ("n2", "n3", "n4", "n5"):
        hear(core, peer, "request_vote_reply", **vote)
    assert core.role == (CANDIDATE if incarnation else LEADER)


def test_an_incarnation_that_nobody_added_is_no_member_by_its_name() -> None:
    core = server(incarnation="1")
    append(core, term=1, terms=(1,), commit=1)
    for at_ms in range(0, 3000, 300):
        fire(core, "election", at_ms)
    assert core.role == FOLLOWER
    add = {"type": "add", "node": "n1", "members": ["n1", "n2"]}
    fields = {"prev_log_index": 1, "prev_log_term": 1, "leader_commit": 2, "round": 9}
    entries = [[1, {**add, "incarnations": {"n1": 1}}]]
    hear(core, "n2", "append_entries", 3000, term=1, entries=entries, **fields)
    fire(core, "election", 6000)
    assert core.role == CANDIDATE


def test_the_last_member_stays() -> None:
    core = Raft("n1", ["n2"], settings(raft.OPTIONS, {"initial_members": "n1"}))
    core.start([])
    fire(core, "election")
    (reply,) = replies(ask(core, "remove", node="n1"))
    assert reply["code"] == 22


def test_only_the_leader_changes_the_members() -> None:
    core = server()
    append(core, term=1, src="n2")
    (reply,) = replies(ask(core, "remove", node="n5"))
    assert reply["code"] == 11
    assert "n2 is" in reply["text"]


def test_servers_answer_candidates_and_leaders_of_whom_they_know_nothing() -> None:
    core = server(initial_members="n1,n2,n3")
    assert ask_vote(core, "n5", term=3)
    assert append(core, term=4, src="n4", terms=(4,))["success"]


def test_an_answer_of_a_server_that_is_no_member_counts_for_nothing() -> None:
    core = server(initial_members="n1,n2,n3")
    fire(core, "election")
    for voter in ("n4", "n5"):
        hear(core, voter, "request_vote_reply", term=1, vote_granted=True)
    assert core.role == CANDIDATE
    hear(core, "n2", "request_vote_reply", term=1, vote_granted=True)
    assert core.role == LEADER
    commit_all(core, "n4", "n5")
    assert core.commit_index == 0
    commit_all(core, "n3")
    assert core.commit_index == 1


def test_a_leader_that_only_learners_answer_has_lost_touch() -> None:
    core = server(initial_members="n1,n2,n3")
    elect(core)
    for learner in ("n4", "n5"):
        acknowledge(core, learner, 1, at_ms=250)
    fire(core, "heartbeat", at_ms=301)
    assert core.role == FOLLOWER


# --- 4.2.1 catching up new servers ----------------------------------------------------


def test_a_server_that_is_no_member_gets_the_log_and_never_campaigns() -> None:
    core = server(initial_members="n2,n3,n4")
    append(core, term=1, terms=(1, 1))
    assert log_terms(core) == [1, 1]
    for at_ms in range(0, 3000, 300):
        fire(core, "election", at_ms)
    assert (core.role, core.current_term) == (FOLLOWER, 1)


def test_a_new_server_becomes_a_member_once_a_round_is_over_in_time() -> None:
    core = leader(initial_members="n1,n2,n3")
    write(core, 7)
    assert not replies(ask(core, "add", node="n4"))
    assert "n4" not in core.members.names, "it lacks an entry"
    write(core, 8)
    acknowledge(core, "n4", 2, at_ms=100)
    assert "n4" in core.members.names, "up to where the log ended as the round began"


def test_a_slow_round_is_followed_by_another_and_ten_are_enough() -> None:
    core = leader(initial_members="n1,n2,n3")
    write(core, 0)
    ask(core, "add", node="n4")
    effects: list[Effect] = []
    for round_ in range(1, 11):
        write(core, round_)
        effects = acknowledge(core, "n4", core.log.last_index - 1, at_ms=200 * round_)
    (reply,) = replies(effects)
    assert (reply["code"], core.catch_up) == (11, None)
    assert "n4" not in core.members.names


def test_a_new_server_that_does_not_answer_is_given_up() -> None:
    core = leader(initial_members="n1,n2,n3")
    write(core, 0)
    ask(core, "add", node="n4")
    for at_ms in range(250, 1001, 250):
        assert not replies(fire(core, "heartbeat", at_ms=at_ms))
        for voter in ("n2", "n3"):
            acknowledge(core, voter, 2, at_ms=at_ms)
    (reply,) = replies(fire(core, "heartbeat", at_ms=1001))
    assert "n4" in reply["text"]


# --- 4.2.2 removing the current leader ------------------------------------------------


def test_a_leader_that_removes_itself_leads_on_without_counting_itself() -> None:
    core = leader()
    ask(core, "remove", node="n1")
    assert (core.role, core.members.names) == (LEADER, ("n2", "n3", "n4", "n5"))
    commit_all(core, "n2", "n3")
    assert core.commit_index == 1, "two of four are no majority"
    effects = commit_all(core, "n4")
    assert core.role == FOLLOWER
    assert replies(effects)[0]["type"] == "remove_ok"
    assert len(sent(effects, "timeout_now")) == 1, "someone takes over at once"


def test_a_server_campaigns_until_its_removal_is_known_to_be_committed() -> None:
    """Figure 4.6."""
    core = leader()
    ask(core, "remove", node="n1")
    core.become_follower(core.current_term, None)
    fire(core, "election")
    assert core.role == CANDIDATE
    hear(core, "n2", "request_vote_reply", term=2, vote_granted=True)
    hear(core, "n3", "request_vote_reply", term=2, vote_granted=True)
    assert core.role == CANDIDATE, "its own vote doesn't count"
    append(core, term=2, prev=(1, 2), terms=(2,), commit=3)
    fire(core, "election")
    assert core.role == FOLLOWER


# --- 4.2.3 disruptive servers ---------------------------------------------------------


def test_a_removed_server_can_not_depose_a_leader_that_others_hear() -> None:
    core = server(initial_members="n1,n2,n3")
    append(core, term=1, at_ms=1000)
    vote = {"term": 9, "last_log_index": 9, "last_log_term": 8}
    assert hear(core, "n5", "request_vote", 1100, **vote) == []
    effects = hear(core, "n3", "request_vote", 1100, **vote, transfer=True)
    assert sent(effects, "request_vote_reply"), "but one whom the leader sent may"


# --- 6.4.1 leases ---------------------------------------------------------------------


def test_a_leader_that_gave_its_blessing_to_another_has_no_lease_any_more() -> None:
    core = leader(reads="lease")
    now = Now(0, 0)
    assert core.has_lease(now)
    ask(core, "transfer", node="n2")
    fire(core, "transfer")
    assert core.role == LEADER
    assert not core.has_lease(now), "the message to n2 may be on its way yet"


# --- 5 and paper 7: snapshots ---------------------------------------------------------


OVER = "append_entries_reply"
"""How a follower acknowledges a whole snapshot."""


def persisted(effects: Sequence[Effect]) -> list[Persist]:
    return [e for e in effects if isinstance(e, Persist)]


def restarted(core: Raft, effects: Sequence[Effect]) -> Raft:
    """A new life from the records of `effects` alone."""
    records = json.loads(json.dumps([e.record for e in persisted(effects)]))
    options = settings(raft.OPTIONS, {"snapshot_entries": "3"})
    again = Raft(core.node, core.peers, options)
    again.start(records)
    return again


def test_a_snapshot_replaces_the_log_that_was_applied() -> None:
    core = leader(snapshot_entries="3")
    write(core, "x")
    effects = write(core, "y") + commit_all(core, "n2", "n3")
    (replacing,) = [e for e in persisted(effects) if e.replaces]
    assert (core.log.base, log_terms_after_base(core)) == (3, [])
    again = restarted(core, [replacing])
    assert again.status()["commit_index"] == 3
    assert again.state.data == {1: "y"}
    assert (again.current_term, again.voted_for) == (1, "n1")


def log_terms_after_base(core: Raft) -> list[int]:
    return [entry.term for entry in core.log.since(core.log.base + 1)]


def test_a_snapshot_keeps_what_was_appended_and_not_applied() -> None:
    core = server(snapshot_entries="3")
    effects: list[Effect] = []
    fields = {"prev_log_index": 0, "prev_log_term": 0, "round": 1}
    entries = [[1, NOOP], [1, NOOP], [1, NOOP], [1, WRITE]]
    effects = hear(
        core, "n2", "append_entries", term=1, entries=entries, leader_commit=3, **fields
    )
    again = restarted(core, effects)
    assert (again.log.base, again.log.last_index) == (3, 4)
    assert again.log[4].command == WRITE


def test_a_follower_that_needs_what_is_compacted_gets_the_snapshot() -> None:
    core = leader(snapshot_entries="3", snapshot_chunk_chars="40")
    for value in range(3):
        write(core, value)
        commit_all(core, "n2", "n3")
    assert core.log.base == 3
    effects = fire(core, "heartbeat") + fire(core, "heartbeat")
    assert not [s for s in sent(effects, "install_snapshot") if s.dest in {"n2", "n3"}]
    effects = hear(
        core,
        "n4",
        "append_entries_reply",
        term=1,
        success=False,
        match_index=0,
        conflict_index=2,
        conflict_term=0,
        round=core.round,
    )
    (chunk,) = sent(effects, "install_snapshot")
    assert (chunk.dest, chunk.body["last_included_index"]) == ("n4", 3)
    assert (chunk.body["offset"], chunk.body["done"]) == (0, False)
    follower = Raft("n4", ["n1"], settings(raft.OPTIONS, {}))
    follower.start([])
    now = Now(0, 0)
    while not (done := sent(follower.step(Received("n1", chunk.body, now)), OVER)):
        wanted = {"offset": chunk.body["offset"] + 40, "last_included_index": 3}
        body = {"type": "install_snapshot_reply", "term": 1, "round": core.round}
        effects = core.step(Received("n4", {**body, **wanted}, now))
        (chunk,) = sent(effects, "install_snapshot")
    assert (follower.log.base, follower.state.data) == (3, {1: 1})
    assert (done[0].body["success"], done[0].body["match_index"]) == (True, 3)
    effects = core.step(Received("n4", done[0].body, now))
    assert core.match_index["n4"] == 3
    (rest,) = sent(effects, "append_entries")
    assert rest.body["prev_log_index"] == 3


def chunk_of(core: Raft, offset: int, chars: int, **fields: Any) -> dict[str, Any]:
    """A piece of the snapshot that `core` has taken."""
    assert core.snapshot is not None
    text = core.snapshot.text
    return {
        "term": 1,
        "last_included_index": core.snapshot.last_index,
        "last_included_term": core.snapshot.last_term,
        "offset": offset,
        "data": text[offset : offset + chars],
        "done": offset + chars >= len(text),
        "round": 1,
        **fields,
    }


def snapshotter() -> Raft:
    """A leader with a snapshot of three entries."""
    core = leader(snapshot_entries="3")
    write(core, "x")
    write(core, "y")
    commit_all(core, "n2", "n3")
    assert core.snapshot is not None
    return core


def test_chunks_that_come_twice_or_early_do_no_harm() -> None:
    source, core = snapshotter(), server()
    for offset in (20, 0, 0, 40, 20, 20, 0):
        effects = hear(core, "n2", "install_snapshot", **chunk_of(source, offset, 20))
    (reply,) = sent(effects, "install_snapshot_reply")
    assert reply.body["offset"] == 40
    hear(core, "n2", "install_snapshot", **chunk_of(source, 40, 1000))
    assert core.state.data == {1: "y"}


def test_a_new_leaders_snapshot_begins_anew() -> None:
    source, core = snapshotter(), server()
    hear(core, "n2", "install_snapshot", **chunk_of(source, 0, 20))
    effects = hear(core, "n3", "install_snapshot", **chunk_of(source, 20, 1000, term=2))
    (reply,) = sent(effects, "install_snapshot_reply")
    assert reply.body["offset"] == 0


def test_an_old_leaders_snapshot_is_refused() -> None:
    source, core = snapshotter(), server(term=5)
    effects = hear(core, "n2", "install_snapshot", **chunk_of(source, 0, 1000))
    (reply,) = sent(effects, "install_snapshot_reply")
    assert (reply.body["term"], core.log.base) == (5, 0)


def test_a_snapshot_of_what_is_committed_here_changes_nothing() -> None:
    source, core = snapshotter(), server()
    append(core, term=1, terms=(1, 1, 1, 1), commit=4)
    effects = hear(core, "n2", "install_snapshot", **chunk_of(source, 0, 1000))
    (reply,) = sent(effects, "append_entries_reply")
    assert (reply.body["match_index"], core.log.base) == (3, 0)


@pytest.mark.parametrize(("terms", "kept"), [((1, 1, 1, 1), 4), ((1, 1, 2, 2), 3)])
def test_the_log_that_follows_a_snapshot_stays_if_it_does_follow(
    terms: tuple[int, ...], kept: int
) -> None:
    """Paper 7, Figure 13, rules 6 and 7."""
    source, core = snapshotter(), server()
    append(core, term=2, terms=terms)
    chunk = chunk_of(source, 0, 1000, term=2)
    effects = hear(core, "n2", "install_snapshot", **chunk)
    assert (core.log.base, core.log.last_index) == (3, kept)
    assert "installed_snapshot" in observed(effects)
    kinds = [type(e).__name__ for e in effects if not isinstance(e, Observe)]
    assert kinds.index("Persist") < kinds.index("Send")


def test_what_is_no_snapshot_is_not_installed() -> None:
    source, core = snapshotter(), server()
    for text in ("{", "[]", '{"members":["n1"]}', '{"state":7,"members":1}'):
        chunk = chunk_of(source, 0, 0, data=text, done=True)
        hear(core, "n2", "install_snapshot", **chunk)
        assert core.log.base == 0


def test_a_snapshot_holds_the_members() -> None:
    core = leader(snapshot_entries="3")
    ask(core, "remove", node="n5")
    commit_all(core, "n2", "n3")
    effects = write(core, 1) + commit_all(core, "n2", "n3")
    again = restarted(core, [e for e in persisted(effects) if e.replaces])
    assert again.members.names == ("n1", "n2", "n3", "n4")
    assert again.members.index == 2


# --- 6.3 sessions ---------------------------------------------------------------------


def session(seq: int) -> dict[str, Any]:
    return {"client": "c1", "seq": seq}


def counted(core: Raft, seq: int) -> list[Effect]:
    """One more on a counter, as request number `seq`, appended and committed."""
    txn = [["add", 1, 1]]
    effects = ask(core, "txn", txn=txn, retry=session(seq)) + fire(core, "batch")
    return effects + commit_all(core, "n2", "n3")


def test_a_client_that_asks_again_gets_the_first_answer() -> None:
    core = leader()
    first, again = replies(counted(core, 1)), replies(counted(core, 1))
    assert first == again == [{"type": "txn_ok", "txn": [["add", 1, 1]]}]


def test_a_snapshot_holds_the_sessions() -> None:
    core = leader(snapshot_entries="3")
    effects = counted(core, 1) + counted(core, 2)
    again = restarted(core, [e for e in persisted(effects) if e.replaces])
    command = {
        "type": "txn",
        "txn": [["add", 1, 1]],
        "retry": {"first": 2, **session(2)},
    }
    assert again.state.apply(command) == {"type": "txn_ok", "txn": [["add", 1, 2]]}


def test_what_was_passed_on_goes_to_the_next_leader_as_a_copy() -> None:
    core = server()
    append(core, term=1, src="n2")
    (first,) = sent(ask(core, "write", key=1, value=7), "forward")
    effects = hear(
        core,
        "n3",
        "append_entries",
        term=2,
        prev_log_index=0,
        prev_log_term=0,
        entries=[],
        leader_commit=0,
        round=1,
    )
    (second,) = sent(effects, "forward")
    assert (first.dest, second.dest) == ("n2", "n3")
    assert first.body == second.body
    assert first.body["request"]["retry"]["client"] == "server n1"


def test_a_refusal_of_a_copy_is_no_answer_and_the_leaders_is() -> None:
    core = server()
    append(core, term=1, src="n2")
    (passed_on,) = sent(ask(core, "write", key=1, value=7), "forward")
    number = passed_on.body["id"]
    for code in (0, 11, 13):
        refusal = {"type": "error", "code": code, "text": ""}
        assert not replies(hear(core, "n2", "forward_reply", id=number, reply=refusal))
    done = {"type": "write_ok"}
    assert replies(hear(core, "n2", "forward_reply", id=number, reply=done)) == [done]
    assert not replies(hear(core, "n2", "forward_reply", id=number, reply=done))


def test_a_server_that_comes_to_lead_serves_what_it_had_passed_on() -> None:
    core = server()
    append(core, term=1, src="n2")
    ask(core, "write", key=1, value=7)
    elect(core)
    effects = fire(core, "batch") + commit_all(core, "n2", "n3")
    assert replies(effects) == [{"type": "write_ok"}]
    assert core.state.data == {1: 7}


def test_numbers_grow_across_restarts_before_any_is_used() -> None:
    core = server()
    append(core, term=1, src="n2")
    effects = ask(core, "write", key=1, value=7)
    kinds = [type(e).__name__ for e in effects if not isinstance(e, SetTimer)]
    assert kinds == ["Persist", "Send"]
    (life,) = persisted(effects)
    again = restarted(core, [life])
    append(again, term=1, src="n2")
    (before,) = sent(effects, "forward")
    (after,) = sent(ask(again, "write", key=1, value=8), "forward")
    assert after.body["id"] > before.body["id"] + 1_000_000


def test_nobody_speaks_for_a_server() -> None:
    core = leader()
    retry = {"client": "server n2", "seq": 10**9}
    (reply,) = replies(ask(core, "write", key=1, value=1, retry=retry))
    assert reply["code"] == 12


# --- names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "initial", "what"),
    [
        (["n2", "n2"], "", "two servers called 'n2'"),
        (["n1", "n2"], "", "two servers called 'n1'"),
        (["n2"], "n1,n2,n1", "two servers called 'n1'"),
        (["n2"], "n1,n3", "no 'n3'"),
        (["n2"], "n1,", "'n1,' is not possible"),
    ],
)
def test_names_that_make_no_sense_are_refused(
    peers: list[str], initial: str, what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        raft.build("n1", peers, settings(raft.OPTIONS, {"initial_members": initial}))

"""Sentences of the Raft paper (Ongaro and Ousterhout 2014) and thesis, one test
each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import raft
from reference_impls.actor import (
    Now,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    settings,
)
from reference_impls.raft import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    NOOP,
    Entry,
    Raft,
    well_formed,
)
from reference_impls.raft.rounds import PATIENCE_MS
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
    sent,
    server,
)

# --- 5.1 terms ---------------------------------------------------------------------


def test_if_ones_current_term_is_smaller_it_updates_to_the_larger_value() -> None:
    core = server(term=2)
    append(core, term=5)
    assert core.current_term == 5


def test_a_candidate_or_leader_whose_term_is_out_of_date_becomes_a_follower() -> None:
    core = server()
    elect(core)
    effects = hear(
        core,
        "n4",
        "append_entries_reply",
        term=9,
        success=False,
        match_index=0,
        conflict_index=0,
        conflict_term=0,
        round=1,
    )
    assert (core.role, core.current_term) == (FOLLOWER, 9)
    assert "became_follower" in observed(effects)


def test_a_request_with_a_stale_term_is_rejected() -> None:
    core = server(term=3)
    assert append(core, term=2)["success"] is False
    assert not ask_vote(core, "n2", term=2)
    assert core.current_term == 3


# --- 5.2 leader election -----------------------------------------------------------


def test_servers_start_as_followers() -> None:
    assert server().role == FOLLOWER


def test_a_candidate_persists_its_term_before_it_asks_for_votes() -> None:
    core = server(term=4)
    effects = fire(core, "election")
    kinds = [type(e) for e in effects if isinstance(e, Persist | Send)]
    assert kinds == [Persist, Send, Send, Send, Send]
    (persist,) = [e for e in effects if isinstance(e, Persist)]
    assert persist.record == {"term": 5, "voted_for": "n1"}
    assert core.role == CANDIDATE


def test_a_vote_is_durable_before_it_is_given() -> None:
    core = server(term=4)
    effects = hear(
        core, "n2", "request_vote", term=4, last_log_index=0, last_log_term=0
    )
    kinds = [type(e) for e in effects if isinstance(e, Persist | Send)]
    assert kinds == [Persist, Send]


def test_each_server_votes_for_at_most_one_candidate_in_a_term() -> None:
    core = server()
    assert ask_vote(core, "n2", term=1)
    assert not ask_vote(core, "n3", term=1)
    assert ask_vote(core, "n2", term=1), "the same candidate may ask again"
    assert ask_vote(core, "n3", term=2)


def test_a_candidate_wins_with_votes_from_a_majority_of_the_full_cluster() -> None:
    core = server()
    fire(core, "election")
    vote = {"term": 1, "vote_granted": True}
    hear(core, "n2", "request_vote_reply", **vote)
    hear(core, "n2", "request_vote_reply", **vote)
    assert core.role == CANDIDATE, "one server's vote counts once"
    hear(core, "n3", "request_vote_reply", **vote)
    assert core.role == LEADER


def test_a_vote_of_an_earlier_term_does_not_count() -> None:
    core = server()
    fire(core, "election")
    fire(core, "election")
    for voter in ("n2", "n3", "n4"):
        hear(core, voter, "request_vote_reply", term=1, vote_granted=True)
    assert core.role == CANDIDATE


def test_a_candidate_that_hears_from_a_legitimate_leader_follows_it() -> None:
    core = server()
    fire(core, "election")
    append(core, term=1)
    assert (core.role, core.leader) == (FOLLOWER, "n2")


def test_a_candidate_that_hears_from_a_stale_leader_stays_a_candidate() -> None:
    core = server(term=3)
    fire(core, "election")
    append(core, term=3)
    assert core.role == CANDIDATE


def test_election_timeouts_are_chosen_randomly_from_a_fixed_interval() -> None:
    core = server(election_timeout_ms_min="10", election_timeout_ms_max="20")
    timers = [e for e in fire(core, "election") if isinstance(e, SetTimer)]
    assert SetTimer("election", 10.0, 20.0) in timers


# --- 5.3 log replication -----------------------------------------------------------


def test_a_leader_sends_what_it_appends_and_commits_it_once_a_majority_stores_it() -> (
    None
):
    core = server()
    elect(core)
    acknowledge(core, "n2", 1)
    assert core.commit_index == 0, "two of five are no majority"
    acknowledge(core, "n3", 1)
    assert core.commit_index == 1


def test_requests_of_one_turn_share_one_record_and_one_message_a_follower() -> None:
    core = server()
    elect(core)
    for peer in core.peers:
        acknowledge(core, peer, 1)
    for client in ("c1", "c2", "c3"):
        core.step(Received(client, WRITE, Now(0, 0)))
    effects = fire(core, "batch")
    assert len([e for e in effects if isinstance(e, Persist)]) == 1
    appends = sent(effects, "append_entries")
    assert [len(e.body["entries"]) for e in appends] == [3, 3, 3, 3]
    assert len({id(e.body) for e in appends}) == 1, "one body for all, encoded once"


def test_requests_during_a_round_are_gathered_until_it_ends() -> None:
    core = server(reads="read_index")
    elect(core)
    for peer in core.peers:
        acknowledge(core, peer, 1)

    def ask(request: dict[str, Any]) -> list[SetTimer]:
        effects = core.step(Received("c1", request, Now(0, 0)))
        return [e for e in effects if isinstance(e, SetTimer) and e.name == "batch"]

    read = {"type": "read", "key": 1}
    for request in (WRITE, read):
        assert [e.patience_ms for e in ask(request)] == [0], "no round is under way"
    fire(core, "batch")
    for request in (WRITE, read):
        (timer,) = ask(request)
        assert (timer.max_ms, timer.patience_ms) == (0, PATIENCE_MS)
    assert SetTimer("batch", 0, 0) not in acknowledge(core, "n2", 2)
    assert SetTimer("batch", 0, 0) in acknowledge(core, "n3", 2)
    appends = sent(fire(core, "batch"), "append_entries")
    assert [e.dest for e in appends] == ["n2", "n3"], "the others have not answered yet"
    assert [len(e.body["entries"]) for e in appends] == [1, 1]


def test_a_leader_replicates_while_its_own_disk_works() -> None:
    """Thesis 10.2.1."""
    core = server()
    effects = elect(core)
    kinds = [type(e) for e in effects if isinstance(e, Persist | Send)]
    assert kinds == [Send, Send, Send, Send, Persist]


def test_a_client_is_answered_when_its_entry_is_committed_and_not_before() -> None:
    core = server()
    elect(core)
    core.step(Received("c1", WRITE, Now(0, 0)))
    effects = fire(core, "batch")
    effects += acknowledge(core, "n2", 2)
    assert not [e for e in effects if isinstance(e, Reply)]
    (reply,) = [e for e in acknowledge(core, "n3", 2) if isinstance(e, Reply)]
    assert (reply.request.src, reply.body["type"]) == ("c1", "write_ok")


def test_a_follower_refuses_entries_that_do_not_follow_what_it_has() -> None:
    core = server([1, 1])
    assert append(core, term=2, prev=(1, 3), terms=(2,))["success"] is False
    assert append(core, term=2, prev=(2, 2), terms=(2,))["success"] is False
    assert log_terms(core) == [1, 1]


def test_the_answer_to_a_mismatch_names_the_conflicting_term_and_its_first_index() -> (
    None
):
    core = server([1, 2, 2, 2])
    reply = append(core, term=5, prev=(4, 4))
    assert (reply["conflict_term"], reply["conflict_index"]) == (2, 2)
    reply = append(core, term=5, prev=(4, 9))
    assert (reply["conflict_term"], reply["conflict_index"]) == (0, 5)


def test_a_conflicting_entry_is_deleted_with_all_that_follow_it() -> None:
    core = server([1, 1, 1, 1])
    assert append(core, term=2, prev=(1, 1), terms=(2,))["match_index"] == 2
    assert log_terms(core) == [1, 2]


def test_an_append_that_arrives_late_truncates_nothing() -> None:
    core = server()
    append(core, term=1, terms=(1, 1, 1))
    append(core, term=1, terms=(1,))
    assert log_terms(core) == [1, 1, 1]


def test_an_acknowledgement_follows_the_record_it_speaks_of() -> None:
    core = server()
    effects = hear(
        core,
        "n2",
        "append_entries",
        term=1,
        prev_log_index=0,
        prev_log_term=0,
        entries=[[1, NOOP]],
        leader_commit=0,
        round=1,
    )
    kinds = [type(e) for e in effects if isinstance(e, Persist | Send)]
    assert kinds == [Persist, Persist, Send], "term, entries, answer"


def test_a_follower_commits_no_further_than_the_last_new_entry() -> None:
    """Figure 2, AppendEntries, rule 5."""
    core = server([1, 1, 1])
    append(core, term=2, prev=(1, 1), commit=3)
    assert core.commit_index == 1


@given(
    follower=st.lists(st.integers(1, 4), max_size=8).map(sorted),
    leader=st.lists(st.integers(1, 4), min_size=1, max_size=8).map(sorted),
    batch=st.integers(1, 4),
)
def test_any_follower_comes_to_have_the_leaders_log(
    follower: list[int], leader: list[int], batch: int
) -> None:
    """5.3: "the leader finds the latest entry where the two logs agree"."""
    # Entries of one term come from one leader, so that logs agree where terms do only
    # if they share a prefix: give the diverging parts terms of their own.
    shared = 0
    while shared < min(len(follower), len(leader)) and (
        follower[shared] == leader[shared]
    ):
        shared += 1
    follower = follower[:shared] + [2 * t for t in follower[shared:]]
    leader = leader[:shared] + [2 * t + 1 for t in leader[shared:]]
    follower, leader = (sorted(log) for log in (follower, leader))
    options = settings(
        raft.OPTIONS, {"entries_per_append_max": str(batch), "pre_vote": "false"}
    )
    cores = {n: Raft(n, [p], options) for n, p in (("a", "b"), ("b", "a"))}
    for name, log in (("a", leader), ("b", follower)):
        entries = [[t, NOOP] for t in log]
        term = {"term": 20, "voted_for": None}
        cores[name].start([term, {"first": 1, "entries": entries}])
    a = cores["a"]
    a.become_candidate(Now(0, 0))
    a.become_leader(Now(0, 0))
    queue = [("a", effect) for effect in a.take_effects()]
    for _ in range(100):
        if not queue:
            break
        src, effect = queue.pop(0)
        if isinstance(effect, Send) and effect.body["type"].startswith("append"):
            core = cores[effect.dest]
            answer = core.step(Received(src, effect.body, Now(0, 0)))
            queue += [(effect.dest, e) for e in answer]
    assert log_terms(cores["b"]) == [*leader, 21]
    assert a.commit_index == len(leader) + 1


# --- 5.4 safety --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        ((2, 3), True),  # the same log
        ((2, 4), True),  # the same term, longer
        ((2, 2), False),  # the same term, shorter
        ((3, 1), True),  # a later term, shorter
        ((1, 9), False),  # an earlier term, longer
    ],
)
def test_the_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(
    last: tuple[int, int], granted: bool
) -> None:
    assert ask_vote(server([1, 1, 2]), "n2", term=5, last=last) is granted


def test_only_entries_of_the_current_term_are_committed_by_counting_replicas() -> None:
    core = server([1, 1])
    elect(core)
    for peer in ("n2", "n3", "n4"):
        acknowledge(core, peer, 2)
    assert core.commit_index == 0
    acknowledge(core, "n2", 3)
    acknowledge(core, "n3", 3)
    assert core.commit_index == 3


# --- 8, and the thesis -------------------------------------------------------------


def test_a_leader_begins_its_term_with_a_no_op() -> None:
    core = server([1])
    elect(core)
    assert core.log[core.log.last_index] == Entry(core.current_term, NOOP)


def test_a_server_that_hears_a_leader_ignores_candidates_and_their_terms() -> None:
    """Thesis 4.2.3."""
    core = server()
    append(core, term=1, at_ms=1000)
    vote = {"term": 7, "last_log_index": 9, "last_log_term": 6}
    assert hear(core, "n3", "request_vote", 1149, **vote) == []
    assert core.current_term == 1
    assert sent(hear(core, "n3", "request_vote", 1150, **vote), "request_vote_reply")


def test_a_leader_that_its_majority_answers_ignores_candidates() -> None:
    """Thesis 4.2.3: it is as good as any other server that hears the leader."""
    core = server()
    elect(core)
    fire(core, "heartbeat", at_ms=200)
    acknowledge(core, "n2", 1, at_ms=201)
    acknowledge(core, "n3", 1, at_ms=201)
    vote = {"term": 7, "last_log_index": 9, "last_log_term": 6}
    assert hear(core, "n5", "request_vote", 300, **vote) == []
    assert core.role == LEADER


def test_a_leader_steps_down_when_a_timeout_passes_without_its_majority() -> None:
    """Thesis 6.2."""
    core = server()
    elect(core)
    acknowledge(core, "n2", 1, at_ms=10)
    fire(core, "heartbeat", at_ms=300)
    assert core.role == LEADER
    effects = fire(core, "heartbeat", at_ms=301)
    assert core.role == FOLLOWER
    assert "lost_quorum" in observed(effects)


def test_a_pre_vote_changes_no_term_and_promises_nothing() -> None:
    """Thesis 9.6."""
    core = server(pre_vote="true")
    effects = fire(core, "election")
    assert (core.current_term, core.voted_for) == (0, None)
    assert not [e for e in effects if isinstance(e, Persist)]
    request = {"term": 1, "last_log_index": 0, "last_log_term": 0}
    for candidate in ("n2", "n3"):
        effects = hear(core, candidate, "pre_vote", **request)
        assert sent(effects, "pre_vote_reply")[0].body["vote_granted"]
        assert not [e for e in effects if isinstance(e, Persist)]


def test_a_server_that_was_cut_off_comes_back_with_the_term_it_left_with() -> None:
    """Thesis 9.6: with pre-vote, a lonely server doesn't raise its term."""
    core = server(term=3, pre_vote="true")
    for at_ms in range(0, 5000, 200):
        fire(core, "election", at_ms)
    assert core.current_term == 3
    without = server(term=3)
    for at_ms in range(0, 5000, 200):
        fire(without, "election", at_ms)
    assert without.current_term == 28


def test_the_lease_ends_before_the_slowest_follower_would_vote() -> None:
    """Thesis 6.4.1: on the leader's slow clock and the follower's fast one."""
    core = server(reads="lease", clock_drift_bound="0.1")
    longest_lease_ms = core.lease_ns() / MS / (1 - 0.1)
    shortest_timeout_ms = core.election_timeout_ms_min / (1 + 0.1)
    assert longest_lease_ms == pytest.approx(shortest_timeout_ms)


def test_a_server_alone_in_its_cluster_serves_by_itself() -> None:
    core = Raft("n1", [], settings(raft.OPTIONS, {"reads": "read_index"}))
    core.start([])
    fire(core, "election")
    for request, answer in (
        (WRITE, "write_ok"),
        ({"type": "read", "key": 1}, "read_ok"),
    ):
        core.step(Received("c1", request, Now(0, 0)))
        (reply,) = [e for e in fire(core, "batch") if isinstance(e, Reply)]
        assert reply.body["type"] == answer


# --- what anyone may send ----------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "key", "value", "from", "to", "term"]), inner
        )
    ),
    max_leaves=8,
)


@given(
    kind=st.sampled_from(["read", "write", "cas", "append_entries", "forward", "x"]),
    fields=st.dictionaries(
        st.sampled_from(["key", "value", "from", "to", "term", "entries"]), json_values
    ),
)
def test_a_client_may_send_anything(kind: str, fields: dict[str, Any]) -> None:
    core = server()
    elect(core)
    core.step(Received("c1", {**fields, "type": kind}, Now(0, 0)))
    fire(core, "batch")
    acknowledge(core, "n2", core.log.last_index)
    acknowledge(core, "n3", core.log.last_index)
    assert core.commit_index == core.log.last_index


@given(
    kind=st.sampled_from([*raft.MESSAGES, "nonsense"]),
    fields=st.dictionaries(
        st.sampled_from(sorted({f for m in raft.MESSAGES.values() for f in m})),
        json_values,
    ),
)
def test_a_malformed_message_of_a_peer_is_ignored(
    kind: str, fields: dict[str, Any]
) -> None:
    body = {**fields, "type": kind}
    core = server([1, 1])
    before = core.status()
    if not well_formed(body):
        assert core.step(Received("n2", body, Now(0, 0))) == []
        assert core.status() == before

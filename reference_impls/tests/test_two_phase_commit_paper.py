"""Sentences on atomic commit and two-phase commit, one test each.

From Bernstein, Hadzilacos and Goodman 1987 ("BHG"), chapter 7, and, for presumed abort,
Mohan, Lindsay and Obermarck 1986. What both protocols share is tested here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import three_phase_commit, two_phase_commit
from reference_impls.actor import Now, Received, Send, settings
from reference_impls.tests.commit_cores import (
    FIG,
    MELON,
    PLUM,
    Puppet,
    is_persisted_before,
    observed,
    replies,
    sent,
    timers,
    told,
)

PROTOCOLS = pytest.mark.parametrize(
    "protocol", [two_phase_commit, three_phase_commit], ids=["2pc", "3pc"]
)


def puppet(name: str = "n1", **options: str) -> Puppet:
    return Puppet(two_phase_commit, name, options=options)


# --- phase 1: voting (BHG 7.4, steps 1 to 3) -----------------------------------------


@PROTOCOLS
def test_the_coordinator_asks_the_owners_of_the_keys_and_nobody_else(
    protocol: Any,
) -> None:
    n1 = Puppet(protocol)
    requests = dict(sent(n1.begin(PLUM, MELON, ["r", "lime", None]), "vote_request"))
    assert requests["n2"]["txn"] == [PLUM, ["r", "lime", None]]
    assert requests["n3"]["txn"] == [MELON]
    assert requests["n2"]["participants"] == ["n2", "n3"]


@PROTOCOLS
def test_a_participant_s_vote_is_durable_before_it_is_sent(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    assert is_persisted_before(n2.ask_vote(PLUM), "vote", "vote")
    n2.ask_vote(["add", "lime", -1], name="t2")
    assert is_persisted_before(n2.effects, "vote", "vote")


@PROTOCOLS
def test_a_participant_that_votes_no_has_decided(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(["add", "plum", -1])
    [(dest, vote)] = sent(n2.effects, "vote")
    assert (dest, vote["vote"], vote["code"]) == ("n1", "no", 14)
    assert n2.state() == "abort"
    assert n2.restart().state() == "abort"


@PROTOCOLS
def test_one_no_is_enough_to_abort(protocol: Any) -> None:
    """AC3: commit can only be reached if all processes voted yes."""
    n1 = Puppet(protocol)
    n1.begin(PLUM, MELON)
    assert told(n1.yes("n2", PLUM)) == {}
    assert told(n1.no("n3", code=30)) == {"n2": "abort", "n3": "abort"}
    [reply] = replies(n1.effects)
    assert reply["code"] == 30


def test_all_yes_is_enough_to_commit() -> None:
    """AC4: no failures and all voted yes, then commit."""
    n1 = puppet()
    n1.begin(PLUM, MELON, ["r", "fig", None])
    assert told(n1.yes("n2", PLUM)) == {}
    assert told(n1.yes("n3", MELON)) == {"n2": "commit", "n3": "commit"}
    [reply] = replies(n1.effects)
    assert reply == {"type": "txn_ok", "txn": [PLUM, MELON, ["r", "fig", None]]}


def test_a_vote_counts_once() -> None:
    n1 = puppet()
    n1.begin(PLUM, MELON)
    n1.yes("n2", PLUM)
    assert told(n1.yes("n2", PLUM)) == {}


@PROTOCOLS
def test_a_missing_vote_is_asked_for_again_and_then_taken_for_a_no(
    protocol: Any,
) -> None:
    n1 = Puppet(protocol, options={"vote_timeout_ms": "400", "retry_ms": "200"})
    n1.begin(PLUM, MELON)
    n1.yes("n2", PLUM)
    assert [dest for dest, _ in sent(n1.fire("votes t1"), "vote_request")] == ["n3"]
    assert told(n1.fire("votes t1")) == {"n2": "abort", "n3": "abort"}
    [reply] = replies(n1.effects)
    assert "no vote from n3" in reply["text"]


@PROTOCOLS
def test_a_request_that_comes_twice_gets_the_same_vote(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    [first] = sent(n2.ask_vote(PLUM, others=("n3",)), "vote")
    assert sent(n2.ask_vote(PLUM, others=("n3",)), "vote") == [first]
    assert sent(n2.restart().ask_vote(PLUM, others=("n3",)), "vote") == [first]


# --- phase 2: the decision (BHG 7.4, steps 3 and 4) ----------------------------------


@pytest.mark.parametrize("outcome", ["commit", "abort"])
def test_the_decision_is_durable_before_anybody_hears_of_it(outcome: str) -> None:
    n1 = puppet()
    n1.begin(PLUM)
    effects = n1.yes("n2", PLUM) if outcome == "commit" else n1.no("n2")
    assert is_persisted_before(effects, "decide", "decision")
    answer = "txn_ok" if outcome == "commit" else "error"
    assert is_persisted_before(effects, "decide", answer)


@PROTOCOLS
def test_a_participant_makes_the_decision_durable_before_it_acknowledges(
    protocol: Any,
) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(PLUM)
    assert is_persisted_before(n2.tell("commit"), "learn", "ack")
    assert n2.core.shard.data == {"plum": 2}


@PROTOCOLS
def test_the_decision_is_repeated_until_all_have_acknowledged(protocol: Any) -> None:
    n1 = Puppet(protocol)
    n1.begin(PLUM, MELON)
    n1.no("n2")
    n1.hear("n2", "ack", id="t1")
    assert told(n1.fire("retry")) == {"n3": "abort"}
    assert "retry" in timers(n1.effects)
    n1.hear("n3", "ack", id="t1")
    assert told(n1.fire("retry")) == {}
    assert "retry" not in timers(n1.effects)


@PROTOCOLS
def test_a_coordinator_goes_on_repeating_after_a_crash(protocol: Any) -> None:
    n1 = Puppet(protocol)
    n1.begin(PLUM, MELON)
    n1.no("n2")
    n1.hear("n2", "ack", id="t1")
    again = n1.restart()
    assert told(again.effects) == {"n2": "abort", "n3": "abort"}
    again.hear("n2", "ack", id="t1")
    again.hear("n3", "ack", id="t1")
    assert told(again.restart().effects) == {}


@PROTOCOLS
def test_a_participant_never_reverses_its_decision(protocol: Any) -> None:
    """AC2."""
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(PLUM)
    n2.tell("commit")
    assert observed(n2.tell("abort")) == []
    assert n2.state() == "commit"
    assert sent(n2.effects, "ack") != []


@PROTOCOLS
def test_an_abort_that_overtakes_the_request_is_remembered(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    n2.tell("abort")
    [(_, vote)] = sent(n2.restart().ask_vote(PLUM), "vote")
    assert vote["vote"] == "no"


# --- the uncertainty period, and termination (BHG 7.4) -------------------------------


def test_a_participant_that_voted_yes_neither_commits_nor_aborts_on_its_own() -> None:
    n2 = puppet("n2")
    n2.ask_vote(PLUM, others=("n3",))
    for _ in range(5):
        effects = n2.fire("decision t1")
        assert [dest for dest, _ in sent(effects, "inquire")] == ["n1", "n3"]
        assert n2.state() == "prepared"
    assert observed(effects) == []  # in doubt, but that was said the first time


def test_what_it_waited_is_told_when_the_doubt_ends() -> None:
    n2 = puppet("n2")
    n2.at_ms = 100
    n2.ask_vote(PLUM)
    n2.at_ms = 900
    assert observed(n2.fire("decision t1")) == ["in_doubt"]
    n2.at_ms = 2600
    n2.tell("commit")
    resolved = next(e for e in n2.effects if getattr(e, "kind", "") == "resolved")
    assert resolved.fields == {"id": "t1", "waited_ms": 2500.0}  # type: ignore[union-attr]  # it is an Observe


def test_a_participant_that_decided_tells_those_in_doubt() -> None:
    n2 = puppet("n2")
    n2.ask_vote(PLUM, others=("n3",))
    n2.tell("commit")
    assert told(n2.inquire("n3", "n1", "n2")) == {"n3": "commit"}


def test_a_participant_that_hasn_t_voted_may_abort_for_all() -> None:
    n2 = puppet("n2")
    assert told(n2.inquire("n3", "n1", "n2")) == {"n3": "abort"}
    assert is_persisted_before(n2.effects, "learn", "decision")
    [(_, vote)] = sent(n2.ask_vote(PLUM), "vote")
    assert vote["vote"] == "no"


def test_a_participant_that_waits_for_locks_may_abort_for_all() -> None:
    n2 = puppet("n2")
    n2.ask_vote(PLUM, name="t0", stamp=2)
    assert sent(n2.ask_vote(PLUM, others=("n3",)), "vote") == []
    assert told(n2.inquire("n3", "n1", "n2")) == {"n3": "abort"}
    assert [dest for dest, _ in sent(n2.effects, "vote")] == ["n1"]


def test_those_who_are_uncertain_as_well_can_t_help() -> None:
    n2 = puppet("n2")
    n2.ask_vote(PLUM, others=("n3",))
    assert n2.inquire("n3", "n1", "n2") == []


def test_a_coordinator_that_hasn_t_decided_has_nothing_to_say() -> None:
    n1 = puppet()
    n1.begin(PLUM, MELON)
    assert n1.inquire("n2", "n1", "n3") == []
    n1.yes("n2", PLUM)
    n1.yes("n3", MELON)
    assert told(n1.inquire("n2", "n1", "n3")) == {"n2": "commit"}


# --- recovery (BHG 7.4; presumed abort) ----------------------------------------------


def test_a_coordinator_that_crashed_before_it_decided_aborts() -> None:
    n1 = puppet()
    n1.begin(PLUM, MELON)
    n1.yes("n2", PLUM)
    assert told(n1.restart().effects) == {"n2": "abort", "n3": "abort"}


def test_a_coordinator_that_crashed_after_it_decided_keeps_to_it() -> None:
    n1 = puppet()
    n1.begin(PLUM)
    n1.yes("n2", PLUM)
    assert told(n1.restart().effects) == {"n2": "commit"}


def test_what_a_coordinator_doesn_t_remember_was_aborted() -> None:
    n1 = puppet()
    assert told(n1.inquire("n2", "n1")) == {"n2": "abort"}
    assert told(n1.yes("n3", MELON, name="t7")) == {"n3": "abort"}


@PROTOCOLS
def test_a_prepared_participant_takes_its_locks_back_before_anything_else(
    protocol: Any,
) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(PLUM, ["r", "lime", None], others=("n3",))
    again = n2.restart()
    for micro in (["r", "plum", None], ["w", "lime", 1]):
        name = f"other {micro[0]}"
        [(_, vote)] = sent(again.ask_vote(micro, name=name, stamp=9), "vote")
        assert (vote["vote"], vote["code"]) == ("no", 30)
    assert [dest for dest, _ in sent(n2.restart().effects, "inquire")] == ["n1", "n3"]


@PROTOCOLS
def test_what_was_prepared_can_be_undone_after_a_crash(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(["append", "plum", 1])
    n2.tell("commit")
    txn = [["append", "plum", 2], ["w", "lime", 1]]
    n2.ask_vote(*txn, name="t2", others=("n3",))
    again = n2.restart()
    assert again.core.shard.data == {"plum": [1, 2], "lime": 1}
    again.tell("abort", name="t2")
    assert again.core.shard.data == {"plum": [1]}
    assert again.restart().core.shard.data == {"plum": [1]}


# --- locks (BHG 3) -------------------------------------------------------------------


@PROTOCOLS
def test_locks_are_held_until_the_decision_those_of_readers_too(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(["r", "plum", None], stamp=5)
    assert sent(n2.ask_vote(["w", "plum", 7], name="t2", stamp=1), "vote") == []
    [(_, vote)] = sent(n2.tell("commit"), "vote")
    assert (vote["id"], vote["vote"]) == ("t2", "yes")


@PROTOCOLS
def test_whoever_waits_too_long_for_locks_votes_no(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(PLUM, stamp=5)
    n2.ask_vote(PLUM, name="t2", stamp=1)
    assert "locks t2" in timers(n2.effects)
    [(_, vote)] = sent(n2.fire("locks t2"), "vote")
    assert (vote["vote"], vote["code"]) == ("no", 30)
    assert sent(n2.tell("commit"), "vote") == []


# --- the service, and bad input ------------------------------------------------------


@PROTOCOLS
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "txn"}, 12),
        ({"type": "txn", "txn": []}, 12),
        ({"type": "txn", "txn": [["w", "fig"]]}, 12),
        ({"type": "txn", "txn": [["eat", "fig", 1]]}, 12),
        ({"type": "txn", "txn": [["w", None, 1]]}, 12),
        ({"type": "txn", "txn": [["w", "fig", "x" * 2_000_000]]}, 12),
        ({"type": "txn", "txn": [["w", "fig", 1]], "id": 7}, 12),
        ({"type": "txn", "txn": [["w", "fig", 1]], "id": ""}, 12),
        ({"type": "txn", "txn": [["w", "fig", 1]], "id": "x" * 201}, 12),
        ({"type": "decisions", "from": -1}, 12),
        ({"type": "decisions", "count": "all"}, 12),
        ({"type": "read", "key": "fig"}, 10),
        ({"type": ["txn"]}, 10),
        ({}, 10),
    ],
)
def test_bad_requests_are_refused_for_sure(
    protocol: Any, body: dict[str, Any], code: int
) -> None:
    n1 = Puppet(protocol)
    effects = n1.core.step(Received("client", body, Now(0, 0)))
    assert [reply["code"] for reply in replies(effects)] == [code]
    assert n1.core.known == {}


@PROTOCOLS
def test_a_name_is_used_once(protocol: Any) -> None:
    n1 = Puppet(protocol)
    n1.begin(PLUM)
    [reply] = replies(n1.begin(MELON))
    assert (reply["code"], "used before" in reply["text"]) == (12, True)


@PROTOCOLS
def test_two_coordinators_of_one_name_don_t_get_mixed_up(protocol: Any) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(PLUM, src="n1")
    [(dest, vote)] = sent(n2.ask_vote(PLUM, src="n3"), "vote")
    assert (dest, vote["vote"]) == ("n3", "no")
    n2.tell("abort", src="n3", coordinator="n3")
    assert [dest for dest, _ in sent(n2.effects, "ack")] == ["n3"]
    assert n2.state() == "prepared"


@PROTOCOLS
def test_a_transaction_without_a_name_gets_one_that_no_life_used(protocol: Any) -> None:
    n1 = Puppet(protocol)
    n1.hear("client", "txn", txn=[PLUM])
    again = n1.restart()
    again.hear("client", "txn", txn=[PLUM])
    assert list(again.core.known) == ["n1.1.1", "n1.2.1"]


@PROTOCOLS
def test_a_node_gives_its_account_in_parts_if_asked_to(protocol: Any) -> None:
    n1 = Puppet(protocol)
    for name in ("t1", "t2", "t3"):
        n1.begin(FIG, PLUM, name=name)
        n1.no("n2", name=name)
    [all_of_it] = replies(n1.hear("client", "decisions"))
    assert all_of_it["decisions"] == dict.fromkeys(("t1", "t2", "t3"), "abort")
    assert all_of_it["coordinated"] == all_of_it["decisions"]
    assert all_of_it["votes"] == dict.fromkeys(("t1", "t2", "t3"), "yes")
    assert all_of_it["more"] is False
    [part] = replies(n1.hear("client", "decisions", **{"from": 1, "count": 1}))
    assert (list(part["decisions"]), part["more"]) == (["t2"], True)


@PROTOCOLS
def test_a_cluster_of_one_commits_alone(protocol: Any) -> None:
    core = protocol.build("n1", [], settings(protocol.OPTIONS, {}))
    core.start([])
    body = {"type": "txn", "id": "t1", "txn": [["w", "fig", 1], ["r", "fig", None]]}
    effects = core.step(Received("client", body, Now(0, 0)))
    assert [reply["type"] for reply in replies(effects)] == ["txn_ok"]


@PROTOCOLS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lock_timeout_ms": "900"}, "lock_timeout_ms"),
        ({"decision_timeout_ms": "100"}, "decision_timeout_ms"),
        ({"retry_ms": "0"}, "retry_ms"),
    ],
)
def test_times_that_make_no_sense_together_are_refused(
    protocol: Any, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Puppet(protocol, options=options)


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["t1", "n1", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "txn"]), inner, max_size=2)
    ),
    max_leaves=6,
)
KINDS = sorted(three_phase_commit.MESSAGES)
FIELDS = sorted({f for kind in three_phase_commit.MESSAGES.values() for f in kind})


@PROTOCOLS
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), junk)
        ),
        max_size=12,
    )
)
def test_no_message_brings_a_node_down(
    protocol: Any, messages: list[tuple[str, dict[str, Any]]]
) -> None:
    n2 = Puppet(protocol, "n2")
    n2.ask_vote(PLUM, others=("n3",))
    for kind, fields in messages:
        body = {"type": kind, **fields}
        n2.do(n2.core.step(Received("n3", body, Now(0, 0))))
        json.dumps([e.body for e in n2.effects if isinstance(e, Send)])

"""Sentences on three-phase commit, one test each.

From Skeen 1981 and Bernstein, Hadzilacos and Goodman 1987 ("BHG"), 7.5; where this
implementation chooses otherwise, its module says why. What it shares with two-phase
commit is tested there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import three_phase_commit
from reference_impls.tests.commit_cores import (
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

if TYPE_CHECKING:
    from reference_impls.actor import Effect

ALL = ("n1", "n2", "n3")


def puppet(name: str = "n1", **options: str) -> Puppet:
    return Puppet(three_phase_commit, name, options=options)


def coordinator() -> Puppet:
    """n1, which leads n2 and n3 to the barrier."""
    n1 = puppet()
    n1.begin(PLUM, MELON)
    n1.yes("n2", PLUM)
    n1.yes("n3", MELON)
    return n1


def participant(
    name: str = "n2", *, crossed: bool = False, others: tuple[str, ...] = ALL, **o: str
) -> Puppet:
    """A node that voted yes for n1's transaction, and perhaps crossed the barrier."""
    node = puppet(name, **o)
    node.ask_vote(PLUM if name == "n2" else MELON, others=others)
    if crossed:
        lead(node, "pre_commit", 0)
    return node


def lead(node: Puppet, kind: str, number: int, src: str = "n1") -> list[Effect]:
    """A coordinator, or one in its place, speaks in a round."""
    return node.hear(
        src, kind, id="t1", coordinator="n1", participants=list(ALL), round=number
    )


def say_state(
    node: Puppet, src: str, state: str, number: int = 0, *, recovering: bool = False
) -> list[Effect]:
    """A participant answers."""
    return node.hear(
        src,
        "state",
        id="t1",
        coordinator="n1",
        round=number,
        state=state,
        recovering=recovering,
    )


def rounds(effects: list[Effect], kind: str) -> dict[str, int]:
    """Who was sent a message of that kind, and in which round."""
    return {dest: body["round"] for dest, body in sent(effects, kind)}


# --- the barrier (BHG 7.5) -----------------------------------------------------------


def test_with_all_votes_the_coordinator_sends_precommit_and_doesn_t_decide() -> None:
    n1 = coordinator()
    assert rounds(n1.effects, "pre_commit") == {"n2": 0, "n3": 0}
    assert told(n1.effects) == {}
    assert n1.core.account(["t1"])["coordinated"] == {"t1": "undecided"}


def test_it_commits_when_all_have_acknowledged() -> None:
    n1 = coordinator()
    assert told(say_state(n1, "n2", "precommit")) == {}
    say_state(n1, "n2", "precommit")
    assert told(say_state(n1, "n3", "precommit")) == {"n2": "commit", "n3": "commit"}
    assert is_persisted_before(n1.effects, "decide", "decision")
    assert [reply["type"] for reply in replies(n1.effects)] == ["txn_ok"]


def test_precommit_is_durable_before_it_is_acknowledged() -> None:
    n2 = participant()
    assert n2.state() == "prepared"
    assert is_persisted_before(lead(n2, "pre_commit", 0), "pre_commit", "state")
    assert n2.state() == "precommit"
    assert n2.restart().state() == "precommit"


def test_a_missing_acknowledgement_makes_the_coordinator_abort() -> None:
    n1 = coordinator()
    say_state(n1, "n2", "precommit")
    n1.fire("barrier t1")
    assert rounds(n1.effects, "pre_abort") == {"n2": 1, "n3": 1}
    assert told(n1.effects) == {}
    say_state(n1, "n2", "prepared", 1)
    assert told(n1.fire("barrier t1")) == {"n2": "abort", "n3": "abort"}
    [reply] = replies(n1.effects)
    assert (reply["code"], "from n3" in reply["text"]) == (14, True)


def test_it_aborts_at_once_when_everybody_has_come_back() -> None:
    n1 = coordinator()
    n1.fire("barrier t1")
    say_state(n1, "n2", "prepared", 1)
    assert told(say_state(n1, "n3", "prepared", 1)) == {"n2": "abort", "n3": "abort"}


def test_it_doesn_t_abort_while_nobody_is_on_record_for_it() -> None:
    """All may have crossed and crashed; they would commit between them."""
    n1 = coordinator()
    n1.fire("barrier t1")
    n1.fire("barrier t1")
    assert told(n1.effects) == {}
    assert [reply["code"] for reply in replies(n1.effects)] == [0]
    assert rounds(n1.effects, "pre_abort") == {"n2": 1, "n3": 1}
    n1.tell("commit", src="n2")
    assert n1.core.account(["t1"])["coordinated"] == {"t1": "commit"}


def test_a_participant_comes_back_durably_before_it_says_so() -> None:
    n2 = participant(crossed=True)
    assert is_persisted_before(lead(n2, "pre_abort", 1), "pre_abort", "state")
    assert n2.state() == "prepared"
    assert n2.restart().state() == "prepared"
    assert lead(n2, "pre_commit", 0) == []  # an old message


# --- timeouts (Skeen 1981; BHG 7.5) --------------------------------------------------


def test_before_the_barrier_silence_means_abort() -> None:
    n2 = participant(termination="simple")
    n2.fire("decision t1")
    assert n2.state() == "abort"


def test_after_the_barrier_silence_means_commit() -> None:
    n2 = participant(termination="simple", crossed=True)
    n2.fire("decision t1")
    assert n2.state() == "commit"


def test_the_coordinator_gives_up_long_before_a_participant_loses_patience() -> None:
    core = participant().core
    assert core.decision_timeout_ms > 2 * core.ack_timeout_ms
    with pytest.raises(ValueError, match="twice ack_timeout_ms"):
        puppet(ack_timeout_ms="600", decision_timeout_ms="1200")


def test_word_from_a_coordinator_renews_the_patience() -> None:
    n2 = participant()
    assert "decision t1" in timers(lead(n2, "pre_commit", 0))


# --- the termination protocol (Skeen 1981, section 5; BHG 7.5, TR1 to TR4) -----------


def test_a_participant_that_lost_patience_asks_all_others_in_a_round_of_its_own() -> (
    None
):
    n2, n3 = participant("n2"), participant("n3")
    asked = rounds(n2.fire("decision t1"), "state_request")
    assert set(asked) == {"n1", "n3"}
    also = rounds(n3.fire("decision t1"), "state_request")
    assert set(asked.values()).isdisjoint(also.values())
    assert min(*asked.values(), *also.values()) > 1


def test_the_first_in_rank_is_the_first_to_lose_patience() -> None:
    n2, n3 = participant("n2"), participant("n3")
    assert timers(n2.effects)["decision t1"] < timers(n3.effects)["decision t1"]


@pytest.mark.parametrize("decision", ["abort", "commit"])
def test_tr1_and_tr2_whoever_has_decided_is_followed(decision: str) -> None:
    n3 = participant("n3", crossed=True)
    n3.tell(decision)
    assert told(lead(n3, "state_request", 5, "n2")) == {"n2": decision}
    n2 = participant()
    n2.fire("decision t1")
    assert told(n2.tell(decision, src="n3"))["n1"] == decision
    assert n2.state() == decision
    assert n2.core.terminations == {}


@pytest.mark.parametrize("decision", ["abort", "commit"])
def test_tr1_and_tr2_it_is_told_to_all_that_follow(decision: str) -> None:
    others = ("n1", "n3", "n4")
    n2 = participant(others=others)
    n2.fire("decision t1")
    assert told(n2.tell(decision, src="n3")).keys() == set(others)
    assert told(n2.tell(decision, src="n4")) == {}


def test_tr3_if_all_that_live_are_uncertain_they_abort() -> None:
    n2 = participant()
    number = rounds(n2.fire("decision t1"), "state_request")["n3"]
    assert told(say_state(n2, "n3", "prepared", number)) == {}
    assert told(n2.fire("states t1")) == {"n1": "abort", "n3": "abort"}


def test_tr4_if_one_has_crossed_the_others_follow_and_then_all_commit() -> None:
    n2 = participant(others=("n3", "n1"))
    number = rounds(n2.fire("decision t1"), "state_request")["n3"]
    say_state(n2, "n1", "prepared", number)
    say_state(n2, "n3", "precommit", number)
    assert rounds(n2.effects, "pre_commit") == {"n1": number}
    assert is_persisted_before(n2.effects, "pre_commit", "none")
    assert told(n2.effects) == {}
    assert told(say_state(n2, "n1", "precommit", number)) == {
        "n1": "commit",
        "n3": "commit",
    }


def test_tr4_doesn_t_wait_for_those_who_die_meanwhile() -> None:
    n2 = participant(crossed=True)
    number = rounds(n2.fire("decision t1"), "state_request")["n3"]
    say_state(n2, "n3", "prepared", number)
    n2.fire("states t1")
    assert rounds(n2.effects, "pre_commit") == {"n3": number}
    assert set(told(n2.fire("states t1")).values()) == {"commit"}


def test_in_a_termination_the_old_coordinator_is_not_listened_to() -> None:
    n3 = participant("n3")
    [(_, body)] = sent(lead(n3, "state_request", 4, "n2"), "state")
    assert (body["round"], body["state"]) == (4, "prepared")
    assert lead(n3, "pre_commit", 0) == []
    assert lead(n3, "pre_abort", 1) == []
    assert lead(n3, "state_request", 3, "n2") == []
    assert n3.state() == "prepared"


def test_a_higher_round_takes_a_lower_one_s_place() -> None:
    n3 = participant("n3")
    number = rounds(n3.fire("decision t1"), "state_request")["n2"]
    lead(n3, "state_request", number + 2, "n2")
    assert n3.core.terminations == {}
    assert told(n3.fire("states t1")) == {}


def test_a_participant_that_hasn_t_voted_aborts_when_it_is_asked() -> None:
    assert told(lead(puppet("n3"), "state_request", 4, "n2")) == {"n2": "abort"}


def test_nobody_waits_when_it_is_the_last_that_lives() -> None:
    n2 = participant(crossed=True)
    n2.fire("decision t1")
    n2.fire("states t1")
    assert n2.state() == "commit"


# --- recovery (BHG 7.5) --------------------------------------------------------------


@pytest.mark.parametrize("crossed", [False, True])
def test_after_a_crash_a_participant_asks_and_uses_no_other_rule(
    *, crossed: bool
) -> None:
    again = participant(crossed=crossed).restart()
    before = again.state()
    assert observed(again.effects) == ["in_doubt"]
    for _ in range(5):
        assert set(dict(sent(again.effects, "inquire"))) == {"n1", "n3"}
        again.fire("decision t1")
    for kind, number in (("pre_commit", 0), ("pre_abort", 1), ("pre_commit", 9)):
        [(_, body)] = sent(lead(again, kind, number), "state")
        assert (body["recovering"], body["state"]) == (True, before)
    assert again.state() == before


def test_who_has_crashed_doesn_t_count_in_a_termination() -> None:
    n2 = participant(others=("n3",))
    number = rounds(n2.fire("decision t1"), "state_request")["n3"]
    say_state(n2, "n3", "precommit", number, recovering=True)
    assert n2.state() == "abort"


def test_a_coordinator_that_finds_a_participant_back_uncertain_turns_round() -> None:
    """It will never cross."""
    n1 = coordinator()
    say_state(n1, "n2", "prepared", recovering=True)
    assert rounds(n1.effects, "pre_abort") == {"n2": 1, "n3": 1}


def test_what_is_on_a_disk_acknowledges_as_well_as_a_message() -> None:
    n1 = coordinator()
    say_state(n1, "n2", "precommit", recovering=True)
    assert set(told(say_state(n1, "n3", "precommit")).values()) == {"commit"}


def test_a_coordinator_that_crashed_undecided_must_not_decide() -> None:
    again = coordinator().restart()
    assert told(again.effects) == {}
    assert set(dict(sent(again.effects, "inquire"))) == {"n2", "n3"}
    say_state(again, "n2", "precommit")
    say_state(again, "n3", "precommit")
    assert told(again.effects) == {}
    assert set(dict(sent(again.fire("outcome t1"), "inquire"))) == {"n2", "n3"}
    assert told(again.tell("abort", src="n3")) == {"n2": "abort", "n3": "abort"}


def test_a_coordinator_that_comes_back_undecided_ends_the_waiting_but_once() -> None:
    n3 = participant("n3")
    n3.hear("n1", "inquire", id="t1", coordinator="n1", participants=list(ALL))
    assert 0 < timers(n3.effects)["decision t1"] < 1000
    n3.hear("n1", "inquire", id="t1", coordinator="n1", participants=list(ALL))
    assert n3.effects == []
    n3.hear("n2", "inquire", id="t1", coordinator="n1", participants=list(ALL))
    assert n3.effects == []
    assert set(rounds(n3.fire("decision t1"), "state_request")) == {"n1", "n2"}


def test_it_presumes_nothing_about_what_it_doesn_t_remember() -> None:
    n1 = puppet()
    assert n1.inquire("n2", "n1") == []
    assert n1.yes("n2", PLUM) == []


# --- total failure (BHG 7.5) ---------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "outcome"),
    [
        (True, "precommit", "commit"),
        (True, "prepared", "abort"),
        (False, "precommit", "abort"),
        (False, "prepared", "abort"),
    ],
)
def test_when_all_participants_have_crashed_their_disks_decide(
    *, mine: bool, theirs: str, outcome: str
) -> None:
    again = participant(crossed=mine, others=("n3",)).restart()
    say_state(again, "n3", theirs, recovering=False)
    assert again.state() in {"prepared", "precommit"}  # n3 hasn't crashed: it decides
    say_state(again, "n3", theirs, recovering=True)
    assert again.state() == outcome
    assert told(again.effects) == {"n1": outcome, "n3": outcome}


def test_it_takes_all_of_them() -> None:
    again = participant(crossed=True).restart()
    say_state(again, "n3", "precommit", recovering=True)
    assert again.state() == "precommit"
    say_state(again, "n1", "precommit", recovering=True)
    assert again.state() == "commit"


# --- safety of a single core, whatever it hears --------------------------------------

events = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(("pre_commit", "pre_abort", "state_request")),
            st.integers(0, 9),
            st.sampled_from(("n1", "n3")),
        ),
        st.tuples(
            st.just("state"),
            st.integers(0, 9),
            st.sampled_from(("prepared", "precommit")),
        ),
        st.tuples(st.just("fire"), st.just(0), st.sampled_from(("decision", "states"))),
        st.tuples(
            st.just("decision"), st.just(0), st.sampled_from(("commit", "abort"))
        ),
        st.tuples(st.just("restart"), st.just(0), st.just("")),
    ),
    max_size=25,
)


def play(n2: Puppet, kind: str, number: int, word: str) -> Puppet:
    """One of those events."""
    match kind:
        case "state":
            say_state(n2, "n3", word, number, recovering=number % 2 == 0)
        case "fire":
            n2.fire(f"{word} t1")
        case "decision":
            n2.tell(word, src="n3")
        case "restart":
            return n2.restart()
        case _:
            lead(n2, kind, number, word)
    return n2


@given(events)
def test_a_decision_is_final_and_survives_crashes(plan: Any) -> None:
    n2 = participant()
    decided = ""
    for kind, number, word in plan:
        n2 = play(n2, kind, number, word)
        state = n2.state()
        if decided:
            assert state == decided
        elif state in {"commit", "abort"}:
            decided = state
        assert n2.restart().state() == state
    assert (n2.core.shard.data == {"plum": 2}) == (n2.state() != "abort")

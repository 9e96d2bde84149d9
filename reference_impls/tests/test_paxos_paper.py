"""Sentences of "Paxos Made Simple" (Lamport 2001), one test each, by section."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import paxos
from reference_impls.actor import (
    CancelTimer,
    Effect,
    Now,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    TimerFired,
    settings,
)
from reference_impls.core import well_formed
from reference_impls.paxos import Ballot, Paxos

MS = 1_000_000
LOW, HIGH, HIGHER = Ballot(3, "n2"), Ballot(7, "n3"), Ballot(9, "n2")


def server(servers: int = 5, records: Any = (), **options: str) -> Paxos:
    """n1 of as many."""
    peers = [f"n{i}" for i in range(2, servers + 1)]
    core = Paxos("n1", peers, settings(paxos.OPTIONS, options))
    core.start(list(records))
    return core


def hear(core: Paxos, src: str, kind: str, **fields: Any) -> list[Effect]:
    """What the core does about a message on instance 1."""
    return core.step(Received(src, {"type": kind, "key": 1, **fields}, Now(0, 0)))


def ask(core: Paxos, kind: str, at_ms: int = 0, **fields: Any) -> list[Effect]:
    """What it does about a client's request."""
    now = Now(at_ms * MS, at_ms * MS)
    return core.step(Received("c1", {"type": kind, "key": 1, **fields}, now))


def try_again(core: Paxos, at_ms: int = 0) -> list[Effect]:
    return core.step(TimerFired("attempt:1", Now(at_ms * MS, at_ms * MS)))


def sent(effects: list[Effect], kind: str) -> list[Send]:
    return [e for e in effects if isinstance(e, Send) and e.body["type"] == kind]


def replies(effects: list[Effect]) -> list[Any]:
    return [dict(e.body) for e in effects if isinstance(e, Reply)]


def records(effects: list[Effect]) -> list[Any]:
    return [e.record for e in effects if isinstance(e, Persist)]


def attempt_ballot(effects: list[Effect]) -> Ballot:
    """Of the attempt that these effects begin."""
    return Ballot(*sent(effects, "prepare")[0].body["ballot"])


def promise(
    core: Paxos, src: str, ballot: Ballot, accepted: Any = None
) -> list[Effect]:
    return hear(core, src, "promise", ballot=ballot, accepted=accepted)


def proposal_of(effects: list[Effect]) -> Any:
    (body,) = {id(s.body): s.body for s in sent(effects, "accept")}.values()
    return body["proposal"]


# --- 2.1 the problem ---------------------------------------------------------------


def test_only_a_value_that_has_been_proposed_may_be_chosen() -> None:
    core = server()
    effects = ask(core, "learn")
    effects += try_again(core)
    ballot = attempt_ballot(effects)
    promise(core, "n2", ballot)
    effects = promise(core, "n3", ballot)
    assert not sent(effects, "accept")
    assert replies(effects) == [{"type": "learn_ok", "value": None}]


def test_the_answer_to_a_proposal_is_the_chosen_value_whosever_it_is() -> None:
    core = server(3)
    ask(core, "propose", value="mine")
    hear(core, "n2", "accepted", proposal=[LOW, "theirs"])
    effects = hear(core, "n3", "accepted", proposal=[LOW, "theirs"])
    assert replies(effects) == [{"type": "propose_ok", "value": "theirs"}]


# --- 2.2 choosing a value ----------------------------------------------------------


def test_an_acceptor_accepts_the_first_proposal_that_it_receives() -> None:
    """P1."""
    effects = hear(server(), "n2", "accept", proposal=[LOW, "v"])
    assert len(sent(effects, "accepted")) == 4


def test_an_acceptor_accepts_unless_it_responded_to_a_higher_prepare() -> None:
    """P1a."""
    core = server()
    hear(core, "n3", "prepare", ballot=HIGH)
    effects = hear(core, "n2", "accept", proposal=[LOW, "v"])
    assert not sent(effects, "accepted")
    assert sent(hear(core, "n3", "accept", proposal=[HIGH, "v"]), "accepted")


def test_it_responds_to_a_prepare_greater_than_any_before_and_to_no_other() -> None:
    """Phase 1(b)."""
    core = server()
    assert sent(hear(core, "n3", "prepare", ballot=HIGH), "promise")
    assert not sent(hear(core, "n2", "prepare", ballot=LOW), "promise")
    assert not sent(hear(core, "n3", "prepare", ballot=HIGH), "promise")
    assert sent(hear(core, "n2", "prepare", ballot=HIGHER), "promise")


def test_its_promise_comes_with_the_highest_proposal_it_has_accepted() -> None:
    """Phase 1(b)."""
    core = server()
    hear(core, "n2", "accept", proposal=[LOW, "old"])
    hear(core, "n3", "accept", proposal=[HIGH, "new"])
    (answer,) = sent(hear(core, "n2", "prepare", ballot=HIGHER), "promise")
    assert answer.body["accepted"] == (HIGH, "new")


def test_a_proposer_proposes_once_a_majority_has_promised() -> None:
    """Phase 2(a)."""
    core = server(5)
    ballot = attempt_ballot(ask(core, "propose", value="mine"))
    assert not sent(promise(core, "n2", ballot), "accept")
    assert not sent(promise(core, "n2", ballot), "accept"), "the same promise again"
    assert len(sent(promise(core, "n3", ballot), "accept")) == 4


def test_its_value_is_that_of_the_highest_numbered_proposal_among_the_responses() -> (
    None
):
    """P2c."""
    core = server(5)
    hear(core, "n2", "accept", proposal=[Ballot(1, "n2"), "oldest"])
    ballot = attempt_ballot(ask(core, "propose", value="mine"))
    promise(core, "n2", ballot, [Ballot(1, "n4"), "newer"])
    effects = promise(core, "n3", ballot, [Ballot(1, "n3"), "old"])
    assert proposal_of(effects) == (ballot, "newer")


def test_any_value_will_do_if_the_responses_reported_no_proposals() -> None:
    """P2c."""
    core = server(3)
    ballot = attempt_ballot(ask(core, "propose", value="mine"))
    assert proposal_of(promise(core, "n2", ballot)) == (ballot, "mine")


def test_a_promise_for_another_ballot_does_not_count() -> None:
    core = server(3)
    old = attempt_ballot(ask(core, "propose", value="mine"))
    new = attempt_ballot(try_again(core))
    assert new > old
    assert not sent(promise(core, "n2", old), "accept")


def test_an_acceptor_that_ignores_a_request_informs_the_proposer_who_abandons_it() -> (
    None
):
    """2.2, at the end."""
    core = server(3)
    ballot = attempt_ballot(ask(core, "propose", value="mine"))
    effects = hear(core, "n3", "refused", ballot=ballot, promised=HIGH)
    assert [e.name for e in effects if isinstance(e, SetTimer)] == ["attempt:1"]
    assert not sent(promise(core, "n2", ballot), "accept")
    assert attempt_ballot(try_again(core)) > HIGH


def test_being_told_of_ones_own_ballot_is_no_refusal() -> None:
    """A prepare that comes after its accept is refused at the very same ballot."""
    core = server(3)
    ballot = attempt_ballot(ask(core, "propose", value="mine"))
    hear(core, "n3", "refused", ballot=ballot, promised=ballot)
    assert sent(promise(core, "n2", ballot), "accept")


def test_different_proposers_choose_their_numbers_from_disjoint_sets() -> None:
    def first(node: str, peer: str) -> Ballot:
        core = Paxos(node, [peer], settings(paxos.OPTIONS, {}))
        return attempt_ballot(ask(core, "propose", value=node))

    assert first("n1", "n2") != first("n2", "n1")


# --- 2.3 learning a chosen value ---------------------------------------------------


def test_each_acceptor_that_accepts_sends_the_proposal_to_all_learners() -> None:
    effects = hear(server(5), "n2", "accept", proposal=[LOW, "v"])
    assert {s.dest for s in sent(effects, "accepted")} == {"n2", "n3", "n4", "n5"}


def test_a_learner_learns_what_a_majority_accepted() -> None:
    core = server(5)
    for acceptor in ("n2", "n3"):
        hear(core, acceptor, "accepted", proposal=[LOW, "v"])
    hear(core, "n3", "accepted", proposal=[LOW, "v"])
    assert core.instance(1).learned is None, "a majority is three different acceptors"
    hear(core, "n4", "accepted", proposal=[LOW, "v"])
    assert core.instance(1).learned == "v"


def test_a_majority_that_accepted_under_different_numbers_is_none() -> None:
    """Chosen is a proposal, and a proposal is a number and a value."""
    core = server(3)
    hear(core, "n2", "accepted", proposal=[LOW, "v"])
    hear(core, "n3", "accepted", proposal=[HIGH, "v"])
    assert core.instance(1).learned is None


def test_a_learner_could_ask_the_acceptors_what_they_have_accepted() -> None:
    core = server(3)
    assert len(sent(ask(core, "learn"), "ask")) == 2
    hear(core, "n2", "report", accepted=[LOW, "v"], learned=None)
    effects = hear(core, "n3", "report", accepted=[LOW, "v"], learned=None)
    assert replies(effects) == [{"type": "learn_ok", "value": "v"}]


def test_a_learner_that_needs_to_know_has_a_proposer_issue_a_proposal() -> None:
    core = server(5)
    ask(core, "learn")
    hear(core, "n2", "report", accepted=[LOW, "v"], learned=None)
    ballot = attempt_ballot(try_again(core))
    promise(core, "n2", ballot, [LOW, "v"])
    assert proposal_of(promise(core, "n3", ballot)) == (ballot, "v")


# --- 2.4 progress ------------------------------------------------------------------


def test_duelling_proposers_back_off_at_random_and_ever_longer() -> None:
    core = server(3)
    ballot = attempt_ballot(ask(core, "propose", value="mine"))
    widths = []
    for _ in range(9):
        higher = Ballot(ballot.round + 1, "n3")
        effects = hear(core, "n3", "refused", ballot=ballot, promised=higher)
        (timer,) = [e for e in effects if isinstance(e, SetTimer)]
        widths.append(timer.max_ms - timer.min_ms)
        ballot = attempt_ballot(try_again(core))
    assert widths == sorted(widths)
    assert 0 < widths[0] < widths[-1] < 2000


def test_a_client_that_comes_in_a_pause_does_not_end_it() -> None:
    core = server(3)
    ballot = attempt_ballot(ask(core, "propose", value="mine"))
    hear(core, "n3", "refused", ballot=ballot, promised=HIGH)
    assert not sent(ask(core, "propose", value="another"), "prepare")


# --- 2.5 the implementation --------------------------------------------------------


def test_an_acceptor_records_its_response_before_it_sends_it() -> None:
    for kind, fields, answer in (
        ("prepare", {"ballot": LOW}, "promise"),
        ("accept", {"proposal": [LOW, "v"]}, "accepted"),
    ):
        effects = hear(server(), "n2", kind, **fields)
        first = next(e for e in effects if isinstance(e, Persist | Send))
        assert isinstance(first, Persist), answer
        assert sent(effects, answer)


def test_a_proposer_never_issues_two_proposals_with_the_same_number() -> None:
    """It remembers the highest that it tried to issue: here, as its own acceptor."""
    core = server(3)
    effects = ask(core, "propose", value="one")
    kinds = [type(e) for e in effects if isinstance(e, Persist | Send)]
    assert kinds[0] is Persist
    again = server(3, records(effects))
    later = ask(again, "propose", value="two")
    assert attempt_ballot(later) > attempt_ballot(effects)


def test_an_acceptor_remembers_across_failures() -> None:
    core = server()
    effects = hear(core, "n2", "accept", proposal=[LOW, "v"])
    effects += hear(core, "n3", "prepare", ballot=HIGH)
    again = server(5, records(effects))
    assert again.instance(1).promised == HIGH
    assert again.instance(1).accepted == (LOW, "v")


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.sampled_from("ab"))))
def test_what_an_acceptor_holds_is_what_its_records_say(steps: Any) -> None:
    """Whatever is asked of it, a restart finds it as it was."""
    core, kept = server(), []
    for prepare, round_, name in steps:
        ballot = Ballot(round_, name)
        effects = (
            hear(core, "n2", "prepare", ballot=ballot)
            if prepare
            else hear(core, "n2", "accept", proposal=[ballot, name])
        )
        kept += records(effects)
    before, after = core.instance(1), server(5, kept).instance(1)
    assert (before.promised, before.accepted) == (after.promised, after.accepted)


# --- clock readings as ballots -----------------------------------------------------


def test_a_timestamp_ballot_is_the_proposers_wall_clock() -> None:
    core = server(3, ballots="timestamp")
    effects = core.step(
        Received(
            "c1", {"type": "propose", "key": 1, "value": "v"}, Now(5 * MS, 77 * MS)
        )
    )
    assert attempt_ballot(effects) == Ballot(5, "n1")


def test_a_clock_set_back_can_not_make_a_server_use_a_ballot_again() -> None:
    core = server(3, ballots="timestamp")
    ask(core, "propose", at_ms=500, value="v")
    assert not sent(try_again(core, at_ms=500), "prepare")
    assert not sent(try_again(core, at_ms=100), "prepare")
    assert attempt_ballot(try_again(core, at_ms=501)) == Ballot(501, "n1")


# --- clients -----------------------------------------------------------------------


def test_a_value_that_was_never_sent_out_fails_for_sure() -> None:
    core = server(3)
    ask(core, "propose", value="mine")
    core.step(TimerFired("sweep", Now(0, 0)))
    (answer,) = replies(core.step(TimerFired("sweep", Now(0, 0))))
    assert answer["code"] == 11


def test_of_a_value_that_was_sent_out_nobody_knows() -> None:
    core = server(3)
    promise(core, "n2", attempt_ballot(ask(core, "propose", value="mine")))
    core.step(TimerFired("sweep", Now(0, 0)))
    effects = core.step(TimerFired("sweep", Now(0, 0)))
    (answer,) = replies(effects)
    assert answer["code"] == 0
    assert [e.name for e in effects if isinstance(e, CancelTimer)] == ["attempt:1"]


def test_a_server_alone_is_a_majority() -> None:
    assert replies(ask(server(1), "propose", value="v")) == [
        {"type": "propose_ok", "value": "v"}
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "read", "key": 1}, 10),
        ({"type": "propose", "value": 1}, 12),
        ({"type": "propose", "key": 1}, 12),
        ({"type": "propose", "key": 1, "value": None}, 12),
        ({"type": "propose", "key": 1.5, "value": 1}, 12),
        ({"type": "propose", "key": True, "value": 1}, 12),
        ({"type": "propose", "key": 1, "value": "x" * 70_000}, 12),
        ({"type": "learn", "key": ["k"]}, 12),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(body: Any, code: int) -> None:
    (answer,) = replies(server().step(Received("c1", body, Now(0, 0))))
    assert answer["code"] == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
)


@given(
    st.sampled_from(sorted(paxos.MESSAGES)),
    st.dictionaries(
        st.sampled_from(
            ["key", "ballot", "accepted", "proposal", "promised", "learned"]
        ),
        JSON | st.just([1, "n2"]) | st.just([[1, "n2"], "v"]),
    ),
)
def test_no_message_of_a_peer_breaks_a_server(kind: str, fields: Any) -> None:
    core = server()
    effects = core.step(Received("n2", {"type": kind, **fields}, Now(0, 0)))
    if not well_formed({"type": kind, **fields}, paxos.MESSAGES):
        assert effects == []


@pytest.mark.parametrize(
    "options",
    [
        {"backoff_ms_min": "50", "backoff_ms_max": "10"},
        {"attempt_timeout_ms": "0"},
        {"attempt_timeout_ms": "2000"},
    ],
)
def test_options_that_make_no_sense_together_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="_ms"):
        paxos.build("n1", ["n2"], settings(paxos.OPTIONS, options))

"""Faults of links that change while they are in force, and faults of messages."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.errors import UsageError
from harness.faults.fault import Fault
from harness.faults.nemesis import Patterned
from harness.worlds.network import LinkRule, MessageRule
from nemesis.slow_start import FULL_KBIT_S, rule_at
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.data import Json
    from harness.faults.nemesis import Nemesis

NODES = ["n1", "n2", "n3", "n4", "n5"]
VOTE = '"type":"vote"'


def nemesis(kind: str, **options: str) -> Nemesis:
    made: Nemesis = registry.find("nemesis", kind).factory(options)
    if isinstance(made, Patterned):
        made.patterns = made.patterns or (VOTE,)
    return made


def played(fault: Fault, count: int) -> tuple[list[LinkRule], Mapping[str, Json]]:
    """The rules of n1's link to n2, each once, until `count` or 10 s; the evidence."""

    async def scenario() -> tuple[list[LinkRule], Mapping[str, Json]]:
        fake = FakeCluster()
        grip, kind = gripped(fake), nemesis(fault.kind)
        kind.validate(fault, fake.nodes)
        strike = await kind.strike(fault, grip)
        seen: list[LinkRule] = []
        async with asyncio.timeout(10.0):
            while len(seen) < count:
                rule = fake.network.rules.get(("n1", "n2"), LinkRule())
                if seen[-1:] != [rule]:
                    seen.append(rule)
                await asyncio.sleep(0.001)
        await grip.stop_work()
        fake.network.cut = {("n1", "n2"): 7}
        healed = await kind.heal(strike, grip)
        assert not fake.network.rules
        return seen, healed.evidence

    return asyncio.run(scenario())


def test_a_flapping_link_goes_down_and_up_until_the_heal() -> None:
    rhythm: dict[str, Json] = {"target": ["n1"], "down_ms": 8.0, "up_ms": 5.0}
    seen, evidence = played(Fault("flap", rhythm), 5)
    assert [rule.cut for rule in seen] == [True, False, True, False, True]
    assert evidence["times_down"] == 3
    # What died in all spells counts, not only in the last one.
    assert evidence["frames_dropped"] == 7


def test_a_slow_link_grows_until_it_is_healthy() -> None:
    start: dict[str, Json] = {"target": ["n1"], "bandwidth_kbit_s": 50.0, "over_s": 0.3}
    seen, evidence = played(Fault("slow-start", start), 4)
    widths = [rule.bandwidth_kbit_s or FULL_KBIT_S for rule in seen]
    assert widths[0] == 50.0
    assert widths == sorted(widths)
    assert evidence["grown"] is (seen[-1] == LinkRule())


@given(first=st.floats(0.001, FULL_KBIT_S), part=st.floats(0, 1))
def test_a_width_lies_between_the_first_and_the_full_one(
    first: float, part: float
) -> None:
    width = rule_at(Fault("slow-start", {"bandwidth_kbit_s": first}), part)
    assert width.bandwidth_kbit_s is not None
    assert first * 0.999 <= width.bandwidth_kbit_s <= FULL_KBIT_S * 1.001


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({"loss": 1}, MessageRule(VOTE, loss=1)),
        ({"delay_ms": 40}, MessageRule(VOTE, delay_ms=40)),
        ({"reset": 0.5}, MessageRule(VOTE, reset=0.5)),
        ({"cut": 1}, MessageRule(VOTE, cut=1)),
    ],
)
def test_a_fault_of_messages_puts_its_rule_on_the_targets_links(
    params: dict[str, Json], rule: MessageRule
) -> None:
    fault = Fault("message", {"target": ["n1"], "pattern": VOTE, **params})
    [seen], _ = played(fault, 1)
    assert seen == LinkRule(messages=(rule,))


@given(seed=st.integers(), kind=st.sampled_from(["flap", "slow-start", "message"]))
def test_every_drawn_fault_validates(seed: int, kind: str) -> None:
    every = nemesis(kind, directions="both+outwards+inwards")
    drawn = every.draw(Random(seed), NODES)
    every.validate(drawn, NODES)
    assert drawn == every.draw(Random(seed), NODES)


def test_messages_are_drawn_from_the_patterns_given() -> None:
    some = nemesis("message", patterns=r"vote append\x0a", acts="loss")
    random = Random(1)
    drawn = [some.draw(random, NODES).params for _ in range(50)]
    assert {params["pattern"] for params in drawn} == {"vote", r"append\x0a"}
    assert all("loss" in params for params in drawn)


def test_a_system_without_types_of_message_needs_some_named() -> None:
    unknowing: Nemesis = registry.find("nemesis", "message").factory({})
    with pytest.raises(UsageError, match=r"--set message.patterns='PATTERN"):
        unknowing.draw(Random(1), NODES)


FLAP: Mapping[str, Any] = {"target": ["n1"], "down_ms": 50, "up_ms": 50}
START: Mapping[str, Any] = {"target": ["n1"], "bandwidth_kbit_s": 50, "over_s": 1}
MESSAGE: Mapping[str, Any] = {"target": ["n1"], "pattern": VOTE, "loss": 1}


@pytest.mark.parametrize(
    ("kind", "params", "reason"),
    [
        ("flap", {**FLAP, "up_ms": 1}, "up_ms must be a number from 5"),
        ("flap", {**FLAP, "direction": 1}, "direction must be one of"),
        ("slow-start", {**START, "over_s": 0}, "over_s must be a number from 0.1"),
        ("slow-start", {**START, "target": "n1"}, "target must be"),
        ("message", {**MESSAGE, "pattern": "("}, "no regular expression: missing"),
        ("message", {**MESSAGE, "pattern": "a*"}, "matches every message"),
        ("message", {**MESSAGE, "pattern": "x" * 501}, "has at most 500 characters"),
        ("message", {**MESSAGE, "pattern": 7}, "pattern 7 is no text"),
        ("message", {"target": ["n1"], "cut": 1}, "give the pattern of the messages"),
        ("message", {**MESSAGE, "loss": 2}, "loss must be a number from 0.001 to 1"),
        ("message", {**MESSAGE, "reset": 1}, "give one of loss, delay_ms, reset, cut"),
    ],
)
def test_senseless_plans_are_refused(
    kind: str, params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        nemesis(kind).validate(Fault(kind, params), NODES)


@pytest.mark.parametrize("text", ["(", "a |", "x" * 501])
def test_senseless_patterns_are_refused_as_options_too(text: str) -> None:
    with pytest.raises(UsageError, match="patterns"):
        nemesis("message", patterns=text)


def links(rules: Mapping[tuple[str, str], LinkRule]) -> Sequence[tuple[str, str]]:
    return sorted(link for link, rule in rules.items() if rule != LinkRule())


def test_a_rule_that_a_strike_takes_back_leaves_those_of_others() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        one = gripped(fake, 1)
        other = one._force.grip(2)
        await one.shape_links({("n1", "n2"): LinkRule(cut=True)})
        await other.shape_links({("n1", "n2"): LinkRule(loss=0.5)})
        assert fake.network.rules["n1", "n2"] == LinkRule(cut=True, loss=0.5)
        await one.shape_links({("n2", "n1"): LinkRule(cut=True)})
        assert fake.network.rules["n1", "n2"] == LinkRule(loss=0.5)
        assert links(fake.network.rules) == [("n1", "n2"), ("n2", "n1")]
        await one.mend_links()
        assert links(fake.network.rules) == [("n1", "n2")]

    asyncio.run(scenario())

"""Rules of links, combined: what several faults do to one link at once."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.worlds.network import LinkRule, MessageRule, compiled, count_in, merge
from harness.worlds.os.helper import Desk, Helper

chances = st.floats(0, 1)
amounts = st.floats(0, 1000)
message_rules = st.builds(
    MessageRule, st.sampled_from(["a", "b"]), chances, amounts, chances
)
rules = st.builds(
    LinkRule,
    cut=st.booleans(),
    delay_ms=amounts,
    jitter_ms=amounts,
    loss=chances,
    duplicate=chances,
    reorder=chances,
    corrupt=chances,
    bandwidth_kbit_s=st.none() | st.floats(1, 1e6),
    mtu_bytes=st.none() | st.integers(1, 1500),
    reset=chances,
    half_open=chances,
    messages=st.lists(message_rules, max_size=2).map(tuple),
)


def close(one: LinkRule, other: LinkRule) -> bool:
    """Whether rules are the same, but for rounding and the order of messages."""
    for field in fields(LinkRule):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "messages":
            mine, theirs = sorted(mine, key=repr), sorted(theirs, key=repr)
        elif isinstance(mine, float):
            theirs = pytest.approx(theirs)
        if mine != theirs:
            return False
    return True


@given(rules)
def test_a_rule_by_itself_and_beside_healthy_ones_is_the_same(rule: LinkRule) -> None:
    assert close(merge([rule]), rule)
    assert close(merge([LinkRule(), rule, LinkRule()]), rule)


@given(st.lists(rules, max_size=4).flatmap(st.permutations), st.integers(0, 4))
def test_neither_order_nor_grouping_of_rules_matters(
    several: list[LinkRule], cut: int
) -> None:
    together = merge(several)
    assert close(together, merge(several[::-1]))
    assert close(together, merge([merge(several[:cut]), merge(several[cut:])]))


@given(st.lists(rules, min_size=1, max_size=4))
def test_no_rule_makes_another_one_milder(several: list[LinkRule]) -> None:
    together = merge(several)
    for rule in several:
        assert together.cut >= rule.cut
        for name in ("delay_ms", "loss", "reset", "half_open"):
            assert getattr(together, name) >= getattr(rule, name) - 1e-9
        for name in ("mtu_bytes", "bandwidth_kbit_s"):
            limit = getattr(rule, name)
            assert limit is None or getattr(together, name) <= limit
        assert set(rule.messages) <= set(together.messages)


def test_each_message_rule_counts_even_if_two_are_alike() -> None:
    twice = [LinkRule(messages=(MessageRule("a", loss=0.5),))] * 2
    assert len(merge(twice).messages) == 2


@given(rules)
def test_rules_survive_the_way_to_the_process_that_carries_traffic(
    rule: LinkRule,
) -> None:
    assert msgspec.json.decode(msgspec.json.encode(rule), type=LinkRule) == rule


def test_rules_overlap_where_both_change_the_same_field() -> None:
    one_each = [
        LinkRule(mtu_bytes=500),
        LinkRule(reset=0.5),
        LinkRule(half_open=0.5),
        LinkRule(messages=(MessageRule("a", loss=0.5),)),
    ]
    assert all(rule.overlaps(rule) for rule in one_each)
    assert not any(a.overlaps(b) for a, b in itertools.permutations(one_each, 2))


def test_a_pattern_is_over_bytes_and_a_dot_is_any_of_them() -> None:
    assert compiled(r"a.\x0ab").search(b"a\n\nb")
    assert compiled("é").search("é".encode())


EVIL = r"(\w+ ?)+\$"


def test_a_pattern_that_would_stop_the_traffic_is_told_in_its_place() -> None:
    assert count_in(b"a $ b $", EVIL) == 2
    with pytest.raises(HarnessError, match="took more than"):
        count_in(b"a" * 60, EVIL)

    def serve(desk: Desk) -> None:
        del desk
        count_in(b"a" * 60, EVIL)

    carrier = Helper("switch", "test", serve)
    with pytest.raises(HarnessError) as told:
        carrier.wait_until_ready()
    assert str(told.value).startswith("the pattern ")
    assert "\n" not in str(told.value)
    asyncio.run(carrier.close())

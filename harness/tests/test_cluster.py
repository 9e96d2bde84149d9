"""The cluster brings system, network and processes together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.cluster import exit_text, merge
from harness.network import LinkRule

CHANCES = st.floats(0, 1)
RULES = st.builds(
    LinkRule,
    cut=st.booleans(),
    delay_ms=st.floats(0, 100),
    loss=CHANCES,
    duplicate=CHANCES,
    reorder=CHANCES,
    corrupt=CHANCES,
    bandwidth_kbit_s=st.none() | st.floats(1, 1000),
)


@given(rule=RULES)
def test_one_fault_alone_is_itself(rule: LinkRule) -> None:
    merged = merge([rule])
    assert merged.cut == rule.cut
    assert merged.delay_ms == rule.delay_ms
    assert abs(merged.loss - rule.loss) < 1e-9
    assert merged.bandwidth_kbit_s == rule.bandwidth_kbit_s


@given(one=RULES, other=RULES)
def test_two_faults_on_a_link_are_never_milder_than_either(
    one: LinkRule, other: LinkRule
) -> None:
    both = merge([one, other])
    for rule in (one, other):
        assert both.cut >= rule.cut
        assert both.delay_ms >= rule.delay_ms
        assert both.loss >= rule.loss - 1e-9
        assert both.corrupt >= rule.corrupt - 1e-9
        if rule.bandwidth_kbit_s is not None:
            assert both.bandwidth_kbit_s is not None
            assert both.bandwidth_kbit_s <= rule.bandwidth_kbit_s


def test_no_fault_is_a_healthy_link() -> None:
    assert merge([]) == LinkRule()


def test_wait_statuses_are_told_in_words() -> None:
    assert exit_text(3) == "exited with status 3"
    assert exit_text(-9) == "was killed by SIGKILL"
    assert exit_text(-200) == "was killed by signal 200"

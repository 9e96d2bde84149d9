"""What the switch decides for each frame, without a network."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.worlds.network import LinkRule, MessageRule
from harness.worlds.os.lane import Copy, Lane

LINK = ("n1", "n2")
FRAME = bytes(range(100))

chances = st.sampled_from([0.0, 0.1, 0.5, 1.0])
rules = st.builds(
    LinkRule,
    delay_ms=st.floats(0, 50),
    jitter_ms=st.floats(0, 50),
    loss=chances,
    duplicate=chances,
    reorder=chances,
    corrupt=chances,
    bandwidth_kbit_s=st.none() | st.floats(1, 1e5),
    mtu_bytes=st.sampled_from([None, 50, 1500]),
)
arrivals = st.lists(st.floats(0, 0.1), max_size=60)
"""Seconds between frames."""


def lane(rule: LinkRule, seed: int = 1) -> Lane:
    one = Lane(LINK, seed)
    one.set_rule(rule, 0.0)
    return one


def admitted(one: Lane, gaps_s: list[float]) -> list[list[Copy]]:
    """What becomes of frames that arrive with these gaps."""
    now_s, fates = 100.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        fates.append(one.admit(FRAME, now_s))
    return fates


def sent_in_order(fates: list[list[Copy]]) -> list[Copy]:
    """Copies in the order in which they leave; ties by admission, as in the switch."""
    return sorted((copy for fate in fates for copy in fate), key=lambda one: one.due_s)


@given(rule=rules, gaps_s=arrivals, seed=st.integers())
def test_the_same_seed_decides_the_same(
    rule: LinkRule, gaps_s: list[float], seed: int
) -> None:
    first = admitted(lane(rule, seed), gaps_s)
    assert first == admitted(lane(rule, seed), gaps_s)


@given(rule=rules, gaps_s=arrivals)
def test_every_frame_is_lost_or_copied_and_counted_so(
    rule: LinkRule, gaps_s: list[float]
) -> None:
    one = lane(rule)
    fates = admitted(one, gaps_s)
    assert one.lost + one.oversized == sum(len(fate) == 0 for fate in fates)
    assert one.duplicated == sum(len(fate) == 2 for fate in fates)
    changed = [fate for fate in fates if any(copy.frame != FRAME for copy in fate)]
    assert one.corrupted == len(changed)


@given(rule=rules, gaps_s=arrivals)
def test_nothing_leaves_before_it_came(rule: LinkRule, gaps_s: list[float]) -> None:
    now_s = 100.0
    for gap_s, fate in zip(gaps_s, admitted(lane(rule), gaps_s), strict=True):
        now_s += gap_s
        assert all(copy.due_s >= now_s for copy in fate)


@given(rule=rules, gaps_s=arrivals)
def test_only_reordering_reorders(rule: LinkRule, gaps_s: list[float]) -> None:
    one = lane(replace(rule, reorder=0.0))
    order = [copy.number for copy in sent_in_order(admitted(one, gaps_s))]
    assert order == sorted(order)


@given(gaps_s=arrivals)
def test_reordered_counts_the_frames_that_were_overtaken(gaps_s: list[float]) -> None:
    one = lane(LinkRule(reorder=0.5))
    newest, overtaken = 0, 0
    for copy in sent_in_order(admitted(one, gaps_s)):
        assert one.may_leave(copy)
        overtaken += copy.number < newest
        newest = max(newest, copy.number)
    assert one.reordered == overtaken


@given(gaps_s=arrivals)
def test_a_cut_takes_everything_and_what_is_in_flight_too(gaps_s: list[float]) -> None:
    one = lane(LinkRule(delay_ms=10))
    in_flight = sent_in_order(admitted(one, gaps_s))
    one.set_rule(LinkRule(cut=True), 0.0)
    assert admitted(one, gaps_s) == [[] for _ in gaps_s]
    assert not any(one.may_leave(copy) for copy in in_flight)
    assert one.counters().cut == 2 * len(gaps_s)


@given(size=st.integers(0, 1514))
def test_corruption_flips_one_bit_and_spares_the_ethernet_header(size: int) -> None:
    one = lane(LinkRule(corrupt=1.0))
    frame = bytes(size)
    [copy] = one.admit(frame, 0.0)
    assert len(copy.frame) == size
    assert copy.frame[:14] == frame[:14]
    assert sum(byte.bit_count() for byte in copy.frame) == (size > 14)


def test_a_narrow_wire_serialises_frames_and_drops_at_its_queues_tail() -> None:
    one = lane(LinkRule(bandwidth_kbit_s=8))  # 100 bytes take 100 ms
    fates = admitted(one, [0.0] * 400)
    passed = [fate[0].due_s - 100.0 for fate in fates if fate]
    assert passed == [pytest.approx((place + 1) * 0.1) for place in range(len(passed))]
    # Half a second of traffic would be 5 frames; sixteen full ones fit in any case.
    assert len(passed) == pytest.approx(16 * 1514 / 100, abs=2)
    assert one.lost == 400 - len(passed)


def test_links_have_dice_of_their_own() -> None:
    rule = LinkRule(loss=0.5)
    there, back = Lane(("n1", "n2"), 1), Lane(("n2", "n1"), 1)
    there.set_rule(rule, 0.0)
    back.set_rule(rule, 0.0)
    assert admitted(there, [0.0] * 64) != admitted(back, [0.0] * 64)


def test_a_healthy_lane_says_so() -> None:
    one = lane(LinkRule(cut=True))
    assert not one.healthy
    one.set_rule(LinkRule(), 0.0)
    assert one.healthy


def test_a_watched_lane_is_never_express() -> None:
    one = Lane(LINK, 1, watched=True)
    assert one.healthy
    assert not one.express
    [copy] = one.admit(FRAME, 5.0)
    assert (copy.due_s, copy.frame) == (5.0, FRAME)
    assert one.fate(FRAME, 5.0, [copy]) == ""


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (LinkRule(cut=True), "cut"),
        (LinkRule(loss=1.0), "lost"),
        (LinkRule(delay_ms=3), "3.0 ms late"),
        (LinkRule(corrupt=1.0, duplicate=1.0), "corrupted, duplicated"),
        (LinkRule(mtu_bytes=20), "lost"),
    ],
)
def test_a_fate_is_told_in_words(rule: LinkRule, words: str) -> None:
    one = lane(rule)
    assert one.fate(FRAME, 5.0, one.admit(FRAME, 5.0)) == f"n1 -> n2: {words}"


def segment(flags: int, data: bytes = b"", port: int = 1, protocol: int = 6) -> bytes:
    """A TCP segment as a frame; addresses and checksums don't matter here."""
    ethernet = bytes(12) + b"\x08\x00"
    ip = struct.pack("!BBHIBBH8x", 0x45, 0, 40 + len(data), 0, 64, protocol, 0)
    tcp = struct.pack("!HHIIBBHHH", port, 7000, 0, 0, 0x50, flags, 0, 0, 0)
    return ethernet + ip + tcp + data


ACK, SYN, FIN, RST = 0x10, 0x02, 0x01, 0x04


@pytest.mark.parametrize(
    ("frame", "again"),
    [
        (segment(ACK, b"data"), True),
        (segment(SYN), True),
        (segment(SYN | ACK), True),
        (segment(FIN | ACK), True),
        (segment(ACK), True),
        (segment(RST), False),
        (segment(ACK, b"data", protocol=17), False),
        (segment(ACK, b"data")[:40], False),
        (FRAME, False),
        (b"", False),
    ],
)
def test_a_heal_sends_tcp_again_but_neither_resets_nor_datagrams(
    frame: bytes, again: bool
) -> None:
    one = lane(LinkRule(cut=True))
    one.admit(frame, 5.0)
    assert one.to_send_again(6.0) == []
    one.set_rule(LinkRule(), 0.0)
    assert one.to_send_again(6.0) == ([frame] if again else [])
    assert one.to_send_again(6.0) == []


def test_a_heal_sends_the_last_frame_of_each_connection_again() -> None:
    one = lane(LinkRule(cut=True))
    for data in (b"one", b"two"):
        for port in (1, 2):
            one.admit(segment(ACK, data, port), 5.0)
    one.set_rule(LinkRule(), 0.0)
    assert one.to_send_again(6.0) == [segment(ACK, b"two", port) for port in (1, 2)]


def test_a_bare_acknowledgement_does_not_displace_data() -> None:
    one = lane(LinkRule(cut=True))
    padded = segment(ACK) + bytes(6)  # Ethernet's padding is not data
    for frame in (segment(ACK, b"data"), segment(ACK), padded):
        one.admit(frame, 5.0)
    one.set_rule(LinkRule(), 0.0)
    assert one.to_send_again(6.0) == [segment(ACK, b"data"), padded]


def test_a_heal_does_not_bring_back_what_its_sender_gave_up_or_too_much() -> None:
    one = lane(LinkRule(cut=True))
    one.admit(segment(SYN, port=1), 5.0)
    one.set_rule(LinkRule(), 0.0)
    assert one.to_send_again(200.0) == []
    one.set_rule(LinkRule(cut=True), 0.0)
    for port in range(1000):
        one.admit(segment(SYN, port=port), 5.0)
    one.set_rule(LinkRule(), 0.0)
    assert one.to_send_again(5.0) == [
        segment(SYN, port=port) for port in range(1000 - 256, 1000)
    ]


def message(data: bytes, port: int = 1, flags: int = ACK) -> bytes:
    """A segment with data; it is number 0 and expects 0."""
    return segment(flags, data, port)


def treated(rule: LinkRule, *frames: bytes) -> tuple[Lane, list[list[bytes]]]:
    """A lane, and the frames that each of these is sent on as."""
    one = lane(rule)
    return one, [[copy.frame for copy in one.admit(f, 5.0)] for f in frames]


def test_frames_above_the_mtu_vanish_and_come_again_at_the_heal() -> None:
    # 14 bytes of Ethernet, 40 of headers
    long, short = message(bytes(61)), message(bytes(60), port=2)
    one, fates = treated(LinkRule(mtu_bytes=100), long, short)
    assert fates == [[], [short]]
    assert one.counters().oversized == 1
    one.set_rule(LinkRule(mtu_bytes=100, loss=0.5), 5.0)
    assert one.to_send_again(5.0) == []
    one.set_rule(LinkRule(), 5.0)
    assert one.to_send_again(5.0) == [long]


def test_a_reset_takes_the_place_of_data_and_of_nothing_else() -> None:
    spared = [segment(SYN), segment(SYN | ACK), segment(ACK), segment(FIN), FRAME]
    one, fates = treated(LinkRule(reset=1.0), *spared, message(b"data"))
    assert fates[:-1] == [[frame] for frame in spared]
    [[there]], [back] = fates[-1:], one.answers
    assert (there[47], back[47]) == (RST | ACK, RST | ACK)
    counters = one.counters()
    assert (counters.resets, counters.connects) == (1, 1)


def test_each_connection_counts_once_however_many_segments_are_answered() -> None:
    rule = LinkRule(reset=1.0)
    one, _ = treated(rule, *(message(b"x", port) for port in (1, 1, 2, 1)))
    assert one.counters().resets == 2
    assert len(one.answers) == 4


def test_the_dead_end_of_a_half_open_connection_is_kept_silent() -> None:
    rule = LinkRule(half_open=1.0)
    resets = [segment(RST), segment(RST, port=2)]
    one, fates = treated(rule, message(b"data"), *resets)
    assert fates == [[], [], [resets[1]]]
    assert len(one.answers) == 1
    one.set_rule(LinkRule(loss=1e-9), 6.0)
    assert [copy.frame for copy in one.admit(resets[0], 6.0)] == [resets[0]]


@pytest.mark.parametrize(
    ("rule", "due_s", "answers"),
    [
        (MessageRule("vote", loss=1.0), [], 0),
        (MessageRule("vote", delay_ms=30), [5.03], 0),
        (MessageRule("vote", reset=1.0), [5.0], 1),
        (MessageRule("v.te", delay_ms=30), [5.03], 0),
    ],
)
def test_a_rule_of_messages_treats_those_that_it_names(
    rule: MessageRule, due_s: list[float], answers: int
) -> None:
    one = lane(LinkRule(messages=(rule,)))
    assert [copy.due_s for copy in one.admit(message(b"a vote!"), 5.0)] == due_s
    assert len(one.answers) == answers
    assert one.counters().matched == 1
    other = message(b"another")
    assert [copy.frame for copy in one.admit(other, 5.0)] == [other]
    assert one.counters().matched == 1


def test_a_late_message_does_not_hold_up_others() -> None:
    one = lane(LinkRule(messages=(MessageRule("vote", delay_ms=30),)))
    [late] = one.admit(message(b"vote"), 5.0)
    [other] = one.admit(message(b"else", port=2), 5.001)
    assert other.due_s < late.due_s


def test_a_message_that_two_rules_name_suffers_both() -> None:
    rules = (MessageRule("vote", delay_ms=30), MessageRule("term", delay_ms=4))
    one = lane(LinkRule(messages=rules))
    [copy] = one.admit(message(b"vote, term 7"), 5.0)
    assert copy.due_s == pytest.approx(5.034)


def test_a_link_is_cut_behind_a_message_both_ways_until_the_rule_ends() -> None:
    one, back = lane(LinkRule(messages=(MessageRule("vote", cut=1.0),))), Lane(LINK, 2)
    one.twin, back.twin = back, one
    vote, other = message(b"vote"), message(b"else", port=2)
    assert [copy.frame for copy in one.admit(other, 5.0)] == [other]
    [copy] = one.admit(vote, 5.0)
    assert one.may_leave(copy)
    assert [lane.express for lane in (one, back)] == [False, False]
    assert one.admit(other, 5.1) == back.admit(other, 5.1) == []
    assert (one.counters().cut, back.counters().cut) == (1, 1)
    # Another fault that comes or goes mends nothing, nor does one of the way back.
    one.set_rule(LinkRule(loss=1e-9, messages=one.rule.messages), 5.2)
    back.set_rule(LinkRule(loss=1e-9), 5.2)
    assert one.admit(other, 5.2) == back.admit(other, 5.2) == []
    back.set_rule(LinkRule(), 5.2)
    assert one.to_send_again(5.3) == back.to_send_again(5.3) == []
    one.set_rule(LinkRule(), 5.4)
    assert [lane.express for lane in (one, back)] == [True, True]
    assert one.to_send_again(5.5) == back.to_send_again(5.5) == [other]


@given(
    gaps_s=arrivals,
    rates=st.lists(st.floats(1, 1e5), min_size=1, max_size=4),
)
def test_a_link_that_grows_or_shrinks_keeps_the_order_of_its_queue(
    gaps_s: list[float], rates: list[float]
) -> None:
    one = lane(LinkRule(bandwidth_kbit_s=50))
    queue: list[Copy] = []
    now_s = 100.0
    for rate in rates:
        for gap_s in gaps_s:
            now_s += gap_s
            queue += one.admit(FRAME, now_s)
        one.set_rule(LinkRule(bandwidth_kbit_s=rate), now_s)
        queue = [
            copy._replace(due_s=one.still_due_s(copy.due_s))
            for copy in queue
            if copy.due_s > now_s
        ]
        assert all(copy.due_s >= now_s for copy in queue)
    due_s = [copy.due_s for copy in queue]
    assert due_s == sorted(due_s)


def test_what_waits_in_a_queue_leaves_at_the_rate_that_the_link_has_now() -> None:
    one = lane(LinkRule(bandwidth_kbit_s=8))  # 100 bytes take 100 ms
    first, second = (copy for _ in "12" for copy in one.admit(FRAME, 5.0))
    one.set_rule(LinkRule(bandwidth_kbit_s=80), 5.05)
    due_s = [one.still_due_s(copy.due_s) for copy in (first, second)]
    assert due_s == [pytest.approx(5.055), pytest.approx(5.065)]
    [third] = one.admit(FRAME, 5.05)
    assert third.due_s == pytest.approx(5.075)


@given(frame=st.binary(max_size=80), head=st.sampled_from([b"", segment(ACK)[:24]]))
def test_frames_cut_short_anywhere_do_no_harm(frame: bytes, head: bytes) -> None:
    one = lane(LinkRule(cut=True))
    assert one.admit(head + frame, 5.0) == []

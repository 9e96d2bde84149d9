"""Messages that pass are counted on their links, whichever network carries them."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from harness.worlds.events import Passed
from harness.worlds.network import LinkRule
from harness.worlds.os.lane import Lane
from harness.worlds.os.sightings import Sightings
from harness.worlds.sim.conditions import Conditions
from harness.worlds.sim.loop import VirtualTimeLoop
from harness.worlds.sim.network import SimNetwork

if TYPE_CHECKING:
    from pathlib import Path

NODES = ["n1", "n2", "n3"]
LINKS = [(a, b) for a in NODES for b in NODES if a != b]
VOTE, ANY = Passed("vote", "n1", "n2"), Passed("vote|term")


def segment(data: bytes, number: int, port: int = 1) -> bytes:
    """A TCP segment as a frame."""
    ip = struct.pack("!BBHIBBH8x", 0x45, 0, 40 + len(data), 0, 64, 6, 0)
    tcp = struct.pack("!HHIIBBHHH", port, 7000, number, 0, 0x50, 0x10, 0, 0, 0)
    return bytes(12) + b"\x08\x00" + ip + tcp + data


def test_each_message_counts_on_the_links_that_its_event_names() -> None:
    sightings = Sightings([VOTE, ANY], LINKS)
    there, back = sightings.on(("n1", "n2")), sightings.on(("n2", "n1"))
    assert there is not None
    assert back is not None
    there.see(b"vote, vote, term")
    back.see(b"vote")
    assert sightings.passed(VOTE) == {("n1", "n2"): 2}
    expected = dict.fromkeys(LINKS, 0) | {("n1", "n2"): 3, ("n2", "n1"): 1}
    assert sightings.passed(ANY) == expected
    assert Sightings([VOTE], LINKS).on(("n2", "n1")) is None


def test_counts_of_another_process_are_seen_here() -> None:
    sightings = Sightings([VOTE], LINKS)
    pid = os.fork()
    if pid == 0:
        seen = sightings.on(("n1", "n2"))
        if seen is not None:
            seen.see(b"vote")
        os._exit(0)
    os.waitpid(pid, 0)
    assert sightings.passed(VOTE) == {("n1", "n2"): 1}


@given(
    start=st.integers(0, 2**32 - 1),
    sent=st.lists(st.integers(0, 9), min_size=1, max_size=30),
)
def test_what_tcp_sends_again_counts_once(start: int, sent: list[int]) -> None:
    sightings = Sightings([VOTE], LINKS)
    seen = sightings.on(("n1", "n2"))
    assert seen is not None
    newest, expected = -1, 0
    for place in sent:
        seen.see_frame(segment(b"vote", (start + 4 * place) % 2**32))
        expected += place > newest
        newest = max(newest, place)
    assert sightings.passed(VOTE) == {("n1", "n2"): expected}


def test_a_lane_counts_what_a_cut_then_takes() -> None:
    sightings = Sightings([VOTE], LINKS)
    lane = Lane(("n1", "n2"), 1, sightings=sightings.on(("n1", "n2")))
    assert not lane.express
    lane.set_rule(LinkRule(cut=True), 0.0)
    assert lane.admit(segment(b"vote", 0), 0.0) == []
    assert sightings.passed(VOTE) == {("n1", "n2"): 1}


def test_a_simulated_link_counts_a_message_once_though_a_cut_held_it(
    tmp_path: Path,
) -> None:
    loop = VirtualTimeLoop()  # type: ignore[abstract]  # as in `sim.world`
    conditions = Conditions(1.0, 1.0, cut_holds=True)
    network = SimNetwork(NODES, tmp_path, 1, conditions, loop, [VOTE, ANY])
    link = network.links["n1", "n2"]
    link.set_rule(LinkRule(cut=True))
    link.send(b"vote")
    link.set_rule(LinkRule())
    network.links["n3", "n1"].send(b"term")
    assert network.passed(VOTE) == {("n1", "n2"): 1}
    assert network.passed(ANY)["n3", "n1"] == 1

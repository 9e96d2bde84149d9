"""Worlds say what they can do, and runs ask before they start."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from harness import registry
from harness.errors import UsageError
from harness.run import assembling
from harness.run.spec import TestSpec
from harness.worlds import Capabilities, LinkRule, Offer
from harness.worlds.capabilities import ACTS, CLOCKS, DISK_ACTS, LINK_FIELDS
from harness.worlds.os import vdso
from harness.worlds.os.offer import offer
from harness.worlds.sim.offer import OFFER

if TYPE_CHECKING:
    from harness.faults import Nemesis

EVERYTHING = Capabilities(LINK_FIELDS, ACTS, frozenset(CLOCKS), DISK_ACTS)


def nemeses() -> dict[str, Nemesis]:
    return {k: p.factory({}) for k, p in registry.plugins("nemesis").items()}


def test_what_can_be_done_to_a_link_are_the_fields_of_its_rule() -> None:
    assert {field.name for field in dataclasses.fields(LinkRule)} == LINK_FIELDS


def test_each_kind_of_fault_needs_what_it_acts_on_and_no_more() -> None:
    needs = {kind: nemesis.needs for kind, nemesis in nemeses().items()}
    assert needs["kill"] == Capabilities(processes=frozenset({"kill"}))
    assert needs["pause"] == Capabilities(processes=frozenset({"pause"}))
    assert needs["partition"] == Capabilities(network=frozenset({"cut"}))
    assert needs["delay"].network == {"delay_ms", "jitter_ms"}
    assert needs["clock"] == Capabilities(clocks=frozenset(CLOCKS))
    assert needs["power"] == Capabilities(disks=frozenset({"power"}))
    assert needs["disk"] == Capabilities(disks=frozenset({"errors", "full", "slow"}))
    assert needs["membership"] == Capabilities(processes=frozenset({"kill", "empty"}))
    # What only other words than the usual ones need.
    together = registry.find("nemesis", "rot").factory({"kinds": "stale"}).needs
    for each in needs.values():
        together |= each
    assert together == EVERYTHING


def test_the_proxy_treats_whole_streams_and_says_what_it_can_not_do() -> None:
    def refusal(kind: str) -> str:
        needs = nemeses()[kind].needs
        return offer("proxy", needs).refusal(needs)

    # Clocks and disks are the machine's to give, not the network's.
    of_links = [k for k, n in nemeses().items() if not n.needs.clocks | n.needs.disks]
    able = [kind for kind in of_links if not refusal(kind)]
    assert able == [
        *("bandwidth", "delay", "flap", "half-open", "kill", "limits", "membership"),
        *("partition", "pause", "reset", "slow-start", "starve"),
    ]
    assert refusal("loss") == "the proxy network can't do loss"


def test_the_simulator_says_why_a_connection_can_not_be_half_open() -> None:
    needs = nemeses()["half-open"].needs
    assert OFFER.refusal(needs).startswith(
        "the simulator can't do half_open: its links carry messages"
    )
    assert OFFER.refusal(nemeses()["reset"].needs) == ""


def test_the_simulator_has_no_limits_and_says_why() -> None:
    spec = TestSpec(system="raft", nemesis=["limits"], world="sim")
    refused = (
        "--nemesis limits can't be had here: the simulator can't do limit: simulated "
        "nodes have neither descriptors nor memory"
    )
    with pytest.raises(UsageError, match=refused):
        assembling.prepare(spec)
    spec.nemesis = ["all"]
    assembling.prepare(spec)
    assert "starve" in spec.nemesis
    assert "limits" not in spec.nemesis


def test_clocks_are_refused_with_the_reason_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vdso, "why_not", lambda: "no vDSO today")
    needs = nemeses()["clock"].needs
    assert offer("switch", needs).refusal(needs) == "no vDSO today"
    assert offer("switch", needs).refusal(nemeses()["loss"].needs) == ""


def test_the_simulator_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TestSpec(system="raft", nemesis=["pause", "clock"], world="sim")
    assembling.prepare(spec)
    less = Capabilities(OFFER.able.network, OFFER.able.processes, frozenset({"wall"}))
    monkeypatch.setattr(assembling, "OFFER", Offer("the simulator", less))
    refused = "clock can't be had here: the simulator can't do mono"
    with pytest.raises(UsageError, match=refused):
        assembling.prepare(spec)
    # What it can't do it is not asked to do by "all" either.
    spec.nemesis = ["all"]
    assembling.prepare(spec)
    assert "pause" in spec.nemesis
    assert "clock" not in spec.nemesis

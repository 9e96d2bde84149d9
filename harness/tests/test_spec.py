"""What a run may be asked to do, and the command that asks for it again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import cli
from harness.errors import UsageError
from harness.run.assembling import assemble
from harness.run.spec import TestSpec, options_for, usual_nodes

SPECS = st.builds(
    TestSpec,
    system=st.sampled_from(
        ["raft", "etcd", "sqlite", "launch:python3 'my node.py' {port}"]
    ),
    nemesis=st.lists(
        st.sampled_from(["partition", "kill", "pause", "clock"]), unique=True
    ),
    nodes=st.integers(1, 9),
    concurrency=st.integers(1, 99),
    rate=st.none() | st.floats(0.5, 1e4).map(lambda x: round(x, 3)),
    op_timeout_s=st.none() | st.floats(0.01, 100).map(lambda x: round(x, 2)),
    time_limit_s=st.floats(1, 1e4).map(lambda x: round(x, 2)),
    ops=st.none() | st.integers(1, 10**7),
    seed=st.integers(0, 10**9),
    options=st.dictionaries(
        st.sampled_from(["reads", "register.keys", "clock.drift"]),
        st.text(min_size=1, max_size=8).filter(lambda t: "\x00" not in t),
    ),
    expect=st.sampled_from([None, "valid", "invalid"]),
    node_data_mb=st.integers(1, 10**6),
    node_log_mb=st.integers(1, 10**6),
    watchdog=st.booleans(),
    pcap=st.booleans(),
    also=st.lists(
        st.sampled_from(["availability", "stats", "sequential"]), unique=True
    ),
)


def parsed(command: list[str]) -> dict[str, Any]:
    """What the command line makes of `splitbrain run ...`."""
    run = cli.commands["run"]
    return run.make_context("run", command[2:]).params


@given(SPECS)
def test_the_command_of_a_run_asks_for_the_same_run(spec: TestSpec) -> None:
    command = spec.command()
    assert shlex.split(shlex.join(command)) == command
    params = parsed(command)
    assert params["system"] == spec.system
    assert ",".join(params["nemesis"]) == ",".join(spec.nemesis)
    assert (params["nodes"] or usual_nodes(spec.system)) == spec.nodes
    assert params["concurrency"] == spec.concurrency
    assert params["rate"] == spec.rate
    assert params["op_timeout"] == spec.op_timeout_s
    # A default that depends on the world is left to the command.
    assert (params["time_limit"] or 60.0) == spec.time_limit_s
    assert params["ops"] == spec.ops
    assert params["seed"] == spec.seed
    assert dict(text.split("=", 1) for text in params["sets"]) == spec.options
    assert params["expect"] == spec.expect
    assert params["node_data_mb"] == spec.node_data_mb
    assert params["node_log_mb"] == spec.node_log_mb
    assert params["watchdog"] == spec.watchdog
    assert params["pcap"] == spec.pcap
    assert ",".join(params["also"]) == ",".join(spec.also)


def test_dotted_options_go_to_their_plug_in_and_the_others_to_the_system() -> None:
    spec = TestSpec(
        system="raft",
        nemesis=["clock"],
        options={"reads": "log", "clock.drift": "2", "register.keys": "3"},
    )
    assert options_for(spec) == (
        {"reads": "log"},
        {"register": {"keys": "3"}, "clock": {"drift": "2"}},
    )


def test_an_option_for_a_plug_in_that_takes_no_part_is_refused() -> None:
    spec = TestSpec(system="raft", options={"clok.drift": "2"}, nemesis=["clock"])
    with pytest.raises(UsageError, match="did you mean clock"):
        assemble(spec)


def test_what_a_spec_names_is_found_and_configured() -> None:
    spec = TestSpec(system="raft", nemesis=["kill", "pause"], options={"reads": "log"})
    parts = assemble(spec)
    assert parts.system.name == "raft"
    assert parts.workload.name == "register"
    assert set(parts.nemeses) == {"kill", "pause"}

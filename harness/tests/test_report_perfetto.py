"""A run becomes a trace that holds its operations, faults, anomalies and clocks."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli import group
from harness.report.folder import load
from harness.report.story import tell
from harness.tests.report_runs import write_run

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("perfetto", reason="the package perfetto isn't installed here")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), ops=1500, seconds=20)


def status(*arguments: object) -> int:
    def run() -> object:
        return group.cli.main(["convert", *map(str, arguments)], standalone_mode=False)

    return group.status_of(run)


def trace_of(run_dir: Path, target: Path) -> Any:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    assert status(run_dir, target) == 0
    trace = Trace()
    trace.ParseFromString(target.read_bytes())
    return trace


def slices_of(trace: Any) -> dict[int, list[tuple[int, Any, int]]]:
    """Track -> (begin, event, end) of its slices, which are closed one by one."""
    open_now: dict[int, tuple[int, Any]] = {}
    found: dict[int, list[tuple[int, Any, int]]] = {}
    for packet in trace.packet:
        if not packet.HasField("track_event"):
            continue
        event, track = packet.track_event, packet.track_event.track_uuid
        if event.type == event.TYPE_SLICE_BEGIN:
            assert track not in open_now, "slices of a track overlap"
            open_now[track] = (packet.timestamp, event)
        elif event.type == event.TYPE_SLICE_END:
            begun, first = open_now.pop(track)
            assert packet.timestamp >= begun
            found.setdefault(track, []).append((begun, first, packet.timestamp))
    assert not open_now
    return found


def names_of(trace: Any) -> dict[int, str]:
    tracks = [
        p.track_descriptor for p in trace.packet if p.HasField("track_descriptor")
    ]
    assert len({track.uuid for track in tracks}) == len(tracks)
    known = {0} | {track.uuid for track in tracks}
    assert all(track.parent_uuid in known for track in tracks)
    return {track.uuid: track.name for track in tracks}


def test_each_operation_is_a_slice_with_its_arguments(
    run_dir: Path, tmp_path: Path
) -> None:
    folder = load(run_dir)
    trace = trace_of(run_dir, tmp_path / "trace.perfetto")
    names, slices = names_of(trace), slices_of(trace)
    told = [
        ({a.name: a.string_value for a in event.debug_annotations}, begun)
        for track, of_track in slices.items()
        if names[track].startswith("process ")
        for begun, event, _ in of_track
    ]
    assert len(told) == len(folder.calls)
    begun_at = {arguments["op"]: begun for arguments, begun in told}
    for call in folder.calls:
        assert begun_at[str(call.number)] == call.invoke.time
    outcomes = Counter(arguments["outcome"].split(",")[0] for arguments, _ in told)
    assert outcomes == folder.outcomes


def test_no_two_slices_of_a_client_overlap(run_dir: Path, tmp_path: Path) -> None:
    trace = trace_of(run_dir, tmp_path / "trace.pftrace")
    for of_track in slices_of(trace).values():
        ordered = sorted((begun, end) for begun, _, end in of_track)
        for (_, end), (begun, _) in pairwise(ordered):
            assert end <= begun


def test_faults_nodes_clocks_and_anomalies_are_there(
    run_dir: Path, tmp_path: Path
) -> None:
    folder = load(run_dir)
    trace = trace_of(run_dir, tmp_path / "trace.perfetto")
    names, slices = names_of(trace), slices_of(trace)
    faults = sum(
        len(of_track)
        for track, of_track in slices.items()
        if names[track].startswith("fault row")
    )
    assert faults == len(folder.faults)
    assert set(folder.nodes) <= set(names.values())
    events = [p.track_event for p in trace.packet if p.HasField("track_event")]
    counters = [e for e in events if e.type == e.TYPE_COUNTER]
    clocks = [c for c in folder.clocks if c.wall_offset_ms is not None]
    walls = [e for e in counters if names[e.track_uuid].endswith("wall clock")]
    assert [e.double_counter_value for e in walls] == [c.wall_offset_ms for c in clocks]
    marked = [e.name for e in events if names[e.track_uuid] == "anomalies"]
    anomalies = tell(folder).anomalies
    assert marked == [anomaly.name for anomaly in anomalies]
    flows = Counter(flow for e in events for flow in e.flow_ids)
    assert flows
    assert set(flows.values()) == {2}


def test_a_history_alone_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text("")
    assert status(tmp_path, tmp_path / "trace.perfetto") == 254


def test_without_the_package_it_says_what_to_install(
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "perfetto.trace_builder.proto_builder", None)
    assert status(run_dir, tmp_path / "trace.perfetto") == 254
    assert "pip install 'splitbrain[perfetto]'" in capsys.readouterr().err

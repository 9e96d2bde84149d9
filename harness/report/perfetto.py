"""A run as a trace for Perfetto, whose viewer zooms into anything and answers SQL.

The trace holds TrackEvents (perfetto.dev, "Synthetic TrackEvent"): a track for each
client, on which its operations are slices with value, key, node and error as arguments;
tracks of faults, from their start to their healing; a track for each node, with its
starts and exits; one of anomalies, whose operations are joined by flows in the order
that the witness forces; and a counter for each clock's offset. Times are those of the
run, in ns from its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.report import figures, story
from harness.report.folder import load
from harness.report.witness import call_text
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.report.folder import Call, Recording
    from harness.report.story import Story

NAMES = ("perfetto", "pftrace", "perfetto-trace")
"""The ends of names of files that hold such a trace."""

VALUE_CHARS_MAX = 2000
_SEQUENCE = 1
_UNNAMED_NS = 1000
"""How long a moment is drawn, as a slice without length can't be clicked."""


def write(run_dir: Path, target: Path) -> int:
    """Write the run in `run_dir` as a trace; how many events it has.

    Raises:
        UsageError: The package `perfetto` isn't installed, or `target` can't be
            written.
    """
    try:
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
    except ImportError:
        raise UsageError(
            "traces are written by the package perfetto, which isn't installed here: "
            "pip install 'splitbrain[perfetto]'"
        ) from None
    told = story.tell(load(run_dir))
    count = 0
    try:
        with target.open("wb") as file:
            builder = StreamingTraceProtoBuilder(file)
            for event in _events(told):
                packet = builder.create_packet()
                packet.trusted_packet_sequence_id = _SEQUENCE
                if count == 0:
                    packet.sequence_flags = packet.SEQ_INCREMENTAL_STATE_CLEARED
                event.fill(packet)
                builder.write_packet(packet)
                count += 1
    except OSError as problem:
        raise UsageError(f"cannot write {target}: {problem.strerror}") from None
    return count


class Track:
    """Tells that there is a track, below another one."""

    def __init__(self, uuid: int, name: str, parent: int = 0, unit: str = "") -> None:
        self.uuid, self.name, self.parent, self.unit = uuid, name, parent, unit

    def fill(self, packet: Any) -> None:
        """Put it into a packet of a trace."""
        track = packet.track_descriptor
        track.uuid = self.uuid
        track.name = self.name
        if self.parent:
            track.parent_uuid = self.parent
        if self.unit:
            track.counter.unit_name = self.unit


class Event:
    """Something that begins, ends or happens on a track, or a counter's new value."""

    def __init__(
        self,
        track: int,
        kind: str,
        time_ns: float,
        name: str = "",
        arguments: Iterable[tuple[str, str]] = (),
        flows: Sequence[int] = (),
        value: float = 0.0,
    ) -> None:
        self.track, self.kind, self.time_ns, self.name = track, kind, time_ns, name
        self.arguments, self.flows, self.value = arguments, flows, value

    def fill(self, packet: Any) -> None:
        """Put it into a packet of a trace."""
        packet.timestamp = max(0, round(self.time_ns))
        event = packet.track_event
        event.track_uuid = self.track
        event.type = getattr(event, f"TYPE_{self.kind}")
        if self.name:
            event.name = self.name
        if self.kind == "COUNTER":
            event.double_counter_value = self.value
        event.flow_ids.extend(self.flows)
        for name, text in self.arguments:
            if text:
                argument = event.debug_annotations.add()
                argument.name, argument.string_value = name, text


class _Tracks:
    """Hands out tracks with numbers of their own."""

    def __init__(self) -> None:
        self.last = 0

    def new(self, name: str, parent: int = 0, unit: str = "") -> Track:
        self.last += 1
        return Track(self.last, visible(name), parent, unit)


def _events(told: Story) -> Iterator[Track | Event]:
    tracks, folder = _Tracks(), told.folder
    yield from _anomalies(told, tracks)
    yield from _faults(folder, tracks)
    yield from _notes(folder, tracks)
    yield from _calls(told, tracks)
    yield from _clocks(folder, tracks)


def _slice(
    track: int,
    begun_ns: float,
    ended_ns: float,
    name: str,
    arguments: Iterable[tuple[str, str]] = (),
    flows: Sequence[int] = (),
) -> Iterator[Event]:
    yield Event(track, "SLICE_BEGIN", begun_ns, name, arguments, flows)
    yield Event(track, "SLICE_END", max(ended_ns, begun_ns))


def _calls(told: Story, tracks: _Tracks) -> Iterator[Track | Event]:
    """A track for each row of the timeline, with operations one after the other."""
    folder = told.folder
    parent = tracks.new("clients")
    yield parent
    rows = [tracks.new(f"process {name}", parent.uuid) for name in folder.lane_names]
    yield from rows
    until = _next_starts(folder)
    flows = _flows(told)
    for position, call in enumerate(folder.calls):
        ended = call.invoke.time if call.done is None else call.done.time
        if call.done is None:
            ended = max(int(folder.end_ns), ended)
        yield from _slice(
            rows[folder.lanes[position]].uuid,
            call.invoke.time,
            min(ended, until[position]),
            call_text(call, 80),
            _arguments(call),
            flows.get(position, ()),
        )


def _next_starts(folder: Recording) -> list[float]:
    """For each call when the next one of its row begins: slices may not overlap."""
    following = [folder.end_ns] * len(folder.lane_names)
    found = [0.0] * len(folder.calls)
    for position in reversed(range(len(folder.calls))):
        lane = folder.lanes[position]
        found[position] = following[lane]
        following[lane] = folder.calls[position].invoke.time
    return found


def _arguments(call: Call) -> list[tuple[str, str]]:
    return [
        ("outcome", call.outcome if call.done else "info, never returned"),
        ("value", figures.value(call.value, VALUE_CHARS_MAX)),
        ("key", figures.value(call.invoke.key, VALUE_CHARS_MAX)),
        ("node", visible(call.node or "")),
        ("process", str(call.invoke.process)),
        ("op", str(call.number)),
        ("error", figures.plain(call.error, VALUE_CHARS_MAX)),
    ]


def _flows(told: Story) -> dict[int, list[int]]:
    """Position of a call -> the flows that pass it: one for each edge of a witness."""
    at = told.folder.call_by_index
    found: dict[int, list[int]] = {}
    number = 0
    for anomaly in told.anomalies:
        for edge in anomaly.edges:
            ends = [
                at.get(anomaly.calls[end].invoke.index)
                for end in (edge.source, edge.target)
                if not anomaly.calls[end].is_event
            ]
            if len(ends) == 2 and None not in ends:
                number += 1
                for end in ends:
                    assert end is not None
                    found.setdefault(end, []).append(number)
    return found


def _anomalies(told: Story, tracks: _Tracks) -> Iterator[Track | Event]:
    if not told.anomalies:
        return
    track = tracks.new("anomalies")
    yield track
    for anomaly in told.anomalies:
        times = [call.invoke.time for call in anomaly.calls if not call.is_event]
        arguments = [
            ("explanation", figures.plain(anomaly.explanation, VALUE_CHARS_MAX)),
            ("checker", visible(anomaly.checker)),
        ]
        when = max(times, default=0)
        yield Event(track.uuid, "INSTANT", when, visible(anomaly.name), arguments)


def _faults(folder: Recording, tracks: _Tracks) -> Iterator[Track | Event]:
    """Faults on as few tracks as keep those apart that are in force together."""
    if not folder.faults:
        return
    parent = tracks.new("faults")
    yield parent
    free: list[tuple[Track, float]] = []
    for fault in sorted(folder.faults, key=lambda fault: fault.start_ns):
        ended = folder.end_ns if fault.end_ns is None else fault.end_ns
        if not fault.applied:
            ended = fault.start_ns
        ended = max(ended, fault.start_ns + _UNNAMED_NS)
        row = next((n for n, (_, end) in enumerate(free) if end <= fault.start_ns), -1)
        if row < 0:
            row = len(free)
            free.append((tracks.new(f"fault row {row + 1}", parent.uuid), 0.0))
            yield free[row][0]
        track = free[row][0]
        free[row] = (track, ended)
        arguments = [
            ("kind", visible(fault.kind)),
            ("nodes", visible(", ".join(fault.nodes)) or "all"),
            ("effect", visible(fault.effect)),
            ("evidence", figures.value(dict(fault.evidence), VALUE_CHARS_MAX)),
        ]
        name = figures.clip(visible(fault.title), 200)
        yield from _slice(track.uuid, fault.start_ns, ended, name, arguments)


def _notes(folder: Recording, tracks: _Tracks) -> Iterator[Track | Event]:
    parent = tracks.new("nodes")
    yield parent
    rows = {node: tracks.new(node, parent.uuid) for node in folder.nodes}
    yield from rows.values()
    for note in folder.notes:
        for node in note.nodes:
            if node in rows:
                name = figures.clip(visible(note.title), 200)
                yield Event(rows[node].uuid, "INSTANT", note.time_ns, name)


def _clocks(folder: Recording, tracks: _Tracks) -> Iterator[Track | Event]:
    rows: dict[tuple[str, str], Track] = {}
    for clock in folder.clocks:
        for name, offset_ms in (
            ("wall clock", clock.wall_offset_ms),
            ("monotonic clock", clock.mono_offset_ms),
        ):
            if offset_ms is None:
                continue
            if (clock.node, name) not in rows:
                title = f"{clock.node}: offset of the {name}"
                rows[clock.node, name] = tracks.new(title, unit="ms")
                yield rows[clock.node, name]
            track = rows[clock.node, name].uuid
            yield Event(track, "COUNTER", clock.time, value=offset_ms)

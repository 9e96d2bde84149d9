"""The messages between the nodes of a simulated run, by making it once more.

No record holds them, as they would be most of it. But a simulated run repeats to the
byte, so whoever asks for its messages has it made again, and listens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from harness.host.scratch import scratch_folder
from harness.run import assembling, execution
from harness.run.store import RunFolder

if TYPE_CHECKING:
    from harness.campaign.experiment import Experiment

Note = Callable[[int, str, str, dict[str, object]], None]
"""Called with true monotonic time, sender, receiver and body of a message."""


class Message(NamedTuple):
    """A message that arrived, in seconds of the run's time."""

    at_s: float
    sender: str
    receiver: str
    type: str


def listen(experiment: Experiment, note: Note) -> None:
    """Make a run in this process, and hear of each message as it arrives.

    Cost: that of a simulated run, without the judgement.

    Raises:
        UsageError: The run is impossible.
        KeyboardInterrupt: It was interrupted.
    """

    def tap(mono_ns: int, sender: str, receiver: str, data: bytes) -> None:
        body = msgspec.json.decode(data, type=dict[str, object])
        note(mono_ns, sender, receiver, body)

    spec = msgspec.structs.replace(experiment.spec)
    assert spec.world == "sim"
    with scratch_folder("splitbrain-traffic-") as scratch:
        parts, schedule, rung = assembling.prepare(spec, experiment.plan)
        folder = RunFolder(scratch)
        if execution.carry_out(spec, parts, schedule, folder, rung, tap=tap):
            raise KeyboardInterrupt


def messages(experiment: Experiment, start_mono_ns: int) -> list[Message]:
    """All messages of a run that name their type, in their order.

    Args:
        experiment: The run.
        start_mono_ns: Where true monotonic time stands when the run's time begins.

    Raises:
        UsageError: The run is impossible.
        KeyboardInterrupt: It was interrupted.
    """
    out: list[Message] = []

    def note(mono_ns: int, sender: str, receiver: str, body: dict[str, object]) -> None:
        kind = body.get("type")
        if isinstance(kind, str) and mono_ns >= start_mono_ns:
            at_s = (mono_ns - start_mono_ns) / 1e9
            out.append(Message(at_s, sender, receiver, kind))

    listen(experiment, note)
    return out

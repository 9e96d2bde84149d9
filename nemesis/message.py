"""Messages of one type are delayed, lost, or break their connection.

A pattern names the type: a regular expression over the bytes that pass, which a system
may know (`Worded`) or a user give. Bugs of protocols lie in what happens when one
message of many is missing or late; a fault of all traffic hits such a message by luck.

What happens to a message that the pattern names is one of these:

    loss      it is lost with this chance. Over TCP its frame is sent again, and lost as
              likely, so until it passes or the fault is healed nothing that follows on
              the connection arrives
    delay_ms  it is late by so much
    reset     with this chance its connection is reset in its place: over TCP, this is
              how a message is lost while later ones arrive
    cut       with this chance it is the last to pass: its link is cut behind it, both
              ways, until the heal. So one node knows what the other can't hear of

On the wire a message is known by the frame that holds the bytes of the pattern, whole.
Messages of a few hundred bytes hardly ever lie in two frames, long ones may.

Evidence: the number of frames, or messages in the simulator, to which it happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.drawing import log_uniform
from harness.faults.fault import Fault, Strike, require_number
from harness.faults.targets import (
    aimed,
    resolve_target,
    who,
)
from harness.options import Checked, Number, Words
from harness.override import override
from harness.registry import Option, Plugin
from harness.worlds.capabilities import Capabilities
from harness.worlds.network import LinkRule, MessageRule, compiled
from nemesis.links import (
    DIRECTION_OPTION,
    TARGETS_OPTION,
    Linked,
    links_of,
    told_direction,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory

AMOUNTS: Mapping[str, Number] = {
    "loss": Number(0.001, 1.0),
    "delay_ms": Number(0.001, 60_000.0),
    "reset": Number(0.001, 1.0),
    "cut": Number(0.001, 1.0),
}
ACTS = tuple(AMOUNTS)
TOLD: Mapping[str, str] = {
    "loss": "lost, {:.0%} of them",
    "delay_ms": "late by {:g} ms",
    "reset": "reset, {:.0%} of them",
    "cut": "the last to pass, {:.0%} of them",
}
"""Act -> what happens to the messages, for titles."""
DRAWN: Mapping[str, tuple[float, float]] = {
    "loss": (0.3, 1.0),
    "delay_ms": (5.0, 1000.0),
    "reset": (0.1, 1.0),
    "cut": (0.1, 1.0),
}
"""Act -> least and largest amount that is drawn. All orders of magnitude between them
are equally likely."""


def patterns(text: str) -> tuple[str, ...]:
    """The patterns in `text`; ValueError if one is no regular expression."""
    words = tuple(text.split())
    for word in words:
        try:
            compiled(word)
        except UsageError as problem:
            raise ValueError(str(problem)) from problem
    return words


OPTIONS = (
    TARGETS_OPTION,
    Option(
        "patterns",
        "",
        "types of message to draw from, with spaces between them; if empty, those "
        "that the system names",
        Checked("regular expressions over bytes, with spaces between them", patterns),
    ),
    Option("acts", "+".join(ACTS), "what to draw from", Words(ACTS)),
    DIRECTION_OPTION,
)


class Message(Linked):
    """Treats messages of one type.

    Attributes:
        patterns: What to draw from.
    """

    kind = "message"
    params = ("pattern", *ACTS)
    needs = Capabilities(network=frozenset({"messages"}))
    background = True  # one message of many breaks little: it has to last

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(self.kind, OPTIONS, options)
        self.patterns: tuple[str, ...] = self.given["patterns"]
        self.acts: tuple[str, ...] = self.given["acts"]

    @override
    def draw_params(self, random: Random) -> dict[str, Json]:
        """A random type of message, act and amount.

        Raises:
            UsageError: No types are known.
        """
        if not self.patterns:
            raise UsageError(
                "--nemesis message: the system doesn't say how its messages look on "
                "the wire; name some with --set message.patterns='PATTERN ...'"
            )
        pattern = random.choice(self.patterns)
        act = random.choice(self.acts)
        low, high = DRAWN[act]
        amount = round(log_uniform(random, low, high), 3)
        return {"pattern": pattern, act: amount}

    @override
    def validate_params(self, fault: Fault) -> None:
        """Require a pattern, and one act with its amount."""
        acts = [act for act in ACTS if act in fault.params]
        if len(acts) != 1:
            raise UsageError(f"plan: message: give one of {', '.join(ACTS)}")
        require_number(fault, acts[0], AMOUNTS[acts[0]])
        if "pattern" not in fault.params:
            raise UsageError(
                "plan: message: give the pattern of the messages, a regular expression "
                'over bytes such as \'"type":"vote"\''
            )
        pattern = fault.params["pattern"]
        if not isinstance(pattern, str):
            raise UsageError(f"plan: message: pattern {pattern!r:.60} is no text")
        try:
            compiled(pattern)
        except UsageError as problem:
            raise UsageError(f"plan: message: pattern: {problem}") from problem

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Put the rule on the target's links; evidence comes with healing."""
        nodes, why = await resolve_target(fault.target, cluster)
        links = links_of(nodes, cluster.nodes, fault)
        pattern = fault.text("pattern")
        amounts = {act: fault.number(act) for act in ACTS if act in fault.params}
        rule = LinkRule(messages=(MessageRule(pattern, **amounts),))
        await cluster.shape_links(dict.fromkeys(links, rule))
        told = ", ".join(TOLD[act].format(amount) for act, amount in amounts.items())
        evidence: dict[str, Json] = {"links": len(links), **aimed(why)}
        return Strike(
            fault,
            f"messages {pattern!r}: {told}: links of {who(nodes, why)}"
            f"{told_direction(fault)}",
            nodes,
            evidence,
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Take the rule away and count what it did."""
        counters = await cluster.mend_links()
        evidence: dict[str, Json] = {"messages_hit": counters.matched}
        if "reset" in strike.fault.params:
            evidence["connections_reset"] = counters.resets
        if "cut" in strike.fault.params:
            evidence["frames_dropped"] = counters.cut
        bit = counters.matched > 0
        acts = {act: bit for act in ACTS if act in strike.fault.params}
        return strike.proven(evidence, bit=bit, knobs=acts)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "message",
    "delay or lose messages of one type, reset their connections, or cut links behind "
    "them",
    Message,
    OPTIONS,
)

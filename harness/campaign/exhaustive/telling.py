"""The way to a broken promise, in words and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from harness.campaign.exhaustive.lives import CRASH, DELIVER, FIRE
from harness.history.observations import RESTARTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.campaign.exhaustive.search import Found
    from harness.campaign.exhaustive.space import Move, Space

FIELDS_MAX = 4
CHARS_MAX = 24
"""What is shown of a message or an observation: fields that are short, and not many."""

_decode = msgspec.json.Decoder().decode


class Step(NamedTuple):
    """A move in words.

    Attributes:
        node: Where it happened.
        what: What happened.
        then: What the node did about it.
    """

    node: str
    what: str
    then: tuple[str, ...]

    @property
    def text(self) -> str:
        """The step in a line."""
        return f"{self.what}: {'; '.join(self.then)}" if self.then else self.what


def steps(space: Space, found: Found) -> list[Step]:
    """The way to the breach that was found; none if none was."""
    at = list(space.first()[: len(space.nodes)])
    out = []
    for move in found.way:
        out.append(step(space, at[move.node], move))
        at[move.node] = move.outcome.life
    return out


def step(space: Space, life: int, move: Move) -> Step:
    """A move that a node makes from a life of it."""
    node = space.nodes[move.node]
    then = []
    lives = space.lives
    before = len(lives.history(life))
    for number in lives.history(move.outcome.life)[before:]:
        kind, fields = lives.observations[number]
        if kind != RESTARTED:
            then.append(brief(kind, _decode(fields)))
    sent: dict[str, list[str]] = {}
    for number in move.outcome.sent:
        message = lives.messages[number]
        body = _decode(message.body)
        told = brief(str(body.pop("type", "a message")), body)
        sent.setdefault(told, []).append(space.nodes[message.dest])
    then += [f"sends {told} to {' and '.join(to)}" for told, to in sent.items()]
    for op, answer in move.outcome.replies:
        body = _decode(lives.answers[answer])
        then.append(f"answers c{op}: {brief(str(body.pop('type', '')), body)}")
    if fault := lives.lives[move.outcome.life].fault:
        then.append(f"ends by itself: {fault}")
    return Step(node, happened(space, node, move), tuple(then))


def happened(space: Space, node: str, move: Move) -> str:
    """What a move is."""
    kind, what = move.event
    crashed = ""
    if move.outcome.torn >= 0:
        kept = move.outcome.torn
        lost = f"after {kept} of its records" if kept else "before that is on its disk"
        crashed = f", crashes {lost}, and restarts"
    if kind == CRASH:
        return f"{node} crashes and restarts"
    if kind == FIRE:
        return f"{node}'s timer runs out, {what!r}{crashed}"
    if kind == DELIVER:
        message = space.lives.messages[int(what)]
        body = _decode(message.body)
        told = brief(str(body.pop("type", "a message")), body)
        again = " (a copy; it stays on its way)" if move.copied else ""
        return f"{node} hears from {space.nodes[message.src]}: {told}{again}{crashed}"
    op = space.script.ops[int(what)]
    key = "" if op.key is None else f" of key {op.key}"
    value = "" if op.value is None else f" {msgspec.json.encode(op.value).decode()}"
    return f"client c{what} asks {node} to {op.f}{value}{key}{crashed}"


def brief(kind: str, fields: Mapping[str, object]) -> str:
    """A message or an observation, as far as it fits into a line."""
    told: list[str] = []
    for name, value in fields.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if 0 < len(text) <= CHARS_MAX and len(told) < FIELDS_MAX:
            told.append(f"{name}={text}")
    return " ".join([kind, *told])

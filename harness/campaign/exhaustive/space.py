"""States of a whole cluster, and the moves that lead from one to others.

A state is a tuple of numbers: the life of each node, what clients know, how often the
bounded kinds of move were made, and the messages on their way, sorted. Equal states are
equal tuples, so a set of tuples merges them.

Lost messages need no moves: a message that is never delivered is lost. Delays and
reordering need none either, as any message on its way may be the next. A message that
changes nothing where it is delivered is as good as lost, so that is no move either.

Nodes that are interchangeable are merged by order: a node may be the first to which
something happens only if everything before it in the list of nodes has been touched.
Whatever the cluster does, its nodes can be renamed so that they are touched in this
order, and then the same happens under other names. So nothing is missed, if the
protocol treats all names alike; which ones do, systems say (`Explorable`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from harness.campaign.exhaustive.lives import (
    CRASH,
    DELIVER,
    FIRE,
    INVOKE,
    Lives,
    Numbered,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.campaign.exhaustive.lives import Happening, Outcome
    from harness.campaign.exhaustive.scripts import Script
    from harness.systems.abilities import Simulated

State: TypeAlias = tuple[int, ...]

ASKED, ANSWERED = "asked", "answered"

CALLS, CRASHES, COPIES, TIMEOUTS, MESSAGES = range(5)
"""Places in a state, behind the lives; from MESSAGES on there are messages."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may happen on a way through the space.

    Attributes:
        crashes: Nodes that crash and come back.
        copies: Messages that are delivered and stay on their way.
        timeouts: Timers that fire; None for any number.
    """

    crashes: int = 1
    copies: int = 0
    timeouts: int | None = None


class Call(NamedTuple):
    """Something that a client did or learned; `what` is a node or an answer."""

    kind: str
    op: int
    what: int


class Move(NamedTuple):
    """A step of the cluster: an event at a node, and which of its outcomes it had.

    Attributes:
        copied: The message that was delivered stays on its way.
    """

    node: int
    event: Happening
    outcome: Outcome
    copied: bool


class Space:
    """All that a cluster can do.

    Args:
        system: Whose cores its nodes run.
        nodes: Their names.
        script: What clients ask for.
        bounds: How much may happen.
        interchangeable: Whether the protocol treats all names alike.
    """

    def __init__(
        self,
        system: Simulated,
        nodes: tuple[str, ...],
        script: Script,
        bounds: Bounds,
        *,
        interchangeable: bool,
    ) -> None:
        self.lives = Lives(system, nodes, script.requests, tell_touched=interchangeable)
        self.nodes = nodes
        self.script = script
        self.bounds = bounds
        self.calls: Numbered[tuple[Call, ...]] = Numbered()
        self._in_order = interchangeable
        self._size = len(nodes)

    def first(self) -> State:
        """The state in which all nodes have just started."""
        begun = [self.lives.first(node) for node in range(self._size)]
        sent = sorted(message for each in begun for message in each.sent)
        nothing = self.calls.number(())
        return (*(each.life for each in begun), nothing, 0, 0, 0, *sent)

    def moves(self, state: State) -> Iterator[tuple[Move, State]]:
        """All moves from a state, and where they lead; in an order that is fixed.

        A node that has ended by itself does nothing any more.
        """
        size, lives, bounds = self._size, self.lives, self.bounds
        mine, rest = state[:size], state[size:]
        free = [not lives.lives[life].fault for life in mine]
        if self._in_order:
            untouched = [not lives.lives[life].touched for life in mine]
            if True in untouched:
                first = untouched.index(True)
                for node in range(first + 1, size):
                    free[node] = free[node] and not untouched[node]
        messages = rest[MESSAGES:]
        before = -1
        for at, number in enumerate(messages):
            node = lives.messages.things[number].dest
            if number == before or not free[node]:
                continue
            before = number
            event: Happening = (DELIVER, number)
            others = messages[:at] + messages[at + 1 :]
            yield from self._outcomes(state, node, event, others, TIMEOUTS, 0)
            if rest[COPIES] < bounds.copies:
                yield from self._outcomes(state, node, event, messages, COPIES, 1)
        asked = self._asked(rest[CALLS])
        for node in range(size):
            if not free[node]:
                continue
            if asked < len(self.script.ops):
                event = (INVOKE, asked)
                yield from self._outcomes(state, node, event, messages, TIMEOUTS, 0)
            if bounds.timeouts is None or rest[TIMEOUTS] < bounds.timeouts:
                count = int(bounds.timeouts is not None)
                for name in lives.due[mine[node]]:
                    yield from self._outcomes(
                        state, node, (FIRE, name), messages, TIMEOUTS, count
                    )
            if rest[CRASHES] < bounds.crashes:
                event = (CRASH, "")
                yield from self._outcomes(state, node, event, messages, CRASHES, 1)

    def _outcomes(
        self,
        state: State,
        node: int,
        event: Happening,
        left: tuple[int, ...],
        counter: int,
        by: int,
    ) -> Iterator[tuple[Move, State]]:
        """Each outcome of an event, if a crash in it is still allowed."""
        size = self._size
        may_crash = state[size + CRASHES] < self.bounds.crashes
        for outcome in self.lives.after(state[node], event):
            if outcome.life == state[node] and not (outcome.sent or outcome.replies):
                continue
            torn = outcome.torn >= 0
            if torn and not may_crash:
                break
            known = list(state[: size + MESSAGES])
            known[node] = outcome.life
            known[size + counter] += by
            known[size + CRASHES] += torn
            if outcome.replies or event[0] == INVOKE:
                known[size + CALLS] = self._called(
                    state[size + CALLS], node, event, outcome
                )
            flying = left
            if outcome.sent:
                flying = tuple(sorted(left + outcome.sent))
            yield Move(node, event, outcome, counter == COPIES), (*known, *flying)

    def _asked(self, calls: int) -> int:
        """How many operations clients have asked for."""
        return sum(call.kind == ASKED for call in self.calls[calls])

    def _called(self, calls: int, node: int, event: Happening, outcome: Outcome) -> int:
        """What clients know after a move.

        The order of answers to each other tells nothing, nor that of requests: what
        matters is which answer came before which request. So neighbours of a kind are
        sorted.
        """
        known = list(self.calls[calls])
        if event[0] == INVOKE:
            known.append(Call(ASKED, int(event[1]), node))
        done = {call.op for call in known if call.kind == ANSWERED}
        for op, answer in outcome.replies:
            if op not in done:
                done.add(op)
                known.append(Call(ANSWERED, op, answer))
        return self.calls.number(tuple(settled(known)))


def settled(calls: list[Call]) -> list[Call]:
    """The same calls, with each run of one kind sorted."""
    out: list[Call] = []
    run: list[Call] = []
    for call in calls:
        if run and run[0].kind != call.kind:
            out += sorted(run)
            run = []
        run.append(call)
    return out + sorted(run)

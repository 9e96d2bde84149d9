"""The checkers that judge runs, asked about states of the explored cluster.

The observations of all nodes, one node after the other, are the history that invariant
checkers judge after a run, too. What clients were told is judged by the workload's
checkers. Both are judged once for all states that share them.

Each state is the beginning of something longer. So what a checker concludes from the
absence of an operation is left out (`verdict.of_prefix`), and a checker that can't tell
yet, as nothing or not enough has happened, has nothing against a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from harness import registry, verdict
from harness.campaign.exhaustive.space import ANSWERED, CALLS
from harness.errors import NodeReply
from harness.history import History, Op
from harness.history.observations import event
from harness.systems.wire import reply_error
from harness.verdict import Limits, Unpromised, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.campaign.exhaustive.space import Call, Space, State
    from harness.verdict import Anomaly, Checker

NODE_EXIT = "node-crash"
"""The name of a core's own failure, as in runs (`checkers.crashes`)."""

LIMITS = Limits(time_s=30.0)

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Breach:
    """A broken promise.

    Attributes:
        checker: Who says so; "crashes" if a core failed.
        anomaly: Its name.
        explanation: The checker's sentences.
    """

    checker: str
    anomaly: str
    explanation: str


class Judge:
    """Judges the states of a space.

    Args:
        space: Whose states they are.
        invariants: Names of checkers of what nodes observe.

    Attributes:
        judged: How many different histories were judged.
        spoke: Checkers that found something to judge in any of them.
    """

    def __init__(self, space: Space, invariants: Sequence[str]) -> None:
        self.judged = 0
        self.spoke: set[str] = set()
        self._space = space
        self._size = len(space.nodes)
        self._invariants: Mapping[str, Checker] = {
            name: registry.find("checker", name).factory({})
            for name in invariants
            if name
            != "crashes"  # it reads a run's notes; cores that fail are seen here
        }
        self._promised: Mapping[str, Checker] = {
            name: checker
            for name, checker in space.script.workload.checkers().items()
            if not isinstance(checker, Unpromised)
        }
        self._by_lives: dict[tuple[int, ...], Breach | None] = {}
        self._by_calls: dict[int, Breach | None] = {}

    def breach(self, state: State) -> Breach | None:
        """The first promise that a state breaks; None if it breaks none."""
        lives = self._space.lives
        observed = tuple([lives.observed[life] for life in state[: self._size]])
        if observed not in self._by_lives:
            self._by_lives[observed] = self._of_observations(state)
        calls = state[self._size + CALLS]
        if calls not in self._by_calls:
            self._by_calls[calls] = self._of_calls(self._space.calls[calls])
        return (
            self._by_lives[observed] or self._by_calls[calls] or self._of_cores(state)
        )

    def _of_cores(self, state: State) -> Breach | None:
        for node, life in enumerate(state[: self._size]):
            fault = self._space.lives.lives[life].fault
            if fault:
                name = self._space.nodes[node]
                return Breach("crashes", NODE_EXIT, f"{name} ended by itself: {fault}")
        return None

    def _of_observations(self, state: State) -> Breach | None:
        ops: list[Op] = []
        for node, life in enumerate(state[: self._size]):
            name = self._space.nodes[node]
            for number in self._space.lives.history(life):
                kind, fields = self._space.lives.observations[number]
                ops.append(event(len(ops), 0, name, kind, _decode(fields)))
        return self._judged(self._invariants, ops)

    def _of_calls(self, calls: Sequence[Call]) -> Breach | None:
        if not any(call.kind == ANSWERED for call in calls):
            return None
        return self._judged(self._promised, self.history(calls))

    def history(self, calls: Sequence[Call]) -> list[Op]:
        """The calls as the operations of a run."""
        nodes: dict[int, str] = {}
        ops: list[Op] = []
        for call in calls:
            invoked = self._space.script.ops[call.op]
            if call.kind == ANSWERED:
                answer = _decode(self._space.lives.answers[call.what])
                op = self.completion(invoked, answer)
            else:
                op = invoked
                nodes[call.op] = self._space.nodes[call.what]
            at = len(ops)
            changed = msgspec.structs.replace(
                op, index=at, time=at, node=nodes[call.op]
            )
            ops.append(changed)
        return ops

    def completion(self, op: Op, body: dict[str, object]) -> Op:
        """What an answer makes of an operation, as `WireClient` has it."""
        workload = self._space.script.workload
        try:
            if body.get("type") != "error":
                return workload.codec.completion(op, body)
            error = reply_error(body)
            answer = workload.codec.on_error(op, error)
            if answer is not None:
                return answer
        except NodeReply as nonsense:
            error = nonsense
        if error.definite or op.f in workload.idempotent:
            return op.fail(error.text)
        return op.info(error.text)

    def _judged(self, checkers: Mapping[str, Checker], ops: list[Op]) -> Breach | None:
        self.judged += 1
        history = History(ops, source="the explored history")
        for name, checker in checkers.items():
            result = checker.check(history, LIMITS)
            if not result.vacuous:
                self.spoke.add(name)
            if result.verdict is Verdict.INVALID:
                result = verdict.of_prefix(checker, result)
            if result.verdict is Verdict.INVALID:
                first: Anomaly = result.anomalies[0]
                return Breach(name, first.name, first.explanation)
        return None

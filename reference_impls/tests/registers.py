"""Clients of a few registers, for worlds whose protocol serves `kv`.

Clients may send a request again, to another node, until they know its outcome. What
they saw must be linearizable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from reference_impls.actor import INDEFINITE, TEMPORARILY_UNAVAILABLE, Body, Received
from reference_impls.tests.simulation import MS, Plan, Promises, Simulation, Violation

UNSETTLED = INDEFINITE | {TEMPORARILY_UNAVAILABLE}
NEVER = 1 << 62
STATES_MAX = 20_000


@dataclass
class RegisterPlan(Plan):
    """A `Plan` that says how clients repeat requests."""

    attempts: int = 1  # how often a client sends a request, at most
    attempt_ms: int = 1500  # how long it waits for the answer
    settles: bool = False  # the nodes must recover once the faults are over


R = TypeVar("R", bound=RegisterPlan)


@dataclass
class Call:
    """A client's operation; `returned` is NEVER when nobody knows."""

    client: int
    f: str
    key: int
    argument: Any
    invoked: int
    returned: int = NEVER
    outcome: str = "info"
    value: Any = None

    def __str__(self) -> str:
        end = "?" if self.returned == NEVER else self.returned // 1000
        return (
            f"c{self.client} {self.f} {self.key} {self.argument!r} -> {self.outcome} "
            f"{self.value!r} [{self.invoked // 1000}, {end}] us"
        )


class RegisterWorld(Simulation[R]):
    """A world whose clients read, write and cas registers."""

    def __init__(self, seed: int, plan: R, promises: Promises) -> None:
        super().__init__(seed, plan, promises)
        self.calls: list[Call] = []
        self.values = 0

    def check(self) -> None:
        super().check()
        check_linearizable(self.calls)
        if self.plan.settles:
            self.check_settled()

    def check_settled(self) -> None:
        """Some call that began after the last fault was answered ok."""
        calm = self.last_fault()
        if not any(c.outcome == "ok" and c.invoked > calm for c in self.calls):
            raise Violation("liveness: nobody is served long after the last fault")

    def invoke(self, client: int) -> None:
        """A client does one operation at a time."""
        call = self.choose_call(client)
        self.calls.append(call)
        body = request_body(call)
        if self.plan.attempts > 1:
            body["retry"] = {"client": f"c{client}", "seq": self.values}
        self.attempt(call, body, 1)

    def attempt(self, call: Call, body: dict[str, Any], count: int) -> None:
        """Send a copy of the request to any node that is up."""
        up = [node for node in self.nodes.values() if node.alive]
        if not up:
            self.at(self.now + 20 * MS, partial(self.attempt, call, body, count))
            return
        node = self.random.choice(up)
        answered = [False]

        def done(reply: Body | None) -> None:
            if answered[0]:
                return
            answered[0] = True
            pause = self.random.randint(0, 30 * MS)
            unsettled = reply is None or reply.get("code") in UNSETTLED
            if unsettled and count < self.plan.attempts:
                again = partial(self.attempt, call, body, count + 1)
                self.at(self.now + pause, again)
                return
            # A refusal speaks of one copy only.
            if reply is not None and not (unsettled and count > 1):
                complete(call, reply, self.now)
            self.at(self.now + pause, partial(self.invoke, call.client))

        request = Received(f"c{call.client}", body, node.now(), done)
        self.at(self.now + self.plan.attempt_ms * MS, partial(done, None))
        node.step(request)

    def choose_call(self, client: int) -> Call:
        """Written values are unique; a cas starts from one of the last few."""
        self.values += 1
        key = self.random.randint(0, 1)
        f = self.random.choice(("read", "read", "write", "cas"))
        argument: Any = None
        if f == "write":
            argument = self.values
        elif f == "cas":
            argument = (max(1, self.values - self.random.randint(1, 6)), self.values)
        return Call(client, f, key, argument, self.now)


def request_body(call: Call) -> dict[str, Any]:
    """The request that the client sends."""
    body: dict[str, Any] = {"type": call.f, "key": call.key}
    if call.f == "write":
        body["value"] = call.argument
    elif call.f == "cas":
        body["from"], body["to"] = call.argument
    return body


def complete(call: Call, body: Body, now: int) -> None:
    """Note a call's outcome, as the client learns it from the answer."""
    code = body.get("code")
    if code is None:
        call.outcome, call.value = "ok", body.get("value")
    elif code == 20 and call.f == "read":
        call.outcome = "ok"
    elif code in INDEFINITE:
        return
    elif code in {20, 22}:
        call.outcome = "mismatch"
    else:
        call.outcome = "fail"
    call.returned = now


# --- linearizability -----------------------------------------------------------------


def check_linearizable(calls: list[Call]) -> None:
    """Raise Violation unless each key's calls have a legal order (Wing and Gong 1993).

    Cost: exponential in concurrency, which is a handful here. A key is taken for legal
    if its many calls without an answer lead to more than STATES_MAX states.
    """
    for key in sorted({call.key for call in calls}):
        relevant = [c for c in calls if c.key == key and matters(c)]
        if not has_legal_order(sorted(relevant, key=lambda c: c.invoked)):
            story = "\n".join(str(c) for c in relevant)
            raise Violation(f"linearizability: key {key} has no legal order:\n{story}")


def matters(call: Call) -> bool:
    """False for failed calls, and for reads without an answer."""
    return call.outcome != "fail" and not (call.f == "read" and call.outcome == "info")


def has_legal_order(calls: list[Call]) -> bool:
    """Depth-first search over (which calls are done, value), each state once."""
    returns = [c.returned for c in calls]
    required = {i for i, c in enumerate(calls) if c.returned != NEVER}
    seen: set[tuple[frozenset[int], Any]] = set()
    stack: list[tuple[int, frozenset[int], Any]] = [(0, frozenset(), None)]
    # All calls before `low` are done, and those in `done`.
    while stack:
        low, done, value = stack.pop()
        while low in done:
            done -= {low}
            low += 1
        if not any(i >= low and i not in done for i in required):
            return True
        state = (done | {-low - 1}, value)
        if state in seen:
            continue
        if len(seen) > STATES_MAX:
            return True
        seen.add(state)
        first_return = min(
            (returns[i] for i in range(low, len(calls)) if i not in done),
            default=NEVER,
        )
        for i in range(low, len(calls)):
            if calls[i].invoked > first_return:
                break
            if i not in done:
                legal, after = apply(calls[i], value)
                if legal:
                    stack.append((low, done | {i}, after))
    return False


def apply(call: Call, value: Any) -> tuple[bool, Any]:
    """Whether the call's outcome is possible if the register holds `value`.

    Returns:
        That, and the register's value after the call.
    """
    if call.f == "read":
        return call.value == value, value
    if call.f == "write":
        return True, call.argument
    old, new = call.argument
    matches = value is not None and value == old
    if call.outcome == "mismatch":
        return not matches, value
    return matches, new

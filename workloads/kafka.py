"""Messages are sent to logs, and polled by the clients that the logs are assigned to.

Maelstrom's `kafka`: a log has a key, a message has an offset in its log. A client is
assigned some keys, polls each from where it stopped, and reports now and then how far
it has come (`commit`). The next client that is assigned the key begins there. At the
end every thread is assigned all keys and polls until it has seen all messages that were
acknowledged.

With `txn`, messages are sent in transactions, which poll, too, and of which every
fourth is aborted in the end: none of its messages may be polled.

Operations have the form of Jepsen's kafka tests (`checkers.logs.steps`), in which a
poll doesn't say where it begins. The client knows that, and here the codec keeps it for
each client. A client that crashed, or is assigned a new key, begins at the offset
that was committed.

Promise: every acknowledged message is polled by everybody, once and in order, and none
of an aborted transaction (`kafka`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.options import Flag, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import (
    DONE,
    PENDING,
    Flow,
    Generator,
    Invocation,
    from_function,
    place,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory
    from harness.workload.generator import Context, Event, Offer, Step, Thread

OPTIONS = (
    Option("keys", "5", "logs", Whole(1, 1000)),
    Option(
        "polls_in_vain_max",
        "20",
        "final polls of a thread that bring nothing new",
        Whole(1, 10_000),
    ),
    Option("txn", "false", "send in transactions, which poll, too", Flag()),
    Option(
        "micro_ops_max",
        "4",
        "sends and polls in a transaction, at most",
        Whole(1, 1000),
    ),
)

TXN_TIMEOUT_S = 6.0
"""How long clients wait for transactions, which wait for those before them."""
ABORTED = 0.25
"""The share of transactions that are aborted."""

Pairs = list[list[Any]]
"""[offset, message] each."""


class KafkaCodec(WireCodec):
    """Send, poll, commit and list offsets (WIRE.md); keeps each client's places.

    Attributes:
        acknowledged: Key -> the highest offset that a send was acknowledged with.
        places: Process -> key -> the offset that it polls next.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        self.places: dict[int | str, dict[str, int]] = {}

    @override
    def request(self, op: Op) -> dict[str, Any]:
        places = self.places.get(op.process, {})
        match op.f:
            case "send":
                _, key, message = op.value[0]
                return {"type": "send", "key": key, "msg": message}
            case "poll":
                return {"type": "poll", "offsets": dict(places)}
            case "txn":
                return {"type": "log_txn", "txn": op.value, "offsets": dict(places)}
            case "assign":
                return {"type": "list_committed_offsets", "keys": op.value}
            case _:
                polled = {key: place - 1 for key, place in places.items() if place}
                return {"type": "commit_offsets", "offsets": polled}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        wanted = {
            "assign": "list_committed_offsets",
            "commit": "commit_offsets",
            "txn": "log_txn",
        }
        if body.get("type") != f"{wanted.get(op.f, op.f)}_ok":
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        match op.f:
            case "send":
                _, key, message = op.value[0]
                offset = _offset(body.get("offset"))
                self._acknowledge(key, offset)
                return op.ok([["send", key, [offset, message]]])
            case "poll":
                polled = _polled(body.get("msgs"))
                self._advance(op, polled)
                return op.ok([["poll", polled]])
            case "txn":
                done = _done(op.value, body.get("txn"))
                if ["abort"] in done:
                    return op.fail("aborted")
                for kind, *result in done:
                    if kind == "send":
                        self._acknowledge(result[0], result[1][0])
                    else:
                        self._advance(op, result[0])
                return op.ok(done)
            case "assign":
                self._assign(op, body.get("offsets"))
                return op.ok(op.value)
            case _:
                return op.ok()

    def _acknowledge(self, key: str, offset: int) -> None:
        self.acknowledged[key] = max(self.acknowledged.get(key, -1), offset)

    def _advance(self, op: Op, polled: Mapping[str, Pairs]) -> None:
        places = self.places.setdefault(op.process, {})
        for key, pairs in polled.items():
            offsets = [offset + 1 for offset, _ in pairs]
            places[key] = max([places.get(key, 0), *offsets])

    def _assign(self, op: Op, offsets: Any) -> None:
        """Keep the places of keys that stay; begin others at what was committed.

        Not behind it: a node may tell of offset 0 where nothing was committed.
        """
        if not isinstance(offsets, dict):
            raise NodeReply(definite=False, text="told no committed offsets")
        committed = {key: _offset(offset) for key, offset in offsets.items()}
        before = self.places.get(op.process, {})
        self.places[op.process] = {
            key: before.get(key, committed.get(key, 0)) for key in op.value
        }

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None

    def progress(self, process: int | str) -> int:
        """How far a client has come in all its keys together."""
        return sum(self.places.get(process, {}).values())

    def has_caught_up(self, process: int | str, keys: Iterable[str]) -> bool:
        """Whether a client has polled past every acknowledged message of `keys`."""
        places = self.places.get(process, {})
        return all(
            key in places and places[key] > self.acknowledged.get(key, -1)
            for key in keys
        )


def _offset(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise NodeReply(definite=False, text=f"told an offset of {value!r:.60}")
    return value


def _polled(messages: Any) -> dict[str, Pairs]:
    """The messages that a poll brought: key -> [offset, message] pairs.

    Raises:
        NodeReply: Indefinite, if they have another shape.
    """
    if not isinstance(messages, dict):
        raise NodeReply(definite=False, text="answered a poll without messages")
    for key, pairs in messages.items():
        for pair in pairs if isinstance(pairs, list) else [pairs]:
            if not isinstance(pair, list) or len(pair) != 2:
                raise NodeReply(
                    definite=False, text=f"polled {pair!r:.60} of key {key!r:.60}"
                )
            _offset(pair[0])
    return messages


def _done(asked: list[list[Any]], told: Any) -> list[list[Any]]:
    """The parts of a transaction with what they brought.

    Raises:
        NodeReply: Indefinite, if they are not those that were asked for.
    """
    if not isinstance(told, list) or len(told) != len(asked):
        raise NodeReply(definite=False, text=f"did {told!r:.60} as a transaction")
    done: list[list[Any]] = []
    for wanted, part in zip(asked, told, strict=True):
        match wanted, part:
            case ["send", key, message], ["send", same, [offset, sent]] if (
                same == key and sent == message
            ):
                done.append(["send", key, [_offset(offset), message]])
            case ["poll"], ["poll", messages]:
                done.append(["poll", _polled(messages)])
            case ["abort"], ["abort"]:
                done.append(["abort"])
            case _:
                raise NodeReply(
                    definite=False, text=f"did {part!r:.60} for {wanted!r:.60}"
                )
    return done


class _CatchUp(Flow):
    """Every thread is assigned all keys and polls until it has caught up."""

    __slots__ = ("_assigned", "_codec", "_keys", "_left", "_reached", "_vain")

    def __init__(
        self, codec: KafkaCodec, keys: list[str], concurrency: int, polls_in_vain: int
    ) -> None:
        self._codec = codec
        self._keys = keys
        # Thread -> polls in vain that it has left. A thread that is done has no entry.
        self._left = dict.fromkeys(range(concurrency), polls_in_vain)
        self._vain = polls_in_vain
        self._assigned: dict[Thread, int | str] = {}
        self._reached: dict[int | str, int] = {}

    @override
    def next(self, ctx: Context) -> Step:
        if not self._left:
            return DONE
        for thread in ctx.members(ctx.free & ctx.clients):
            if thread in self._left:
                assert isinstance(thread, int)
                process = ctx.board.processes[thread]
                if self._assigned.get(thread) == process:
                    return place(Invocation("poll", [["poll"]], None, thread), ctx)
                return place(Invocation("assign", self._keys, None, thread), ctx)
        return PENDING

    @override
    def take(self, offer: Offer) -> None:
        """Changes nothing: only the answer says what comes next."""

    @override
    def update(self, ctx: Context, event: Event) -> None:
        op, thread = event.op, event.thread
        if not isinstance(thread, int) or thread not in self._left:
            return
        if op.f == "assign" and op.type == "ok":
            self._assigned[thread] = op.process
        reached = self._codec.progress(op.process)
        is_fruitful = reached > self._reached.get(op.process, 0)
        self._reached[op.process] = reached
        self._left[thread] = self._vain if is_fruitful else self._left[thread] - 1
        is_through = op.f == "poll" and self._codec.has_caught_up(
            op.process, self._keys
        )
        if is_through or not self._left[thread]:
            del self._left[thread]


class Kafka(Workload):
    """The workload that this module describes."""

    name = "kafka"
    requires: frozenset[str] = frozenset({"log"})
    idempotent: frozenset[str] = frozenset({"poll", "assign", "commit"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.keys = [str(i) for i in range(given["keys"])]
        self.polls_in_vain: int = given["polls_in_vain_max"]
        self.micro_ops_max: int = given["micro_ops_max"] if given["txn"] else 0
        self.op_timeout_s = TXN_TIMEOUT_S if given["txn"] else 0.0
        if given["txn"]:
            self.requires = frozenset({"log", "log-txn"})
        self._codec = KafkaCodec()
        self.codec: WireCodec = self._codec
        self._sent = 0

    @override
    def generator(self, concurrency: int) -> Generator:
        """Sends (or transactions) and polls; now and then a commit, or other keys."""
        self._sent = 0

        def draw(random: Random) -> Invocation:
            chance = random.random()
            if chance < 0.06:
                count = random.randint(1, len(self.keys))
                return Invocation("assign", sorted(random.sample(self.keys, count)))
            if chance < 0.10:
                return Invocation("commit")
            if chance < (0.30 if self.micro_ops_max else 0.55):
                return Invocation("poll", [["poll"]])
            if self.micro_ops_max:
                return Invocation("txn", self._txn(random))
            return Invocation("send", [self._send(random)])

        return from_function(draw)

    def _send(self, random: Random) -> list[Any]:
        self._sent += 1
        return ["send", random.choice(self.keys), self._sent]

    def _txn(self, random: Random) -> list[list[Any]]:
        parts = [
            ["poll"] if random.random() < 0.3 else self._send(random)
            for _ in range(random.randint(1, self.micro_ops_max))
        ]
        return [*parts, ["abort"]] if random.random() < ABORTED else parts

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread polls all keys until it has seen all acknowledged messages."""
        return Generator(
            "catch up",
            lambda _: _CatchUp(self._codec, self.keys, concurrency, self.polls_in_vain),
        )

    @override
    def checkers(self) -> dict[str, Checker]:
        """`kafka`: no message lost, skipped, repeated or out of order."""
        return {"kafka": registry.find("checker", "kafka").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "kafka",
    "messages sent to logs and polled from them, once and in order",
    Kafka,
    OPTIONS,
)

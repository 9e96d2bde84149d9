"""The vocabulary of generators: descriptions, flows, steps and what a flow may see.

A `Generator` is to its `Flow` what an iterable is to its iterator. The generator is an
immutable description: it can be printed, reused and started any number of times. The
flow is one run through it, and holds all the state.

Choices. Jepsen's generators are persistent values: asking gives an operation *and* the
generator that remains, so that a combinator may ask several, take the soonest and
forget that it asked the others. Two things spoil that in Python and for us. Sources are
iterators and closures, which can't be un-asked. And what was asked in vain has drawn
from the random source, so that the operations of a run depend on how often the
interpreter happened to wake, and a seed no longer names them. Hence two phases: `next`
makes an *offer* and may be called any number of times, `take` says that the last offer
was accepted. What is offered (f, value, key, which branch of a mix, how long a
pause) is drawn once and kept until it is taken, from a random source that belongs to
this place in the tree alone. When and on which thread it would run is decided at each
asking. So the k-th operation of every source is a function of the seed, whatever the
timing, and a busy cluster can't bend the proportions of a mix.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.history import Op

NEMESIS: Final = "nemesis"
"""Name of the thread, and of the process, that breaks things."""

START: Final = "start-"
STOP: Final = "stop-"
HEAL: Final = "heal"
"""Names of the nemesis' operations: start-KIND, stop-KIND, and the end of all."""

Thread: TypeAlias = int | Literal["nemesis"]
"""A client thread, 0 to concurrency - 1, or the nemesis thread."""

NS_PER_S: Final = 1_000_000_000


class GeneratorError(HarnessError):
    """A generator that can't work: asks for threads that do not exist, never ends."""


class Invocation(msgspec.Struct, frozen=True, gc=False):
    """An operation to start: as written in a workload, and as offered by a flow.

    Attributes:
        f: What to do: "read", "write", ...
        value: Its argument.
        key: The independent key it is about, or None.
        thread: In a workload, the one thread that may run it, or None for any. In an
            offer, the thread that will run it, or None for an offer that was taken only
            to be thrown away (`filter_ops`).
        time_ns: Not before this time since the start of the run. Always known in an
            offer, where a time still to come asks the interpreter to wait.
    """

    f: str
    value: Any = None
    key: Any = None
    thread: Thread | None = None
    time_ns: int | None = None


class Log(msgspec.Struct, frozen=True, gc=False):
    """A message to show when its turn comes; occupies no thread, enters no history."""

    text: str
    time_ns: int | None = None


class Pending(msgspec.Struct, frozen=True, gc=False):
    """Nothing to do yet: ask again after any completion, or at `until_ns` if given."""

    until_ns: int | None = None


class Done(msgspec.Struct, frozen=True, gc=False):
    """Nothing to do, for ever. Operations taken earlier may still be under way."""


PENDING: Final = Pending()
DONE: Final = Done()

Offer: TypeAlias = Invocation | Log
Step: TypeAlias = Invocation | Log | Pending | Done


class Event(msgspec.Struct, frozen=True, gc=False):
    """Feedback: `thread` has completed an operation, as `op` tells."""

    thread: Thread
    op: Op


class Board:
    """What is the same for every flow of a run, kept up to date by the interpreter.

    Attributes:
        concurrency: Number of client threads. Thread t has bit t in sets of threads,
            the nemesis has bit `concurrency`.
        processes: `processes[t]`: the process that thread t embodies now.
        invoked: Client operations started so far.
        completed: Client operations completed so far.
        faults: Kinds of fault in force, from the operation `start-KIND` on.
        in_force: Tells of which kinds the nemesis has faults in force. One of several
            may have ended, so it is asked.
        fault_turns: How often a fault has struck or ended so far.
        rng: For choices that depend on timing anyway: threads, and ties.
    """

    __slots__ = (
        "completed",
        "concurrency",
        "fault_turns",
        "faults",
        "in_force",
        "invoked",
        "processes",
        "rng",
    )

    def __init__(self, concurrency: int, seed: int | str) -> None:
        self.concurrency = concurrency
        self.processes = list(range(concurrency))
        self.invoked = 0
        self.completed = 0
        self.faults: set[str] = set()
        self.in_force: Callable[[], Collection[str]] = tuple
        self.fault_turns = 0
        self.rng = random.Random(f"{seed}/threads")

    def bit(self, thread: Thread) -> int:
        """The bit of `thread` in sets of threads."""
        return 1 << (self.concurrency if thread == NEMESIS else thread)

    def nemesis_began(self, f: str) -> None:
        """The nemesis begins operation `f`: what it starts is in force from now on."""
        if f.startswith(START):
            self.faults.add(f.removeprefix(START))

    def nemesis_did(self, f: str) -> None:
        """The nemesis has completed `f`, which struck, or ended one fault or all."""
        if f == HEAL:
            self.faults.clear()
        elif f.removeprefix(STOP) not in self.in_force():
            self.faults.discard(f.removeprefix(STOP))
        self.fault_turns += 1

    def thread(self, bit: int) -> Thread:
        """The thread whose bit this is."""
        number = bit.bit_length() - 1
        return NEMESIS if number == self.concurrency else number


class Context:
    """What a flow sees when it is asked: the time, and its own part of the threads.

    Sets of threads are bit sets in an int, so that narrowing them costs nothing however
    many threads there are (`Board.bit`).

    Attributes:
        time_ns: Nanoseconds since the start of the run.
        free: The threads that could start an operation now.
        threads: All threads that this flow may ever use.
        board: What all flows share.
    """

    __slots__ = ("board", "free", "threads", "time_ns")

    def __init__(self, time_ns: int, free: int, threads: int, board: Board) -> None:
        self.time_ns = time_ns
        self.free = free
        self.threads = threads
        self.board = board

    def within(self, threads: int) -> Context:
        """This context as seen by a flow that may only use `threads`."""
        return Context(
            self.time_ns, self.free & threads, self.threads & threads, self.board
        )

    @property
    def clients(self) -> int:
        """The client threads among `threads`."""
        return self.threads & ((1 << self.board.concurrency) - 1)

    @property
    def idle(self) -> bool:
        """True when none of these threads is at work."""
        return self.free == self.threads

    def members(self, threads: int) -> list[Thread]:
        """The threads of a bit set, in order, the nemesis last."""
        return [
            self.board.thread(1 << i)
            for i in range(threads.bit_length())
            if threads >> i & 1
        ]

    def pick(self) -> Thread:
        """One of the free threads, each as likely as the others; there must be one.

        Any fixed order would tie operations to nodes: with two threads and taking
        turns, a source that alternates writes and reads would write only to one node
        and read only from the other.
        """
        rest = self.free
        for _ in range(int(self.board.rng.random() * rest.bit_count())):
            rest &= rest - 1
        return self.board.thread(rest & -rest)


class Seeds:
    """A place in the tree of flows, and the randomness that belongs to it alone."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def child(self, name: object) -> Seeds:
        """The place called `name` below this one."""
        return Seeds(f"{self.path}/{name}")

    def rng(self) -> random.Random:
        """This place's random source; every call begins the same sequence anew."""
        return random.Random(self.path)


class Flow(ABC):
    """One run through a generator.

    A flow is only asked while at least one of its threads is free. Once it has answered
    DONE it goes on answering DONE.
    """

    __slots__ = ()

    @abstractmethod
    def next(self, ctx: Context) -> Step:
        """What to do next. Changes nothing that a later `next` could tell."""

    @abstractmethod
    def take(self, offer: Offer) -> None:
        """The last answer of `next` was an offer, and is being carried out.

        `offer` is that answer as finally dispatched: outer flows may have changed its
        fields. A `thread` of None means that it was thrown away instead.
        """

    def update(self, ctx: Context, event: Event) -> None:  # noqa: B027 - most don't care
        """A thread of this flow has completed an operation, whoever offered that."""


class Generator:
    """A description of what to do; `start` begins a flow through it.

    Args:
        text: How it reads, for messages and for the run's record.
        start: Begins a flow at a place in the tree.
    """

    __slots__ = ("_text", "start")

    def __init__(self, text: str, start: Callable[[Seeds], Flow]) -> None:
        self._text = text
        self.start = start

    def __repr__(self) -> str:
        return self._text


DrawFunction: TypeAlias = Callable[
    [random.Random], "Invocation | Generator | list[Any] | tuple[Any, ...] | None"
]
"""Draws an operation, or a small generator, from a random source; None ends it."""

GeneratorLike: TypeAlias = "Generator | Invocation | DrawFunction | Iterable[Any]"
"""What combinators accept: see `as_generator`."""

"""The vocabulary of generators: descriptions, flows, steps and what a flow may see.

A `Generator` is to its `Flow` what an iterable is to its iterator. The generator is an
immutable description: it can be printed, reused and started any number of times. The
flow is one run through it, and holds all the state.

Choices. Jepsen's generators are persistent values: asking gives an operation *and* the
generator that remains, so that a combinator may ask several, take the soonest and
forget that it asked the others. Two things spoil that in Python and for us. Sources are
iterators and closures, which can't be un-asked. And a generator asked in vain has drawn
from the random source, so that the operations of a run depend on how often the
interpreter happened to wake, and a seed no longer names them. Hence two phases: `next`
makes an *offer* and may be called any number of times, `take` says that the last offer
was accepted. The content of an offer (f, value, key, the branch of a mix, the length of
a pause) is drawn once and kept until it is taken, from a random source that belongs to
this place in the tree alone. Its time and thread are decided at each call of `next`. So
the k-th operation of every source is a function of the seed, whatever the timing, and a
busy cluster can't bend the proportions of a mix.
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
"""Name of the thread, and of the process, that carries out faults."""

START: Final = "start-"
STOP: Final = "stop-"
HEAL: Final = "heal"
"""Names of the nemesis' operations: start-KIND, stop-KIND, and to end all faults."""

Thread: TypeAlias = int | Literal["nemesis"]
"""A client thread, 0 to concurrency - 1, or the nemesis thread."""

NS_PER_S: Final = 1_000_000_000


class GeneratorError(HarnessError):
    """A generator can't work: it asks for threads that do not exist, or never ends."""


class Invocation(msgspec.Struct, frozen=True, gc=False):
    """An operation to start: as written in a workload, and as offered by a flow.

    Attributes:
        f: The function: "read", "write", ...
        value: Its argument.
        key: The independent key operated on, or None.
        thread: In a workload, the one thread that may run it, or None for any. In an
            offer, the thread that will run it, or None for an offer that was taken only
            to be thrown away (`filter_ops`).
        time_ns: The earliest time, since the start of the run, to start it; None in a
            workload for any. An offer always has one, and the interpreter waits for it.
    """

    f: str
    value: Any = None
    key: Any = None
    thread: Thread | None = None
    time_ns: int | None = None


class Log(msgspec.Struct, frozen=True, gc=False):
    """A message to show in its turn; it occupies no thread and enters no history."""

    text: str
    time_ns: int | None = None


class Pending(msgspec.Struct, frozen=True, gc=False):
    """No operation yet: ask again after any completion, or at `until_ns` if given."""

    until_ns: int | None = None


class Done(msgspec.Struct, frozen=True, gc=False):
    """No operation any more. Operations taken earlier may still be under way."""


PENDING: Final = Pending()
DONE: Final = Done()

Offer: TypeAlias = Invocation | Log
Step: TypeAlias = Invocation | Log | Pending | Done


class Event(msgspec.Struct, frozen=True, gc=False):
    """Feedback: `thread` has completed an operation with the completion `op`."""

    thread: Thread
    op: Op


class Board:
    """The state that all flows of a run share; the interpreter keeps it up to date.

    Attributes:
        concurrency: Number of client threads. Thread t has bit t in sets of threads,
            the nemesis has bit `concurrency`.
        clients: The set of all client threads.
        nemesis: The set of the nemesis thread alone.
        processes: `processes[t]`: the process that thread t embodies now.
        invoked: Client operations started so far.
        completed: Client operations completed so far.
        faults: Kinds of fault in force, from the operation `start-KIND` on.
        in_force: Gives the kinds of which the nemesis has faults in force. Of several
            faults of a kind one may have ended, so `stop-KIND` alone does not tell.
        fault_turns: How often a fault has struck or ended so far.
        rng: Draws in choices that depend on timing anyway: threads, and ties.
    """

    __slots__ = (
        "clients",
        "completed",
        "concurrency",
        "fault_turns",
        "faults",
        "in_force",
        "invoked",
        "nemesis",
        "processes",
        "rng",
    )

    def __init__(self, concurrency: int, seed: int | str) -> None:
        self.concurrency = concurrency
        self.clients = (1 << concurrency) - 1
        self.nemesis = 1 << concurrency
        self.processes = list(range(concurrency))
        self.invoked = 0
        self.completed = 0
        self.faults: set[str] = set()
        self.in_force: Callable[[], Collection[str]] = tuple
        self.fault_turns = 0
        self.rng = random.Random(f"{seed}/threads")

    def bit(self, thread: Thread) -> int:
        """The bit of `thread` in sets of threads."""
        return self.nemesis if thread == NEMESIS else 1 << thread

    def nemesis_began(self, f: str) -> None:
        """Note that the nemesis begins `f`; the fault it starts is in force now."""
        if f.startswith(START):
            self.faults.add(f.removeprefix(START))

    def nemesis_did(self, f: str) -> None:
        """Note that the nemesis has completed `f`, which struck or ended faults."""
        if f == HEAL:
            self.faults.clear()
        elif f.removeprefix(STOP) not in self.in_force():
            self.faults.discard(f.removeprefix(STOP))
        self.fault_turns += 1

    def thread(self, bit: int) -> Thread:
        """The thread that has this bit."""
        number = bit.bit_length() - 1
        return NEMESIS if number == self.concurrency else number


class Context:
    """The view of a flow that is asked: the time, and its own part of the threads.

    Sets of threads are bit sets in an int (`Board.bit`), so that narrowing them costs
    nothing however many threads there are.

    Attributes:
        time_ns: Nanoseconds since the start of the run.
        free: The threads that could start an operation now.
        threads: All threads that this flow may ever use.
        board: The state that all flows share.
    """

    __slots__ = ("board", "free", "threads", "time_ns")

    def __init__(self, time_ns: int, free: int, threads: int, board: Board) -> None:
        self.time_ns = time_ns
        self.free = free
        self.threads = threads
        self.board = board

    def within(self, threads: int) -> Context:
        """This context as seen by a flow that may only use `threads`."""
        if self.threads & threads == self.threads:
            return self
        return Context(
            self.time_ns, self.free & threads, self.threads & threads, self.board
        )

    @property
    def clients(self) -> int:
        """The client threads among `threads`."""
        return self.threads & self.board.clients

    @property
    def idle(self) -> bool:
        """Whether none of these threads is at work."""
        return self.free == self.threads

    def members(self, threads: int) -> list[Thread]:
        """The threads of a bit set, in order, the nemesis last."""
        return [
            self.board.thread(1 << i)
            for i in range(threads.bit_length())
            if threads >> i & 1
        ]

    def pick(self) -> Thread:
        """A free thread, each of them equally likely; there must be one.

        Any fixed order would tie operations to nodes: if two threads took turns, a
        source that alternates writes and reads would write only to one node and read
        only from the other.
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
    DONE, it always answers DONE.
    """

    __slots__ = ()

    @abstractmethod
    def next(self, ctx: Context) -> Step:
        """The next step. It must not change the answer of a later `next`."""

    @abstractmethod
    def take(self, offer: Offer) -> None:
        """Note that the last answer of `next`, an offer, is being carried out.

        `offer` is that answer as finally dispatched: outer flows may have changed its
        fields. A `thread` of None means that it was thrown away instead.
        """

    def update(self, ctx: Context, event: Event) -> None:  # noqa: B027 - most don't care
        """Note that a thread of this flow has completed an operation of any flow."""


class Generator:
    """A description of operations; `start` begins a flow through it.

    Args:
        text: The description as text, for messages and the run's record.
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
"""All that combinators accept and `as_generator` makes a generator of."""

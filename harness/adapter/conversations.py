"""What is said to a node of each service: data, one entry a service (WIRE.md).

A conversation is a list of requests with the answers that a right node gives. It is
held on objects of its own (keys, locks, logs), so it can begin again on new ones if an
answer leaves open what happened.

A mark is a change that can be looked for later: behind an acknowledged one, a restart
or another node must show it, and behind a definite error nobody may.

Slots: KEY and NAME are a whole number and a text that no other conversation has used;
MARK is a whole number of the mark's own, POWER a power of two of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.adapter.patterns import (
    Bit,
    Either,
    Has,
    Judged,
    MapTo,
    Slot,
    Something,
    StartOf,
    Sum,
    Text,
    Whole,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

KEY, NAME, MARK, POWER = Slot("key"), Slot("name"), Slot("mark"), Slot("power")
SLOTS = ("key", "name", "mark", "power")

Body = Mapping[Any, Any]


@dataclass(frozen=True)
class Step:
    """A request, and the answer that a right node gives.

    Attributes:
        ask: The request's body, with slots.
        gives: What the `_ok` answer has to hold; None if it has to be an error.
        code: The code of the error that is right too, or alone; None for none.
        codes: Definite errors that are as good.
        says: The words of WIRE.md behind it; those of the service if empty.
    """

    ask: Body
    gives: Any = None
    code: int | None = None
    codes: tuple[int, ...] = ()
    says: str = ""


@dataclass(frozen=True)
class Mark:
    """A change that can be looked for.

    Attributes:
        leave: The request that makes it.
        look: The request that shows it, as it is read by any node.
        there: The answer to `look` if it was made.
        gone: The answer if it was not.
        there_code: The error that means that it was made.
        gone_code: The error that means that it was not.
        takes: Looking for it takes it away, or puts something in its place.
        fresh_name: Each look has a NAME of its own.
        few: There may be no more than some dozens.
    """

    leave: Body
    look: Body
    there: Any = None
    gone: Any = None
    there_code: int | None = None
    gone_code: int | None = None
    takes: bool = False
    fresh_name: bool = False
    few: bool = False


Spread = Literal["at once", "soon", ""]
"""When another node has to show an acknowledged mark; empty if never."""


@dataclass(frozen=True)
class Service:
    """What a service is asked, and what it has to answer.

    Attributes:
        section: The section of WIRE.md.
        says: Its words about the service.
        talk: The conversation.
        lacking: Requests that lack something, which are to be refused with error 12.
        mark: A change that can be looked for; None if nothing changes.
        spread: When other nodes have to show a mark.
        at_once_if: Option of a run -> the value that it must have, if it is given, for
            marks to show at once; else they show soon.
    """

    section: str
    says: str
    talk: tuple[Step, ...]
    lacking: tuple[Body, ...] = ()
    mark: Mark | None = None
    spread: Spread = ""
    at_once_if: tuple[str, str] = ("", "")

    def shows_at_once(self, options: Mapping[str, str]) -> bool:
        """Whether marks have to show at once in a run with these options."""
        name, value = self.at_once_if
        return self.spread == "at once" and options.get(name, value) == value


def txn(*micro: Sequence[Any]) -> dict[str, Any]:
    """A request for a transaction."""
    return {"type": "txn", "txn": [list(each) for each in micro]}


def done(*micro: Sequence[Any]) -> dict[str, Any]:
    """The answer to it: the micro-operations with their results."""
    return {"txn": [list(each) for each in micro]}


REGISTER, OTHERS = "The register workload", "The other workloads"
OPTIONAL = "Two requests that help"
TXN = "Its answer repeats them with the results filled in."
ODD = {"any": ["JSON", None, 1.5, "é"]}
NO_LIST, NO_NUMBER = Either((None, [])), Either((None, 0))
DECISIONS = MapTo(("commit", "abort", "prepared", "precommit", "uncertain"))

STATUS = {"role": Text(), "term": Whole(), "leader": Text(or_null=True)}

SERVICES: Mapping[str, Service] = {
    "register": Service(
        REGISTER,
        "Keys are whole numbers or strings; values are any JSON.",
        (
            Step(
                {"type": "read", "key": KEY},
                {"value": None},
                20,
                says="20: nobody ever wrote this key",
            ),
            Step({"type": "write", "key": KEY, "value": 5}, {}),
            Step(
                {"type": "read", "key": KEY},
                {"value": 5},
                says="an answer to `read` must have a `value`",
            ),
            Step({"type": "write", "key": KEY, "value": 6}, {}),
            Step({"type": "read", "key": KEY}, {"value": 6}),
            Step({"type": "write", "key": NAME, "value": ODD}, {}),
            Step({"type": "read", "key": NAME}, {"value": ODD}),
        ),
        ({"type": "read"}, {"type": "write", "key": KEY}),
        Mark(
            {"type": "write", "key": MARK, "value": MARK},
            {"type": "read", "key": MARK},
            {"value": MARK},
            {"value": None},
            gone_code=20,
        ),
        "at once",
        ("register.consistency", "linearizable"),
    ),
    "cas": Service(
        REGISTER,
        "`cas` writes `to` if the register's value equals `from`, in one step.",
        (
            Step(
                {"type": "cas", "key": KEY, "from": 5, "to": 6},
                code=20,
                codes=(22,),
                says="20: nobody ever wrote this key; 22: its value isn't `from`",
            ),
            Step({"type": "read", "key": KEY}, {"value": None}, 20),
            Step({"type": "write", "key": KEY, "value": 5}, {}),
            Step({"type": "cas", "key": KEY, "from": 5, "to": 6}, {}),
            Step({"type": "read", "key": KEY}, {"value": 6}),
            Step(
                {"type": "cas", "key": KEY, "from": 5, "to": 7},
                code=22,
                codes=(20,),
                says="20: nobody ever wrote this key; 22: its value isn't `from`",
            ),
            Step({"type": "read", "key": KEY}, {"value": 6}),
        ),
        (
            {"type": "cas", "key": KEY, "from": 5},
            {"type": "cas", "key": KEY, "to": 5},
        ),
    ),
    "txn-register": Service(
        OTHERS,
        TXN,
        (
            Step(txn(["r", KEY, None]), done(["r", KEY, None])),
            Step(
                txn(["w", KEY, 1], ["w", NAME, 2]), done(["w", KEY, 1], ["w", NAME, 2])
            ),
            Step(
                txn(["r", KEY, None], ["w", KEY, 3], ["r", KEY, None]),
                done(["r", KEY, 1], ["w", KEY, 3], ["r", KEY, 3]),
            ),
            Step(
                txn(["r", NAME, None], ["r", KEY, None]),
                done(["r", NAME, 2], ["r", KEY, 3]),
            ),
        ),
        ({"type": "txn"},),
        Mark(
            txn(["w", MARK, 1]),
            txn(["r", MARK, None]),
            done(["r", MARK, 1]),
            done(["r", MARK, None]),
        ),
        "soon",
    ),
    "txn-append": Service(
        OTHERS,
        TXN,
        (
            Step(txn(["r", KEY, None]), done(["r", KEY, NO_LIST])),
            Step(
                txn(["append", KEY, 1], ["append", NAME, 2], ["r", KEY, None]),
                done(["append", KEY, 1], ["append", NAME, 2], ["r", KEY, [1]]),
            ),
            Step(txn(["append", KEY, 3]), done(["append", KEY, 3])),
            Step(
                txn(["r", KEY, None], ["r", NAME, None]),
                done(["r", KEY, [1, 3]], ["r", NAME, [2]]),
            ),
        ),
        ({"type": "txn"},),
        Mark(
            txn(["append", MARK, 1]),
            txn(["r", MARK, None]),
            done(["r", MARK, [1]]),
            done(["r", MARK, NO_LIST]),
        ),
        "at once",
        ("list_append.consistency", "strict-serializable"),
    ),
    "set": Service(
        OTHERS,
        TXN,
        (
            Step(txn(["r", NAME, None]), done(["r", NAME, NO_LIST])),
            Step(txn(["append", NAME, 1]), done(["append", NAME, 1])),
            Step(txn(["append", NAME, 2]), done(["append", NAME, 2])),
            Step(txn(["r", NAME, None]), done(["r", NAME, [1, 2]])),
        ),
        ({"type": "txn"},),
        Mark(
            txn(["append", MARK, 1]),
            txn(["r", MARK, None]),
            done(["r", MARK, [1]]),
            done(["r", MARK, NO_LIST]),
        ),
        "at once",
        ("set.linearizable", "true"),
    ),
    "counter": Service(
        OTHERS,
        TXN,
        (
            Step(txn(["r", NAME, None]), done(["r", NAME, NO_NUMBER])),
            Step(txn(["add", NAME, 3]), done(["add", NAME, 3])),
            Step(txn(["add", NAME, 2]), done(["add", NAME, 5])),
            Step(txn(["r", NAME, None]), done(["r", NAME, 5])),
        ),
        ({"type": "txn"},),
        Mark(
            txn(["add", MARK, 1]),
            txn(["r", MARK, None]),
            done(["r", MARK, 1]),
            done(["r", MARK, NO_NUMBER]),
        ),
        "at once",
    ),
    "queue": Service(
        OTHERS,
        TXN,
        (
            Step(txn(["pop", NAME, None]), done(["pop", NAME, None])),
            Step(txn(["append", NAME, 1]), done(["append", NAME, 1])),
            Step(txn(["append", NAME, 2]), done(["append", NAME, 2])),
            Step(txn(["pop", NAME, None]), done(["pop", NAME, 1])),
            Step(txn(["pop", NAME, None]), done(["pop", NAME, 2])),
            Step(txn(["pop", NAME, None]), done(["pop", NAME, None])),
        ),
        ({"type": "txn"},),
        Mark(
            txn(["append", MARK, 1]),
            txn(["pop", MARK, None]),
            done(["pop", MARK, 1]),
            done(["pop", MARK, None]),
            takes=True,
        ),
        "soon",
    ),
    "bank": Service(
        OTHERS,
        TXN,
        (
            Step(
                txn(["w", KEY, 10], ["w", NAME, 0]),
                done(["w", KEY, 10], ["w", NAME, 0]),
            ),
            Step(
                txn(["add", KEY, -3], ["add", NAME, 3]),
                done(["add", KEY, 7], ["add", NAME, 3]),
            ),
            Step(
                txn(["add", NAME, 8], ["add", KEY, -8]),
                code=14,
                codes=(30,),
                says="below zero the transaction aborts",
            ),
            Step(
                txn(["r", KEY, None], ["r", NAME, None]),
                done(["r", KEY, 7], ["r", NAME, 3]),
                says="done in order and all at once, or not at all",
            ),
        ),
        ({"type": "txn"},),
        Mark(
            txn(["w", MARK, 1]),
            txn(["r", MARK, None]),
            done(["r", MARK, 1]),
            done(["r", MARK, None]),
        ),
        "soon",
    ),
    "lock": Service(
        OTHERS,
        "A token is a whole number, greater than every token granted for the same key "
        "before",
        (
            Step({"type": "acquire", "key": KEY}, {"token": Whole("first")}),
            Step(
                {"type": "acquire", "key": KEY}, code=22, says="22: somebody holds it"
            ),
            Step({"type": "use", "key": KEY, "token": Slot("first")}, {}),
            Step({"type": "release", "key": KEY, "token": Slot("first")}, {}),
            Step(
                {"type": "use", "key": KEY, "token": Slot("first")},
                code=22,
                says="22: the token isn't the holder's",
            ),
            Step(
                {"type": "acquire", "key": KEY},
                {"token": Whole("second", above="first")},
            ),
            Step(
                {"type": "release", "key": KEY, "token": Slot("first")},
                code=22,
                says="22: the token isn't the holder's",
            ),
            Step({"type": "release", "key": KEY, "token": Slot("second")}, {}),
            Step({"type": "acquire", "key": NAME}, {"token": Whole()}),
        ),
        ({"type": "acquire"}, {"type": "use", "key": KEY}),
        Mark(
            {"type": "acquire", "key": MARK},
            {"type": "acquire", "key": MARK},
            gone={"token": Whole()},
            there_code=22,
            takes=True,
        ),
        "at once",
        ("lock.leases", "false"),
    ),
    "commit": Service(
        OTHERS,
        "At the end every node tells its part in every transaction",
        (
            Step(
                {"id": NAME, **txn(["w", KEY, 1], ["w", NAME, 2])},
                done(["w", KEY, 1], ["w", NAME, 2]),
                says="`commit`** sends the same `txn` with an `id`",
            ),
            Step(
                {"type": "decisions"},
                {
                    "decisions": DECISIONS,
                    "votes": MapTo(("yes", "no")),
                    "coordinated": MapTo(("commit", "abort", "undecided")),
                },
            ),
        ),
        (),
        Mark(
            {"id": NAME, **txn(["w", MARK, 1])},
            {"id": NAME, **txn(["r", MARK, None])},
            done(["r", MARK, 1]),
            done(["r", MARK, None]),
            fresh_name=True,
        ),
        "at once",
    ),
    "propose": Service(
        OTHERS,
        "the one that was chosen, whoever proposed it",
        (
            Step({"type": "propose", "key": KEY, "value": 1}, {"value": 1}),
            Step({"type": "propose", "key": KEY, "value": 2}, {"value": 1}),
            Step(
                {"type": "learn", "key": KEY},
                {"value": Either((1, None))},
                says="what this node knows to be chosen, or `null`",
            ),
            Step(
                {"type": "learn", "key": NAME},
                {"value": None},
                says="what this node knows to be chosen, or `null`",
            ),
        ),
        ({"type": "propose", "key": KEY}, {"type": "learn"}),
        Mark(
            {"type": "propose", "key": MARK, "value": MARK},
            {"type": "propose", "key": MARK, "value": NAME},
            {"value": MARK},
            {"value": NAME},
            takes=True,
        ),
        "at once",
    ),
    "broadcast": Service(
        OTHERS,
        "once the node asked has delivered it",
        (
            Step({"type": "broadcast", "message": KEY}, {}),
            Step(
                {"type": "delivered", "from": 0, "count": 10_000},
                {
                    "messages": Has([Whole(), Whole(), KEY]),
                    "more": Either((False, True)),
                },
                says="that part of the node's sequence of deliveries, each `[epoch, "
                "counter, message]`, and `more`, whether it goes on",
            ),
        ),
        ({"type": "broadcast"},),
        Mark(
            {"type": "broadcast", "message": MARK},
            {"type": "delivered", "from": 0, "count": 10_000},
            {"messages": Has([Whole(), Whole(), MARK])},
            {"messages": Has([Whole(), Whole(), MARK], there=False), "more": False},
        ),
        "soon",
    ),
    "log": Service(
        OTHERS,
        "each message in it has an offset, a whole number that grows and may leave "
        "some out",
        (
            Step({"type": "send", "key": NAME, "msg": 1}, {"offset": Whole("first")}),
            Step(
                {"type": "send", "key": NAME, "msg": 2},
                {"offset": Whole("second", above="first")},
            ),
            Step(
                {"type": "poll", "offsets": {NAME: Slot("first")}},
                {
                    "msgs": {
                        NAME: StartOf(([Slot("first"), 1], [Slot("second"), 2])),
                    }
                },
                says="any number of the messages from there on, none left out",
            ),
            Step({"type": "commit_offsets", "offsets": {NAME: Slot("first")}}, {}),
            Step(
                {"type": "list_committed_offsets", "keys": [NAME]},
                {"offsets": {NAME: Slot("first")}},
                says="messages up to there, and including it, were seen",
            ),
        ),
        (
            {"type": "send", "key": NAME},
            {"type": "poll"},
            {"type": "commit_offsets"},
            {"type": "list_committed_offsets"},
        ),
        Mark(
            {"type": "send", "key": NAME, "msg": MARK},
            {"type": "poll", "offsets": {NAME: 0}},
            {"msgs": {NAME: Has([Whole(), MARK])}},
            {
                "msgs": Either(
                    ({NAME: []}, Judged(lambda msgs: "" if msgs == {} else "-"))
                )
            },
        ),
        "soon",
    ),
    "log-txn": Service(
        OTHERS,
        "The parts of `log_txn` take effect as a whole",
        (
            Step(
                {"type": "log_txn", "txn": [["send", NAME, 1]], "offsets": {NAME: 0}},
                {"txn": [["send", NAME, [Whole("first"), 1]]]},
            ),
            Step(
                {
                    "type": "log_txn",
                    "txn": [["poll"]],
                    "offsets": {NAME: Slot("first")},
                },
                {"txn": [["poll", {NAME: StartOf(([Slot("first"), 1],))}]]},
                says="any number of the messages from there on, none left out",
            ),
        ),
        ({"type": "log_txn"},),
        Mark(
            {
                "type": "log_txn",
                "txn": [["send", NAME, MARK]],
                "offsets": {NAME: 0},
            },
            {"type": "log_txn", "txn": [["poll"]], "offsets": {NAME: 0}},
            {"txn": [["poll", {NAME: Has([Whole(), MARK])}]]},
            {
                "txn": Either(
                    (
                        [["poll", {NAME: []}]],
                        Judged(lambda txn: "" if txn == [["poll", {}]] else "-"),
                    )
                )
            },
        ),
        "soon",
    ),
    "grow-set": Service(
        OTHERS,
        "a list of what this node knows to be in it",
        (
            Step({"type": "add", "element": KEY}, {}),
            Step({"type": "read"}, {"value": Has(KEY)}),
        ),
        ({"type": "add"},),
        Mark(
            {"type": "add", "element": MARK},
            {"type": "read"},
            {"value": Has(MARK)},
            {"value": Has(MARK, there=False)},
        ),
        "soon",
    ),
    "gossip": Service(
        OTHERS,
        "a list of those that this node has",
        (
            Step({"type": "broadcast", "message": KEY}, {}),
            Step({"type": "read"}, {"messages": Has(KEY)}),
        ),
        ({"type": "broadcast"},),
        Mark(
            {"type": "broadcast", "message": MARK},
            {"type": "read"},
            {"messages": Has(MARK)},
            {"messages": Has(MARK, there=False)},
        ),
        "soon",
    ),
    "pn-counter": Service(
        OTHERS,
        "the sum of what this node knows",
        (
            Step({"type": "read"}, {"value": Whole("sum")}),
            Step({"type": "add", "delta": 3}, {}),
            Step({"type": "read"}, {"value": Sum("sum", 3)}),
            Step({"type": "add", "delta": -3}, {}),
            Step({"type": "read"}, {"value": Sum("sum", 0)}),
        ),
        ({"type": "add"},),
        Mark(
            {"type": "add", "delta": POWER},
            {"type": "read"},
            {"value": Bit("power", there=True)},
            {"value": Bit("power", there=False)},
            few=True,
        ),
        "soon",
    ),
    "ids": Service(
        OTHERS,
        "`generate_ok`: `id`, anything but `null`, and never the same twice",
        (Step({"type": "generate"}, {"id": Something()}),),
    ),
    "echo": Service(
        OTHERS,
        "asks for what it says",
        (
            Step({"type": "echo", "echo": "please echo 5"}, {"echo": "please echo 5"}),
            Step({"type": "echo", "echo": ODD}, {"echo": ODD}),
        ),
    ),
    "leader": Service(
        OPTIONAL,
        '`role` is `"leader"` on the node that believes it leads',
        (Step({"type": "status"}, STATUS),),
    ),
}
"""By the names of `harness.systems.services.SERVICES`."""

WALL_OFF_S_MAX = 5.0


def not_now(wall_ns: Any) -> str:
    """What is wrong with a wall clock that no fault has touched; empty if nothing."""
    if type(wall_ns) is not int:
        return f"{told(wall_ns)} is no whole number"
    now_ns = time.time_ns()
    for unit, ns in (
        ("seconds", 10**9),
        ("milliseconds", 10**6),
        ("microseconds", 1000),
    ):
        if abs(wall_ns * ns - now_ns) < WALL_OFF_S_MAX * 1e9:
            return f"{wall_ns} are {unit} since 1970"
    off_s = (wall_ns - now_ns) / 1e9
    return f"{wall_ns} is {off_s:+.0f} s off" if abs(off_s) > WALL_OFF_S_MAX else ""


HELPFUL: Mapping[str, Any] = {
    "status": STATUS,
    "clock": {"wall_ns": Judged(not_now), "mono_ns": Whole()},
}
"""Requests that a node may answer with 10: what their answers hold."""


def services_of(names: AbstractSet[str]) -> dict[str, Service]:
    """The services of these names that there is something to say about, in order."""
    return {name: service for name, service in SERVICES.items() if name in names}

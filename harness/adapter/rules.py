"""What a node has to keep to: the rules of WIRE.md that the check looks at.

Each rule has the words of WIRE.md that it rests on, which a finding quotes, and what an
implementer is to do about a breach. The services' own rules are in `conversations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.adapter.conversations import Service

STARTED, MESSAGES = "How a node is started", "Messages"
ANSWERS = "Answers, errors, and silence"
OPERATOR = "Four requests of an operator"
LIMITS = "Limits, and what happens to a node that breaks the rules"


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        name: Its name, for programs.
        kept: What a node that keeps it does, in a clause.
        section: The section of WIRE.md.
        says: Its words there.
        advice: What to do about a breach.
    """

    name: str
    kept: str
    section: str
    says: str
    advice: str


_ALL = (
    Rule(
        "listens",
        "every node accepts connections at SPLITBRAIN_LISTEN in time",
        STARTED,
        "A node is **ready** when it accepts connections.",
        "listen on the host and the port of SPLITBRAIN_LISTEN, and nowhere else",
    ),
    Rule(
        "stays",
        "no node exits by itself",
        STARTED,
        "A node must not exit by itself",
        "catch what ends it: a bad message or connection must not",
    ),
    Rule(
        "foreground",
        "nodes stay in the foreground",
        STARTED,
        "A node should not fork and outlive its first process; all its descendants are "
        "killed with it.",
        "run it in the foreground: no daemon, no `&` in a start script, `exec` at its "
        "end",
    ),
    Rule(
        "answers",
        "requests are answered",
        MESSAGES,
        "The answer goes back **on the connection that the request came by**.",
        "read a line from the connection, write one line to the same connection, flush",
    ),
    Rule(
        "same-connection",
        "answers come on the connection of their request",
        MESSAGES,
        "The answer goes back **on the connection that the request came by**.",
        "keep the connection with the request; don't look it up by the name in `src`",
    ),
    Rule(
        "message",
        "what nodes send are messages",
        MESSAGES,
        "One JSON object a line, UTF-8, ended by `\\n`, at most 1 MiB",
        "send objects with the texts `src` and `dest` and the object `body`",
    ),
    Rule(
        "newline",
        "answers end with a newline",
        MESSAGES,
        "ended by `\\n`",
        "write \\n behind the JSON, and flush",
    ),
    Rule(
        "one-a-line",
        "each answer has a line of its own",
        MESSAGES,
        "One JSON object a line",
        "write each object without line breaks inside, and \\n behind each",
    ),
    Rule(
        "length",
        "no answer is longer than 1 MiB",
        LIMITS,
        "a line longer than 1 MiB",
        "keep answers below 1,048,576 bytes",
    ),
    Rule(
        "in-reply-to",
        "answers repeat the request's msg_id as in_reply_to",
        MESSAGES,
        "its body repeats the request's `msg_id` as `in_reply_to`",
        "copy `msg_id`, unchanged, from the request's body into the answer's, as "
        "`in_reply_to`",
    ),
    Rule(
        "dest",
        "answers go to the src of their request",
        MESSAGES,
        "Its `dest` is the request's `src`",
        "copy the request's `src` into the answer's `dest`",
    ),
    Rule(
        "src",
        "answers come from the node's name",
        MESSAGES,
        "`src` should be the node's name; nobody checks.",
        "put SPLITBRAIN_NODE into `src`; runs don't mind",
    ),
    Rule(
        "type",
        "the type of an answer is that of the request with _ok, or error",
        MESSAGES,
        "its `type` is the request's with `_ok` behind it, or `error`",
        "answer with the request's type and `_ok`, or with an error",
    ),
    Rule(
        "once",
        "each request is answered once",
        LIMITS,
        "a second answer to a request",
        "answer each request once, and send nothing that wasn't asked for",
    ),
    Rule(
        "code",
        "errors have a code, a whole number",
        ANSWERS,
        'An error is `{"type": "error", "in_reply_to": ..., "code": ..., "text": ...}`',
        "give each error a code of the table, as a number; without one it counts as "
        "indefinite",
    ),
    Rule(
        "stays-open",
        "connections stay open between requests",
        MESSAGES,
        "A client has one connection and waits for each answer before it sends the "
        "next request",
        "read requests in a loop until the client closes the connection",
    ),
    Rule(
        "several",
        "several clients are served at once",
        MESSAGES,
        "The answer goes back **on the connection that the request came by**.",
        "serve each connection by a thread or task of its own: clients stay connected "
        "for the whole run",
    ),
    Rule(
        "pieces",
        "a request may come in pieces",
        MESSAGES,
        "One JSON object a line, UTF-8, ended by `\\n`",
        "TCP is a stream of bytes: collect what comes until there is a \\n",
    ),
    Rule(
        "together",
        "several requests may come at once, and be answered in any order",
        MESSAGES,
        "a node may answer in any order",
        "TCP is a stream of bytes: split what comes at each \\n, and answer every line "
        "with its own id",
    ),
    Rule(
        "long",
        "long requests and unknown members are taken",
        MESSAGES,
        "Whatever else an object holds is ignored.",
        "read lines of up to 1 MiB (many readers stop at 64 KiB unless told), and pass "
        "over members that you don't know",
    ),
    Rule(
        "unknown-type",
        "an unknown type is refused with error 10",
        ANSWERS,
        "To a `type` it does not know, a node answers 10.",
        "answer every other type with error 10",
    ),
    Rule(
        "lacking",
        "requests that lack something are refused with error 12",
        ANSWERS,
        "To a request it knows that lacks something, 12.",
        "look for each member before you use it, and answer 12 if it is missing",
    ),
    Rule(
        "no-message",
        "lines that are no messages are passed over",
        ANSWERS,
        "A line that is no message at all can't be answered; pass over it.",
        "catch the error of your JSON parser, and go on with the next line",
    ),
    Rule(
        "definite",
        "nothing that got a definite error happened",
        ANSWERS,
        "A definite error for a write that takes effect after all is a lie, and comes "
        "out as an anomaly",
        "once a request was handed on or written down, its failure is indefinite: "
        "answer 0 or 13, or nothing",
    ),
    Rule(
        "indefinite",
        "what is known is answered definitely",
        ANSWERS,
        "every `info` makes the history harder to judge, and weaker",
        "when you know that nothing happened, answer with the definite code",
    ),
    Rule(
        "serves",
        "nodes serve soon after they are ready",
        ANSWERS,
        "When you never passed it on, 11 is better than 0",
        "errors are fine while a leader is looked for, and end when there is one",
    ),
    Rule(
        "in-time",
        "ten clients at once get answers in time",
        ANSWERS,
        "nothing in time (2 s, or as `--op-timeout` says)",
        "look for a lock that is held over the network or the disk; or run with a "
        "longer --op-timeout",
    ),
    Rule(
        "status",
        "status tells role, term and leader",
        "Two requests that help",
        "`status` → `status_ok`: `role`, `term`, `leader`.",
        "send all three; or answer 10, and faults guess who leads",
    ),
    Rule(
        "clock",
        "clock tells the node's clocks",
        "Two requests that help",
        "The node's clocks, in whole nanoseconds; `wall_ns` since 1970.",
        "send whole nanoseconds; or answer 10",
    ),
    Rule(
        "members",
        "members are the nodes that were started, until an operator changes that",
        OPERATOR,
        "All nodes that were started are the first members.",
        "send the names of all members, as the node that leads knows them; or answer "
        "10",
    ),
    Rule(
        "changes",
        "members come and go as an operator asks",
        OPERATOR,
        "`add_ok`, once `node` is a member",
        "answer once the change is made, and 11 from nodes that don't lead",
    ),
    Rule(
        "transfer",
        "leadership goes where an operator asks",
        OPERATOR,
        "`transfer_ok`, once `node` leads",
        "answer once the node leads, as its own status says; or answer 10",
    ),
    Rule(
        "spread",
        "what one node acknowledged, the others show",
        STARTED,
        "those are the links that are cut and slowed",
        "tell the peers at the addresses in SPLITBRAIN_PEERS before you answer, or "
        "pass the request on to the node that decides",
    ),
    Rule(
        "returns",
        "a killed node serves again after its restart",
        STARTED,
        "After a kill it starts again with the same name, addresses and directory.",
        "at the start, read back what is in SPLITBRAIN_DATA, a torn last record "
        "included; bind with SO_REUSEADDR",
    ),
    Rule(
        "survives",
        "what was acknowledged survives kills",
        STARTED,
        "a directory that survives kills",
        "write to SPLITBRAIN_DATA and fsync before you answer `_ok`",
    ),
    Rule(
        "data",
        "data are kept in SPLITBRAIN_DATA",
        STARTED,
        "a directory that survives kills",
        "keep files in SPLITBRAIN_DATA: each node has its own, and no other is kept",
    ),
)

OPTIONAL = (
    *("code", "indefinite", "src", "status", "clock", "data"),
    *("members", "changes", "transfer"),
)
"""Rules that an examination may find nothing to hold against."""

RULES: Mapping[str, Rule] = {rule.name: rule for rule in _ALL}
"""By name, in the order in which they are told."""


def of_service(name: str, service: Service) -> Rule:
    """The rule that a service's conversation goes as it should."""
    return Rule(
        name,
        f"{name}: {len(service.talk)} requests in a row get the right answers",
        service.section,
        service.says,
        "compare the answer with the table and the session in that section",
    )

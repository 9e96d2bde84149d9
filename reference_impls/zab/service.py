"""The service that the broadcast drives: a key-value store, and a list of messages.

Beside what `kv` understands: `broadcast{message}` is answered once the message is
delivered at the node that was asked, and `delivered{from,count}` tells what that node
delivered, in its order, as [epoch, counter, message]. `sync` has no effect of its own;
its answer means that the node asked has delivered everything that was answered to
anyone before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reference_impls import kv
from reference_impls.actor import MALFORMED_REQUEST, error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Command = dict[str, Any]

NULL: Command = {"type": "noop"}
"""The null transaction (Hunt et al. 2010, 4.4): a place in the order, nothing more."""

PAGE_CHARS_MAX = 900_000
"""Most characters of messages in one answer, which must fit into a line of 1 MiB."""

PART_ITEMS = 128
"""Keys or messages in one part of a snapshot."""


class Service:
    """The state. Deterministic, so that replicas stay alike."""

    def __init__(self) -> None:
        self.store = kv.KeyValueStore()
        self.messages: list[list[Any]] = []

    def apply(self, epoch: int, counter: int, command: Command) -> dict[str, Any]:
        """Deliver a command and return the reply's body."""
        match command["type"]:
            case "noop":
                return {"type": "sync_ok"}
            case "broadcast":
                self.messages.append([epoch, counter, command["message"]])
                return {"type": "broadcast_ok"}
            case _:
                return self.store.apply(command)

    def answer(self, command: Command) -> dict[str, Any]:
        """The reply to a command that changes nothing."""
        match command["type"]:
            case "sync":
                return {"type": "sync_ok"}
            case "delivered":
                return self.page(command["from"], command["count"])
            case _:
                return self.store.answer_read(command)

    def page(self, start: int, count: int | None) -> dict[str, Any]:
        """A part of the delivered messages, short enough for one line.

        It holds at least one message if there is any; kv's limits ensure that one fits.
        """
        end = len(self.messages) if count is None else start + count
        page: list[list[Any]] = []
        chars = 0
        for message in self.messages[start:end]:
            chars += len(json.dumps(message)) + 1
            if page and chars > PAGE_CHARS_MAX:
                break
            page.append(message)
        more = start + len(page) < len(self.messages)
        return {"type": "delivered_ok", "messages": page, "more": more}

    # --- snapshots -------------------------------------------------------------------

    def parts(self) -> Iterator[dict[str, Any]]:
        """The state in parts, each fit for a message; `add_part` takes them back."""
        state = {**self.store.as_data(), "messages": self.messages}
        for name, items in state.items():
            for i in range(0, len(items), PART_ITEMS):
                yield {name: items[i : i + PART_ITEMS]}

    def add_part(self, part: Mapping[str, Any]) -> None:
        """Take over a part of another's state."""
        more = kv.KeyValueStore.from_data({"data": (), "sessions": (), **part})
        self.store.take_over(more)
        self.messages.extend(part.get("messages", ()))


def parse(body: Mapping[str, Any]) -> tuple[Command | None, dict[str, Any] | None]:
    """Check a request.

    Returns:
        The command and None; or None and the body of the error to answer with.
    """
    match body.get("type"):
        case "sync":
            return {"type": "sync"}, None
        case "broadcast" if "message" not in body:
            return None, error(MALFORMED_REQUEST, "broadcast needs 'message'")
        case "broadcast" if kv.oversized(body["message"]):
            text = f"'message' is longer than {kv.VALUE_CHARS_MAX} characters of JSON"
            return None, error(MALFORMED_REQUEST, text)
        case "broadcast":
            return {"type": "broadcast", "message": body["message"]}, None
        case "delivered":
            return parse_page(body)
        case _:
            return kv.parse(body)


def parse_page(body: Mapping[str, Any]) -> tuple[Command | None, dict[str, Any] | None]:
    """Check a `delivered`, which asks for all messages if it has no `count`."""
    start, count = body.get("from", 0), body.get("count")
    for number in (start, 0 if count is None else count):
        if type(number) is not int or number < 0:
            text = "'from' and 'count' are whole numbers from 0 up"
            return None, error(MALFORMED_REQUEST, text)
    return {"type": "delivered", "from": start, "count": count}, None


def changes_nothing(command: Command) -> bool:
    """True when the command has no effect, so that failing it is always definite."""
    return command["type"] in {"sync", "delivered"} or kv.is_read(command)

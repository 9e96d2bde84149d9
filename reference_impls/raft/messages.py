"""The messages between servers, and the checks by which one is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls import core, kv
from reference_impls.core import is_count, is_flag, is_object, is_text
from reference_impls.raft.members import CHANGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reference_impls.actor import Body


def is_command(command: Any) -> bool:
    """True for a command that may stand in the log."""
    if type(command) is not dict:
        return False
    kind = command.get("type")
    if type(kind) is str and kind in CHANGES:
        members = command.get("members")
        incarnations = command.get("incarnations", {})
        return (
            type(members) is list
            and bool(members)
            and all(map(is_text, members))
            and type(incarnations) is dict
            and all(map(is_count, incarnations.values()))
        )
    return kind == "noop" or kv.parse(command)[0] is not None


def is_entry(value: Any) -> bool:
    """True for a list of a term and a command."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return is_count(value[0]) and is_command(value[1])


def are_entries(value: Any) -> bool:
    """True for a list of entries."""
    return type(value) is list and all(map(is_entry, value))


VOTE_REQUEST: core.Fields = {
    "term": is_count,
    "last_log_index": is_count,
    "last_log_term": is_count,
}

MESSAGES: Mapping[str, core.Fields] = {
    "pre_vote": VOTE_REQUEST,
    "pre_vote_reply": {"term": is_count, "for_term": is_count, "vote_granted": is_flag},
    "request_vote": {**VOTE_REQUEST, "transfer": is_flag},
    "request_vote_reply": {"term": is_count, "vote_granted": is_flag},
    "append_entries": {
        "term": is_count,
        "prev_log_index": is_count,
        "prev_log_term": is_count,
        "leader_commit": is_count,
        "round": is_count,
        "entries": are_entries,
    },
    "append_entries_reply": {
        "term": is_count,
        "success": is_flag,
        "match_index": is_count,
        "conflict_index": is_count,
        "conflict_term": is_count,
        "round": is_count,
    },
    "install_snapshot": {
        "term": is_count,
        "last_included_index": is_count,
        "last_included_term": is_count,
        "offset": is_count,
        "data": is_text,
        "done": is_flag,
        "round": is_count,
    },
    "install_snapshot_reply": {
        "term": is_count,
        "last_included_index": is_count,
        "offset": is_count,
        "round": is_count,
    },
    "timeout_now": {"term": is_count},
    "forward": {"id": is_count, "request": is_object},
    "forward_reply": {"id": is_count, "reply": is_object},
}
"""Type -> field -> what it may hold. Numbers are never negative."""


ANSWERS = frozenset(
    {
        "append_entries_reply",
        "install_snapshot_reply",
        "pre_vote_reply",
        "request_vote_reply",
    }
)
"""What promises something, and says which incarnation does; 0 is left out."""


def well_formed(body: Body) -> bool:
    """True when a message has every field of its type, with a possible value."""
    return core.well_formed(body, MESSAGES) and is_count(body.get("incarnation", 0))

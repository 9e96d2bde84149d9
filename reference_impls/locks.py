"""Locks with fencing tokens, a part of the state that replicated logs drive.

A client that acquires a lock gets a token, a whole number that grows with every grant.
It names the token in everything that it does under the lock. A client may have lost the
lock without knowing (a paused process, a late message). Its token is then no longer the
current one, and what it does is refused. (Burrows 2006, 2.4, calls the token a
sequencer; Hazelcast's FencedLock, a fence.)

    acquire{key}            acquire_ok{token}; 22 (precondition-failed) while held
    use{key, token}         use_ok: something was done under the lock; 22 unless
                            `token` is the holder's
    release{key, token}     release_ok: the lock is free; 22 unless `token` is the
                            holder's

Choices: an acquire never waits; a client whose acquire failed may try again. There are
no leases: the state machine has no clock, and a lock that expires excludes nobody for
sure. So a lock stays held for ever if the answer to its acquire was lost. Clients give
up such a lock for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.actor import PRECONDITION_FAILED, error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIELDS: Mapping[str, tuple[str, ...]] = {
    "acquire": ("key",),
    "use": ("key", "token"),
    "release": ("key", "token"),
}
"""Operation -> what it needs beside its type."""


class Lock:
    """One lock.

    Attributes:
        token: The last token granted; 0 before the first.
        held: Whether its holder still holds the lock.
    """

    __slots__ = ("held", "token")

    def __init__(self, token: int = 0, *, held: bool = False) -> None:
        self.token = token
        self.held = held


class Locks:
    """All locks by key. Deterministic, so that replicas stay alike."""

    __slots__ = ("by_key",)

    def __init__(self) -> None:
        self.by_key: dict[int | str, Lock] = {}

    def apply(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a checked command and return the reply's body."""
        key = command["key"]
        lock = self.by_key.setdefault(key, Lock())
        if command["type"] == "acquire":
            if lock.held:
                return error(PRECONDITION_FAILED, f"lock {key!r} is held")
            lock.token += 1
            lock.held = True
            return {"type": "acquire_ok", "token": lock.token}
        if not lock.held or command["token"] != lock.token:
            text = f"token {command['token']} does not hold lock {key!r}"
            return error(PRECONDITION_FAILED, text)
        if command["type"] == "release":
            lock.held = False
        return {"type": f"{command['type']}_ok"}

    def as_data(self) -> list[Any]:
        """The state for a snapshot: JSON-able."""
        return [[key, lock.token, lock.held] for key, lock in self.by_key.items()]

    @classmethod
    def from_data(cls, data: Iterable[Any]) -> Locks:
        """Locks from the data of `as_data`, also decoded JSON."""
        locks = cls()
        for key, token, held in data:
            locks.by_key[key] = Lock(token, held=held)
        return locks


def malformed(command: Mapping[str, Any]) -> str:
    """Why the fields of a command make no sense, or "" when they do."""
    if "token" in command and type(command["token"]) is not int:
        return "a token is a whole number"
    return ""

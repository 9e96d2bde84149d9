"""The hosts file: machines for nodes, and how to log in there.

    defaults:                      # of every host; each may be left out
      user: jo
      key: ~/.ssh/id_ed25519
    hosts:
      - {name: a, address: 10.0.0.1}
      - {name: b, address: b.example.org, node_address: 10.0.0.2, port: 2222}

Host keys are checked, unless `known_hosts: unchecked` says that they aren't. Without
`key`, the keys of the SSH agent and the usual files are tried.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.errors import UsageError
from harness.host import documents
from harness.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Collection

UNCHECKED = "unchecked"
HOSTS_MAX = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PORTS = range(1, 65_536)


@dataclass(frozen=True)
class Host:
    """A machine for nodes.

    Attributes:
        name: What it is called in messages.
        address: Where its SSH server is: a name or an IP address.
        node_address: Where clients and other nodes reach its nodes: an IP address of
            the machine; if it is empty, what `address` resolves to.
        port: Of its SSH server.
        user: Who logs in; empty for the user here.
        key: A file with a private key; empty for the SSH agent and the usual files.
        known_hosts: A file of host keys, or `UNCHECKED`; empty for the usual one.
        python: Python there, 3.11 or newer.
        sudo: Whether the agent and the nodes run as root, by `sudo` without a password.
        folder: Where our files go there.
    """

    name: str
    address: str
    node_address: str = ""
    port: int = 22
    user: str = ""
    key: str = ""
    known_hosts: str = ""
    python: str = "python3"
    sudo: bool = False
    folder: str = "~/.cache/splitbrain/host"


FIELDS = {each.name: each for each in fields(Host)}


@dataclass(frozen=True)
class _Place:
    """A place in the hosts file, for errors."""

    path: Path
    lines: dict[tuple[Any, ...], int]

    def refuse(self, at: tuple[Any, ...], why: str) -> UsageError:
        line = next(
            (
                self.lines[at[:n]]
                for n in range(len(at), -1, -1)
                if at[:n] in self.lines
            ),
            1,
        )
        return UsageError(f"{self.path}, line {line}: {why}")


def read(path: Path) -> list[Host]:
    """The hosts of a file, their addresses resolved.

    Raises:
        UsageError: It can't be read, or is no hosts file; names line and field.
    """
    text = documents.read_text(path)
    data = documents.parse_yaml(text, str(path))
    place = _Place(path, _lines(text))
    if isinstance(data, list):
        data = {"hosts": data}
    if not isinstance(data, dict) or not isinstance(data.get("hosts"), list):
        raise place.refuse((), "it takes a list of hosts, as - {name: a, address: IP}")
    for key in data.keys() - {"hosts", "defaults"}:
        known = ("hosts", "defaults")
        raise place.refuse((key,), f"unknown field {key!r}{nearest(key, known)}")
    defaults = data.get("defaults") or {}
    usual = _checked(place, ("defaults",), defaults, FIELDS.keys() - {"name"})
    entries = data["hosts"]
    if not 0 < len(entries) <= HOSTS_MAX:
        raise place.refuse(("hosts",), f"it takes 1 to {HOSTS_MAX} hosts")
    found: list[Host] = []
    for number, entry in enumerate(entries):
        at = ("hosts", number)
        if isinstance(entry, str):
            entry = {"name": entry, "address": entry}  # its long form
        own = _checked(place, at, entry, FIELDS.keys())
        for needed in ("name", "address"):
            if needed not in {**usual, **own}:
                raise place.refuse(at, f"a host without {needed!r}")
        host = Host(**{**usual, **own})
        if host.name in {other.name for other in found}:
            raise place.refuse((*at, "name"), f"name: {host.name!r} comes twice")
        found.append(_resolved(place, at, host))
    return found


def _checked(
    place: _Place, at: tuple[Any, ...], entry: Any, known: Collection[str]
) -> dict[str, Any]:
    """The fields of an entry, each of its type."""
    checked: dict[str, Any] = {}
    if not isinstance(entry, dict):
        raise place.refuse(at, "a host is a mapping, as {name: a, address: IP}")
    for name, value in entry.items():
        checked[name] = value
        here = (*at, name)
        if name not in known:
            raise place.refuse(here, f"unknown field {name!r}{nearest(name, known)}")
        default = FIELDS[name].default
        if name == "port":
            if type(value) is not int or value not in _PORTS:
                raise place.refuse(here, f"port: {value!r}: it takes 1 to 65535")
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise place.refuse(here, f"{name}: {value!r}: it takes true or false")
        elif not isinstance(value, str) or not value or "\0" in value:
            raise place.refuse(here, f"{name}: {value!r}: it takes a text")
        elif name == "name" and not _NAME.fullmatch(value):
            words = "it takes letters, digits, dots and hyphens"
            raise place.refuse(here, f"name: {value!r}: {words}")
        elif name in {"key", "known_hosts"} and value != UNCHECKED:
            file = Path(value).expanduser()
            if not file.is_file():
                raise place.refuse(here, f"{name}: there is no file {value}")
            checked[name] = str(file)
    return checked


def _resolved(place: _Place, at: tuple[Any, ...], host: Host) -> Host:
    """The host with an IP address for its nodes."""
    field = "node_address" if host.node_address else "address"
    text = host.node_address or host.address
    try:
        found = socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        raise place.refuse((*at, field), f"{field}: {text!r}: {why}") from None
    address = ipaddress.ip_address(found[0][4][0])
    if address.is_unspecified or address.is_multicast:
        raise place.refuse((*at, field), f"{field}: {text!r} is no machine's address")
    return replace(host, node_address=str(address))


def _lines(text: str) -> dict[tuple[Any, ...], int]:
    """Where each field of a document stands: its path -> its line, from 1."""
    found: dict[tuple[Any, ...], int] = {}

    def visit(node: yaml.Node, at: tuple[Any, ...]) -> None:
        found.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for number, each in enumerate(node.value):
                path = (*at, number) if at else ("hosts", number)
                visit(each, path)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found[(*at, key.value)] = key.start_mark.line + 1
                visit(value, (*at, key.value))

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        visit(root, ())
    return found

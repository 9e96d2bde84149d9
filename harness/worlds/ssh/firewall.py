"""Links between hosts, cut and made lossy by nftables on the host that receives.

Each run has a table of its own, with one chain of rules by source address, and counters
that keep their counts when the rules change. All rules change in one transaction. The
port of the SSH server is never touched, so that whoever heals can log in.

Only packets that arrive are dropped, so a link is cut in one direction by its receiver
alone. What tells nodes apart is the address of their host, so there can be one node a
host, and clients must come from another one.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.worlds.capabilities import LinkField

FIELDS: frozenset[LinkField] = frozenset({"cut", "loss"})
"""The fields of LinkRule that nftables can put in force."""
TIMEOUT_S = 10.0
_DICE = 1_000_000
_FOLDERS = ":/usr/sbin:/sbin:/usr/local/sbin"
"""Where nft is, beside PATH: users' shells often leave these out."""


class FirewallError(Exception):
    """nft refused; says what it said."""


def table_of(run: str) -> str:
    """The name of a run's table."""
    return "splitbrain_" + re.sub(r"[^a-zA-Z0-9]", "_", run)


def why_not() -> str:
    """Why there is no nftables here, in plain words; empty if there is.

    It makes a table with all that a run needs, and removes it again.
    """
    try:
        Firewall(f"splitbrain_probe_{os.getpid()}", {"probe": "192.0.2.1"}, 22).probe()
    except FirewallError as problem:
        return str(problem)
    return ""


class Firewall:
    """The table of a run.

    Args:
        table: Its name.
        peers: Node -> the address of its host; the nodes elsewhere.
        ssh_port: The port of the SSH server here.
    """

    def __init__(self, table: str, peers: Mapping[str, str], ssh_port: int) -> None:
        self._table = table
        self._peers = peers
        self._ssh_port = ssh_port

    def probe(self) -> None:
        """Make the table, put rules in force, and remove it.

        Raises:
            FirewallError: That can't be done.
        """
        self.make()
        try:
            self.set_rules(dict.fromkeys(self._peers, (True, 0.5)))
        finally:
            remove(self._table)

    def make(self) -> None:
        """Make the table, with all links healthy."""
        counters = "".join(
            f"counter {kind}_{name} {{ }}\n"
            for name in self._peers
            for kind in ("forwarded", "cut", "lost")
        )
        chain = "type filter hook input priority -10; policy accept;"
        _nft(f"table inet {self._table} {{\n{counters}chain links {{ {chain}\n}}\n}}\n")
        self.set_rules({})

    def set_rules(self, rules: Mapping[str, tuple[bool, float]]) -> None:
        """Put rules in force: source -> whether it is cut, and the chance of loss."""
        chain = f"inet {self._table} links"
        add = f"add rule {chain}"
        script = [
            f"flush chain {chain}",
            f"{add} tcp dport {self._ssh_port} accept",
            f"{add} tcp sport {self._ssh_port} accept",
        ]
        for name, address in self._peers.items():
            cut, loss = rules.get(name, (False, 0.0))
            family = "ip6" if ipaddress.ip_address(address).version == 6 else "ip"
            source = f"{add} {family} saddr {address}"
            if cut:
                script.append(f"{source} counter name cut_{name} drop")
            if loss > 0:
                share = min(_DICE, round(loss * _DICE))
                dice = f"numgen random mod {_DICE} < {share}"
                script.append(f"{source} {dice} counter name lost_{name} drop")
            script.append(f"{source} counter name forwarded_{name}")
        _nft("\n".join(script) + "\n")

    def counters(self) -> dict[str, dict[str, int]]:
        """Source -> packets "forwarded", "cut" and "lost"."""
        told: dict[str, Any] = json.loads(
            _nft("", "-j", "list", "table", "inet", self._table)
        )
        found: dict[str, dict[str, int]] = {name: {} for name in self._peers}
        for entry in told["nftables"]:
            counter = entry.get("counter", {})
            kind, _, name = counter.get("name", "").partition("_")
            if name in found:
                found[name][kind] = counter["packets"]
        return found


def remove(table: str) -> str:
    """Remove a table, if there is one; its name, or an empty text if there was none.

    Raises:
        FirewallError: There may be one, and it can't be removed.
    """
    if shutil.which("nft", path=_path()) is None or os.geteuid() != 0:
        return ""  # whoever can't make a table has none
    if f"table inet {table}\n" not in _nft("", "list", "tables") + "\n":
        return ""
    _nft(f"delete table inet {table}\n")
    return table


def _nft(script: str, *words: str) -> str:
    program = shutil.which("nft", path=_path())
    if program is None:
        raise FirewallError("there is no program nft (apt-get install nftables)")
    try:
        done = subprocess.run(
            [program, *(words or ("-f", "-"))],
            input=script,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise FirewallError(f"nft: {problem}") from problem
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason"])[0]
        raise FirewallError(f"nft refuses: {said[:200]}")
    return done.stdout


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + _FOLDERS

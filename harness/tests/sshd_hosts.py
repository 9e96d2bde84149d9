"""Machines for tests of nodes over SSH: an SSH server in namespaces for each.

Each machine has network, mounts and process ids of its own. It sees the programs of
this machine, and none of our code, of what is installed for users, and of temporary
files. The cables lead to a bridge in one more network namespace, in which tests run
their commands. Nothing of this is to be seen on the machine that tests run on, and all
of it ends with the servers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UP_S = 20.0
_STANDARD = "/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of the machines: ours may lead to what they don't see."""
_SSHD = shutil.which("sshd", path=_STANDARD)
_ROOT = Path(__file__).parents[2]
_SERVE = f"""
set -e
PATH={_STANDARD}
mount -t tmpfs none /run
mkdir -m 755 /run/sshd
cp {{folder}}/key.pub {{folder}}/host_key {{folder}}/sshd.conf /run
for hidden in {{hidden}}; do [ ! -d $hidden ] || mount -t tmpfs none $hidden; done
ip link set lo up
read go
exec {{sshd}} -D -e -f /run/sshd.conf
"""


def why_no_hosts() -> str:
    """Why there can be no such machines here; empty if there can."""
    if os.geteuid() != 0:
        return "servers in namespaces need root"
    if _SSHD is None:
        return "there is no sshd (apt-get install openssh-server)"
    for program in ("ip", "unshare", "nsenter", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    done = subprocess.run(["unshare", "-nmp", "--fork", "true"], check=False)
    return "namespaces can't be had" if done.returncode else ""


@dataclass
class Machines:
    """The machines, and the namespace from which they are reached.

    Attributes:
        file: The hosts file.
        folder: Where servers keep what they need, and each machine its own folder.
        servers: The process that holds each machine.
        hub: The process that holds the namespace of tests.
    """

    file: Path
    folder: Path
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    hub: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        """A command line that runs splitbrain where the machines can be reached."""
        return [*self._inside(self.hub), sys.executable, "-m", "harness", *words]

    def on(self, number: int, *words: str) -> str:
        """What a command prints that is run on a machine."""
        where = self._inside(self.servers[number], "-m")
        done = subprocess.run(
            [*where, "/usr/bin/env", f"PATH={_STANDARD}", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def shelf(self, number: int) -> Path:
        """The folder of splitbrain on a machine."""
        server = self.servers[number].pid
        first = Path(f"/proc/{server}/task/{server}/children").read_text().split()[0]
        return Path(f"/proc/{first}/root/run/shelf")

    def processes(self, number: int) -> dict[int, str]:
        """The processes of a machine but its server's first: pid -> its name."""
        living = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                if state != "Z":
                    living[int(stat.parent.name)] = (name, int(parent))
        found, parents = {}, {self.servers[number].pid}
        while parents:
            fresh = {p: name for p, (name, up) in living.items() if up in parents}
            found.update(fresh)
            parents = set(fresh)
        return {p: name for p, name in found.items() if name not in {"sshd", "sh"}}

    def _inside(self, holder: subprocess.Popen[bytes] | None, *more: str) -> list[str]:
        assert holder is not None
        pid = holder.pid
        # unshare's child is in the namespaces; unshare itself is in some of them.
        return ["nsenter", "-t", str(pid), "-n", *more, "--"]


@contextlib.contextmanager
def machines(folder: Path, count: int) -> Iterator[Machines]:
    """So many machines, called a, b, ..., with addresses 10.77.0.1, 10.77.0.2, ..."""
    key, host_key = folder / "key", folder / "host_key"
    for path in (key, host_key):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    (folder / "sshd.conf").write_text("\n".join(_SETTINGS) + "\n")
    made = Machines(folder / "hosts.yaml", folder)
    try:
        made.hub = _held("unshare", "-n", "sh", "-c", "ip link set lo up; cat")
        hub = ["nsenter", "-t", str(made.hub.pid), "-n"]
        _until_apart(made.hub.pid)
        _run(*hub, "ip", "link", "add", "br0", "type", "bridge")
        _run(*hub, "ip", "address", "add", "10.77.0.254/24", "dev", "br0")
        _run(*hub, "ip", "link", "set", "br0", "up")
        lines, known = [], []
        public = host_key.with_suffix(".pub").read_text().split()[:2]
        for number in range(count):
            address, name = f"10.77.0.{number + 1}", chr(ord("a") + number)
            made.servers.append(_server(folder, number))
            _cable(hub, made.servers[-1].pid, address, number)
            known.append(f"{address} {' '.join(public)}")
            lines.append(f"  - {{name: {name}, address: {address}}}")
        (folder / "known_hosts").write_text("\n".join(known) + "\n")
        defaults = f"user: root, key: {key}, known_hosts: {folder / 'known_hosts'}"
        python = Path(sys.base_prefix, "bin", "python3")  # without our dependencies
        usual = f"{defaults}, python: {python}, folder: /run/shelf"
        made.file.write_text(
            f"defaults: {{{usual}}}\nhosts:\n" + "\n".join(lines) + "\n"
        )
        for server in made.servers:
            assert server.stdin is not None
            server.stdin.write(b"go\n")
            server.stdin.flush()
        _until_they_listen(hub, count)
        yield made
    finally:
        for holder in [*made.servers, *([made.hub] if made.hub else [])]:
            holder.kill()
            holder.wait()
            assert holder.stdin is not None
            holder.stdin.close()


_SETTINGS = (
    "HostKey /run/host_key",
    "AuthorizedKeysFile /run/key.pub",
    "StrictModes no",
    "PasswordAuthentication no",
    "UsePAM no",
    "PidFile none",
    "MaxStartups 100",
)


def _server(folder: Path, number: int) -> subprocess.Popen[bytes]:
    hidden = (_ROOT, Path.home() / ".cache", Path.home() / ".ssh", Path("/tmp"))
    script = _SERVE.format(sshd=_SSHD, folder=folder, hidden=" ".join(map(str, hidden)))
    apart = ("unshare", "-nmp", "--fork", "--kill-child", "--mount-proc")
    server = _held(*apart, "sh", "-c", script, log=folder / f"sshd{number}.log")
    _until_apart(server.pid)
    return server


def _cable(hub: Sequence[str], pid: int, address: str, number: int) -> None:
    end = f"v{number}"
    inside = ["nsenter", "-t", str(pid), "-n"]
    veth = ("type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _run(*hub, "ip", "link", "add", end, *veth)
    _run(*hub, "ip", "link", "set", end, "master", "br0", "up")
    _run(*inside, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    _run(*inside, "ip", "link", "set", "eth0", "up")


def _held(*words: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    with (log or Path(os.devnull)).open("wb") as out:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            preexec_fn=_end_with_us,
        )


def _end_with_us() -> None:
    from harness.host import syscalls

    syscalls.die_with_parent(signal.SIGKILL)


def _until_apart(pid: int) -> None:
    """Wait until a process is in a network namespace of its own."""
    ours = Path("/proc/self/ns/net").readlink()
    _until(lambda: Path(f"/proc/{pid}/ns/net").readlink() != ours, "no namespace")


def _until_they_listen(hub: Sequence[str], count: int) -> None:
    script = (
        "import socket,sys\n"
        "for n in range(int(sys.argv[1])):\n"
        "    socket.create_connection((f'10.77.0.{n + 1}', 22), 1).close()"
    )
    words = [*hub, sys.executable, "-c", script, str(count)]
    _until(
        lambda: not subprocess.run(words, capture_output=True, check=False).returncode,
        "the servers don't listen",
    )


def _until(holds: object, why: str) -> None:
    assert callable(holds)
    end_s = time.monotonic() + UP_S
    while not holds():
        assert time.monotonic() < end_s, why
        time.sleep(0.02)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"

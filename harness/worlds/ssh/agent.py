"""The agent: does on a host what the controller asks, and ends with the controller.

Three processes run there, each of which survives no other:

    guardian    child of the SSH server; waits for the agent's end, kills what is left
                of the nodes, and undoes what the ledger holds
    agent       the controller's ear: files, firewall, relays; passes on to the keeper
    keeper      parent of the nodes, as in runs on one machine (`worlds.os.keeper`)

The agent ends when the controller hangs up, and when it has heard nothing for
`SILENCE_S`: a machine that has lost power doesn't hang up.

A line that begins with K is for the keeper, or from it. All others are calls,
`{"id", "call", ...}`, replies, `{"id", "result"}` or `{"id", "error"}`, and pieces of
files that nodes write, which come unasked.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import os
import platform
import signal
import socket
import stat
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.host import syscalls
from harness.worlds.network import LinkRule
from harness.worlds.os import footprint, relay, vdso
from harness.worlds.os.channel import Channel
from harness.worlds.os.keeper import Keeper, kill_descendants, reap_children
from harness.worlds.os.warden import move_away
from harness.worlds.places import Endpoint
from harness.worlds.processes import Limits
from harness.worlds.ssh import firewall, ledger
from harness.worlds.ssh.firewall import Firewall, FirewallError
from harness.worlds.ssh.ledger import Ledger
from harness.worlds.ssh.lines import Lines, read_line
from harness.worlds.ssh.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SILENCE_S = 30.0
"""The controller calls every few seconds, so this long a silence is its end."""
KEEPER_END_S = 15.0
TAIL_S = 0.02
PIECE_BYTES = 256 << 10
UNSENT_BYTES_MAX = 4 << 20
COLLECTED_BYTES_MAX = 256 << 20
"""Most that is brought back of a node's data folder."""
PORTS_EACH = 8
"""Neighbouring ports for each node: systems use some behind the one that they are
given, for their peers or for an operator."""
_PORTS_FROM, _PORTS_TO = 10_240, 32_000
TAILED = ("log", "observe.jsonl")
"""Files of a node that are followed while it writes them."""


def main() -> None:
    """Do what the first line asks: look, heal, or serve a run."""
    # Descriptors 0 and 1 are the controller's: nothing else may read or write there.
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    shelf = Shelf.at(sys.argv[1])
    shelf.ledgers.mkdir(parents=True, exist_ok=True)
    order = json.loads(read_line(read_fd) or b"null")
    if order is None:
        return
    match order["ask"]:
        case "look":
            answer: Any = findings(order["address"])
            answer["left"] = ledger.left(shelf)
        case "heal":
            answer = ledger.heal_left(shelf)
        case "run":
            serve(shelf, order, read_fd, write_fd)
        case other:
            answer = {"problem": f"there is no {other!r}"}
    os.write(write_fd, json.dumps(answer).encode() + b"\n")


def findings(address: str) -> dict[str, Any]:
    """What this machine is, and can do; nodes are to listen at the address."""
    client, _, _, port = os.environ.get("SSH_CONNECTION", "   22").split(" ")
    why_no_nft = "only root may use nftables"
    if os.geteuid() == 0:
        why_no_nft = firewall.why_not()
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "user": os.geteuid(),
        "has_address": has_address(address),
        "why_no_clocks": vdso.why_not(),
        "why_no_nft": why_no_nft,
        "controller": client,
        "ssh_port": int(port),
    }


def serve(
    shelf: Shelf, order: Mapping[str, Any], read_fd: int, write_fd: int
) -> NoReturn:
    """Serve a run to its end, whichever that is, and undo all that it began."""
    run = order["run"]
    healed = ledger.heal_left(shelf)
    put_guardian_above(shelf, run, read_fd)
    status = 1
    try:
        book = Ledger(shelf, run, order["rung"])
        ours, theirs = socket.socketpair()
        limits, agent_pid = Limits(**order["limits"]), os.getpid()
        if os.fork() == 0:
            try:
                Keeper(Channel(theirs), {}, None, limits, agent_pid, {}).run()
            finally:
                os._exit(1)
        theirs.close()
        agent = Agent(shelf, order, book, ours, healed)
        asyncio.run(agent.serve(read_fd, write_fd))
        status = 0
    except BaseException:  # it must not unwind into what the guardian's parent was
        traceback.print_exc()
    finally:
        try:
            ledger.heal(shelf, run)
        finally:
            os._exit(status)


def put_guardian_above(shelf: Shelf, run: str, read_fd: int) -> None:
    """Fork, and go on as the child; the parent heals when the child has ended.

    The parent keeps the descriptor open on which the controller is told things: so the
    controller sees its end when all is healed, and not before.

    Args:
        shelf: The folder on this host.
        run: The run.
        read_fd: Where the controller is heard.
    """
    gc.freeze()  # a file object collected after its number was closed closes another's
    syscalls.set_process_name("sb-ssh-guardian")
    syscalls.adopt_orphans()
    heeded = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, heeded)
    guardian_pid = os.getpid()
    child = os.fork()
    if child == 0:
        syscalls.set_process_name("sb-ssh-agent")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heeded)
        for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        syscalls.die_with_parent(signal.SIGTERM)
        if os.getppid() != guardian_pid:
            os._exit(1)
        return
    try:
        os.close(read_fd)
        while True:
            if signal.sigwait(heeded) != signal.SIGCHLD:
                os.kill(child, signal.SIGTERM)
            elif child in {pid for pid, _ in reap_children()}:
                break
        kill_descendants()
        ledger.heal(shelf, run)
    finally:
        os._exit(0)


class Agent:
    """The process that serves a run.

    Args:
        shelf: The folder on this host.
        order: What the controller asked for: the run, its nodes and those elsewhere.
        book: The run's ledger.
        keeper: The socket to the keeper.
        healed: What was healed of earlier runs.
    """

    def __init__(
        self,
        shelf: Shelf,
        order: Mapping[str, Any],
        book: Ledger,
        keeper: socket.socket,
        healed: list[dict[str, Any]],
    ) -> None:
        self._shelf, self._order, self._book = shelf, order, book
        self._run: str = order["run"]
        self._nodes: list[str] = order["nodes"]
        self._peers: list[str] = order["peers"]
        self._keeper = keeper
        keeper.setblocking(False)
        self._keeper_inbox = bytearray()
        self._keeper_outbox = bytearray()
        self._healed = healed
        self._listeners: dict[tuple[str, str], socket.socket] = {}
        self._relay: relay.Relay | None = None
        self._firewall: Firewall | None = None
        self._read_to: dict[tuple[str, str], int] = {}
        self._heard_s = time.monotonic()
        self._ended: asyncio.Future[str]
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: Lines
        self._calls: Mapping[str, Callable[..., Any]] = {
            "begin": self._begin,
            "connect": self._connect,
            "set_rules": self._set_rules,
            "counters": self._counters,
            "have": self._have,
            "put": self._put,
            "keep": self._keep,
            "empty": self._empty,
            "clocks": self._clocks,
            "end_nodes": self._end_nodes,
            "collect": self._collect,
        }

    async def serve(self, read_fd: int, write_fd: int) -> None:
        """Obey until the controller is gone; then undo everything."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.set_exception_handler(self._broken)
        loop.add_signal_handler(signal.SIGTERM, self._end, "SIGTERM")
        self._lines = Lines(read_fd, write_fd, self._take)
        loop.add_reader(self._keeper, self._hear_keeper)
        beside = [loop.create_task(work()) for work in (self._tail, self._listen)]
        try:
            why = await self._ended
            sys.stderr.write(f"the agent ends: {why}\n")
        finally:
            for task in beside:
                task.cancel()
            loop.remove_reader(self._keeper)
            self._keeper.close()
            await self._keeper_gone()

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    def _broken(
        self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]
    ) -> None:
        del loop
        if not self._ended.done():
            cause = context.get("exception") or RuntimeError(context["message"])
            self._ended.set_exception(cause)

    def _relay_failed(self, failed: asyncio.Future[None]) -> None:
        if not failed.cancelled() and not self._ended.done():
            self._ended.set_exception(failed.exception() or RuntimeError("no relay"))

    async def _listen(self) -> None:
        """End the agent when nothing was heard for too long."""
        while (silent_s := time.monotonic() - self._heard_s) < SILENCE_S:  # noqa: ASYNC110
            await asyncio.sleep(SILENCE_S - silent_s)
        self._end(f"the controller was silent for {SILENCE_S:g} s")

    # messages

    def _take(self, line: bytes | None) -> None:
        self._heard_s = time.monotonic()
        if line is None:
            self._end("the controller hung up")
        elif line.startswith(b"K"):
            self._keeper_outbox += line[1:] + b"\n"
            self._tell_keeper()
        else:
            request = json.loads(line)
            task = asyncio.get_running_loop().create_task(self._answer(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: dict[str, Any]) -> None:
        number, call = request.pop("id"), request.pop("call")
        try:
            result = self._calls[call](**request)
            if asyncio.iscoroutine(result):
                result = await result
        except (OSError, FirewallError) as problem:
            self._say({"id": number, "error": f"{call}: {problem}"})
        except Exception as bug:  # one call that failed must not end all nodes
            self._say({"id": number, "error": f"{call}: {type(bug).__name__}: {bug}"})
        else:
            self._say({"id": number, "result": result})

    def _say(self, message: dict[str, Any]) -> None:
        self._lines.send(json.dumps(message).encode())

    def _tell_keeper(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._keeper_outbox:
                del self._keeper_outbox[: self._keeper.send(self._keeper_outbox)]
        except BlockingIOError:
            loop.add_writer(self._keeper, self._tell_keeper)
            return
        except OSError:
            self._keeper_outbox.clear()
        loop.remove_writer(self._keeper)

    def _hear_keeper(self) -> None:
        try:
            data = self._keeper.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._keeper)
            self._end("the keeper, parent of all nodes, died")
            return
        *lines, rest = (bytes(self._keeper_inbox) + data).split(b"\n")
        self._keeper_inbox = bytearray(rest)
        for line in lines:
            if not line.startswith(b'{"hello"'):  # `findings` has told as much
                self._lines.send(b"K" + line)

    # calls

    def _begin(self) -> dict[str, Any]:
        """Make the nodes' folders, choose ports, and have relays listen."""
        if other := ledger.disturbing(self._shelf, self._run, self._order["rung"]):
            raise OSError(
                f"run {other} is under way here, and nftables would cut links of both "
                "(one run at a time, or --network proxy for both)"
            )
        for node in self._nodes:
            folder = self._shelf.node(self._run, node)
            (folder / "data").mkdir(parents=True)
        address = self._order["address"]
        ports = free_ports(address, len(self._nodes))
        doors: dict[str, dict[str, int]] = {node: {} for node in self._nodes}
        if self._order["rung"] == "proxy":
            for node in self._nodes:
                for peer in self._peers:
                    if peer != node:
                        listener = relay.listening("127.0.0.1")
                        self._listeners[node, peer] = listener
                        doors[node][peer] = listener.getsockname()[1]
        return {
            "ports": dict(zip(self._nodes, ports, strict=True)),
            "doors": doors,
            "folder": str(self._shelf.run(self._run)),
            "store": str(self._shelf.root / "store"),
            "code": os.environ.get("PYTHONPATH", ""),
            "python": sys.executable,
            "path": os.environ.get("PATH", os.defpath),
            "healed": self._healed,
        }

    async def _connect(
        self, targets: Mapping[str, list[Any]], seed: int, ssh_port: int
    ) -> None:
        """Connect relays to where nodes listen, or make the firewall's table."""
        if self._order["rung"] == "proxy":
            at = {node: Endpoint(host, port) for node, (host, port) in targets.items()}
            self._relay = relay.Relay(self._listeners, at, seed)
            # From now on the relay is told of every failure on this loop.
            failed = await self._relay.open()
            failed.add_done_callback(self._relay_failed)
            return
        table = firewall.table_of(self._run)
        peers = {n: t[0] for n, t in targets.items() if n not in self._nodes}
        self._book.note({"table": table})
        self._firewall = Firewall(table, peers, ssh_port)
        self._firewall.make()

    def _set_rules(self, rules: list[list[Any]]) -> None:
        named = {(a, b): rule for a, b, rule in rules}
        self._book.note({"rules": rules})
        if self._relay is not None:
            self._relay.set_rules(
                {link: LinkRule(**rule) for link, rule in named.items()}
            )
        elif self._firewall is not None:
            self._firewall.set_rules(
                {
                    a: (bool(rule.get("cut")), float(rule.get("loss", 0.0)))
                    for (a, b), rule in named.items()
                    if b in self._nodes
                }
            )

    def _counters(self) -> list[list[Any]]:
        """Counts of the links that this host decides about."""
        told: list[list[Any]] = []
        if self._relay is not None:
            for (a, b), counts in self._relay.counters().items():
                told.append([a, b, vars(counts)])
        elif self._firewall is not None:
            (node,) = self._nodes
            for peer, found in self._firewall.counters().items():
                told.append([peer, node, found])
        return told

    def _have(self, digests: list[str]) -> list[str]:
        """Which of these uploads are here."""
        return [digest for digest in digests if self._shelf.stored(digest).is_dir()]

    def _put(
        self, folder: str, name: str, mode: int, data: str, *, fresh: bool
    ) -> None:
        """Write a file, or more of it; the folder is a node's, or one of uploads."""
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb" if fresh else "ab") as file:
            file.write(base64.b64decode(data))
        path.chmod(mode)

    def _keep(self, folder: str, digest: str) -> None:
        """Put an upload in its place, once all of it is in a folder."""
        place = self._shelf.stored(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another run was faster
            Path(folder).rename(place)
        if not place.is_dir():
            raise OSError(f"{place} can't be made")

    def _empty(self, node: str) -> int:
        """Take away what a node that doesn't run has in its data folder."""
        data = self._shelf.node(self._run, node) / "data"
        size = footprint.size(str(data))
        move_away(data)
        return size

    def _clocks(self) -> dict[str, int]:
        return {"mono_ns": time.monotonic_ns(), "wall_ns": time.time_ns()}

    async def _end_nodes(self) -> None:
        """End all nodes, and send the rest of what they wrote."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._keeper)
        self._keeper.close()
        await self._keeper_gone()
        while self._send_tails():
            await self._room()

    async def _keeper_gone(self) -> None:
        """Wait until the keeper has ended, and all nodes with it."""
        deadline_s = time.monotonic() + KEEPER_END_S
        while time.monotonic() < deadline_s:
            try:
                if os.waitpid(-1, os.WNOHANG)[0]:  # noqa: ASYNC222  # it does not wait
                    return
            except ChildProcessError:
                return
            await asyncio.sleep(0.005)

    async def _collect(self, node: str) -> dict[str, int]:
        """Send all plain files of a node's data folder, up to a bound."""
        folder = self._shelf.node(self._run, node)
        sent, left_out = 0, 0
        for at, _, names in sorted(os.walk(folder / "data")):
            for path in (Path(at, name) for name in sorted(names)):
                size = _plain_size(path)
                if size is None:
                    continue
                if sent + size > COLLECTED_BYTES_MAX:
                    left_out += 1
                    continue
                await self._send_whole(node, str(path.relative_to(folder)))
                sent += size
        return {"bytes": sent, "left_out": left_out}

    async def _send_whole(self, node: str, name: str) -> None:
        read_to, last = 0, PIECE_BYTES
        while last == PIECE_BYTES:
            last = self._send_piece(node, name, read_to, fresh=read_to == 0)
            read_to += last
            await self._room()

    async def _room(self) -> None:
        """Wait until the controller has taken most of what it was sent."""
        while self._lines.unsent_bytes > UNSENT_BYTES_MAX and not self._ended.done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    # files that nodes write

    async def _tail(self) -> None:
        """Send what nodes append to their logs and observations."""
        while True:
            if self._lines.unsent_bytes < UNSENT_BYTES_MAX:
                self._send_tails()
            await asyncio.sleep(TAIL_S)

    def _send_tails(self) -> int:
        """Send the next pieces; how many bytes."""
        return sum(
            self._send_tail(node, name) for node in self._nodes for name in TAILED
        )

    def _send_tail(self, node: str, name: str) -> int:
        size = _plain_size(self._shelf.node(self._run, node) / name)
        read_to = self._read_to.get((node, name), 0)
        if size is None or size == read_to:
            return 0
        if size < read_to:
            read_to = size  # a log that grew too long has lost its middle
        sent = self._send_piece(node, name, read_to) if size > read_to else 0
        self._read_to[node, name] = read_to + sent
        return sent

    def _send_piece(self, node: str, name: str, at: int, *, fresh: bool = False) -> int:
        """Send some bytes of a file, from `at`; how many there were."""
        path = self._shelf.node(self._run, node) / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                data = os.pread(fd, PIECE_BYTES, at)
            finally:
                os.close(fd)
        except OSError:
            return 0  # it was removed
        content = base64.b64encode(data).decode()
        piece = {"node": node, "name": name, "data": content, "fresh": fresh}
        self._say({"piece": piece})
        return len(data)


def _plain_size(path: Path) -> int | None:
    """The size of a plain file; None if it is anything else."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def free_ports(address: str, nodes: int) -> list[int]:
    """For each node, the first of `PORTS_EACH` free ports of an address.

    They lie below those that the kernel gives to outgoing connections. Who asks at the
    same time begins its search elsewhere.
    """
    starts = range(_PORTS_FROM, _PORTS_TO, PORTS_EACH)
    first = int.from_bytes(os.urandom(2), "big") % len(starts)
    found: list[int] = []
    for start in (*starts[first:], *starts[:first]):
        if all(_is_free(address, start + n) for n in range(PORTS_EACH)):
            found.append(start)
            if len(found) == nodes:
                return found
    raise OSError(f"no {nodes} times {PORTS_EACH} neighbouring TCP ports are free")


def has_address(address: str) -> bool:
    """Whether programs on this machine can listen at the address."""
    return _is_free(address, 0)


def _is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main()

"""Answers the kernel's requests for one node's files.

One thread, no locks: a request is read, carried out and answered before the next is
looked at. What a rule delays waits in a heap meanwhile. Only notices to the kernel
(forget what you have cached) leave from a thread of their own, as the kernel may want
an answer from us before it takes one.

We are never told of an open or a close: the kernel asks once, hears that it need not
(ENOSYS), and says when it has forgotten a file altogether.

A loss of power:

    armed     carries on until the moment has come; see `orders`
    frozen    answers nobody and reads nothing, so no operation gets through
    drowning  answers everything with EIO; those who wait have been killed, and can
              only end once they are answered
    serving   on what is durable; every file has a new node id, so whatever the kernel
              still says of the old ones is told apart
"""

from __future__ import annotations

import contextlib
import errno
import functools
import heapq
import os
import select
import stat
import threading
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import msgspec

from harness.worlds.os.disk import abi
from harness.worlds.os.disk.abi import Op
from harness.worlds.os.disk.decay import Decays
from harness.worlds.os.disk.filesystem import ROOT, joined
from harness.worlds.os.disk.orders import (
    Arm,
    AskCounters,
    AwaitMoment,
    Counted,
    Decay,
    Drown,
    Look,
    Order,
    Repair,
    Restart,
    SetRules,
    Snapshot,
)
from harness.worlds.os.disk.rules import Rules

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from harness.worlds.disks import FileOp
    from harness.worlds.os.disk.filesystem import FileSystem
    from harness.worlds.os.disk.inodes import Inode
    from harness.worlds.os.helper import Desk

MAX_WRITE = 1 << 20
_VALID_S = 1 << 30
"""Nobody but us changes anything, so what the kernel has cached stays true."""
_EPOCH_BITS = 40
_ARMED_POLL_S = 0.002
_INTERRUPTED_POLL_S = 0.02
_KILLED = 1 << 8
_LISTING_BYTES_MAX = 1 << 16
_WANTED = (
    abi.ASYNC_READ
    | abi.BIG_WRITES
    | abi.ASYNC_DIO
    | abi.PARALLEL_DIROPS
    | abi.MAX_PAGES
    | abi.CACHE_SYMLINKS
    | abi.EXPLICIT_INVAL_DATA
    | abi.HANDLE_KILLPRIV_V2
)
_UNASKED = {Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT, Op.DESTROY}
"""What takes no reply."""
_ALWAYS = _UNASKED | {Op.INIT, Op.RELEASE, Op.RELEASEDIR, Op.FLUSH}
"""What goes on as ever while all else fails."""

_FILE_OPS: dict[int, FileOp] = {
    Op.READ: "read",
    Op.WRITE: "write",
    Op.FALLOCATE: "write",
    Op.FSYNC: "fsync",
    Op.FSYNCDIR: "fsync",
    Op.RENAME: "rename",
    Op.RENAME2: "rename",
    Op.CREATE: "create",
    Op.MKNOD: "create",
    Op.MKDIR: "create",
    Op.SYMLINK: "create",
    Op.LINK: "create",
}


class Request(NamedTuple):
    """What the kernel asks."""

    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    body: memoryview | bytes


class Refused(Exception):  # noqa: N818 - it is an answer, no failure of ours
    """A request that ends with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


_Handler: TypeAlias = "Callable[[Request], bytes | None]"
_Notice: TypeAlias = "tuple[int, bytes]"
"""A code of abi.NOTIFY_*, and what follows."""


class Server:
    """Serves one file system until its desk says stop.

    Args:
        fuse: /dev/fuse, mounted.
        disk: What is served.
        desk: Where orders come from.
        moment: Shared by the servers of all nodes; its first byte says that the moment
            has come at which those that are armed lose power.
    """

    def __init__(
        self, fuse: int, disk: FileSystem, desk: Desk, moment: mmap.mmap
    ) -> None:
        self._fuse = fuse
        self._disk = disk
        self._desk = desk
        self._moment = moment
        self._rules = Rules()
        self._decays = Decays(disk)
        self._buffer = bytearray(MAX_WRITE + (1 << 16))
        self._view = memoryview(self._buffer)
        self._state: Literal["serving", "frozen", "drowning"] = "serving"
        self._epoch = 0
        self._served_ns = time.time_ns()
        """When we last may have changed what is written."""
        self._delayed: list[tuple[float, int, Request]] = []
        self._interrupted: dict[int, Request] = {}
        """Of what is delayed: a signal came for who waits; perhaps SIGKILL."""

        # of a loss of power
        self._armed: Arm | None = None
        self._armed_until_s = 0.0
        self._held: list[Request] = []
        """What was asked at the moment; never carried out."""
        self._syncing: int | None = None
        self._awaited = False
        """Whether the controller waits to hear of the moment."""

        self._noticed, self._noticing = os.pipe()
        self._after_notices: Callable[[], None] = lambda: None
        self._order: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
        self._handlers: dict[int, _Handler] = {
            Op.LOOKUP: self._lookup,
            Op.FORGET: self._forget,
            Op.BATCH_FORGET: self._forget_many,
            Op.GETATTR: self._getattr,
            Op.SETATTR: self._setattr,
            Op.READLINK: self._readlink,
            Op.SYMLINK: self._symlink,
            Op.MKNOD: self._mknod,
            Op.MKDIR: self._mkdir,
            Op.UNLINK: self._unlink,
            Op.RMDIR: self._rmdir,
            Op.RENAME: self._rename,
            Op.RENAME2: self._rename2,
            Op.LINK: self._link,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.STATFS: self._statfs,
            Op.RELEASE: _nothing,
            Op.RELEASEDIR: _nothing,
            Op.FSYNC: self._fsync,
            Op.FSYNCDIR: self._fsync,
            Op.SETXATTR: self._setxattr,
            Op.GETXATTR: self._getxattr,
            Op.LISTXATTR: self._listxattr,
            Op.REMOVEXATTR: self._removexattr,
            Op.INIT: self._init,
            Op.READDIR: self._readdir,
            Op.CREATE: self._create,
            Op.INTERRUPT: self._interrupt,
            Op.DESTROY: _nothing,
            Op.FALLOCATE: self._fallocate,
            Op.LSEEK: self._lseek,
        }

    def run(self) -> None:
        """Serve."""
        epoll = select.epoll()
        orders, noticed = self._desk.fileno(), self._noticed
        for fd in (self._fuse, orders, noticed):
            epoll.register(fd, select.EPOLLIN)
        reading = True
        while True:
            if reading != (self._state != "frozen"):
                reading = not reading
                epoll.modify(self._fuse, select.EPOLLIN if reading else 0)
            for fd, _ in epoll.poll(self._patience_s()):
                if fd == self._fuse:
                    if not self._take():
                        return
                elif fd == noticed:
                    os.read(noticed, 1)
                    self._after_notices()
                elif not self._take_order():
                    return
            if self._armed is not None or self._delayed:
                self._look_at_the_time()

    # the loop

    def _patience_s(self) -> float:
        if self._armed is not None:
            return _ARMED_POLL_S
        if self._state != "serving" or not self._delayed:
            return -1
        wait_s = max(0.0, self._delayed[0][0] - time.monotonic())
        return min(wait_s, _INTERRUPTED_POLL_S) if self._interrupted else wait_s

    def _look_at_the_time(self) -> None:
        now_s = time.monotonic()
        if self._armed is not None and (
            self._moment[0] or now_s >= self._armed_until_s
        ):
            self._freeze()
        if self._state != "serving":
            return
        for request in list(self._interrupted.values()):
            if _is_killed(request.pid):
                # It waits for nothing any more, and can't end before it is answered.
                self._delayed = [d for d in self._delayed if d[2] is not request]
                heapq.heapify(self._delayed)
                del self._interrupted[request.unique]
                self._refuse(request, errno.EINTR)
        while self._delayed and self._delayed[0][0] <= now_s:
            request = heapq.heappop(self._delayed)[2]
            self._interrupted.pop(request.unique, None)
            self._carry_out(request)

    def _take(self) -> bool:
        """Take one request and see to it; False when the file system is gone."""
        try:
            size = os.readv(self._fuse, [self._buffer])
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.ENOENT:
                return True  # it was withdrawn
            return error.errno != errno.ENODEV
        _, opcode, unique, node, uid, gid, pid, _, _ = abi.IN_HEADER.unpack_from(
            self._buffer
        )
        body = self._view[abi.IN_HEADER.size : size]
        request = Request(opcode, unique, node, uid, gid, pid, body)
        if self._armed is not None and opcode not in _UNASKED:
            self._heed_the_moment(request)
        if self._state == "frozen":
            if opcode not in _UNASKED:
                self._held.append(request._replace(body=bytes(body)))
            return True
        if self._state == "drowning" and opcode not in _ALWAYS:
            self._refuse(request, errno.EIO)
            return True
        if self._rules.by_operation and opcode in _FILE_OPS:
            delay_s = self._delay_s(request)
            if delay_s:
                kept = request._replace(body=bytes(body))
                heapq.heappush(
                    self._delayed, (time.monotonic() + delay_s, unique, kept)
                )
                return True
        self._carry_out(request)
        return True

    def _carry_out(self, request: Request) -> None:
        handler = self._handlers.get(request.opcode)
        if handler is None:
            self._refuse(request, errno.ENOSYS)
            return
        try:
            if self._rules.by_operation and request.opcode in _FILE_OPS:
                self._fail(request)
            reply = handler(request)
        except (OSError, Refused) as error:
            if request.opcode not in _UNASKED:
                self._refuse(request, error.errno or errno.EIO)
            return
        self._served_ns = time.time_ns()
        if reply is not None:
            self._answer(request, reply)

    def _answer(self, request: Request, reply: bytes) -> None:
        header = abi.OUT_HEADER.pack(
            abi.OUT_HEADER.size + len(reply), 0, request.unique
        )
        # ENOENT: nobody waits for it any more.
        with contextlib.suppress(FileNotFoundError):
            os.writev(self._fuse, [header, reply])

    def _refuse(self, request: Request, number: int) -> None:
        header = abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -number, request.unique)
        with contextlib.suppress(FileNotFoundError):
            os.write(self._fuse, header)

    # rules

    def _paths(self, request: Request) -> list[bytes]:
        """Those that a request is about, in the file system."""
        disk, body = self._disk, request.body
        here = disk.inodes.get(self._number(request.node))
        path = b"" if here is None else disk.path(here)
        match request.opcode:
            case Op.RENAME | Op.RENAME2:
                size = abi.RENAME_IN.size
                if request.opcode == Op.RENAME2:
                    size = abi.RENAME2_IN.size
                [parent] = abi.RENAME_IN.unpack_from(body)
                there = disk.inodes.get(self._number(parent))
                above = b"" if there is None else disk.path(there)
                old, new = _names(body[size:], 2)
                return [joined(path, old), joined(above, new)]
            case Op.CREATE:
                return [joined(path, _names(body[abi.CREATE_IN.size :], 1)[0])]
            case Op.MKNOD:
                return [joined(path, _names(body[abi.MKNOD_IN.size :], 1)[0])]
            case Op.MKDIR:
                return [joined(path, _names(body[abi.MKDIR_IN.size :], 1)[0])]
            case Op.LINK:
                return [joined(path, _names(body[abi.LINK_IN.size :], 1)[0])]
            case Op.SYMLINK:
                return [joined(path, _names(body, 2)[0])]
            case _:
                return [path]

    def _delay_s(self, request: Request) -> float:
        operation = _FILE_OPS[request.opcode]
        if operation not in self._rules.by_operation:
            return 0.0
        return self._rules.delay_s(operation, self._paths(request))

    def _fail(self, request: Request) -> None:
        operation = _FILE_OPS[request.opcode]
        if operation not in self._rules.by_operation:
            return
        number = self._rules.error(operation, self._paths(request))
        if number and operation == "fsync":
            self._disk.fail_to_sync(self._number(request.node))
        if number:
            raise Refused(number)

    # orders

    def _take_order(self) -> bool:
        body = self._desk.take()
        if body is None:
            return False
        self._carry_out_order(self._order.decode(body))
        return True

    def _carry_out_order(self, order: Order) -> None:
        match order:
            case SetRules(rules):
                self._rules.set(rules)
                reads = [r for r in rules if "read" in r.operations]
                self._notify(self._forget_pages() if reads else [], self._desk.answer)
            case AskCounters():
                done = self._rules.counters
                self._desk.answer(Counted(done.errors, done.delayed, done.syncs))
            case Look():
                known = list(self._disk.inode(ROOT).entries)
                differs = self._disk.look(self._served_ns)
                notices = [*_forget_root(known), *self._forget_pages()]
                self._notify(notices if differs else [], self._desk.answer)
            case Arm(_, within_s):
                self._armed = order
                self._armed_until_s = time.monotonic() + within_s
                self._desk.answer()
            case AwaitMoment():
                self._awaited = True
                self._tell_of_moment()
            case Drown():
                self._drown()
                self._desk.answer()
            case Restart(loss):
                known = list(self._disk.inode(ROOT).entries)
                lost = self._disk.lose_power(loss, self._syncing)
                self._notify(_forget_root(known), lambda: self._restarted(lost))
            case Snapshot(damage):
                self._desk.answer(self._decays.snapshot(damage))
            case Decay(damage):
                decayed, inodes = self._decays.damage(damage)
                told = functools.partial(self._desk.answer, decayed)
                self._notify(self._forget_pages(inodes), told)
            case Repair():
                inodes = self._decays.repair()
                told = functools.partial(self._desk.answer, len(inodes))
                self._notify(self._forget_pages(inodes), told)
        self._served_ns = time.time_ns()

    # losses of power

    def _heed_the_moment(self, request: Request) -> None:
        """Freeze if the moment has come, or comes with this request."""
        assert self._armed is not None
        syncs = request.opcode in {Op.FSYNC, Op.FSYNCDIR}
        if self._armed.during and syncs:
            self._moment[0] = 1
            self._syncing = self._number(request.node)
        if self._moment[0]:
            self._freeze()

    def _freeze(self) -> None:
        self._moment[0] = 1
        self._armed = None
        self._state = "frozen"
        self._tell_of_moment()

    def _tell_of_moment(self) -> None:
        if self._awaited and self._state == "frozen":
            self._awaited = False
            self._desk.answer(self._syncing is not None)

    def _drown(self) -> None:
        self._state = "drowning"
        waiting = [*self._held, *(delayed[2] for delayed in self._delayed)]
        self._held, self._delayed, self._interrupted = [], [], {}
        for request in waiting:
            self._refuse(request, errno.EIO)

    def _restarted(self, lost: object) -> None:
        self._epoch += 1
        self._served_ns = time.time_ns()
        self._syncing = None
        self._state = "serving"
        self._desk.answer(lost)

    def _forget_pages(self, inodes: list[Inode] | None = None) -> list[_Notice]:
        known = self._disk.inodes.values() if inodes is None else inodes
        return [
            _forget_pages_of(self._node(inode))
            for inode in known
            if inode.lookups and inode.is_file
        ]

    def _notify(self, notices: list[_Notice], then: Callable[[], None]) -> None:
        """Tell the kernel, and go on with `then` once it has taken it all."""
        if not notices:
            then()
            return

        def send() -> None:
            for code, body in notices:
                header = abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), code, 0)
                # ENOENT: it knows nothing of that anyway.
                with contextlib.suppress(OSError):
                    os.writev(self._fuse, [header, body])
            os.write(self._noticing, b"!")

        self._after_notices = then
        threading.Thread(target=send, daemon=True).start()

    # nodes of the kernel, and inodes

    def _number(self, node: int) -> int:
        """Of the inode that the kernel calls so; 0 for one of before a power loss."""
        if node == abi.ROOT_ID:
            return ROOT
        return (
            node & (1 << _EPOCH_BITS) - 1 if node >> _EPOCH_BITS == self._epoch else 0
        )

    def _node(self, inode: Inode) -> int:
        if inode.number == ROOT:
            return abi.ROOT_ID
        return self._epoch << _EPOCH_BITS | inode.number

    def _inode(self, request: Request) -> Inode:
        return self._disk.inode(self._number(request.node))

    def _attributes(self, inode: Inode) -> bytes:
        seconds, rests = zip(
            *(divmod(time_ns, 10**9) for time_ns in inode.times_ns), strict=True
        )
        return abi.ATTRIBUTES.pack(
            inode.number,
            4096 if inode.is_folder else inode.size,
            self._disk.blocks(inode),
            *seconds,
            *rests,
            inode.mode,
            inode.links,
            inode.uid,
            inode.gid,
            0,  # no devices
            4096,
            0,
        )

    def _entry(self, inode: Inode) -> bytes:
        self._disk.remember(inode)
        head = abi.ENTRY_OUT.pack(self._node(inode), 0, _VALID_S, _VALID_S, 0, 0)
        return head + self._attributes(inode)

    def _told_attributes(self, inode: Inode) -> bytes:
        return abi.ATTR_OUT.pack(_VALID_S, 0, 0) + self._attributes(inode)

    # requests

    def _init(self, request: Request) -> bytes:
        _, minor, readahead, offered = abi.INIT_IN.unpack_from(request.body)
        return abi.INIT_OUT.pack(
            abi.MAJOR,
            min(minor, abi.MINOR),
            readahead,
            offered & _WANTED,
            64,
            48,
            MAX_WRITE,
            1,
            MAX_WRITE // 4096,
            0,
            0,
        )

    def _lookup(self, request: Request) -> bytes:
        [name] = _names(request.body, 1)
        return self._entry(self._disk.lookup(self._number(request.node), name))

    def _forget(self, request: Request) -> None:
        [times] = abi.FORGET_IN.unpack_from(request.body)
        self._disk.forget(self._number(request.node), times)

    def _forget_many(self, request: Request) -> None:
        count, _ = abi.BATCH_FORGET_IN.unpack_from(request.body)
        size = abi.FORGET_ONE.size
        begin = abi.BATCH_FORGET_IN.size
        for at in range(begin, begin + count * size, size):
            node, times = abi.FORGET_ONE.unpack_from(request.body, at)
            self._disk.forget(self._number(node), times)

    def _getattr(self, request: Request) -> bytes:
        return self._told_attributes(self._inode(request))

    def _setattr(self, request: Request) -> bytes:
        inode = self._inode(request)
        (
            valid,
            _,
            _,
            size,
            _,
            atime,
            mtime,
            ctime,
            atime_ns,
            mtime_ns,
            ctime_ns,
            mode,
        ) = abi.SETATTR_IN.unpack_from(request.body)[:12]
        uid, gid = abi.SETATTR_IN.unpack_from(request.body)[13:15]
        now_ns = time.time_ns()
        inode.times_ns[2] = now_ns
        if valid & abi.SET_SIZE:
            self._truncate(request, inode, size)
        changes_hands = valid & (abi.SET_KILL_SUIDGID | abi.SET_UID | abi.SET_GID)
        if changes_hands and not inode.is_folder:
            inode.drop_set_ids()
        if valid & abi.SET_MODE:
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)
        if valid & abi.SET_UID:
            inode.uid = uid
        if valid & abi.SET_GID:
            inode.gid = gid
        if valid & abi.SET_ATIME:
            now = valid & abi.SET_ATIME_NOW
            inode.times_ns[0] = now_ns if now else atime * 10**9 + atime_ns
        if valid & abi.SET_MTIME:
            now = valid & abi.SET_MTIME_NOW
            inode.times_ns[1] = now_ns if now else mtime * 10**9 + mtime_ns
        if valid & abi.SET_CTIME:
            inode.times_ns[2] = ctime * 10**9 + ctime_ns
        return self._told_attributes(inode)

    def _truncate(self, request: Request, inode: Inode, size: int) -> None:
        if "write" in self._rules.by_operation:
            number = self._rules.error("write", self._paths(request))
            if number:
                raise Refused(number)
        self._disk.truncate(inode.number, size)

    def _readlink(self, request: Request) -> bytes:
        return self._inode(request).target

    def _make(
        self, request: Request, name: bytes, mode: int, target: bytes = b""
    ) -> Inode:
        return self._disk.create(
            self._number(request.node),
            name,
            mode,
            uid=request.uid,
            gid=request.gid,
            target=target,
        )

    def _symlink(self, request: Request) -> bytes:
        name, target = _names(request.body, 2)
        mode = stat.S_IFLNK | 0o777
        return self._entry(self._make(request, name, mode, target))

    def _mknod(self, request: Request) -> bytes:
        mode = abi.MKNOD_IN.unpack_from(request.body)[0]
        [name] = _names(request.body[abi.MKNOD_IN.size :], 1)
        return self._entry(self._make(request, name, mode))

    def _mkdir(self, request: Request) -> bytes:
        mode, _ = abi.MKDIR_IN.unpack_from(request.body)
        [name] = _names(request.body[abi.MKDIR_IN.size :], 1)
        return self._entry(self._make(request, name, stat.S_IFDIR | mode))

    def _create(self, request: Request) -> bytes:
        mode = abi.CREATE_IN.unpack_from(request.body)[1]
        [name] = _names(request.body[abi.CREATE_IN.size :], 1)
        inode = self._make(request, name, stat.S_IFREG | stat.S_IMODE(mode))
        return self._entry(inode) + abi.OPEN_OUT.pack(0, abi.FOPEN_KEEP_CACHE, 0)

    def _unlink(self, request: Request) -> bytes:
        [name] = _names(request.body, 1)
        self._disk.unlink(self._number(request.node), name)
        return b""

    def _rmdir(self, request: Request) -> bytes:
        [name] = _names(request.body, 1)
        self._disk.rmdir(self._number(request.node), name)
        return b""

    def _rename(self, request: Request) -> bytes:
        [parent] = abi.RENAME_IN.unpack_from(request.body)
        return self._move(request, parent, 0, abi.RENAME_IN.size)

    def _rename2(self, request: Request) -> bytes:
        parent, flags, _ = abi.RENAME2_IN.unpack_from(request.body)
        return self._move(request, parent, flags, abi.RENAME2_IN.size)

    def _move(self, request: Request, parent: int, flags: int, size: int) -> bytes:
        old, new = _names(request.body[size:], 2)
        here, there = self._number(request.node), self._number(parent)
        if flags == abi.RENAME_EXCHANGE:
            self._disk.exchange(here, old, there, new)
        elif flags in {0, abi.RENAME_NOREPLACE}:
            self._disk.rename(here, old, there, new, replace=not flags)
        else:
            raise Refused(errno.EINVAL)
        return b""

    def _link(self, request: Request) -> bytes:
        [node] = abi.LINK_IN.unpack_from(request.body)
        [name] = _names(request.body[abi.LINK_IN.size :], 1)
        folder = self._number(request.node)
        return self._entry(self._disk.link(self._number(node), folder, name))

    def _read(self, request: Request) -> bytes:
        _, offset, size, *_ = abi.READ_IN.unpack_from(request.body)
        return self._disk.read(self._number(request.node), offset, size)

    def _write(self, request: Request) -> bytes:
        _, offset, size, flags, *_ = abi.WRITE_IN.unpack_from(request.body)
        begin = abi.WRITE_IN.size
        number = self._number(request.node)
        self._disk.write(number, offset, request.body[begin : begin + size])
        if flags & abi.WRITE_KILL_SUIDGID:
            self._disk.inode(number).drop_set_ids()
        return abi.WRITE_OUT.pack(size, 0)

    def _fsync(self, request: Request) -> bytes:
        self._disk.sync(self._number(request.node))
        self._rules.counters.syncs += 1
        return b""

    def _fallocate(self, request: Request) -> bytes:
        _, offset, length, mode, _ = abi.FALLOCATE_IN.unpack_from(request.body)
        self._disk.allocate(self._number(request.node), mode, offset, length)
        return b""

    def _lseek(self, request: Request) -> bytes:
        _, offset, whence, _ = abi.LSEEK_IN.unpack_from(request.body)
        at = self._disk.seek(self._number(request.node), offset, whence)
        return abi.LSEEK_OUT.pack(at)

    def _statfs(self, request: Request) -> bytes:
        told = os.statvfs(self._disk.contents.written)
        return abi.STATFS_OUT.pack(
            told.f_blocks,
            told.f_bfree,
            told.f_bavail,
            told.f_files,
            told.f_ffree,
            told.f_bsize,
            255,
            told.f_frsize,
            0,
        )

    def _readdir(self, request: Request) -> bytes:
        _, offset, size, *_ = abi.READ_IN.unpack_from(request.body)
        found = bytearray()
        folder = self._number(request.node)
        for name, inode, place in self._disk.listing(folder, offset):
            kind = stat.S_IFMT(inode.mode) >> 12
            entry = abi.DIRENT.pack(inode.number, place, len(name), kind) + name
            entry += b"\0" * (-len(entry) % 8)
            if len(found) + len(entry) > min(size, _LISTING_BYTES_MAX):
                break
            found += entry
        return bytes(found)

    # extended attributes

    def _setxattr(self, request: Request) -> bytes:
        size, flags = abi.SETXATTR_IN.unpack_from(request.body)
        rest = bytes(request.body[abi.SETXATTR_IN.size :])
        name, _, value = rest.partition(b"\0")
        if name.startswith(b"system."):
            raise Refused(errno.EOPNOTSUPP)  # access control lists
        attributes = self._inode(request).attributes
        if flags & os.XATTR_CREATE and name in attributes:
            raise Refused(errno.EEXIST)
        if flags & os.XATTR_REPLACE and name not in attributes:
            raise Refused(errno.ENODATA)
        attributes[name] = value[:size]
        return b""

    def _getxattr(self, request: Request) -> bytes:
        size, _ = abi.GETXATTR_IN.unpack_from(request.body)
        [name] = _names(request.body[abi.GETXATTR_IN.size :], 1)
        value = self._inode(request).attributes.get(name)
        if value is None:
            raise Refused(errno.ENODATA)
        return _sized(value, size)

    def _listxattr(self, request: Request) -> bytes:
        size, _ = abi.GETXATTR_IN.unpack_from(request.body)
        names = self._inode(request).attributes
        return _sized(b"".join(name + b"\0" for name in names), size)

    def _removexattr(self, request: Request) -> bytes:
        [name] = _names(request.body, 1)
        if self._inode(request).attributes.pop(name, None) is None:
            raise Refused(errno.ENODATA)
        return b""

    # signals

    def _interrupt(self, request: Request) -> None:
        """A signal came for who waits; it only matters if that ends him."""
        [unique] = abi.INTERRUPT_IN.unpack_from(request.body)
        for _, _, delayed in self._delayed:
            if delayed.unique == unique:
                self._interrupted[unique] = delayed


def _nothing(request: Request) -> bytes | None:
    """The answer to what needs none of us."""
    return None if request.opcode in _UNASKED else b""


def _forget_root(names: list[bytes]) -> list[_Notice]:
    """Have the kernel look everything up again: it knew these names in the root."""
    notices = [_forget_pages_of(abi.ROOT_ID)]
    for name in names:
        body = abi.INVAL_ENTRY_OUT.pack(abi.ROOT_ID, len(name), 0)
        notices.append((abi.NOTIFY_INVAL_ENTRY, body + name + b"\0"))
    return notices


def _forget_pages_of(node: int) -> _Notice:
    return abi.NOTIFY_INVAL_INODE, abi.INVAL_INODE_OUT.pack(node, 0, 0)


def _names(body: memoryview | bytes, count: int) -> list[bytes]:
    """Zero-ended names, one after the other."""
    return bytes(body).split(b"\0")[:count]


def _sized(value: bytes, size: int) -> bytes:
    """What who asks for an extended attribute gets, or its size if he asked for that.

    Raises:
        Refused: It does not fit.
    """
    if size == 0:
        return abi.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise Refused(errno.ERANGE)
    return value


def _is_killed(thread: int) -> bool:
    """Whether SIGKILL waits for a thread, or it is gone."""
    try:
        with open(f"/proc/{thread}/status") as lines:
            pending = [line for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    except OSError:
        return True
    return any(int(line.split()[1], 16) & _KILLED for line in pending)

"""The simulated file system against a pure model, and the real log on top of it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.worlds.disks import Damage, DiskRule, Loss
from harness.worlds.sim.disk import WRITE_BACK_NS, Disk, PowerFailed
from reference_impls.mutants import logs
from reference_impls.wal import CorruptLogError, Identity, WalError, WriteAheadLog

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("a", "b")

# --- a pure model ----------------------------------------------------------------


@dataclass(eq=False)
class Content:
    """What a file is to whoever runs, what a loss of power leaves for sure, and changes
    in between: (offset, data), or (size, None) for a truncation.
    """

    seen: bytes = b""
    sure: bytes = b""
    changes: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, at: int, data: bytes | None) -> None:
        self.seen = changed(self.seen, at, data)
        self.changes.append((at, data))

    def allows(self, found: bytes) -> bool:
        """Whether a loss of power may leave that: byte by byte, and in length."""
        ends = [at + len(data or b"") for at, data in self.changes]
        cuts = [at for at, data in self.changes if data is None]
        if (
            not min([len(self.sure), *cuts])
            <= len(found)
            <= max([len(self.sure), *ends])
        ):
            return False
        return all(byte in self.possible(at) for at, byte in enumerate(found))

    def possible(self, at: int) -> set[int]:
        written = {
            data[at - begin]
            for begin, data in self.changes
            if data is not None and begin <= at < begin + len(data)
        }
        sure = set(self.sure[at : at + 1])
        return written | sure | ({0} if self.changes else set())


def changed(content: bytes, at: int, data: bytes | None) -> bytes:
    padded = content.ljust(at, b"\0")
    return (
        padded[:at] if data is None else padded[:at] + data + padded[at + len(data) :]
    )


@dataclass
class Model:
    """Names and what they lead to; what is durable of that."""

    seen: dict[str, Content] = field(default_factory=dict)
    sure: dict[str, Content] = field(default_factory=dict)
    namings: list[tuple[str | None, str, Content]] = field(default_factory=list)

    def name(self, old: str | None, new: str, content: Content) -> None:
        if old is not None:
            del self.seen[old]
        self.seen[new] = content
        self.namings.append((old, new, content))

    def sync_names(self) -> None:
        self.sure = dict(self.seen)
        self.namings.clear()

    def may_lead_to(self, name: str) -> list[Content | None]:
        """What a name may lead to after a loss of power; None: it isn't there."""
        moved = any(old == name for old, _, _ in self.namings)
        new = [content for _, other, content in self.namings if other == name]
        return [self.sure.get(name), *new, *([None] if moved else [])]

    def lose(self, left: dict[str, bytes]) -> None:
        """Go on from what a loss of power has left; no file has two names."""
        self.seen = {name: Content(found, found) for name, found in left.items()}
        self.sync_names()


class Both:
    """A disk and the model, to which the same is done."""

    def __init__(self) -> None:
        self.disk, self.model = Disk(lambda: 0), Model()

    def do(self, act: str, name: str, at: int, data: bytes) -> None:
        model = self.model
        content = model.seen.get(name)
        if act == "sync folder":
            self.disk.sync_folder("")
            model.sync_names()
        elif act == "rename":
            if content is not None:
                other = NAMES[name == NAMES[0]]
                self.disk.rename(name, other)
                model.name(name, other, content)
        elif act == "crash":
            self.disk.crash()
        else:
            self.on_file(act, name, at, data)
        self.agree()

    def on_file(self, act: str, name: str, at: int, data: bytes) -> None:
        fd = self.disk.open(name)
        if name not in self.model.seen:
            self.model.name(None, name, Content())
        content = self.model.seen[name]
        if act == "write":
            self.disk.write(fd, data, at)
            content.change(at, data)
        elif act == "truncate":
            self.disk.truncate(fd, at)
            content.change(at, None)
        elif act == "sync":
            self.disk.sync_data(fd)
            content.sure = durable_after(content)
            content.changes.clear()
        elif act == "failing sync":
            self.disk.rules = [DiskRule(operations=frozenset({"fsync"}), error="EIO")]
            with pytest.raises(OSError, match="error"):
                self.disk.sync(fd)
            self.disk.rules = ()
            content.changes.clear()
        with suppress(KeyError):  # a crash may have closed it
            self.disk.close(fd)

    def agree(self) -> None:
        for name in NAMES:
            content = self.model.seen.get(name)
            if content is None:
                with pytest.raises(FileNotFoundError):
                    self.disk.contents(name)
            else:
                assert self.disk.contents(name) == content.seen

    def lose_power(self, loss: Loss) -> None:
        model = self.model
        may = {name: model.may_lead_to(name) for name in NAMES}
        if not loss.names or (loss.kept == 1 and not loss.torn):
            may = {name: [model.seen.get(name)] for name in NAMES}
        elif loss.kept == 0:
            may = {name: [model.sure.get(name)] for name in NAMES}
        self.disk.lose_power(loss, Random(loss.seed))
        left: dict[str, bytes] = {}
        for name in NAMES:
            try:
                found = self.disk.contents(name)
            except FileNotFoundError:
                assert None in may[name]
                continue
            fitting = [c for c in may[name] if c is not None and c.allows(found)]
            if loss.kept == 0:
                fitting = [c for c in fitting if c.sure == found]
            elif loss.kept == 1 and not loss.torn:
                fitting = [c for c in fitting if durable_after(c) == found]
            assert fitting, (name, found)
            left[name] = found
        model.lose(left)


def durable_after(content: Content) -> bytes:
    """What is durable when all changes are: not what is seen, if a sync has failed."""
    durable = content.sure
    for change in content.changes:
        durable = changed(durable, *change)
    return durable


ACTS = st.sampled_from(
    [
        *("write", "write", "truncate", "sync", "failing sync"),
        *("rename", "sync folder", "crash"),
    ]
)
STEPS = st.lists(
    st.tuples(
        ACTS,
        st.sampled_from(NAMES),
        st.integers(0, 1200),
        st.integers(1, 700).map(lambda n: bytes(1 + i % 255 for i in range(n))),
    ),
    max_size=10,
)
LOSSES = st.builds(
    Loss,
    kept=st.sampled_from([0.0, 0.5, 1.0]),
    torn=st.booleans(),
    names=st.booleans(),
    seed=st.integers(0, 1000),
)


@given(st.lists(st.tuples(STEPS, LOSSES), max_size=3))
def test_a_disk_keeps_what_the_model_says_and_loses_nothing_else(
    lives: list[tuple[Any, Loss]],
) -> None:
    both = Both()
    for steps, loss in lives:
        for step in steps:
            both.do(*step)
        both.lose_power(loss)
        both.agree()


def written(disk: Disk, name: str, data: bytes, *, synced: bool) -> int:
    fd = disk.open(name)
    disk.write(fd, data, 0)
    if synced:
        disk.sync(fd)
        disk.sync_folder("")
    return fd


def test_what_is_kept_and_torn_of_unsynced_writes_is_drawn_for_each() -> None:
    whole = bytes(range(1, 251)) * 8
    seen = set()
    for seed in range(60):
        disk = Disk(lambda: 0)
        fd = written(disk, "f", b"", synced=True)
        disk.write(fd, whole, 0)
        disk.write(fd, b"end", 2000)
        lost = disk.lose_power(Loss(kept=0.5, torn=True), Random(seed))
        found = disk.contents("f")
        assert lost.bytes == 2003 - sum(map(bool, found))
        assert lost.writes + lost.torn + lost.kept == 2
        seen.add((bool(lost.writes), bool(lost.torn), found[2000:2003] == b"end"))
    assert len(seen) >= 6, "lost, torn or there, and the second without the first"


def test_what_nobody_syncs_is_written_back_after_a_while() -> None:
    now = [0]
    disk = Disk(lambda: now[0])
    fd = written(disk, "f", b"early", synced=False)
    now[0] = WRITE_BACK_NS
    disk.write(fd, b"late", 5)
    lost = disk.lose_power(Loss(), Random(0))
    assert disk.contents("f") == b"early"
    assert (lost.bytes, lost.names, lost.files) == (4, 0, ("f",))


def test_after_a_failed_fsync_the_next_one_lies() -> None:
    disk = Disk(lambda: 0)
    fd = written(disk, "f", b"old", synced=True)
    disk.rules = [DiskRule("f*", frozenset({"fsync"}), "EIO", delay_ms=5.0)]
    disk.write(fd, b"new", 0)
    with pytest.raises(OSError, match="error") as failed:
        disk.sync(fd)
    assert failed.value.errno == errno.EIO
    assert disk.counters.errors == {"fsync EIO": 1}
    disk.rules = ()
    disk.sync(fd)
    assert disk.contents("f") == b"new"
    disk.lose_power(Loss(kept=1.0), Random(0))
    assert disk.contents("f") == b"old"


def test_rules_are_for_files_and_operations_and_count_what_they_do() -> None:
    disk = Disk(lambda: 0)
    disk.rules = [
        DiskRule("*.log", frozenset({"write", "create"}), "ENOSPC"),
        DiskRule("*", frozenset({"read", "fsync"}), delay_ms=3.0),
    ]
    with pytest.raises(OSError, match="No space"):
        disk.open("x.log")
    fd = written(disk, "x", b"fits", synced=True)
    assert disk.read(fd) == b"fits"
    assert disk.take_owed_ns() == 3_000_000
    assert disk.take_owed_ns() == 0
    assert disk.fsync_delay_ns("x") == 3_000_000
    assert disk.counters.errors == {"create ENOSPC": 1}
    assert disk.counters.delayed == {"read": 1, "fsync": 1}


@given(st.sampled_from(["flip", "truncate", "stale"]), st.integers(0, 10**6))
def test_damage_is_told_and_can_be_repaired(kind: Any, seed: int) -> None:
    disk = Disk(lambda: 0)
    fd = written(disk, "f", b"0123456789", synced=True)
    disk.write(fd, b"abc", 4)
    disk.sync(fd)
    good = disk.contents("f")
    decayed = disk.damage(Damage(kind, seed=seed), Random(seed))
    assert decayed.file == "f"
    bad = disk.contents("f")
    assert bad != good
    if kind == "flip":
        assert bytes.fromhex(decayed.after) == bad[decayed.at : decayed.at + 1]
        assert sum(x != y for x, y in zip(bad, good, strict=True)) == 1
    assert disk.repair() == 1
    assert disk.contents("f") == good
    assert disk.repair() == 0


WRITES = st.lists(
    st.tuples(st.integers(0, 12), st.binary(max_size=9), st.booleans()), max_size=5
)
"""Where, what (nothing: cut the file off there), and whether it is synced."""


@given(WRITES, WRITES, st.booleans())
def test_a_restored_file_is_what_its_snapshot_was_and_is_repaired(
    before: list[tuple[int, bytes, bool]],
    after: list[tuple[int, bytes, bool]],
    replaced: bool,
) -> None:
    disk, damage = Disk(lambda: 0), Damage("restore", "f")
    fd = written(disk, "f", b"0123", synced=True)
    written(disk, "other", b"0123", synced=True)

    def write(writes: list[tuple[int, bytes, bool]]) -> None:
        for at, data, synced in writes:
            if data:
                disk.write(fd, data, at)
            else:
                disk.truncate(fd, at)
            if synced:
                disk.sync(fd)

    write(before)
    kept = bytes(disk._durable_names["f"].durable)
    assert disk.snapshot(damage) == 1
    if replaced:
        fd = written(disk, "new", b"4567", synced=True)
        disk.rename("new", "f")
        disk.sync_folder("")
    write(after)
    now = disk.contents("f")
    decayed = disk.damage(damage, Random(1))
    assert disk.contents("f") == (kept if decayed.file else now)
    assert (decayed.file == "f") == (kept != now)
    disk.lose_power(Loss(), Random(1))
    assert disk.contents("f") == kept
    assert disk.repair() == bool(decayed.file)
    assert disk.contents("f") == now
    assert disk.damage(damage, Random(1)).file == "", "the snapshot is forgotten"


def test_what_was_written_over_damage_stays() -> None:
    disk = Disk(lambda: 0)
    fd = written(disk, "f", b"0123456789", synced=True)
    disk.damage(Damage("flip"), Random(1))
    disk.write(fd, b"abcdefghij", 0)
    disk.sync(fd)
    assert disk.repair() == 0
    assert disk.contents("f") == b"abcdefghij"
    empty = Disk(lambda: 0)
    assert empty.damage(Damage("flip"), Random(1)).file == ""


# --- the write-ahead log on it ---------------------------------------------------

IDENTITY = Identity("raft", 1, "n1")


def opened(disk: Disk, *, fsync: bool = True) -> WriteAheadLog:
    return WriteAheadLog("", IDENTITY, fsync=fsync, files=disk)


def numbers(log: WriteAheadLog) -> list[int]:
    return [record["n"] for record in log.recovered]


class Cut(Disk):
    """A disk whose machine stops before the `limit`-th call that changes anything."""

    def __init__(self, limit: int) -> None:
        super().__init__(lambda: 0)
        self.left = limit

    def _count(self) -> None:
        if not self.left:
            raise PowerFailed
        self.left -= 1

    def open(self, path: str, *, empty: bool = False) -> int:
        self._count()
        return super().open(path, empty=empty)

    def write(self, fd: int, data: bytes, at: int) -> None:
        self._count()
        super().write(fd, data, at)

    def truncate(self, fd: int, size: int) -> None:
        self._count()
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)

    def rename(self, old: str, new: str) -> None:
        self._count()
        super().rename(old, new)

    def sync_folder(self, path: str) -> None:
        self._count()
        super().sync_folder(path)


def live(log: WriteAheadLog, first: int, told: list[int]) -> None:
    """Write records, the fourth in place of the first three; note what is durable."""
    for n in range(first, first + 6):
        log.append({"n": n}, replaces=n == first + 3)
        log.sync()
        told.append(n)


def allowed(told: Sequence[int], found: Sequence[int], first: int) -> bool:
    """All that was told is there, or what replaced it; at most one more is."""
    last = told[-1] if told else first - 1
    ends = {last, last + 1}
    return (found[-1] if found else first - 1) in ends and list(found) == list(
        range(found[0] if found else 0, (found[-1] if found else -1) + 1)
    )


@pytest.mark.parametrize("limit", range(32))
@settings(max_examples=max(1, settings().max_examples // 10))
@given(loss=LOSSES, again=st.integers(0, 12))
def test_a_log_keeps_what_was_durable_wherever_the_power_fails(
    limit: int, loss: Loss, again: int
) -> None:
    disk, told = Cut(limit), list[int]()
    with suppress(PowerFailed):
        live(opened(disk), 1, told)
    disk.lose_power(loss, Random(loss.seed))
    disk.left = again  # and once more, while it recovers
    with suppress(PowerFailed):
        opened(disk)
    disk.lose_power(loss, Random(loss.seed + 1))
    disk.left = 100
    log = opened(disk)
    found = numbers(log)
    assert allowed(told, found, 1), (told, found)
    if told and told[-1] >= 4:
        assert found[0] == 4, "what was replaced doesn't come back"
    disk.crash()
    disk.left = 100
    live(opened(disk), found[-1] + 1 if found else 1, told)
    disk.lose_power(Loss(), Random(0))
    disk.left = 100
    assert numbers(opened(disk))[-1] == told[-1]


@pytest.mark.parametrize("operation", ["write", "fsync", "rename", "create"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_log_loses_nothing_durable_to_a_disk_that_fails(
    operation: Any, error: Any
) -> None:
    disk, told = Disk(lambda: 0), list[int]()
    live(opened(disk), 1, told)
    disk.crash()
    log = opened(disk)
    disk.rules = [DiskRule(operations=frozenset({operation}), error=error)]
    log.append({"n": 7}, replaces=operation in {"rename", "create"})
    with pytest.raises(OSError, match=os.strerror(getattr(errno, error))):
        log.sync()
    disk.crash()
    disk.rules = ()
    # The next life may find it in the page cache, as clean as if it were durable.
    found = numbers(opened(disk))
    assert found in ([4, 5, 6], [4, 5, 6, 7])
    disk.lose_power(Loss(), Random(0))
    assert numbers(opened(disk)) == found, "what a life relied on is durable"


def test_a_flipped_bit_of_a_synced_record_is_never_believed() -> None:
    told: list[int] = []
    for seed in range(40):
        disk = Disk(lambda: 0)
        live(opened(disk), 1, told)
        disk.damage(Damage("flip"), Random(seed))
        disk.crash()
        with pytest.raises(CorruptLogError):
            opened(disk)
        disk.repair()
        disk.crash()
        assert numbers(opened(disk)) == [4, 5, 6]


def test_without_names_synced_or_fsync_a_log_is_gone() -> None:
    disk = Disk(lambda: 0)
    live(opened(disk, fsync=False), 1, [])
    disk.lose_power(Loss(), Random(0))
    assert numbers(opened(disk)) == []


# --- logs with one rule broken ---------------------------------------------------


def broken_log(kind: type[WriteAheadLog], disk: Disk) -> WriteAheadLog:
    return kind("", IDENTITY, files=disk)


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        (WriteAheadLog, [4, 5, 6]),
        (logs.FsyncOmitted, [4]),  # what replaces the log is synced elsewhere
        (logs.FsyncOfWrongFile, [4]),
        (logs.FolderNotSynced, []),
        (logs.ErrorsIgnored, [4, 5, 6]),
        (logs.ChecksumUnchecked, [4, 5, 6]),
    ],
)
def test_a_broken_log_forgets_what_it_told_when_the_power_fails(
    kind: type[WriteAheadLog], left: list[int]
) -> None:
    disk = Disk(lambda: 0)
    live(broken_log(kind, disk), 1, [])
    disk.crash()
    assert numbers(broken_log(kind, disk)) == [4, 5, 6], "a kill does it no harm"
    disk = Disk(lambda: 0)
    live(broken_log(kind, disk), 1, [])
    disk.lose_power(Loss(), Random(0))
    assert numbers(broken_log(kind, disk)) == left


def test_a_log_that_ignores_errors_tells_what_it_could_not_write() -> None:
    for operation in ("write", "fsync"):
        disk = Disk(lambda: 0)
        log = broken_log(logs.ErrorsIgnored, disk)
        disk.rules = [DiskRule(operations=frozenset({operation}), error="EIO")]
        log.append({"n": 1})
        log.sync()
        disk.rules = ()
        disk.lose_power(Loss(kept=1.0), Random(0))
        assert numbers(opened(disk)) == []


def test_a_log_that_checks_no_checksum_believes_a_flipped_bit() -> None:
    found = set()
    for seed in range(200):
        disk = Disk(lambda: 0)
        live(opened(disk), 1, [])
        disk.damage(Damage("flip"), Random(seed))
        disk.crash()
        with suppress(WalError, KeyError):
            found.add(str(numbers(broken_log(logs.ChecksumUnchecked, disk))))
    assert len(found - {"[4, 5, 6]"}) > 3


def test_a_log_that_believes_a_torn_tail_makes_up_records() -> None:
    disk = Disk(lambda: 0)
    log = broken_log(logs.TornTailBelieved, disk)
    log.append({"n": 1})
    log.sync()
    log.append({"n": 23456})
    log.write()
    torn = disk.contents("wal")[:-4]
    disk.lose_power(Loss(), Random(0))
    fd = disk.open("wal")
    disk.write(fd, torn, 0)
    assert numbers(opened(disk)) == [1]
    disk.crash()
    disk.write(disk.open("wal"), torn, 0)
    disk.crash()
    log = broken_log(logs.TornTailBelieved, disk)
    assert numbers(log) == [1, 234]
    log.sync()
    disk.lose_power(Loss(), Random(0))
    assert numbers(opened(disk)) == [1, 234], "and keeps them"


@given(data=st.binary(max_size=9), synced=st.booleans(), seed=st.integers(0, 99))
def test_nothing_is_left_of_what_was_emptied(
    data: bytes, synced: bool, seed: int
) -> None:
    disk = Disk(lambda: 0)
    fd = disk.open("a")
    disk.write(fd, data, 0)
    if synced:
        disk.sync(fd)
        disk.sync_folder("")
    disk.crash()
    assert disk.empty() == len(data)
    disk.lose_power(Loss(kept=1.0), Random(seed))
    with pytest.raises(FileNotFoundError):
        disk.contents("a")
    assert disk.empty() == 0

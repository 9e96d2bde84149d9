"""The file system of nodes against a model: what it holds now, and what power leaves.

The model is a dictionary of names, byte strings, and lists of what is pending. After a
loss of power it does not foretell the outcome: it says whether what is there could be,
by trying every choice of what was kept.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness.host import syscalls
from harness.worlds.disks import Damage, Loss, Lost, alike
from harness.worlds.os.disk.decay import Decays
from harness.worlds.os.disk.filesystem import ROOT, FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Key = tuple[int, bytes]
PENDING_TRIED_MAX = 9
PAGE_BYTES, SECTOR_BYTES = 4, 2
NAMES = st.sampled_from([b"a", b"b", b"c"])
KEEPING = st.sampled_from([0.0, 0.0, 0.5, 0.9, 1.0])


@dataclass(frozen=True)
class Write:
    """A pending change of contents."""

    kind: str
    offset: int
    data: bytes = b""
    length: int = 0

    def on(self, contents: bytes) -> bytes:
        match self.kind:
            case "write":
                padded = contents.ljust(self.offset, b"\0")
                return (
                    padded[: self.offset]
                    + self.data
                    + padded[self.offset + len(self.data) :]
                )
            case "truncate":
                return contents[: self.offset].ljust(self.offset, b"\0")
            case "extend":
                return contents.ljust(self.offset, b"\0")
            case _:
                end = min(self.offset + self.length, len(contents))
                zeros = b"\0" * max(0, end - self.offset)
                return (
                    contents[: self.offset]
                    + zeros
                    + contents[self.offset :][len(zeros) :]
                )


@dataclass(eq=False)
class Renaming:
    """A pending change of names."""

    about: int
    sets: dict[Key, int | None]
    creates: bool = False
    moves_folder: bool = False


class Model:
    """Names and contents, as they are and as they are durable."""

    def __init__(self) -> None:
        self.folders = {ROOT}
        self.names: dict[Key, int] = {}
        self.contents: dict[int, bytes] = {}
        self.saved_names: dict[Key, int] = {}
        self.saved: dict[int, bytes] = {}
        self.writes: dict[int, list[Write]] = {}
        self.renamings: list[Renaming] = []

    def change(self, renaming: Renaming) -> None:
        self.renamings.append(renaming)
        put(self.names, renaming)

    def write(self, number: int, write: Write) -> None:
        self.contents[number] = write.on(self.contents[number])
        self.writes[number].append(write)

    def sync(self, number: int) -> None:
        if number in self.contents:
            self.saved[number] = apply(self.saved[number], self.writes[number])
            self.writes[number] = []
        above = {number}
        while True:
            more = {f for (f, _), n in self.names.items() if n in above} | above
            if more == above:
                break
            above = more
        wanted = [
            r
            for r in self.renamings
            if r.about == number
            or number in r.sets.values()
            or any(f == number for f, _ in r.sets)
            or r.about in above
            or above & set(r.sets.values())
        ]
        wanted = self.closed(wanted)
        for renaming in wanted:
            put(self.saved_names, renaming)
        self.renamings = [r for r in self.renamings if r not in wanted]

    def closed(self, wanted: Sequence[Renaming]) -> list[Renaming]:
        found = set(wanted)
        while more := {
            before
            for place, before in enumerate(self.renamings)
            for after in self.renamings[place + 1 :]
            if after in found and before not in found and precedes(before, after)
        }:
            found |= more
        return [r for r in self.renamings if r in found]

    def outcomes(self, *, kept: float, names: bool) -> Iterator[dict[Key, int]]:
        """Every set of names that a loss of power may leave."""
        if not names or kept == 1:
            yield reachable(put_all(self.saved_names, self.renamings))
            return
        sizes = range(len(self.renamings) + 1) if kept else (0,)
        for size in sizes:
            for some in itertools.combinations(self.renamings, size):
                if len(self.closed(some)) == len(some):
                    yield reachable(put_all(self.saved_names, some))

    def could_hold(self, number: int, contents: bytes, loss: Loss) -> bool:
        """Whether a loss of power may leave a file with these contents."""
        saved, writes = self.saved[number], self.writes[number]
        if loss.kept == 0:
            return contents == saved
        if loss.kept == 1 and not loss.torn:
            return contents == apply(saved, writes)
        choices = [
            some
            for size in range(len(writes) + 1)
            for some in itertools.combinations(range(len(writes)), size)
        ]
        if not loss.torn:
            return any(
                contents == apply(saved, [writes[place] for place in some])
                for some in choices
                if could_be_kept(writes, some)
            )
        # A write that is cut is there for some bytes, and not for others.
        outcomes = [apply(saved, [writes[place] for place in some]) for some in choices]
        return len(contents) <= max(map(len, outcomes)) and all(
            any(
                one[at : at + 1].ljust(1, b"\0") == contents[at : at + 1]
                for one in outcomes
            )
            for at in range(len(contents))
        )

    def could_hold_half_synced(self, number: int, contents: bytes, loss: Loss) -> bool:
        """The same of a file that was being synced: its first writes are durable."""
        writes = self.writes[number]
        for done in range(len(writes) + 1):
            first, left = list(writes[:done]), writes[done:]
            cuts = [first]
            if loss.torn and left:
                begun = [
                    left[0].data[:size] for size in range(1, len(left[0].data) + 1)
                ]
                cuts += [
                    [*first, Write("write", left[0].offset, data)]
                    if left[0].kind == "write"
                    else [*first, left[0]]
                    for data in (begun or [b""])
                ]
            for durable in cuts:
                model = Model()
                model.saved[number] = apply(self.saved[number], durable)
                model.writes[number] = list(left)
                if model.could_hold(number, contents, loss):
                    return True
        return False


def could_be_kept(writes: Sequence[Write], some: Sequence[int]) -> bool:
    """Whether these may be there without the others: none follows from one of those."""
    return not any(
        earlier < later
        and earlier not in some
        and follows(writes[earlier], writes[later])
        for later in some
        for earlier in range(later)
    )


def follows(earlier: Write, later: Write) -> bool:
    if earlier.kind != "write":
        return True
    return later.kind == "write" and bool(pages(earlier) & pages(later))


def pages(write: Write) -> set[int]:
    return {(write.offset + at) // PAGE_BYTES for at in range(len(write.data))}


def precedes(before: Renaming, after: Renaming) -> bool:
    return (
        bool(before.sets.keys() & after.sets.keys())
        or (before.creates and any(f == before.about for f, _ in after.sets))
        or (before.moves_folder and after.moves_folder)
    )


def put(names: dict[Key, int], renaming: Renaming) -> None:
    for key, number in renaming.sets.items():
        if number is None:
            names.pop(key, None)
        else:
            names[key] = number


def put_all(names: dict[Key, int], some: Sequence[Renaming]) -> dict[Key, int]:
    result = dict(names)
    for renaming in some:
        put(result, renaming)
    return result


def reachable(names: dict[Key, int]) -> dict[Key, int]:
    reached = {ROOT}
    while more := {n for (f, _), n in names.items() if f in reached} - reached:
        reached |= more
    return {key: number for key, number in names.items() if key[0] in reached}


def apply(contents: bytes, writes: Sequence[Write]) -> bytes:
    for write in writes:
        contents = write.on(contents)
    return contents


class Machine(RuleBasedStateMachine):
    """The file system and the model, asked for the same."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.seed = 0
        self.set_up()

    def set_up(self) -> None:
        self.place = tempfile.mkdtemp()
        for name in ("written", "durable"):
            os.mkdir(f"{self.place}/{name}")
        self.disk = FileSystem(
            f"{self.place}/written",
            f"{self.place}/durable",
            page_bytes=PAGE_BYTES,
            sector_bytes=SECTOR_BYTES,
        )

    def teardown(self) -> None:
        for inode in self.disk.inodes.values():
            self.disk.contents.drop(inode)
        shutil.rmtree(self.place)

    def can_cut_amid_a_sync(self) -> bool:
        return True

    def files(self) -> list[int]:
        return sorted({n for n in self.model.names.values() if n in self.model.saved})

    def folders(self) -> list[int]:
        live = {n for n in self.model.names.values() if n in self.model.folders}
        return sorted({ROOT} | live)

    def file(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(self.files()), label="file")

    def folder(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(self.folders()), label="folder")

    def key(self, data: st.DataObject) -> Key:
        return data.draw(st.sampled_from(sorted(self.model.names)), label="name")

    # names

    @rule(data=st.data(), name=NAMES, folder=st.booleans())
    def create(self, data: st.DataObject, name: bytes, folder: bool) -> None:
        parent = self.folder(data)
        if (parent, name) in self.model.names:
            with pytest.raises(FileExistsError):
                self.disk.create(parent, name, 0o100644)
            return
        inode = self.disk.create(parent, name, 0o040755 if folder else 0o100644)
        number = inode.number
        if folder:
            self.model.folders.add(number)
        else:
            self.model.contents[number] = self.model.saved[number] = b""
            self.model.writes[number] = []
        self.model.change(Renaming(number, {(parent, name): number}, creates=True))

    @precondition(lambda self: self.files())
    @rule(data=st.data(), name=NAMES)
    def link(self, data: st.DataObject, name: bytes) -> None:
        number, parent = self.file(data), self.folder(data)
        if (parent, name) not in self.model.names:
            self.disk.link(number, parent, name)
            self.model.change(Renaming(number, {(parent, name): number}))

    @precondition(lambda self: self.model.names)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        folder, name = key = self.key(data)
        number = self.model.names[key]
        if number not in self.model.folders:
            self.disk.unlink(folder, name)
        elif any(f == number for f, _ in self.model.names):
            with pytest.raises(OSError, match="not empty"):
                self.disk.rmdir(folder, name)
            return
        else:
            self.disk.rmdir(folder, name)
        self.model.change(Renaming(number, {key: None}))
        self.forget_unlinked()

    @precondition(lambda self: self.model.names)
    @rule(data=st.data(), name=NAMES)
    def rename(self, data: st.DataObject, name: bytes) -> None:
        key, parent = self.key(data), self.folder(data)
        number, there = self.model.names[key], self.model.names.get((parent, name))
        before = dict(self.model.names)
        try:
            self.disk.rename(*key, parent, name)
        except OSError:
            is_folder = number in self.model.folders
            assert is_folder or there in self.model.folders
            return
        if there == number:
            return
        assert (there in self.model.folders) == (
            there is not None and number in self.model.folders
        )
        moves = number in self.model.folders and key[0] != parent
        sets = {key: None, (parent, name): number}
        self.model.change(Renaming(number, sets, moves_folder=moves))
        assert len(reachable(self.model.names)) == len(self.model.names), before
        self.forget_unlinked()

    @precondition(lambda self: len(self.model.names) > 1)
    @rule(data=st.data())
    def exchange(self, data: st.DataObject) -> None:
        one, other = self.key(data), self.key(data)
        numbers = self.model.names[one], self.model.names[other]
        try:
            self.disk.exchange(*one, *other)
        except OSError:
            assert set(numbers) & self.model.folders
            return
        if numbers[0] == numbers[1]:
            return
        moves = bool(set(numbers) & self.model.folders) and one[0] != other[0]
        sets: dict[Key, int | None] = {one: numbers[1], other: numbers[0]}
        self.model.change(Renaming(numbers[0], sets, moves_folder=moves))

    def forget_unlinked(self) -> None:
        """Whom no name leads to any more nobody sees, as nobody has it open."""
        for number, writes in self.model.writes.items():
            if number not in self.model.names.values():
                writes.clear()

    # contents

    @precondition(lambda self: self.files())
    @rule(data=st.data(), offset=st.integers(0, 12), text=st.binary(max_size=5))
    def write(self, data: st.DataObject, offset: int, text: bytes) -> None:
        number = self.file(data)
        self.disk.write(number, offset, text)
        if text:
            self.model.write(number, Write("write", offset, text))

    @precondition(lambda self: self.files())
    @rule(data=st.data(), size=st.integers(0, 12))
    def truncate(self, data: st.DataObject, size: int) -> None:
        number = self.file(data)
        self.disk.truncate(number, size)
        self.model.write(number, Write("truncate", size))

    @precondition(lambda self: self.files())
    @rule(data=st.data(), offset=st.integers(0, 9), length=st.integers(1, 9))
    def punch(self, data: st.DataObject, offset: int, length: int) -> None:
        number = self.file(data)
        mode = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
        self.disk.allocate(number, mode, offset, length)
        self.model.write(number, Write("zero", offset, length=length))

    @precondition(lambda self: self.files())
    @rule(data=st.data(), length=st.integers(1, 15))
    def allocate(self, data: st.DataObject, length: int) -> None:
        number = self.file(data)
        longer = length > len(self.model.contents[number])
        self.disk.allocate(number, 0, 0, length)
        if longer:
            self.model.write(number, Write("extend", length))

    # durability

    @rule(data=st.data())
    def sync(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.files() + self.folders()))
        self.disk.sync(number)
        self.model.sync(number)

    @precondition(lambda self: self.files())
    @rule(data=st.data())
    def fail_to_sync(self, data: st.DataObject) -> None:
        number = self.file(data)
        self.disk.fail_to_sync(number)
        self.model.writes[number].clear()

    @rule(
        data=st.data(),
        kept=KEEPING,
        torn=st.booleans(),
        names=st.booleans(),
        during=st.booleans(),
    )
    def lose_power(
        self, data: st.DataObject, kept: float, torn: bool, names: bool, during: bool
    ) -> None:
        pending = [len(writes) for writes in self.model.writes.values()]
        if max([len(self.model.renamings), *pending]) > PENDING_TRIED_MAX:
            kept = 0.0
        self.seed += 1
        loss = Loss(kept=kept, torn=torn, names=names, seed=self.seed)
        amid = during and self.can_cut_amid_a_sync() and self.files()
        syncing = self.file(data) if amid else None
        lost = self.disk.lose_power(loss, syncing)
        if kept == 0 and syncing is None:
            self.check_all_was_lost(lost, names=names)
        there = self.names()
        outcomes = self.model.outcomes(kept=kept, names=names)
        assert any(there == outcome for outcome in outcomes)
        held = {number: self.held(number) for number in there.values()}
        for number in held.keys() - self.model.folders:
            if number == syncing:
                assert self.model.could_hold_half_synced(number, held[number], loss)
            else:
                assert self.model.could_hold(number, held[number], loss)
        self.go_on_with(there, held)

    def check_all_was_lost(self, lost: Lost, *, names: bool) -> None:
        live = set(self.model.names.values())
        gone = [
            w for n, writes in self.model.writes.items() if n in live for w in writes
        ]
        assert lost.writes == len(gone)
        assert lost.bytes == sum(len(write.data) for write in gone)
        assert (lost.torn, lost.kept) == (0, 0)
        renamings = self.model.renamings if names else []
        assert lost.names == len(
            [r for r in renamings if r.about in live and set(r.sets.values()) != {None}]
        )

    def go_on_with(self, names: dict[Key, int], held: dict[int, bytes]) -> None:
        model = Model()
        model.folders = self.model.folders & {*names.values(), ROOT}
        model.names, model.saved_names = dict(names), dict(names)
        for number in set(names.values()) - model.folders:
            model.contents[number] = model.saved[number] = held[number]
            model.writes[number] = []
        self.model = model

    # what is there

    def names(self) -> dict[Key, int]:
        return {
            (number, name): inode.number
            for number in self.disk.inodes
            if self.disk.inodes[number].names or number == ROOT
            for name, inode, place in self.disk.listing(number, 2)
            if place > 2
        }

    def held(self, number: int) -> bytes:
        inode = self.disk.inode(number)
        return b"" if inode.is_folder else self.disk.read(number, 0, 100)

    @invariant()
    def all_is_as_written(self) -> None:
        assert self.names() == self.model.names
        for number in self.files():
            assert self.held(number) == self.model.contents[number]
            assert self.size(number) == len(self.model.contents[number])
            assert self.seen_below(number) == self.model.contents[number]

    @invariant()
    def links_are_counted(self) -> None:
        links = Counter(self.model.names.values())
        for number in self.files():
            assert self.links(number) == links[number]

    def size(self, number: int) -> int:
        return self.disk.inode(number).size

    def links(self, number: int) -> int:
        return self.disk.inode(number).links

    def seen_below(self, number: int) -> bytes:
        """What stands in the folder of what is written."""
        path = self.disk.path(self.disk.inode(number))
        with open(self.disk.contents.at(path), "rb") as file:
            return file.read()


TestModel = Machine.TestCase
TestModel.settings = settings(
    max_examples=settings().max_examples * 3 // 5, stateful_step_count=30
)


TEXTS = st.builds(
    lambda letter, size: letter * size,
    st.sampled_from([b"a", b"b", b"c"]),
    st.integers(1, 5),
)
PENDING = st.lists(
    st.one_of(
        st.builds(Write, st.just("write"), st.integers(0, 8), TEXTS),
        st.builds(Write, st.just("write"), st.integers(0, 8), TEXTS),
        st.builds(Write, st.just("truncate"), st.integers(0, 14)),
        st.builds(Write, st.just("zero"), st.integers(0, 9), length=st.integers(1, 5)),
    ),
    min_size=2,
    max_size=6,
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> FileSystem:
    place = tmp_path_factory.mktemp("disk")
    for name in ("written", "durable"):
        (place / name).mkdir()
    return FileSystem(
        str(place / "written"),
        str(place / "durable"),
        page_bytes=PAGE_BYTES,
        sector_bytes=SECTOR_BYTES,
    )


@settings(max_examples=settings().max_examples * 2)
@given(
    saved=st.binary(max_size=12),
    writes=PENDING,
    kept=st.sampled_from([0.2, 0.5, 0.8]),
    seed=st.integers(0, 2**20),
)
def test_what_is_kept_of_a_file_could_be_what_a_disk_holds(
    disk: FileSystem, saved: bytes, writes: list[Write], kept: float, seed: int
) -> None:
    model, number = one_file(disk, saved, writes)
    loss = Loss(kept=kept, seed=seed)
    disk.lose_power(loss)
    assert model.could_hold(number, disk.read(number, 0, 100), loss)


@given(
    saved=st.binary(max_size=9),
    text=st.binary(min_size=2, max_size=9),
    offset=st.integers(0, 12),
    seed=st.integers(0, 2**20),
)
def test_a_write_is_torn_between_sectors_or_where_the_file_may_end(
    disk: FileSystem, saved: bytes, text: bytes, offset: int, seed: int
) -> None:
    write = Write("write", offset, text)
    _, number = one_file(disk, saved, [write])
    lost = disk.lose_power(Loss(kept=1, torn=True, seed=seed))
    ends = [
        end
        for end in range(offset, offset + len(text) + 1)
        if end >= len(saved)
        or end % SECTOR_BYTES == 0
        or end in {offset, offset + len(text)}
    ]
    held = disk.read(number, 0, 100)
    begun = [Write("write", offset, text[: end - offset]).on(saved) for end in ends]
    # A write of nothing makes no file longer.
    assert held in [saved, *begun[1:]]
    assert (lost.torn, lost.kept, lost.writes).count(1) == 1


def one_file(
    disk: FileSystem, saved: bytes, writes: Sequence[Write]
) -> tuple[Model, int]:
    """A file with these contents, durably, and these writes since; in both."""
    for name in list(disk.inode(ROOT).entries):
        disk.unlink(ROOT, name)
    number = disk.create(ROOT, b"file", 0o100644).number
    disk.write(number, 0, saved)
    disk.sync(number)
    disk.sync(ROOT)
    model = Model()
    model.saved[number], model.writes[number] = saved, list(writes)
    for write in writes:
        match write.kind:
            case "write":
                disk.write(number, write.offset, write.data)
            case "truncate":
                disk.truncate(number, write.offset)
            case _:
                mode = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
                disk.allocate(number, mode, write.offset, write.length)
    return model, number


# Damage


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_alike_is_the_length_of_the_common_beginning(
    same: bytes, one: bytes, other: bytes
) -> None:
    found = alike(same + one, same + other)
    beginning = os.path.commonprefix([same + one, same + other])  # noqa: RUF071
    assert found == len(beginning)


FILE_WRITES = st.lists(
    st.tuples(st.integers(0, 12), st.binary(max_size=9), st.booleans()), max_size=5
)
"""Where, what (nothing: cut the file off there), and whether it is synced."""


@given(FILE_WRITES, FILE_WRITES, st.booleans())
def test_a_restored_file_is_what_its_snapshot_was_and_is_repaired(
    before: list[tuple[int, bytes, bool]],
    after: list[tuple[int, bytes, bool]],
    replaced: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written, durable = f"{folder}/written", f"{folder}/durable"
        os.mkdir(written)
        os.mkdir(durable)
        disk = FileSystem(written, durable)
        decays, damage = Decays(disk), Damage("restore", "f")

        def made(name: bytes) -> int:
            number = disk.create(ROOT, name, 0o100644).number
            disk.write(number, 0, b"0123")
            disk.sync(number)
            return number

        def write(number: int, writes: list[tuple[int, bytes, bool]]) -> None:
            for at, data, synced in writes:
                if data:
                    disk.write(number, at, data)
                else:
                    disk.truncate(number, at)
                if synced:
                    disk.sync(number)

        def held() -> bytes:
            return disk.read(disk.lookup(ROOT, b"f").number, 0, 99)

        file, _ = made(b"f"), made(b"other")
        write(file, before)
        fd = disk.contents.durable_of(disk.inode(file))
        kept = os.pread(fd, 99, 0)
        assert decays.snapshot(damage) == 1
        if replaced:
            file = made(b"new")
            disk.rename(ROOT, b"new", ROOT, b"f")
            disk.sync(ROOT)
        write(file, after)
        now = held()
        decayed, _ = decays.damage(damage)
        assert (decayed.file == "f") == (kept != now)
        assert held() == kept
        disk.lose_power(Loss())
        assert held() == kept
        repaired = decays.repair()
        assert len(repaired) == bool(decayed.file)
        assert held() == now
        assert decays.damage(damage)[0].file == "", "the snapshot is forgotten"
        assert not [name for name in os.listdir(durable) if name.startswith("kept")]

"""One file outside the tree is a plug-in of any kind, and runs with all others.

The plug-ins here know of the harness what `harness.api` says, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import run_command

EXAMPLE = Path(__file__).parents[2] / "examples" / "nodes" / "python" / "register.py"

WORKLOAD = '''
"""Everybody pulls one ratchet on: what was read is compared and set to one more."""

from harness.api import NodeReply, Plugin, find, gen, settings

KEY = "ratchet"


class Codec:
    def request(self, op):
        if op.f == "look":
            return {"type": "read", "key": KEY}
        if op.value[0] is None:
            return {"type": "write", "key": KEY, "value": op.value[1]}
        return {"type": "cas", "key": KEY, "from": op.value[0], "to": op.value[1]}

    def completion(self, op, body):
        if body["type"] not in ("read_ok", "write_ok", "cas_ok"):
            raise NodeReply(definite=False, text=f"answered {body['type']}")
        return op.ok(body["value"] if op.f == "look" else op.value)

    def on_error(self, op, error):
        return op.ok(None) if (op.f, error.code) == ("look", 20) else None


class Pulls(gen.Flow):
    def __init__(self):
        self.seen = None

    def next(self, ctx):
        if self.seen is None or ctx.time_ns // 10_000_000 % 2:
            return gen.place(gen.Invocation("look"), ctx)
        return gen.place(gen.Invocation("pull", [self.seen, self.seen + 1]), ctx)

    def take(self, offer):
        pass

    def update(self, ctx, event):
        if event.op.type == "ok" and event.op.f == "look":
            self.seen = event.op.value


class First(gen.Flow):
    def __init__(self):
        self.left = True

    def next(self, ctx):
        first = gen.Invocation("pull", [None, 1])
        return gen.place(first, ctx) if self.left else gen.DONE

    def take(self, offer):
        self.left = False


class Ratchet:
    name = "ratchet"
    requires = frozenset({"register", "cas"})
    codec = Codec()
    idempotent = frozenset({"look"})
    op_timeout_s = 3.0

    def __init__(self, options):
        settings(self.name, (), options)

    def generator(self, concurrency):
        first = gen.Generator("first", lambda _: First())
        return gen.phases(first, gen.Generator("pulls", lambda _: Pulls()))

    def final_generator(self, concurrency):
        return None

    def checkers(self):
        return {"teeth": find("checker", "teeth").factory({})}


PLUGIN = Plugin("ratchet", "a ratchet that all pull on", Ratchet)
'''

CHECKER = '''
"""A ratchet never goes back: no look sees less than a look that ended before it."""

from harness.api import Anomaly, CheckResult, Plugin, Verdict, settings


class Teeth:
    def __init__(self, options):
        settings("teeth", (), options)

    def check(self, history, limits):
        begun, most, looks = {}, (0, -1), 0
        for op in history:
            if op.type == "invoke":
                begun[op.process] = most
            elif op.type == "ok" and op.f in ("look", "read"):
                looks += 1
                before, by = begun[op.process]
                seen = op.value or 0
                if op.f == "look" and seen < before:
                    text = f"The ratchet stood at {before}, then at {seen}."
                    found = Anomaly("slipped", (by, op.index), text)
                    return CheckResult(Verdict.INVALID, (found,))
                most = max(most, (seen, op.index))
        stats = {"looks": looks}
        if not looks:
            return CheckResult(Verdict.UNKNOWN, reason="nobody looked", stats=stats)
        return CheckResult(Verdict.VALID, stats=stats)


PLUGIN = Plugin("teeth", "the ratchet never goes back", Teeth)
'''

NEMESIS = '''
"""Pauses by another name."""

from harness.api import Plugin
from nemesis.pause import OPTIONS, Pause


class Stutter(Pause):
    kind = "stutter"


PLUGIN = Plugin("stutter", "nodes stop and go on", Stutter, OPTIONS)
'''

SYSTEM = f'''
"""A store of one owner and proxies, which has to be opened before it is used."""

import asyncio
import json
import sys

from harness.api import Launch, NodeReply, Plugin, TranslatedClient, settings

PROGRAM = {str(EXAMPLE)!r}


class Client(TranslatedClient):
    writer = None

    async def open(self, place):
        at = place.listen
        self.place = place
        self.reader, self.writer = await asyncio.open_connection(at.host, at.port)

    async def close(self):
        if self.writer is not None:
            self.writer.close()

    async def answer(self, body):
        body = {{**body, "msg_id": 1}}
        message = {{"src": "c1", "dest": self.place.name, "body": body}}
        self.writer.write(json.dumps(message).encode() + b"\\n")
        try:
            body = json.loads(await self.reader.readline())["body"]
        except (OSError, ValueError) as lost:
            raise NodeReply(definite=False, text="connection lost") from lost
        if body["type"] == "error":
            definite = body["code"] not in (0, 13)
            raise NodeReply(definite=definite, text=body["text"], code=body["code"])
        return body


class Store:
    name = "store"
    services = frozenset({{"register", "cas"}})
    faults = frozenset({{"kill", "stutter"}})
    rungs = frozenset({{"switch", "proxy"}})
    invariants = ()
    ready_timeout_s = 20.0

    def launch(self, place):
        peers = {{name: str(at) for name, at in place.peers.items()}}
        env = {{
            "SPLITBRAIN_NODE": place.name,
            "SPLITBRAIN_LISTEN": str(place.listen),
            "SPLITBRAIN_PEERS": json.dumps(peers),
            "SPLITBRAIN_DATA": str(place.data_dir),
        }}
        return Launch([sys.executable, PROGRAM], env)

    async def ready(self, place):
        _, writer = await asyncio.open_connection(place.listen.host, place.listen.port)
        writer.close()
        return True

    def client(self, workload):
        return Client(workload.codec)

    async def prepare(self, places):
        client = Client(None)
        await client.open(places[-1])
        await client.answer({{"type": "write", "key": "open", "value": True}})
        await client.close()

    def role(self, place):
        return "owner" if place.name == min(place.cluster) else "proxy"


def store(text, options):
    settings("store", (), options)
    return Store()


PLUGIN = Plugin("store", "a store of one owner and proxies", store)
'''

CORE = '''
"""Ids by a core of their own: the node, its life, and a number; for the simulator."""

from harness.api import (
    Flag,
    Launch,
    Option,
    Persist,
    Plugin,
    Received,
    Reply,
    WireSystem,
    settings,
)

OPTIONS = (Option("persist", "true", "whether lives are counted on disk", Flag()),)


class Giver:
    def __init__(self, node, persist):
        self.node, self.persist, self.given = node, persist, 0

    def start(self, recovered):
        self.life = len(recovered)
        return [Persist({"life": self.life})] if self.persist else []

    def step(self, event):
        if not isinstance(event, Received) or event.body.get("type") != "generate":
            return []
        self.given += 1
        made = f"{self.node}.{self.life}.{self.given}"
        return [Reply(event, {"type": "generate_ok", "id": made})]

    def status(self):
        return {"role": "giver", "term": 0, "leader": None}


class Givers(WireSystem):
    name = "givers"
    services = frozenset({"ids"})
    fsync = True

    def __init__(self, given):
        super().__init__()
        self.persist = settings(self.name, OPTIONS, given)["persist"]
        self.read_log = lambda place: ()

    def launch(self, place):
        return Launch(["false"])

    def build(self, node, peers):
        return Giver(node, self.persist)


PLUGIN = Plugin("givers", "ids", lambda text, given: Givers(given), OPTIONS)
'''

ENTRY_POINTS = """
[splitbrain.workloads]
ratchet = their_workload:PLUGIN
[splitbrain.checkers]
teeth = their_checker:PLUGIN
[splitbrain.nemeses]
stutter = their_nemesis:PLUGIN
[splitbrain.systems]
store = their_system:PLUGIN
givers = their_core:PLUGIN
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed distribution of plug-ins, a file each."""
    folder = tmp_path_factory.mktemp("theirs")
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "their_workload.py").write_text(WORKLOAD)
    (folder / "their_checker.py").write_text(CHECKER)
    (folder / "their_nemesis.py").write_text(NEMESIS)
    (folder / "their_system.py").write_text(SYSTEM)
    (folder / "their_core.py").write_text(CORE)
    return folder


def ran(theirs: Path, results: Path, *arguments: str) -> dict[str, Any]:
    """What a run of its own process told; valid, or the test fails."""
    limits = ["--nodes", "3", "--concurrency", "3", "--rate", "100", "--seed", "1"]
    command = [sys.executable, "-m", "harness", "run", *arguments, *limits]
    done = subprocess.run(
        [*command, "--results", str(results), "--json"],
        env={**os.environ, "PYTHONPATH": str(theirs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_workload_of_theirs_runs_on_raft_in_the_simulator(
    theirs: Path, tmp_path: Path
) -> None:
    told = ran(
        theirs,
        tmp_path,
        *("raft", "--world", "sim", "--workload", "ratchet", "--nemesis", "stutter"),
        *("--time-limit", "4", "--also", "stats"),
    )
    assert told["checkers"]["teeth"]["stats"]["looks"] > 20
    assert list(told["faults"]) == ["stutter"]
    assert told["faults"]["stutter"]["bit"]
    assert "op_timeout_s: 3.0" in (tmp_path / "latest" / "test.yaml").read_text()


def test_a_workload_of_theirs_runs_on_any_program(theirs: Path, tmp_path: Path) -> None:
    told = ran(
        theirs,
        tmp_path,
        *(f"launch:{sys.executable} {EXAMPLE}", "--workload", "ratchet"),
        *("--nemesis", "none", "--time-limit", "1", "--nodes", "2"),
    )
    assert told["checkers"]["teeth"]["stats"]["looks"] > 5


def test_a_system_of_theirs_is_prepared_and_stands_their_faults(
    theirs: Path, tmp_path: Path
) -> None:
    told = ran(
        theirs,
        tmp_path,
        *("store", "--workload", "register", "--nemesis", "stutter"),
        *("--also", "teeth", "--time-limit", "3"),
    )
    assert told["checkers"]["linearizable"]["verdict"] == "valid"
    assert told["checkers"]["teeth"]["promised"] is False
    assert list(told["faults"]) == ["stutter"]
    assert told["faults"]["stutter"]["bit"]
    run = json.loads((tmp_path / "latest" / "run.json").read_text())
    assert run["roles"] == {"n1": "owner", "n2": "proxy", "n3": "proxy"}
    journal = (tmp_path / "latest/nodes/n1/data/journal.jsonl").read_text()
    assert journal.splitlines()[0] == '["open", true]'
    assert journal.count("open") == 1


@pytest.mark.parametrize(("persist", "status"), [("true", 0), ("false", 1)])
def test_a_core_of_theirs_is_simulated_and_convicted_if_it_forgets(
    persist: str,
    status: int,
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(theirs))
    limits = ["--nodes", "3", "--time-limit", "4", "--seed", "1"]
    command = ["run", "givers", "--world", "sim", "--nemesis", "kill", *limits]
    options = ["--set", f"persist={persist}", "--results", str(tmp_path)]
    assert run_command([*command, *options]) == status
    verdict = json.loads((tmp_path / "latest" / "verdict.json").read_text())
    assert list(verdict["checkers"]) == ["unique-ids"], "of the one workload there is"


def test_what_theirs_can_do_is_listed_and_what_they_can_t_is_refused(
    theirs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(theirs))
    assert run_command(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    entries = {entry["name"]: entry for kind in listed.values() for entry in kind}
    assert entries["store"]["speaks"] == entries["ratchet"]["needs"]
    assert run_command(["run", "paxos", "--workload", "ratchet"]) == 254
    refusal = capsys.readouterr().err
    assert "paxos can't serve workload 'ratchet': its clients don't speak" in refusal
    assert ", sqlite, store, " in refusal
    assert run_command(["run", "store", "--nemesis", "clock"]) == 254
    assert "(it can to: kill, stutter)" in capsys.readouterr().err
    assert run_command(["run", "store", "--world", "sim"]) == 254
    assert "store can't run in the simulator" in capsys.readouterr().err

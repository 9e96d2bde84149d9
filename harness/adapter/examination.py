"""The examination: a cluster of the node is started, talked to, killed and read.

starting      does every node listen where it was told to, and stay?
connections   two at once, requests in pieces, together, long ones, noise
refusals      what a node does not know, and what lacks something
talking       each service's conversation, at each node
loading       ten clients at once
spreading     does another node show what one acknowledged?
killing       some nodes, one by SIGTERM, all: what is left?
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import TYPE_CHECKING, Any

from harness.adapter import looking
from harness.adapter.asking import TRY_AGAIN, Asker, text_of
from harness.adapter.conversations import HELPFUL, Step
from harness.adapter.findings import DID_CHARS_MAX, shortened
from harness.adapter.marks import SERVES_S, Left, Marks
from harness.adapter.nodes import POLL_S, Nodes, StopHereError
from harness.adapter.patterns import Slots, fill, misfit
from harness.adapter.rules import OPTIONAL, RULES, of_service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from harness.adapter.asking import Answer, Client
    from harness.adapter.conversations import Service
    from harness.adapter.findings import Notebook
    from harness.adapter.rules import Rule
    from harness.data import Json
    from harness.systems.launch import LaunchSystem
    from harness.worlds.world import World

SOON_S = 5.0
"""How long others may take to show what one node acknowledged, if soon is enough."""
PIECES_APART_S = 0.05
TOGETHER = 10
CLIENTS, REQUESTS = 10, 10
SLOW_SHARE_MAX = 0.02
"""Part of the requests of a load that may have no answer in time: machines hiccup."""
SIGTERM_PATIENCE_S = 2.0
PADDING = "x" * (128 << 10)
"""Twice as long as the lines that some libraries take by default."""
ATTEMPTS = 3
SILENT_TWICE = 2
SILENCES_MAX = 20
"""After so many requests without an answer the examination ends: each takes long."""
IN_THE_WAY = ("in-reply-to", "message", "newline", "one-a-line", "stays-open")
"""Breaches by which answers that come together can't be told apart."""
NOT_SUPPORTED, MALFORMED = 10, 12
"""Error codes of WIRE.md."""
NO_MESSAGES = (
    b"this is no message",
    b"[1, 2]",
    b'{"src": "c1", "dest": "n1"}',
    b"\xff\xfe\x00",
    b"",
)


class Examination:
    """Implements `harness.worlds.world.Conducted`.

    Args:
        world: Where the nodes live.
        system: How they are started.
        services: The services to examine, by name.
        at_once: Those whose changes have to show at once.
        notes: Where findings go.
        folder: The folder that the nodes live in.
        patience_s: How long clients wait for an answer.
    """

    def __init__(
        self,
        world: World,
        system: LaunchSystem,
        services: Mapping[str, Service],
        at_once: Collection[str],
        notes: Notebook,
        folder: Path,
        patience_s: float,
    ) -> None:
        self.ended = "failed"
        self.notes = notes
        self._world = world
        self._services = services
        self._at_once = at_once
        self._nodes = Nodes(world, system, notes, folder)
        self._names = self._nodes.names
        self._first = self._names[0]
        self._patience_s = patience_s
        self._asker = Asker(self._nodes.places, notes, self._nodes.tail, patience_s)
        self._numbers = itertools.count(1000)
        self._cwd = _listed()
        self._elsewhere: list[str] = []
        self._given: dict[str, str] = {}  # id -> the node that gave it out
        self._marks: Marks | None = None
        for name, service in services.items():
            if service.mark is not None and self._marks is None:
                self._marks = Marks(
                    name, service.mark, self._asker, self._slots, self._client
                )

    def note(
        self, kind: str, nodes: Sequence[str], title: str, evidence: Mapping[str, Json]
    ) -> None:
        """Pass over what the world reports."""

    async def conduct(self) -> None:
        """Examine the nodes, and close the world and the notebook.

        Raises:
            HarnessError: The world failed.
        """
        stop, begun_s = asyncio.Event(), time.monotonic()
        self._world.on_interrupt(stop.set)
        guard = asyncio.create_task(self._world.watch_over())
        work = asyncio.create_task(self._examine())
        tasks = (guard, work, asyncio.create_task(stop.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if guard.done():
                guard.result()
            if work.done():
                work.result()
            self.ended = "complete" if work.done() else "interrupted"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._asker.close()
            await self._world.close()
        report = self.notes.report
        report.ended, report.seconds = self.ended, round(time.monotonic() - begun_s, 3)
        self.notes.close(self._rules())

    def _rules(self) -> list[Rule]:
        """The rules that this examination looks at, in the order of the report."""
        services = self._services.values()
        left_out = {name for name in OPTIONAL if name not in self.notes.touched}
        if len(self._names) == 1 or not any(s.spread for s in services):
            left_out.add("spread")
        if self._marks is None:
            left_out |= {"survives", "definite"}
        if not any(s.lacking for s in services):
            left_out.add("lacking")
        rules = [rule for name, rule in RULES.items() if name not in left_out]
        return [*rules, *(of_service(n, s) for n, s in self._services.items())]

    async def _examine(self) -> None:
        try:
            await self._nodes.start()
            await self._make_contact()
            for part in (
                self._stay_connected,
                self._two_at_once,
                self._in_pieces,
                self._together,
                self._long,
                self._noise,
                self._refusals,
                self._talk,
                self._ask_what_helps,
                self._load,
                self._spread,
                self._kill_some,
                self._terminate_one,
                self._kill_all,
                self._look_for_lies,
            ):
                if self._asker.silences > SILENCES_MAX:
                    return
                await self._nodes.serve_again()
                await part()
                self._asker.close()
            self._look_at_files()
        except StopHereError:
            return
        self._keep("stays")

    # asking

    def _slots(self) -> Slots:
        """Values that no other conversation has."""
        number = next(self._numbers)
        return {"key": number, "name": f"name-{number}", "mark": number}

    def _request(self) -> dict[str, Any]:
        """A request that a right node serves, on an object of its own."""
        service = next(iter(self._services.values()))
        filled: dict[str, Any] = fill(service.talk[0].ask, self._slots())
        return filled

    async def _client(self, node: str) -> Client:
        """A client of a node; one that has exited by itself is started again.

        Raises:
            StopHereError: It accepts no connections any more.
        """
        end_s = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._asker.client(node)
            except (OSError, TimeoutError) as problem:
                if time.monotonic() > end_s:
                    seen = f"no connection: {problem}{self._nodes.log(node)}"
                    did = f"connected; {self._nodes.what}"
                    self._break("several", node, did, seen)
                    raise StopHereError from problem
            await asyncio.sleep(POLL_S)
            if not self._nodes.runs(node):
                await self._nodes.serve_again([node])

    async def _open(self, client: Client) -> Client:
        """The client, or another of its node if its connection is gone."""
        if client.tap.closed or self.notes.broken("stays-open"):
            client.tap.close()
            return await self._client(client.place.name)
        return client

    async def _serves(self, node: str, rule: str) -> bool:
        """Wait until a node serves, and note it if it doesn't."""
        end_s, silent = time.monotonic() + SERVES_S, 0
        while True:
            client = await self._client(node)
            answer = await self._asker.ask(client, self._request())
            client.tap.close()
            is_flawed = answer.body is not None and self.notes.broken("code")
            if is_flawed or not (answer.is_open or answer.code in TRY_AGAIN):
                return True
            silent = silent + 1 if answer.body is None else 0
            if time.monotonic() > end_s or silent >= ATTEMPTS:
                break
            await asyncio.sleep(POLL_S)
        if answer.body is None:
            seen = f"{answer.seen}, {ATTEMPTS} times{self._nodes.log(node)}"
            self._break(rule, node, answer.did, seen)
        else:
            seen = f"{answer.seen}\nfor {SERVES_S:g} s"
            self._break("serves", node, answer.did, seen)
        return False

    async def _make_contact(self) -> None:
        """Wait until the first node serves.

        Raises:
            StopHereError: It doesn't.
        """
        self._nodes.what = "it was sent its first request"
        if not await self._serves(self._first, "answers"):
            raise StopHereError
        self._keep("answers", "serves")
        client = await self._client(self._first)
        answer = await self._asker.ask(client, self._request())
        if answer.code == NOT_SUPPORTED:
            name, service = next(iter(self._services.items()))
            self._judge_step(of_service(name, service), service.talk[0], answer, {})
            raise StopHereError

    # connections

    async def _stay_connected(self) -> None:
        self._nodes.what = "a client sent two requests on one connection"
        client = await self._client(self._first)
        first = await self._asker.ask(client, self._request())
        await client.tap.news(PIECES_APART_S)
        second = await self._asker.ask(client, self._request())
        if second.body is not None:
            self._keep("stays-open")
        elif client.tap.closed:
            seen = f"{first.seen}\nand then {client.tap.closed}"
            self._break("stays-open", self._first, first.did, seen)

    async def _two_at_once(self) -> None:
        self._nodes.what = "two clients were connected"
        one, other = await self._client(self._first), await self._client(self._first)
        await self._asker.ask(one, self._request())
        answer = await self._asker.ask(other, self._request())
        if answer.body is not None:
            self._keep("several", "same-connection")
        elif one.tap.lines:
            seen = (
                f"{answer.seen} on the connection of {other.name}; on that of "
                f"{one.name} came {text_of(one.tap.lines[0])}"
            )
            self._break("same-connection", self._first, answer.did, seen)
            raise StopHereError  # no answer can be trusted to be the right one
        else:
            did = f"{answer.did}\nwhile {one.name} was connected, and idle"
            self._break("several", self._first, did, answer.seen)

    async def _in_pieces(self) -> None:
        self._nodes.what = "a request came in pieces"

        async def send(client: Client, data: bytes) -> None:
            third = len(data) // 3
            for piece in (data[:third], data[third : 2 * third], data[2 * third :]):
                client.tap.send(piece)
                await asyncio.sleep(PIECES_APART_S)

        how = f"in three pieces, {PIECES_APART_S * 1000:.0f} ms apart"
        await self._is_served("pieces", how, send=send)

    async def _together(self) -> None:
        """Send several requests in one go; answers may come in any order."""
        if self.notes.broken(*IN_THE_WAY):
            return
        self._nodes.what = f"{TOGETHER} requests came at once"
        looks = await self._left_for_looks()
        client = await self._client(self._first)
        lines: dict[int, str] = {}
        asked: dict[int, Left] = {}
        for i in range(TOGETHER):
            body = self._request()
            if i < len(looks) and self._marks is not None:
                body = fill(self._marks.mark.look, looks[i].slots)
            msg_id, line = self._asker.written(client, body)
            lines[msg_id] = line
            asked |= {msg_id: looks[i]} if i < len(looks) else {}
        client.tap.send("".join(f"{line}\n" for line in lines.values()).encode())
        found = await self._asker.all_answers(client, lines)
        if missing := sorted(lines.keys() - found.keys()):
            did = f"sent {TOGETHER} requests at once, the last {lines[missing[-1]]}"
            seen = f"no answer to {', '.join(map(str, missing))}"
            seen += f"; {client.tap.closed}" * bool(client.tap.closed)
            self._break("together", self._first, did, seen)
        for msg_id, left in asked.items():
            if msg_id in found and self._is_anothers(found[msg_id][0], left, looks):
                did = f"sent {TOGETHER} requests at once, among them {lines[msg_id]}"
                seen = f"{found[msg_id][1]}\nwhich is the answer to another of them"
                self._break("together", self._first, did, seen)
        self._keep("together")

    async def _left_for_looks(self) -> list[Left]:
        """Marks at the first node, each of which answers a request of its own."""
        looks: list[Left] = []
        if self._marks is not None and not self._marks.mark.takes:
            client = await self._client(self._first)
            for _ in range(TOGETHER):
                client = await self._open(client)
                left = await self._marks.leave(self._first, client)
                looks += [left] if left.claim == "done" else []
            self._asker.close()
        return looks

    def _is_anothers(self, body: Any, left: Left, looks: Sequence[Left]) -> bool:
        """Whether an answer shows another mark than the one that was asked for."""
        assert self._marks is not None, "there are marks"
        there = self._marks.mark.there
        return bool(misfit(there, body, dict(left.slots))) and any(
            not misfit(there, body, dict(other.slots)) for other in looks
        )

    async def _long(self) -> None:
        self._nodes.what = "it was sent a long request"
        how = f"with a member `padding` of {len(PADDING)} bytes"
        await self._is_served("long", how, padding=PADDING)

    async def _noise(self) -> None:
        self._nodes.what = "it was sent lines that are no messages"

        def after(noise: bytes) -> Callable[[Client, bytes], Awaitable[None]]:
            async def send(client: Client, data: bytes) -> None:
                client.tap.send(noise + b"\n" + data)

            return send

        for noise in NO_MESSAGES:
            how = f"after the line {noise!r}"
            if not await self._is_served("no-message", how, send=after(noise)):
                return

    async def _is_served(
        self,
        name: str,
        how: str,
        *,
        send: Callable[[Client, bytes], Awaitable[None]] | None = None,
        **more: str,
    ) -> bool:
        """Whether a request that is sent in an odd way is served like others.

        Silence counts if it comes again: a node that leaves some requests without an
        answer, odd or not, breaks another rule.
        """
        for _ in range(SILENT_TWICE):
            client = await self._client(self._first)
            body = {**self._request(), **more}
            answer = await self._asker.ask(client, body, send=send)
            self._asker.close()
            if answer.body is not None:
                break
        served = answer.body is not None and answer.code not in (
            NOT_SUPPORTED,
            MALFORMED,
        )
        if served:
            self._keep(name)
        else:
            did = f"{shortened(answer.did, DID_CHARS_MAX)}\n{how}"
            self._break(name, self._first, did, self._seen(answer))
        return served

    def _seen(self, answer: Answer) -> str:
        """What came of a request, with the end of the log if nothing did."""
        tail = "" if answer.body is not None else self._nodes.log(answer.node)
        return f"{answer.seen}{tail}"

    # requests that have to be refused, and those that may be

    async def _refusals(self) -> None:
        self._nodes.what = "it was sent a request of an unknown type"
        await self._refuses("unknown-type", {"type": "frobnicate"}, NOT_SUPPORTED)
        self._nodes.what = "it was sent a request that lacks something"
        for service in self._services.values():
            for lacking in service.lacking:
                if self.notes.broken("lacking"):
                    return
                await self._refuses("lacking", fill(lacking, self._slots()), MALFORMED)

    async def _refuses(self, name: str, body: Mapping[str, Any], code: int) -> None:
        client = await self._client(self._first)
        answer = await self._asker.settled(client, body, SERVES_S)
        if answer.code == code:
            self._keep(name)
        else:
            # A node may find another reason first: there is no such key to change.
            other = name == "lacking" and answer.refused
            harmless = other and answer.code != NOT_SUPPORTED
            seen = self._seen(answer)
            self._break(name, self._first, answer.did, seen, harmless=harmless)
        self._asker.close()

    async def _ask_what_helps(self) -> None:
        for node, kind in itertools.product(self._names, HELPFUL):
            self._nodes.what = f"it was asked for its {kind}"
            client = await self._client(node)
            answer = await self._asker.ask(client, {"type": kind})
            if answer.body is None:
                self._break("unknown-type", node, answer.did, self._seen(answer))
            elif answer.is_error:
                advice = f"nothing, or serve {kind}: it is optional"
                self._break(
                    kind, node, answer.did, answer.seen, advice=advice, harmless=True
                )
            elif answer.is_ok:
                if flaw := misfit(HELPFUL[kind], dict(answer.body), {}):
                    self._break(kind, node, answer.did, f"{answer.seen}\n{flaw}")
                self._keep(kind)
            self._asker.close()

    # conversations

    async def _talk(self) -> None:
        for name, service in self._services.items():
            rule = of_service(name, service)
            self._nodes.what = f"it was talked to about {name}"
            for node in self._names:
                for _ in range(ATTEMPTS):
                    talked = await self._talked(rule, service, node)
                    self._asker.close()
                    if talked:
                        break
        await self._ask_for_ids()

    async def _talked(self, rule: Rule, service: Service, node: str) -> bool:
        """Have a conversation; False if its outcome is open, so that another may do."""
        slots, client = self._slots(), await self._client(node)
        for step in service.talk:
            client = await self._open(client)
            answer = await self._asker.settled(client, fill(step.ask, slots), SERVES_S)
            if answer.body is None:
                self._break("in-time", node, answer.did, self._seen(answer))
                return False
            if answer.is_open:
                if step.gives is None and answer.code is not None:
                    seen = f"{answer.seen}\nwhich is indefinite; {step.code} is right"
                    self._break("indefinite", node, answer.did, seen)
                return False
            if not self._judge_step(rule, step, answer, slots):
                return True
        self.notes.keeps(rule)
        return True

    def _judge_step(self, rule: Rule, step: Step, answer: Answer, slots: Slots) -> bool:
        """Note what is wrong with an answer in a conversation; True if it can go on."""
        seen, advice = answer.seen, ""
        right = f"{step.ask['type']}_ok" if step.gives is not None else "an error"
        if answer.is_error:
            if answer.code == step.code:
                return True
            flaw = f"where {right} is right" + f" ({step.code})" * (step.gives is None)
            if answer.code in TRY_AGAIN:
                flaw += f", for {SERVES_S:g} s"
            if answer.code == NOT_SUPPORTED:
                advice = "serve it, or choose a workload that it serves: --workload"
        elif not answer.is_ok:
            return False  # the asker has noted its type
        elif step.gives is None:
            flaw = f"where error {step.code} is right"
        else:
            flaw = misfit(step.gives, dict(answer.body or {}), slots)
        if not flaw:
            return True
        harmless = answer.code in step.codes
        self.notes.breaks(
            rule,
            answer.node,
            answer.did,
            f"{seen}\n{flaw}",
            says=step.says,
            advice=advice,
            harmless=harmless,
        )
        return harmless

    async def _ask_for_ids(self) -> None:
        """See that nodes never give out an id twice, if ids are what they give."""
        if "ids" not in self._services:
            return
        rule = of_service("ids", self._services["ids"])
        for node in self._names:
            client = await self._client(node)
            for _ in range(REQUESTS):
                client = await self._open(client)
                answer = await self._asker.settled(client, self._request(), SERVES_S)
                if not answer.is_ok or answer.body is None:
                    continue
                given = repr(answer.body.get("id"))
                if given in self._given:
                    seen = f"{answer.seen}\nwhich {self._given[given]} gave out before"
                    self.notes.breaks(rule, node, answer.did, seen)
                self._given[given] = node
            self._asker.close()

    # load and spread

    async def _load(self) -> None:
        if self.notes.broken("several"):
            return
        self._nodes.what = f"{CLIENTS} clients asked at once"
        marks = self._marks
        if marks is not None and marks.mark.few:
            marks = None

        async def ask_often(node: str) -> list[Answer]:
            client = await self._client(node)
            answers: list[Answer] = []
            for _ in range(REQUESTS):
                client = await self._open(client)
                if marks is None:
                    answer = await self._asker.ask(client, self._request())
                else:
                    answer = (await marks.leave(node, client)).answer
                answers.append(answer)
                if answer.body is None:
                    client.tap.close()  # as in a run: nobody waits for it any more
            return answers

        nodes = itertools.islice(itertools.cycle(self._names), CLIENTS)
        told = itertools.chain(*await asyncio.gather(*map(ask_often, nodes)))
        answers = sorted(told, key=lambda answer: answer.took_s)
        none = [answer for answer in answers if answer.body is None]
        if len(none) > SLOW_SHARE_MAX * len(answers):
            did = f"had {CLIENTS} clients send {REQUESTS} requests each, in all nodes"
            seen = f"{len(none)} of {len(answers)} had none, such as {none[0].line}"
            self._break("in-time", none[0].node, did, f"{none[0].seen}\n{seen}")
        median_ms, longest_ms = (
            answers[at].took_s * 1000 for at in (len(answers) // 2, -1)
        )
        told_ms = f"median {median_ms:.1f} ms, longest {longest_ms:.0f} ms"
        self._keep("in-time", told=told_ms)

    async def _spread(self) -> None:
        """See that other nodes show what one acknowledged."""
        marks = self._marks
        if marks is None:
            return
        self._nodes.what = "others were asked for what one acknowledged"
        at_once = marks.service in self._at_once
        for asked, shows in itertools.permutations(self._names, 2):
            before = await self._sent_by(asked)
            left = await marks.leave(asked)
            if left.claim != "done":
                continue
            first = await marks.look(left, shows)
            later = first
            if first.how == "gone" and not marks.mark.takes:
                later = await marks.look(left, shows, SOON_S)
            if later.how == "gone":
                seen = f"{later.seen}\n{later.after_s:.1f} s later still"
                if await self._sent_by(asked) == before:
                    seen += f"; {asked} has sent its peers nothing since"
                self._break("spread", shows, left.did, seen)
                return
            if at_once and first.how == "gone" and later.how == "there":
                after_ms = later.after_s * 1000
                seen = (
                    f"{first.seen}\nand only {after_ms:.0f} ms later what was written"
                )
                self._break("spread", shows, left.did, seen, advice=(
                    "let a read find what was acknowledged before it began; or say "
                    "that the service promises less, by the workload's option"
                ))  # fmt: skip
            elif later.how == "there":
                self._keep("spread", told="at once" if first is later else "soon")

    async def _sent_by(self, node: str) -> int:
        """What a node has sent to its peers so far, in frames or connects."""
        counters = await self._world.network.counters()
        return sum(c.forwarded for link, c in counters.items() if link[0] == node)

    # kills

    async def _kill_some(self) -> None:
        """Ask for changes while others are down, and later look at what was said."""
        first, *others = self._names
        for asked, down in ((first, others), (others[0] if others else "", [first])):
            if not others:
                return
            await self._nodes.serve_again()
            names = " and ".join(down)
            self._nodes.what = f"{names} had been killed"
            await self._nodes.end(down)
            left = await self._leave_some(asked)
            self._nodes.what = f"it was started again after kill -9 of {names}"
            await self._nodes.serve_again(down)
            await self._serves(asked, "returns")
            for one in left:
                await self._judge_left(one, f"while {names} had been killed")

    async def _leave_some(self, node: str) -> list[Left]:
        if self._marks is None:
            return []
        clients = [await self._client(node) for _ in range(3)]
        return await asyncio.gather(*(self._marks.leave(node, c) for c in clients))

    async def _judge_left(self, left: Left, when: str) -> None:
        """Hold what was said of a mark against what its node shows of it now."""
        marks = self._marks
        assert marks is not None, "a mark was left"
        if not left.claim:
            return
        at_once = left.claim == "refused" or marks.service in self._at_once
        look = await marks.look(left, left.node, 0.0 if at_once else SOON_S)
        did = f"{left.did}\n{when}"
        if left.claim == "refused" and look.how == "there":
            self._break("definite", left.node, did, look.seen)
        elif left.claim == "refused" and look.how == "gone":
            self._keep("definite")
        elif look.how == "gone":
            did += "; then it was killed, and all were started again"
            seen = f"{look.seen}\n{self._kept_where(left.node)}"
            self._break("survives", left.node, did, seen)
        elif look.how == "there":
            self._keep("survives")

    async def _terminate_one(self) -> None:
        """Send SIGTERM to the first node, as an operator does; it has to come back."""
        node = self._first
        self._nodes.what = "it had been sent SIGTERM"
        (ended,) = await self._nodes.end([node], SIGTERM_PATIENCE_S)
        self._nodes.what = "it was started again after SIGTERM"
        await self._nodes.serve_again([node])
        if await self._serves(node, "returns"):
            heeds = "heeds SIGTERM"
            if ended.signal != "SIGTERM":
                heeds = "ignores SIGTERM, which is fine"
            after_ms = self._nodes.up_after_s[node] * 1000
            self._keep("returns", told=f"after {after_ms:.0f} ms; it {heeds}")

    async def _kill_all(self) -> None:
        """Kill all nodes at once, start them again, and look for what they had."""
        self._nodes.what = "changes were made at all nodes"
        left = [one for node in self._names for one in await self._leave_some(node)]
        self._elsewhere = self._files_elsewhere()
        await self._nodes.end(self._names)
        self._nodes.what = "all nodes were started again after kill -9"
        await self._nodes.serve_again()
        for node in self._names:
            await self._serves(node, "returns")
        for one in left:
            await self._judge_left(one, "before all nodes were killed")
        await self._ask_for_ids()

    async def _look_for_lies(self) -> None:
        """Look for all that was refused: nothing of it may have happened."""
        if self._marks is None:
            return
        refused = [left for left in self._marks.all if left.claim == "refused"]
        for left in refused[:20]:
            await self._judge_left(left, "in the course of this check")
        if not refused:
            self._keep("definite", told="no change was refused here")

    # files

    def _files_elsewhere(self) -> list[str]:
        """Files of nodes outside their data folders."""
        here = os.getcwd()
        found = {os.path.join(here, name) for name in _listed() - self._cwd}
        for place in self._nodes.places.values():
            pids = looking.processes_of(place.data_dir)
            found |= set(looking.written_elsewhere(pids, place.data_dir))
            for pid in pids[:1]:
                found |= set(looking.private_files(pid))
        return sorted(found)

    def _kept_where(self, node: str) -> str:
        """What is in a node's data folder, and beside it."""
        inside = looking.files_in(str(self._nodes.places[node].data_dir))
        has = f"has {', '.join(inside)}" if inside else "is empty"
        others = ", ".join(self._elsewhere)
        beside = f"; elsewhere there are {others}" if others else ""
        return f"its SPLITBRAIN_DATA {has}{beside}"

    def _look_at_files(self) -> None:
        """See that what nodes wrote is in their data folders."""
        folders = [place.data_dir for place in self._nodes.places.values()]
        if any(looking.files_in(str(folder)) for folder in folders):
            self._keep("data")
        elif self._elsewhere:
            did = "looked for files after the kill of all nodes"
            self._break("data", self._first, did, self._kept_where(self._first))

    # findings

    def _keep(self, *names: str, told: str = "") -> None:
        for name in names:
            self.notes.keeps(RULES[name], told)

    def _break(
        self,
        name: str,
        node: str,
        did: str,
        seen: str,
        *,
        advice: str = "",
        harmless: bool = False,
    ) -> None:
        self.notes.breaks(
            RULES[name], node, did, seen, advice=advice, harmless=harmless
        )


def _listed() -> set[str]:
    """The names in the working folder."""
    try:
        return set(os.listdir("."))
    except OSError:
        return set()

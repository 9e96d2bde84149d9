"""What nodes answer: refusals, each service's conversation, and ten clients at once."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from harness.adapter.asking import TRY_AGAIN
from harness.adapter.conversations import HELPFUL
from harness.adapter.marks import SERVES_S
from harness.adapter.patterns import fill, misfit
from harness.adapter.rules import of_service
from harness.adapter.subject import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.adapter.asking import Answer
    from harness.adapter.conversations import Service, Step
    from harness.adapter.patterns import Slots
    from harness.adapter.rules import Rule
    from harness.adapter.subject import Subject

CLIENTS, REQUESTS = 10, 10
SLOW_SHARE_MAX = 0.02
"""Part of the requests of a load that may have no answer in time: machines hiccup."""
NOT_SUPPORTED, MALFORMED = 10, 12
"""Error codes of WIRE.md."""


async def refusals(subject: Subject) -> None:
    """See that what is unknown or lacks something is refused."""
    subject.nodes.what = "it was sent a request of an unknown type"
    await _refuses(subject, "unknown-type", {"type": "frobnicate"}, NOT_SUPPORTED)
    subject.nodes.what = "it was sent a request that lacks something"
    for service in subject.services.values():
        for lacking in service.lacking:
            if subject.notes.broken("lacking"):
                return
            await _refuses(
                subject, "lacking", fill(lacking, subject.slots()), MALFORMED
            )


async def _refuses(
    subject: Subject, name: str, body: Mapping[str, Any], code: int
) -> None:
    client = await subject.client(subject.first)
    answer = await subject.asker.settled(client, body, SERVES_S)
    if answer.code == code:
        subject.keep(name)
    else:
        # A node may find another reason first: there is no such key to change.
        other = name == "lacking" and answer.refused
        harmless = other and answer.code != NOT_SUPPORTED
        seen = subject.seen(answer)
        subject.breaks(name, subject.first, answer.did, seen, harmless=harmless)
    subject.asker.close()


async def ask_what_helps(subject: Subject) -> None:
    """Ask for what a node may tell or refuse; what it tells has to be right."""
    for node, kind in itertools.product(subject.names, HELPFUL):
        subject.nodes.what = f"it was asked for its {kind}"
        client = await subject.client(node)
        answer = await subject.asker.ask(client, {"type": kind})
        if answer.body is None:
            subject.breaks("unknown-type", node, answer.did, subject.seen(answer))
        elif answer.is_error:
            advice = f"nothing, or serve {kind}: it is optional"
            subject.breaks(
                kind, node, answer.did, answer.seen, advice=advice, harmless=True
            )
        elif answer.is_ok:
            if flaw := misfit(HELPFUL[kind], dict(answer.body), {}):
                subject.breaks(kind, node, answer.did, f"{answer.seen}\n{flaw}")
            subject.keep(kind)
        subject.asker.close()


async def talk(subject: Subject) -> None:
    """Have each service's conversation with each node."""
    for name, service in subject.services.items():
        rule = of_service(name, service)
        subject.nodes.what = f"it was talked to about {name}"
        for node in subject.names:
            for _ in range(ATTEMPTS):
                talked = await _talked(subject, rule, service, node)
                subject.asker.close()
                if talked:
                    break
    await ask_for_ids(subject)


async def _talked(subject: Subject, rule: Rule, service: Service, node: str) -> bool:
    """Have a conversation; False if its outcome is open, so that another may do."""
    slots, client = subject.slots(), await subject.client(node)
    for step in service.talk:
        client = await subject.open(client)
        answer = await subject.asker.settled(client, fill(step.ask, slots), SERVES_S)
        if answer.body is None:
            subject.breaks("in-time", node, answer.did, subject.seen(answer))
            return False
        if answer.is_open:
            if step.gives is None and answer.code is not None:
                seen = f"{answer.seen}\nwhich is indefinite; {step.code} is right"
                subject.breaks("indefinite", node, answer.did, seen)
            return False
        if not judge_step(subject, rule, step, answer, slots):
            return True
    subject.notes.keeps(rule)
    return True


def judge_step(
    subject: Subject, rule: Rule, step: Step, answer: Answer, slots: Slots
) -> bool:
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
    subject.notes.breaks(
        rule,
        answer.node,
        answer.did,
        f"{seen}\n{flaw}",
        says=step.says,
        advice=advice,
        harmless=harmless,
    )
    return harmless


async def ask_for_ids(subject: Subject) -> None:
    """See that nodes never give out an id twice, if ids are what they give."""
    if "ids" not in subject.services:
        return
    rule = of_service("ids", subject.services["ids"])
    for node in subject.names:
        client = await subject.client(node)
        for _ in range(REQUESTS):
            client = await subject.open(client)
            answer = await subject.asker.settled(client, subject.request(), SERVES_S)
            if not answer.is_ok or answer.body is None:
                continue
            given = repr(answer.body.get("id"))
            if given in subject.given:
                seen = f"{answer.seen}\nwhich {subject.given[given]} gave out before"
                subject.notes.breaks(rule, node, answer.did, seen)
            subject.given[given] = node
        subject.asker.close()


async def load(subject: Subject) -> None:
    """See that many clients at once get answers in time."""
    if subject.notes.broken("several"):
        return
    subject.nodes.what = f"{CLIENTS} clients asked at once"
    marks = subject.marks
    if marks is not None and marks.mark.few:
        marks = None

    async def ask_often(node: str) -> list[Answer]:
        client = await subject.client(node)
        answers: list[Answer] = []
        for _ in range(REQUESTS):
            client = await subject.open(client)
            if marks is None:
                answer = await subject.asker.ask(client, subject.request())
            else:
                answer = (await marks.leave(node, client)).answer
            answers.append(answer)
            if answer.body is None:
                client.tap.close()  # as in a run: nobody waits for it any more
        return answers

    nodes = itertools.islice(itertools.cycle(subject.names), CLIENTS)
    told = itertools.chain(*await asyncio.gather(*map(ask_often, nodes)))
    answers = sorted(told, key=lambda answer: answer.took_s)
    none = [answer for answer in answers if answer.body is None]
    if len(none) > SLOW_SHARE_MAX * len(answers):
        did = f"had {CLIENTS} clients send {REQUESTS} requests each, in all nodes"
        seen = f"{len(none)} of {len(answers)} had none, such as {none[0].line}"
        subject.breaks("in-time", none[0].node, did, f"{none[0].seen}\n{seen}")
    median_ms, longest_ms = (
        answers[at].took_s * 1000 for at in (len(answers) // 2, -1)
    )
    told_ms = f"median {median_ms:.1f} ms, longest {longest_ms:.0f} ms"
    subject.keep("in-time", told=told_ms)

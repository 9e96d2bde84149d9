"""The check of a node finds each breach of WIRE.md, and none in a right node."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.adapter import findings
from harness.adapter.check import check
from harness.adapter.conversations import SERVICES
from harness.adapter.findings import Finding, Report
from harness.adapter.patterns import Either, Has, Slot, StartOf, Whole, fill, misfit
from harness.adapter.rules import RULES
from harness.adapter.tap import parsed
from harness.cli.group import run_command
from harness.run.spec import TestSpec
from harness.systems.services import SERVICES as KNOWN
from harness.tests import starters

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "WIRE.md").read_text()
WRONG = ROOT / "harness" / "tests" / "wrong_node.py"

nightly = pytest.mark.nightly

BREACHES: Mapping[str, set[str]] = {
    "exits": {"listens"},
    "deaf": {"listens"},
    "late": {"listens", "returns"},
    "ipv6": {"listens"},
    "localhost": {"listens"},
    "other-port": {"listens"},
    "fixed-port": {"listens"},
    "daemon": {"foreground"},
    "silent": {"answers"},
    "stdout": {"answers"},
    "dies": {"stays", "unknown-type"},
    "other-connection": {"same-connection"},
    "no-newline": {"newline"},
    "glued": {"one-a-line"},
    "pretty": {"one-a-line"},
    "no-src": {"message"},
    "too-long": {"length", "answers"},
    "id-missing": {"in-reply-to"},
    "id-text": {"in-reply-to"},
    "id-wrong": {"in-reply-to"},
    "dest": {"dest"},
    "type": {"type"},
    "twice": {"once"},
    "code-none": {"code"},
    "code-text": {"code"},
    "closes": {"stays-open"},
    "one-client": {"several"},
    "one-recv": {"pieces", "together", "long", "no-message"},
    "short-lines": {"long"},
    "no-10": {"unknown-type"},
    "no-12": {"lacking"},
    "chokes": {"no-message"},
    "lies": {"definite"},
    "cas-indefinite": {"indefinite"},
    "cas-always": {"cas"},
    "no-value": {"register", "cas"},
    "floats": {"register", "cas"},
    "texts": {"register", "cas"},
    "surrogates": {"message", "register", "cas"},
    "slow": {"in-time"},
    "status": {"status"},
    "clock": {"clock"},
    "members-alone": {"members"},
    "adds-anybody": {"changes"},
    "removes-in-vain": {"changes"},
    "transfer-in-vain": {"transfer"},
    "peers": {"spread"},
    "no-restart": {"returns"},
    "late-again": {"returns"},
    "forgets": {"survives"},
    "data-in-tmp": {"data"},
}
"""Breach of wrong_node.py -> the rules that it is told of."""

TIMING = {"in-time", "listens", "returns", "serves"}
"""A busy machine may break these, too."""

DAILY = ("exits", "ipv6", "id-wrong", "floats", "forgets", "removes-in-vain")
TWO_NODES = {
    *("peers", "lies", "members-alone", "removes-in-vain", "transfer-in-vain"),
}


def spec_of(breach: str, **fields: Any) -> TestSpec:
    command = shlex.join([sys.executable, str(WRONG), breach])
    given = {"nodes": 1 + (breach in TWO_NODES), "options": {"ready_timeout_s": "5"}}
    if breach in {
        "late",
        "late-again",
        "localhost",
        "ipv6",
        "other-port",
        "fixed-port",
    }:
        given["options"] = {"ready_timeout_s": "1"}
    return TestSpec(system=f"launch:{command}", **{**given, **fields})


@pytest.mark.parametrize(
    "breach",
    [b if b in DAILY else pytest.param(b, marks=nightly) for b in BREACHES],
)
def test_a_breach_is_found_and_told_in_the_words_of_the_page(breach: str) -> None:
    report = check(spec_of(breach))
    told = findings.as_text(report)
    found = {finding.rule for finding in report.failed}
    assert BREACHES[breach] <= found, told
    assert found - TIMING == BREACHES[breach] - TIMING, told
    assert not report.fit
    for finding in report.failed:
        assert finding.says in told
        assert finding.seen.splitlines()[0] in told


def test_a_node_that_keeps_all_rules_is_fit() -> None:
    report = check(spec_of("right", nodes=2))
    assert report.fit, findings.as_text(report)
    assert report.notes == [], findings.as_text(report)
    assert report.not_tried == []
    assert {"register", "cas", "survives", "spread", "in-time"} <= set(report.passed)
    assert {"members", "changes"} <= set(report.passed)


@nightly
def test_a_node_that_knows_no_operator_is_not_told_about_members() -> None:
    report = check(spec_of("no-members"))
    assert report.fit, findings.as_text(report)
    assert not {"members", "changes", "transfer"} & {*report.passed, *report.not_tried}


@pytest.mark.parametrize("breach", ["ignores-sigterm", "src", "takes-its-time"])
@nightly
def test_what_is_harmless_does_not_make_a_node_unfit(breach: str) -> None:
    report = check(spec_of(breach))
    assert report.fit, findings.as_text(report)


@nightly
@pytest.mark.parametrize("network", ["switch", "proxy"])
@pytest.mark.parametrize("language", [n for n in starters.LANGUAGES if n != "shell"])
def test_the_starter_nodes_are_fit(
    language: str, network: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    node = starters.command(language, "register", tmp_path_factory.getbasetemp())
    spec = TestSpec(system=f"launch:{node}", nodes=3, network=network)
    report = check(spec)
    assert report.fit, findings.as_text(report)


@nightly
@pytest.mark.parametrize(
    ("protocol", "workload"),
    [
        *(("raft", w) for w in ("register", "lock", "list_append", "set", "counter")),
        *(("raft", w) for w in ("queue", "bank", "long_fork", "echo", "leader")),
        ("two_phase_commit", "commit"),
        ("paxos", "consensus"),
        ("zab", "broadcast"),
    ],
)
def test_reference_nodes_are_fit_for_what_they_serve(
    protocol: str, workload: str
) -> None:
    command = [sys.executable, "-m", "reference_impls.runtime", protocol]
    spec = TestSpec(system=f"launch:{shlex.join(command)}", nodes=3, workload=workload)
    report = check(spec)
    assert report.fit, findings.as_text(report)


@nightly
@pytest.mark.parametrize("workload", ["kafka", "g_set", "pn_counter", "unique_ids"])
def test_a_node_without_peers_is_fit_for_what_needs_no_agreement(workload: str) -> None:
    node = ROOT / "harness" / "tests" / "lone_node.py"
    command = shlex.join([sys.executable, str(node)])
    report = check(TestSpec(system=f"launch:{command}", nodes=1, workload=workload))
    assert report.fit, findings.as_text(report)
    assert report.notes == [], findings.as_text(report)


def text_of(page: str) -> str:
    return " ".join(page.split())


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    return {
        title: text_of(text)
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_every_rule_quotes_the_page() -> None:
    page = sections()
    quoted = [
        *((rule.section, rule.says) for rule in RULES.values()),
        *((service.section, service.says) for service in SERVICES.values()),
        *(
            (service.section, step.says)
            for service in SERVICES.values()
            for step in service.talk
            if step.says
        ),
    ]
    for section, says in quoted:
        assert text_of(says) in page[section], f"{section}: {says}"


def test_there_is_something_to_say_about_every_service_of_a_workload() -> None:
    assert set(KNOWN) - set(SERVICES) == {"membership"}


def test_conversations_fill_all_of_their_slots() -> None:
    slots = {"key": 1, "name": "a", "mark": 2, "power": 4, "first": 1, "second": 2}
    for service in SERVICES.values():
        bodies = [*(step.ask for step in service.talk), *service.lacking]
        if service.mark is not None:
            bodies += [service.mark.leave, service.mark.look]
        for body in bodies:
            assert "Slot" not in repr(fill(body, dict(slots)))


@pytest.mark.parametrize(
    ("pattern", "value", "flaw"),
    [
        (5, 5, ""),
        (5, 5.0, "5.0 is not 5: a whole number came back as a float"),
        (5, "5", '"5" is not 5: a number came back as a text'),
        (1, True, "true is not 1: a truth value is no number"),
        ({"value": None}, {}, "there is no 'value' in {}"),
        ({"value": 5}, {"value": 6, "more": 1}, "value: 6 is not 5"),
        ([1, Whole()], [1, "x"], '"x" is no whole number'),
        (Either((None, [])), [], ""),
        (Has(Slot("key")), [1, 7], ""),
        (Has(Slot("key")), [1], "7 is missing in [1]"),
        (StartOf((1, 2)), [1], ""),
        (StartOf((1, 2)), [2], "2 is not 1"),
        (Whole(above="key"), 7, "7 is not above 7"),
    ],
)
def test_a_misfit_is_told_in_a_clause(pattern: Any, value: Any, flaw: str) -> None:
    assert misfit(pattern, value, {"key": 7}) == flaw


def test_a_client_waits_for_an_answer_as_long_as_it_is_told() -> None:
    slow = spec_of("silent", op_timeout_s=0.2)
    (found,) = [found for found in check(slow).failed if found.rule == "answers"]
    assert "no answer within 0.2 s" in found.seen


def test_the_greeting_of_another_protocol_is_told_as_one() -> None:
    server = (
        "import os, socket\n"
        "host, port = os.environ['SPLITBRAIN_LISTEN'].rsplit(':', 1)\n"
        "listener, clients = socket.create_server((host, int(port))), []\n"
        "while True:\n"
        "    clients.append(listener.accept()[0])\n"
        "    clients[-1].sendall(b'220 mail.example ready\\r\\n')\n"
    )
    command = shlex.join([sys.executable, "-c", server])
    report = check(TestSpec(system=f"launch:{command}", nodes=1))
    told = [found.seen for found in report.failed if found.rule == "message"]
    assert told, findings.as_text(report)
    assert "220 mail.example ready" in told[0]
    assert "servers of another protocol say" in told[0]


def test_a_line_is_taken_apart_as_far_as_it_goes() -> None:
    right = b'{"src": "n1", "dest": "c1", "body": {}}'
    assert parsed(right).flaw == ""
    assert len(parsed(right + right).objects) == 2
    assert parsed(right + right).flaw
    assert parsed(b'{"body": {}}').objects == [{"body": {}}]
    assert parsed(b"\xff{}").objects == []
    assert parsed(b"[1]").objects == []
    assert parsed(b"[" * 100_000).objects == []


def test_the_command_has_a_status_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = shlex.join([sys.executable, str(WRONG), "exits"])
    assert run_command(["adapter", "check", command, "--nodes", "1", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["fit"] is False
    assert [finding["rule"] for finding in told["failed"]] == ["listens"]
    assert "wrong_node: this is no good" in told["failed"][0]["seen"]


def test_a_program_that_cannot_start_is_not_told_where_to_listen(
    tmp_path: Path,
) -> None:
    program = tmp_path / "node"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    report = check(TestSpec(system=f"launch:{program}", workload="echo", nodes=1))
    assert [finding.rule for finding in report.failed] == ["listens"]
    assert report.failed[0].seen.startswith("cannot start")
    assert "SPLITBRAIN_LISTEN" not in report.failed[0].advice


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["no-such-program-at-all"], "there is no program 'no-such-program-at-all'"),
        ([""], "there is no command"),
        (["true {nod}"], "unknown placeholder {nod}"),
        (["true", "--workload", "registre"], "did you mean register"),
        (["true", "--set", "ready_timeout=5"], "did you mean ready_timeout_s"),
        (["true", "--nodes", "0"], "--nodes"),
        (["maelstrom:true"], "maelstrom: nodes can't be checked"),
        (["attach:localhost:1"], "attach: nodes can't be checked"),
    ],
)
def test_bad_usage_is_one_line_and_254(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["adapter", "check", *words]) == 254
    told = capsys.readouterr()
    assert why in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


@nightly
@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_node_sends_the_check_comes_to_an_end(seed: int) -> None:
    node = ROOT / "harness" / "tests" / "hostile_node.py"
    command = shlex.join([sys.executable, str(node), str(seed)])
    report = check(TestSpec(system=f"launch:{command}", nodes=1))
    assert report.ended == "complete"
    assert not report.fit
    assert json.loads(json.dumps(findings.as_json(report)))


def test_an_interrupted_check_does_not_say_that_a_node_is_fit() -> None:
    report = Report(command="c", workload="w", nodes=1, ended="interrupted")
    assert not report.fit
    assert findings.as_text(report).endswith("the check is not complete")


def test_what_a_node_sent_can_t_control_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    finding = Finding("r", "k", "n1", "sent", "\x1b[2J\u202e", "a", "s", "w")
    report = Report(command="c", workload="w", nodes=1, failed=[finding])
    from harness.cli.terminal import say

    say(findings.as_text(report))
    assert "\x1b" not in capsys.readouterr().out

"""Results in a browser: every page answers, and nothing else does."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli.group import run_command
from harness.serve import summaries
from harness.serve.index import Index
from harness.serve.static import write as write_static
from harness.serve.summaries import Cell, Night
from harness.tests.report_runs import write_run
from harness.tests.test_runs import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("starlette", reason="the extra [serve] isn't installed here")
pytest.importorskip("httpx2", reason="httpx2 isn't installed here")

from starlette.testclient import TestClient

from harness.serve.app import make_app

EVIL = "<script>alert(1)</script>\"'&\x1b[31m"
PRINT = "stale-read / linearizable / raft / register"


def night(results: Path, stamp: str, told: dict[str, tuple[bool, str]]) -> None:
    """A suite's folder: row -> whether it was as expected, and its run."""
    folder = results / "suites" / f"{stamp}-quick"
    folder.mkdir(parents=True)
    rows = [
        {
            "name": name,
            "verdict": "valid" if good else "invalid",
            "expected": "valid",
            "as_expected": good,
            "run": run,
            "ops": {"ok": 5},
            "seconds": 1.0,
            "why": "" if good else EVIL,
        }
        for name, (good, run) in told.items()
    ]
    text = json.dumps({"suite": "quick", "rows": rows})
    (folder / "suite.json").write_text(text)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    write_run(results / "raft-register" / "big", ops=1500, seconds=20)
    for number in range(4):
        write(results, number, state="invalid", expected="valid", faults={"kill": 2})
    evil = write(
        results, 5, system=EVIL.replace("/", "%"), anomaly=EVIL, state="invalid"
    )
    run = str(evil.relative_to(results))
    (results / "secret.txt").write_text("in the folder")
    (results.parent / "outside.txt").write_text("outside of it")
    (results / "out").symlink_to(results.parent)
    live = results / "raft-register" / "live"
    live.mkdir()
    (live / "test.yaml").write_text("system: raft\nworkload: register\n")
    line = '{"index":0,"type":"invoke","f":"read","process":0,"time":1}\n'
    (live / "history.jsonl").write_text(line * 3)
    fault = {
        "event": "start",
        "id": 1,
        "kind": "kill",
        "title": "n1 is dead",
        "time": 1,
    }
    (live / "faults.jsonl").write_text(json.dumps(fault) + "\n")
    first = {"a": (True, run), "b": (False, ""), EVIL: (True, "")}
    night(results, "20261201T000000.000Z", first)
    second = {"a": (False, run), "b": (False, ""), "c": (True, "")}
    night(results, "20261202T000000.000Z", second)
    return results


@pytest.fixture(scope="module")
def client(results: Path) -> Iterator[TestClient]:
    app = make_app(results, ["testserver"])
    with TestClient(app, raise_server_exceptions=True) as client:
        yield client


PAGES = [
    "/",
    "/?verdict=unexpected&sort=-ops&text=raft",
    "/?system=raft&page=2&limit=2",
    "/run/raft-register/big",
    "/fingerprints",
    f"/fingerprint?name={PRINT}",
    "/nights",
    "/nights?suite=quick",
    "/trends",
    "/trends?system=raft",
    "/compare?a=raft-register/big&b=raft-register/live",
]


@pytest.mark.parametrize("address", PAGES)
def test_every_page_answers_and_runs_nothing(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text[:200]
    assert "script" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in answer.text
    assert "\x1b" not in answer.text
    assert client.head(address).status_code == 200


def test_every_link_of_every_page_leads_somewhere(client: TestClient) -> None:
    seen: set[str] = set()
    left = ["/"]
    while left:
        address = left.pop()
        if address in seen or address.startswith("/zip/"):
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, (address, answer.text[:100])
        if not address.startswith(("/files/", "/api/")):
            found = re.findall(r'href="(/[^"]*)"', answer.text)
            left += [link.replace("&amp;", "&") for link in found]
    assert any(address.startswith("/run/") for address in seen)
    assert len(seen) > 20


def test_lists_say_what_the_runs_were(client: TestClient) -> None:
    page = client.get("/?verdict=unexpected").text
    assert page.count('class="off"') == 4
    big = client.get("/run/raft-register/big").text
    assert PRINT.split(" / ")[0] in big
    rate = client.get(f"/fingerprint?name={PRINT}").text
    assert "of 5, rate" in rate or "5 of" in rate


def test_a_run_in_progress_shows_its_counts_and_faults(client: TestClient) -> None:
    page = client.get("/run/raft-register/live").text
    assert "In progress" in page
    assert "3 invoke" in page
    assert "n1 is dead" in page
    assert 'http-equiv="refresh"' in page
    assert 'http-equiv="refresh"' not in client.get("/run/raft-register/big").text


def test_nights_tell_what_is_new(client: TestClient) -> None:
    told = client.get("/api/nights?suite=quick").json()["nights"]
    assert [each["started_utc"][:10] for each in told] == ["2026-12-02", "2026-12-01"]
    page = client.get("/nights?suite=quick").text
    assert re.search(r"<b>new</b>.*?<span class=\"count\">a</span>", page, re.DOTALL)
    assert re.search(r"<b>still</b>.*?<span class=\"count\">b</span>", page, re.DOTALL)
    assert client.get("/nights?suite=other").status_code == 404


def cell(good: bool | None) -> Cell:
    return Cell("valid", good, "", "", "", 1.0, None, 1)


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ([True], ""),
        ([True, True], ""),
        ([False], "new"),
        ([False, True, True], "new"),
        ([True, False, False], "gone"),
        ([True, True, False], ""),
        ([False, False, True], "still"),
        ([False, True, False], "flaky"),
        ([True, False, True], "flaky"),
        ([False, None, True], "new"),
        ([], ""),
    ],
)
def test_changes_between_nights_have_names(
    said: list[bool | None], change: str
) -> None:
    nights = [
        Night(str(n), "s", "", {"row": cell(good)}) for n, good in enumerate(said)
    ]
    assert summaries.change_of("row", nights) == change


def test_json_is_what_the_command_prints(
    client: TestClient, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = client.get("/api/runs?system=raft").json()
    assert run_command(["runs", str(results), "--system", "raft", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer
    one = client.get(f"/api/runs/{answer['runs'][0]['path']}").json()
    assert one == answer["runs"][0]
    (first, *_) = client.get("/api/fingerprints").json()["fingerprints"]
    assert 0 <= first["rate"][0] <= first["rate"][1] <= 1


def test_a_run_comes_as_zip(client: TestClient, results: Path) -> None:
    answer = client.get("/zip/raft-register/big")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        history = archive.read("big/history.jsonl")
    assert history == (results / "raft-register/big/history.jsonl").read_bytes()
    assert client.get("/zip/raft-register").status_code == 404


def test_files_can_do_nothing(client: TestClient, results: Path) -> None:
    page = results / "raft-register" / "big" / "evil.html"
    page.write_text("<script>alert(1)</script>")
    for name in ("history.jsonl", "verdict.json", "evil.html"):
        answer = client.get(f"/files/raft-register/big/{name}")
        assert answer.status_code == 200
        assert not answer.headers["content-type"].startswith("text/html")
        assert "sandbox" in answer.headers["content-security-policy"]


ODD = [
    "/files/../outside.txt",
    "/files/%2e%2e/outside.txt",
    "/files/%2E%2e%2foutside.txt",
    "/files/out/outside.txt",
    "/files//etc/passwd",
    "/files/%2fetc%2fpasswd",
    "/files/..%5coutside.txt",
    "/files/raft-register/%00",
    "/files/index.sqlite",
    "/files/raft-register",
    "/files/",
    "/run/../../etc",
    "/run/nothing",
    "/zip/out",
    "/zip/%2e%2e",
    "/nothing",
    "/api/runs/nothing",
    f"/files/{'a/' * 3000}b",
    "/?sort=nothing",
    "/?verdict=alert(1)",
    "/?page=-1",
]


@pytest.mark.parametrize("address", ODD)
def test_odd_addresses_get_404_or_400(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code in {400, 404}, answer.text[:100]
    assert "outside of it" not in answer.text


PARTS = (
    ".. . %2e%2e %2f out outside.txt raft-register big %00 ~ \\ index.sqlite "
    "history.jsonl %252e%252e ..;"
)
parts = st.sampled_from(PARTS.split()) | st.just("")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["files", "zip", "run", "api/runs"]), st.lists(parts, max_size=6)
)
def test_no_path_leads_out(client: TestClient, door: str, path: list[str]) -> None:
    answer = client.get(f"/{door}/{'/'.join(path)}")
    assert answer.status_code in {200, 307, 400, 404}
    assert "outside of it" not in answer.text
    assert not answer.content.startswith(b"SQLite")


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "options"])
def test_only_reading_is_answered(client: TestClient, method: str) -> None:
    assert client.request(method, "/").status_code == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "testserver.evil.example", "", "127.0.0.1:1"]
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "raft" not in answer.text


def test_static_pages_link_to_each_other_and_to_reports(
    results: Path, tmp_path: Path
) -> None:
    first = write_static(results, tmp_path / "site")
    files = {path.name for path in first.parent.iterdir()}
    assert {"index.html", "fingerprints.html", "nights.html", "trends.html"} <= files
    for name in files:
        page = (first.parent / name).read_text("utf-8")
        assert "<form" not in page
        assert "<script" not in page
        for link in re.findall(r'href="([^"#]*)"', page):
            assert not link.startswith("/"), (name, link)
            if not link.endswith("report.html"):
                assert link in files, (name, link)
    reports = re.findall(r'href="(\./[^"]*report\.html)"', first.read_text("utf-8"))
    assert reports


def test_report_writes_the_pages_beside_the_runs(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["report", "--index", str(results), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "index.html")
    assert run_command(["report"]) == 254
    assert run_command(["report", "a", "--index", "b"]) == 254
    assert "report wants a RUN, or --index" in capsys.readouterr().err


def asked(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/api/runs", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_the_command_serves_until_it_is_stopped(results: Path) -> None:
    command = [sys.executable, "-m", "harness", "serve", str(results), "--port", "0"]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    try:
        line = served.stdout.readline()
        port = int(re.findall(r":(\d+)/", line)[0])
        assert json.loads(asked(port))["total"] >= 6
        os.kill(served.pid, signal.SIGINT)
        assert served.wait(20) == 0
    finally:
        served.kill()
        served.wait()
        served.stdout.close()


def test_bad_input_is_one_line(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run_command(["serve", str(results), "--port", port]) == 254
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err
    assert run_command(["serve", str(results / "nowhere"), "--port", "0"]) == 254
    assert "is no folder" in capsys.readouterr().err


def test_an_index_that_can_not_be_written_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    (tmp_path / "index.sqlite").mkdir()
    index = Index(tmp_path)
    assert "in memory" in index.remark
    assert index.refresh() == 1
    index.close()

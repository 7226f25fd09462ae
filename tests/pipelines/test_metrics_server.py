"""Metrics over real HTTP, of a real folder, while it changes, and as the command serves them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scripted_stages import config, install, write_sources

from pipelines.ledger import DONE, Entry, Ledger
from pipelines.metrics_server import metrics_server
from pipelines.run import run
from pipelines.status import StatusReader
from schemas.errors import UsageError
from talkset import cli


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run over two good sources and a bad one."""
    install(monkeypatch)
    manifest = write_sources(tmp_path, {"a.mp4": "ok", "b.mp4": "ok", "c.mp4": "not_a_video"})
    run(manifest, tmp_path / "out", config())
    return tmp_path / "out"


def get(address: str) -> tuple[int, str, str]:
    """(status, content type, text)."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def units(text: str) -> dict[tuple[str, str], float]:
    """(stage, state) -> units."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {(s.labels["stage"], s.labels["state"]): s.value for s in families["talkset_stage_units"].samples}


def test_metrics_follow_the_folder(out: Path) -> None:
    with metrics_server(StatusReader(out)) as address:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", address)
        status, kind, text = get(address)
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert units(text)["probe", "done"] == 2
        assert units(text)["probe", "quarantined"] == 1
        with Ledger(out) as ledger:
            ledger.record([Entry("u", "fit", "k", DONE)])
        assert units(get(address + "?x=1")[2])["fit", "done"] == 1
        with ThreadPoolExecutor(8) as pool:
            assert {status for status, _, _ in pool.map(get, [address] * 24)} == {200}
        head = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(head, timeout=10) as answer:
            assert int(answer.headers["Content-Length"]) > 1000
            assert answer.read() == b""
        root = address.removesuffix("/metrics")
        assert get(f"{root}/")[0] == 404
        assert get(f"{root}/../../etc/passwd")[0] == 404
    with pytest.raises(urllib.error.URLError):
        get(address)


def test_a_folder_that_is_gone_is_told(out: Path) -> None:
    with metrics_server(StatusReader(out)) as address:
        assert get(address)[0] == 200
        out.rename(out.parent / "moved")
        status, _, text = get(address)
        assert status == 503
        assert "cannot be read" in text
        (out.parent / "moved").rename(out)
        assert get(address)[0] == 200


def test_an_address_that_cannot_be_used_is_refused(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"), metrics_server(StatusReader(out), port=port):
            pass
        assert cli.main(["status", str(out), "--metrics-port", str(port)]) == 2
        assert "--metrics-port" in capfd.readouterr().err
    with pytest.raises(UsageError, match=r"203\.0\.113\.7"), metrics_server(StatusReader(out), "203.0.113.7"):
        pass


def test_the_command_serves_until_it_is_stopped(out: Path) -> None:
    arguments = [sys.executable, "-m", "talkset.cli", "status", str(out), "--metrics-port", "0"]
    environment = {**os.environ, "COLUMNS": "200"}
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        address = process.stderr.readline().removeprefix("metrics at ").strip()
        text = get(address)[2]
        while "finished after" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert units(text)["probe", "done"] == 2

"""The record of a run: every line whole, whatever happened to the run before."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_stages import config, content, install, write_sources

from pipelines.events import EventLog, EventReader, events_path, last_start, resume_command, retry_settings
from pipelines.keys import output_digest
from pipelines.run import run
from schemas.config import RetryConfig
from schemas.errors import TalksetError


def folder(tmp_path: Path) -> Path:
    (tmp_path / ".talkset").mkdir()
    return tmp_path


def test_a_torn_line_costs_nothing_but_itself(tmp_path: Path) -> None:
    root = folder(tmp_path)
    with EventLog(root) as log:
        log.write("phase", phase="one", items=1)
        log.write("phase", phase="two", items=2)
    path = events_path(root)
    whole = path.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:length])
        assert [event["phase"] for event in EventReader(root).new()] == ["one"]
        with EventLog(root) as log:
            log.write("phase", phase="ünd\n3", items=3)
        # without only its newline the second line is whole
        expected = ["one", "two", "ünd\n3"] if length == len(whole) - 1 else ["one", "ünd\n3"]
        assert [event["phase"] for event in EventReader(root).new()] == expected


def test_a_reader_gets_each_line_once_when_it_is_whole(tmp_path: Path) -> None:
    root = folder(tmp_path)
    reader = EventReader(root)
    assert list(reader.new()) == []
    with EventLog(root) as log:
        log.write("phase", phase="a", items=0)
        assert [event["phase"] for event in reader.new()] == ["a"]
        with events_path(root).open("ab") as stream:
            stream.write(b'{"event":"ph')
        assert list(reader.new()) == []
        with events_path(root).open("ab") as stream:
            stream.write(b'ase","run":"x","phase":"b"}\n[1]\n"text"\n{"event":1,"run":"x"}\n')
        assert [event["phase"] for event in reader.new()] == ["b"]
        assert list(reader.new()) == []


def test_a_run_is_on_record_and_the_data_set_does_not_depend_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    manifest, settings = write_sources(tmp_path, {"a.mp4": "unavailable ok", "b.mp4": "not_a_video"}), config()
    run(manifest, tmp_path / "out", settings, command=["talkset", "run", "m"])
    events = list(EventReader(tmp_path / "out").new())
    assert {event["run"] for event in events} == {events[0]["run"]}
    start, end = events[0], events[-1]
    assert (start["event"], start["config"], start["sources"]) == ("run_start", output_digest(settings), 2)
    assert (end["event"], end["outcome"], end["failed"]) == ("run_end", "finished", 1)
    starts, ends = ([e for e in events if e["event"] == kind] for kind in ("start", "end"))
    assert [e["attempt"] for e in starts] == [e["attempt"] for e in ends] == [1, 1, 2]
    assert [e["outcome"] for e in ends] == ["failed", "failed", "done"]
    assert ["retry_s" in e for e in ends] == [True, False, False]
    steps = [(e["stage"], e["outcome"], e["reason"]) for e in events if e["event"] == "step"]
    assert steps == [
        ("probe", "failed", "unavailable"),
        ("probe", "failed", "not_a_video"),
        ("probe", "done", None),
        ("clips", "done", None),
    ]
    for step in (e for e in events if e["event"] == "step"):
        assert 0 < step["seconds"] < 5
        assert step["cpu_seconds"] >= 0
        assert step["host"]
    before = content(tmp_path / "out")
    events_path(tmp_path / "out").unlink()
    assert not run(manifest, tmp_path / "out", settings).written
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("script", "error", "outcome"), [("stop", KeyboardInterrupt, "stopped"), ("disk_full", TalksetError, "failed")]
)
def test_how_a_run_ended_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[BaseException], outcome: str
) -> None:
    install(monkeypatch)
    with pytest.raises(error):
        run(write_sources(tmp_path, {"a.mp4": script}), tmp_path / "out", config("run.retry.attempts=7"))
    *_, end = EventReader(tmp_path / "out").new()
    assert (end["event"], end["outcome"]) == ("run_end", outcome)
    assert retry_settings(last_start(tmp_path / "out")).attempts == 7
    assert end["message"].startswith(error.__name__)


def test_the_command_to_resume_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = {"command": ["talkset", "run", "my videos", "--out", "o"], "folder": "/some where"}
    assert resume_command(start) == "cd '/some where' && talkset run 'my videos' --out o"
    monkeypatch.chdir(tmp_path)
    assert resume_command({**start, "folder": str(tmp_path)}) == "talkset run 'my videos' --out o"
    assert resume_command({}) == resume_command({"command": []}) == ""
    assert retry_settings({"retry": {"unknown": 1}}) == RetryConfig()

"""Stages that do what the text of a source says, so that whole runs with every kind of failure take milliseconds.

The words of a source's first line are what the first, the second, ... attempt at it ends as: `ok`, a reason (raised as
TalksetError), `bug` (an exception of no kind that is known), `stop` (Ctrl-C). The last word stays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, run, session
from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage
from schemas.config import Config, load_config
from schemas.errors import TalksetError

QUICK = (
    "run.engine=local",
    "overlay.enabled=false",
    "shards.figures=false",
    "run.retry.wait_s=0.001",
    "run.retry.max_wait_s=0.01",
)
MODELS = dict.fromkeys(("head_model", "finder", "speech", "speaker", "detector", "embedding", "aligner"), "stub")


class Probe(Stage[SourceItem]):
    """Ends as the next word of the source says."""

    name = "probe"

    def run(self, job: Job[SourceItem]) -> Result:
        """A made-up `VideoInfo`."""
        words, log = job.item.path.read_text().splitlines()[0].split(), job.item.path.with_suffix(".attempts")
        attempt = len(log.read_text()) if log.exists() else 0
        with log.open("a") as stream:
            stream.write("x")
        word = words[min(attempt, len(words) - 1)]
        if word == "bug":
            raise ZeroDivisionError("a bug in the code")
        if word == "stop":
            raise KeyboardInterrupt
        if word != "ok":
            raise TalksetError(word, f"{job.item.path.name} was told to fail")
        sizes = {"width": 64, "height": 48, "fps": [25, 1], "duration_us": 1_000_000, "rotation_deg": 0}
        return Result({**sizes, "video_start_us": 0, "audio_rate": None, "audio_start_us": None})


class Clips(Stage[SourceItem]):
    """Finds no face, so that nothing more is to be done."""

    name = "clips"
    needs = ("probe",)

    def run(self, job: Job[SourceItem]) -> Result:
        """One rejected span."""
        span = {"start_us": 0, "end_us": 1_000_000, "reason": "no_face", "message": "made up"}
        return Result({"clips": [], "rejections": [span]})


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the scripted stages in the place of the real ones."""
    stages = {stage.name: stage for stage in (Probe(), Clips())}
    monkeypatch.setattr(build, "_STAGES", stages)
    monkeypatch.setattr(session, "SOURCE_STAGES", tuple(stages))
    monkeypatch.setattr(run, "model_digests", lambda config: MODELS)
    monkeypatch.setattr(run, "describe_models", lambda config, digests: [])
    monkeypatch.setattr(run, "library_versions", lambda: {"talkset": "0"})
    monkeypatch.setattr("pipelines.engines.local.settle_process", lambda: None)


def write_sources(folder: Path, scripts: dict[str, str]) -> Path:
    """Source files by name with their words, and a manifest of them."""
    for name, words in scripts.items():
        (folder / name).write_text(f"{words}\n{name}")  # the name, so that no two are the same
        (folder / name).with_suffix(".attempts").unlink(missing_ok=True)
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps({"uri": name}) + "\n" for name in scripts))
    return path


def attempts(folder: Path, name: str) -> int:
    """How often a source was tried."""
    log = (folder / name).with_suffix(".attempts")
    return len(log.read_text()) if log.exists() else 0


def config(*overrides: str) -> Config:
    """The quickest run."""
    return load_config(None, [*QUICK, *overrides])


def options(extra: Sequence[str] = ()) -> list[str]:
    """The same as arguments of the command."""
    return [part for value in (*QUICK, *extra) for part in ("--set", value)]


def content(root: Path) -> dict[str, bytes]:
    """Every file of a data set but the run state."""
    files: list[Any] = sorted(path for path in root.rglob("*") if path.is_file() and ".talkset" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

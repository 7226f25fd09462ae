"""Taking an item through its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.ledger import DONE, FAILED
from pipelines.results import Result, ResultStore
from pipelines.stage import Job, Models, SourceItem, Stage
from pipelines.work import advance
from schemas.config import load_config
from schemas.types import Source

CONFIG = load_config(None)


class Posed(Stage[SourceItem]):
    """Uses the head model."""

    name = "posed"
    models = ("head_model",)
    outputs = ("said",)

    def run(self, job: Job[SourceItem]) -> Result:
        """What the source's name says."""
        return Result({job.item.path.stem: 1})


def taken(folder: Path, sha256: str, name: str = "said.mp4") -> Any:
    item = SourceItem("unit", Source(name, 1), folder / name, "ab" * 32)
    digests = {"head_model": sha256}
    (step,) = advance([Posed()], item, CONFIG, digests, ResultStore(folder), Models(CONFIG))
    return step


@pytest.fixture(scope="module")
def sha256() -> str:
    return Models(CONFIG).head.sha256


def test_a_stage_makes_its_result(tmp_path: Path, sha256: str) -> None:
    step = taken(tmp_path, sha256)
    assert (step.state, step.value, step.fresh) == (DONE, {"said": 1}, True)
    assert not taken(tmp_path, sha256).fresh


def test_a_worker_with_another_head_than_the_driver_makes_nothing(tmp_path: Path) -> None:
    step = taken(tmp_path, "0" * 64)
    assert (step.state, step.reason) == (FAILED, "missing_model")
    assert "Copy the driver's model cache there" in step.message
    assert ResultStore(tmp_path).value("posed", step.key) is None


def test_a_result_without_what_the_stage_declares_is_refused(tmp_path: Path, sha256: str) -> None:
    step = taken(tmp_path, sha256, "else.mp4")
    assert (step.state, step.reason) == (FAILED, "internal")
    assert "lacks said" in step.message

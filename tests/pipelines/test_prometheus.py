"""The metrics say what the status says, in a form that Prometheus' own parser reads."""

from __future__ import annotations

import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.prometheus import exposition
from pipelines.status import PhaseStatus, StageStatus, Status

NAMES = {
    *("talkset_run_info", "talkset_run_state", "talkset_run_start_time_seconds", "talkset_run_elapsed_seconds"),
    *("talkset_workers", "talkset_stage_units", "talkset_stage_results", "talkset_stage_seconds"),
    "talkset_stage_cpu_seconds",
}
PHASE_NAMES = {
    *("talkset_phase_items", "talkset_phase_ended", "talkset_phase_queue", "talkset_phase_waiting"),
    *("talkset_phase_items_per_second", "talkset_phase_eta_seconds", "talkset_workers_busy"),
    "talkset_workers_utilisation_ratio",
}


def status(**changes: Any) -> Status:
    """A live run with 10 clips on their way, 4 of them through in the last 8 seconds."""
    now = time.time()
    phase = PhaseStatus(
        "clips", 10, now - 8, 4, 1, {"c8": "fit", "c9": "landmarks"}, [now - 6, now - 4, now - 2, now], 12.0
    )
    stages = {
        "landmarks": StageStatus(done=8, running=1, made=5, seconds=10.5, cpu_seconds=9.25),
        "fit": StageStatus(done=3, rejected=1, running=1, failed=2, quarantined=6, made=4, seconds=2.0),
    }
    values: dict[str, Any] = {
        "state": "running",
        "run": "20260101T000000Z-abc",
        "owner": "host h, process 1",
        "phase": phase,
    }
    known = {"message": "", "started": now - 100, "seconds": 100.0, "workers": 2, "stages": stages, "resume": ""}
    return Status(**{**known, **values, **changes})


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(sample name, labels in order of their names) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_has_help_and_type() -> None:
    text = exposition(status())
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families} == NAMES | PHASE_NAMES
    assert len(families) == len(NAMES | PHASE_NAMES)  # none is told twice
    for family in families:
        assert family.documentation.endswith(".")
        assert family.type in ("gauge", "counter")
        assert family.samples
    assert text.endswith("\n")


def test_the_numbers_are_those_of_the_status() -> None:
    told = status()
    found = parsed(exposition(told))
    for name, stage in told.stages.items():
        for state in ("done", "rejected", "running", "failed", "quarantined"):
            assert found["talkset_stage_units", (("stage", name), ("state", state))] == getattr(stage, state)
        assert found["talkset_stage_results_total", (("stage", name),)] == stage.made
        assert found["talkset_stage_seconds_total", (("stage", name),)] == stage.seconds
        assert found["talkset_stage_cpu_seconds_total", (("stage", name),)] == stage.cpu_seconds
    phase = (("phase", "clips"),)
    assert found["talkset_phase_items", phase] == 10
    assert found["talkset_phase_queue", phase] == 4
    assert found["talkset_phase_waiting", phase] == 1
    assert found["talkset_workers_busy", phase] == 2
    assert found["talkset_phase_items_per_second", phase] == pytest.approx(0.5, rel=0.05)
    assert found["talkset_phase_eta_seconds", phase] == pytest.approx(12, rel=0.05)
    assert found["talkset_workers_utilisation_ratio", phase] == pytest.approx(12 / 16, rel=0.05)
    assert found["talkset_run_start_time_seconds", ()] == told.started  # to the last bit


@pytest.mark.parametrize("state", ["running", "finished", "stopped", "failed", "died"])
def test_exactly_one_state_is_set(state: str) -> None:
    found = parsed(exposition(status(state=state)))
    assert {labels: value for (name, labels), value in found.items() if name == "talkset_run_state" and value} == {
        (("state", state),): 1.0
    }
    busy = found["talkset_workers_busy", (("phase", "clips"),)]
    assert busy == (2 if state == "running" else 0)


def test_what_is_not_known_has_no_sample() -> None:
    fresh = PhaseStatus("sources", 3, time.time())
    families = {family.name for family in text_string_to_metric_families(exposition(status(phase=fresh)))}
    assert families == (NAMES | PHASE_NAMES) - {"talkset_phase_eta_seconds"}
    families = {family.name for family in text_string_to_metric_families(exposition(status(phase=None)))}
    assert families == NAMES


def test_labels_are_escaped() -> None:
    owner = 'a "quoted" \\ host\nof two lines, größe'
    found = parsed(exposition(status(owner=owner)))
    [labels] = [dict(labels) for name, labels in found if name == "talkset_run_info"]
    assert labels == {"run": "20260101T000000Z-abc", "owner": owner}

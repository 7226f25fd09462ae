"""The status of a run in Prometheus' text format, for dashboards and alarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pipelines.status import DIED, FAILED_RUN, FINISHED, RUNNING, STOPPED, Status

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATES: Final = (RUNNING, FINISHED, STOPPED, FAILED_RUN, DIED)
UNIT_STATES: Final = ("done", "rejected", "running", "failed", "quarantined")
Sample = tuple[Mapping[str, str], float]


def exposition(status: Status) -> str:
    """The metrics of a status as text, version 0.0.4 of the format: `# HELP` and `# TYPE`, then the samples.

    What is not known (the time left, before anything has ended) has no sample. Counters begin anew with each run.
    """
    parts = [
        _metric("talkset_run_info", "gauge", "The last run of the folder.", [(_info(status), 1)]),
        _metric(
            "talkset_run_state",
            "gauge",
            "1 for the state that the run is in.",
            [({"state": state}, float(status.state == state)) for state in STATES],
        ),
        _metric("talkset_run_start_time_seconds", "gauge", "When the run began, Unix time.", [({}, status.started)]),
        _metric("talkset_run_elapsed_seconds", "gauge", "How long it has run, or ran.", [({}, status.seconds)]),
        _metric("talkset_workers", "gauge", "Workers of the run.", [({}, status.workers)]),
        *_stages(status),
        *_phase(status),
    ]
    return "".join(parts)


def _info(status: Status) -> dict[str, str]:
    return {"run": status.run, "owner": status.owner}


def _stages(status: Status) -> list[str]:
    units = [
        ({"stage": name, "state": state}, float(getattr(stage, state)))
        for name, stage in status.stages.items()
        for state in UNIT_STATES
    ]
    counters = {
        "made": ("talkset_stage_results_total", "Results that the run made."),
        "seconds": ("talkset_stage_seconds_total", "Wall time of the workers in the run."),
        "cpu_seconds": ("talkset_stage_cpu_seconds_total", "CPU time of the workers in the run."),
    }
    meaning = "Sources or clips by what became of them; failed ones are tried again, quarantined ones are not."
    return [
        _metric("talkset_stage_units", "gauge", meaning, units),
        *(
            _metric(
                name,
                "counter",
                text,
                [({"stage": stage}, float(getattr(made, field))) for stage, made in status.stages.items()],
            )
            for field, (name, text) in counters.items()
        ),
    ]


def _phase(status: Status) -> list[str]:
    """Metrics of the phase that the run is in; of a run that is over, the last."""
    phase = status.phase
    if phase is None:
        return []
    busy = len(phase.running) if status.state == RUNNING else 0
    values = {
        "talkset_phase_items": ("Items of the phase.", phase.items),
        "talkset_phase_ended": ("Items that are through.", phase.ended),
        "talkset_phase_queue": ("Items that no worker has taken up.", phase.queue),
        "talkset_phase_waiting": ("Failed items that are tried again after a while.", phase.waiting),
        "talkset_phase_items_per_second": ("Items a second, lately.", status.rate),
        "talkset_phase_eta_seconds": ("Time until the phase is through at this speed.", status.eta_s),
        "talkset_workers_busy": ("Workers with an item.", busy),
        "talkset_workers_utilisation_ratio": ("Share of the phase in which workers worked.", status.utilisation),
    }
    return [
        _metric(name, "gauge", text, [({"phase": phase.name}, float(value))])
        for name, (text, value) in values.items()
        if value is not None
    ]


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    """The lines of one metric."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        shown = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
        lines.append(f"{name}{{{shown}}} {value!r}" if shown else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """A label's value: backslash, quote and line feed are escaped."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""Where the time of a run went, as one HTML file that needs nothing else: bars, a curve and tables."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.events import EventReader
from pipelines.ledger import FAILED
from schemas.errors import UsageError
from schemas.files import write_atomic

SLOWEST: Final = 20
MOST_FAILURES: Final = 200
BINS: Final = 60
"""Points of the curve of speed."""
STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2430}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #e3e6ea;overflow-wrap:anywhere}
td:first-child{min-width:9rem}td{font-variant-numeric:tabular-nums}
.bar{background:#e8ecf1;height:.8rem;min-width:8rem}.bar i{display:block;height:100%;background:#2f6fb3}
svg{width:100%;height:9rem;background:#f6f8fa}p.note{color:#5b6673}
"""


def write_report(root: Path, target: Path) -> None:
    """Write the report of the last run of an output folder. Raises UsageError without a recorded run."""
    events: list[dict[str, Any]] = []
    for event in EventReader(root).new():
        if event["event"] == "run_start":
            events = []
        events.append(event)
    if not events or events[0]["event"] != "run_start":
        raise UsageError(f"{root} has no record of a run", "Give the folder that `talkset run` wrote")
    write_atomic(target, report_html(events).encode("utf-8"))


def report_html(events: Sequence[Mapping[str, Any]]) -> str:
    """The report of one run, from its events in order, the first being `run_start`."""
    start, last = events[0], events[-1]
    steps = [event for event in events if event["event"] == "step"]
    wall = max(1e-6, float(last["time"]) - float(start["time"]))
    workers = max(1, int(start.get("workers", 1)))
    end = last if last["event"] == "run_end" else {}
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start["time"]))
    facts = [
        ("run", start["run"]),
        ("started", begun),
        ("ended as", end.get("outcome", "no end is recorded")),
        ("message", end.get("message", "")),
        ("host, process", f"{start.get('host')}, {start.get('pid')}"),
        ("command", " ".join(map(str, start.get("command", [])))),
        ("engine, workers", f"{start.get('engine')}, {workers}"),
        ("configuration", start.get("config", "")),
        ("versions", ", ".join(f"{name} {number}" for name, number in dict(start.get("versions", {})).items())),
        ("wall time", _seconds(wall)),
    ]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>talkset run {_text(start['run'])}</title><style>{STYLE}</style>",
        f"<h1>Where the time went: run {_text(start['run'])}</h1>",
        _table(("", ""), [row for row in facts if row[1] != ""]),
        "<h2>Stages</h2>",
        _stage_table(steps, wall * workers),
        "<h2>Results a minute</h2>",
        _curve(steps, float(start["time"]), wall),
        f"<h2>Slowest {SLOWEST}</h2>",
        _slowest(steps),
        "<h2>Failures</h2>",
        _failures(steps),
    ]
    return "\n".join(parts) + "</html>\n"


def _stage_table(steps: Sequence[Mapping[str, Any]], capacity: float) -> str:
    """Time by stage; `capacity` is what all workers together had, seconds."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for step in steps:
        stages.setdefault(str(step["stage"]), []).append(step)
    rows: list[tuple[Any, ...]] = []
    busy = 0.0
    for name, group in stages.items():
        seconds, cpu = (sum(float(step[kind]) for step in group) for kind in ("seconds", "cpu_seconds"))
        busy += seconds
        failed = sum(step["outcome"] == FAILED for step in group)
        mean = seconds / len(group)
        rows.append(
            (name, len(group), failed, _seconds(seconds), _seconds(cpu), _seconds(mean), _Bar(seconds / capacity))
        )
    idle = max(0.0, capacity - busy)
    rows.append(("waiting, writing tables", "", "", _seconds(idle), "", "", _Bar(idle / capacity)))
    names = ("stage", "results", "failed", "wall", "CPU", "mean", "share of the workers' time")
    return _table(names, rows)


def _curve(steps: Sequence[Mapping[str, Any]], start: float, wall: float) -> str:
    """Results over time as an SVG line."""
    if not steps:
        return "<p class=note>Nothing was made in this run.</p>"
    counts = [0] * BINS
    for step in steps:
        counts[min(BINS - 1, max(0, int((float(step["time"]) - start) / wall * BINS)))] += 1
    top = max(counts)
    points = " ".join(f"{(n + 0.5) / BINS * 600:.1f},{95 - count / top * 85:.1f}" for n, count in enumerate(counts))
    most = top / (wall / BINS) * 60
    return (
        "<svg viewBox='0 0 600 100' preserveAspectRatio=none role=img aria-label='results a minute'>"
        f"<polyline points='{points}' fill=none stroke=#2f6fb3 stroke-width=1.5"
        " vector-effect=non-scaling-stroke /></svg>"
        f"<p class=note>From the start to {_seconds(wall)}; at most {most:.1f} results a minute.</p>"
    )


def _slowest(steps: Sequence[Mapping[str, Any]]) -> str:
    ordered = sorted(steps, key=lambda step: -float(step["seconds"]))[:SLOWEST]
    rows = [
        (step["unit"], step["stage"], _seconds(step["seconds"]), _seconds(step["cpu_seconds"]), step["host"])
        for step in ordered
    ]
    return _table(("unit", "stage", "wall", "CPU", "host"), rows)


def _failures(steps: Sequence[Mapping[str, Any]]) -> str:
    failed = [step for step in steps if step["outcome"] == FAILED]
    if not failed:
        return "<p class=note>None.</p>"
    rows = [
        (step["unit"], step["stage"], step["reason"], step["attempt"], _seconds(step["seconds"]), step.get("trace", ""))
        for step in failed[:MOST_FAILURES]
    ]
    more = (
        f"<p class=note>{len(failed)} in all; the first {len(rows)} are shown.</p>" if len(failed) > len(rows) else ""
    )
    return _table(("unit", "stage", "reason", "attempt", "wall", "traceback"), rows) + more


class _Bar:
    """A share, 0 to 1, drawn as a bar."""

    def __init__(self, share: float) -> None:
        self.percent = 100 * min(1.0, max(0.0, share))


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, _Bar):
        return f"<td><div class=bar title='{value.percent:.1f} %'><i style='width:{value.percent:.2f}%'></i></div></td>"
    return f"<td>{_text(value)}</td>"


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.2f} s"
    return f"{value / 60:.1f} min" if value < 3600 else f"{value / 3600:.2f} h"

"""A contact sheet of how sources are divided: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.segmentation.scan import Scan, unpack_scan
from pipelines.segmentation.survey import Survey
from pipelines.stages.speakers import unpack_odds
from pipelines.stages.speech import heard_speech
from schemas.errors import REASONS
from schemas.types import Float32, Int64, Span

UInt8 = NDArray[np.uint8]

THUMB_PX: Final = 88
MOST_TRACKS: Final = 60
"""Tracks that are drawn, the longest; a crowd has more."""
ROW_S: Final = 60.0
"""Seconds of a source in one row of the sheet."""
WIDTH_PX: Final = 1100
LEFT_PX: Final = 110
LANE_PX: Final = 20
NAME_PX: Final = 8
"""Width that a letter of a reason needs."""
COLOURS: Final = {"clip": "#2e9e5b", "shot": "#c9d4e2", "speech": "#f0a73a", "track": "#7d9dc4", "mixed": "#9a6fb0"}
REJECTED: Final = {"no_speech": "#b9b9b9", "too_short": "#d8b37a", "transition": "#9a6fb0", "no_face": "#8b8b8b"}
OTHER_REASON: Final = "#d0524a"
STYLE: Final = (
    "body{font:14px/1.45 system-ui,sans-serif;margin:24px auto;max-width:1230px;color:#1c2430}h2{margin:28px 0 4px}"
    "svg{display:block;margin:8px 0}table{border-collapse:collapse;margin:8px 0 20px}td,th{padding:3px 10px;"
    "border-bottom:1px solid #dde3ea;text-align:left;font-variant-numeric:tabular-nums}th{color:#5a6675;white-space:"
    "nowrap}.failed{color:#b3362f}"
    ".faces{display:flex;flex-wrap:wrap;gap:10px}.faces figure{margin:0;min-width:100px}.faces img{width:88px;"
    "height:88px;object-fit:cover;border-radius:6px;background:#eee}figcaption{font-size:12px;color:#5a6675;"
    "white-space:nowrap}.key span{display:inline-block;margin-right:16px}.key i{display:inline-block;width:12px;"
    "height:12px;margin-right:5px}"
)


def write_report(surveys: Sequence[Survey], title: str = "Segmentation") -> bytes:
    """The sheet of some sources as UTF-8 HTML: timeline, a picture of each track, clips and rejected spans.

    The pictures are read from the source again; a source that is not here any more is shown without.
    """
    parts = [_source(found) for found in surveys]
    key = {"shot": "shot", "mixed": "fade or dissolve", "speech": "speech", "track": "face", "clip": "clip"}
    colours = [(COLOURS[name], text) for name, text in key.items()]
    colours += [(colour, REASONS[reason]) for reason, colour in REJECTED.items() if reason != "transition"]
    colours.append((OTHER_REASON, "left out for another reason"))
    named = "".join(f"<span><i style='background:{colour}'></i>{text}</span>" for colour, text in colours)
    named += "<span>black curve: log odds that the voice is this face's, +-6</span>"
    page = f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    page += f"<h1>{html.escape(title)}</h1><p class='key'>{named}</p>{''.join(parts)}"
    return page.encode("utf-8")


def _source(found: Survey) -> str:
    name = html.escape(found.source.uri)
    if found.failure is not None:
        reason, message = found.failure.reason, html.escape(found.failure.message or "")
        return f"<h2>{name}</h2><p class='failed'>failed at {found.failure.stage}: {reason}. {message}</p>"
    scan, chosen = unpack_scan(found.result("segment")), found.value("clips")
    speech = heard_speech(found.value("speech"))
    odds = unpack_odds(found.result("speakers"))
    longest = sorted(range(len(scan.tracks)), key=lambda n: -len(scan.tracks[n].face.pts_us))[:MOST_TRACKS]
    drawn = sorted(longest)
    start, end = int(scan.pts_us[0]), scan.end_us
    rows = max(1, -(-(end - start) // round(ROW_S * 1e6)))
    length = (end - start) / rows
    sheets = [
        _timeline(scan, chosen, speech, odds, drawn, (int(start + i * length), int(start + (i + 1) * length)))
        for i in range(int(rows))
    ]
    kept = sum(clip["end_us"] - clip["start_us"] for clip in chosen["clips"])
    told = ", ".join(
        [
            f"{(end - start) / 1e6:.1f} s",
            _counted(len(scan.shots), "shot"),
            _counted(len(scan.transitions), "fade"),
            _counted(len(scan.tracks), "face"),
            f"{_counted(len(chosen['clips']), 'clip')} with {kept / 1e6:.1f} s",
        ]
    )
    if speech is None:
        told += ", no sound"
    return f"<h2>{name}</h2><p>{told}</p>{''.join(sheets)}{_faces(found, scan, drawn)}{_table(chosen)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _timeline(
    scan: Scan,
    chosen: Mapping[str, Any],
    speech: Sequence[Span] | None,
    odds: Mapping[int, tuple[Int64, Float32]],
    drawn: Sequence[int],
    window: tuple[int, int],
) -> str:
    """One row of the sheet as SVG."""
    seen = [n for n in drawn if _meets((scan.tracks[n].face.pts_us[0], scan.tracks[n].face.pts_us[-1] + 1), window)]
    lanes: list[tuple[str, list[str]]] = []
    shots = [_bar(s.start_us, s.end_us, window, COLOURS["shot"], "shot") for s in scan.shots]
    shots += [_bar(s.start_us, s.end_us, window, COLOURS["mixed"], "fade or dissolve") for s in scan.transitions]
    lanes.append(("shots", shots))
    if speech is not None:
        lanes.append(("speech", [_bar(s.start_us, s.end_us, window, COLOURS["speech"], "speech") for s in speech]))
    for number in seen:
        times = scan.tracks[number].face.pts_us
        bars = [_bar(int(times[0]), int(times[-1]) + 1, window, COLOURS["track"], f"face {number}", height=6, drop=7)]
        if number in odds:
            bars.append(_course(*odds[number], window))
        lanes.append((f"face {number}", bars))
    clips = [_bar(c["start_us"], c["end_us"], window, COLOURS["clip"], _clip_text(c, chosen)) for c in chosen["clips"]]
    for r in chosen["rejections"]:
        colour, text = REJECTED.get(r["reason"], OTHER_REASON), f"{r['reason']}: {r['message']}"
        clips += [_bar(r["start_us"], r["end_us"], window, colour, text), _name(r, window)]
    lanes.append(("clips", clips))
    body = []
    for place, (label, bars) in enumerate(lanes):
        y = place * (LANE_PX + 4)
        text = f"<text x='0' y='15' font-size='12' fill='#5a6675'>{label}</text>"
        body.append(f"<g transform='translate(0,{y})'>{text}{''.join(bars)}</g>")
    height = len(lanes) * (LANE_PX + 4)
    marks = "".join(_mark(time, window, height) for time in _seconds(window))
    size = f"width='{LEFT_PX + WIDTH_PX}' height='{height + 18}' viewBox='0 0 {LEFT_PX + WIDTH_PX} {height + 18}'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} font-family='system-ui,sans-serif'>"
    return f"{head}{marks}{''.join(body)}</svg>"


def _bar(
    start: int, end: int, window: tuple[int, int], colour: str, text: str, height: int = LANE_PX, drop: int = 0
) -> str:
    if not _meets((start, end), window):
        return ""
    left, right = _x(max(start, window[0]), window), _x(min(end, window[1]), window)
    shape = f"x='{left:.1f}' y='{drop}' width='{max(1.0, right - left - 0.6):.1f}' height='{height}' rx='2'"
    return f"<rect {shape} fill='{colour}'><title>{html.escape(text)}</title></rect>"


def _name(rejection: Mapping[str, Any], window: tuple[int, int]) -> str:
    """The reason of a rejected span, where it has room for it."""
    reason = str(rejection["reason"])
    left, right = _x(max(rejection["start_us"], window[0]), window), _x(min(rejection["end_us"], window[1]), window)
    if right - left < NAME_PX * len(reason):
        return ""
    return f"<text x='{left + 5:.1f}' y='14' font-size='11' fill='#1c2430' pointer-events='none'>{reason}</text>"


def _course(times: Int64, values: Float32, window: tuple[int, int]) -> str:
    """Log odds of a face as a curve around the middle of its lane."""
    inside = np.flatnonzero((times >= window[0]) & (times < window[1]))
    if len(inside) < 2:
        return ""
    inside = inside[:: max(1, len(inside) // 600)]
    middle = LANE_PX / 2
    points = " ".join(
        f"{_x(int(times[i]), window):.1f},{middle - float(np.clip(values[i], -6, 6)) / 6 * middle:.1f}" for i in inside
    )
    text = "<title>log odds that the voice is this face's, -6 to 6</title>"
    return f"<polyline points='{points}' fill='none' stroke='#1c2430' stroke-width='1.2'>{text}</polyline>"


def _mark(time: int, window: tuple[int, int], height: int) -> str:
    x = _x(time, window)
    line = f"<line x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{height}' stroke='#eef1f5'/>"
    return f"{line}<text x='{x:.1f}' y='{height + 13}' font-size='11' fill='#8a94a1'>{time / 1e6:g} s</text>"


def _seconds(window: tuple[int, int]) -> range:
    """Times of the marks: about twelve of them, at round seconds."""
    span = (window[1] - window[0]) / 1e6
    step = next((s for s in (1, 2, 5, 10, 30, 60) if span / s <= 14), 300) * 1_000_000
    return range(-(-window[0] // step) * step, window[1], step)


def _x(time: int, window: tuple[int, int]) -> float:
    return LEFT_PX + WIDTH_PX * (time - window[0]) / max(1, window[1] - window[0])


def _meets(span: tuple[int, int], window: tuple[int, int]) -> bool:
    return span[0] < window[1] and span[1] > window[0]


def _clip_text(clip: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    scores = {name: value for name, value in chosen["scores"][clip["clip_id"]].items() if value is not None}
    shown = ", ".join(
        f"{name} {value}" if isinstance(value, int) else f"{name} {value:.2f}" for name, value in sorted(scores.items())
    )
    return f"{clip['clip_id']}, face {chosen['tracks'][clip['clip_id']]}; {shown}"


def _faces(found: Survey, scan: Scan, drawn: Sequence[int]) -> str:
    """A picture of each track, from its middle."""
    if not drawn or not found.path.is_file():
        return ""
    wanted: dict[int, list[int]] = {}
    for number in drawn:
        times = scan.tracks[number].face.pts_us
        wanted.setdefault(int(times[len(times) // 2]), []).append(number)
    figures: dict[int, str] = {}
    for time, numbers in sorted(wanted.items()):
        picture = _picture(found.path, time)
        if picture is None:
            continue
        for number in numbers:
            face = scan.tracks[number].face
            box = face.box_xywh[int(np.searchsorted(face.pts_us, time))]
            span = f"{face.pts_us[0] / 1e6:.1f}-{face.pts_us[-1] / 1e6:.1f} s, {box[2]:.0f} px"
            caption = f"<figcaption>face {number}<br>{span}</figcaption>"
            figures[number] = f"<figure><img src='{_data(picture, box)}' alt='face {number}'>{caption}</figure>"
    return f"<div class='faces'>{''.join(figures[n] for n in sorted(figures))}</div>"


def _picture(path: Path, time_us: int) -> UInt8 | None:
    from reconstruct.video import frames

    return next((rgb for _, rgb in frames(path, time_us, time_us + 1_000_000)), None)


def _data(rgb: UInt8, box: Float32) -> str:
    """The square around a box as a data URI."""
    x, y, width, height = box.astype(float).tolist()
    side = 1.5 * max(width, height)
    scale = THUMB_PX / side
    matrix = np.array([[scale, 0, scale * (side / 2 - x - width / 2)], [0, scale, scale * (side / 2 - y - height / 2)]])
    square = cv2.warpAffine(rgb[:, :, ::-1], matrix, (THUMB_PX, THUMB_PX), flags=cv2.INTER_AREA, borderValue=(230,) * 3)
    encoded = base64.b64encode(cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())
    return f"data:image/jpeg;base64,{encoded.decode('ascii')}"


def _table(chosen: Mapping[str, Any]) -> str:
    """Clips and rejected spans in order of time."""
    rows = [(c["start_us"], c["end_us"], "clip", _clip_text(c, chosen)) for c in chosen["clips"]]
    rows += [(r["start_us"], r["end_us"], r["reason"], r["message"]) for r in chosen["rejections"]]
    cells = "".join(
        f"<tr><td>{start / 1e6:.2f}</td><td>{end / 1e6:.2f}</td><td>{what}</td><td>{html.escape(text)}</td></tr>"
        for start, end, what, text in sorted(rows)
    )
    return f"<table><tr><th>from, s</th><th>to, s</th><th>what</th><th>why</th></tr>{cells}</table>"

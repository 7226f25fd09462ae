"""The pictures of the data card: what the clips, the motion and the speakers of a data set are like."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.quantiles import QuantileSketch
from schemas.statistics import HEAD_ANGLES, Statistics
from schemas.summary import IndexSummary, Tally

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = Callable[["Axes"], None]
"""Draws on one set of axes."""

MOTION_FIGURE: Final = "figures/motion.png"
"""The picture that is drawn from the signals, the others come from the index."""
FIGURES: Final = {
    "figures/clips.png": "Distribution of duration, landmark error, frames with a face and speech over the clips",
    MOTION_FIGURE: "Distribution of head rotation, jaw opening, gaze and depth over the frames with a face",
    "figures/speakers.png": "Hours of the speakers with the most, and hours of every split",
}
"""Name of every picture inside the data set, with the text that stands in for it."""

WIDTH_PX: Final = 1000
TOP_SPEAKERS: Final = 20
_DPI: Final = 100
_BINS: Final = 40
_LONGEST_NAME: Final = 22
_TOP_PX, _BOTTOM_PX, _RIGHT_PX = 15, 55, 20
_INK: Final = "#30343b"
_GRID: Final = "#e3e6ea"
_COLOURS: Final = ("#2f6f9f", "#d1812c", "#4c9a5b")


def draw_figures(summary: IndexSummary, statistics: Statistics) -> dict[str, bytes]:
    """Every picture of `FIGURES` as the bytes of a PNG, `WIDTH_PX` wide.

    The same counts give the same bytes with the same version of matplotlib, whatever style the process has set; no
    window system is needed. What has no values says so. matplotlib is imported here, because it takes its time.
    """
    import matplotlib

    drawings = (_draw_clips(summary), _draw_motion(statistics), _draw_speakers(summary))
    with matplotlib.rc_context():  # restores what the caller has set
        matplotlib.rcdefaults()
        return {name: _png(*drawing) for name, drawing in zip(FIGURES, drawings, strict=True)}


def _png(height_px: int, columns: int, left_px: int, panels: Sequence[Panel]) -> bytes:
    """Panels in rows of `columns` as one picture; `left_px` is the room for words on the left of each.

    The places are fixed: matplotlib's own layout draws everything two more times to find them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_PX / _DPI, height_px / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    rows = len(panels) // columns
    cell_width, cell_height = WIDTH_PX // columns, height_px // rows
    width, height = cell_width - left_px - _RIGHT_PX, cell_height - _TOP_PX - _BOTTOM_PX
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        x, y = column * cell_width + left_px, height_px - row * cell_height - _TOP_PX - height
        axes = figure.add_axes((x / WIDTH_PX, y / height_px, width / WIDTH_PX, height / height_px))
        _plain(axes)
        panel(axes)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _plain(axes: Axes) -> None:
    """Only the two axes that carry numbers, in a quiet colour."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.set_axisbelow(True)


def _draw_clips(summary: IndexSummary) -> tuple[int, int, int, list[Panel]]:
    numbers = summary.numbers
    panels = [
        _histogram({"": (numbers["duration_s"], 0, 1.0)}, "duration of a clip (s)", "clips", low=0),
        _histogram({"": (numbers["nme_mean"], 0, 100.0)}, "landmark error NME (% of eye distance)", "clips", low=0),
        _histogram({"": (numbers["valid_ratio"], 0, 100.0)}, "frames with a face (%)", "clips", low=0, high=100),
        _histogram({"": (numbers["speech_ratio"], 0, 100.0)}, "time with speech (%)", "clips", low=0, high=100),
    ]
    return 620, 2, 70, panels


def _draw_motion(statistics: Statistics) -> tuple[int, int, int, list[Panel]]:
    degrees = 180 / math.pi
    head = _pooled([angles.sketch for angles in statistics.head_angles.values()])
    signals = {
        name: _pooled([signals[name].sketch for signals in statistics.signals.values() if name in signals])
        for name in ("jaw_pose", "left_eye_pose", "right_eye_pose", "translation")
    }
    eyes = _pooled([sketch for name in ("left_eye_pose", "right_eye_pose") if (sketch := signals[name]) is not None])
    panels = [
        _histogram({name: (head, place, 1.0) for place, name in enumerate(HEAD_ANGLES)}, "head rotation (deg)"),
        _histogram({"": (signals["jaw_pose"], 0, degrees)}, "jaw opening (deg)"),
        _histogram({"up / down": (eyes, 0, degrees), "left / right": (eyes, 1, degrees)}, "gaze in the head (deg)"),
        _histogram({"": (signals["translation"], 2, 1.0)}, "depth in front of the camera (m)"),
    ]
    return 620, 2, 70, panels


def _draw_speakers(summary: IndexSummary) -> tuple[int, int, int, list[Panel]]:
    named = [(name, tally) for name, tally in summary.speakers.items() if name is not None]
    top = sorted(named, key=lambda item: (-item[1].duration_us, item[0]))[:TOP_SPEAKERS]
    shown = f" of the top {len(top)} of {len(named)} speakers" if len(named) > len(top) else " of each speaker"
    splits = [(name or "(no split)", summary.splits[name]) for name in _in_order(summary.splits)][:TOP_SPEAKERS]
    places = max(len(top), len(splits), 4)
    panels = [
        _bars(top, "length" + shown, "no speaker is named", places),
        _bars(splits, "length of each split", "no clips", places),
    ]
    longest = max((len(_short(name)) for name, _ in (*top, *splits)), default=0)
    return 80 + 24 * places, 2, 30 + 9 * longest, panels


def _in_order(splits: Mapping[str | None, Tally]) -> list[str | None]:
    """The usual splits first, then others by name, clips without a split last."""
    usual = ("train", "val", "test")
    others = sorted(name for name in splits if name is not None and name not in usual)
    return [*(name for name in usual if name in splits), *others, *([None] if None in splits else [])]


def _pooled(sketches: Sequence[QuantileSketch]) -> QuantileSketch | None:
    """All sketches in one; None where there is no value."""
    filled = [sketch for sketch in sketches if sketch.count]
    if not filled:
        return None
    whole = QuantileSketch(filled[0].width)
    for sketch in filled:
        whole.merge(sketch)
    return whole


def _histogram(
    curves: Mapping[str, tuple[QuantileSketch | None, int, float]],
    label: str,
    what: str = "frames",
    low: float | None = None,
    high: float | None = None,
) -> Panel:
    """A panel with the shares of the values of one or more curves: name -> sketch, dimension, factor to the unit.

    The range is given or reaches from the 0.2 % to the 99.8 % quantile, since single outliers would hide the rest.
    """

    def draw(axes: Axes) -> None:
        axes.set_xlabel(label, color=_INK)
        known = {name: curve for name, curve in curves.items() if curve[0] is not None and curve[0].count}
        if not known:
            _say(axes, "no values")
            return
        first, last = _range(list(known.values()), low, high)
        edges = np.linspace(first, last, _BINS + 1)
        axes.grid(axis="y", color=_GRID, linewidth=0.8)
        for colour, (name, (sketch, place, factor)) in zip(_COLOURS, known.items(), strict=False):
            assert sketch is not None
            share = 100 * sketch.histogram(edges / factor)[place] / sketch.count
            fill = len(known) == 1
            axes.stairs(share, edges, color=colour, fill=fill, linewidth=0 if fill else 1.8, label=name or None)
        axes.set_xlim(first, last)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"{what} (%)", color=_INK)
        if len(known) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=_INK)

    return draw


def _range(
    curves: Sequence[tuple[QuantileSketch | None, int, float]], low: float | None, high: float | None
) -> tuple[float, float]:
    """First and last edge in the unit of the axis, never the same."""
    ends = np.array(
        [sketch.quantiles((0.002, 0.998))[:, place] * factor for sketch, place, factor in curves if sketch is not None]
    )
    first = float(ends[:, 0].min()) if low is None else low
    last = float(ends[:, 1].max()) if high is None else high
    margin = 0.05 * (last - first) or 0.05 * abs(last) or 1.0
    return first - margin * (low is None), last + margin * (high is None)


def _bars(rows: Sequence[tuple[str, Tally]], label: str, nothing: str, places: int) -> Panel:
    """A panel with one horizontal bar for each name, the first on top, and room for `places`."""

    def draw(axes: Axes) -> None:
        hours = max((tally.hours for _, tally in rows), default=0.0)
        unit, per_hour = ("h", 1) if hours >= 1 else ("min", 60) if hours >= 1 / 60 else ("s", 3600)
        axes.set_xlabel(f"{label} ({unit})", color=_INK)
        if not rows:
            _say(axes, nothing)
            return
        axes.grid(axis="x", color=_GRID, linewidth=0.8)
        values = [tally.hours * per_hour for _, tally in rows]
        axes.barh(range(len(rows)), values, color=_COLOURS[0], height=0.7)
        axes.set_yticks(range(len(rows)), [_drawable(_short(name)) for name, _ in rows])
        for text in axes.get_yticklabels():
            text.set_parse_math(False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(places - 0.4, -0.6)
        axes.set_xlim(0, max(values) * 1.05 or 1)

    return draw


def _say(axes: Axes, text: str) -> None:
    """Words in the place of a drawing."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_INK)
    axes.set_xticks([])
    axes.set_yticks([])


def _short(name: str) -> str:
    """A name that fits beside a bar."""
    text = " ".join(name.split())
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _drawable(text: str) -> str:
    """The text in letters that the bundled font has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(letter if ord(letter) in known else "?" for letter in text)

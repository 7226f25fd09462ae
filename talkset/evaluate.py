"""`talkset evaluate reconstruction`: how good the fitted heads of a data set or of videos are, clip by clip."""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.run import run
from reconstruct.fit import fit_clip
from reconstruct.landmarks import make_detector
from reconstruct.landmarks.embed import embedding_for
from reconstruct.models.registry import load_model
from schemas.config import Config, LandmarkConfig, load_config
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic
from schemas.types import HeadTrack, LandmarkTrack
from synthetic.evaluate import Errors, compare
from synthetic.make import load_truth
from talkset.dataset import Clip, open_dataset
from talkset.demo import head_track
from talkset.measures import FOLDS, every_nth, fitted_and_detected_jitter, follow, held_out, look, second_look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT: Final = "reconstruction.json"
FIGURE: Final = "reconstruction.png"
SHOWN: Final = 30
"""Clips that the picture has bars for, the worst first."""
_INK, _GRID = "#30343b", "#e3e6ea"
_COLOURS: Final = ("#2f6f9f", "#d1812c")


@dataclass(frozen=True)
class ClipReport:
    """The figures of one clip; percent is of the distance of the outer eye corners."""

    clip_id: str
    source: str
    frames: int
    valid_ratio: float
    nme_percent: float
    """Mean over the valid frames; the head as the data set has it."""
    nme_p95_percent: float
    held_out_percent: float
    """Error of face points that the fit did not use: every fourth, in turn."""
    jitter_percent: float
    """RMS second difference of the reprojected face points, per frame^2."""
    detector_jitter_percent: float
    """The same of the detected points."""
    floor: Errors | None
    """Two looks of the detector (or of two detectors) at the clip's own video, each fitted, one against the other."""
    truth: Errors | None
    """Against the truth that lies beside the videos."""
    seconds: tuple[float, ...]
    """Frame times."""
    nme_by_frame_percent: tuple[float | None, ...]
    """None where not valid."""

    @property
    def label(self) -> str:
        """The source's name and the clip's first and last second in it, short enough for a table."""
        start, end = self.clip_id.split("-")[-2:] if self.clip_id.count("-") >= 2 else ("", "")
        span = f" {int(start) / 1e6:.0f}-{int(end) / 1e6:.0f} s" if start.isdigit() and end.isdigit() else ""
        return f"{Path(self.source).stem}{span}"


def evaluate_reconstruction(
    paths: Sequence[Path], config: Config, truth: Path | None = None, second: str | None = None, floor: bool = True
) -> list[ClipReport]:
    """Reports of every clip of some data sets (folders of `talkset run`, or of the demo) and videos.

    Args: config: for videos, which pass the pipeline first, and for what `second` needs; a data set brings its own.
    truth: folder of <name>.npz and <name>.json as the demo writes them, by name of the source; `truth` beside a data
    set is found by itself. second: another detector for the noise floor, instead of another crop of the same. floor:
    False leaves it out, and with it the need for pictures.

    Raises UsageError for a path that is neither, an unknown detector, or when no clip is accepted.
    """
    reports = []
    for path in paths:
        if path.is_dir():
            root = path / "dataset" if (path / "dataset" / "index.parquet").is_file() else path
            known = truth or (root.parent / "truth" if (root.parent / "truth").is_dir() else None)
            reports += list(_of_dataset(root, known, config, second, floor))
        elif path.is_file():
            with tempfile.TemporaryDirectory() as scratch:
                plain = dataclasses.replace(
                    config,
                    overlay=dataclasses.replace(config.overlay, enabled=False),
                    media=dataclasses.replace(config.media, enabled=True),
                )
                report = run(path, Path(scratch) / "dataset", plain)
                if not report.accepted:
                    why = "; ".join(f"{problem.reason}: {problem.message}" for problem in report.problems)
                    raise UsageError(f"{path} gave no clip ({why})", "Give a video of one talking person")
                reports += list(_of_dataset(Path(scratch) / "dataset", truth, config, second, floor))
        else:
            raise UsageError(f"{path} does not exist", "Give videos, or folders that `talkset run` wrote")
    if not reports:
        raise UsageError(f"no accepted clip in {', '.join(map(str, paths))}", "Look at status and reason in its index")
    return reports


def _of_dataset(
    root: Path, truth: Path | None, config: Config, second: str | None, floor: bool
) -> Iterator[ClipReport]:
    own = load_config(root / "config.yaml")
    other = None if second is None else dataclasses.replace(config.landmarks, backend=second)
    with make_detector(own.landmarks) as detector:
        name = detector.name
    for clip in open_dataset(root):
        yield _report(clip, name, own, truth, _floor(clip, own, other) if floor else None)


def _report(clip: Clip, detector: str, config: Config, truth: Path | None, floor: Errors | None) -> ClipReport:
    head, track = head_track(clip), landmark_track(clip, detector)
    model = load_model(head.head_model)
    if model.sha256 != head.model_sha256:
        message = f"clip {clip.clip_id} was fitted with another {head.head_model} than the one that is here"
        raise TalksetError("missing_model", message, "Run the pipeline again, or add the model that it names")
    embedding = embedding_for(model, detector, config.landmarks)
    jitter = fitted_and_detected_jitter(model, embedding, head, track)
    nme = 100 * head.nme.astype(np.float64)
    folds = every_nth(len(embedding.vertices), FOLDS)
    return ClipReport(
        clip_id=clip.clip_id,
        source=str(clip.index["source_uri"]),
        frames=len(head.valid),
        valid_ratio=float(head.valid.mean()),
        nme_percent=float(np.nanmean(nme)),
        nme_p95_percent=float(np.nanpercentile(nme, 95)),
        held_out_percent=100 * held_out(model, embedding, track, config.fit, folds),
        jitter_percent=100 * jitter[0],
        detector_jitter_percent=100 * jitter[1],
        floor=floor,
        truth=_against_truth(clip, head, truth),
        seconds=tuple((track.pts_us / 1e6).tolist()),
        nme_by_frame_percent=tuple(value if np.isfinite(value) else None for value in nme.tolist()),
    )


def landmark_track(clip: Clip, detector: str) -> LandmarkTrack:
    """The stored landmarks of a clip as one record; a data set keeps no confidences, so all count alike."""
    valid = np.asarray(clip["params.valid"], dtype=np.bool_)
    points = np.asarray(clip["landmarks.face_xy"], dtype=np.float32)
    return LandmarkTrack(
        pts_us=np.asarray(clip["params.pts_us"], dtype=np.int64),
        face_xy=points,
        confidence=np.where(np.isfinite(points[..., 0]), np.float32(1), np.float32(np.nan)).astype(np.float32),
        valid=valid,
        width=int(clip.index["width"]),
        height=int(clip.index["height"]),
        detector=detector,
    )


def _floor(clip: Clip, config: Config, other: LandmarkConfig | None) -> Errors | None:
    """The fits of two looks at the clip's own video, one against the other; None without its media file."""
    if clip.media_path is None:
        return None
    model = load_model(str(clip["params.head_model"]))
    pictures = list(clip.frames())
    face = follow(pictures)
    first = look(pictures, face, config.landmarks)
    second = second_look(pictures, face, config.landmarks) if other is None else look(pictures, face, other)
    fits: list[HeadTrack] = []
    for track, detector in ((first, config.landmarks), (second, other or config.landmarks)):
        fits.append(fit_clip(model, embedding_for(model, track.detector, detector), track, config.fit))
    return compare(fits[0], fits[1], model)


def _against_truth(clip: Clip, head: HeadTrack, folder: Path | None) -> Errors | None:
    if folder is None:
        return None
    name = Path(str(clip.index["source_uri"])).stem
    files = folder / f"{name}.npz", folder / f"{name}.json"
    if not all(path.is_file() for path in files):
        return None
    truth = load_truth(*files)
    pts_us = np.asarray(clip["params.pts_us"], dtype=np.int64) + int(clip.index["start_us"])
    return compare(truth.track, head, load_model(head.head_model), truth.pts_us, pts_us)


COLUMNS: Final = (
    "clip", "frames", "valid\n%", "NME\n%", "p95\n%", "held\nout %", "jitter\n%", "detector\n%", "floor\nmm",
    "floor\njaw °", "floor\nhead °",
)  # fmt: skip
TRUTH_COLUMNS: Final = (
    "clip", "vertex\nmm", "p95\nmm", "jaw\n°", "gaze\n°", "head\n°", "lips\nmm", "lids\nmm", "jitter\nmm",
    "true\njitter",
)  # fmt: skip
NOTE: Final = (
    "held out: points that the fit did not use; jitter: RMS second difference of the face points per frame, beside the "
    "detector's own; both and NME in % of the eye corners' distance. floor: two looks of the detector, each fitted."
)


def table_rows(reports: Sequence[ClipReport]) -> list[list[str]]:
    """Cells under `COLUMNS` for every clip and, with several, their mean; "-" where there is nothing to measure by."""
    rows = []
    for one in reports:
        floor = [one.floor.vertex_mm, one.floor.jaw_deg, one.floor.head_deg] if one.floor else 3 * [float("nan")]
        figures = [one.nme_percent, one.nme_p95_percent, one.held_out_percent, one.jitter_percent]
        rows.append([one.frames, 100 * one.valid_ratio, *figures, one.detector_jitter_percent, *floor])
    return _cells(reports, rows)


def truth_rows(reports: Sequence[ClipReport]) -> list[list[str]]:
    """Cells under `TRUTH_COLUMNS` for the clips whose truth is known, and their mean."""
    known = [(one, one.truth) for one in reports if one.truth is not None]
    rows = [
        [e.vertex_mm, e.vertex_p95_mm, e.jaw_deg, e.gaze_deg, e.head_deg, e.lips_mm, e.lids_mm, e.jitter_mm,
         e.jitter_truth_mm]
        for _, e in known
    ]  # fmt: skip
    return _cells([one for one, _ in known], rows)


def _cells(reports: Sequence[ClipReport], rows: list[list[float]]) -> list[list[str]]:
    """Figures as text, under the names of their clips, with the mean below several."""
    names = [one.label for one in reports]
    if len(rows) > 1:
        known = [column[np.isfinite(column)] for column in np.array(rows).T]
        rows = [*rows, [float(values.mean()) if len(values) else float("nan") for values in known]]
        names.append("mean")

    def text(value: float) -> str:
        return "-" if np.isnan(value) else str(value) if isinstance(value, int) else f"{value:.2f}"

    return [[name, *map(text, row)] for name, row in zip(names, rows, strict=True)]


def to_json(reports: Sequence[ClipReport]) -> list[dict[str, Any]]:
    """The reports as JSON values; what is not a number becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return [plain(dataclasses.asdict(one)) for one in reports]


def write_reports(reports: Sequence[ClipReport], folder: Path) -> list[Path]:
    """Write `REPORT` and `FIGURE` into a folder, made as needed; each file whole or not at all."""
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = [folder / REPORT, folder / FIGURE]
    write_atomic(written[0], (json.dumps(to_json(reports), indent=1) + "\n").encode())
    write_atomic(written[1], figure_of(reports))
    return written


def figure_of(reports: Sequence[ClipReport]) -> bytes:
    """PNG: NME, held-out error and jitter of the worst clips as bars, and NME over time of the worst of all."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    worst = sorted(reports, key=lambda one: -one.held_out_percent)[:SHOWN]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(10, 7.5), dpi=100, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplot_mosaic([["error", "jitter"], ["curve", "curve"]])
        errors = {"NME": [one.nme_percent for one in worst], "held-out points": [one.held_out_percent for one in worst]}
        jitters = {
            "jitter of the fit": [one.jitter_percent for one in worst],
            "of the detector": [one.detector_jitter_percent for one in worst],
        }
        _draw_bars(axes["error"], worst, errors, "% of the eye corners' distance")
        _draw_bars(axes["jitter"], worst, jitters, "% per frame²")
        _draw_curve(axes["curve"], worst[0])
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_bars(axes: Axes, worst: Sequence[ClipReport], series: dict[str, list[float]], unit: str) -> None:
    """Two bars for every clip, the legend above them."""
    place: NDArray[np.float64] = np.arange(len(worst), dtype=np.float64)
    for number, ((label, values), colour) in enumerate(zip(series.items(), _COLOURS, strict=True)):
        axes.bar(place + 0.4 * number - 0.2, np.nan_to_num(values), width=0.38, color=colour, label=label)
    axes.set_xticks(place, [one.label for one in worst], rotation=0 if len(worst) < 4 else 60)
    axes.set_ylabel(unit, color=_INK)
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    _plain(axes)


def _draw_curve(axes: Axes, one: ClipReport) -> None:
    error = [np.nan if value is None else value for value in one.nme_by_frame_percent]
    axes.plot(one.seconds, error, color=_COLOURS[0])
    axes.axhline(one.nme_percent, color=_COLOURS[1], linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"seconds of {one.label}, the worst by held-out points", color=_INK)
    axes.set_ylabel("NME, %", color=_INK)
    _plain(axes)

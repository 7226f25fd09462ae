"""One pass over the frames of a source: its shots, its faces, and what their mouths do."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding import GuardedReader
from pipelines.results import Result
from pipelines.segmentation.cuts import CutFinder
from pipelines.segmentation.faces import FaceFinder
from pipelines.segmentation.mouth import COLUMNS, MouthReader
from pipelines.segmentation.shots import ShotFinder
from pipelines.segmentation.tracker import Sightings, Tracker, bridge_us, dominance_of
from reconstruct.video import Reader
from schemas.config import SegmentConfig
from schemas.errors import TalksetError
from schemas.types import FaceTrack, Float32, Int64, Span

UInt8 = NDArray[np.uint8]

US: Final = 1_000_000
CROWD_US: Final = 80_000
"""Time between looks at the picture while two faces meet."""
LATE_US: Final = 5_000
"""A frame may come so early and still be the one whose mouths are due."""


@dataclass(frozen=True)
class SeenFace:
    """One face of one shot."""

    face: FaceTrack
    mouth_us: Int64
    """(M,) times at which its mouth was read, source clock."""
    mouth: Float32
    """(M, 5) `pipelines.segmentation.mouth.COLUMNS`, NaN where the landmarks were lost."""


@dataclass(frozen=True)
class Scan:
    """What one pass over the frames found; times are on the source clock."""

    pts_us: Int64
    """(T,) every frame."""
    end_us: int
    """End of the last frame."""
    shots: list[Span]
    transitions: list[Span]
    tracks: list[SeenFace]
    """Shot by shot, in each the most dominant (summed box area x score) first."""
    corrupt_packets: int = 0


def scan_source(
    reader: Reader | GuardedReader,
    span: tuple[int | None, int | None],
    finder: FaceFinder,
    mouths: MouthReader | None,
    config: SegmentConfig,
    cuts: CutFinder | None = None,
) -> Scan:
    """Shots, faces and (where `mouths` are read) mouths of [start, end) microseconds of a source.

    `cuts` is by default the adaptive detector.

    Raises TalksetError: truncated when the stream ends before its container says, decode_error without a frame.
    """
    shots = ShotFinder(config.shot_threshold, config.transitions) if cuts is None else cuts
    pts = array("q")
    with ThreadPoolExecutor(1, "mouths") as thread:
        faces = _Faces(finder, mouths, config, thread)
        for pts_us, rgb in reader.frames(*span):
            faces.push(pts_us, rgb, shots.push(pts_us, rgb))
            pts.append(pts_us)
        faces.settle()
    if reader.truncated:
        promised, seen = reader.info.duration_us / 1e6, (reader.end_us - reader.info.video_start_us) / 1e6
        message = f"{reader.path} promises {promised:.2f} s and ends after {seen:.2f} s"
        raise TalksetError("truncated", message, "Fetch the file again")
    if not pts:
        raise TalksetError("decode_error", f"{reader.path} has no frame in the asked span", "Mend start and end")
    found = shots.finish(reader.end_us)
    tracks = [seen for shot in found.shots for seen in faces.within(shot)]
    times = np.array(pts, np.int64)
    return Scan(times, reader.end_us, found.shots, found.transitions, tracks, reader.corrupt_packets)


class _Faces:
    """The faces of a source as its frames come.

    Mouths are read in a thread of their own, while the next frame is fetched and compared with this one: the networks
    let go of Python's lock.
    """

    def __init__(
        self, finder: FaceFinder, mouths: MouthReader | None, config: SegmentConfig, thread: ThreadPoolExecutor
    ) -> None:
        self._thread, self._reading = thread, Future[None]()
        self._reading.set_result(None)
        self._finder, self._mouths, self._config = finder, mouths, config
        self._tracker = Tracker(config)
        self._bridge_us = bridge_us(config)
        self._step_us = round(US / config.mouth_hz)
        self._looked_us = self._due_us = -(1 << 60)
        self._read: dict[int, tuple[array[int], array[float]]] = {}
        finder.restart()
        if mouths is not None:
            mouths.restart()

    def push(self, pts_us: int, rgb: UInt8, abrupt: bool) -> None:
        """Take the next frame; `abrupt` when it may begin another view."""
        soon = pts_us - self._looked_us >= CROWD_US and self._tracker.crowded(pts_us)
        sample = self._finder.push(pts_us, rgb, abrupt or soon)
        if sample is not None:
            self._looked_us = pts_us
            tracks = self._tracker.push(sample)
            if self._mouths is not None:
                self.settle()
                self._mouths.forget({track.number for track in self._tracker.live})
                for track in tracks:
                    self._mouths.seen(track.number, track.boxes[-1])
        if self._mouths is not None and pts_us >= self._due_us - LATE_US:
            late = pts_us > self._due_us + self._step_us
            self._due_us = (pts_us if late else self._due_us) + self._step_us
            live = [track for track in self._tracker.live if pts_us - track.times[-1] <= self._bridge_us]
            faces = [track.number for track in live if track.boxes[-1].width >= self._config.min_face_px]
            self.settle()
            if faces:
                self._reading = self._thread.submit(self._mouths_of, pts_us, rgb.copy(), faces)

    def settle(self) -> None:
        """Wait for the mouths of the last frame; raises what their reading raised."""
        self._reading.result()

    def _mouths_of(self, pts_us: int, rgb: UInt8, faces: Sequence[int]) -> None:
        assert self._mouths is not None
        for face in faces:
            times, values = self._read.setdefault(face, (array("q"), array("f")))
            times.append(pts_us)
            values.extend(self._mouths.read(rgb, face).tolist())

    def within(self, shot: Span) -> list[SeenFace]:
        """The faces of a shot, the most dominant first."""
        found: list[tuple[float, SeenFace]] = []
        for track in self._tracker.all():
            part = track.part(shot)
            if part is not None:
                found.append((_dominance(track, shot), SeenFace(part, *self._mouth(track.number, part, shot))))
        return [seen for _, seen in sorted(found, key=lambda pair: -pair[0])]

    def _mouth(self, number: int, part: FaceTrack, shot: Span) -> tuple[Int64, Float32]:
        """Mouth of a track while it is seen; what was read between a cut and the next detection is nobody's."""
        times, values = self._read.get(number, (array("q"), array("f")))
        when = np.array(times, np.int64)
        table = np.array(values, np.float32).reshape(-1, len(COLUMNS))
        last_us = min(shot.end_us - 1, part.pts_us[-1] + self._bridge_us)
        inside = (when >= part.pts_us[0]) & (when <= last_us)
        return when[inside], table[inside]


def _dominance(track: Sightings, shot: Span) -> float:
    inside = [box for time, box in zip(track.times, track.boxes, strict=True) if shot.start_us <= time < shot.end_us]
    return dominance_of(inside)


def pack_scan(scan: Scan) -> Result:
    """A scan as the result of a stage."""
    tracks = scan.tracks
    value = {
        "shots": [[shot.start_us, shot.end_us] for shot in scan.shots],
        "transitions": [[span.start_us, span.end_us] for span in scan.transitions],
        "end_us": scan.end_us,
        "corrupt_packets": scan.corrupt_packets,
        "num_tracks": len(tracks),
    }
    arrays = {
        "pts_us": scan.pts_us,
        "box_count": np.array([len(track.face.pts_us) for track in tracks], np.int64),
        "box_us": _joined([track.face.pts_us for track in tracks], np.zeros(0, np.int64)),
        "box_xywh": _joined([track.face.box_xywh for track in tracks], np.zeros((0, 4), np.float32)),
        "mouth_count": np.array([len(track.mouth_us) for track in tracks], np.int64),
        "mouth_us": _joined([track.mouth_us for track in tracks], np.zeros(0, np.int64)),
        "mouth": _joined([track.mouth for track in tracks], np.zeros((0, len(COLUMNS)), np.float32)),
    }
    return Result(value, arrays)


def unpack_scan(result: Result) -> Scan:
    """What `pack_scan` was given."""
    value, arrays = result.value, result.arrays
    boxes, mouths = np.cumsum(arrays["box_count"])[:-1], np.cumsum(arrays["mouth_count"])[:-1]
    parts: Mapping[str, Sequence[Any]] = {
        **{name: np.split(arrays[name], boxes) for name in ("box_us", "box_xywh")},
        **{name: np.split(arrays[name], mouths) for name in ("mouth_us", "mouth")},
    }
    tracks = [
        SeenFace(FaceTrack(parts["box_us"][i], parts["box_xywh"][i]), parts["mouth_us"][i], parts["mouth"][i])
        for i in range(value["num_tracks"])
    ]
    shots, transitions = ([Span(*span) for span in value[name]] for name in ("shots", "transitions"))
    return Scan(arrays["pts_us"], value["end_us"], shots, transitions, tracks, value["corrupt_packets"])


def _joined(parts: Sequence[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else empty

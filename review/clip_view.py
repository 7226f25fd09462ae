"""One clip as the page needs it: facts, curves over time, words, and the arrays that are drawn over the video."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from talkset.dataset import Clip, DatasetError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

US: Final = 1_000_000
BLOCK: Final = 64
"""Frames of the mesh that are sent together."""
SPARSE_VERTICES: Final = 64
"""Vertices whose movement tells the jitter of the mesh."""
MAGIC: Final = b"TSR1"
MOUTH_POINTS: Final = {478: (13, 14, 33, 263), 468: (13, 14, 33, 263), 68: (62, 66, 36, 45)}
"""Landmarks of a detector with so many: middle of the inner upper and lower lip, outer corners of both eyes."""
SYNC_WINDOW_S: Final = 1.0
SOUND_RATE: Final = 16_000
QUIET_DB: Final = -60.0
LABEL_KEYS: Final = ("start_us", "end_us", "label", "score", "interpolated", "kind")
"""What the page shows of a word, phone or event."""


def overview(clip: Clip, root: Path) -> dict[str, Any]:
    """What the page needs at once: index values, frame times, curves that are stored, words, phones and events.

    A clip without parameters (rejected, failed) has no curves. Numbers that are not known are None. Raises
    DatasetError for tables that cannot be read.
    """
    view: dict[str, Any] = {
        "clip_id": clip.clip_id,
        "index": {name: _plain(clip.index[name]) for name in clip.index},
        "duration_us": clip.duration_us if clip.index["end_us"] is not None else None,
        "fitted": bool(clip.signals),
        "pts_us": [],
        "curves": {},
        "media": media_facts(clip, root),
        "words": [],
        "phones": [],
        "events": [],
    }
    if not clip.signals:
        return view
    wanted = ("pts_us", "valid", "nme", "residual_px", "held_out_nme", "uncertainty_mm", "global_pose")
    pts = np.asarray(clip.read("pts_us", wanted), np.int64)
    nme = clip.read("nme", wanted)
    view["pts_us"] = pts.tolist()
    view["valid"] = [bool(value) for value in clip.read("valid", wanted)]
    view["curves"] = {
        "nme": _numbers(nme * 100),
        "residual_px": _numbers(clip.read("residual_px", wanted)),
        "held_out_nme": _numbers(_scaled(_optional(clip, "held_out_nme", wanted), 100)),
        "uncertainty_mm": _numbers(_optional(clip, "uncertainty_mm", wanted)),
    }
    view["worst_frame"] = int(np.nanargmax(nme)) if np.isfinite(nme).any() else None
    view["head"] = {
        "model": clip.read("head_model"),
        "focal_px": float(clip.read("focal_px")),
        "principal_point": [float(value) for value in clip.read("principal_point")],
        "global_pose": _numbers(clip.read("global_pose", wanted).ravel()),
    }
    for name, rows in (("words", clip.words()), ("phones", clip.phones()), ("events", clip.events())):
        view[name] = [{key: _plain(row[key]) for key in LABEL_KEYS if key in row} for row in rows]
    return view


def media_facts(clip: Clip, root: Path) -> dict[str, Any]:
    """Whether the clip's video is there, and the presentation times of its frames, or what is wrong with it."""
    path = media_file(root, "media", clip.clip_id)
    if path is None:
        return {"problem": f"media/{clip.clip_id}.mp4 is missing: fetch it, or build with media.enabled=true"}
    try:
        pts = video_times(path)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        return {"problem": f"media/{clip.clip_id}.mp4 is damaged ({error}); run `talkset verify`"}
    if not len(pts):
        return {"problem": f"media/{clip.clip_id}.mp4 has no frames; run `talkset verify`"}
    facts: dict[str, Any] = {"pts_us": pts.tolist(), "problem": None}
    stored = clip.read("pts_us") if clip.signals else pts
    if len(stored) != len(pts) or np.abs(stored - pts).max(initial=0) > 1000:
        facts["warning"] = f"the video has {len(pts)} frames at other times than the {len(stored)} that were fitted"
    return facts


def media_file(root: Path, folder: str, clip_id: str) -> Path | None:
    """The clip's mp4 in a folder of the data set; None where it is missing or would lie outside."""
    path = root / folder / f"{clip_id}.mp4"
    inside = path.resolve().is_relative_to(root.resolve())
    return path if inside and path.is_file() else None


def video_times(path: Path) -> Int64:
    """Presentation times in microseconds of all frames of a video, without decoding one."""
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        ticks = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        base = stream.time_base
    return np.array([round(tick * base * US) for tick in sorted(ticks)], np.int64)


def slow_curves(clip: Clip) -> dict[str, Any]:
    """Curves that have to be computed: mouth opening, jitter, loudness, and how lips and sound go together.

    `mouth`: distance of the inner lips / outer eye corner distance, in percent. `jitter_px`: RMS second difference of
    vertices of the mesh in the picture, or of the landmarks where the head model is missing. `sound_db`: RMS in dB of
    full scale. `sync`: correlation of mouth and loudness within a second around the frame. Parts that cannot be had
    are absent, and `problems` says why.
    """
    found: dict[str, Any] = {"problems": []}
    if not clip.signals:
        return found
    points = clip.read("face_xy")
    mouth = mouth_opening(points)
    if mouth is not None:
        found["mouth"] = _numbers(100 * mouth)
    try:
        found["jitter_px"] = _numbers(second_difference(_projected(clip)))
    except DatasetError as error:
        found["problems"].append(f"jitter is that of the landmarks: {error}")
        found["jitter_px"] = _numbers(second_difference(points))
    pts = np.asarray(clip.read("pts_us"), np.int64)
    try:
        samples, rate = clip.audio(SOUND_RATE, mono=True)
    except DatasetError as error:
        found["problems"].append(f"no sound: {error}")
        return found
    loud = loudness_db(samples[:, 0], rate, pts, clip.duration_us)
    found["sound_db"] = _numbers(loud)
    if mouth is not None:
        found["sync"] = _numbers(windowed_correlation(mouth, loud, pts))
    return found


def mouth_opening(points: Float32) -> Float64 | None:
    """(T,) distance of the inner lips over that of the outer eye corners of landmarks (T, L, 2); None for unknown L."""
    chosen = MOUTH_POINTS.get(points.shape[1])
    if chosen is None:
        return None
    upper, lower, left, right = (points[:, number].astype(np.float64) for number in chosen)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.linalg.norm(upper - lower, axis=1) / np.linalg.norm(left - right, axis=1))


def second_difference(points: Float32) -> Float64:
    """(T,) RMS length of x[t-1] - 2 x[t] + x[t+1] over points (T, N, 2), in their unit; NaN at both ends."""
    result = np.full(len(points), np.nan)
    if len(points) > 2:
        x = points.astype(np.float64)
        bent = x[:-2] - 2 * x[1:-1] + x[2:]
        result[1:-1] = np.sqrt((bent**2).sum(axis=2).mean(axis=1))
    return result


def _projected(clip: Clip) -> Float32:
    """(T, N, 2) pixels of some vertices, evenly chosen over the mesh."""
    from talkset.geometry import head_model_of

    count = head_model_of(clip).num_vertices
    ids = np.unique(np.linspace(0, count - 1, SPARSE_VERTICES).astype(np.int64))
    vertices = clip.vertices(vertex_ids=ids)
    focal, centre = float(clip.read("focal_px")), clip.read("principal_point")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(focal * vertices[..., :2] / vertices[..., 2:] + centre, np.float32)


def loudness_db(samples: Float32, rate: int, pts_us: Int64, duration_us: int) -> Float64:
    """(T,) RMS of the sound while each frame is shown, in dB of full scale, not below `QUIET_DB`."""
    borders = np.append(pts_us, max(duration_us, int(pts_us[-1]) + 1)) * rate // US
    borders = np.clip(borders, 0, len(samples))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    counts = np.maximum(np.diff(borders), 1)
    power = np.diff(energy[borders]) / counts
    return np.asarray(np.maximum(10 * np.log10(np.maximum(power, 1e-12)), QUIET_DB))


def windowed_correlation(one: Float64, other: Float64, pts_us: Int64) -> Float64:
    """(T,) Pearson correlation of two signals within half a `SYNC_WINDOW_S` of each frame; NaN for a constant one."""
    half = round(SYNC_WINDOW_S * US / 2)
    result = np.full(len(one), np.nan)
    first = np.searchsorted(pts_us, pts_us - half, side="left")
    last = np.searchsorted(pts_us, pts_us + half, side="right")
    for place, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        a, b = one[start:stop], other[start:stop]
        known = np.isfinite(a) & np.isfinite(b)
        if known.sum() >= 5 and a[known].std() > 1e-9 and b[known].std() > 1e-9:
            result[place] = float(np.corrcoef(a[known], b[known])[0, 1])
    return result


def landmark_bytes(clip: Clip) -> bytes:
    """The landmarks (T, L, 2) float32 pixels, then their confidence (T, L) where it is stored, for the page."""
    points = np.ascontiguousarray(clip.read("face_xy"), np.float32)
    header: dict[str, Any] = {"shape": list(points.shape), "confidence": False}
    body = points.tobytes()
    trust = _optional(clip, "confidence", ("face_xy",))
    if trust is not None and np.nanmin(trust, initial=1) < 1:
        header["confidence"] = True
        body += np.ascontiguousarray(trust, np.float32).tobytes()
    return packed(header, body)


def vertex_bytes(clip: Clip, block: int) -> bytes:
    """Frames block * BLOCK .. of the mesh (n, V, 3), camera space, as int16 steps from `low` (0.01 mm for a head).

    Frames that are not valid are zeros. Raises DatasetError for a missing head model, IndexError for no such block.
    """
    start = block * BLOCK
    if not 0 <= start < clip.num_frames:
        raise IndexError(f"clip {clip.clip_id} has no block {block} of frames")
    vertices = clip.vertices(start=start, stop=start + BLOCK)
    known = np.isfinite(vertices).all(axis=(1, 2))
    seen = vertices[known]
    low = seen.min(axis=(0, 1)) if len(seen) else np.zeros(3, np.float32)
    step = np.maximum((seen.max(axis=(0, 1)) - low) / 65_535 if len(seen) else np.ones(3, np.float32), 1e-9)
    steps = np.zeros(vertices.shape, np.uint16)
    steps[known] = np.clip(np.rint((seen - low) / step), 0, 65_535).astype(np.uint16)
    header = {
        "start": start,
        "shape": list(vertices.shape),
        "low": [float(value) for value in low],
        "step": [float(value) for value in step],
        "known": known.tolist(),
    }
    return packed(header, steps.tobytes())


def face_bytes(clip: Clip) -> bytes:
    """The triangles (F, 3) uint32 of the mesh. Raises DatasetError for a missing head model."""
    from talkset.geometry import clip_faces

    faces = np.ascontiguousarray(clip_faces(clip), np.uint32)
    return packed({"shape": list(faces.shape)}, faces.tobytes())


def packed(header: dict[str, Any], body: bytes) -> bytes:
    """An array for the page: magic, length of the header (uint32), header as JSON, the values little-endian."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    return MAGIC + len(text).to_bytes(4, "little") + text + body


def _optional(clip: Clip, name: str, wanted: Sequence[str]) -> Any:
    """A signal that older data sets do not have."""
    try:
        return clip.read(name, wanted)
    except KeyError:
        return None


def _scaled(values: Any, factor: float) -> Any:
    return None if values is None else values * factor


def _numbers(values: Any) -> list[float | None] | None:
    """Numbers as JSON has them: five digits are more than a curve shows, and NaN is null."""
    if values is None:
        return None
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in np.asarray(values).tolist()]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

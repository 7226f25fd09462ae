"""Pictures and sound of a clip, found by time: the media files that travel with a data set are optional."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from talkset.store import DatasetError

if TYPE_CHECKING:
    from reconstruct.decode import Reader
    from talkset.dataset import Clip

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

US: Final = 1_000_000
REMEDIES: Final = {
    "media": "was it built with media.enabled=false, or were the files of media/ not copied? Build it with"
    " media.enabled=true or fetch them",
    "overlays": "render it with `talkset overlay`, or fetch the files of overlays/",
}


def clip_frames(
    clip: Clip, start_s: float | None = None, end_s: float | None = None, *, overlay: bool = False
) -> Iterator[tuple[int, UInt8]]:
    """The pictures of a clip with start_s <= PTS < end_s, in order: (pts_us, (H, W, 3) uint8 RGB).

    pts_us and the seconds count from the start of the clip, as `clip["pts_us"]` does. H and W are those of the source
    picture, so that landmarks in pixels fit; with `overlay` it is the picture with the mesh over it, which has a size
    of its own. Raises DatasetError, at once, for a window that crosses the clip's border or a clip without the file;
    while reading, for a damaged one.
    """
    duration_us = clip.duration_us
    start_us = 0 if start_s is None else round(start_s * US)
    end_us = duration_us if end_s is None else round(end_s * US)
    if not 0 <= start_us < end_us <= duration_us:
        message = f"pictures from {start_s} to {end_s} s are not inside clip {clip.clip_id}"
        raise DatasetError(f"{message}, which is 0..{duration_us / US} s")
    path = _file(clip, "overlays" if overlay else "media")
    return _pictures(clip, path, start_us, end_us, overlay)


def clip_frame(clip: Clip, number: int, *, overlay: bool = False) -> UInt8:
    """The picture (H, W, 3) uint8 RGB of frame `number` of the clip, that at `clip["pts_us"][number]`.

    Only the part of the file around it is decoded. Raises IndexError for a frame that the clip does not have,
    DatasetError for a clip without the file, or where the file has no picture within half a frame of that time.
    """
    pts = np.asarray(clip.read("pts_us"), np.int64)
    if not -len(pts) <= number < len(pts):
        raise IndexError(f"clip {clip.clip_id} has {len(pts)} frames, so no frame {number}")
    place = range(len(pts))[number]
    gaps = np.diff(pts[max(0, place - 1) : place + 2])
    half_us = int(gaps.min()) // 2 if len(gaps) else max(1, clip.duration_us // 2)
    target_us = int(pts[place])
    path = _file(clip, "overlays" if overlay else "media")
    around = _pictures(clip, path, max(0, target_us - half_us), target_us + half_us + 1, overlay)
    best: tuple[int, UInt8] | None = None
    for pts_us, rgb in around:
        if best is None or abs(pts_us - target_us) < abs(best[0] - target_us):
            best = pts_us, rgb
    if best is None:
        message = f"{path} has no picture within {half_us} us of {target_us} us, the time of frame {place}"
        raise DatasetError(f"{message} of clip {clip.clip_id}; run `talkset verify`")
    return best[1]


def clip_audio(clip: Clip, rate_hz: int | None = None, mono: bool = False) -> tuple[Float32, int]:
    """The sound of a clip: (N, channels) float32 in [-1, 1], and its samples per second.

    Sample i is at i / rate seconds from the start of the clip; N = floor(duration x rate). What the file does not
    cover is zero. `rate_hz` resamples by a zero-phase polyphase filter (scipy.signal.resample_poly), so that nothing
    is shifted; None keeps the file's rate. `mono` gives one channel, the mean. Raises DatasetError for a clip without
    sound or without its media file, or for a rate that is not positive.
    """
    if rate_hz is not None and rate_hz <= 0:
        raise DatasetError(f"rate_hz must be a positive number of samples per second, got {rate_hz!r}")
    if clip.index.get("has_audio") is False:
        message = f"clip {clip.clip_id} has no sound: its source carries none"
        raise DatasetError(f"{message}; choose clips with where='has_audio == True'")
    path = _sound_file(clip)
    read_audio = _decoder().read_audio
    try:
        sound = read_audio(path, 0, clip.duration_us)
    except _talkset_error() as error:
        raise _damaged(clip, error) from error
    if sound is None:
        raise DatasetError(f"{path} of clip {clip.clip_id} has no sound stream; run `talkset verify`")
    samples, rate = sound
    if mono:
        samples = samples.mean(axis=0, keepdims=True, dtype=np.float32)
    if rate_hz is not None and rate_hz != rate:
        samples, rate = _resample(samples, rate, rate_hz, clip.duration_us), rate_hz
    return np.ascontiguousarray(samples.T, np.float32), rate


def file_sound(path: Path, rate_hz: int, block_s: float = 60.0) -> Iterator[Float32]:
    """The sound of any file that FFmpeg reads, as blocks (N,) of mono samples at `rate_hz`, one after the other.

    Channels are averaged. No more than a block is in memory at its own rate, however long the file. Raises
    TalksetError: missing_file, no_audio, decode_error.
    """
    from schemas.errors import TalksetError

    decoder = _decoder()
    length_us = decoder.sound_length_us(path)
    step, margin = round(block_s * US), US // 4
    for start in range(0, length_us, step):
        low, high = max(0, start - margin), min(length_us, start + step + margin)
        found = decoder.read_audio(path, low, high)
        if found is None:
            raise TalksetError("no_audio", f"{path} has no sound", "Give a file with sound")
        samples, rate = found
        mono = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        if rate != rate_hz:
            mono = _resample(mono, rate, rate_hz, high - low)
        first, end = (start - low) * rate_hz // US, (min(length_us, start + step) - low) * rate_hz // US
        yield np.ascontiguousarray(mono[0, first:end])


def _resample(samples: Float32, rate: int, wanted: int, duration_us: int) -> Float32:
    """(C, N) at another rate, of exactly the samples that lie inside the clip."""
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    found = resample_poly(samples, wanted // common, rate // common, axis=1)
    total = duration_us * wanted // US
    found = np.pad(found, ((0, 0), (0, max(0, total - found.shape[1]))))[:, :total]
    return np.asarray(found, np.float32)


def _pictures(clip: Clip, path: Path, start_us: int, end_us: int, overlay: bool) -> Iterator[tuple[int, UInt8]]:
    reader: Reader
    try:
        with _decoder().Reader(path) as reader:
            height, width = reader.info.height, reader.info.width
            if not overlay:
                # Writing the file gave odd sides one more row or column.
                height = _without_padding(height, clip.index.get("height"))
                width = _without_padding(width, clip.index.get("width"))
            for pts_us, rgb in reader.frames(start_us, end_us):
                yield pts_us, np.ascontiguousarray(rgb[:height, :width])
    except _talkset_error() as error:
        raise _damaged(clip, error) from error


def _without_padding(stored: int, true: int | None) -> int:
    return true if true is not None and true % 2 == 1 and stored == true + 1 else stored


def _file(clip: Clip, folder: str) -> Path:
    """The clip's file in `media` or `overlays` as a path of this machine."""
    name = f"{folder}/{clip.clip_id}.mp4"
    dataset = clip.dataset
    if not dataset.has_file(name):
        message = f"clip {clip.clip_id} has no {name} in {dataset!r}"
        raise DatasetError(f"{message}; {REMEDIES[folder]}")
    return dataset.local_path(name)


def _sound_file(clip: Clip) -> Path:
    """The clip's video, or its .wav where there is no video, as in data sets that were made without pictures."""
    name = f"media/{clip.clip_id}.wav"
    if not clip.dataset.has_file(f"media/{clip.clip_id}.mp4") and clip.dataset.has_file(name):
        return clip.dataset.local_path(name)
    return _file(clip, "media")


def _decoder() -> Any:
    try:
        from reconstruct import decode
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise DatasetError("pictures and sound need PyAV: pip install av") from error
    return decode


def _talkset_error() -> type[Exception]:
    from schemas.errors import TalksetError

    return TalksetError


def _damaged(clip: Clip, error: Exception) -> DatasetError:
    return DatasetError(f"the media of clip {clip.clip_id} cannot be read: {error}; run `talkset verify`")

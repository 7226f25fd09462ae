"""Sound of a source on the source clock: decoded by PTS, mixed to mono, resampled without drift."""

from __future__ import annotations

import os
import tempfile
import wave
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np

from schemas.errors import TalksetError, UsageError
from schemas.types import Float32

GAP_S: Final = Fraction(20, 1000)
"""PTS that disagree with the sample count by more than this are a real gap or overlap; below, rounding of the PTS."""

_MARGIN_S: Final = Fraction(1, 10)
"""Sound decoded on either side of the span, so that the resampler's filter and the codec's start-up are outside it."""

_PREROLL_S: Final = Fraction(1)
"""How far before the span a seek aims: codecs with overlapping windows need earlier packets."""

_SEEKABLE: Final = frozenset({"mov", "mp4", "matroska", "webm", "mpeg", "mpegts", "wav"})
"""Containers whose PTS stay true after a seek; the others (bare MP3, ADTS) are decoded from their start."""

_FULL_SCALE: Final = {"int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**63}


def read_audio(path: str | Path, start_us: int, end_us: int, rate: int = 16_000, mend: bool = False) -> Float32:
    """Read the mono sound of a span [start_us, end_us) of the source clock.

    Sample i of the (ceil((end_us - start_us) * rate / 1e6),) float32 result, full scale 1.0, is the sound at
    start_us + i / rate, to half a sample of the stream's own rate at any distance from the start. The source clock is 0
    at the container's start time. Zeros stand where the stream has no sound: before its first PTS, after its last, and
    in gaps of its PTS longer than 20 ms; `mend`: also where it is damaged. Channels are averaged.

    Raises TalksetError: missing_file; no_audio without an audio stream; decode_error when it cannot be decoded,
    with `mend` only when none of it can. Raises UsageError when the span is empty or the rate is not positive.
    """
    if end_us <= start_us or rate <= 0:
        raise UsageError(f"empty span [{start_us}, {end_us}) us or rate {rate} of {path}", "Pass end_us > start_us")
    if not Path(path).is_file():
        raise TalksetError("missing_file", f"{path} does not exist", "Check the path in the manifest")
    margin = -int(-_MARGIN_S * rate // 1)
    origin = Fraction(start_us, 1_000_000) - Fraction(margin, rate)
    count = -(-(end_us - start_us) * rate // 1_000_000)
    stop = Fraction(end_us, 1_000_000) + _MARGIN_S
    try:
        native, native_rate = _decode(path, origin, stop, mend)
    except av.error.FFmpegError as error:
        raise TalksetError(
            "decode_error",
            f"the sound of {path} cannot be decoded: {error}",
            "Play the file with ffplay to see the damage",
        ) from error
    samples = _resample(native, native_rate, rate)[margin : margin + count]
    return np.pad(samples, (0, count - len(samples)))


def audio_span_us(path: str | Path) -> tuple[int, int]:
    """First and last microsecond of a file's sound on its source clock, as its container says.

    Raises TalksetError: missing_file; no_audio without an audio stream; decode_error for a file that is no container or
    says nothing of its length.
    """
    if not Path(path).is_file():
        raise TalksetError("missing_file", f"{path} does not exist", "Check the path")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise TalksetError("no_audio", f"{path} has no audio stream", "Leave the clip out or supply its sound")
            stream = container.streams.audio[0]
            clock = Fraction(container.start_time or 0, 1_000_000)
            base = stream.time_base or Fraction(1)
            start = Fraction(0) if stream.start_time is None else stream.start_time * base - clock
            if stream.duration is not None:
                length = stream.duration * base
            elif container.duration is not None:
                length = Fraction(container.duration, 1_000_000) - start
            else:
                raise TalksetError("decode_error", f"{path} does not say how long it is", "Convert it to WAV or MP4")
    except av.error.FFmpegError as error:
        message = f"{path} is no sound or video file that can be read: {error}"
        raise TalksetError("decode_error", message, "Play the file with ffplay") from error
    return max(0, round(start * 1_000_000)), round((start + length) * 1_000_000)


def write_wav(path: str | Path, samples: Float32, rate: int) -> None:
    """Write mono samples (N,), full scale 1.0, as a 16-bit PCM WAV file that appears whole or not at all.

    Values beyond full scale are clipped. Raises UsageError for samples of another shape or with a NaN, and
    TalksetError(not_writable or disk_full) when the folder cannot take the file.
    """
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise UsageError(f"samples for {path} must be (N,) and finite, got shape {samples.shape}", "Pass mono sound")
    pcm = np.clip(np.rint(samples.astype(np.float64) * 32767.0), -32768, 32767).astype("<i2")
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                with wave.open(file, "wb") as wav:
                    wav.setnchannels(1)
                    wav.setsampwidth(2)
                    wav.setframerate(rate)
                    wav.writeframes(pcm.tobytes())
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; a data set is read by others
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        reason = "disk_full" if error.errno == 28 else "not_writable"
        raise TalksetError(
            reason, f"cannot write {target}: {error.strerror}", "Check the folder and its space"
        ) from error


def _decode(path: str | Path, origin: Fraction, stop: Fraction, mend: bool) -> tuple[Float32, int]:
    """Sound of [origin, stop) seconds at the stream's own rate; sample k is at origin + k / rate."""
    seek_to = max(origin - _PREROLL_S, Fraction(0))
    while True:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise TalksetError("no_audio", f"{path} has no audio stream", "Leave the clip out or supply its sound")
            stream = container.streams.audio[0]
            rate = int(stream.codec_context.sample_rate or 0) if stream.codec_context else 0
            if not rate:
                raise TalksetError("decode_error", f"no decoder knows the sound of {path}", "Convert its sound to AAC")
            clock = Fraction(container.start_time or 0, 1_000_000)
            if _SEEKABLE.isdisjoint(container.format.name.split(",")):
                seek_to = Fraction(0)
            if seek_to:
                container.seek(int((seek_to + clock) / stream.time_base), stream=stream)
            native, first = _place(_blocks(container, stream, clock, origin, mend), rate, origin, stop)
        if first is not None and (first <= origin or not seek_to):
            return native, rate
        if not seek_to:
            raise TalksetError(
                "decode_error", f"the audio stream of {path} holds no sound", "Play the file with ffplay"
            )
        seek_to = Fraction(0)  # the seek overshot or went past the end: take the long way


def _blocks(
    container: Any, stream: Any, clock: Fraction, origin: Fraction, mend: bool
) -> Iterator[tuple[Fraction | None, Float32]]:
    """Decoded frames in order as (source time in seconds or None, mono samples)."""
    rate = stream.codec_context.sample_rate
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            # a codec entered in the middle may need packets from before the seek
            end = None if packet.pts is None else (packet.pts + (packet.duration or 0)) * packet.time_base - clock
            if mend or (end is not None and end <= origin):
                continue
            raise
        for frame in frames:
            if frame.sample_rate != rate:
                message = f"the sound of {container.name} changes from {rate} to {frame.sample_rate} samples per second"
                raise TalksetError("decode_error", message, "Re-encode its sound at one rate")
            yield None if frame.pts is None else frame.pts * frame.time_base - clock, _mono(frame)


def _mono(frame: Any) -> Float32:
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    if data.dtype == np.uint8:
        return np.asarray((data.mean(axis=0) - 128.0) / 128.0, dtype=np.float32)
    return np.asarray(data.mean(axis=0, dtype=np.float64) / _FULL_SCALE.get(data.dtype.name, 1.0), dtype=np.float32)


def _place(
    blocks: Iterable[tuple[Fraction | None, Float32]], rate: int, origin: Fraction, stop: Fraction
) -> tuple[Float32, Fraction | None]:
    """Lay blocks on the sample grid of [origin, stop); also the time of the first block, None without one."""
    out = np.zeros(int((stop - origin) * rate) + 1, dtype=np.float32)
    first: Fraction | None = None
    cursor = 0
    for seconds, mono in blocks:
        if seconds is None and first is None:
            continue  # a frame of unknown time before the first known one cannot be placed
        if seconds is not None:
            due = round((seconds - origin) * rate)
            # inside the tolerance the samples are contiguous: a PTS is rounded to the container's time base
            if first is None or abs(due - cursor) > GAP_S * rate:
                cursor = due
            first = seconds if first is None else first
        begin, end = max(cursor, 0), min(cursor + len(mono), len(out))
        if begin < end:
            out[begin:end] = mono[begin - cursor : end - cursor]
        cursor += len(mono)
        if cursor >= len(out):
            break
    return out, first


def _resample(samples: Float32, native_rate: int, rate: int) -> Float32:
    """Resample (N,) mono sound with libswresample; sample 0 keeps its time."""
    if native_rate == rate:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate = native_rate
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in frames])

"""Writing video files: exact presentation times, sound in sync, the same bytes for the same input."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from reconstruct.decode import Reader, read_audio
from schemas.errors import TalksetError, UsageError

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

US: Final = 1_000_000
THREADS: Final = 1  # x264's output depends on the number of threads, and with two now and then on their timing
AAC_RATES: Final = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_FRAME: Final = 1024
LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
BITS_PER_CHANNEL: Final = 96_000
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_video(
    path: Path | str,
    frames: Iterable[tuple[int, UInt8]],
    fps: Fraction,
    audio: tuple[Float32, int] | None = None,
    crf: int = 18,
    end_us: int | None = None,
) -> None:
    """Write (pts_us, rgb) frames as H.264 yuv420p and sound as AAC into an mp4 that appears whole or not at all.

    Every frame keeps its PTS to the microsecond, evenly spaced or not; the last one lasts until `end_us`, or 1 / fps.
    rgb is (H, W, 3) uint8; an odd side is padded by its last row or column. audio is ((N,) or (C, N) float32, samples
    per second) and starts at PTS 0; a rate that AAC does not know is resampled to the next higher that it does. There
    are no B-frames, so readers that ignore edit lists see the same times; a keyframe comes at least once a second. The
    same input gives the same bytes.

    Raises UsageError for no frames, PTS that do not grow, a frame of another size or dtype, or sound of an unknown
    shape; TalksetError(disk_full or not_writable) when the folder cannot take the file.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            _encode(temporary, _timed(frames, fps, end_us, target), fps, _checked_audio(audio, target), crf)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, av.error.FFmpegError) as error:
        raise _write_error(target, error) from error


def cut_video(
    src: Path | str, dst: Path | str, start_us: int, end_us: int, crf: int = 18, sound_shift_us: int = 0
) -> None:
    """Write the frames with start_us <= pts_us < end_us of a source, and their own sound, into an mp4.

    The first frame gets PTS 0, the others keep their distance to it, the last one lasts until `end_us`. Sound starts
    exactly with the first frame at the source's sample rate and channel count (more than eight channels, or seven,
    become one); a source without sound gives a file without. With a shift the sound comes from so much later in the
    source: its own sound that is late by that is in sync then.

    Raises the errors of `Reader`, decode_error when the span has no frame, and those of `write_video`.
    """
    with Reader(src) as reader:
        shown = reader.frames(start_us, end_us)
        first = next(shown, None)
        if first is None:
            raise TalksetError(
                "decode_error", f"{src} has no frame in [{start_us}, {end_us}) us", "Check the span against the file"
            )
        zero_us = first[0]
        audio = read_audio(src, zero_us + sound_shift_us, end_us + sound_shift_us)
        if audio is not None and audio[0].shape[0] not in LAYOUTS:
            audio = audio[0].mean(axis=0, keepdims=True), audio[1]

        def moved() -> Iterator[tuple[int, UInt8]]:
            yield 0, first[1]
            for pts_us, rgb in shown:
                yield pts_us - zero_us, rgb

        write_video(dst, moved(), reader.info.fps, audio, crf, end_us - zero_us)


def _timed(
    frames: Iterable[tuple[int, UInt8]], fps: Fraction, end_us: int | None, target: Path
) -> Iterator[tuple[int, int, UInt8]]:
    """(pts_us, duration_us, rgb), checked."""
    previous: tuple[int, UInt8] | None = None
    for pts_us, rgb in frames:
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise UsageError(f"a frame for {target} must be (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}", "Pass RGB")
        if previous is not None:
            if pts_us <= previous[0]:
                raise UsageError(f"PTS for {target} must grow, got {pts_us} after {previous[0]}", "Sort the frames")
            if rgb.shape != previous[1].shape:
                raise UsageError(f"frames for {target} change from {previous[1].shape} to {rgb.shape}", "Scale them")
            yield previous[0], pts_us - previous[0], previous[1]
        previous = pts_us, rgb
    if previous is None:
        raise UsageError(f"there are no frames for {target}", "Pass at least one")
    last_us = round(US / fps) if end_us is None else end_us - previous[0]
    if last_us <= 0:
        raise UsageError(f"{target} would end at {end_us} us, not after its last PTS {previous[0]}", "Pass a later end")
    yield previous[0], last_us, previous[1]


def _checked_audio(audio: tuple[Float32, int] | None, target: Path) -> tuple[Float32, int] | None:
    if audio is None:
        return None
    samples, rate = np.atleast_2d(np.asarray(audio[0], np.float32)), audio[1]
    if samples.ndim != 2 or samples.shape[0] not in LAYOUTS or rate <= 0 or not np.isfinite(samples).all():
        raise UsageError(
            f"sound for {target} must be finite, (C, N) with C of {list(LAYOUTS)}, got {samples.shape} at {rate}",
            "Pass mono or stereo float32",
        )
    return samples, rate


def _encode(
    temporary: Path,
    timed: Iterator[tuple[int, int, UInt8]],
    fps: Fraction,
    audio: tuple[Float32, int] | None,
    crf: int,
) -> None:
    head = next(timed)  # before the file is made: what is wrong with the input shows here
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(f"file:{temporary}", "w", format="mp4", options=options) as container:
        video = _video_stream(container, head[2].shape, fps, crf)
        sound = None if audio is None else _SoundTrack(container, *audio)
        durations: dict[int, int] = {}

        def mux(packets: list[Any]) -> None:
            for packet in packets:
                packet.duration = durations.pop(packet.pts)
                container.mux(packet)

        for pts_us, duration_us, rgb in _chain(head, timed):
            frame = av.VideoFrame.from_ndarray(_even(rgb), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="itu601", dst_color_range="MPEG")
            frame.pts, frame.time_base = pts_us, Fraction(1, US)
            durations[pts_us] = duration_us
            mux(video.encode(frame))
            if sound is not None:
                sound.write_until(pts_us + duration_us)
        mux(video.encode(None))
        if sound is not None:
            sound.finish()


def _chain(head: tuple[int, int, UInt8], rest: Iterator[tuple[int, int, UInt8]]) -> Iterator[tuple[int, int, UInt8]]:
    yield head
    yield from rest


def _video_stream(container: Any, shape: tuple[int, ...], fps: Fraction, crf: int) -> Any:
    options = {
        "crf": str(crf),
        "preset": "veryfast",
        "bf": "0",
        "g": str(max(1, round(fps))),
        "threads": str(THREADS),
        "rc-lookahead": "0",  # with it, one encoding in 40 of the same frames in the same process gave other bits
        "flags": "+bitexact",
    }
    stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
    stream.width, stream.height = shape[1] + shape[1] % 2, shape[0] + shape[0] % 2
    stream.pix_fmt = "yuv420p"
    stream.time_base = Fraction(1, US)
    context = stream.codec_context
    context.time_base = Fraction(1, US)
    context.color_range, context.colorspace = 1, 6  # limited, SMPTE 170M: the matrix used in `_encode`
    context.color_primaries, context.color_trc = 6, 6
    return stream


class _SoundTrack:
    """Feeds samples to an AAC stream, a codec frame at a time, as the picture advances."""

    def __init__(self, container: Any, samples: Float32, rate: int) -> None:
        known = [r for r in AAC_RATES if r >= rate] or [AAC_RATES[-1]]
        layout = LAYOUTS[samples.shape[0]]
        if known[0] != rate:
            samples = _resample(samples, rate, known[0], layout)
        self.samples, self.rate, self.layout, self.container = samples, known[0], layout, container
        # The AAC standard allows 6144 bits per channel in a frame of 1024 samples.
        bits = min(BITS_PER_CHANNEL, 6 * self.rate) * samples.shape[0]
        self.stream = container.add_stream("aac", rate=self.rate, options={"flags": "+bitexact", "threads": "1"})
        self.stream.layout = layout
        self.stream.bit_rate = bits
        self.position = 0

    def write_until(self, pts_us: int) -> None:
        """Encode whole codec frames that start before a time."""
        while self.position * US < pts_us * self.rate and self.position + AAC_FRAME <= self.samples.shape[1]:
            self._write(AAC_FRAME)

    def finish(self) -> None:
        """Encode what is left and flush the encoder."""
        while self.position < self.samples.shape[1]:
            self._write(AAC_FRAME)
        self.container.mux(self.stream.encode(None))

    def _write(self, count: int) -> None:
        block = np.ascontiguousarray(self.samples[:, self.position : self.position + count])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=self.layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self.position, Fraction(1, self.rate)
        self.container.mux(self.stream.encode(frame))
        self.position += block.shape[1]


def _resample(samples: Float32, rate: int, wanted: int, layout: str) -> Float32:
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=wanted)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    blocks = [f.to_ndarray() for part in (frame, None) for f in resampler.resample(part)]
    return np.asarray(np.concatenate(blocks, axis=1), np.float32)


def _even(rgb: UInt8) -> UInt8:
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(rgb)


def _write_error(target: Path, error: Exception) -> TalksetError:
    if getattr(error, "errno", None) in FULL:
        return TalksetError("disk_full", f"no space is left to write {target}", "Free space, or choose another folder")
    if isinstance(error, OSError):
        return TalksetError("not_writable", f"cannot write {target}: {error.strerror}", "Check the folder's rights")
    return TalksetError("internal", f"the encoder failed on {target}: {error}", "Report it with the input")

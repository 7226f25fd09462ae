"""Reading video files by presentation time: probe, frames, sound of a span."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import av
import av.error
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

from schemas.errors import TalksetError
from schemas.types import Int64, VideoInfo

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

US: Final = 1_000_000
AUDIO_GAP_US: Final = 15_000  # below one codec frame (21-26 ms), above the rounding of container clocks
AUDIO_PREROLL_US: Final = 500_000  # MP3 and AAC need earlier packets before their output is right
SEEKABLE: Final = frozenset({"mov", "mp4", "matroska", "webm", "avi", "mpegts"})
"""Containers that give the true PTS after a seek; program and bare streams are decoded from their start."""
USUAL_RATES: Final = tuple(
    Fraction(rate) / slow for rate in (24, 25, 30, 48, 50, 60, 120) for slow in (Fraction(1), Fraction(1001, 1000))
)
SEEK_MARGINS_US: Final = (0, 2 * US, 10 * US)
NOT_VIDEO_FORMATS: Final = frozenset({"tty", "hls", "concat", "dash", "concatf"})  # text, or lists of other files


def probe(path: Path | str) -> VideoInfo:
    """What the container and the first decoded frame say about a video.

    Raises TalksetError with reason missing_file, empty_file, unreadable_file, not_a_video (no container, no video
    stream, or only a cover picture) or decode_error (no frame decodes).
    """
    with Reader(path) as reader:
        return reader.info


def frames(
    path: Path | str, start_us: int | None = None, end_us: int | None = None, size: tuple[int, int] | None = None
) -> Iterator[tuple[int, UInt8]]:
    """Yield (pts_us, rgb) for every frame with start_us <= pts_us < end_us; see `Reader.frames`."""
    with Reader(path) as reader:
        yield from reader.frames(start_us, end_us, size)


class Reader:
    """An open video file; use it as a context manager.

    `corrupt_packets` counts packets that could not be decoded and were skipped, and frames the decoder had to mend,
    over all that was read. `truncated` is set once the frames have been read to the end and that end is more than
    max(0.5 s, 5 %) before the time the container promised. `end_us` is the end (PTS + duration) of the last frame
    given, on the source clock.
    Raises the errors of `probe` when it is opened.
    """

    info: VideoInfo

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.corrupt_packets = 0
        self.truncated = False
        self.end_us = 0
        self._fresh: Iterator[Any] | None = None
        self._container = _open(self.path)
        try:
            self._select()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._fresh = None
        self._container.close()

    def frames(
        self, start_us: int | None = None, end_us: int | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, UInt8]]:
        """Yield (pts_us, rgb) in presentation order for every frame with start_us <= pts_us < end_us.

        pts_us is on the source clock (0 = the container's start time); rgb is (H, W, 3) uint8, contiguous, rotated
        and stretched as it is displayed, scaled to `size` = (width, height) where given. Frames without a PTS follow
        their predecessor by its duration; frames whose PTS does not grow are dropped.
        Raises TalksetError(decode_error) when the file cannot be read on.
        """
        width, height = size or (self.info.width, self.info.height)
        transpose = self._orientation[0]
        stored = (height, width) if transpose else (width, height)
        last_us: int | None = None
        nominal_us = round(US / self.info.fps)
        duration_us = nominal_us
        for frame in self._decode_from(start_us):
            pts_us = self._pts_us(frame)
            if pts_us is None:
                pts_us = self.info.video_start_us if last_us is None else last_us + duration_us
            if last_us is not None and pts_us <= last_us:
                continue
            last_us, duration_us = pts_us, self._duration_us(frame) or nominal_us
            if start_us is not None and pts_us < start_us:
                continue
            if end_us is not None and pts_us >= end_us:
                return
            self.end_us = pts_us + duration_us
            yield pts_us, self._rgb(frame, stored)
        self._note_truncation(last_us, duration_us)

    def _select(self) -> None:
        """Pick the streams, decode the first frame, fill `info`."""
        container = self._container
        videos = [s for s in container.streams.video if not _is_cover(s)]
        if not videos or container.format.name in NOT_VIDEO_FORMATS:
            raise TalksetError("not_a_video", f"{self.path} has no video stream", "Remove it from the manifest")
        self._stream = stream = videos[0]
        stream.thread_type = "AUTO"
        self._origin_us = _origin_us(container)
        self._last_packet_us = 0
        self._others = tuple(container.streams.audio)
        self._promised_us = _promised_us(stream, self._origin_us)
        decoded = self._decode()
        try:
            first = next(decoded)
        except StopIteration:
            raise TalksetError(
                "decode_error", f"no frame of {self.path} could be decoded", "Re-encode or replace the file"
            ) from None
        self._fresh = itertools.chain([first], decoded)
        self._seekable = first.pts is not None and not SEEKABLE.isdisjoint(container.format.name.split(","))
        first_us = self._pts_us(first) or 0
        self._orientation = _orientation(first)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = max(1, round(first.width * aspect)), first.height
        if self._orientation[0]:
            width, height = height, width
        fps = _nominal(stream.average_rate or stream.guessed_rate or stream.base_rate)
        if not fps:
            duration_us = self._duration_us(first)
            fps = Fraction(US, duration_us) if duration_us else Fraction(25)  # 25: what libav gives raw streams
        if self._promised_us is not None:
            duration = self._promised_us
        elif container.duration is not None:
            duration = _container_us(container)
        else:
            duration = round(US / fps)
        audio = self._others[0] if self._others else None
        audio_start = None
        if audio is not None:
            audio_start = _rescale(audio.start_time or 0, audio.time_base) - self._origin_us
        self.info = VideoInfo(
            width=width,
            height=height,
            fps=Fraction(fps),
            duration_us=duration,
            rotation_deg=_rotation_deg(first),
            video_start_us=first_us,
            audio_rate=audio.codec_context.sample_rate if audio is not None else None,
            audio_start_us=audio_start,
        )

    def _decode(self) -> Iterator[Any]:
        """Frames from the current position; packets that fail are skipped and counted."""
        wanted = (self._stream,) if self._promised_us is not None else (self._stream, *self._others)
        packets = self._container.demux(*wanted)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.InvalidDataError, av.error.EOFError):
                # The container itself is damaged here: what the decoder still holds is good.
                self.corrupt_packets += 1
                yield from self._flush()
                return
            except av.error.FFmpegError as error:
                raise TalksetError(
                    "decode_error", f"{self.path} cannot be read on: {error}", "Check the disk"
                ) from error
            if packet.stream is not self._stream:
                if packet.pts is not None:
                    end = _rescale(packet.pts + (packet.duration or 0), packet.time_base)
                    self._last_packet_us = max(self._last_packet_us, end - self._origin_us)
                continue
            try:
                decoded = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.corrupt_packets += 1
                continue
            self.corrupt_packets += bool(packet.is_corrupt)
            for frame in decoded:
                self.corrupt_packets += bool(frame.is_corrupt)
                yield frame

    def _flush(self) -> list[Any]:
        try:
            return list(self._stream.decode(None))
        except av.error.FFmpegError:
            self.corrupt_packets += 1
            return []

    def _decode_from(self, start_us: int | None) -> Iterator[Any]:
        """Frames from one at or before `start_us`, wherever the container's index leads."""
        fresh, self._fresh = self._fresh, None
        begin = self.info.video_start_us if start_us is None else start_us
        near = begin <= self.info.video_start_us + US
        if fresh is not None and (near or not self._seekable):
            return fresh
        if self._seekable and not near:
            for margin_us in SEEK_MARGINS_US:
                target_us = begin - margin_us
                if target_us <= self.info.video_start_us:
                    break
                ahead = self._seek(target_us)
                # Some formats land on a packet that is no keyframe: the decoder then starts too late.
                if ahead is not None and (self._pts_us(ahead[0]) or 0) <= begin:
                    return itertools.chain([ahead[0]], ahead[1])
        index = self._stream.index
        self._container.close()
        self._container = _open(self.path)
        self._stream = self._container.streams[index]
        self._stream.thread_type = "AUTO"
        self._others = tuple(self._container.streams.audio)
        return self._decode()

    def _seek(self, target_us: int) -> tuple[Any, Iterator[Any]] | None:
        offset = int(Fraction(target_us + self._origin_us, US) / self._stream.time_base)
        try:
            self._container.seek(offset, stream=self._stream)
        except av.error.FFmpegError:
            return None
        decoded = self._decode()
        first = next(decoded, None)
        return None if first is None or first.pts is None else (first, decoded)

    def _pts_us(self, frame: Any) -> int | None:
        return None if frame.pts is None else _rescale(frame.pts, frame.time_base) - self._origin_us

    @staticmethod
    def _duration_us(frame: Any) -> int:
        return _rescale(frame.duration, frame.time_base) if frame.duration and frame.time_base else 0

    def _rgb(self, frame: Any, stored: tuple[int, int]) -> UInt8:
        rgb: UInt8 = frame.to_ndarray(format="rgb24", width=stored[0], height=stored[1])
        transpose, flip_x, flip_y = self._orientation
        if transpose:
            rgb = rgb.transpose(1, 0, 2)
        if flip_x:
            rgb = rgb[:, ::-1]
        if flip_y:
            rgb = rgb[::-1]
        return np.ascontiguousarray(rgb)

    def _note_truncation(self, last_us: int | None, duration_us: int) -> None:
        end_us = 0 if last_us is None else last_us + duration_us
        if self._promised_us is not None:
            promised_us = self.info.video_start_us + self._promised_us
        elif self._container.duration is not None:
            promised_us = _container_us(self._container)
            end_us = max(end_us, self._last_packet_us)
        else:
            return
        self.truncated = promised_us - end_us > max(US // 2, promised_us // 20)


def _nominal(rate: Fraction | None) -> Fraction | None:
    """The usual rate that an average over rounded times stands for, or the rate itself."""
    if rate is None:
        return None
    return next((usual for usual in USUAL_RATES if abs(rate / usual - 1) < Fraction(1, 10_000)), rate)


def _open(path: Path) -> Any:
    """Open a local file for reading, or say in one of our reasons why not."""
    try:
        if path.is_dir():
            raise TalksetError("unreadable_file", f"{path} is a folder", "Give the path of a video file")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise TalksetError("empty_file", f"{path} has zero bytes", "Fetch the file again")
    except FileNotFoundError:
        raise TalksetError("missing_file", f"{path} does not exist", "Check the path in the manifest") from None
    except (OSError, ValueError) as error:
        raise TalksetError("unreadable_file", f"{path} may not be read: {error}", "Check its permissions") from error
    try:
        # `file:` keeps a colon in a name from being read as a protocol; tags may be in any encoding.
        return av.open(f"file:{path}", metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise TalksetError("not_a_video", f"{path} is not a video: {error.strerror}", "Replace the file") from error


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _rescale(value: int, time_base: Fraction) -> int:
    """Ticks to microseconds, rounded to the nearest."""
    numerator, denominator = time_base.numerator, time_base.denominator
    return int((2 * value * numerator * US + denominator) // (2 * denominator))


def _origin_us(container: Any) -> int:
    if container.start_time is not None:
        start: int = round(container.start_time * US / av.time_base)
        return start
    starts = [_rescale(s.start_time, s.time_base) for s in container.streams if s.start_time is not None]
    return min(starts, default=0)


def _container_us(container: Any) -> int:
    """Duration by the container's header. Matroska tells the end instead, on a clock that may start anywhere."""
    duration: int = round(container.duration * US / av.time_base)
    return duration - max(0, _origin_us(container)) if "matroska" in container.format.name else duration


def _promised_us(stream: Any, origin_us: int) -> int | None:
    """Duration of the video stream by its own header; None where only the container has one."""
    if stream.duration:
        return _rescale(stream.duration, stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska, "00:00:02.600000000"
    try:
        hours, minutes, seconds = tag.split(":")
        told_us = round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * US)  # the end, not the length
        return max(0, told_us - max(0, origin_us)) or None
    except ValueError:
        return None


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c, d of x' = a x + c y, y' = b x + d y."""
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    matrix = np.frombuffer(bytes(data), np.int32)
    return int(matrix[0]), int(matrix[1]), int(matrix[3]), int(matrix[4])


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Transpose, then flip x, then flip y: the nearest of the eight orientations."""
    a, b, c, d = _display_matrix(frame)
    if abs(a) >= abs(b):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _rotation_deg(frame: Any) -> int:
    """Clockwise rotation for display, a multiple of 90."""
    a, b, _, _ = _display_matrix(frame)
    return round(float(np.degrees(np.arctan2(b, a))) / 90) % 4 * 90


def read_audio(path: Path | str, start_us: int, end_us: int) -> tuple[Float32, int] | None:
    """Sound of a span at its own rate and channels: ((C, N) float32, samples per second), or None without sound.

    Sample i is at start_us + i / rate of the source clock, N = (end_us - start_us) x rate; what the stream does not
    cover is zero. Raises the errors of `probe`, and decode_error when nothing of the sound stream decodes.
    """
    path = Path(path)
    seek = True
    while True:
        with _open(path) as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            origin_us, rate = _origin_us(container), int(stream.codec_context.sample_rate)
            target_us = start_us - AUDIO_PREROLL_US
            if seek and target_us > 0 and not SEEKABLE.isdisjoint(container.format.name.split(",")):
                try:
                    container.seek(int(Fraction(target_us + origin_us, US) / stream.time_base), stream=stream)
                except av.error.FFmpegError:
                    seek = False
                    continue
            else:
                seek = False
            samples, first = _place(_audio_frames(container, stream), rate, origin_us + start_us, end_us - start_us)
        if samples is not None and (first <= 0 or not seek):
            return samples, rate
        if not seek:
            raise TalksetError("decode_error", f"the sound of {path} could not be decoded", "Re-encode the file")
        seek = False  # the seek led past the start or the end: take the long way


def sound_length_us(path: Path | str) -> int:
    """Microseconds from the start of a file to the end of its sound, as its container says, or as its packets do.

    Raises TalksetError: missing_file, no_audio without a sound stream, and the errors of `probe`.
    """
    path = Path(path)
    with _open(path) as container:
        if not container.streams.audio:
            raise TalksetError("no_audio", f"{path} has no sound", "Give a file with sound")
        stream = container.streams.audio[0]
        promised = _promised_us(stream, _origin_us(container))
        if promised is None:
            ends = [(p.pts + (p.duration or 0)) * p.time_base for p in container.demux(stream) if p.pts is not None]
            promised = round(max(ends, default=Fraction(0)) * US) - _origin_us(container)
    if promised <= 0:
        raise TalksetError("decode_error", f"{path} holds no sound", "Play the file with ffplay to see the damage")
    return promised


def _place(decoded: Iterator[Any], rate: int, zero_us: int, length_us: int) -> tuple[Float32 | None, int]:
    """Lay decoded frames on the sample grid that starts at `zero_us`; also the position of the first sample."""
    total = max(0, length_us * rate // US)
    samples: Float32 | None = None
    first = position = 0
    for frame in decoded:
        block = _planar_float(frame)
        placed = None if frame.pts is None else (_rescale(frame.pts, frame.time_base) - zero_us) * rate
        if samples is None:
            if placed is None:  # no clock yet after a seek
                continue
            first = position = round(placed / US)
            samples = np.zeros((block.shape[0], total), np.float32)
        elif placed is not None and abs(placed - position * US) > AUDIO_GAP_US * rate:
            position = round(placed / US)
        if position >= total:
            break
        if block.shape[0] != samples.shape[0]:  # the layout changed within the stream
            block = np.broadcast_to(block.mean(axis=0), (samples.shape[0], block.shape[1]))
        low, high = max(0, position), min(total, position + block.shape[1])
        if high > low:
            samples[:, low:high] = block[:, low - position : high - position]
        position += block.shape[1]
    return samples, first


def _audio_frames(container: Any, stream: Any) -> Iterator[Any]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            yield from packet.decode()
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError:
            if packet.size == 0:
                return
            continue  # a damaged packet: its samples stay zero


def _planar_float(frame: Any) -> Float32:
    """(C, N) float32 in [-1, 1]."""
    block = frame.to_ndarray()
    if not frame.format.is_planar:
        block = block.reshape(-1, frame.layout.nb_channels).T
    if block.dtype == np.uint8:
        block = (block.astype(np.float32) - 128) / 128
    elif np.issubdtype(block.dtype, np.integer):
        block = block / float(2 ** (8 * block.dtype.itemsize - 1))
    return np.asarray(block, np.float32)


def coded_bits(path: Path | str, start_us: int, end_us: int) -> tuple[Int64, Int64]:
    """(N,) times and (N,) sizes in bits of the video packets of a span of the source clock, without decoding them.

    Raises decode_error where the container cannot be read.
    """
    times, bits = [], []
    try:
        with _open(Path(path)) as container:
            stream = container.streams.video[0]
            zero = _origin_us(container)
            if start_us > US:
                container.seek(int(Fraction(start_us - US + zero, US) / stream.time_base), stream=stream)
            late = 0
            for packet in container.demux(stream):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:
                    continue
                time = round(stamp * stream.time_base * US) - zero
                if start_us <= time < end_us:
                    times.append(time)
                    bits.append(8 * packet.size)
                late = late + 1 if time >= end_us else 0
                if late > 32:  # packets come in coding order, so a few late ones prove nothing
                    break
    except av.error.FFmpegError as error:
        raise TalksetError("decode_error", f"the packets of {path} cannot be read ({error})") from error
    return np.array(times, np.int64), np.array(bits, np.int64)

"""Videos that break pipelines, made in milliseconds: each with what must become of it.

The pictures that should pass are a talking person's (`talking_clips.people`); the others are written byte by byte or by
ffmpeg, small on the disk and large in what they ask of a decoder.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from talking_clips import FPS, FRAMES, people, write_clip

from reconstruct.video import write_video

UInt8 = NDArray[np.uint8]
LIMITS = ("run.decode.stall_s=3", "run.decode.total_s=5", "run.decode.memory_mb=600")
"""Overrides under which the corpus is to be run: small, so that a test has not to wait."""
HANG_SCANS = 60_000
"""Scans of the picture that never ends: each costs its decoder 2 ms."""


@dataclass(frozen=True)
class Poison:
    """One bad source."""

    name: str
    make: Callable[[Path], None]
    status: str
    """accepted, rejected or failed."""
    reason: str | None = None
    warning: str | None = None
    """What the warnings of an accepted row say."""


def write_all(folder: Path) -> list[Poison]:
    """Write the corpus."""
    for poison in CORPUS:
        poison.make(folder / poison.name)
    return list(CORPUS)


def _person(count: int = FRAMES) -> Sequence[UInt8]:
    """Pictures there and back again, without a jump."""
    there = people()[0]
    return [*there, *there[::-1]][:count]


def _ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def _again(path: Path, *arguments: str | Path) -> None:
    """A talking person, encoded once more by ffmpeg."""
    first = path.with_name(f".{path.name}.mp4")
    write_clip(first, _person())
    _ffmpeg("-i", first, *arguments, path)
    first.unlink()


def _truncated(path: Path) -> None:
    data = write_clip(path, _person(2 * FRAMES)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _zero_bytes(path: Path) -> None:
    path.touch()


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(100_000))


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(100_000))


def _ten_bit(path: Path) -> None:
    _again(path, "-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-c:a", "copy")


def _no_audio(path: Path) -> None:
    write_clip(path, _person(), sound=False)


def _variable_rate(path: Path) -> None:
    steps = np.cumsum([0, *([33_333, 41_667, 16_667, 80_000, 40_000] * FRAMES)])[:FRAMES]
    write_video(path, zip(steps.tolist(), _person(), strict=True), Fraction(30))


def _rotated(path: Path) -> None:
    """Stored on its side, with the matrix that puts it up."""
    lying = path.with_name(f".{path.name}")
    write_clip(lying, [np.ascontiguousarray(np.rot90(rgb, -1)) for rgb in _person()])
    _ffmpeg("-display_rotation", "90", "-i", lying, "-c", "copy", path)
    lying.unlink()


def _one_frame(path: Path) -> None:
    write_clip(path, _person(1))


def _ntsc(path: Path) -> None:
    rate = Fraction(30_000, 1001)
    write_video(path, ((round(i * 1_000_000 / rate), rgb) for i, rgb in enumerate(_person(36))), rate)


def _corrupt(path: Path) -> None:
    """A transport stream with noise in its middle."""
    _again(path, "-c:v", "libx264", "-g", "5", "-bf", "0", "-c:a", "copy", "-f", "mpegts")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for start in range(middle, middle + 188 * 12, 188):  # headers stay, what is in the packets does not
        data[start + 20 : start + 188] = np.random.default_rng(start).bytes(168)
    path.write_bytes(data)


def _huge(path: Path) -> None:
    path.write_bytes(_png(8000, 6000, bits=1, colour=0))


def _memory_bomb(path: Path) -> None:
    """4 MB on the disk, 2 GB as a picture."""
    path.write_bytes(_png(16_000, 16_000, bits=16, colour=6))


def _gigapixels(path: Path) -> None:
    """Four hundred pictures of 16 million pixels each, within the limit of one: 6 gigapixels from 1 MB."""
    picture = _png(4000, 4000, bits=1, colour=0)
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("png", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 4000, 4000, "monob"
        stream.time_base = Fraction(1, FPS)
        for number in range(400):
            packet = av.Packet(picture)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, FPS), number, number
            packet.is_keyframe = True
            container.mux(packet)


def _png(width: int, height: int, bits: int, colour: int) -> bytes:
    """A black picture. Its zlib stream is one compressed block of zeros, repeated, as full flushes allow."""
    row = 1 + -(-width * bits * {0: 1, 2: 3, 6: 4}[colour] // 8)
    total = row * height
    block = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(block))
    packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(bytes(total % block)) + packer.flush(zlib.Z_FINISH)
    checksum = struct.pack(">I", (total % 65_521) << 16 | 1)  # Adler-32 of so many zeros
    data = b"\x78\xda" + one * (total // block) + last + checksum
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _hanging(path: Path) -> None:
    """A progressive JPEG of many scans: each is a few bytes and a pass over a million blocks (ITU-T T.81, annex G)."""
    side = 8192
    quantiser = _segment(0xDB, b"\0" + b"\1" * 64)
    frame = _segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0))
    codes = _segment(0xC4, b"\x00" + bytes([1, *[0] * 15]) + b"\0") + _segment(
        0xC4,
        b"\x10" + bytes([1, *[0] * 15]) + b"\xe0",  # one code, of one bit: an end-of-band run of 2^14 blocks and more
    )
    first = _segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0])) + bytes((side // 8) ** 2 // 8)
    runs = -(-((side // 8) ** 2) // 32_767)
    bits = "".join("0" + "1" * 14 for _ in range(runs)) + "1" * 7
    body = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8)).replace(b"\xff", b"\xff\x00")
    scan = _segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0])) + body
    path.write_bytes(b"\xff\xd8" + quantiser + frame + codes + first + scan * HANG_SCANS + b"\xff\xd9")


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


CORPUS: Sequence[Poison] = (
    Poison("truncated.mp4", _truncated, "failed", "truncated"),
    Poison("zero bytes.mp4", _zero_bytes, "failed", "empty_file"),
    Poison("zeros.mp4", _zeros, "failed", "not_a_video"),
    Poison("noise.mp4", _noise, "failed", "not_a_video"),
    Poison("hanging.mp4", _hanging, "failed", "time_limit"),
    Poison("huge.mp4", _huge, "failed", "too_large"),
    Poison("memory bomb.mp4", _memory_bomb, "failed", "memory_limit"),
    Poison("gigapixels.mp4", _gigapixels, "failed", "time_limit"),
    Poison("one frame.mp4", _one_frame, "rejected", "too_short"),
    Poison("ten bit.mp4", _ten_bit, "accepted"),
    Poison("no audio.mp4", _no_audio, "accepted", warning="no_audio"),
    Poison("variable rate.mp4", _variable_rate, "accepted", warning="no_audio"),
    Poison("rotated.mp4", _rotated, "accepted"),
    Poison("29.97.mp4", _ntsc, "accepted", warning="no_audio"),
    Poison("corrupt.mp4", _corrupt, "accepted", warning="decode_error"),
)

"""Decode, encode, cut: a video whose frames carry their own number, and sounds at known times."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.video import Reader, cut_video, frames, probe, read_audio, write_video
from schemas.errors import TalksetError, UsageError

BITS = 8
UNEVEN_US = np.cumsum([0, *([33_333, 41_666, 16_667, 100_001, 20_000] * 12)])


def numbered(number: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A frame with its number as eight black or white columns."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, width // BITS)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def number_of(rgb: NDArray[np.uint8]) -> int:
    blocks = rgb.reshape(rgb.shape[0], BITS, -1).mean(axis=(0, 2))
    return int(sum(1 << bit for bit in range(BITS) if blocks[bit] > 127))


def write_numbered(path: Path, pts: NDArray[np.int64], audio: tuple[NDArray[np.float32], int] | None = None) -> Path:
    write_video(path, ((int(t), numbered(i)) for i, t in enumerate(pts)), Fraction(25), audio)
    return path


def ffmpeg(*arguments: str | Path) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def decoded(path: Path, start_us: int | None = None, end_us: int | None = None) -> list[tuple[int, int]]:
    return [(pts, number_of(rgb)) for pts, rgb in frames(path, start_us, end_us)]


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("steady") / "steady.mp4", np.arange(200) * 40_000)


def test_steady_video_keeps_every_frame_and_its_time(steady: Path) -> None:
    assert decoded(steady) == [(i * 40_000, i) for i in range(200)]
    info = probe(steady)
    assert (info.width, info.height, info.fps, info.duration_us) == (64, 48, Fraction(25), 8_000_000)
    assert (info.rotation_deg, info.video_start_us, info.audio_rate) == (0, 0, None)


def test_uneven_times_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    path = tmp_path / "uneven.mp4"
    write_video(path, ((int(t), numbered(i)) for i, t in enumerate(UNEVEN_US)), Fraction(30), end_us=2_600_000)
    assert decoded(path) == [(int(t), i) for i, t in enumerate(UNEVEN_US)]
    with Reader(path) as reader:
        assert len(list(reader.frames())) == len(UNEVEN_US)
        assert reader.end_us == 2_600_000
        assert not reader.truncated


@pytest.mark.parametrize("start", [0, 1, 39_999, 40_000, 3_999_999, 4_000_000, 7_960_000])
def test_seek_gives_exactly_the_frames_of_the_span(steady: Path, start: int) -> None:
    expected = [(i * 40_000, i) for i in range(200) if start <= i * 40_000 < start + 200_000]
    assert decoded(steady, start, start + 200_000) == expected


@pytest.mark.parametrize("suffix", ["mkv", "mpg", "avi", "ts", "webm"])
def test_seek_in_foreign_containers_with_b_frames(steady: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"foreign.{suffix}"
    codec = {"mpg": ["-c:v", "mpeg1video", "-bf", "2", "-q:v", "2"], "avi": ["-c:v", "mpeg4", "-bf", "2", "-q:v", "2"]}
    vpx = ["-c:v", "libvpx", "-b:v", "1M"]
    default = vpx if suffix == "webm" else ["-c:v", "libx264", "-bf", "3", "-g", "50"]
    ffmpeg("-i", steady, *codec.get(suffix, default), path)
    whole = decoded(path)
    assert [n for _, n in whole] == list(range(200))
    assert np.abs(np.diff([t for t, _ in whole]) - 40_000).max() <= 1_000  # Matroska and WebM count milliseconds
    for start in (1_000_000, 3_010_000, 6_500_000):
        assert decoded(path, start, start + 400_000) == [x for x in whole if start <= x[0] < start + 400_000]


def test_reader_can_be_read_twice_and_out_of_order(steady: Path) -> None:
    with Reader(steady) as reader:
        late = [number_of(rgb) for _, rgb in reader.frames(6_000_000, 6_100_000)]
        early = [number_of(rgb) for _, rgb in reader.frames(0, 100_000)]
        whole = [number_of(rgb) for _, rgb in reader.frames()]
    assert (late, early, whole) == ([150, 151, 152], [0, 1, 2], list(range(200)))


def test_source_clock_starts_at_the_container_start(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "offset.ts"  # its first PTS is well after zero, the picture starts 0.3 s after the sound
    ffmpeg("-itsoffset", "0.3", "-i", steady, "-f", "lavfi", "-i", "sine=d=8", "-c:v", "copy", "-c:a", "mp2", path)
    whole = decoded(path)
    assert [n for _, n in whole] == list(range(200))
    assert abs(whole[0][0] - 300_000) < 30_000
    info = probe(path)
    assert info.video_start_us == whole[0][0]
    assert info.audio_start_us == 0
    assert decoded(path, 4_000_000, 4_200_000) == [x for x in whole if 4_000_000 <= x[0] < 4_200_000]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
def test_display_matrix_is_applied_as_ffmpeg_does(tmp_path: Path, degrees: int, mirror: bool) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    write_video(plain, [(0, picture), (40_000, picture)], Fraction(25))
    ffmpeg(
        "-display_rotation", str(degrees), *(["-display_hflip"] if mirror else []), "-i", plain, "-c", "copy", turned
    )
    info = probe(turned)
    reference = np.frombuffer(
        ffmpeg("-i", turned, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8
    )
    (_, rgb), *_ = list(frames(turned))
    assert rgb.shape == ((64, 48, 3) if degrees % 180 else (48, 64, 3))
    assert (info.width, info.height) == (rgb.shape[1], rgb.shape[0])
    assert np.abs(rgb.astype(int) - reference.reshape(rgb.shape).astype(int)).mean() < 3
    if not mirror:
        assert info.rotation_deg == (360 - degrees) % 360  # ffmpeg counts against the clock
    (_, small), *_ = list(frames(turned, size=(24, 32)))
    assert small.shape == (32, 24, 3)


def test_sample_aspect_ratio_stretches_the_width(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "anamorphic.mkv"
    ffmpeg("-i", steady, "-vf", "setsar=3/2", "-t", "0.2", path)
    assert (probe(path).width, probe(path).height) == (96, 48)
    assert [rgb.shape for _, rgb in frames(path)] == [(48, 96, 3)] * 5


def test_size_scales_the_picture(steady: Path) -> None:
    assert [rgb.shape for _, rgb in frames(steady, 0, 80_000, size=(32, 20))] == [(20, 32, 3)] * 2


def test_truncated_file_gives_its_frames_and_says_so(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "truncated.mp4"
    data = steady.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with Reader(path) as reader:
        numbers = [number_of(rgb) for _, rgb in reader.frames()]
        assert reader.truncated
    assert 20 < len(numbers) < 180
    assert numbers == list(range(len(numbers)))
    with Reader(steady) as reader:
        assert len(list(reader.frames())) == 200
        assert not reader.truncated


def test_longer_sound_is_not_truncation(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "long_sound.mkv"
    ffmpeg("-i", steady, "-f", "lavfi", "-i", "sine=d=12", "-c:v", "copy", "-c:a", "aac", path)
    with Reader(path) as reader:
        assert len(list(reader.frames())) == 200
        assert not reader.truncated


def test_damaged_packets_are_counted_and_the_rest_is_the_same_each_time(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ts"
    ffmpeg("-i", steady, "-c:v", "libx264", "-crf", "5", path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = np.random.default_rng(0).bytes(6000)
    path.write_bytes(bytes(data))
    results = []
    for _ in range(2):
        with Reader(path) as reader:
            results.append(
                ([(t, hashlib.sha256(rgb.tobytes()).digest()) for t, rgb in reader.frames()], reader.corrupt_packets)
            )
    assert results[0] == results[1]
    shown, corrupt = results[0]
    assert corrupt > 0
    assert 120 < len(shown) < 200
    assert all(a < b for (a, _), (b, _) in itertools.pairwise(shown))


@pytest.mark.parametrize("count", [1, 3])
def test_very_short_videos(tmp_path: Path, count: int) -> None:
    path = write_numbered(tmp_path / "short.mp4", np.arange(count) * 40_000)
    assert decoded(path) == [(i * 40_000, i) for i in range(count)]
    assert probe(path).duration_us == count * 40_000


@pytest.mark.parametrize("name", ["mit Lücken und 漢字.mp4", "%03d.mp4", "a:b?c#d.mp4", "-dash.mp4", "'quote\".mp4"])
def test_any_file_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_numbered(Path(name), np.arange(3) * 40_000)
    assert [n for _, n in decoded(Path(name))] == [0, 1, 2]
    cut_video(name, f"x {name}", 40_000, 120_000)
    assert [n for _, n in decoded(Path(f"x {name}"))] == [1, 2]
    assert sorted(os.listdir()) == sorted([name, f"x {name}"])


def _bad_files(folder: Path) -> Iterator[tuple[str, Path]]:
    yield "missing_file", folder / "nowhere.mp4"
    (folder / "empty.mp4").touch()
    yield "empty_file", folder / "empty.mp4"
    yield "unreadable_file", folder
    (folder / "text.mp4").write_text("This is no video.\n" * 100)
    yield "not_a_video", folder / "text.mp4"
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n")
    yield "not_a_video", folder / "playlist.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", folder / "sound.mp4")
    yield "not_a_video", folder / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-f", "lavfi", "-i", "color=s=32x32:d=0.04", "-map", "0", "-map", "1",
           "-c:v", "mjpeg", "-disposition:v", "attached_pic", folder / "cover.mp3")  # fmt: skip
    yield "not_a_video", folder / "cover.mp3"
    good = write_numbered(folder / "good.mp4", np.arange(10) * 40_000)
    data = good.read_bytes()
    head = data.index(b"mdat") + 4
    (folder / "hollow.mp4").write_bytes(data[:head] + bytes(len(data) - head))
    yield "decode_error", folder / "hollow.mp4"


def test_bad_files_are_named_by_reason(tmp_path: Path) -> None:
    for reason, path in _bad_files(tmp_path):
        with pytest.raises(TalksetError) as caught:
            probe(path)
        assert caught.value.reason == reason, path
        assert str(path) in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_forbidden_file(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(steady.read_bytes())
    path.chmod(0)
    with pytest.raises(TalksetError) as caught:
        probe(path)
    assert caught.value.reason == "unreadable_file"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    sound = (np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), 16_000)
    paths = [write_numbered(tmp_path / f"{i}.mp4", np.arange(25) * 40_000, sound) for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"Lavf" not in paths[0].read_bytes()
    assert paths[0].read_bytes().index(b"moov") < paths[0].read_bytes().index(b"mdat")


def test_odd_sides_are_padded_and_colours_survive(tmp_path: Path) -> None:
    ramp = np.linspace(30, 220, 63).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (47, 1)), np.full((47, 63), 90, np.uint8), np.tile(ramp[::-1], (47, 1))], axis=2)
    path = tmp_path / "odd.mp4"
    write_video(path, [(i * 40_000, picture) for i in range(3)], Fraction(25), crf=10)
    for _, rgb in frames(path):
        assert rgb.shape == (48, 64, 3)
        assert np.abs(rgb[:47, :63].astype(int) - picture.astype(int)).mean() < 3


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_click_and_flash_stay_together(tmp_path: Path, rate: int) -> None:
    sound = np.zeros((2, 3 * rate), np.float32)
    sound[:, 2 * rate : 2 * rate + 2] = 0.9
    path, cut = tmp_path / "flash.mp4", tmp_path / "cut.mp4"
    pictures = [(i * 40_000, np.full((48, 64, 3), 255 * (i == 50), np.uint8)) for i in range(75)]
    write_video(path, pictures, Fraction(25), (sound, rate))
    cut_video(path, cut, 1_240_000, 2_440_000)
    for file, expected in ((path, 2_000_000), (cut, 760_000)):
        assert [pts for pts, rgb in frames(file) if rgb.mean() > 127] == [expected]
        track = read_audio(file, 0, 3_000_000)
        assert track is not None
        assert (track[0].shape[0], track[1]) == (2, rate)
        assert abs(int(np.abs(track[0][0]).argmax()) * 1_000_000 / rate - expected) < 1_000
        other = np.frombuffer(ffmpeg("-i", file, "-f", "f32le", "-ac", "1", "-"), np.float32)
        assert abs(int(np.abs(other).argmax()) * 1_000_000 / rate - expected) < 1_000


def test_cut_is_frame_exact_and_keeps_uneven_times(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "source.mp4", UNEVEN_US)
    cut = tmp_path / "cut.mp4"
    first, last = 7, 31
    cut_video(source, cut, int(UNEVEN_US[first]), int(UNEVEN_US[last + 1]))
    assert decoded(cut) == [(int(UNEVEN_US[i] - UNEVEN_US[first]), i) for i in range(first, last + 1)]
    assert probe(cut).duration_us == UNEVEN_US[last + 1] - UNEVEN_US[first]
    assert probe(cut).audio_rate is None
    with pytest.raises(TalksetError) as caught:
        cut_video(source, tmp_path / "none.mp4", 60_000_000, 61_000_000)
    assert caught.value.reason == "decode_error"
    assert not (tmp_path / "none.mp4").exists()


def test_cut_of_a_recording_carries_its_own_sound(eval_data: Path, tmp_path: Path) -> None:
    source, cut = eval_data / "grid" / "bbaf2n.mpg", tmp_path / "cut.mp4"
    cut_video(source, cut, 1_000_000, 2_000_000)
    info = probe(cut)
    assert (info.width, info.height, info.audio_rate, info.duration_us) == (360, 288, 44_100, 1_000_000)
    wanted, got = read_audio(source, 1_000_000, 2_000_000), read_audio(cut, 0, 1_000_000)
    assert wanted is not None
    assert got is not None
    assert wanted[0].shape == got[0].shape == (2, 44_100)
    a, b = wanted[0][0], got[0][0]
    lags = range(-60, 61)
    similar = [float(np.corrcoef(a[100:-100], np.roll(b, lag)[100:-100])[0, 1]) for lag in lags]
    assert lags[int(np.argmax(similar))] == 0
    assert max(similar) > 0.99
    reference = [rgb for _, rgb in frames(source, 1_000_000, 2_000_000)]
    shown = [rgb for _, rgb in frames(cut)]
    assert len(reference) == len(shown) == 25
    for i, rgb in enumerate(shown):  # closer to its own frame than to either neighbour
        gaps = [np.abs(rgb.astype(int) - r.astype(int)).mean() for r in reference[max(0, i - 1) : i + 2]]
        assert int(np.argmin(gaps)) == min(i, 1)


def test_sound_of_a_span_is_the_span_of_the_sound(tmp_path: Path) -> None:
    rate = 44_100
    time = np.arange(6 * rate) / rate
    chirp = (0.5 * np.sin(2 * np.pi * (100 * time + 100 * time**2))).astype(np.float32)
    path = write_numbered(tmp_path / "chirp.mp4", np.arange(150) * 40_000, (chirp, rate))
    whole, part = read_audio(path, 0, 6_000_000), read_audio(path, 3_000_000, 4_000_000)
    assert whole is not None
    assert part is not None
    assert np.abs(part[0] - whole[0][:, 3 * rate : 4 * rate]).max() < 1e-3
    assert np.abs(part[0][0] - chirp[3 * rate : 4 * rate]).max() < 0.1
    beyond = read_audio(path, 5_500_000, 7_000_000)
    assert beyond is not None
    assert beyond[0].shape == (1, int(1.5 * rate))
    assert np.abs(beyond[0][0, int(0.6 * rate) :]).max() == 0


@pytest.mark.parametrize(
    ("pictures", "audio"),
    [
        ([], None),
        ([(0, numbered(0)), (0, numbered(1))], None),
        ([(0, numbered(0)), (40_000, numbered(1, 24))], None),
        ([(0, numbered(0).astype(np.float32))], None),
        ([(0, numbered(0))], (np.zeros((9, 100), np.float32), 16_000)),
        ([(0, numbered(0))], (np.full(100, np.nan, np.float32), 16_000)),
    ],
)
def test_wrong_input_leaves_no_file(tmp_path: Path, pictures: list, audio: tuple | None) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError):
        write_video(tmp_path / "wrong.mp4", pictures, Fraction(25), audio)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(TalksetError) as caught:
        write_numbered(tmp_path / "nowhere" / "x.mp4", np.arange(3) * 40_000)
    assert caught.value.reason == "not_writable"


FULL_DISK = """
import resource, sys
from fractions import Fraction
import numpy as np
from reconstruct.video import write_video
from schemas.errors import TalksetError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), dtype=np.uint8)
try:
    write_video(sys.argv[1], ((i * 40_000, rgb) for i, rgb in enumerate(noise)), Fraction(25))
except TalksetError as error:
    print(error.reason)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a file size limit")
def test_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "big.mp4")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == "disk_full"
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import dataclasses
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from dataset_builder import random_clip, writer
from numpy.typing import NDArray

from reconstruct.video import cut_video, write_video
from schemas.records import ClipRecord
from talkset.dataset import Clip, DatasetError, open_dataset
from talkset.media import clip_audio, clip_frame, clip_frames

FPS = Fraction(30000, 1001)
SOURCE_FRAMES, FIRST, LAST = 90, 33, 75  # the clip is frames FIRST .. LAST - 1 of the source
WIDTH, HEIGHT = 129, 63  # odd, so that the file is padded
RATE = 44_100
PULSE_S = 1.5


def source_pts() -> NDArray[np.int64]:
    return np.array([round(i * 1_000_000 / FPS) for i in range(SOURCE_FRAMES + 1)], np.int64)


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A picture that shows its number: a white block for each bit that is set."""
    rgb = np.full((height, width, 3), 30, np.uint8)
    for bit in range(8):
        if number >> bit & 1:
            rgb[8:56, 16 * bit : 16 * bit + 16] = 220
    return rgb


def number_of(rgb: NDArray[np.uint8]) -> int:
    return sum(int(rgb[16:48, 16 * bit + 4 : 16 * bit + 12].mean() > 125) << bit for bit in range(8))


def pulse(centre_s: float, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """A short tone under a bell curve, 4 ms wide."""
    t = np.arange(round(seconds * rate)) / rate - centre_s
    return np.asarray(0.7 * np.exp(-0.5 * (t / 0.004) ** 2) * np.cos(2 * np.pi * 600 * t), np.float32)


def centre_of(samples: NDArray[np.float32], rate: int) -> float:
    """Where the energy lies, in seconds."""
    energy = samples.astype(np.float64) ** 2
    peak = int(energy.argmax())
    near = slice(max(0, peak - rate // 50), peak + rate // 50)
    return float((energy[near] * np.arange(len(energy))[near]).sum() / energy[near].sum()) / rate


def record(number: int, pts_us: NDArray[np.int64], end_us: int, has_audio: bool = True) -> ClipRecord:
    """A clip of those frames that starts at frame FIRST of its source."""
    made = random_clip(number, frames=len(pts_us), fps=30)
    assert made.landmarks is not None
    start_us = int(source_pts()[FIRST])
    index = {
        **made.index,
        "start_us": start_us,
        "end_us": start_us + end_us,
        "fps_num": FPS.numerator,
        "fps_den": FPS.denominator,
        "width": WIDTH,
        "height": HEIGHT,
        "has_audio": has_audio,
    }
    return dataclasses.replace(made, index=index, landmarks=dataclasses.replace(made.landmarks, pts_us=pts_us))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips: 1 with picture and sound, 2 without sound, 3 at uneven times, 5 without media."""
    folder = tmp_path_factory.mktemp("media")
    pts = source_pts()
    span = int(pts[FIRST]), int(pts[LAST])
    seconds = int(pts[-1]) / 1e6
    sound = np.stack([pulse(PULSE_S, seconds), 0.5 * pulse(PULSE_S, seconds)])
    frames = [(int(pts[i]), numbered(i)) for i in range(SOURCE_FRAMES)]
    write_video(folder / "source.mp4", frames, FPS, (sound, RATE))
    write_video(folder / "silent.mp4", frames, FPS)
    clip_pts, length = pts[FIRST:LAST] - pts[FIRST], span[1] - span[0]
    uneven = np.cumsum(np.array([0, 33_367, 33_367, 50_000, 16_733, 100_000, 33_367], np.int64))
    root = folder / "data"
    with writer(root) as target:
        target.add(record(1, clip_pts, length))
        target.add(record(2, clip_pts, length, has_audio=False))
        target.add(record(3, uneven, int(uneven[-1]) + 33_367))
        target.add(record(5, clip_pts, length))
        target.finish()
    for name in ("media", "overlays"):
        (root / name).mkdir(exist_ok=True)
    cut_video(folder / "source.mp4", root / "media" / "clip_0001.mp4", *span)
    cut_video(folder / "silent.mp4", root / "media" / "clip_0002.mp4", *span)
    write_video(root / "media" / "clip_0003.mp4", zip(uneven.tolist(), map(numbered, range(7)), strict=True), FPS)
    drawn = ((int(t), numbered(200 + i, 64, 256)) for i, t in enumerate(clip_pts[:10]))
    write_video(root / "overlays" / "clip_0001.mp4", drawn, FPS)
    return root


@pytest.fixture
def clip(root: Path) -> Clip:
    return open_dataset(root)["clip_0001"]


def test_frames_come_at_the_times_of_the_clip(clip: Clip) -> None:
    found = list(clip_frames(clip))
    assert [pts_us for pts_us, _ in found] == clip["pts_us"].tolist()
    assert [number_of(rgb) for _, rgb in found] == list(range(FIRST, LAST))
    assert {rgb.shape for _, rgb in found} == {(HEIGHT, WIDTH, 3)}
    assert {rgb.dtype for _, rgb in found} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(("start_s", "end_s"), [(None, 0.5), (0.4, None), (0.333, 0.9), (0.0, 0.01), (1.0, 1.4)])
def test_frames_of_a_window_are_those_of_the_signals(clip: Clip, start_s: float | None, end_s: float | None) -> None:
    pts = clip["pts_us"]
    inside = (pts >= (start_s or 0) * 1e6) & (pts < (end_s or 1e6) * 1e6)
    found = list(clip_frames(clip, start_s, end_s))
    assert [number_of(rgb) - FIRST for _, rgb in found] == np.flatnonzero(inside).tolist() != []
    assert [pts_us for pts_us, _ in found] == pts[inside].tolist()


@pytest.mark.parametrize("window", [(-0.1, 0.5), (0.5, 0.5), (0.5, 1.5), (0.9, 0.2)])
def test_a_window_across_the_border_is_refused_at_once(clip: Clip, window: tuple[float, float]) -> None:
    with pytest.raises(DatasetError, match=r"not inside clip clip_0001, which is 0\.\.1\.4"):
        clip_frames(clip, *window)


def test_single_frames_in_any_order(clip: Clip) -> None:
    for number in (41, 0, 17, 30, 1, -1, -42):
        picture = clip_frame(clip, number)
        assert number_of(picture) == FIRST + number % 42
        assert picture.shape == (HEIGHT, WIDTH, 3)


def test_single_frames_at_uneven_times(root: Path) -> None:
    clip = open_dataset(root, columns=["expression"])["clip_0003"]  # PTS need not be among the columns
    assert [number_of(clip_frame(clip, number)) for number in range(7)] == list(range(7))


@pytest.mark.parametrize("number", [42, -43])
def test_a_frame_that_the_clip_does_not_have(clip: Clip, number: int) -> None:
    with pytest.raises(IndexError, match=f"42 frames, so no frame {number}"):
        clip_frame(clip, number)


def test_a_picture_that_is_missing_or_moved_is_not_replaced_by_its_neighbour(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    pts = (source_pts()[FIRST:LAST] - source_pts()[FIRST]).tolist()
    moved = {4: pts[4] + 20_000, 8: pts[8] + 10_000}  # by more and by less than half a frame
    kept = [(moved.get(i, pts[i]), numbered(FIRST + i)) for i in range(42) if i != 20]
    write_video(copy / "media" / "clip_0001.mp4", kept, FPS)
    clip = open_dataset(copy)["clip_0001"]
    assert number_of(clip_frame(clip, 19)) == FIRST + 19
    assert number_of(clip_frame(clip, 21)) == FIRST + 21
    assert number_of(clip_frame(clip, 8)) == FIRST + 8
    for number in (20, 4):
        with pytest.raises(DatasetError, match=f"no picture within 1668. us .* frame {number} of clip clip_0001"):
            clip_frame(clip, number)


def test_overlay(clip: Clip, root: Path) -> None:
    found = list(clip_frames(clip, 0.0, 0.2, overlay=True))
    assert [number_of(rgb) for _, rgb in found] == list(range(200, 206))
    assert found[0][1].shape == (64, 256, 3)
    assert number_of(clip_frame(clip, 9, overlay=True)) == 209
    with pytest.raises(DatasetError, match=r"no overlays/clip_0002\.mp4.*talkset overlay"):
        clip_frames(open_dataset(root)["clip_0002"], overlay=True)


@pytest.mark.parametrize("rate", [None, 16_000, 48_000, 22_050, 8_000])
@pytest.mark.parametrize("mono", [False, True])
def test_sound_starts_with_the_clip_at_any_rate(clip: Clip, rate: int | None, mono: bool) -> None:
    samples, found = clip_audio(clip, rate, mono)
    assert found == (rate or RATE)
    assert samples.shape == (clip.duration_us * found // 1_000_000, 1 if mono else 2)
    assert samples.dtype == np.float32
    expected_s = PULSE_S - source_pts()[FIRST] / 1e6
    for channel, level in enumerate((0.525,) if mono else (0.7, 0.35)):
        assert abs(centre_of(samples[:, channel], found) - expected_s) < 0.0001  # 1.6 samples at 16 kHz
        assert np.abs(samples[:, channel]).max() == pytest.approx(level, rel=0.05)


def test_resampled_sound_equals_the_tone_itself(clip: Clip) -> None:
    samples, _ = clip_audio(clip, 16_000, mono=True)
    expected_s = PULSE_S - source_pts()[FIRST] / 1e6
    truth = 0.75 * pulse(expected_s, clip.duration_us / 1e6, 16_000)
    total = min(len(truth), len(samples))
    error = np.sqrt(np.mean((samples[:total, 0] - truth[:total]) ** 2) / np.mean(truth**2))
    assert error < 0.1  # AAC; a shift by one sample gives 0.23


def test_sound_that_begins_after_the_clip_is_preceded_by_silence(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    av = pytest.importorskip("av")
    pts = (source_pts()[FIRST:LAST] - source_pts()[FIRST]).tolist()
    with av.open(str(copy / "media" / "clip_0001.mp4"), "w") as container:  # the sound starts at 0.25 s
        video = container.add_stream("mpeg4", rate=30)
        video.width, video.height, video.pix_fmt = WIDTH + 1, HEIGHT + 1, "yuv420p"
        video.codec_context.time_base = Fraction(1, 30_000)
        sound = container.add_stream("flac", rate=16_000)
        sound.layout = "mono"
        for i in range(42):
            frame = av.VideoFrame.from_ndarray(np.zeros((HEIGHT + 1, WIDTH + 1, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(pts[i] * 0.03), Fraction(1, 30_000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = np.full((1, 4096), 8000, np.int16)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 4_000, Fraction(1, 16_000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    clip = open_dataset(copy)["clip_0001"]
    samples, rate = clip_audio(clip)
    assert (rate, len(samples)) == (16_000, clip.duration_us * 16_000 // 1_000_000)
    np.testing.assert_array_equal(np.flatnonzero(samples[:, 0]), np.arange(4_000, 4_000 + 4_096))


def test_a_clip_without_sound(root: Path) -> None:
    clip = open_dataset(root)["clip_0002"]
    assert number_of(clip_frame(clip, 3)) == FIRST + 3
    with pytest.raises(DatasetError, match=r"clip_0002 has no sound.*has_audio == True"):
        clip_audio(clip)


def test_a_file_without_the_sound_that_the_index_promises(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"clip_0003\.mp4 of clip clip_0003 has no sound stream"):
        clip_audio(open_dataset(root)["clip_0003"])


def test_a_clip_without_media(root: Path) -> None:
    clip = open_dataset(root)["clip_0005"]
    for ask in (lambda: clip_frames(clip), lambda: clip_frame(clip, 0), lambda: clip_audio(clip)):
        with pytest.raises(DatasetError, match=r"no media/clip_0005\.mp4 .*media\.enabled=false.*not copied"):
            ask()


def test_damaged_media(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    (copy / "media" / "clip_0001.mp4").write_bytes(b"no video at all" * 100)
    clip = open_dataset(copy)["clip_0001"]
    for ask in (lambda: list(clip_frames(clip)), lambda: clip_frame(clip, 0), lambda: clip_audio(clip)):
        with pytest.raises(DatasetError, match=r"the media of clip clip_0001 cannot be read.*talkset verify"):
            ask()


@pytest.mark.parametrize("rate", [0, -16_000])
def test_a_rate_that_is_none(clip: Clip, rate: int) -> None:
    with pytest.raises(DatasetError, match="positive number of samples per second"):
        clip_audio(clip, rate)


def test_media_at_a_url_gives_the_same(root: Path, clip: Clip) -> None:
    there = open_dataset(root.as_uri())["clip_0001"]
    np.testing.assert_array_equal(clip_frame(there, 7), clip_frame(clip, 7))
    np.testing.assert_array_equal(clip_audio(there, 16_000)[0], clip_audio(clip, 16_000)[0])

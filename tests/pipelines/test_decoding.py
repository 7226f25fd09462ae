"""Decoding in a child gives what decoding here gives, and ends where a file asks for too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import poison_clips
import pytest
from talking_clips import write_clip

from annotate.audio import read_audio
from pipelines import decoding
from pipelines.child import close_children
from pipelines.decoding import GuardedReader, guarded, limits_of
from reconstruct import video
from schemas.config import DecodeConfig
from schemas.errors import TalksetError

CONFIG = DecodeConfig()
FRAMES = 60
POISON = {poison.name: poison for poison in poison_clips.CORPUS}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    noise = np.random.default_rng(0).integers(0, 256, (FRAMES, 120, 160, 3), np.uint8)
    yield write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", list(noise))
    close_children()


def test_the_probe_says_the_same(clip: Path) -> None:
    assert decoding.probe(clip, CONFIG) == video.probe(clip)


@pytest.mark.parametrize("span", [(0, 10**9), (400_000, 1_200_000), (5_000_000, 6_000_000)])
def test_frames_are_the_same(clip: Path, span: tuple[int, int]) -> None:
    here, there = list(video.frames(clip, *span)), list(decoding.frames(clip, *span, CONFIG))
    assert [pts for pts, _ in there] == [pts for pts, _ in here]
    assert all(np.array_equal(a, b) and b.flags.writeable for (_, a), (_, b) in zip(here, there, strict=True))


def test_the_reader_tells_the_same_of_a_truncated_file(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with video.Reader(path) as here, GuardedReader(path, CONFIG) as there:
        assert len(list(here.frames())) == len(list(there.frames())) < FRAMES
        for name in ("info", "truncated", "end_us", "corrupt_packets"):
            assert getattr(there, name) == getattr(here, name)
        assert there.truncated


def test_a_reader_that_is_left_early_leaves_nothing_open(clip: Path) -> None:
    with GuardedReader(clip, CONFIG) as reader:
        next(iter(reader.frames()))
    assert decoding.probe(clip, CONFIG) == video.probe(clip)


def test_sound_is_the_same(clip: Path) -> None:
    found = guarded(clip, CONFIG, read_audio, 100_000, 1_100_000, rate=8000)
    np.testing.assert_array_equal(found, read_audio(clip, 100_000, 1_100_000, rate=8000))


def test_errors_of_files_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("missing.mp4", "text.mp4"):
        with pytest.raises(TalksetError) as here:
            video.probe(tmp_path / name)
        with pytest.raises(TalksetError) as there:
            decoding.probe(tmp_path / name, CONFIG)
        assert there.value.args == here.value.args


@pytest.mark.parametrize(
    ("name", "config", "reason", "setting"),
    [
        ("hanging.mp4", DecodeConfig(stall_s=0.5), "time_limit", "run.decode.stall_s"),
        ("gigapixels.mp4", DecodeConfig(total_s=1.0), "time_limit", "total_s"),
        ("memory bomb.mp4", DecodeConfig(memory_mb=400.0), "memory_limit", "run.decode.memory_mb"),
        ("huge.mp4", CONFIG, "too_large", "limit"),
    ],
)
def test_a_file_that_asks_for_too_much_ends(
    tmp_path: Path, name: str, config: DecodeConfig, reason: str, setting: str
) -> None:
    path = tmp_path / name
    POISON[name].make(path)
    with pytest.raises(TalksetError) as caught:
        list(decoding.frames(path, 0, 10**12, config))
    assert caught.value.reason == reason
    assert str(path) in caught.value.message
    assert setting in caught.value.remedy


def test_no_limit_is_no_limit() -> None:
    limits = limits_of(DecodeConfig(stall_s=0, total_s=0, memory_mb=0))
    assert (limits.seconds, limits.total_seconds) == (float("inf"), float("inf"))
    assert limits.memory_bytes > 1 << 50

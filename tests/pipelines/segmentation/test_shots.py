"""Cuts at exactly the joined frame, and none inside a clip."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.segmentation.shots import find_shots
from reconstruct.video import frames, write_video
from schemas.types import Span

Pictures = list[NDArray[np.uint8]]
STEP = 40_000


def _load(path: Path, count: int = 40) -> Pictures:
    return [rgb for _, rgb in itertools.islice(frames(path, size=(320, 240)), count)]


@pytest.fixture(scope="module")
def clips(eval_data: Path) -> list[Pictures]:
    grid = sorted((eval_data / "grid").glob("*.mpg"))
    signing = [eval_data / "signing" / f"{name}.mkv" for name in ("again", "help", "brother", "yes")]
    one_speaker = sorted((eval_data / "grid_s1").glob("*.mpg"))[:3]
    return [_load(path) for path in (*grid, *signing, *one_speaker)]


def _cuts(pictures: Pictures) -> list[int]:
    found = find_shots((i * STEP, rgb) for i, rgb in enumerate(pictures))
    assert found.transitions == []
    shots = found.shots
    assert shots[0].start_us == 0
    assert shots[-1].end_us == len(pictures) * STEP
    assert all(a.end_us == b.start_us for a, b in itertools.pairwise(shots))
    return [shot.start_us // STEP for shot in shots[1:]]


def test_every_join_is_found_to_the_frame_and_nothing_else(clips: list[Pictures]) -> None:
    joins = np.cumsum([len(clip) for clip in clips])[:-1].tolist()
    assert _cuts([rgb for clip in clips for rgb in clip]) == joins


@pytest.mark.parametrize("crf", [18, 30])
def test_joins_survive_encoding_and_uneven_times(clips: list[Pictures], tmp_path: Path, crf: int) -> None:
    chosen = clips[:3] + clips[6:8] + clips[10:]
    pictures = [rgb for clip in chosen for rgb in clip]
    pts = np.cumsum([0, *([33_000, 50_000, 20_000] * len(pictures))])[: len(pictures)].tolist()
    path = tmp_path / "joined.mp4"
    write_video(path, zip(pts, pictures, strict=True), Fraction(30), crf=crf)
    shots = find_shots(frames(path), end_us=pts[-1] + 33_333).shots
    joins = np.cumsum([0] + [len(clip) for clip in chosen])[:-1]
    assert [shot.start_us for shot in shots] == [pts[i] for i in joins]
    assert shots[-1].end_us == pts[-1] + 33_333


def test_short_shots_are_kept_apart(clips: list[Pictures]) -> None:
    assert _cuts(clips[0][:30] + clips[2][:6] + clips[4][:30]) == [30, 36]


def test_a_flash_is_no_cut(clips: list[Pictures]) -> None:
    for length in (1, 2):
        pictures = list(clips[0])
        for i in range(20, 20 + length):
            pictures[i] = np.full_like(pictures[i], 255)
        assert _cuts(pictures) == []


def test_stutter_is_no_cut(clips: list[Pictures]) -> None:
    moving = clips[7]
    assert _cuts([rgb for rgb in moving[::3] for _ in range(3)]) == []
    assert _cuts(moving[:20] + [moving[19]] * 3 + moving[22:]) == []


def test_motion_of_the_camera_is_no_cut(clips: list[Pictures]) -> None:
    wide = np.concatenate([clips[0][0], clips[1][0][:, ::-1]], axis=1)
    pan = [np.ascontiguousarray(wide[:, x : x + 320]) for x in [0] * 10 + list(range(0, 300, 8)) + [296] * 10]
    assert _cuts(pan) == []


def test_a_higher_threshold_finds_no_more(clips: list[Pictures]) -> None:
    pictures = clips[0] + clips[2]
    assert _cuts(pictures) == [len(clips[0])]
    assert find_shots(((i * STEP, rgb) for i, rgb in enumerate(pictures)), threshold=200.0).shots == [
        Span(0, len(pictures) * STEP)
    ]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_hardly_any_frames(clips: list[Pictures], count: int) -> None:
    shots = find_shots(((i * STEP, rgb) for i, rgb in enumerate(clips[0][:count])), end_us=count * STEP).shots
    assert shots == ([Span(0, count * STEP)] if count else [])

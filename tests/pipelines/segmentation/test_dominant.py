"""The dominant face of sources without sound, and clips that cover a source exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.segmentation.choose import choose_clips
from pipelines.segmentation.faces import FaceFinder
from pipelines.segmentation.scan import Scan, SeenFace
from pipelines.segmentation.tracker import follow_faces
from reconstruct.video import frames
from schemas.config import Config, SegmentConfig
from schemas.errors import UsageError
from schemas.types import Clip, FaceTrack, Rejection, Span

CONFIG = SegmentConfig()
SHA = "0123456789abcdef" * 4
STEP = 40_000
Pictures = list[NDArray[np.uint8]]


def plan_clips(
    sha256: str,
    source_id: str,
    shots: Sequence[Span],
    tracks: Sequence[FaceTrack],
    config: SegmentConfig,
    pts_us: Sequence[int] | NDArray[np.int64],
    end_us: int,
) -> tuple[list[Clip], list[Rejection]]:
    """The division of a source without sound."""
    nothing = np.zeros(0, np.int64), np.zeros((0, 5), np.float32)
    seen = [SeenFace(track, *nothing) for track in tracks]
    scan = Scan(np.asarray(pts_us, np.int64), end_us, list(shots), [], seen)
    chosen = choose_clips(sha256, source_id, scan, None, config, Config().speaker)
    return chosen.clips, chosen.rejections


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder(CONFIG) as finder:
        yield finder


@pytest.fixture(scope="module")
def people(eval_data: Path) -> list[Pictures]:
    paths = sorted((eval_data / "grid").glob("*.mpg"))[:3]
    return [[rgb for _, rgb in frames(path)] for path in paths]


def _plan(finder: FaceFinder, pictures: Pictures) -> tuple[list[Clip], list[Rejection]]:
    clock = [i * STEP for i in range(len(pictures))]
    end = len(pictures) * STEP
    samples = finder.sample(zip(clock, pictures, strict=True))
    shot = Span(0, end)
    return plan_clips(SHA, "source", [shot], follow_faces(samples, shot, CONFIG), CONFIG, clock, end)


def test_every_recording_is_kept_whole(finder: FaceFinder, eval_data: Path) -> None:
    for path in sorted((eval_data / "grid").glob("*.mpg"))[::2]:
        clips, rejections = _plan(finder, [rgb for _, rgb in frames(path)])
        assert [clip.span for clip in clips] == [Span(0, 3_000_000)]
        assert rejections == []
        assert clips[0].clip_id == f"{SHA[:12]}-0000000000-0003000000"
        boxes = clips[0].track.box_xywh
        assert len(boxes) == 15
        assert ((boxes[:, 2] > 100) & (boxes[:, 2] < 180)).all()


def test_no_face(finder: FaceFinder) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (288, 360, 3), dtype=np.uint8)
    clips, rejections = _plan(finder, [noise] * 50)
    assert clips == []
    assert [(r.span, r.reason) for r in rejections] == [(Span(0, 2_000_000), "no_face")]


def test_two_faces_of_one_size_are_ambiguous(finder: FaceFinder, people: list[Pictures]) -> None:
    clips, rejections = _plan(finder, [np.concatenate(pair, axis=1) for pair in zip(*people[:2], strict=True)])
    assert clips == []
    assert [(r.span, r.reason) for r in rejections] == [(Span(0, 3_000_000), "ambiguous_faces")]


def test_a_much_larger_face_is_the_speaker(finder: FaceFinder, people: list[Pictures]) -> None:
    pictures = []
    for one, two in zip(*people[:2], strict=True):
        beside = np.full_like(one, 90)
        beside[100:244, :180] = cv2.resize(two, (180, 144), interpolation=cv2.INTER_AREA)
        pictures.append(np.concatenate([beside, one], axis=1))
    clips, rejections = _plan(finder, pictures)
    assert [clip.span for clip in clips] == [Span(0, 3_000_000)]
    assert rejections == []
    assert (clips[0].track.box_xywh[:, 0] > 360).all()


def test_face_that_leaves_and_returns(finder: FaceFinder, people: list[Pictures]) -> None:
    still = np.concatenate([people[0][0], np.full((288, 500, 3), 90, np.uint8)], axis=1)
    offsets = [0] * 40 + list(range(0, 500, 25)) + [500] * 40 + list(range(500, 0, -25)) + [0] * 40
    pictures = [np.ascontiguousarray(still[:, x : x + 360]) for x in offsets]
    clips, rejections = _plan(finder, pictures)
    assert len(clips) == 2
    assert [r.reason for r in rejections] == ["no_face"]
    gone = [i for i, x in enumerate(offsets) if x > 230]  # the whole face is outside
    assert rejections[0].span.start_us <= gone[0] * STEP + 400_000
    assert rejections[0].span.end_us >= gone[-1] * STEP - 400_000
    assert clips[0].span.start_us == 0
    assert clips[1].span.end_us == len(pictures) * STEP


def _track(start: int, end: int, width: float = 100.0) -> FaceTrack:
    times = np.arange(start, end, 200_000)
    return FaceTrack(times, np.tile(np.array([[10, 10, width, width]], np.float32), (len(times), 1)))


def _covered(clips: list[Clip], rejections: list[Rejection], first: int, end: int) -> None:
    spans = sorted([c.span for c in clips] + [r.span for r in rejections], key=lambda s: s.start_us)
    assert spans[0].start_us == first
    assert spans[-1].end_us == end
    assert all(a.end_us == b.start_us for a, b in itertools.pairwise(spans))
    assert all(s.end_us > s.start_us for s in spans)


def test_long_spans_are_divided_equally() -> None:
    clock = np.arange(75 * 25) * STEP
    clips, rejections = plan_clips(SHA, "s", [Span(0, 75_000_000)], [_track(0, 75_000_000)], CONFIG, clock, 75_000_000)
    assert [c.span for c in clips] == [Span(i * 25_000_000, (i + 1) * 25_000_000) for i in range(3)]
    assert rejections == []
    for clip in clips:
        assert clip.track.pts_us[0] <= clip.span.start_us
        assert clip.track.pts_us[-1] >= clip.span.end_us - 200_000


@pytest.mark.parametrize(
    ("track", "count", "reason"),
    [
        (_track(0, 40_000), 1, "too_short"),
        (_track(0, 120_000), 3, "too_short"),
        (_track(0, 2_000_000, 30.0), 50, "face_too_small"),
    ],
)
def test_reasons(track: FaceTrack, count: int, reason: str) -> None:
    end = count * STEP
    clips, rejections = plan_clips(SHA, "s", [Span(0, end)], [track], CONFIG, np.arange(count) * STEP, end)
    assert clips == []
    assert [(r.span, r.reason) for r in rejections] == [(Span(0, end), reason)]


def test_every_shot_has_its_own_face() -> None:
    clock, end = np.arange(150) * STEP, 6_000_000
    shots = [Span(0, 2_000_000), Span(2_000_000, 2_400_000), Span(2_400_000, end)]
    tracks = [_track(0, 2_000_000), _track(2_000_000, 2_400_000), _track(2_400_000, end)]
    clips, rejections = plan_clips(SHA, "s", shots, tracks, CONFIG, clock, end)
    assert [c.span for c in clips] == [shots[0], shots[2]]
    assert [(r.span, r.reason) for r in rejections] == [(shots[1], "too_short")]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_clips_and_rejections_cover_the_source(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(5_000, 400_000), min_size=1, max_size=120))
    borders = np.cumsum([data.draw(st.integers(0, 100_000)), *steps])
    clock, end = borders[:-1], int(borders[-1])
    cuts = sorted(data.draw(st.sets(st.sampled_from(list(range(len(clock)))), max_size=4)) - {0})
    edges = [int(clock[0]), *(int(clock[i]) for i in cuts), end]
    shots = [Span(a, b) for a, b in itertools.pairwise(edges)]
    least, most = data.draw(st.sampled_from([(0.3, 1.0), (0.3, 3.0), (1.0, 3.0), (1.0, 1.5)]))
    config = replace(CONFIG, min_clip_s=least, max_clip_s=most)
    tracks = []
    for shot in shots:
        for _ in range(data.draw(st.integers(0, 3))):
            times = [int(t) for t in clock if shot.start_us <= t < shot.end_us]
            chosen = sorted(data.draw(st.sets(st.sampled_from(times), min_size=1)))
            width = data.draw(st.sampled_from([30.0, 60.0, 100.0]))
            tracks.append(FaceTrack(np.array(chosen), np.full((len(chosen), 4), width, np.float32)))
    clips, rejections = plan_clips(SHA, "s", shots, tracks, config, clock, end)
    _covered(clips, rejections, int(clock[0]), end)
    on_border = set(borders.tolist())
    for span in [c.span for c in clips] + [r.span for r in rejections]:
        assert {span.start_us, span.end_us} <= on_border
    for clip in clips:
        assert config.min_clip_s <= (clip.span.end_us - clip.span.start_us) / 1e6 <= config.max_clip_s
        assert any(s.start_us <= clip.span.start_us and clip.span.end_us <= s.end_us for s in shots)
        assert len(clip.track.pts_us) > 0
    assert len({clip.clip_id for clip in clips}) == len(clips)


def test_contradicting_lengths_and_times_are_refused() -> None:
    with pytest.raises(UsageError, match="min_clip_s"):
        plan_clips(SHA, "s", [], [], replace(CONFIG, min_clip_s=40.0), [0], 1)
    with pytest.raises(UsageError, match="grow"):
        plan_clips(SHA, "s", [], [], CONFIG, [0, 0], 1)

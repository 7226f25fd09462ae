"""Contract of every landmark backend on real faces: who, where, how exactly, and when not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.landmarks import BACKENDS, LandmarkDetector, make_detector
from reconstruct.landmarks import topology as topo
from reconstruct.video import frames
from schemas.config import LandmarkConfig
from schemas.errors import UsageError
from schemas.types import FaceTrack, LandmarkTrack

Pictures = list[NDArray[np.uint8]]
STEP = 40_000
START = 7_000_000


@pytest.fixture(scope="module", params=BACKENDS)
def detector(request: pytest.FixtureRequest) -> Iterator[LandmarkDetector]:
    with make_detector(LandmarkConfig(backend=request.param)) as detector:
        yield detector


@pytest.fixture(scope="module")
def people(eval_data: Path) -> list[Pictures]:
    paths = sorted((eval_data / "grid").glob("*.mpg"))[:2]
    return [[rgb for _, rgb in frames(path, 0, 1_000_000)] for path in paths]


@pytest.fixture(scope="module")
def box(detector: LandmarkDetector, people: list[Pictures]) -> NDArray[np.float64]:
    """x, y, width, height of the first person's face, from its points."""
    points = detector.detect_image(people[0][0])
    assert points is not None
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([*low, *(high - low)], np.float64)


def _run(detector: LandmarkDetector, pictures: Pictures, boxes: NDArray[np.float64]) -> LandmarkTrack:
    rows = np.atleast_2d(boxes).astype(np.float32)
    times = START + np.round(np.linspace(0, (len(pictures) - 1) * STEP, len(rows))).astype(np.int64)
    height, width = pictures[0].shape[:2]
    clock = ((START + i * STEP, rgb) for i, rgb in enumerate(pictures))
    return detector.detect(clock, FaceTrack(times, rows), width, height)


def _moved(
    rgb: NDArray[np.uint8], scale: float, shift: tuple[float, float], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Continuous point p of the picture goes to scale * p + shift."""
    offset = np.array(shift) + 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    return np.asarray(
        cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def test_points_of_a_recording(detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]) -> None:
    track = _run(detector, people[0], box)
    count = len(people[0])
    assert track.face_xy.shape == (count, topo.NUM_POINTS, 2)
    assert track.face_xy.dtype == np.float32
    assert track.pts_us.tolist() == [i * STEP for i in range(count)]
    assert track.valid.all()
    assert np.isfinite(track.face_xy).all()
    assert (track.width, track.height) == (360, 288)
    assert track.detector == detector.name
    assert any(letter.isdigit() for letter in detector.name)


def test_sides_are_the_subjects(detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]) -> None:
    points = _run(detector, people[0][:3], box).face_xy[-1]
    assert points[topo.LEFT_EYE_OUTER, 0] > points[topo.RIGHT_EYE_OUTER, 0]  # the subject's left is on our right
    for side in ("LEFT", "RIGHT"):
        iris, upper, lower, brow = (
            getattr(topo, f"{side}_{part}") for part in ("IRIS", "EYE_UPPER", "EYE_LOWER", "BROW")
        )
        outer, inner = getattr(topo, f"{side}_EYE_OUTER"), getattr(topo, f"{side}_EYE_INNER")
        assert upper[0] == lower[0] == outer
        assert upper[-1] == lower[-1] == inner
        centre = points[iris[0]]
        low, high = sorted(points[[outer, inner], 0])
        assert low < centre[0] < high
        assert np.abs(points[iris[1:]].mean(axis=0) - centre).max() < 1.0
        assert points[upper[1:-1], 1].mean() < centre[1] < points[lower[1:-1], 1].mean()
        assert points[brow, 1].mean() < points[upper, 1].mean()
    assert points[topo.UPPER_LIP_INNER_MIDDLE, 1] < points[topo.LOWER_LIP_INNER_MIDDLE, 1] + 0.5
    distance = topo.interocular(points[None])
    assert distance.shape == (1,)
    assert 50 < distance[0] < 90


def test_rings_are_in_order_and_nested(detector: LandmarkDetector, people: list[Pictures]) -> None:
    points = detector.detect_image(people[1][0])
    assert points is not None

    def area(ring: NDArray[np.int64]) -> float:
        x, y = points[ring].T.astype(np.float64)
        return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)

    rings = (topo.LIPS_INNER, topo.LIPS_OUTER, topo.FACE_OVAL)
    assert area(rings[0]) < area(rings[1]) < area(rings[2])
    for ring in rings[1:]:  # convex enough: a ring out of order would enclose far less than its hull
        assert area(ring) > 0.85 * cv2.contourArea(cv2.convexHull(points[ring]))
    for name in ("FACE_OVAL", "LIPS_OUTER", "LIPS_INNER", "NOSE", "LEFT_BROW", "RIGHT_BROW"):
        index = getattr(topo, name)
        assert len(set(index.tolist())) == len(index)
        assert index.max() < 468


@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1.0, (7.0, -4.0)), (1.0, (3.37, 5.61)), (1.0, (60.0, 40.0)), (1.6, (-70.2, -90.4)), (0.75, (20.3, 10.8))],
)
def test_points_follow_a_moved_and_scaled_picture(
    detector: LandmarkDetector,
    people: list[Pictures],
    box: NDArray[np.float64],
    scale: float,
    shift: tuple[float, float],
) -> None:
    pictures = people[0][:10]
    plain = _run(detector, pictures, box)
    moved_box = np.array([*(box[:2] * scale + shift), *(box[2:] * scale)])
    moved = _run(detector, [_moved(rgb, scale, shift, (440, 420)) for rgb in pictures], moved_box)
    assert moved.valid.all()
    error = (moved.face_xy - np.array(shift)) / scale - plain.face_xy
    assert np.linalg.norm(error, axis=-1).mean() < 0.3  # source pixels; the face is 130 px wide
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.12  # no systematic offset: the pixel grids agree


def test_points_do_not_depend_on_the_box(detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]) -> None:  # fmt: skip # noqa: E501
    pictures = people[0][:10]
    plain = _run(detector, pictures, box)
    other = _run(detector, pictures, box + np.array([12.0, -9.0, 10.0, 14.0]))
    assert np.linalg.norm(other.face_xy - plain.face_xy, axis=-1).mean() < 0.4


def test_whole_picture_and_crop_agree(detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]) -> None:  # fmt: skip # noqa: E501
    points = detector.detect_image(people[0][0])
    assert points is not None
    track = _run(detector, people[0][:1], box)
    assert np.linalg.norm(points - track.face_xy[0], axis=-1).mean() < 0.4
    assert detector.detect_image(np.full((200, 300, 3), 80, np.uint8)) is None


def test_points_of_a_tilted_face_in_a_wide_picture(detector: LandmarkDetector, people: list[Pictures]) -> None:
    plain = detector.detect_image(people[0][0])
    assert plain is not None
    for angle in (-25.0, 25.0):
        turn = cv2.getRotationMatrix2D((155, 185), angle, 1)
        tilted = cv2.warpAffine(people[0][0], turn, (640, 288), borderMode=cv2.BORDER_REPLICATE)
        points = detector.detect_image(np.asarray(tilted, np.uint8))
        assert points is not None
        assert np.linalg.norm(points - plain @ turn[:, :2].T - turn[:, 2], axis=1).mean() < 1.5


def test_nothing_is_carried_from_clip_to_clip(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]
) -> None:
    first = _run(detector, people[0], box)
    _run(detector, people[1], box)
    again = _run(detector, people[0], box)
    assert np.array_equal(first.face_xy, again.face_xy)


def test_of_two_faces_the_tracked_one_is_taken(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]
) -> None:
    pictures = [np.concatenate(pair, axis=1) for pair in zip(people[0][:8], people[1][:8], strict=True)]
    other = detector.detect_image(people[1][0])
    assert other is not None
    left = _run(detector, pictures, box)
    right = _run(detector, pictures, np.concatenate([other.min(axis=0) + np.array([360, 0]), np.ptp(other, axis=0)]))
    assert left.valid.all()
    assert right.valid.all()
    assert left.face_xy[..., 0].max() < 360 < right.face_xy[..., 0].min()


def test_a_face_elsewhere_is_not_the_tracked_one(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]
) -> None:
    for wrong in (box + np.array([110.0, 0, 0, 0]), box * [1, 1, 0.35, 0.35]):
        assert not _run(detector, people[0][:5], wrong).valid.any()


def test_a_face_that_leaves_the_picture_is_marked(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]
) -> None:
    offsets = np.round(np.concatenate([np.zeros(8), np.linspace(0, 300, 30), np.full(6, 300)])).astype(int)
    wide = np.concatenate([people[0][0], np.full((288, 400, 3), 90, np.uint8)], axis=1)
    pictures = [np.ascontiguousarray(wide[:, x : x + 360]) for x in offsets]
    track = _run(detector, pictures, np.array([box - np.array([x, 0, 0, 0]) for x in offsets]))
    shown = (box[0] + box[2] - offsets) / box[2]  # part of the face within the picture
    assert track.valid[shown >= 1.0].all()
    assert not track.valid[shown < 0.35].any()
    assert np.isnan(track.face_xy[~track.valid]).all()
    assert np.isfinite(track.face_xy[track.valid]).all()
    reference = track.face_xy[0, topo.NOSE_TIP, 0] - offsets
    inside = shown >= 1.0
    assert np.abs(track.face_xy[inside, topo.NOSE_TIP, 0] - reference[inside]).max() < 2.0


def test_dark_frames_are_holes_and_the_face_comes_back(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]
) -> None:
    pictures = [np.zeros_like(rgb) if 5 <= i < 9 else rgb for i, rgb in enumerate(people[0][:16])]
    track = _run(detector, pictures, box)
    assert not track.valid[5:9].any()
    assert track.valid[:5].all()
    assert track.valid[10:].all()


def test_empty_clip_and_wrong_size(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]
) -> None:
    track = FaceTrack(np.array([0]), box[None].astype(np.float32))
    empty = detector.detect([], track, 360, 288)
    assert empty.face_xy.shape == (0, topo.NUM_POINTS, 2)
    assert len(empty.pts_us) == len(empty.valid) == 0
    with pytest.raises(UsageError, match="360x288"):
        detector.detect([(0, people[0][0])], track, 320, 240)
    with pytest.raises(UsageError, match="empty"):
        detector.detect([], FaceTrack(np.zeros(0, np.int64), np.zeros((0, 4), np.float32)), 360, 288)


def test_unknown_backend_names_the_known() -> None:
    with pytest.raises(UsageError, match="mediapipe"):
        make_detector(LandmarkConfig(backend="dlib"))


QUIET = """
import os, sys
import numpy as np
from reconstruct.landmarks import make_detector
from schemas.config import LandmarkConfig
from schemas.types import FaceTrack
picture = np.load(sys.argv[1])
track = FaceTrack(np.array([0]), np.array([[90, 120, 130, 130]], np.float32))
with make_detector(LandmarkConfig()) as detector:
    assert detector.detect_image(picture) is not None
    for _ in range(2):
        assert detector.detect([(0, picture)], track, 360, 288).valid.all()
os.write(2, b"a real message\\n")
"""


def test_stderr_carries_no_chatter(people: list[Pictures], tmp_path: Path) -> None:
    np.save(tmp_path / "picture.npy", people[0][0])
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path / "picture.npy")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.stderr == "a real message\n"
    assert done.stdout == ""

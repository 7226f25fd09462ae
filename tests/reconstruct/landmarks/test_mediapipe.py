"""Both MediaPipe backends on faces: which point is where, which face is taken, what covers do to the confidence."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from landmark_clips import REPOSITORY, Pictures, box_of, config_of, run
from numpy.typing import NDArray

from reconstruct.landmarks import LandmarkDetector, make_detector
from reconstruct.landmarks import topology as topo
from reconstruct.models.arkit import ARKIT_NAMES
from schemas.errors import TalksetError
from schemas.types import LandmarkTrack


@pytest.fixture(scope="module", params=["mediapipe", "mediapipe-tasks"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LandmarkDetector]:
    with make_detector(config_of(request.param, tmp_path_factory.mktemp("models"), every=1)) as detector:
        yield detector


@pytest.fixture(scope="module")
def box(detector: LandmarkDetector, faces: list[Pictures]) -> NDArray[np.float64]:
    return box_of(detector, faces[0][0])


@pytest.fixture(scope="module")
def plain(detector: LandmarkDetector, faces: list[Pictures], box: NDArray[np.float64]) -> LandmarkTrack:
    return run(detector, faces[0], box)


def test_sides_are_the_subjects(plain: LandmarkTrack) -> None:
    points = plain.face_xy[-1]
    assert points[topo.LEFT_EYE_OUTER, 0] > points[topo.RIGHT_EYE_OUTER, 0]  # the subject's left is on our right
    for side in ("LEFT", "RIGHT"):
        iris, upper, lower, brow = (
            getattr(topo, f"{side}_{part}") for part in ("IRIS", "EYE_UPPER", "EYE_LOWER", "BROW")
        )
        centre = points[iris[0]]
        low, high = sorted(points[[upper[0], upper[-1]], 0])
        assert low < centre[0] < high
        assert np.abs(points[iris[1:]].mean(axis=0) - centre).max() < 1.0
        assert points[upper[1:-1], 1].mean() < centre[1] < points[lower[1:-1], 1].mean()
        assert points[brow, 1].mean() < points[upper, 1].mean()
    assert points[topo.UPPER_LIP_INNER_MIDDLE, 1] < points[topo.LOWER_LIP_INNER_MIDDLE, 1] + 0.5


def test_rings_are_in_order_and_nested(plain: LandmarkTrack) -> None:
    points = plain.face_xy[0]

    def area(ring: NDArray[np.int64]) -> float:
        x, y = points[ring].T.astype(np.float64)
        return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)

    rings = (topo.LIPS_INNER, topo.LIPS_OUTER, topo.FACE_OVAL)
    assert area(rings[0]) < area(rings[1]) < area(rings[2])
    for ring in rings[1:]:  # convex enough: a ring out of order would enclose far less than its hull
        assert area(ring) > 0.85 * cv2.contourArea(cv2.convexHull(points[ring]))


def test_a_mirrored_picture_gives_mirrored_points(
    detector: LandmarkDetector, faces: list[Pictures], plain: LandmarkTrack
) -> None:
    """With a wrong permutation of the points some would be an eye's width away."""
    rgb = faces[0][0]
    points = detector.detect_image(np.ascontiguousarray(rgb[:, ::-1]))
    assert points is not None
    back = (points * [-1, 1] + [rgb.shape[1], 0])[topo.MEDIAPIPE.mirror]
    distance = np.linalg.norm(back - plain.face_xy[0], axis=1) / topo.interocular(plain.face_xy[0])
    assert distance.mean() < 0.03
    assert distance.max() < 0.12


def test_points_of_a_tilted_face_in_a_wide_picture(detector: LandmarkDetector, faces: list[Pictures]) -> None:
    rgb = faces[0][0]
    plain = detector.detect_image(rgb)
    assert plain is not None
    middle = plain.mean(axis=0)
    for angle in (-25.0, 25.0):
        turn = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), angle, 1)
        tilted = cv2.warpAffine(rgb, turn, (rgb.shape[1] + 280, rgb.shape[0]), borderMode=cv2.BORDER_REPLICATE)
        points = detector.detect_image(np.asarray(tilted, np.uint8))
        assert points is not None
        error = np.linalg.norm(points - plain @ turn[:, :2].T - turn[:, 2], axis=1).mean()
        assert error < 0.025 * topo.interocular(plain)


def test_points_do_not_depend_on_the_box(
    detector: LandmarkDetector, faces: list[Pictures], box: NDArray[np.float64], plain: LandmarkTrack
) -> None:
    size = box[2:].mean()
    other = run(detector, faces[0], box + size * np.array([0.09, -0.07, 0.08, 0.1]))
    assert np.linalg.norm(other.face_xy - plain.face_xy, axis=-1).mean() < 0.003 * size


def test_a_jump_arrives_at_once(detector: LandmarkDetector, faces: list[Pictures], box: NDArray[np.float64]) -> None:
    """No filter over time: the frame after a jump has the points of the frames that stay there."""
    rgb = faces[0][0]
    shift = round(0.05 * box[2])
    there = np.roll(rgb, shift, axis=1)
    track = run(detector, [rgb] * 5 + [there] * 6, box)
    late = track.face_xy[5, :, 0] - track.face_xy[-1, :, 0]
    assert abs(float(late.mean())) < 0.1 * shift


def test_of_two_faces_the_tracked_one_is_taken(
    detector: LandmarkDetector, faces: list[Pictures], box: NDArray[np.float64]
) -> None:
    pictures = [np.concatenate(pair, axis=1) for pair in zip(faces[0][:6], faces[1][:6], strict=True)]
    width = faces[0][0].shape[1]
    left = run(detector, pictures, box)
    right = run(detector, pictures, box_of(detector, faces[1][0]) + np.array([width, 0, 0, 0]))
    assert left.valid.all()
    assert right.valid.all()
    assert left.face_xy[..., 0].max() < width < right.face_xy[..., 0].min()


def test_a_face_elsewhere_is_not_the_tracked_one(
    detector: LandmarkDetector, faces: list[Pictures], box: NDArray[np.float64]
) -> None:
    for wrong in (box + np.array([0.95 * box[2], 0, 0, 0]), box * [1, 1, 0.35, 0.35]):
        assert not run(detector, faces[0][:4], wrong).valid.any()


def test_a_face_that_leaves_the_picture_is_marked(
    detector: LandmarkDetector, faces: list[Pictures], box: NDArray[np.float64]
) -> None:
    rgb = faces[0][0]
    height, width = rgb.shape[:2]
    reach = box[0] + box[2]
    offsets = np.round(np.concatenate([np.zeros(4), np.linspace(0, reach + 20, 24), np.full(3, reach + 20)])).astype(
        int
    )
    wide = np.concatenate([rgb, np.full((height, int(reach) + 40, 3), 90, np.uint8)], axis=1)
    pictures = [np.ascontiguousarray(wide[:, x : x + width]) for x in offsets]
    track = run(detector, pictures, np.array([box - np.array([x, 0, 0, 0]) for x in offsets]))
    shown = (box[0] + box[2] - offsets) / box[2]  # part of the face within the picture
    assert track.valid[offsets < box[0]].all()
    assert not track.valid[shown < 0.35].any()


def test_a_covered_part_is_trusted_less(
    detector: LandmarkDetector, faces: list[Pictures], box: NDArray[np.float64], plain: LandmarkTrack
) -> None:
    """A skin-coloured ellipse over the mouth, like a hand: confidence falls there and more than elsewhere."""
    first = plain.face_xy[0]
    size = float(topo.interocular(first))
    covered = []
    for rgb, points in zip(faces[0], plain.face_xy, strict=True):
        mouth = points[topo.LIPS_OUTER].mean(axis=0)
        colour = rgb[int(points[5, 1]), int(points[5, 0])].tolist()
        axes = (round(0.55 * size), round(0.3 * size))
        at = (round(float(mouth[0])), round(float(mouth[1])))
        covered.append(np.asarray(cv2.ellipse(rgb.copy(), at, axes, 20, 0, 360, colour, -1), np.uint8))
    track = run(detector, covered, box)
    seen = track.valid
    assert seen.any()
    lost = (plain.confidence[seen] - track.confidence[seen]).mean(axis=0)
    assert lost[topo.LIPS_OUTER].mean() > 0.05
    assert lost[topo.LIPS_OUTER].mean() > lost[np.concatenate([topo.LEFT_BROW, topo.RIGHT_BROW])].mean() + 0.05


def test_blend_shapes_have_arkits_names_and_follow_the_mouth(
    detector: LandmarkDetector, faces: list[Pictures], plain: LandmarkTrack
) -> None:
    if "tasks" not in detector.name:
        assert plain.blendshapes is None
        return
    track = run(detector, faces[1], box_of(detector, faces[1][0]))
    assert plain.blendshapes is not None
    assert track.blendshapes is not None
    weights = np.concatenate([plain.blendshapes, track.blendshapes])
    points = np.concatenate([plain.face_xy, track.face_xy])
    assert weights.shape == (len(points), len(ARKIT_NAMES))
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert (weights[:, ARKIT_NAMES.index("tongueOut")] == 0).all()
    gap = (points[:, topo.LOWER_LIP_INNER_MIDDLE, 1] - points[:, topo.UPPER_LIP_INNER_MIDDLE, 1]) / topo.interocular(
        points
    )
    opening = weights[:, ARKIT_NAMES.index("jawOpen")]
    if np.ptp(gap) > 0.05:
        assert np.corrcoef(gap, opening)[0, 1] > 0.7


def test_without_confidence_all_points_count_alike(tmp_path: Path, faces: list[Pictures]) -> None:
    with make_detector(config_of("mediapipe", tmp_path, confidence="none")) as detector:
        track = run(detector, faces[0][:2], box_of(detector, faces[0][0]))
    assert (track.confidence == 1).all()


def test_a_file_that_is_no_model_is_named(tmp_path: Path, faces: list[Pictures]) -> None:
    config = config_of("mediapipe-tasks", tmp_path)
    path = tmp_path / "broken.task"
    path.write_bytes(b"no model")
    with (
        make_detector(dataclasses.replace(config, task_path=str(path))) as detector,
        pytest.raises(TalksetError, match=r"broken\.task is no FaceLandmarker model") as caught,
    ):
        detector.detect_image(faces[0][0])
    assert caught.value.reason == "corrupt_data"


QUIET = """
import os, sys
import numpy as np
from reconstruct.landmarks import make_detector
from schemas.config import LandmarkConfig
from schemas.types import FaceTrack
picture = np.load(sys.argv[1])
config = LandmarkConfig(backend=sys.argv[2], task_path=sys.argv[3])
with make_detector(config) as detector:
    points = detector.detect_image(picture)
    low, high = points.min(axis=0), points.max(axis=0)
    track = FaceTrack(np.array([0]), np.array([[*low, *(high - low)]], np.float32))
    for _ in range(2):
        assert detector.detect([(0, picture)], track, picture.shape[1], picture.shape[0]).valid.all()
os.write(2, b"a real message\\n")
"""


@pytest.mark.parametrize("backend", ["mediapipe", "mediapipe-tasks"])
def test_stderr_carries_no_chatter(backend: str, faces: list[Pictures], tmp_path: Path) -> None:
    np.save(tmp_path / "picture.npy", faces[0][0])
    task = config_of(backend, tmp_path).task_path
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path / "picture.npy"), backend, str(task)],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.stderr == "a real message\n"
    assert done.stdout == ""

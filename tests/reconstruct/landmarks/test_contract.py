"""The contract of every landmark backend: what a clip gives, where, how exactly, and when not."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from landmark_clips import START, STEP, Pictures, box_of, config_of, run
from made_up_network import dot_of, grey
from numpy.typing import NDArray

from reconstruct.landmarks import BACKENDS, LandmarkDetector, make_detector
from reconstruct.landmarks.topology import topology_of
from schemas.config import LandmarkConfig
from schemas.errors import UsageError
from schemas.types import FaceTrack, LandmarkTrack


@pytest.fixture(scope="module", params=BACKENDS)
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LandmarkDetector]:
    with make_detector(config_of(request.param, tmp_path_factory.mktemp("models"))) as detector:
        yield detector


@pytest.fixture(scope="module")
def people(detector: LandmarkDetector, faces: list[Pictures], dotted: list[Pictures]) -> list[Pictures]:
    return dotted if detector.name.startswith("face-alignment") else faces


@pytest.fixture(scope="module")
def box(detector: LandmarkDetector, people: list[Pictures]) -> NDArray[np.float64]:
    return box_of(detector, people[0][0])


@pytest.fixture(scope="module")
def plain(detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64]) -> LandmarkTrack:
    return run(detector, people[0], box)


def moved(rgb: NDArray[np.uint8], scale: float, shift: tuple[float, float], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Continuous point p of the picture goes to scale * p + shift."""
    offset = np.array(shift) + 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    return np.asarray(
        cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def test_what_a_clip_gives(detector: LandmarkDetector, people: list[Pictures], plain: LandmarkTrack) -> None:
    count, points = len(people[0]), topology_of(detector.name).num_points
    assert detector.topology is topology_of(detector.name)
    assert plain.face_xy.shape == (count, points, 2)
    assert plain.confidence.shape == (count, points)
    assert plain.face_xy.dtype == plain.confidence.dtype == np.float32
    assert plain.pts_us.tolist() == [i * STEP for i in range(count)]
    assert plain.valid.all()
    assert np.isfinite(plain.face_xy).all()
    assert plain.confidence.min() >= 0
    assert plain.confidence.max() <= 1
    assert 0.3 < plain.confidence.mean() < 1
    assert (plain.height, plain.width) == people[0][0].shape[:2]
    assert plain.detector == detector.name
    assert any(letter.isdigit() for letter in detector.name)


def test_frames_without_the_face_are_holes(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64], plain: LandmarkTrack
) -> None:
    empty = grey(plain.width, plain.height)
    track = run(detector, [empty if 4 <= i < 8 else rgb for i, rgb in enumerate(people[0])], box)
    assert not track.valid[4:8].any()
    assert track.valid[:4].all()
    assert track.valid[9:].all()
    for values in (track.face_xy, track.confidence, track.blendshapes):
        if values is not None:
            assert np.isnan(values[~track.valid]).all()
            assert np.isfinite(values[track.valid]).all()
    assert np.array_equal(track.face_xy[:4], plain.face_xy[:4])


@pytest.mark.parametrize(("scale", "shift"), [(1.0, (3.37, 5.61)), (1.6, (-70.2, -90.4)), (0.75, (20.3, 10.8))])
def test_points_follow_a_moved_and_scaled_picture(
    detector: LandmarkDetector,
    people: list[Pictures],
    box: NDArray[np.float64],
    plain: LandmarkTrack,
    scale: float,
    shift: tuple[float, float],
) -> None:
    size = (round(1.2 * plain.width), round(1.4 * plain.height))
    there = np.array([*(box[:2] * scale + shift), *(box[2:] * scale)])
    track = run(detector, [moved(rgb, scale, shift, size) for rgb in people[0]], there)
    assert track.valid.all()
    error = ((track.face_xy - np.array(shift)) / scale - plain.face_xy) / box[2:].mean()
    assert np.linalg.norm(error, axis=-1).mean() < 0.0025  # of the face's size: 0.3 px of the recordings
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.001  # no systematic offset: the pixel grids agree


def test_nothing_is_carried_from_clip_to_clip(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64], plain: LandmarkTrack
) -> None:
    run(detector, people[1], box_of(detector, people[1][0]))
    again = run(detector, people[0], box)
    assert np.array_equal(plain.face_xy, again.face_xy)
    assert np.array_equal(plain.confidence, again.confidence)
    if plain.blendshapes is not None and again.blendshapes is not None:
        assert np.array_equal(plain.blendshapes, again.blendshapes)


def test_a_single_picture_agrees_with_the_clip(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64], plain: LandmarkTrack
) -> None:
    points = detector.detect_image(people[0][0])
    assert points is not None
    error = points - plain.face_xy[0]
    if detector.name.startswith("face-alignment"):  # its made-up network scales its points with the crop
        error = np.asarray(dot_of(points) - dot_of(plain.face_xy[0]), np.float32)
    assert np.linalg.norm(error, axis=-1).mean() < 0.004 * box[2:].mean()
    again = detector.detect_image(people[0][0])
    assert again is not None
    assert np.array_equal(points, again)
    assert detector.detect_image(grey(300, 200)) is None


def test_empty_clips_and_wrong_sizes_are_named(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64], plain: LandmarkTrack
) -> None:
    track = FaceTrack(np.array([0]), box[None].astype(np.float32))
    empty = detector.detect([], track, plain.width, plain.height)
    assert empty.face_xy.shape == (0, detector.topology.num_points, 2)
    assert empty.confidence.shape == (0, detector.topology.num_points)
    assert len(empty.pts_us) == len(empty.valid) == 0
    with pytest.raises(UsageError, match=f"{plain.width}x{plain.height}, not 99x98"):
        detector.detect([(0, people[0][0])], track, 99, 98)
    with pytest.raises(UsageError, match="track of the clip is empty"):
        detector.detect([], FaceTrack(np.zeros(0, np.int64), np.zeros((0, 4), np.float32)), plain.width, plain.height)


def test_the_clock_starts_at_the_first_frame(
    detector: LandmarkDetector, people: list[Pictures], box: NDArray[np.float64], plain: LandmarkTrack
) -> None:
    times = [START, START + 33_000, START + 100_000]
    clock = zip(times, people[0], strict=False)
    track = detector.detect(
        clock, FaceTrack(np.array([START]), box[None].astype(np.float32)), plain.width, plain.height
    )
    assert track.pts_us.tolist() == [0, 33_000, 100_000]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"backend": "dlib"}, "unknown landmarks.backend 'dlib'. Choose one of mediapipe, mediapipe-tasks"),
        ({"confidence": "guess"}, "unknown landmarks.confidence 'guess'. Choose one of none, flip, crops"),
        ({"confidence_every": 0}, "landmarks.confidence_every is 0"),
        ({"backend": "mediapipe-tasks"}, "Set landmarks.task_path to a .task file"),
        ({"backend": "mediapipe-tasks", "task_path": "/no/such.task"}, "/no/such.task: No such file"),
    ],
)
def test_wrong_settings_are_named(setting: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_detector(LandmarkConfig(**setting))  # type: ignore[arg-type]
    assert message in str(caught.value)

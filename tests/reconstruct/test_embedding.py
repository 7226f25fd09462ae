"""The landmark embedding: its geometry on the open head, how it is computed, and its cache."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.appearance import Look
from reconstruct.calibration import (
    SIZE_PX,
    View,
    closest_points,
    compute_embedding,
    default_views,
    least_reprojection,
    render_view,
)
from reconstruct.embedding import Embedding, cached_embedding, embedding_path
from reconstruct.landmarks import topology
from reconstruct.landmarks.mediapipe import MediapipeDetector
from reconstruct.models.head_model import HeadModel
from schemas.config import LandmarkConfig
from schemas.errors import TalksetError

IRISES = (*topology.LEFT_IRIS.tolist(), *topology.RIGHT_IRIS.tolist())
MIRRORED = (
    (topology.RIGHT_EYE_UPPER, topology.LEFT_EYE_UPPER),
    (topology.RIGHT_EYE_LOWER, topology.LEFT_EYE_LOWER),
    (topology.RIGHT_BROW, topology.LEFT_BROW),
    (topology.RIGHT_IRIS[[0, 2, 4]], topology.LEFT_IRIS[[0, 2, 4]]),  # centre, top, bottom
    (np.array([61, 78, 234]), np.array([291, 308, 454])),  # mouth corners, ears
)


def placed_mm(model: HeadModel, embedding: Embedding) -> NDArray[np.float64]:
    """Landmarks (478, 3) on the mean head, x towards the subject's left, y up, z out of the face."""
    corners = model.v_template[embedding.vertices].astype(np.float64)
    return np.asarray(1000 * (embedding.barycentric[:, :, None] * corners).sum(1))


def region_mm(model: HeadModel, name: str) -> NDArray[np.float64]:
    return np.asarray(1000 * model.v_template[model.regions[name]].astype(np.float64))


def test_closest_points_against_a_dense_sample() -> None:
    random = np.random.default_rng(3)
    triangles = random.normal(size=(30, 3, 3))
    triangles[7, 2] = triangles[7, 0] + 0.3 * (triangles[7, 1] - triangles[7, 0])  # a line
    triangles[8] = triangles[8, 0]  # a point
    points = np.concatenate(
        [2 * random.normal(size=(40, 3)), triangles.mean(1)[:5], triangles[7, :1], triangles[8, :1]]
    )
    chosen, weights = closest_points(points, triangles)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    found = np.linalg.norm((weights[:, :, None] * triangles[chosen]).sum(1) - points, axis=1)

    steps = 60
    grid = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    samples = (grid @ triangles).reshape(-1, 3)
    sampled = np.array([np.linalg.norm(samples - point, axis=1).min() for point in points])
    spacing = max(np.linalg.norm(t - t[[1, 2, 0]], axis=1).max() for t in triangles) / steps
    assert (found <= sampled + 1e-9).all()
    assert (found >= sampled - spacing).all()
    assert found[-7:] == pytest.approx(0, abs=1e-9)


def test_the_least_reprojection_against_a_dense_sample() -> None:
    """Twenty triangles seen in nine views, detections near, on and beside them."""
    random = np.random.default_rng(5)
    corners = random.uniform(0, 40, (20, 3, 2)) + random.normal(0, 2, (9, 20, 3, 2))
    steps = 40
    grid = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    for detected in (
        corners[:, 4].mean(1),
        corners[:, 7, 1],
        np.tile([-30.0, 20.0], (9, 1)),
        random.uniform(0, 40, (9, 2)),
    ):
        chosen, weights, error_px = least_reprojection(detected, corners)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)
        placed = (weights[:, None] * corners[:, chosen]).sum(1)
        assert np.sqrt(((placed - detected) ** 2).sum(1).mean()) == pytest.approx(error_px, abs=1e-6)
        samples = np.einsum("gc,nfcp->nfgp", grid, corners)
        sampled = np.sqrt(((samples - detected[:, None, None]) ** 2).sum(3).mean(0)).min()
        assert sampled - 1.0 < error_px < sampled + 1e-6
    exact = np.array([0.2, 0.5, 0.3])
    assert least_reprojection((exact[:, None] * corners[:, 11]).sum(1), corners[:, 11:12])[1] == pytest.approx(exact)


def test_inner_lips_meet_when_the_mouth_is_closed(open_head: HeadModel, embedding: Embedding) -> None:
    """The rows above and below lie on each other at rest, and an opened jaw parts them."""
    upper, lower = topology.LIPS_INNER[11:20][::-1], topology.LIPS_INNER[1:10]
    gaps = {}
    for jaw in (0.0, 0.3):
        pixels = render_view(open_head, View(0.0, 0.0, 0.0, jaw, {}, 0, Look())).pixels
        points = (embedding.barycentric[:, :, None] * pixels[embedding.vertices]).sum(1)
        size = np.linalg.norm(points[topology.RIGHT_EYE_OUTER] - points[topology.LEFT_EYE_OUTER])
        gaps[jaw] = (points[lower, 1] - points[upper, 1]) / size
    assert np.abs(gaps[0.0]).mean() < 0.012
    assert gaps[0.0][3:6].max() < 0.016  # 0.02 where only opened mouths are looked at
    assert gaps[0.3][3:6].min() > 0.2


def test_mirrored_landmarks_lie_mirrored(open_head: HeadModel, embedding: Embedding) -> None:
    points = placed_mm(open_head, embedding)
    for right, left in MIRRORED:
        assert np.linalg.norm(points[right] * [-1, 1, 1] - points[left], axis=1).max() < 2.5
        assert (points[right][:, 0] < 0).all()
        assert (points[left][:, 0] > 0).all()
    assert np.abs(points[[1, 10, 13, 14, 152, 168], 0]).max() < 1.5  # nose, forehead, lips, chin: in the middle


def test_irises_lie_on_the_front_of_their_eyeballs(open_head: HeadModel, embedding: Embedding) -> None:
    points = placed_mm(open_head, embedding)
    for landmarks, name in ((topology.RIGHT_IRIS, "right_eyeball"), (topology.LEFT_IRIS, "left_eyeball")):
        assert np.isin(embedding.vertices[landmarks], open_head.regions[name]).all()
        pupil = points[landmarks[0]] - region_mm(open_head, name).mean(0)
        assert np.abs(pupil[:2]).max() < 2.5
        assert pupil[2] > 12
        radius = np.linalg.norm(points[landmarks[1:]] - points[landmarks[0]], axis=1)
        assert ((radius > 3) & (radius < 9)).all()


def test_inner_lips_lie_on_the_lips_and_other_landmarks_on_skin(open_head: HeadModel, embedding: Embedding) -> None:
    points = placed_mm(open_head, embedding)
    lips = region_mm(open_head, "lips")
    inner = points[topology.LIPS_INNER]
    assert np.linalg.norm(inner[:, None] - lips, axis=2).min(1).max() < 2.5
    assert points[topology.UPPER_LIP_INNER_MIDDLE, 1] > points[topology.LOWER_LIP_INNER_MIDDLE, 1]
    hidden = np.concatenate([open_head.regions[name] for name in ("mouth", "tongue", "left_eyeball", "right_eyeball")])
    assert not np.isin(embedding.vertices[topology.FACE], hidden).all(1).any()


def test_eye_corners_lie_beside_the_eyeballs(open_head: HeadModel, embedding: Embedding) -> None:
    points = placed_mm(open_head, embedding)
    corners = (
        ("right_eyeball", topology.RIGHT_EYE_OUTER, topology.RIGHT_EYE_INNER, -1),
        ("left_eyeball", topology.LEFT_EYE_OUTER, topology.LEFT_EYE_INNER, 1),
    )
    for name, outer, inner, side in corners:
        centre = region_mm(open_head, name).mean(0)
        for corner, way in ((outer, side), (inner, -side)):
            offset = points[corner] - centre
            assert 9 < way * offset[0] < 20
            assert abs(offset[1]) < 6
            assert offset[2] > 0


def test_every_landmark_is_measured(embedding: Embedding) -> None:
    assert embedding.vertices.shape == embedding.barycentric.shape == (topology.NUM_POINTS, 3)
    np.testing.assert_allclose(embedding.barycentric.sum(1), 1, atol=1e-6)
    assert embedding.barycentric.min() >= 0
    assert np.isfinite(embedding.spread_m).all()
    assert embedding.spread_m.min() > 0
    assert np.percentile(embedding.spread_m, 95) < 0.008
    assert embedding.samples.min() >= 3


def test_other_views_give_the_same_points(open_head: HeadModel, embedding: Embedding) -> None:
    """Ten frontal pictures of those that the embedding is made of, for the landmarks that have a place of their own."""
    corners = [topology.RIGHT_EYE_OUTER, topology.RIGHT_EYE_INNER, topology.LEFT_EYE_OUTER, topology.LEFT_EYE_INNER]
    rows = (IRISES, corners, topology.LIPS_INNER, topology.LIPS_OUTER, topology.NOSE)
    chosen = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    lips = np.flatnonzero(np.isin(chosen, topology.LIPS_INNER)).tolist()
    views = [view for view in default_views() if abs(view.yaw) < 0.3][4:14]
    with MediapipeDetector(LandmarkConfig()) as detector:

        def detect(rgb: NDArray[np.uint8]) -> NDArray[np.float32] | None:
            points = detector.detect_image(rgb)
            return None if points is None else points[chosen]

        again = compute_embedding(open_head, "some of them", detect, range(len(IRISES)), lips, views)
    assert (again.detector, again.model_sha256) == ("some of them", open_head.sha256)
    assert again.samples.max() <= 10
    offset = placed_mm(open_head, again) - placed_mm(open_head, embedding)[chosen]
    offset[lips, 2] = 0  # frontal pictures do not show how deep a point of the closed lips lies
    moved = np.linalg.norm(offset, axis=1)
    assert moved.max() < 3
    assert np.median(moved) < 1
    assert np.isin(again.vertices[lips], open_head.regions["lips"]).all()


def test_a_detector_that_sees_nothing_is_a_missing_model(open_head: HeadModel) -> None:
    with pytest.raises(TalksetError, match=r"blind 1 found the .* of 'open-head.*' in 0 of 1") as caught:
        compute_embedding(open_head, "blind 1", lambda _: None, (), (), default_views()[:1])
    assert caught.value.reason == "missing_model"


def test_a_landmark_beside_the_head_is_a_missing_model(open_head: HeadModel) -> None:
    points = np.array([[SIZE_PX / 2, SIZE_PX / 2], [3, 3]], np.float32)
    with pytest.raises(TalksetError, match=r"landmarks \[1\] of lost 1 are") as caught:
        compute_embedding(open_head, "lost 1", lambda _: points, (), (), default_views()[18:21])
    assert caught.value.reason == "missing_model"


def test_a_calibration_picture_shows_the_face_in_the_middle(open_head: HeadModel) -> None:
    shown = render_view(open_head, default_views()[20])
    middle = slice(SIZE_PX // 2 - 30, SIZE_PX // 2 + 30)
    assert (shown.face[middle, middle] >= 0).all()
    assert (shown.face[:5] == -1).all()
    covered = shown.face >= 0
    np.testing.assert_allclose(shown.barycentric[covered].sum(1), 1, atol=1e-5)
    assert (shown.facing[~covered] == 0).all()
    assert shown.facing[SIZE_PX // 2, SIZE_PX // 2] > 0.7


def fake(model_sha256: str) -> Embedding:
    random = np.random.default_rng(1)
    return Embedding(
        detector="made-up 1.0/Größe",
        model_sha256=model_sha256,
        vertices=random.integers(0, 9, (5, 3)),
        barycentric=random.dirichlet([1, 1, 1], 5).astype(np.float32),
        spread_m=random.uniform(size=5).astype(np.float32),
        samples=np.arange(5, dtype=np.int32),
        offset_m=random.normal(size=(5, 3)).astype(np.float32),
        response=random.normal(size=(5, 3, 4)).astype(np.float32),
    )


def assert_equal(first: Embedding, second: Embedding) -> None:
    for field in dataclasses.fields(Embedding):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


def test_the_cache_gives_back_what_was_computed(
    open_head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    made = fake(open_head.sha256)
    assert_equal(cached_embedding(open_head, made.detector, lambda: made), made)

    def again() -> Embedding:
        raise AssertionError("computed again")

    assert_equal(cached_embedding(open_head, made.detector, again), made)
    other = dataclasses.replace(open_head, sha256="0" * 64)
    paths = {embedding_path(open_head.sha256, made.detector), embedding_path(other.sha256, made.detector)}
    paths.add(embedding_path(open_head.sha256, "made-up 1.1"))
    assert len(paths) == 3
    assert all(path.is_relative_to(tmp_path) for path in paths)


def test_two_processes_compute_once(open_head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path / "cache"))
    made, log = fake(open_head.sha256), tmp_path / "log"
    processes = multiprocessing.get_context("fork")  # a fresh interpreter would import for seconds
    ready, results = processes.Barrier(2), processes.SimpleQueue()

    def compute() -> Embedding:
        with log.open("a") as stream:
            stream.write("computed\n")
        time.sleep(0.5)
        return made

    def work() -> None:
        ready.wait(60)
        results.put(cached_embedding(open_head, made.detector, compute))

    started = [processes.Process(target=work) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0]
    for _ in started:
        assert_equal(results.get(), made)
    assert log.read_text() == "computed\n"
